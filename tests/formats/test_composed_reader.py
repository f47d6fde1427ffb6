"""An image that is put together of pieces: parts that open late, fail, or are changed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.composed import parts
from imgcat.formats.composed.reader import ComposedReader, Slice
from imgcat.formats.composed.segments import ChildBytes, LiteralBytes, Segment
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.extent import Extent, ExtentKind, Origin, check_cover, data, merged, zero
from imgcat.formats.index.cache import IndexCache
from imgcat.formats.reader import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA, ZERO, UNREADABLE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNREADABLE


class MemoryReader:
    """An image in memory, of which the first byte of every 16 is a hole for `extents`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.closed = 0
        self.waits = False

    @property
    def size(self) -> int:
        return len(self.content)

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        for position in range(start, stop):
            if position % 16:
                yield data(position, position + 1, "stored", position)
            else:
                yield zero(position, position + 1)

    def read_into(self, view: memoryview, offset: int) -> None:
        assert 0 <= offset <= offset + len(view) <= self.size
        view[:] = self.content[offset : offset + len(view)]

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        self.read_into(view, offset)
        return not self.waits

    def close(self) -> None:
        self.closed += 1


def _image() -> tuple[list[Segment], bytes, dict[str, MemoryReader]]:
    """Return an image of 300 bytes with one of everything, its bytes, and its children."""
    generator = random.Random(7)
    literal = generator.randbytes(50)
    long, short = generator.randbytes(500), generator.randbytes(30)
    segments = [
        Segment(0, 30, LiteralBytes(literal, 20)),
        Segment(60, 120, ChildBytes("long")),
        Segment(120, 130, LiteralBytes(literal, 5)),
        Segment(130, 150, ChildBytes("long", 70)),
        Segment(170, 260, ChildBytes("short")),
    ]
    whole = literal[20:50] + bytes(30) + long[:60] + literal[5:15] + long[70:90]
    whole += bytes(20) + short + bytes(60) + bytes(40)
    return segments, whole, {"long": MemoryReader(long), "short": MemoryReader(short)}


def test_every_range() -> None:
    segments, whole, children = _image()
    reader = ComposedReader.of_segments(300, segments, children.__getitem__)
    assert reader.size == 300
    for start in range(301):
        for stop in range(start, 301):
            for read in (reader.read_into, reader.read_into_nowait):
                buffer = bytearray(b"\xaa" * (stop - start + 2))
                done = read(memoryview(buffer)[1:-1], start)
                assert done is not False or (start, stop) == (0, 0)
                assert buffer == b"\xaa" + whole[start:stop] + b"\xaa"
    reader.close()
    reader.close()
    assert all(found.closed for found in children.values())


def test_nothing_waits_unless_it_may() -> None:
    segments, whole, children = _image()
    opened: list[str] = []

    def open_child(name: str) -> MemoryReader:
        opened.append(name)
        return children[name]

    reader = ComposedReader.of_segments(300, segments, open_child)
    buffer = memoryview(bytearray(300))
    assert reader.read_into_nowait(buffer[:30], 30)
    # Literal bytes are loaded when they are first read, too.
    assert not reader.read_into_nowait(buffer[:10], 0)
    assert not reader.read_into_nowait(buffer[:10], 65)
    assert opened == []
    assert read_bytes(reader, 0, 150) == whole[:150]
    assert opened == ["long"]
    assert reader.read_into_nowait(buffer[:150], 0)
    assert buffer[:150] == whole[:150]
    assert not reader.read_into_nowait(buffer, 0)
    children["long"].waits = True
    assert not reader.read_into_nowait(buffer[:150], 0)
    assert opened == ["long"]
    reader.close()
    assert (bool(children["long"].closed), children["short"].closed) == (True, 0)


def test_extents_lead_to_the_children() -> None:
    segments, _whole, children = _image()
    reader = ComposedReader.of_segments(300, segments, children.__getitem__)
    for start in range(0, 301, 7):
        for stop in range(start, 301, 7):
            check_cover(reader.extents(start, stop), start, stop)
    by_start = {extent.start: extent for extent in reader.extents(0, 300)}
    long, inner = children["long"], Origin(1, "stored", 1)
    assert by_start[61] == Extent(61, 62, DATA, long, 1, 1, inner=inner)
    inner = inner._replace(offset=71)
    assert by_start[131] == Extent(131, 132, DATA, long, 71, 1, inner=inner)
    assert by_start[76].kind is ZERO
    assert (by_start[0].kind, by_start[0].stop, by_start[0].offset) == (DATA, 30, 0)
    assert [e.kind for e in merged(reader.extents(200, 300))] == [ZERO]
    with pytest.raises(ValueError, match="not inside"):
        reader.extents(5, 301)
    with pytest.raises(ValueError, match="not inside"):
        reader.read_into(memoryview(bytearray(2)), 299)
    with pytest.raises(ValueError, match="not inside"):
        reader.read_into_nowait(memoryview(bytearray(2)), -1)
    reader.close()


@pytest.mark.parametrize("error", [CorruptImageError("x", 0, "bad"), OSError(5, "I/O")])
def test_a_child_that_cannot_be_opened_spoils_only_its_own_bytes(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments, whole, children = _image()
    now = 100.0
    monkeypatch.setattr(parts.time, "monotonic", lambda: now)
    called: list[str] = []

    def open_child(name: str) -> MemoryReader:
        if name == "short":
            return children[name]
        called.append(name)
        if len(called) < 3:
            raise error
        return children[name]

    reader = ComposedReader.of_segments(300, segments, open_child)
    assert read_bytes(reader, 0, 60) == whole[:60]
    assert read_bytes(reader, 150, 150) == whole[150:]
    for offset in (0, 100, 140):
        with pytest.raises(type(error)):
            read_bytes(reader, offset, 100)
    (lost,) = reader.extents(62, 118)
    assert (lost.start, lost.stop, lost.kind) == (62, 118, UNREADABLE)
    assert lost.reason.startswith("long: ")
    assert [(e.start, e.stop) for e in merged(reader.extents(0, 300)) if e.kind is UNREADABLE] == [
        (60, 120), (130, 150),
    ]  # fmt: skip
    # It is not tried again at each read, but after a while.
    assert called == ["long"]
    now += 2
    with pytest.raises(type(error)):
        read_bytes(reader, 60, 1)
    assert called == ["long", "long"]
    now += 2
    assert read_bytes(reader, 60, 60) == whole[60:120]
    reader.close()


def test_a_child_is_opened_once() -> None:
    segments, whole, children = _image()
    opened: list[str] = []
    gate = threading.Event()

    def open_child(name: str) -> MemoryReader:
        if name == "long":
            gate.wait(30)
        opened.append(name)
        return children[name]

    reader = ComposedReader.of_segments(300, segments, open_child)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(read_bytes, reader, 60, 60) for _ in range(6)]
        # One that takes long to open does not stop the other.
        assert read_bytes(reader, 170, 30) == whole[170:200]
        gate.set()
        assert all(found.result(30) == whole[60:120] for found in slow)
    assert sorted(opened) == ["long", "short"]
    reader.close()


def test_literal_bytes_are_loaded_once_and_again_when_they_were_dropped() -> None:
    loads = []

    def load() -> bytes:
        loads.append(1)
        return b"0123456789"

    cache = IndexCache(budget=15)
    literal = parts.Literal(10, load, cache, (1, 0))
    reader = ComposedReader(30, [Slice(5, 15, literal, 0)])
    assert read_bytes(reader, 0, 30) == bytes(5) + b"0123456789" + bytes(15)
    assert read_bytes(reader, 7, 3) == b"234"
    assert loads == [1]
    cache.put((2, 0), _Heavy())
    assert read_bytes(reader, 7, 3) == b"234"
    assert loads == [1, 1]


class _Heavy:
    weight = 12


class _Endless(MemoryReader):
    """An image of any size, of one byte over and over, in one extent."""

    def __init__(self, size: int) -> None:
        super().__init__(b"")
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        yield data(start, stop, "stored", start)

    def read_into(self, view: memoryview, offset: int) -> None:
        view[:1] = bytes([offset % 251])


def test_memory_does_not_grow_with_the_image() -> None:
    peaks = []
    for size in (1 << 30, 1 << 40):
        segments = [
            Segment(0, 100, LiteralBytes(bytes(100))),
            Segment(1 << 20, size // 2, ChildBytes("first")),
            Segment(size // 2, size, ChildBytes("second", size // 4)),
        ]
        view = memoryview(bytearray(1 << 20))
        tracemalloc.start()
        with contextlib.closing(
            ComposedReader.of_segments(size, segments, lambda _, size=size: _Endless(size))
        ) as reader:
            for offset in range(0, size - len(view), size // 100):
                reader.read_into(view, offset)
                assert reader.read_into_nowait(view, offset)
            assert len(list(merged(reader.extents(0, size)))) == 4
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4096
    # The zeros that holes are filled from take one.
    assert max(peaks) < 2 << 20
