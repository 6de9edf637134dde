#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots the init of enclaves under emulation and reads what it says on the console.

  NITRO_CLI_BLOBS=DIR tests/integration/init/test_init.py [-v] [NAME...]

Needs qemu-system-x86_64 (or NITRO_CLI_QEMU), musl-gcc, and the kernel, nsm.ko and cmdline that blobs/build-blobs makes; exits
with 77 and the reason when one of them is missing.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
from boot import Boot  # noqa: E402
from enclave import absent_programs, skip  # noqa: E402

BLOBS = os.environ.get("NITRO_CLI_BLOBS") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nitro-cli/blobs/current")
QEMU = os.environ.get("NITRO_CLI_QEMU") or "qemu-system-x86_64"
INIT_SOURCE = os.path.join(HERE, "../../../init/init.c")
PATH_LINE = b"PATH=/usr/local/bin:/usr/bin:/bin\n"
FOLDER = None


def missing():
    if why := absent_programs(QEMU, "musl-gcc"):
        return why
    for name in ("bzImage", "cmdline", "nsm.ko"):
        if not os.path.exists(f"{BLOBS}/{name}"):
            return f"{BLOBS}/{name} does not exist; blobs/build-blobs makes it, NITRO_CLI_BLOBS says where it is"
    return None


def setUpModule():
    global FOLDER
    FOLDER = tempfile.mkdtemp(prefix="nitro-init-build-")
    with open(f"{os.path.dirname(INIT_SOURCE)}/cflags", encoding="ascii") as file:
        flags = file.read().split()
    for name, source in (("init", INIT_SOURCE), ("probe", f"{HERE}/probe.c")):
        subprocess.run(["musl-gcc", *flags, "-o", f"{FOLDER}/{name}", source], check=True)


def tearDownModule():
    shutil.rmtree(FOLDER)


def probe():
    with open(f"{FOLDER}/probe", "rb") as file:
        return file.read()


class InitTest(unittest.TestCase):
    def boot(self, cmd=b"/bin/probe\n", env=PATH_LINE, files=None, without=(), init=None, **arguments):
        """Boots with the files of a small image. `cmd`, `env`: None to omit the file. `files`: further files of the image."""
        entries = {"rootfs": None}
        entries.update({f"rootfs/{name}": None for name in ("dev", "run", "sys", "var", "proc", "tmp", "bin")})
        entries["rootfs/bin/probe"] = probe()
        entries.update(files or {})
        for name, content in (("cmd", cmd), ("env", env)):
            if content is not None:
                entries[name] = content
        for name in without:
            del entries[name]
        machine = Boot(BLOBS, init or f"{FOLDER}/init", entries, **arguments)
        if machine.peer and machine.peer.error:
            raise machine.peer.error
        self.assertFalse(machine.timed_out, f"the machine did not end; its console:\n{machine.log}")
        for word in ("Kernel panic", "Oops", "BUG:", "segfault", "Attempted to kill init"):
            self.assertNotIn(word, machine.log)
        self.assertIn("reboot: Restarting system", machine.log)
        self.assertEqual(machine.log.count("Linux version"), 1, "the machine booted more than once")
        return machine

    def say(self, machine, line):
        self.assertIn(f"init: {line}\n", machine.console)

    def lines(self, machine, start):
        return [line for line in machine.console.split("\n") if line.startswith(start)]


class TheCommand(InitTest):
    def test_gets_its_arguments_and_environment_exactly(self):
        arguments = ["/bin/probe", "words", "", "two words", "--flag=a=b", "'quoted\" $HOME \\n", "Grüße 漢字", " x "]
        variables = ["PATH=/usr/local/bin:/usr/bin:/bin", "EMPTY=", "A=b=c d", "NAME=Grüße", "no equals sign"]
        machine = self.boot("\n".join(arguments).encode() + b"\n", "\n".join(variables).encode() + b"\n")
        self.assertEqual(self.lines(machine, "argument"), [f"argument {i} [{a}]" for i, a in enumerate(arguments)])
        self.assertEqual(self.lines(machine, "variable"), [f"variable [{v}]" for v in variables])

    def test_may_lack_the_newline_of_the_last_line(self):
        machine = self.boot(b"/bin/probe\nwords\nlast", b"A=1\nB=2")
        self.assertEqual(self.lines(machine, "argument")[-1], "argument 2 [last]")
        self.assertEqual(self.lines(machine, "variable"), ["variable [A=1]", "variable [B=2]"])

    def test_is_a_shell_with_the_default_path_when_both_files_are_empty(self):
        machine = self.boot(b"", b"", files={"rootfs/bin/sh": probe()})
        self.assertEqual(self.lines(machine, "argument"), ["argument 0 [sh]"])
        self.assertEqual(self.lines(machine, "variable"), ["variable [PATH=/sbin:/usr/sbin:/bin:/usr/bin]"])

    def test_is_found_on_the_images_path_after_the_default_one(self):
        files = {"rootfs/opt": None, "rootfs/opt/tool": probe()}
        machine = self.boot(b"tool\nwords\n", b"PATH=/nowhere:/opt\n", files)
        self.assertEqual(self.lines(machine, "argument")[0], "argument 0 [tool]")
        self.assertEqual(self.lines(machine, "variable"), ["variable [PATH=/nowhere:/opt]"])
        machine = self.boot(b"probe\nwords\n", b"PATH=/opt\n", {"rootfs/opt": None, "rootfs/opt/probe": b"not run"})
        self.assertEqual(self.lines(machine, "argument")[0], "argument 0 [probe]")

    def test_leads_a_session_without_blocked_signals_or_a_terminal_of_its_own(self):
        machine = self.boot(b"/bin/probe\nprocess\n")
        self.assertIn("session leader 1, parent 1, blocked signals 0, folder /, controlling terminal none", machine.console)
        self.assertEqual(self.lines(machine, "descriptor"), [f"descriptor {i} is /dev/console" for i in range(3)])

    def test_finds_the_file_systems_of_a_container(self):
        machine = self.boot(b"/bin/probe\nfiles\n")
        mounts = {line.split()[2]: line.split()[3:5] for line in self.lines(machine, "mount ")}
        restricted = {"nosuid", "nodev", "noexec"}
        for target, kind, flags in (
                ("/dev", "devtmpfs", {"nosuid", "noexec"}), ("/proc", "proc", restricted), ("/run", "tmpfs", restricted),
                ("/tmp", "tmpfs", restricted), ("/dev/shm", "tmpfs", restricted), ("/dev/pts", "devpts", {"nosuid", "noexec"}),
                ("/sys", "sysfs", restricted), ("/sys/fs/cgroup", "tmpfs", restricted),
                ("/sys/fs/cgroup/memory", "cgroup", restricted), ("/sys/fs/cgroup/cpuset", "cgroup", restricted),
                ("/sys/fs/cgroup/pids", "cgroup", restricted)):
            with self.subTest(target):
                self.assertIn(target, mounts)
                self.assertEqual(mounts[target][0], kind)
                self.assertLessEqual(flags, set(mounts[target][1].split(",")))
        self.assertEqual(self.lines(machine, "link"), [
            "link /dev/fd -> /proc/self/fd", "link /dev/stdin -> /proc/self/fd/0", "link /dev/stdout -> /proc/self/fd/1",
            "link /dev/stderr -> /proc/self/fd/2"])
        for path in ("/dev/null", "/dev/ptmx", "/dev/vsock"):
            self.assertIn(f"present {path}\n", machine.console)
        for path in ("/cmd", "/env", "/init", "/nsm.ko"):
            self.assertIn(f"absent {path}\n", machine.console)
        self.assertIn("pseudo terminal /dev/pts/0\n", machine.console)

    def test_finds_them_in_an_image_without_any_folder(self):
        folders = [f"rootfs/{name}" for name in ("dev", "run", "sys", "var", "proc", "tmp")]
        machine = self.boot(b"/bin/probe\nfiles\n", without=folders)
        self.assertEqual(len([line for line in self.lines(machine, "mount ") if line.split()[2] in ("/proc", "/tmp")]), 2)

    def test_leaves_no_orphans_behind(self):
        self.assertIn("orphans left 0\n", self.boot(b"/bin/probe\norphans\n").console)

    def test_gets_the_signals_sent_to_process_1(self):
        machine = self.boot(b"/bin/probe\ntell-init\n")
        self.assertIn("got signal 15\n", machine.console)
        self.say(machine, "'/bin/probe' exited with status 9; the enclave ends")

    def test_runs_in_64_mib(self):
        machine = self.boot(b"/bin/probe\nstatus\n0\n", memory_mib=64)
        self.say(machine, "'/bin/probe' exited with status 0; the enclave ends")


class TheEnd(InitTest):
    def test_names_the_exit_status(self):
        for status in (0, 3, 255):
            machine = self.boot(f"/bin/probe\nstatus\n{status}\n".encode())
            self.say(machine, f"'/bin/probe' exited with status {status}; the enclave ends")

    def test_names_the_signal(self):
        machine = self.boot(b"/bin/probe\nsignal\n9\n")
        self.say(machine, "'/bin/probe' was ended by signal 9 (Killed); the enclave ends")

    def test_comes_after_all_the_output_of_the_command(self):
        machine = self.boot(b"/bin/probe\nflood\n")
        self.assertEqual(len(self.lines(machine, "line ")), 60)
        self.say(machine, "'/bin/probe' exited with status 0; the enclave ends")

    def test_is_127_for_a_command_that_does_not_exist(self):
        for command in ("/bin/nosuch", "nosuch"):
            machine = self.boot(command.encode() + b"\n")
            self.say(machine, f"cannot run '{command}': No such file or directory; "
                     "see the command (CMD, ENTRYPOINT) of the container image")
            self.say(machine, f"'{command}' exited with status 127; the enclave ends")

    def test_is_126_for_a_command_that_cannot_be_run(self):
        machine = self.boot(b"/bin\n")
        self.say(machine, "cannot run '/bin': Permission denied; see the command (CMD, ENTRYPOINT) of the container image")
        self.say(machine, "'/bin' exited with status 126; the enclave ends")
        machine = self.boot(b"/bin/foreign\n", files={"rootfs/bin/foreign": b"\x7fELF but no program"})
        self.say(machine, "cannot run '/bin/foreign': Exec format error; "
                 "see the command (CMD, ENTRYPOINT) of the container image")

    def test_resets_the_machine_with_and_without_a_keyboard_controller(self):
        for extra in ((), ("-device", "i8042")):
            # boot() requires that the machine was reset, and did not start the enclave again.
            machine = self.boot(b"/bin/probe\nstatus\n0\n", extra=extra)
            self.say(machine, "'/bin/probe' exited with status 0; the enclave ends")

    def test_shows_control_characters_of_the_image_as_question_marks(self):
        machine = self.boot(b"/bin/a\x1b[2J\x07b\n")
        self.say(machine, "'/bin/a?[2J?b' exited with status 127; the enclave ends")


class AnImageThatIsWrong(InitTest):
    remedy = "; build the enclave image again; the enclave ends"

    def test_has_no_env(self):
        machine = self.boot(env=None)
        self.say(machine, "opening /env failed: No such file or directory" + self.remedy)
        self.assertEqual(machine.peer.received, b"\xb7", "the heartbeat comes before /env is read")

    def test_has_no_cmd(self):
        self.say(self.boot(cmd=None), "opening /cmd failed: No such file or directory" + self.remedy)

    def test_has_a_folder_for_a_file(self):
        machine = self.boot(env=None, files={"env": None})
        self.say(machine, "reading /env failed: Is a directory" + self.remedy)

    def test_has_a_zero_byte_in_a_line(self):
        self.say(self.boot(cmd=b"/bin/probe\nwo\0rds\n"), "line 2 of /cmd contains a zero byte" + self.remedy)
        self.say(self.boot(env=b"A\0=1\n"), "line 1 of /env contains a zero byte" + self.remedy)

    def test_has_no_root(self):
        machine = Boot(BLOBS, f"{FOLDER}/init", {"cmd": b"/bin/probe\n", "env": PATH_LINE})
        self.say(machine, "making /rootfs the root failed (bind): No such file or directory" + self.remedy)
        self.assertNotIn("Kernel panic", machine.log)

    def test_has_a_file_where_a_file_system_goes(self):
        machine = self.boot(files={"rootfs/proc": b"a file"})
        self.say(machine, "mounting proc on /proc failed: Not a directory; "
                 "use the kernel that belongs to this init; the enclave ends")

    def test_has_the_nsm_driver_of_another_kernel(self):
        machine = self.boot(files={"nsm.ko": b"\x7fELF but no module"})
        self.say(machine, "loading /nsm.ko failed: Exec format error; "
                 "use the nsm.ko that was built with this kernel; the enclave ends")


class TheHeartbeat(InitTest):
    remedy = ("; see whether the program that started the enclave still listens on its vsock port 9000; the enclave ends")

    def test_is_one_byte_to_port_9000_of_cid_3(self):
        machine = self.boot()
        self.assertEqual(machine.peer.connections, [(3, 9000)])
        self.assertEqual(machine.peer.received, b"\xb7")

    def test_needs_a_vsock_device(self):
        machine = self.boot(vsock=False)
        self.say(machine, "heartbeat: the machine has no vsock device; give the enclave a vsock device; the enclave ends")

    def test_needs_a_parent_that_listens(self):
        machine = self.boot(refuse=True)
        self.say(machine, "heartbeat: connecting to the parent (vsock CID 3, port 9000) failed: "
                 "Connection reset by peer" + self.remedy)

    def test_needs_the_same_byte_back(self):
        machine = self.boot(answer=b"\x42")
        self.say(machine, "heartbeat: the parent answered 0x42 instead of 0xB7" + self.remedy)

    def test_needs_an_answer(self):
        machine = self.boot(answer=b"")
        self.say(machine, "heartbeat: the parent closed the connection without an answer" + self.remedy)

    def test_waits_20_seconds_for_the_answer(self):
        machine = self.boot(answer=None)
        self.say(machine, "heartbeat: no answer from the parent: Resource temporarily unavailable" + self.remedy)
        self.assertGreaterEqual(machine.end_seconds - machine.seconds, 19.5)


class TheSecurityModule(InitTest):
    def test_is_said_to_be_missing_where_it_is(self):
        machine = self.boot(b"/bin/probe\nfiles\n")
        self.say(machine, "no Nitro Security Module on this machine: /dev/nsm is missing, attestation will not work")
        self.assertIn("absent /dev/nsm\n", machine.console)


class OutsideAnEnclave(unittest.TestCase):
    def test_init_refuses_to_do_anything(self):
        result = subprocess.run([f"{FOLDER}/init"], capture_output=True, text=True, check=False)
        self.assertEqual((result.returncode, result.stderr),
                         (1, "init: this is the first process of an enclave; it does nothing elsewhere\n"))


if __name__ == "__main__":
    reason = missing()
    if reason:
        skip(reason)
    unittest.main(verbosity=2)
