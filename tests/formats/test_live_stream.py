"""Scanning ntfsclone in the pass that decompresses it: the same result, and one decoding."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.files import detect
from imgcat.formats.ntfsclone import reader as ntfsclone
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.sources import live_stream as flows
from imgcat.formats.sources.live_stream import LivePieces, LiveStream
from imgcat.formats.sources.prefetch import OVERLAP, PIECE_SIZE
from support import ntfsclone_writer
from support.codec_counter import CodecCounter
from support.packers import split
from support.streams import compress, mixed, packed, plain_image

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.codecs.seek_points import StreamIndex
    from imgcat.formats.reader import Scan

TOOLS = ["gzip", "pbzip2", "xz-blocks", "zstd", "pzstd", "lz4", "lz4-linked", "lzma"]


def _scanned(path: Path) -> tuple[Scan, tuple[StreamIndex, ...]]:
    with detect.open_files(str(path)) as stored:
        return scan_files(stored), stored.indexes


def _ranges(scan: Scan) -> list[tuple[int, ...]]:
    assert scan.ranges is not None
    return [tuple(each) for each in scan.ranges]


@pytest.mark.parametrize("tool", TOOLS)
def test_one_pass_gives_what_the_plain_file_gives(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = plain_image("ntfsclone").image
    (tmp_path / "plain").write_bytes(plain)
    expected, none = _scanned(tmp_path / "plain")
    assert none == ()
    (tmp_path / "packed").write_bytes(packed(tool, "ntfsclone"))
    counting = CodecCounter(monkeypatch)
    found, (index,) = _scanned(tmp_path / "packed")
    # Beside the one pass: a look at the head.
    assert (counting.scans, counting.decodes) == (1, 1)
    assert _ranges(found) == _ranges(expected)
    assert index.damage is None
    info = dataclasses.replace(found.info, fingerprint=b"")
    assert info == dataclasses.replace(expected.info, fingerprint=b"")
    assert _scanned(tmp_path / "packed")[0].info.fingerprint == found.info.fingerprint


def test_the_scan_reads_the_compressed_file_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = packed("zstd", "ntfsclone")
    paths = split_into(tmp_path, data)
    read = 0
    original = ntfsclone.walk_through
    looked: list[str] = []

    def scan(source: Any, *arguments: Any) -> Scan:
        looked.append(type(source).__name__)
        return original(source, *arguments)

    monkeypatch.setattr(ntfsclone, "walk_through", scan)
    with detect.open_files(str(paths[2])) as stored:
        for file in stored.files:
            inner = file.readv

            def readv(buffers: Any, offset: int, inner: Any = inner) -> None:
                nonlocal read
                read += sum(map(len, buffers))
                inner(buffers, offset)

            monkeypatch.setattr(file, "readv", readv)
        scan_files(stored)
    # The samples of the fingerprint may make it decode some of it again.
    assert len(data) <= read <= 2 * len(data)
    assert looked == ["LiveStream"]


def split_into(directory: Path, data: bytes) -> list[Path]:
    path = directory / "image"
    path.write_bytes(data)
    return split(path, 2, len(data) // 4 + 1)


@pytest.mark.parametrize("tool", ["gzip", "zstd", "pzstd", "lz4-small", "lz4-linked", "pbzip2"])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
def test_cut_off_it_is_what_the_plain_file_cut_off_there_is(
    tool: str, share: float, tmp_path: Path
) -> None:
    data = compress(tool, plain_image("ntfsclone").image)
    (tmp_path / "packed").write_bytes(data[: int(len(data) * share)])
    found, (index,) = _scanned(tmp_path / "packed")
    assert index.damage is not None
    (tmp_path / "plain").write_bytes(plain_image("ntfsclone").image[: index.plain_size])
    expected, _none = _scanned(tmp_path / "plain")
    assert expected.info.damage is not None
    assert _ranges(found) == _ranges(expected)
    assert found.info.missing == expected.info.missing
    assert found.info.damage == f"{expected.info.damage}; {index.damage}"


@pytest.mark.parametrize(
    "recipe",
    [
        ntfsclone_writer.Recipe(order=[0, 1, 2, 5, 6, 9, 17], cluster_count=20),
        ntfsclone_writer.Recipe(order=[], cluster_count=20),
        ntfsclone_writer.Recipe(order=[4, 5, 2, 9, 0, 7], cluster_count=20, trailing=b"more" * 9),
        ntfsclone_writer.Recipe(order=range(40), cluster_count=40, major=3),
        # Larger than what a flow keeps of its head, and than a piece.
        ntfsclone_writer.Recipe(
            order=range(0, 700, 2), cluster_count=700, cluster_size=32768, minor=0
        ),
    ],
)
def test_images_of_every_kind_by_the_flow(recipe: ntfsclone_writer.Recipe, tmp_path: Path) -> None:
    image = ntfsclone_writer.write(recipe).image
    (tmp_path / "plain").write_bytes(image)
    (tmp_path / "packed").write_bytes(compress("zstd", image))
    expected, found = _scanned(tmp_path / "plain")[0], _scanned(tmp_path / "packed")[0]
    assert _ranges(found) == _ranges(expected)
    assert dataclasses.replace(found.info, fingerprint=b"") == dataclasses.replace(
        expected.info, fingerprint=b""
    )


# -- the flow itself -------------------------------------------------------


def _fed(flow: LiveStream, data: bytes, step: int) -> threading.Thread:
    def run() -> None:
        for start in range(0, len(data), step):
            flow.take(data[start : start + step])
        flow.end()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("start", [0, 1, 700, 5000])
@pytest.mark.parametrize("step", [333, 1000, 100_000])
def test_pieces_of_a_flow(start: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "PIECE_SIZE", 1000)
    data = mixed(20_500)
    flow = LiveStream()
    thread = _fed(flow, data, step)
    position = start
    with LivePieces(flow, start) as pieces:
        while (piece := pieces.take()) is not None:
            assert piece.offset == position
            assert 0 < piece.length <= 1000
            assert piece.filled == min(piece.length + OVERLAP, len(data) - position)
            assert piece.buffer[: piece.filled] == data[position : position + piece.filled]
            position += piece.length
    thread.join(60)
    assert position == flow.size == len(data)


def test_a_flow_that_ends_before_the_first_piece() -> None:
    flow = LiveStream()
    flow.take(b"abc")
    flow.end()
    with LivePieces(flow, 3) as pieces:
        assert pieces.take() is None
    flow = LiveStream()
    flow.take(b"abc")
    flow.end()
    with LivePieces(flow, 9) as pieces:
        assert pieces.take() is None


def test_who_decodes_waits_for_who_looks_and_goes_on_when_he_leaves() -> None:
    flow = LiveStream()
    piece = bytes(PIECE_SIZE)
    taken = 0

    def run() -> None:
        nonlocal taken
        for _ in range(20):
            flow.take(piece)
            taken += 1
        flow.end()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert taken <= 6
    assert flow.size == flows.ENDLESS
    flow.leave()
    thread.join(60)
    assert not thread.is_alive()
    assert flow.size == 20 * PIECE_SIZE


def test_the_head_of_a_flow_can_be_read_again() -> None:
    data = mixed(3 << 20)
    flow = LiveStream()
    thread = _fed(flow, data, 100_000)
    assert flow.read_at(0, 64) == data[:64]
    assert flow.read_at((1 << 20) - 10, 10) == data[(1 << 20) - 10 : 1 << 20]
    buffers = [memoryview(bytearray(5)), memoryview(bytearray(7))]
    flow.readv(buffers, 100)
    assert b"".join(buffers) == data[100:112]
    assert not flow.readv_nowait(buffers, 0)
    with pytest.raises(TruncatedImageError):
        flow.read_at(2 << 20, 1)
    flow.close()
    thread.join(60)
    assert not thread.is_alive()
