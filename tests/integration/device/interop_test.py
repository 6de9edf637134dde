# SPDX-License-Identifier: Apache-2.0
"""nitro-cli and the reference's on one machine: each lists, describes, watches and ends the enclaves of the other. The machine is the
stand-in of tests/support/nitro_device.

Runs when NITRO_REFERENCE_CLI names an installed nitro-cli 1.5.0 of the AWS tools.
"""
import contextlib
import glob
import json
import os
import re
import signal
import socket
import threading
import unittest

from standin import Machine, is_gone, main, wait_until  # first: it makes enclave.py known
from enclave import skip

RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"


class Pair(unittest.TestCase):
    """`owner` starts the enclaves, `other` is used on them."""
    maxDiff = None
    tools = None

    def setUp(self):
        if self.tools is None:
            self.skipTest("the two directions are below")
        cli = {"ours": os.environ["NITRO_CLI"], "reference": os.environ["NITRO_REFERENCE_CLI"]}
        self.owner, self.other = (cli[name] for name in self.tools)
        self.machine = Machine()
        self.addCleanup(self.machine.close)

    def use(self, cli, command, status=0):
        self.machine.cli = cli
        done = self.machine.run(command)
        self.assertEqual(done.returncode, status, f"{cli} {command}\nstdout: {done.stdout}\nstderr: {done.stderr}")
        return done

    def start(self, name, options=""):
        return json.loads(self.use(self.owner, f"{RUN} --enclave-name {name} {options}").stdout)

    @contextlib.contextmanager
    def console(self, *texts):
        """The console of the enclave with CID 16, as served by the hypervisor: prints one of `texts` for each connection, and closes it."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0nitro-device:{os.path.basename(self.machine.folder)}:0:10016")
            listener.listen()

            def serve():
                for text in texts:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(text)
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield
            thread.join(10)
            self.assertFalse(thread.is_alive(), "nobody connected to the console")

    def test_is_described_as_by_the_owner(self):
        for name, options in (("a", ""), ("b", "--debug-mode --enclave-cid 30"), ("c", "--cpu-ids 2 3")):
            if "cpu-ids" in options:
                self.machine.cli = self.owner
                json.loads(self.machine.run(f"run-enclave --eif-path DIR/image.eif --memory 130 {options} --enclave-name {name}").stdout)
            else:
                self.start(name, options)
        for command in ("describe-enclaves", "describe-enclaves --metadata"):
            seen = [json.loads(self.use(cli, command).stdout, object_pairs_hook=list) for cli in (self.owner, self.other)]
            self.assertEqual(len(seen[0]), 3)
            self.assertEqual(sorted(seen[0]), sorted(seen[1]), command)

    def test_is_ended_by_id_name_and_all(self):
        started = [self.start(name) for name in ("a", "b", "c", "d")]
        by_id = self.use(self.other, f"terminate-enclave --enclave-id {started[0]['EnclaveID']}")
        self.assertEqual(json.loads(by_id.stdout),
                         {"EnclaveName": "a", "EnclaveID": started[0]["EnclaveID"], "Terminated": True})
        self.assertIn(f"Successfully terminated enclave {started[0]['EnclaveID']}.", by_id.stderr)
        by_name = self.use(self.other, "terminate-enclave --enclave-name b")
        self.assertEqual(json.loads(by_name.stdout)["EnclaveName"], "b")
        rest = json.loads(self.use(self.other, "terminate-enclave --all").stdout)
        self.assertEqual(sorted(enclave["EnclaveName"] for enclave in rest), ["c", "d"])
        self.assertTrue(wait_until(lambda: all(is_gone(enclave["ProcessID"]) for enclave in started)))
        self.assertEqual(os.listdir(f"{self.machine.folder}/s"), [])
        self.assertEqual(self.use(self.other, "describe-enclaves").stdout.strip(), "[]")

    def test_ids_and_names_that_are_not_there_are_refused_alike(self):
        self.start("a")
        for command, status in (("terminate-enclave --enclave-name b", 58), ("console --enclave-name b", 58),
                                ("terminate-enclave --enclave-id i-0-enc1", 11), ("console --enclave-id i-0-enc1", 11)):
            for cli in (self.owner, self.other):
                self.assertIn(f"[ E{status} ]", self.use(cli, command, status).stderr)

    def test_the_console_is_shown_in_debug_mode_only(self):
        debugged = self.start("a", "--debug-mode")
        with self.console(b"Linux version\n", b"Linux version again\n"):
            self.assertIn("Linux version\n", self.use(self.other, f"console --enclave-id {debugged['EnclaveID']}").stdout)
            self.assertIn("Linux version again\n", self.use(self.other, "console --enclave-name a").stdout)
        self.start("b")
        self.assertIn("[ E44 ]", self.use(self.other, "console --enclave-name b", 44).stderr)

    def test_names_stay_unique(self):
        self.assertEqual(self.start("a")["EnclaveName"], "a")
        self.assertEqual(json.loads(self.use(self.other, f"{RUN} --enclave-name a").stdout)["EnclaveName"], "a_1")
        self.assertEqual(self.start("a")["EnclaveName"], "a_2")
        names = [enclave["EnclaveName"] for enclave in json.loads(self.use(self.other, "describe-enclaves").stdout)]
        self.assertEqual(sorted(names), ["a", "a_1", "a_2"])

    def test_a_killed_process_and_its_socket_are_passed_over(self):
        killed = self.start("a")
        self.start("b")
        os.kill(killed["ProcessID"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: is_gone(killed["ProcessID"])))
        self.assertEqual(len(glob.glob(f"{self.machine.folder}/s/*.sock")), 2)
        listed = json.loads(self.use(self.other, "describe-enclaves").stdout)
        self.assertEqual([enclave["EnclaveName"] for enclave in listed], ["b"])
        self.assertEqual(len(glob.glob(f"{self.machine.folder}/s/*.sock")), 1)

    def test_a_stuck_process_is_counted_and_the_others_are_listed(self):
        stuck = self.start("a")
        self.start("b")
        os.kill(stuck["ProcessID"], signal.SIGSTOP)
        for cli in (self.owner, self.other):
            done = self.use(cli, "describe-enclaves", 39)
            self.assertEqual([enclave["EnclaveName"] for enclave in json.loads(done.stdout)], ["b"])
            self.assertIn("Failed connections: 1", done.stderr)
            self.assertEqual(re.findall(r"\[ (E\d\d) \]", done.stderr), ["E39"])


class OursOnTheReferences(Pair):
    tools = ("reference", "ours")


class TheReferenceOnOurs(Pair):
    tools = ("ours", "reference")


def load_tests(loader, _standard, _pattern):
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (OursOnTheReferences, TheReferenceOnOurs))


if __name__ == "__main__":
    if not os.access(os.environ.get("NITRO_REFERENCE_CLI", ""), os.X_OK):
        skip("NITRO_REFERENCE_CLI does not name the reference's nitro-cli")
    main()
