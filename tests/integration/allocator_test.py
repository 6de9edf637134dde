# SPDX-License-Identifier: Apache-2.0
"""nitro-enclaves-allocator (NITRO_ALLOCATOR) on a made-up machine whose huge pages are those of this one."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

from enclave import main

REAL = pathlib.Path("/sys/devices/system/node/node0")
SMALL = "hugepages/hugepages-2048kB"


class AllocatorTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="nitro-allocator-")
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.pool = self.file("sys/module/nitro_enclaves/parameters/ne_cpus", "\n")
        cpus = "sys/devices/system/cpu"
        for name in ("present", "online"):
            self.file(f"{cpus}/{name}", "0-7\n")
        for cpu in range(8):
            (self.root / f"{cpus}/cpu{cpu}/node0").mkdir(parents=True)
            self.file(f"{cpus}/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
        self.file("sys/devices/system/node/online", "0\n")
        self.node = self.root / "sys/devices/system/node/node0"

    def file(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "ascii")
        return path

    def made_up_pages(self):
        for size in ("2048", "1048576"):
            for name in ("nr_hugepages", "free_hugepages"):
                self.file(f"sys/devices/system/node/node0/hugepages/hugepages-{size}kB/{name}", "0\n")

    def real_pages(self):
        if os.getuid() != 0:
            self.skipTest("only root may change huge pages")
        if not (REAL / SMALL).exists():
            self.skipTest("this machine has no NUMA node 0 with huge pages of 2 MiB")
        self.node.mkdir()
        for name in ("hugepages", "compact"):
            (self.node / name).symlink_to(REAL / name)
        before = {path: path.read_text("ascii") for path in REAL.glob("hugepages/*/nr_hugepages")}
        self.addCleanup(lambda: [path.write_text(text, "ascii") for path, text in before.items()])

    def run_allocator(self, *arguments, config=None):
        if config is not None:
            arguments += ("--config", str(self.file("allocator.yaml", config)))
        return subprocess.run([os.environ["NITRO_ALLOCATOR"], "--root", str(self.root), *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)

    def succeeded(self, done):
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def failed(self, done, message, status=1):
        self.assertEqual((done.returncode, done.stdout), (status, ""))
        self.assertIn(message, done.stderr)


class OnRealPages(AllocatorTest):
    def test_pages_are_set_aside_and_given_back(self):
        self.real_pages()
        count = REAL / SMALL / "nr_hugepages"
        count.write_text("3", "ascii")
        config = "memory_mib: 63\ncpu_count: 2\n"
        done = self.succeeded(self.run_allocator(config=config))
        self.assertEqual(done.splitlines()[-1], "Reserved for enclaves on NUMA node 0: CPUs 1,5; 32 huge pages of 2M, 64 MiB")
        self.assertEqual(count.read_text("ascii"), "32\n")
        self.assertEqual(self.pool.read_text("ascii"), "1,5\n")
        again = self.succeeded(self.run_allocator(config=config))
        self.assertEqual(again, "Already reserved for enclaves on NUMA node 0: CPUs 1,5; 32 huge pages of 2M, 64 MiB\n")
        status = json.loads(self.succeeded(self.run_allocator("--status", "--json", config=config)))
        self.assertEqual(status["Asked"], [{"memory_mib": 63, "cpu_count": 2}])
        self.assertEqual(status["Nodes"][0]["CPUIDs"], [1, 5])
        self.assertIn({"Size": "2M", "SizeBytes": 2 << 20, "Total": 32, "InUse": 0}, status["Nodes"][0]["HugePages"])
        self.assertEqual(self.succeeded(self.run_allocator("--release")), "Nothing is reserved for enclaves any more\n")
        self.assertEqual(count.read_text("ascii"), "3\n")
        self.assertEqual(self.pool.read_text("ascii"), "\n")

    def test_more_than_there_is_is_not_tried(self):
        self.real_pages()
        (self.node / "meminfo").symlink_to(REAL / "meminfo")
        self.failed(self.run_allocator(config="memory_mib: 60000000\ncpu_count: 2\n"),
                    "MiB of memory in all, and 60000000 MiB are asked for\n")
        self.assertEqual(self.pool.read_text("ascii"), "\n")
        self.assertFalse(list(self.root.glob("run/*/*.json")))

    def test_several_at_once_take_turns(self):
        self.real_pages()
        config = str(self.file("allocator.yaml", "memory_mib: 64\ncpu_count: 2\n"))
        results = []
        threads = [threading.Thread(target=lambda: results.append(self.run_allocator("--config", config))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([done.returncode for done in results], [0] * 8)
        self.assertEqual(sum(done.stdout.splitlines()[-1].startswith("Reserved") for done in results), 1, results)


class OnAMadeUpMachine(AllocatorTest):
    def setUp(self):
        super().setUp()
        self.made_up_pages()

    def test_a_plan_changes_nothing(self):
        config = "pools:\n- {memory_mib: 1536, cpu_count: 2}\n- {pages: {2M: 10}, cpu_pool: 3,7}\n"
        self.assertEqual(self.run_allocator("--dry-run", config=config).returncode, 1, "3,7 in a flow mapping is two values")
        config = "pools:\n- {memory_mib: 1536, cpu_count: 2}\n- {pages: {2M: 10}, cpu_pool: \"3,7\"}\n"
        self.assertEqual(self.succeeded(self.run_allocator("--dry-run", config=config)),
                         "NUMA node 0: CPUs 1,3,5,7; 1 huge page of 1G and 266 of 2M, 1556 MiB\n")
        self.assertEqual(self.pool.read_text("ascii"), "\n")
        self.assertFalse((self.root / "run").exists())

    def test_a_configuration_is_checked(self):
        self.assertEqual(self.succeeded(self.run_allocator("--check", config="memory_mib: 1\ncpu_count: 2\n")),
                         f"{self.root}/allocator.yaml is valid\n")
        self.failed(self.run_allocator("--check", config="memory_mib: 1\ncpus: 2\n"),
                    f"Error: {self.root}/allocator.yaml:2: \"cpus\": this key is not known here; known keys: memory_mib")

    def test_what_is_wrong_is_said_once(self):
        for arguments, config, message, status in (
                ((), "memory_mib: 1\ncpu_count: 3\n", "Error: cpu_count is 3, but enclaves own whole cores, which have 2 threads: use 4\n", 1),
                ((), "memory_mib: 1\ncpu_pool: 4\n", "Error: cpu_pool names CPU 4, which shares its core with CPU 0", 1),
                (("--config", "/nowhere.yaml"), None, "Error: opening \"/nowhere.yaml\": No such file or directory\n", 1),
                (("--status", "--check"), None, "--status", 2),
                (("--json",), None, "--json", 2),
                (("more",), None, "more", 2)):
            self.failed(self.run_allocator(*arguments, config=config), message, status)
        shutil.rmtree(self.pool.parents[1])
        self.failed(self.run_allocator(config="memory_mib: 1\ncpu_count: 2\n"), "Error: the driver nitro_enclaves is not loaded: modprobe")

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([os.environ["NITRO_ALLOCATOR"], "--root", str(self.root), "--status"], stdout=full,
                                  stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "Error: the output cannot be written\n"))


if __name__ == "__main__":
    main()
