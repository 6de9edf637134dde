#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Nitro Enclaves device of tests/machine/qemu, without a guest: the test itself reads and writes the device's registers and the
machine's memory (QEMU's qtest). What a driver does, what no driver does, and nonsense.

NITRO_MACHINE_PARTS names the folder that tests/machine/build has made (default: its cache); without it the tests are skipped."""
import errno
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "integration"))
from enclave import skip  # noqa: E402

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "nitro-cli/machine/current"
QEMU = pathlib.Path(os.environ.get("NITRO_MACHINE_PARTS") or CACHE, "qemu-system-x86_64").resolve()

MIB = 1 << 20
REGISTERS, MSIX_TABLE, INTERRUPTS = 0xfe000000, 0xfe001000, 0x1000  # where the test puts the BARs, and interrupts in memory
ENABLE, VERSION, COMMAND, COUNTS, SEND, RECEIVE = 0, 2, 4, 0xc, 0x10, 0x100
START, GET_SLOT, STOP, ALLOC, FREE, ADD_MEM, ADD_VCPU, COUNT, NEXT, INFO, ADD_BULK = range(1, 12)
LETTERS = {1: "b", 2: "w", 4: "l", 8: "q"}  # qtest's names of sizes
INIT, RUNNING, STOPPED = 0, 2, 0xffff
IMAGE_OFFSET = 8 * MIB


class Reply:
    def __init__(self, data):
        (self.rc, self.uid, self.cid, self.slots, self.regions, self.memory, self.vcpus, self.flags, self.state) = struct.unpack(
            "<i4xQQQQQQQH", data[:66])


class Machine:
    """A q35 machine that executes nothing. 6 CPUs, the device at address 3 of the bus, BARs mapped, interrupts written to memory."""

    MEMORY = 1024 * MIB

    def __init__(self, folder, *options, device="", enable=True):
        self.folder = folder
        self.trace_path = f"{folder}/trace"
        here, there = socket.socketpair()
        control, theirs = socket.socketpair()
        with there, theirs:
            self.process = subprocess.Popen(
                [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-accel", "qtest",
                 "-cpu", "qemu64,vendor=GenuineIntel", "-smp", "6,cores=3,threads=2", "-m", f"{self.MEMORY // MIB}M",
                 "-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
                 "-chardev", f"socket,id=qtest,fd={there.fileno()}", "-qtest", "chardev:qtest", "-qtest-log", "none",
                 "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control",
                 "-device", f"ne-pci,id=ne,addr=3,image-dir={folder},trace={self.trace_path}{device}", *options],
                pass_fds=[there.fileno(), theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        here.settimeout(60)
        control.settimeout(60)
        self.wire, self.control = here.makefile("rw", encoding="ascii"), control.makefile("rw", encoding="ascii")
        here.close()
        control.close()
        self.control.readline()
        self.qmp("qmp_capabilities")
        self.map()
        if enable:
            self.write(VERSION, 2, 1)
            self.write(ENABLE, 1, 1)

    def close(self):
        """How QEMU ended, when asked to."""
        if self.process.poll() is None:
            self.process.terminate()
        errors = self.process.communicate(timeout=60)[1]
        self.wire.close()
        self.control.close()
        return self.process.returncode, errors

    def ask(self, *words):
        self.wire.write(" ".join(words) + "\n")
        self.wire.flush()
        answer = self.wire.readline().split()
        if not answer or answer[0] != "OK":
            raise AssertionError(f"{words}: {answer}; QEMU ended: {self.process.poll()}")
        return answer[1] if len(answer) > 1 else None

    def qmp(self, command, until=None, **arguments):
        """The answer; also waits for the event `until`."""
        self.control.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.control.flush()
        answer, seen = None, until is None
        while answer is None or not seen:
            line = json.loads(self.control.readline())
            if "event" in line:
                seen = seen or line["event"] == until
            else:
                answer = line
        return answer

    def configure(self, offset, value=None):
        self.ask("outl", "0xcf8", hex(0x80000000 | 3 << 11 | offset))
        return int(self.ask("inl", "0xcfc"), 16) if value is None else self.ask("outl", "0xcfc", hex(value))

    def map(self):
        assert self.configure(0) == 0xe4c11d0f
        self.configure(0x10 + 4 * 3, REGISTERS)
        self.configure(0x10 + 4 * 4, MSIX_TABLE)
        self.configure(0x04, 0x6)  # memory, bus master
        capability = self.configure(0x34) & 0xff
        while self.configure(capability) & 0xff != 0x11:
            capability = self.configure(capability) >> 8 & 0xff
        assert self.configure(capability) >> 16 & 0x7ff == 1  # two vectors
        for vector in range(2):
            for word, value in enumerate((INTERRUPTS + 4 * vector, 0, vector + 1, 0)):
                self.ask("writel", hex(MSIX_TABLE + 16 * vector + 4 * word), hex(value))
        self.configure(capability, self.configure(capability) | 1 << 31)

    def interrupts(self):
        """Which vectors were raised since the last call."""
        raised = [vector for vector in range(2) if int(self.ask("readl", hex(INTERRUPTS + 4 * vector)), 16) == vector + 1]
        self.ask("writeq", hex(INTERRUPTS), "0")
        return raised

    def read(self, offset, size):
        return int(self.ask("read" + LETTERS[size], hex(REGISTERS + offset)), 16)

    def write(self, offset, size, value):
        self.ask("write" + LETTERS[size], hex(REGISTERS + offset), hex(value))

    def command(self, number, *words):
        for index, word in enumerate(words):
            self.write(SEND + 8 * index, 8, word)
        self.write(COMMAND, 4, number)
        return Reply(b"".join(struct.pack("<Q", self.read(RECEIVE + 8 * index, 8)) for index in range(9)))

    def memory(self, address, data):
        self.ask("write", hex(address), hex(len(data)), "0x" + data.hex())

    def trace(self):
        return pathlib.Path(self.trace_path).read_text(encoding="ascii").splitlines()

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) << 10


def image(*sections, count=None, magic=b".eif"):
    """An enclave image; or one with a wrong number of sections. A section is its content, or a pair of its offset and size."""
    offsets, sizes, content = [0] * 32, [0] * 32, b""
    for index, section in enumerate(sections):
        if isinstance(section, tuple):
            offsets[index], sizes[index] = section
            continue
        offsets[index], sizes[index] = 548 + len(content), len(section)
        content += struct.pack(">HHQ", 1, 0, len(section)) + section
    header = struct.pack(">4sHHQQHH32Q32QII", magic, 4, 0, 0, 0, 0, len(sections) if count is None else count, *offsets, *sizes, 0, 0)
    return header + content


class DeviceTest(unittest.TestCase):
    device = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="nitro-device-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.machine = Machine(self.folder, device=self.device)
        self.addCleanup(self.ends_well)

    def ends_well(self):
        self.assertEqual(self.machine.close(), (0, ""))

    def good(self, number, *words):
        reply = self.machine.command(number, *words)
        self.assertEqual(reply.rc, 0, (number, words))
        return reply

    def refused(self, error, number, *words):
        """With the error, with nothing else in the reply, and without any effect on the slots."""
        count = self.machine.command(COUNT).slots
        reply = self.machine.command(number, *words)
        self.assertEqual((-reply.rc, reply.uid, reply.cid, reply.memory, reply.slots), (error, 0, 0, 0, count),
                         (number, [hex(word) for word in words]))

    def slot(self, *regions, vcpus=(), bulk=0):
        uid = self.good(ALLOC).uid
        for address, size in regions:
            self.good(ADD_MEM, uid, address, size)
        for cpu in vcpus:
            self.good(ADD_VCPU, uid, cpu)
        if bulk:
            self.good(ADD_BULK, uid, bulk)
        return uid


class Life(DeviceTest):
    def test_an_enclave_is_made_started_and_freed(self):
        machine, eif = self.machine, image(b"kernel", b"x" * 5000)
        machine.memory(16 * MIB + IMAGE_OFFSET, eif)
        machine.interrupts()
        allocated = self.good(ALLOC)
        self.assertEqual(machine.interrupts(), [0])
        self.assertEqual((allocated.slots, allocated.regions, allocated.state), (1, 4096, INIT))
        uid = allocated.uid
        self.good(ADD_MEM, uid, 16 * MIB, 64 * MIB)
        self.good(ADD_MEM, uid, 100 * MIB, 2 * MIB)
        self.good(ADD_VCPU, uid, 2)
        self.good(ADD_VCPU, uid, 3)
        started = self.good(START, uid, 0, 1)
        self.assertEqual(started.cid, 16)
        info = self.good(INFO, uid)
        self.assertEqual((info.uid, info.cid, info.regions, info.memory, info.vcpus, info.flags, info.state),
                         (uid, 16, 2, 66 * MIB, 2, 1, RUNNING))
        self.assertEqual(self.good(GET_SLOT, 16).uid, uid)
        self.assertEqual(self.good(NEXT, 0).uid, uid)
        self.refused(errno.ENOENT, NEXT, uid)
        self.assertEqual(pathlib.Path(self.folder, "enclave-16.eif").read_bytes(), eif)
        self.good(STOP, uid)
        self.assertEqual(self.good(INFO, uid).state, STOPPED)
        self.assertEqual(self.good(FREE, uid).slots, 0)
        self.assertEqual(machine.trace(), [
            "SLOT_ALLOC", "ADD_MEM size=64M", "ADD_MEM size=2M", "ADD_VCPU 2", "ADD_VCPU 3",
            "START cid=16 flags=1 vcpus=2 regions=2 mem=66M", f"IMAGE {len(eif)} bytes", "STOP cid=16", "SLOT_FREE"])

    def test_replies_and_events_are_counted_apart(self):
        machine = self.machine
        self.assertEqual(machine.read(COUNTS, 4), 0)
        for _ in range(3):
            machine.command(COUNT)
        self.assertEqual(machine.read(COUNTS, 4), 3)
        uid = self.slot((16 * MIB, 64 * MIB), bulk=2)
        self.good(START, uid, 50, 0)
        before = machine.read(COUNTS, 4)
        machine.interrupts()
        self.assertIn("return", machine.qmp("qom-set", path="/machine/peripheral/ne", property="crash", value=50))
        self.assertEqual(machine.read(COUNTS, 4), before + (1 << 16))
        self.assertEqual(machine.interrupts(), [1])
        self.assertEqual(machine.trace()[-1], "CRASH cid=50")

    def test_the_reply_counter_wraps_without_an_event(self):
        for _ in range(0x10001):
            self.machine.write(COMMAND, 4, COUNT)
        self.assertEqual(self.machine.read(COUNTS, 4), 1)

    def test_an_enclave_that_crashed_is_stopped_and_freed_as_any_other(self):
        uid = self.slot((16 * MIB, 64 * MIB), vcpus=(2, 3))
        self.good(START, uid, 50, 0)
        crash = {"path": "/machine/peripheral/ne", "property": "crash"}
        self.machine.qmp("qom-set", **crash, value=50)
        self.assertEqual(self.good(INFO, uid).state, STOPPED)
        for cid in (50, 51, 0, 2**63):
            self.assertIn("no enclave with the CID", self.machine.qmp("qom-set", **crash, value=cid)["error"]["desc"])
        self.refused(errno.EINVAL, START, uid, 51, 0)
        self.good(STOP, uid)
        self.good(FREE, uid)
        self.refused(errno.EINVAL, FREE, uid)

    def test_a_slot_without_a_start_can_be_freed(self):
        uid = self.slot((16 * MIB, 64 * MIB), vcpus=(2,))
        self.refused(errno.EINVAL, STOP, uid)
        self.good(FREE, uid)
        again = self.slot((16 * MIB, 64 * MIB), vcpus=(2,))
        self.assertGreater(again, uid)

    def test_disabling_frees_everything(self):
        for ends in (lambda: self.machine.write(ENABLE, 1, 0), self.reset):
            uid = self.slot((16 * MIB, 64 * MIB), vcpus=(2, 3))
            self.good(START, uid, 50, 0)
            self.slot((80 * MIB, 2 * MIB), vcpus=(4,))
            ends()
            self.assertEqual(self.machine.trace()[-3:], ["STOP cid=50", "SLOT_FREE", "SLOT_FREE"])
            self.assertEqual(self.machine.read(ENABLE, 1), 0)
            self.refused(errno.EIO, ALLOC)
            self.machine.write(VERSION, 2, 1)
            self.machine.write(ENABLE, 1, 1)
            self.refused(errno.EINVAL, INFO, uid)
            self.assertEqual(self.good(COUNT).slots, 0)
            self.good(FREE, self.slot((16 * MIB, 128 * MIB), vcpus=(1, 2, 3, 4, 5)))

    def reset(self):
        self.machine.qmp("system_reset", until="RESET")
        self.machine.map()


class Refusals(DeviceTest):
    def test_a_device_that_is_not_enabled_does_nothing(self):
        machine = self.machine
        machine.write(ENABLE, 1, 0)
        for number in range(14):
            self.assertEqual(machine.command(number).rc, -errno.EIO)
        machine.write(VERSION, 2, 0)
        machine.write(ENABLE, 1, 1)
        self.assertEqual(machine.read(ENABLE, 1), 0)  # no version was chosen
        machine.write(VERSION, 2, 0xffff)
        self.assertEqual(machine.read(VERSION, 2), 1)
        for value in (2, 0xff):
            machine.write(ENABLE, 1, value)
            self.assertEqual(machine.read(ENABLE, 1), 0)
        machine.write(ENABLE, 1, 1)
        machine.write(VERSION, 2, 0)  # too late
        self.assertEqual((machine.read(ENABLE, 1), machine.read(VERSION, 2)), (1, 1))

    def test_unknown_commands(self):
        for number in (0, 12, 13, 255, 1 << 16, 1 << 31, (1 << 32) - 1):
            self.refused(errno.EINVAL, number, 0, 0, 0)

    def test_slots_that_do_not_exist(self):
        uid = self.slot()
        for number in (START, STOP, FREE, ADD_MEM, ADD_VCPU, INFO, ADD_BULK):
            for wrong in (0, uid + 1, uid - 1, (1 << 64) - 1):
                self.refused(errno.EINVAL, number, wrong, 0, 0)
        for cid in (0, 16, (1 << 64) - 1):  # 0: the enclave has not been started
            self.refused(errno.ENOENT, GET_SLOT, cid)

    def test_memory(self):
        first, second = self.slot((16 * MIB, 8 * MIB)), self.slot()
        top = self.machine.MEMORY
        for address, size in ((0, 0), (MIB, 2 * MIB), (2 * MIB, MIB), (2 * MIB, 2 * MIB + 1), (2 * MIB + 4096, 2 * MIB),
                              (2**64 - 2 * MIB, 2 * MIB), (2**64 - 2 * MIB, 4 * MIB), (2 * MIB, 2**64 - 2 * MIB), (2**63, 2**63),
                              (0, 2**63),
                              (top, 2 * MIB), (top - 2 * MIB, 4 * MIB), (24 * MIB, top), (0, top + 2 * MIB), (2**40, 2 * MIB),
                              (0, 2 * MIB), (REGISTERS, 2 * MIB), (0xfec00000, 2 * MIB), (0xffe00000, 2 * MIB)):
            self.refused(errno.EINVAL, ADD_MEM, second, address, size)
        for slot in (first, second):
            for address, size in ((16 * MIB, 8 * MIB), (14 * MIB, 4 * MIB), (22 * MIB, 4 * MIB), (18 * MIB, 2 * MIB), (2 * MIB, 62 * MIB)):
                self.refused(errno.EBUSY, ADD_MEM, slot, address, size)
        for address, size in ((14 * MIB, 2 * MIB), (24 * MIB, 2 * MIB), (top - 2 * MIB, 2 * MIB)):
            self.good(ADD_MEM, second, address, size)
        self.assertEqual((self.good(INFO, first).memory, self.good(INFO, second).memory), (8 * MIB, 6 * MIB))
        self.good(FREE, first)
        self.good(ADD_MEM, second, 16 * MIB, 8 * MIB)

    def test_cpus(self):
        first, second = self.slot(vcpus=(2,)), self.slot()
        for cpu in (0, 6, 64, 0xffffffff, 1 << 32):
            self.refused(errno.EINVAL, ADD_VCPU, second, cpu)
        for slot in (first, second):
            self.refused(errno.EBUSY, ADD_VCPU, slot, 2)
        for count in (0, 5, 1 << 32, (1 << 64) - 1):
            self.refused(errno.EINVAL, ADD_BULK, second, count)
        self.good(ADD_BULK, second, 4)
        self.assertEqual((self.good(INFO, first).vcpus, self.good(INFO, second).vcpus), (1, 4))
        self.refused(errno.EINVAL, ADD_BULK, first, 1)
        self.good(FREE, second)
        self.good(ADD_BULK, first, 1)

    def test_starts(self):
        uid = self.good(ALLOC).uid
        self.good(ADD_BULK, uid, 2)
        self.refused(errno.EINVAL, START, uid, 0, 0)
        self.good(ADD_MEM, uid, 16 * MIB, 62 * MIB)
        self.refused(errno.EINVAL, START, uid, 0, 0)
        self.good(ADD_MEM, uid, 128 * MIB, 2 * MIB)
        for flags in (2, 3, 1 << 63, (1 << 64) - 1):
            self.refused(errno.EINVAL, START, uid, 0, flags)
        for cid in (1, 2, 3, (1 << 32) - 1, 1 << 32, (1 << 32) + 16, (1 << 64) - 1):
            self.refused(errno.EINVAL, START, uid, cid, 0)
        without_cpus = self.slot((256 * MIB, 64 * MIB))
        self.refused(errno.EINVAL, START, without_cpus, 0, 0)
        half = self.slot((384 * MIB, 64 * MIB), vcpus=(2,))
        self.refused(errno.EINVAL, START, half, 0, 0)
        self.assertEqual(self.good(START, uid, 16, 0).cid, 16)
        self.good(ADD_VCPU, half, 3)
        self.refused(errno.EINVAL, START, half, 16, 0)
        self.assertEqual(self.good(START, half, 0, 0).cid, 17)
        self.assertEqual(self.machine.trace().count("START cid=16 flags=0 vcpus=2 regions=2 mem=64M"), 1)

    def test_nothing_is_added_to_a_running_enclave(self):
        uid = self.slot((16 * MIB, 64 * MIB), vcpus=(2, 3))
        self.good(START, uid, 0, 0)
        for _ in range(2):
            self.refused(errno.EINVAL, ADD_MEM, uid, 128 * MIB, 2 * MIB)
            self.refused(errno.EINVAL, ADD_VCPU, uid, 4)
            self.refused(errno.EINVAL, ADD_BULK, uid, 1)
            self.refused(errno.EINVAL, START, uid, 0, 0)
            if self.good(INFO, uid).state == RUNNING:
                self.refused(errno.EBUSY, FREE, uid)
                self.good(STOP, uid)
        self.good(FREE, uid)


class Limits(DeviceTest):
    device = ",max-slots=3,max-regions=2"

    def test_slots_and_regions(self):
        uids = [self.good(ALLOC).uid for _ in range(3)]
        self.assertEqual(self.good(COUNT).slots, 3)
        self.refused(errno.ENOSPC, ALLOC)
        listed, uid = [], 0
        while (reply := self.machine.command(NEXT, uid)).rc == 0:
            uid = reply.uid
            listed.append(uid)
        self.assertEqual(listed, uids)
        for address in (16 * MIB, 32 * MIB):
            self.good(ADD_MEM, uids[0], address, 2 * MIB)
        self.refused(errno.ENOSPC, ADD_MEM, uids[0], 48 * MIB, 2 * MIB)
        self.good(FREE, uids[1])
        self.assertEqual(self.good(NEXT, uids[0]).uid, uids[2])
        self.good(ALLOC)


class Images(DeviceTest):
    def started(self, eif, *regions, at=16 * MIB + IMAGE_OFFSET):
        """The image that is there after a start, and what the trace says about it."""
        self.machine.ask("memset", hex(16 * MIB), hex(80 * MIB), "0x0")
        self.machine.memory(at, eif)
        path = pathlib.Path(self.folder, "enclave-20.eif")
        path.write_bytes(b"of an earlier enclave")
        uid = self.slot(*(regions or ((16 * MIB, 64 * MIB),)), vcpus=(2, 3))
        self.good(START, uid, 20, 0)
        said = self.machine.trace()[self.machine.trace().index("ADD_VCPU 3") + 2:]
        self.good(STOP, uid)
        self.good(FREE, uid)
        os.truncate(self.machine.trace_path, 0)
        self.assertEqual([name for name in os.listdir(self.folder) if "partial" in name], [])
        return path.read_bytes() if path.exists() else None, said

    def test_no_image_is_copied_from_what_is_none(self):
        room = 56 * MIB
        largest = 2**64 - 1
        for name, eif in {
                "nothing": bytes(4),
                "another magic": image(b"x", magic=b".elf"),
                "no section": image(),
                "too many sections": image(b"x", count=33),
                "the most sections": image(b"x", count=0xffff),
                "a section in the header": image((0, 16)),
                "a section past the end": image((548, room - 548 - 11)),
                "a section of the largest size": image((548, largest)),
                "a section at the last address": image((largest, 1)),
                "sums that wrap around": image((2**63, 2**63)),
                "sums that wrap around to a little": image((largest - 11, 13)),
                "the second section": image(b"x", (room, 0)),
        }.items():
            with self.subTest(name):
                copied, said = self.started(eif)
                self.assertIsNone(copied)
                self.assertRegex("\n".join(said), r"^NO_IMAGE .* at 8 MiB\nIMAGE 0 bytes$")

    def test_an_image_fills_the_memory(self):
        copied, said = self.started(image((548, 56 * MIB - 548 - 12)))
        self.assertEqual((len(copied), said), (56 * MIB, [f"IMAGE {56 * MIB} bytes"]))

    def test_an_image_lies_in_the_order_of_the_regions(self):
        """The image's first two MiB are in the region that was added last but lies lowest."""
        eif = image(bytes(range(256)) * 20000)
        self.machine.ask("memset", hex(16 * MIB), hex(2 * MIB), "0x0")
        rest = eif[2 * MIB:]
        regions = (40 * MIB, IMAGE_OFFSET), (16 * MIB, 2 * MIB), (60 * MIB, 62 * MIB)
        self.machine.memory(60 * MIB, rest)
        self.machine.ask("memset", hex(20 * MIB), hex(2 * MIB), "0xff")
        path = pathlib.Path(self.folder, "enclave-20.eif")
        self.machine.memory(16 * MIB, eif[:2 * MIB])
        uid = self.slot(*regions, vcpus=(2, 3))
        self.good(START, uid, 20, 0)
        self.assertEqual(path.read_bytes(), eif)


class Nonsense(DeviceTest):
    def test_accesses_of_any_place_and_size(self):
        machine, chance = self.machine, random.Random(1)
        for size in (1, 2, 4, 8):
            for offset in range(0, 0x220):
                machine.read(offset, size)
        for offset in (0x1f0, 0x1ff, 0x200, 0xff8, 0xfff):
            self.assertEqual(machine.read(offset, 1), 0)
        for _ in range(20000):
            size = chance.choice((1, 2, 4, 8))
            offset = chance.choice((0, 2, 4, 8, 0xc, 0x10, 0x18, 0x20, chance.randrange(0x1000 - 8)))
            machine.write(offset, size, chance.choice((0, 1, chance.randrange(13), chance.getrandbits(8 * size))) & (1 << 8 * size) - 1)
            machine.read(chance.randrange(0x1000 - 8), size)
        machine.write(ENABLE, 1, 0)
        machine.write(VERSION, 2, 1)
        machine.write(ENABLE, 1, 1)
        self.good(FREE, self.slot((16 * MIB, 64 * MIB), vcpus=(1, 2, 3, 4, 5)))

    def test_the_reply_cannot_be_written_and_is_empty_at_first(self):
        machine = self.machine
        self.assertEqual([machine.read(RECEIVE + offset, 8) for offset in range(0, 240, 8)], [0] * 30)
        machine.write(RECEIVE, 8, 0xffff)
        self.assertEqual(machine.read(RECEIVE, 8), 0)
        machine.write(COUNTS, 4, 0xffff)
        self.assertEqual(machine.read(COUNTS, 4), 0)
        machine.write(SEND + 232, 8, 0x1122334455667788)
        self.assertEqual((machine.read(SEND + 232, 8), machine.read(SEND + 239, 1), machine.read(RECEIVE, 8)),
                         (0x1122334455667788, 0x11, 0))

    def test_commands_in_any_order(self):
        """Whatever was accepted, no CPU and no byte belongs to two slots, and everything comes back."""
        machine, chance, uids = self.machine, random.Random(2), []
        for _ in range(6000):
            number = chance.choice((START, STOP, ALLOC, FREE, ADD_MEM, ADD_MEM, ADD_MEM, ADD_VCPU, ADD_VCPU, INFO, ADD_BULK,
                                    chance.randrange(20)))
            uid = chance.choice(uids) if uids and chance.random() < 0.95 else chance.getrandbits(64)
            words = {ADD_MEM: (chance.randrange(600) * 2 * MIB, chance.choice((2, 2, 4, 64, 65)) * MIB), ADD_VCPU: (chance.randrange(8),),
                     ADD_BULK: (chance.randrange(4),), START: (chance.choice((0, 4, 5, 16, 17)), chance.randrange(3))}.get(number, ())
            reply = machine.command(number, uid, *words)
            if number == ALLOC and reply.rc == 0:
                uids.append(reply.uid)
            if number == FREE and reply.rc == 0:
                uids.remove(uid)
        infos = [self.good(INFO, uid) for uid in uids]
        self.assertEqual(self.good(COUNT).slots, len(uids))
        self.assertLessEqual(sum(info.vcpus for info in infos), 5)
        self.assertLessEqual(sum(info.memory for info in infos), machine.MEMORY)
        cids = [info.cid for info in infos if info.cid]
        self.assertEqual(len(cids), len(set(cids)))
        self.assertTrue(any(line.startswith("START") for line in machine.trace()))
        for uid in uids:
            machine.command(STOP, uid)
            self.good(FREE, uid)
        self.good(FREE, self.slot((2 * MIB, machine.MEMORY - 2 * MIB), vcpus=(1, 2, 3, 4, 5)))

    def test_slots_leave_no_memory_behind(self):
        machine = self.machine

        def rounds(number):
            for _ in range(number):
                uid = self.slot(*((address * MIB, 2 * MIB) for address in range(16, 116, 2)), vcpus=(2, 3))
                machine.command(START, uid, 20, 0)
                machine.command(STOP, uid)
                self.good(FREE, uid)

        rounds(50)
        before = machine.resident()
        rounds(200)  # 10 000 regions: 700 KiB if they stayed
        self.assertLess(machine.resident() - before, 256 << 10)


class Options(unittest.TestCase):
    def fails(self, device):
        done = subprocess.run([QEMU, "-nodefaults", "-display", "none", "-M", "q35", "-accel", "qtest", "-L", "/usr/share/seabios", "-L",
                               "/usr/share/qemu", "-device", f"ne-pci,{device}"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 1)
        return done.stderr

    def test_folders_that_are_not_there(self):
        self.assertIn("image-dir: /nowhere is not a folder", self.fails("image-dir=/nowhere"))
        self.assertIn("'/nowhere/trace': No such file or directory", self.fails("trace=/nowhere/trace"))


def main():
    if not QEMU.exists():
        skip(f"{QEMU} is not there: make it with tests/machine/build")
    options = subprocess.run([QEMU, "-device", "ne-pci,help"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if "max-slots" not in options.stdout:
        skip(f"{QEMU} does not have this device: make it with tests/machine/build")
    unittest.main(module="__main__", verbosity=2)


if __name__ == "__main__":
    main()
