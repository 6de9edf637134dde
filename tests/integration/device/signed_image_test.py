# SPDX-License-Identifier: Apache-2.0
"""run-enclave and signed images: a correctly signed one starts; a wrongly signed one does not, and an enclave that was started meanwhile is
terminated. Keys and certificates are made with the openssl command; the machine is the stand-in of tests/support/nitro_device."""
import os
import pathlib
import re
import shutil
import struct
import sys
import tempfile
import unittest
import zlib

from standin import Machine, main, wait_until  # first: it makes enclave.py known
from enclave import absent_programs, skip
from device_test import processes_with

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "signing"))
from signing import SECTION_HEADER_BYTES, SIGNATURE_SECTION, certify, openssl  # noqa: E402

OFFSETS, SIZES, CRC = 28, 284, 544  # of the header
RAMDISK_SECTION = 3
PAST, SOON, FAR, FARTHER = "20000101000000Z", "20010101000000Z", "21000101000000Z", "21010101000000Z"


class Image:
    """An enclave image whose bytes can be changed; save() corrects its checksum."""

    def __init__(self, path):
        self.data = bytearray(pathlib.Path(path).read_bytes())

    def section(self, kind):
        """(number, start of the content, size of the content) of the first section of this kind."""
        for number in range(struct.unpack_from(">H", self.data, 26)[0]):
            offset = struct.unpack_from(">Q", self.data, OFFSETS + 8 * number)[0]
            found, _, size = struct.unpack_from(">HHQ", self.data, offset)
            if found == kind:
                return number, offset + SECTION_HEADER_BYTES, size
        raise AssertionError(f"there is no section {kind}")

    def flip(self, kind, at):
        """Flips one bit of a section's content; a negative `at` counts from its end."""
        _, start, size = self.section(kind)
        self.data[start + at % size] ^= 1
        return self

    def publish(self, pem):
        """Replaces the certificate beside the signature, which is the image's last section: CBOR, an array with a number for each byte."""
        number, start, size = self.section(SIGNATURE_SECTION)
        assert start + size == len(self.data)
        content = self.data[start:]
        before = content.index(b"signing_certificate") + len(b"signing_certificate")
        assert content[before] == 0x99, "an array whose length has 16 bits"
        after = before + 3
        for _ in range(struct.unpack_from(">H", content, before + 1)[0]):
            after += 2 if content[after] == 0x18 else 1
        array = struct.pack(">BH", 0x99, len(pem)) + b"".join(bytes([byte]) if byte < 24 else bytes([0x18, byte]) for byte in pem)
        content[before:after] = array
        self.data[start:] = content
        struct.pack_into(">Q", self.data, start - 8, len(content))
        struct.pack_into(">Q", self.data, SIZES + 8 * number, len(content))
        return self

    def save(self, path):
        crc = zlib.crc32(self.data[CRC + 4:], zlib.crc32(self.data[:CRC]))
        struct.pack_into(">I", self.data, CRC, crc)
        pathlib.Path(path).write_bytes(self.data)


class SignedImages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.keys = tempfile.mkdtemp(prefix="nitro-signed-")
        cls.addClassCleanup(shutil.rmtree, cls.keys)
        openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "key", folder=cls.keys)
        certify(cls.keys, "now", "key")
        certify(cls.keys, "expired", "key", "-startdate", PAST, "-enddate", SOON)
        certify(cls.keys, "early", "key", "-startdate", FAR, "-enddate", FARTHER)

    def certificate(self, name):
        return pathlib.Path(self.keys, name).read_bytes()

    def signed(self):
        """A machine whose image is signed."""
        machine = Machine()
        self.addCleanup(machine.close)
        done = machine.run(f"sign-eif --eif-path DIR/image.eif --private-key {self.keys}/key --signing-certificate {self.keys}/now")
        self.assertEqual(done.returncode, 0, done.stderr)
        return machine

    def run_it(self, machine):
        return machine.run("run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1")

    def refuses(self, change, sentence):
        machine = self.signed()
        path = f"{machine.folder}/image.eif"
        image = Image(path)
        change(image)
        image.save(path)
        described = machine.run("describe-eif --eif-path DIR/image.eif")
        self.assertIn('"CheckCRC": true', described.stdout, described.stderr)
        done = self.run_it(machine)
        self.assertEqual((done.returncode, done.stdout), (39, ""), done.stderr)
        self.assertEqual(re.findall(r"^\[ (E\d\d) \] [^:]+: (.+)\.$", done.stderr, re.MULTILINE)[0], ("E59", sentence.replace("PATH", path)))
        marker = f"NITRO_DEVICE_NAME={os.path.basename(machine.folder)}".encode()
        self.assertTrue(wait_until(lambda: not processes_with(marker)), processes_with(marker))
        self.assertEqual(os.listdir(f"{machine.folder}/s"), [])

    def test_the_right_one_starts(self):
        machine = self.signed()
        done = self.run_it(machine)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('"PCR8"', machine.run("describe-enclaves").stdout)
        self.assertEqual(machine.run("terminate-enclave --all").returncode, 0)

    def test_a_change_that_changes_nothing_starts(self):
        # The method of altering the other images is not itself a reason for refusal.
        machine = self.signed()
        path = f"{machine.folder}/image.eif"
        before = pathlib.Path(path).read_bytes()
        image = Image(path).publish(self.certificate("now"))
        image.save(path)
        self.assertEqual(pathlib.Path(path).read_bytes(), before)
        self.assertEqual(self.run_it(machine).returncode, 0)

    def test_a_signature_that_was_not_made_with_the_key_is_refused(self):
        self.refuses(lambda image: image.flip(SIGNATURE_SECTION, -1),
                     "the image's signature was not made with the key of its certificate; sign the image again")

    def test_a_signature_for_another_image_is_refused(self):
        self.refuses(lambda image: image.flip(RAMDISK_SECTION, -1), 'the signature in "PATH" is for another image')

    def test_a_certificate_that_has_expired_is_refused(self):
        self.refuses(lambda image: image.publish(self.certificate("expired")),
                     "the image's signing certificate has expired; sign the image with a new certificate")

    def test_a_certificate_that_is_not_valid_yet_is_refused(self):
        self.refuses(lambda image: image.publish(self.certificate("early")),
                     "the image's signing certificate is not valid yet; check the clock, or sign with another certificate")


if __name__ == "__main__":
    if why := absent_programs("openssl"):
        skip(why)
    main()
