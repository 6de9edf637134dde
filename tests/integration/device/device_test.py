# SPDX-License-Identifier: Apache-2.0
"""What the recorded cases do not cover: every refusal of the driver is reported in one sentence and leaves nothing behind; and our intended
differences from the reference (docs/differences.md)."""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from standin import Machine, is_gone, main, wait_until

RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"
CALLS = ("CREATE_VM", "GET_IMAGE_LOAD_INFO", "SET_USER_MEMORY_REGION", "ADD_VCPU", "START")
DRIVER_ERRORS = range(256, 276)
SYSTEM_ERRORS = (5, 12, 14, 22, 25, 110)  # EIO ENOMEM EFAULT EINVAL ENOTTY ETIMEDOUT


class DeviceTest(unittest.TestCase):
    maxDiff = None

    def machine(self, environment=None, **case):
        machine = Machine({**case, "environment": environment or {}})
        self.addCleanup(machine.close)
        return machine

    def fails(self, machine, command, code, *words):
        """The command fails with this code and these words, and leaves nothing behind."""
        done = machine.run(command)
        self.assertEqual((done.returncode, done.stdout), (39, ""), done.stderr)
        self.assertEqual(sorted(set(re.findall(r"\[ (E\d\d) \]", done.stderr))), sorted({code, "E39"}), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.leaves_nothing(machine)
        return done

    def leaves_nothing(self, machine):
        self.assertTrue(wait_until(lambda: not os.listdir(f"{machine.folder}/s")), os.listdir(f"{machine.folder}/s"))
        marker = f"NITRO_DEVICE_NAME={os.path.basename(machine.folder)}".encode()
        self.assertTrue(wait_until(lambda: not processes_with(marker)), processes_with(marker))


def processes_with(marker):
    """Processes whose environment contains this text. Those that have ended show none."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


class Refusals(DeviceTest):
    def test_every_error_of_the_driver_is_explained_and_undone(self):
        for call in CALLS:
            for number in (*DRIVER_ERRORS, *SYSTEM_ERRORS):
                # Trying every number at each call would take long: each call gets a third of them, and each number comes up.
                if (number + CALLS.index(call)) % 3 != 0:
                    continue
                with self.subTest(call=call, number=number):
                    machine = self.machine({"NITRO_DEVICE_FAIL": f"{call}={number}"})
                    done = self.fails(machine, RUN, "E29")
                    sentence = re.search(r"\[ E29 \] Driver call failed: (.*)\.\n", done.stderr).group(1)
                    self.assertRegex(sentence, rf"^[a-z].*: .* \(error {number} of the driver\); .*[a-z]", done.stderr)
                    self.assertNotIn("Unknown error", done.stderr)
                    self.assertEqual(machine.lines()[-1], f"{call} -> errno {number}")

    def test_a_failure_halfway_is_undone(self):
        machine = self.machine({"NITRO_DEVICE_FAIL": "ADD_VCPU@2=272"})
        self.fails(machine, "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 3", "E29", "no CPU is left in the pool")
        self.assertEqual(machine.lines()[-2:], ["ADD_VCPU 0 -> 1", "ADD_VCPU -> errno 272"])

    def test_half_cores_are_refused_by_the_driver_and_explained(self):
        machine = self.machine({"NITRO_DEVICE_THREADS_PER_CORE": "2"}, **{"CPU pool": "2-5"})
        self.fails(machine, "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-ids 2", "E29", "whole cores")
        done = machine.run("run-enclave --eif-path DIR/image.eif --memory 64 --cpu-ids 4 5")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_too_many_regions_are_explained(self):
        machine = self.machine({"NITRO_DEVICE_REGIONS": "20"})
        self.fails(machine, RUN, "E29", "maximum number of memory regions", "larger huge pages")

    def test_without_the_driver_local_enclaves_are_named(self):
        machine = self.machine(**{"CPU pool": "missing"})
        self.fails(machine, RUN, "E19", "ne_cpus", "--local")
        self.assertEqual(machine.lines(), [])
        self.fails(self.machine({"NITRO_DEVICE_FAIL": "OPEN=2"}), RUN, "E19", "/dev/nitro_enclaves", "--local")
        self.fails(self.machine({"NITRO_DEVICE_FAIL": "OPEN=13"}), RUN, "E19", "Permission denied", "group")

    def test_an_empty_pool_and_a_broken_one_are_told_apart(self):
        self.fails(self.machine(**{"CPU pool": ""}), RUN, "E22", "the pool for enclaves is empty")
        self.fails(self.machine(**{"CPU pool": "1,x"}), RUN, "E23", '"x"')
        self.fails(self.machine(**{"CPU pool": "1-2-3"}), RUN, "E24", '"1-2-3"')

    def test_a_cpu_outside_the_pool_is_named(self):
        self.fails(self.machine(), "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-ids 2 7", "E21", "CPU 7", "[1, 2, 3]")
        self.fails(self.machine(), "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-ids 0", "E21", "CPU 0")

    def test_less_memory_than_any_enclave_needs_is_not_asked_of_the_driver(self):
        machine = self.machine()
        self.fails(machine, "run-enclave --eif-path DIR/image.eif --memory 63 --cpu-count 1", "E26", "at least 64 MiB")
        self.assertEqual(machine.lines(), [])

    def test_too_few_huge_pages_tell_how_much_there_is(self):
        machine = self.machine(**{"free 1 GiB pages": "1", "free 2 MiB pages": "10"})
        self.fails(machine, "run-enclave --eif-path DIR/image.eif --memory 2000 --cpu-count 1", "E27", "amount to 1044 MiB")

    def test_a_truncated_image_is_refused(self):
        machine = self.machine()
        self.fails(machine, "run-enclave --eif-path DIR/short.eif --memory 64 --cpu-count 1", "E59")
        self.assertEqual(machine.lines(), ["OPEN /dev/nitro_enclaves", "CREATE_VM"])


class PageSize(DeviceTest):
    def test_only_pages_of_the_size_that_was_asked_for_are_tried(self):
        machine = self.machine(**{"free 1 GiB pages": "1"})
        done = machine.run(f"{RUN} --hugepage-size 1G")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(machine.started[0]["MemoryMiB"], 1024)
        self.assertEqual([line for line in machine.lines() if line.startswith("MMAP")], ["MMAP huge page=1024M len=1024M"])
        machine = self.machine(**{"free 1 GiB pages": "1", "free 2 MiB pages": "0"})
        self.fails(machine, f"{RUN} --hugepage-size 2M", "E27", "huge pages of 2 MiB")

    def test_other_sizes_and_local_enclaves_are_refused(self):
        machine = self.machine()
        for size in ("3M", "x", "0", "4G"):
            done = machine.run(f"{RUN} --hugepage-size {size}")
            self.assertEqual((done.returncode, machine.lines()), (25, []), done.stderr)
        done = machine.run(f"{RUN} --hugepage-size 2M --local")
        self.assertEqual((done.returncode, re.findall(r"\[ (E\d\d) \]", done.stderr)), (2, ["E02"]), done.stderr)


class Boot(DeviceTest):
    def test_an_enclave_that_ends_before_its_heartbeat_fails_at_once(self):
        machine = self.machine({"NITRO_DEVICE_HEARTBEAT": "none", "NITRO_DEVICE_CRASH_AFTER": "0.2"})
        done = subprocess.run([os.environ["NITRO_CLI"], *RUN.replace("DIR", machine.folder).split()], env=machine.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 39, done.stderr)
        self.assertIn("[ E36 ]", done.stderr)
        self.assertIn("stopped", done.stderr)
        self.leaves_nothing(machine)

    def test_an_enclave_that_stays_silent_fails_when_its_time_is_over(self):
        # 90 s for an image of up to 6 GiB and 90 s for memory of up to 100 GiB, sped up a hundredfold here.
        machine = self.machine({"NITRO_DEVICE_HEARTBEAT": "none", "NITRO_DEVICE_TIMERS": "0.01"})
        machine.every_start_beats = False
        begin = time.monotonic()
        self.fails(machine, RUN, "E36", "did not report within 180 s that it has booted")
        self.assertGreaterEqual(time.monotonic() - begin, 1.8)
        self.assertIn("TIMER 180 s", machine.lines())
        self.assertEqual(sum(line.startswith("START_ENCLAVE") for line in machine.lines()), 1)
        # The heartbeat port is free again too.
        machine.environment["NITRO_DEVICE_HEARTBEAT"] = "right"
        done = machine.run(RUN)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_connection_without_a_heartbeat_fails_the_boot(self):
        self.fails(self.machine({"NITRO_DEVICE_HEARTBEAT": "hangup"}), RUN, "E36", "without sending")

    def test_a_late_heartbeat_is_waited_for(self):
        machine = self.machine({"NITRO_DEVICE_HEARTBEAT_DELAY": "1.5"})
        self.assertEqual(machine.run(RUN).returncode, 0)

    def test_the_heartbeat_port_of_another_enclave_that_starts_is_named(self):
        machine = self.machine()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"\0nitro-device:{os.path.basename(machine.folder)}:3:9000")
            self.fails(machine, RUN, "E36", "3:9000", "another")
        self.assertEqual(machine.run(RUN).returncode, 0)

    def test_interrupting_the_command_undoes_the_start(self):
        machine = self.machine({"NITRO_DEVICE_HEARTBEAT": "none"})
        with subprocess.Popen([os.environ["NITRO_CLI"], *RUN.replace("DIR", machine.folder).split()], env=machine.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            self.assertTrue(wait_until(lambda: any(line.startswith("START_ENCLAVE") for line in machine.lines())))
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (-signal.SIGTERM, ""))
        self.leaves_nothing(machine)


class Interrupted(DeviceTest):
    """After an interruption the driver, whose calls cannot be interrupted, is not called again."""

    def start(self, machine, command=RUN):
        return subprocess.Popen([machine.cli, *command.replace("DIR", machine.folder).split()], env=machine.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def count(self, machine, call):
        return sum(line.startswith(call) for line in machine.lines())

    def daemon(self, machine, command):
        marker = f"NITRO_DEVICE_NAME={os.path.basename(machine.folder)}".encode()
        return next(int(pid) for pid in processes_with(marker) if int(pid) != command.pid)

    def test_between_two_regions_a_signal_is_noticed(self):
        # 32 regions of 0.2 s each: a start that continues would take more than 6 s.
        for target, number in (("command", signal.SIGINT), ("command", signal.SIGTERM), ("command", signal.SIGKILL),
                               ("process", signal.SIGTERM), ("process", signal.SIGINT)):
            with self.subTest(target=target, signal=number):
                machine = self.machine({"NITRO_DEVICE_DELAY": "SET_USER_MEMORY_REGION=0.2"})
                command = self.start(machine)
                self.assertTrue(wait_until(lambda m=machine: self.count(m, "SET_USER_MEMORY_REGION") >= 3))
                victim = command.pid if target == "command" else self.daemon(machine, command)
                before = self.count(machine, "SET_USER_MEMORY_REGION")
                os.kill(victim, number)
                out, err = command.communicate(timeout=60)
                self.assertEqual((command.returncode, out), (-number if target == "command" else 39, ""), err)
                if target == "process":
                    self.assertIn("[ E36 ]", err)
                    self.assertIn(f"received signal {int(number)}", err)
                self.leaves_nothing(machine)
                # The region being added, and one more if the signal came just after the check for it.
                self.assertLessEqual(self.count(machine, "SET_USER_MEMORY_REGION"), before + 2)
                self.assertEqual(self.count(machine, "ADD_VCPU") + self.count(machine, "START"), 0, machine.lines())

    def test_an_enclave_that_was_started_meanwhile_is_ended(self):
        machine = self.machine({"NITRO_DEVICE_DELAY": "START=1", "NITRO_DEVICE_HEARTBEAT": "none"})
        command = self.start(machine)
        self.assertTrue(wait_until(lambda: self.count(machine, "VSOCK bind")))
        command.send_signal(signal.SIGTERM)
        out, _ = command.communicate(timeout=60)
        self.assertEqual((command.returncode, out), (-signal.SIGTERM, ""))
        self.assertEqual(self.count(machine, "START_ENCLAVE"), 1)
        self.leaves_nothing(machine)

    def test_it_waits_for_its_turn_to_take_memory_and_cpus(self):
        for interrupted in (False, True):
            with self.subTest(interrupted=interrupted):
                machine = self.machine()
                # The device of the stand-in is the trace's file.
                with open(machine.trace, "ab") as other:
                    fcntl.flock(other, fcntl.LOCK_EX)
                    command = self.start(machine)
                    self.assertTrue(wait_until(lambda m=machine: self.count(m, "CREATE_VM")))
                    time.sleep(0.2)
                    self.assertEqual(machine.lines()[-1], "CREATE_VM")
                    if interrupted:
                        command.send_signal(signal.SIGINT)
                        command.communicate(timeout=60)
                if interrupted:
                    self.assertEqual((command.returncode, machine.lines()[-1]), (-signal.SIGINT, "CREATE_VM"))
                    self.leaves_nothing(machine)
                else:
                    out, err = command.communicate(timeout=60)
                    self.assertEqual(command.returncode, 0, err)
                    machine.started.append(json.loads(out))

    def test_it_does_not_wait_for_ever_for_a_process_that_is_stuck(self):
        machine = self.machine({"NITRO_DEVICE_TIMERS": "0.05"})
        with open(machine.trace, "ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            begin = time.monotonic()
            self.assertEqual(machine.run(RUN).returncode, 0)
            # 10 s for the memory and 10 s for the CPUs, sped up twentyfold here.
            self.assertGreaterEqual(time.monotonic() - begin, 1.0)
        self.assertEqual(machine.lines().count("TIMER 10 s"), 2)

    def test_other_commands_are_answered_meanwhile(self):
        machine = self.machine({"NITRO_DEVICE_DELAY": "SET_USER_MEMORY_REGION@1=3"})
        machine.every_start_beats = False
        command = self.start(machine)
        self.assertTrue(wait_until(lambda: self.count(machine, "GET_IMAGE_LOAD_INFO")))
        # An enclave that has not booted has no socket, so it can be neither queried nor terminated, as in the reference.
        for asked, status, printed in (("describe-enclaves", 0, "[]\n"), ("terminate-enclave --all", 0, "[]\n"),
                                       ("terminate-enclave --enclave-name image", 58, "")):
            done = machine.run(asked)
            self.assertEqual((done.returncode, done.stdout), (status, printed), done.stderr)
        self.assertEqual(self.count(machine, "SET_USER_MEMORY_REGION"), 0)
        out, err = command.communicate(timeout=60)
        self.assertEqual(command.returncode, 0, err)
        machine.started.append(json.loads(out))


class Life(DeviceTest):
    def test_ten_at_once_are_listed_and_ended(self):
        machine = self.machine()
        for number in range(10):
            self.assertEqual(machine.run(f"{RUN} --enclave-name e{number}").returncode, 0)
        listed = machine.run("describe-enclaves")
        self.assertEqual(len(re.findall('"State": "RUNNING"', listed.stdout)), 10, listed.stdout)
        ended = machine.run("terminate-enclave --all")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.leaves_nothing(machine)

    def test_stuck_processes_are_waited_for_and_counted(self):
        # The time limits for an answer, and for ending an enclave, whose memory may be large, sped up a hundredfold here.
        for command, seconds in (("describe-enclaves", 3), ("terminate-enclave --all", 120)):
            with self.subTest(command):
                machine = self.machine()
                self.assertEqual(machine.run(RUN).returncode, 0)
                process = machine.started[0]["ProcessID"]
                os.kill(process, signal.SIGSTOP)
                self.addCleanup(os.kill, process, signal.SIGCONT)
                machine.environment["NITRO_DEVICE_TIMERS"] = "0.01"
                begin = time.monotonic()
                done = machine.run(command)
                self.assertGreaterEqual(time.monotonic(), begin + seconds / 100)
                self.assertEqual((done.returncode, done.stdout), (39, "[]\n"), done.stderr)
                self.assertIn("Failed connections: 1\n", done.stderr)
                self.assertIn(f"TIMER {seconds} s", machine.lines())

    def test_variables_that_mean_nothing_here_make_no_difference(self):
        # docs/differences.md.
        for value in ("", "x", "1000000"):
            machine = self.machine({"NITRO_BETWEEN_PACKETS_MILLIS": value, "NITRO_CLI_ARTIFACTS": "/no/such/folder"})
            for command in (f"{RUN} --debug-mode", "describe-enclaves", "terminate-enclave --all"):
                done = machine.run(command)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("NITRO_", done.stderr)

    def test_debug_mode_is_a_flag_of_the_start(self):
        machine = self.machine()
        self.assertEqual(machine.run(f"{RUN} --debug-mode").returncode, 0)
        self.assertIn("START_ENCLAVE flags=1 cid=0 vcpus=1 mem=64M", machine.lines())

    @contextlib.contextmanager
    def console_of(self, machine):
        """Accepts connections to the console of a running enclave in debug mode."""
        with socket.socket(socket.AF_UNIX) as console:
            # The hypervisor is CID 0; the port is derived from the enclave's CID (16).
            console.bind(f"\0nitro-device:{os.path.basename(machine.folder)}:0:10016")
            console.listen()
            self.assertEqual(machine.run(f"{RUN} --debug-mode").returncode, 0)
            yield console

    def test_the_console_is_read_from_the_hypervisor(self):
        machine = self.machine()
        with self.console_of(machine) as console:
            def print_something():
                connection, _ = console.accept()
                connection.sendall(b"[    0.000000] Linux version\n")
                connection.close()
            printer = threading.Thread(target=print_something)
            printer.start()
            done = machine.run("console --enclave-id ENCLAVE-ID")
            printer.join()
        self.assertIn("Linux version", done.stdout)

    def test_a_console_is_shown_for_as_long_as_is_asked_for(self):
        machine = self.machine()
        with self.console_of(machine) as console:
            def show(limit):
                """The output if the console prints something 0.3 s after the connection, and how the command ends."""
                process = subprocess.Popen([machine.cli, "console", "--enclave-name", "image", *limit], env=machine.environment,
                                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                connection, _ = console.accept()
                with connection:
                    time.sleep(0.3)
                    connection.sendall(b"late words\n")
                    if limit == ["--disconnect-timeout", "1"]:
                        process.wait(timeout=60)
                return *process.communicate(timeout=60), process.returncode

            # Some overflow 32 bits, or 64 bits in milliseconds or nanoseconds; 0 is no limit.
            for limit in ([], *(["--disconnect-timeout", str(number)] for number in
                                (0, 1, 2**31, 2**32, 2**53, 2**63 // 1000 + 1, 2**63 - 1, 2**63, 2**64 - 1))):
                with self.subTest(limit=limit):
                    out, err, status = show(limit)
                    self.assertEqual((out, err, status), ("Connecting to the console for enclave 16...\n"
                                                          "Successfully connected to the console.\nlate words\n", "", 0))
        for limit in ("x", "1.5", "1s", "0x1", str(2**64)):
            done = machine.run(f"console --enclave-id nobody --disconnect-timeout {limit}")
            self.assertEqual((done.returncode, re.findall(r"\[ (E\d\d) \]", done.stderr)), (3, ["E03"]), done.stderr)

    def test_a_killed_enclave_process_takes_its_enclave_with_it(self):
        machine = self.machine()
        self.assertEqual(machine.run(RUN).returncode, 0)
        os.kill(machine.started[0]["ProcessID"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: is_gone(machine.started[0]["ProcessID"])))
        marker = f"NITRO_DEVICE_NAME={os.path.basename(machine.folder)}".encode()
        self.assertTrue(wait_until(lambda: not processes_with(marker)))
        self.assertEqual(machine.run("describe-enclaves").stdout, "[]\n")


if __name__ == "__main__":
    main()
