# SPDX-License-Identifier: Apache-2.0
"""The systemd units: valid, and hardened. NITRO_UNITS lists those of the build, UNIT=PROGRAM."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from enclave import absent_programs, main, skip

# The score of systemd-analyze: 0.0 is best, 10.0 worst.
MOST_EXPOSED = 2.0


class Units(unittest.TestCase):
    def units(self):
        """Copies of the units that start the programs of the build."""
        folder = tempfile.TemporaryDirectory(prefix="nitro-units-")
        self.addCleanup(folder.cleanup)
        for pair in os.environ["NITRO_UNITS"].split(","):
            unit, program = map(pathlib.Path, pair.split("="))
            text = unit.read_text("utf-8")
            started = re.findall(r"^ExecStart=(\S+)", text, re.M)
            self.assertEqual([pathlib.Path(path).name for path in started], [program.name])
            copy = pathlib.Path(folder.name) / unit.name
            copy.write_text(text.replace(started[0], str(program)), "utf-8")
            yield copy

    def test_are_valid(self):
        for unit in self.units():
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, ""), unit.name)

    def test_keep_the_folder_of_the_allocator_when_a_start_fails(self):
        # What was set aside before, by nitro-cli-config, could not be given back without it.
        text = next(unit.read_text("utf-8") for unit in self.units() if "allocator" in unit.name)
        self.assertRegex(text, r"(?m)^RuntimeDirectory=nitro-enclaves-allocator$")
        self.assertRegex(text, r"(?m)^RuntimeDirectoryPreserve=yes$")

    def test_are_hardened(self):
        for unit in self.units():
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={int(MOST_EXPOSED * 10)}", str(unit)],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            print(done.stdout.strip().splitlines()[-1])
            self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    if why := absent_programs("systemd-analyze"):
        skip(why)
    main()
