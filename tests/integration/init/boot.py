# SPDX-License-Identifier: Apache-2.0
"""Boots an init and a file tree as an enclave under emulation, and returns the console output."""
import os
import re
import shutil
import subprocess
import tempfile
import time

from vsock_peer import VsockPeer


def ramdisk(entries):
    """A cpio archive (newc). `entries` maps a path to bytes (an executable file) or None (a folder); parents first."""
    out = bytearray()
    for number, (path, content) in enumerate([*entries.items(), ("TRAILER!!!", b"")], 1):
        name, data = path.encode() + b"\0", content or b""
        mode = 0o040755 if content is None else 0o100755
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


class Boot:
    """The result of one boot: `console` (str, without the kernel's lines), `log` (everything), `peer` (VsockPeer, None
    when the machine had no vsock device), `seconds` from the start of QEMU to the heartbeat, `end_seconds` to its end,
    `timed_out`."""

    def __init__(self, blobs, init, entries, vsock=True, memory_mib=128, timeout=60, append="", qemu=None, extra=(),
                 **peer_arguments):
        qemu = qemu or os.environ.get("NITRO_CLI_QEMU") or "qemu-system-x86_64"
        folder = tempfile.mkdtemp(prefix="nitro-init-")
        self.peer = None
        try:
            with open(f"{folder}/ramdisks", "wb") as file:
                nsm = f"{blobs}/nsm.ko"
                bootstrap = {"dev": None, "init": _read(init), **({"nsm.ko": _read(nsm)} if os.path.exists(nsm) else {})}
                file.write(ramdisk(bootstrap) + ramdisk(entries))
            with open(f"{blobs}/cmdline", encoding="ascii") as file:
                cmdline = file.read().strip() + append
            command = [
                qemu, "-M", "microvm,acpi=off,memory-backend=mem,x-option-roms=off,isa-serial=on,rtc=on",
                "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", f"{memory_mib}M",
                "-object", f"memory-backend-memfd,id=mem,size={memory_mib}M,share=on",
                "-kernel", f"{blobs}/bzImage", "-initrd", f"{folder}/ramdisks", "-append", cmdline,
                "-nodefaults", "-no-user-config", "-nographic", "-serial", f"file:{folder}/console", "-no-reboot", *extra]
            if vsock:
                self.peer = VsockPeer(f"{folder}/vsock", **peer_arguments)
                command += ["-chardev", f"socket,id=c,path={folder}/vsock", "-device", "vhost-user-vsock-device,chardev=c"]
            start = time.monotonic()
            machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT)
            try:
                output, _ = machine.communicate(timeout=timeout)
                self.timed_out = False
            except subprocess.TimeoutExpired:
                machine.kill()
                output, _ = machine.communicate()
                self.timed_out = True
            self.end_seconds = time.monotonic() - start
            self.qemu_output = output.decode(errors="replace")
            self.log = _read(f"{folder}/console").decode(errors="replace").replace("\r", "")
        finally:
            if self.peer:
                self.peer.close()
            shutil.rmtree(folder)
        self.seconds = self.peer.heartbeat_time - start if self.peer and self.peer.heartbeat_time else None
        self.console = "".join(line + "\n" for line in self.log.split("\n") if not re.match(r"\[ *\d+\.\d+\]", line))


def _read(path):
    with open(path, "rb") as file:
        return file.read()
