# SPDX-License-Identifier: Apache-2.0
"""The tests of the AWS tools, all of them and unchanged, on a whole parent instance, where a core has two threads and the driver assigns
whole cores."""
import pathlib
import sys
import tempfile
import unittest

from parent_test import Parent, require_parent

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "reference"))
from reference import CONSOLE, FULL_CORES, OTHERS, folder_of_tests, make_images, outcomes, pack_python  # noqa: E402


class ReferenceTests(unittest.TestCase):
    def test_all_pass(self):
        tests = folder_of_tests()
        with tempfile.TemporaryDirectory(prefix="nitro-reference-") as folder:
            images = make_images(folder)
            python = pack_python(f"{folder}/python.tar")
            files = [f"{image}:/root/test_images/{image.name}" for image in images.iterdir()]
            files += [f"{tests}/{name}:/root/tests/{name}" for name in ("test_commands.py", "helpers.py")]
            files += [f"{folder}/python.tar:/root/python.tar", python, "/usr/bin/lscpu"]
            parent = Parent(f"""
tar -x -f /root/python.tar -C / && rm /root/python.tar
cd /root
step pytest {python} -m pytest -v -p no:cacheprovider --rootdir=/root/tests /root/tests/test_commands.py
state after
""", "--threads", "2", "--cpus", "6", "--pool", "2-5", "--memory", "3072", "--pages", "560", files=files, limit=900)
            self.assertEqual(outcomes(parent["pytest"].out), {name: "PASSED" for name in CONSOLE | FULL_CORES | OTHERS}, parent.output)
            self.assertEqual(parent["after"].out, "pages 560 cpus 0-1\n")


if __name__ == "__main__":
    folder_of_tests()
    require_parent()
    unittest.main(verbosity=2)
