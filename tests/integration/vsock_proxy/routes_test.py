# SPDX-License-Identifier: Apache-2.0
"""vsock-proxy with routes: connections, faults, limits, reload, end."""
import contextlib
import hashlib
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import threading
import time

from proxy import LOCALHOST, Held, ProxyTest, echo, free_port, receive_all, reset_on_close

from enclave import main, wait_until


# The sanitizers keep freed memory for a while.
SANITIZED = "ASAN_OPTIONS" in os.environ


def allow_open_files(wanted):
    """Raises the limit for this process and its children; returns what it is then."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # Needs CAP_SYS_RESOURCE, which not every root has.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Connections(ProxyTest):
    def test_every_pair_of_kinds(self):
        server = self.server()
        tcp = free_port()
        self.start_routes(f"""
routes:
- {{listen: "unix:{self.path('a')}", connect: "tcp:localhost:{server.port}", family: ipv4}}
- {{listen: "tcp:{LOCALHOST}:{tcp}", connect: "tcp:{LOCALHOST}:{server.port}"}}
- {{listen: "unix:{self.path('b')}", connect: "unix:{self.path('a')}"}}
""")
        for place in ("a", tcp, "b"):
            self.assert_serves(place)

    def test_more_connections_than_the_reference_has_workers(self):
        """Its fifth connection waits until one of four ends."""
        server = self.server()
        self.start_routes(f'routes: [{{listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]')
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                connection = stack.enter_context(self.connect("a"))
                connection.sendall(b"x")
                self.assertEqual(connection.recv(1), b"x")

    def test_every_byte_with_random_stalls(self):
        """Both directions at the same time, in pieces of random size, with pauses on either side; NITRO_PROXY_SECONDS makes it longer."""
        seconds = float(os.environ.get("NITRO_PROXY_SECONDS", "3"))
        streams = 8
        results = {}

        def send(connection, seed):
            generator, digest, end = random.Random(seed), hashlib.sha256(), time.monotonic() + seconds
            while time.monotonic() < end:
                piece = generator.randbytes(generator.choice([1, 100, 5000, 70_000, 300_000]))
                digest.update(piece)
                connection.sendall(piece)
                if generator.random() < 0.1:
                    time.sleep(generator.random() * 0.1)
            connection.shutdown(socket.SHUT_WR)
            return digest.hexdigest()

        def receive(connection, seed):
            generator, digest = random.Random(seed), hashlib.sha256()
            while data := connection.recv(generator.choice([1, 4096, 1 << 20])):
                digest.update(data)
                if generator.random() < 0.02:
                    time.sleep(generator.random() * 0.1)
            return digest.hexdigest()

        def talk(connection, name, seed):
            sender = threading.Thread(target=lambda: results.__setitem__((name, "sent"), send(connection, seed)))
            sender.start()
            results[(name, "received")] = receive(connection, seed + 1)
            sender.join()

        def serve(connection):
            number = int.from_bytes(connection.recv(1), "big")
            talk(connection, ("server", number), 1000 + number)

        server = self.server(serve)
        self.start_routes(f'routes: [{{listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]')

        def client(number):
            with self.connect("a", seconds=seconds + 60) as connection:
                connection.sendall(bytes([number]))
                talk(connection, ("client", number), number)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(wait_until(lambda: len(results) == 4 * streams, 20), results.keys())
        for number in range(streams):
            self.assertEqual(results[(("client", number), "sent")], results[(("server", number), "received")])
            self.assertEqual(results[(("server", number), "sent")], results[(("client", number), "received")])

    def test_ten_thousand_held_while_others_are_served(self):
        count = int(os.environ.get("NITRO_PROXY_HELD", "10000"))
        count = min(count, (allow_open_files(2 * count + 1000) - 1000) // 2)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path("server"))
        listener.listen(4096)
        held = Held(listener)
        self.addCleanup(held.close)
        proxy = self.start_routes(f'routes: [{{listen: "unix:{self.path("a")}", connect: "unix:{self.path("server")}"}}]')
        before = proxy.memory_kib()
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self.connect("a")) for _ in range(count)]
            self.assertTrue(wait_until(lambda: len(held.connections) == count, 60), len(held.connections))
            per_connection = (proxy.memory_kib() - before) / count
            print(f"{count} connections held: {per_connection:.2f} KiB of memory each")
            self.assertLess(per_connection, 4 if not SANITIZED else 16)
            self.assert_serves("a")
            for connection in connections:
                connection.sendall(b"x")
            for connection in connections:
                self.assertEqual(connection.recv(1), b"x")
        proxy.wait_for("disconnected", count)

    def test_short_ones_leave_nothing_behind(self):
        """NITRO_PROXY_SHORT makes more of them."""
        count = int(os.environ.get("NITRO_PROXY_SHORT", "3000"))
        server = self.server(lambda connection: connection.sendall(connection.recv(1)))
        proxy = self.start_routes(f'routes: [{{listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]',
                                  environment={"RUST_LOG": "warn"}, ready="")
        self.assertTrue(wait_until(lambda: os.path.exists(self.path("a"))))

        def some(number):
            for _ in range(number):
                with self.connect("a") as connection:
                    connection.sendall(b"x")
                    assert connection.recv(1) == b"x"

        descriptors = proxy.descriptors()
        some(count // 10)
        self.assertTrue(wait_until(lambda: proxy.descriptors() == descriptors, 10), (descriptors, proxy.descriptors()))
        memory = proxy.memory_kib()
        some(count)
        self.assertTrue(wait_until(lambda: proxy.descriptors() == descriptors, 10), (descriptors, proxy.descriptors()))
        print(f"{count} short connections: {descriptors} descriptors, {memory} KiB before, {proxy.memory_kib()} KiB after")
        if not SANITIZED:
            self.assertLess(proxy.memory_kib() - memory, 512)


class Faults(ProxyTest):
    def route(self, port):
        return f'routes: [{{name: r, listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{port}", connect_seconds: 1}}]'

    def test_a_dead_server_ends_one_connection_only(self):
        port = free_port()
        metrics = free_port()
        proxy = self.start_routes(self.route(port), "--metrics", f"tcp:{LOCALHOST}:{metrics}")
        for _ in range(3):
            with self.connect("a") as connection:
                self.assertEqual(receive_all(connection), b"")
        # Said once, not for every client.
        self.assertEqual(proxy.log.count("Connection refused"), 1)
        self.assertIn(f"r: unix: tcp:{LOCALHOST}:{port} cannot be reached: {LOCALHOST}:{port}: Connection refused", proxy.log)
        self.assertEqual(self.metrics(metrics, "vsock_proxy_refused_total", reason="connect"), 3)
        server = self.server(port=port)
        self.assert_serves("a")
        self.assertEqual(server.accepted, 1)

    def test_a_server_that_never_accepts(self):
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind((LOCALHOST, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex((LOCALHOST, port))
        proxy = self.start_routes(self.route(port))
        begin = time.monotonic()
        with self.connect("a") as connection:
            self.assertEqual(receive_all(connection), b"")
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.assertIn("no answer", proxy.log)

    def test_a_server_that_resets(self):
        def serve(connection):
            connection.recv(1)
            reset_on_close(connection)

        server = self.server(serve)
        port = free_port()
        proxy = self.start_routes(f'routes: [{{listen: "tcp:{LOCALHOST}:{port}", connect: "tcp:{LOCALHOST}:{server.port}"}}]')
        with self.connect(port) as connection:
            connection.sendall(b"x")
            with self.assertRaises(ConnectionResetError):
                receive_all(connection)
        proxy.wait_for("disconnected (reset)")

    def test_a_server_that_ends_its_half_early(self):
        received = []

        def serve(connection):
            connection.sendall(b"bye")
            connection.shutdown(socket.SHUT_WR)
            received.append(receive_all(connection))

        server = self.server(serve)
        self.start_routes(self.route(server.port))
        with self.connect("a") as connection:
            self.assertEqual(receive_all(connection), b"bye")
            connection.sendall(b"z" * 1_000_000)
            connection.shutdown(socket.SHUT_WR)
            self.assertTrue(wait_until(lambda: received))
        self.assertEqual(received, [b"z" * 1_000_000])

    def test_a_client_that_vanishes_in_the_middle(self):
        ended = threading.Event()

        def serve(connection):
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"y" * 65536)
            ended.set()

        server = self.server(serve)
        proxy = self.start_routes(self.route(server.port))
        with self.connect("a") as connection:
            connection.recv(1000)
        self.assertTrue(ended.wait(10), "the server goes on sending to nobody")
        proxy.wait_for("disconnected")

    def test_a_client_that_comes_and_goes_before_the_server_answers(self):
        server = self.server(backlog=1024)
        proxy = self.start_routes(self.route(server.port))
        for _ in range(200):
            connection = self.connect("a")
            connection.close()
        self.assert_serves("a")
        self.assertTrue(wait_until(lambda: proxy.descriptors() < 40, 10))

    def test_descriptors_at_the_limit(self):
        server = self.server()
        proxy = self.start_routes(self.route(server.port), limit=128)
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self.connect("a")) for _ in range(100)]
            for connection in connections:
                connection.sendall(b"x")
            proxy.wait_for("as the limit of open files allows")
            for connection in connections[:5]:
                self.assertEqual(connection.recv(1), b"x")
            self.assertEqual(proxy.log.count("as the limit of open files allows"), 1)
            # The last one waits in the backlog; it is served once others have gone.
            connections[-1].settimeout(0.3)
            with self.assertRaises(TimeoutError):
                connections[-1].recv(1)
            for connection in connections[:-1]:
                connection.close()
            connections[-1].settimeout(20)
            self.assertEqual(connections[-1].recv(1), b"x")

    def test_limits_of_connections(self):
        server = self.server()
        routes = self.route(server.port).replace("connect_seconds: 1", "max_connections: 2")
        self.start_routes(routes)
        one, two, three = (self.connect("a") for _ in range(3))
        for connection in (one, two, three):
            self.addCleanup(connection.close)
            connection.sendall(b"x")
        self.assertEqual(one.recv(1) + two.recv(1), b"xx")
        three.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            three.recv(1)
        one.close()
        three.settimeout(20)
        self.assertEqual(three.recv(1), b"x")

    def test_idle_connections_end(self):
        server = self.server()
        proxy = self.start_routes(self.route(server.port).replace("connect_seconds", "idle_seconds"))
        with self.connect("a") as connection:
            for _ in range(4):
                connection.sendall(b"x")
                self.assertEqual(connection.recv(1), b"x")
                time.sleep(0.5)
            self.assertEqual(receive_all(connection), b"")
        proxy.wait_for("idle for too long")


class HttpConnect(ProxyTest):
    def setUp(self):
        super().setUp()
        self.target = self.server()
        self.proxy = self.start_routes(f"""
routes:
- name: egress
  listen: unix:{self.path('a')}
  http_connect:
  - {{host: localhost, ports: [{self.target.port}]}}
  - {{host: "{LOCALHOST}", ports: [{self.target.port}]}}
  - {{host: missing.invalid, ports: [1]}}
  addresses: [127.0.0.0/8]
- name: strict
  listen: unix:{self.path('strict')}
  http_connect: [{{host: localhost, ports: [{self.target.port}]}}]
""")

    def ask(self, request, place="a"):
        connection = self.connect(place)
        self.addCleanup(connection.close)
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = connection.recv(1000)
            if not data:
                break
            answer += data
        return connection, answer.decode()

    def test_reaches_what_is_allowed(self):
        for host in ("localhost", "LOCALHOST.", LOCALHOST):
            connection, answer = self.ask(f"CONNECT {host}:{self.target.port} HTTP/1.1\r\nHost: x\r\n\r\nearly".encode())
            self.assertTrue(answer.startswith("HTTP/1.1 200 "), answer)
            connection.sendall(b" late")
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(answer.split("\r\n\r\n", 1)[1].encode() + receive_all(connection), b"early late")

    def test_refuses_the_rest_and_says_why(self):
        for request, status in ((f"CONNECT localhost:{self.target.port + 1} HTTP/1.1\r\n\r\n", "403"),
                                ("CONNECT example.com:443 HTTP/1.1\r\n\r\n", "403"),
                                ("CONNECT 0x7f.1:80 HTTP/1.1\r\n\r\n", "400"), ("CONNECT x HTTP/1.1\r\n\r\n", "400"),
                                ("GET http://localhost/ HTTP/1.1\r\n\r\n", "405"), ("\x16\x03\x01\x02\x00\r\n\r\n", "400"),
                                ("CONNECT missing.invalid:1 HTTP/1.1\r\n\r\n", "502"),
                                ("CONNECT localhost:1 HTTP/1.1\r\nX: " + "y" * 9000, "431")):
            connection, answer = self.ask(request.encode())
            self.assertTrue(answer.startswith(f"HTTP/1.1 {status} "), (request, answer))
            with contextlib.suppress(ConnectionResetError):
                receive_all(connection)
        self.assertEqual(self.target.accepted, 0)
        self.assertIn('"example.com" port 443 is not allowed; an entry {host: "example.com", ports: [443]} in http_connect would allow it',
                      self.proxy.log + str(self.ask(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")))

    def test_reaches_no_local_address_unless_it_is_listed(self):
        _, answer = self.ask(f"CONNECT localhost:{self.target.port} HTTP/1.1\r\n\r\n".encode(), "strict")
        self.assertTrue(answer.startswith("HTTP/1.1 403 "), answer)
        self.assertEqual(self.target.accepted, 0)

    def test_curl_uses_it(self):
        def serve(connection):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

        self.target.serve = serve
        port = free_port()
        self.start_routes(f"""
routes:
- listen: tcp:{LOCALHOST}:{port}
  http_connect: [{{host: localhost, ports: [{self.target.port}]}}]
  addresses: [127.0.0.1]
""")
        output = subprocess.run(["curl", "--silent", "--proxytunnel", "--noproxy", "", "--proxy", f"http://{LOCALHOST}:{port}",
                                 f"http://localhost:{self.target.port}/"], stdout=subprocess.PIPE, check=True, timeout=20).stdout
        self.assertEqual(output, b"hello")


class Clients(ProxyTest):
    def test_addresses_are_checked(self):
        server = self.server()
        port = free_port()
        proxy = self.start_routes(f"""
routes:
- listen: tcp:{LOCALHOST}:{port}
  connect: tcp:{LOCALHOST}:{server.port}
  clients: [127.0.0.2]
""")
        with self.assertRaises(ConnectionResetError), self.connect(port) as connection:
            connection.recv(1)
        proxy.wait_for("is not allowed; see \"clients\" of the route")
        with socket.create_connection((LOCALHOST, port), 20, source_address=("127.0.0.2", 0)) as connection:
            connection.sendall(b"x")
            self.assertEqual(connection.recv(1), b"x")


class Reload(ProxyTest):
    def two(self, one, other):
        return f"""
routes:
- {{name: one, listen: "unix:{self.path('one')}", connect: "tcp:{LOCALHOST}:{one}"}}
- {{name: other, listen: "unix:{self.path('other')}", connect: "tcp:{LOCALHOST}:{other}"}}
"""

    def reload(self, proxy, text, expected="are in use"):
        self.write_routes(text)
        count = proxy.log.count(expected)
        proxy.send(signal.SIGHUP)
        proxy.wait_for(expected, count + 1)

    def test_connections_go_on_and_only_what_changed_changes(self):
        first = self.server(lambda connection: connection.sendall(b"first") or echo(connection))
        second = self.server(lambda connection: connection.sendall(b"second") or echo(connection))
        proxy = self.start_routes(self.two(first.port, first.port))
        inodes = {name: os.stat(self.path(name)).st_ino for name in ("one", "other")}
        with self.connect("one") as one, self.connect("other") as other:
            self.assertEqual(one.recv(5) + other.recv(5), b"firstfirst")
            self.reload(proxy, self.two(first.port, second.port))
            for connection in (one, other):
                connection.sendall(b"still here")
                self.assertEqual(connection.recv(10), b"still here")
            with self.connect("other") as new:
                self.assertEqual(new.recv(6), b"second")
            # Its socket is the same: no client in the backlog was lost.
            self.assertEqual({name: os.stat(self.path(name)).st_ino for name in ("one", "other")}, inodes)
            self.reload(proxy, self.two(first.port, second.port).replace("other", "third"))
            self.assertFalse(os.path.exists(self.path("other")))
            other.sendall(b"still here")
            self.assertEqual(other.recv(10), b"still here")
            self.assertTrue(os.path.exists(self.path("third")))

    def test_a_wrong_file_changes_nothing(self):
        server = self.server()
        proxy = self.start_routes(self.two(server.port, server.port))
        busy = self.server()
        for text, message in ((self.two(server.port, "x"), "routes.yaml:4: \"connect\": \"x\" is not a TCP port"),
                              ("routes: [", "routes.yaml:"),
                              (self.two(server.port, server.port) + f"- {{listen: \"tcp:{LOCALHOST}:{busy.port}\", connect: \"tcp:{LOCALHOST}:1\"}}\n",
                               "Address already in use")):
            self.reload(proxy, text, "; the routes stay as they were")
            self.assertIn(message, proxy.log)
            self.assert_serves("one")
            self.assert_serves("other")
        os.unlink(self.path("routes.yaml"))
        count = proxy.log.count("; the routes stay")
        proxy.send(signal.SIGHUP)
        proxy.wait_for("; the routes stay", count + 1)
        self.assert_serves("one")

    def test_a_listener_can_move_to_a_narrower_address(self):
        server = self.server()
        port = free_port()
        routes = f'routes: [{{name: r, listen: "tcp:0.0.0.0:{port}", connect: "tcp:{LOCALHOST}:{server.port}"}}]'
        proxy = self.start_routes(routes)
        self.assert_serves(port)
        self.reload(proxy, routes.replace("0.0.0.0", LOCALHOST))
        self.assert_serves(port)

    def test_under_load_nothing_is_lost(self):
        """Clients that come and stay while the routes change all the time."""
        server = self.server()
        proxy = self.start_routes(self.two(server.port, server.port), environment={"RUST_LOG": "warn"}, ready="")
        self.assertTrue(wait_until(lambda: os.path.exists(self.path("other"))))
        failures, over, served = [], threading.Event(), [0]

        def client():
            try:
                with self.connect("one") as held:
                    while not over.is_set():
                        self.assert_serves("other", os.urandom(5000))
                        held.sendall(b"x")
                        assert held.recv(1) == b"x"
                        served[0] += 1
            except (OSError, AssertionError) as error:
                failures.append(error)

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for turn in range(40):
            text = self.two(server.port, server.port)
            self.reload(proxy, text if turn % 2 else text.replace("}", ", connect_seconds: 7}"))
        over.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(served[0], 40)


class End(ProxyTest):
    def routes(self):
        server = self.server()
        return f'routes: [{{listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]'

    def test_without_connections_it_ends_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            proxy = self.start_routes(self.routes())
            self.assertEqual(proxy.stop(number), 0)
            self.assertFalse(os.path.exists(self.path("a")))

    def test_connections_may_end_by_themselves(self):
        proxy = self.start_routes(self.routes())
        with self.connect("a") as connection:
            connection.sendall(b"x")
            self.assertEqual(connection.recv(1), b"x")
            proxy.send(signal.SIGTERM)
            proxy.wait_for("Waiting up to 30 s for 1 connections to end")
            with self.assertRaises(OSError):
                self.connect("a")
            connection.sendall(b"y")
            self.assertEqual(connection.recv(1), b"y")
        self.assertEqual(proxy.process.wait(20), 0)

    def test_a_second_signal_ends_them(self):
        proxy = self.start_routes(self.routes())
        with self.connect("a") as connection:
            connection.sendall(b"x")
            self.assertEqual(connection.recv(1), b"x")
            proxy.send(signal.SIGTERM)
            proxy.wait_for("Waiting")
            self.assertEqual(proxy.stop(), 0)

    def test_they_have_a_time_limit(self):
        proxy = self.start_routes(self.routes(), "--drain-seconds", 1)
        with self.connect("a") as connection:
            connection.sendall(b"x")
            self.assertEqual(connection.recv(1), b"x")
            self.assertEqual(proxy.stop(), 0)
        self.assertIn("1 connections did not end in time", proxy.log)

    def test_a_killed_one_leaves_no_obstacle(self):
        routes = self.routes()
        proxy = self.start_routes(routes)
        proxy.stop(signal.SIGKILL)
        self.assertTrue(os.path.exists(self.path("a")))
        self.start_routes(routes)
        self.assert_serves("a")


class Messages(ProxyTest):
    def fails(self, *arguments, status=1, environment=()):
        result = self.run_proxy(*arguments, environment=environment)
        self.assertEqual(result.returncode, status, result)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def write(self, name, text):
        pathlib.Path(self.path(name)).write_text(text, "utf-8")
        return self.path(name)

    def test_command_lines(self):
        for arguments in ((), ("1",), ("1", "a"), ("1", "a", "2", "3"), ("--wrong",), ("-4", "-6", "1", "a", "2"), ("-w",),
                          ("--check",), ("--routes", "x", "--config", "y"), ("--routes", "x", "1", "a", "2")):
            self.assertNotEqual(self.fails(*arguments, status=2), "")
        for arguments, message in ((("x", "a", "2"), "LOCAL_PORT must be a number from 0 to 4294967294, not \"x\""),
                                   (("1", "a", "65536"), "REMOTE_PORT must be a number from 0 to 65535, not \"65536\""),
                                   (("-w0", "1", "a", "2"), "--num_workers must be a number from 1 to 4294967295, not \"0\""),
                                   (("1", "16", "2", "--config", "/dev/null"), "\"16\" is not a host but looks like a CID"),
                                   (("1", "a b", "2", "--config", "/dev/null"), "\"a b\" is neither a host name nor an IP address"),
                                   (("--max-connections", "0", "1", "a", "2"), "--max-connections must be a number"),
                                   (("--metrics", "x", "1", "a", "2"), "--metrics: \"x\" is not an endpoint")):
            self.assertIn(f"Error: {message}", self.fails(*arguments))
        self.assertEqual(self.run_proxy("--version").stdout, "Vsock-TCP proxy 1.0.2\n")
        self.assertIn("--drain-seconds", self.run_proxy("--help").stdout)

    def test_the_allowlist(self):
        missing = self.fails("8000", LOCALHOST, "80", "--config", self.path("missing"))
        self.assertIn(f"Error: opening \"{self.path('missing')}\": No such file or directory", missing)
        other = self.write("a.yaml", f"allowlist:\n- {{address: {LOCALHOST}, port: 81}}\n")
        message = self.fails("8000", LOCALHOST, "80", "--config", other)
        self.assertIn(f"the given address and port are not allowed; this entry in \"{other}\" would allow them: "
                      f"- {{address: {LOCALHOST}, port: 80}}", message)
        faulty = self.write("b.yaml", "allowlist:\n- {address: x}\n")
        self.assertIn(f"{faulty}:2: ", self.fails("8000", LOCALHOST, "80", "--config", faulty))
        good = self.write("c.yaml", f"allowlist:\n- {{address: {LOCALHOST}, port: 80}}\n")
        message = self.fails("8000", "missing.invalid", "80", "--config", good)
        self.assertIn("Error: checking the allowlist: the name \"missing.invalid\" cannot be resolved", message)

    def test_the_region(self):
        routes = self.write("r.yaml", "routes:\n- listen: vsock:1\n  connect: tcp:kms.{region}.amazonaws.com:443\n")
        where = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{LOCALHOST}:{free_port()}"}
        message = self.fails("--routes", routes, "--check", environment={"AWS_REGION": "", **where})
        self.assertIn("r.yaml:3: \"connect\": {region} needs the metadata service of an EC2 instance, or AWS_REGION", message)
        checked = self.run_proxy("--routes", routes, "--check", environment={"AWS_REGION": "eu-central-1"})
        self.assertEqual(checked.stdout, "vsock:1: vsock:1 to tcp:kms.eu-central-1.amazonaws.com:443\n")

        asked = []

        def metadata(connection):
            request = connection.recv(4096).decode()
            asked.append(request.split("\r\n", 1)[0])
            body = "TOKEN" if request.startswith("PUT") else "eu-west-3" if "X-aws-ec2-metadata-token: TOKEN" in request else ""
            status = "200 OK" if body else "401 Unauthorized"
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())

        service = self.server(metadata)
        checked = self.run_proxy("--routes", routes, "--check", environment={
            "AWS_REGION": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{LOCALHOST}:{service.port}"})
        self.assertEqual(checked.stdout, "vsock:1: vsock:1 to tcp:kms.eu-west-3.amazonaws.com:443\n", checked)
        self.assertEqual(asked, ["PUT /latest/api/token HTTP/1.1", "GET /latest/meta-data/placement/region HTTP/1.1"])

    def test_local_enclaves(self):
        os.mkdir(self.path("sockets"))
        message = self.fails("--local", "nobody", "--routes", self.write("r.yaml", "routes: [{listen: \"vsock:1\", connect: \"tcp:x:1\"}]"),
                             environment={"NITRO_CLI_SOCKETS_PATH": self.path("sockets")})
        self.assertIn("Error: no enclave has the name \"nobody\"", message)


class Metrics(ProxyTest):
    def test_counters(self):
        server = self.server()
        self.start_routes(f'routes: [{{name: r, listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]',
                          "--metrics", f"unix:{self.path('metrics')}")
        self.assert_serves("a", b"12345")
        self.assertTrue(wait_until(lambda: self.metrics("metrics", "vsock_proxy_bytes_total", route="r", direction="to_client") == 5))
        self.assertEqual(self.metrics("metrics", "vsock_proxy_bytes_total", route="r", direction="to_server"), 5)
        self.assertEqual(self.metrics("metrics", "vsock_proxy_connections_total", route="r"), 1)
        self.assertEqual(self.metrics("metrics", "vsock_proxy_connect_seconds_count", route="r"), 1)
        with self.connect("a") as connection:
            connection.sendall(b"x")
            connection.recv(1)
            self.assertEqual(self.metrics("metrics", "vsock_proxy_connections_open"), 1)
        for request, status in ((b"GET / HTTP/1.1\r\n\r\n", "404"), (b"POST /metrics HTTP/1.1\r\n\r\n", "405"), (b"x\r\n\r\n", "400")):
            with self.connect("metrics") as connection:
                connection.sendall(request)
                self.assertTrue(receive_all(connection).decode().startswith(f"HTTP/1.1 {status} "))

    def test_are_in_the_log_on_request(self):
        server = self.server()
        proxy = self.start_routes(f'routes: [{{name: r, listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]')
        self.assert_serves("a", b"12345")
        proxy.wait_for("disconnected")
        proxy.send(signal.SIGUSR1)
        proxy.wait_for("r: 0 open, 1 in all, 0 refused, 5 bytes to the server, 5 to clients")

    def test_are_not_for_other_machines(self):
        result = self.run_proxy("--routes", self.path("r.yaml"), "--metrics", "tcp:0.0.0.0:9100")
        pathlib.Path(self.path("r.yaml")).write_text(f'routes: [{{listen: "unix:{self.path("a")}", connect: "unix:/x"}}]', "utf-8")
        result = self.run_proxy("--routes", self.path("r.yaml"), "--metrics", "tcp:0.0.0.0:9100")
        self.assertEqual(result.returncode, 1)
        self.assertIn("Error: metrics are served on a Unix socket or the loopback only", result.stderr)


class ServiceManager(ProxyTest):
    def test_is_told(self):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(self.path("notify"))
        manager.settimeout(20)
        server = self.server()
        proxy = self.start_routes(f'routes: [{{name: r, listen: "unix:{self.path("a")}", connect: "tcp:{LOCALHOST}:{server.port}"}}]',
                                  environment={"NOTIFY_SOCKET": self.path("notify"), "WATCHDOG_USEC": "200000"})

        def next_with(prefix):
            while not (message := manager.recv(4096).decode()).startswith(prefix):
                pass
            return message

        self.assertEqual(next_with("READY=1"), "READY=1\nSTATUS=1 route, 0 connections")
        for _ in range(3):
            next_with("WATCHDOG=1")
        proxy.send(signal.SIGHUP)
        self.assertRegex(next_with("RELOADING=1"), r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        next_with("READY=1")
        with self.connect("a") as connection:
            connection.sendall(b"x")
            connection.recv(1)
            proxy.send(signal.SIGTERM)
            next_with("STOPPING=1")
        self.assertEqual(proxy.process.wait(20), 0)

    def test_may_pass_sockets_on(self):
        server = self.server()
        port = free_port()
        self.write_routes(f'routes: [{{listen: "tcp:{LOCALHOST}:{port}", connect: "tcp:{LOCALHOST}:{server.port}"}}]')
        activator = subprocess.Popen(["systemd-socket-activate", f"--listen={LOCALHOST}:{port}", os.environ["VSOCK_PROXY"], "--routes",
                                      self.path("routes.yaml")], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(activator.communicate)
        self.addCleanup(activator.kill)
        self.assertTrue(wait_until(lambda: b"Listening" in os.read(activator.stderr.fileno(), 4096)))
        self.assert_serves(port)


if __name__ == "__main__":
    main()
