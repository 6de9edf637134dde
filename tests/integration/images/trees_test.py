# SPDX-License-Identifier: Apache-2.0
"""Layers that are hard to merge: what is in the ramdisk is what Docker's engine makes of the same layers.

Each image is made here, loaded into a real engine, and exported by it; nitro-cli gets the same archive. NITRO_TEST_IMAGES says how many
random images are made (default 25), NITRO_TEST_SEED which."""
import hashlib
import io
import json
import os
import pathlib
import random
import struct
import subprocess
import tarfile
import time
import unittest

import parts

# The files that are not the image's: what they become is another test's business.
FIXED = {"dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv", "Dockerfile"}
MOUNT_POINTS = {"dev", "dev/pts", "dev/shm", "etc", "proc", "sys", "etc/mtab"}
# Once more at the end of every ramdisk.
AGAIN = {"", "dev", "run", "sys", "var", "proc", "tmp"}
FIXED_TIME = 1492533000


def entry(name, kind=tarfile.REGTYPE, content=b"", link="", mode=None, uid=0, gid=0, mtime=1700000000, device=(0, 0), pax=None):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.uid, member.gid, member.mtime = kind, link, uid, gid, mtime
    member.size = len(content)
    member.mode = (0o755 if kind == tarfile.DIRTYPE else 0o644) if mode is None else mode
    member.devmajor, member.devminor = device
    member.pax_headers = pax or {}
    return member, content


def folder(name, **more):
    return entry(name, tarfile.DIRTYPE, **more)


def symlink(name, target, **more):
    return entry(name, tarfile.SYMTYPE, link=target, **more)


def hard_link(name, target, **more):
    return entry(name, tarfile.LNKTYPE, link=target, **more)


def file(name, content=None, **more):
    return entry(name, content=(name.encode("utf-8", "surrogateescape") if content is None else content), **more)


def tar_of(entries, tar_format=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, encoding="utf-8", errors="surrogateescape") as archive:
        for item in entries:
            if isinstance(item, bytes):  # members that somebody else has made
                archive.fileobj.write(item)
                archive.offset += len(item)
            else:
                member, content = item
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(layers, config=None):
    """What `docker save` writes for the layers, each of which is a list of entries or a tar archive."""
    layers = [layer if isinstance(layer, bytes) else tar_of(layer) for layer in layers]
    description = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/app"], **(config or {})},
                              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]}})
    name = hashlib.sha256(description.encode()).hexdigest() + ".json"
    files = [entry(name, content=description.encode())]
    for number, layer in enumerate(layers):
        files.append(entry(f"{number}/layer.tar", content=layer))
    manifest = [{"Config": name, "RepoTags": ["trees:1"], "Layers": [f"{number}/layer.tar" for number in range(len(layers))]}]
    return tar_of([*files, entry("manifest.json", content=json.dumps(manifest).encode())])


def sparse_members(workshop, options):
    """A file with holes, as GNU tar stores it."""
    path = pathlib.Path(workshop.path("sparse"))
    with open(path, "wb") as out:
        out.truncate(3 << 20)
        out.seek(1 << 20)
        out.write(b"in the middle")
        out.seek((2 << 20) + 5)
        out.write(b"later")
    archive = subprocess.run(["tar", "--create", "--sparse", *options, "--owner=0", "--group=0", "--mtime=@1700000000", "-C", path.parent,
                              path.name], stdout=subprocess.PIPE, check=True).stdout
    end = archive.rstrip(b"\0")
    return archive[:(len(end) + 511) // 512 * 512]


def exported(engine):
    """Path → (type, mode, uid, gid, mtime, content or target or device) of a container that the engine makes of the image."""
    container = json.loads(engine.request("POST", "/containers/create", b'{"Image":"trees:1"}', {"Content-Type": "application/json"}))["Id"]
    try:
        content = engine.request("GET", f"/containers/{container}/export")
    finally:
        engine.request("DELETE", f"/containers/{container}")
    tree = {}
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            path = member.name.strip("/")
            if member.islnk():
                first = tree[member.linkname]
                tree[path] = ("link", *first[1:5], member.linkname)
                continue
            kind = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symlink", tarfile.CHRTYPE: "character", tarfile.BLKTYPE: "block",
                    tarfile.FIFOTYPE: "fifo"}.get(member.type, "file")
            if kind == "file":
                data = archive.extractfile(member).read()
            else:
                data = member.linkname if kind == "symlink" else (member.devmajor, member.devminor) if kind in ("character", "block") else ""
            tree[path] = (kind, member.mode & 0o7777, member.uid, member.gid, int(member.mtime // 1), data)
    return tree


def ramdisk(image):
    """The members of the last ramdisk of an enclave image, the later of one name last."""
    position, last = 548, b""
    while position + 12 <= len(image):
        kind, _, size = struct.unpack_from(">HHQ", image, position)
        if kind == 3:
            last = image[position + 12:position + 12 + size]
        position += 12 + size
    members, position = [], 0
    while True:
        fields = [int(last[position + 6 + 8 * i:position + 14 + 8 * i], 16) for i in range(13)]
        name = last[position + 110:position + 110 + fields[11] - 1].decode("utf-8", "surrogateescape")
        if name == "TRAILER!!!":
            return members
        start = (position + 110 + fields[11] + 3) // 4 * 4
        members.append((name, fields, last[start:start + fields[6]]))
        position = (start + fields[6] + 3) // 4 * 4


def unpacked(image):
    """As exported(), of what a kernel unpacks from the ramdisk. Links between names are symbolic there."""
    tree = {}
    names = [name for name, _, _ in ramdisk(image)]
    own = names.index("cmd") - len(AGAIN)
    for name, fields, content in ramdisk(image)[1:own]:
        path = name.removeprefix("rootfs/").rstrip("/")
        assert path not in tree or path in FIXED | {"etc/mtab"}, f"{path} comes twice"
        kind = {0o040000: "folder", 0o120000: "symlink", 0o020000: "character", 0o060000: "block", 0o010000: "fifo"}.get(
            fields[1] & 0o170000, "file")
        data = content.decode("utf-8", "surrogateescape") if kind == "symlink" else content
        if kind in ("character", "block"):
            data = (fields[9], fields[10])
        elif kind in ("folder", "fifo"):
            data = ""
        tree[path] = (kind, fields[1] & 0o7777, fields[2], fields[3], fields[5], data)
    return tree


def relative(path, target):
    return os.path.relpath("/" + target, os.path.dirname("/" + path))


class TreesTest(parts.ImagesTest):
    @classmethod
    def prepare(cls):
        cls.engine = cls.workshop.dockerd()

    def compare(self, layers, config=None, what=""):
        """Whether Docker takes the image; then its files are the same here."""
        archive = archive_of(layers, config)
        path = self.workshop.write("trees.tar", archive)
        before, theirs, reason = int(time.time()) - 1, None, ""
        try:
            answer = self.engine.request("POST", "/images/load", archive, {"Content-Type": "application/x-tar"}).decode()
            reason = answer if '"error"' in answer else ""
            theirs = exported(self.engine) if not reason else None
        finally:
            if not reason:
                self.engine.remove("trees:1")
        result = self.build(f"docker-archive:{path}")
        if "chtimes" in reason:
            # It cannot date a folder that the same layer removes again. Here there is nothing to be dated.
            return False
        if reason:
            self.assertNotEqual(result.status, 0, f"{what}: Docker refuses it: {reason}")
            return False
        self.assertEqual(result.status, 0, f"{what}: {result.err}")
        ours = unpacked(self.build.bytes())
        left_out = {path for path in FIXED if theirs.get(path, ("",))[0] != "folder"}
        for path in left_out:
            theirs.pop(path, None)
        for path in FIXED | {"etc/mtab"}:
            # A folder of that name stays, and the file comes behind it.
            if path in left_out or (path in ours and theirs.get(path, ("",))[0] == "folder" and ours[path][0] != "folder"):
                ours.pop(path, None)
                if path not in left_out:
                    theirs.pop(path, None)
        self.assertEqual(sorted(ours), sorted(theirs), what)
        for path, (kind, mode, uid, gid, mtime, data) in theirs.items():
            found = ours[path]
            if kind == "link":
                kind, mode, data = "symlink", None, relative(path, data)
            if path in MOUNT_POINTS:
                mtime = FIXED_TIME
            elif kind == "folder" and mtime >= before:
                mtime = found[4]  # the engine has changed what is in it, and no layer says what its time is after that
            if found[:5] == ("folder", 0o755, 0, 0, FIXED_TIME):
                # No layer describes it, so the engine has made it just now.
                mode, mtime = 0o755, FIXED_TIME
            expected = (kind, found[1] if mode is None else mode, uid, gid, max(mtime, 0) if kind != "symlink" else found[4], data)
            self.assertEqual(found, expected, f"{what}: {path!r}")
        return True


class HardCases(TreesTest):
    def test_whiteouts(self):
        lower = [folder("d"), file("d/a"), file("d/b"), folder("d/sub"), file("d/sub/x"), file("e"), hard_link("f", "e")]
        self.assertTrue(self.compare([lower, [file("d/.wh.a", b""), file(".wh.e", b""), file("d/.wh.sub", b"")]]))
        self.assertTrue(self.compare([lower, [file("d/.wh.missing", b"")]]))
        self.assertTrue(self.compare([lower, [file(".wh.d", b"")], [folder("d"), file("d/new")]]))
        self.assertTrue(self.compare([lower, [file("d/.wh.a", b""), file("d/a", b"again")]]))
        self.assertTrue(self.compare([lower, [file("d/a", b"again"), file("d/.wh.a", b"")]]))

    def test_opaque_folders(self):
        lower = [folder("d"), file("d/a"), folder("d/sub"), file("d/sub/x"), file("d/sub/y")]
        self.assertTrue(self.compare([lower, [folder("d", mode=0o700), file("d/.wh..wh..opq", b""), file("d/new")]]))
        self.assertTrue(self.compare([lower, [folder("d"), file("d/new"), file("d/.wh..wh..opq", b"")]]))
        self.assertTrue(self.compare([lower, [folder("d/sub"), file("d/sub/x", b"new"), file("d/.wh..wh..opq", b"")]]))
        self.assertTrue(self.compare([lower, [file(".wh..wh..opq", b""), file("only")]]))

    def test_folders_that_are_symbolic_links(self):
        for target in ("usr/lib", "/usr/lib", "./usr/../usr/lib", "../../usr/lib"):
            lower = [folder("usr"), folder("usr/lib"), file("usr/lib/a"), symlink("lib", target), symlink("again", "lib")]
            self.assertTrue(self.compare([lower, [file("lib/b"), file("again/c"), file("lib/.wh.a", b"")]]), target)
        lower = [folder("usr"), symlink("dangling", "nowhere"), symlink("loop", "loop")]
        for name in ("dangling/x", "loop/x"):
            self.compare([lower, [file(name)]], what=name)
        self.assertTrue(self.compare([[folder("a"), file("a/x"), symlink("b", "a")], [folder("b"), file("b/y")]]))

    def test_hard_links(self):
        lower = [folder("a"), folder("a/b"), file("a/b/f"), hard_link("a/b/g", "a/b/f"), hard_link("z", "a/b/f"), symlink("s", "z")]
        self.assertTrue(self.compare([lower]))
        self.assertTrue(self.compare([lower, [hard_link("upper", "z", uid=7, mode=0o600, mtime=1600000000)]]))
        self.assertTrue(self.compare([lower, [file("a/b/f", b"replaced")]]))
        self.assertTrue(self.compare([lower, [file("a/b/.wh.f", b""), hard_link("y", "z")]]))
        self.compare([lower, [hard_link("bad", "missing")]], what="to nothing")
        self.compare([lower, [hard_link("bad", "a")]], what="to a folder")

    def test_one_kind_replacing_another(self):
        kinds = {"file": lambda: [file("x", b"content")], "folder": lambda: [folder("x", mode=0o711), file("x/inside")],
                 "symlink": lambda: [symlink("x", "y")], "fifo": lambda: [entry("x", tarfile.FIFOTYPE)],
                 "link": lambda: [hard_link("x", "y")]}
        for first_name, first in kinds.items():
            for second_name, second in kinds.items():
                what = f"{first_name}, then {second_name}"
                self.assertTrue(self.compare([[file("y")], first(), second()], what=what), what)

    def test_devices_pipes_modes_and_owners(self):
        self.assertTrue(self.compare([[
            entry("null", tarfile.CHRTYPE, device=(1, 3), mode=0o666), entry("loop", tarfile.BLKTYPE, device=(7, 0), mode=0o660, gid=6),
            entry("large", tarfile.CHRTYPE, device=(4095, 1048575)), entry("pipe", tarfile.FIFOTYPE, mode=0o600),
            file("setuid", mode=0o4755), file("setgid", mode=0o2755), folder("sticky", mode=0o1777), file("nothing", mode=0),
            file("owned", uid=2000000000, gid=4294967294), folder("owned-folder", uid=70000, gid=2147483648),
            symlink("owned-link", "owned", uid=5, gid=6)]]))

    def test_sparse_files(self):
        for options in (["--format=posix", "--sparse-version=0.0"], ["--format=posix", "--sparse-version=0.1"],
                        ["--format=posix", "--sparse-version=1.0"]):
            self.assertTrue(self.compare([[sparse_members(self.workshop, options), file("next")]], what=str(options)), options)
        # The oldest format is one that Docker does not unpack; here it is the same file as the others.
        oldest = self.workshop.write("oldest.tar", archive_of([[sparse_members(self.workshop, ["--format=gnu"]), file("next")]]))
        self.assertEqual(self.build(f"docker-archive:{oldest}").status, 0)
        content = unpacked(self.build.bytes())["sparse"][-1]
        self.assertEqual((len(content), content[1 << 20:(1 << 20) + 13], content[(2 << 20) + 5:(2 << 20) + 10]),
                         (3 << 20, b"in the middle", b"later"))

    def test_names(self):
        deep = "/".join(["d" * 250] * 12)
        folders = ["/".join(deep.split("/")[:depth]) for depth in range(1, 13)]
        self.assertTrue(self.compare([[*map(folder, folders), file(f"{deep}/{'n' * 255}")]]))
        odd = ["with space", "new\nline", "tab\t", "quote\"'", "back\\slash", "ünïcode", "\udcff\udcfe", "-dash", "*", "...", "a b/\udc80"]
        self.assertTrue(self.compare([[folder("a b"), *map(file, odd)]]))
        self.assertTrue(self.compare([[folder("./"), file("./dot"), file("/absolute"), folder("d/"), file("d/../up"), file("d//twice")]]))
        self.assertTrue(self.compare([[file("a"), folder("a-b"), file("a-b/x"), folder("a.d"), file("ab"), folder("b"), file("b/x"), file("b-x")]]))
        self.compare([[file("n" * 256)]], what="a name of 256 bytes")

    def test_times(self):
        times = [0, 1, -1, -1000000000, 2147483647, 2147483648, 4294967295, 1700000000.999]
        self.assertTrue(self.compare([[file(f"t{number}", mtime=time) for number, time in enumerate(times)]]))
        beyond = self.workshop.write("beyond.tar", archive_of([[file("later", mtime=5000000000), symlink("link", "x", mtime=-5)]]))
        self.assertEqual(self.build(f"docker-archive:{beyond}").status, 0)
        self.assertEqual(unpacked(self.build.bytes())["later"][4], 4294967295)

    def test_files_of_the_engine(self):
        self.assertTrue(self.compare([[folder("etc"), file("etc/hosts"), file("etc/resolv.conf"), file("etc/hostname"), file("etc/mtab"),
                                       file(".dockerenv"), file("Dockerfile"), folder("dev"), entry("dev/console", tarfile.CHRTYPE, device=(5, 1)),
                                       file("dev/other"), folder("proc"), file("proc/x"), folder("sys"), file("sys/y")]]))
        self.assertTrue(self.compare([[folder("etc"), folder("etc/hosts"), folder("etc/resolv.conf"), file("etc/hosts/inside")]]))
        self.assertTrue(self.compare([[folder("etc"), symlink("etc/hosts", "../other"), symlink("etc/resolv.conf", "/run/x"), file("other")]]))
        self.assertTrue(self.compare([[symlink("proc", "elsewhere"), symlink("sys", "/nowhere"), file("dev")]]))
        self.assertTrue(self.compare([[folder("real-etc"), symlink("etc", "real-etc"), file("real-etc/passwd")]]))
        self.assertTrue(self.compare([[folder("tmp", mode=0o1777), folder("run"), folder("var"), file("run/x")]]))

    def test_the_working_folder(self):
        self.assertTrue(self.compare([[file("x")]], {"WorkingDir": "/a/b"}))
        self.assertTrue(self.compare([[folder("a", mode=0o700), symlink("l", "a")]], {"WorkingDir": "/l/b"}))
        self.assertTrue(self.compare([[folder("a", mode=0o700)]], {"WorkingDir": "/a/../a/."}))

    def tree(self, layers):
        path = self.workshop.write("trees.tar", archive_of(layers))
        result = self.build(f"docker-archive:{path}")
        self.assertEqual(result.status, 0, result.err)
        return unpacked(self.build.bytes())

    def test_several_entries_of_one_name(self):
        """Docker refuses them. Here, as for Podman, the later one counts, as if it were in a layer of its own."""
        self.assertEqual(self.tree([[file("f", b"first"), folder("d"), file("d/x"), file("f", b"second"), folder("d", mode=0o700)]]),
                         self.tree([[file("f", b"first"), folder("d"), file("d/x")], [file("f", b"second"), folder("d", mode=0o700)]]))

    def test_hard_link_to_a_symbolic_link(self):
        """One file with two names, of which the second leads to the first. (Docker's storage driver vfs makes two files of them.)"""
        tree = self.tree([[file("f"), symlink("s", "f"), hard_link("t", "s")]])
        self.assertEqual((tree["s"][-1], tree["t"][-1]), ("f", "s"))

    def test_many_layers(self):
        """Docker takes 127 at most."""
        def layers(count):
            return [[file(f"f{number}"), *([file(f".wh.f{number - 1}", b"")] if number % 3 == 2 else [])] for number in range(count)]
        tree = self.tree(layers(5001))
        self.assertEqual({name for name in tree if name[0] == "f"}, {f"f{number}" for number in range(5001) if number % 3 != 1})
        path = self.workshop.write("many.tar", archive_of(layers(20000)))
        self.assert_refused(self.build(f"docker-archive:{path}"), "E48", "metadata takes", "layers")

    def test_nothing_to_run(self):
        path = self.workshop.write("nothing.tar", archive_of([[file("x")]], {"Cmd": None}))
        result = self.build(f"docker-archive:{path}")
        self.assert_refused(result, "E48", "neither CMD nor ENTRYPOINT")


class RandomLayers(TreesTest):
    def test_same_as_docker(self):
        count, seed = int(os.environ.get("NITRO_TEST_IMAGES", "25")), int(os.environ.get("NITRO_TEST_SEED", "1"))
        accepted = 0
        for number in range(count):
            chance = random.Random(seed * 100000 + number)
            files = []
            layers = [self.layer(chance, files) for _ in range(chance.randint(1, 4))]
            accepted += self.compare(layers, what=f"NITRO_TEST_SEED={seed}, image {number}")
        # Most are to be merged, not refused, or the test says little.
        self.assertGreater(accepted, count // 3)

    @staticmethod
    def layer(chance, files):
        """`files`: names of the regular files in this and the lower layers."""
        entries, used = [], set()

        def describe(path, *made):
            # A name comes once; folders are always described, as nobody else dates them.
            if path in used:
                return
            above = path.rpartition("/")[0]
            if above and above not in used:
                describe(above, folder(above, mode=chance.choice([0o755, 0o700, 0o1777]), mtime=chance.randrange(1 << 30)))
            used.add(path)
            entries.extend(made)

        def name():
            return "/".join(chance.choice("abcd") for _ in range(chance.randint(1, 3)))

        for _ in range(chance.randint(1, 8)):
            path = name()
            head, _, tail = path.rpartition("/")
            common = {"uid": chance.randrange(3), "mtime": chance.randrange(1 << 30)}
            kind = chance.choices(["file", "folder", "symlink", "link", "whiteout", "opaque", "fifo"], [6, 4, 3, 3, 3, 1, 1])[0]
            if kind == "file":
                describe(path, file(path, str(chance.random()).encode(), **common))
                files.append(path)
            elif kind == "folder":
                describe(path, folder(path, **common))
            elif kind == "symlink":
                describe(path, symlink(path, chance.choice(["", "/", "../"]) + name(), **common))
            elif kind == "link" and files:
                describe(path, hard_link(path, chance.choice(files), **common))
            elif kind == "whiteout":
                describe(f"{head}/.wh.{tail}".lstrip("/"), file(f"{head}/.wh.{tail}".lstrip("/"), b""))
            elif kind == "opaque":
                describe(f"{head}/.wh..wh..opq".lstrip("/"), file(f"{head}/.wh..wh..opq".lstrip("/"), b""))
            elif kind == "fifo":
                describe(path, entry(path, tarfile.FIFOTYPE, **common))
        return entries


if __name__ == "__main__":
    parts.main()
