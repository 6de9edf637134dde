# SPDX-License-Identifier: Apache-2.0
"""Common parts of the tests of vsock-proxy: the program with its files in a folder, and servers to reach through it.

Environment: VSOCK_PROXY (the program). Most tests use Unix and TCP sockets, which exist everywhere; what is special about vsock is tested with
enclaves."""
import contextlib
import os
import pathlib
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from enclave import needed, wait_until  # pylint: disable=wrong-import-position

LOCALHOST = "127.0.0.1"


def free_port():
    with socket.create_server((LOCALHOST, 0)) as listener:
        return listener.getsockname()[1]


class Server:
    """Serves each connection with `serve(connection)` on a thread of its own."""

    def __init__(self, serve, port=0, backlog=128):
        self.listener = socket.create_server((LOCALHOST, port), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self.serve = serve
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.accepted += 1
                threading.Thread(target=self.one, args=(connection,), daemon=True).start()

    def one(self, connection):
        with contextlib.suppress(OSError), connection:
            self.serve(connection)

    def close(self):
        # Closing alone would not wake accept().
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def reset_on_close(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def receive_all(connection):
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


class Proxy:
    """A running vsock-proxy."""

    def __init__(self, folder, *arguments, environment=(), limit=None, ready="Proxy is now in listening state"):
        self.log_path = f"{folder}/log-{time.monotonic_ns()}"
        command = [needed("VSOCK_PROXY", "build the project first"), *map(str, arguments)]
        if limit:
            command = ["prlimit", f"--nofile={limit}:{limit}", *command]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, "RUST_LOG": "info", **dict(environment)})
        assert wait_until(lambda: ready in self.log or self.process.poll() is not None, 20), self.log
        assert self.process.poll() is None, self.log

    @property
    def log(self):
        return pathlib.Path(self.log_path).read_text("utf-8", "replace")

    def wait_for(self, text, count=1):
        assert wait_until(lambda: self.log.count(text) >= count, 20), f"{text!r} is not in the log:\n{self.log}"

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """The exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_kib(self):
        """Its own memory: private pages."""
        rollup = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("ascii")
        return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))


class ProxyTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="nitro-proxy-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.running = []
        self.addCleanup(self.end_all)

    def end_all(self):
        for proxy in self.running:
            if proxy.process.poll() is None:
                proxy.process.kill()
                proxy.process.wait()

    def server(self, serve=echo, **options):
        server = Server(serve, **options)
        self.addCleanup(server.close)
        return server

    def path(self, name):
        return f"{self.folder}/{name}"

    def write_routes(self, text):
        pathlib.Path(self.path("new")).write_text(text, "utf-8")
        os.rename(self.path("new"), self.path("routes.yaml"))

    def start(self, *arguments, **options):
        proxy = Proxy(self.folder, *arguments, **options)
        self.running.append(proxy)
        return proxy

    def start_routes(self, text, *more, **options):
        self.write_routes(text)
        return self.start("--routes", self.path("routes.yaml"), *more, **options)

    def run_proxy(self, *arguments, environment=()):
        """For a command that ends by itself."""
        return subprocess.run([needed("VSOCK_PROXY", "build the project first"), *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
                              env={**os.environ, **dict(environment)})

    def connect(self, place, seconds=20):
        """A connection to a TCP port or to a Unix socket of this test's folder."""
        if isinstance(place, int):
            return socket.create_connection((LOCALHOST, place), seconds)
        connection = socket.socket(socket.AF_UNIX)
        try:
            # Blocking, so that it waits for a place in the backlog.
            connection.connect(self.path(place))
        except OSError:
            connection.close()
            raise
        connection.settimeout(seconds)
        return connection

    def assert_serves(self, place, text=b"hello"):
        with self.connect(place) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(connection), text)

    def metrics(self, port, name, **labels):
        """The sum of a counter over its series with these labels."""
        with self.connect(port) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            text = receive_all(connection).decode()
        self.assertTrue(text.startswith("HTTP/1.1 200 OK\r\n"), text)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith(name + "{") and all(label in line for label in wanted))


class Held:
    """Many connections that are held open on a thread, as a server or as a client."""

    def __init__(self, listener):
        self.connections = []
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.over = False
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        """Echoes what arrives, one piece at a time."""
        self.listener.setblocking(False)
        while not self.over:
            for key, _ in self.selector.select(0.2):
                if key.fileobj is self.listener:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            connection, _ = self.listener.accept()
                            self.connections.append(connection)
                            self.selector.register(connection, selectors.EVENT_READ)
                else:
                    data = key.fileobj.recv(4096)
                    if data:
                        key.fileobj.sendall(data)
                    else:
                        self.selector.unregister(key.fileobj)
                        key.fileobj.close()

    def close(self):
        self.over = True
        self.listener.close()
