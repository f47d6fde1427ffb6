"""What every reader of every format promises, tested on each in the same way."""

from __future__ import annotations

import concurrent.futures
import hashlib
import random
from typing import TYPE_CHECKING, cast

import pytest
from imgcat.formats.extent import ExtentKind, check_cover
from imgcat.formats.reader import read_bytes, stored_ranges
from imgcat.formats.sources.byte_source import ByteSource
from support.reader_cases import CASES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imgcat.formats.extent import Extent
    from imgcat.formats.reader import ImageReader
    from support.reader_case import ReaderCase, Subject

_FILLER = 0xAA
"""What a buffer holds before a read: a byte that the reader forgets to clear shows."""

_GUARD = 32
"""Bytes around a buffer that no read may touch."""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    """One open image after the other."""
    case: ReaderCase = request.param
    opened = case.open(tmp_path_factory.mktemp("image"))
    yield opened
    opened.reader.close()


@pytest.fixture(scope="module")
def guest(subject: Subject) -> bytes:
    """The guest bytes; where only their hash is known, read once and held against it."""
    if subject.guest is not None:
        return subject.guest
    whole = _read(subject.reader, 0, subject.reader.size)
    assert hashlib.sha256(whole).hexdigest() == subject.guest_sha256
    return whole


def _read(reader: ImageReader, start: int, stop: int) -> bytes:
    """Read ``[start, stop)`` into the middle of a larger buffer, and check its edges."""
    buffer = bytearray([_FILLER]) * (stop - start + 2 * _GUARD)
    reader.read_into(memoryview(buffer)[_GUARD : _GUARD + stop - start], start)
    return _inner(buffer)


def _read_nowait(reader: ImageReader, start: int, stop: int) -> bytes | None:
    buffer = bytearray([_FILLER]) * (stop - start + 2 * _GUARD)
    view = memoryview(buffer)[_GUARD : _GUARD + stop - start]
    return _inner(buffer) if reader.read_into_nowait(view, start) else None


def _inner(buffer: bytearray) -> bytes:
    edge = bytes([_FILLER]) * _GUARD
    assert buffer[:_GUARD] == edge
    assert buffer[-_GUARD:] == edge
    return bytes(buffer[_GUARD:-_GUARD])


def _ranges(subject: Subject, count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return ranges of all lengths, many of them at the border of a block."""
    rng = random.Random(f"{subject.info.fingerprint.hex()}-{seed}")
    size, block_size = subject.info.size, subject.info.block_size
    found = []
    for _ in range(count):
        start = rng.randrange(size)
        if rng.random() < 0.4:
            start = max(0, start // block_size * block_size + rng.choice((-1, 0, 1)))
        start = min(start, size - 1)
        longest = rng.choice((1, 2, block_size, 3 * block_size, 100 * block_size, size))
        stop = min(size, start + rng.randint(1, longest))
        if rng.random() < 0.4:
            stop = min(size, max(start + 1, stop // block_size * block_size))
        found.append((start, stop))
    return found


def _some_offsets(subject: Subject) -> list[int]:
    size, block_size = subject.info.size, subject.info.block_size
    offsets = {0, 1, block_size, block_size + 1, size // 2, size - 1, size}
    offsets |= {start for start, _ in _ranges(subject, 30, seed=1)}
    return sorted(offset for offset in offsets if offset <= size)


def test_size_is_exact(subject: Subject, guest: bytes) -> None:
    assert subject.reader.size == len(guest)
    assert subject.info.size == len(guest)


def test_whole_image(subject: Subject, guest: bytes) -> None:
    assert _read(subject.reader, 0, len(guest)) == guest


def test_whole_image_piece_by_piece(subject: Subject, guest: bytes) -> None:
    step = max(1000, len(guest) // 100)
    pieces = [
        _read(subject.reader, start, min(start + step, len(guest)))
        for start in range(0, len(guest), step)
    ]
    assert b"".join(pieces) == guest


def test_random_ranges(subject: Subject, guest: bytes) -> None:
    for start, stop in _ranges(subject, 200):
        assert _read(subject.reader, start, stop) == guest[start:stop], (start, stop)


def test_random_ranges_without_waiting(subject: Subject, guest: bytes) -> None:
    # The index is in memory after this, so that nothing is left to wait for but the device.
    _read(subject.reader, 0, len(guest))
    for start, stop in _ranges(subject, 200, seed=2):
        data = _read_nowait(subject.reader, start, stop)
        if data is None:
            assert not subject.never_waits, (start, stop)
        else:
            assert data == guest[start:stop], (start, stop)


def test_first_and_last_byte(subject: Subject, guest: bytes) -> None:
    last = len(guest) - 1
    assert _read(subject.reader, 0, 1) == guest[:1]
    assert _read(subject.reader, last, last + 1) == guest[last:]
    assert _read_nowait(subject.reader, last, last + 1) in {None, guest[last:]}


def test_nothing_is_asked_and_nothing_given(subject: Subject) -> None:
    for offset in _some_offsets(subject):
        assert list(subject.reader.extents(offset, offset)) == [], offset
        assert _read(subject.reader, offset, offset) == b"", offset
        assert _read_nowait(subject.reader, offset, offset) in {None, b""}, offset


def test_extents_cover_every_request(subject: Subject) -> None:
    size = subject.reader.size
    for start, stop in [(0, size), (size - 1, size), *_ranges(subject, 100, seed=3)]:
        check_cover(subject.reader.extents(start, stop), start, stop)


def test_extents_say_where_the_bytes_are(subject: Subject, guest: bytes) -> None:
    for start, stop in [(0, len(guest)), *_ranges(subject, 30, seed=4)]:
        for extent in subject.reader.extents(start, stop):
            expected = guest[extent.start : extent.stop]
            if extent.kind is ExtentKind.ZERO:
                assert (extent.source, extent.offset, extent.stored_length) == (None, -1, 0)
                assert expected == bytes(extent.length), extent
            elif extent.kind is ExtentKind.COMPRESSED:
                # Its bytes are those of a piece that must be decoded whole.
                assert extent.source is subject.source
                assert 0 < extent.stored_length <= subject.source.size - extent.offset
            else:
                assert extent.kind is ExtentKind.DATA, extent
                assert extent.stored_length == extent.length
                assert _stored(extent) == expected, extent
                origin = extent.origin
                assert origin.source is not None
                assert origin.source.read_at(origin.offset, 1) == expected[:1]
                assert origin.depth == 0 or origin.source is not extent.source


def _stored(extent: Extent) -> bytes:
    """Return the bytes of an extent from where it says that they are."""
    if isinstance(extent.source, ByteSource):
        return extent.source.read_at(extent.offset, extent.length)
    return read_bytes(cast("ImageReader", extent.source), extent.offset, extent.length)


def test_stored_ranges_are_the_extents_that_are_stored(subject: Subject) -> None:
    for start, stop in [(0, subject.reader.size), *_ranges(subject, 30, seed=5)]:
        extents = subject.reader.extents(start, stop)
        expected = [(extent.start, extent.stop) for extent in extents if extent.is_stored]
        found = list(stored_ranges(subject.reader, start, stop))
        assert all(start <= first < last <= stop for first, last in found)
        assert _joined(found) == _joined(expected)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ascending ranges, those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def test_extents_of_the_whole_add_up_to_the_used_bytes(subject: Subject) -> None:
    extents = subject.reader.extents(0, subject.reader.size)
    stored = sum(extent.length for extent in extents if extent.is_stored)
    assert stored == subject.info.used_bytes


def test_out_of_range(subject: Subject) -> None:
    size = subject.reader.size
    for start, stop in [(-1, 1), (-5, -1), (size - 1, size + 1), (size, size + 1), (1 << 70,) * 2]:
        with pytest.raises(ValueError, match=r"is not inside \[0, "):
            list(subject.reader.extents(start, stop))
        for read in (subject.reader.read_into, subject.reader.read_into_nowait):
            with pytest.raises(ValueError, match=r"is not inside \[0, "):
                read(memoryview(bytearray(stop - start)), start)


def test_backwards_range(subject: Subject) -> None:
    with pytest.raises(ValueError, match="is not inside"):
        list(subject.reader.extents(1, 0))


def test_eight_threads(subject: Subject, guest: bytes) -> None:
    def work(seed: int) -> list[tuple[int, int]]:
        return [
            (start, stop)
            for start, stop in _ranges(subject, 40, seed=10 + seed)
            if _read(subject.reader, start, stop) != guest[start:stop]
            or _read_nowait(subject.reader, start, stop) not in {None, guest[start:stop]}
        ]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[]] * 8


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """Apart from the others, which go on reading."""
    for case in CASES:
        if case.name.endswith("-file"):
            opened = case.open(tmp_path)
            opened.reader.close()
            opened.reader.close()
