# SPDX-License-Identifier: Apache-2.0
"""An enclave process with malicious clients: thousands that stay connected, partial messages, lengths of 64 bits, garbage, and clients that
never read. It does not grow, and keeps serving others."""
import os
import pathlib
import socket
import stat
import time
import unittest

from standin import Machine, is_gone, main

RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"
CONNECTIONS = 4000
DESCRIBE = (b"\x09\0\0\0\0\0\0\0hDescribe" * 2) + b"\x0b\0\0\0\0\0\0\0\xa1hmetadata\xf5"
# 256 concurrent sessions, each with one incomplete message, are 16 MiB; the unread replies are smaller.
MOST_GROWTH_KIB = 24 * 1024

OPENINGS = (
    b"",
    b"\x09",
    b"\x09\0\0\0\0\0\0\0hDescr",
    b"\xff" * 8,
    b"\xff" * 4096,
    (65537).to_bytes(8, "little"),
    (65536).to_bytes(8, "little") + b"x" * 60000,
    b"\x09\0\0\0\0\0\0\0hDescribe\x0a\0\0\0\0\0\0\0iTerminate",
    DESCRIBE,
    os.urandom(300),
)


def own_kib(process):
    with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))


class Hostile(unittest.TestCase):
    def setUp(self):
        self.machine = Machine()
        self.addCleanup(self.machine.close)
        done = self.machine.run(RUN)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.process = self.machine.started[0]["ProcessID"]
        self.path = next(pathlib.Path(f"{self.machine.folder}/s").glob("*.sock"))

    def is_served(self):
        """The command waits 3 s for an answer, and reports if there was none."""
        done = self.machine.run("describe-enclaves --metadata")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('"EnclaveName": "image"', done.stdout)

    def test_thousands_of_connections_neither_stop_nor_grow_it(self):
        self.is_served()
        before = own_kib(self.process)
        kept = []
        for number in range(CONNECTIONS):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            client.connect(str(self.path))
            try:
                client.sendall(OPENINGS[number % len(OPENINGS)])
            except OSError:
                pass  # already refused
            kept.append(client)
            if len(kept) > 900:
                kept.pop(0).close()
            if number % 500 == 0:
                self.is_served()
                self.assertLess(own_kib(self.process) - before, MOST_GROWTH_KIB)
        self.is_served()
        self.assertLess(len(os.listdir(f"/proc/{self.process}/fd")), 300)
        for client in kept:
            client.close()
        self.is_served()
        self.assertEqual(self.machine.run("terminate-enclave --all").returncode, 0)

    def test_a_visitor_who_says_nothing_is_shown_out_after_10_seconds(self):
        # Sped up a hundredfold here. The trace is in the log folder, as the process may not open files elsewhere.
        self.machine.trace = f"{self.machine.folder}/logs/trace"
        self.machine.environment |= {"NITRO_DEVICE_TIMERS": "0.01", "NITRO_DEVICE_TRACE": self.machine.trace}
        self.assertEqual(self.machine.run(f"{RUN} --enclave-name other").returncode, 0)
        del self.machine.environment["NITRO_DEVICE_TIMERS"]
        self.assertNotIn("TIMER 10 s", self.machine.lines())
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(next(path for path in self.path.parent.glob("*.sock") if path != self.path)))
            begin = time.monotonic()
            self.assertEqual(client.recv(1), b"")
            self.assertGreater(time.monotonic(), begin + 0.05)
        self.assertIn("TIMER 10 s", self.machine.lines())
        self.is_served()

    def test_everybody_may_connect_and_only_the_owner_may_write_the_log(self):
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o766)
        log = pathlib.Path(f"{self.machine.folder}/logs/nitro_enclaves.log")
        self.assertEqual(stat.S_IMODE(log.stat().st_mode), 0o644)

    @unittest.skipUnless(os.geteuid() == 0, "another user is needed")
    def test_another_user_may_ask_and_not_end(self):
        os.chmod(self.machine.folder, 0o755)
        os.chmod(self.path.parent, 0o775)
        answers = {}
        for name, request in (("describe", DESCRIBE), ("terminate", b"\x0a\0\0\0\0\0\0\0iTerminate" * 2)):
            readable, writable = os.pipe()
            child = os.fork()
            if child == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(self.path))
                    client.sendall(request)
                    while piece := client.recv(4096):
                        os.write(writable, piece)
                os._exit(0)
            os.close(writable)
            with open(readable, "rb") as file:
                answers[name] = file.read()
            os.waitpid(child, 0)
        self.assertIn(b'"State": "RUNNING"', answers["describe"])
        self.assertTrue(answers["terminate"].endswith(b"\xa1fStatus\x0d"), answers["terminate"])  # EACCES
        self.assertFalse(is_gone(self.process))
        self.is_served()


if __name__ == "__main__":
    main()
