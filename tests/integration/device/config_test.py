# SPDX-License-Identifier: Apache-2.0
"""nitro-cli-config (NITRO_CONFIG) while an enclave runs."""
import os
import pathlib
import subprocess
import tempfile
import unittest

from standin import Machine, main


class WhileAnEnclaveRuns(unittest.TestCase):
    def test_the_driver_is_not_removed_and_the_enclave_is_named(self):
        machine = Machine()
        self.addCleanup(machine.close)
        root = tempfile.TemporaryDirectory(prefix="nitro-config-")
        self.addCleanup(root.cleanup)
        self.assertEqual(machine.run("run-enclave --eif-path DIR/image.eif --memory 64 --cpu-count 1 --enclave-name busy").returncode, 0)
        driver = pathlib.Path(root.name) / "sys/module/nitro_enclaves"
        driver.mkdir(parents=True)
        (driver / "refcnt").write_text("1\n", "ascii")
        environment = {name: value for name, value in machine.environment.items() if name != "LD_PRELOAD"}
        done = subprocess.run([os.environ["NITRO_CONFIG"], "--root", root.name, "-r"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False, env=environment)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertTrue(done.stderr.startswith("Error: the driver nitro_enclaves is in use"), done.stderr)
        self.assertTrue(done.stderr.endswith("; running: busy\n"), done.stderr)


if __name__ == "__main__":
    main()
