# SPDX-License-Identifier: Apache-2.0
"""Registries: how one is let in, what TLS trusts, what a bad network does, and which platform is taken."""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import unittest
import urllib.request

import parts

NAME = "golden/tiny:1"


def big_image(folder, megabytes=3):
    """An OCI layout whose layer does not fit into one packet. Returns the reference for skopeo."""
    archive = f"{folder}/big.tar"
    parts.enclave.docker_archive(archive, {"bin/app": (os.urandom(megabytes << 20), 0o755)}, ["/bin/app"], tag="big:1")
    return f"docker-archive:{archive}"


class RegistryTest(parts.ImagesTest):
    def login(self, content):
        """DOCKER_CONFIG for one build."""
        folder = self.workshop.path("login")
        shutil.rmtree(folder, ignore_errors=True)
        self.workshop.write("login/config.json", json.dumps(content))
        return {"DOCKER_CONFIG": folder}

    def auths(self, host, user=parts.USER, password=parts.PASSWORD):
        return self.login({"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}})

    def other_address(self):
        """An address of this machine that is not the loopback's."""
        addresses = subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        address = next((name for name in addresses if "." in name), None)
        if not address:
            self.skipTest("this machine has no address but the loopback's")
        return address

    def helper(self, name, script):
        """Installs a credential helper and returns the PATH that has it."""
        self.workshop.write(f"helpers/docker-credential-{name}", f"#!/bin/sh\n{script}\n", 0o755)
        return f"{self.workshop.path('helpers')}:{os.environ['PATH']}"


class Basic(RegistryTest):
    @classmethod
    def prepare(cls):
        cls.plain = cls.workshop.registry()
        cls.plain.push(f"docker-archive:{parts.golden_archive('tiny')}", NAME)
        cls.registry = cls.workshop.registry(auth=parts.Registry.htpasswd(cls.workshop))
        cls.uri = f"docker://{cls.registry.host}/{NAME}"

    def test_stored_login(self):
        self.assert_golden(self.build(self.uri, environment=self.auths(self.registry.host)), "tiny")
        self.assert_golden(self.build(self.uri, environment=self.auths(f"http://{self.registry.host}/v2/")), "tiny")

    def test_docker_config_may_name_the_file(self):
        folder = self.auths(self.registry.host)["DOCKER_CONFIG"]
        self.assert_golden(self.build(self.uri, environment={"DOCKER_CONFIG": f"{folder}/config.json"}), "tiny")

    def test_login_of_skopeo_and_podman(self):
        parts.need_programs("skopeo")
        path = self.workshop.path("auth.json")
        self.workshop.run("skopeo", "login", "--tls-verify=false", "--authfile", path, "-u", parts.USER, "-p", parts.PASSWORD, self.registry.host)
        self.assert_golden(self.build(self.uri, environment={"REGISTRY_AUTH_FILE": path}), "tiny")

    def test_no_login_or_a_wrong_one(self):
        self.assert_refused(self.build(self.uri), "E50", "asks for a login", f"docker login {self.registry.host}")
        self.assert_refused(self.build(self.uri, environment=self.auths(self.registry.host, password="wrong")), "E50", "authentication required")

    def test_damaged_login(self):
        self.assert_refused(self.build(self.uri, environment=self.login({"auths": {self.registry.host: {"auth": "!"}}})), "E50", "log in again")

    def test_helper_for_one_registry_and_for_all(self):
        path = self.helper("good", f"""
            read -r server || [ -n "$server" ]
            [ "$1 $server" = "get {self.registry.host}" ] || {{ echo "credentials not found in native keychain"; exit 1; }}
            echo '{{"Username":"{parts.USER}","Secret":"{parts.PASSWORD}"}}'""")
        for config in ({"credHelpers": {self.registry.host: "good"}}, {"credsStore": "good"}, {"auths": {self.registry.host: {}}, "credsStore": "good"}):
            self.assert_golden(self.build(self.uri, environment={**self.login(config), "PATH": path}), "tiny")
        # It has no login for the other one, which needs none.
        other = self.build(f"docker://{self.plain.host}/{NAME}", environment={**self.login({"credsStore": "good"}), "PATH": path})
        self.assert_golden(other, "tiny")

    def test_helper_that_fails_is_named_where_a_login_is_needed(self):
        path = self.helper("bad", "echo 'the vault is sealed'; exit 1")
        environment = {**self.login({"credsStore": "bad"}), "PATH": path}
        self.assert_refused(self.build(self.uri, environment=environment), "E50", 'credential helper "bad"', "the vault is sealed")
        self.assert_golden(self.build(f"docker://{self.plain.host}/{NAME}", environment=environment), "tiny")
        missing = self.build(self.uri, environment=self.login({"credsStore": "missing"}))
        self.assert_refused(missing, "E50", "docker-credential-missing")

    def test_nothing_is_there(self):
        host = f"docker://{self.plain.host}"
        self.assert_refused(self.build(f"{host}/golden/none:1"), "E50", "golden/none:1")
        self.assert_refused(self.build(f"{host}/golden/tiny:none"), "E50", "manifest unknown")
        port = parts.free_port()
        self.assert_refused(self.build(f"docker://127.0.0.1:{port}/{NAME}"), "E50", f"127.0.0.1:{port}")

    def test_plain_http_is_for_this_machine_only(self):
        proxy = parts.Proxy(self.workshop, self.plain.port, address=self.other_address())
        self.assert_refused(self.build(f"docker://{proxy.host}/{NAME}"), "E50", proxy.host)
        self.assertEqual(proxy.seen, [], "something was sent in the clear")

    def test_registry_of_this_machine_leads_nobody_to_plain_http_elsewhere(self):
        elsewhere = parts.Proxy(self.workshop, self.plain.port, address=self.other_address())

        def token_server(handler, _):
            handler.answer(401, headers={"WWW-Authenticate": f'Bearer realm="http://{elsewhere.host}/token",service="x"'})
            return True

        def storage(handler, _):
            if "/blobs/" not in handler.path:
                return None
            handler.answer(307, headers={"Location": f"http://{elsewhere.host}{handler.path}"})
            return True
        for trouble in (token_server, storage):
            proxy = parts.Proxy(self.workshop, self.plain.port, trouble)
            refused = self.build(f"docker://{proxy.host}/{NAME}", environment=self.auths(proxy.host))
            self.assert_refused(refused, "E50", "plain HTTP", elsewhere.host)
        self.assertEqual(elsewhere.seen, [], "something was sent in the clear")

    def test_proxy_of_the_environment_is_for_other_machines(self):
        dead = f"127.0.0.1:{parts.free_port()}"
        environment = {name: f"http://me:hush@{dead}" for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy")}
        for host in (self.plain.host, f"localhost:{self.plain.port}"):
            self.assert_golden(self.build(f"docker://{host}/{NAME}", environment=environment), "tiny")
        refused = self.build("docker://registry.example.com/tiny", environment=environment)
        self.assert_refused(refused, "E50", f"the proxy http://{dead} of HTTPS_PROXY")
        self.assertNotIn("hush", refused.err)
        direct = self.build("docker://registry.invalid/tiny", environment={**environment, "NO_PROXY": "a.b, .invalid"})
        self.assert_refused(direct, "E50")
        self.assertNotIn("proxy", direct.err)


class Tokens(RegistryTest):
    @classmethod
    def prepare(cls):
        cls.plain = cls.workshop.registry()
        cls.plain.push(f"docker-archive:{parts.golden_archive('layers')}", NAME)
        cls.tokens = parts.TokenServer(cls.workshop)
        cls.registry = cls.workshop.registry(auth=cls.tokens.auth())
        cls.uri = f"docker://{cls.registry.host}/{NAME}"

    def setUp(self):
        self.tokens.requests.clear()
        self.tokens.methods, self.tokens.anonymous, self.tokens.unknown_method = {"GET", "POST"}, True, 405

    def test_without_a_login(self):
        self.assert_golden(self.build(self.uri), "layers")
        self.assertEqual(self.tokens.requests, [("GET", {"service": "test registry", "scope": "repository:golden/tiny:pull"}, None)])

    def test_with_a_login(self):
        self.tokens.anonymous = False
        self.assert_golden(self.build(self.uri, environment=self.auths(self.registry.host)), "layers")
        self.assertEqual([(method, user) for method, _, user in self.tokens.requests], [("GET", f"{parts.USER}:{parts.PASSWORD}")])
        self.assert_refused(self.build(self.uri), "E50", "no anonymous access", "who are you")
        wrong = self.build(self.uri, environment=self.auths(self.registry.host, password="wrong"))
        self.assert_refused(wrong, "E50", "refuses the stored login")

    def test_with_a_login_at_a_server_that_knows_post_only(self):
        self.tokens.anonymous, self.tokens.methods = False, {"POST"}
        for self.tokens.unknown_method in (404, 405):
            self.tokens.requests.clear()
            self.assert_golden(self.build(self.uri, environment=self.auths(self.registry.host)), "layers")
            self.assertEqual([method for method, _, _ in self.tokens.requests], ["GET", "POST"])

    def test_with_an_identity_token(self):
        self.tokens.anonymous = False
        path = self.helper("token", f"""echo '{{"Username":"<token>","Secret":"{self.tokens.refresh_token}"}}'""")
        for config in ({"credsStore": "token"}, {"auths": {self.registry.host: {"identitytoken": self.tokens.refresh_token}}}):
            self.tokens.requests.clear()
            self.assert_golden(self.build(self.uri, environment={**self.login(config), "PATH": path}), "layers")
            (method, parameters, _), = self.tokens.requests
            self.assertEqual((method, parameters["grant_type"]), ("POST", "refresh_token"))

    def token_server(self, answer):
        """The URI of the image behind a token server that answers thus, and what that is asked. Its challenge names no service."""
        asked = []

        class Handler(parts.QuietHandler):
            def do_GET(self):
                asked.append(self.path)
                self.answer(200, json.dumps(answer).encode())
        server = parts.Server(self.workshop, Handler)

        def trouble(handler, _):
            if handler.headers["Authorization"] != "Bearer good":
                handler.answer(401, headers={"WWW-Authenticate": f'Bearer realm="http://{server.host}/token?a=1,b=2"'})
                return True
            del handler.headers["Authorization"]
            return None
        proxy = parts.Proxy(self.workshop, self.plain.port, trouble)
        return f"docker://{proxy.host}/{NAME}", asked

    def test_challenge_without_a_service(self):
        uri, asked = self.token_server({"token": "good"})
        self.assert_golden(self.build(uri), "layers")
        self.assertEqual(asked, ["/token?a=1,b=2&scope=repository%3Agolden%2Ftiny%3Apull"])

    def test_token_that_would_be_two_headers_is_not_sent(self):
        uri, asked = self.token_server({"token": "bad\r\nX-Evil: 1", "access_token": "good"})
        self.assert_refused(self.build(uri), "E50", "no token")
        self.assertTrue(asked)

    def test_token_that_expires_during_the_download(self):
        def expire(handler, _):
            if "/blobs/" in handler.path and len(proxy.seen) % 2:
                handler.headers.replace_header("Authorization", "Bearer expired")
        proxy = parts.Proxy(self.workshop, self.registry.port, expire)
        self.assert_golden(self.build(f"docker://{proxy.host}/{NAME}"), "layers")
        self.assertGreater(len(self.tokens.requests), 1)

    def test_token_that_is_never_good_enough(self):
        def spoil(handler, _):
            if handler.headers["Authorization"]:
                handler.headers.replace_header("Authorization", "Bearer spoilt")
        proxy = parts.Proxy(self.workshop, self.registry.port, spoil)
        self.assert_refused(self.build(f"docker://{proxy.host}/{NAME}"), "E50", "authentication required")
        self.assertLess(len(proxy.seen), 6)


class Tls(RegistryTest):
    @classmethod
    def prepare(cls):
        cls.tls = parts.Certificates(cls.workshop)
        cls.workshop.registry().push(f"docker-archive:{parts.golden_archive('tiny')}", NAME)
        cls.registry = cls.workshop.registry(tls=cls.tls)

    def setUp(self):
        shutil.rmtree(self.workshop.path("home/.config"), ignore_errors=True)

    def install(self, tool, *names, host=None):
        folder = self.workshop.path(f"home/.config/{tool}/certs.d/{host or self.registry.host}")
        os.makedirs(folder)
        for source, name in names:
            shutil.copy(source, f"{folder}/{name}")

    def test_authority_in_certs_d(self):
        for tool in ("docker", "containers"):
            self.setUp()
            self.install(tool, (self.tls.ca, "ca.crt"))
            self.assert_golden(self.build(f"docker://{self.registry.host}/{NAME}"), "tiny")

    def test_authority_in_the_environment(self):
        uri = f"docker://localhost:{self.registry.port}/{NAME}"
        self.assert_golden(self.build(uri, environment={"SSL_CERT_FILE": self.tls.ca}), "tiny")

    def test_authority_that_is_not_known(self):
        self.assert_refused(self.build(f"docker://{self.registry.host}/{NAME}"), "E50", "certificate")
        self.install("docker", (self.tls.ca, "ca.crt"), host="other.example.com")
        self.assert_refused(self.build(f"docker://{self.registry.host}/{NAME}"), "E50", "certificate")

    def test_certificate_for_the_client(self):
        registry = parts.Registry(self.workshop, "registry", None, self.tls, client_authority=self.tls.ca)
        uri = f"docker://{registry.host}/{NAME}"
        self.install("docker", (self.tls.ca, "ca.crt"), host=registry.host)
        self.assert_refused(self.build(uri), "E50")
        self.setUp()
        self.install("docker", (self.tls.ca, "ca.crt"), (f"{self.tls.client}.pem", "me.cert"), (f"{self.tls.client}.key", "me.key"),
                     host=registry.host)
        self.assert_golden(self.build(uri), "tiny")
        os.unlink(self.workshop.path(f"home/.config/docker/certs.d/{registry.host}/me.key"))
        self.assert_refused(self.build(uri), "E50", "me.key")

    def test_token_server_behind_the_same_authority(self):
        tokens = parts.TokenServer(self.workshop, tls=self.tls)
        registry = self.workshop.registry(auth=tokens.auth(), tls=self.tls)
        self.install("docker", (self.tls.ca, "ca.crt"), host=registry.host)
        self.assert_golden(self.build(f"docker://{registry.host}/{NAME}"), "tiny")


    def keys(self):
        return (f"{self.tls.client}.pem", "me.cert"), (f"{self.tls.client}.key", "me.key")

    def test_certificate_for_the_client_is_for_its_registry_only(self):
        tokens = parts.TokenServer(self.workshop, tls=self.tls, client_authority=self.tls.ca)
        registry = parts.Registry(self.workshop, "registry", tokens.auth(), self.tls, client_authority=self.tls.ca)
        self.install("docker", (self.tls.ca, "ca.crt"), *self.keys(), host=registry.host)
        self.assert_golden(self.build(f"docker://{registry.host}/{NAME}"), "tiny")
        self.assertEqual(tokens.certificates, [{}])
        # The token server's host has a folder of its own.
        self.install("docker", *self.keys(), host=tokens.host)
        self.assert_golden(self.build(f"docker://{registry.host}/{NAME}"), "tiny")
        self.assertTrue(tokens.certificates[1])

    def test_certificate_for_the_client_does_not_follow_redirects(self):
        shown = []

        class Handler(parts.QuietHandler):
            def do_GET(self):
                shown.append(self.peer_certificate())
                digest = self.path.rsplit(":", 1)[1]
                data = pathlib.Path(outer.workshop.path(f"registry/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"))
                self.answer(200, data.read_bytes())

        def redirect(handler, _):
            known.append(handler.peer_certificate())
            if "/blobs/" not in handler.path:
                return None
            handler.answer(307, headers={"Location": f"https://{bucket.host}{handler.path}"})
            return True
        outer, known = self, []
        bucket = parts.Server(self.workshop, Handler, tls=self.tls, client_authority=self.tls.ca)
        proxy = parts.Proxy(self.workshop, self.workshop.registry().port, redirect, tls=self.tls, client_authority=self.tls.ca)
        self.install("docker", (self.tls.ca, "ca.crt"), *self.keys(), host=proxy.host)
        self.assert_golden(self.build(f"docker://{proxy.host}/{NAME}"), "tiny")
        self.assertTrue(known and all(known))
        self.assertEqual(shown, [{}, {}])


class BadNetwork(RegistryTest):
    @classmethod
    def prepare(cls):
        cls.registry = cls.workshop.registry()
        cls.registry.push(big_image(cls.workshop.folder), "big:1")
        with urllib.request.urlopen(urllib.request.Request(f"http://{cls.registry.host}/v2/big/manifests/1", headers={
                "Accept": "application/vnd.docker.distribution.manifest.v2+json"})) as answer:
            manifest = json.load(answer)
        cls.config, (cls.layer,) = manifest["config"], manifest["layers"]
        cls.good = cls.build(f"docker://{cls.registry.host}/big:1")
        assert cls.good.status == 0, cls.good

    def through(self, trouble):
        """Builds through a proxy; the requests for the layer that it has seen."""
        proxy = parts.Proxy(self.workshop, self.registry.port, trouble)
        result = self.build(f"docker://{proxy.host}/big:1", timeout=60)
        return result, [headers for path, headers in proxy.seen if path.endswith(self.layer["digest"])]

    def is_layer(self, handler):
        return handler.path.endswith(self.layer["digest"])

    def test_download_that_breaks_off_goes_on_where_it_was(self):
        result, requests = self.through(lambda handler, number: 1 << 20 if self.is_layer(handler) and number < 4 else None)
        self.assertEqual(result.out, self.good.out, result)
        starts = [int(headers["Range"].removeprefix("bytes=").removesuffix("-")) for headers in requests if "Range" in headers]
        self.assertGreaterEqual(len(starts), 2)
        self.assertEqual(starts, sorted(starts))
        self.assertGreater(starts[0], 0)

    def test_registry_without_ranges_starts_again(self):
        def trouble(handler, number):
            del handler.headers["Range"]
            return 1 << 20 if self.is_layer(handler) and number < 3 else None
        result, _ = self.through(trouble)
        self.assertEqual(result.out, self.good.out, result)

    def test_registry_that_sends_another_part_is_not_believed(self):
        def trouble(handler, number):
            if "Range" in handler.headers and number < 4:
                handler.headers.replace_header("Range", "bytes=17-")
            return 1 << 20 if self.is_layer(handler) and number < 2 else None
        result, _ = self.through(trouble)
        self.assertEqual(result.out, self.good.out, result)

    def test_registry_that_is_busy_is_asked_again(self):
        def trouble(handler, number):
            if number > 2 or handler.path == "/v2/":
                return None
            statuses = (408, 429) if "/manifests/" in handler.path else (503, 408)
            handler.answer(statuses[number - 1])
            return True
        result, requests = self.through(trouble)
        self.assertEqual(result.out, self.good.out, result)
        self.assertEqual(len(requests), 3)

    def test_registry_that_refuses_is_not_asked_again(self):
        def trouble(handler, _):
            if not self.is_layer(handler):
                return None
            handler.answer(403, b'{"errors":[{"code":"DENIED","message":"not you"}]}')
            return True
        result, requests = self.through(trouble)
        self.assert_refused(result, "E50", f"blob {self.layer['digest']}", "not you")
        self.assertEqual(len(requests), 1)

    def test_registry_that_stays_broken_is_given_up(self):
        result, requests = self.through(lambda handler, number: 0 if self.is_layer(handler) else None)
        self.assert_refused(result, "E50", "blob sha256:")
        self.assertLess(len(requests), 8)

    def manifest(self):
        """The image's manifest as the registry has it."""
        request = urllib.request.Request(f"http://{self.registry.host}/v2/big/manifests/1",
                                         headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def test_damaged_layer_is_noticed(self):
        stored = pathlib.Path(self.workshop.path("registry/docker/registry/v2/blobs/sha256"))
        digest = self.layer["digest"].removeprefix("sha256:")
        good = (stored / digest[:2] / digest / "data").read_bytes()
        # A byte of the content, and one of the time in gzip's header (RFC 1952), which gzip itself does not notice.
        for place, why in ((len(good) // 2, "damaged"), (4, "its digest is")):
            content = bytearray(good)
            content[place] ^= 1

            def trouble(handler, _, content=content):
                if not self.is_layer(handler):
                    return None
                handler.answer(200, content)
                return True
            result, requests = self.through(trouble)
            self.assert_refused(result, "E48", f"layer {self.layer['digest']}", why)
            self.assertEqual(len(requests), 1, "the layer was asked for again")

    def test_longer_layer_is_not_taken_to_its_end(self):
        sent = []

        def trouble(handler, _):
            if not self.is_layer(handler):
                return None
            handler.send_response(200)
            handler.end_headers()
            handler.close_connection = True
            try:
                for _ in range(4096):
                    handler.wfile.write(b"x" * (1 << 20))
                    sent.append(1)
            except OSError:
                pass
            return True
        result, _ = self.through(trouble)
        self.assert_refused(result, "E48", "longer than the manifest says")
        self.assertLess(len(sent), 64)

    def test_manifest_is_the_one_whose_digest_was_asked_for(self):
        manifest = self.manifest()
        pinned = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        self.assertEqual(self.build(f"docker://{self.registry.host}/big@{pinned}").out, self.good.out)

        def trouble(handler, _):
            if "/manifests/" not in handler.path:
                return None
            handler.answer(200, manifest + b"\n", {"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"})
            return True
        proxy = parts.Proxy(self.workshop, self.registry.port, trouble)
        self.assert_refused(self.build(f"docker://{proxy.host}/big@{pinned}"), "E48", "another digest than the one that was asked for")
        self.assertFalse([path for path, _ in proxy.seen if "/blobs/" in path])

    def test_blobs_are_refused_by_their_declared_size_before_they_are_fetched(self):
        for part, size, why in (("config", (4 << 20) + 1, "more than the 4194304"), ("layers", (64 << 30) + 1, "which no enclave can hold")):
            blob = {"digest": f"sha256:{'0' * 64}", "size": size}
            stored = {"digest": self.config["digest"], "size": self.config["size"]}
            manifest = {"schemaVersion": 2, "config": blob if part == "config" else stored, "layers": [blob] if part == "layers" else []}

            def trouble(handler, _, manifest=manifest):
                if "/manifests/" not in handler.path:
                    return None
                handler.answer(200, json.dumps(manifest).encode())
                return True
            proxy = parts.Proxy(self.workshop, self.registry.port, trouble)
            self.assert_refused(self.build(f"docker://{proxy.host}/big:1"), "E48", why)
            self.assertFalse([path for path, _ in proxy.seen if path.endswith(blob["digest"])], part)

    def test_redirect_to_another_host_gets_no_authorization(self):
        storage = []

        class Handler(parts.QuietHandler):
            def do_GET(self):
                storage.append(dict(self.headers))
                digest = self.path.rsplit(":", 1)[1]
                data = pathlib.Path(outer.workshop.path(f"registry/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"))
                self.answer(200, data.read_bytes())
        outer = self
        bucket = parts.Server(self.workshop, Handler)
        registry = self.workshop.registry(auth=parts.Registry.htpasswd(self.workshop))

        def redirect(handler, _):
            if "/blobs/" not in handler.path:
                return None
            handler.answer(307, headers={"Location": f"http://localhost:{bucket.port}{handler.path}?signature=1:{handler.path.rsplit(':', 1)[1]}"})
            return True
        proxy = parts.Proxy(self.workshop, registry.port, redirect)
        result = self.build(f"docker://{proxy.host}/big:1", environment=self.auths(proxy.host))
        self.assertEqual(result.out, self.good.out, result)
        self.assertTrue(all("Authorization" in headers for path, headers in proxy.seen if "/blobs/" in path))
        self.assertEqual(len(storage), 2)
        self.assertFalse([headers for headers in storage if "Authorization" in headers])


class Platforms(RegistryTest):
    """An index with one image for each architecture."""

    @classmethod
    def prepare(cls):
        parts.need_programs("skopeo")
        cls.registry = cls.workshop.registry()
        cls.layout = cls.workshop.path("index")
        os.makedirs(f"{cls.layout}/blobs/sha256")
        entries = []
        for architecture in ("arm64", "amd64"):
            entries.append({**cls.add_image(architecture), "platform": {"os": "linux", "architecture": architecture}})
        # As builders store attestations.
        entries.append({**cls.add_image("unknown"), "platform": {"os": "unknown", "architecture": "unknown"}})
        index = cls.add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries},
                        "application/vnd.oci.image.index.v1+json")
        cls.write_index({**index, "annotations": {"org.opencontainers.image.ref.name": "all"}})
        cls.registry.push(f"oci:{cls.layout}:all", "all:1", "--all")
        blobs = cls.workshop.path("blobs-arm64")
        shutil.copytree(parts.GOLDEN / "blobs", blobs)
        for name in ("bzImage", "bzImage.config"):
            os.rename(f"{blobs}/{name}", f"{blobs}/{name.replace('bzImage', 'Image')}")
        cls.arm64 = {"NITRO_CLI_BLOBS": blobs}

    @classmethod
    def add(cls, content, media_type):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        digest = hashlib.sha256(content).hexdigest()
        pathlib.Path(f"{cls.layout}/blobs/sha256/{digest}").write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    @classmethod
    def add_image(cls, architecture):
        path = cls.workshop.path(f"{architecture}.tar")
        parts.enclave.docker_archive(path, {"bin/app": (architecture.encode(), 0o755)}, ["/bin/app"])
        with parts.tarfile.open(path) as archive:
            layer_name, = json.load(archive.extractfile("manifest.json"))[0]["Layers"]
            layer = archive.extractfile(layer_name).read()
        config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/app"]},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}}
        return cls.add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "config": cls.add(config, "application/vnd.oci.image.config.v1+json"),
                        "layers": [cls.add(layer, "application/vnd.oci.image.layer.v1.tar")]}, "application/vnd.oci.image.manifest.v1+json")

    @classmethod
    def write_index(cls, *manifests):
        pathlib.Path(f"{cls.layout}/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
        pathlib.Path(f"{cls.layout}/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def test_the_architecture_chooses(self):
        archive = self.workshop.path("index.tar")
        with parts.tarfile.open(archive, "w") as tar:
            tar.add(self.layout, ".")
        for uri in (f"oci:{self.layout}:all", f"oci-archive:{archive}:all", f"docker://{self.registry.host}/all:1"):
            for architecture, options, environment in (("amd64", (), {}), ("arm64", ("--arch", "aarch64"), self.arm64)):
                expected = self.build(f"docker-archive:{self.alone(architecture)}", *options, environment=environment)
                self.assertEqual(expected.status, 0, expected)
                result = self.build(uri, *options, environment=environment)
                self.assertEqual(result.out, expected.out, f"{uri} for {architecture}")

    def alone(self, architecture):
        """The same image as a docker archive, with its architecture said right."""
        path = self.workshop.path(f"alone-{architecture}.tar")
        if not os.path.exists(path):
            self.workshop.run("skopeo", "copy", "-q", f"--override-arch={architecture}", f"oci:{self.layout}:all", f"docker-archive:{path}:alone:1")
        return path

    def test_image_for_another_architecture_is_refused(self):
        self.registry.push(f"docker-archive:{parts.golden_archive('tiny')}", NAME)
        for uri in (f"docker://{self.registry.host}/{NAME}", f"docker-archive:{parts.golden_archive('tiny')}"):
            self.assert_refused(self.build(uri, "--arch", "aarch64", environment=self.arm64), "E48", "amd64", "arm64")

    def test_index_without_the_architecture_says_what_there_is(self):
        saved = pathlib.Path(f"{self.layout}/index.json").read_text()
        self.addCleanup(pathlib.Path(f"{self.layout}/index.json").write_text, saved)
        only = self.add({"schemaVersion": 2, "manifests": [{**self.add_image("s390x"), "platform": {"os": "linux", "architecture": "s390x"}}]},
                        "application/vnd.oci.image.index.v1+json")
        self.write_index(only)
        self.assert_refused(self.build(f"oci:{self.layout}"), "E50", "linux/amd64", "linux/s390x")


if __name__ == "__main__":
    parts.main()
