# SPDX-License-Identifier: Apache-2.0
"""Enclaves that end, and commands that are killed, at moments of their own choosing: who waits is told, and the next command finds nothing
wrong."""
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time
import unittest

from device_test import processes_with
from standin import Machine, is_gone, main, wait_until

RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"
KILLS = 40


class Life(unittest.TestCase):
    def machine(self, **environment):
        machine = Machine({"environment": environment})
        machine.every_start_beats = False
        self.addCleanup(machine.close)
        return machine

    def start(self, machine, command):
        return subprocess.Popen([machine.cli, *command.replace("DIR", machine.folder).split()], env=machine.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def marker(self, machine):
        return f"NITRO_DEVICE_NAME={os.path.basename(machine.folder)}".encode()

    def finds_nothing_wrong(self, machine):
        """After a kill: what is listed can be ended, then nothing is left, and the same name can be had again."""
        listed = machine.run("describe-enclaves")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        ended = machine.run("terminate-enclave --all")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual(machine.run("describe-enclaves").stdout, "[]\n")
        self.assertTrue(wait_until(lambda: not processes_with(self.marker(machine))), processes_with(self.marker(machine)))
        self.assertEqual(os.listdir(f"{machine.folder}/s"), [])
        again = machine.run(RUN)
        self.assertEqual((again.returncode, json.loads(again.stdout or "{}").get("EnclaveName")), (0, "image"), again.stderr)
        self.assertEqual(machine.run("terminate-enclave --enclave-name image").returncode, 0)
        self.assertTrue(wait_until(lambda: is_gone(machine.started[-1]["ProcessID"])))

    def test_killing_the_command_or_the_process_at_any_moment_leaves_nothing(self):
        chance = random.Random(20260101)
        machine = self.machine(NITRO_DEVICE_HEARTBEAT_DELAY="0.02")
        for number in range(KILLS):
            moment = chance.uniform(0, 0.08)
            with self.subTest(moment=moment, process=bool(number % 2)):
                process = self.start(machine, RUN)
                time.sleep(moment)
                victims = [process.pid]
                if number % 2:
                    victims = [int(pid) for pid in processes_with(self.marker(machine)) if int(pid) != process.pid]
                for victim in victims:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                process.communicate(timeout=20)
                # A start that is undone takes a moment.
                if not number % 2:
                    wait_until(lambda: not processes_with(self.marker(machine)) or any(pathlib.Path(f"{machine.folder}/s").glob("*.sock")), 2)
                self.finds_nothing_wrong(machine)

    def test_of_two_that_start_at_once_each_starts_or_says_why(self):
        machine = self.machine(NITRO_DEVICE_HEARTBEAT_DELAY="0.3")
        both = [self.start(machine, RUN) for _ in range(2)]
        results = []
        for process in both:
            out, err = process.communicate(timeout=20)
            results.append((process.returncode, out, err))
        won = [json.loads(out) for status, out, _ in results if status == 0]
        lost = [err for status, _, err in results if status != 0]
        # The port for heartbeats is one for all.
        self.assertEqual((len(won), len(lost)), (1, 1), results)
        self.assertIn("[ E36 ]", lost[0])
        self.assertIn("another enclave that is just starting", lost[0])
        self.assertEqual([enclave["EnclaveName"] for enclave in json.loads(machine.run("describe-enclaves").stdout)],
                         [enclave["EnclaveName"] for enclave in won])
        self.finds_nothing_wrong(machine)

    def test_a_console_is_attached_beside_a_configuration_file(self):
        machine = self.machine()
        pathlib.Path(f"{machine.folder}/c.json").write_text(
            json.dumps({"eif_path": f"{machine.folder}/image.eif", "memory_mib": 64, "cpu_count": 1}), encoding="ascii")
        process = self.start(machine, "run-enclave --config DIR/c.json --attach-console")
        out, err = process.communicate(timeout=20)
        self.addCleanup(machine.run, "terminate-enclave --all")
        # Nobody offers a console here.
        self.assertEqual(process.returncode, 44, out + err)
        self.assertIn("START_ENCLAVE flags=1 cid=0 vcpus=1 mem=64M", machine.lines())

    def test_a_crash_ends_an_attached_console_and_is_in_the_log(self):
        machine = self.machine(NITRO_DEVICE_CRASH_AFTER="1")
        with socket.socket(socket.AF_UNIX) as console:
            console.bind(f"\0nitro-device:{os.path.basename(machine.folder)}:0:10016")
            console.listen()

            def print_until_the_crash():
                connection, _ = console.accept()
                with connection:
                    connection.sendall(b"Kernel panic\n")
                    wait_until(lambda: "ENCLAVE crashed" in machine.lines())
            printer = threading.Thread(target=print_until_the_crash)
            printer.start()
            process = self.start(machine, f"{RUN} --attach-console")
            out, err = process.communicate(timeout=20)
            printer.join()
        self.assertEqual(process.returncode, 0, err)
        self.assertTrue(out.endswith("Kernel panic\n"), out)
        self.assertTrue(wait_until(lambda: not processes_with(self.marker(machine))))
        self.assertEqual(os.listdir(f"{machine.folder}/s"), [])
        log = pathlib.Path(f"{machine.folder}/logs/nitro_enclaves.log").read_text(encoding="utf-8")
        self.assertRegex(log, r"\[WARN\].*the enclave has ended: the hypervisor reports that it has stopped")

    def test_a_signal_ends_the_enclave_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(signal=number):
                machine = self.machine()
                self.assertEqual(machine.run(RUN).returncode, 0)
                os.kill(machine.started[0]["ProcessID"], number)
                self.assertTrue(wait_until(lambda: not processes_with(self.marker(machine))))
                self.assertEqual(os.listdir(f"{machine.folder}/s"), [])
                log = pathlib.Path(f"{machine.folder}/logs/nitro_enclaves.log").read_text(encoding="utf-8")
                self.assertIn(f"received signal {int(number)}", log)

    def test_a_socket_that_is_removed_ends_its_enclave(self):
        machine = self.machine()
        self.assertEqual(machine.run(RUN).returncode, 0)
        next(pathlib.Path(f"{machine.folder}/s").glob("*.sock")).unlink()
        self.assertTrue(wait_until(lambda: not processes_with(self.marker(machine))))


if __name__ == "__main__":
    main()
