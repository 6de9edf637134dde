# SPDX-License-Identifier: Apache-2.0
"""--docker-dir: what of a folder reaches the builder, and who builds."""
import json
import os
import pathlib
import shutil
import subprocess
import unittest

import parts

DOCKERFILE = 'FROM scratch\nCOPY . /ctx\nCMD ["/ctx/app"]\n'


def tree(layers):
    """Name → what it is, of all layers together."""
    found = {}
    for layer in layers:
        with parts.tarfile.open(fileobj=parts.io.BytesIO(layer)) as archive:
            for member in archive:
                content = archive.extractfile(member).read() if member.isreg() else member.linkname
                found[member.name] = (member.type, member.mode & 0o7777, member.uid, member.gid, content)
    return found


class BuildTest(parts.ImagesTest):
    def folder(self, name, files, dockerfile=DOCKERFILE):
        root = pathlib.Path(self.workshop.path(name))
        shutil.rmtree(root, ignore_errors=True)
        for path, content in {"Dockerfile": dockerfile, **files}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                (root / path).mkdir()
            else:
                (root / path).write_text(content)
        return root

    def only(self, builder):
        """A PATH with everything but the other builders."""
        folder = pathlib.Path(self.workshop.path(f"with-{builder}"))
        if not folder.exists():
            folder.mkdir()
            for directory in reversed(os.environ["PATH"].split(":")):
                for name in os.listdir(directory) if os.path.isdir(directory) else ():
                    if name == builder or name not in ("buildah", "podman"):
                        (folder / name).unlink(missing_ok=True)
                        (folder / name).symlink_to(f"{directory}/{name}")
        return {"PATH": str(folder), "DOCKER_HOST": "unix:///nonexistent"}


class Receiver(parts.Server):
    """Takes a build's folder as an engine does, keeps it in `context` and refuses the build, or gives `reply`."""

    def __init__(self, workshop, reply=(500, b'{"message":"received"}')):
        self.context = None
        outer = self

        class Handler(parts.QuietHandler):
            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                self.answer(200, b"OK" if self.command == "GET" else b"", {"Api-Version": "1.41", "Ostype": "linux"})

            def do_POST(self):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                outer.context = body
                self.answer(*reply, {"Content-Type": "application/json"})

        super().__init__(workshop, Handler)


class WhatIsSent(BuildTest):
    def test_the_same_files_as_those_of_docker(self):
        parts.need_programs("docker")
        version = int(self.workshop.run("docker", "--version").split()[2].split(".")[0])
        receiver = Receiver(self.workshop)
        files = {name: name for name in (
            "app", "a.md", "README.md", "README-secret.md", "docs/a.md", "docs/README.md", "docs/deep/x.txt", "docs/deep/keep.txt", "src/a.o", "src/a.c",
            "src/lib/b.o", "src/lib/b.c", "node_modules/x/index.js", "src/node_modules/y/index.js", ".git/config", "tmp/1", "tmpx", "temp?", "x[1]",
            "#hash", "!bang", "name with blank", "ü/ä", "build/out/a", "build/out/b/c", "build/keep/a", "k1", "k2", "k9", "kx")}
        for rules in (
                "*.md\n!README.md\n", "*.md\n!README*.md\nREADME-secret.md\n", "*\n!app\n", "**/*.md\n", "**/*.o\n**/node_modules\n.git\n",
                "docs\n!docs/deep/keep.txt\n", "/docs/\n./src//lib\n", "# comment\n\n  tmp  \n #hash\n\\#hash\n", "\ufefftmp\nbuild/*\n!build/keep\n",
                "k[0-5]\n", "k[^1]\n", "temp?\n", "x\\[1\\]\n", "!app\n", "\\!bang\n", "name with blank\n", "ü\n", "**\n!src/**\n", "src/**/b.*\n",
                "Dockerfile\n.dockerignore\n", "*\n", "*/*\n", "*/*.md\n!docs\n", "build\n!build/out/b\n", "../app\n", "**/deep/**\n", "tmp*\r\napp\r\n",
                "docs/../app\n", ".\n", "**.md\n", "doc**\n"):
            if rules in ("**.md\n", "*/*.md\n!docs\n") and version < 23:
                continue  # Docker's older rules looked at one folder above a file only, and at "**" as at "*" here.
            root = self.folder("context", {**files, ".dockerignore": rules})
            with self.subTest(rules=rules):
                self.build("ours:1", "--docker-dir", root, environment={"DOCKER_HOST": f"tcp://{receiver.host}"})
                ours, receiver.context = receiver.context, None
                with self.assertRaisesRegex(AssertionError, "received"):
                    self.workshop.run("docker", "build", root, environment={"DOCKER_HOST": f"tcp://{receiver.host}", "DOCKER_BUILDKIT": "0"})
                self.assertEqual(tree([ours]), tree([receiver.context]))


class WhatIsTold(BuildTest):
    """An engine says that a build has failed at the end of an answer whose status is that of a success, without a line break behind it, or
    by its status."""

    def told(self, *steps):
        return self.replied(200, b"\r\n".join(json.dumps(step).encode() for step in steps))

    def replied(self, *reply):
        receiver = Receiver(self.workshop, reply)
        result = self.build("ours:1", "--docker-dir", self.folder("context", {}), environment={"DOCKER_HOST": f"tcp://{receiver.host}"})
        self.assertTrue(receiver.context)
        return result, receiver

    def test_of_a_build_that_fails_the_last_20_lines_and_the_reason(self):
        lines = [{"stream": f"line {number}\n"} for number in range(1, 31)]
        result, receiver = self.told(*lines, {"errorDetail": {"message": "it broke"}, "error": "it broke"})
        printed = "\n".join(f"  line {number}" for number in range(11, 31))
        self.assert_refused(result, "E49", f"the engine at tcp://{receiver.host} printed\n{printed}\nand reports: it broke")
        self.assertNotIn("line 10\n", result.err)

    def test_of_a_build_that_prints_nothing_the_reason(self):
        result, receiver = self.told({"error": "it broke\n"})
        self.assert_refused(result, "E49", f"the engine at tcp://{receiver.host} reports: it broke")

    def test_of_a_build_that_is_not_begun_the_reason(self):
        for reply, reason in ((b'{"message":"no space"}', "no space"), (b"no space\n", "no space"), (b"", "HTTP status 500")):
            result, receiver = self.replied(500, reply)
            self.assert_refused(result, "E49", f"the engine at tcp://{receiver.host} reports: {reason}.\n")


class ByTheEngine(BuildTest):
    @classmethod
    def prepare(cls):
        cls.engine = cls.workshop.dockerd()
        cls.here = {"DOCKER_HOST": cls.engine.host}

    def built(self, root):
        result = self.build("ours:1", "--docker-dir", root, environment=self.here)
        self.assertEqual(result.status, 0, result)
        return tree(self.engine.layers("ours:1"))

    def built_by_docker(self, root):
        parts.need_programs("docker")
        self.workshop.run("docker", "-H", self.engine.host, "build", "-q", "--no-cache", "-t", "theirs:1", root,
                          environment={"DOCKER_BUILDKIT": "0"})
        return tree(self.engine.layers("theirs:1"))

    def test_the_same_image_as_that_of_docker(self):
        for rules in ("docs\n!docs/keep\n*.md\n", "*\n!app\n", "Dockerfile\n.dockerignore\n"):
            root = self.folder("context", {"app": "x", "a.md": "", "docs/keep": "", "docs/drop": "", ".dockerignore": rules})
            with self.subTest(rules=rules):
                self.assertEqual(self.built(root), self.built_by_docker(root))

    def test_rules_that_docker_refuses(self):
        for rules in ("!\n", "[\n", "a[\n", "a\\\n", "[]a]\n"):
            root = self.folder("context", {"app": "", ".dockerignore": rules})
            with self.subTest(rules=rules):
                self.assert_refused(self.build("ours:1", "--docker-dir", root, environment=self.here), "E49", ".dockerignore", "line 1")
                with self.assertRaises(AssertionError):
                    self.built_by_docker(root)

    def test_links_are_followed_as_the_reference_follows_them(self):
        root = self.folder("context", {"app": "content", "folder/file": "file", "outside-of-context": ""})
        (root / "link").symlink_to("app")
        (root / "to-folder").symlink_to("folder")
        (root / "nowhere").symlink_to("nothing")
        (root / "loop").symlink_to(".")
        os.link(root / "app", root / "second-name")
        os.mkfifo(root / "fifo")
        os.chown(root / "app", 1234, 1234)
        os.chmod(root / "app", 0o711)
        with parts.socket.socket(parts.socket.AF_UNIX) as listener:
            listener.bind(str(root / "socket"))
            files = self.built(root)
        content = {name.removeprefix("ctx/"): entry[4] for name, entry in files.items()}
        self.assertEqual(content["link"], b"content")
        self.assertEqual(content["to-folder/file"], b"file")
        self.assertEqual(content["nowhere"], "nothing")
        self.assertEqual(content["loop"], ".")
        self.assertEqual(content["second-name"], b"content")
        self.assertEqual(files["ctx/fifo"][0], parts.tarfile.FIFOTYPE)
        self.assertEqual(files["ctx/app"][1:4], (0o711, 0, 0))
        self.assertNotIn("socket", content)

    def test_a_big_folder_is_streamed(self):
        root = self.folder("context", {".dockerignore": "ignored\n"}, 'FROM scratch\nCOPY app /app\nCMD ["/app"]\n')
        for name, size in (("ignored", 1 << 40), ("big", 100 << 20), ("app", 10)):
            with open(root / name, "wb") as file:
                file.truncate(size)
        command = [self.build.path, *self.build.command("ours:1", "--docker-dir", root)[1:]]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   env={**self.build.environment, **self.here})
        with process.stdout, process.stderr:
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, errors)
        if "ASAN_OPTIONS" not in os.environ:
            self.assertLess(usage.ru_maxrss, 64 << 10, "KiB of memory for a folder of 100 MiB")
        # Each 512-byte block written counts: the folder has not been through a file.
        self.assertLess(usage.ru_oublock * 512, 50 << 20)

    def test_failures(self):
        for dockerfile, words in (("FROM scratch\nCOPY nothing /\n", ("nothing",)), ("NONSENSE\n", ("NONSENSE",)), ("", ("empty",)),
                                  ("FROM scratch\nCOPY app /\nADD missing /\n", ("Step 2/3", "missing"))):
            root = self.folder("context", {"app": ""}, dockerfile)
            self.assert_refused(self.build("ours:1", "--docker-dir", root, environment=self.here), "E49", self.engine.host, *words)
        self.assert_refused(self.build("ours:1", "--docker-dir", self.workshop.path("nothing"), environment=self.here), "E49", "nothing")
        empty = self.folder("context", {})
        os.unlink(empty / "Dockerfile")
        self.assert_refused(self.build("ours:1", "--docker-dir", empty, environment=self.here), "E49", "Dockerfile")

    def test_the_same_measurements_again(self):
        """From docker's build cache, which our archive does not spoil."""
        root = self.folder("context", {"app": "x"})
        first = self.build("ours:1", "--docker-dir", root, environment=self.here)
        second = self.build("ours:1", "--docker-dir", root, environment=self.here)
        self.assertEqual(first.status, 0, first)
        self.assertEqual(first.out, second.out)


class ByPodman(BuildTest):
    def test_podman_service(self):
        podman = self.workshop.podman()
        root = self.folder("context", {"app": "x", "ignored": "", ".dockerignore": "ignored\n"})
        (root / "link").symlink_to("app")
        result = self.build("ours:1", "--docker-dir", root, environment={"DOCKER_HOST": podman.host})
        self.assertEqual(result.status, 0, result)
        files = tree(podman.layers("ours:1"))
        self.assertEqual({name for name in files if name.startswith("ctx/")}, {"ctx/app", "ctx/link", "ctx/Dockerfile", "ctx/.dockerignore"})
        self.assertEqual(files["ctx/link"][4], b"x")


class WithoutAnEngine(BuildTest):
    def check(self, program):
        parts.need_root()
        parts.need_programs(program)
        root = self.folder("context", {"app": "x", "ignored": "", ".dockerignore": "ignored\n", "Containerfile": "NONSENSE"},
                           'FROM scratch\nCOPY app link /\nCMD ["/app"]\n')
        (root / "link").symlink_to("app")
        # Times of files are copied: they decide about the measurements.
        for name in ("app", "link"):
            os.utime(root / name, (1_600_000_000, 1_600_000_000))
        environment = self.only(program)
        result = self.build("ours:1", "--docker-dir", root, environment=environment)
        self.assertEqual(result.status, 0, result)
        self.assertIn("PCR0", result.json["Measurements"])
        os.unlink(root / "Containerfile")
        (root / "Dockerfile").write_text("FROM scratch\nCOPY ignored /\n")
        self.assert_refused(self.build("ours:1", "--docker-dir", root, environment=environment), "E49", f'"{program} build"')
        return result.out

    def test_buildah(self):
        self.check("buildah")

    def test_podman(self):
        self.check("podman")

    def test_the_same_measurements_by_whoever_builds(self):
        made = {self.check(program) for program in ("buildah", "podman")}
        engine = self.workshop.dockerd()
        root = self.folder("context", {"app": "x"}, 'FROM scratch\nCOPY app link /\nCMD ["/app"]\n')
        (root / "link").symlink_to("app")
        for name in ("app", "link"):
            os.utime(root / name, (1_600_000_000, 1_600_000_000))
        result = self.build("ours:1", "--docker-dir", root, environment={"DOCKER_HOST": engine.host})
        self.assertEqual(result.status, 0, result)
        made.add(result.out)
        self.assertEqual(len(made), 1, made)

    def test_nobody(self):
        root = self.folder("context", {"app": "x"})
        environment = {"PATH": self.workshop.path("no-programs"), "DOCKER_HOST": "unix:///nonexistent"}
        refused = self.build("ours:1", "--docker-dir", root, environment=environment)
        self.assert_refused(refused, "E49", "unix:///nonexistent", "neither buildah nor podman")


if __name__ == "__main__":
    parts.main()
