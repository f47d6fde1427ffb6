"""Damaged and hostile file systems: what is readable is given, the rest named, and it ends."""

from __future__ import annotations

import os
import random
import re
import stat
import struct
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.process import Limits
from imgcat.filesystems.volume import Volume
from imgcat.formats.errors import CorruptImageError, FormatError
from support.exfat import exfat_fuse
from support.files_inside import digest, volume_in
from support.hfsplus import cut_out
from support.volumes import MIB, quiet
from support.with_hole import WithHole
from support.xfs import seal, sealed, with_a_bit_of_everything

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAKERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "ext4": (8, ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum")),
    "ext4-checksums": (8, ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024")),
    "ext4-inline": (
        8, ("mke2fs", "-q", "-F", "-t", "ext4", "-O", "inline_data,^metadata_csum")
    ),
    "ext2": (8, ("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024")),
    "fat12": (2, ("mkfs.vfat", "-F", "12")),
    "fat32": (36, ("mkfs.vfat", "-F", "32", "-s", "1")),
    "exfat": (4, ("mkfs.exfat", "-c", "4K")),
    "ntfs": (4, ("mkfs.ntfs", "-q", "-F", "-f")),
    "xfs": (20, ()),
    "xfs-4": (20, ()),
    "iso9660": (0, ("genisoimage", "-quiet", "-R", "-J", "-o")),
    "hfsplus": (0, ("xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-o")),
    "iso9660-plain": (0, ("genisoimage", "-quiet", "-o")),
}  # fmt: skip
"""Without checksums, what is wrong gets as far as it can: with them, one is what is met first."""


MOST_BYTES_OF_STRUCTURE = 150
"""Different bytes in a sector; one of noise has some 220."""


def make(kind: str, place: Path) -> bytes:
    """Return a small file system with a bit of everything in it."""
    size, command = MAKERS[kind]
    content = place / "content"
    generator = random.Random(kind)
    for directory in ("", "one", "one/two"):
        (content / directory).mkdir(parents=True, exist_ok=True)
        for number in range(12):
            data = generator.randbytes(generator.choice([0, 30, 700, 20_000]))
            (content / directory / f"a file of number {number}").write_bytes(data)
    raw = place / "volume.raw"
    if kind.startswith("xfs"):
        version = 4 if kind == "xfs-4" else 5
        return with_a_bit_of_everything(content, raw, version=version, names=40).read_bytes()
    raw.touch()
    os.truncate(raw, size * MIB)
    if kind.startswith("ext"):
        quiet(*command, "-d", content, raw)
    elif kind.startswith(("iso9660", "hfsplus")):
        quiet(*command, raw, content)
        if kind == "hfsplus":
            cut_out(raw)
    else:
        quiet(*command, raw)
        fill(kind, raw, content, place)
    return raw.read_bytes()


def fill(kind: str, raw: Path, content: Path, place: Path) -> None:
    """Put files into a file system that is made empty."""
    if kind == "ntfs":
        # ntfscp knows the root only.
        for path in sorted(content.iterdir()):
            if path.is_file():
                quiet("ntfscp", "-f", "-q", raw, path, path.name)
    elif kind == "exfat":
        with exfat_fuse(raw, place / "mount") as mount:
            quiet("cp", "-r", *sorted(content.iterdir()), mount)
    else:
        quiet("mcopy", "-s", "-i", raw, *sorted(map(str, content.iterdir())), "::/")


def walk(volume: Volume, problems: list[str]) -> int:
    """Read everything; return how many files there were. Only errors with a name are met."""
    count = 0
    todo: list[tuple[int, frozenset[int]]] = [(0, frozenset())]
    while todo and count < 3000:
        inode, above = todo.pop()
        try:
            entries = volume.entries(inode, problems.append)
        except (FormatError, FileNotFoundError, NotADirectoryError) as error:
            problems.append(str(error))
            continue
        for entry in entries:
            count += 1
            assert b"/" not in entry.name
            try:
                volume.attributes(entry.inode, problems.append)
                if stat.S_ISDIR(entry.mode) and entry.inode not in above:
                    todo.append((entry.inode, above | {inode, entry.inode}))
                elif stat.S_ISREG(entry.mode) and entry.size < 50 * MIB:
                    digest(volume, entry.inode)
            except (FormatError, FileNotFoundError) as error:
                problems.append(str(error))
    return count


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("times", [50, pytest.param(2000, marks=pytest.mark.soak)])
def test_corrupted_at_random(kind: str, times: int, tmp_path: Path) -> None:
    image = make(kind, tmp_path)
    # What files hold is noise, and what is empty is one byte over and over: neither is structure.
    used = [
        number
        for number in range(0, len(image), 512)
        if 1 < len(set(image[number : number + 512])) < MOST_BYTES_OF_STRUCTURE
    ]
    seals = sealed(image) if kind == "xfs" else []
    if seals:
        # What is left is neither in the log nor free.
        whole = {each for place, length, _at in seals for each in range(place, place + length, 512)}
        used = [number for number in used if number in whole]
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    counts, deaths, troubled = set(), 0, 0
    for _number in range(times):
        damaged = bytearray(image)
        for _flip in range(generator.choice([1, 3, 20, 200])):
            place = generator.choice(used) + generator.randrange(512)
            damaged[place] = generator.choice([0, 0xFF, generator.randrange(256)])
        # As who means harm does it: checksums are no protection from that.
        for place, length, at in seals if generator.randrange(3) else []:
            if damaged[place : place + length] != image[place : place + length]:
                seal(damaged, place, length, at)
        path = tmp_path / "damaged.raw"
        path.write_bytes(damaged)
        problems: list[str] = []
        failures: list[str] = []
        limits = Limits(seconds=20)
        try:
            with volume_in(path, as_is=True, limits=limits, on_failure=failures.append) as volume:
                counts.add(walk(volume, problems))
        except FormatError as error:
            problems.append(str(error))
        deaths += len(failures)
        troubled += bool(problems)
        # An exception that nobody thought of is told by its class.
        assert not any(re.search(r"[A-Z]\w+Error: ", each) for each in problems), problems
    print(f"{times} of {kind}: {troubled} with problems that were named, {deaths} workers ended")
    assert troubled
    assert len(counts) > 1


@pytest.mark.parametrize("kind", ["ext4", "ext2", "fat12", "exfat", "xfs-4"])
def test_what_cannot_be_had_is_missing_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """A block of a file is gone: its neighbours are not, nor is any structure beside it."""
    image = make(kind, tmp_path)
    volume = Volume(WithHole(image, range(0)))  # type: ignore[arg-type]
    runs = {}
    for entry in volume.entries():
        if stat.S_ISREG(entry.mode) and entry.size > 8000:
            content = volume.content(entry.inode)
            runs[entry.name] = next(content.runs(0, 4096))[2]  # type: ignore[union-attr]
    volume.close()
    for name, place in runs.items():
        problems: list[str] = []
        volume = Volume(WithHole(image, range(place + 1024, place + 2048)))  # type: ignore[arg-type]
        bad = [
            entry.name
            for entry in volume.entries(0, problems.append)
            if stat.S_ISREG(entry.mode) and not _is_whole(volume, entry.inode)
        ]
        inode = volume.find(0, name).inode
        view = memoryview(bytearray(1024))
        volume.content(inode).read_into(view, 0)
        assert bytes(view) == image[place : place + 1024]
        volume.content(inode).read_into(view, 2048)
        with pytest.raises(CorruptImageError, match="gone"):
            volume.content(inode).read_into(view, 1500)
        volume.close()
        assert bad == [name]
        assert problems == []
    assert runs


def _is_whole(volume: Volume, inode: int) -> bool:
    try:
        digest(volume, inode)
    except CorruptImageError:
        return False
    return True


@pytest.fixture(scope="module")
def ext(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make("ext4", tmp_path_factory.mktemp("ext"))


def _inode_at(image: bytes, number: int) -> int:
    """Return where an inode of the first group lies."""
    size = struct.unpack_from("<H", image, 1024 + 88)[0]
    block = 1024 << struct.unpack_from("<I", image, 1024 + 24)[0]
    table = struct.unpack_from("<I", image, 2 * 1024 + 8)[0] if block == 1024 else 0
    return table * block + (number - 1) * size


def _loop(image: bytearray) -> None:
    """Let a directory lead to the root."""
    place = image.index(b"\x03\x02one") - 6
    struct.pack_into("<I", image, place, 2)


def _far(image: bytearray) -> None:
    """Let the root lie behind the end."""
    place = _inode_at(image, 2) + 40 + 12
    struct.pack_into("<IHHI", image, place, 0, 1, 0xFFFF, 0xFFFFFFF0)


def _long(image: bytearray) -> None:
    """Let a file have 2^63 bytes."""
    number = struct.unpack_from("<I", image, image.index(b"a file of number 2") - 8)[0]
    struct.pack_into("<I", image, _inode_at(image, number) + 4, 0xFFFFFFFF)
    struct.pack_into("<I", image, _inode_at(image, number) + 108, 0x7FFFFFFF)


def _deep(image: bytearray) -> None:
    """Let an extent tree be deeper than any."""
    number = struct.unpack_from("<I", image, image.index(b"a file of number 3") - 8)[0]
    struct.pack_into("<H", image, _inode_at(image, number) + 40 + 6, 9)


HARMS: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "a directory in itself": (_loop, ""),
    "a directory behind the end": (_far, "are not all of the volume's"),
    "a file of 2^63 bytes": (_long, ""),
    "an extent tree without end": (_deep, "a node of its extent tree is none"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_that_somebody_thought_of(harm: str, ext: bytes, tmp_path: Path) -> None:
    change, message = HARMS[harm]
    image = bytearray(ext)
    change(image)
    path = tmp_path / "volume.raw"
    path.write_bytes(image)
    problems: list[str] = []
    failures: list[str] = []
    with volume_in(path, on_failure=failures.append) as volume:
        walk(volume, problems)
    assert failures == []
    assert any(message in each for each in problems) or not message
