# SPDX-License-Identifier: Apache-2.0
"""bootstrap/env.sh (NITRO_ENV, as installed; NITRO_ENV_SOURCE, as in the sources), sourced by each shell."""
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import unittest

from enclave import absent_programs, main, skip

SHELLS = (["dash"], ["bash"], ["bash", "--posix"], ["zsh"])
INSTALLED = os.environ["NITRO_ENV"]
SOURCE = os.environ["NITRO_ENV_SOURCE"]
LOADED = os.path.isdir("/sys/module/nitro_enclaves")


class Env(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="nitro-env-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.place = self.folder / "a place"
        self.program("usr/bin/nitro-cli")
        self.tools = self.folder / "tools"
        for name in ("modprobe", "insmod", "sudo"):
            self.tool(name)

    def program(self, path):
        path = self.place / path
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n", "ascii")
        path.chmod(0o755)

    def tool(self, name, script=""):
        self.tools.mkdir(exist_ok=True)
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.folder}/calls"\n{script}\n', "ascii")
        path.chmod(0o755)

    def calls(self):
        path = self.folder / "calls"
        lines = path.read_text("ascii").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def run_in(self, shell, script, place=None, user=None, env=SOURCE):
        """Runs the script, in which ENV is the file."""
        environment = {"PATH": f"{self.tools}:/usr/bin:/bin", "ENV_FILE": env}
        if place is not None:
            environment["NITRO_CLI_INSTALL_DIR"] = str(place)
        options = {"user": user, "group": user, "extra_groups": []} if user else {}
        return subprocess.run([*shell, "-c", script.replace("ENV", '"$ENV_FILE"')], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, check=False, env=environment, **options)

    def each_shell(self):
        for shell in SHELLS:
            with self.subTest(shell=shell):
                self.calls()
                yield shell

    def test_sets_path_and_blobs_once_whatever_the_options_of_the_shell(self):
        for shell in self.each_shell():
            for options in ("", "set -eu", "set -euC", "set -f", "IFS=/"):
                done = self.run_in(shell, f"""{options}
set -- one 'two words'
before=$(set +o)
. ENV
answer=$?
first=$PATH
. ENV
[ "$first" = "$PATH" ] && [ "$before" = "$(set +o)" ] && [ $# = 2 ] && [ "$2" = 'two words' ] || echo changed
set | grep '^nitro_cli' || :
printf '%s\\n' "$answer" "$PATH" "$NITRO_CLI_BLOBS"
sh -c 'echo "$NITRO_CLI_BLOBS"'
""", self.place)
                blobs = f"{self.place}/usr/share/nitro_enclaves/blobs"
                self.assertEqual((done.stdout.splitlines(), done.stderr), (
                    ["0", f"{self.tools}:/usr/bin:/bin:{self.place}/usr/bin", blobs, blobs], ""), options)

    def test_finds_the_programs_of_a_plain_prefix(self):
        shutil.rmtree(self.place)
        self.program("bin/nitro-cli")
        for shell in self.each_shell():
            done = self.run_in(shell, '. ENV; echo "$? ${PATH##*:} $NITRO_CLI_BLOBS"', f"{self.place}/")
            self.assertEqual(done.stdout, f"0 {self.place}/bin {self.place}/share/nitro_enclaves/blobs\n")

    def test_an_empty_path_does_not_become_the_current_folder(self):
        done = self.run_in(["dash"], 'unset PATH; . ENV 2>/dev/null; echo "$PATH"', self.place)
        self.assertEqual(done.stdout, f"{self.place}/usr/bin\n")

    def test_says_in_one_line_what_is_wrong(self):
        for shell in self.each_shell():
            for place, message in ((None, "NITRO_CLI_INSTALL_DIR is not set"), ("", "NITRO_CLI_INSTALL_DIR is not set"),
                                   ("/no where", "there is no nitro-cli in /no where;"), ("/a:b", "has a colon")):
                done = self.run_in(shell, 'set -eu; before=$PATH; . ENV || echo "status $?"; [ "$before" = "$PATH" ]; set | grep ^nitro_cli || :',
                                   place)
                self.assertEqual((done.returncode, done.stdout), (0, "status 1\n"), done.stderr)
                self.assertIn(message, done.stderr)
                self.assertEqual((done.stderr[:18], done.stderr.count("\n")), ("nitro-cli-env.sh: ", 1))

    def test_an_installed_copy_knows_its_place_and_asks_for_nothing(self):
        text = pathlib.Path(INSTALLED).read_text("utf-8")
        prefix = text.partition("${NITRO_CLI_INSTALL_DIR:-")[2].partition("}")[0]
        self.assertTrue(prefix.startswith("/"), prefix)
        copy = self.folder / "copy.sh"
        copy.write_text(text.replace(prefix, str(self.place)), "utf-8")
        for shell in self.each_shell():
            done = self.run_in(shell, 'set -eu; . ENV; echo "$? ${PATH##*:} $NITRO_CLI_BLOBS"', env=str(copy))
            self.assertEqual((done.stdout, done.stderr), (
                f"0 {self.place}/usr/bin {self.place}/usr/share/nitro_enclaves/blobs\n", ""))
            self.assertEqual(self.calls(), [])
        # The programs have been removed; this file of the configuration has not.
        shutil.rmtree(self.place)
        for shell in self.each_shell():
            done = self.run_in(shell, 'set -eu; . ENV; echo "$? $PATH ${NITRO_CLI_BLOBS-}"', env=str(copy))
            self.assertEqual((done.stdout, done.stderr), (f"0 {self.tools}:/usr/bin:/bin \n", ""))

    @unittest.skipIf(LOADED, "the driver is loaded")
    def test_loads_the_driver_of_the_installation_or_of_the_system(self):
        if os.getuid() != 0:
            self.skipTest("only root loads drivers without sudo")
        module = self.place / f"lib/modules/{platform.release()}/extra/nitro_enclaves/nitro_enclaves.ko"
        for shell in self.each_shell():
            self.assertEqual(self.run_in(shell, ". ENV", self.place).returncode, 0)
            module.parent.mkdir(parents=True)
            module.write_text("ko", "ascii")
            self.assertEqual(self.run_in(shell, ". ENV", self.place).returncode, 0)
            shutil.rmtree(self.place / "lib")
            self.assertEqual(self.calls(), ["modprobe nitro_enclaves", f"insmod {module}"])

    @unittest.skipIf(LOADED, "the driver is loaded")
    def test_an_ordinary_user_loads_it_with_sudo_and_is_not_asked_without_a_terminal(self):
        for path in (self.folder, self.place):
            path.chmod(0o755)
        (self.folder / "calls").touch()
        (self.folder / "calls").chmod(0o666)
        source = self.folder / "env.sh"
        shutil.copy(SOURCE, source)
        done = self.run_in(["dash"], ". ENV", self.place, user=65534 if os.getuid() == 0 else None, env=str(source))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.calls(), ["sudo -n -- modprobe nitro_enclaves"])

    @unittest.skipIf(LOADED, "the driver is loaded")
    def test_a_driver_that_cannot_be_loaded_is_one_line_and_the_rest_is_done(self):
        for name in ("modprobe", "sudo"):
            self.tool(name, "echo out; echo 'FATAL: not found' >&2; echo 'in any folder' >&2; exit 1")
        for shell in self.each_shell():
            done = self.run_in(shell, 'set -eu; . ENV || echo "status $? ${PATH##*:}"', self.place)
            self.assertEqual((done.returncode, done.stdout), (0, f"status 1 {self.place}/usr/bin\n"))
            self.assertEqual(done.stderr, "nitro-cli-env.sh: the driver nitro_enclaves cannot be loaded: FATAL: not found in any folder\n")

    def test_a_loaded_driver_is_left_alone(self):
        if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no mount namespace can be made here")
        for shell in self.each_shell():
            done = self.run_in(["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/module && mkdir /sys/module/nitro_enclaves && '
                                'exec "$@"', "sh", *shell], ". ENV", self.place)
            self.assertEqual((done.returncode, done.stderr, self.calls()), (0, "", []))


if __name__ == "__main__":
    if why := absent_programs("dash", "bash", "zsh"):
        skip(why)
    main()
