#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes those first inputs of answer_fuzz, control_session_fuzz and control_path_fuzz that were not recorded: what goes up to the limits and
past them."""
import pathlib

CORPUS = pathlib.Path(__file__).parent / "corpus"


def number(value, size=8):
    return value.to_bytes(size, "little")


def message(cbor):
    return number(len(cbor)) + cbor


def text(content):
    """A CBOR text whose length has 16 bits."""
    return b"\x79" + len(content).to_bytes(2, "big") + content


def output(size, kind=b"StdOutMessage"):
    return message(b"\xa1" + bytes([0x60 + len(kind)]) + kind + text(b"t" * size))


STATUS = message(b"\xa1\x66Status\x00")
CONFIRMATION = number(0xeec0)
# Pieces of 1 byte and of 509.
SMALL, LARGE = b"\x01", b"\xff"

# answer_fuzz takes 6000 bytes of texts, and one message of that size.
ANSWER = {
    "many-texts": LARGE + CONFIRMATION + output(900) * 6 + STATUS,
    "many-texts-in-bytes": SMALL + CONFIRMATION + output(300) * 16 + STATUS,
    "all-texts-there-may-be": LARGE + CONFIRMATION + output(3000) + output(3000, b"StdErrMessage") + STATUS,
    "one-text-too-many": LARGE + CONFIRMATION + output(3000) + output(3001, b"StdErrMessage") + STATUS,
    "longest-message": LARGE + CONFIRMATION + output(6000 - 18) + STATUS,
    "too-long-message": LARGE + CONFIRMATION + output(6000 - 17) + STATUS,
}

NAME_COMMAND = message(b"\x6bGetIDbyName")


def name(size):
    return message(b"\x78" + bytes([size]) + b"n" * size)


# control_session_fuzz takes messages of 100 bytes.
CONTROL_SESSION = {
    "longest-name": LARGE + NAME_COMMAND * 2 + name(98),
    "too-long-name": LARGE + NAME_COMMAND * 2 + name(99),
    "too-long-by-its-length": LARGE + NAME_COMMAND * 2 + number(101) + b"n",
}

# control_path_fuzz: owner, pieces of the request, pieces of the reply, half the size of the description, a quarter of the reply's limit, and
# then what is sent.
DESCRIBE, TERMINATE, BY_NAME = 3, 1, 7


def path(*sent, owner=1, request=255, reply=255, description=100, limit=1000):
    return bytes([owner, request, reply]) + number(description, 2) + number(limit, 2) + b"".join(sent)


def command(which):
    return bytes([0, which])


CONTROL_PATH = {
    "describe": path(command(DESCRIBE), b"\x03\x01"),
    "describe-much": path(command(DESCRIBE), b"\x03\x00", description=0xffff, limit=0xffff),
    "describe-more-than-is-wanted": path(command(DESCRIBE), b"\x03\x00", description=5000, limit=2000),
    "describe-in-bytes": path(command(DESCRIBE), b"\x03\x00", request=0, reply=0, description=3000, limit=0xffff),
    "terminate": path(command(TERMINATE), description=3000, limit=0xffff),
    "terminate-of-another": path(command(TERMINATE), owner=0),
    "name": path(command(BY_NAME), b"\x02" + number(3, 2)),
    "longest-name": path(command(BY_NAME), b"\x02" + number(32766, 2)),
    "too-long-name": path(command(BY_NAME), b"\x02" + number(32767, 2)),
    "too-long-by-its-length": path(command(BY_NAME), b"\x04" + number(32769, 2)),
    "two-commands": path(b"\x01\x03\x01\x01"),
    "raw": path(b"\x05\x09" + message(b"x")),
}

for folder, inputs in (("answer", ANSWER), ("control_session", CONTROL_SESSION), ("control_path", CONTROL_PATH)):
    (CORPUS / folder).mkdir(exist_ok=True)
    for name_of_input, data in inputs.items():
        (CORPUS / folder / name_of_input).write_bytes(data)
