# SPDX-License-Identifier: Apache-2.0
"""A QEMU with the nitro-enclave machine: the image runs unmodified, and /dev/nsm answers in it."""
from enclave import EnclaveTest, main


class NitroSecureModule(EnclaveTest):
    def test_the_registers_that_the_enclave_reads_are_those_that_the_builder_printed(self):
        eif = self.image("registers")
        enclave = self.tool.run(eif)
        measured = self.tool("describe-eif", "--eif-path", eif).json["Measurements"]
        console = self.tool.console(enclave, "ready:")
        for register in ("PCR0", "PCR1", "PCR2"):
            self.assertIn(f"{register}: {measured[register]}", console)

    def test_the_same_line_as_on_any_machine(self):
        enclave = self.tool.run(self.image("serve"))
        connection = self.tool.connect_to_program(enclave)
        connection.sendall(b"ping")
        self.assertEqual(connection.recv(100), b"ping")
        connection.close()
        self.assertEqual(self.tool("terminate-enclave", "--all").json[0]["Terminated"], True)
        self.assertEqual(self.tool.leftovers(), [])


if __name__ == "__main__":
    main()
