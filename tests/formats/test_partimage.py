"""partimage: headers, volumes, what is refused and what is served all the same."""

from __future__ import annotations

import dataclasses
import os
import struct
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.errors import (
    ChecksumError,
    CorruptImageError,
    FormatError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.files import detect
from imgcat.formats.partimage import layout, reader
from imgcat.formats.passes import verify
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.reader import read_bytes
from support import partimage_writer as writer
from support.memory_source import MemorySource
from support.opening import open_scanned

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.finding import Finding

PLAIN = writer.Recipe(present=[True, False, True, True] * 40, description=b"my disk\n2nd line")


def volumes_of(path: Path) -> list[str]:
    """Return the files that are opened for one that is named."""
    with detect.open_files(str(path)) as stored:
        return [os.fspath(file.path) for file in stored.files]


def save(directory: Path, recipe: writer.Recipe, base: str = "sda1") -> list[Path]:
    paths = []
    for number, volume in enumerate(writer.write(recipe).volumes):
        paths.append(directory / f"{base}.{number:03}")
        paths[-1].write_bytes(volume)
    return paths


# -- headers ---------------------------------------------------------------


def test_a_volume_header() -> None:
    header = layout.parse_volume_header(writer.volume_header(3, 0xFEDCBA9876543210))
    assert header == layout.VolumeHeader("0.6.1", 3, 0xFEDCBA9876543210)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", NotThisFormatError, "partimage.volume @0x0: not a partimage volume"),
        (b"PaRtImAgE-VoLuMf" * 32, NotThisFormatError, "partimage.volume @0x0: not a"),
        (
            writer.volume_header(0, 0)[:511], TruncatedImageError,
            "partimage.volume @0x1ff: the file ends 1 bytes before the volume header does",
        ),
        (
            writer.volume_header(0, 0, b"0.5.9"), UnsupportedFeatureError,
            "partimage.volume @0x20: format '0.5.9': 0.6.0 and 0.6.1 are read",
        ),
    ],
)  # fmt: skip
def test_bad_volume_headers(data: bytes, kind: type[FormatError], message: str) -> None:
    with pytest.raises(kind) as caught:
        layout.parse_volume_header(data)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_main_header(unsigned: bool) -> None:
    data = writer.main_header(123456, 2, b"caf\xc3\xa9")
    header = layout.parse_main_header(data + writer.header_sum(data, unsigned=unsigned))
    assert header == layout.MainHeader(
        fs_type="ext2fs", description="café", device="/dev/sdb3", first_file="backup.img",
        uname=("Linux", "box", "6.1", "#1", "x86_64"), compression=0, flags=0,
        created="2026-11-20T05:41:07", partition_size=123456, hostname="host\\xe9",
        version="0.6.9", mbr_count=2, mbr_size=2048,
    )  # fmt: skip


def _summed(data: bytes) -> bytes:
    return data + writer.header_sum(data)


def test_bad_main_headers() -> None:
    good = writer.main_header(1000)
    with pytest.raises(ChecksumError, match=r"partimage.main_header @0x0: checksum 0 is"):
        layout.parse_main_header(good + b"\0\0\0\0")
    with pytest.raises(UnsupportedFeatureError, match=r"@0x2648: encrypted \(method 1\)"):
        layout.parse_main_header(_summed(writer.main_header(1000, encrypt=1)))
    for size in (0, 1 << 63):
        with pytest.raises(CorruptImageError, match=f"@0x2578: partition size {size}"):
            layout.parse_main_header(_summed(writer.main_header(size)))
    odd = bytearray(writer.main_header(1000, 1))
    odd[9796:9800] = struct.pack("<I", 0xFFFFFFFF)
    with pytest.raises(CorruptImageError, match="boot sectors of 4294967295 bytes, not 2048"):
        layout.parse_main_header(_summed(bytes(odd)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, 1, 2, 9), "block size 0 is no multiple of 512 up to 256 KiB"),
        ((513, 1, 2, 9), "block size 513 is no multiple"),
        ((512 << 10, 1, 2, 9), "block size 524288 is no multiple"),
        ((512, 1, 0, 9), "0 blocks of 512 bytes"),
        ((512, 1, 1 << 60, 1 << 60), "blocks of 512 bytes in a partition of 100000"),
        ((512, 11, 10, 9), "11 of 10 blocks used"),
        ((512, 1, 17, 2), "a bitmap of 2 bytes for 17 blocks"),
    ],
)
def test_bad_local_headers(fields: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(CorruptImageError, match=message):
        layout.parse_local_header(_summed(writer.local_header(*fields)), 77, 100_000)


# -- whole images ----------------------------------------------------------


def test_every_field_is_kept(tmp_path: Path) -> None:
    (path,) = save(tmp_path, PLAIN)
    with detect.open_files(str(path)) as stored:
        info = scan_files(stored).info
    assert (info.format, info.format_version, info.creator, info.fs_type) == (
        "partimage", "0.6", "0.6.9", "ext2fs",
    )  # fmt: skip
    assert (info.size, info.block_size, info.total_blocks, info.used_blocks) == (
        160 * 512, 512, 160, 120,
    )  # fmt: skip
    assert info.checksum == "crc32"
    assert info.header["description"] == "my disk\n2nd line"
    assert info.header["label"] == "a label"
    assert info.header["original_device"] == "/dev/sdb3"
    assert info.header["creation_date"] == "2026-11-20T05:41:07"
    assert (info.damage, info.warnings) == (None, ())


def test_a_stream_that_ends_early_is_refused_or_served_as_far_as_it_goes() -> None:
    written = writer.write(PLAIN)
    stream = written.stream
    lengths = [
        *range(0, written.data_offset, 997),
        *range(written.data_offset - 9, written.data_stop, 611),
    ]
    for length in lengths:
        source = MemorySource(stream[:length])
        if length < written.data_offset:
            with pytest.raises(FormatError):
                reader.scan(source)
            continue
        scan = reader.scan(source)
        there = (length - written.data_offset) // 512
        assert scan.info.damage is not None
        assert f"{120 - there} blocks are missing" in scan.info.damage
        opened = open_scanned(source, scan)
        for block, offset in written.block_offsets.items():
            if offset + 512 <= length:
                start = block * 512
                assert read_bytes(opened, start, 512) == written.guest[start : start + 512]
            else:
                with pytest.raises(TruncatedImageError):
                    read_bytes(opened, block * 512, 512)


def test_a_bitmap_that_marks_more_than_there_is_is_refused() -> None:
    written = writer.write(dataclasses.replace(PLAIN, with_tail=False))
    stream = bytearray(written.stream)
    stream[written.bitmap_offset : written.bitmap_offset + 20] = b"\xff" * 20
    with pytest.raises(CorruptImageError, match="160 blocks are marked as used, but the header"):
        reader.scan(MemorySource(bytes(stream)))
    stream[written.bitmap_offset : written.bitmap_offset + 20] = bytes(20)
    (warning,) = (
        w for w in reader.scan(MemorySource(bytes(stream))).info.warnings if "counts" in w
    )
    assert "the bitmap marks 0: the bitmap is trusted" in warning


@pytest.mark.parametrize(
    "magic", [b"MBRBACKUP", b"EXT003", b"LOCALHEADER", b"BITMAP", b"INFO", b"DATABLOCKS"]
)
def test_a_magic_that_is_not_where_it_must_be(magic: bytes) -> None:
    stream = writer.write(PLAIN).stream
    at = stream.index(b"MAGIC-BEGIN-" + magic)
    with pytest.raises(CorruptImageError, match=f"partimage.magic @0x{at:x}: .* belongs"):
        reader.scan(MemorySource(stream[:at] + b"X" + stream[at + 1 :]))


@pytest.mark.parametrize("structure", ["main_header", "local_header", "info_header"])
def test_a_flipped_bit_in_a_header(structure: str) -> None:
    stream = bytearray(writer.write(PLAIN).stream)
    at = {
        "main_header": 12_000,
        "local_header": stream.index(b"LOCALHEADER") + 9000,
        "info_header": stream.index(b"BEGIN-INFO") + 9000,
    }[structure]
    stream[at] ^= 16
    with pytest.raises(ChecksumError, match=f"partimage.{structure}"):
        reader.scan(MemorySource(bytes(stream)))


def test_absurd_numbers_size_no_allocation() -> None:
    stream = writer.write(PLAIN).stream
    at = stream.index(b"MAGIC-BEGIN-EXT000") + 18
    with pytest.raises(TruncatedImageError, match=r"partimage\.magic"):
        reader.scan(MemorySource(stream[:at] + b"\xff\xff\xff\xff" + stream[at + 4 :]))
    at = stream.index(b"MAGIC-BEGIN-LOCALHEADER") + 23
    local = writer.local_header(512, 120, 160, 1 << 50)
    changed = stream[:at] + _summed(local) + stream[at + 16388 :]
    with pytest.raises(TruncatedImageError, match="1125899906842624 bytes of it belong here"):
        reader.scan(MemorySource(changed))


# -- volumes ---------------------------------------------------------------

SPLIT = dataclasses.replace(PLAIN, volume_sizes=(40_000, 30_000, 20_000))


def test_any_volume_leads_to_all(tmp_path: Path) -> None:
    paths = save(tmp_path, SPLIT)
    save(tmp_path, PLAIN, "sda")
    save(tmp_path, PLAIN, "sda1.000")
    assert len(paths) == 4
    for path in paths:
        assert volumes_of(path) == [str(each) for each in paths]
        assert detect.first_file(str(path)) == str(paths[0])
    other = tmp_path / "other.001"
    assert detect.first_file(str(other)) == str(other)
    other.write_bytes(paths[1].read_bytes())
    assert detect.first_file(str(other)) == str(other)


def test_a_lone_file_of_any_name(tmp_path: Path) -> None:
    path = save(tmp_path, PLAIN)[0].rename(tmp_path / "renamed.img")
    assert volumes_of(path) == [str(path)]


def test_missing_foreign_and_swapped_volumes_are_named(tmp_path: Path) -> None:
    paths = save(tmp_path, SPLIT)
    kept = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(TruncatedImageError, match=f"{paths[1]} is missing"):
        volumes_of(paths[0])
    (foreign,) = writer.write(dataclasses.replace(PLAIN, identifier=9)).volumes
    paths[1].write_bytes(foreign)
    with pytest.raises(CorruptImageError, match=f"{paths[1]} belongs to another image"):
        volumes_of(paths[0])
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(CorruptImageError, match=f"{paths[1]} is volume 2, not 1"):
        volumes_of(paths[0])
    paths[1].write_bytes(b"something else")
    with pytest.raises(CorruptImageError, match=f"{paths[1]}: not a partimage volume"):
        volumes_of(paths[0])
    paths[1].write_bytes(kept)
    later = paths[2].rename(tmp_path / "later.img")
    with pytest.raises(CorruptImageError, match="is volume 2: name the volumes"):
        volumes_of(later)


def test_a_last_volume_that_is_missing_costs_only_its_blocks(tmp_path: Path) -> None:
    paths = save(tmp_path, SPLIT)
    paths[-1].unlink()
    with detect.open_files(str(paths[0])) as stored:
        info = scan_files(stored).info
    assert info.damage is not None
    assert "if there is another volume, put it beside the first" in info.damage


# -- verification ----------------------------------------------------------

LARGE = writer.Recipe(present=[True] * 400, block_size=512, volume_sizes=(100_000,))


def _findings(stream: bytes) -> list[Finding]:
    scan = reader.scan(MemorySource(writer.write(LARGE).stream))
    source, index = MemorySource(stream), scan.stored_index()
    return list(verify.verify("partimage", source, scan.info.layout, index, jobs=2))


def test_each_flipped_bit_is_found_in_its_place() -> None:
    written = writer.write(LARGE)
    assert _findings(written.stream) == []
    # Three full groups of 128 blocks, and 16 blocks without a check of their own.
    for block, expected in ((0, (0, 65536)), (200, (65536, 131072)), (399, (196608, 204800))):
        stream = bytearray(written.stream)
        stream[written.block_offsets[block] + 5] ^= 1
        (found,) = _findings(bytes(stream))
        assert (found.start, found.stop) == expected
    stream = bytearray(written.stream)
    stream[written.data_offset + 65536 + 5] ^= 1
    (found,) = _findings(bytes(stream))
    assert (found.start, found.stop) == (0, 65536)
    stream = bytearray(written.stream)
    stream[9000] ^= 1
    (found,) = _findings(bytes(stream))
    assert found.start is None
    assert "partimage.main_header" in found.detail
