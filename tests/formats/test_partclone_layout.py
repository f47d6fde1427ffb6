"""partclone headers: hex to record, and bad hex to the exact error."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats import registry
from imgcat.formats.errors import (
    ChecksumError,
    CorruptImageError,
    FormatError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.partclone.layout import (
    BitmapMode,
    ChecksumMode,
    Header,
    crc32_register,
    parse_header,
)
from support.memory_source import MemorySource
from support.partclone_writer import crc_register, header_v1, header_v2

if TYPE_CHECKING:
    from support.samples import Sample

# --- hex to record -----------------------------------------------------------------------------

_MAGIC = "70617274636c6f6e652d696d616765"  # partclone-image
_0_3_23 = "00 302e332e3233 0000000000000000 30303032 dec0"
_0_3_47 = "00 302e332e3437 0000000000000000 30303032 dec0"
_EXTFS = "4558544653 0000000000000000000000"
_COUNTS = (
    "0000900000000000"  # device size 9437184
    "0024000000000000"  # 9216 blocks
    "8107000000000000"  # 1921 used, by the superblock
    "8107000000000000"  # 1921 used, by the bitmap
    "00040000"  # block size 1024
    "12000000 0200 4000"  # feature size 18, image version 2, 64 bits
)


def _v2(
    creator: str,
    mode: ChecksumMode,
    size: int,
    blocks: int,
    crc: int,
    *,
    reseed: bool = True,
) -> Header:
    return Header(
        version="0002",
        creator=creator,
        fs_type="EXTFS",
        device_size=9437184,
        total_blocks=9216,
        used_superblock=1921,
        used_bitmap=1921,
        block_size=1024,
        header_size=110,
        cpu_bits=64,
        checksum_mode=mode,
        checksum_size=size,
        blocks_per_checksum=blocks,
        reseed=reseed,
        bitmap_mode=BitmapMode.BIT,
        header_crc32=crc,
    )


_V1_HEX = (
    _MAGIC + "4558544653 00000000000000000000 30303031 0000"
    "00040000 0000900000000000 0024000000000000 8107000000000000"
) + "00" * 4096

_V1_RECORD = Header(
    version="0001",
    creator=None,
    fs_type="EXTFS",
    device_size=9437184,
    total_blocks=9216,
    used_superblock=1921,
    used_bitmap=1921,
    block_size=1024,
    header_size=4160,
    cpu_bits=None,
    checksum_mode=ChecksumMode.CRC32_0001,
    checksum_size=4,
    blocks_per_checksum=1,
    reseed=False,
    bitmap_mode=BitmapMode.BYTE,
    header_crc32=None,
)

_GOOD = {
    "ext4-0.2.89-v0001": (_V1_HEX, _V1_RECORD),
    "ext4-0.3.23": (
        _MAGIC + _0_3_23 + _EXTFS + _COUNTS + "2000 0400 00040000 01 01 02bbb1cf",
        _v2("0.3.23", ChecksumMode.CRC32, 4, 1024, 0xCFB1BB02),
    ),
    "ext4-0.3.47-a0": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "0000 0000 00000000 01 01 12c37b36",
        _v2("0.3.47", ChecksumMode.NONE, 0, 0, 0x367BC312),
    ),
    "ext4-0.3.47-a1": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "2000 0400 00040000 01 01 f868ec08",
        _v2("0.3.47", ChecksumMode.CRC32, 4, 1024, 0x08EC68F8),
    ),
    "ext4-0.3.47-a1-k1": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "2000 0400 01000000 01 01 9d1d3036",
        _v2("0.3.47", ChecksumMode.CRC32, 4, 1, 0x36301D9D),
    ),
    "ext4-0.3.47-a1-noreseed": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "2000 0400 40000000 00 01 15f52feb",
        _v2("0.3.47", ChecksumMode.CRC32, 4, 64, 0xEB2FF515, reseed=False),
    ),
    "ext4-0.3.47-a2": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "3000 0800 00040000 01 01 5ffced78",
        _v2("0.3.47", ChecksumMode.XXH64, 8, 1024, 0x78EDFC5F),
    ),
    "ext4-0.3.47-a3": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "3100 1000 00040000 01 01 ffbd7138",
        _v2("0.3.47", ChecksumMode.XXH128, 16, 1024, 0x3871BDFF),
    ),
    "ext4-0.3.47-a3-k7-noreseed": (
        _MAGIC + _0_3_47 + _EXTFS + _COUNTS + "3100 1000 07000000 00 01 c61aefc9",
        _v2("0.3.47", ChecksumMode.XXH128, 16, 7, 0xC9EF1AC6, reseed=False),
    ),
}


@pytest.mark.parametrize(("text", "record"), _GOOD.values(), ids=_GOOD)
def test_hex_to_record(text: str, record: Header) -> None:
    assert parse_header(bytes.fromhex(text)) == record


@pytest.mark.parametrize("name", _GOOD)
def test_the_hex_is_that_of_the_real_image(name: str, samples_by_name: dict[str, Sample]) -> None:
    header = bytes.fromhex(_GOOD[name][0])
    assert samples_by_name[name].path.read_bytes()[: len(header)] == header


@pytest.mark.parametrize(
    ("name", "bitmap_size", "data_offset"),
    [("ext4-0.2.89-v0001", 9216, 4160 + 9216 + 8), ("ext4-0.3.47-a0", 1152, 110 + 1152 + 4)],
)
def test_where_the_data_begins(name: str, bitmap_size: int, data_offset: int) -> None:
    header = _GOOD[name][1]
    assert header.bitmap_size == bitmap_size
    assert header.data_offset == data_offset


def test_without_a_bitmap_the_data_follow_the_header() -> None:
    header = parse_header(
        header_v2(device_size=640, total_blocks=10, used_bitmap=10, block_size=64, bitmap="NONE")
    )
    assert header.bitmap_size == 0
    assert header.data_offset == 110


def test_what_follows_the_header_does_not_matter() -> None:
    text, record = _GOOD["ext4-0.3.47-a3"]
    assert parse_header(bytes.fromhex(text) + b"\xff" * 5000) == record
    assert parse_header(bytes.fromhex(_V1_HEX) + b"\xff" * 5000) == _V1_RECORD


def test_names_may_fill_their_fields() -> None:
    header = parse_header(
        header_v2(
            device_size=64,
            total_blocks=1,
            used_bitmap=0,
            block_size=64,
            creator=b"0.3.47-pre-rel",
            fs_type=b"sixteen-letters!",
        )
    )
    assert header.creator == "0.3.47-pre-rel"
    assert header.fs_type == "sixteen-letters!"


def test_names_that_are_not_text_are_kept_readable() -> None:
    header = parse_header(
        header_v2(
            device_size=64, total_blocks=1, used_bitmap=0, block_size=64, fs_type=b"NT\xff\nS\0xx"
        )
    )
    assert header.fs_type == "NT\\xff\nS"


@pytest.mark.parametrize("cpu_bits", [0, 32, 64, 65535])
def test_the_writers_word_size_is_informational(cpu_bits: int) -> None:
    header = parse_header(
        header_v2(device_size=64, total_blocks=1, used_bitmap=0, block_size=64, cpu_bits=cpu_bits)
    )
    assert header.cpu_bits == cpu_bits


def test_the_superblocks_count_is_informational() -> None:
    # It was seen below and above the bitmap's count, and may be above the number of blocks.
    header = parse_header(
        header_v2(
            device_size=64, total_blocks=1, used_bitmap=1, block_size=64, used_superblock=4151
        )
    )
    assert header.used_superblock == 4151
    assert header.used_bitmap == 1


def test_checksum_mode_none_may_name_blocks_per_checksum() -> None:
    header = parse_header(
        header_v2(
            device_size=64,
            total_blocks=1,
            used_bitmap=0,
            block_size=64,
            checksum="NONE",
            blocks_per_checksum=256,
        )
    )
    assert header.checksum_mode is ChecksumMode.NONE
    assert header.checksum_size == 0


@pytest.mark.parametrize(
    ("block_size", "total_blocks", "device_size"),
    [
        (1, 1, 1),
        (64 << 20, 1, 64 << 20),
        (1, (1 << 63) - 1, (1 << 63) - 1),
        (64 << 20, (1 << 37) - 1, (1 << 63) - 1),
        (512, 1, (1 << 63) - 1),
    ],
)
def test_bounds_are_inclusive(block_size: int, total_blocks: int, device_size: int) -> None:
    header = parse_header(
        header_v2(
            device_size=device_size,
            total_blocks=total_blocks,
            used_bitmap=total_blocks,
            block_size=block_size,
        )
    )
    assert (header.block_size, header.total_blocks) == (block_size, total_blocks)
    assert header.device_size == device_size


def test_version_1_may_name_a_device_smaller_than_its_blocks() -> None:
    header = parse_header(header_v1(device_size=5, total_blocks=9, used_bitmap=9, block_size=512))
    assert header.device_size == 5


def _naive(data: bytes, register: int) -> int:
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    return register


@given(data=st.binary(max_size=300), seed=st.integers(0, 0xFFFFFFFF))
def test_crc_register_is_the_naive_one_and_chains(data: bytes, seed: int) -> None:
    assert crc32_register(data) == crc_register(data) == _naive(data, 0xFFFFFFFF)
    assert crc32_register(data, seed) == crc_register(data, seed) == _naive(data, seed)
    half = len(data) // 2
    assert crc32_register(data[half:], crc32_register(data[:half])) == crc32_register(data)


# --- bad hex to error --------------------------------------------------------------------------

_V2_HEX = _GOOD["ext4-0.3.47-a1"][0]


def _patched(text: str, *changes: tuple[int, str, int]) -> bytes:
    """Return the header with numbers written over it: (offset, struct format, value)."""
    data = bytearray.fromhex(text)
    for offset, form, value in changes:
        struct.pack_into(form, data, offset, value)
    return bytes(data)


def _resealed(*changes: tuple[int, str, int]) -> bytes:
    """Return a header of version 0002 with numbers written over it, its checksum right."""
    data = _patched(_V2_HEX, *changes)
    return data[:106] + crc_register(data[:106]).to_bytes(4, "little")


_BIG_ENDIAN = "written on a big-endian machine: restore it with partclone on such a machine"
_BIG_V2_HEADER = header_v2(
    device_size=9437184, total_blocks=9216, used_bitmap=1921, block_size=1024, big_endian=True
)
_BIG_V1_HEADER = header_v1(
    device_size=9437184, total_blocks=9216, used_bitmap=1921, block_size=1024, big_endian=True
)

_BAD: dict[str, tuple[bytes, type[FormatError], str]] = {
    "no magic": (
        b"\0" * 5000,
        NotThisFormatError,
        "@0x0: the partclone magic is not there",
    ),
    "magic in capitals": (
        bytes.fromhex(_V2_HEX).upper(),
        NotThisFormatError,
        "@0x0: the partclone magic is not there",
    ),
    "version 0003": (
        _patched(_V2_HEX, (33, "B", ord("3"))),
        UnsupportedFeatureError,
        "@0x1e: format version '0003': versions 0001 and 0002 are read",
    ),
    "version not text": (
        _patched(_V2_HEX, (30, "<I", 0xFFFFFFFF)),
        UnsupportedFeatureError,
        "@0x1e: format version '\\\\xff\\\\xff\\\\xff\\\\xff': versions 0001 and 0002 are read",
    ),
    "big-endian 0002": (
        _BIG_V2_HEADER,
        UnsupportedFeatureError,
        f"@0x22: {_BIG_ENDIAN}",
    ),
    "big-endian 0001": (
        _BIG_V1_HEADER,
        UnsupportedFeatureError,
        f"@0x24: {_BIG_ENDIAN}",
    ),
    "byte order mark of neither order": (
        _resealed((34, "<H", 0x1234)),
        CorruptImageError,
        "@0x22: byte order mark is 0x1234",
    ),
    "checksum": (
        _patched(_V2_HEX, (106, "<I", 0x12345678)),
        ChecksumError,
        (
            "@0x0: checksum 0 is 0x8ec68f8, but 0x12345678 is stored: "
            "the bytes were changed after they were written"
        ),
    ),
    "feature size": (
        _resealed((88, "<I", 19)),
        UnsupportedFeatureError,
        "@0x58: feature size 19, image version 2: 18 and 2 are read",
    ),
    "image version": (
        _resealed((92, "<H", 3)),
        UnsupportedFeatureError,
        "@0x58: feature size 18, image version 3: 18 and 2 are read",
    ),
    "checksum mode of the command line": (
        _resealed((96, "<H", 1)),
        UnsupportedFeatureError,
        "@0x60: checksum mode 0x1: none, CRC32, XXH64, XXH128 are read",
    ),
    "checksum mode of 0001": (
        _resealed((96, "<H", 0xFF)),
        UnsupportedFeatureError,
        "@0x60: checksum mode 0xff: none, CRC32, XXH64, XXH128 are read",
    ),
    "checksum mode out of range": (
        _resealed((96, "<H", 0xFFFF)),
        UnsupportedFeatureError,
        "@0x60: checksum mode 0xffff: none, CRC32, XXH64, XXH128 are read",
    ),
    "CRC32 size": (
        _resealed((98, "<H", 8)),
        CorruptImageError,
        "@0x62: CRC32 with checksums of 8 bytes",
    ),
    "CRC32 without bytes": (
        _resealed((98, "<H", 0)),
        CorruptImageError,
        "@0x62: CRC32 with checksums of 0 bytes",
    ),
    "XXH64 size": (
        _resealed((96, "<H", 0x30), (98, "<H", 16)),
        CorruptImageError,
        "@0x62: XXH64 with checksums of 16 bytes",
    ),
    "XXH128 size": (
        _resealed((96, "<H", 0x31), (98, "<H", 65535)),
        CorruptImageError,
        "@0x62: XXH128 with checksums of 65535 bytes",
    ),
    "none with bytes": (
        _resealed((96, "<H", 0)),
        CorruptImageError,
        "@0x62: NONE with checksums of 4 bytes",
    ),
    "no blocks per checksum": (
        _resealed((100, "<I", 0)),
        CorruptImageError,
        "@0x64: CRC32 with 0 blocks per checksum",
    ),
    "byte bitmap": (
        _resealed((105, "B", 8)),
        UnsupportedFeatureError,
        "@0x69: a byte bitmap in format 0002: no release writes one",
    ),
    "bitmap mode": (
        _resealed((105, "B", 2)),
        UnsupportedFeatureError,
        "@0x69: bitmap mode 2: 0 and 1 are read",
    ),
    "block size 0": (_resealed((84, "<I", 0)), CorruptImageError, "@0x54: block size 0"),
    "block size too large": (
        _resealed((84, "<I", (64 << 20) + 1)),
        CorruptImageError,
        "@0x54: block size 67108865",
    ),
    "block size largest": (
        _resealed((84, "<I", 0xFFFFFFFF)),
        CorruptImageError,
        "@0x54: block size 4294967295",
    ),
    "no blocks": (_resealed((60, "<Q", 0)), CorruptImageError, "@0x3c: 0 blocks"),
    "blocks overflow by one": (
        _resealed((84, "<I", 1), (60, "<Q", 1 << 63)),
        CorruptImageError,
        "@0x3c: 9223372036854775808 blocks of 1 bytes: more than a file can have",
    ),
    "blocks overflow 64 bits": (
        _resealed((60, "<Q", (1 << 54) + 1)),
        CorruptImageError,
        "@0x3c: 18014398509481985 blocks of 1024 bytes: more than a file can have",
    ),
    "blocks largest": (
        _resealed((60, "<Q", (1 << 64) - 1)),
        CorruptImageError,
        "@0x3c: 18446744073709551615 blocks of 1024 bytes: more than a file can have",
    ),
    "more used than there are": (
        _resealed((76, "<Q", 9217)),
        CorruptImageError,
        "@0x4c: 9217 of 9216 blocks used",
    ),
    "device larger than a file": (
        _resealed((52, "<Q", 1 << 63)),
        CorruptImageError,
        "@0x34: device size 9223372036854775808",
    ),
    "device smaller than its blocks": (
        _resealed((52, "<Q", 9437183)),
        CorruptImageError,
        "@0x34: 9216 blocks of 1024 bytes on a device of 9437183",
    ),
    "0001 block size 0": (
        _patched(_V1_HEX, (36, "<I", 0)),
        CorruptImageError,
        "@0x24: block size 0",
    ),
    "0001 block size too large": (
        _patched(_V1_HEX, (36, "<I", (64 << 20) + 1)),
        CorruptImageError,
        "@0x24: block size 67108865",
    ),
    "0001 no blocks": (_patched(_V1_HEX, (48, "<Q", 0)), CorruptImageError, "@0x30: 0 blocks"),
    "0001 blocks overflow": (
        _patched(_V1_HEX, (48, "<Q", 1 << 53)),
        CorruptImageError,
        "@0x30: 9007199254740992 blocks of 1024 bytes: more than a file can have",
    ),
    "0001 more used than there are": (
        _patched(_V1_HEX, (56, "<Q", 9217)),
        CorruptImageError,
        "@0x38: 9217 of 9216 blocks used",
    ),
    "0001 device larger than a file": (
        _patched(_V1_HEX, (40, "<Q", 1 << 63)),
        CorruptImageError,
        "@0x28: device size 9223372036854775808",
    ),
}


@pytest.mark.parametrize(("data", "kind", "message"), _BAD.values(), ids=_BAD)
def test_bad_header_to_error(data: bytes, kind: type[FormatError], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_header(data)
    assert type(caught.value) is kind
    assert str(caught.value) == f"partclone.header {message}"


def test_checksum_error_tells_both_values() -> None:
    with pytest.raises(ChecksumError) as caught:
        parse_header(_BAD["checksum"][0])
    assert caught.value.group == 0
    assert (caught.value.expected, caught.value.actual) == (0x12345678, 0x08EC68F8)


@pytest.mark.parametrize("offset", range(36, 106))
def test_every_changed_byte_is_found_by_the_checksum(offset: int) -> None:
    data = bytearray.fromhex(_V2_HEX)
    data[offset] ^= 0x40
    with pytest.raises(ChecksumError):
        parse_header(bytes(data))


# --- truncation --------------------------------------------------------------------------------

_V1_LENGTHS = [*range(130), *range(130, 4140, 131), *range(4140, 4160)]


@pytest.mark.parametrize(
    ("text", "lengths"),
    [(_V2_HEX, range(110)), (_V1_HEX, _V1_LENGTHS)],
    ids=["0002", "0001"],
)
def test_truncated_header(text: str, lengths: list[int]) -> None:
    whole = bytes.fromhex(text)
    for length in lengths:
        with pytest.raises(FormatError) as caught:
            parse_header(whole[:length])
        error = caught.value
        assert error.structure == "partclone.header"
        if length < 15:
            assert type(error) is NotThisFormatError
            continue
        assert type(error) is TruncatedImageError
        assert error.offset == length
        if length >= 34:  # before, nobody knows how long the header would have been
            missing = len(whole) - length
            assert error.detail == f"the file ends {missing} bytes before the header does"


@pytest.mark.parametrize(
    ("text", "lengths"),
    [(_V2_HEX, range(111)), (_V1_HEX, _V1_LENGTHS)],
    ids=["0002", "0001"],
)
def test_scan_of_a_truncated_header(text: str, lengths: list[int]) -> None:
    whole = bytes.fromhex(text)
    for length in lengths:
        with pytest.raises(FormatError) as caught:
            registry.scan(MemorySource(whole[:length]))
        error = caught.value
        if length == 0:
            assert str(error) == "image @0x0: the file is empty"
            assert type(error) is NotThisFormatError
        elif length < 15:
            begin = whole[:length].hex(" ")
            message = f"image @0x0: no disk image of a known format (it begins with {begin})"
            assert str(error) == message
            assert type(error) is NotThisFormatError
        else:
            assert type(error) is TruncatedImageError
