# SPDX-License-Identifier: Apache-2.0
"""The tests of the AWS tools against enclaves in QEMU on this machine. All but one: only the Nitro Enclaves driver refuses a number of CPUs
that is not a whole core (tests/integration/parent/reference_test.py)."""
import os
import pathlib
import subprocess
import tempfile
import unittest

from reference import CONSOLE, FULL_CORES, OTHERS, folder_of_tests, make_images, outcomes


class ReferenceTests(unittest.TestCase):
    def test_all_but_that_of_full_cores_pass(self):
        tests = folder_of_tests()
        with tempfile.TemporaryDirectory(prefix="nitro-reference-") as folder:
            make_images(folder)
            for name in ("bin", "sockets", "logs"):
                os.mkdir(f"{folder}/{name}")
            os.symlink(os.path.abspath(os.environ["NITRO_CLI"]), f"{folder}/bin/nitro-cli")
            environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "NITRO_CLI_BACKEND": "local",
                           "NITRO_CLI_SOCKETS_PATH": f"{folder}/sockets", "NITRO_CLI_LOGS_PATH": f"{folder}/logs"}
            # Each test kills every process named nitro-cli. In a PID namespace it cannot reach those of others.
            own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
            if os.geteuid() != 0:
                own[1:1] = ["--user", "--map-root-user"]
            pytest = ["pytest-3", "-v", "-p", "no:cacheprovider", f"--rootdir={tests}", f"{tests}/test_commands.py",
                      *(word for name in FULL_CORES for word in ("--deselect", f"test_commands.py::{name}"))]
            done = subprocess.run([*own, *pytest], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
            log = pathlib.Path(f"{folder}/logs/nitro_enclaves.log")
            told = done.stdout + (log.read_text(encoding="utf-8", errors="replace") if log.exists() else "")
            self.assertEqual(outcomes(done.stdout), {name: "PASSED" for name in CONSOLE | OTHERS}, told)
            self.assertEqual(os.listdir(f"{folder}/sockets"), [])


if __name__ == "__main__":
    folder_of_tests()
    unittest.main(verbosity=2)
