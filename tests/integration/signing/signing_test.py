# SPDX-License-Identifier: Apache-2.0
"""Signing with keys in files, through the programs as users run them: what is refused, and what signing leaves unchanged. The keys and
certificates are made with the openssl command."""
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
import unittest

from signing import GOLDEN, IMAGE, REFUSALS, SIGNATURE_SECTION, SigningTest  # first: it makes enclave.py known
from signing import certify, openssl, published_certificate, sections
from enclave import absent_programs, skip

CURVES = ("prime256v1", "secp384r1", "secp521r1")
PAST, SOON, FAR = "20000101000000Z", "20010101000000Z", "21000101000000Z"


class Keys:
    """NAME.key and NAME.pem in a folder."""

    def __init__(self, folder):
        self.folder = folder
        for curve in CURVES:
            openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", f"{curve}.key", folder=folder)
            self.certify(curve, curve)
        openssl("genrsa", "-out", "rsa.key", "2048", folder=folder)
        self.certify("rsa", "rsa")
        openssl("ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", "secp256k1.key", folder=folder)
        openssl("ec", "-aes128", "-passout", "pass:secret-pass-phrase", "-in", "secp384r1.key", "-out", "encrypted.key", folder=folder)
        openssl("pkcs8", "-topk8", "-passout", "pass:secret-pass-phrase", "-in", "secp384r1.key", "-out", "encrypted8.key", folder=folder)
        self.certify("expired", "secp384r1", "-startdate", PAST, "-enddate", SOON)
        self.certify("early", "secp384r1", "-startdate", FAR, "-enddate", "21010101000000Z")

    def certify(self, name, key, *dates):
        certify(self.folder, f"{name}.pem", f"{key}.key", *dates)

    def path(self, name):
        return f"{self.folder}/{name}"


class SigningWithFiles(SigningTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nitro-signing-keys-")
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.keys = Keys(folder)

    def secrets(self):
        return ["secret-pass-phrase"]

    def key(self, name):
        return self.keys.path(f"{name}.key")

    def certificate(self, name):
        return self.keys.path(f"{name}.pem")

    def test_a_key_on_each_curve_signs_with_every_program(self):
        for curve in CURVES:
            for program in ("sign-eif", "build-enclave", "eif_build"):
                with self.subTest(curve=curve, program=program):
                    self.assert_signs(program, self.key(curve), self.certificate(curve))

    def test_what_cannot_sign_is_refused_and_nothing_is_written(self):
        p384, file = self.certificate("secp384r1"), self.key("secp384r1")
        self.assert_refuses(self.key("rsa"), self.certificate("rsa"), "another kind than an elliptic curve key")
        self.assert_refuses(self.key("secp256k1"), p384, "another kind than an elliptic curve key")
        self.assert_refuses(self.key("encrypted"), p384, "is encrypted")
        self.assert_refuses(self.key("encrypted8"), p384, "is encrypted")
        self.assert_refuses(file, self.certificate("prime256v1"), "does not belong to the private key")
        self.assert_refuses(file, self.certificate("rsa"), "of another kind of key")
        self.assert_refuses(file, self.certificate("expired"), "has expired on Jan  1 00:00:00 2001 GMT")
        self.assert_refuses(file, self.certificate("early"), "is valid only from Jan  1 00:00:00 2100 GMT on")
        self.assert_refuses(self.keys.path("missing"), p384, "No such file or directory")
        self.assert_refuses(file, self.keys.path("missing"), "No such file or directory")
        self.assert_refuses("", p384, "--private-key is empty")
        self.assert_refuses(file, "", "--signing-certificate is empty")
        self.assert_refuses(p384, p384, "must be an elliptic curve key in PEM form")
        self.assert_refuses(file, file, "must be an X.509 certificate in PEM form")

    def test_output_that_cannot_be_written_is_an_error_and_the_image_is_whole(self):
        for program in REFUSALS:
            with self.subTest(program=program), open("/dev/full", "wb") as full:
                shutil.copyfile(IMAGE, self.output)
                result = self.run_program(program, self.key("secp384r1"), self.certificate("secp384r1"), stdout=full)
                self.assertEqual(result.status, 19, result)
                self.assertIn("[ E19 ]", result.err)
                self.assertIn("the output could not be written", result.err)
                self.assertTrue(self.describe()["SignatureCheck"])

    def test_a_key_beside_the_certificate_stays_out_of_the_image(self):
        key, certificate = (pathlib.Path(name).read_bytes() for name in (self.key("secp384r1"), self.certificate("secp384r1")))
        other = pathlib.Path(self.certificate("prime256v1")).read_bytes()
        both = pathlib.Path(self.folder, "both.pem")
        for program in REFUSALS:
            for content, published in ((certificate + key, certificate), (key + b"text\n" + certificate + other, certificate + other)):
                with self.subTest(program=program, key_first=content.startswith(key)):
                    both.write_bytes(content)
                    result = self.assert_signs(program, self.key("secp384r1"), str(both))
                    self.assertEqual(published_certificate(self.output), published)
                    self.assertIn(f'Warning: the file "{both}" holds "EC PRIVATE KEY" beside the certificate.', result.err)
                    self.assertNotIn(key.decode().splitlines()[1], result.out + result.err)
        for program in REFUSALS:
            result = self.assert_signs(program, self.key("secp384r1"), self.certificate("secp384r1"))
            self.assertEqual(published_certificate(self.output), certificate)
            self.assertNotIn("Warning", result.err)

    def pipes(self):
        """Two FIFOs, for a key and a certificate."""
        names = [f"{self.folder}/{name}" for name in ("key", "certificate")]
        for name in names:
            os.mkfifo(name)
        return names

    def test_key_and_certificate_may_come_from_pipes(self):
        key, certificate = self.pipes()
        for program in REFUSALS:
            with self.subTest(program=program):
                shutil.copyfile(IMAGE, self.output)
                # Like `cat FILE > FIFO` in the background: each waits for its reader.
                writers = [threading.Thread(target=lambda source, pipe: pathlib.Path(pipe).write_bytes(pathlib.Path(source).read_bytes()),
                                            args=pair, daemon=True)
                           for pair in ((self.key("secp384r1"), key), (self.certificate("secp384r1"), certificate))]
                for writer in writers:
                    writer.start()
                result = self.run_program(program, key, certificate)
                for writer in writers:
                    writer.join(10)
                self.assertEqual(result.status, 0, result)
                self.assertTrue(self.describe()["SignatureCheck"])

    def test_an_interrupt_ends_the_wait_for_a_pipe(self):
        key, certificate = self.pipes()
        for program in REFUSALS:
            with self.subTest(program=program):
                shutil.copyfile(IMAGE, self.output)
                process = subprocess.Popen(self.command(program, key, certificate), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, env=self.environment)
                time.sleep(0.3)
                self.assertIsNone(process.poll(), "it did not wait")
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(10), -signal.SIGINT)
                self.assertEqual(os.listdir(f"{self.folder}/output"), ["image.eif"])
                self.assertEqual(pathlib.Path(self.output).read_bytes(), IMAGE.read_bytes())

    def test_a_new_signature_replaces_the_old_and_nothing_else(self):
        unsigned = sections(IMAGE)
        for curve in CURVES:
            self.assert_signs("sign-eif", self.key(curve), self.certificate(curve))
            for again in CURVES:
                result = self.run_program("sign-eif", self.key(again), self.certificate(again))
                self.assertEqual(result.status, 0, result)
                found = sections(self.output)
                self.assertEqual(found[:-1], unsigned)
                self.assertEqual(found[-1][0], SIGNATURE_SECTION)
                self.assertTrue(self.describe()["SignatureCheck"])

    def test_the_file_keeps_its_permissions_its_owner_and_the_link_to_it(self):
        shutil.copyfile(IMAGE, self.output)
        os.chmod(self.output, 0o640)
        owner = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        os.chown(self.output, *owner)
        link = f"{self.folder}/link.eif"
        os.symlink(self.output, link)
        target, self.output = self.output, link
        result = self.run_program("sign-eif", self.key("secp384r1"), self.certificate("secp384r1"))
        self.assertEqual(result.status, 0, result)
        self.assertTrue(os.path.islink(link))
        found = os.lstat(target)
        self.assertEqual((stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid), (0o640, *owner))
        self.assertTrue(self.describe(target)["SignatureCheck"])

    def test_a_signal_leaves_the_old_file_and_nothing_beside_it(self):
        """The image is large enough that the signal arrives while it is being copied."""
        big = f"{self.folder}/ramdisk"
        with open(big, "wb") as file:
            file.truncate(256 << 20)
        blobs = GOLDEN / "blobs"
        subprocess.run([os.environ["EIF_BUILD"], "--kernel", blobs / "bzImage", "--cmdline", "quiet", "--ramdisk", big, "--output", self.output],
                       check=True, stdout=subprocess.DEVNULL, env=self.environment)
        os.remove(big)
        before = os.stat(self.output)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process = subprocess.Popen([os.environ["NITRO_CLI"], "sign-eif", "--eif-path", self.output, "--private-key",
                                        self.key("secp384r1"), "--signing-certificate", self.certificate("secp384r1")],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment)
            time.sleep(0.1)
            process.send_signal(number)
            self.assertEqual(process.wait(), -number, "it had ended before the signal")
            self.assertEqual(os.listdir(f"{self.folder}/output"), ["image.eif"])
            after = os.stat(self.output)
            self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))


if __name__ == "__main__":
    if why := absent_programs("openssl"):
        skip(why)
    unittest.main(verbosity=2)
