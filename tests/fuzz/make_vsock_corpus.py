#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of vhost_user_fuzz and vsock_connection_fuzz: the life of ordinary connections, in the scripts that the two read."""
import pathlib

CORPUS = pathlib.Path(__file__).parent / "corpus"

# vhost_user_fuzz: the number of a step, then its bytes.
GIVE_BUFFERS = bytes([3])


def packet(op, length=0, flags=0, window=0x1000, forwarded=0, guest_port=1, host_port=0):
    return (bytes([2, 1, guest_port, host_port, op, flags]) + window.to_bytes(2, "little") + forwarded.to_bytes(2, "little")
            + length.to_bytes(2, "little") + bytes([0]))


def host(what, *arguments):
    return bytes([5, what, *arguments])


def host_bytes(what, count):
    return host(what, 0) + count.to_bytes(2, "little")


def request(kind, payload, flags=4, fd=0):
    return bytes([0, flags | fd, kind, len(payload)]) + payload


def kick(queue):
    return bytes([4, queue])


VHOST_USER = {
    "guest_connects": GIVE_BUFFERS + packet(1) + packet(5, 100) + host_bytes(0, 200) + packet(4, flags=3),
    "guest_half_closes": GIVE_BUFFERS + packet(1) + packet(5, 10) + packet(4, flags=2) + host_bytes(0, 50) + packet(3),
    "host_connects": GIVE_BUFFERS + host(7, 2) + host_bytes(0, 100) + packet(3),
    "host_closes": GIVE_BUFFERS + packet(1) + host_bytes(0, 5000) + host(4, 0) + GIVE_BUFFERS + packet(3),
    "slow_host": GIVE_BUFFERS + packet(1) + packet(5, 60000) * 8 + host_bytes(1, 60000) * 3 + packet(3),
    "no_credit": GIVE_BUFFERS + packet(1, window=1) + host_bytes(0, 100) + packet(6, window=2, forwarded=16),
    "busy_and_refused": GIVE_BUFFERS + packet(1, host_port=1) + packet(1, guest_port=2),
    "queue_stops": packet(1) + request(11, bytes(8)) + request(18, bytes(8)) + kick(0) + kick(1),
    "broken_ring": GIVE_BUFFERS + packet(1) + bytes([1]) + (0x102).to_bytes(2, "little") + bytes([2, 0xff, 0x7f]) + kick(1) + kick(0),
}

# vsock_connection_fuzz: who asked, then steps of four bytes.
GUEST, HOST, DEVICE = 0, 1, 2


def steps(*all_steps):
    return b"".join(bytes(step) for step in all_steps)


SEND = (DEVICE, 50, 1, 0)
VSOCK_CONNECTION = {
    "guest_connects": b"\0" + steps((HOST, 0, 0, 0), SEND, (GUEST, 5, 40, 2), (HOST, 3, 40, 0), SEND, (HOST, 1, 0, 0), SEND, SEND, SEND,
                                    (GUEST, 6, 50, 1), SEND, (HOST, 4, 0, 0), SEND, (HOST, 5, 0, 0), SEND, (GUEST, 3, 0, 2)),
    "host_connects": b"\1" + steps(SEND, (GUEST, 2, 0, 2), (HOST, 1, 0, 0), SEND, (HOST, 6, 0, 0), SEND, (HOST, 4, 0, 0), SEND),
    "no_buffer": b"\0" + steps((HOST, 0, 0, 0), (DEVICE, 1, 0, 0), SEND, (GUEST, 7, 0, 2), (DEVICE, 1, 0, 0), SEND, (GUEST, 4, 3, 2)),
}

for folder, inputs in (("vhost_user", VHOST_USER), ("vsock_connection", VSOCK_CONNECTION)):
    (CORPUS / folder).mkdir(exist_ok=True)
    for name, data in inputs.items():
        (CORPUS / folder / name).write_bytes(data)
