# SPDX-License-Identifier: Apache-2.0
"""Permissions on a machine with the group `ne`: folders, sockets and the log have the owners and modes that the reference's configuration
script and its processes give them. Needs root: the script runs itself again in a new mount namespace, where the machine's folders are empty
and the group exists, so nothing of the machine is touched."""
import glob
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

from standin import Machine, is_gone, main, wait_until  # first: it makes enclave.py known
from enclave import absent_programs, skip

SOCKETS, LOGS = "/run/nitro_enclaves", "/var/log/nitro_enclaves"
GROUP = 4242  # the ID of `ne` in the namespace
RUN = "run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1"
INSIDE = "NITRO_GROUP_TEST_INSIDE"

# Users are numbers, so no account is needed.
MEMBER, OTHER_MEMBER, STRANGER = 60001, 60002, 60003


def as_user(user, *groups):
    return ("setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups")


ROOT = ()
USERS = {"root": ROOT, "member": as_user(MEMBER, GROUP), "other member": as_user(OTHER_MEMBER, GROUP), "stranger": as_user(STRANGER)}


def owner_and_mode(path):
    status = os.stat(path)
    return status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode))


class Group(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        # Elsewhere these would be the machine's own folders.
        self.assertIn(INSIDE, os.environ)
        for folder in (SOCKETS, LOGS):
            shutil.rmtree(folder, ignore_errors=True)
        machine = Machine()
        self.addCleanup(machine.close)
        self.machine = machine
        machine.every_start_beats = False
        # The project may be in a folder that only its owner may enter.
        os.chmod(machine.folder, 0o755)
        for name in (machine.cli, machine.environment["LD_PRELOAD"]):
            shutil.copy(name, machine.folder)
        machine.cli = f"{machine.folder}/{os.path.basename(machine.cli)}"
        machine.environment["LD_PRELOAD"] = f"{machine.folder}/{os.path.basename(machine.environment['LD_PRELOAD'])}"
        for name in ("NITRO_DEVICE_TRACE", "NITRO_DEVICE_IMAGE"):
            path = pathlib.Path(machine.environment[name])
            path.touch()
            path.chmod(0o666)
        for name in ("NITRO_CLI_SOCKETS_PATH", "NITRO_CLI_LOGS_PATH", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            machine.environment.pop(name, None)
        machine.environment["HOME"] = f"{machine.folder}/home"
        self.addCleanup(self.end_all)

    def end_all(self):
        self.machine.run("terminate-enclave --all")
        for enclave in self.machine.started:
            self.assertTrue(wait_until(lambda process=enclave["ProcessID"]: is_gone(process)))

    def run_as(self, who, command):
        return self.machine.run(command, USERS[who])

    def start_as(self, who):
        done = self.run_as(who, RUN)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.machine.started[-1]

    def socket_of(self, enclave):
        """The socket of an enclave's process: the slot's number is the part of the ID after -enc."""
        number = enclave["EnclaveID"].rpartition("-enc")[2]
        return f"{SOCKETS}/{number}.sock"

    def names(self, who):
        done = self.run_as(who, "describe-enclaves")
        self.assertEqual(done.returncode, 0, done.stderr)
        return sorted(re.findall(r'"EnclaveID": "(.*)"', done.stdout))

    def test_the_first_command_of_root_makes_the_folders_for_the_group(self):
        for umask in ("022", "077"):
            with self.subTest(umask=umask):
                for folder in (SOCKETS, LOGS):
                    shutil.rmtree(folder, ignore_errors=True)
                done = self.machine.run(RUN, ("sh", "-c", f'umask {umask}; exec "$@"', "sh"))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(owner_and_mode(SOCKETS), (0, GROUP, "0o1775"))
                self.assertEqual(owner_and_mode(LOGS), (0, GROUP, "0o775"))
                self.assertEqual(owner_and_mode(self.socket_of(self.machine.started[-1])), (0, 0, "0o766"))
                self.assertEqual(owner_and_mode(f"{LOGS}/nitro_enclaves.log"), (0, GROUP, "0o664"))
                self.assertFalse(os.path.exists(f"{SOCKETS}/.lock"))
                self.end_all()

    def test_folders_that_are_there_stay_as_they_are(self):
        for folder in (SOCKETS, LOGS):
            os.mkdir(folder)
            os.chown(folder, 0, 4)
            os.chmod(folder, 0o750)
        self.start_as("root")
        self.assertEqual((owner_and_mode(SOCKETS), owner_and_mode(LOGS)), ((0, 4, "0o750"), (0, 4, "0o750")))

    def test_members_run_enclaves_and_end_their_own(self):
        of_root = self.start_as("root")
        of_member = self.start_as("member")
        self.assertEqual(owner_and_mode(self.socket_of(of_member)), (MEMBER, MEMBER, "0o766"))
        both = sorted(enclave["EnclaveID"] for enclave in (of_root, of_member))
        for who in USERS:
            self.assertEqual(self.names(who), both, who)
        for who, enclave in (("member", of_root), ("other member", of_root), ("stranger", of_root), ("other member", of_member),
                             ("stranger", of_member)):
            with self.subTest(who=who, enclave=enclave["EnclaveName"]):
                done = self.run_as(who, f"terminate-enclave --enclave-id {enclave['EnclaveID']}")
                self.assertEqual((done.returncode, done.stdout), (39, ""), done.stderr)
                self.assertIn("Only root and the user who started the enclave", done.stderr)
        self.assertEqual(self.names("root"), both)
        done = self.run_as("member", "terminate-enclave --all")
        self.assertEqual((done.returncode, re.findall(r'"EnclaveID": "(.*)"', done.stdout)), (0, [of_member["EnclaveID"]]), done.stderr)
        self.assertEqual(self.names("stranger"), [of_root["EnclaveID"]])
        another = self.start_as("other member")
        done = self.run_as("root", "terminate-enclave --all")
        self.assertEqual(sorted(re.findall(r'"EnclaveID": "(.*)"', done.stdout)), sorted([of_root["EnclaveID"], another["EnclaveID"]]))
        # A lock file of one user, last used by another, is removed by a command of its owner or of root.
        self.assertEqual(self.names("root"), [])
        self.assertEqual(os.listdir(SOCKETS), [])

    def test_root_and_members_write_the_same_log_and_a_stranger_another(self):
        home = f"{self.machine.folder}/state"
        os.mkdir(home)
        os.chown(home, STRANGER, STRANGER)
        self.machine.environment["XDG_STATE_HOME"] = home
        for who in USERS:
            self.assertEqual(self.run_as(who, "describe-eif --eif-path DIR/garbage.eif").returncode, 35)
        for folder, count in ((LOGS, 3), (f"{home}/nitro_enclaves", 1)):
            log = pathlib.Path(f"{folder}/nitro_enclaves.log").read_text(encoding="utf-8")
            self.assertEqual(len(re.findall(r"\[ERROR\].*\[ E35 \]", log)), count, log)

    def test_a_stranger_has_a_folder_of_sockets_apart(self):
        self.start_as("root")
        home = f"{self.machine.folder}/runtime"
        os.mkdir(home)
        os.chown(home, STRANGER, STRANGER)
        self.machine.environment["XDG_RUNTIME_DIR"] = home
        done = self.run_as("stranger", RUN)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(owner_and_mode(f"{home}/nitro_enclaves"), (STRANGER, STRANGER, "0o700"))
        self.assertEqual(len(glob.glob(f"{SOCKETS}/*.sock")), 1)
        self.assertEqual(len(glob.glob(f"{home}/nitro_enclaves/*.sock")), 1)
        self.assertEqual(self.run_as("stranger", "terminate-enclave --all").returncode, 0)

    def remove_as(self, who, path):
        return subprocess.run([*USERS[who], "rm", "-f", path], stderr=subprocess.DEVNULL, check=False).returncode

    def test_a_member_cannot_take_away_the_socket_of_root_and_so_end_its_enclave(self):
        os.mkdir(SOCKETS)
        os.chown(SOCKETS, 0, GROUP)
        os.chmod(SOCKETS, 0o775)  # as the packages of the AWS tools create it
        of_member = self.start_as("member")
        self.assertEqual(owner_and_mode(SOCKETS), (0, GROUP, "0o775"))
        of_root = self.start_as("root")
        self.assertEqual(owner_and_mode(SOCKETS), (0, GROUP, "0o1775"))
        for who, enclave in (("member", of_root), ("other member", of_member), ("stranger", of_root)):
            with self.subTest(who):
                self.assertNotEqual(self.remove_as(who, self.socket_of(enclave)), 0)
        self.assertEqual(len(self.names("root")), 2)
        self.assertEqual(self.remove_as("member", self.socket_of(of_member)), 0)
        self.assertTrue(wait_until(lambda: is_gone(of_member["ProcessID"])))

    def test_what_a_killed_process_of_another_leaves_is_passed_over_and_the_owner_removes_it(self):
        self.start_as("root")
        of_member = self.start_as("member")
        os.kill(of_member["ProcessID"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: is_gone(of_member["ProcessID"])))
        for who in ("other member", "stranger"):
            done = self.run_as(who, "describe-enclaves")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(done.stdout.count("EnclaveID"), 1)
            self.assertTrue(os.path.exists(self.socket_of(of_member)))
        self.assertEqual(len(self.names("member")), 1)
        self.assertFalse(os.path.exists(self.socket_of(of_member)))

    def test_the_folder_of_another_user_is_passed_over_and_named(self):
        of_stranger = f"{self.machine.folder}/runtime"
        os.mkdir(of_stranger)
        os.chown(of_stranger, STRANGER, STRANGER)
        self.machine.environment["XDG_RUNTIME_DIR"] = of_stranger
        self.assertEqual(self.run_as("stranger", RUN).returncode, 0)
        done = self.run_as("root", "describe-enclaves")
        self.assertEqual((done.returncode, done.stdout), (0, "[]\n"))
        self.assertEqual(done.stderr.count(f"Skipped: the sockets folder \"{of_stranger}/nitro_enclaves\" is not trusted"), 1, done.stderr)
        self.assertEqual(self.start_as("root")["EnclaveName"], "image")
        self.assertEqual(self.run_as("stranger", "terminate-enclave --all").returncode, 0)


def enter():
    """Runs this script again in a new namespace."""
    if os.geteuid() != 0:
        skip("this test gives files to other users: run it as root")
    if why := absent_programs("unshare", "setpriv", "mount"):
        skip(why)
    with tempfile.TemporaryDirectory(prefix="nitro-group-") as folder:
        groups = pathlib.Path("/etc/group").read_text(encoding="utf-8")
        pathlib.Path(f"{folder}/group").write_text(re.sub(r"^ne:.*\n", "", groups, flags=re.MULTILINE) + f"ne:x:{GROUP}:\n", encoding="utf-8")
        namespace = ("unshare", "--mount", "--propagation=private")
        prepare = f'mount -t tmpfs none /run && mount -t tmpfs none /var/log && mount --bind "{folder}/group" /etc/group'
        tried = subprocess.run([*namespace, "sh", "-c", prepare], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if tried.returncode != 0:
            skip(f"no mount namespace can be made here: {tried.stderr.strip()}")
        sys.exit(subprocess.run([*namespace, "sh", "-c", f'{prepare} && exec "$@"', "sh", sys.executable, __file__, *sys.argv[1:]],
                                env={**os.environ, INSIDE: "1"}, check=False).returncode)


if __name__ == "__main__":
    if INSIDE not in os.environ:
        enter()
    main()
