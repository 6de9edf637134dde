# SPDX-License-Identifier: Apache-2.0
"""nitro-cli facing a malicious process that listens in the sockets folder: JSON designed to exhaust the stack, the memory or the time of
its parser, and texts that attack a terminal."""
import os
import socket
import threading
import unittest

from standin import Machine, main

CONFIRMATION = (0xeec0).to_bytes(8, "little")


def message(kind, text):
    """One reply of the protocol (docs/socket-protocol.md)."""
    cbor = b"\xa1" + bytes([0x60 + len(kind)]) + kind + b"\x7a" + len(text).to_bytes(4, "big") + text
    return len(cbor).to_bytes(8, "little") + cbor


def answer(standard_output, standard_error=b""):
    return (CONFIRMATION + message(b"StdErrMessage", standard_error) + message(b"StdOutMessage", standard_output)
            + (9).to_bytes(8, "little") + b"\xa1fStatus\0")


MEMBERS = b"{" + b",".join(b'"k%d":0' % number for number in range(100000)) + b"}"
TEXTS = {
    "brackets that open": b"[" * 200000,
    "brackets that close again": b"[" * 200000 + b"]" * 200000,
    "objects in objects": b'{"a":' * 200000,
    "more values than anybody has": b"[" + b"0," * 3000000 + b"0]",
    "no JSON": b"\xff\xfe",
    "nothing": b"",
}


class Peer(unittest.TestCase):
    def setUp(self):
        self.machine = Machine()
        self.addCleanup(self.machine.close)

    def ask(self, content, command="describe-enclaves"):
        """The result of the command if the process sends `content` to every client."""
        path = f"{self.machine.folder}/s/1.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def serve():
                try:
                    while True:
                        connection, _ = listener.accept()
                        with connection:
                            connection.recv(1000)
                            connection.sendall(content)
                except OSError:
                    pass  # the end of the test, or of the client
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            done = self.machine.run(command)
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
        os.remove(path)
        self.assertGreaterEqual(done.returncode, 0, "a signal ended it")
        return done

    def test_json_that_nobody_could_hold_is_no_answer(self):
        for name, text in TEXTS.items():
            for command in ("describe-enclaves", "terminate-enclave --enclave-name a", "console --enclave-name a"):
                with self.subTest(name, command=command):
                    done = self.ask(answer(text), command)
                    self.assertNotIn("[" * 50, done.stdout)
                    self.assertNotIn("Traceback", done.stderr)

    def test_an_object_of_many_members_is_printed_in_its_order(self):
        done = self.ask(answer(MEMBERS))
        self.assertEqual(done.returncode, 0, done.stderr[:300])
        self.assertEqual(done.stdout.count('"k'), 100000)
        self.assertLess(done.stdout.index('"k9"'), done.stdout.index('"k10"'))

    def test_nothing_that_it_says_moves_the_cursor(self):
        for text in (b"\x1b]0;title\a\x1b[2Jgone\rover\nnext\n", b"\x1b[1A" * 3 + b"\n"):
            done = self.ask(answer(b'{"Name": "\x7f\\u001b[2J"}', text))
            self.assertEqual([c for c in done.stdout + done.stderr if c != "\n" and (c < " " or c == "\x7f")], [])
            self.assertEqual(done.stderr.count("\n"), text.count(b"\n"), done.stderr)


if __name__ == "__main__":
    main()
