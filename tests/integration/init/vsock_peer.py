# SPDX-License-Identifier: Apache-2.0
"""The vsock device of a test's virtual machine, and the parent behind it, which only knows the heartbeat.

QEMU's `-device vhost-user-vsock-device` connects to a Unix socket and speaks the vhost-user protocol there: it hands over
the guest's memory and the places of the two queues. A thread then serves the queues: queue 0 receives (parent to
enclave), queue 1 transmits. One packet is a header of 44 bytes (virtio specification, "Socket Device") and its payload.
It is deliberately small: the enclave's packets are answered one by one, and no stream is longer than a few bytes.
"""
import array
import mmap
import os
import select
import socket
import struct
import threading
import time

HEARTBEAT_PORT = 9000
HEARTBEAT = b"\xb7"
GUEST_CID = 16

_PROTOCOL_FEATURES_BIT, _VERSION_1_BIT = 1 << 30, 1 << 32
_PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 9  # MQ, REPLY_ACK, CONFIG
(_GET_FEATURES, _SET_MEM_TABLE, _SET_VRING_NUM, _SET_VRING_ADDR, _SET_VRING_BASE, _GET_VRING_BASE, _SET_VRING_KICK,
 _SET_VRING_CALL, _SET_VRING_ERR, _GET_PROTOCOL_FEATURES, _GET_QUEUE_NUM, _GET_CONFIG) = (
     1, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 24)
_HEADER = struct.Struct("<QQIIIHHIII")
_REQUEST, _RESPONSE, _RST, _SHUTDOWN, _RW = 1, 2, 3, 4, 5


class _Region:
    def __init__(self, guest, size, user, offset, fd):
        self.guest, self.size, self.user = guest, size, user
        self.base = offset
        self.memory = mmap.mmap(fd, size + offset)


class _Queue:
    def __init__(self):
        self.num = self.next = 0
        self.desc = self.used = self.avail = None
        self.kick = self.call = -1


class VsockPeer:
    """Listens on `path`. `answer` is what a heartbeat gets: the bytes, b"" for a closed connection, None for silence;
    `refuse` answers the connection itself with a reset.

    Afterwards: `connections` holds (CID, port) of each connection the enclave asked for, `received` the bytes it sent,
    `heartbeat_time` the time.monotonic() of the first byte sent to the heartbeat's port."""

    def __init__(self, path, answer=HEARTBEAT, refuse=False):
        self.answer, self.refuse = answer, refuse
        self.connections, self.received, self.heartbeat_time = [], b"", None
        self.error = None
        self._regions, self._queues, self._pending = [], [_Queue(), _Queue()], []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        os.write(self._stop_write, b"x")
        self._thread.join(10)
        self._listener.close()
        for queue in self._queues:
            for fd in (queue.kick, queue.call):
                if fd >= 0:
                    os.close(fd)
        for region in self._regions:
            region.memory.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    # -- the thread

    def _run(self):
        try:
            if self._listener not in select.select([self._listener, self._stop_read], [], [])[0]:
                return
            with self._listener.accept()[0] as qemu:
                self._serve(qemu)
        except (ConnectionError, EOFError):
            pass  # QEMU has ended
        except Exception as error:  # shown by the test
            self.error = error

    def _serve(self, qemu):
        while True:
            kicks = {queue.kick: queue for queue in self._queues if queue.kick >= 0}
            ready = select.select([qemu, self._stop_read, *kicks], [], [])[0]
            if self._stop_read in ready:
                return
            for fd in ready:
                if fd in kicks:
                    os.read(fd, 8)
                    if kicks[fd] is self._queues[1]:
                        self._transmit()
                    self._flush()
            if qemu in ready:
                self._message(qemu)

    def _message(self, qemu):
        header, fds, _, _ = socket.recv_fds(qemu, 12, 16)
        if len(header) < 12:
            raise EOFError
        request, flags, size = struct.unpack("<III", header)
        body = b""
        while len(body) < size:
            more = qemu.recv(size - len(body))
            if not more:
                raise EOFError
            body += more
        reply = None
        if request == _GET_FEATURES:
            reply = struct.pack("<Q", _PROTOCOL_FEATURES_BIT | _VERSION_1_BIT)
        elif request == _GET_PROTOCOL_FEATURES:
            reply = struct.pack("<Q", _PROTOCOL_FEATURES)
        elif request == _GET_QUEUE_NUM:
            reply = struct.pack("<Q", 2)
        elif request == _GET_CONFIG:
            offset, length, _ = struct.unpack_from("<III", body)
            reply = body[:12] + struct.pack("<Q", GUEST_CID)[offset:offset + length]
        elif request == _SET_MEM_TABLE:
            count = struct.unpack_from("<I", body)[0]
            self._regions = [_Region(*struct.unpack_from("<QQQQ", body, 8 + 32 * i), fds[i]) for i in range(count)]
        elif request == _SET_VRING_NUM:
            index, self._queues[index].num = struct.unpack("<II", body)
        elif request == _SET_VRING_BASE:
            index, self._queues[index].next = struct.unpack("<II", body)
        elif request == _GET_VRING_BASE:
            index = struct.unpack("<II", body)[0]
            reply = struct.pack("<II", index, self._queues[index].next)
            self._queues[index].kick = self._replace(self._queues[index].kick, -1)
        elif request == _SET_VRING_ADDR:
            index, _, desc, used, avail, _ = struct.unpack("<IIQQQQ", body)
            queue = self._queues[index]
            queue.desc, queue.used, queue.avail = (self._find(a, "user") for a in (desc, used, avail))
        elif request in (_SET_VRING_KICK, _SET_VRING_CALL):
            queue = self._queues[struct.unpack("<Q", body)[0] & 0xff]
            fd = fds.pop() if fds else -1
            if request == _SET_VRING_KICK:
                queue.kick = self._replace(queue.kick, fd)
            else:
                queue.call = self._replace(queue.call, fd)
        for fd in fds:
            os.close(fd)
        if reply is None and flags & 8:
            reply = struct.pack("<Q", 0)
        if reply is not None:
            qemu.sendall(struct.pack("<III", request, 5, len(reply)) + reply)

    @staticmethod
    def _replace(old, new):
        if old >= 0:
            os.close(old)
        return new

    def _find(self, address, kind):
        for region in self._regions:
            start = getattr(region, kind)
            if start <= address < start + region.size:
                return region.memory, region.base + address - start
        raise ValueError(f"address {address:#x} is in no memory region")

    # -- the queues

    def _take(self, queue):
        """The next chain of descriptors, as (head, [(memory, offset, length)])."""
        memory, offset = queue.avail
        if struct.unpack_from("<H", memory, offset + 2)[0] == queue.next:
            return None
        head = struct.unpack_from("<H", memory, offset + 4 + 2 * (queue.next % queue.num))[0]
        queue.next = (queue.next + 1) & 0xffff
        chain, index = [], head
        while True:
            memory, offset = queue.desc
            address, length, flags, following = struct.unpack_from("<QIHH", memory, offset + 16 * index)
            chain.append((*self._find(address, "guest"), length))
            if not flags & 1:
                return head, chain
            index = following

    @staticmethod
    def _give_back(queue, head, length):
        memory, offset = queue.used
        index = struct.unpack_from("<H", memory, offset + 2)[0]
        struct.pack_into("<II", memory, offset + 4 + 8 * (index % queue.num), head, length)
        struct.pack_into("<H", memory, offset + 2, (index + 1) & 0xffff)
        if queue.call >= 0:
            os.write(queue.call, array.array("Q", [1]).tobytes())

    def _transmit(self):
        queue = self._queues[1]
        while (taken := self._take(queue)) is not None:
            head, chain = taken
            packet = b"".join(memory[offset:offset + length] for memory, offset, length in chain)
            self._give_back(queue, head, 0)
            self._packet(packet)

    def _packet(self, packet):
        source_cid, cid, source_port, port, length, _, operation, _, _, _ = _HEADER.unpack_from(packet)
        payload = packet[_HEADER.size:_HEADER.size + length]

        def send(op, data=b"", flags=0):
            self._pending.append(_HEADER.pack(cid, source_cid, port, source_port, len(data), 1, op, flags, 65536,
                                              len(self.received)) + data)

        if operation == _REQUEST:
            self.connections.append((cid, port))
            send(_RST if self.refuse or port != HEARTBEAT_PORT else _RESPONSE)
        elif operation == _RW:
            self.received += payload
            if self.heartbeat_time is None:
                self.heartbeat_time = time.monotonic()
            if self.answer:
                send(_RW, self.answer)
            elif self.answer is not None:
                send(_SHUTDOWN, flags=3)
        elif operation == _SHUTDOWN:
            send(_RST)

    def _flush(self):
        queue = self._queues[0]
        while self._pending and (taken := self._take(queue)) is not None:
            head, chain = taken
            packet, position = self._pending.pop(0), 0
            for memory, offset, length in chain:
                part = packet[position:position + length]
                memory[offset:offset + len(part)] = part
                position += len(part)
            self._give_back(queue, head, len(packet))
