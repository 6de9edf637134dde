# SPDX-License-Identifier: Apache-2.0
"""nitro-cli with the stand-in for the device (tests/support/nitro_device). Environment: NITRO_CLI (the tool), NITRO_DEVICE_STANDIN (the
library)."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from enclave import needed, wait_until  # noqa: E402

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
IMAGE = DATA / "golden/eif/tiny/image.eif"
NOBODY = "i-1234567890abcdef0-enc1234567890abcdef"


def is_gone(process):
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Machine:
    """A simulated parent instance with its own nitro-cli."""

    def __init__(self, case=None, cli=None):
        """`cli`: the tool, if not that of NITRO_CLI."""
        case = case or {}
        self.cli = cli or os.environ["NITRO_CLI"]
        self.every_start_beats = True  # unless enclaves are killed before they can
        self.folder = tempfile.mkdtemp(prefix="nitro-device-")
        self.trace = f"{self.folder}/trace"
        self.started = []
        for sub in ("s", "logs"):
            os.mkdir(f"{self.folder}/{sub}")
        image = IMAGE.read_bytes()
        shutil.copy(IMAGE, f"{self.folder}/image.eif")
        pathlib.Path(f"{self.folder}/garbage.eif").write_bytes(b"this is not an enclave image\n" * 100)
        pathlib.Path(f"{self.folder}/short.eif").write_bytes(image[:len(image) // 2])
        config = case.get("config file (EIF stands for the image's path)")
        if config:
            pathlib.Path(f"{self.folder}/c.json").write_text(config.replace("EIF", f"{self.folder}/image.eif"), encoding="utf-8")
        self.environment = {**os.environ,
                            "LD_PRELOAD": os.environ["NITRO_DEVICE_STANDIN"],
                            "NITRO_CLI_SOCKETS_PATH": f"{self.folder}/s", "NITRO_CLI_LOGS_PATH": f"{self.folder}/logs",
                            "NITRO_DEVICE_TRACE": self.trace, "NITRO_DEVICE_IMAGE": f"{self.folder}/given.eif",
                            "NITRO_DEVICE_NAME": os.path.basename(self.folder),
                            "NITRO_DEVICE_CPU_POOL": case.get("CPU pool", "1-3"),
                            "NITRO_DEVICE_PAGES_1G": case.get("free 1 GiB pages", "0"), "NITRO_DEVICE_PAGES_2M": case.get("free 2 MiB pages", "1024"),
                            "NITRO_DEVICE_FAIL": case.get("call that fails = errno", ""),
                            "NITRO_DEVICE_HEARTBEAT": case.get("heartbeat", "right")}
        self.environment.pop("NITRO_CLI_BACKEND", None)
        self.environment.update(case.get("environment", {}))

    def lines(self):
        try:
            return pathlib.Path(self.trace).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return []

    def run(self, command, prefix=(), stdout=subprocess.PIPE):
        """`prefix`: a command that runs the tool."""
        last = self.started[-1]["EnclaveID"] if self.started else NOBODY
        arguments = command.replace("DIR", self.folder).replace("ENCLAVE-ID", last).split()
        done = subprocess.run([*prefix, self.cli, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=stdout,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        if command.startswith("run-enclave") and done.returncode == 0:
            self.started.append(json.loads(done.stdout))
        if not self.every_start_beats:
            return done
        # The other end of a heartbeat records what it received a moment after the tool has sent it.
        starts = sum(line.startswith("START_ENCLAVE") and "->" not in line for line in self.lines())
        wait_until(lambda: sum(line.startswith("HEARTBEAT") for line in self.lines()) >= starts)
        return done

    def wait_for_the_end(self):
        return wait_until(lambda: is_gone(self.started[-1]["ProcessID"]))

    def close(self):
        for enclave in self.started:
            if not is_gone(enclave["ProcessID"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(enclave["ProcessID"], signal.SIGKILL)
                wait_until(lambda process=enclave["ProcessID"]: is_gone(process))
        # The process of an enclave whose command has failed may still be about to write its last line.
        assert wait_until(self.remove_folder), f"{self.folder} is still written to"

    def remove_folder(self):
        try:
            shutil.rmtree(self.folder)
        except OSError:
            return False
        return True


def main():
    for variable in ("NITRO_CLI", "NITRO_DEVICE_STANDIN"):
        needed(variable, "build the project first")
    unittest.main(module="__main__", verbosity=2)
