"""A disk that is put together of pieces, read as one image."""

from __future__ import annotations

import concurrent.futures
import random
import threading
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.clonezilla.disk import DiskLayout
from imgcat.formats.composed.reader import DiskReader
from imgcat.formats.composed.segments import FileBytes, MadeBytes, PartitionBytes, Segment
from imgcat.formats.errors import CorruptImageError, TruncatedImageError
from imgcat.formats.extent import Extent, ExtentKind, check_cover, merged
from imgcat.formats.reader import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO


class MemoryReader:
    """An image in memory, of which the first byte of every 16 is a hole for `extents`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.closed = 0
        self.waits = False

    @property
    def size(self) -> int:
        return len(self.data)

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        for position in range(start, stop):
            kind = DATA if position % 16 else ZERO
            yield Extent(position, position + 1, kind, position if kind is DATA else -1)

    def read_into(self, view: memoryview, offset: int) -> None:
        assert 0 <= offset <= offset + len(view) <= self.size
        view[:] = self.data[offset : offset + len(view)]

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        self.read_into(view, offset)
        return not self.waits

    def close(self) -> None:
        self.closed += 1


def _layout(path: Path) -> tuple[DiskLayout, bytes, dict[str, MemoryReader]]:
    """Return a disk of 300 bytes with one of everything, its bytes, and its partitions."""
    generator = random.Random(7)
    literal, made = generator.randbytes(50), generator.randbytes(40)
    long, short = generator.randbytes(500), generator.randbytes(30)
    file = path / "sda-mbr"
    file.write_bytes(literal)
    segments = (
        Segment(0, 30, FileBytes(str(file), 20)),
        Segment(40, 60, MadeBytes(made, 20)),
        Segment(60, 120, PartitionBytes("long")),
        Segment(120, 130, FileBytes(str(file), 5)),
        Segment(130, 150, PartitionBytes("long", 70)),
        Segment(170, 260, PartitionBytes("short")),
    )
    disk = literal[20:50] + bytes(10) + made[20:] + long[:60] + literal[5:15] + long[70:90]
    disk += bytes(20) + short + bytes(60) + bytes(40)
    readers = {"long": MemoryReader(long), "short": MemoryReader(short)}
    return DiskLayout("sda", 300, 512, "dos", segments, ()), disk, readers


def test_every_range(tmp_path: Path) -> None:
    layout, disk, readers = _layout(tmp_path)
    reader = DiskReader(layout.size, layout.segments, readers.__getitem__)
    assert reader.size == 300
    for start in range(301):
        for stop in range(start, 301):
            for read in (reader.read_into, reader.read_into_nowait):
                buffer = bytearray(b"\xaa" * (stop - start + 2))
                done = read(memoryview(buffer)[1:-1], start)
                assert done is not False or (start, stop) == (0, 0)
                assert buffer == b"\xaa" + disk[start:stop] + b"\xaa"
    reader.close()
    reader.close()
    assert all(found.closed for found in readers.values())


def test_nothing_waits_unless_it_may(tmp_path: Path) -> None:
    layout, disk, readers = _layout(tmp_path)
    opened: list[str] = []

    def open_partition(name: str) -> MemoryReader:
        opened.append(name)
        return readers[name]

    reader = DiskReader(layout.size, layout.segments, open_partition)
    buffer = memoryview(bytearray(300))
    assert reader.read_into_nowait(buffer[:30], 30)
    assert not reader.read_into_nowait(buffer[:10], 0)
    assert not reader.read_into_nowait(buffer[:10], 65)
    assert opened == []
    assert read_bytes(reader, 20, 50) == disk[20:70]
    assert opened == ["long"]
    assert reader.read_into_nowait(buffer[:150], 0)
    assert buffer[:150] == disk[:150]
    assert not reader.read_into_nowait(buffer, 0)
    readers["long"].waits = True
    assert not reader.read_into_nowait(buffer[:150], 0)
    assert opened == ["long"]
    reader.close()
    assert (readers["long"].closed, readers["short"].closed) == (1, 0)


def test_extents(tmp_path: Path) -> None:
    layout, _, readers = _layout(tmp_path)
    reader = DiskReader(layout.size, layout.segments, readers.__getitem__)
    for start in range(0, 301, 7):
        for stop in range(start, 301, 7):
            check_cover(reader.extents(start, stop), start, stop)
    for extent in reader.extents(0, 300):
        assert extent.source_offset == (extent.start if extent.kind is DATA else -1)
    assert [(e.start, e.stop) for e in merged(reader.extents(0, 62)) if e.kind is DATA] == [
        (0, 30), (40, 60), (61, 62),
    ]  # fmt: skip
    assert [e.kind for e in merged(reader.extents(200, 300))] == [ZERO]
    with pytest.raises(ValueError, match="not inside"):
        reader.extents(5, 301)
    with pytest.raises(ValueError, match="not inside"):
        reader.read_into(memoryview(bytearray(2)), 299)
    with pytest.raises(ValueError, match="not inside"):
        reader.read_into_nowait(memoryview(bytearray(2)), -1)
    reader.close()


@pytest.mark.parametrize(
    ("error", "calls"), [(CorruptImageError("x", 0, "bad"), 1), (OSError(5, "I/O"), 4)]
)
def test_a_partition_that_cannot_be_opened(tmp_path: Path, error: Exception, calls: int) -> None:
    layout, disk, readers = _layout(tmp_path)
    called: list[str] = []

    def open_partition(name: str) -> MemoryReader:
        if name == "short":
            return readers[name]
        called.append(name)
        raise error

    reader = DiskReader(layout.size, layout.segments, open_partition)
    assert read_bytes(reader, 0, 60) == disk[:60]
    assert read_bytes(reader, 150, 150) == disk[150:]
    for offset in (0, 100, 140):
        with pytest.raises(type(error)):
            read_bytes(reader, offset, 100)
    assert [(e.start, e.stop) for e in reader.extents(62, 118)] == [(62, 118)]
    assert next(reader.extents(62, 118)).kind is DATA or called
    assert len(called) >= calls
    assert calls > 1 or len(called) == 1
    reader.close()


def test_a_partition_is_opened_once(tmp_path: Path) -> None:
    layout, disk, readers = _layout(tmp_path)
    opened: list[str] = []
    gate = threading.Event()

    def open_partition(name: str) -> MemoryReader:
        if name == "long":
            gate.wait(30)
        opened.append(name)
        return readers[name]

    reader = DiskReader(layout.size, layout.segments, open_partition)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(read_bytes, reader, 60, 60) for _ in range(6)]
        # One that takes long to open does not stop the other.
        assert read_bytes(reader, 170, 30) == disk[170:200]
        gate.set()
        assert all(found.result(30) == disk[60:120] for found in slow)
    assert sorted(opened) == ["long", "short"]
    reader.close()


def test_a_file_that_was_cut_since(tmp_path: Path) -> None:
    layout, disk, readers = _layout(tmp_path)
    (tmp_path / "sda-mbr").write_bytes(b"short")
    reader = DiskReader(layout.size, layout.segments, readers.__getitem__)
    with pytest.raises(TruncatedImageError):
        read_bytes(reader, 0, 20)
    assert read_bytes(reader, 40, 60) == disk[40:100]
    reader.close()
