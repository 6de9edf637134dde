# SPDX-License-Identifier: Apache-2.0
"""One image by every transport: the measurements are those of the reference, and with a build time the whole file is the same."""
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import unittest
import urllib.request

import parts


def zstd(content):
    return subprocess.run(["zstd", "-q", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


class EveryTransport(parts.ImagesTest):
    """The sources of one image. Each method returns what --docker-uri and the environment have to be."""

    def copy(self, source, target, *options):
        parts.need_programs("skopeo")
        self.workshop.run("skopeo", "copy", "-q", *options, source, target)

    def fresh(self, name):
        path = self.workshop.path(f"copies/{name}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)
        return path

    def check(self, name, uri, environment=None):
        self.assert_golden(self.build(uri, environment=environment), name)


class Files(EveryTransport):
    def test_archive_of_docker(self):
        for name in parts.IMAGES:
            self.check(name, f"docker-archive:{parts.golden_archive(name)}:golden/{name}:1")

    def test_compressed_archive(self):
        parts.need_programs("zstd")
        for compress in (gzip.compress, zstd, lzma.compress, bz2.compress):
            for name in parts.IMAGES:
                path = self.fresh("archive.tar.packed")
                pathlib.Path(path).write_bytes(compress(parts.golden_archive(name).read_bytes()))
                self.check(name, f"docker-archive:{path}")

    def with_layers(self, name, compress):
        """The golden archive of an image with each of its layers compressed."""
        path = self.fresh("archive.tar")
        with tarfile.open(parts.golden_archive(name)) as plain, tarfile.open(path, "w") as packed:
            layers = set(json.load(plain.extractfile("manifest.json"))[0]["Layers"])
            for member in plain:
                content = plain.extractfile(member).read() if member.isreg() else b""
                if member.name in layers and member.isreg():
                    content = compress(content)
                    member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
        return path

    def layout_with_layers(self, name, compress):
        """An OCI layout of the image with each of its layers compressed."""
        path = self.fresh("layout")
        self.copy(f"docker-archive:{parts.golden_archive(name)}", f"oci:{path}:a", "--dest-compress", "--dest-compress-format", "gzip")
        blobs = pathlib.Path(path, "blobs/sha256")

        def read(descriptor):
            return (blobs / descriptor["digest"].split(":")[1]).read_bytes()

        def replace(descriptor, content):
            descriptor.update(digest=f"sha256:{parts.sha256(content)}", size=len(content))
            (blobs / parts.sha256(content)).write_bytes(content)
        index = json.loads(pathlib.Path(path, "index.json").read_text())
        manifest = json.loads(read(index["manifests"][0]))
        for layer in manifest["layers"]:
            replace(layer, compress(gzip.decompress(read(layer))))
        replace(index["manifests"][0], json.dumps(manifest).encode())
        pathlib.Path(path, "index.json").write_text(json.dumps(index))
        return path

    def test_layers_that_few_tools_write(self):
        for compress in (lzma.compress, bz2.compress):
            for name in parts.IMAGES:
                self.check(name, f"docker-archive:{self.with_layers(name, compress)}")
                self.check(name, f"oci:{self.layout_with_layers(name, compress)}:a")

    def test_no_file_of_an_image_is_unpacked(self):
        """All that is made on the way is the output, which has no name before it is complete, and the log."""
        parts.need_programs("strace", "zstd")
        log, made = self.workshop.path("calls"), re.compile(r"O_CREAT|O_TMPFILE|^\d+ +(mk|link|symlink|rename|creat)")
        for uri in (f"docker-archive:{parts.golden_archive('kinds')}", f"docker-archive:{self.with_layers('kinds', gzip.compress)}",
                    f"oci:{self.layout_with_layers('kinds', zstd)}"):
            command = ["strace", "-f", "-o", log, "-e", "trace=%file", *self.build.command(uri)]
            self.workshop.run(*command, environment=self.build.environment)
            calls = [line for line in pathlib.Path(log).read_text().splitlines() if made.search(line) and " = -1 " not in line]
            places = {path for line in calls for path in re.findall(r'"([^"]*)"', line) if path.startswith("/")}
            folders = {place for place in places if not place.startswith(("/proc/self/fd/", self.workshop.path("out"), self.workshop.path("logs")))}
            self.assertTrue(any(place.startswith(self.workshop.path("out")) for place in places), calls)
            self.assertEqual(folders, set(), calls)

    def test_the_folder_for_artifacts_is_not_used(self):
        folder = self.fresh("artifacts")
        os.mkdir(folder)
        for path in ("/no/such/folder", folder):
            self.check("layers", f"docker-archive:{parts.golden_archive('layers')}", {"NITRO_CLI_ARTIFACTS": path, "HOME": ""})
        self.assertEqual(os.listdir(folder), [])

    def test_archive_of_skopeo(self):
        for name in parts.IMAGES:
            path = self.fresh("archive.tar")
            self.copy(f"docker-archive:{parts.golden_archive(name)}", f"docker-archive:{path}:some/name:2")
            self.check(name, f"docker-archive:{path}:some/name:2")
            self.check(name, f"docker-archive:{path}:@0")

    def test_layout_with_each_compression(self):
        for compression in ("gzip", "zstd"):
            for name in parts.IMAGES:
                path = self.fresh("layout")
                self.copy(f"docker-archive:{parts.golden_archive(name)}", f"oci:{path}:a", "--dest-compress", "--dest-compress-format", compression)
                self.check(name, f"oci:{path}:a")
                self.check(name, f"oci:{path}")

    def test_layout_in_an_archive_with_each_compression(self):
        for compression in ("gzip", "zstd"):
            for name in parts.IMAGES:
                path = self.fresh("layout.tar")
                self.copy(f"docker-archive:{parts.golden_archive(name)}", f"oci-archive:{path}:a", "--dest-compress", "--dest-compress-format",
                          compression)
                self.check(name, f"oci-archive:{path}:a")

    def test_layout_of_umoci(self):
        parts.need_programs("umoci")
        parts.need_root()
        for name in parts.IMAGES:
            path, bundle = self.fresh("layout"), self.fresh("bundle")
            self.copy(f"docker-archive:{parts.golden_archive(name)}", f"oci:{path}:a")
            self.workshop.run("umoci", "unpack", "--image", f"{path}:a", bundle)
            self.workshop.run("umoci", "repack", "--image", f"{path}:again", bundle)
            self.workshop.run("umoci", "tag", "--image", f"{path}:again", "other")
            self.check(name, f"oci:{path}:other")


class Network(EveryTransport):
    @classmethod
    def prepare(cls):
        cls.registry = cls.workshop.registry()
        for name in parts.IMAGES:
            source = f"docker-archive:{parts.golden_archive(name)}"
            cls.registry.push(source, f"golden/{name}:1")
            cls.registry.push(source, f"golden/{name}:zstd", "--format", "oci", "--dest-compress-format", "zstd")

    def test_registry(self):
        for name in parts.IMAGES:
            self.check(name, f"docker://{self.registry.host}/golden/{name}:1")
            self.check(name, f"docker://{self.registry.host}/golden/{name}:zstd")

    def test_registry_where_no_engine_is_set_up(self):
        sockets = [path for path in ("/var/run/docker.sock", "/run/podman/podman.sock") if os.path.exists(path)]
        if sockets:
            self.skipTest(f"this machine has {', '.join(sockets)}")
        self.check("tiny", f"{self.registry.host}/golden/tiny:1")

    def test_engine_that_does_not_answer_is_not_replaced_by_the_registry(self):
        name = f"{self.registry.host}/golden/tiny:1"
        parts.need_programs("docker")
        stale = self.workshop.path("home/podman/podman.sock")
        os.makedirs(os.path.dirname(stale))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(stale)
        self.addCleanup(shutil.rmtree, os.path.dirname(stale))
        self.workshop.run("docker", "--config", self.workshop.path("contexts"), "context", "create", "gone", "--docker",
                          "host=unix:///nonexistent")
        for environment in ({"DOCKER_HOST": f"unix://{self.workshop.path('nobody.sock')}"}, {"DOCKER_HOST": f"unix://{stale}"},
                            {"DOCKER_HOST": f"tcp://127.0.0.1:{parts.free_port()}"}, {"DOCKER_HOST": "ssh://somewhere"},
                            {"DOCKER_CONFIG": self.workshop.path("contexts"), "DOCKER_CONTEXT": "gone"},
                            {"DOCKER_CONFIG": self.workshop.path("contexts"), "DOCKER_CONTEXT": "never made"}, {}):
            self.assert_refused(self.build(name, environment=environment), "E48", f"docker://{name}")
        self.check("tiny", f"docker://{name}", {"DOCKER_HOST": f"unix://{stale}"})

    def test_digest(self):
        request = urllib.request.Request(f"http://{self.registry.host}/v2/golden/tiny/manifests/1",
                                         headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
        with urllib.request.urlopen(request) as answer:
            manifest = answer.read()
        digest = hashlib.sha256(manifest).hexdigest()
        self.check("tiny", f"docker://{self.registry.host}/golden/tiny@sha256:{digest}")
        self.assert_refused(self.build(f"docker://{self.registry.host}/golden/tiny@sha256:{'0' * 64}"), "E50", "manifest unknown")


class Engines(EveryTransport):
    def check_engine(self, engine):
        environment = {"DOCKER_HOST": engine.host}
        registry = self.workshop.registry(storage="registry-for-engines")
        self.workshop.write("registries.conf", f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
        for name in parts.IMAGES:
            engine.load(parts.golden_archive(name))
            self.check(name, f"golden/{name}:1", environment)
            self.check(name, f"docker-daemon:golden/{name}:1", environment)
            registry.push(f"docker-archive:{parts.golden_archive(name)}", f"golden/{name}:1")
            self.check(name, f"{registry.host}/golden/{name}:1", environment)

    def test_docker(self):
        self.check_engine(self.workshop.dockerd())

    def test_podman(self):
        podman = self.workshop.podman()
        self.check_engine(podman)


    def test_podman_of_an_ordinary_user(self):
        podman = self.workshop.rootless_podman()
        for name in parts.IMAGES:
            podman.load(parts.golden_archive(name))
            self.check(name, f"docker-daemon:golden/{name}:1", {"DOCKER_HOST": podman.host})


class SameFile(EveryTransport):
    """An image whose configuration is the same bytes in every format: one that is made as an OCI image."""

    def sources(self, name):
        layout = self.fresh("layout")
        self.copy(f"docker-archive:{parts.golden_archive(name)}", f"oci:{layout}:a")
        origin = f"oci:{layout}:a"
        yield origin, {}
        zstd = self.fresh("zstd")
        self.copy(origin, f"oci:{zstd}:a", "--dest-compress", "--dest-compress-format", "zstd")
        yield f"oci:{zstd}:a", {}
        archive = self.fresh("archive.tar")
        self.copy(origin, f"docker-archive:{archive}:same/{name}:1")
        yield f"docker-archive:{archive}", {}
        oci_archive = self.fresh("layout.tar")
        self.copy(origin, f"oci-archive:{oci_archive}:a")
        yield f"oci-archive:{oci_archive}", {}
        self.registry.push(origin, f"same/{name}:1")
        yield f"docker://{self.registry.host}/same/{name}:1", {}
        for engine in self.engines:
            engine.load(archive)
            yield f"same/{name}:1", {"DOCKER_HOST": engine.host}
            yield f"{self.registry.host}/same/{name}:1", {"DOCKER_HOST": engine.host}

    @classmethod
    def prepare(cls):
        cls.registry = cls.workshop.registry()
        cls.workshop.write("registries.conf", f'[[registry]]\nlocation = "{cls.registry.host}"\ninsecure = true\n')
        cls.engines = []
        for start in (cls.workshop.dockerd, cls.workshop.podman):
            try:
                cls.engines.append(start())
            except unittest.SkipTest as why:
                print(f"without an engine: {why}")

    def test_build_time_fixes_the_file_over_transports_runs_and_surroundings(self):
        other_place = {"SOURCE_DATE_EPOCH": parts.EPOCH, "TZ": "Asia/Tokyo", "LANG": "C.UTF-8", "TMPDIR": "/var/tmp"}
        for name in parts.IMAGES:
            files = {}
            for uri, environment in self.sources(name):
                for options, more in ((("--build-time", parts.BUILD_TIME), {}), ((), other_place)):
                    result = self.build(uri, "--name", "same", *options, environment={**environment, **more})
                    self.assert_golden(result, name)
                    files.setdefault(self.build.bytes(), []).append((uri, environment, options))
            self.assertEqual(len(files), 1, f"{name}: {list(files.values())}")


if __name__ == "__main__":
    parts.main()
