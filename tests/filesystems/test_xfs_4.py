"""XFS of version 4, and names whatever their case: kinds that no kernel here mounts.

`mkfs.xfs -p` puts files in, xfs_db puts attributes to them, and tells their inodes.
"""

from __future__ import annotations

import os
import random
import re
import time
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.worker.xfs import Xfs
from support.files_inside import of_mount, of_volume, volume_in
from support.xfs import CountedVolume, asked, make, prototype

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "4": "-m crc=0",
    "4-ftype": "-m crc=0 -n ftype=1",
    "4-block-512": "-m crc=0 -b size=512",
    "4-block-1k": "-m crc=0 -b size=1024 -n size=8192",
    "4-block-64k": "-m crc=0 -b size=65536",
    "4-inode-2k": "-m crc=0 -i size=2048",
    "4-attr1": "-m crc=0 -i attr=1,projid32bit=0 -l version=1,lazy-count=0",
    "4-directory-64k": "-m crc=0 -n size=65536,ftype=1",
    "4-sector-4k": "-m crc=0 -s size=4096",
    "4-ascii-ci": "-m crc=0 -n version=ci",
    "5-ascii-ci": "-n version=ci",
    "5-block-1k": "-b size=1024",
}


def write(content: Path, seed: int, *, is_5: bool) -> None:
    """Write what mkfs.xfs knows to put in."""
    generator = random.Random(seed)
    for name, count in (("empty", 0), ("few", 3), ("Some", 40), ("many", 700)):
        (content / name).mkdir(parents=True)
        for number in range(count):
            (content / name / f"{number}_Is_this_one").write_bytes(b"%d" % number * (number % 50))
    for size in (0, 1, 600, 5000, 300_000):
        path = content / "few" / f"of_{size}"
        path.write_bytes(generator.randbytes(size))
        path.chmod(generator.choice([0o600, 0o644, 0o4755, 0o2711]))
        os.chown(path, generator.choice([0, 70000]), generator.choice([0, 1 << 20]))
    # Of version 5, mkfs.xfs leaves out the headers of those that are outside of their inodes.
    for length in (1, 100, 156) if is_5 else (1, 100, 156, 157, 400, 1000):
        os.symlink("x" * length, content / "few" / f"link_of_{length}")
    os.mkfifo(content / "few" / "fifo", 0o640)
    os.mknod(content / "few" / "chr", 0o020600, os.makedev(4, 200))
    os.mknod(content / "few" / "blk", 0o060660, os.makedev(259, 70000))
    (content / "few").chmod(0o700)
    # Files between its blocks: it has more extents than fit in its inode.
    (content / "file").write_bytes(generator.randbytes(700))


def inodes_in(raw: Path) -> dict[bytes, int]:
    """Return the inode of each path that xfs_db tells."""
    told = asked(raw, "blockget -n", "ncheck")
    found = re.findall(r"^ *(\d+) (.+?)(?:/\.)?$", told, re.MULTILINE)
    return {path.encode(): int(number) for number, path in found}


def put(raw: Path, inode: int) -> dict[bytes, bytes]:
    """Put attributes to a file by xfs_db, whose values are a letter, over and over."""
    expected = {}
    commands = []
    for flag, prefix, sizes in (
        ("-u", "user", (1, 10, 200)), ("-r", "trusted", (3000, 30)), ("-s", "security", (65536,)),
    ):  # fmt: skip
        for size in sizes:
            commands.append(f"attr_set {flag} -v {size} of{size}")
            expected[f"{prefix}.of{size}".encode()] = b"v" * size
    for number in range(150):
        commands.append(f"attr_set -u -v 100 number{number}")
        expected[b"user.number%d" % number] = b"v" * 100
    asked(raw, f"inode {inode}", *commands, write=True)
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_as_it_was_put_in(kind: str, tmp_path: Path) -> None:
    content = tmp_path / "content"
    write(content, len(kind), is_5=kind.startswith("5"))
    listed = prototype(content, tmp_path / "listed", repeat=(b"file", 1000))
    before = time.time_ns()
    raw = make(tmp_path / "volume.raw", KINDS[kind], "-p", listed)
    after = time.time_ns()
    expected = of_mount(content, attributes=False)
    for number in range(1000):
        expected[b"file%d" % number] = dict(expected[b"file"])
    inodes = inodes_in(raw)
    # xfs_db dies of putting some to where attributes are as they first were.
    few = put(raw, inodes[b"few/of_600"]) if "attr=1" not in KINDS[kind] else {}
    problems: list[str] = []
    with volume_in(raw) as volume:
        assert volume.caveat is None
        root = volume.stat().inode
        found = of_volume(volume, problems)
    assert problems == []
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        attributes = found[path].pop("attributes")
        assert attributes == (few if path == b"few/of_600" else {}), path
        assert found[path].pop("inode") == inodes[path], path
        assert before <= found[path].pop("mtime") <= after
        del facts["mtime"], facts["inode"]
        assert found[path] == facts, path
    if kind == "4-block-512":
        assert "(btree)" in asked(raw, f"inode {root}", "print core.format")


def test_an_inode_as_the_first_ones_were(tmp_path: Path) -> None:
    """Version 1, with its links counted in 16 bits, as xfs_db makes one."""
    content = tmp_path / "content"
    content.mkdir()
    (content / "old").write_bytes(b"content")
    raw = make(tmp_path / "volume.raw", "-m crc=0", "-p", prototype(content, tmp_path / "listed"))
    inode = inodes_in(raw)[b"old"]
    changes = ("core.nlinkv2 0", "core.version 1", "core.nlinkv1 7")
    asked(raw, f"inode {inode}", *(f"write {each}" for each in changes), write=True)
    assert "core.nlinkv1 = 7" in asked(raw, f"inode {inode}", "print")
    with volume_in(raw) as volume:
        entry = volume.find(0, b"old")
        assert (entry.links, entry.size) == (7, 7)


@pytest.mark.parametrize("kind", ["4", "4-block-512", "4-ascii-ci", "5-block-1k", "5-ascii-ci"])
def test_a_name_among_many_is_found_by_its_hash(kind: str, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "File").write_bytes(b"")
    listed = prototype(content, tmp_path / "listed", repeat=(b"File", 3000))
    raw = make(tmp_path / "volume.raw", KINDS[kind], "-p", listed)
    inodes = inodes_in(raw)
    with CountedVolume(raw) as source:
        driver = Xfs(source, "xfs", {})
        for number in range(0, 3000, 50):
            before = source.reads
            name = b"File%d" % number
            entry = driver.find(driver.root, name)
            assert entry is not None
            assert entry.inode == inodes[name]
            if number:
                # Up to three blocks of hashes, one of names, and the inodes of both.
                assert source.reads - before <= 6
        before = source.reads
        assert driver.find(driver.root, b"file50") is None
        assert source.reads - before > 6, "who finds nothing by hashes looks at all names"
