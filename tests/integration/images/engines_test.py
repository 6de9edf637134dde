# SPDX-License-Identifier: Apache-2.0
"""Container engines: how one is found and reached, what images are called there, and what happens when it fails."""
import base64
import json
import os
import pathlib
import pty
import select
import shutil
import socket
import subprocess
import time
import unittest

import parts

NAME = "golden/tiny:1"


class EngineTest(parts.ImagesTest):
    def login(self, host, **more):
        content = {"auths": {host: {"auth": base64.b64encode(f"{parts.USER}:{parts.PASSWORD}".encode()).decode()}}, **more}
        shutil.rmtree(self.workshop.path("login"), ignore_errors=True)
        self.workshop.write("login/config.json", json.dumps(content))
        return {"DOCKER_CONFIG": self.workshop.path("login")}


class Docker(EngineTest):
    @classmethod
    def prepare(cls):
        cls.tls = parts.Certificates(cls.workshop)
        cls.engine = cls.workshop.dockerd(tls=cls.tls)
        cls.engine.load(parts.golden_archive("tiny"))
        cls.here = {"DOCKER_HOST": cls.engine.host}

    def test_tls(self):
        far = {"DOCKER_HOST": f"tcp://127.0.0.1:{self.engine.port}"}
        folder = self.tls.docker_folder()
        good = {**far, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}
        self.assert_golden(self.build(f"docker-daemon:{NAME}", environment=good), "tiny")
        # Docker's own folder is where the keys are by default.
        self.assert_golden(self.build(f"docker-daemon:{NAME}", environment={**far, "DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": folder}), "tiny")
        self.assert_refused(self.build(f"docker-daemon:{NAME}", environment=far), "E50", far["DOCKER_HOST"])
        strangers = self.workshop.path("strangers")
        shutil.copytree(folder, strangers, dirs_exist_ok=True)
        for name in ("ca", "cert"):
            parts.run("openssl", "req", "-x509", "-key", f"{folder}/key.pem", "-subj", "/CN=stranger", "-out", f"{strangers}/{name}.pem")
            refused = self.build(f"docker-daemon:{NAME}", environment={**good, "DOCKER_CERT_PATH": strangers})
            self.assert_refused(refused, "E50", far["DOCKER_HOST"])
            shutil.copy(f"{folder}/{name}.pem", strangers)
        # With an authority of its own the system's do not count.
        refused = self.build(f"docker-daemon:{NAME}", environment={**good, "DOCKER_CERT_PATH": "/nonexistent", "SSL_CERT_FILE": self.tls.ca})
        self.assert_refused(refused, "E50")

    def test_tcp(self):
        relay = parts.Relay(self.workshop, self.engine.socket)
        self.assert_golden(self.build(NAME, environment={"DOCKER_HOST": relay.host}), "tiny")
        self.assert_golden(self.build(NAME, environment={"DOCKER_HOST": relay.host.replace("tcp", "http") + "/"}), "tiny")

    def test_context_of_docker(self):
        parts.need_programs("docker")
        config = self.workshop.path("contexts")
        self.workshop.run("docker", "--config", config, "context", "create", "near", "--docker", f"host={self.engine.host}")
        keys = self.tls.docker_folder()
        self.workshop.run("docker", "--config", config, "context", "create", "far", "--docker",
                          f"host=tcp://127.0.0.1:{self.engine.port},ca={keys}/ca.pem,cert={keys}/cert.pem,key={keys}/key.pem")
        self.workshop.run("docker", "--config", config, "context", "use", "near")
        self.assert_golden(self.build(f"docker-daemon:{NAME}", environment={"DOCKER_CONFIG": config}), "tiny")
        self.assert_golden(self.build(f"docker-daemon:{NAME}", environment={"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "far"}), "tiny")
        lost = self.build(f"docker-daemon:{NAME}", environment={"DOCKER_CONFIG": config, "DOCKER_CONTEXT": "lost"})
        self.assert_refused(lost, "E50", 'context "lost"')
        # DOCKER_HOST goes before.
        dead = self.build(f"docker-daemon:{NAME}", environment={"DOCKER_CONFIG": config, "DOCKER_HOST": "unix:///nonexistent"})
        self.assert_refused(dead, "E50", "unix:///nonexistent")

    def test_every_form_of_a_name(self):
        self.engine.tag(NAME, "tiny", "latest")
        self.engine.tag(NAME, "registry.example.com:5000/a/b", "2")
        identity = json.loads(self.engine.request("GET", f"/images/{NAME}/json"))["Id"]
        for name in (NAME, f"docker.io/{NAME}", f"docker-daemon:{NAME}", "tiny", "library/tiny", "docker.io/library/tiny:latest",
                     "registry.example.com:5000/a/b:2", identity):
            self.assert_golden(self.build(name, environment=self.here), "tiny")

    def test_image_that_is_nowhere(self):
        registry = self.workshop.registry()
        for name in (f"{registry.host}/no/image:1", f"docker-daemon:{registry.host}/no/image:1"):
            self.assert_refused(self.build(name, environment=self.here), "E50", self.engine.host, "not found")
        self.assert_refused(self.build("sha256:" + "0" * 64, environment=self.here), "E50")

    def test_image_for_another_architecture(self):
        path = self.workshop.path("arm64.tar")
        parts.enclave.docker_archive(path, {"bin/app": (b"x", 0o755)}, ["/bin/app"], tag="other/arm64:1")
        with parts.tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}
        manifest = json.loads(members.pop("manifest.json"))
        config = members.pop(manifest[0]["Config"]).replace(b'"amd64"', b'"arm64"')
        manifest[0]["Config"] = "config.json"
        with parts.tarfile.open(path, "w") as archive:
            for name, content in {**members, "config.json": config, "manifest.json": json.dumps(manifest).encode()}.items():
                entry = parts.tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, parts.io.BytesIO(content))
        self.engine.load(path)
        self.assert_refused(self.build("other/arm64:1", environment=self.here), "E48", '"arm64"', "amd64")

    def test_pull_with_the_stored_login(self):
        self.workshop.registry(storage="private").push(f"docker-archive:{parts.golden_archive('layers')}", "golden/layers:1")
        registry = self.workshop.registry(storage="private", auth=parts.Registry.htpasswd(self.workshop))
        name = f"{registry.host}/golden/layers:1"
        self.assert_refused(self.build(name, environment=self.here), "E50", "no basic auth credentials")
        self.assert_golden(self.build(name, environment={**self.here, **self.login(registry.host)}), "layers")
        self.engine.remove(name)
        self.workshop.write("helpers/docker-credential-x", f"""#!/bin/sh\necho '{{"Username":"{parts.USER}","Secret":"{parts.PASSWORD}"}}'\n""", 0o755)
        path = f"{self.workshop.path('helpers')}:{os.environ['PATH']}"
        self.workshop.write("helped/config.json", json.dumps({"credHelpers": {registry.host: "x"}}))
        helped = {**self.here, "DOCKER_CONFIG": self.workshop.path("helped"), "PATH": path}
        self.assert_golden(self.build(name, environment=helped), "layers")
        # Beginning with a private image takes the login, too.
        self.engine.remove(name)
        self.workshop.write("context/Dockerfile", f'FROM {name}\nCMD ["/bin/other"]\n')
        refused = self.build("built:1", "--docker-dir", self.workshop.path("context"), environment=self.here)
        self.assert_refused(refused, "E49", "no basic auth credentials")
        built = self.build("built:1", "--docker-dir", self.workshop.path("context"), environment=helped)
        self.assertEqual(built.status, 0, built)

    def test_pull_for_the_architecture_of_the_enclave(self):
        registry = self.workshop.registry(storage="platforms")
        manifests = []
        for architecture in ("amd64", "arm64"):
            path = self.workshop.path(f"{architecture}.tar")
            parts.enclave.docker_archive(path, {"bin/app": (architecture.encode(), 0o755)}, ["/bin/app"], tag="x:1")
            layout = self.workshop.path(f"layout-{architecture}")
            self.workshop.run("skopeo", "copy", "-q", f"docker-archive:{path}", f"oci:{layout}:x")
            digest = json.loads(pathlib.Path(f"{layout}/index.json").read_text())["manifests"][0]["digest"].split(":")[1]
            blobs = pathlib.Path(f"{layout}/blobs/sha256")
            manifest = json.loads((blobs / digest).read_text())
            config = (blobs / manifest["config"]["digest"].split(":")[1]).read_bytes().replace(b'"amd64"', f'"{architecture}"'.encode())
            manifest["config"].update(digest=f"sha256:{parts.sha256(config)}", size=len(config))
            (blobs / parts.sha256(config)).write_bytes(config)
            text = json.dumps(manifest).encode()
            (blobs / parts.sha256(text)).write_bytes(text)
            manifests.append({"mediaType": manifest["mediaType"], "digest": f"sha256:{parts.sha256(text)}", "size": len(text),
                              "platform": {"os": "linux", "architecture": architecture}})
            for blob in blobs.iterdir():
                target = pathlib.Path(self.workshop.path("all/blobs/sha256")) / blob.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(blob.read_bytes())
        index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}).encode()
        pathlib.Path(self.workshop.path("all/blobs/sha256"), parts.sha256(index)).write_bytes(index)
        self.workshop.write("all/oci-layout", '{"imageLayoutVersion":"1.0.0"}')
        self.workshop.write("all/index.json", json.dumps({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": f"sha256:{parts.sha256(index)}", "size": len(index)}]}))
        registry.push(f"oci:{self.workshop.path('all')}", "all:1", "--all")
        blobs = self.workshop.path("blobs-arm64")
        shutil.copytree(parts.GOLDEN / "blobs", blobs)
        for name in ("bzImage", "bzImage.config"):
            os.rename(f"{blobs}/{name}", f"{blobs}/{name.replace('bzImage', 'Image')}")
        arm64 = {"NITRO_CLI_BLOBS": blobs}
        for options, environment in ((("--arch", "aarch64"), arm64), ((), {})):
            expected = self.build(f"docker://{registry.host}/all:1", *options, environment=environment)
            self.assertEqual(expected.status, 0, expected)
            pulled = self.build(f"{registry.host}/all:1", *options, environment={**self.here, **environment})
            self.assertEqual(pulled.out, expected.out, pulled)
            self.engine.remove(f"{registry.host}/all:1")

    def test_engine_that_dies_in_the_middle(self):
        for part, size in ((b"/json", 0), (b"/json", 300), (b"/get", 0), (b"/get", 5000)):
            relay = parts.Relay(self.workshop, self.engine.socket, lambda request, part=part, size=size:
                                size if request.split(b" ")[1].endswith(part) else None)
            self.assert_refused(self.build(f"docker-daemon:{NAME}", environment={"DOCKER_HOST": relay.host}), "E50", relay.host)
        big = self.workshop.path("big-context")
        os.makedirs(big)
        pathlib.Path(f"{big}/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        pathlib.Path(f"{big}/data").write_bytes(os.urandom(8 << 20))
        relay = parts.Relay(self.workshop, self.engine.socket, lambda request: 0 if b"/build" in request.split(b"\r\n")[0] else None)
        self.assert_refused(self.build("big:1", "--docker-dir", big, environment={"DOCKER_HOST": relay.host}), "E49", relay.host)

    def test_engine_that_is_not_there(self):
        dead = self.workshop.path("dead.sock")
        if not os.path.exists(dead):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(dead)
        for host in (f"unix://{dead}", "unix:///nonexistent", f"tcp://127.0.0.1:{parts.free_port()}"):
            self.assert_refused(self.build(f"docker-daemon:{NAME}", environment={"DOCKER_HOST": host}), "E50", host)
        self.assert_refused(self.build(f"docker-daemon:{NAME}", environment={"DOCKER_HOST": "ssh://somewhere"}), "E50", "ssh://somewhere")

    def test_server_that_is_no_engine(self):
        class Handler(parts.QuietHandler):
            def do_GET(self):
                self.answer(404, b"what engine?\n")
        server = parts.Server(self.workshop, Handler)
        refused = self.build(f"docker-daemon:{NAME}", environment={"DOCKER_HOST": f"tcp://{server.host}"})
        self.assert_refused(refused, "E50", "what engine?")


class Pulling(EngineTest):
    """An engine says that a pull has failed at the end of an answer whose status is that of a success."""

    def test_that_fails_on_the_way(self):
        asked = []

        class Handler(parts.QuietHandler):
            def do_GET(self):
                asked.append(self.path)
                self.answer(200 if self.path == "/_ping" else 404, b"{}")

            def do_POST(self):
                asked.append(self.path)
                self.answer(200, b'{"status":"Pulling from golden/tiny"}\r\n{"errorDetail":{"message":"too many"},"error":"too many requests"}\r\n')
        server = parts.Server(self.workshop, Handler)
        result = self.build(NAME, environment={"DOCKER_HOST": f"tcp://{server.host}"})
        self.assert_refused(result, "E50", f"the engine at tcp://{server.host} reports: too many requests")
        self.assertTrue(asked[-1].startswith("/images/create?"), asked)


class Podman(EngineTest):
    def test_socket_of_the_user_is_found(self):
        if os.path.exists("/var/run/docker.sock"):
            self.skipTest("this machine's own docker would be found first")
        podman = self.workshop.podman()
        podman.load(parts.golden_archive("tiny"))
        os.makedirs(self.workshop.path("home/podman"), exist_ok=True)
        os.symlink(podman.socket, self.workshop.path("home/podman/podman.sock"))
        self.assert_golden(self.build(f"docker-daemon:{NAME}"), "tiny")

    def test_sockets_of_the_machine_are_found(self):
        """In a mount namespace whose /run is empty but for one socket."""
        parts.need_root()
        parts.need_programs("unshare", "podman")
        if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            self.skipTest("no mount namespace can be made here")
        podman = self.workshop.podman()
        podman.load(parts.golden_archive("tiny"))
        for path in ("/run/podman/podman.sock", "/run/docker.sock"):
            script = f'mount -t tmpfs none /run && mkdir -p {os.path.dirname(path)} && ln -s {podman.socket} {path} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *self.build.command(f"docker-daemon:{NAME}")]
            result = parts.enclave.Result(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                                         env={**self.build.environment, "XDG_RUNTIME_DIR": "/nonexistent"}))
            self.assert_golden(result, "tiny")


class Progress(EngineTest):
    """What a person sees at a terminal, and a log does not."""

    @classmethod
    def prepare(cls):
        cls.registry = cls.workshop.registry()
        path = cls.workshop.path("big.tar")
        parts.enclave.docker_archive(path, {"bin/app": (os.urandom(40 << 20), 0o755)}, ["/bin/app"], tag="big:1")
        cls.registry.push(f"docker-archive:{path}", "big:1")

    def at_terminal(self, uri, *options, environment=None):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(self.build.command(uri, *options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
                                   env={**self.build.environment, **(environment or {})})
        os.close(theirs)
        text, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([ours], [], [], 1)[0]:
                try:
                    text += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
        process.communicate()
        os.close(ours)
        self.assertEqual(process.returncode, 0, text)
        return text.decode()

    def check(self, uri, environment, expected):
        text = self.at_terminal(uri, environment=environment)
        for pattern in expected:
            self.assertRegex(text, pattern)
        # What is left on the screen: every line is written over by what follows a carriage return.
        self.assertEqual([line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").rstrip("\n").split("\n")],
                         ["Start building the enclave image...", "The enclave image is complete."])

    def test_registry(self):
        self.check(f"docker://{self.registry.host}/big:1", {}, [r"Fetching [0-9a-f]{12}: \d+\.\d of 40\.\d MiB", "Writing the ramdisk: [0-9]+ MiB"])

    def test_engine(self):
        engine = self.workshop.dockerd()
        here = {"DOCKER_HOST": engine.host}
        self.check(f"{self.registry.host}/big:1", here, [r"[0-9a-f]{12}: Downloading \d+\.\d of 40\.\d MiB", "Pulling from big"])
        self.workshop.write("context/Dockerfile", f'FROM {self.registry.host}/big:1\nCMD ["/bin/app"]\n')
        text = self.at_terminal("built:1", "--docker-dir", self.workshop.path("context"), environment=here)
        self.assertIn("Step 2/2 : CMD", text)

    def test_nothing_of_it_in_a_pipe(self):
        result = self.build(f"docker://{self.registry.host}/big:1")
        self.assertEqual(result.status, 0, result)
        self.assertEqual(result.err, "Start building the enclave image...\nThe enclave image is complete.\n")


if __name__ == "__main__":
    parts.main()
