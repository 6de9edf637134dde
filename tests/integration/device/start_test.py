# SPDX-License-Identifier: Apache-2.0
"""Starting enclaves under unusual circumstances: inherited state, kinds of image file, killed processes, and everything that can fail once
the enclave runs. The machine is the stand-in of tests/support/nitro_device."""
import contextlib
import glob
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import unittest

from standin import Machine, is_gone, main, wait_until  # first: it makes enclave.py known
from enclave import absent_programs

RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"
TINY = ("--memory", "64", "--cpu-count", "1")


class Start(unittest.TestCase):
    maxDiff = None

    def machine(self, **environment):
        machine = Machine({"environment": environment})
        self.addCleanup(machine.close)
        return machine

    def run_tool(self, machine, *arguments, stdin=subprocess.DEVNULL, **options):
        done = subprocess.run([machine.cli, *arguments], env=machine.environment, stdin=stdin, stdout=options.pop("stdout", subprocess.PIPE),
                              stderr=subprocess.PIPE, timeout=60, check=False, **options)
        done.stderr = done.stderr.decode()
        return done

    def started(self, machine):
        """The processes of running enclaves, by their sockets."""
        return glob.glob(f"{machine.folder}/s/*.sock")

    def assert_nothing_is_left(self, machine):
        self.assertTrue(wait_until(lambda: os.listdir(f"{machine.folder}/s") == []), os.listdir(f"{machine.folder}/s"))

    def assert_runs(self, machine, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.started(machine)), 1)
        self.assertEqual(self.run_tool(machine, "terminate-enclave", "--all").returncode, 0)
        self.assert_nothing_is_left(machine)

    def test_few_descriptors_are_enough(self):
        for limit in ("-Sn 64", "-Sn 20", "-n 20"):
            with self.subTest(limit):
                machine = self.machine()
                self.assert_runs(machine, machine.run(RUN, ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh")))

    def test_the_limit_of_descriptors_is_raised_as_far_as_it_may_be(self):
        machine = self.machine()
        done = machine.run(RUN, ("sh", "-c", 'ulimit -Sn 64; ulimit -Hn 3000; exec "$@"', "sh"))
        self.assertEqual(done.returncode, 0, done.stderr)
        limits = pathlib.Path(f"/proc/{machine.started[0]['ProcessID']}/limits").read_text(encoding="ascii")
        self.assertEqual(re.search(r"Max open files +(\d+) +(\d+)", limits).groups(), ("3000", "3000"))

    def test_inherited_signals_make_no_difference(self):
        def block_all():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

        machine = self.machine()
        self.assert_runs(machine, machine.run(RUN, ("sh", "-c", 'trap "" CHLD PIPE; exec "$@"', "sh")))
        machine = self.machine()
        self.assert_runs(machine, self.run_tool(machine, "run-enclave", "--eif-path", f"{machine.folder}/image.eif", *TINY,
                                                preexec_fn=block_all))

    def test_the_image_may_come_from_stdin_when_that_is_a_file(self):
        machine = self.machine()
        with open(f"{machine.folder}/image.eif", "rb") as image:
            done = self.run_tool(machine, "run-enclave", "--eif-path", "/dev/stdin", *TINY, stdin=image)
        self.assertIn(b'"EnclaveName": "stdin"', done.stdout, done.stderr)
        self.assert_runs(machine, done)

    def test_an_image_that_is_no_regular_file_is_refused_and_not_waited_for(self):
        machine = self.machine()
        os.mkfifo(f"{machine.folder}/fifo")
        for path, what in ((f"{machine.folder}/fifo", "a pipe"), ("/dev/null", "a device"), (machine.folder, "a folder")):
            with self.subTest(path):
                done = self.run_tool(machine, "run-enclave", "--eif-path", path, *TINY)
                self.assertEqual((done.returncode, done.stdout), (39, b""), done.stderr)
                self.assertIn("[ E19 ]", done.stderr)
                self.assertIn(what, done.stderr)
                self.assert_nothing_is_left(machine)

    def test_names_that_are_no_plain_text_are_refused_before_anything_starts(self):
        machine = self.machine()
        for name in (b"q\xfe", "a\u0085b".encode(), "a\u202eb".encode(), "a\u2066b".encode(), "a\u2028b".encode(), b"a\x1b[0m"):
            with self.subTest(name):
                done = self.run_tool(machine, "run-enclave", "--eif-path", f"{machine.folder}/image.eif", "--enclave-name", name, *TINY)
                self.assertEqual((done.returncode, done.stdout), (58, b""), done.stderr)
                self.assertIn("[ E58 ]", done.stderr)
        path = f"{machine.folder}/q".encode() + b"\xfe.eif"
        os.link(f"{machine.folder}/image.eif", path)
        self.assertEqual(self.run_tool(machine, "run-enclave", "--eif-path", path, *TINY).returncode, 58)
        self.assertEqual(machine.lines(), [])
        self.assert_runs(machine, self.run_tool(machine, "run-enclave", "--eif-path", path, "--enclave-name", "größe", *TINY))

    def test_how_a_killed_process_ended_is_said(self):
        machine = self.machine(NITRO_DEVICE_HEARTBEAT="none")
        command = subprocess.Popen([machine.cli, "run-enclave", "--eif-path", f"{machine.folder}/image.eif", *TINY], env=machine.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertTrue(wait_until(lambda: any(line.startswith("START_ENCLAVE") for line in machine.lines())))
        log = pathlib.Path(f"{machine.folder}/logs/nitro_enclaves.log")
        self.assertTrue(wait_until(lambda: "started enclave" in log.read_text(encoding="utf-8")))
        line = next(line for line in log.read_text(encoding="utf-8").splitlines() if "started enclave" in line)
        os.kill(int(line.split("]")[0].rpartition(":")[2]), signal.SIGKILL)
        out, err = command.communicate(timeout=60)
        self.assertEqual((command.returncode, out), (39, ""), err)
        self.assertIn("was ended by signal 9 (Killed)", err)
        self.assertNotIn("given above", err)
        self.assertEqual(self.run_tool(machine, "describe-enclaves").stdout, b"[]\n")
        self.assert_nothing_is_left(machine)

    def test_a_start_that_cannot_be_told_is_undone(self):
        machine = self.machine()
        with open("/dev/full", "wb") as full:
            done = self.run_tool(machine, "run-enclave", "--eif-path", f"{machine.folder}/image.eif", *TINY, stdout=full)
        self.assertEqual(done.returncode, 19, done.stderr)
        self.assertIn("was terminated again", done.stderr)
        self.assert_nothing_is_left(machine)

    def test_a_start_whose_console_cannot_be_reached_is_undone(self):
        machine = self.machine()
        done = self.run_tool(machine, "run-enclave", "--eif-path", f"{machine.folder}/image.eif", *TINY, "--attach-console")
        self.assertEqual(done.returncode, 44, done.stderr)
        self.assert_nothing_is_left(machine)

    def test_a_heartbeat_of_another_is_none(self):
        machine = self.machine(NITRO_DEVICE_HEARTBEAT="none")
        name = os.path.basename(machine.folder)
        command = subprocess.Popen([machine.cli, "run-enclave", "--eif-path", f"{machine.folder}/image.eif", *TINY], env=machine.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertTrue(wait_until(lambda: any(line.startswith("START_ENCLAVE") for line in machine.lines())))

        def beat(byte, cid):
            """The reply to a heartbeat from this CID."""
            with socket.socket(socket.AF_UNIX) as enclave:
                enclave.settimeout(60)
                enclave.bind(f"\0nitro-device:{name}:{cid}:1")
                enclave.connect(f"\0nitro-device:{name}:3:9000")
                enclave.sendall(byte)
                # Closed without an answer: with the byte unread, that is a reset.
                with contextlib.suppress(ConnectionResetError):
                    return enclave.recv(1)
                return b""

        self.assertEqual(beat(b"\x42", 17), b"")
        self.assertEqual(beat(b"\xb7", 17), b"")
        self.assertIsNone(command.poll())
        self.assertEqual(beat(b"\xb7", 16), b"\xb7")
        out, err = command.communicate(timeout=60)
        self.assertEqual(command.returncode, 0, err)
        self.assertIn("EnclaveID", out)
        machine.environment["NITRO_DEVICE_HEARTBEAT"] = "right"
        self.assertEqual(self.run_tool(machine, "terminate-enclave", "--all").returncode, 0)

    def test_a_socket_that_does_not_listen_yet_is_neither_seen_nor_removed(self):
        if why := absent_programs("strace"):
            self.skipTest(why)
        machine = self.machine()
        # Every call of listen(2) takes two seconds, including that of the enclave's socket.
        command = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=listen:delay_enter=2000000", machine.cli,
                                    "run-enclave", "--eif-path", f"{machine.folder}/image.eif", *TINY],
                                   env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seen, end = False, time.monotonic() + 30
        while not self.started(machine) and command.poll() is None and time.monotonic() < end:
            seen = seen or bool(glob.glob(f"{machine.folder}/s/*.new"))
            done = self.run_tool(machine, "describe-enclaves")
            self.assertEqual(done.returncode, 0, done.stderr)
            time.sleep(0.01)
        self.assertTrue(seen, "no command looked at the right moment")
        self.assertEqual(self.run_tool(machine, "describe-enclaves").stdout.count(b"EnclaveID"), 1)
        self.assertEqual(self.run_tool(machine, "terminate-enclave", "--all").returncode, 0)
        # strace lives as long as the enclave's process.
        out, err = command.communicate(timeout=60)
        self.assertEqual(command.returncode, 0, err)
        self.assertIn("EnclaveID", out)

    def test_an_answer_that_nobody_can_read_hides_one_enclave(self):
        machine = self.machine()
        self.assertEqual(machine.run(RUN).returncode, 0)
        text = b'{"EnclaveName": "q\xfe"}'
        message = b"\xa1\x6dStdOutMessage" + bytes([0x60 + len(text)]) + text
        status = b"\xa1\x66Status\x00"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{machine.folder}/s/1.sock")
            listener.listen()
            command = subprocess.Popen([machine.cli, "describe-enclaves"], env=machine.environment, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall((0xeec0).to_bytes(8, "little") + len(message).to_bytes(8, "little") + message
                                   + len(status).to_bytes(8, "little") + status)
            out, err = command.communicate(timeout=60)
        os.unlink(f"{machine.folder}/s/1.sock")
        self.assertEqual(command.returncode, 0, err)
        self.assertEqual(out.count("EnclaveID"), 1)
        self.assertIn(f"{machine.folder}/s/1.sock", err)


if __name__ == "__main__":
    main()
