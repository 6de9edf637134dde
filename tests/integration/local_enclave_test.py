# SPDX-License-Identifier: Apache-2.0
"""The life of local enclaves, through the tool as users run it."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading

from enclave import EnclaveTest, docker_archive, main, wait_until


class LifeOfALocalEnclave(EnclaveTest):
    def test_runs_is_listed_talks_and_ends(self):
        eif = self.image("serve")
        started = self.tool.run(eif)
        self.assertEqual(list(started), ["EnclaveName", "EnclaveID", "ProcessID", "EnclaveCID", "NumberOfCPUs", "CPUIDs", "MemoryMiB"])
        self.assertEqual(started["EnclaveName"], "serve")
        self.assertEqual((started["NumberOfCPUs"], started["MemoryMiB"]), (1, 128))

        listed = self.tool("describe-enclaves").json
        described = json.loads(subprocess.run([self.tool.path, "describe-eif", "--eif-path", eif], stdout=subprocess.PIPE,
                                              env=self.tool.environment, check=True).stdout)
        self.assertEqual(len(listed), 1)
        self.assertEqual(list(listed[0]), [*started, "State", "Flags", "Measurements"])
        self.assertEqual((listed[0]["State"], listed[0]["Flags"]), ("RUNNING", "DEBUG_MODE"))
        self.assertEqual(listed[0]["Measurements"], described["Measurements"])
        with_metadata = self.tool("describe-enclaves", "--metadata").json[0]
        self.assertEqual(with_metadata["Metadata"], described["Metadata"])

        console = self.tool.console(started, "ready: hello")
        self.assertRegex(console, rf"^Connecting to the console for enclave {started['EnclaveCID']}\.\.\.\nSuccessfully connected to the console\.\n")
        self.assertIn("Linux version", console)
        self.assertIn("ready: hello", console)

        connection = self.tool.connect_to_program(started)
        connection.sendall(b"ping")
        connection.shutdown(socket.SHUT_WR)
        self.assertEqual(connection.recv(100), b"ping")
        self.assertEqual(connection.recv(100), b"")
        connection.close()
        self.assertIsNone(self.tool.connect(started, 5999))

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self.tool.vsock_folder(started)}/port_5006")
            os.chmod(f"{self.tool.vsock_folder(started)}/port_5006", 0o777)
            listener.listen()
            listener.settimeout(20)
            connection, _ = listener.accept()
            self.assertEqual(connection.recv(100), b"from the enclave\n")
            connection.sendall(b"welcome")
            connection.close()
        self.assertIn("parent said: welcome", self.tool.console(started, "parent said: welcome"))

        ended = self.tool("terminate-enclave", "--all")
        self.assertEqual(ended.json, [{"EnclaveName": "serve", "EnclaveID": started["EnclaveID"], "Terminated": True}])
        self.assertEqual(self.tool("describe-enclaves").out, "[]\n")
        self.assertEqual(self.tool.leftovers(), [])

    def test_much_data_passes_unharmed_in_both_directions(self):
        connection = self.tool.connect_to_program(self.tool.run(self.image("serve")))
        self.addCleanup(connection.close)
        data = os.urandom(1 << 20) * 8
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        received = bytearray()
        while chunk := connection.recv(1 << 16):
            received += chunk
        sender.join()
        self.assertEqual(len(received), len(data))
        self.assertTrue(received == data)

    def test_two_enclaves_of_one_name_get_different_names_and_cids(self):
        eif = self.image("serve")
        first = self.tool.run(eif, "--enclave-name", "same")
        result = self.tool("run-enclave", "--local", "--eif-path", eif, "--memory", 128, "--cpu-count", 1, "--enclave-name", "same")
        second = result.json
        self.assertEqual((first["EnclaveName"], second["EnclaveName"]), ("same", "same_1"))
        self.assertNotEqual(first["EnclaveCID"], second["EnclaveCID"])
        self.assertIn('The name "same" is taken', result.err)
        self.assertEqual(self.tool("terminate-enclave", "--enclave-name", "same").json["EnclaveID"], first["EnclaveID"])
        self.assertEqual([e["EnclaveName"] for e in self.tool("describe-enclaves").json], ["same_1"])

    def test_without_debug_mode_there_is_no_console(self):
        enclave = self.tool.run(self.image("serve"), debug=False)
        self.assertEqual(self.tool("describe-enclaves").json[0]["Flags"], "NONE")
        result = self.tool("console", "--enclave-id", enclave["EnclaveID"])
        self.assertEqual(result.status, 44)
        self.assertIn("[ E44 ]", result.err)

    def test_a_console_reader_that_stops_reading_does_not_stop_the_guest(self):
        enclave = self.tool.run(self.image("flood", "3000000"), memory=128)
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(f"{self.tool.vsock_folder(enclave)}/console")
        self.addCleanup(slow.close)
        self.tool.connect_to_program(enclave).close()
        self.assertIn("flooded", self.tool.console(enclave, "ready"))

    def test_attach_console_shows_the_boot_and_ends_with_the_enclave(self):
        process = self.tool.start("run-enclave", "--local", "--eif-path", self.image("serve"), "--memory", 128, "--cpu-count", 1,
                                  "--attach-console")
        self.assertTrue(wait_until(lambda: self.tool("describe-enclaves").json))
        self.tool("terminate-enclave", "--all")
        out, _ = process.communicate(timeout=60)
        self.assertIn("Linux version", out)
        self.assertEqual(process.returncode, 0)


class EnclavesThatEndByThemselves(EnclaveTest):
    def test_the_end_of_the_enclave_is_noticed_and_everything_is_given_back(self):
        enclave = self.tool.run(self.image("exit", "3"))
        self.assertEqual(self.tool.leftovers(), [])
        self.assertEqual(self.tool("describe-enclaves").json, [])
        self.assertEqual(self.tool("terminate-enclave", "--enclave-id", enclave["EnclaveID"]).status, 11)

    def test_qemu_killed_ends_the_enclave(self):
        self.tool.run(self.image("serve"))
        qemu = [pid for pid, command in self.tool.processes() if "qemu-system" in command]
        os.kill(int(qemu[0]), signal.SIGKILL)
        self.assertEqual(self.tool.leftovers(), [])

    def test_killing_the_enclave_process_leaves_nothing_that_the_next_command_does_not_clear(self):
        enclave = self.tool.run(self.image("serve"))
        os.kill(enclave["ProcessID"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: not self.tool.processes()), self.tool.processes())
        self.assertEqual(self.tool("describe-enclaves").json, [])
        self.assertEqual(self.tool.leftovers(), [])

    def test_sigterm_to_the_enclave_process_ends_the_enclave_cleanly(self):
        os.kill(self.tool.run(self.image("serve"))["ProcessID"], signal.SIGTERM)
        self.assertEqual(self.tool.leftovers(), [])

    def test_removing_its_socket_ends_the_enclave(self):
        self.tool.run(self.image("serve"))
        for name in os.listdir(self.tool.sockets):
            if name.endswith(".sock"):
                os.unlink(f"{self.tool.sockets}/{name}")
        self.assertEqual(self.tool.leftovers(), [])


class StartsThatFail(EnclaveTest):
    def fails(self, code, status, *arguments, environment=(), needle=""):
        result = self.tool("run-enclave", "--local", *arguments, environment=environment)
        self.assertEqual(result.status, status, result)
        self.assertIn(f"[ {code} ]", result.err)
        self.assertIn(needle, result.err)
        self.assertEqual(result.out, "")
        self.assertEqual(self.tool.leftovers(), [])
        return result

    def options(self, eif=None, memory=128):
        return ["--eif-path", eif or self.image("serve"), "--memory", memory, "--cpu-count", 1]

    def test_without_qemu(self):
        self.fails("E36", 39, *self.options(), environment={"PATH": "/nowhere", "NITRO_CLI_QEMU": ""}, needle="qemu-system")
        self.fails("E36", 39, *self.options(), environment={"NITRO_CLI_QEMU": "/no/such/qemu"}, needle="/no/such/qemu")

    def test_a_qemu_that_dies_at_once_has_the_last_word(self):
        fake = pathlib.Path(self.tool.folder) / "qemu-system-fake"
        fake.write_text('#!/bin/sh\ncase "$*" in *version*) echo "QEMU emulator version 8.0.0";; *help*) echo "microvm m";; '
                        '*) echo "the moon is in the wrong phase" >&2; exit 1;; esac\n')
        fake.chmod(0o755)
        self.fails("E36", 39, *self.options(), environment={"NITRO_CLI_QEMU": str(fake)}, needle="the moon is in the wrong phase")

    def test_an_image_file_that_is_missing_or_no_image(self):
        self.fails("E19", 39, *self.options("/no/such.eif"), needle="/no/such.eif")
        garbage = f"{self.shared}/garbage.eif"
        with open(garbage, "wb") as file:
            file.write(b"x" * 5000)
        os.chmod(garbage, 0o644)
        self.fails("E59", 39, *self.options(garbage))

    def test_an_image_that_is_cut_off_or_damaged(self):
        whole = pathlib.Path(self.image("serve")).read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for name, content in (("cut", whole[:-1]), ("half", whole[:len(whole) // 2]), ("header", whole[:500]), ("empty", b""),
                              ("flipped", bytes(flipped))):
            with self.subTest(name):
                path = f"{self.shared}/{name}.eif"
                pathlib.Path(path).write_bytes(content)
                os.chmod(path, 0o644)
                self.fails("E59", 39, *self.options(path))

    def test_too_little_memory(self):
        self.fails("E26", 39, *self.options(memory=63), needle="at least 64 MiB")

    def test_more_memory_than_there_is(self):
        self.fails("E27", 39, *self.options(memory="1T"))

    def test_more_cpus_than_there_are(self):
        self.fails("E22", 39, "--eif-path", self.image("serve"), "--memory", 128, "--cpu-count", 100000)

    def test_names_that_cannot_be(self):
        for name in ("", "a/b", ".", "x" * 300):
            with self.subTest(name):
                self.fails("E58", 58, *self.options(), "--enclave-name", name)

    def test_a_cid_that_is_reserved_or_taken(self):
        self.fails("E03", 3, *self.options(), "--enclave-cid=2")
        self.fails("E03", 3, *self.options(), "--enclave-cid=4294967295")
        self.tool.run(self.image("serve"), "--enclave-cid", "77")
        result = self.tool("run-enclave", "--local", *self.options(), "--enclave-cid", "77")
        self.assertEqual(result.status, 39)
        self.assertIn("CID 77", result.err)

    def test_an_interrupted_start_is_undone(self):
        # An enclave that never boots, so that the start cannot finish before the signal.
        fake = pathlib.Path(self.tool.folder) / "qemu-system-fake"
        fake.write_text('#!/bin/sh\ncase "$*" in *version*) echo "QEMU emulator version 8.0.0";; *help*) echo "microvm m";; '
                        '*) exec sleep 1000;; esac\n')
        fake.chmod(0o755)
        self.tool.environment["NITRO_CLI_QEMU"] = str(fake)
        moments = {"at once": lambda: True,
                   "its folder is there": lambda: any(name.endswith(".vsock") for name in os.listdir(self.tool.sockets)),
                   "its machine runs": lambda: any("sleep" in command for _, command in self.tool.processes())}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            for moment, has_come in moments.items():
                with self.subTest(signal=number, moment=moment):
                    process = self.tool.start("run-enclave", "--local", *self.options())
                    self.assertTrue(wait_until(has_come))
                    process.send_signal(number)
                    process.communicate(timeout=60)
                    self.assertEqual(process.returncode, -number)
                    # If the signal could be caught, nothing is left at the moment the command has ended.
                    self.assertEqual(self.tool.leftovers(*([] if number == signal.SIGKILL else [0])), [])


class BuildsThatFail(EnclaveTest):
    def writes_without_a_name(self, pid):
        """Whether the process has an unnamed file (O_TMPFILE) with content open in the test's folder."""
        with contextlib.suppress(OSError):
            for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                if os.readlink(descriptor).startswith(f"{self.tool.folder}/#") and descriptor.stat().st_size > 1 << 20:
                    return True
        return False

    def test_an_interrupted_build_leaves_nothing_and_keeps_the_older_file(self):
        archive, target = f"{self.shared}/big.tar", f"{self.tool.folder}/out.eif"
        if not os.path.exists(archive):
            docker_archive(archive, {"big": (os.urandom(1 << 20) * 200, 0o644)}, ["/big"])
        pathlib.Path(target).write_text("old")
        self.tool.give_to_user(target)
        before = sorted(os.listdir(self.tool.folder))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=number):
                process = self.tool.start("build-enclave", "--docker-uri", f"docker-archive:{archive}", "--output-file", target)
                self.assertTrue(wait_until(lambda command=process: self.writes_without_a_name(command.pid)))
                process.send_signal(number)
                process.communicate(timeout=60)
                self.assertEqual(process.returncode, -number)
                self.assertEqual(pathlib.Path(target).read_text(), "old")
                self.assertEqual(sorted(os.listdir(self.tool.folder)), before)

    def test_an_output_folder_that_is_missing(self):
        archive = f"{self.shared}/small.tar"
        docker_archive(archive, {"x": (b"x", 0o755)}, ["/x"])
        result = self.tool("build-enclave", "--docker-uri", f"docker-archive:{archive}", "--output-file", "/no/such/folder/x.eif")
        self.assertEqual(result.status, 19)
        self.assertIn("/no/such/folder", result.err)

    def test_a_disk_that_is_full(self):
        if os.geteuid() != 0:
            self.skipTest("only root can mount a small disk")
        disk = f"{self.tool.folder}/disk"
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode != 0:
            self.skipTest("this machine does not let root mount")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        archive = f"{self.shared}/small.tar"
        docker_archive(archive, {"x": (os.urandom(2 << 20), 0o755)}, ["/x"])
        result = self.tool("build-enclave", "--docker-uri", f"docker-archive:{archive}", "--output-file", f"{disk}/x.eif")
        self.assertNotEqual(result.status, 0)
        self.assertIn("No space left on device", result.err)
        self.assertEqual(os.listdir(disk), [])


if __name__ == "__main__":
    main()
