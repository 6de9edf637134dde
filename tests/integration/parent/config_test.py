# SPDX-License-Identifier: Apache-2.0
"""nitro-cli-config (NITRO_CONFIG) with the Linux driver: it is removed and loaded, its CPUs are really taken, and an enclave runs on them."""
import os
import pathlib
import tempfile
import unittest

from parent_test import HERE, Parent, machine, require_parent

IMAGE = HERE.parents[1] / "data/golden/eif/tiny/image.eif"
DRIVER = "drivers/virt/nitro_enclaves/nitro_enclaves.ko"
SCRIPT = """
show() {
  echo "@step $1"
  echo "pool $(cat /sys/module/nitro_enclaves/parameters/ne_cpus) pages $(cat /proc/sys/vm/nr_hugepages) online $(cat /sys/devices/system/cpu/online)"
  echo "@stderr"; echo "@status 0"
}
step removed nitro-cli-config -r
step absent nitro-cli-config -t 2
step loaded nitro-cli-config -i -d /root/driver
step access stat -c '%n %U:%G %a' /dev/nitro_enclaves /run/nitro_enclaves /var/log/nitro_enclaves /var/log/nitro_enclaves/nitro_enclaves.log
step reserved nitro-cli-config -t 2 -m 128
step again nitro-cli-config -i -d /root/driver
show kept
step run nitro-cli run-enclave --eif-path /root/image.eif --memory 64 --cpu-count 2 --enclave-name busy
step busy-r nitro-cli-config -r
step busy-i nitro-cli-config -i -d /root/driver
step busy-m nitro-cli-config -m 64
step busy-t nitro-cli-config -t 4
step busy-same nitro-cli-config -t 2 -m 128
show running
step ended nitro-cli terminate-enclave --all
step cpus nitro-cli-config -p 4-5
show only-cpus
step memory nitro-cli-config -m 65
step much nitro-cli-config -t 2 -m 4000
show both
step release nitro-enclaves-allocator --release
show after
"""


class Configuration(unittest.TestCase):
    def test_changes_the_driver_and_what_is_set_aside(self):
        with tempfile.TemporaryDirectory(prefix="nitro-config-") as folder:
            for name, text in (("passwd", "root:x:0:0::/:/bin/sh\n"), ("group", "root:x:0:\nne:x:990:\n")):
                pathlib.Path(folder, name).write_text(text, "ascii")
            parts = machine.find_parts()
            parent = Parent(SCRIPT, "--cpus", "8", "--threads", "2", "--pool", "2-7", "--pages", "100", "--enclave", "beat", files=(
                os.environ["NITRO_CONFIG"], os.environ["NITRO_ALLOCATOR"], f"{folder}/passwd:/etc/passwd", f"{folder}/group:/etc/group",
                f"{IMAGE}:/root/image.eif", f"{parts.module}:/root/driver/{DRIVER}"))
        for step in ("removed", "loaded", "reserved", "again", "busy-same", "cpus", "memory"):
            self.assertEqual((parent[step].status, parent[step].out, parent[step].err), (0, "", ""), step)
        self.assertIn("the driver nitro_enclaves is not loaded", parent["absent"].err)
        self.assertEqual(parent["access"].out.splitlines(), [
            "/dev/nitro_enclaves root:ne 660", "/run/nitro_enclaves root:ne 1775", "/var/log/nitro_enclaves root:ne 775",
            "/var/log/nitro_enclaves/nitro_enclaves.log root:ne 664"])
        self.assertEqual(parent["kept"].out, "pool 2-3 pages 64 online 0-1,4-7\n")
        self.assertEqual(parent["run"].json["CPUIDs"], [2, 3])
        for step in ("busy-r", "busy-i", "busy-m", "busy-t"):
            self.assertEqual((parent[step].status, parent[step].out), (1, ""), step)
            self.assertTrue(parent[step].err.endswith("; running: busy\n"), parent[step])
        self.assertEqual(parent["running"].out, parent["kept"].out)
        self.assertEqual(parent["ended"].status, 0)
        self.assertEqual(parent["only-cpus"].out, "pool 4-5 pages 64 online 0-3,6-7\n")
        self.assertIn("4000 MiB are asked for", parent["much"].err)
        self.assertEqual(parent["both"].out, "pool 4-5 pages 33 online 0-3,6-7\n")
        self.assertEqual(parent["release"].status, 0)
        self.assertEqual(parent["after"].out, "pool  pages 100 online 0-7\n")
        self.assertEqual(parent.count("SLOT_ALLOC"), parent.count("SLOT_FREE"), parent.device)


if __name__ == "__main__":
    require_parent()
    unittest.main(verbosity=2)
