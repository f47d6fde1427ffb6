"""Whatever the bytes of a compressed file are, only documented errors, in bounded time and memory.

Small streams of every codec are mutated many times from a fixed seed, most of all their headers,
and taken through the whole chain: sniffed, looked into, scanned, read.
"""

from __future__ import annotations

import collections
import random
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import lz4.block
import pytest
import xxhash
from imgcat.formats.codecs import registry as codecs
from imgcat.formats.codecs import window_use as window
from imgcat.formats.codecs.bzip2 import layout as bzip2_layout
from imgcat.formats.codecs.decoded_source import DecodedSource
from imgcat.formats.codecs.decoders import Decoding
from imgcat.formats.codecs.head import plain_head
from imgcat.formats.codecs.lz4 import layout as lz4_layout
from imgcat.formats.codecs.scan import scan_stream
from imgcat.formats.codecs.seek_points import SeekPoint
from imgcat.formats.codecs.seek_tables import MemoryTable
from imgcat.formats.codecs.xz import layout as xz_layout
from imgcat.formats.codecs.zstd import layout as zstd_layout
from imgcat.formats.errors import FormatError
from imgcat.formats.files import detect
from imgcat.formats.passes.scan import scan_files
from support import partclone_writer
from support.memory_source import MemorySource
from support.streams import CODECS, compress, mixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLAIN = mixed(60_000, 1)[:30_000] + bytes(20_000) + b"what was there before " * 700
TOOLS = (
    "gzip", "bgzf", "pbzip2", "xz", "lzma", "zstd", "pzstd", "lz4-small", "lz4-linked",
    "lz4-checked", "lz4-legacy",
)  # fmt: skip

_MUTATIONS = 120
_PEAK = 80 << 20
_SLOWEST = 10.0
"""Seconds that no mutation may take; each is a matter of milliseconds."""

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 31) - 1, (1 << 32) - 1)


def _mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        # Headers lie at the beginning, indexes at the end.
        place = rng.choice((rng.randrange(40), rng.randrange(len(data)), -1 - rng.randrange(40)))
        place %= len(changed) or 1
        kind = rng.randrange(6)
        if kind == 0:
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
            changed[place : place + width] = number.to_bytes(width, "little")
        elif kind == 2:
            changed[place:place] = rng.randbytes(rng.choice((1, 4, 100)))
        elif kind == 3:
            del changed[place : place + rng.choice((1, 4, 100))]
        elif kind == 4:
            changed[place : place + 4] = data[:4]
        elif place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _outcome(data: bytes, codec: str) -> str:
    """Take some bytes through everything that is done with a compressed stream."""
    source = MemorySource(data)
    codecs.sniff(source)
    try:
        head = plain_head(source, codec, 4096)
        assert len(head) <= 4096
    except FormatError:
        pass
    try:
        index = scan_stream(source, codecs.named(codec), spacing=4096)
    except FormatError as error:
        return type(error).__name__
    decoded = DecodedSource(source, codecs.named(codec), MemoryTable(index), 0, Decoding(4 << 20))
    for start in {0, decoded.size // 2, max(0, decoded.size - 10)}:
        try:
            decoded.read_at(start, min(5000, decoded.size - start))
        except FormatError:
            assert index.damage is not None
    return "whole" if index.damage is None else "damaged"


def _timed(data: bytes, codec: str) -> str:
    began = time.perf_counter()
    outcome = _outcome(data, codec)
    assert time.perf_counter() - began < _SLOWEST, data[:100].hex()
    return outcome


@pytest.mark.parametrize("tool", TOOLS)
def test_mutated_streams_raise_only_documented_errors(tool: str) -> None:
    data = compress(tool, PLAIN)
    rng = random.Random(tool)
    tracemalloc.start()
    try:
        outcomes = collections.Counter(
            _timed(_mutated(rng, data), CODECS[tool]) for _ in range(_MUTATIONS)
        )
        # Beside the dictionary that a header of lzma may ask for.
        dictionary = 1 << 30 if tool in {"lzma", "xz"} else 0
        assert tracemalloc.get_traced_memory()[1] < dictionary + _PEAK
    finally:
        tracemalloc.stop()
    # Mutations that all end in the same place would prove nothing.
    assert len(outcomes) >= 2, outcomes
    assert outcomes.total() - outcomes["whole"] > _MUTATIONS // 3, outcomes


@pytest.mark.parametrize("tool", TOOLS)
def test_streams_that_are_cut_off_anywhere(tool: str) -> None:
    data = compress(tool, PLAIN)
    rng = random.Random(tool)
    lengths = {rng.randrange(1, len(data)) for _ in range(200)}
    outcomes = collections.Counter(_timed(data[:length], CODECS[tool]) for length in lengths)
    # A legacy lz4 frame may end behind any block, for it has no end.
    assert outcomes["whole"] <= (tool == "lz4-legacy"), outcomes


@pytest.mark.parametrize("codec", sorted(set(CODECS.values())))
def test_random_bytes_behind_the_magic(codec: str) -> None:
    magic = {
        "gzip": b"\x1f\x8b\x08\x00", "bzip2": b"BZh9\x31\x41\x59\x26\x53\x59",
        "xz": xz_layout.stream_header(4), "lzma": b"\x5d\0\0\x80\0" + b"\xff" * 8,
        "zstd": zstd_layout.MAGIC, "lz4": lz4_layout.MAGIC,
    }[codec]  # fmt: skip
    rng = random.Random(codec)
    for _ in range(150):
        data = magic + rng.randbytes(rng.choice((0, 1, 5, 20, 400, 5000)))
        if rng.random() < 0.3:
            data += magic + rng.randbytes(10)
        _timed(data, codec)
        _timed(rng.randbytes(len(data)), codec)


# -- the walkers of headers ------------------------------------------------


def _walkers() -> Iterator[tuple[str, Callable[[bytes], object], bytes]]:
    yield (
        "zstd frame",
        lambda data: zstd_layout.parse_frame_header(data, 0),
        bytes.fromhex("28b52ffda458000001001122334455667788"),
    )
    yield "zstd block", lambda data: zstd_layout.parse_block_header(data[:3].ljust(3), 0), b"abc"
    yield "zstd tables", lambda data: zstd_layout.may_begin_here(2, data), bytes(24)
    fields = bytes.fromhex("68700000000001000000")
    check = bytes([xxhash.xxh32_intdigest(fields) >> 8 & 0xFF])
    yield (
        "lz4 frame",
        lambda data: lz4_layout.parse_frame_header(data, 0),
        (lz4_layout.MAGIC + fields + check),
    )
    yield "xz", lambda data: xz_layout.read_blocks(MemorySource(data)), compress("xz", b"abc" * 99)
    yield "bzip2", lambda data: bzip2_layout.find_magic(data, 3), compress("bzip2", b"a" * 50)


@pytest.mark.parametrize(("name", "walk", "data"), list(_walkers()))
def test_headers(name: str, walk: Callable[[bytes], object], data: bytes) -> None:
    rng = random.Random(name)
    began = time.perf_counter()
    refused = 0
    for _ in range(2000):
        changed = bytes(_mutated(rng, data)[: rng.choice((len(data), len(data) + 9, 7))])
        try:
            walk(changed)
        except FormatError:
            refused += 1
    assert time.perf_counter() - began < _SLOWEST
    assert refused > 100 or name in {"zstd tables", "bzip2"}


def test_xz_indexes_with_right_checksums() -> None:
    """Mutations that get past the checksums: of the index, the footer, the header."""
    rng = random.Random(5)
    refused = 0
    for _ in range(3000):
        index = bytearray(b"\0\2" + rng.choice((b"\x19\x05\x30\x7f", b"\xff\x7f\x05\x09\x10")))
        index[rng.randrange(1, len(index))] = rng.choice((0, 1, 4, 5, 0x7F, 0x80, 0xFF))
        index += bytes(-len(index) % 4)
        index += zlib.crc32(index).to_bytes(4, "little")
        size = len(index) // 4 - 1 + rng.choice((0, 0, 0, 1, -1, 1 << 28))
        footer = size.to_bytes(4, "little") + b"\0\4"
        data = (
            xz_layout.stream_header(4) + bytes(rng.choice((0, 32, 84))) + bytes(index)
            + zlib.crc32(footer).to_bytes(4, "little") + footer + b"YZ"
        )  # fmt: skip
        try:
            blocks = xz_layout.read_blocks(MemorySource(data))
        except FormatError:
            refused += 1
        else:
            assert all(block.stored_offset + block.stored_size < len(data) for block in blocks)
            assert _timed(data, "xz") != "whole"
    assert refused > 1000


def test_seek_points_that_are_damaged() -> None:
    """A catalog may hold anything: the point is refused, or something else comes out of it."""
    data = compress("zstd", PLAIN)
    rng = random.Random(6)
    before = window.pack(PLAIN[:4096], None)
    for codec in sorted(set(CODECS.values())):
        for _ in range(60):
            point = SeekPoint(
                rng.randrange(len(PLAIN)),
                rng.choice((0, rng.randrange(len(data)), len(data) - 1, len(data), 1 << 40)),
                rng.choice((0, 1, 3, 7, 8, 9, 15, 1 << 16, 1 << 16 | 0x7064, (1 << 31) - 1)),
                rng.choice((0, 1, 4096, 32768, 1 << 20)),
                rng.choice((b"", before, rng.randbytes(20))),
            )
            count = 0
            try:
                for piece in codecs.named(codec).decode(MemorySource(data), point):
                    count += len(piece)
                    assert count < 1 << 24
            except FormatError:
                continue


def test_lz4_blocks_that_copy_from_before_the_window() -> None:
    block = lz4.block.compress(PLAIN, store_size=False)
    frame = lz4_layout.MAGIC + bytes.fromhex("4040")
    frame += bytes([xxhash.xxh32_intdigest(frame[4:]) >> 8 & 0xFF])
    rng = random.Random(8)
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(200):
        changed = _mutated(rng, block)[:60_000]
        outcomes[_timed(
            frame + len(changed).to_bytes(4, "little") + changed + bytes(4), "lz4"
        )] += 1  # fmt: skip
    assert outcomes["CorruptImageError"] > 50


@pytest.mark.parametrize("tool", TOOLS)
def test_whole_images_that_are_mutated(tool: str, tmp_path: Path) -> None:
    """Through the files: what is opened, scanned and refused as users do it."""
    image = partclone_writer.write(
        partclone_writer.Recipe(present=[True, False, True] * 100, block_size=64)
    ).image
    data = compress(tool, image)
    rng = random.Random(f"image {tool}")
    path = tmp_path / "image"
    for number in range(60):
        path.write_bytes(_mutated(rng, data) if number % 2 else data[: rng.randrange(len(data))])
        began = time.perf_counter()
        try:
            with detect.open_files(str(path)) as stored:
                scan_files(stored)
        except FormatError:
            pass
        assert time.perf_counter() - began < _SLOWEST
