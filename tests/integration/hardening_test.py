# SPDX-License-Identifier: Apache-2.0
"""Checks the hardening of every program and shared library of the build, as written by the linker: see src/hardening.cmake.

    hardening_test.py PROGRAM...

NITRO_FORTIFIED=1: an optimised build, in which calls with a buffer of known size are checked ones."""
import os
import re
import subprocess
import sys
import unittest

PROGRAMS = sys.argv[1:]
# Programs too small to have a buffer.
WITHOUT_BUFFERS = {"nitro_device_preloaded"}


class Elf:
    def __init__(self, path):
        self.path = path
        out = subprocess.run(["readelf", "--wide", "--file-header", "--program-headers", "--dynamic", "--dyn-syms", path],
                             stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
        self.type = re.search(r"^\s+Type:\s+(\w+)", out, re.MULTILINE)[1]
        # Type, then offset, addresses and sizes, then flags such as "R E", then the alignment.
        self.segments = [(m[1], m[2].replace(" ", "")) for m in
                         re.finditer(r"^\s+([A-Z_]+)(?:\s+0x[0-9a-f]+){5}\s([RWE ]{3})\s0x", out, re.MULTILINE)]
        self.dynamic = {m[1]: m[2] for m in re.finditer(r"^\s+0x[0-9a-f]+ \((\w+)\)\s+(.*)$", out, re.MULTILINE)}
        self.undefined = set(re.findall(r"\sUND\s+([^\s@]+)", out))


class EveryProgram(unittest.TestCase):
    def each(self, check):
        self.assertTrue(PROGRAMS)
        for path in PROGRAMS:
            with self.subTest(program=os.path.basename(path)):
                check(Elf(path))

    def test_can_be_loaded_at_any_address(self):
        def check(elf):
            self.assertEqual(elf.type, "DYN")
            if not elf.path.endswith(".so"):
                self.assertIn("PIE", elf.dynamic["FLAGS_1"])
            self.assertNotIn("TEXTREL", elf.dynamic)
        self.each(check)

    def test_has_its_tables_of_addresses_read_only_before_main(self):
        def check(elf):
            self.assertIn("GNU_RELRO", [kind for kind, _ in elf.segments])
            self.assertIn("NOW", elf.dynamic.get("FLAGS_1", ""))
        self.each(check)

    def test_has_no_memory_that_is_writable_and_executable(self):
        def check(elf):
            self.assertIn(("GNU_STACK", "RW"), elf.segments)
            self.assertEqual([segment for segment in elf.segments if "W" in segment[1] and "E" in segment[1]], [])
        self.each(check)

    def test_notices_when_a_buffer_on_the_stack_overflows(self):
        def check(elf):
            if os.path.basename(elf.path) not in WITHOUT_BUFFERS:
                self.assertIn("__stack_chk_fail", elf.undefined)
        self.each(check)

    def test_checks_the_sizes_of_buffers_that_are_known(self):
        if os.environ.get("NITRO_FORTIFIED") != "1":
            self.skipTest("the build does not optimise")

        def check(elf):
            if os.path.basename(elf.path) not in WITHOUT_BUFFERS:
                self.assertTrue([name for name in elf.undefined if re.fullmatch(r"__\w+_chk", name)])
        self.each(check)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
