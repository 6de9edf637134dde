# SPDX-License-Identifier: Apache-2.0
"""The real parts that images come from, started for a test in a folder of its own and gone after it: container engines, registries, a token
server, and a proxy that makes a network bad."""
import base64
import contextlib
import hashlib
import http.client
import http.server
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import enclave  # noqa: E402

GOLDEN = HERE.parents[1] / "data/golden"
IMAGES = sorted(path.name.split(".")[0] for path in (GOLDEN / "images").iterdir())
EPOCH, BUILD_TIME = "1700000000", "2023-11-14T22:13:20+00:00"
USER, PASSWORD = "someone", "secret"
HTPASSWD = f"{USER}:$2b$04$8V7GXjnVmdIrlh9xyAlnzu0J2NpFh/WtyNsx8wN/rUik2jnS/FWiC\n"  # PASSWORD


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def need_programs(*names):
    if why := enclave.absent_programs(*names):
        raise unittest.SkipTest(why)


def need_root():
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root can start a container engine")


def golden_measurements(name):
    return json.loads((GOLDEN / f"eif/{name}/build-enclave.stdout.json").read_text())


def golden_archive(name):
    return GOLDEN / f"images/{name}.docker-archive.tar"


def run(*command, **options):
    """Runs a command that has to succeed and returns what it printed."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, **options}
    done = subprocess.run(list(map(str, command)), check=False, **options)
    output = (done.stdout or b"").decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{output}"
    return output


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true, what, seconds=30, process=None):
    end = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, f"{what}: status {process.returncode}\n{process.log.read_text()[-2000:]}"
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        time.sleep(0.02)


def port_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def socket_answers(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def folder_mounts(folder):
    return [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines() if line.split()[1].startswith(folder + "/")]


class Workshop:
    """A folder and what was started in it. close() ends every process, in the opposite order, and removes the folder."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="nitro-it-parts-")
        os.mkdir(f"{self.folder}/home")
        os.mkdir(f"{self.folder}/tmp")
        self.stack = contextlib.ExitStack()
        self.stack.callback(self.remove_folder)
        self.write("storage.conf", f'[storage]\ndriver = "vfs"\ngraphroot = "{self.folder}/containers"\nrunroot = "{self.folder}/containers-run"\n')
        self.write("registries.conf", "")
        # Nothing of the user who runs the tests gets in.
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C", "HOME": f"{self.folder}/home", "TMPDIR": f"{self.folder}/tmp",
                            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
                            "CONTAINERS_REGISTRIES_CONF": f"{self.folder}/registries.conf", "REGISTRY_AUTH_FILE": self.write("no-logins", "{}"),
                            "XDG_RUNTIME_DIR": f"{self.folder}/home", "BUILDAH_ISOLATION": "chroot"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def path(self, name):
        return f"{self.folder}/{name}"

    def write(self, name, text, mode=0o644):
        path = pathlib.Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
        path.chmod(mode)
        return str(path)

    def run(self, *command, environment=None, **options):
        return run(*command, env={**self.environment, **(environment or {})}, **options)

    def start(self, *command, log, environment=None):
        """A process in a group of its own, whose members all end with it."""
        environment = self.environment if environment is None else environment
        with open(self.path(log), "wb") as output:
            process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                       env=environment, start_new_session=True)
        process.log = pathlib.Path(self.path(log))
        self.stack.callback(self.stop, process)
        return process

    @staticmethod
    def stop(process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def remove_folder(self):
        for mount in reversed(folder_mounts(self.folder)):
            run("umount", "-l", mount)
        shutil.rmtree(self.folder)

    def close(self):
        self.stack.close()

    def dockerd(self, *, tls=None):
        return Dockerd(self, tls)

    def podman(self):
        return Podman(self)

    def rootless_podman(self):
        return RootlessPodman(self)

    def registry(self, *, storage="registry", auth=None, tls=None):
        return Registry(self, storage, auth, tls)


class Engine:
    """What engines have in common. `host` is for DOCKER_HOST."""

    def request(self, method, path, body=b"", headers=()):
        connection = http.client.HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.socket)
        with contextlib.closing(connection), connection.sock:
            connection.request(method, path, body, {"Connection": "close", **dict(headers)})
            answer = connection.getresponse()
            content = answer.read()
        assert answer.status < 300, content
        return content

    def load(self, archive):
        self.request("POST", "/images/load", pathlib.Path(archive).read_bytes(), {"Content-Type": "application/x-tar"})

    def tag(self, name, repository, tag):
        self.request("POST", f"/images/{name}/tag?repo={repository}&tag={tag}")

    def remove(self, name):
        self.request("DELETE", f"/images/{name}?force=1")

    def layers(self, name):
        """The layers of an image, as bytes of tar archives, the lowest first."""
        archive = tarfile.open(fileobj=io.BytesIO(self.request("GET", f"/images/{name}/get")))
        manifest = json.load(archive.extractfile("manifest.json"))[0]
        return [archive.extractfile(layer).read() for layer in manifest["Layers"]]


class Dockerd(Engine):
    def __init__(self, workshop, tls):
        need_root()
        need_programs("dockerd", "containerd")
        self.folder = workshop.path(f"docker-{free_port()}")
        os.mkdir(self.folder)
        self.socket = f"{self.folder}/docker.sock"
        self.host = f"unix://{self.socket}"
        hosts, options = ["-H", self.host], []
        self.port = free_port()
        if tls:
            hosts += ["-H", f"tcp://127.0.0.1:{self.port}"]
            options = ["--tlsverify", f"--tlscacert={tls.ca}", f"--tlscert={tls.server}.pem", f"--tlskey={tls.server}.key"]
        self.process = workshop.start("dockerd", *hosts, *options, "--bridge=none", "--iptables=false", "--ip6tables=false",
                                      "--storage-driver=vfs", f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
                                      f"--pidfile={self.folder}/pid", log=f"{os.path.basename(self.folder)}/log")
        workshop.stack.callback(self.stop_containerd, workshop)
        workshop.stack.callback(workshop.stop, self.process)
        wait_until(lambda: os.path.exists(self.socket) and socket_answers(self.socket), "dockerd", process=self.process)

    def stop_containerd(self, workshop):
        """dockerd puts it into a session of its own; it ends with dockerd unless that was killed."""
        pid_file = pathlib.Path(f"{self.folder}/exec/containerd/containerd.pid")
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text())
        with contextlib.suppress(OSError):
            if workshop.folder.encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of containerd")


class Podman(Engine):
    def __init__(self, workshop):
        need_root()
        need_programs("podman")
        self.socket = workshop.path("podman.sock")
        self.host = f"unix://{self.socket}"
        self.process = workshop.start("podman", "--cgroup-manager=cgroupfs", "--events-backend=file", "system", "service", "--time=0",
                                      self.host, log="podman.log")
        wait_until(lambda: os.path.exists(self.socket) and socket_answers(self.socket), "podman", process=self.process)


class RootlessPodman(Engine):
    """The service of a user who has one user ID only, as ordinary users do who have no ranges of their own in /etc/subuid."""

    def __init__(self, workshop):
        need_root()
        need_programs("podman", "setpriv")
        self.home = tempfile.mkdtemp(prefix="nitro-it-rootless-")
        workshop.stack.callback(shutil.rmtree, self.home)
        shutil.chown(self.home, "nobody")
        self.socket = f"{self.home}/podman.sock"
        self.host = f"unix://{self.socket}"
        environment = {"PATH": os.environ["PATH"], "HOME": self.home, "XDG_RUNTIME_DIR": self.home, "TMPDIR": self.home}
        workshop.stack.callback(self.end_all)
        self.process = workshop.start("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "podman", "--storage-driver=vfs",
                                      "--storage-opt=vfs.ignore_chown_errors=true", "--cgroup-manager=cgroupfs", "--events-backend=file", "system",
                                      "service", "--time=0", self.host, log="rootless.log", environment=environment)
        try:
            wait_until(lambda: os.path.exists(self.socket) and socket_answers(self.socket), "podman", process=self.process)
        except AssertionError as why:
            raise unittest.SkipTest(f"this kernel gives ordinary users no namespaces: {why}") from why

    def end_all(self):
        """A process that holds the user's namespace outlives the service."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if f"HOME={self.home}\0".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)


class Certificates:
    """A certificate authority, a server that is 127.0.0.1 and localhost, and a client."""

    def __init__(self, workshop):
        need_programs("openssl")
        self.folder = workshop.path("tls")
        os.mkdir(self.folder)
        self.ca, self.server, self.client = f"{self.folder}/ca.pem", f"{self.folder}/server", f"{self.folder}/client"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=Test CA",
            "-keyout", f"{self.folder}/ca.key", "-out", self.ca)
        for name, extension in ((self.server, "subjectAltName=IP:127.0.0.1,DNS:localhost"), (self.client, "extendedKeyUsage=clientAuth")):
            run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-keyout",
                f"{name}.key", "-out", f"{name}.csr")
            pathlib.Path(f"{name}.ext").write_text(extension)
            run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", self.ca, "-CAkey", f"{self.folder}/ca.key", "-CAcreateserial", "-days",
                "30", "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def docker_folder(self):
        """The client's part with the names that docker gives it."""
        folder = f"{self.folder}/docker"
        os.makedirs(folder, exist_ok=True)
        shutil.copy(self.ca, f"{folder}/ca.pem")
        shutil.copy(f"{self.client}.pem", f"{folder}/cert.pem")
        shutil.copy(f"{self.client}.key", f"{folder}/key.pem")
        return folder


class Registry:
    """Debian's docker-registry on the loopback. Several may share a storage folder. `auth`: lines for its configuration."""

    def __init__(self, workshop, storage, auth, tls, client_authority=None):
        need_programs("docker-registry", "skopeo")
        self.workshop, self.port = workshop, free_port()
        self.host = f"127.0.0.1:{self.port}"
        http_options = {"addr": self.host}
        if tls:
            http_options["tls"] = {"certificate": f"{tls.server}.pem", "key": f"{tls.server}.key"}
        if client_authority:
            http_options["tls"]["clientcas"] = [client_authority]
        config = {"version": 0.1, "log": {"level": "warn", "accesslog": {"disabled": True}},
                  "storage": {"filesystem": {"rootdirectory": workshop.path(storage)}}, "http": http_options}
        if auth:
            config["auth"] = auth
        # JSON is YAML.
        path = workshop.write(f"registry-{self.port}.yml", json.dumps(config))
        # It takes every variable REGISTRY_… for a setting of its own.
        environment = {name: value for name, value in workshop.environment.items() if not name.startswith("REGISTRY_")}
        process = workshop.start("docker-registry", "serve", path, log=f"registry-{self.port}.log", environment=environment)
        wait_until(lambda: port_open(self.port), "docker-registry", process=process)

    def push(self, source, name, *options):
        self.workshop.run("skopeo", "copy", "-q", "--dest-tls-verify=false", *options, source, f"docker://{self.host}/{name}")

    @staticmethod
    def htpasswd(workshop):
        return {"htpasswd": {"realm": "test", "path": workshop.write("htpasswd", HTPASSWD)}}


class QuietHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def peer_certificate(self):
        return self.connection.getpeercert() or {}

    def answer(self, status, content=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server:
    """An HTTP server in threads of the test. With `client_authority` it asks for the client's certificate, and a handler finds that, or an
    empty one, with peer_certificate()."""

    def __init__(self, workshop, handler, address="127.0.0.1", tls=None, client_authority=None):
        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """Clients of these tests hang up."""

        self.server = Quiet((address, 0), handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{tls.server}.pem", f"{tls.server}.key")
            if client_authority:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(client_authority)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.host = f"{address}:{self.port}"
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()

        def stop():
            self.server.shutdown()
            thread.join()
            self.server.server_close()
        workshop.stack.callback(stop)


class TokenServer(Server):
    """Gives tokens that a docker-registry with auth() believes. `requests` has what it was asked: (method, parameters, login).
    `methods`: those it understands, others are answered with `unknown_method`. `anonymous`: whether it gives tokens without a login.
    `certificates`: those that its clients showed."""

    def __init__(self, workshop, tls=None, client_authority=None):
        need_programs("openssl")
        self.key, self.certificate = workshop.path("token.key"), workshop.path("token.pem")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=tokens", "-keyout", self.key, "-out",
            self.certificate)
        self.requests, self.methods, self.anonymous, self.scheme = [], {"GET", "POST"}, True, "https" if tls else "http"
        self.unknown_method, self.certificates = 405, []
        self.refresh_token = "a refresh token"
        outer = self

        class Handler(QuietHandler):
            def do_GET(self):
                login = self.headers.get("Authorization")
                user = base64.b64decode(login.split()[1]).decode() if login else None
                self.serve(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)), user)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                parameters = dict(urllib.parse.parse_qsl(body))
                user = None
                if parameters.get("grant_type") == "password":
                    user = f"{parameters['username']}:{parameters['password']}"
                elif parameters.get("refresh_token") == outer.refresh_token:
                    user = f"{USER}:{PASSWORD}"
                self.serve(parameters, user)

            def serve(self, parameters, user):
                outer.requests.append((self.command, parameters, user))
                if client_authority:
                    outer.certificates.append(self.peer_certificate())
                if self.command not in outer.methods:
                    self.answer(outer.unknown_method)
                elif (user is None and outer.anonymous) or user == f"{USER}:{PASSWORD}":
                    token = outer.token(parameters["service"], parameters["scope"])
                    key = "access_token" if self.command == "POST" else "token"
                    self.answer(200, json.dumps({key: token, "expires_in": 300}).encode(), {"Content-Type": "application/json"})
                else:
                    self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}')

        super().__init__(workshop, Handler, tls=tls, client_authority=client_authority)

    def auth(self):
        return {"token": {"realm": f"{self.scheme}://{self.host}/token", "service": "test registry", "issuer": "tokens",
                          "rootcertbundle": self.certificate}}

    def token(self, service, scope):
        def encoded(content):
            return base64.urlsafe_b64encode(content).rstrip(b"=")
        kind, name, actions = scope.split(":")
        pem = pathlib.Path(self.certificate).read_text()
        head = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.splitlines()[1:-1])]}
        now = int(time.time())
        claims = {"iss": "tokens", "sub": USER, "aud": service, "iat": now - 5, "nbf": now - 5, "exp": now + 300, "jti": str(time.monotonic_ns()),
                  "access": [{"type": kind, "name": name, "actions": actions.split(",")}]}
        text = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text, stdout=subprocess.PIPE, check=True).stdout
        return (text + b"." + encoded(signature)).decode()


class Proxy(Server):
    """Stands before a registry. `trouble(handler, request number of this path)` may answer itself and return True, change the request's
    headers, or return a number: the connection ends after so many bytes of the answer's body. `seen`: (path, headers)."""

    def __init__(self, workshop, port, trouble=lambda handler, number: None, address="127.0.0.1", tls=None, client_authority=None):
        self.seen, self.trouble = [], trouble
        outer = self

        class Handler(QuietHandler):
            def do_GET(self):
                outer.seen.append((self.path, dict(self.headers)))
                number = sum(path == self.path for path, _ in outer.seen)
                limit = outer.trouble(self, number)
                if limit is True:
                    return
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
                    connection.request("GET", self.path, headers=dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "date"):
                        self.send_header(name, value)
                self.end_headers()
                if limit is not None:
                    self.wfile.write(content[:limit])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.wfile.write(content)

        super().__init__(workshop, Handler, address, tls, client_authority)


class Relay:
    """A TCP port that leads to a Unix socket. `limit(first bytes of a request)` is how many bytes of the answer get through before both
    ends are cut, or None."""

    def __init__(self, workshop, path, limit=lambda request: None):
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with socket.socket(socket.AF_UNIX) as engine:
                    engine.connect(path)
                    request = self.request.recv(65536)
                    engine.sendall(request)
                    left = limit(request)
                    backward = threading.Thread(target=self.forward, args=(engine,), daemon=True)
                    backward.start()
                    while data := engine.recv(65536):
                        if left is not None:
                            data, left = data[:left], left - len(data)
                        with contextlib.suppress(OSError):
                            self.request.sendall(data)
                        if left is not None and left <= 0:
                            break
                    for end in (engine, self.request):
                        with contextlib.suppress(OSError):
                            end.shutdown(socket.SHUT_RDWR)
                    backward.join()

            def forward(self, engine):
                with contextlib.suppress(OSError):
                    while data := self.request.recv(65536):
                        engine.sendall(data)
                    engine.shutdown(socket.SHUT_WR)

        class Quiet(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                """Clients of these tests hang up."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.host = f"tcp://127.0.0.1:{self.server.server_address[1]}"
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()

        def stop():
            outer.server.shutdown()
            thread.join()
            outer.server.server_close()
        workshop.stack.callback(stop)


class Builder:
    """nitro-cli in the workshop's environment, with a folder for temporary files that it has to leave empty."""

    def __init__(self, workshop):
        self.workshop, self.path = workshop, enclave.needed("NITRO_CLI", "build the project first")
        self.temporary, self.output = workshop.path("builds"), workshop.path("out/image.eif")
        for folder in (self.temporary, workshop.path("logs"), workshop.path("out")):
            os.makedirs(folder)
        self.environment = {**workshop.environment, "NITRO_CLI_BLOBS": str(GOLDEN / "blobs"), "NITRO_CLI_LOGS_PATH": workshop.path("logs"),
                            "TMPDIR": self.temporary}

    def command(self, uri, *options):
        options = list(map(str, options))
        architecture = [] if "--arch" in options else ["--arch", "x86_64"]
        return [self.path, "build-enclave", "--docker-uri", str(uri), "--output-file", self.output, *architecture, *options]

    def __call__(self, uri, *options, environment=None, timeout=120):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.output)
        return enclave.Result(subprocess.run(self.command(uri, *options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout, check=False,
                                             env={**self.environment, **(environment or {})}))

    def bytes(self):
        return pathlib.Path(self.output).read_bytes()

    def processes(self):
        """Those that we or our children are: they have our temporary folder in their environment. Zombies have none."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if f"TMPDIR={self.temporary}\0".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes() + b"\0":
                    found.append((pid, pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()))
        return found

    def leftovers(self):
        """Temporary files, halves of outputs and processes that builds have left."""
        return [*os.listdir(self.temporary), *(name for name in os.listdir(self.workshop.path("out")) if name != "image.eif"), *self.processes()]


class ImagesTest(unittest.TestCase):
    """A class of tests with a workshop. A test's builds leave no temporary file."""

    @classmethod
    def setUpClass(cls):
        enclave.needed("NITRO_CLI", "build the project first")
        cls.workshop = Workshop()
        cls.addClassCleanup(cls.workshop.close)
        cls.build = Builder(cls.workshop)
        cls.prepare()

    @classmethod
    def prepare(cls):
        pass

    def tearDown(self):
        self.assertEqual(self.build.leftovers(), [], "left behind")

    def assert_golden(self, result, name):
        self.assertEqual(result.status, 0, result)
        self.assertEqual(result.json, golden_measurements(name), name)

    def assert_refused(self, result, code, *parts):
        """One clear error, its code as exit status, and no output file."""
        self.assertEqual(result.status, int(code[1:]), result)
        self.assertEqual(result.out, "", result)
        self.assertEqual(result.err.count("[ E"), 1, result)
        self.assertIn(f"[ {code} ]", result.err)
        for part in parts:
            self.assertIn(part, result.err)
        self.assertFalse(os.path.exists(self.build.output), "an output file")


def main():
    outcome = unittest.main(verbosity=2, exit=False).result
    if not outcome.wasSuccessful():
        raise SystemExit(1)
    if outcome.testsRun == 0 or len(outcome.skipped) >= outcome.testsRun:
        enclave.skip("; ".join(sorted({why for _, why in outcome.skipped})) or "no tests")
