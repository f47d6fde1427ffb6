"""Checksums of ext4: what has a wrong one is refused, as by the kernel, and nothing else."""

from __future__ import annotations

import errno
import functools
import os
import random
import re
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.filesystems.errors import DamagedError, RefusedError
from support.files_inside import HASH, digest, loop_mounted, volume_in
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.filesystems.volume import Volume

Found = dict[bytes, dict[str, Any]]

KINDS = {
    "1k": "-b 1024 -O ea_inode",
    "4k": "-b 4096 -O ea_inode,metadata_csum_seed",
    "small-inodes": "-b 1024 -I 128",
    "large-inodes": "-b 4096 -I 1024 -O inline_data",
}
WRONG = {errno.EBADMSG, errno.EUCLEAN, errno.EIO}


def made(place: Path, options: str) -> Path:
    """An ext4 with a large directory, a file in many pieces, and attributes of every kind."""
    raw = place / "volume.raw"
    raw.touch()
    os.truncate(raw, 24 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", *options.split(), raw)
    with loop_mounted(raw, place / "mount") as mount:
        (mount / "many").mkdir()
        for number in range(300):
            (mount / "many" / f"a file of a long name, number {number:05}").write_text(f"{number}")
        (mount / "few").mkdir()
        for number in range(3):
            (mount / "few" / f"file {number}").write_text(f"{number}" * 5000)
        pieces = mount / "few" / "pieces"
        with pieces.open("wb") as opened:
            for number in range(400):
                opened.seek(number * 8192)
                opened.write(b"%08d" % number)
        os.setxattr(pieces, "user.in-a-block", bytes(range(200)) + b"x" * 300)
        if "ea_inode" in options:
            os.setxattr(mount / "few" / "file 1", "user.large", bytes(range(256)) * 40)
        os.symlink("t" * 200, mount / "few" / "link")
    return raw


# -- where structures are, by debugfs -----------------------------------------


def debugfs(raw: Path, command: str) -> str:
    done = subprocess.run(
        ["debugfs", "-R", command, raw], capture_output=True, text=True, check=True
    )
    return done.stdout


def inode_at(raw: Path, path: str, block_size: int) -> int:
    told = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", debugfs(raw, f"imap {path}"))
    assert told is not None
    return int(told[1]) * block_size + int(told[2], 16)


def blocks_of(raw: Path, path: str) -> list[int]:
    return [int(each) for each in debugfs(raw, f"blocks {path}").split()]


def nodes_of(raw: Path, path: str) -> list[int]:
    """Blocks of an extent tree."""
    told = debugfs(raw, f"stat {path}")
    return [int(each) for each in re.findall(r"\(ETB\d+\):(\d+)", told)]


def attribute_block(raw: Path, path: str) -> int:
    told = re.search(r"File ACL: (\d+)", debugfs(raw, f"stat {path}"))
    assert told is not None
    return int(told[1])


def structures(raw: Path) -> dict[str, tuple[int, int]]:
    """Where each kind of structure lies: from where on, and how many bytes."""
    header = subprocess.run(["dumpe2fs", "-h", raw], capture_output=True, text=True, check=True)
    block = int(re.search(r"Block size:\s+(\d+)", header.stdout)[1])  # type: ignore[index]
    inode = int(re.search(r"Inode size:\s+(\d+)", header.stdout)[1])  # type: ignore[index]
    many, few = blocks_of(raw, "/many"), blocks_of(raw, "/few")
    found = {
        "superblock": (1024, 1024),
        "descriptor": ((1024 // block + 1) * block, 64),
        "inode": (inode_at(raw, '"/few/file 1"', block), inode),
        "inode of a directory": (inode_at(raw, "/few", block), inode),
        "inode of pieces": (inode_at(raw, "/few/pieces", block), inode),
        "inode of a link": (inode_at(raw, "/few/link", block), inode),
        "root of an index": (many[0] * block, block),
        "names in an index": (many[3] * block, block),
        "extents": (nodes_of(raw, "/few/pieces")[1] * block, block),
    }
    if few:
        found["names"] = (few[0] * block, block)
    where = attribute_block(raw, "/few/pieces")
    if where:
        found["attributes"] = (where * block, block)
    large = re.search(r"\buser\.large.*?inode <?(\d+)", debugfs(raw, 'ea_list "/few/file 1"'))
    if large is not None:
        found["inode of a value"] = (inode_at(raw, f"<{large[1]}>", block), inode)
        found["value"] = (blocks_of(raw, f"<{large[1]}>")[0] * block, block)
    return found


# -- what is found -------------------------------------------------------------


def by_kernel(top: Path) -> tuple[Found, set[bytes]]:
    """Return what of each file can be read, and the paths of which something cannot."""
    found: Found = {}
    lost: set[bytes] = set()
    todo = [b""]
    while todo:
        here = todo.pop()
        try:
            names = os.listdir(os.fsencode(top) + b"/" + here)
        except OSError as error:
            lost.add(_known(error, here))
            continue
        for name in names:
            path = here + b"/" + name
            facts: dict[str, Any] = {}
            for look in _LOOKS:
                try:
                    look(os.fsencode(top) + path, facts)
                except OSError as error:
                    lost.add(_known(error, path))
            if facts:
                found[path] = facts
            if stat.S_ISDIR(facts.get("mode", 0)):
                todo.append(path)
    return found, lost


def _known(error: OSError, path: bytes) -> bytes:
    if error.errno not in WRONG:
        raise error
    return path


def _what_it_is(path: bytes, facts: dict[str, Any]) -> None:
    status = os.lstat(path)
    facts |= {"mode": status.st_mode, "inode": status.st_ino, "mtime": status.st_mtime_ns}
    if stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(path)


def _what_it_holds(path: bytes, facts: dict[str, Any]) -> None:
    if stat.S_ISREG(facts.get("mode", 0)):
        with open(path, "rb") as opened:
            facts["hash"] = HASH(opened.read()).hexdigest()


def _what_else_it_has(path: bytes, facts: dict[str, Any]) -> None:
    facts["attributes"] = {
        os.fsencode(each): os.getxattr(path, each, follow_symlinks=False)
        for each in os.listxattr(path, follow_symlinks=False)
    }


_LOOKS = (_what_it_is, _what_it_holds, _what_else_it_has)


def by_volume(volume: Volume) -> tuple[Found, list[str]]:
    """Return the same by a volume, and what it has told."""
    found: Found = {}
    told: list[str] = []
    todo = [(b"", 0)]
    while todo:
        here, inode = todo.pop()
        for entry in _tried(functools.partial(volume.entries, inode, told.append), told) or []:
            path = here + b"/" + entry.name
            facts: dict[str, Any] = {
                "mode": entry.mode, "inode": entry.inode, "mtime": entry.times.modified
            }  # fmt: skip
            if stat.S_ISLNK(entry.mode):
                facts["target"] = entry.target
            if stat.S_ISREG(entry.mode):
                facts["hash"] = _tried(functools.partial(digest, volume, entry.inode), told)
            before = len(told)
            attributes = volume.attributes(entry.inode, told.append)
            facts["attributes"] = attributes if len(told) == before else None
            found[path] = {key: value for key, value in facts.items() if value is not None}
            if stat.S_ISDIR(entry.mode):
                todo.append((path, entry.inode))
    return found, told


def _tried(what: Any, told: list[str]) -> Any:
    try:
        return what()
    except (DamagedError, RefusedError) as error:
        told.append(str(error))
        return None


# -- the tests -------------------------------------------------------------------


@pytest.mark.loop
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_kernel_refuses_is_refused_and_all_else_is_right(
    kind: str, tmp_path: Path
) -> None:
    """A bit of each structure is turned; the kernel mounts the same bytes and reads every file."""
    raw = made(tmp_path, KINDS[kind])
    with loop_mounted(raw, tmp_path / "mount", "ro,noload") as mount:
        whole, lost = by_kernel(mount)
    assert not lost
    with volume_in(raw) as volume:
        assert by_volume(volume) == (whole, [])
    chosen = random.Random(kind)
    refused = 0
    for what, (start, length) in structures(raw).items():
        for _ in range(2):
            place, bit = start + chosen.randrange(length), 1 << chosen.randrange(8)
            note = f"{what}: byte {place - start}, bit 0x{bit:x}"
            turn(raw, place, bit)
            try:
                refused += compare(raw, tmp_path / "mount", whole, what, note)
            finally:
                turn(raw, place, bit)
    # Most of what is in these structures is covered.
    assert refused > len(structures(raw))


def turn(raw: Path, place: int, bit: int) -> None:
    with raw.open("r+b") as opened:
        opened.seek(place)
        (byte,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ bit]))


def compare(raw: Path, point: Path, whole: Found, what: str, note: str) -> bool:
    """Compare what the kernel and a volume give; tell whether anything is refused."""
    try:
        with loop_mounted(raw, point, "ro,noload") as mount:
            kernels, lost = by_kernel(mount)
    except subprocess.CalledProcessError:
        if what != "descriptor":
            with pytest.raises((DamagedError, RefusedError)), volume_in(raw) as volume:
                volume.stat()
            return True
        # It may be refused for what is not needed to read.
        kernels, lost = {}, set(whole)
    with volume_in(raw) as volume:
        found, told = by_volume(volume)
    for path, facts in found.items():
        assert facts.items() <= whole[path].items(), (note, path)
    if found != whole:
        assert told, note
    for path, facts in kernels.items():
        assert found[path] == facts, (note, told)
    for path in found.keys() - kernels.keys():
        # Of a directory with one bad block the kernel gives no names; the others are right.
        assert what == "descriptor" or os.path.dirname(path) in lost, (note, path)
    return bool(told)
