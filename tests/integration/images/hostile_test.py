# SPDX-License-Identifier: Apache-2.0
"""Images made to eat memory. Each is small; nitro-cli has to build it, or refuse it with one clear error, in an address space that holds what
its limits allow and no more."""
import gzip
import hashlib
import io
import json
import os
import resource
import struct
import subprocess
import tarfile
import zlib

import parts

MIB = 1 << 20


def header(name, *, kind=b"0", size=0, link=b"", prefix=b""):
    """A ustar header."""
    block = struct.pack("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x", name, b"0000644", b"0000000", b"0000000", b"%011o" % size, b"00000000000",
                        b"        ", kind, link, b"ustar\x0000", b"", b"", b"0000000", b"0000000", prefix)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def member(name, content=b"", **options):
    return header(name, size=len(content), **options) + content + bytes(-len(content) % 512)


def pax(records):
    """An extended header with (key, value) records."""
    text = b""
    for key, value in records:
        rest = b" %b=%b\n" % (key, value)
        size = len(rest) + 1
        while len(b"%d" % size) + len(rest) != size:
            size += 1
        text += b"%d" % size + rest
    return member(b"pax", text, kind=b"x")


class Hostile(parts.ImagesTest):
    def archive(self, layer, *, packed=None, config=None, times=1):
        """A docker archive with one layer, several `times`, given as an iterable of bytes; gzip unless `packed` says what is stored."""
        path, digest, stored = self.workshop.path("hostile.tar"), hashlib.sha256(), io.BytesIO()
        with gzip.GzipFile(fileobj=stored, mode="wb", compresslevel=1, mtime=0) as compressed:
            for piece in layer:
                digest.update(piece)
                compressed.write(piece)
        config = config or json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]},
                                       "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"] * times}}).encode()
        files = {"config.json": config, "layer": packed or stored.getvalue(),
                 "manifest.json": json.dumps([{"Config": "config.json", "Layers": ["layer"] * times}]).encode()}
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return f"docker-archive:{path}"

    def limited(self, uri, mib):
        """A build with so much address space."""
        done = subprocess.run(self.build.command(uri), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", timeout=300, check=False, env=self.build.environment,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (mib * MIB, mib * MIB)))
        return parts.enclave.Result(done)

    def setUp(self):
        if os.path.exists(self.build.output):
            os.unlink(self.build.output)

    def assert_built(self, result):
        self.assertEqual(result.status, 0, result)

    def test_extended_headers_do_not_add_up(self):
        records = [pax([(b"comment.%d" % i, b"x" * 1_000_000)]) for i in range(600)]
        self.assert_built(self.limited(self.archive([*records, member(b"f", b"content"), bytes(1024)]), 400))

    def test_layers(self):
        """Each takes 74 bytes of the MiB that the metadata may have."""
        empty = bytes(1024)
        self.assert_refused(self.limited(self.archive([empty], packed=empty, times=14_160), 400), "E48", "use a container image with fewer layers")
        self.assert_built(self.limited(self.archive([empty], packed=empty, times=14_150), 400))

    def test_long_names_do_not_add_up(self):
        names = [member(b"L", b"n" * 1_000_000, kind=b"L") for _ in range(300)]
        self.assert_refused(self.limited(self.archive([*names, member(b"f"), bytes(1024)]), 400), "E48", "a name is longer than 4095 bytes")

    def test_files_of_aufs(self):
        kept = (header(b".wh..wh.plnk/%d" % i) for i in range(120_000))
        self.assert_refused(self.limited(self.archive(kept), 400), "E48", "what AUFS keeps for hard links would take more than the 16 MiB", "plnk/")

    def test_contents_that_links_multiply(self):
        big = pax([(b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.size", b"4000000000")])
        links = (header(b"%d" % i, kind=b"1", link=b".wh..wh.plnk/1") for i in range(1000))
        self.assert_refused(self.limited(self.archive([big, member(b".wh..wh.plnk/1", b"x"), *links]), 400), "E48", "larger than 64 GiB together")

    def test_long_paths_of_files_with_two_names(self):
        def layer():
            folders = b"/".join([b"d" * 200] * 19)
            yield pax([(b"path", folders)]) + header(b"f", kind=b"5")
            yield pax([(b"linkpath", folders)]) + header(b"s", kind=b"2")
            for i in range(60_000):
                yield header(b"s/%d" % i)
                yield header(b"s/l%d" % i, kind=b"1", link=b"s/%d" % i)
        self.assert_built(self.limited(self.archive(layer()), 330))

    def test_regions_of_sparse_files(self):
        def layer():
            numbers = b",".join(b"%d,0" % i for i in range(60_000))
            for i in range(200):
                yield pax([(b"GNU.sparse.map", numbers), (b"GNU.sparse.numblocks", b"60000"), (b"GNU.sparse.size", b"60000")]) + header(b"%d" % i)
        self.assert_refused(self.limited(self.archive(layer()), 400), "E48", "the regions of its sparse files would take more than the 64 MiB")

    def test_names_without_end(self):
        """What the limits of an image let through takes no more than they say."""
        def layer():
            links = b"".join(pax([(b"linkpath", b"t" * 4000)]) + header(b"s/%d" % i, kind=b"2") for i in range(50))
            # The same names, in another folder each time.
            for i in range(2000):
                yield header(b"%d" % i, kind=b"5") + header(b"s", kind=b"2", link=b"%d" % i) + links
        result = self.limited(self.archive(layer()), 1536)
        self.assert_refused(result, "E48", "the names of its files would take more than the 512 MiB of memory that an image may take for them")

    def test_files_of_an_archive(self):
        """An archive of images is itself one."""
        path = self.workshop.path("names.tar.gz")
        with gzip.open(path, "wb", 1) as archive:
            for i in range(100_001):
                archive.write(pax([(b"path", b"%d" % i + b"/n" * 2000)]) + header(b"f"))
        self.assert_refused(self.limited(f"docker-archive:{path}", 1536), "E48", "more than 100000 files")

    def test_documents(self):
        for text in (b"[" + b"[]," * 1_398_000 + b"0]", b"{" + b",".join(b'"":0' for _ in range(838_000)) + b"}", b"[" + b"0," * 2_097_000 + b"0]"):
            with self.subTest(text=text[:8]):
                result = self.limited(self.archive([], config=text), 1536)
                self.assertEqual(result.status, 48, result)
        self.assert_refused(self.limited(self.archive([], config=b" " * (4 * MIB + 1)), 300), "E48", "more than the 4194304")

    def test_window_of_xz(self):
        parts.need_programs("xz")
        # One thread; more of them would write sizes before the filter.
        xz = bytearray(subprocess.run(["xz", "--threads=1", "-c"], input=bytes(2048), stdout=subprocess.PIPE, check=True).stdout)
        self.assertEqual(xz[14], 0x21, "the filter is LZMA2")
        xz[16] = 40  # a dictionary of 4 GiB; the block's header ends with its checksum
        end = 12 + (xz[12] + 1) * 4
        xz[end - 4:end] = struct.pack("<I", zlib.crc32(xz[12:end - 4]))
        result = self.limited(self.archive([bytes(2048)], packed=bytes(xz)), 500)
        self.assert_refused(result, "E48", "the window of its compressed data would take more than the 160 MiB")

    def test_window_of_zstd(self):
        packed = bytes.fromhex("28b52ffd00a8") + bytes(100)  # 2 GiB
        self.assert_refused(self.limited(self.archive([], packed=packed), 500), "E48", "too much memory")


if __name__ == "__main__":
    parts.main()
