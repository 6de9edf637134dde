# SPDX-License-Identifier: Apache-2.0
"""drivers/build-driver on made-up machines, and for Debian 12's kernel 6.1, which lacks the driver: built, signed, installed, and loaded in
that kernel. Where the parts of the Nitro machine are there (tests/machine), an enclave runs with it.

Environment: NITRO_CLI, NITRO_ALLOCATOR (the tools), NITRO_HYPERVISOR, NITRO_DKMS (the folder of dkms.conf).

The kernel, its headers and its source are packages that apt-get downloads once, about 180 MB, into ~/.cache/nitro-cli/tests/driver. Only the
parts of the source that have to do with the driver are kept, packed as in the package."""
import contextlib
import fcntl
import os
import pathlib
import platform
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from enclave import absent_programs, needed, not_installed, skip, wait_until

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(HERE / "parent"), str(PROJECT / "tests/machine")]
import machine  # noqa: E402
from parent_test import Parent  # noqa: E402

SCRIPT = PROJECT / "drivers/build-driver"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "nitro-cli/tests/driver"
IMAGE = PROJECT / "tests/data/golden/eif/tiny/image.eif"
BUILT, KERNEL_HAS_IT = 0, 3
FIRMWARE = "/usr/share/OVMF"
SNAKEOIL = "/usr/share/ovmf/PkKek-1-snakeoil"
# What the parent instance needs of the kernel's modules, in the order of loading.
VSOCK = ("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev", "virtio/virtio_pci_modern_dev", "virtio/virtio_pci",
         "vmw_vsock/vsock", "vmw_vsock/vmw_vsock_virtio_transport_common", "vmw_vsock/vmw_vsock_virtio_transport")


def run(*command, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, "check": True, **options}
    return subprocess.run([str(word) for word in command], **options)


class Debian:
    """Debian's newest kernel 6.1 for clouds, unpacked: a root folder with /boot, /lib/modules and /usr/src."""

    def __init__(self):
        CACHE.mkdir(parents=True, exist_ok=True)
        with open(CACHE / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in CACHE.glob("new.*"):
                shutil.rmtree(left)
            if not (found := list(CACHE.glob("6.1.*"))):
                found = [self.download()]
        self.root = found[0]
        self.release = self.root.name
        self.modules = self.root / "lib/modules" / self.release
        self.headers = self.root / "usr/src" / f"linux-headers-{self.release}"
        self.image = self.root / "boot" / f"vmlinuz-{self.release}"

    @staticmethod
    def download():
        names = run("apt-cache", "pkgnames", "linux-headers-6.1.0-").stdout.split()
        releases = [match[1] for name in names if (match := re.fullmatch(r"linux-headers-(6\.1\.0-\d+-cloud-amd64)", name))]
        if not releases:
            raise unittest.SkipTest("apt knows no kernel 6.1 of Debian 12")
        release = max(releases, key=lambda text: [int(part) for part in re.findall(r"\d+", text)])
        version = re.search(r"^Version: (.+)$", run("apt-cache", "show", "--no-all-versions", f"linux-headers-{release}").stdout, re.M)[1]
        packages = [f"linux-image-{release}", f"linux-headers-{release}", f"linux-headers-{release.removesuffix('-cloud-amd64')}-common",
                    "linux-kbuild-6.1", "linux-source-6.1"]
        new = pathlib.Path(tempfile.mkdtemp(prefix="new.", dir=CACHE))
        run("apt-get", "download", "-q", *(f"{package}={version}" for package in packages), cwd=new, stderr=None)
        root = new / "root"
        for package in new.glob("*.deb"):
            if not package.name.startswith("linux-source"):
                run("dpkg-deb", "-x", package, root)
        # Reading the archive to its end takes half a minute of a CPU.
        parts = " ".join(f"'*/{part}'" for part in ("Makefile", "drivers/virt", "drivers/misc/*.c", "include/uapi/linux/*.h"))
        run("bash", "-c", f"""set -euo pipefail; mkdir source; dpkg-deb --fsys-tarfile linux-source-*.deb |
            tar -xO ./usr/src/linux-source-6.1.tar.xz | xz -dc --threads=0 |
            tar -x -C source --wildcards --no-wildcards-match-slash {parts}
            tar -cJf root/usr/src/linux-source-6.1.tar.xz -C source linux-source-6.1""", cwd=new)
        os.rename(root, CACHE / release)
        shutil.rmtree(new)
        return CACHE / release


class ScriptTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        # Blanks and more in every path, besides that of the headers, which the build system of Linux cannot have.
        folder = tempfile.mkdtemp(prefix="nitro driver 'ö-")
        self.addCleanup(shutil.rmtree, folder)
        self.folder = pathlib.Path(folder)
        self.temporary = pathlib.Path(tempfile.mkdtemp(prefix="nitro-driver-"))
        self.addCleanup(lambda: self.assertEqual([], os.listdir(self.temporary)) or self.temporary.rmdir())
        self.root = self.folder / "root"
        self.output = self.folder / "output"
        self.environment = {**os.environ, "TMPDIR": str(self.temporary)}

    def command(self, *arguments):
        return [str(word) for word in (SCRIPT, *arguments)]

    def build(self, *arguments, **options):
        return run(*self.command(*arguments), cwd=self.folder, env=self.environment, check=False, timeout=500, **options)

    def refused(self, *arguments, says, status=1, **options):
        done = self.build(*arguments, **options)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for words in says:
            self.assertIn(words, done.stderr)
        return done

    def file(self, path, text=""):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path


class MadeUpMachine(ScriptTest):
    """No compiler comes near to these."""
    RELEASE = "6.1.0-9-amd64"

    def headers(self, *options):
        self.file(f"usr/src/linux-headers-{self.RELEASE}/include/generated/utsrelease.h", f'#define UTS_RELEASE "{self.RELEASE}"\n')
        self.file(f"usr/src/linux-headers-{self.RELEASE}/include/config/auto.conf",
                  "".join(f"CONFIG_{option}=y\n" for option in ("PCI", "SMP", "HOTPLUG_CPU", "MODULES", *options)))

    def source(self, *parts):
        self.file("usr/src/linux-source-6.1/drivers/virt/nitro_enclaves/ne_pci_dev.c")
        for part in parts:
            self.file(f"usr/src/linux-source-6.1/{part}")

    def of_kernel(self, *arguments):
        return ("--root", self.root, "--kernel", self.RELEASE, *arguments)

    def test_wrong_arguments_are_told_from_other_errors(self):
        for arguments, says in ((("--kernel",), "--kernel needs a value"), (("--kernel", ""), "--kernel is empty"),
                                (("--output=",), "--output is empty"), (("--sauce", "x"), "unknown argument '--sauce'"), (("x",), "'x'"),
                                (("--key", "/dev/null"), "belong together"), (("--certificate=/dev/null",), "belong together")):
            self.refused(*arguments, says=[says, "see --help"], status=2)

    def test_help_and_packages_are_output(self):
        done = self.build("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("Usage: build-driver", done.stdout)
        done = self.build(*self.of_kernel("--list-packages", "--install"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.split(), ["binutils", "gcc", "kmod", f"linux-headers-{self.RELEASE}", "linux-source-6.1", "make", "xz-utils"])

    def test_what_is_no_release_is_refused(self):
        for release in ("../../tmp", "6", "6.1/../..", "amd64", "6.1 0", "6.1.0\n", "-1", "6.1.0-$(id)"):
            done = self.build("--kernel", release)
            self.assertEqual(done.returncode, 1)
            self.assertIn("is not the release of a kernel", done.stderr)

    def test_a_kernel_that_is_not_installed_is_named_with_those_that_are(self):
        self.file("lib/modules/6.1.0-8-amd64/modules.dep")
        self.refused(*self.of_kernel(), says=[f"the kernel {self.RELEASE} is not installed", f"linux-headers-{self.RELEASE}", "6.1.0-8-amd64"])

    def test_missing_packages_are_named(self):
        self.file(f"lib/modules/{self.RELEASE}/modules.dep")
        self.refused(*self.of_kernel(), says=[f"not installed: linux-headers-{self.RELEASE} linux-source-6.1;",
                                              f"apt-get install linux-headers-{self.RELEASE} linux-source-6.1"])
        self.headers()
        self.refused(*self.of_kernel(), says=["not installed: linux-source-6.1;"])
        self.file(f"usr/src/linux-headers-{self.RELEASE}/.kernelvariables", "CC = $(if $(X),ccache) $(CROSS_COMPILE)gcc-99\n")
        self.refused(*self.of_kernel(), says=["not installed: gcc-99 linux-source-6.1;"])

    def test_a_kernel_that_has_the_driver_is_left_alone(self):
        module = "kernel/drivers/virt/nitro_enclaves/nitro_enclaves.ko"
        for path, text, says in (("modules.dep", f"{module}.xz:\n", "modprobe nitro_enclaves"), (f"{module}.zst", "", "modprobe nitro_enclaves"),
                                 ("modules.builtin", f"{module}\n", "built in")):
            self.file(f"lib/modules/{self.RELEASE}/{path}", text)
            self.refused(*self.of_kernel(), says=[says], status=KERNEL_HAS_IT)
            self.refused(*self.of_kernel("--install"), says=[says], status=BUILT)
            shutil.rmtree(self.root)
        self.headers("NITRO_ENCLAVES")
        for install in ((), ("--install",)):
            self.refused(*self.of_kernel(*install), says=["in a package that is not installed", f"linux-modules-extra-{self.RELEASE}"],
                         status=KERNEL_HAS_IT)

    def test_a_driver_that_was_built_before_is_not_the_kernel_s(self):
        self.file(f"lib/modules/{self.RELEASE}/modules.dep", "updates/nitro_enclaves.ko:\nextra/nitro_enclaves.ko:\nkernel/a_nitro_enclaves.ko:\n")
        self.refused(*self.of_kernel(), says=["not installed:"])

    def test_a_kernel_that_cannot_have_the_driver_is_told(self):
        self.headers()
        self.source()
        (self.root / f"usr/src/linux-headers-{self.RELEASE}/include/config/auto.conf").write_text("CONFIG_PCI=y\nCONFIG_SMP=y\n", "ascii")
        self.refused(*self.of_kernel(), says=["CONFIG_HOTPLUG_CPU"])

    def test_headers_belong_to_the_kernel(self):
        self.headers()
        headers = self.root / f"usr/src/linux-headers-{self.RELEASE}"
        self.refused("--headers", headers, "--kernel", "6.1.0-8-amd64", says=[f"the headers of {self.RELEASE}, not of 6.1.0-8-amd64"])
        self.refused("--headers", self.folder, says=["has no headers of a built kernel"])

    def test_a_source_without_the_driver_is_told(self):
        self.headers()
        self.source()
        self.refused(*self.of_kernel(), says=["has no include/uapi/linux/nitro_enclaves.h"])
        self.source("include/uapi/linux/nitro_enclaves.h")
        self.refused(*self.of_kernel("--nsm"), says=["has no drivers/misc/nsm.c"])
        self.refused(*self.of_kernel("--source", self.folder), says=["has no drivers/virt/nitro_enclaves"])
        self.refused(*self.of_kernel("--source", self.folder / "nowhere"), says=["nowhere does not exist"])
        os.mkfifo(self.root / "pipe")
        self.refused(*self.of_kernel("--source", self.root / "pipe"), says=["pipe is neither a folder nor an archive"])
        garbage = self.file("garbage.tar.xz", "no archive\n")
        done = self.build(*self.of_kernel("--source", garbage))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"unpacking \S.*garbage\.tar\.xz failed; the last lines of its output are above\n$")

    def test_an_output_that_cannot_be_written_is_told_at_once(self):
        self.headers()
        self.source()
        self.refused(*self.of_kernel("--output", self.file("file")), says=["is not a folder"])
        self.refused(*self.of_kernel("--output", self.file("file") / "below"), says=["is not a folder"])
        self.file("folder/nitro_enclaves.ko/file")
        self.refused(*self.of_kernel("--output", self.root / "folder"), says=["nitro_enclaves.ko is a folder"])
        self.refused(*self.of_kernel("--output", self.file("new\nline\x1b")), says=["new?line? is not a folder"])
        self.refused(*self.of_kernel("--output", "/proc/1/driver"), says=["this user cannot write to /proc/1"] if os.getuid() else ["/proc/1"])
        self.refused(*self.of_kernel("--install"), says=[f"lib/modules/{self.RELEASE} does not exist"])
        self.refused(*self.of_kernel("--key", "/nowhere", "--certificate", "/nowhere"), says=["/nowhere cannot be read"])
        self.assertFalse(self.output.exists())

    def test_an_ordinary_user_cannot_install(self):
        self.headers()
        self.source()
        self.file(f"lib/modules/{self.RELEASE}/modules.dep")
        if os.getuid() != 0:
            self.skipTest("another user is needed")
        nobody = pwd.getpwnam("nobody")
        os.chmod(self.folder, 0o755)
        os.chown(self.temporary, nobody.pw_uid, nobody.pw_gid)
        self.refused(*self.of_kernel("--install"), says=["this user cannot write to"], user=nobody.pw_uid, group=nobody.pw_gid)


class RealKernel(ScriptTest):
    debian = None

    @classmethod
    def setUpClass(cls):
        if RealKernel.debian is None:
            RealKernel.debian = Debian()

    def from_debian(self, *arguments):
        return ("--root", self.debian.root, "--kernel", self.debian.release, *arguments)

    def built(self, *arguments):
        done = self.build(*arguments)
        self.assertEqual((done.returncode, done.stdout), (BUILT, ""), done.stderr)
        return done

    def unpacked_source(self):
        run("tar", "-xf", self.debian.root / "usr/src/linux-source-6.1.tar.xz", "-C", self.folder)
        return self.folder / "linux-source-6.1"

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def processes(self):
        """The command lines of those that have our folder for temporary files."""
        found = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.fsencode(self.temporary) in pathlib.Path(f"/proc/{process}/environ").read_bytes():
                    found.append(pathlib.Path(f"/proc/{process}/cmdline").read_bytes())
        return found


class Building(RealKernel):
    def test_every_way_gives_the_same_bytes(self):
        self.built(*self.from_debian("--output", self.output / "new/folder"))
        module = (self.output / "new/folder/nitro_enclaves.ko").read_bytes()
        self.assertIn(f"vermagic={self.debian.release} ".encode(), module)
        self.assertIn(b"alias=pci:v00001D0Fd0000E4C1", module)
        self.assertEqual(os.listdir(self.output / "new/folder"), ["nitro_enclaves.ko"])
        # From a folder, in the current folder, with the settings of another build, and with no usable folder for temporary files.
        self.environment |= {"TMPDIR": str(self.folder), "ARCH": "arm64", "KCFLAGS": "-DX", "MAKEFLAGS": "-n", "LOCALVERSION": "-x"}
        self.built(*self.from_debian("--source", self.unpacked_source()))
        self.assertEqual((self.folder / "nitro_enclaves.ko").read_bytes(), module)

    def test_an_interruption_leaves_nothing(self):
        self.output.mkdir()
        (self.output / "nitro_enclaves.ko").write_text("the old one", "ascii")
        source = self.unpacked_source()
        makefile = source / "drivers/virt/nitro_enclaves/Makefile"
        usual = makefile.read_text("ascii")
        # A compiler, with its temporary files; and what would go on after the end of its parent.
        for number, busy in ((signal.SIGTERM, b"cc1\0"), (signal.SIGINT, b"sleep\0"), (signal.SIGUSR1, b"sleep\0")):
            makefile.write_text(usual + ("$(shell sleep 98765)\n" if b"sleep" in busy else ""), "ascii")
            process = self.start(*self.from_debian("--source", source, "--output", self.output))
            self.assertTrue(wait_until(lambda: any(busy in command for command in self.processes())))
            process.send_signal(number)
            process.communicate(timeout=60)
            self.assertIn(process.returncode, (128 + number, -number))
            self.assertTrue(wait_until(lambda: not self.processes(), 20), self.processes())
            self.assertEqual(os.listdir(self.temporary), [], number)
            self.assertEqual(os.listdir(self.output), ["nitro_enclaves.ko"])
            self.assertEqual((self.output / "nitro_enclaves.ko").read_text("ascii"), "the old one")

    def test_a_source_that_does_not_fit_leaves_nothing(self):
        source = self.unpacked_source()
        with open(source / "drivers/virt/nitro_enclaves/ne_pci_dev.c", "a", encoding="ascii") as file:
            file.write("\n#error of another version\n")
        done = self.build(*self.from_debian("--source", source, "--output", self.output))
        self.assertEqual(done.returncode, 1)
        self.assertIn("#error of another version", done.stderr)
        self.assertRegex(done.stderr.splitlines()[-1], r"^build-driver: building nitro_enclaves\.ko failed: .* may not fit the kernel 6\.1\.0")
        self.assertFalse(self.output.exists())

    def test_a_module_is_signed_with_a_key_and_its_certificate(self):
        for name in ("mine", "other"):
            run("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}/", "-days", "2", "-keyout",
                self.folder / f"{name}.key", "-out", self.folder / f"{name}.pem")
        source = self.unpacked_source()
        arguments = self.from_debian("--source", source, "--output", self.output, "--key", self.folder / "mine.key", "--certificate")
        done = self.build(*arguments, self.folder / "other.pem")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.splitlines()[-1], "signing with .*mine.key and .*other.pem failed")
        self.assertFalse(self.output.exists())
        self.built(*arguments, self.folder / "mine.pem")
        self.assertTrue((self.output / "nitro_enclaves.ko").read_bytes().endswith(b"~Module signature appended~\n"))
        self.assertEqual(run("/sbin/modinfo", "-F", "signer", self.output / "nitro_enclaves.ko").stdout, "mine\n")

    def test_dkms_builds_for_kernels_without_the_driver_only(self):
        if os.getuid() != 0:
            self.skipTest("only root may run dkms")
        tree, sources, installed, headers = (self.temporary / name for name in ("tree", "src", "inst", "headers"))
        self.addCleanup(lambda: [shutil.rmtree(path) for path in (tree, sources, installed, headers) if path.exists()])
        for path in (tree, sources, installed / self.debian.release):
            path.mkdir(parents=True)
        version = re.search(r'PACKAGE_VERSION="(.+)"', pathlib.Path(os.environ["NITRO_DKMS"], "dkms.conf").read_text("ascii"))[1]
        ours = sources / f"nitro-enclaves-{version}"
        ours.mkdir()
        shutil.copy(SCRIPT, ours)
        text = pathlib.Path(os.environ["NITRO_DKMS"], "dkms.conf").read_text("ascii")
        (ours / "dkms.conf").write_text(text.replace("./build-driver", f"./build-driver --root {self.debian.root}"), "ascii")
        dkms = ("dkms", "--dkmstree", tree, "--sourcetree", sources, "--installtree", installed, "--kernelsourcedir", headers)
        shutil.copytree(self.debian.headers, headers, symlinks=True)
        for name in ("scripts", "tools"):
            (headers / name).unlink()
            (headers / name).symlink_to(self.debian.root / "usr/lib/linux-kbuild-6.1" / name)
        configuration = (headers / ".config").read_text("ascii")
        run(*dkms, "add", f"nitro-enclaves/{version}")
        for has_it in (True, False):
            (headers / ".config").write_text(configuration + ("CONFIG_NITRO_ENCLAVES=m\n" if has_it else ""), "ascii")
            # What the package of a kernel runs.
            done = run(*dkms, "autoinstall", "--no-depmod", "-k", self.debian.release, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual([path.name for path in installed.glob("**/*.ko")], [] if has_it else ["nitro_enclaves.ko"], done)


GUEST = """#!/bin/sh
export PATH=/bin:/usr/bin NITRO_CLI_LOGS_PATH=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mkdir -p /run/nitro_enclaves
exec </dev/null >/dev/ttyS0 2>&1
dmesg -n 1
{functions}
echo ==begins==
{script}
echo ==ends==
poweroff -f
"""


class Loading(RealKernel):
    installed = None

    @classmethod
    def setUpClass(cls):
        """Installs the module into a copy of the kernel's folder of modules, twice, as the second time replaces the first one. Then the
        machine only takes signed ones."""
        super().setUpClass()
        folder = tempfile.mkdtemp(prefix="nitro-driver-")
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.installed = pathlib.Path(folder)
        modules = cls.installed / "lib/modules" / cls.debian.release
        modules.mkdir(parents=True)
        for path in cls.debian.modules.glob("modules.*"):
            shutil.copy(path, modules)
        for name in VSOCK:
            [found] = cls.debian.modules.glob(f"**/{name}.ko")
            target = modules / found.relative_to(cls.debian.modules)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, target)
        (modules / "build").symlink_to(f"/usr/src/linux-headers-{cls.debian.release}")
        (cls.installed / "usr").symlink_to(cls.debian.root / "usr")
        cls.told = []
        for _ in range(2):
            cls.told.append(run(SCRIPT, "--root", cls.installed, "--kernel", cls.debian.release, "--install").stderr)
            lockdown = cls.installed / "sys/kernel/security/lockdown"
            lockdown.parent.mkdir(parents=True, exist_ok=True)
            lockdown.write_text("none [integrity] confidentiality\n", "ascii")

    def machine(self):
        """The installation, for a boot."""
        root = self.temporary / "machine"
        self.addCleanup(shutil.rmtree, root)
        shutil.copytree(self.installed, root, symlinks=True, ignore=lambda folder, _: ["usr", "sys"] if folder == str(self.installed) else [])
        return root

    def test_an_installation_is_known_to_modprobe(self):
        modules = self.installed / "lib/modules" / self.debian.release
        self.assertEqual(os.listdir(modules / "updates"), ["nitro_enclaves.ko"])
        self.assertIn("updates/nitro_enclaves.ko:", (modules / "modules.dep").read_text("ascii"))
        self.assertIn("load it with 'modprobe nitro_enclaves'", self.told[0])
        self.assertIn("this machine only loads signed modules", self.told[1])

    def test_modprobe_loads_it_and_a_missing_device_is_explained(self):
        steps = self.boot(self.machine(), """
step before nitro-cli run-enclave --eif-path /image.eif --memory 64 --cpu-count 1
step pool nitro-enclaves-allocator --config /etc/nitro_enclaves/allocator.yaml
step modprobe modprobe nitro_enclaves
step modules grep -o '^nitro_enclaves' /proc/modules
step without-device nitro-cli run-enclave --eif-path /image.eif --memory 64 --cpu-count 1
""", tools=True)
        self.assertEqual(steps["modprobe"], (0, ""))
        self.assertEqual(steps["modules"], (0, "nitro_enclaves\n"))
        # The pool of a driver without a device is empty.
        for name, code in (("before", "E19"), ("without-device", "E22")):
            self.assertEqual(steps[name][0], 39, steps[name])
            self.assertIn(f"[ {code} ]", steps[name][1])
            self.assertIn('this machine, of "QEMU", is not an EC2 instance with enclaves enabled; run-enclave --local', steps[name][1])
        self.assertEqual(steps["pool"][0], 1)
        self.assertIn("is not an EC2 instance", steps["pool"][1])

    def test_secure_boot_takes_it_with_a_signature_of_a_known_key(self):
        root = self.machine()
        updates = root / "lib/modules" / self.debian.release / "updates"
        for name in ("unsigned", "unknown"):
            shutil.copy(updates / "nitro_enclaves.ko", root / f"{name}.ko")
        run("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody/", "-keyout", self.folder / "key", "-out",
            self.folder / "pem")
        run(self.debian.headers / "scripts/sign-file", "sha256", self.folder / "key", self.folder / "pem", root / "unknown.ko")
        # The firmware that Debian packages for tests knows this key, which has a password.
        self.environment["KBUILD_SIGN_PIN"] = "snakeoil"
        (root / "usr").symlink_to(self.debian.root / "usr")
        self.built("--root", root, "--kernel", self.debian.release, "--install", "--key", f"{SNAKEOIL}.key", "--certificate", f"{SNAKEOIL}.pem")
        (root / "usr").unlink()
        run("openssl", "rsa", "-in", f"{SNAKEOIL}.key", "-passin", "pass:snakeoil", "-out", self.folder / "snakeoil")
        run("sbsign", "--key", self.folder / "snakeoil", "--cert", f"{SNAKEOIL}.pem", "--output", self.folder / "vmlinuz", self.debian.image)
        steps = self.boot(root, """
step unsigned insmod /unsigned.ko
step unknown insmod /unknown.ko
step known modprobe nitro_enclaves
step modules grep -o '^nitro_enclaves' /proc/modules
step log dmesg
""", "-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-drive",
                          f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}/OVMF_CODE_4M.secboot.fd", "-drive",
                          f"if=pflash,format=raw,unit=1,snapshot=on,file={FIRMWARE}/OVMF_VARS_4M.snakeoil.fd", image=self.folder / "vmlinuz")
        self.assertIn("Kernel is locked down from EFI Secure Boot", steps["log"][1])
        for name in ("unsigned", "unknown"):
            self.assertNotEqual(steps[name][0], 0, steps[name])
            self.assertIn("rejected", steps[name][1])
        self.assertEqual(steps["known"], (0, ""))
        self.assertEqual(steps["modules"], (0, "nitro_enclaves\n"))

    def boot(self, root, script, *more, image=None, tools=False):
        """The kernel with an initial ramdisk made of `root`, and `tools` or not; returns NAME: (status, output) of each step."""
        for folder in ("bin", "usr/bin", "dev", "proc", "sys", "tmp", "etc/nitro_enclaves", "run"):
            (root / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), root / "bin/busybox")
        for name in run("busybox", "--list").stdout.split():
            if name != "busybox":
                (root / "bin" / name).symlink_to("busybox")
        for tool in (os.environ["NITRO_CLI"], os.environ["NITRO_ALLOCATOR"]) if tools else ():
            shutil.copy(tool, root / "usr/bin")
            for library in re.findall(r"(/\S+)", run("ldd", tool).stdout):
                (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, root / library[1:])
        shutil.copy(IMAGE, root / "image.eif")
        (root / "etc/nitro_enclaves/allocator.yaml").write_text("memory_mib: 64\ncpu_count: 1\n", "ascii")
        functions = 'step() { echo "@step $1"; shift; "$@" 2>&1; echo "@status $?"; }'
        (root / "init").write_text(GUEST.format(functions=functions, script=script), "ascii")
        (root / "init").chmod(0o755)
        ramdisk = self.folder / "ramdisk"
        with open(ramdisk, "wb") as file:
            run("sh", "-c", "find . | cpio -o -H newc --quiet", cwd=root, stdout=file, text=False)
        done = run("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768M", *more,
                   "-kernel", image or self.debian.image, "-initrd", ramdisk, "-append", "console=ttyS0 panic=-1 quiet", "-nodefaults",
                   "-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot", timeout=300)
        output = done.stdout.replace("\r", "")
        self.assertIn("==ends==", output)
        return {name: (int(status), text) for name, text, status in re.findall(r"^@step (\S+)\n(.*?)^@status (\d+)$", output, re.S | re.M)}

    def test_an_enclave_runs_with_it(self):
        try:
            qemu = machine.find_parts().qemu
        except machine.Unavailable as error:
            self.skipTest(str(error))
        root = self.machine()
        [module] = root.glob("lib/modules/*/updates/nitro_enclaves.ko")
        parts = self.folder / "parts"
        parts.mkdir()
        for name, path in (("qemu-system-x86_64", qemu), ("bzImage", self.debian.image), ("nitro_enclaves.ko", module)):
            (parts / name).symlink_to(path)
        os.environ["NITRO_MACHINE_PARTS"] = str(parts)
        self.addCleanup(os.environ.pop, "NITRO_MACHINE_PARTS")
        modules = root / "lib/modules" / self.debian.release
        files = {IMAGE: "/root/image.eif", module: f"/lib/modules/{self.debian.release}/updates/nitro_enclaves.ko",
                 modules / "modules.dep": f"/lib/modules/{self.debian.release}/modules.dep"}
        files |= {next(modules.glob(f"**/{name}.ko")): f"/root/{number}.ko" for number, name in enumerate(VSOCK)}
        without = self.file("modules.dep", "kernel/other.ko:\n")
        release = self.file("os-release", 'ID=debian\nVERSION_ID="12"\n')
        files |= {without: "/root/without", release: "/etc/os-release"}
        parent = Parent(f"""
for n in {" ".join(map(str, range(len(VSOCK))))}; do insmod /root/$n.ko; done
step kernel uname -r
step listed nitro-cli describe-enclaves
step run run --memory 64 --cpu-count 1 --enclave-name first
step running nitro-cli describe-enclaves
step ended nitro-cli terminate-enclave --all
state after
chmod 0 /dev/nitro_enclaves; mv /dev/nitro_enclaves /dev/other
step container run --memory 64 --cpu-count 1
rmmod nitro_enclaves
step unloaded run --memory 64 --cpu-count 1
mv /root/without /lib/modules/*/modules.dep
step absent run --memory 64 --cpu-count 1
rm /lib/modules/*/modules.dep
step unknown run --memory 64 --cpu-count 1
""", "--pages", "64", "--enclave", "beat", files=[f"{path}:{target}" for path, target in files.items()])
        self.assertEqual(parent["kernel"].out, f"{self.debian.release}\n")
        self.assertEqual(parent["listed"].json, [])
        self.assertEqual(parent["run"].status, 0, parent["run"])
        self.assertEqual([enclave["EnclaveName"] for enclave in parent["running"].json], ["first"])
        self.assertEqual(parent["ended"].status, 0)
        self.assertEqual(parent["after"].out, "pages 64 cpus 0\n")
        self.assertIn("START cid=16 flags=0 vcpus=1 regions=32 mem=64M", parent.device)
        for step, says in (("container", "docker run --device /dev/nitro_enclaves"),
                           ("unloaded", "the driver nitro_enclaves is not loaded: modprobe nitro_enclaves; run-enclave --local"),
                           ("absent", f"the kernel {self.debian.release} has no driver nitro_enclaves: install linux-image-6.12-amd64 or "
                                      "linux-image-6.12-cloud-amd64 and restart, or build the driver: build-driver(8); "),
                           ("unknown", "(in a container: on its host)")):
            self.assertEqual((parent[step].status, parent[step].codes), (39, ["E19", "E39"]), parent[step])
            self.assertIn(says, parent[step].err)


def main():
    if platform.machine() != "x86_64":
        skip("the kernel of these tests is for x86_64")
    for name in ("NITRO_CLI", "NITRO_ALLOCATOR", "NITRO_DKMS"):
        needed(name, "build the project first")
    if why := absent_programs("apt-get", "busybox", "cpio", "dkms", "make", "openssl", "qemu-system-x86_64", "sbsign", "xz"):
        skip(why)
    if why := not_installed([name for name in (f"{FIRMWARE}/OVMF_VARS_4M.snakeoil.fd",) if not os.path.exists(name)]):
        skip(f"{why}: install ovmf")
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
