# SPDX-License-Identifier: Apache-2.0
"""What QEMU and the enclave process may do while an enclave runs (docs/security.md)."""
import os
import pathlib
import socket
import subprocess
import sys

from enclave import EnclaveTest, main

CAP_KILL = 1 << 5
FIRST_QEMU_UID, QEMU_UIDS = 0x70000000, 0x10000000


def status_of(process, thread=None):
    path = f"/proc/{process}/task/{thread or process}/status"
    return dict(line.split(":\t", 1) for line in pathlib.Path(path).read_text(encoding="ascii", errors="replace").splitlines())


class Privileges(EnclaveTest):
    def qemu_of(self, enclave):
        children = pathlib.Path(f"/proc/{enclave['ProcessID']}/task/{enclave['ProcessID']}/children").read_text(encoding="ascii").split()
        self.assertEqual(len(children), 1)
        return children[0]

    def has_filter(self):
        """Whether this QEMU was built with its system call filter."""
        qemu = os.environ.get("NITRO_CLI_QEMU") or f"qemu-system-{os.uname().machine}"
        return subprocess.run([qemu, "-sandbox", "on", "-machine", "help"], capture_output=True, check=False).returncode == 0

    def test_qemu_has_a_user_of_its_own_and_no_privileges(self):
        enclaves = [self.tool.run(self.image("serve")) for _ in range(2)]
        users = set()
        for enclave in enclaves:
            status = status_of(self.qemu_of(enclave))
            self.assertEqual((int(status["CapPrm"], 16), int(status["CapEff"], 16), int(status["CapAmb"], 16)), (0, 0, 0))
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2" if self.has_filter() else "0"))
            numbers = set(status["Uid"].split())
            self.assertEqual(len(numbers), 1)
            users |= numbers
            if not self.tool.user:
                self.assertIn(int(status["Uid"].split()[0]), range(FIRST_QEMU_UID, FIRST_QEMU_UID + QEMU_UIDS))
                self.assertEqual(status["Gid"], status["Uid"])
                self.assertEqual(status["Groups"].split(), [])
        self.assertEqual(len(users), 1 if self.tool.user else 2)

    def test_the_enclave_process_can_kill_its_qemu_and_has_no_other_privilege(self):
        enclave = self.tool.run(self.image("serve"))
        process = enclave["ProcessID"]
        for thread in os.listdir(f"/proc/{process}/task"):
            status = status_of(process, thread)
            kept = 0 if self.tool.user else CAP_KILL
            self.assertEqual((int(status["CapPrm"], 16), int(status["CapEff"], 16), int(status["CapInh"], 16)), (kept, kept, 0))
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        log = pathlib.Path(f"{self.tool.logs}/nitro_enclaves.log").read_text(encoding="utf-8")
        self.assertNotIn("the enclave process could not give up", log)

    def test_a_log_that_was_moved_away_is_opened_anew(self):
        self.tool.run(self.image("serve"))
        os.rename(f"{self.tool.logs}/nitro_enclaves.log", f"{self.tool.logs}/old")
        self.assertEqual(self.tool("terminate-enclave", "--all", environment={"NITRO_CLI_LOGS_PATH": self.tool.folder}).status, 0)
        self.assertEqual(self.tool.leftovers(), [])
        self.assertIn("the enclave process ends", pathlib.Path(f"{self.tool.logs}/nitro_enclaves.log").read_text(encoding="utf-8"))

    def test_an_image_that_only_its_owner_can_read_runs(self):
        eif = f"{self.tool.folder}/private.eif"
        pathlib.Path(eif).write_bytes(pathlib.Path(self.image("serve")).read_bytes())
        self.tool.give_to_user(eif)
        os.chmod(eif, 0o600)
        self.tool.connect_to_program(self.tool.run(eif)).close()


class Names(EnclaveTest):
    def test_no_name_breaks_the_command_line_of_qemu(self):
        for name in ("a=b", "x,process=y", ",", "-display", "guest=%s%n", "größe 名前"):
            with self.subTest(name=name):
                enclave = self.tool.run(self.image("serve"), f"--enclave-name={name}")
                self.assertEqual(enclave["EnclaveName"], name)
                self.assertEqual(self.tool("terminate-enclave", f"--enclave-name={name}").status, 0)


class Secrets(EnclaveTest):
    def test_nobody_of_the_same_user_reads_the_memory_of_a_command_that_has_passwords(self):
        with socket.socket() as registry:
            registry.bind(("127.0.0.1", 0))
            registry.listen()
            # It accepts connections and never answers.
            process = self.tool.start("build-enclave", "--docker-uri", f"docker://127.0.0.1:{registry.getsockname()[1]}/app:1",
                                      "--output-file", f"{self.tool.folder}/x.eif")
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            registry.settimeout(20)
            connection, _ = registry.accept()
            self.addCleanup(connection.close)
        probe = ("import sys\n"
                 "for name in ('mem', 'environ', 'maps'):\n"
                 "    try:\n"
                 "        open(f'/proc/{sys.argv[1]}/{name}', 'rb').close()\n"
                 "        print(name)\n"
                 "    except PermissionError:\n"
                 "        pass\n")
        # Another process of the user who runs the command; root may read everything.
        command = self.tool.command()[:-1] + [sys.executable if not self.tool.user else "/usr/bin/python3", "-c", probe]
        readable = subprocess.run([*command, str(process.pid)], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
        self.assertEqual(readable, [] if self.tool.user else ["mem", "environ", "maps"])
        self.assertEqual(os.stat(f"/proc/{process.pid}/environ").st_uid, 0)


if __name__ == "__main__":
    main()
