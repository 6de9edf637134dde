# SPDX-License-Identifier: Apache-2.0
"""nitro-cli and the program that it executes to make images (libexec/nitro-cli/nitro-cli-image)."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from enclave import copy_tool, main


class TheProgramThatMakesImages(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nitro-image-program-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.tool = copy_tool(self.folder)

    def run_tool(self, *arguments, tool=None):
        return subprocess.run([tool or self.tool, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              env={**os.environ, "NITRO_CLI_LOGS_PATH": self.folder})

    def test_is_found_beside_the_tool_whatever_leads_to_that(self):
        link = f"{self.folder}/link"
        os.symlink(self.tool, link)
        for tool in (self.tool, link):
            result = self.run_tool("build-enclave", "--help", tool=tool)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("Usage: nitro-cli build-enclave", result.stdout)

    def test_has_the_statuses_of_the_tool(self):
        self.assertEqual(self.run_tool("build-enclave").returncode, 2)
        self.assertEqual(self.run_tool("sign-eif", "--no-such-option").returncode, 2)
        result = self.run_tool("sign-eif")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("[ E01 ]", result.stderr)

    def test_that_is_missing_is_named(self):
        program = f"{self.folder}/libexec/nitro-cli/nitro-cli-image"
        os.remove(program)
        result = self.run_tool("build-enclave", "--docker-uri", "x", "--output-file", f"{self.folder}/x.eif")
        self.assertEqual((result.returncode, result.stdout), (19, ""))
        self.assertIn(program, result.stderr)
        self.assertIn("[ E19 ]", result.stderr)
        # The other commands do not need it.
        self.assertEqual(self.run_tool("explain", "--error-code", "E19").returncode, 0)


if __name__ == "__main__":
    main()
