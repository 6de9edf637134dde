# SPDX-License-Identifier: Apache-2.0
"""Enclaves that end and commands that are killed at any point: whoever waits is told, and the next command finds nothing wrong."""
import contextlib
import glob
import json
import os
import pathlib
import signal
import socket
import subprocess
import unittest

from device_test import processes_with
from standin import Machine, is_gone, main, wait_until

RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"

# A slow call, so that the kill comes during it; and the line of the trace, and how often it is there by then.
CALLS = (
    ("OPEN", None, 0),
    ("CREATE_VM", "OPEN", 1),
    ("GET_IMAGE_LOAD_INFO", "MMAP huge page=2M len=2M", 32),
    ("SET_USER_MEMORY_REGION@1", "GET_IMAGE_LOAD_INFO", 1),
    ("SET_USER_MEMORY_REGION@20", "SET_USER_MEMORY_REGION", 19),
    ("ADD_VCPU", "SET_USER_MEMORY_REGION", 32),
    ("VSOCK", "ADD_VCPU", 1),
    ("START", "VSOCK bind", 1),
)


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
        """After a kill: what is listed can be terminated, then nothing is left, and the same name can be used again."""
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

    def kill(self, machine, process, victim):
        """Kills the command or the enclave's process, and waits for both to react."""
        victims = [process.pid] if victim == "command" else [int(pid) for pid in processes_with(self.marker(machine)) if int(pid) != process.pid]
        self.assertTrue(victims)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
        # A start is undone, unless the enclave was already running.
        self.assertTrue(wait_until(lambda: not processes_with(self.marker(machine)) or glob.glob(f"{machine.folder}/s/*.sock")))

    def count(self, machine, start):
        return sum(line.startswith(start) for line in machine.lines())

    def test_killing_the_command_or_the_process_in_any_call_leaves_nothing(self):
        for call, before, number in CALLS:
            for victim in ("command", "process"):
                with self.subTest(call=call, victim=victim):
                    machine = self.machine(NITRO_DEVICE_DELAY=f"{call}=0.3")
                    process = self.start(machine, RUN)
                    if before is None:
                        self.assertTrue(wait_until(lambda p=process, m=machine: len(processes_with(self.marker(m))) > 1))
                    else:
                        self.assertTrue(wait_until(lambda m=machine, line=before, n=number: self.count(m, line) >= n))
                    self.kill(machine, process, victim)
                    machine.environment["NITRO_DEVICE_DELAY"] = ""
                    self.finds_nothing_wrong(machine)

    def test_killing_them_while_the_enclave_boots_or_is_told_of_leaves_nothing(self):
        for heartbeat, is_there in (("none", lambda machine: self.count(machine, "START_ENCLAVE")),
                                    ("right", lambda machine: self.count(machine, "HEARTBEAT")),
                                    ("right", lambda machine: glob.glob(f"{machine.folder}/s/*.sock"))):
            for victim in ("command", "process"):
                with self.subTest(heartbeat=heartbeat, victim=victim):
                    machine = self.machine(NITRO_DEVICE_HEARTBEAT=heartbeat)
                    process = self.start(machine, RUN)
                    self.assertTrue(wait_until(lambda m=machine, there=is_there: there(m)))
                    self.kill(machine, process, victim)
                    machine.environment["NITRO_DEVICE_HEARTBEAT"] = "right"
                    self.finds_nothing_wrong(machine)

    def test_of_two_that_start_at_once_one_starts_and_the_other_says_why_not(self):
        machine = self.machine(NITRO_DEVICE_HEARTBEAT="none")
        first = self.start(machine, RUN)
        self.assertTrue(wait_until(lambda: self.count(machine, "START_ENCLAVE")))
        # There is only one heartbeat port.
        second = self.start(machine, RUN)
        out, err = second.communicate(timeout=60)
        self.assertEqual((second.returncode, out), (39, ""), err)
        self.assertIn("[ E36 ]", err)
        self.assertIn("an enclave that is starting", err)
        # Now the first one's enclave boots.
        name = os.path.basename(machine.folder)
        with socket.socket(socket.AF_UNIX) as enclave:
            enclave.settimeout(60)
            enclave.bind(f"\0nitro-device:{name}:16:1")
            enclave.connect(f"\0nitro-device:{name}:3:9000")
            enclave.sendall(b"\xb7")
            self.assertEqual(enclave.recv(1), b"\xb7")
        out, err = first.communicate(timeout=60)
        self.assertEqual(first.returncode, 0, err)
        self.assertEqual([enclave["EnclaveName"] for enclave in json.loads(machine.run("describe-enclaves").stdout)],
                         [json.loads(out)["EnclaveName"]])
        machine.environment["NITRO_DEVICE_HEARTBEAT"] = "right"
        self.finds_nothing_wrong(machine)

    def test_a_console_is_attached_beside_a_configuration_file(self):
        machine = self.machine()
        pathlib.Path(f"{machine.folder}/c.json").write_text(
            json.dumps({"eif_path": f"{machine.folder}/image.eif", "memory_mib": 64, "cpu_count": 1}), encoding="ascii")
        process = self.start(machine, "run-enclave --config DIR/c.json --attach-console")
        out, err = process.communicate(timeout=60)
        self.addCleanup(machine.run, "terminate-enclave --all")
        # No console is served here.
        self.assertEqual(process.returncode, 44, out + err)
        self.assertIn("START_ENCLAVE flags=1 cid=0 vcpus=1 mem=64M", machine.lines())

    def test_a_crash_ends_an_attached_console_and_is_in_the_log(self):
        machine = self.machine()
        with socket.socket(socket.AF_UNIX) as console:
            console.bind(f"\0nitro-device:{os.path.basename(machine.folder)}:0:10016")
            console.listen()
            console.settimeout(60)
            process = self.start(machine, f"{RUN} --attach-console")
            connection, _ = console.accept()
            with connection:
                connection.sendall(b"Kernel panic\n")
                owner = json.loads(machine.run("describe-enclaves").stdout)[0]["ProcessID"]
                # The enclave is a separate process here.
                enclave, = {int(pid) for pid in processes_with(self.marker(machine))} - {owner, process.pid}
                os.kill(enclave, signal.SIGKILL)
                self.assertTrue(wait_until(lambda: is_gone(owner)))
            out, err = process.communicate(timeout=60)
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
