"""Damaged, cut off and made-up streams: documented errors, and never a wrong byte."""

from __future__ import annotations

import bz2
import collections
import gzip
import lzma
import random
import tracemalloc
from typing import TYPE_CHECKING

import lz4.frame
import pytest
import xxhash
import zstandard
from imgcat.formats.codecs import registry as codecs
from imgcat.formats.codecs.bzip2 import layout as bzip2_layout
from imgcat.formats.codecs.decoded_source import DecodedSource
from imgcat.formats.codecs.decoders import Decoding
from imgcat.formats.codecs.head import plain_head
from imgcat.formats.codecs.scan import scan_stream
from imgcat.formats.codecs.seek_tables import MemoryTable
from imgcat.formats.errors import (
    CorruptImageError,
    FormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.files import detect
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.sources.distrusted import distrusted, every_byte
from imgcat.formats.sources.pages import PAGE_SIZE
from support import partclone_writer
from support.memory_source import CountingSource, MemorySource
from support.opening import open_scanned
from support.streams import CODECS, compress, mixed, packed_mixed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imgcat.formats.codecs.seek_points import StreamIndex

SIZE = 700_000
SPACING = 64 << 10

TOOLS = (
    "gzip", "pigz", "bgzf", "bzip2", "pbzip2", "xz", "xz-blocks", "lzma", "zstd", "zstdmt",
    "pzstd", "lz4", "lz4-small", "lz4-linked", "lz4-checked", "lz4-legacy",
)  # fmt: skip

UNCHECKED = {"lz4-legacy", "lzma"}
"""Without any checksum: a bit that flips may go unseen."""

SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


def _source(
    data: bytes, codec: str, index: StreamIndex, page_budget: int = 64 << 20
) -> DecodedSource:
    decoding = Decoding(page_budget)
    return DecodedSource(MemorySource(data), codecs.named(codec), MemoryTable(index), 0, decoding)


def _scan(data: bytes, codec: str) -> StreamIndex:
    return scan_stream(MemorySource(data), codecs.named(codec), spacing=SPACING)


def _outcome(data: bytes, codec: str, plain: bytes) -> str:
    """Scan and read everything; assert that what is read is right."""
    try:
        index = _scan(data, codec)
    except FormatError as error:
        return type(error).__name__
    source = _source(data, codec, index)
    if index.damage is None:
        assert source.size == len(plain)
    assert index.trusted_size <= len(plain)
    for start in range(0, source.size, PAGE_SIZE):
        size = min(PAGE_SIZE, source.size - start)
        try:
            found = source.read_at(start, size)
        except FormatError:
            assert index.damage is not None
        else:
            assert found == plain[start : start + size]
    return "whole" if index.damage is None else "part"


# -- cut off ---------------------------------------------------------------


def _cuts(data: bytes, tool: str) -> Iterator[int]:
    # A legacy lz4 frame has no end: four bytes are one of nothing.
    yield from range(5 if tool == "lz4-legacy" else 1, 24)
    yield from (len(data) - left for left in (1, 2, 3, 4, 5, 8, 12, 13, 20))
    rng = random.Random(tool)
    yield from (rng.randrange(len(data)) for _ in range(10))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_stream_that_is_cut_off_gives_what_is_there_or_nothing(tool: str) -> None:
    plain, data = mixed(SIZE, 3), packed_mixed(tool, SIZE, 3)
    assert _outcome(data, CODECS[tool], plain) == "whole"
    outcomes = collections.Counter(
        _outcome(data[:length], CODECS[tool], plain) for length in set(_cuts(data, tool))
    )
    assert "whole" not in outcomes, outcomes
    assert set(outcomes) <= {"part", "TruncatedImageError", "CorruptImageError"}


@pytest.mark.parametrize("tool", ["bgzf", "pbzip2", "lz4-checked"])
def test_what_checksums_before_the_cut_vouch_for_is_served(tool: str) -> None:
    plain, data = mixed(3 * SIZE, 3), compress(tool, mixed(3 * SIZE, 3))
    data = data[: len(data) * 3 // 4]
    index = _scan(data, CODECS[tool])
    assert index.damage is not None
    assert index.damage.startswith(f"the {CODECS[tool]} stream is damaged: ")
    assert len(plain) // 3 < index.trusted_size
    source = _source(data, CODECS[tool], index)
    assert source.read_at(0, index.trusted_size) == plain[: index.trusted_size]


@pytest.mark.parametrize("tool", ["gzip", "zstd", "lz4-small", "lz4-linked", "lzma"])
def test_what_no_checksum_before_the_cut_vouches_for_is_there_and_refused(tool: str) -> None:
    plain, data = mixed(SIZE, 3), packed_mixed(tool, SIZE, 3)
    data = data[: len(data) * 3 // 4]
    index = _scan(data, CODECS[tool])
    assert index.trusted_size == 0
    assert len(plain) // 3 < index.plain_size < len(plain)
    assert f"nothing vouches for its plain bytes [0, {index.plain_size})" in (index.damage or "")
    source = _source(data, CODECS[tool], index)
    with pytest.raises(CorruptImageError, match=r"distrusted: .*another copy.*--rescue") as caught:
        source.read_at(1000, 1)
    assert (caught.value.structure, caught.value.offset) == (f"{CODECS[tool]}.stream", 1000)
    assert not source.readv_nowait([memoryview(bytearray(1))], 0)
    (refused,) = distrusted(source, 0, source.size)
    assert refused[:2] == (0, index.plain_size)
    assert every_byte(source).read_at(1000, 5000) == plain[1000:6000]
    assert not every_byte(source).readv_nowait([memoryview(bytearray(1))], source.size)


# -- changed ---------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
def test_a_flipped_bit_gives_an_error_or_the_right_bytes(tool: str) -> None:
    plain, data = mixed(SIZE, 3), packed_mixed(tool, SIZE, 3)
    rng = random.Random(tool)
    places = [*range(12), *(rng.randrange(len(data)) for _ in range(25))]
    places += [len(data) - each for each in range(1, 16)]
    outcomes: collections.Counter[str] = collections.Counter()
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        if tool in UNCHECKED:
            try:
                outcomes[_scan(bytes(changed), CODECS[tool]).damage or "unseen"] += 1
            except FormatError as error:
                outcomes[type(error).__name__] += 1
        else:
            outcomes[_outcome(bytes(changed), CODECS[tool], plain)] += 1
    # Of a header, some bits say nothing about the data: a time, a name, a level.
    assert outcomes["whole"] <= 12, outcomes
    assert outcomes.total() - outcomes["whole"] >= 30


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_that_changes_after_the_scan_gives_its_old_bytes_or_an_error(tool: str) -> None:
    plain, data = mixed(SIZE, 3), packed_mixed(tool, SIZE, 3)
    index = _scan(data, CODECS[tool])
    rng = random.Random(tool)
    refused = 0
    for number in range(12):
        changed = bytearray(data)
        place = rng.randrange(len(data))
        if number % 3 == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif number % 3 == 1:
            changed[place : place + 500] = rng.randbytes(500)
        else:
            del changed[place:]
        source = _source(bytes(changed), CODECS[tool], index)
        for start in rng.sample(range(0, SIZE, PAGE_SIZE), 3):
            size = min(PAGE_SIZE, SIZE - start)
            try:
                found = source.read_at(start, size)
            except FormatError:
                refused += 1
            else:
                assert found == plain[start : start + size]
    assert refused >= 3


@pytest.mark.parametrize("tool", ["bzip2", "pbzip2"])
def test_a_bzip2_block_without_its_magic_is_not_passed_over(tool: str) -> None:
    """Some decoders go on with the next one where one does not begin as it must."""
    plain, data = mixed(2 << 20, 3), compress(tool, mixed(2 << 20, 3))
    blocks = _bzip2_blocks(data)
    assert len(blocks) >= 2
    for bit in blocks:
        for within in (0, 20, 47):
            changed = bytearray(data)
            changed[(bit + within) // 8] ^= 0x80 >> (bit + within) % 8
            assert _outcome(bytes(changed), "bzip2", plain) != "whole"


def _bzip2_blocks(data: bytes) -> list[int]:
    found, bit = [], 0
    while (place := bzip2_layout.find_magic(data, bit)) is not None:
        if bzip2_layout.bits_at(data, place, 48) == bzip2_layout.BLOCK_MAGIC:
            found.append(place)
        bit = place + 1
    return found


def test_another_stream_in_its_place_gives_no_byte() -> None:
    index = _scan(packed_mixed("zstd", SIZE, 3), "zstd")
    other = _source(packed_mixed("zstd", SIZE, 4), "zstd", index)
    for start in range(0, SIZE, PAGE_SIZE):
        with pytest.raises(FormatError):
            other.read_at(start, 1)


# -- what streams may have -------------------------------------------------

PIECES = [mixed(40_000, 11), b"", mixed(150_000, 12), mixed(1, 13)]
WHOLE = b"".join(PIECES)


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("gzip", b"".join(map(gzip.compress, PIECES))),
        ("gzip", gzip.compress(WHOLE) + bytes(512)),
        ("gzip", gzip.compress(WHOLE) + bytes(3)),
        ("bzip2", b"".join(map(bz2.compress, PIECES))),
        ("xz", b"".join(map(lzma.compress, PIECES))),
        ("xz", b"".join(lzma.compress(piece) + bytes(8) for piece in PIECES)),
        ("xz", b"".join(
            lzma.compress(piece, check=check) for piece, check in
            zip(PIECES, (lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_SHA256, -1), strict=True)
        )),
        ("zstd", b"".join(map(zstandard.compress, PIECES))),
        ("zstd", b"".join(SKIPPABLE + zstandard.compress(piece) for piece in PIECES) + SKIPPABLE),
        ("lz4", b"".join(map(lz4.frame.compress, PIECES))),
        ("lz4", b"".join(SKIPPABLE + lz4.frame.compress(piece) for piece in PIECES) + SKIPPABLE),
        ("lz4", b"".join(compress("lz4-legacy", piece) for piece in PIECES)),
        ("lz4", compress("lz4-legacy", WHOLE[:50_000]) + lz4.frame.compress(WHOLE[50_000:])),
        ("lz4", lz4.frame.compress(WHOLE, block_linked=True, block_size=4)
            + lz4.frame.compress(b"", content_checksum=True)),
    ],
)  # fmt: skip
def test_streams_of_several_parts(codec: str, data: bytes) -> None:
    assert codecs.sniff(MemorySource(data)) == codec
    assert plain_head(MemorySource(data), codec, 60_000) == WHOLE[:60_000]
    for spacing in (None, 1):
        index = scan_stream(MemorySource(data), codecs.named(codec), spacing=spacing)
        assert (index.damage, index.plain_size) == (None, len(WHOLE))
        source = _source(data, codec, index)
        assert source.read_at(0, len(WHOLE)) == WHOLE
        for point in index.points:
            whole = b"".join(codecs.named(codec).decode(MemorySource(data), point))
            assert whole == WHOLE[point.plain_offset :]


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("gzip", gzip.compress(b"")),
        ("bzip2", bz2.compress(b"")),
        ("xz", lzma.compress(b"")),
        ("lzma", compress("lzma", b"")),
        ("zstd", zstandard.compress(b"")),
        ("zstd", compress("zstd", b"")),
        ("lz4", compress("lz4", b"")),
        ("lz4", compress("lz4-legacy", b"")),
        ("lz4", SKIPPABLE + compress("lz4", b"")),
    ],
)
def test_streams_of_nothing(codec: str, data: bytes, tmp_path: Path) -> None:
    index = _scan(data, codec)
    assert (index.plain_size, index.damage, index.hashes) == (0, None, b"")
    source = _source(data, codec, index)
    assert source.size == 0
    assert source.read_at(0, 0) == b""
    with pytest.raises(TruncatedImageError):
        source.read_at(0, 1)
    (tmp_path / "nothing").write_bytes(data)
    with (
        detect.open_files(str(tmp_path / "nothing")) as stored,
        pytest.raises(FormatError, match="the file is empty"),
    ):
        scan_files(stored)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_follows_the_end_is_seen(tool: str) -> None:
    """Behind the end of a stream is nothing, or another stream: all else is damage."""
    plain, data = mixed(SIZE, 3), packed_mixed(tool, SIZE, 3)
    for garbage in (b"x", b"garbage behind the end" * 100):
        assert _outcome(data + garbage, CODECS[tool], plain) in {
            "part", "CorruptImageError", "TruncatedImageError",
        }  # fmt: skip


# -- limits ----------------------------------------------------------------


def _zstd_header(window_exponent: int, *, dictionary: bytes = b"") -> bytes:
    descriptor = {0: 0, 1: 1, 2: 2, 4: 3}[len(dictionary)]
    return zstandard.FRAME_HEADER + bytes([descriptor, window_exponent << 3]) + dictionary


def _rle(size: int, octet: bytes = b"\0", *, is_last: bool = False) -> bytes:
    return (size << 3 | 1 << 1 | is_last).to_bytes(3, "little") + octet


def test_made_up_frames_are_understood_by_zstd_itself() -> None:
    """What the tests below make up differs from what can be read by one thing only."""
    data = _zstd_header(10) + _rle(1000, b"a") + _rle(7, b"b", is_last=True)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(data) == b"a" * 1000 + b"b" * 7
    index = _scan(data, "zstd")
    assert _source(data, "zstd", index).read_at(998, 4) == b"aabb"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_zstd_header(18) + _rle(9, is_last=True), "a window of 256 MiB, beyond 128 MiB"),
        (_zstd_header(31) + _rle(9, is_last=True), "pack it anew"),
        (_zstd_header(10, dictionary=b"\7") + _rle(9, is_last=True), "needs a dictionary"),
        (_zstd_header(10, dictionary=b"\1\2\3\4") + _rle(9, is_last=True), "zstd -d -D"),
        (compress("zstd", b"a") + _zstd_header(31) + _rle(9, is_last=True), "a window of"),
    ],
)
def test_zstd_that_needs_more_than_it_gets(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeatureError, match=message):
        _scan(data, "zstd")
    (tmp_path / "image.zst").write_bytes(data)
    with (
        detect.open_files(str(tmp_path / "image.zst")) as stored,
        pytest.raises(UnsupportedFeatureError, match=message),
    ):
        scan_files(stored)


def test_lz4_that_needs_a_dictionary() -> None:
    fields = bytes([0x61, 0x40]) + b"\1\2\3\4"
    check = xxhash.xxh32_intdigest(fields) >> 8 & 0xFF
    data = b"\x04\x22\x4d\x18" + fields + bytes([check]) + bytes(4)
    with pytest.raises(UnsupportedFeatureError, match="needs a dictionary"):
        _scan(data, "lz4")


def _bomb(head: bytes) -> tuple[MemorySource, int]:
    """Return an image that continues with zeros, 128 KiB for each four bytes; and its size."""
    raw = (len(head) << 3).to_bytes(3, "little") + head
    count = 4_200_000
    block = _rle(PAGE_SIZE)
    source = MemorySource(_zstd_header(10), raw, block * count, _rle(PAGE_SIZE, is_last=True))
    return source, len(head) + (count + 1) * PAGE_SIZE


def test_a_bomb_is_looked_into_without_unpacking_it() -> None:
    """Half a terabyte in 16 MB: the beginning, which says what it is, costs next to nothing."""
    head = partclone_writer.write(partclone_writer.Recipe(present=[True] * 8)).image
    source, size = _bomb(head)
    assert size > 1 << 39
    counting = CountingSource(source)
    tracemalloc.start()
    try:
        assert plain_head(counting, "zstd", 4096) == head.ljust(4096, b"\0")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert sum(each.length for each in counting.calls) < 1 << 20


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("gzip", gzip.compress(bytes(64 << 20), 1)),
        ("bzip2", bz2.compress(bytes(64 << 20), 1)),
        ("xz", lzma.compress(bytes(64 << 20), preset=0)),
        ("zstd", _zstd_header(10) + _rle(PAGE_SIZE) * 511 + _rle(PAGE_SIZE, is_last=True)),
        ("lz4", lz4.frame.compress(bytes(64 << 20))),
    ],
)
def test_memory_is_bounded_whatever_comes_out(codec: str, data: bytes) -> None:
    """The scan and each read hold pieces of the plain data, never all of it."""
    assert len(data) < 1 << 20
    tracemalloc.start()
    try:
        index = scan_stream(MemorySource(data), codecs.named(codec))
        source = _source(data, codec, index, page_budget=8 << 20)
        assert source.read_at(60 << 20, 5000) == bytes(5000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert index.plain_size == 64 << 20
    # lz4 decodes blocks of 4 MiB, several at a time.
    assert peak < 40 << 20, peak


def test_an_lzma_dictionary_beyond_all_memory_is_refused() -> None:
    data = bytearray(compress("lzma", b"some bytes"))
    data[1:5] = (0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(UnsupportedFeatureError, match=r"beyond 128 MiB: pack it anew, `xz -dc"):
        _scan(bytes(data), "lzma")


def test_compressed_twice_is_said(tmp_path: Path) -> None:
    image = partclone_writer.write(partclone_writer.Recipe(present=[True] * 8)).image
    (tmp_path / "a.img.zst.gz").write_bytes(gzip.compress(zstandard.compress(image)))
    with (
        detect.open_files(str(tmp_path / "a.img.zst.gz")) as stored,
        pytest.raises(UnsupportedFeatureError, match="compressed twice: unpack the outer gzip"),
    ):
        scan_files(stored)


@pytest.mark.parametrize("tool", ["bgzf", "lz4-checked", "zstd"])
def test_an_image_that_is_cut_off_is_served_as_far_as_it_is_vouched_for(
    tool: str, tmp_path: Path
) -> None:
    written = partclone_writer.write(
        partclone_writer.Recipe(present=[True] * 200, block_size=4096, guest=mixed(200 * 4096, 5))
    )
    data = compress(tool, written.image)
    path = tmp_path / "a"
    path.write_bytes(data[: len(data) // 2])
    with detect.open_files(str(path)) as stored:
        scan = scan_files(stored)
        assert scan.info.damage is not None
        assert f"the {CODECS[tool]} stream is damaged" in scan.info.damage
        there = stored.indexes[0].trusted_size
        assert (there == 0) is (tool == "zstd")
        reader = open_scanned(stored.source, scan)
        lost = [each for each in reader.extents(0, reader.size) if each.kind.value == "unreadable"]
        assert any("distrusted" in each.reason for each in lost) or tool != "zstd"
        for block, offset in written.block_offsets.items():
            view = memoryview(bytearray(4096))
            start, stop = block * 4096, (block + 1) * 4096
            if offset + 4096 <= there:
                reader.read_into(view, start)
                assert view == written.guest[start:stop]
                assert not any(start < each.stop and each.start < stop for each in lost)
            else:
                with pytest.raises(FormatError):
                    reader.read_into(view, start)
                assert any(start < each.stop and each.start < stop for each in lost)
