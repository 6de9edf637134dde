# SPDX-License-Identifier: Apache-2.0
"""The three programs that sign images, for the tests of signing: one image, one way to run each, and what signing must not change."""
import contextlib
import hashlib
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from enclave import Result, needed  # noqa: E402

GOLDEN = HERE.parents[1] / "data/golden"
IMAGE = GOLDEN / "eif/tiny/image.eif"
HEADER_BYTES, SECTION_HEADER_BYTES, SIGNATURE_SECTION = 548, 12, 4
# The exit status of each program when it cannot sign.
REFUSALS = {"sign-eif": 60, "build-enclave": 48, "eif_build": 60}


def sections(path):
    """(type, bytes with the section's header) of each section of an image."""
    data = pathlib.Path(path).read_bytes()
    count = struct.unpack_from(">H", data, 26)[0]
    found = []
    for offset in struct.unpack_from(f">{count}Q", data, 28):
        kind, _, size = struct.unpack_from(">HHQ", data, offset)
        found.append((kind, data[offset:offset + SECTION_HEADER_BYTES + size]))
    return found


def published_certificate(path):
    """The text beside the signature: CBOR, an array with a number for each byte (RFC 8949)."""
    data = next(content for kind, content in sections(path) if kind == SIGNATURE_SECTION)
    at = data.index(b"signing_certificate") + len(b"signing_certificate")
    assert data[at] == 0x99, "an array whose length has 16 bits"
    count = struct.unpack_from(">H", data, at + 1)[0]
    at += 3
    text = bytearray()
    for _ in range(count):
        at += data[at] == 0x18
        text.append(data[at])
        at += 1
    return bytes(text)


def openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certify(folder, name, key, *dates):
    """A certificate NAME for a private key file in the folder, made with openssl ca, the only command of OpenSSL 3.0 that sets both
    dates."""
    pathlib.Path(folder, "index").write_text("")
    pathlib.Path(folder, "ca.cnf").write_text(
        "[ca]\ndefault_ca=a\n[a]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\ndefault_days=9\npolicy=p\n"
        "[p]\ncommonName=supplied\n")
    openssl("req", "-new", "-key", key, "-subj", "/CN=test", "-out", "request", folder=folder)
    openssl("ca", "-batch", "-config", "ca.cnf", "-selfsign", "-keyfile", key, "-in", "request", "-out", name, "-notext", *dates,
            folder=folder)


class SigningTest(unittest.TestCase):
    """A test with its own folder. No output may contain what secrets() returns."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nitro-signing-")
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("output", "home", "logs"):
            os.mkdir(f"{self.folder}/{name}")
        self.output = f"{self.folder}/output/image.eif"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = {**inherited, "HOME": f"{self.folder}/home", "NITRO_CLI_LOGS_PATH": f"{self.folder}/logs",
                            "NITRO_CLI_BLOBS": str(GOLDEN / "blobs"), "BACKTRACE": "1", "RUST_LOG": "trace"}

    def secrets(self):
        return []

    def command(self, program, key, certificate):
        """The command line with which `program` signs: sign-eif signs the image at self.output, the others create one there."""
        nitro_cli, blobs = needed("NITRO_CLI", "build the project first"), GOLDEN / "blobs"
        command = {
            "sign-eif": [nitro_cli, "sign-eif", "--eif-path", self.output],
            "build-enclave": [nitro_cli, "build-enclave", "--docker-uri", f"docker-archive:{GOLDEN}/images/tiny.docker-archive.tar",
                              "--output-file", self.output, "--arch", "x86_64"],
            "eif_build": [needed("EIF_BUILD", "build the project first"), "--kernel", blobs / "bzImage", "--cmdline", "quiet",
                          "--ramdisk", blobs / "init", "--output", self.output],
        }[program]
        return [*map(str, command), "--private-key", str(key), "--signing-certificate", str(certificate)]

    def run_program(self, program, key, certificate, environment=(), stdout=subprocess.PIPE):
        process = subprocess.run(self.command(program, key, certificate), stdin=subprocess.DEVNULL, stdout=stdout,
                                 stderr=subprocess.PIPE, text=True, timeout=120, env={**self.environment, **dict(environment)},
                                 check=False)
        logged = "".join(path.read_text() for path in pathlib.Path(self.folder, "logs").iterdir())
        for secret in self.secrets():
            self.assertNotIn(secret, (process.stdout or "") + process.stderr + logged)
        return Result(process)

    def describe(self, path=None):
        process = subprocess.run([os.environ["NITRO_CLI"], "describe-eif", "--eif-path", path or self.output], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=self.environment, check=False)
        self.assertEqual(process.returncode, 0, process.stderr)
        return Result(process).json

    def assert_signs(self, program, key, certificate, environment=()):
        """The program signs, the image confirms it, and PCR8 is that of the certificate."""
        shutil.copyfile(IMAGE, self.output)
        result = self.run_program(program, key, certificate, environment)
        self.assertEqual(result.status, 0, result)
        description = self.describe()
        self.assertTrue(description["IsSigned"])
        self.assertTrue(description["SignatureCheck"])
        self.assertTrue(description["CheckCRC"])
        pcr = subprocess.run([os.environ["NITRO_CLI"], "pcr", "--signing-certificate", certificate], stdout=subprocess.PIPE, text=True,
                             env=self.environment, check=True)
        self.assertIn(description["Measurements"]["PCR8"], pcr.stdout)
        self.assertEqual(sorted(os.listdir(f"{self.folder}/output")), ["image.eif"])
        return result

    def assert_refuses(self, key, certificate, sentence, environment=(), programs=REFUSALS):
        """Every program prints `sentence`, ends with its own code, and leaves an existing file unchanged."""
        for program in programs:
            with self.subTest(program=program, sentence=sentence):
                shutil.copyfile(IMAGE, self.output)
                before = os.stat(self.output)
                result = self.run_program(program, key, certificate, environment)
                self.assertEqual(result.status, REFUSALS[program], result)
                self.assertIn(f"E{REFUSALS[program]}", result.err)
                self.assertIn(sentence, result.err)
                self.assertEqual(result.out, "")
                self.assertEqual(pathlib.Path(self.output).read_bytes(), IMAGE.read_bytes())
                self.assertEqual((before.st_ino, before.st_mtime_ns), (os.stat(self.output).st_ino, os.stat(self.output).st_mtime_ns))
                self.assertEqual(os.listdir(f"{self.folder}/output"), ["image.eif"])
                os.remove(self.output)
                if program != "sign-eif":
                    self.run_program(program, key, certificate, environment)
                    self.assertEqual(os.listdir(f"{self.folder}/output"), [])
