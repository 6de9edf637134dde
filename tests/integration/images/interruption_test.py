# SPDX-License-Identifier: Apache-2.0
"""Builds that are ended by a signal at any moment: no output file or half of one, no temporary file, no process is left."""
import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import time

import parts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
ROUNDS = 6
SEED = 20


class InterruptionTest(parts.ImagesTest):
    def interrupt(self, uri, *options, environment=None, group=False):
        """Ends builds by each signal, at moments spread over the time that a whole build takes. `group`: the signal goes to children, too, as
        from a terminal."""
        moments = random.Random(SEED)
        # The first one may fill caches.
        self.build(uri, *options, environment=environment)
        start = time.monotonic()
        whole = self.build(uri, *options, environment=environment)
        seconds = time.monotonic() - start
        self.assertEqual(whole.status, 0, whole)
        pathlib.Path(self.build.output).write_text("older")
        ended = 0
        for number in range(ROUNDS):
            for which in SIGNALS:
                after = moments.uniform(0, 1) * seconds
                process = subprocess.Popen(self.build.command(uri, *options), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, start_new_session=True,
                                           env={**self.build.environment, **(environment or {})})
                time.sleep(after)
                (os.killpg if group else os.kill)(process.pid, which)
                process.wait(30)
                where = f"round {number}, {which.name} after {after:.4f} s"
                with self.subTest(where):
                    parts.wait_until(lambda: not self.build.processes(), "the end of every process", 10)
                    self.assertEqual(self.build.leftovers(), [])
                    self.assertIn(process.returncode, (-which, 0))
                    ended += process.returncode == -which
                    # The build may have been faster than the signal, or just about to say so.
                    if pathlib.Path(self.build.output).read_bytes() != b"older":
                        described = subprocess.run([self.build.path, "describe-eif", "--eif-path", self.build.output], stdout=subprocess.PIPE,
                                                   env=self.build.environment, check=True)
                        self.assertTrue(json.loads(described.stdout)["CheckCRC"])
                pathlib.Path(self.build.output).write_text("older")
        self.assertGreater(ended, ROUNDS, "hardly any build was ended")


class Transports(InterruptionTest):
    @classmethod
    def prepare(cls):
        cls.archive = cls.workshop.path("big.tar")
        parts.enclave.docker_archive(cls.archive, {"bin/app": (os.urandom(4 << 20), 0o755)}, ["/bin/app"], tag="big:1")

    def test_closed_descriptors(self):
        """What is printed does not end up in the image that has got the descriptor's number."""
        archive = parts.golden_archive("tiny")
        for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
            command = " ".join(map(shlex.quote, self.build.command(f"docker-archive:{archive}", "--build-time", parts.BUILD_TIME)))
            subprocess.run(["sh", "-c", f"{command} {closed}"], env=self.build.environment, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            self.assertEqual(self.build.bytes()[:4], b".eif", closed)

    def test_archive(self):
        self.interrupt(f"docker-archive:{self.archive}")

    def test_registry(self):
        registry = self.workshop.registry()
        registry.push(f"docker-archive:{self.archive}", "big:1")
        self.interrupt(f"docker://{registry.host}/big:1")

    def test_docker(self):
        engine = self.workshop.dockerd()
        engine.load(self.archive)
        here = {"DOCKER_HOST": engine.host}
        self.interrupt("big:1", environment=here)
        folder = self.workshop.path("context")
        os.makedirs(folder)
        pathlib.Path(f"{folder}/Dockerfile").write_text('FROM big:1\nCMD ["/bin/other"]\n')
        self.interrupt("built:1", "--docker-dir", folder, environment=here)
        # The engine has kept nothing but images.
        self.assertEqual(json.loads(engine.request("GET", "/containers/json?all=1")), [])


class Children(InterruptionTest):
    def test_credential_helper(self):
        registry = self.workshop.registry()
        registry.push(f"docker-archive:{parts.golden_archive('tiny')}", "golden/tiny:1")
        self.workshop.write("helpers/docker-credential-slow", "#!/bin/sh\nsleep 0.3\necho 'credentials not found in native keychain'\nexit 1\n", 0o755)
        self.workshop.write("login/config.json", '{"credsStore": "slow"}')
        environment = {"DOCKER_CONFIG": self.workshop.path("login"), "PATH": f"{self.workshop.path('helpers')}:{os.environ['PATH']}"}
        self.interrupt(f"docker://{registry.host}/golden/tiny:1", environment=environment)

    def test_builder(self):
        parts.need_root()
        parts.need_programs("buildah")
        folder = self.workshop.path("context")
        os.makedirs(folder)
        pathlib.Path(f"{folder}/Dockerfile").write_text('FROM scratch\nCOPY app /\nCMD ["/app"]\n')
        pathlib.Path(f"{folder}/app").write_bytes(os.urandom(1 << 20))
        self.interrupt("built:1", "--docker-dir", folder, environment={"DOCKER_HOST": "unix:///nonexistent"})


if __name__ == "__main__":
    parts.main()
