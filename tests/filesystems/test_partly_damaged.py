"""A structure of a file system is damaged by hand: exactly the bytes it tells of are lost."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.filesystems.errors import DamagedError
from imgcat.filesystems.volume import Volume
from imgcat.formats.extent import ExtentKind
from support.exfat import exfat_fuse
from support.files_inside import volume_in
from support.unmounting import unmount
from support.volumes import MIB, quiet
from support.with_hole import WithHole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.program import Program

BLOCK = 1024
Range = tuple[int, int]


def u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def lost_of(volume: Volume, inode: int, data: bytes) -> list[Range]:
    """Read a file piece by piece; return the ranges that are lost. What is read is right."""
    told: list[str] = []
    content = volume.content(inode, tell=told.append)
    assert content.size == len(data)
    lost: list[Range] = []
    named: set[tuple[str, int]] = set()
    for start in range(0, len(data), 512):
        stop = min(start + 512, len(data))
        view = memoryview(bytearray(b"\xee" * (stop - start)))
        try:
            content.read_into(view, start)
        except DamagedError as error:
            named.add((error.structure, error.offset - start))
            with pytest.raises(DamagedError):
                content.read_into_nowait(view, start)
            is_more = bool(lost) and lost[-1][1] == start
            lost.append((lost.pop()[0] if is_more else start, stop))
        else:
            assert view == data[start:stop], (start, stop)
    assert named <= {(f"{volume.kind}.file {inode}", 0)}
    unreadable = [
        (each.start, each.stop)
        for each in content.extents(0, content.size)
        if each.kind is ExtentKind.UNREADABLE and each.reason
    ]
    assert unreadable == lost
    assert [each.partition(" are lost: ")[0].partition(": bytes ")[2] for each in told] == [
        f"[{start}, {stop})" for start, stop in lost
    ]
    return lost


def lost_in(
    image: bytes | bytearray, path: Path, data: bytes, name: bytes = b"file"
) -> list[Range]:
    """Return the ranges of a file that are lost in an image."""
    (path / "damaged.raw").write_bytes(image)
    failures: list[str] = []
    with volume_in(path / "damaged.raw", as_is=True, on_failure=failures.append) as volume:
        found = lost_of(volume, volume.find(0, name).inode, data)
        # A file beside it is as it was.
        other = volume.content(volume.find(0, b"other").inode)
        view = memoryview(bytearray(other.size))
        other.read_into(view, 0)
        assert view == OTHER
    assert failures == []
    return found


OTHER = random.Random("other").randbytes(30_000)


def islands(blocks: list[int], count: int) -> bytes:
    """Return a file of which every block but these is a hole."""
    generator = random.Random(count)
    data = bytearray(count * BLOCK)
    for block in blocks:
        data[block * BLOCK : (block + 1) * BLOCK] = generator.randbytes(BLOCK)
    return bytes(data)


def make_ext(place: Path, kind: str, data: bytes) -> bytearray:
    """Return an ext volume with a file in it, whose holes are holes, without checksums."""
    content = place / "content"
    content.mkdir()
    with (content / "file").open("wb") as opened:
        for start in range(0, len(data), BLOCK):
            piece = data[start : start + BLOCK]
            if any(piece):
                os.pwrite(opened.fileno(), piece, start)
        opened.truncate(len(data))
    (content / "other").write_bytes(OTHER)
    raw = place / "volume.raw"
    raw.touch()
    os.truncate(raw, 8 * MIB)
    options = ("-O", "^metadata_csum", "-b", str(BLOCK), "-d", content)
    quiet("mke2fs", "-q", "-F", "-t", kind, *options, raw)
    return bytearray(raw.read_bytes())


def inode_of(image: bytearray, place: Path) -> int:
    """Return where the 60 bytes are that lead to the file's blocks; debugfs tells where."""
    raw = place / "volume.raw"
    told = subprocess.run(
        ["debugfs", "-R", "imap /file", raw], capture_output=True, text=True, check=True
    ).stdout
    located = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", told)
    assert located is not None
    at = int(located[1]) * BLOCK + int(located[2], 16)
    assert u32(image, at + 4) == len((place / "content" / "file").read_bytes())
    return at + 40


# -- extents: struct ext4_extent is ee_block, ee_len, ee_start_hi, ee_start_lo -------------------

FEW = islands([0, 1, 4, 8, 9, 10], 12)
"""Three extents: blocks [0, 2), [4, 5), [8, 11); zeros between and behind."""


def _outside(image: bytearray, node: int) -> None:
    struct.pack_into("<I", image, node + 12 + 12 + 8, 0x7FFFFFFF)


def _half_outside(image: bytearray, node: int) -> None:
    """Let the last extent begin in the last block of the volume."""
    struct.pack_into("<I", image, node + 12 + 24 + 8, len(image) // BLOCK - 1)


def _over_the_first(image: bytearray, node: int) -> None:
    struct.pack_into("<I", image, node + 12 + 12, 1)


def _over_the_last(image: bytearray, node: int) -> None:
    struct.pack_into("<H", image, node + 12 + 12 + 4, 5)


def _behind_the_last(image: bytearray, node: int) -> None:
    struct.pack_into("<I", image, node + 12 + 12, 1000)


def _empty(image: bytearray, node: int) -> None:
    struct.pack_into("<H", image, node + 12 + 12 + 4, 0)


def _last_behind_all(image: bytearray, node: int) -> None:
    struct.pack_into("<IH", image, node + 12 + 24, 0xFFFFFFFF, 3)


# Where two contradict each other, none tells which is wrong, nor what is a hole between them.
EXTENTS: dict[str, tuple[Callable[[bytearray, int], None], list[Range]]] = {
    "an extent outside of the volume": (_outside, [(4, 5)]),
    "an extent partly outside of the volume": (_half_outside, [(8, 11)]),
    "an extent over the one before": (_over_the_first, [(0, 8)]),
    "an extent over the one behind": (_over_the_last, [(2, 12)]),
    "an extent out of order": (_behind_the_last, [(2, 12)]),
    "an extent of no block": (_empty, [(2, 8)]),
    "an extent behind all that a file can have": (_last_behind_all, [(5, 12)]),
}


@pytest.mark.parametrize("damage", EXTENTS)
def test_an_extent_in_the_inode(damage: str, tmp_path: Path) -> None:
    image = make_ext(tmp_path, "ext4", FEW)
    node = inode_of(image, tmp_path)
    assert struct.unpack_from("<HHHH", image, node) == (0xF30A, 3, 4, 0)
    assert lost_in(image, tmp_path, FEW) == []
    change, blocks = EXTENTS[damage]
    change(image, node)
    assert lost_in(image, tmp_path, FEW) == [(a * BLOCK, b * BLOCK) for a, b in blocks]


MANY = islands(list(range(0, 500, 2)), 501)
"""250 extents of a block each: more than two leaves, of 84 extents, have room for."""


def test_a_leaf_of_an_extent_tree(tmp_path: Path) -> None:
    image = make_ext(tmp_path, "ext4", MANY)
    node = inode_of(image, tmp_path)
    magic, count, _most, depth = struct.unpack_from("<HHHH", image, node)
    assert (magic, depth) == (0xF30A, 1)
    firsts = [u32(image, node + 12 + 12 * number) for number in range(count)] + [len(MANY) // BLOCK]
    leaves = [u32(image, node + 12 + 12 * number + 4) * BLOCK for number in range(count)]
    assert count >= 3
    covered = [(start * BLOCK, stop * BLOCK) for start, stop in itertools.pairwise(firsts)]

    def lost(*changes: tuple[str, int, int]) -> list[Range]:
        damaged = bytearray(image)
        for form, place, value in changes:
            struct.pack_into(form, damaged, place, value)
        return lost_in(damaged, tmp_path, MANY)

    assert lost() == []
    # A leaf that is none, or of another depth, or has nothing; none at all; the one before again.
    for number in (0, 1, count - 1):
        assert lost(("<H", leaves[number], 0)) == [covered[number]]
        assert lost(("<H", leaves[number] + 6, 1)) == [covered[number]]
        assert lost(("<H", leaves[number] + 2, 0)) == [covered[number]]
        assert lost(("<I", node + 16 + 12 * number, 0x7FFFFFFF)) == [covered[number]]
    assert lost(("<I", node + 16 + 12, leaves[0] // BLOCK)) == [covered[1]]
    # Two leaves, and what is between them is whole.
    assert lost(("<H", leaves[0], 0), ("<H", leaves[2], 0)) == [covered[0], covered[2]]
    # An extent in a leaf: nothing else of the leaf.
    at = leaves[1] + 12 + 12 * 5
    first = u32(image, at)
    assert lost(("<I", at + 8, 0x7FFFFFFF)) == [(first * BLOCK, (first + 1) * BLOCK)]
    assert lost(("<I", at, 0)) == [((first - 1) * BLOCK, (first + 2) * BLOCK)]
    # The first of a leaf is where the leaf begins, or is not the one that was written there.
    assert lost(("<I", leaves[1] + 12, firsts[1] + 1)) == [
        (firsts[1] * BLOCK, (firsts[1] + 2) * BLOCK)
    ]
    # Places in the root that contradict each other: neither leaf is where it says.
    assert lost(("<I", node + 12 + 12, 0)) == [(0, covered[1][1])]


def test_a_leaf_that_the_image_does_not_have(tmp_path: Path) -> None:
    image = make_ext(tmp_path, "ext4", MANY)
    node = inode_of(image, tmp_path)
    leaf = u32(image, node + 12 + 12 + 4) * BLOCK
    firsts = [u32(image, node + 12 + 12 * number) for number in (1, 2)]
    volume = Volume(WithHole(bytes(image), range(leaf, leaf + BLOCK)))  # type: ignore[arg-type]
    try:
        inode = volume.find(0, b"file").inode
        assert lost_of(volume, inode, MANY) == [(firsts[0] * BLOCK, firsts[1] * BLOCK)]
    finally:
        volume.close()


# -- block maps: 12 blocks, then one of pointers, one of those, one of those of those ------------

PLAIN = random.Random("plain").randbytes(600 * BLOCK - 100)
PER_BLOCK = BLOCK // 4
NOWHERE = 0x7FFFFFFF


def test_a_map_of_blocks(tmp_path: Path) -> None:
    image = make_ext(tmp_path, "ext2", PLAIN)
    block = inode_of(image, tmp_path)
    single, double = u32(image, block + 48) * BLOCK, u32(image, block + 52) * BLOCK
    second = u32(image, double + 4) * BLOCK
    assert single
    assert second

    def lost(place: int, value: int = NOWHERE) -> list[Range]:
        damaged = bytearray(image)
        struct.pack_into("<I", damaged, place, value)
        return lost_in(damaged, tmp_path, PLAIN)

    def of(start: int, stop: int) -> list[Range]:
        return [(start * BLOCK, min(stop * BLOCK, len(PLAIN)))]

    behind = 12 + PER_BLOCK
    assert lost(block, u32(image, block)) == []
    assert lost(block + 12) == of(3, 4)
    assert lost(block + 48) == of(12, behind)
    assert lost(single + 4 * 100) == of(112, 113)
    assert lost(block + 52) == of(behind, 600)
    assert lost(double) == of(behind, behind + PER_BLOCK)
    assert lost(double + 4) == of(behind + PER_BLOCK, 600)
    assert lost(double + 4, u32(image, double)) == of(behind + PER_BLOCK, 600)
    assert lost(second + 4 * 7) == of(behind + PER_BLOCK + 7, behind + PER_BLOCK + 8)
    # The image does not have the blocks of pointers.
    for place, expected in (
        (single, of(12, behind)), (double, of(behind, 600)),
        (second, of(behind + PER_BLOCK, 600)),
    ):  # fmt: skip
        reader = WithHole(bytes(image), range(place, place + BLOCK))
        volume = Volume(reader)  # type: ignore[arg-type]
        try:
            assert lost_of(volume, volume.find(0, b"file").inode, PLAIN) == expected
        finally:
            volume.close()


def test_more_lost_ranges_than_are_told_one_by_one(tmp_path: Path) -> None:
    image = make_ext(tmp_path, "ext2", PLAIN)
    single = u32(image, inode_of(image, tmp_path) + 48) * BLOCK
    for number in range(0, 200, 2):
        struct.pack_into("<I", image, single + 4 * number, NOWHERE)
    path = tmp_path / "volume.raw"
    path.write_bytes(image)
    told: list[str] = []
    with volume_in(path) as volume:
        content = volume.content(volume.find(0, b"file").inode, tell=told.append)
        view = memoryview(bytearray(BLOCK))
        for number in range(200):
            offset = (12 + number) * BLOCK
            if number % 2:
                content.read_into(view, offset)
                assert view == PLAIN[offset : offset + BLOCK]
            else:
                with pytest.raises(DamagedError, match=rf"bytes \[{offset}, {offset + BLOCK}\)"):
                    content.read_into(view, offset)
    assert len(told) == 65
    assert told[-1].endswith("36 other stretches of its bytes are lost too")


# -- FAT: a number for each cluster, the next one ------------------------------------------------

CHAINED = random.Random("chained").randbytes(90_000)


@pytest.mark.parametrize(("bits", "size"), [(16, 16), (32, 36)])
def test_a_chain_of_fat(bits: int, size: int, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, size * MIB)
    quiet("mkfs.vfat", "-F", str(bits), "-s", "1", raw)
    for name, data in ((b"file", CHAINED), (b"other", OTHER)):
        (tmp_path / os.fsdecode(name)).write_bytes(data)
        quiet("mcopy", "-i", raw, tmp_path / os.fsdecode(name), "::/")
    image = raw.read_bytes()
    table, cluster = u16(image, 14) * 512, 512
    entry = image.index(b"FILE       ")
    first = u16(image, entry + 26) | u16(image, entry + 20) << 16
    width = bits // 8
    form, end = ("<H", 0xFFFF) if bits == 16 else ("<I", 0x0FFFFFFF)
    # A new volume: the clusters of its first file follow each other.
    assert u16(image, table + first * width) == first + 1

    def lost(number: int, value: int) -> list[Range]:
        damaged = bytearray(image)
        struct.pack_into(form, damaged, table + (first + number) * width, value)
        return lost_in(damaged, tmp_path, CHAINED)

    assert lost(50, first + 51) == []
    for value in (end, 0, 1, end & ~8, first, first + 50, end - 0x1000 & end):
        assert lost(50, value) == [(51 * cluster, len(CHAINED))], hex(value)
    assert lost(0, 0) == [(cluster, len(CHAINED))]
    # The image does not have a piece of the table: that of the cluster 50, and no other.
    place = table + (first + 50) * width
    volume = Volume(WithHole(image, range(place, place + width)))  # type: ignore[arg-type]
    try:
        inode = volume.find(0, b"file").inode
        assert lost_of(volume, inode, CHAINED) == [(51 * cluster, len(CHAINED))]
    finally:
        volume.close()


def exfat_checksum(entries: bytes) -> int:
    """Return the checksum of a set of entries, as in section 6.3.3 of the specification."""
    total = 0
    for place, byte in enumerate(entries):
        if place not in {2, 3}:
            total = ((total << 15) | (total >> 1)) + byte & 0xFFFF
    return total


def test_a_chain_of_exfat(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 4 * MIB)
    quiet("mkfs.exfat", "-c", "4K", raw)
    cluster = 4096
    with exfat_fuse(raw, tmp_path / "mount") as mount:
        # Two at once, so that neither lies in one piece.
        with (mount / "file").open("wb", 0) as file, (mount / "between").open("wb", 0) as between:
            for start in range(0, len(CHAINED), cluster):
                file.write(CHAINED[start : start + cluster])
                between.write(b"between" * 600)
        (mount / "other").write_bytes(OTHER)
    image = raw.read_bytes()
    table, heap = u32(image, 80) << image[108], u32(image, 88) << image[108]
    name = image.index("file".encode("utf-16-le"))
    stream = name - 2 - 32
    first = u32(image, stream + 20)
    assert (image[stream], image[stream + 1] & 2) == (0xC0, 0)
    chain = [first]
    while u32(image, table + 4 * chain[-1]) != 0xFFFFFFFF:
        chain.append(u32(image, table + 4 * chain[-1]))
    assert len(chain) == -(-len(CHAINED) // cluster)
    assert heap + (first - 2) * cluster == image.index(CHAINED[:cluster])

    def lost(number: int, value: int) -> list[Range]:
        damaged = bytearray(image)
        struct.pack_into("<I", damaged, table + 4 * chain[number], value)
        return lost_in(damaged, tmp_path, CHAINED)

    assert lost(7, chain[8]) == []
    for value in (0xFFFFFFFF, 0, 1, 0xFFFFFFF7, chain[3], chain[7], 0x10000000):
        assert lost(7, value) == [(8 * cluster, len(CHAINED))], hex(value)

    # Without a chain: it begins so late that the volume ends before it does.
    clusters = u32(image, 92)
    damaged = bytearray(image)
    damaged[stream + 1] |= 2
    at = stream - 32
    struct.pack_into("<I", damaged, stream + 20, clusters + 2 - 3)
    entries = damaged[at : at + 32 * (damaged[at + 1] + 1)]
    struct.pack_into("<H", damaged, at + 2, exfat_checksum(bytes(entries)))
    place = heap + (clusters - 3) * cluster
    damaged[place : place + 3 * cluster] = CHAINED[: 3 * cluster]
    assert lost_in(damaged, tmp_path, CHAINED) == [(3 * cluster, len(CHAINED))]


# -- NTFS: a list of runs, each a length and the difference to the place before ------------------

PIECES = 6


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int], bytes]:
    """Return a volume, where the runs of a file begin in its record, and what it holds."""
    place = tmp_path_factory.mktemp("ntfs")
    raw = place / "volume.raw"
    raw.touch()
    os.truncate(raw, 8 * MIB)
    quiet("mkfs.ntfs", "-q", "-F", "-f", raw)
    point = place / "mount"
    point.mkdir()
    quiet("ntfs-3g", raw, point)
    data = random.Random("ntfs").randbytes(PIECES * 8192)
    try:
        with (point / "file").open("wb", 0) as opened:
            for number in range(PIECES):
                opened.write(data[number * 8192 : (number + 1) * 8192])
                (point / f"between{number}").write_bytes(b"between" * 700)
                os.sync()
        (point / "other").write_bytes(OTHER)
        inode = (point / "file").stat().st_ino
    finally:
        unmount(point, raw)
    image = raw.read_bytes()
    record = u64(image, 48) * 4096 + inode * 1024
    position = record + u16(image, record + 20)
    while u32(image, position) != 0x80:
        position += u32(image, position + 4)
    at = position + u16(image, position + 32)
    runs = []
    while image[at]:
        runs.append(at)
        at += 1 + (image[at] & 15) + (image[at] >> 4)
    assert len(runs) == PIECES
    return image, runs, data


def _none(image: bytearray, at: int) -> None:
    image[at] = 0x99


def _negative(image: bytearray, at: int) -> None:
    """Let it lie before the volume: as far back as a byte says."""
    image[at + 2 : at + 1 + (image[at] & 15) + (image[at] >> 4)] = b"\x80" * (image[at] >> 4)


def _no_cluster(image: bytearray, at: int) -> None:
    image[at + 1] = 0


def _longer(image: bytearray, at: int) -> None:
    image[at + 1] += 1


def _ended(image: bytearray, at: int) -> None:
    image[at] = 0


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("change", "number", "expected"),
    [
        # What comes before is known; each that follows is told by its difference to this.
        (_none, 2, [(2 * 8192, PIECES * 8192)]),
        (_no_cluster, 3, [(3 * 8192, PIECES * 8192)]),
        (_negative, 0, [(0, PIECES * 8192)]),
        # Not as many as the record says: any length may be the wrong one.
        (_longer, 2, [(0, PIECES * 8192)]),
        (_longer, 5, [(0, PIECES * 8192)]),
        (_ended, 4, [(0, PIECES * 8192)]),
    ],
)
def test_a_list_of_runs_of_ntfs(
    change: Callable[[bytearray, int], None],
    number: int,
    expected: list[Range],
    ntfs: tuple[bytes, list[int], bytes],
    tmp_path: Path,
) -> None:
    image, runs, data = ntfs
    assert lost_in(image, tmp_path, data) == []
    damaged = bytearray(image)
    change(damaged, runs[number])
    assert lost_in(damaged, tmp_path, data) == expected
    with (
        volume_in(tmp_path / "damaged.raw", as_is=True) as volume,
        volume_in_of(image, tmp_path) as whole,
    ):
        entry = volume.find(0, b"file")
        assert entry == whole.find(0, b"file")
        assert volume.stat(entry.inode) == whole.stat(entry.inode)
        assert volume.streams(entry.inode) == []


def volume_in_of(image: bytes, place: Path) -> Any:
    path = place / "whole.raw"
    path.write_bytes(image)
    return volume_in(path, as_is=True)


@pytest.mark.fuse
def test_a_run_of_ntfs_outside_of_the_volume(
    ntfs: tuple[bytes, list[int], bytes], tmp_path: Path
) -> None:
    """The fourth run is the last that has a place: two bytes of difference lead out."""
    image, runs, data = ntfs
    damaged = bytearray(image)
    rest = bytes(image[runs[4] : runs[4] + 32])
    damaged[runs[3]] = 0x21
    damaged[runs[3] + 1 : runs[3] + 4] = b"\x02\xff\x7f"
    damaged[runs[3] + 4 : runs[3] + 4 + 7] = rest[:7]
    assert lost_in(damaged, tmp_path, data) == [(3 * 8192, PIECES * 8192)]


# -- directories, and commands -------------------------------------------------------------------


def test_a_directory_that_is_partly_lost(tmp_path: Path) -> None:
    """What is in the rest is listed; a name that is in none of it may be in what is lost."""
    content = tmp_path / "content"
    content.mkdir()
    for number in range(200):
        (content / f"a file of number {number:03}").write_text(str(number))
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 8 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext2", "-b", str(BLOCK), "-d", content, raw)
    image = bytearray(raw.read_bytes())
    with volume_in(raw) as volume:
        names = {entry.name for entry in volume.entries()}
    # The second inode of the first table, and in it the second block.
    root = u32(image, 2 * BLOCK + 8) * BLOCK + u16(image, BLOCK + 88) + 40
    place = u32(image, root + 4) * BLOCK
    struct.pack_into("<I", image, root + 4, NOWHERE)
    gone = {
        name for name in names
        if name in image[place : place + BLOCK]
    }  # fmt: skip
    raw.write_bytes(image)
    told: list[str] = []
    with volume_in(raw) as volume:
        assert {entry.name for entry in volume.entries(0, told.append)} == names - gone
        assert "bytes [1024, 2048) are missing" in told[0]
        assert len(told) == 1
        kept, lost = min(names - gone - {b"lost+found"}), min(gone)
        assert volume.find(0, kept).name == kept
        for name in (lost, b"never there"):
            with pytest.raises(DamagedError, match="not in what can be read of it"):
                volume.find(0, name)
    assert gone


def test_what_commands_make_of_a_file_that_is_partly_lost(program: Program, tmp_path: Path) -> None:
    image = make_ext(tmp_path, "ext2", PLAIN)
    struct.pack_into("<I", image, inode_of(image, tmp_path) + 48, NOWHERE)
    raw = tmp_path / "damaged.raw"
    raw.write_bytes(image)
    lost = (12 * BLOCK, (12 + PER_BLOCK) * BLOCK)

    # cat: all before the damage, and no byte more.
    out = tmp_path / "out"
    with out.open("wb") as opened:
        process = program.start("cat", f"{raw}:/file", stdout=opened)
        errors = process.communicate()[1].decode()
    assert process.returncode == 5
    assert out.read_bytes() == PLAIN[: lost[0]]
    assert f"bytes [{lost[0]}, {lost[1]}) are lost" in errors

    # cp: no file that is not whole; the one beside it is copied.
    into = tmp_path / "into"
    into.mkdir()
    told = json.loads(program.run("cp", "-r", f"{raw}:/", into, "--json", code=5).stdout)
    (problem,) = told["sources"][0]["problems"]
    assert problem.startswith("/file: ")
    assert f"bytes [{lost[0]}, {lost[1]}) are lost" in problem
    copied = into / "damaged.raw"
    assert sorted(os.listdir(copied)) == ["lost+found", "other"]
    assert (copied / "other").read_bytes() == OTHER

    # tar: its size is in the archive already; what is lost is zeros, and named.
    archive = tmp_path / "all.tar"
    with archive.open("wb") as opened:
        process = program.start("tar", f"{raw}:/file", stdout=opened)
        errors = process.communicate()[1].decode()
    assert process.returncode == 5
    assert "are zeros in the archive" in errors
    with tarfile.open(archive) as unpacked:
        member = unpacked.extractfile("file")
        assert member is not None
        data = member.read()
    assert len(data) == len(PLAIN)
    for start in range(0, len(PLAIN), BLOCK):
        piece = data[start : start + BLOCK]
        is_lost = lost[0] <= start < lost[1]
        assert piece == PLAIN[start : start + BLOCK] or not any(piece)
        assert not is_lost or not any(piece)
