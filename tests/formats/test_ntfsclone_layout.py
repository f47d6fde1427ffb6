"""ntfsclone headers and gaps: bytes to record, and bad bytes to the exact error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.errors import (
    CorruptImageError,
    FormatError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.ntfsclone.layout import MAGIC, Header, parse_gap, parse_header
from support.ntfsclone_writer import gap, header

_MAGIC_HEX = "006e7466 73636c6f 6e652d69 6d616765"

_GOOD = {
    # The first bytes of what ntfsclone 2022.10.3 saved.
    "observed-512": (
        _MAGIC_HEX + "0a01 00020000 0002000300000000 0080010000000000 7e13000000000000 38000000",
        Header(10, 1, 512, 50332160, 98304, 4990, 56),
    ),
    "observed-4096": (
        _MAGIC_HEX + "0a01 00100000 0002000300000000 0030000000000000 7102000000000000 38000000",
        Header(10, 1, 4096, 50332160, 12288, 625, 56),
    ),
    "observed-65536": (
        _MAGIC_HEX + "0a01 00000100 0002000300000000 0003000000000000 2f00000000000000 38000000",
        Header(10, 1, 65536, 50332160, 768, 47, 56),
    ),
    "10.0": (
        _MAGIC_HEX + "0a00 00020000 0050000000000000 2800000000000000 0700000000000000 32000000",
        Header(10, 0, 512, 20480, 40, 7, 50),
    ),
    # What was an offset to the data is the beginning of the data here.
    "3.1": (
        _MAGIC_HEX + "0301 00020000 0050000000000000 2800000000000000 0700000000000000 01ff",
        Header(3, 1, 512, 20480, 40, 7, 46),
    ),
}


@pytest.mark.parametrize(("text", "record"), _GOOD.values(), ids=_GOOD)
def test_hex_to_record(text: str, record: Header) -> None:
    assert parse_header(bytes.fromhex(text)) == record


@pytest.mark.parametrize(
    ("major", "minor", "version", "has_backup_boot"),
    [(1, 2, "1.2", False), (3, 1, "3.1", False), (9, 255, "9.255", False), (10, 0, "10.0", False),
     (10, 1, "10.1", True), (10, 7, "10.7", True)],
)  # fmt: skip
def test_versions(major: int, minor: int, version: str, has_backup_boot: bool) -> None:
    data = header(device_size=5000, cluster_count=9, major=major, minor=minor)
    record = parse_header(data)
    assert (record.version, record.has_backup_boot) == (version, has_backup_boot)
    assert record.data_offset == (46 if major < 10 else 56)


def _changed(**fields: int) -> bytes:
    values = {"device_size": 512 * 40 + 512, "cluster_count": 40, "used": 3} | fields
    return header(**values)


_SIZE_TEXT = "is no power of two from 256 to 2097152"
_BAD = {
    "another magic": (
        b"ntfsclone-image\0" + bytes(60), NotThisFormatError,
        "ntfsclone.header @0x0: not an ntfsclone image",
    ),
    "nothing": (b"", NotThisFormatError, "ntfsclone.header @0x0: not an ntfsclone image"),
    "cut-off magic": (
        MAGIC[:15], NotThisFormatError, "ntfsclone.header @0x0: not an ntfsclone image"
    ),
    "only the magic": (
        MAGIC, TruncatedImageError,
        "ntfsclone.header @0x10: the file ends 30 bytes before the header does",
    ),
    "cut-off old header": (
        _changed(major=3)[:45], TruncatedImageError,
        "ntfsclone.header @0x2d: the file ends 1 bytes before the header does",
    ),
    "cut-off offset": (
        _changed()[:49], TruncatedImageError,
        "ntfsclone.header @0x31: the file ends 1 bytes before the header does",
    ),
    "11.0": (
        _changed(major=11, minor=0), UnsupportedFeatureError,
        "ntfsclone.header @0x10: format 11.0; up to 10.1 is known: ask for a newer imgcat",
    ),
    "255.1": (
        _changed(major=255), UnsupportedFeatureError,
        "ntfsclone.header @0x10: format 255.1; up to 10.1 is known: ask for a newer imgcat",
    ),
    "data inside of the header": (
        _changed(data_offset=49), CorruptImageError,
        "ntfsclone.header @0x2e: data at 49, inside of the header of 50",
    ),
    "data at zero": (
        _changed(data_offset=0), CorruptImageError,
        "ntfsclone.header @0x2e: data at 0, inside of the header of 50",
    ),
    "cluster size 0": (
        _changed(cluster_size=0), CorruptImageError,
        f"ntfsclone.header @0x12: cluster size 0 {_SIZE_TEXT}",
    ),
    "cluster size 128": (
        _changed(cluster_size=128), CorruptImageError,
        f"ntfsclone.header @0x12: cluster size 128 {_SIZE_TEXT}",
    ),
    "cluster size 513": (
        _changed(cluster_size=513), CorruptImageError,
        f"ntfsclone.header @0x12: cluster size 513 {_SIZE_TEXT}",
    ),
    "cluster size 4 MiB": (
        _changed(cluster_size=4 << 20), CorruptImageError,
        f"ntfsclone.header @0x12: cluster size 4194304 {_SIZE_TEXT}",
    ),
    "no device": (
        _changed(device_size=0), CorruptImageError, "ntfsclone.header @0x16: device size 0"
    ),
    "negative device": (
        _changed(device_size=-1), CorruptImageError, "ntfsclone.header @0x16: device size -1"
    ),
    "no clusters": (
        _changed(cluster_count=0), CorruptImageError, "ntfsclone.header @0x1e: 0 clusters"
    ),
    "negative clusters": (
        _changed(cluster_count=-5), CorruptImageError, "ntfsclone.header @0x1e: -5 clusters"
    ),
    "clusters beyond the device": (
        _changed(cluster_count=42), CorruptImageError,
        "ntfsclone.header @0x1e: 42 clusters of 512 bytes are more than the device's 20992",
    ),
    "a product beyond 64 bits": (
        _changed(cluster_count=1 << 62, device_size=(1 << 63) - 1), CorruptImageError,
        ("ntfsclone.header @0x1e: 4611686018427387904 clusters of 512 bytes are more than the "
         "device's 9223372036854775807"),
    ),
    # Saved on a big-endian machine.
    "other byte order": (
        MAGIC + b"\x03\x01" + struct.pack(">IqqQ", 4096, 64 << 20, 16384, 9), CorruptImageError,
        ("ntfsclone.header @0x1e: 18014398509481984 clusters of 1048576 bytes are more than the "
         "device's 17179869184"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "error", "message"), _BAD.values(), ids=_BAD)
def test_bad_header_to_message(data: bytes, error: type[FormatError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_header(data)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize("size", [256 << shift for shift in range(14)])
def test_every_cluster_size(size: int) -> None:
    assert parse_header(_changed(cluster_size=size, device_size=40 * size)).cluster_size == size


@pytest.mark.parametrize("count", [1, -1, 5, -(1 << 63), (1 << 63) - 1])
def test_gaps(count: int) -> None:
    assert parse_gap(gap(count), 0) == count
    assert parse_gap(memoryview(gap(count)), 0) == count


def test_bad_gaps() -> None:
    with pytest.raises(CorruptImageError, match=r"^ntfsclone.gap @0x4d: of zero clusters$"):
        parse_gap(gap(0), 77)
    for length in range(9):
        with pytest.raises(
            TruncatedImageError, match=r"^ntfsclone.gap @0x4d: the file ends inside of it$"
        ):
            parse_gap(gap(3)[:length], 77)


@pytest.mark.parametrize(
    ("cluster_size", "device_size"), [(512, 5120), (512, 5632), (4096, 41984), (4096, 90000)]
)
def test_record_sizes_are_what_is_left_of_the_device(cluster_size: int, device_size: int) -> None:
    record = Header(10, 1, cluster_size, device_size, device_size // cluster_size, 0, 56)
    for cluster in range(record.cluster_count + 1):
        left = max(0, device_size - cluster * cluster_size)
        assert record.record_size(cluster) == min(cluster_size, left)


@given(st.binary(max_size=60))
def test_any_bytes_behind_the_magic(rest: bytes) -> None:
    try:
        record = parse_header(MAGIC + rest)
    except FormatError:
        return
    assert 0 < record.cluster_count * record.cluster_size <= record.device_size
