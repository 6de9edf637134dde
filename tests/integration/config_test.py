# SPDX-License-Identifier: Apache-2.0
"""nitro-cli-config (NITRO_CONFIG) on a made-up machine, and in a mount namespace of this one. Programs that would change this machine's
kernel or users are stand-ins, which note how they are called."""
import grp
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess

from allocator_test import REAL, SMALL, AllocatorTest
from enclave import main, wait_until

CONFIG = os.environ["NITRO_CONFIG"]
MODULE = "drivers/virt/nitro_enclaves/nitro_enclaves.ko"
USER = "daemon"


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


class ConfigTest(AllocatorTest):
    def setUp(self):
        super().setUp()
        self.tools = self.root / "tools"
        self.tools.mkdir()
        self.calls = self.root / "calls"
        self.environment = {"PATH": f"{self.tools}:/usr/bin:/bin", "NITRO_CLI_SOCKETS_PATH": str(self.root / "sockets"), "ROOT": str(self.root)}
        (self.root / "sockets").mkdir()

    def tool(self, name, script=""):
        """A stand-in for a program."""
        path = self.tools / name
        path.write_text(f'#!/bin/sh\necho "$0 $*" | sed "s:^.*/tools/::" >>"$ROOT/calls"\n{script}\n', "ascii")
        path.chmod(0o755)

    def called(self):
        lines = self.calls.read_text("ascii").splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line.replace(str(self.root), "ROOT") for line in lines]

    def config(self, *arguments, program=CONFIG, **options):
        environment = {**self.environment, **options.pop("environment", {})}
        return subprocess.run([program, "--root", str(self.root), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, check=False, env=environment, **options)

    def fails(self, message, *arguments, **options):
        done = self.config(*arguments, **options)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stderr.count("Error:"), 1, done.stderr)


class Resources(ConfigTest):
    def setUp(self):
        super().setUp()
        self.real_pages()
        self.count = REAL / SMALL / "nr_hugepages"
        self.count.write_text("3", "ascii")

    def state(self):
        return self.pool.read_text("ascii"), self.count.read_text("ascii")

    def release(self):
        self.succeeded(self.run_allocator("--release"))
        self.assertEqual(self.state(), ("\n", "3\n"))

    def test_are_set_aside_silently_and_the_allocator_gives_them_back(self):
        self.assertEqual(self.succeeded(self.config("-t", "2", "-m", "63")), "")
        self.assertEqual(self.state(), ("1,5\n", "32\n"))
        said = self.succeeded(self.config("-v", "-t", "2", "-m", "63"))
        self.assertEqual(said, "Already reserved for enclaves on NUMA node 0: CPUs 1,5; 32 huge pages of 2M, 64 MiB\n")
        status = json.loads(self.succeeded(self.run_allocator("--status", "--json", config="memory_mib: 63\ncpu_count: 2\n")))
        self.assertEqual(status["Nodes"][0]["CPUIDs"], [1, 5])
        self.release()

    def test_are_given_back_after_the_driver_has_gone(self):
        self.succeeded(self.config("-t", "2", "-m", "64"))
        shutil.rmtree(self.root / "sys/module")
        self.succeeded(self.run_allocator("--release"))
        self.assertEqual(self.count.read_text("ascii"), "3\n")

    def test_may_be_changed_one_at_a_time(self):
        self.succeeded(self.config("-p", "2,6"))
        self.assertEqual(self.state(), ("2,6\n", "3\n"))
        self.succeeded(self.config("-m", "32"))
        self.assertEqual(self.state(), ("2,6\n", "16\n"))
        self.succeeded(self.config("-t", "4"))
        self.assertEqual(self.state(), ("1-2,5-6\n", "16\n"))
        self.succeeded(self.config("-m", "64"))
        self.assertEqual(self.state(), ("1-2,5-6\n", "32\n"))
        self.release()

    def test_are_as_before_when_there_is_not_enough(self):
        (self.node / "meminfo").symlink_to(REAL / "meminfo")
        self.fails("MiB are asked for\n", "-t", "2", "-m", "60000000")
        self.assertEqual(self.state(), ("\n", "3\n"))
        self.assertFalse(list(self.root.glob("run/*/*.json")))
        self.succeeded(self.config("-p", "2,6", "-m", "32"))
        self.fails("MiB are asked for\n", "-m", "60000000")
        self.fails("MiB are asked for\n", "-p", "1,5", "-m", "60000000")
        self.assertEqual(self.state(), ("2,6\n", "16\n"))
        self.release()


class Requests(ConfigTest):
    def setUp(self):
        super().setUp()
        self.made_up_pages()

    def test_that_cannot_be_met_are_refused_with_the_reason(self):
        for arguments, message in (
                (("-m",), "-m"),
                (("-z",), "-z"),
                (("-p", "1,5", "-t", "2"), "excludes"),
                (("-m", "64"), "Error: no CPUs are set aside for enclaves, so -m alone does not say"),
                (("-t", "3"), "Error: -t is 3, but enclaves own whole cores, which have 2 threads: use 4\n"),
                (("-t", "8"), "and 8 are asked for\n"),
                (("-p", "1"), "Error: -p names CPU 1 without CPU 5 of the same core"),
                (("-p", "4"), "Error: -p names CPU 4, which shares its core with CPU 0"),
                (("-p", "1,5,9"), "Error: -p names CPU 9, which is not one of this machine\n")):
            done = self.config(*arguments)
            self.assertEqual((done.returncode, done.stdout), (1, ""), arguments)
            self.assertIn(message, done.stderr)
        done = subprocess.run([CONFIG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("Nothing to do", done.stderr)
        self.assertEqual(self.pool.read_text("ascii"), "\n")
        self.assertFalse(list(self.root.glob("run/*/*.json")))
        for program in (CONFIG, os.environ["NITRO_ALLOCATOR"]):
            done = subprocess.run([program, "--root", str(self.root / "typo"), *(["-t", "2"] if program == CONFIG else ["--release"])],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("typo\", given with --root, is not a folder\n", done.stderr)
            self.assertFalse((self.root / "typo").exists())
        shutil.rmtree(self.root / "sys/module")
        for arguments in (("-m", "64"), ("-t", "2"), ("-p", "1,5")):
            self.fails("Error: the driver nitro_enclaves is not loaded", *arguments)

    def test_wait_for_another_one_and_can_be_ended_meanwhile(self):
        self.file("run/nitro-enclaves-allocator/allocator.lock", "")
        for program, arguments in ((CONFIG, ("-t", "2")), (os.environ["NITRO_ALLOCATOR"], ("--release",))):
            with subprocess.Popen(["flock", str(self.root / "run/nitro-enclaves-allocator/allocator.lock"), "sh", "-c",
                                   "echo locked; read -r line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
                other.stdout.readline()
                self.addCleanup(other.kill)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    with subprocess.Popen([program, "--root", str(self.root), *arguments], env=self.environment) as waiting:
                        locks = pathlib.Path("/proc/locks")
                        try:
                            self.assertTrue(wait_until(lambda: any("->" in line and f" {waiting.pid} " in line
                                                                   for line in locks.read_text("ascii").splitlines())))
                            waiting.send_signal(number)
                            self.assertEqual(waiting.wait(timeout=20), -number)
                        finally:
                            waiting.kill()
                other.communicate(b"\n")
        self.assertEqual(self.pool.read_text("ascii"), "\n")

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CONFIG, "--root", str(self.root), "-v", "-t", "2"], stdout=full, stderr=subprocess.PIPE, text=True,
                                  check=False, env=self.environment)
        self.assertEqual((done.returncode, done.stderr), (1, "Error: the output cannot be written\n"))

    def test_of_an_ordinary_user_use_sudo(self):
        if os.getuid() != 0:
            self.skipTest("only root may become another user")
        self.tool("sudo", "exit 7")
        program = self.root / "nitro-cli-config"
        shutil.copy(CONFIG, program)
        for path in (self.root, *self.root.iterdir()):
            path.chmod(0o777)
        self.file("calls", "").chmod(0o666)

        def run(*arguments):
            return subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                                  env=self.environment, user=65534, group=65534, extra_groups=[])

        self.assertEqual(run("-v", "-i", "-m", "64", "-p", "3,1-2").returncode, 7)
        self.assertEqual(self.calls.read_text("ascii").replace(str(self.root), "ROOT"),
                         "sudo -- ROOT/nitro-cli-config --no-sudo -v -i -m 64 -p 1-3\n")
        self.assertEqual(run("-d", "a b", "-r", "-t", "2").returncode, 7)
        self.assertIn("--no-sudo -d a b -r -t 2\n", self.calls.read_text("ascii"))
        done = run("-i", "--no-sudo")
        self.assertEqual((done.returncode, done.stderr), (1, "Error: changing the driver, CPUs or huge pages needs root\n"))
        (self.tools / "sudo").unlink()
        if shutil.which("sudo") is None:
            self.assertIn("needs root, and sudo cannot be started", run("-t", "2").stderr)


class DriverTest(ConfigTest):
    def setUp(self):
        super().setUp()
        self.driver = self.root / "sys/module/nitro_enclaves"
        self.load = 'mkdir -p "$ROOT/sys/module/nitro_enclaves/parameters"; echo >"$ROOT/sys/module/nitro_enclaves/parameters/ne_cpus"'
        self.tool("modprobe", self.load)
        self.tool("insmod", self.load)
        self.tool("rmmod", 'rm -r "$ROOT/sys/module/nitro_enclaves"')
        self.tool("modinfo", 'echo "$(uname -r) SMP preempt mod_unload"')

    def sources(self, name="driver"):
        (self.root / name / MODULE).parent.mkdir(parents=True)
        return self.root / name


class Removal(DriverTest):
    def test_unloads_the_driver(self):
        self.assertEqual(self.succeeded(self.config("-r")), "")
        self.assertEqual(self.called(), ["rmmod nitro_enclaves"])
        self.fails("Error: the driver nitro_enclaves is not loaded\n", "-r")
        self.assertEqual(self.called(), [])

    def test_is_refused_while_the_driver_is_in_use(self):
        self.file("sys/module/nitro_enclaves/refcnt", "2\n")
        self.fails("Error: the driver nitro_enclaves is in use", "-r")
        self.assertEqual(self.called(), [])

    def test_that_fails_says_what_rmmod_said(self):
        self.tool("rmmod", 'echo one; echo "rmmod: ERROR: \033[1mnot today" >&2; exit 1')
        self.fails("Error: rmmod nitro_enclaves exited with status 1: rmmod: ERROR: ?[1mnot today\n", "-r")
        self.tool("rmmod", "exit 0")
        self.fails("rmmod succeeded, but the driver nitro_enclaves is still there", "-r")


class Building(DriverTest):
    def setUp(self):
        super().setUp()
        (self.root / "bin").mkdir()
        self.program = self.root / "bin/nitro-cli-config"
        shutil.copy(CONFIG, self.program)
        self.folder = self.sources("my driver")

    def builder(self, script):
        path = self.file("libexec/nitro-cli/build-driver", f'#!/bin/sh\nfor word; do echo "$word" >>"$ROOT/calls"; done\n{script}\n')
        path.chmod(0o755)

    def test_hands_the_folder_on(self):
        self.builder('echo compiling; echo ko >"$4/nitro_enclaves.ko"')
        done = self.config("-d", str(self.folder), "-b", program=self.program)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(self.called(), ["--source", "ROOT/my driver", "--output", "ROOT/my driver/drivers/virt/nitro_enclaves"])
        self.assertTrue((self.folder / MODULE).exists())
        done = self.config("-v", "-b", program=self.program, cwd=self.folder)
        self.assertEqual(done.stderr, "compiling\n")
        self.assertEqual(self.called(), ["--source", ".", "--output", "./drivers/virt/nitro_enclaves"])
        self.succeeded(self.config("-c", "-d", str(self.folder)))
        self.assertFalse((self.folder / MODULE).exists())
        self.succeeded(self.config("-c", "-d", str(self.folder)))

    def test_that_fails_shows_the_end_of_the_output(self):
        self.builder("seq 1 30; echo 'no headers' >&2; exit 4")
        done = self.config("-d", str(self.folder), "-b", "-i", program=self.program)
        self.assertEqual(done.returncode, 1)
        self.assertIn("exited with status 4; it printed:\n12\n", done.stderr)
        self.assertIn("\nno headers\n", done.stderr)
        self.assertFalse([line for line in self.called() if "insmod" in line or "modprobe" in line])
        self.builder("echo 'the kernel has it' >&2; exit 3")
        self.tool("modprobe", "exit 5")
        self.fails("Error: modprobe --dirname=", "-d", str(self.folder), "-b", "-r", "-i", program=self.program)
        self.builder("exit 0")
        self.fails("succeeded, but there is no", "-d", str(self.folder), "-b", program=self.program)

    def test_needs_sources_and_the_builder(self):
        for arguments in (("-b",), ("-c",), ("-b", "-d", "/nowhere")):
            self.fails("Error: the sources of the driver are not in ", *arguments, program=self.program, cwd=self.root)
        self.fails(f'starting "{self.root}/libexec/nitro-cli/build-driver", which builds the driver', "-b", "-d", str(self.folder),
                   program=self.program)

    def test_ends_with_everything_it_has_started_when_a_signal_comes(self):
        self.builder('sleep 1000 & echo $! >"$ROOT/pid"; wait')
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.end(number)
        self.builder('trap "" TERM; sh -c "while :; do sleep 1000; done" & echo $! >"$ROOT/pid"; wait; sleep 1000')
        self.end(signal.SIGTERM, signal.SIGINT)

    def end(self, *signals):
        written = self.root / "pid"
        with subprocess.Popen([self.program, "-b", "-d", str(self.folder)], env=self.environment, stderr=subprocess.PIPE,
                              text=True) as building:
            self.assertTrue(wait_until(lambda: written.exists() and written.read_text("ascii").endswith("\n")))
            child = int(written.read_text("ascii"))
            written.unlink()
            for number in signals:
                building.send_signal(number)
            _, errors = building.communicate(timeout=60)
            self.assertEqual(building.returncode, 1)
            self.assertRegex(errors, f"as this program received signal ({'|'.join(str(int(number)) for number in signals)}) ")
        self.assertTrue(wait_until(lambda: not os.path.exists(f"/proc/{child}") or
                                   pathlib.Path(f"/proc/{child}/stat").read_text("ascii").split()[2] == "Z"))


class Insertion(DriverTest):
    """On the made-up machine; the tools of systemd do their work in it."""

    def setUp(self):
        super().setUp()
        if os.getuid() != 0:
            self.skipTest("only root may give files to others")
        self.file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        self.file("etc/group", "root:x:0:\n")
        self.device = self.file("dev/nitro_enclaves", "")
        self.device.chmod(0o600)
        self.tool("udevadm")
        self.tool("gpasswd", 'sed -i "s/^ne:.*/&$3/" "$ROOT/etc/group"')
        self.environment["SUDO_USER"] = USER

    def group(self):
        line = next(line for line in (self.root / "etc/group").read_text("ascii").splitlines() if line.startswith("ne:"))
        return int(line.split(":")[2])

    def check_access(self):
        group = self.group()
        self.assertNotEqual(group, 0)
        for path, mode in (("dev/nitro_enclaves", 0o660), ("run/nitro_enclaves", 0o1775), ("var/log/nitro_enclaves", 0o775),
                           ("var/log/nitro_enclaves/nitro_enclaves.log", 0o664)):
            status = (self.root / path).stat()
            self.assertEqual((status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode))), (0, group, oct(mode)), path)
        rule = self.root / "etc/udev/rules.d/99-nitro-enclaves.rules"
        self.assertIn('\nKERNEL=="nitro_enclaves", SUBSYSTEM=="misc", OWNER="root", GROUP="ne", MODE="0660"', rule.read_text("ascii"))
        self.assertEqual(mode_of(rule), 0o644)
        self.assertIn("\nd /run/nitro_enclaves 1775 root ne", (self.root / "etc/tmpfiles.d/nitro-cli.conf").read_text("ascii"))

    def test_lets_the_group_and_the_caller_run_enclaves(self):
        self.insert(umask=0o077)

    def test_gives_nobody_else_rights_whatever_the_umask(self):
        self.insert(umask=0)
        for path in ("etc/udev", "etc/udev/rules.d", "etc/tmpfiles.d", "run/nitro-enclaves-allocator"):
            self.assertEqual(mode_of(self.root / path), 0o755, path)

    def insert(self, umask):
        shutil.rmtree(self.driver)
        done = self.config("-i", umask=umask)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(done.stderr, f"{USER} is now in the group ne: log in again, or start a shell with `newgrp ne`, to run enclaves\n")
        self.assertEqual(self.called(), ["modprobe --dirname=ROOT nitro_enclaves", "udevadm control --reload",
                                         "udevadm trigger --name-match=nitro_enclaves", f"gpasswd --root=ROOT --add {USER} ne"])
        self.check_access()

    def test_leaves_what_is_right_already(self):
        self.config("-i")
        log = self.root / "var/log/nitro_enclaves/nitro_enclaves.log"
        log.write_text("a line\n", "ascii")
        self.device.chmod(0o666)
        self.called()
        rule = self.root / "etc/udev/rules.d/99-nitro-enclaves.rules"
        before = rule.stat().st_ino
        done = self.config("-i", "-v")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("The driver is loaded already\n", done.stdout)
        self.assertEqual(self.called(), ["udevadm control --reload", "udevadm trigger --name-match=nitro_enclaves"])
        self.assertEqual(log.read_text("ascii"), "a line\n")
        self.assertEqual(rule.stat().st_ino, before)
        self.check_access()

    def test_works_without_systemd_and_udev(self):
        for name in ("sed", "sh"):
            (self.tools / name).symlink_to(shutil.which(name))
        (self.tools / "udevadm").unlink()
        self.tool("groupadd", 'echo "ne:x:990:" >>"$ROOT/etc/group"')
        self.environment["PATH"] = str(self.tools)
        for _ in range(2):
            done = self.config("-i")
            self.assertEqual(done.returncode, 0, done.stderr)
            (self.root / "var/log/nitro_enclaves/nitro_enclaves.log").write_text("a line\n", "ascii")
        self.assertEqual(self.called(), ["groupadd --prefix=ROOT --system ne", f"gpasswd --root=ROOT --add {USER} ne"])
        self.check_access()
        self.assertEqual((self.root / "var/log/nitro_enclaves/nitro_enclaves.log").read_text("ascii"), "a line\n")

    def test_of_root_itself_adds_nobody(self):
        for environment in ({"SUDO_USER": ""}, {"SUDO_USER": "root"}):
            done = self.config("-i", environment=environment)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertFalse([line for line in self.called() if "gpasswd" in line])
        self.fails('there is no user "nobody-here", which SUDO_USER names', "-i", environment={"SUDO_USER": "nobody-here"})

    def test_stops_where_something_is_missing(self):
        self.device.unlink()
        self.fails("start the instance with enclaves enabled", "-i")
        shutil.rmtree(self.driver)
        self.tool("modprobe", 'echo "modprobe: FATAL: Module nitro_enclaves not found." >&2; exit 1')
        shutil.rmtree(self.root / "etc/udev")
        self.fails("exited with status 1: modprobe: FATAL: Module nitro_enclaves not found.; -b builds the driver", "-i")
        self.assertFalse((self.root / "etc/udev").exists())
        self.tool("modprobe", "exit 0")
        self.fails("modprobe succeeded, but the driver nitro_enclaves is not there", "-i")

    def test_ends_between_two_steps_when_a_signal_comes(self):
        shutil.rmtree(self.driver)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.tool("modprobe", f"kill -{int(number)} $PPID; sleep 0.2; {self.load}")
            self.fails("Error: cancelled; -i completes what has been done\n", "-i")
            self.assertTrue(self.pool.exists(), "modprobe was interrupted")
            self.assertNotIn("ne:", (self.root / "etc/group").read_text("ascii"))
            shutil.rmtree(self.driver)
        done = self.config("-i", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.assertEqual(done.returncode, 0, "an ignored SIGHUP, as under nohup, ends nothing")

    def test_does_not_follow_a_link_in_place_of_the_device(self):
        victim = self.file("victim", "")
        victim.chmod(0o600)
        self.device.unlink()
        self.device.symlink_to(victim)
        self.fails("nitro_enclaves\" is a symbolic link: remove it\n", "-i")
        self.assertEqual((victim.stat().st_gid, mode_of(victim)), (0, 0o600))

    def test_puts_a_built_driver_in_the_place_of_the_loaded_one(self):
        folder = self.sources()
        self.fails("there is no module", "-i", "-d", str(folder))
        self.file(f"driver/{MODULE}", "ko")
        self.pool.write_text("1,5\n", "ascii")
        self.succeeded(self.config("-i", "-d", str(folder), environment={"SUDO_USER": ""}))
        self.assertEqual([line for line in self.called() if "mod" in line], [
            f"modinfo -F vermagic ROOT/driver/{MODULE}", "rmmod nitro_enclaves", f"insmod ROOT/driver/{MODULE}"])
        self.assertEqual(self.pool.read_text("ascii"), "1,5\n")

    def test_keeps_the_loaded_driver_where_the_built_one_does_not_load(self):
        folder = self.sources()
        self.file(f"driver/{MODULE}", "ko")
        self.pool.write_text("1,5\n", "ascii")
        self.tool("insmod", 'echo "insmod: ERROR: Invalid module format" >&2; exit 1')
        self.fails("Invalid module format; the driver of the system is loaded again\n", "-i", "-d", str(folder))
        self.assertEqual(self.pool.read_text("ascii"), "1,5\n")
        self.called()
        self.tool("modinfo", "echo 1.2.3 SMP")
        self.fails('is for the kernel "1.2.3", but', "-i", "-d", str(folder))
        self.file("sys/module/nitro_enclaves/refcnt", "1\n")
        self.tool("modinfo", 'echo "$(uname -r) SMP"')
        self.fails("is in use", "-i", "-d", str(folder))
        self.assertEqual([line.split()[0] for line in self.called()], ["modinfo", "modinfo"])

    def test_comes_before_resources(self):
        self.real_pages()
        shutil.rmtree(self.driver)
        done = self.config("-t", "2", "-m", "64", "-i")
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(self.pool.read_text("ascii"), "1,5\n")
        self.succeeded(self.run_allocator("--release"))


class InANamespace(ConfigTest):
    """With the users and folders of this machine, as copies."""

    SCRIPT = """
set -e
for place in etc run var/log sys/module dev; do
  mkdir -p "$ROOT/$place"
done
cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/nsswitch.conf /etc/login.defs "$ROOT/etc" 2>/dev/null || :
cp -a /etc/ld.so.cache /etc/alternatives /etc/pam.d "$ROOT/etc" 2>/dev/null || :
for node in null zero urandom; do cp -a /dev/$node "$ROOT/dev"; done
mknod "$ROOT/dev/nitro_enclaves" c 1 3
for place in etc run var/log sys/module dev; do mount --bind "$ROOT/$place" "/$place"; done
"$@"
"$@"
echo "group: $(getent group ne | cut -d: -f1,4)"
stat -c '%n %U:%G %a' /dev/nitro_enclaves /run/nitro_enclaves /var/log/nitro_enclaves /var/log/nitro_enclaves/*
"""

    def run_in_namespace(self):
        script = self.file("script", self.SCRIPT)
        return subprocess.run(["unshare", "--mount", "sh", str(script), CONFIG, "-i"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False, env={**self.environment, "SUDO_USER": USER})

    def test_groups_and_folders_are_the_real_ones(self):
        if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no mount namespace can be made here")
        groups = {group.gr_name for group in grp.getgrall()}
        for tools in ({}, {"PATH": self.without_systemd()}):
            with self.subTest(tools=tools):
                for place in ("etc", "run", "var", "dev"):
                    shutil.rmtree(self.root / place, ignore_errors=True)
                self.environment.update(tools)
                done = self.run_in_namespace()
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stderr.count(f"{USER} is now in the group ne"), 1, done.stderr)
                self.assertEqual(done.stdout.splitlines(), [f"group: ne:{USER}", "/dev/nitro_enclaves root:ne 660",
                                                            "/run/nitro_enclaves root:ne 1775", "/var/log/nitro_enclaves root:ne 775",
                                                            "/var/log/nitro_enclaves/nitro_enclaves.log root:ne 664"])
        self.assertEqual({group.gr_name for group in grp.getgrall()}, groups)

    def without_systemd(self):
        for name in ("sh", "mkdir", "cp", "mknod", "mount", "getent", "cut", "stat", "gpasswd", "unshare"):
            (self.tools / name).symlink_to(shutil.which(name))
        return str(self.tools)


if __name__ == "__main__":
    main()
