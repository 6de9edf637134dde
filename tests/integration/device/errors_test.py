# SPDX-License-Identifier: Apache-2.0
"""Every error code, caused for real: its line on stderr, the exit status, the output of explain, the log and the file with the steps that
led to it. Failures of the kernel are injected with strace(1)."""
import fcntl
import os
import pathlib
import re
import socket
import struct
import subprocess
import threading
import unittest

from standin import DATA, Machine, main  # first: it makes enclave.py known
from enclave import absent_programs

KEYS = DATA / "golden/keys"
RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"
# Reported by the enclave process in its own words; the command then ends with E39.
BY_PROCESS = 39

# Codes of the reference that nothing causes here.
NEVER_SEEN = {
    "E00": "the one place is uname(2), which cannot fail",
    "E08": "commands are read from sockets only",
    "E09": "closing is all that a connection needs, and its errors change nothing",
    "E14": "a client that sends no command of the protocol is answered by closing the connection; the code is in the library",
    "E15": "the enclave process has one thread that owns everything; there is no lock to take",
    "E16": "joining a thread that was started cannot fail",
    "E30": "all calls of the driver are E29, as in the reference", "E31": "as E30", "E32": "as E30",
    "E37": "waiting is that of the event loop, E12",
    "E40": "what cannot be an ID is that of no enclave, E11, as in the reference",
    "E41": "a client that is gone is none of an enclave's business; run-enclave that is gone undoes the start",
    "E42": "memory that cannot be mapped is memory that is not available, E27, as in the reference",
    "E43": "munmap(2) of what was mapped cannot fail",
    "E47": "a CID that is no number is E03, as in the reference",
    "E51": "intermediate data has no files, so no folder is needed",
    "E52": "the folder has a default, as in the reference",
    "E53": "time limits go by a clock that does not go backwards",
    "E55": "signals are unblocked for the last step of a command, which ends by them",
    "E56": "a log that cannot be opened is E18 or E19, as in the reference",
}


class Case:
    """`command` ends with `code`. `refuse`: system calls for strace's option inject; with `processes`, also in the processes that the
    command starts. `machine`: arguments of Machine. `prepare`: called with the machine beforehand."""

    def __init__(self, code, command, *, status=None, refuse=(), processes=False, machine=None, environment=None, prepare=None, path=None,
                 stdout=subprocess.PIPE):
        self.code, self.command, self.refuse, self.processes, self.prepare, self.path = code, command, refuse, processes, prepare, path
        self.status = int(code[1:]) if status is None else status
        self.machine = {**(machine or {}), "environment": environment or {}}
        self.stdout = stdout

    def prefix(self, folder):
        if not self.refuse:
            return ()
        return ("strace", "-qq", "-o", "/dev/null", *(("-f",) if self.processes else ()),
                *(("-P", self.path.replace("DIR", folder)) if self.path else ()),
                *(word for call in self.refuse for word in ("-e", f"inject={call}")))


def start_in_debug_mode(machine):
    machine.run(f"{RUN} --debug-mode")


def offer_console(machine):
    """A silent console for the enclave with CID 16."""
    start_in_debug_mode(machine)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0nitro-device:{os.path.basename(machine.folder)}:0:10016")
    listener.listen()
    machine.console = listener


def offer_talking_console(machine):
    offer_console(machine)

    def talk():
        connection, _ = machine.console.accept()
        with connection:
            connection.sendall(b"Linux version\n")
    threading.Thread(target=talk, daemon=True).start()


def answer_with_a_failure(machine):
    """An enclave process that answers EIO, and the name of the enclave."""
    def message(cbor):
        return len(cbor).to_bytes(8, "little") + cbor
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{machine.folder}/s/1.sock")
    listener.listen()
    text = b'{"EnclaveName": "a"}'

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall((0xeec0).to_bytes(8, "little") + message(b"\xa1\x6dStdOutMessage" + bytes([0x60 + len(text)]) + text)
                               + message(b"\xa1\x66Status\x05"))
    threading.Thread(target=serve, daemon=True).start()
    machine.console = listener


def never_answer(machine):
    machine.console = socket.socket(socket.AF_UNIX)
    machine.console.bind(f"{machine.folder}/s/1.sock")
    machine.console.listen()


def hold_every_cid(machine):
    """Locks the part of the lock file for the CIDs of local enclaves (enclave_proc/registry/folder_lock.h)."""
    machine.lock_file = open(f"{machine.folder}/s/.lock", "w", encoding="ascii")
    fcntl.fcntl(machine.lock_file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 1 << 62, 1 << 32, 0))


def add_garbage(machine):
    pathlib.Path(f"{machine.folder}/garbage").write_bytes(b"nothing that anybody knows" * 100)
    os.mkdir(f"{machine.folder}/empty")


CASES = (
    Case("E01", "run-enclave --config DIR/c.json", machine={"config file (EIF stands for the image's path)":
                                                            '{"eif_path": "EIF", "memory_mib": 64}'}),
    Case("E02", "run-enclave --config DIR/c.json", machine={"config file (EIF stands for the image's path)":
                                                            '{"eif_path": "EIF", "memory_mib": 64, "cpu_count": 1, "cpu_ids": [1]}'}),
    Case("E03", "run-enclave --eif-path DIR/image.eif --memory 64x --cpu-count 1"),
    Case("E04", RUN, refuse=("socketpair:error=EMFILE",)),
    Case("E05", RUN, refuse=("clone:error=EAGAIN",)),
    Case("E06", RUN, refuse=("setsid:signal=KILL",), processes=True),
    Case("E07", "describe-enclaves", refuse=("openat:error=EACCES",), path="DIR/s"),
    Case("E10", "console --enclave-name image", environment={"NITRO_DEVICE_FAIL": "OPTION=92"}, prepare=start_in_debug_mode),
    Case("E11", "terminate-enclave --enclave-id ENCLAVE-ID"),
    Case("E12", "describe-enclaves", refuse=("epoll_create1:error=EMFILE",)),
    Case("E13", RUN, status=BY_PROCESS, refuse=("inotify_init1:error=EMFILE",), processes=True),
    Case("E17", "run-enclave --config DIR/c.json", machine={"config file (EIF stands for the image's path)": "{"}),
    Case("E18", "describe-enclaves", refuse=("fchmod:error=EPERM",)),
    Case("E19", "pcr --input DIR/none.eif"),
    Case("E20", "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-ids 1 1", status=BY_PROCESS),
    Case("E21", "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-ids 9", status=BY_PROCESS),
    Case("E22", "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 9", status=BY_PROCESS),
    Case("E23", RUN, status=BY_PROCESS, machine={"CPU pool": "1,x"}),
    Case("E24", RUN, status=BY_PROCESS, machine={"CPU pool": "3-1"}),
    Case("E25", f"{RUN} --hugepage-size 3M"),
    Case("E26", "run-enclave --eif-path DIR/image.eif --memory 1 --cpu-count 1", status=BY_PROCESS),
    Case("E27", "run-enclave --eif-path DIR/image.eif --memory 4000 --cpu-count 1", status=BY_PROCESS),
    Case("E28", RUN, status=BY_PROCESS, environment={"NITRO_DEVICE_CREATE_ANSWER": "0"}),
    Case("E29", RUN, status=BY_PROCESS, environment={"NITRO_DEVICE_FAIL": "ADD_VCPU=272"}),
    Case("E33", f"{RUN} --local --enclave-cid 30", status=BY_PROCESS, prepare=hold_every_cid),
    Case("E34", RUN, status=BY_PROCESS, environment={"NITRO_DEVICE_IMAGE_OFFSET": "65"}),
    Case("E35", "describe-eif --eif-path DIR/garbage.eif"),
    Case("E36", RUN, status=BY_PROCESS, machine={"heartbeat": "wrong"}),
    Case("E38", "describe-enclaves", prepare=answer_with_a_failure),
    Case("E39", "describe-enclaves", prepare=never_answer),
    Case("E44", "console --enclave-name image", prepare=lambda machine: machine.run(RUN)),
    Case("E45", "console --enclave-name image", refuse=("poll:error=ENOMEM",), prepare=offer_console),
    Case("E46", "console --enclave-name image", stdout="/dev/full", prepare=offer_talking_console),
    Case("E48", "build-enclave --docker-uri docker-archive:DIR/garbage --output-file DIR/new.eif", prepare=add_garbage,
         environment={"NITRO_CLI_BLOBS": str(DATA / "golden/blobs")}),
    Case("E49", "build-enclave --docker-dir DIR/empty --docker-uri app:1 --output-file DIR/new.eif", prepare=add_garbage,
         environment={"NITRO_CLI_BLOBS": str(DATA / "golden/blobs")}),
    Case("E50", "build-enclave --docker-uri docker://127.0.0.1:1/app --output-file DIR/new.eif",
         environment={"NITRO_CLI_BLOBS": str(DATA / "golden/blobs")}),
    Case("E54", RUN, refuse=("signalfd4:error=EMFILE",)),
    Case("E57", "pcr --signing-certificate DIR/garbage.eif"),
    Case("E58", f"{RUN} --enclave-name a/b"),
    Case("E59", "run-enclave --eif-path DIR/garbage.eif --memory 64 --cpu-count 1", status=BY_PROCESS),
    Case("E60", f"sign-eif --eif-path DIR/image.eif --private-key {KEYS}/ec256.key.pem --signing-certificate {KEYS}/ec384.cert.pem"),
)


class EveryCode(unittest.TestCase):
    maxDiff = None

    def check(self, case):
        # It refuses the system call for such a case.
        if case.refuse and (why := absent_programs("strace")):
            self.skipTest(why)
        machine = Machine(case.machine)
        self.addCleanup(machine.close)
        if case.prepare:
            case.prepare(machine)
        if isinstance(case.stdout, str):
            with open(case.stdout, "wb") as stdout:
                done = machine.run(case.command, case.prefix(machine.folder), stdout)
        else:
            done = machine.run(case.command, case.prefix(machine.folder))
        told = re.findall(r"^\[ (E\d\d) \] ([^:]+): (.+)\.$", done.stderr, re.MULTILINE)
        self.assertEqual(done.returncode, case.status, done.stderr)
        self.assertEqual([code for code, _, _ in told], [case.code] + (["E39"] if case.status == BY_PROCESS and case.code != "E39" else []),
                         done.stderr)
        name, sentence = told[0][1:]
        explained = machine.run(f"explain --error-code {case.code}")
        self.assertEqual(explained.returncode, 0)
        self.assertRegex(explained.stderr, rf"^{case.code}: {re.escape(name)}\n[A-Z].+\.\nWhat to do: [A-Z].+\n$")
        log = pathlib.Path(f"{machine.folder}/logs/nitro_enclaves.log").read_text(encoding="utf-8")
        # The log itself could not be opened for E18.
        if case.code != "E18":
            self.assertRegex(log, rf"\[ERROR\].*\[ {case.code} \] {re.escape(sentence)}")
            steps = pathlib.Path(re.search(r'The steps that led to it: "(.*)"', done.stderr).group(1))
            self.assertEqual(str(steps.parent), f"{machine.folder}/logs")
            self.assertRegex(steps.name, r"^err\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00\.log$")
            self.assertIn(sentence.split(": ")[-1], steps.read_text(encoding="utf-8"))
        for held in ("console", "lock_file"):
            if hasattr(machine, held):
                getattr(machine, held).close()

    def test_a_local_enclave_needs_a_cid_that_is_free(self):
        machine = Machine()
        self.addCleanup(machine.close)
        hold_every_cid(machine)
        with machine.lock_file:
            done = machine.run(f"{RUN} --local")
        self.assertEqual((done.returncode, done.stdout), (BY_PROCESS, ""), done.stderr)
        self.assertIn("[ E33 ]", done.stderr)
        self.assertIn("all CIDs from 16 to 65552 are taken", done.stderr)

    def test_a_byte_order_mark_is_not_passed_over(self):
        self.check(Case("E17", "run-enclave --config DIR/c.json", machine={"config file (EIF stands for the image's path)": "\ufeff{}"}))

    def test_every_code_is_brought_about_or_has_a_reason(self):
        seen = {case.code for case in CASES}
        self.assertEqual(seen & NEVER_SEEN.keys(), set())
        self.assertEqual(sorted(seen | NEVER_SEEN.keys()), [f"E{number:02}" for number in range(61)])

    def test_codes_that_are_never_seen_are_explained_all_the_same(self):
        machine = Machine()
        self.addCleanup(machine.close)
        for code in NEVER_SEEN:
            done = machine.run(f"explain --error-code {code.lower()}")
            self.assertEqual(done.returncode, 0)
            self.assertTrue(done.stderr.startswith(f"{code}: "), done.stderr)

    def test_backtraces_are_shown_when_asked_for(self):
        for value, shown in (("1", True), ("0", False)):
            machine = Machine({"environment": {"BACKTRACE": value}})
            self.addCleanup(machine.close)
            stderr = machine.run("describe-eif --eif-path DIR/none.eif").stderr
            self.assertEqual("\nBacktrace:\n  Action: Describe EIF\n" in stderr, shown, stderr)


def add_cases():
    for case in CASES:
        setattr(EveryCode, f"test_{case.code}", lambda self, case=case: self.check(case))


if __name__ == "__main__":
    add_cases()
    main()
