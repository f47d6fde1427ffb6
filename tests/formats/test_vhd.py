"""VHD images that QEMU's own tools wrote; old and odd ones; and what is refused."""

from __future__ import annotations

import random
import struct
import uuid
from typing import TYPE_CHECKING

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import (
    CorruptImageError,
    FormatError,
    MissingParentError,
    NotThisFormatError,
    TruncatedImageError,
)
from imgcat.formats.extent import ExtentKind, merged
from imgcat.formats.reader import ParentName, read_bytes
from support.memory_source import MemorySource
from support.opening import scan_and_open
from support.virtual_disks import MIB, changes, guest_of, map_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[bytearray], object]

SIZE = 9 * MIB + 512


def make(directory: Path, kind: str, force_size: str = "on", seed: int = 1) -> Path:
    raw = write_raw(directory / "raw", SIZE, seed, writes=8)
    path = directory / f"{kind}.vhd"
    how = f"subformat={kind},force_size={force_size}"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", how, raw, path)
    qemu_io(path, "vpc", [each for each in changes(SIZE, seed, 9) if each.startswith("write -P")])
    return path


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize("force_size", ["on", "off"])
def test_what_qemu_wrote_reads_as_qemu_reads_it(kind: str, force_size: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind, force_size)
    guest = guest_of(path, "vpc")
    source = MemorySource(path.read_bytes())
    scan, reader = scan_and_open(source)
    assert (scan.info.format, scan.info.format_version) == ("vhd", kind)
    assert scan.info.size == len(guest)
    assert scan.info.warnings == ()
    assert read_bytes(reader, 0, reader.size) == guest
    rng = random.Random(5)
    for _ in range(60):
        start = rng.randrange(reader.size)
        length = rng.randrange(1, reader.size - start + 1)
        assert read_bytes(reader, start, length) == guest[start : start + length]
    assert list(registry.named("vhd").verify(source, scan.info.layout, scan.stored_index())) == []


def test_extents_are_those_of_qemu_img_map(tmp_path: Path) -> None:
    path = make(tmp_path, "dynamic")
    _scan, reader = scan_and_open(MemorySource(path.read_bytes()))
    ours = [
        (each.start, each.length, each.offset)
        for each in reader.extents(0, reader.size)
        if each.kind is ExtentKind.DATA
    ]
    # By its bitmaps QEMU tells also of blocks what of them was written; the rest is zeros.
    for each in map_of(path, "vpc"):
        start, length = each["start"], min(each["length"], reader.size - each["start"])
        if each["data"]:
            (within,) = [own for own in ours if own[0] <= start < own[0] + own[1]]
            assert start + length <= within[0] + within[1]
            assert each["offset"] == within[2] + start - within[0]
        else:
            assert not any(read_bytes(reader, start, length))
    assert [each.kind for each in merged(reader.extents(0, reader.size))]


def test_the_copy_of_the_footer_serves_where_the_end_is_gone(tmp_path: Path) -> None:
    path = make(tmp_path, "dynamic")
    guest = guest_of(path, "vpc")
    scan, reader = scan_and_open(MemorySource(path.read_bytes()[:-512]))
    assert read_bytes(reader, 0, reader.size) == guest
    assert any("no footer at its end" in each for each in scan.info.warnings)


def test_a_footer_of_511_bytes(tmp_path: Path) -> None:
    path = make(tmp_path, "fixed")
    guest = guest_of(path, "vpc")
    _scan, reader = scan_and_open(MemorySource(path.read_bytes()[:-1]))
    assert read_bytes(reader, 0, reader.size) == guest


def test_a_footer_that_is_not_aligned(tmp_path: Path) -> None:
    data = make(tmp_path, "fixed").read_bytes()
    odd = bytearray(data[:-512] + b"x" * 77 + data[-512:])
    _scan, reader = scan_and_open(MemorySource(bytes(odd)))
    assert read_bytes(reader, 0, reader.size) == data[:-512]


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_a_wrong_checksum_is_warned_about(kind: str, tmp_path: Path) -> None:
    data = bytearray(make(tmp_path, kind).read_bytes())
    data[-512 + 64] ^= 1
    scan, _reader = scan_and_open(MemorySource(bytes(data)))
    assert any("the footer's checksum is 0x" in each for each in scan.info.warnings)


def test_a_difference_is_never_zeros_without_its_parent(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path, "dynamic").read_bytes())
    for footer in (0, len(data) - 512):
        struct.pack_into(">I", data, footer + 60, 4)
    (header,) = struct.unpack_from(">Q", data, 16)
    name = "parent.vhd".encode("utf-16-be")
    data[header + 64 : header + 64 + len(name)] = name
    parent = uuid.UUID(int=7)
    data[header + 40 : header + 56] = parent.bytes
    (table,) = struct.unpack_from(">Q", data, header + 16)
    (block,) = struct.unpack_from(">I", data, table)
    # Nothing of the first block is its own.
    data[block * 512 : block * 512 + 512] = bytes(512)
    scan, reader = scan_and_open(MemorySource(bytes(data)))
    assert scan.info.parent == ParentName(("parent.vhd",), "vhd", str(parent))
    with pytest.raises(MissingParentError):
        read_bytes(reader, 0, reader.size)


def _footer(offset: int, form: str, value: int) -> Change:
    def change(data: bytearray) -> None:
        for footer in (0, len(data) - 512):
            struct.pack_into(form, data, footer + offset, value)

    return change


def _header(offset: int, form: str, value: int) -> Change:
    def change(data: bytearray) -> None:
        (header,) = struct.unpack_from(">Q", data, 16)
        struct.pack_into(form, data, header + offset, value)

    return change


def _block(number: int, value: int | None) -> Change:
    """Let an entry of the table be another, or that of block 0."""

    def change(data: bytearray) -> None:
        (header,) = struct.unpack_from(">Q", data, 16)
        (table,) = struct.unpack_from(">Q", data, header + 16)
        first = min(
            entry
            for (entry,) in struct.iter_unpack(">I", data[table : table + 20])
            if entry != 0xFFFFFFFF
        )
        struct.pack_into(">I", data, table + 4 * number, first if value is None else value)

    return change


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_footer(12, ">I", 0x20000), CorruptImageError, "version 0x00020000"),
        (_footer(16, ">Q", (1 << 64) - 1), CorruptImageError, "without a header"),
        (_footer(16, ">Q", 1 << 40), TruncatedImageError, "behind the end"),
        (_footer(48, ">Q", 2041 << 30), CorruptImageError, "a disk of"),
        (_footer(48, ">Q", 64 << 30), CorruptImageError, "but the disk has"),
        (_footer(60, ">I", 5), CorruptImageError, "a disk of type 5"),
        (_header(0, ">Q", 0), CorruptImageError, "begins with 00 00"),
        (_header(16, ">Q", 1 << 40), TruncatedImageError, "entries at"),
        (_header(24, ">I", 0x20000), CorruptImageError, "version 0x00020000"),
        (_header(28, ">I", 1), CorruptImageError, "1 blocks of"),
        (_header(28, ">I", 1 << 30), TruncatedImageError, "1073741824 entries"),
        (_header(32, ">I", 3 << 20), CorruptImageError, "blocks of 3145728 bytes"),
        (_header(32, ">I", 256), CorruptImageError, "blocks of 256 bytes"),
        (_block(0, 0), CorruptImageError, "block 0 lies inside of the footer"),
        (_block(0, 1), CorruptImageError, "block 0 lies over the header"),
        (_block(0, 3), CorruptImageError, "block 0 lies over the table"),
        (_block(0, 1 << 30), TruncatedImageError, "block 0 lies behind the end"),
        (_block(4, None), CorruptImageError, "two blocks lie over each other"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    change: Change, error: type[FormatError], words: str, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"x" * (9 * MIB))
    path = tmp_path / "image.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, path)
    data = bytearray(path.read_bytes())
    change(data)
    with pytest.raises(error, match=words) as caught:
        registry.scan(MemorySource(bytes(data)))
    assert caught.value.structure.startswith("vhd.")


def test_a_fixed_disk_that_is_cut_off_is_no_image(tmp_path: Path) -> None:
    data = make(tmp_path, "fixed").read_bytes()
    with pytest.raises(NotThisFormatError):
        registry.scan(MemorySource(data[:-600]))
    with pytest.raises(TruncatedImageError, match="a disk of"):
        registry.scan(MemorySource(data[:MIB] + data[-512:]))
