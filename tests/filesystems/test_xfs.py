"""XFS of version 5, of every kind that mkfs.xfs makes and the kernel mounts: file by file."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.filesystems.errors import RefusedError
from support.files_inside import digest, loop_mounted, of_volume, volume_in
from support.trees import grow
from support.volumes import MIB, quiet, sha256
from support.xfs import INCOMPAT, LOG_INCOMPAT, SIZE, asked, make, set_bits, shown

if TYPE_CHECKING:
    from pathlib import Path

    from support.files_inside import Facts
    from support.program import Program

pytestmark = pytest.mark.loop

KINDS = {
    "as-usual": "",
    "block-1k": "-b size=1024",
    "block-2k": "-b size=2048",
    "block-16k": "-b size=16384",
    "block-64k": "-b size=65536",
    "inode-2k": "-i size=2048",
    "directory-8k": "-n size=8192",
    "directory-64k": "-b size=1024 -n size=65536",
    "nothing-new": "-m bigtime=0,reflink=0,finobt=0,inobtcount=0 -i sparse=0",
    "nrext64": "-i nrext64=1 -b size=1024",
    "rmapbt": "-m rmapbt=1",
    "sector-4k": "-s size=4096",
    "many-groups": "-d agcount=33",
    "stripe": "-d su=64k,sw=2,agcount=5",
    "newest": "",
    "meta_uuid": "",
}
SIZES = {"many-groups": 2200 * MIB, "stripe": 700 * MIB}


def grow_more(top: Path, kind: str, seed: int) -> None:
    """Add what XFS keeps in other ways than others."""
    generator = random.Random(seed)
    if kind != "nothing-new":
        (top / "original").write_bytes(generator.randbytes(300_000))
        quiet("cp", "--reflink=always", top / "original", top / "shared")
        with (top / "shared").open("r+b") as opened:
            opened.seek(100_000)
            opened.write(generator.randbytes(70_000))
    attributes = top / "attributes"
    attributes.mkdir()
    for count, size in ((1, 0), (3, 60), (60, 40), (300, 200), (2, 65536), (5, 9000)):
        path = attributes / f"{count} of {size}"
        path.touch()
        for number in range(count):
            os.setxattr(path, f"user.{number}", generator.randbytes(size))
        for number in range(0, count, 7):
            os.removexattr(path, f"user.{number}")
        os.setxattr(path, "trusted.of root", generator.randbytes(size // 2))
        os.setxattr(path, "security.of some module", b"a text\0")
    # By turns: their blocks lie between each other's, so that where those are needs a tree.
    by_turns = [attributes / name for name in ("first", "second")]
    for path in by_turns:
        path.touch()
    for number in range(30):
        for path in by_turns:
            os.setxattr(path, f"user.{number}", generator.randbytes(5000))
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, permissions, who)
        for tag, permissions, who in (
            (1, 7, 0xFFFFFFFF), (2, 5, 1000), (2, 1, 70000), (4, 5, 0xFFFFFFFF), (8, 4, 300),
            (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF),
        )
    )  # fmt: skip
    os.setxattr(attributes, "system.posix_acl_default", acl)
    os.setxattr(attributes, "system.posix_acl_access", acl)
    (attributes / "of its directory").touch()


def compare(raw: Path, expected: dict[bytes, Facts], **options: Any) -> None:
    problems: list[str] = []
    with volume_in(raw, **options) as volume:
        found = of_volume(volume, problems)
    assert problems == []
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        assert found[path] == facts, path


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_as_the_kernel_shows_it(kind: str, tmp_path: Path) -> None:
    raw = make(tmp_path / "volume.raw", KINDS[kind], size=SIZES.get(kind, SIZE))
    if kind == "newest":
        # Newer than most mkfs.xfs; the kernel makes what they ask for.
        set_bits(raw, INCOMPAT, 0xC0)
    with loop_mounted(raw, tmp_path / "mount") as mount:
        grow(mount, len(kind))
        grow_more(mount, kind, len(kind))
    if kind == "meta_uuid":
        quiet("xfs_admin", "-U", "generate", raw)
    with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
        expected = shown(mount)
    if kind == "newest":
        set_bits(raw, LOG_INCOMPAT, 1)
        assert 'name = "original"' in asked(raw, f"inode {expected[b'original']['inode']}", "print")
    assert any(b"system.posix_acl_default" in facts["attributes"] for facts in expected.values())
    if kind == "block-1k":
        inode = expected[b"attributes/first"]["inode"]
        assert "(btree)" in asked(raw, f"inode {inode}", "print core.aformat")
    compare(raw, expected)


@pytest.mark.parametrize("options", ["", "-b size=1024", "-n size=65536"])
def test_a_directory_of_many_names(options: str, tmp_path: Path) -> None:
    raw = make(tmp_path / "volume.raw", options)
    with loop_mounted(raw, tmp_path / "mount") as mount:
        directory = mount / "many"
        directory.mkdir()
        for number in range(20_000):
            os.mknod(directory / f"{number} is the number of this one")
        for number in range(0, 20_000, 3):
            (directory / f"{number} is the number of this one").unlink()
        expected = {os.fsencode(entry.name): entry.inode() for entry in os.scandir(directory)}
        inode = directory.stat().st_ino
    where = (32 << 30) // int(asked(raw, "sb 0", "print blocksize").split()[-1])
    assert "nhdr.info.hdr.magic = 0x3ebe" in asked(
        raw, f"inode {inode}", f"dblock {where}", "print"
    )
    with volume_in(raw) as volume:
        problems: list[str] = []
        found = {entry.name: entry.inode for entry in volume.entries(inode, problems.append)}
        assert problems == []
        assert found == expected
        for name in random.Random(5).sample(sorted(expected), 300):
            assert volume.find(inode, name).inode == expected[name]
        with pytest.raises(FileNotFoundError):
            volume.find(inode, b"3 is the number of this one")


def test_a_file_of_many_extents(tmp_path: Path) -> None:
    raw = make(tmp_path / "volume.raw", "-b size=1024")
    path = tmp_path / "mount" / "file"
    with loop_mounted(raw, tmp_path / "mount"):
        with path.open("wb") as opened:
            for number in range(12_000):
                # A hole behind each: none is joined with the next.
                os.pwrite(opened.fileno(), b"%-1000d" % number, number * 2048)
        # Behind its end too, as XFS does by itself for files that grow.
        quiet("xfs_io", "-c", "falloc -k 25000000 100000", path)
        os.truncate(path, 12_000 * 2048 - 77)
    with loop_mounted(raw, tmp_path / "mount", "ro"):
        expected, inode = sha256(path), path.stat().st_ino
    told = asked(raw, f"inode {inode}", "print core.nextents core.format u3.bmbt.level")
    assert "format = 3 (btree)" in told
    assert "level = 2" in told
    with volume_in(raw) as volume:
        assert digest(volume, inode, by=hashlib.sha256) == expected


def test_more_attributes_than_are_told(tmp_path: Path) -> None:
    raw = make(tmp_path / "volume.raw", "")
    with loop_mounted(raw, tmp_path / "mount") as mount:
        (mount / "file").touch()
        for number in range(40):
            os.setxattr(mount / "file", f"user.{number}", b"x" * 65536)
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = volume.attributes(volume.find(0, b"file").inode, problems.append)
    assert len(found) == 23
    assert set(found.values()) == {b"x" * 65536}
    assert len(problems) == 1
    assert "and what follows it are left out" in problems[0]


def test_a_file_that_is_on_the_realtime_device_is_refused(tmp_path: Path) -> None:
    """This kernel may not know such devices: the flag alone is what xfs_db sets here."""
    raw = make(tmp_path / "volume.raw", "")
    with loop_mounted(raw, tmp_path / "mount") as mount:
        for name, content in (("elsewhere", b"what is here"), ("empty", b""), ("here", b"here")):
            (mount / name).write_bytes(content)
        inodes = {path.name: path.stat().st_ino for path in mount.iterdir()}
    for name in ("elsewhere", "empty"):
        asked(raw, f"inode {inodes[name]}", "write core.realtime 1", write=True)
    with volume_in(raw) as volume:
        assert volume.find(0, b"elsewhere").size == len(b"what is here")
        with pytest.raises(RefusedError, match="its data is on the realtime device"):
            volume.content(inodes["elsewhere"])
        assert volume.content(inodes["empty"]).size == 0
        assert volume.content(inodes["here"]).size == len(b"here")


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_copy_of_one_that_is_mounted_is_refused_unless_asked_for(
    tmp_path: Path, is_frozen: bool
) -> None:
    raw, copied = make(tmp_path / "volume.raw", ""), tmp_path / "copied.raw"
    mount = tmp_path / "mount"
    with loop_mounted(raw, mount):
        grow(mount, 4)
        os.sync()
        for number in range(500):
            (mount / f"later {number}").write_bytes(b"later" * number)
        if is_frozen:
            quiet("xfs_freeze", "-f", mount)
        else:
            quiet("xfs_io", "-c", "fsync", mount / "later 499")
        try:
            quiet("cp", "--sparse=always", raw, copied)
        finally:
            if is_frozen:
                quiet("xfs_freeze", "-u", mount)
    with (
        pytest.raises(RefusedError, match=r"its journal was not replayed.*--as-is"),
        volume_in(copied),
    ):
        pass
    with loop_mounted(copied, mount, "ro,norecovery,nouuid"):
        expected = shown(mount)
    with volume_in(copied, as_is=True) as volume:
        assert volume.caveat is not None
        assert "read as it lies there" in volume.caveat
    if is_frozen:
        assert b"later 499" in expected
    compare(copied, expected, as_is=True)


def test_an_external_log_is_refused_unless_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log.raw"
    log.touch()
    os.truncate(log, 80 * MIB)
    raw = make(tmp_path / "volume.raw", "", "-l", f"logdev={log},size=64m")
    with pytest.raises(RefusedError, match="what its journal holds cannot be told"), volume_in(raw):
        pass
    with volume_in(raw, as_is=True) as volume:
        assert volume.entries() == []


def test_a_file_of_an_image_of_partclone(program: Program, tmp_path: Path) -> None:
    raw = make(tmp_path / "home.raw", "-m reflink=1")
    content = b"".join(b"line %d of many\n" % number for number in range(200_000))
    with loop_mounted(raw, tmp_path / "mount") as mount:
        (mount / "anna").mkdir()
        (mount / "anna" / "beach.txt").write_bytes(content)
        os.symlink("anna/beach.txt", mount / "photo")
    image = tmp_path / "home.img"
    quiet("partclone.xfs", "-c", "-s", raw, "-o", image, "-L", tmp_path / "partclone.log")
    quiet("gzip", image)
    raw.unlink()
    program.run("add", f"{image}.gz")
    for path in ("/anna/beach.txt", "/photo"):
        assert program.run("cat", f"home:{path}").stdout.encode() == content
        assert program.run("cat", f"{image}.gz:{path}").stdout.encode() == content
    assert program.run("files", "home:/").stdout.split() == ["anna/", "photo"]
