# SPDX-License-Identifier: Apache-2.0
"""Repeats commands recorded with the reference on the same simulated machine, and compares exit statuses, error codes, output, and all
operations on the device, memory and vsock, in order. The recorded cases are in tests/data/traces; the machine is the stand-in of
tests/support/nitro_device."""
import json
import os
import pathlib
import re
import signal
import unittest

from standin import DATA, IMAGE, Machine, main

TRACES = DATA / "traces"
# The number of recorded cases: a missing one would go unnoticed.
CASES = 37
RECORDED = pathlib.Path(__file__).resolve().parents[4] / "shared/traces"

# Events between the commands of a case: before the command of this number. A crash is the enclave's own.
BETWEEN = {
    "crash": {1: "crash"},
    "killed": {1: signal.SIGKILL},
    "stopped": {1: signal.SIGSTOP, 2: signal.SIGKILL},
}


def repeated(lines):
    """N equal lines in a row become one line with xN appended."""
    out = []
    for line in lines:
        if out and out[-1][0] == line:
            out[-1][1] += 1
        else:
            out.append([line, 1])
    return [line if count == 1 else f"{line}  x{count}" for line, count in out]


def without_what_varies(value):
    """Objects become lists of pairs: the order of keys matters."""
    if isinstance(value, list):
        return sorted((without_what_varies(item) for item in value), key=str)
    if isinstance(value, dict):
        fixed = {"EnclaveID": "ENCLAVE-ID", "ProcessID": 1}
        return [(key, fixed.get(key, without_what_varies(item))) for key, item in value.items()]
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return "TIME"
    return value


class SameAsTheReference(unittest.TestCase):
    maxDiff = None

    def replay(self, path):
        case = json.loads(path.read_text(encoding="utf-8"))
        environment = {"NITRO_DEVICE_CRASH_AFTER": "1"} if path.stem == "crash" else {}
        machine = Machine({**case["machine"], "environment": environment})
        self.addCleanup(machine.close)
        for number, expected in enumerate(case["commands"]):
            action = BETWEEN.get(path.stem, {}).get(number)
            if isinstance(action, signal.Signals):
                os.kill(machine.started[-1]["ProcessID"], action)
            if action in ("crash", signal.SIGKILL):
                self.assertTrue(machine.wait_for_the_end(), "the enclave process did not end")
            done = machine.run(expected["cmd"])
            context = f"{expected['cmd']}\nstdout: {done.stdout}\nstderr: {done.stderr}"
            self.assertEqual(done.returncode, expected["exit status"], context)
            self.assertEqual(sorted(set(re.findall(r"\[ (E\d\d) \]", done.stderr))), expected["error codes on stderr"], context)
            output = json.loads(done.stdout) if done.stdout else ""
            self.assertEqual(without_what_varies(output), without_what_varies(expected["stdout"]), context)
        self.assertEqual(repeated(machine.lines()), case["device"])
        if any(line.startswith("START_ENCLAVE") for line in machine.lines()):
            given = pathlib.Path(f"{machine.folder}/given.eif").read_bytes()
            self.assertEqual(given.rstrip(b"\0"), IMAGE.read_bytes().rstrip(b"\0"), "the image in the enclave's memory")

    def test_cases_are_those_that_were_recorded(self):
        if not RECORDED.is_dir():
            self.skipTest(f"{RECORDED} is not there: tests/data/traces is what there is to compare with")
        for path in RECORDED.glob("*.json"):
            self.assertEqual((TRACES / path.name).read_bytes(), path.read_bytes(), path.name)


def add_cases():
    paths = sorted(TRACES.glob("*.json"))
    assert len(paths) == CASES, f"{len(paths)} cases are in {TRACES}, not {CASES}"
    assert BETWEEN.keys() <= {path.stem for path in paths}, f"of {sorted(BETWEEN)} some are not in {TRACES}"
    for path in paths:
        setattr(SameAsTheReference, f"test_{path.stem.replace('-', '_')}", lambda self, path=path: self.replay(path))


if __name__ == "__main__":
    add_cases()
    main()
