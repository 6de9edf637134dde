# SPDX-License-Identifier: Apache-2.0
"""Signing with keys in AWS KMS, through the programs as users run them. The service is moto; the test requires that botocore computes the
same Signature Version 4 for every request; users, roles and policies are moto's too. Credentials come from each possible source.

moto is installed once, with the versions and hashes of requirements.txt, into a virtual environment in the cache folder
(${XDG_CACHE_HOME:-~/.cache}/nitro-cli/tests); the test then runs in it. NITRO_TEST_MOTO names an existing environment to use instead."""
import contextlib
import contextvars
import datetime
import hashlib
import http.server
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

from signing import REFUSALS, SigningTest  # first: it makes enclave.py known
from enclave import skip

HERE = pathlib.Path(__file__).resolve().parent


def enter_environment():
    """Continues in the virtual environment that has moto."""
    requirements = HERE / "requirements.txt"
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "nitro-cli/tests"
    environment = pathlib.Path(os.environ.get("NITRO_TEST_MOTO") or
                               cache / f"moto-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}")
    if pathlib.Path(sys.prefix) == environment.resolve():
        return
    if not environment.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix="moto-", dir=cache)
        try:
            # Without symbolic links to itself an environment may be renamed; only the scripts in bin/ depend on its path.
            for step in ([sys.executable, "-m", "venv", made],
                         [f"{made}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                          "--only-binary", ":all:", "--require-hashes", "--retries", "1", "-r", str(requirements)]):
                process = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
                if process.returncode != 0:
                    skip(f"moto cannot be installed: {(process.stdout.strip().splitlines() or ['no reason given'])[-1]}")
            with contextlib.suppress(OSError):  # another test was faster
                os.rename(made, environment)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    python = str(environment.resolve() / "bin/python")
    os.execv(python, [python, *sys.argv])


if __name__ == "__main__":
    enter_environment()

import boto3  # noqa: E402
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402
from moto import settings  # noqa: E402
from moto.core.authorization import ActionAuthenticatorMixin  # noqa: E402
from moto.core.exceptions import JsonRESTError  # noqa: E402
from moto.iam.access_control import IAMRequest  # noqa: E402
from moto.kms.models import KmsBackend  # noqa: E402
from moto.kms.responses import KmsResponse  # noqa: E402
from moto.kms.utils import ECDSAPrivateKey  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

REGION = "eu-central-1"
CURVES = ("ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521")
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["kms:GetPublicKey", "kms:Sign", "sts:AssumeRole"], "Resource": "*"}]}
TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}


def complete_moto():
    """moto signs digests as if they were messages, lets disabled keys sign, and refuses requests in the format of another protocol; AWS KMS
    does none of these."""
    message_type = contextvars.ContextVar("message_type", default="RAW")
    respond, sign, describe = KmsResponse.sign, ECDSAPrivateKey.sign, KmsBackend.get_public_key

    def respond_with_type(self):
        message_type.set(self._get_param("MessageType") or "RAW")
        return respond(self)

    def sign_digest(self, message, signing_algorithm):
        if message_type.get() != "DIGEST":
            return sign(self, message, signing_algorithm)
        if signing_algorithm not in self.valid_signing_algorithms:
            raise JsonRESTError("InvalidKeyUsageException", "the algorithm is not one of the key's")
        algorithm = {"ECDSA_SHA_256": hashes.SHA256(), "ECDSA_SHA_384": hashes.SHA384(), "ECDSA_SHA_512": hashes.SHA512()}[signing_algorithm]
        return self.private_key.sign(message, ec.ECDSA(utils.Prehashed(algorithm)))

    def public_key_of_enabled(self, key_id):
        if self.describe_key(key_id).key_state == "Disabled":
            raise JsonRESTError("DisabledException", f"{key_id} is disabled.")
        return describe(self, key_id)

    def refuse_as_kms_does(name, kind, message):
        refuse_as_moto_does = getattr(IAMRequest, name)

        def refuse(self, *arguments):
            if self._service == "kms":
                raise JsonRESTError(kind, message)
            refuse_as_moto_does(self, *arguments)
        setattr(IAMRequest, name, refuse)

    refuse_as_kms_does("_raise_signature_does_not_match", "InvalidSignatureException", "The request signature we calculated does not match.")
    refuse_as_kms_does("_raise_invalid_access_key", "UnrecognizedClientException", "The security token in the request is invalid.")
    refuse_as_kms_does("_raise_access_denied", "AccessDeniedException", "The user is not authorized to perform this.")
    KmsResponse.sign, ECDSAPrivateKey.sign, KmsBackend.get_public_key = respond_with_type, sign_digest, public_key_of_enabled


@contextlib.contextmanager
def server(answer):
    """A small HTTP server. `answer(method, path, headers)` returns status and body. Yields its URL and the requests it received."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def respond(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path))
            status, body = answer(self.command, self.path, self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = respond

        def log_message(self, *_):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}", asked
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def as_json(credentials, token_name):
    return json.dumps({"Version": 1, "Code": "Success", "AccessKeyId": credentials["AccessKeyId"], "SecretAccessKey": credentials["SecretAccessKey"],
                       token_name: credentials["SessionToken"], "Expiration": "2999-01-01T00:00:00Z"})


class SigningWithKms(SigningTest):
    @classmethod
    def setUpClass(cls):
        complete_moto()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        service.start()
        cls.addClassCleanup(service.stop)
        cls.url = "http://{}:{}".format(*service.get_host_and_port())
        cls.certificates = tempfile.mkdtemp(prefix="nitro-signing-keys-")
        cls.addClassCleanup(shutil.rmtree, cls.certificates)
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        cls.kms, iam, sts = (boto3.client(name, endpoint_url=cls.url, region_name=REGION, aws_access_key_id="setup",
                                          aws_secret_access_key="setup") for name in ("kms", "iam", "sts"))
        cls.keys = {spec: cls.make_key(spec) for spec in CURVES}
        for name in ("signer", "stranger"):
            iam.create_user(UserName=name)
        iam.put_user_policy(UserName="signer", PolicyName="sign", PolicyDocument=json.dumps(ALLOW))
        role = iam.create_role(RoleName="signer", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
        iam.put_role_policy(RoleName="signer", PolicyName="sign", PolicyDocument=json.dumps(ALLOW))
        cls.user, cls.stranger = (iam.create_access_key(UserName=name)["AccessKey"] for name in ("signer", "stranger"))
        cls.role_arn = role["Arn"]
        cls.role = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="test")["Credentials"]
        # From here on nothing is answered without the right signature and policy.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = ActionAuthenticatorMixin.request_count = 0

    @classmethod
    @contextlib.contextmanager
    def set_up(cls):
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        try:
            yield
        finally:
            settings.INITIAL_NO_AUTH_ACTION_COUNT = ActionAuthenticatorMixin.request_count = 0

    @classmethod
    def make_key(cls, spec, usage="SIGN_VERIFY"):
        """(ARN, path of a certificate for it); the latter for keys that have a public part."""
        arn = cls.kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
        if not spec.startswith(("ECC", "RSA")):
            return arn, None
        public = serialization.load_der_public_key(cls.kms.get_public_key(KeyId=arn)["PublicKey"])
        return arn, cls.certify(arn.rsplit("/", 1)[1], public)

    @classmethod
    def certify(cls, name, public):
        """The path of a currently valid certificate from the test's own authority: KMS never releases a private key to make a self-signed
        one."""
        common_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (x509.CertificateBuilder().subject_name(common_name).issuer_name(common_name).public_key(public)
                       .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                       .not_valid_after(now + datetime.timedelta(days=1)).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))
        path = f"{cls.certificates}/{name}.pem"
        pathlib.Path(path).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    @classmethod
    def make_key_file(cls):
        """The paths of a private key and of a certificate for it."""
        key, path = ec.generate_private_key(ec.SECP384R1()), f"{cls.certificates}/file.key"
        pathlib.Path(path).write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                         serialization.NoEncryption()))
        return path, cls.certify("file", key.public_key())

    def setUp(self):
        super().setUp()
        self.environment.update(AWS_ENDPOINT_URL_KMS=self.url, AWS_ENDPOINT_URL_STS=self.url, AWS_EC2_METADATA_DISABLED="true")

    def secrets(self):
        return [self.user["SecretAccessKey"], self.stranger["SecretAccessKey"], self.role["SecretAccessKey"], self.role["SessionToken"],
                "container-token", "metadata-token"]

    @staticmethod
    def variables(credentials):
        named = {"AWS_ACCESS_KEY_ID": credentials["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"]}
        return {**named, "AWS_SESSION_TOKEN": credentials["SessionToken"]} if "SessionToken" in credentials else named

    def write(self, name, text):
        path = pathlib.Path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def test_a_key_on_each_curve_signs_with_every_program(self):
        for arn, certificate in self.keys.values():
            for program in REFUSALS:
                with self.subTest(certificate=certificate, program=program):
                    self.assert_signs(program, arn, certificate, self.variables(self.user))

    def test_a_key_may_be_named_by_an_alias_and_with_a_colon(self):
        arn, certificate = self.keys["ECC_NIST_P384"]
        with self.set_up():
            self.kms.create_alias(AliasName="alias/signing/images", TargetKeyId=arn)
        for name in (arn.rsplit(":", 1)[0] + ":alias/signing/images", arn.replace(":key/", ":key:")):
            self.assert_signs("sign-eif", name, certificate, self.variables(self.user))

    def test_a_signature_of_a_key_file_is_replaced_and_the_other_way_round(self):
        arn, certificate = self.keys["ECC_NIST_P521"]
        file = self.make_key_file()
        self.assert_signs("sign-eif", *file)
        for key, of_key in ((arn, certificate), file):
            result = self.run_program("sign-eif", key, of_key, self.variables(self.user))
            self.assertEqual(result.status, 0, result)
            self.assertTrue(self.describe()["SignatureCheck"])

    def test_keys_that_cannot_sign_with_the_certificate_are_refused(self):
        p256, p384 = self.keys["ECC_NIST_P256"], self.keys["ECC_NIST_P384"]
        with self.set_up():
            rsa, bitcoin, disabled = (self.make_key(spec) for spec in ("RSA_2048", "ECC_SECG_P256K1", "ECC_NIST_P384"))
            symmetric, _ = self.make_key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
            self.kms.disable_key(KeyId=disabled[0].rsplit("/", 1)[1])
        environment = self.variables(self.user)
        self.assert_refuses(p384[0], p256[1], "does not belong to the private key", environment)
        self.assert_refuses(rsa[0], rsa[1], "of another kind of key", environment)
        self.assert_refuses(rsa[0], p384[1], 'is of the kind "RSA_2048"', environment)
        self.assert_refuses(bitcoin[0], p384[1], "ECC_SECG_P256K1", environment)
        self.assert_refuses(symmetric, p384[1], "ENCRYPT_DECRYPT", environment)
        self.assert_refuses(*disabled, "the key is disabled; enable it", environment)
        unknown = p384[0].rsplit("/", 1)[0] + "/00000000-0000-0000-0000-000000000000"
        self.assert_refuses(unknown, p384[1], "there is no such key", environment)
        self.assert_refuses(p384[0].replace(REGION, "us-east-1"), p384[1], "there is no such key", environment)
        self.assert_refuses("arn:aws:s3:eu-central-1:123456789012:key/1", p384[1], "is not the ARN of a key in AWS KMS", environment)

    def test_requests_that_kms_refuses_say_what_to_do(self):
        key = self.keys["ECC_NIST_P384"]
        self.assert_refuses(*key, "there are no AWS credentials")
        wrong = self.variables({**self.user, "SecretAccessKey": "x" * 40})
        self.assert_refuses(*key, "the secret access key does not belong to the access key ID", wrong)
        unknown = self.variables({**self.user, "AccessKeyId": "AKIAUNKNOWNUNKNOWN00"})
        self.assert_refuses(*key, "AWS does not know the credentials of the environment", unknown)
        self.assert_refuses(*key, "may not do that; allow kms:GetPublicKey and kms:Sign", self.variables(self.stranger))
        unreachable = {**self.variables(self.user), "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1"}
        self.assert_refuses(*key, "Failed to connect to 127.0.0.1 port 1", unreachable)

    def test_a_service_that_breaks_off_between_the_key_and_the_signature_leaves_the_old_file(self):
        """The public key is returned, then nothing works any more."""
        arn, certificate = self.keys["ECC_NIST_P384"]
        with self.set_up():
            public = self.kms.get_public_key(KeyId=arn)

        def answer(_method, _path, headers):
            if headers["X-Amz-Target"] == "TrentService.GetPublicKey":
                encoded = subprocess.run(["base64", "-w0"], input=public["PublicKey"], stdout=subprocess.PIPE, check=True).stdout.decode()
                return 200, json.dumps({"KeySpec": "ECC_NIST_P384", "KeyUsage": "SIGN_VERIFY", "PublicKey": encoded})
            return 503, ""

        with server(answer) as (url, asked):
            environment = {**self.variables(self.user), "AWS_ENDPOINT_URL": url, "AWS_ENDPOINT_URL_KMS": ""}
            self.assert_refuses(arn, certificate, "the service is busy or out of order", environment, programs=["sign-eif"])
            self.assertEqual(len(asked), 1 + 3)
            self.assert_refuses(arn, certificate, "the service is busy or out of order", environment, programs=["build-enclave", "eif_build"])

    def test_temporary_credentials_come_from_the_environment(self):
        self.assert_signs("sign-eif", *self.keys["ECC_NIST_P256"], self.variables(self.role))

    def test_credentials_come_from_the_shared_files(self):
        key, user = self.keys["ECC_NIST_P256"], self.user
        static = f"aws_access_key_id = {user['AccessKeyId']}\naws_secret_access_key = {user['SecretAccessKey']}\n"
        self.write("home/.aws/credentials", f"[default]\n{static}[wrong]\naws_access_key_id = A\naws_secret_access_key = B\n")
        self.assert_signs("sign-eif", *key)
        self.assert_refuses(*key, 'AWS does not know the credentials of the profile "wrong"', {"AWS_PROFILE": "wrong"}, ["sign-eif"])
        self.assert_refuses(*key, 'the profile "none" is not in', {"AWS_PROFILE": "none"}, ["sign-eif"])
        config = self.write("elsewhere", f"[profile named]\nregion = us-west-2\n{static}")
        self.assert_signs("sign-eif", *key, {"AWS_PROFILE": "named", "AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": "/none"})

    def test_a_profile_takes_on_a_role(self):
        key = self.keys["ECC_NIST_P256"]

        def profiles(credentials):
            self.write("home/.aws/config", f"[default]\nrole_arn = {self.role_arn}\nsource_profile = user\nrole_session_name = build\n"
                       f"[profile user]\naws_access_key_id = {credentials['AccessKeyId']}\n"
                       f"aws_secret_access_key = {credentials['SecretAccessKey']}\n")

        profiles(self.user)
        self.assert_signs("sign-eif", *key)
        profiles(self.stranger)
        self.assert_refuses(*key, 'the credentials of the profile "user" may not take on the role', programs=["sign-eif"])

    def test_a_web_identity_takes_on_a_role(self):
        """moto requires a signature where AWS STS requires none, so another server replaces it here."""
        credentials = "".join(f"<{name}>{self.role[name]}</{name}>" for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))

        def answer(_method, _path, headers):
            return (400, "") if headers["Authorization"] else (200, f"<Credentials>{credentials}</Credentials>")

        with server(answer) as (url, asked):
            self.assert_signs("sign-eif", *self.keys["ECC_NIST_P256"], {
                "AWS_WEB_IDENTITY_TOKEN_FILE": self.write("token", "container-token"), "AWS_ROLE_ARN": self.role_arn, "AWS_ENDPOINT_URL_STS": url})
            self.assertEqual(asked, [("POST", "/")])

    def test_credentials_come_from_a_credential_process(self):
        key = self.keys["ECC_NIST_P256"]
        printed = self.write("printed", as_json(self.role, "SessionToken"))
        self.write("home/.aws/config", f"[default]\ncredential_process = cat {printed}\n[profile broken]\ncredential_process = cat /none; exit 3\n")
        self.assert_signs("sign-eif", *key)
        self.assert_refuses(*key, "exited with status 3", {"AWS_PROFILE": "broken"}, ["sign-eif"])

    def test_credentials_come_from_the_endpoint_of_a_container(self):
        def answer(_method, path, headers):
            if path != "/role" or headers["Authorization"] != "container-token":
                return 401, "{}"
            return 200, as_json(self.role, "Token")

        key, token = self.keys["ECC_NIST_P256"], self.write("token", "container-token")
        with server(answer) as (url, asked):
            full = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/role"}
            self.assert_signs("sign-eif", *key, {**full, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-token"})
            self.assert_signs("sign-eif", *key, {**full, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token})
            self.assertEqual(asked, [("GET", "/role")] * 2)
            # No proxy is used for these addresses; the service has another name here, so that only they are exempt.
            self.assert_signs("sign-eif", *key, {**full, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token, "http_proxy": "http://127.0.0.1:1",
                                                 "no_proxy": "localhost", "AWS_ENDPOINT_URL_KMS": self.url.replace("127.0.0.1", "localhost")})
            self.assert_refuses(*key, "answers with status 401", full, ["sign-eif"])
        stranger = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/role", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-token"}
        self.assert_refuses(*key, "it has to be an https URL", stranger, ["sign-eif"])

    def test_credentials_come_from_the_metadata_of_an_instance(self):
        def answer(method, path, headers):
            if (method, path) == ("PUT", "/latest/api/token") and int(headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0:
                return 200, "metadata-token"
            if method != "GET" or headers["X-aws-ec2-metadata-token"] != "metadata-token":
                return 401, ""
            roles = "/latest/meta-data/iam/security-credentials/"
            answers = {roles: "builder role", roles + "builder%20role": as_json(self.role, "Token")}
            return (200, answers[path]) if path in answers else (404, "")

        key = self.keys["ECC_NIST_P256"]
        with server(answer) as (url, asked):
            instance = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url}
            self.assert_signs("sign-eif", *key, instance)
            self.assertEqual([method for method, _ in asked], ["PUT", "GET", "GET"])
            asked.clear()
            # The first source in the chain wins, and the instance is not asked.
            self.assert_signs("sign-eif", *key, {**instance, **self.variables(self.user)})
            self.assertEqual(asked, [])
        self.assert_refuses(*key, "there are no AWS credentials", instance, ["sign-eif"])
        with server(lambda method, path, headers: (200, "metadata-token") if method == "PUT" else (404, "")) as (url, _):
            without_role = {**instance, "AWS_EC2_METADATA_SERVICE_ENDPOINT": url}
            self.assert_refuses(*key, "this EC2 instance has no role", without_role, ["sign-eif"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
