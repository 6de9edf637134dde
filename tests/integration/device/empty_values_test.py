# SPDX-License-Identifier: Apache-2.0
"""An empty value is a value: gives every option of nitro-cli an empty value, and tries those numbers and files of run-enclave that are hard
to distinguish from no value. The table has the exit status and the codes on stderr of nitro-cli 1.5.0 of the AWS tools; where ours differ,
the row has both. If NITRO_REFERENCE_CLI names an installed nitro-cli 1.5.0, its column is tested too."""
import json
import os
import pathlib
import re
import subprocess
import unittest

from standin import DATA, Machine, main

KEYS = DATA / "golden/keys"
CERTIFICATE = f"{KEYS}/ec384.cert.pem"
KEY = f"{KEYS}/ec384.key.pem"
RUN = {"--eif-path": "DIR/image.eif", "--memory": "64", "--cpu-count": "1"}
SIGN = {"--eif-path": "DIR/image.eif", "--signing-certificate": CERTIFICATE, "--private-key": KEY}
BUILD = {"--docker-uri": f"docker-archive:{DATA}/golden/images/tiny.docker-archive.tar", "--output-file": "DIR/out.eif",
         "--arch": "x86_64"}
CONFIG = {"eif_path": "DIR/image.eif", "memory_mib": 64}


def words(command, options):
    return [command, *(word for option in options.items() for word in option)]


def run(**changed):
    """run-enclave with options changed: cpu_count for --cpu-count."""
    return words("run-enclave", {**RUN, **{"--" + name.replace("_", "-"): value for name, value in changed.items()}})


def config(**members):
    return {**CONFIG, **members}


# The command line, or the content of --config; the reference's result; our result, where it differs.
CASES = (
    (run(eif_path=""), "39 E19 E39", None),
    (run(memory=""), "3 E03", None),
    (run(cpu_count=""), "3 E03", None),
    (run(enclave_cid=""), "3 E03", None),
    (["run-enclave", "--eif-path", "DIR/image.eif", "--memory", "64", "--cpu-ids", ""], "3 E03", None),
    (["run-enclave", "--eif-path", "DIR/image.eif", "--memory", "64", "--cpu-ids", "1", ""], "3 E03", None),
    (["run-enclave", "--config", ""], "19 E19", None),
    (run(hugepage_size=""), "2", "25 E25"),
    (run(memory="0"), "39 E26 E39", None),
    (run(memory="-10"), "2", None),
    (run(memory="VVV"), "3 E03", None),
    (run(cpu_count="0"), "39 E29 E39", None),
    (run(cpu_count="-3"), "2", None),
    (run(cpu_count="zzz"), "3 E03", None),
    ({}, "17 E17", None),
    (config(), "1 E01", None),
    (config(cpu_count=None), "1 E01", None),
    (config(cpu_count=0), "39 E29 E39", None),
    (config(cpu_ids=[]), "39 E29 E39", None),
    (config(cpu_ids=[], cpu_count=1), "2 E02", None),
    (config(cpu_count=1, eif_path=""), "39 E19 E39", None),
    (config(cpu_count=1, memory_mib=0), "39 E26 E39", None),
    (["terminate-enclave", "--enclave-id", ""], "11 E11", None),
    (["terminate-enclave", "--enclave-name", ""], "58 E58", None),
    (["console", "--enclave-id", ""], "11 E11", None),
    (["console", "--enclave-name", ""], "58 E58", None),
    (["console", "--enclave-id", "", "--disconnect-timeout", ""], "3 E03", None),
    (["console", "--enclave-name", "", "--disconnect-timeout", ""], "58 E58", None),
    (["describe-enclaves", "--metadata", ""], "2", None),
    (["describe-enclaves", "--metadata="], "2", None),
    (["describe-eif", "--eif-path", ""], "35 E35", None),
    (["explain", "--error-code", ""], "0", None),
    (["pcr", "--input", ""], "19 E19", None),
    (["pcr", "--signing-certificate", ""], "19 E19", None),
    (["pcr", "--input", "", "--signing-certificate", ""], "2", None),
    (["sign-eif"], "1 E01", None),
    (["sign-eif", "--eif-path", ""], "60 E60", None),
    (words("sign-eif", {**SIGN, "--eif-path": ""}), "60 E60", None),
    (words("sign-eif", {**SIGN, "--signing-certificate": ""}), "60 E60", None),
    (words("sign-eif", {**SIGN, "--private-key": ""}), "60 E60", None),
    (["run-enclave", ""], "2", None),
    ([""], "2", None),
    # Enclaves without a name are refused (docs/differences.md). Last, as the reference does run them.
    (run(enclave_name=""), "0", "58 E58"),
    (config(cpu_count=1, enclave_name=""), "0", "58 E58"),
)

# build-enclave of the reference takes images only from an engine, so its codes cannot be observed here.
BUILD_CASES = (
    ({"--docker-uri": ""}, "50 E50"),
    ({"--docker-dir": ""}, "49 E49"),
    ({"--output-file": ""}, "19 E19"),
    ({"--metadata": ""}, "48 E48"),
    ({"--build-time": ""}, "3 E03"),
    ({"--arch": ""}, "2"),
    ({"--signing-certificate": "", "--private-key": KEY}, "48 E48"),
    ({"--signing-certificate": CERTIFICATE, "--private-key": ""}, "48 E48"),
    ({"--signing-certificate": ""}, "2"),
)


class EmptyValues(unittest.TestCase):
    def setUp(self):
        self.machine = Machine({"environment": {"NITRO_CLI_BLOBS": str(DATA / "golden/blobs"), "DOCKER_HOST": "unix:///none.sock"}})
        self.addCleanup(self.machine.close)

    def end_of(self, command, cli=None):
        """The exit status and the codes on stderr."""
        if isinstance(command, dict):
            pathlib.Path(f"{self.machine.folder}/c.json").write_text(json.dumps(command).replace("DIR", self.machine.folder), encoding="utf-8")
            command = ["run-enclave", "--config", "DIR/c.json"]
        done = subprocess.run([cli or self.machine.cli, *(word.replace("DIR", self.machine.folder) for word in command)],
                              env=self.machine.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if command[0] == "run-enclave" and done.returncode == 0:
            self.machine.started.append(json.loads(done.stdout))
        return " ".join([str(done.returncode), *re.findall(r"^\s*\[ (E\d\d) \]", done.stderr, re.MULTILINE)])

    def test_ends_as_values(self):
        for command, reference, ours in CASES:
            with self.subTest(command=command):
                self.assertEqual(self.end_of(command), ours or reference)

    def test_ends_as_values_in_the_reference(self):
        if not (cli := os.environ.get("NITRO_REFERENCE_CLI")):
            self.skipTest("NITRO_REFERENCE_CLI names no nitro-cli of the AWS tools")
        for command, reference, _ in CASES:
            with self.subTest(command=command):
                self.assertEqual(self.end_of(command, cli), reference)

    def test_ends_as_values_of_a_build(self):
        for options, ours in BUILD_CASES:
            with self.subTest(options=options):
                self.assertEqual(self.end_of(words("build-enclave", {**BUILD, **options})), ours)

    def test_names_an_image_by_nothing_when_told_so(self):
        self.assertEqual(self.end_of(words("build-enclave", {**BUILD, "--name": "", "--version": ""})), "0")
        done = self.machine.run("describe-eif --eif-path DIR/out.eif")
        self.assertEqual((json.loads(done.stdout)["ImageName"], json.loads(done.stdout)["ImageVersion"]), ("", ""))


if __name__ == "__main__":
    main()
