# SPDX-License-Identifier: Apache-2.0
"""vsock-proxy --local with real local enclaves: what their programs reach through vsock, and how they are reached."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading

from proxy import LOCALHOST, Proxy, Server, echo, free_port, receive_all

from enclave import EnclaveTest, absent_programs, docker_archive, main, skip, wait_until

# openssl cannot speak vsock, so socat carries its connection to CID 3.
TLS_CLIENT = """
socat UNIX-LISTEN:/tls,fork VSOCK-CONNECT:3:8443 &
until (echo secret; sleep 3) | openssl s_client -quiet -unix /tls -CAfile /certificate.pem -verify_hostname server.example -verify_return_error -no_ign_eof; do
  sleep 1
done
echo finished
sleep 100000
"""


def with_libraries(*programs):
    """The files of an image with these programs of this machine and what they load."""
    files = {"bin/busybox": (pathlib.Path(shutil.which("busybox")).read_bytes(), 0o755)}
    for program in map(shutil.which, programs):
        listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
        for path in [program, *re.findall(r"(/\S+) \(0x", listed)]:
            # Paths without the links of this machine's folders: /lib is /usr/lib.
            files[path.removeprefix("/")] = (pathlib.Path(path).read_bytes(), 0o755)
    return files


class Local(EnclaveTest):
    def proxy(self, *arguments, ready="Proxy is now in listening state"):
        proxy = Proxy(self.tool.folder, *arguments, environment=self.tool.environment, ready=ready)
        self.addCleanup(lambda: proxy.process.poll() is None and (proxy.process.kill(), proxy.process.wait()))
        return proxy

    def write(self, name, text):
        path = f"{self.tool.folder}/{name}"
        pathlib.Path(path).write_text(text, "utf-8")
        return path

    def server(self, serve):
        server = Server(serve)
        self.addCleanup(server.close)
        return server

    def test_a_program_in_the_enclave_reaches_a_service(self):
        started = self.tool.run(self.image("serve"))
        heard = []

        def serve(connection):
            heard.append(connection.recv(100))
            connection.sendall(b"welcome")

        server = self.server(serve)
        allowlist = self.write("allow.yaml", f"allowlist:\n- {{address: localhost, port: {server.port}}}\n")
        proxy = self.proxy("--local", started["EnclaveName"], "--config", allowlist, 5006, "localhost", server.port)
        self.assertIn("parent said: welcome", self.tool.console(started, "parent said: welcome"))
        self.assertEqual(heard, [b"from the enclave\n"])
        self.assertRegex(proxy.log, rf"Connected client from vsock:{started['EnclaveCID']} to 127.0.0.1:{server.port}")
        self.tool("terminate-enclave", "--all")
        self.assertEqual(proxy.process.wait(20), 0)
        self.assertIn("has ended", proxy.log)

    def test_the_enclave_is_reached_and_checked_by_its_cid(self):
        started = self.tool.run(self.image("serve"))
        cid, port = started["EnclaveCID"], free_port()
        server = self.server(echo)
        proxy = self.proxy("--local", started["EnclaveID"], "--routes", self.write("routes.yaml", f"""
routes:
- {{name: in, listen: "tcp:{LOCALHOST}:{port}", connect: "vsock:{cid}:5005"}}
- {{name: nobody, listen: "unix:{self.tool.folder}/nobody", connect: "vsock:{cid}:5999"}}
- {{name: others, listen: "vsock:5006", connect: "tcp:{LOCALHOST}:{server.port}", cids: [{cid + 1}]}}
"""))
        self.tool.connect_to_program(started).close()
        data = os.urandom(3_000_000)
        with socket.create_connection((LOCALHOST, port), 30) as connection:
            received = bytearray()
            reader = threading.Thread(target=lambda: received.extend(receive_all(connection)))
            reader.start()
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            reader.join()
        self.assertEqual(bytes(received), data)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{self.tool.folder}/nobody")
            self.assertEqual(receive_all(connection), b"")
        proxy.wait_for(f"nobody: unix: vsock:{cid}:5999: the enclave refused the connection")
        # The enclave's program asks port 5006 once a second.
        proxy.wait_for(f"others: the client vsock:{cid} is not allowed; see \"cids\" of the route")
        self.assertEqual(server.accepted, 0)
        self.assertEqual(proxy.stop(), 0)
        self.assertEqual(sorted(os.listdir(self.tool.vsock_folder(started))), ["connect", "console"])

    def test_another_enclave_cannot_be_reached(self):
        started = self.tool.run(self.image("serve"))
        routes = self.write("routes.yaml", f'routes: [{{listen: "unix:{self.tool.folder}/x", connect: "vsock:{started["EnclaveCID"] + 1}:1"}}]')
        done = subprocess.run([os.environ["VSOCK_PROXY"], "--local", started["EnclaveName"], "--routes", routes], stderr=subprocess.PIPE,
                              text=True, env=self.tool.environment, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"with --local only the CID of that enclave, {started['EnclaveCID']}, can be reached", done.stderr)

    def test_tls_from_end_to_end(self):
        """openssl in the enclave, a real TLS server on the host, and nothing in between that could read along."""
        if why := absent_programs("busybox", "socat", "openssl", "ldd"):
            skip(why)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=server.example", "-addext",
                        "subjectAltName=DNS:server.example", "-keyout", f"{self.shared}/key.pem", "-out", f"{self.shared}/certificate.pem"],
                       stderr=subprocess.DEVNULL, check=True)
        archive, eif = f"{self.shared}/tls.tar", f"{self.shared}/tls.eif"
        files = with_libraries("socat", "openssl")
        files["certificate.pem"] = (pathlib.Path(f"{self.shared}/certificate.pem").read_bytes(), 0o644)
        files["client.sh"] = (TLS_CLIENT.encode(), 0o644)
        # The names of busybox's programs.
        for name in ("sh", "sleep"):
            files[f"bin/{name}"] = (f"#!/bin/busybox sh\nexec /bin/busybox {name} \"$@\"\n".encode(), 0o755)
        docker_archive(archive, files, ["/bin/busybox", "sh", "/client.sh"], ["PATH=/bin:/usr/bin"])
        subprocess.run([self.tool.path, "build-enclave", "--docker-uri", f"docker-archive:{archive}", "--output-file", eif],
                       stdout=subprocess.DEVNULL, env=self.tool.environment, check=True)
        os.chmod(eif, 0o644)
        port = free_port()
        # -rev sends each line back reversed.
        server = subprocess.Popen(["openssl", "s_server", "-accept", f"{LOCALHOST}:{port}", "-key", f"{self.shared}/key.pem", "-cert",
                                   f"{self.shared}/certificate.pem", "-rev"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertTrue(wait_until(lambda: socket.socket().connect_ex((LOCALHOST, port)) == 0))
        started = self.tool.run(eif, memory=512)
        allowlist = self.write("allow.yaml", f"allowlist:\n- {{address: {LOCALHOST}, port: {port}}}\n")
        self.proxy("--local", started["EnclaveName"], "--config", allowlist, 8443, LOCALHOST, port)
        console = self.tool.console(started, "finished", seconds=120)
        self.assertIn("terces", console)


if __name__ == "__main__":
    main()
