# SPDX-License-Identifier: Apache-2.0
"""nitro-cli on a whole parent instance: the upstream Linux driver with its ioctls and checks, CPUs that are really taken from the machine,
huge pages, vsock, and an enclave that boots from the very memory that was given to it (tests/machine). Each machine takes about 10 s to boot
and to end."""
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "machine")]
import machine  # noqa: E402
from enclave import build_guest, docker_archive, needed, skip  # noqa: E402

BUSYBOX = shutil.which("busybox")

# Functions for every script: `step NAME COMMAND…` shows how a command ended and what it printed, `state NAME` the remaining huge pages and
# the machine's CPUs, `ended PID` waits for the end of a process.
PRELUDE = """
export NITRO_CLI_LOGS_PATH=/tmp
step() {
  echo "@step $1"; shift
  "$@" >/tmp/out 2>/tmp/err; status=$?
  cat /tmp/out; echo "@stderr"; cat /tmp/err; echo "@status $status"
}
state() {
  echo "@step $1"
  echo "pages $(awk '/HugePages_Free/ {print $2}' /proc/meminfo) cpus $(cat /sys/devices/system/cpu/online)"
  echo "@stderr"; echo "@status 0"
}
ended() { n=0; while [ -d "/proc/$1" ] && [ $n -lt 200 ]; do usleep 100000; n=$((n + 1)); done; [ ! -d "/proc/$1" ]; }
process() { sed -n 's/.*"ProcessID": \\([0-9]*\\).*/\\1/p' /tmp/out; }
run() { nitro-cli run-enclave --eif-path /root/image.eif "$@"; }
# `race N ARGUMENTS`: two enclaves are started at the same moment with these arguments; the steps aN and bN are how each ended.
race() {
  n=$1; shift
  for who in a b; do
    { run "$@" --enclave-name $who >/tmp/$who.out 2>/tmp/$who.err; echo $? >/tmp/$who.status; } &
  done
  wait
  for who in a b; do
    echo "@step $who$n"; cat /tmp/$who.out; echo "@stderr"; cat /tmp/$who.err; echo "@status $(cat /tmp/$who.status)"
  done
}
"""


class Step:
    def __init__(self, out, err, status):
        self.out, self.err, self.status = out, err, status

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def codes(self):
        return sorted(set(re.findall(r"\[ (E\d\d) \]", self.err)))

    def __repr__(self):
        return f"status {self.status}\nstdout: {self.out}\nstderr: {self.err}"


class Parent:
    """The output of one boot of the parent instance with one script."""

    def __init__(self, script, *options, files=(), limit=240):
        """`options`: as for tests/machine/run. `files`: PATH:DEST of the machine's files besides the tool; by default the image of these
        tests. `limit`: in seconds."""
        files = files or (f"{ParentTest.folder}/image.eif:/root/image.eif",)
        words = [word for file in (os.environ["NITRO_CLI"], *files) for word in ("--add", file)]
        with tempfile.TemporaryDirectory(prefix="nitro-parent-") as folder:
            path = f"{folder}/script"
            pathlib.Path(path).write_text(PRELUDE + script, encoding="ascii")
            outcome = machine.boot(machine.parser("").parse_args([*words, "--timeout", str(limit), *options]), path)
        self.device = outcome.device
        self.consoles = "\n".join(console for _, console in outcome.consoles)
        self.output = "\n".join((outcome.output, *self.device, self.consoles))
        self.steps = {}
        for name, out, err, status in re.findall(r"^@step (\S+)\n(.*?)^@stderr\n(.*?)^@status (\d+)$", outcome.output, re.S | re.M):
            self.steps[name] = Step(out, err, int(status))

    def __getitem__(self, name):
        if name not in self.steps:
            raise AssertionError(f"the step {name} was not reached:\n{self.output}")
        return self.steps[name]

    def count(self, start):
        return sum(int((re.search(r"  x(\d+)$", line) or [0, 1])[1]) for line in self.device if line.startswith(start))


class ParentTest(unittest.TestCase):
    maxDiff = None
    folder = None

    @classmethod
    def setUpClass(cls):
        if ParentTest.folder is not None:
            return
        ParentTest.folder = tempfile.mkdtemp(prefix="nitro-parent-image-")
        unittest.addModuleCleanup(shutil.rmtree, ParentTest.folder)
        archive, eif = f"{ParentTest.folder}/image.tar", f"{ParentTest.folder}/image.eif"
        docker_archive(archive, {"bin/busybox": (pathlib.Path(BUSYBOX).read_bytes(), 0o755)},
                       ["/bin/busybox", "sh", "-c", "while :; do echo in the enclave; /bin/busybox sleep 1; done"])
        subprocess.run([os.environ["NITRO_CLI"], "build-enclave", "--docker-uri", f"docker-archive:{archive}", "--output-file", eif],
                       stdout=subprocess.DEVNULL, check=True)
        described = subprocess.run([os.environ["NITRO_CLI"], "describe-eif", "--eif-path", eif], stdout=subprocess.PIPE, check=True)
        ParentTest.measurements = json.loads(described.stdout)["Measurements"]

    def succeeded(self, step):
        self.assertEqual(step.status, 0, step)
        return step.json if step.out else None

    def failed(self, step, code, *words):
        self.assertEqual((step.status, step.out, step.codes), (39, "", sorted({code, "E39"})), step)
        for word in words:
            self.assertIn(word, step.err)

    def nothing_is_left(self, parent):
        """Every slot of the device was released."""
        self.assertEqual(parent.count("SLOT_ALLOC"), parent.count("SLOT_FREE"), parent.device)


class Life(ParentTest):
    def test_enclaves_boot_are_listed_and_give_everything_back(self):
        parent = Parent("""
state before
step run run --memory 128 --cpu-count 1 --debug-mode --enclave-cid 18
step listed nitro-cli describe-enclaves
state running
step ended nitro-cli terminate-enclave --all
state after

step first run --memory 64 --cpu-count 1 --enclave-name first --enclave-cid 19
step second run --memory 96 --cpu-ids 3 --enclave-name second --enclave-cid 20
step both nitro-cli describe-enclaves
state both-running
step no-cpu-left run --memory 64 --cpu-count 2 --enclave-name third
step cpu-in-use run --memory 64 --cpu-ids 3 --enclave-name third
step cid-in-use run --memory 64 --cpu-count 1 --enclave-name third --enclave-cid 19
state refused
step one-ended nitro-cli terminate-enclave --enclave-name first
step one-left nitro-cli describe-enclaves
step other-ended nitro-cli terminate-enclave --all
state all-ended

step outside run --memory 64 --cpu-ids 1 5
step too-much run --memory 1024 --cpu-count 1
state still-all

step killed run --memory 64 --cpu-count 3 --enclave-cid 21
pid=$(process); kill -9 "$pid"; step gone ended "$pid"
step none nitro-cli describe-enclaves
state after-kill

rmmod nitro_enclaves
step no-driver run --memory 64 --cpu-count 1
""", "--pages", "200")
        everything = parent["before"].out
        self.assertEqual(everything, "pages 200 cpus 0\n")

        started = self.succeeded(parent["run"])
        self.assertEqual((started["EnclaveCID"], started["CPUIDs"], started["MemoryMiB"]), (18, [1], 128))
        listed = self.succeeded(parent["listed"])
        self.assertEqual([list(enclave) for enclave in listed], [[*started, "State", "Flags", "Measurements"]])
        self.assertEqual((listed[0]["State"], listed[0]["Flags"]), ("RUNNING", "DEBUG_MODE"))
        self.assertEqual(listed[0]["Measurements"], self.measurements)
        self.assertEqual(parent["running"].out, "pages 136 cpus 0\n")
        self.assertEqual(self.succeeded(parent["ended"]),
                         [{"EnclaveName": "image", "EnclaveID": started["EnclaveID"], "Terminated": True}])
        self.assertEqual(parent["after"].out, everything)
        self.assertIn("START cid=18 flags=1 vcpus=1 regions=64 mem=128M", parent.device)
        size = os.path.getsize(f"{self.folder}/image.eif")
        self.assertIn(f"IMAGE {size} bytes", parent.device)
        self.assertIn("in the enclave", parent.consoles)

        self.succeeded(parent["first"])
        self.assertEqual(self.succeeded(parent["second"])["CPUIDs"], [3])
        both = sorted(self.succeeded(parent["both"]), key=lambda enclave: enclave["EnclaveName"])
        self.assertEqual([(e["EnclaveName"], e["EnclaveCID"], e["CPUIDs"], e["MemoryMiB"], e["State"]) for e in both],
                         [("first", 19, [1], 64, "RUNNING"), ("second", 20, [3], 96, "RUNNING")])
        self.assertEqual(parent["both-running"].out, "pages 120 cpus 0\n")
        self.failed(parent["no-cpu-left"], "E29", "no CPU is left in the pool")
        self.failed(parent["cpu-in-use"], "E29", "CPU 3", "not free in the pool")
        self.failed(parent["cid-in-use"], "E29", "same CID")
        self.assertEqual(parent["refused"].out, "pages 120 cpus 0\n")
        self.succeeded(parent["one-ended"])
        self.assertEqual([e["EnclaveName"] for e in self.succeeded(parent["one-left"])], ["second"])
        self.succeeded(parent["other-ended"])
        self.assertEqual(parent["all-ended"].out, everything)

        self.failed(parent["outside"], "E21", "CPU 5")
        self.failed(parent["too-much"], "E27", "amount to 400 MiB")
        self.assertEqual(parent["still-all"].out, everything)

        # All CPUs of the pool were available, so the other enclaves' CPUs had been returned.
        self.assertEqual(self.succeeded(parent["killed"])["CPUIDs"], [1, 2, 3])
        self.assertEqual(parent["gone"].status, 0)
        self.assertEqual(self.succeeded(parent["none"]), [])
        self.assertEqual(parent["after-kill"].out, everything)
        self.failed(parent["no-driver"], "E19", "--local")
        self.nothing_is_left(parent)


class Races(ParentTest):
    REPETITIONS = 8

    def check(self, arguments, pages, code, *words):
        script = "".join(f"""
race {number} {arguments}
step listed{number} nitro-cli describe-enclaves
step ended{number} nitro-cli terminate-enclave --all
state after{number}
""" for number in range(self.REPETITIONS))
        parent = Parent(script, "--enclave", "beat", "--pages", str(pages))
        for number in range(self.REPETITIONS):
            with self.subTest(repetition=number):
                both = [parent[f"{who}{number}"] for who in "ab"]
                won, lost = sorted(both, key=lambda step: step.status)
                started = self.succeeded(won)
                self.failed(lost, code, *words)
                listed = self.succeeded(parent[f"listed{number}"])
                self.assertEqual([enclave["EnclaveID"] for enclave in listed], [started["EnclaveID"]])
                self.succeeded(parent[f"ended{number}"])
                self.assertEqual(parent[f"after{number}"].out, f"pages {pages} cpus 0\n")
        self.assertEqual(parent.count("START"), self.REPETITIONS)
        self.nothing_is_left(parent)

    def test_one_of_two_gets_the_last_cpus(self):
        self.check("--memory 64 --cpu-count 3", 256, "E29", "no CPU is left in the pool")

    def test_one_of_two_gets_the_last_cpus_by_number(self):
        self.check("--memory 64 --cpu-ids 1 2 3", 256, "E29")

    def test_one_of_two_gets_the_last_memory(self):
        self.check("--memory 400 --cpu-count 1", 200, "E27", "free huge pages of this machine")


class Proxy(ParentTest):
    def test_an_enclave_reaches_a_service_of_the_network(self):
        """Through AF_VSOCK of the machine's own kernel: the program in the enclave connects to CID 3."""
        archive, eif = f"{self.folder}/serve.tar", f"{self.folder}/serve.eif"
        guest = pathlib.Path(build_guest(self.folder)).read_bytes()
        docker_archive(archive, {"bin/guest": (guest, 0o755)}, ["/bin/guest", "serve"])
        subprocess.run([os.environ["NITRO_CLI"], "build-enclave", "--docker-uri", f"docker-archive:{archive}", "--output-file", eif],
                       stdout=subprocess.DEVNULL, check=True)
        parent = Parent("""
ifconfig lo 127.0.0.1 up
printf 'allowlist:\n- {address: 127.0.0.1, port: 7000}\n' >/tmp/allow.yaml
printf 'routes:\n- {name: back, listen: "tcp:127.0.0.1:7001", connect: "vsock:18:5005", cids: []}\n' >/tmp/wrong.yaml
printf 'routes:\n- {name: back, listen: "tcp:127.0.0.1:7001", connect: "vsock:18:5005"}\n' >/tmp/routes.yaml
nc -ll -p 7000 -e /bin/sh -c 'read line; echo welcome' &
RUST_LOG=info vsock-proxy --config /tmp/allow.yaml 5006 127.0.0.1 7000 >/tmp/proxy.log 2>&1 &
proxy=$!
step wrong vsock-proxy --routes /tmp/wrong.yaml
vsock-proxy --routes /tmp/routes.yaml >/tmp/back.log 2>&1 &
step run nitro-cli run-enclave --eif-path /root/serve.eif --memory 128 --cpu-count 1 --debug-mode --enclave-cid 18
n=0; while ! grep -q disconnected /tmp/proxy.log && [ $n -lt 300 ]; do usleep 100000; n=$((n + 1)); done
step taken vsock-proxy --config /tmp/allow.yaml 5006 127.0.0.1 7000
step back sh -c 'echo question | timeout 20 nc 127.0.0.1 7001'
kill $proxy; wait $proxy
step ended sh -c 'exit '$?
step log cat /tmp/proxy.log
step end nitro-cli terminate-enclave --all
""", files=(f"{eif}:/root/serve.eif", f"{os.environ['VSOCK_PROXY']}:/bin/vsock-proxy"))
        self.succeeded(parent["run"])
        log = parent["log"].out
        self.assertRegex(log, r"Accepted connection on vsock:18:\d+\n")
        self.assertRegex(log, r"Connected client from vsock:18:\d+ to 127\.0\.0\.1:7000\n")
        self.assertRegex(log, r"Client on vsock:18:\d+ disconnected\n")
        self.assertIn("parent said: welcome", parent.consoles)
        self.assertEqual(parent["back"].out, "question\n", parent.output)
        self.assertEqual(parent["ended"].status, 0)
        self.assertEqual(parent["taken"].status, 1)
        self.assertIn("listening on vsock:3:5006: Address already in use: another program listens there", parent["taken"].err)
        self.assertIn('/tmp/wrong.yaml:2: "cids": ', parent["wrong"].err)

    def test_bulk_goes_both_ways_unchanged(self):
        """From TCP to AF_VSOCK to TCP, through two routes; after its end, the answer on the same connections."""
        parent = Parent("""
ifconfig lo 127.0.0.1 up
cat >/tmp/routes.yaml <<END
routes:
- {name: in, listen: "tcp:127.0.0.1:7100", connect: "vsock:3:7200"}
- {name: out, listen: "vsock:7200", connect: "tcp:127.0.0.1:7300"}
END
head -c 30000001 /dev/urandom >/tmp/up
head -c 20000003 /dev/urandom >/tmp/down
vsock-proxy --routes /tmp/routes.yaml >/tmp/proxy.log 2>&1 &
nc -ll -p 7300 -e /bin/sh -c 'cat >/tmp/up.got; cat /tmp/down' &
n=0; while [ $(netstat -lnt | grep -cE ':(7100|7300) ') -lt 2 ] && [ $n -lt 300 ]; do usleep 100000; n=$((n + 1)); done
step client sh -c 'timeout 100 nc 127.0.0.1 7100 </tmp/up >/tmp/down.got'
step up cmp /tmp/up /tmp/up.got
step down cmp /tmp/down /tmp/down.got
step log cat /tmp/proxy.log
""", "--pool", "", "--pages", "0", files=(f"{os.environ['VSOCK_PROXY']}:/bin/vsock-proxy",))
        for step in ("client", "up", "down"):
            self.assertEqual(parent[step].status, 0, parent.output)
        self.assertEqual(parent["log"].out, "")


class Allocator(ParentTest):
    def test_sets_aside_what_enclaves_take(self):
        """The driver takes the CPUs and gives them back; two enclaves of different sizes fit into their pools."""
        allocator = os.environ["NITRO_ALLOCATOR"]
        parent = Parent("""
printf 'pools:\n- {memory_mib: 128, cpu_count: 2}\n- {memory_mib: 70, cpu_count: 2}\n' >/tmp/allocator.yaml
allocator() { nitro-enclaves-allocator --config /tmp/allocator.yaml "$@"; }
state before
step plan allocator --dry-run
step reserved allocator
state reserved-state
step first run --memory 128 --cpu-count 2 --enclave-cid 18 --enclave-name first
step second run --memory 70 --cpu-count 2 --enclave-cid 19 --enclave-name second
step status allocator --status --json
step again allocator
printf 'memory_mib: 64\ncpu_count: 2\n' >/tmp/allocator.yaml
step busy allocator
step busy-release allocator --release
state busy-state
step ended nitro-cli terminate-enclave --all
step changed allocator
state changed-state
step released allocator --release
state after
printf 'memory_mib: 64\ncpu_count: 3\n' >/tmp/allocator.yaml
step odd allocator
printf 'memory_mib: 60000\ncpu_count: 2\n' >/tmp/allocator.yaml
step too-much allocator
state end
""", "--cpus", "6", "--threads", "2", "--pool", "", "--pages", "0", files=(f"{self.folder}/image.eif:/root/image.eif", allocator))
        begin = parent["before"].out
        self.assertEqual(begin, "pages 0 cpus 0-5\n")
        self.assertEqual(self.text(parent["plan"]), "NUMA node 0: CPUs 2-5; 99 huge pages of 2M, 198 MiB\n")
        self.assertEqual(self.text(parent["reserved"]).splitlines()[-1],
                         "Reserved for enclaves on NUMA node 0: CPUs 2-5; 99 huge pages of 2M, 198 MiB")
        self.assertEqual(parent["reserved-state"].out, "pages 99 cpus 0-1\n")
        self.assertEqual(sorted(self.succeeded(parent["first"])["CPUIDs"] + self.succeeded(parent["second"])["CPUIDs"]), [2, 3, 4, 5])
        status = parent["status"].json
        self.assertEqual(status["Enclaves"], ["first", "second"])
        self.assertEqual([pages for pages in status["Nodes"][0]["HugePages"] if pages["Size"] == "2M"],
                         [{"Size": "2M", "SizeBytes": 2 << 20, "Total": 99, "InUse": 99}])
        self.assertTrue(self.text(parent["again"]).startswith("Already reserved"))
        for step in ("busy", "busy-release"):
            self.assertEqual((parent[step].status, parent[step].out), (1, ""))
            self.assertTrue(parent[step].err.startswith("Error: enclaves are running"), parent[step])
            self.assertTrue(parent[step].err.endswith("; running: first, second\n"), parent[step])
        self.assertEqual(parent["busy-state"].out, "pages 0 cpus 0-1\n")
        self.succeeded(parent["ended"])
        self.assertEqual(self.text(parent["changed"]).splitlines()[-1],
                         "Reserved for enclaves on NUMA node 0: CPUs 2-3; 32 huge pages of 2M, 64 MiB")
        self.assertEqual(parent["changed-state"].out, "pages 32 cpus 0-1,4-5\n")
        self.text(parent["released"])
        self.assertEqual(parent["after"].out, begin)
        self.assertIn("cpu_count is 3, but enclaves own whole cores, which have 2 threads: use 4", parent["odd"].err)
        self.assertIn("MiB of memory in all, and 60000 MiB are asked for", parent["too-much"].err)
        self.assertEqual(parent["end"].out, begin)

    def test_takes_cpus_and_pages_of_one_node(self):
        """Of two nodes with two cores of two threads each. Node 0 has one core left besides that of CPU 0."""
        parent = Parent("""
allocator() { nitro-enclaves-allocator --config /tmp/allocator.yaml "$@"; }
nodes() {
  echo "@step $1"
  echo "$(cat /sys/devices/system/cpu/online) pages $(cat /sys/devices/system/node/node*/hugepages/hugepages-2048kB/free_hugepages | xargs)"
  echo "@stderr"; echo "@status 0"
}
printf 'memory_mib: 200\ncpu_count: 4\n' >/tmp/allocator.yaml
step fits-one allocator
nodes fits-one-nodes
step run run --memory 200 --cpu-count 4 --enclave-cid 18
nodes running
step ended nitro-cli terminate-enclave --all
printf 'pools:\n- {memory_mib: 100, cpu_count: 2, numa_node: 0}\n' >/tmp/allocator.yaml
step named allocator
nodes named-nodes
step run-there run --memory 100 --cpu-count 2 --enclave-cid 19
step ended-there nitro-cli terminate-enclave --all
printf 'memory_mib: 100\ncpu_count: 6\n' >/tmp/allocator.yaml
step too-many allocator
nodes too-many-nodes
step released allocator --release
nodes released-nodes
""", "--cpus", "8", "--threads", "2", "--nodes", "2", "--pool", "", "--pages", "0", "--enclave", "beat",
                        files=(f"{self.folder}/image.eif:/root/image.eif", os.environ["NITRO_ALLOCATOR"]))
        self.assertEqual(self.text(parent["fits-one"]).splitlines()[-1],
                         "Reserved for enclaves on NUMA node 1: CPUs 4-7; 100 huge pages of 2M, 200 MiB")
        self.assertEqual(parent["fits-one-nodes"].out, "0-3 pages 0 100\n")
        self.assertEqual(self.succeeded(parent["run"])["CPUIDs"], [4, 5, 6, 7])
        self.assertEqual(parent["running"].out, "0-3 pages 0 0\n")
        self.succeeded(parent["ended"])
        self.assertEqual(self.text(parent["named"]).splitlines()[-1],
                         "Reserved for enclaves on NUMA node 0: CPUs 2-3; 50 huge pages of 2M, 100 MiB")
        self.assertEqual(parent["named-nodes"].out, "0-1,4-7 pages 50 0\n")
        self.assertEqual(self.succeeded(parent["run-there"])["CPUIDs"], [2, 3])
        self.succeeded(parent["ended-there"])
        self.assertEqual((parent["too-many"].status, parent["too-many"].out), (1, ""))
        self.assertIn("NUMA node 1 has 4 CPUs for enclaves (whole cores, without that of CPU 0), and 6 are asked for", parent["too-many"].err)
        self.assertEqual(parent["too-many-nodes"].out, "0-1,4-7 pages 50 0\n")
        self.text(parent["released"])
        self.assertEqual(parent["released-nodes"].out, "0-7 pages 0 0\n")

    def text(self, step):
        self.assertEqual((step.status, step.err), (0, ""), step)
        return step.out


class Nodes(ParentTest):
    def machine(self, script, *options, **more):
        return Parent("""
nodes() {
  echo "@step $1"
  echo "nodes $(cat /sys/devices/system/node/online) pages $(cat /sys/devices/system/node/node*/hugepages/hugepages-2048kB/free_hugepages | xargs)"
  echo "@stderr"; echo "@status 0"
}
""" + script, "--nodes", "2", *options, **more)

    def test_memory_comes_from_the_node_of_the_cpus(self):
        parent = self.machine("""
nodes before
step run run --memory 128 --cpu-count 2 --enclave-cid 18
nodes running
step ended nitro-cli terminate-enclave --all
nodes after
step all run --memory 256 --cpu-ids 2 3 --enclave-cid 19
nodes all-running
step all-ended nitro-cli terminate-enclave --all
nodes all-after
step too-much run --memory 258 --cpu-count 1
nodes too-much-after
step other-node run --memory 64 --cpu-ids 1 2
echo 100 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
nodes fewer
step too-much-of-fewer run --memory 202 --cpu-count 1
step fewer-fits run --memory 200 --cpu-count 1 --enclave-cid 20
nodes fewer-running
step fewer-ended nitro-cli terminate-enclave --all
""", "--pool", "2-3", "--enclave", "beat")
        everything = "nodes 0-1 pages 128 128\n"
        self.assertEqual(parent["before"].out, everything)
        self.assertEqual(self.succeeded(parent["run"])["CPUIDs"], [2, 3])
        self.assertEqual(parent["running"].out, "nodes 0-1 pages 128 64\n")
        self.succeeded(parent["ended"])
        self.assertEqual(parent["after"].out, everything)
        # Everything that the node has, and nothing of the other one.
        self.succeeded(parent["all"])
        self.assertEqual(parent["all-running"].out, "nodes 0-1 pages 128 0\n")
        self.succeeded(parent["all-ended"])
        self.assertEqual(parent["all-after"].out, everything)
        self.failed(parent["too-much"], "E27", "of NUMA node 1, that of the pool's CPUs, amount to 256 MiB")
        self.assertEqual(parent["too-much-after"].out, everything)
        self.failed(parent["other-node"], "E21", "CPU 1")
        self.assertEqual(parent["fewer"].out, "nodes 0-1 pages 128 100\n")
        self.failed(parent["too-much-of-fewer"], "E27", "amount to 200 MiB")
        self.succeeded(parent["fewer-fits"])
        self.assertEqual(parent["fewer-running"].out, "nodes 0-1 pages 128 0\n")
        self.nothing_is_left(parent)


class Units(ParentTest):
    def test_the_machine_boots_into_what_the_allocator_reserves(self):
        unit = os.environ["NITRO_ALLOCATOR_UNIT"]
        installed = re.search(r"^ExecStart=(\S+)", pathlib.Path(unit).read_text(encoding="utf-8"), re.M)[1]
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as config:
            config.write("memory_mib: 128\ncpu_count: 2\n")
            config.flush()
            parent = Parent("""
step booted systemctl is-system-running
step unit systemctl show -p ActiveState -p Result nitro-enclaves-allocator
state reserved
step run run --memory 128 --cpu-count 2 --enclave-cid 18
step stop-refused systemctl stop nitro-enclaves-allocator
step failed systemctl show -p ActiveState -p Result nitro-enclaves-allocator
step listed nitro-cli describe-enclaves
step ended nitro-cli terminate-enclave --all
step start systemctl start nitro-enclaves-allocator
state started
printf 'memory_mib: 64\ncpu_count: 1\n' >/etc/nitro_enclaves/allocator.yaml
step reload systemctl reload nitro-enclaves-allocator
state reloaded
step stop systemctl stop nitro-enclaves-allocator
state stopped
printf 'memory_mib: 64\ncpu_count: 9\n' >/etc/nitro_enclaves/allocator.yaml
step impossible systemctl start nitro-enclaves-allocator
state unchanged
""", "--systemd", "--unit", unit, "--pool", "", "--pages", "0", "--enclave", "beat",
                            files=(f"{self.folder}/image.eif:/root/image.eif", f"{os.environ['NITRO_ALLOCATOR']}:{installed}",
                                   f"{config.name}:/etc/nitro_enclaves/allocator.yaml"))
        self.assertEqual(parent["booted"].out, "running\n", parent.output)
        self.assertEqual(parent["unit"].out, "Result=success\nActiveState=active\n")
        self.assertEqual(parent["reserved"].out, "pages 64 cpus 0,3\n")
        self.succeeded(parent["run"])
        # systemd takes a failed ExecStop for the end of the unit; the enclave and what it uses are still there.
        self.assertEqual(parent["failed"].out, "Result=exit-code\nActiveState=failed\n")
        self.assertEqual(len(self.succeeded(parent["listed"])), 1)
        self.succeeded(parent["ended"])
        self.assertEqual(parent["start"].status, 0, parent.output)
        self.assertEqual(parent["started"].out, parent["reserved"].out)
        self.assertEqual(parent["reload"].status, 0, parent.output)
        self.assertEqual(parent["reloaded"].out, "pages 32 cpus 0,2-3\n")
        self.assertEqual(parent["stop"].status, 0, parent.output)
        self.assertEqual(parent["stopped"].out, "pages 0 cpus 0-3\n")
        self.assertEqual(parent["impossible"].status, 1, parent.output)
        self.assertEqual(parent["unchanged"].out, parent["stopped"].out)
        self.nothing_is_left(parent)


class Shell(ParentTest):
    def test_is_one_on_the_terminal_until_it_exits(self):
        master, terminal = pty.openpty()
        with subprocess.Popen([HERE.parents[1] / "machine/shell", "--add", os.environ["NITRO_CLI"], "--timeout", "120"], stdin=terminal,
                              stdout=terminal, stderr=terminal) as shell:
            os.close(terminal)
            shown = ""

            def read_until(text):
                nonlocal shown
                while text not in shown:
                    try:
                        shown += os.read(master, 4096).decode(errors="replace")
                    except OSError:  # the other end is closed
                        self.fail(f"the shell ended before it printed {text!r}:\n{shown}")

            read_until("# ")
            os.write(master, b"nitro-cli describe-enclaves; echo $((6 * 7)) at $(tty)\n")
            read_until("42 at /dev/ttyS0")
            self.assertIn("[]", shown)
            os.write(master, b"sh -c 'echo sleep$((40 + 2)); sleep 1000'\n")
            read_until("sleep42")
            os.write(master, b"\x03")  # Ctrl-C
            os.write(master, b"echo still $((6 * 7))\n")
            read_until("still 42")
            os.write(master, b"exit\n")
            self.assertEqual(shell.wait(), 0)
        os.close(master)


class Console(ParentTest):
    def test_is_served_by_the_hypervisor_in_debug_mode(self):
        parent = Parent("""
step run run --memory 128 --cpu-count 1 --debug-mode --enclave-cid 18
nitro-cli console --enclave-name image >/tmp/console 2>/tmp/console.err & reader=$!
n=0; while [ $(grep -c 'in the enclave' /tmp/console) -lt 2 ] && [ $n -lt 300 ]; do usleep 100000; n=$((n + 1)); done
step second sh -c 'timeout 3 nitro-cli console --enclave-name image'
step ended nitro-cli terminate-enclave --all
wait $reader
step read sh -c "cat /tmp/console; exit $?"
step silent run --memory 128 --cpu-count 1 --enclave-cid 19
step refused nitro-cli console --enclave-name image
step silent-ended nitro-cli terminate-enclave --all
""")
        self.succeeded(parent["run"])
        self.assertEqual(parent["read"].status, 0, parent.output)
        # From the first line on, although the reader came after the heartbeat.
        self.assertIn("Linux version", parent["read"].out)
        self.assertIn("in the enclave", parent["read"].out)
        self.assertIn("in the enclave", parent["second"].out)
        self.assertEqual(parent["refused"].codes, ["E44"], parent["refused"])
        self.nothing_is_left(parent)


class Ends(ParentTest):
    def test_an_enclave_that_ends_itself_ends_its_process(self):
        eif = f"{self.folder}/short.eif"
        docker_archive(f"{self.folder}/short.tar", {"bin/busybox": (pathlib.Path(BUSYBOX).read_bytes(), 0o755)}, ["/bin/busybox", "true"])
        subprocess.run([os.environ["NITRO_CLI"], "build-enclave", "--docker-uri", f"docker-archive:{self.folder}/short.tar", "--output-file",
                        eif], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        parent = Parent("""
step run run --memory 64 --cpu-count 3
pid=$(process); step gone ended "$pid"
step none nitro-cli describe-enclaves
state after
""", files=(f"{eif}:/root/image.eif",))
        self.succeeded(parent["run"])
        self.assertEqual(parent["gone"].status, 0)
        self.assertEqual(self.succeeded(parent["none"]), [])
        self.assertEqual(parent["after"].out, "pages 256 cpus 0\n")
        self.assertIn("CRASH cid=16", parent.device)
        self.nothing_is_left(parent)

    def test_an_enclave_that_crashes_ends_its_process_and_gives_everything_back(self):
        parent = Parent("""
step run run --memory 64 --cpu-count 3
pid=$(process); step gone ended "$pid"
step none nitro-cli describe-enclaves
state after
step again run --memory 64 --cpu-count 3 --enclave-cid 30
""", "--enclave", "beat", "--crash", "3")
        self.succeeded(parent["run"])
        self.assertEqual(parent["gone"].status, 0)
        self.assertEqual(self.succeeded(parent["none"]), [])
        self.assertEqual(parent["after"].out, "pages 256 cpus 0\n")
        self.assertEqual(self.succeeded(parent["again"])["CPUIDs"], [1, 2, 3])
        self.assertIn("CRASH cid=16", parent.device)

    def test_a_wrong_heartbeat_fails_the_start(self):
        parent = Parent("""
step run run --memory 64 --cpu-count 1
state after
step none nitro-cli describe-enclaves
""", "--enclave", "wrong")
        self.failed(parent["run"], "E36", "0x42")
        self.assertEqual(parent["after"].out, "pages 256 cpus 0\n")
        self.assertEqual(self.succeeded(parent["none"]), [])
        self.nothing_is_left(parent)

    def test_a_crash_before_the_heartbeat_fails_the_start_at_once(self):
        parent = Parent("""
step run run --memory 64 --cpu-count 1
state after
""", "--enclave", "silent", "--crash", "2")
        self.failed(parent["run"], "E36", "stopped")
        self.assertEqual(parent["after"].out, "pages 256 cpus 0\n")
        self.nothing_is_left(parent)

    def test_interrupting_the_command_undoes_the_start(self):
        parent = Parent("""
nitro-cli run-enclave --eif-path /root/image.eif --memory 64 --cpu-count 1 >/tmp/out 2>/tmp/err &
pid=$!; sleep 4; kill -TERM $pid; wait $pid
step none nitro-cli describe-enclaves
n=0; while pidof nitro-cli >/dev/null && [ $n -lt 50 ]; do usleep 100000; n=$((n + 1)); done
state after
""", "--enclave", "silent")
        self.assertEqual(parent["none"].json, [], parent.output)
        self.assertEqual(parent["after"].out, "pages 256 cpus 0\n")
        self.assertEqual(parent.count("START"), 1, parent.device)
        self.nothing_is_left(parent)


def require_parent():
    """Skips the tests if the machine is not available."""
    needed("NITRO_CLI", "build the project first")
    needed("VSOCK_PROXY", "build the project first")
    needed("NITRO_CLI_BLOBS", "make them with blobs/build-blobs")
    try:
        machine.find_parts()
    except machine.Unavailable as error:
        skip(str(error))


def main():
    require_parent()
    unittest.main(module="__main__", verbosity=2)


if __name__ == "__main__":
    main()
