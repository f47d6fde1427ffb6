"""Every image, by every compressor, in one file or in chunks: read as if it were plain."""

from __future__ import annotations

import hashlib
import itertools
import random
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.codecs import registry as codecs
from imgcat.formats.codecs.scan import scan_stream
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.files import detect
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.reader import read_bytes
from support.memory_source import MemorySource
from support.opening import open_scanned
from support.packers import split
from support.streams import (
    CODECS,
    IMAGES,
    TOOLS,
    compress,
    mixed,
    packed,
    packed_mixed,
    plain_image,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from imgcat.formats.codecs.seek_points import StreamIndex
    from imgcat.formats.reader import ImageInfo

SPACING = 64 << 10
"""So small that every block that can be a seek point is one."""

POINTS = {
    "gzip": 2, "pigz": 2, "bgzf": 2, "bzip2": 6, "pbzip2": 40, "xz": 1, "xz-blocks": 7,
    "lzma": 1, "lzma-tool": 1, "zstd": 5, "zstdmt": 5, "zstd-long": 4, "pzstd": 5, "lz4": 2,
    "lz4-small": 30, "lz4-checked": 30, "lz4-linked": 80, "lz4-legacy": 1,
}  # fmt: skip
"""Seek points at the least in seven MiB of mixed data."""

COMPARED = (
    "format", "size", "block_size", "total_blocks", "used_blocks", "used_bytes", "checksum",
    "header", "layout", "content", "damage", "warnings",
)  # fmt: skip


def _facts(info: ImageInfo) -> dict[str, object]:
    return {name: getattr(info, name) for name in COMPARED}


def _paths(directory: Path, data: bytes, letters: int, name: str) -> list[Path]:
    path = directory / name
    path.write_bytes(data)
    return split(path, letters, len(data) // 5 + 1) if letters else [path]


@pytest.mark.parametrize("letters", [0, 2, 3])
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_reads_as_if_it_were_plain(
    tmp_path: Path, image: str, tool: str, letters: int
) -> None:
    plain = plain_image(image)
    # The name says something else, and any chunk stands for all.
    wrong = "sda1.bz2.img" if CODECS[tool] != "bzip2" else "sda1.gz.img"
    paths = _paths(tmp_path, packed(tool, image), letters, wrong)
    assert len(paths) == (5 if letters else 1)
    (tmp_path / "plain").write_bytes(plain.image)
    with detect.open_files(str(tmp_path / "plain")) as stored:
        expected = _facts(scan_files(stored).info)

    with detect.open_files(str(paths[len(paths) // 2])) as stored:
        assert stored.codec == CODECS[tool]
        assert [file.path for file in stored.files] == list(map(str, paths))
        scan = scan_files(stored)
        assert _facts(scan.info) == expected
        assert stored.source.size == len(plain.image) - plain.header_size
        reader = open_scanned(stored.source, scan)
        rng = random.Random(f"{image}{tool}{letters}")
        for _ in range(60):
            start = rng.randrange(len(plain.guest))
            length = min(rng.choice((1, 512, 4096, 200_000)), len(plain.guest) - start)
            assert read_bytes(reader, start, length) == plain.guest[start : start + length], start
        whole = read_bytes(reader, 0, reader.size)
        assert hashlib.sha256(whole).digest() == hashlib.sha256(plain.guest).digest()
        (index,) = stored.indexes
        assert index.damage is None
        assert index.plain_size == len(plain.image)
        assert index.stored_size == len(packed(tool, image))


@pytest.mark.parametrize("tool", TOOLS)
def test_sniff_knows_each_by_its_first_bytes(tool: str) -> None:
    data = packed_mixed(tool, 10_000)
    for head in (data, data[:16], compress(tool, b"")):
        assert codecs.sniff(MemorySource(head)) == CODECS[tool]
    for other in (b"", data[1:], b"\0" + data, data[:1], data[:2]):
        assert codecs.sniff(MemorySource(other)) is None


def _scanned(tool: str, data: bytes, plain: bytes, spacing: int | None) -> StreamIndex:
    """Scan a stream, and hold what comes out on the way against the plain data."""
    codec = codecs.named(CODECS[tool])
    seen = hashlib.sha256()

    class Taker:
        def take(self, piece: bytes) -> None:
            seen.update(piece)

    index = scan_stream(MemorySource(data), codec, spacing=spacing, taker=Taker())
    assert index.damage is None
    assert (index.codec, index.plain_size, index.stored_size) == (
        CODECS[tool], len(plain), len(data),
    )  # fmt: skip
    assert seen.digest() == hashlib.sha256(plain).digest()
    offsets = [point.plain_offset for point in index.points]
    assert offsets[0] == 0
    assert all(before < after for before, after in itertools.pairwise(offsets))
    assert offsets[-1] < len(plain)
    return index


def _check_points(tool: str, data: bytes, plain: bytes, index: StreamIndex) -> None:
    """Decode from each point up to the next, and a page further, as readers do."""
    codec = codecs.named(CODECS[tool])
    stops = [point.plain_offset for point in index.points[1:]] + [len(plain)]
    for point, stop in zip(index.points, stops, strict=True):
        wanted = min(stop + (128 << 10), len(plain)) - point.plain_offset
        position = point.plain_offset
        for piece in codec.decode(MemorySource(data), point):
            assert piece == plain[position : position + len(piece)], point._replace(window=b"")
            position += len(piece)
            if position - point.plain_offset >= wanted:
                break
        assert position - point.plain_offset >= wanted


@pytest.mark.parametrize("spacing", [None, SPACING])
@pytest.mark.parametrize("tool", TOOLS)
def test_each_seek_point_is_entered(tool: str, spacing: int | None) -> None:
    plain, data = mixed(7 << 20), packed_mixed(tool, 7 << 20)
    index = _scanned(tool, data, plain, spacing)
    if spacing is not None:
        assert len(index.points) >= POINTS[tool]
    else:
        # Little is kept where nobody asks for more.
        assert sum(len(point.window) for point in index.points) < len(data) // 50
    _check_points(tool, data, plain, index)


@pytest.mark.parametrize("tool", ["pzstd", "xz-blocks", "pbzip2", "lz4-linked", "zstd", "bgzf"])
def test_decoding_goes_on_to_the_end_from_any_point(tool: str) -> None:
    plain, data = mixed(3 << 20, 7), packed_mixed(tool, 3 << 20, 7)
    index = _scanned(tool, data, plain, 512 << 10)
    codec = codecs.named(CODECS[tool])
    for point in index.points:
        whole = b"".join(codec.decode(MemorySource(data), point))
        assert whole == plain[point.plain_offset :]


@pytest.mark.parametrize("tool", ["gzip", "pigz", "bgzf"])
def test_gzip_is_entered_at_any_bit(tool: str) -> None:
    plain = _repetitive(48 << 20)
    data = compress(tool, plain)
    index = _scanned(tool, data, plain, None)
    assert len(index.points) >= 8
    if tool != "bgzf":
        assert len({point.state for point in index.points[1:]}) > 2
        assert all(point.window_size == 32 << 10 for point in index.points[1:])
    _check_points(tool, data, plain, index)


def _repetitive(size: int) -> bytes:
    pieces: Sequence[bytes] = [mixed(400_000, seed) for seed in range(40, 44)]
    rng = random.Random(9)
    out = bytearray()
    while len(out) < size:
        piece = rng.choice(pieces)
        start = rng.randrange(len(piece))
        out += piece[start : start + rng.randrange(40_000)] + bytes(rng.randrange(100_000))
    return bytes(out[:size])


@pytest.mark.parametrize("tool", ["zstd", "zstdmt"])
def test_points_inside_of_a_frame_take_a_window(tool: str) -> None:
    plain, data = mixed(7 << 20), packed_mixed(tool, 7 << 20)
    index = _scanned(tool, data, plain, SPACING)
    inside = [point for point in index.points if point.state]
    assert len(inside) == len(index.points) - 1
    assert {point.window_size for point in inside} == {2 << 20}
    codec = codecs.named("zstd")
    refused = 0
    for point in inside:
        # It is needed: without it, something else comes out, or nothing.
        bare = point._replace(window_size=0, window=b"")
        start = point.plain_offset
        try:
            found = b"".join(itertools.islice(codec.decode(MemorySource(data), bare), 8))
        except CorruptImageError:
            refused += 1
        else:
            assert found != plain[start : start + len(found)], start
    assert refused
