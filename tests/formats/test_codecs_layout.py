"""The headers of zstd, lz4, xz and bzip2, and entering deflate: bytes to records, or a message."""

from __future__ import annotations

import bz2
import itertools
import lzma
import zlib

import pytest
import xxhash
import zstandard
from imgcat.formats.codecs.bzip2 import layout as bzip2_layout
from imgcat.formats.codecs.gzip import deflate
from imgcat.formats.codecs.lz4 import layout as lz4_layout
from imgcat.formats.codecs.xz import layout as xz_layout
from imgcat.formats.codecs.zstd import layout as zstd_layout
from imgcat.formats.errors import (
    ChecksumError,
    CorruptImageError,
    FormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from support.memory_source import MemorySource
from support.streams import compress, mixed, packed_mixed

# -- zstd ------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("28b52ffd 00 58", (6, 2 * MIB, False)),
        ("28b52ffd 04 58", (6, 2 * MIB, True)),
        ("28b52ffd 00 00", (6, 1024, False)),
        ("28b52ffd 00 07", (6, 1920, False)),
        ("28b52ffd 00 88", (6, 128 * MIB, False)),
        ("28b52ffd 20 ff", (6, 255, False)),
        ("28b52ffd 60 0001", (7, 512, False)),
        ("28b52ffd a4 00000100", (9, 65536, True)),
        ("28b52ffd e0 0000000001000000", (13, 128 * MIB, False)),
        ("28b52ffd 80 58 00000100", (10, 2 * MIB, False)),
        ("28b52ffd 01 58 00", (7, 2 * MIB, False)),
        ("28b52ffd 22 0000 09", (8, 9, False)),
        ("28b52ffd 03 58 00000000", (10, 2 * MIB, False)),
    ],
)
def test_zstd_frame_headers(data: str, expected: tuple[int, int, bool]) -> None:
    octets = bytes.fromhex(data)
    assert tuple(zstd_layout.parse_frame_header(octets, 0)) == expected
    # The same as the library finds, which gives no window of single segments as we do.
    assert zstandard.frame_header_size(octets) == expected[0]
    with pytest.raises(CorruptImageError, match="the stream is cut off in it"):
        zstd_layout.parse_frame_header(octets[:-1], 0)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ("28b52ffd", CorruptImageError, "@0x7: the stream is cut off in it"),
        ("28b52ffd 08 58", CorruptImageError, "@0xb: descriptor 0x08"),
        ("28b52ffd 00 89", UnsupportedFeatureError, "@0x7: a window of 144 MiB, beyond 128 MiB"),
        ("28b52ffd 00 ff", UnsupportedFeatureError, "zstd -d --long=31 --stdout FILE"),
        ("28b52ffd 01 58 01", UnsupportedFeatureError, "needs a dictionary"),
        ("28b52ffd 03 58 00000001", UnsupportedFeatureError, "zstd -d -D DICTIONARY"),
    ],
)
def test_bad_zstd_frame_headers(data: str, kind: type[FormatError], message: str) -> None:
    with pytest.raises(kind) as caught:
        zstd_layout.parse_frame_header(bytes.fromhex(data), 7)
    assert str(caught.value).startswith("zstd.frame_header @0x")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("000000", (False, 0, 0)),
        ("010000", (True, 0, 0)),
        ("400000", (False, 0, 8)),
        ("020010", (False, 1, 1)),
        ("04000f", (False, 2, 0x0F0000 >> 3)),
        ("050010", (True, 2, 128 << 10)),
    ],
)
def test_zstd_block_headers(data: str, expected: tuple[bool, int, int]) -> None:
    assert tuple(zstd_layout.parse_block_header(bytes.fromhex(data), 0)) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("060000", "zstd.block @0x9: kind 3, 0 bytes: there is none"),
        ("0c0010", "zstd.block @0x9: kind 2, 131073 bytes: there is none"),
        ("ffffff", "zstd.block @0x9: kind 3, 2097151 bytes: there is none"),
    ],
)
def test_bad_zstd_block_headers(data: str, message: str) -> None:
    with pytest.raises(CorruptImageError) as caught:
        zstd_layout.parse_block_header(bytes.fromhex(data), 9)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        (0, "", True),
        (1, "00", True),
        # Raw literals of no bytes, no sequences.
        (2, "00 00 000000", True),
        # One sequence, with tables that are predefined, or of the block before.
        (2, "00 01 00 0000", True),
        (2, "00 01 c0 0000", False),
        (2, "00 01 30 0000", False),
        (2, "00 01 0c 0000", False),
        # Counts of two and three bytes.
        (2, "00 80 01 00 00", True),
        (2, "00 80 01 0c 00", False),
        (2, "00 ff 00 01 0c", False),
        (2, "00 ff 00 01 00", True),
        # One literal that is repeated.
        (2, "09 61 01 00 00", True),
        # Literals by the tree of the block before.
        (2, "03 00 00 000000", False),
        # Compressed literals of two bytes, then no sequences.
        (2, "02 80 00 aabb 00", True),
        # Too short to tell.
        (2, "00 01", False),
        (2, "f8 61626364", False),
    ],
)
def test_blocks_that_need_no_tables(kind: int, content: str, expected: bool) -> None:
    assert zstd_layout.may_begin_here(kind, bytes.fromhex(content)) is expected


def test_the_first_block_of_a_frame_needs_no_tables() -> None:
    data = compress("zstd", mixed(300_000))
    header = zstd_layout.parse_frame_header(data, 0)
    block = zstd_layout.parse_block_header(data[header.size :], 0)
    content = data[header.size + 3 : header.size + 3 + block.stored_size]
    assert block.kind == 2
    assert zstd_layout.may_begin_here(block.kind, content)


@pytest.mark.parametrize("size", [1, 1024, 1025, 64 << 10, (64 << 10) + 1, 128 << 20])
def test_a_made_up_header_has_room_for_the_window(size: int) -> None:
    made = zstd_layout.parse_frame_header(zstd_layout.made_up_header(size), 0)
    assert size <= made.window_size <= max(1024, 2 * size - 1)
    assert not made.has_checksum
    assert zstandard.get_frame_parameters(zstd_layout.made_up_header(size)).window_size >= size


# -- lz4 -------------------------------------------------------------------


def _lz4(fields: str) -> bytes:
    octets = bytes.fromhex(fields)
    return lz4_layout.MAGIC + octets + bytes([xxhash.xxh32_intdigest(octets) >> 8 & 0xFF])


@pytest.mark.parametrize(
    ("data", "size", "linked", "block_checks", "content_check", "block_max"),
    [
        ("6040", 7, False, False, False, 64 << 10),
        ("4040", 7, True, False, False, 64 << 10),
        ("6450", 7, False, False, True, 256 << 10),
        ("7060", 7, False, True, False, 1 << 20),
        ("7470", 7, False, True, True, 4 << 20),
        ("68700000000001000000", 15, False, False, False, 4 << 20),
    ],
)
def test_lz4_frame_headers(
    data: str, size: int, linked: bool, block_checks: bool, content_check: bool, block_max: int
) -> None:
    header = lz4_layout.parse_frame_header(_lz4(data), 0)
    assert header.size == size
    assert (header.is_linked, header.is_legacy) == (linked, False)
    assert (header.has_block_checksums, header.has_content_checksum) == (
        block_checks, content_check,
    )  # fmt: skip
    assert header.block_max == block_max
    # What a seek point keeps of it says the same.
    again = lz4_layout.FrameHeader(0, header.flags)
    assert (again.is_linked, again.has_block_checksums, again.has_content_checksum,
            again.block_max) == (linked, block_checks, content_check, block_max)  # fmt: skip


def test_a_legacy_header() -> None:
    header = lz4_layout.parse_frame_header(lz4_layout.LEGACY_MAGIC, 0)
    assert (header.size, header.is_legacy, header.is_linked) == (4, True, False)
    assert (header.has_block_checksums, header.has_content_checksum) == (False, False)
    assert header.block_max == 8 << 20


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (lz4_layout.MAGIC, CorruptImageError, "the stream is cut off in it"),
        (_lz4("6840")[:9], CorruptImageError, "the stream is cut off in it"),
        (_lz4("2040"), CorruptImageError, "@0x9: flags 0x20 0x40 cannot be"),
        (_lz4("6240"), CorruptImageError, "@0x9: flags 0x62 0x40 cannot be"),
        (_lz4("6041"), CorruptImageError, "@0x9: flags 0x60 0x41 cannot be"),
        (_lz4("60c0"), CorruptImageError, "@0x9: flags 0x60 0xc0 cannot be"),
        (_lz4("6030"), CorruptImageError, "@0x9: flags 0x60 0x30 cannot be"),
        (_lz4("614001020304"), UnsupportedFeatureError, "lz4 -d -D DICTIONARY"),
        (_lz4("6040")[:-1] + b"\0", ChecksumError, "checksum 0 is 0x"),
    ],
)
def test_bad_lz4_frame_headers(data: bytes, kind: type[FormatError], message: str) -> None:
    with pytest.raises(kind) as caught:
        lz4_layout.parse_frame_header(data, 5)
    assert message in str(caught.value)


def test_lz4_block_sizes() -> None:
    header = lz4_layout.parse_frame_header(_lz4("6040"), 0)
    legacy = lz4_layout.LEGACY
    assert lz4_layout.parse_block_size(bytes.fromhex("00000000"), header, 0) == (0, True)
    assert lz4_layout.parse_block_size(bytes.fromhex("00000100"), header, 0) == (65536, True)
    assert lz4_layout.parse_block_size(bytes.fromhex("00000180"), header, 0) == (65536, False)
    # More than comes out of it: of data that cannot be compressed.
    assert lz4_layout.parse_block_size(bytes.fromhex("10008000"), legacy, 0) == (8388624, True)
    for data, which, largest in (("01000100", header, 65536), ("ffffff7f", legacy, 8421520)):
        with pytest.raises(CorruptImageError, match=f"lz4.block @0x3: .* bytes, beyond {largest}"):
            lz4_layout.parse_block_size(bytes.fromhex(data), which, 3)


# -- xz --------------------------------------------------------------------


def _xz(*pieces: bytes, check: int = lzma.CHECK_CRC64) -> bytes:
    return b"".join(lzma.compress(piece, check=check) for piece in pieces)


def test_xz_blocks_are_what_xz_lists() -> None:
    data = packed_mixed("xz-blocks", 7 << 20)
    blocks = xz_layout.read_blocks(MemorySource(data))
    assert [block.plain_size for block in blocks] == [1 << 20] * 7
    assert blocks[0].stored_offset == 12
    for before, after in itertools.pairwise(blocks):
        assert after.stored_offset == before.stored_offset + before.stored_size
    assert {block.check for block in blocks} == {4}


@pytest.mark.parametrize("check", [lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_SHA256])
def test_xz_streams_with_padding(check: int) -> None:
    pieces = [b"a" * 1000, b"", b"b" * 77]
    streams = [_xz(piece, check=check) for piece in pieces]
    data = bytes(4).join(streams) + bytes(12)
    blocks = xz_layout.read_blocks(MemorySource(data))
    assert [(block.plain_size, block.check) for block in blocks] == [(1000, check), (77, check)]
    assert xz_layout.stream_header(check) == data[:12]
    assert blocks[1].stored_offset == len(streams[0]) + 4 + len(streams[1]) + 4 + 12


GOOD = _xz(b"hello" * 100)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (GOOD[:17], TruncatedImageError, "xz.footer @0x0: no whole stream"),
        (GOOD[:-1], TruncatedImageError, "xz.footer @0x{end:x}: no stream ends here"),
        (GOOD + b"x", TruncatedImageError, "no stream ends here: the file is cut off, or more"),
        (GOOD + bytes(3), CorruptImageError, "xz.padding @0x{size:x}: 3 zero bytes follow"),
        (GOOD + bytes(2) + GOOD, CorruptImageError, "2 bytes, no multiple of four"),
        (b"x" + GOOD[1:], CorruptImageError, "xz.header @0x0: no stream begins where its index"),
        (GOOD[:7] + b"\1" + GOOD[8:], CorruptImageError, "xz.header @0x0: no stream begins"),
        (GOOD[:8] + b"\0\0\0\0" + GOOD[12:], ChecksumError, "xz.header @0x0: checksum 0 is"),
        (GOOD[:-12] + b"\0\0\0\0" + GOOD[-8:], ChecksumError, "xz.footer"),
        (GOOD[12:], CorruptImageError, "its blocks are longer than the file"),
    ],
)
def test_bad_xz(data: bytes, kind: type[FormatError], message: str) -> None:
    with pytest.raises(kind) as caught:
        xz_layout.read_blocks(MemorySource(data))
    expected = message.format(end=len(data) - 12, size=len(GOOD))
    assert expected in str(caught.value)


def _with_index(index: bytes) -> bytes:
    """Return a stream of no blocks that has this index, without its checksum, and right sums."""
    index += bytes(-len(index) % 4)
    index += zlib.crc32(index).to_bytes(4, "little")
    footer = (len(index) // 4 - 1).to_bytes(4, "little") + b"\0\4"
    checked = zlib.crc32(footer).to_bytes(4, "little") + footer + b"YZ"
    return xz_layout.stream_header(4) + index + checked


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("01 00 0000", "begins with 0x01"),
        ("00 05 0000", "5 blocks do not fit into it"),
        ("00 01 0409", "a block of 4 bytes"),
        ("00 01 85 80 80 80 80 80 80 80 80 80 01 09", "a number has no end"),
        ("00 01 8585 85858585", "a number has no end"),
        ("00 00 0001", "something follows its last record"),
        ("00 00 0000 00000000", "something follows its last record"),
        ("00 01 ffff7f 09", "its blocks are longer than the file"),
    ],
)
def test_bad_xz_indexes(index: str, message: str) -> None:
    assert xz_layout.read_blocks(MemorySource(_with_index(b"\0\0"))) == []
    with pytest.raises(CorruptImageError) as caught:
        xz_layout.read_blocks(MemorySource(_with_index(bytes.fromhex(index))))
    assert message in str(caught.value)


# -- bzip2 -----------------------------------------------------------------


def test_bits() -> None:
    data = bytes.fromhex("a5f00f")
    assert bzip2_layout.bits_at(data, 0, 4) == 0xA
    assert bzip2_layout.bits_at(data, 4, 8) == 0x5F
    assert bzip2_layout.bits_at(data, 7, 3) == 0b111
    assert bzip2_layout.bits_at(data, 0, 24) == 0xA5F00F
    assert bzip2_layout.bits_at(data, 23, 1) == 1


@pytest.mark.parametrize("magic", [bzip2_layout.BLOCK_MAGIC, bzip2_layout.END_MAGIC])
@pytest.mark.parametrize("shift", range(8))
@pytest.mark.parametrize("filler", [0, 1])
def test_a_magic_is_found_at_every_bit(magic: int, shift: int, filler: int) -> None:
    before, after = 37 * 8 + shift, 24 - shift
    fill = -filler
    value = ((fill & ((1 << before) - 1)) << 48 | magic) << after | (fill & ((1 << after) - 1))
    data = value.to_bytes((before + 48 + after) // 8, "big")
    assert bzip2_layout.bits_at(data, before, 48) == magic
    for start in (0, 8, before - 9, before - 1, before):
        assert bzip2_layout.find_magic(data, start) == before
    assert bzip2_layout.find_magic(data, before + 1) is None
    # Cut off in its last bit, it is none.
    assert bzip2_layout.find_magic(data[: (before + 47) // 8], 0) is None


def test_of_two_magics_the_first_is_found() -> None:
    end = bzip2_layout.END_MAGIC.to_bytes(6, "big")
    block = bzip2_layout.BLOCK_MAGIC.to_bytes(6, "big")
    assert bzip2_layout.find_magic(b"x" + end + b"y" + block, 0) == 8
    assert bzip2_layout.find_magic(b"x" + block + b"y" + end, 0) == 8
    assert bzip2_layout.find_magic(b"x" + block + b"y" + end, 9) == 64


def test_every_block_makes_a_stream_of_its_own() -> None:
    plain = mixed(700_000, 2)
    data = bz2.compress(plain, 1)
    starts, bit = [], 0
    while (place := bzip2_layout.find_magic(data, bit)) is not None:
        starts.append(place)
        bit = place + 1
    assert len(starts) >= 5
    assert bzip2_layout.bits_at(data, starts[-1], 48) == bzip2_layout.END_MAGIC
    found = b"".join(
        bz2.decompress(bzip2_layout.single_block_stream(data, start, stop))
        for start, stop in itertools.pairwise(starts)
    )
    assert found == plain
    assert {start % 8 for start in starts} != {0}


# -- deflate ---------------------------------------------------------------


@pytest.mark.parametrize("skipped", range(1, 8))
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED])
def test_deflate_is_entered_behind_any_bit(skipped: int, strategy: int) -> None:
    plain = mixed(30_000, 4)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 9, strategy)
    body = packer.compress(plain) + packer.flush()
    value = int.from_bytes(body, "little") << skipped
    _check_entering(value.to_bytes(len(body) + 1, "little"), skipped, plain)


@pytest.mark.parametrize("skipped", range(1, 8))
def test_deflate_is_entered_before_a_stored_block(skipped: int) -> None:
    """Its header has three bits, its data begin at a byte: these cannot be moved by bits."""
    plain = mixed(30_000, 4)
    header = (1 << skipped).to_bytes(1 if skipped + 3 <= 8 else 2, "little")
    length = len(plain).to_bytes(2, "little") + (len(plain) ^ 0xFFFF).to_bytes(2, "little")
    _check_entering(header + length + plain, skipped, plain)


def _check_entering(stream: bytes, skipped: int, plain: bytes) -> None:
    # Whatever the bits are that do not belong to it.
    for other in (0, (1 << skipped) - 1):
        entered = deflate.enter(stream[0] | other, skipped) + stream[1:]
        unpacker = zlib.decompressobj(-15)
        assert unpacker.decompress(entered) + unpacker.flush() == plain
        assert unpacker.eof
