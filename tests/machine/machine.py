# SPDX-License-Identifier: Apache-2.0
"""A whole Nitro machine in QEMU, without EC2: a parent instance in which the unmodified Linux driver offers /dev/nitro_enclaves, and its
enclaves. README.md beside this file says what is real in it and what is not."""
import argparse
import contextlib
import dataclasses
import glob
import hashlib
import lzma
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "nitro-cli/machine"
PREBUILT = PROJECT.parent / "shared/parent"
FIRMWARE = ("/usr/share/seabios", "/usr/share/qemu")

# Until the script begins, a boot that fails is tried again: on a busy machine the emulated one sometimes resets itself while its kernel
# starts the other CPUs.
BOOTS = 3

INIT = """#!/bin/sh
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mkdir -p /dev/shm /dev/pts /run/nitro_enclaves; mount -t devpts pts /dev/pts; ip link set lo up
exec </dev/{console} >/dev/ttyS0 2>&1
dmesg -n 1; insmod /nitro_enclaves.ko {pool}; echo {pages} >/proc/sys/vm/nr_hugepages
{main}
poweroff -f
"""
BEGIN, END = "==parent-begins==", "==parent-ends"

# With systemd, the script is a service that is started when everything else has been. The console is its own: systemd is quiet.
SYSTEMD_INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys
dmesg -n 1; insmod /nitro_enclaves.ko {pool}; echo {pages} >/proc/sys/vm/nr_hugepages
exec /lib/systemd/systemd --show-status=no --log-target=kmsg
"""
SYSTEMD_SCRIPT = """[Unit]
Description=Script of the machine
After=multi-user.target {units}
[Service]
Environment=HOME=/root PATH=/bin:/usr/bin:/sbin:/usr/sbin
StandardInput={input}
ExecStart=/bin/sh -c 'exec >/dev/ttyS0 2>&1; {main}; poweroff -f'
TTYPath=/dev/ttyS0
[Install]
WantedBy=default.target
"""
SYSTEMD_TARGETS = ("basic", "local-fs", "multi-user", "network", "paths", "shutdown", "slices", "sockets", "swap", "sysinit", "timers",
                   "umount")
SYSTEMD_PROGRAMS = ("/lib/systemd/systemd", "/bin/systemctl", "/usr/bin/systemd-analyze")


class Unavailable(Exception):
    """Something that the machine is made of is not there; says what to do."""


@dataclasses.dataclass
class Parts:
    qemu: str
    kernel: str
    module: str
    hypervisor: str


@dataclasses.dataclass
class Outcome:
    """What a run of the machine has left."""
    status: int | None   # of the script; None: it did not end
    output: str          # of the script
    device: list[str]    # what the Nitro Enclaves device was asked to do
    consoles: list[tuple[str, str]]  # CID and console of each enclave that was started, in order


def find_hypervisor():
    named = os.environ.get("NITRO_HYPERVISOR")
    built = [named] if named else [f"{PROJECT}/build/{preset}/tests/machine/nitro-hypervisor" for preset in ("release", "ci", "dev")]
    for path in built:
        if os.path.exists(path):
            return path
    raise Unavailable("nitro-hypervisor is not built: cmake --preset release && cmake --build build/release --target nitro-hypervisor")


def unpacked(path):
    """The file, unpacked into the cache if it is not there yet."""
    packed = pathlib.Path(f"{path}.xz")
    if os.path.exists(path) or not packed.exists():
        return str(path)
    status = packed.stat()
    key = hashlib.sha256(f"{packed} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    target = CACHE / f"unpacked-{key}" / path.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file, lzma.open(packed) as source:
            shutil.copyfileobj(source, file)
        os.chmod(file.name, 0o755)
        os.rename(file.name, target)
    return str(target)


def find_parts():
    """QEMU, kernel and driver: those of NITRO_MACHINE_PARTS, or that tests/machine/build has made, or prebuilt ones beside the project."""
    named = os.environ.get("NITRO_MACHINE_PARTS")
    folders = [pathlib.Path(named)] if named else [CACHE / "current", PREBUILT]
    for folder in folders:
        paths = [unpacked(folder / "qemu-system-x86_64"), str(folder / "bzImage"), str(folder / "nitro_enclaves.ko")]
        if all(map(os.path.exists, paths)):
            break
    else:
        raise Unavailable("the QEMU and the kernel of the Nitro machine are not there: tests/machine/build makes them, once")
    missing = [name for name in ("busybox", "cpio", "ldd") if shutil.which(name) is None]
    missing += [folder for folder in FIRMWARE if not os.path.isdir(folder)]
    listed = subprocess.run(["ldd", paths[0]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    missing += re.findall(r"(\S+) => not found", listed)
    if missing:
        raise Unavailable(f"{', '.join(missing)}: not installed; bootstrap/install-packages test")
    return Parts(*paths, find_hypervisor())


def libraries_of(program):
    """The shared libraries that a program or library needs, by path; none for other files."""
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return [path for path in re.findall(r"(/\S+)", listed) if os.path.isfile(path)]


def add_applets(folder):
    """Links to busybox, which is in this folder, for all that it can be."""
    listed = subprocess.run([f"{folder}/busybox", "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for applet in listed.split():
        if not os.path.lexists(f"{folder}/{applet}"):
            os.symlink("busybox", f"{folder}/{applet}")


class Root:
    """The parent instance's file system: busybox, and what is added with the libraries that it needs."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("bin", "dev", "proc", "sys", "run", "tmp", "etc/nitro_enclaves", "usr/bin", "var/log/nitro_enclaves", "root"):
            os.makedirs(f"{folder}/{name}", exist_ok=True)
        self.add(shutil.which("busybox"), "/bin/busybox")
        add_applets(f"{folder}/bin")

    def add(self, source, destination):
        target = f"{self.folder}{destination}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(source, target)
        for library in libraries_of(source):
            if not os.path.exists(self.folder + library):
                os.makedirs(os.path.dirname(self.folder + library), exist_ok=True)
                shutil.copy(library, self.folder + library)

    def add_systemd(self, units):
        """systemd as it is installed here, and `units` (PATH), which are started."""
        for program in SYSTEMD_PROGRAMS:
            if not os.path.exists(program):
                raise Unavailable(f"{program} is not installed; bootstrap/install-packages test")
            (pathlib.Path(self.folder) / program[1:]).unlink(missing_ok=True)
            self.add(program, program)
        for target in SYSTEMD_TARGETS:
            self.add(f"/lib/systemd/system/{target}.target", f"/lib/systemd/system/{target}.target")
        self.write("/etc/machine-id", f"{0x6e6974726f:032x}\n")
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        self.write("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
        wants = f"{self.folder}/etc/systemd/system/multi-user.target.wants"
        os.makedirs(wants)
        os.symlink("/lib/systemd/system/multi-user.target", f"{self.folder}/etc/systemd/system/default.target")
        for unit in units:
            name = os.path.basename(unit)
            self.add(unit, f"/etc/systemd/system/{name}")
            os.symlink(f"../{name}", f"{wants}/{name}")

    def write(self, path, text, mode=0o644):
        pathlib.Path(self.folder + path).write_text(text, encoding="utf-8")
        os.chmod(self.folder + path, mode)

    def pack(self, archive):
        subprocess.run(f"find . | cpio -o -H newc --quiet > {shlex.quote(archive)}", shell=True, cwd=self.folder, check=True)


def topology(options):
    """QEMU's options for CPUs and memory: cores are spread evenly over the nodes."""
    nodes, threads = options.nodes, options.threads
    if options.cpus % (nodes * threads) != 0:
        raise Unavailable(f"{options.cpus} CPUs do not make whole cores of {threads} threads on {nodes} nodes")
    words = ["-smp", f"{options.cpus},sockets={nodes},cores={options.cpus // nodes // threads},threads={threads}", "-m", f"{options.memory}M"]
    if options.memory % nodes != 0:
        raise Unavailable(f"{options.memory} MiB cannot be divided by {nodes}")
    each = options.cpus // nodes
    for node in range(nodes):
        words += ["-object", f"memory-backend-memfd,id=memory{node},size={options.memory // nodes}M,share=on",
                  "-numa", f"node,nodeid={node},cpus={node * each}-{(node + 1) * each - 1},memdev=memory{node}"]
    return words


def parent_command(parts, options, folder, words):
    firmware = [word for path in FIRMWARE for word in ("-L", path)]
    return [parts.qemu, *firmware, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", *topology(options), "-kernel", parts.kernel,
            "-initrd", f"{folder}/parent.cpio", "-append", f"console=ttyS0 panic=-1 reboot=t {words}", "-nodefaults", "-no-user-config",
            "-nographic", "-no-reboot", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]


def hypervisor_command(parts, options, folder, kernel_words=""):
    words = [parts.hypervisor, "--folder", folder, "--qemu", parts.qemu, *(word for path in FIRMWARE for word in ("--firmware", path)),
             "--enclave", options.enclave, "--timeout", str(options.timeout)]
    if options.crash:
        words += ["--crash", str(options.crash)]
    return [*words, "--", *parent_command(parts, options, folder, kernel_words)]


def make_root(parts, options, folder, main, console):
    root = Root(f"{folder}/root")
    for item in options.add:
        source, _, destination = item.partition(":")
        root.add(source, destination or f"/usr/bin/{os.path.basename(source)}")
    root.add(parts.module, "/nitro_enclaves.ko")
    pool = f"ne_cpus={options.pool}" if options.pool else ""
    if options.systemd:
        root.add_systemd(options.unit)
        root.write("/etc/systemd/system/script.service", SYSTEMD_SCRIPT.format(
            main=main, input="null" if console == "null" else "tty-force", units=" ".join(map(os.path.basename, options.unit))))
        os.symlink("../script.service", f"{root.folder}/etc/systemd/system/multi-user.target.wants/script.service")
        root.write("/init", SYSTEMD_INIT.format(pool=pool, pages=options.pages), 0o755)
    else:
        root.write("/init", INIT.format(pool=pool, pages=options.pages, main=main, console=console), 0o755)
    root.pack(f"{folder}/parent.cpio")
    shutil.rmtree(root.folder)


def parser(description):
    reader = argparse.ArgumentParser(description=description)
    reader.add_argument("--add", action="append", default=[], metavar="PATH[:DEST]",
                        help="a program or file, with the libraries it needs; by default it is in /usr/bin")
    reader.add_argument("--cpus", type=int, default=4)
    reader.add_argument("--threads", type=int, default=1, help="threads of a core; siblings have adjacent numbers")
    reader.add_argument("--nodes", type=int, default=1, help="NUMA nodes")
    reader.add_argument("--memory", type=int, default=1536, metavar="MIB")
    reader.add_argument("--pool", default="1-3", help="the CPUs of enclaves; '' for none")
    reader.add_argument("--pages", type=int, default=256, help="huge pages of 2 MiB")
    reader.add_argument("--systemd", action="store_true",
                        help="systemd is the first process; the script runs when everything has been started")
    reader.add_argument("--unit", action="append", default=[], metavar="PATH", help="with --systemd: a unit to be started")
    reader.add_argument("--enclave", choices=("boot", "beat", "silent", "wrong"), default="boot",
                        help="what an enclave does that is started: it boots, only sends its heartbeat, nothing, a wrong heartbeat")
    reader.add_argument("--crash", type=float, metavar="SECONDS", help="each enclave dies that long after its start")
    reader.add_argument("--timeout", type=float, default=0, metavar="SECONDS", help="ends everything after that time; by default never")
    reader.add_argument("--keep", metavar="DIR", help="keeps the files of the run there")
    return reader


def compressed(lines):
    """Equal lines that follow each other become one, with their number."""
    result, count = [], 0
    for index, line in enumerate(lines):
        count += 1
        if index + 1 < len(lines) and lines[index + 1] == line:
            continue
        result.append(line if count == 1 else f"{line}  x{count}")
        count = 0
    return result


def follow(lines, show):
    """Passes on what the script prints; returns its output and its exit status, and everything before it began."""
    before, output, begun = [], [], False
    for line in lines:
        line = line.replace("\r", "")
        if not begun:
            before.append(line)
            begun = line.rstrip("\n").endswith(BEGIN)
            continue
        text, mark, status = line.rstrip("\n").rpartition(f"{END} ")
        if mark and status.endswith("==") and status[:-2].isdigit():
            output.append(text)
            return before, "".join(output), int(status[:-2]), True
        output.append(line)
        show(line)
    return before, "".join(output), None, begun


def boot_once(parts, options, script, folder, show):
    main = f"echo {BEGIN}; sh /script; echo {END} $?=="
    make_root(parts, argparse.Namespace(**{**vars(options), "add": [*options.add, f"{script}:/script"]}), folder, main, "null")
    for name in ("trace", *(os.path.basename(path) for path in glob.glob(f"{folder}/*-*.log"))):
        pathlib.Path(folder, name).unlink(missing_ok=True)
    with subprocess.Popen(hypervisor_command(parts, options, folder), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, errors="replace") as hypervisor:
        try:
            before, output, status, begun = follow(hypervisor.stdout, show)
            if status is not None:
                # The rest is the end of the machine.
                hypervisor.stdout.read()
        finally:
            hypervisor.terminate()
    trace = pathlib.Path(folder, "trace")
    device = compressed(trace.read_text(encoding="utf-8", errors="replace").splitlines()) if trace.exists() else []
    consoles = []
    for path in sorted(glob.glob(f"{folder}/*-*.log"), key=lambda path: int(os.path.basename(path).partition("-")[0])):
        cid = os.path.basename(path).removesuffix(".log").partition("-")[2]
        consoles.append((cid, pathlib.Path(path).read_text(encoding="utf-8", errors="replace").replace("\r", "")))
    return Outcome(status, output, device, consoles), begun, "".join(before)


def boot(options, script, show=lambda line: None):
    """Boots the machine for one script, a file that sh executes as root in the parent instance. `options`: of parser()."""
    parts = find_parts()
    for attempt in range(BOOTS):
        with work_folder(options.keep) as folder:
            outcome, begun, before = boot_once(parts, options, script, folder, show)
        if begun:
            return outcome
        print(f"{before[-1500:]}\nthe parent instance did not get to the script"
              f"{'; it is booted again' if attempt + 1 < BOOTS else ''}", file=sys.stderr)
    return outcome


@contextlib.contextmanager
def work_folder(kept):
    """The folder that is to be kept, or a temporary one."""
    if kept:
        os.makedirs(kept, exist_ok=True)
        yield os.path.abspath(kept)
        return
    with tempfile.TemporaryDirectory(prefix="nitro-machine-") as folder:
        yield folder


def interact(options):
    """Boots the machine with a shell on this terminal; returns when it has ended."""
    parts = find_parts()
    with work_folder(options.keep) as folder:
        main = "cd /root; stty -F /dev/ttyS0 rows {rows} cols {columns} 2>/dev/null; setsid -c sh -l </dev/ttyS0"
        size = shutil.get_terminal_size()
        make_root(parts, options, folder, main.format(rows=size.lines, columns=size.columns), "ttyS0")
        return subprocess.run(hypervisor_command(parts, options, folder, "quiet"), check=False).returncode
