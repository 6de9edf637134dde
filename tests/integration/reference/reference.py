# SPDX-License-Identifier: Apache-2.0
"""Runs the tests that come with the AWS tools (tests/integration/test_commands.py of aws-nitro-enclaves-cli 1.5.0) unchanged against this
nitro-cli. They are not part of this project: NITRO_REFERENCE_TESTS names the folder that has them; without it nothing is run."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from enclave import absent_programs, build_guest, docker_archive, needed, skip  # noqa: E402

# The names of the tests of 1.5.0, and which of them read a console.
CONSOLE = {"test_run_with_console", "test_run_with_console_timeout", "test_enclave_name"}
FULL_CORES = {"test_run_invalid_cpu_count"}
OTHERS = {"test_run_enclave", "test_run_invalid_memory", "test_describe_enclaves", "test_describe_eif", "test_pcr_certificate"}


def folder_of_tests():
    folder = os.environ.get("NITRO_REFERENCE_TESTS")
    if not folder:
        skip("NITRO_REFERENCE_TESTS does not name the folder tests/integration of aws-nitro-enclaves-cli 1.5.0")
    for name in ("test_commands.py", "helpers.py"):
        if not os.path.exists(f"{folder}/{name}"):
            raise AssertionError(f"NITRO_REFERENCE_TESTS={folder} has no {name}")
    if why := absent_programs("pytest-3", "lscpu", "pidof", "openssl", "unshare"):
        skip(why)
    return folder


def make_images(folder):
    """Makes the three files that the tests expect in the folder test_images of their working folder."""
    cli = needed("NITRO_CLI", "build the project first")
    needed("NITRO_CLI_BLOBS", "make them with blobs/build-blobs")
    images = pathlib.Path(folder, "test_images")
    images.mkdir()
    guest = pathlib.Path(build_guest(folder)).read_bytes()
    docker_archive(f"{folder}/hello.tar", {"bin/guest": (guest, 0o755)}, ["/bin/guest", "serve"])
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes", "-sha384", "-days", "30",
                    "-subj", "/CN=tests", "-keyout", f"{folder}/key.pem", "-out", str(images / "cert.pem")], check=True, capture_output=True)
    build = [cli, "build-enclave", "--docker-uri", f"docker-archive:{folder}/hello.tar"]
    signing = ["--private-key", f"{folder}/key.pem", "--signing-certificate", str(images / "cert.pem")]
    environment = {**os.environ, "NITRO_CLI_LOGS_PATH": folder}
    subprocess.run([*build, "--output-file", str(images / "hello.eif")], check=True, capture_output=True, env=environment)
    subprocess.run([*build, "--output-file", str(images / "hello-signed.eif"), *signing], check=True, capture_output=True, env=environment)
    return images


def outcomes(text):
    """Name -> outcome of every test in the output of `pytest -v`."""
    return dict(re.findall(r"::(test_\w+) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", text))


def pack_python(path):
    """The system's Python with pytest as a tar archive, for a machine without Python. Sources and compiled files, without build files and
    documentation."""
    version = subprocess.run(["/usr/bin/python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
                             capture_output=True, text=True, check=True).stdout.strip()
    left_out = ["test", "idlelib", "lib2to3", "pydoc_data", "ensurepip", "distutils", "tkinter", "turtledemo", "config-*"]
    packages = ["pytest", "_pytest", "pluggy", "iniconfig", "packaging", "attr", "attrs", "more_itertools", "pkg_resources", "py", "py.py"]
    installed = [f"usr/lib/python3/dist-packages/{name}" for name in packages if os.path.exists(f"/usr/lib/python3/dist-packages/{name}")]
    subprocess.run(["tar", "-C", "/", "-cf", path, *(f"--exclude=usr/lib/{version}/{name}" for name in left_out), f"usr/lib/{version}",
                    *installed], check=True)
    return shutil.which(version, path="/usr/bin")
