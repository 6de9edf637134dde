# SPDX-License-Identifier: Apache-2.0
"""The commands of nitro-cli that read a file and print: pcr, describe-eif."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

sys.dont_write_bytecode = True
from enclave import main

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "data/golden/eif"
# The read size; sizes around it, and one that takes many reads.
PIECE = 256 << 10
SIZES = (0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 17)


def register(content):
    """A PCR that was zero and has been extended with the hash of `content`."""
    return hashlib.sha384(bytes(48) + hashlib.sha384(content).digest()).hexdigest()


class ReadingCommands(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="nitro-reading-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_tool(self, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE):
        return subprocess.run([os.environ["NITRO_CLI"], *map(str, arguments)], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True,
                              check=False, timeout=120, env={**os.environ, "NITRO_CLI_LOGS_PATH": str(self.folder)})

    def assert_register(self, result, content):
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(json.loads(result.stdout), {"PCR": register(content)})

    def test_pcr_of_a_file_of_any_size(self):
        for size in SIZES:
            content = os.urandom(size)
            (self.folder / "input").write_bytes(content)
            self.assert_register(self.run_tool("pcr", "--input", self.folder / "input"), content)

    def test_pcr_of_a_pipe_that_is_filled_slowly(self):
        content = os.urandom(SIZES[-1])
        reading, writing = os.pipe()

        def fill():
            with open(writing, "wb", buffering=0) as pipe:
                for at in range(0, len(content), 10_007):
                    pipe.write(content[at:at + 10_007])
        writer = threading.Thread(target=fill)
        writer.start()
        with open(reading, "rb") as pipe:
            result = self.run_tool("pcr", "--input", "/dev/stdin", stdin=pipe)
        writer.join()
        self.assert_register(result, content)

    def test_pcr_of_a_certificate_is_that_of_the_images_it_signs(self):
        for name in ("ec256", "ec384"):
            result = self.run_tool("pcr", "--signing-certificate", GOLDEN.parent / f"keys/{name}.cert.pem")
            self.assertEqual(result.stdout, (GOLDEN.parent / f"keys/{name}.pcr.stdout.json").read_text())
            description = json.loads((GOLDEN / f"signed-{name}/describe-eif.stdout.json").read_text())
            self.assertEqual(json.loads(result.stdout), {"PCR8": description["Measurements"]["PCR8"]})

    def test_output_that_cannot_be_written_is_an_error(self):
        image = GOLDEN / "tiny/image.eif"
        for arguments in (("pcr", "--input", image), ("describe-eif", "--eif-path", image)):
            with open("/dev/full", "wb") as full:
                result = self.run_tool(*arguments, stdout=full)
            self.assertEqual(result.returncode, 19, arguments)
            self.assertIn("[ E19 ]", result.stderr)
            self.assertIn("the output could not be written", result.stderr)


if __name__ == "__main__":
    main()
