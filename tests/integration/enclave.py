# SPDX-License-Identifier: Apache-2.0
"""Common parts of the integration tests: the tool under test in a separate environment, images for it, and checks that it leaves nothing
behind.

Environment: NITRO_CLI (the tool), NITRO_CLI_BLOBS (kernel and init). Optional: NITRO_TEST_USER, run the tool as this user;
NITRO_TEST_MACHINE=nitro-enclave, run enclaves on a QEMU that has this machine: that of NITRO_CLI_QEMU, or of the PATH, or the one in
../shared/parent beside the project."""
import contextlib
import hashlib
import io
import json
import lzma
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77


def skip(why):
    print(f"SKIPPED: {why}")
    raise SystemExit(SKIPPED)


def wait_until(condition, seconds=60.0):
    """Whether the condition becomes true; the limit only stops a test that hangs."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def not_installed(absent):
    """Why a test cannot run without the named things, or None if there are none. tests/run, which installs everything that
    bootstrap/debian-packages lists, does not accept this reason."""
    return f"{', '.join(absent)} is not installed" if absent else None


def absent_programs(*names):
    """The same for programs."""
    return not_installed([name for name in names if shutil.which(name) is None])


def needed(name, why):
    value = os.environ.get(name)
    if not value or not os.path.exists(value):
        skip(f"{name} ({value}) is not there: {why}")
    return value


def choose_machine(folder):
    """Sets NITRO_CLI_QEMU so that enclaves run on the machine named by NITRO_TEST_MACHINE."""
    machine = os.environ.get("NITRO_TEST_MACHINE")
    if not machine:
        # A QEMU with that machine would use it; these tests are about the other machines.
        return
    packed = HERE.parents[2] / "shared/parent/qemu-system-x86_64.xz"
    for candidate in (os.environ.get("NITRO_CLI_QEMU"), shutil.which("qemu-system-x86_64"), packed):
        if not candidate or not os.path.exists(candidate):
            continue
        if candidate == packed:
            candidate = f"{folder}/qemu-system-x86_64"
            pathlib.Path(candidate).write_bytes(lzma.open(packed).read())
            os.chmod(candidate, 0o755)
        machines = subprocess.run([candidate, "-machine", "help"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        if machine in machines.stdout:
            os.environ["NITRO_CLI_QEMU"] = candidate
            return
    skip(f"no QEMU with the machine {machine} is there; name one in NITRO_CLI_QEMU")


def copy_tool(folder):
    """Copies nitro-cli, and what it executes, below `folder`, with the relative paths of an installation; returns its path."""
    tool = pathlib.Path(needed("NITRO_CLI", "build the project first"))
    for program in (pathlib.Path("bin/nitro-cli"), pathlib.Path("libexec/nitro-cli/nitro-cli-image")):
        copy = pathlib.Path(folder) / program
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tool if program.name == "nitro-cli" else tool.parent.parent / program, copy)
    return f"{folder}/bin/nitro-cli"


def build_guest(folder):
    """Builds the static program that runs in the enclaves."""
    path = f"{folder}/guest"
    subprocess.run(["musl-gcc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", path, str(HERE / "guest/guest.c")], check=True)
    return path


def docker_archive(path, files, command, environment=(), tag="test:latest"):
    """Writes a container image like `docker save`. `files`: name -> (content, mode)."""
    def member(archive, name, content, mode=0o644):
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        archive.addfile(info, io.BytesIO(content))

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name, (content, mode) in files.items():
            member(archive, name, content, mode)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
                         "config": {"Cmd": list(command), "Env": list(environment)},
                         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}, "history": []}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, mode="w") as archive:
        member(archive, config_name, config)
        member(archive, f"{digest}/layer.tar", layer.getvalue())
        member(archive, "manifest.json", json.dumps(manifest).encode())


class Result:
    def __init__(self, process):
        self.status, self.out, self.err = process.returncode, process.stdout, process.stderr

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"status {self.status}\nstdout: {self.out}\nstderr: {self.err}"


class Tool:
    """nitro-cli with separate folders for sockets and logs; close() requires that nothing is left of it."""

    def __init__(self):
        self.path = needed("NITRO_CLI", "build the project first")
        self.folder = tempfile.mkdtemp(prefix="nitro-it-")
        self.sockets, self.logs = f"{self.folder}/s", f"{self.folder}/logs"
        os.mkdir(self.sockets)
        os.mkdir(self.logs)
        self.user = os.environ.get("NITRO_TEST_USER")
        for name in (self.folder, self.sockets, self.logs):
            self.give_to_user(name)
        self.environment = {**os.environ, "NITRO_CLI_SOCKETS_PATH": self.sockets, "NITRO_CLI_LOGS_PATH": self.logs,
                            "TMPDIR": self.folder, "HOME": self.folder, "XDG_CACHE_HOME": f"{self.folder}/cache"}

    def give_to_user(self, path):
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def command(self, *arguments):
        group = pwd.getpwnam(self.user).pw_gid if self.user else 0
        prefix = [shutil.which("setpriv"), f"--reuid={self.user}", f"--regid={group}", "--clear-groups"] if self.user else []
        return [*prefix, self.path, *map(str, arguments)]

    def __call__(self, *arguments, environment=(), timeout=120):
        return Result(subprocess.run(self.command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout,
                                     env={**self.environment, **dict(environment)}))

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=self.environment)

    def run(self, eif, *more, memory=128, debug=True):
        result = self("run-enclave", "--local", "--eif-path", eif, "--memory", memory, "--cpu-count", 1,
                      *(["--debug-mode"] if debug else []), *more)
        assert result.status == 0, result
        return result.json

    def console(self, enclave, until, seconds=20):
        """The output of `console` until it contains `until`."""
        process = self.start("console", "--enclave-id", enclave["EnclaveID"])
        os.set_blocking(process.stdout.fileno(), False)
        text, end = "", time.monotonic() + seconds
        while until not in text and time.monotonic() < end and (process.poll() is None or text == ""):
            with contextlib.suppress(TypeError, BlockingIOError):
                text += process.stdout.read() or ""
            time.sleep(0.02)
        process.kill()
        process.communicate()
        return text

    def vsock_folder(self, enclave):
        return f"{self.sockets}/{enclave['EnclaveID']}.vsock"

    def connect_to_program(self, enclave, port=5005, seconds=60):
        """A connection to the enclave's program, which may need a moment after the boot to listen."""
        end = time.monotonic() + seconds
        while (connection := self.connect(enclave, port)) is None:
            assert time.monotonic() < end, f"nobody listens on port {port} of the enclave"
            time.sleep(0.05)
        return connection

    def connect(self, enclave, port):
        """A connection to a port of the enclave, or None if nothing listens there."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(f"{self.vsock_folder(enclave)}/connect")
        connection.sendall(f"CONNECT {port}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                connection.close()
                return None
            answer += byte
        assert answer.startswith(b"OK "), answer
        return connection

    def processes(self):
        """Processes with this test's folder in their environment or command line, except zombies."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
                if self.folder.encode() in environment and int(pid) != os.getpid():
                    found.append((pid, pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()))
        return found

    def leftovers(self, seconds=60):
        """Remaining processes and sockets; waits for them to disappear."""
        end = time.monotonic() + seconds
        while True:
            left = [*self.processes(), *os.listdir(self.sockets)]
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.02)

    def close(self):
        self("terminate-enclave", "--all")
        left = self.leftovers()
        shutil.rmtree(self.folder, ignore_errors=True)
        return left


class EnclaveTest(unittest.TestCase):
    """A test with its own tool and the images that the class needs."""

    @classmethod
    def setUpClass(cls):
        environment = dict(os.environ)
        cls.addClassCleanup(lambda: (os.environ.clear(), os.environ.update(environment)))
        needed("NITRO_CLI_BLOBS", "make it with blobs/build-blobs")
        cls.shared = tempfile.mkdtemp(prefix="nitro-it-images-")
        cls.addClassCleanup(shutil.rmtree, cls.shared)
        os.chmod(cls.shared, 0o755)
        if os.environ.get("NITRO_TEST_USER"):
            cls.share_with_user()
        choose_machine(cls.shared)
        guest = pathlib.Path(build_guest(cls.shared)).read_bytes()
        cls.guest = guest

    @classmethod
    def share_with_user(cls):
        """The project may be in a folder that only its owner may enter."""
        shutil.copytree(os.environ["NITRO_CLI_BLOBS"], f"{cls.shared}/blobs")
        os.environ.update(NITRO_CLI_BLOBS=f"{cls.shared}/blobs", NITRO_CLI=copy_tool(cls.shared))

    @classmethod
    def image(cls, *command, environment=("GREETING=hello",)):
        """An enclave image whose program is the guest with these arguments; made once."""
        name = "-".join(command)
        eif, archive = f"{cls.shared}/{name}.eif", f"{cls.shared}/{name}.tar"
        if not os.path.exists(eif):
            docker_archive(archive, {"bin/guest": (cls.guest, 0o755)}, ["/bin/guest", *command], environment)
            result = subprocess.run([needed("NITRO_CLI", ""), "build-enclave", "--docker-uri", f"docker-archive:{archive}",
                                     "--output-file", eif], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    env={**os.environ, "NITRO_CLI_LOGS_PATH": cls.shared})
            assert result.returncode == 0, result.stderr
            os.chmod(eif, 0o644)
        return eif

    def setUp(self):
        self.tool = Tool()
        self.addCleanup(lambda: self.assertEqual(self.tool.close(), [], "left behind"))


def main():
    unittest.main(verbosity=2)
