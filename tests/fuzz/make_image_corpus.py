#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of image_path_fuzz: recipes of archives (image_recipe.h), and archives."""
import io
import pathlib
import tarfile

CORPUS = pathlib.Path(__file__).parent / "corpus" / "image_path"

FILES = """\
d etc/
f etc/passwd root:x:0:0::/:/bin/sh\\n
f bin/app #!/bin/sh\\n
=100 0004755
=108 0000012
f bin/suid x
l bin/sh app
l usr/lib ../lib
h bin/other bin/app
p run/pipe
=329 0000001
=337 0000005
c dev/zero
=329 0000007
b dev/loop
F lib/large 3000
"""
WHITEOUTS = """\
d a
f a/one 1
f a/two 2
f b/three 3
h b/four a/one
l c b
~
f a/.wh.one 
f b/.wh..wh..opq 
f b/new x
~
f .wh.c 
f c 4
"""
LINKS = """\
f file content
h a/b/c file
h a/d a/b/c
l a/e b
f a/e/under 1
l loop loop
h to-link loop
l /abs/link /a/../b
l dangling nowhere/at/all
"""
ENGINE_FILES = """\
f etc/hosts 1.2.3.4 x
f etc/hostname x
f etc/resolv.conf x
l etc/mtab /x
f .dockerenv x
f Dockerfile x
f dev x
f proc x
d etc/hosts.d
f var/file x
"""
# The four formats of sparse files.
SPARSE_OLD = """\
v g
=156 S
=386 00000000000\\000000001000\\000000004000\\000000000010\\0
=483 00000010000\\0
f sparse/gnu """ + "A" * 512 + "BBBBBBBB\n"
SPARSE_OLD_EXTENDED = """\
v g
=156 S
=386 00000001000\\000000000001\\0
=482 \\x01
=483 00000010000\\0
=124 00000000002\\0
f sparse/gnu 00000002000\\000000000001\\0\\zAB
"""
SPARSE_PAX_00 = """\
X 22 GNU.sparse.size=20\\n26 GNU.sparse.numblocks=2\\n23 GNU.sparse.offset=5\\n25 GNU.sparse.numbytes=3\\n24 GNU.sparse.offset=10\\n\
25 GNU.sparse.numbytes=2\\n
f sparse/0.0 abcde
"""
SPARSE_PAX_01 = """\
x GNU.sparse.major=0
x GNU.sparse.minor=1
x GNU.sparse.name=sparse/named
x GNU.sparse.size=9000
x GNU.sparse.numblocks=2
x GNU.sparse.map=1,2,8000,3
f sparse/0.1 abcde
"""
SPARSE_PAX_10 = """\
x GNU.sparse.major=1
x GNU.sparse.minor=0
x GNU.sparse.name=sparse/1.0
x GNU.sparse.realsize=20000
f x 2\\n100\\n5\\n10000\\n5\\n\\zabcdeABCDE
"""
SPARSE_HUGE = """\
x GNU.sparse.major=1
x GNU.sparse.minor=0
x GNU.sparse.realsize=3000000000
f huge 1\\n0\\n1\\n\\zx
"""
NAMES = """\
L long/a\\*200;
f short x
K target/a\\*200;
l link short
f path/a\\*101; automatic
x path=pax/name
x mtime=-1.5
x uid=70000
x gid=70001
f overridden x
g comment=1234
f pax/./../pax//x/ y
f with\\sblank x
f \\xff\\xfe x
v s
=345 prefix
f star x
v 7
f old/folder/ 
v g
=345 prefix
f go x
v u
=345 prefix
f ustar x
=136 \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe
f base256 x
"""
AUFS = """\
f .wh..wh.plnk/1.2 shared
h a .wh..wh.plnk/1.2
h b .wh..wh.plnk/1.2
f .wh..wh.aufs 
"""
LARGE = "f a x\nF big 300000\nF other 70000\n"

DOCKER = "d \n"
OCI = "o \n"

INPUTS = {
    "docker": DOCKER + FILES,
    "docker-three-layers": DOCKER + FILES + "~\n" + WHITEOUTS,
    "docker-no-layers": DOCKER,
    "docker-same-layer-twice": DOCKER + "f a x\n~\nf a x\n~\n",
    "oci": OCI + FILES,
    "oci-whiteouts": OCI + WHITEOUTS + "~\nf a/.wh..wh..opq \nf .wh.b \n",
    "links": DOCKER + LINKS,
    "hard-link-to-nothing": DOCKER + "h a b\n",
    "hard-link-to-lower-layer": DOCKER + "f a x\n~\n=100 0000600\nh b a\n~g\nf .wh.a \n",
    "whiteout-of-root": DOCKER + "f .wh. \n",
    "engine-files": DOCKER + ENGINE_FILES,
    "working-folder-is-a-file": DOCKER + "f work x\n",
    "names": DOCKER + NAMES,
    "name-too-long": DOCKER + "x path=a\\*256;\nf x \n",
    "path-too-long": DOCKER + "f a/\\*2100; \n",
    "path-as-long-as-can-be": DOCKER + "f " + "a" * 200 + "/\\*20;" + "a" * 75 + " x\n",
    "aufs": DOCKER + AUFS,
    "aufs-gzip": DOCKER + AUFS + "~g\n",
    "unsupported-member": DOCKER + "=156 V\nf a x\n",
    "wrong-checksum": DOCKER + "=148 000000\nf a x\n",
    "size-behind-the-end": DOCKER + "=124 00000077777\nf a x\n",
    "no-end": DOCKER + "f a x\n~/\n",
    "cut": DOCKER + "f a x\n~/-700;\n",
    "sparse-old": DOCKER + SPARSE_OLD,
    "sparse-old-extended": DOCKER + SPARSE_OLD_EXTENDED + "~z\n",
    "sparse-pax-0.0": DOCKER + SPARSE_PAX_00,
    "sparse-pax-0.1": DOCKER + SPARSE_PAX_01 + "~g\n",
    "sparse-pax-1.0": DOCKER + SPARSE_PAX_10,
    "sparse-pax-1.0-xz": DOCKER + SPARSE_PAX_10 + "~x\n",
    "sparse-huge": DOCKER + SPARSE_HUGE,
    "sparse-regions-overlap": DOCKER + SPARSE_PAX_10.replace("10000", "101"),
    "whole-archive-compressed": DOCKER + FILES + "Z g\n",
    "whole-archive-cut": DOCKER + FILES + "Z g-20;\n",
    "whole-oci-archive-compressed": OCI + FILES + "~g\nZ z\n",
    "named": "d golden/tiny:1\n" + FILES,
    "numbered": "d @0\n" + FILES,
    "numbered-too-high": "d @7\n" + FILES,
    "no-such-name": "d other\n" + FILES,
    "no-name": "d A@B\n" + FILES,
    "layers-by-links": DOCKER + ">d x/\n>l x/layer.tar ../blobs/sha256/@L0\n>h second blobs/sha256/@L1\n"
                       'M [{"Config":"blobs/sha256/@C","RepoTags":null,"Layers":["x/layer.tar","./second"]}]\nf a 1\n~\nf b 2\n~b\n',
    "two-platforms": 'd golden/tiny:1\nA\nB {"architecture":"arm64","variant":"v8","os":"linux","config":{"Entrypoint":["/x"]},'
                     '"rootfs":{"diff_ids":[@d]}}\n'
                     'M [{"Config":"blobs/sha256/@C","RepoTags":["golden/tiny:1"],"Layers":[@*]},'
                     '{"Config":"blobs/sha256/@B0","RepoTags":["golden/tiny:1"],"Layers":[@*]}]\nf a 1\n',
    "two-images": 'd \nM [{"Config":"blobs/sha256/@C","RepoTags":["a"],"Layers":[@*]},{"Config":"blobs/sha256/@C","RepoTags":["b"],'
                  '"Layers":[@*]}]\nf a 1\n',
    "configuration-is-missing": 'd \nM [{"Config":"nowhere","Layers":[]}]\n',
    "layer-is-missing": 'd \nM [{"Config":"blobs/sha256/@C","Layers":["nowhere"]}]\nf a x\n',
    "too-few-layers": 'd \nM [{"Config":"blobs/sha256/@C","Layers":[]}]\nf a x\n',
    "manifest-is-no-list": "d \nM {}\n",
    "configuration-full": 'd \nC {"architecture":"amd64","os":"linux","variant":"v2","author":"a","comment":"c","created":'
                          '"2024-01-01T00:00:00Z","docker_version":"1","os.version":"2","config":{"User":"nobody:1","WorkingDir":"/a",'
                          '"Entrypoint":["x","y"],"Cmd":["sub/file","\\u00e9","a\\nb"],"Env":["A=\\n","B=\\u0000"],"Labels":{"b":"1","a":'
                          '{"n":1.5e10}},"ExposedPorts":{},"Healthcheck":{"Interval":30000000000},"Shell":["sh"],"Volumes":null,'
                          '"ArgsEscaped":true},'
                          '"rootfs":{"diff_ids":[@d]}}\nf a/sub/file x\n',
    "configuration-of-windows": 'd \nC {"os":"windows","rootfs":{}}\n',
    "configuration-without-command": 'd \nC {"architecture":"amd64","config":{"Cmd":[]},"rootfs":{"diff_ids":[]}}\n',
    "configuration-with-numbers": 'd \nC {"config":{"Cmd":[1]},"rootfs":{"diff_ids":[]}}\n',
    "configuration-is-no-json": "d \nC {\n",
    "digest-is-none": 'd \nC {"config":{"Cmd":["x"]},"rootfs":{"diff_ids":["sha256:1"]}}\nf a x\n',
    "digest-of-another": 'd \nC {"config":{"Cmd":["x"]},"rootfs":{"diff_ids":["sha256:@D1","sha256:@D0"]}}\nf a x\n~\nf b y\n',
    "no-archive-at-all": "D \nhello",
    "empty-archive": "D \n",
    "oci-named": 'o app:1\nI {"manifests":[{@m,"annotations":{"org.opencontainers.image.ref.name":"app:1"}}]}\n' + FILES,
    "oci-containerd-name": 'o app\nI {"manifests":[{@m,"annotations":{"io.containerd.image.name":"docker.io/library/app:latest"}},'
                           '{@b0}]}\nB {}\n' + FILES,
    "oci-index-in-index": 'o \nB {"manifests":[{@m,"platform":{"os":"linux","architecture":"amd64"}},{@m,"platform":{"os":"unknown",'
                          '"architecture":"unknown"}}]}\nI {"manifests":[{@b0}]}\n' + FILES,
    "oci-index-without-platforms": 'o \nB {"manifests":[{@m},{@c},{@m}]}\nI {"manifests":[{@b0},{@m}]}\nf a x\n',
    "oci-other-platform": 'o \nA\nI {"manifests":[{@m,"platform":{"os":"linux","architecture":"amd64"}},{@m,"platform":{"os":"linux",'
                          '"architecture":"s390x"}}]}\nf a x\n',
    "oci-two-of-one-platform": 'o \nB {"config":{@c},"layers":[]}\nI {"manifests":[{@m},{@b0}]}\nf a x\n',
    "oci-attestation": 'o \nI {"manifests":[{@m},{@c,"annotations":{"vnd.docker.reference.type":"attestation-manifest"}}]}\nf a x\n',
    "oci-size-is-wrong": 'o \nM {"config":{@c},"layers":[{"digest":"sha256:@L0","size":1}]}\nf a x\n',
    "oci-layer-is-too-large": 'o \nM {"config":{@c},"layers":[{"digest":"sha256:@L0","size":99999999999}]}\nf a x\n',
    "oci-blob-is-missing": "o \nI {\"manifests\":[{\"digest\":\"sha256:" + "0" * 64 + '","size":2}]}\n',
    "oci-no-manifests": 'o \nI {"manifests":[]}\n',
    "oci-manifest-of-artifact": "o \nM {}\n",
    "oci-layer-has-other-digest": OCI + "f a x\n~!600;\n",
    "oci-gzip-layer-has-other-digest": OCI + "f a x\n~g!5;\n",
}
for letter, name in {"g": "gzip", "z": "zstd", "x": "xz", "b": "bzip2"}.items():
    INPUTS[name] = DOCKER + FILES + f"~{letter}\n"
    INPUTS[f"{name}-oci"] = OCI + LARGE + f"~{letter}\n"
    INPUTS[f"{name}-two-streams"] = OCI + LINKS + f"~{letter}{letter}\n"
    INPUTS[f"{name}-cut"] = DOCKER + FILES + f"~{letter}-9;\n"
    INPUTS[f"{name}-bytes-behind"] = DOCKER + FILES + f"~{letter}+junk\n"
    INPUTS[f"{name}-bit-turned"] = OCI + FILES + f"~{letter}^60;\n"
    INPUTS[f"{name}-bit-turned-later"] = OCI + FILES + f"~{letter}!60;\n"
    INPUTS[f"{name}-ends-inside-a-file"] = DOCKER + "=124 00000077777\nf a x\n" + f"~{letter}\n"
INPUTS["zstd-skippable-frame"] = DOCKER + FILES + "~zs\n"
INPUTS["compressed-twice"] = DOCKER + FILES + "~gz\n"
INPUTS["mixed-layers"] = DOCKER + FILES + "~\n" + WHITEOUTS.replace("~\n", "~g\n") + "~x\n"


DOCKER_FILES = {"manifest.json": b'[{"Config":"c","Layers":null}]', "c": b'{"architecture":"amd64","config":{"Cmd":"x"},"rootfs":{}}'}


def archive(files):
    """One that is no recipe."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return whole.getvalue()[:3072]


def write():
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, recipe in INPUTS.items():
        (CORPUS / name).write_bytes(recipe.encode())
    for name, kind, files in (("bytes", b"D", DOCKER_FILES), ("bytes-with-checksums", b"R", DOCKER_FILES),
                              ("docker-archive-for-oci", b"O", DOCKER_FILES), ("oci-archive-for-docker", b"D", {"index.json": b"{}"})):
        (CORPUS / name).write_bytes(kind + b" \n" + archive(files))


if __name__ == "__main__":
    write()
