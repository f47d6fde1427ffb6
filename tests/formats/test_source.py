"""Reading from files: exactly, or an error that says where; and how little is read."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import random
import signal
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.partclone import reader as partclone
from imgcat.formats.sources.file import IOV_MAX, FileSource
from support.memory_source import Call, CountingSource
from support.opening import open_scanned
from support.partclone_writer import crc_register, header_v2, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from imgcat.formats.index.rank_chunk import RankChunk

_DATA = pattern(100_000)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileSource]:
    """A file that holds `_DATA`."""
    path = tmp_path / "data"
    path.write_bytes(_DATA)
    opened = FileSource(path)
    yield opened
    opened.close()


def _buffers(lengths: Sequence[int]) -> list[memoryview]:
    return [memoryview(bytearray(b"\xaa" * length)) for length in lengths]


# --- exact reads -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 1), (17, 1000), (99_999, 1), (100_000, 0), (0, 100_000), (50_000, 50_000)],
)
def test_read_at_is_exact(source: FileSource, offset: int, length: int) -> None:
    assert source.read_at(offset, length) == _DATA[offset : offset + length]


def test_readv_fills_the_buffers_one_after_the_other(source: FileSource) -> None:
    buffers = _buffers([3, 0, 1000, 1, 0])
    source.readv(buffers, 20)
    assert b"".join(buffers) == _DATA[20 : 20 + 1004]


@pytest.mark.parametrize("count", [IOV_MAX - 1, IOV_MAX, IOV_MAX + 1, 3 * IOV_MAX + 7])
def test_more_buffers_than_one_call_takes(source: FileSource, count: int) -> None:
    rng = random.Random(count)
    lengths = [rng.randrange(30) for _ in range(count)]
    buffers = _buffers(lengths)
    source.readv(buffers, 11)
    assert b"".join(buffers) == _DATA[11 : 11 + sum(lengths)]

    buffers = _buffers(lengths)
    if source.readv_nowait(buffers, 11):
        assert b"".join(buffers) == _DATA[11 : 11 + sum(lengths)]


def test_nothing_to_fill_is_no_error(source: FileSource) -> None:
    for offset in (0, 50, 100_000):
        source.readv([], offset)
        source.readv(_buffers([0]), offset)
        source.readv(_buffers([0, 0]), offset)


def test_kernel_may_give_less_than_it_was_asked_for(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv, pread = os.preadv, os.pread

    def stingy_preadv(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        first = next(buffer for buffer in buffers if len(buffer))
        return preadv(fd, [first[:7]], offset, flags)

    def stingy_pread(fd: int, length: int, offset: int) -> bytes:
        return pread(fd, min(length, 7), offset)

    monkeypatch.setattr(os, "preadv", stingy_preadv)
    monkeypatch.setattr(os, "pread", stingy_pread)
    buffers = _buffers([5, 100, 0, 14, 1, 33])
    source.readv(buffers, 1000)
    assert b"".join(buffers) == _DATA[1000:1153]
    assert source.read_at(5, 50) == _DATA[5:55]
    assert not source.readv_nowait(_buffers([100]), 0)


def test_path_may_be_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/image-\xff.img"
    with open(path, "wb") as file:
        file.write(b"abc")
    opened = FileSource(os.fsdecode(path))
    assert opened.read_at(0, 3) == b"abc"
    assert opened.path == os.fsdecode(path)
    opened.close()


# --- short reads -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length", "missing"),
    [(99_990, 11, 1), (0, 100_001, 1), (100_000, 1, 1), (200_000, 5, 100_005)],
)
def test_read_at_behind_the_end(source: FileSource, offset: int, length: int, missing: int) -> None:
    with pytest.raises(TruncatedImageError) as caught:
        source.read_at(offset, length)
    assert str(caught.value) == f"source @0x186a0: the file ends here, {missing} bytes short"


def test_readv_behind_the_end_names_where_the_file_ends(source: FileSource) -> None:
    with pytest.raises(TruncatedImageError) as caught:
        source.readv(_buffers([4, 10]), 99_990)
    assert str(caught.value) == "source @0x186a0: the file ends here, 4 bytes short"
    with pytest.raises(TruncatedImageError):
        source.readv(_buffers([4]), 1 << 40)
    with pytest.raises(TruncatedImageError):
        # The end lies in the second of the calls that so many buffers need.
        source.readv(_buffers([70] * (2 * IOV_MAX)), 0)


def test_file_that_shrinks_while_it_is_open(source: FileSource) -> None:
    os.truncate(source.path, 500)
    assert source.size == 100_000
    with pytest.raises(TruncatedImageError) as caught:
        source.read_at(400, 200)
    assert str(caught.value) == "source @0x1f4: the file ends here, 100 bytes short"
    assert source.read_at(400, 100) == _DATA[400:500]
    assert not source.readv_nowait(_buffers([200]), 400)


def test_short_read_allocates_nothing(source: FileSource) -> None:
    tracemalloc.start()
    try:
        for length in (100_001, 1 << 40, 1 << 62, 1 << 70):
            with pytest.raises(TruncatedImageError):
                source.read_at(0, length)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000


@pytest.mark.parametrize("offset", [(1 << 63) - 1, 1 << 63, 1 << 64])
def test_offset_that_no_file_can_have(source: FileSource, offset: int) -> None:
    # A header may lead there; what it leads to is not in the file.
    with pytest.raises(TruncatedImageError):
        source.read_at(offset, 10)
    with pytest.raises(TruncatedImageError):
        source.readv(_buffers([10]), offset)
    assert not source.readv_nowait(_buffers([10]), offset)


# --- reading without waiting -------------------------------------------------------------------


def test_readv_nowait_reads_what_is_in_memory(source: FileSource) -> None:
    source.read_at(0, 100_000)
    buffers = _buffers([10, 5, 300])
    try:
        os.preadv(source._fd, _buffers([1]), 0, os.RWF_NOWAIT)
    except OSError:
        pytest.skip("the file system cannot tell")
    assert source.readv_nowait(buffers, 77)
    assert b"".join(buffers) == _DATA[77:392]


def test_readv_nowait_leaves_the_end_of_the_file_to_readv(source: FileSource) -> None:
    assert not source.readv_nowait(_buffers([5, 6]), 99_990)
    assert not source.readv_nowait(_buffers([1]), 100_000)
    assert not source.readv_nowait(_buffers([90] * (IOV_MAX + 200)), 0)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS])
def test_readv_nowait_where_it_would_wait(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", refuse)
    assert not source.readv_nowait(_buffers([5]), 0)
    assert not source.readv_nowait(_buffers([5] * (IOV_MAX + 1)), 0)


def test_device_errors_are_passed_on(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    monkeypatch.setattr(os, "pread", fail)
    for action in (
        lambda: source.readv_nowait(_buffers([5]), 0),
        lambda: source.readv(_buffers([5]), 0),
        lambda: source.read_at(0, 5),
    ):
        with pytest.raises(OSError, match="Input/output error"):
            action()


# --- what is opened, and what is not -----------------------------------------------------------


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Fail rather than wait for ever."""

    def ring(*_: object) -> None:
        pytest.fail("it waits")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_directory_is_refused(tmp_path: Path) -> None:
    before = _open_files()
    with pytest.raises(IsADirectoryError) as caught:
        FileSource(tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert _open_files() == before


def test_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    before = _open_files()
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with (
        _alarm(10),
        pytest.raises(OSError, match="not a regular file or block device") as caught,
    ):
        FileSource(path)
    assert caught.value.errno == errno.ESPIPE
    assert caught.value.filename == str(path)
    assert _open_files() == before


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_character_device_is_refused(path: str) -> None:
    before = _open_files()
    with pytest.raises(OSError, match="not a regular file or block device"):
        FileSource(path)
    assert _open_files() == before


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSource(tmp_path / "nothing")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    opened = FileSource(path)
    assert opened.size == 0
    assert opened.read_at(0, 0) == b""
    with pytest.raises(TruncatedImageError) as caught:
        opened.read_at(0, 1)
    assert str(caught.value) == "source @0x0: the file ends here, 1 bytes short"
    with pytest.raises(TruncatedImageError):
        opened.readv(_buffers([1]), 0)
    assert not opened.readv_nowait(_buffers([1]), 0)
    opened.close()


def test_what_is_open_does_not_outlive_an_exec(source: FileSource) -> None:
    assert not os.get_inheritable(source._fd)


def test_status_is_that_of_the_open_file(source: FileSource) -> None:
    status = os.stat(source.path)
    assert (source.stat.st_ino, source.stat.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert source.size == 100_000


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    before = _open_files()
    path = tmp_path / "data"
    path.write_bytes(b"abc")
    opened = FileSource(path)
    opened.close()
    # The number may be another file's by now; it must not be closed with ours.
    with open(path, "rb") as other:
        opened.close()
        assert other.read() == b"abc"
    with pytest.raises(OSError, match="Bad file descriptor"):
        opened.readv(_buffers([1]), 0)
    assert _open_files() == before


# --- how little is read ------------------------------------------------------------------------

_MIB = 1 << 20
_BLOCK = 1024
_BLOCKS = 10 * _MIB
_GROUP = 1000
"""Ten gibibytes of blocks of 1 KiB, all stored, an XXH128 after each thousand."""

_BITMAP_SIZE = _BLOCKS // 8
_DATA_OFFSET = 110 + _BITMAP_SIZE + 4
_STORED = _DATA_OFFSET + _BLOCKS * _BLOCK + -(-_BLOCKS // _GROUP) * 16


@pytest.fixture(scope="module")
def ten_gigabytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse image of ten gibibytes: real header and bitmap, and holes for blocks."""
    path = tmp_path_factory.mktemp("sparse") / "large.img"
    bitmap = b"\xff" * _BITMAP_SIZE
    with path.open("wb") as file:
        file.write(
            header_v2(
                device_size=_BLOCKS * _BLOCK,
                total_blocks=_BLOCKS,
                used_bitmap=_BLOCKS,
                block_size=_BLOCK,
                checksum="XXH128",
                blocks_per_checksum=_GROUP,
            )
        )
        file.write(bitmap)
        file.write(crc_register(bitmap).to_bytes(4, "little"))
        file.truncate(_STORED)
    return path


@pytest.fixture
def counted(ten_gigabytes: Path) -> Iterator[CountingSource]:
    """The large image, its reads counted."""
    opened = CountingSource(FileSource(ten_gigabytes))
    yield opened
    opened.close()


def _stored_offset(block: int) -> int:
    return _DATA_OFFSET + block * _BLOCK + block // _GROUP * 16


def test_scan_reads_header_bitmap_and_samples_and_nothing_else(counted: CountingSource) -> None:
    info = registry.scan(counted).info
    assert (info.used_blocks, info.damage, info.warnings) == (_BLOCKS, None, ())
    first, last = _DATA_OFFSET, _STORED - 4096
    assert counted.calls == [
        Call("read_at", 0, 64),
        Call("read_at", 0, 4160),
        Call("read_at", 0, 110),
        Call("read_at", 110, _MIB),
        Call("read_at", 110 + _MIB, _BITMAP_SIZE - _MIB),
        Call("read_at", 110 + _BITMAP_SIZE, 4),
        *(Call("read_at", first + (last - first) * n // 15, 4096) for n in range(16)),
    ]


def test_opening_a_reader_reads_nothing(counted: CountingSource) -> None:
    scan = registry.scan(counted)
    counted.calls.clear()
    loads: list[int] = []

    def load(number: int) -> RankChunk:
        assert scan.chunks is not None
        loads.append(number)
        return scan.chunks[number]

    index = dataclasses.replace(scan.stored_index(), load_chunk=load)
    reader = partclone.open_reader(counted, scan.info.layout, index)
    assert reader.size == _BLOCKS * _BLOCK
    assert counted.calls == []
    assert loads == []


@pytest.mark.parametrize(
    "offset", [0, 5 * _MIB * _BLOCK + 12345, 7 * _MIB * _BLOCK - 5, (_BLOCKS - _BLOCK) * _BLOCK]
)
def test_a_read_far_inside_is_one_call_at_its_place(counted: CountingSource, offset: int) -> None:
    scan = registry.scan(counted)
    loads: list[int] = []

    def load(number: int) -> RankChunk:
        assert scan.chunks is not None
        loads.append(number)
        return scan.chunks[number]

    index = dataclasses.replace(scan.stored_index(), load_chunk=load)
    reader = partclone.open_reader(counted, scan.info.layout, index)
    counted.calls.clear()
    buffer = bytearray(b"\xaa" * _MIB)
    reader.read_into(memoryview(buffer), offset)

    assert not any(buffer)
    block, within = divmod(offset, _BLOCK)
    start = _stored_offset(block) + within
    last_block, last_within = divmod(offset + _MIB - 1, _BLOCK)
    stop = _stored_offset(last_block) + last_within + 1
    assert counted.calls == [Call("readv", start, stop - start)]
    # The chunks of the index that it lies in, and no other.
    chunks = {offset // _BLOCK // _MIB, (offset + _MIB - 1) // _BLOCK // _MIB}
    assert loads == sorted(chunks)

    counted.calls.clear()
    reader.read_into_nowait(memoryview(buffer), offset)
    assert counted.calls == [Call("readv_nowait", start, stop - start)]
    assert loads == sorted(chunks)


def test_a_read_of_one_block_is_one_call_at_its_place(counted: CountingSource) -> None:
    reader = open_scanned(counted, registry.scan(counted))
    rng = random.Random(1)
    for block in [0, 1, _GROUP - 1, _GROUP, _BLOCKS - 1, *rng.sample(range(_BLOCKS), 20)]:
        counted.calls.clear()
        buffer = memoryview(bytearray(_BLOCK))
        reader.read_into(buffer, block * _BLOCK)
        reader.read_into_nowait(buffer, block * _BLOCK)
        place = (_stored_offset(block), _BLOCK)
        assert counted.calls == [Call("readv", *place), Call("readv_nowait", *place)]


def test_bytes_come_from_where_the_formula_says(ten_gigabytes: Path) -> None:
    block = 9_876_543
    with ten_gigabytes.open("r+b") as file:
        file.seek(_stored_offset(block))
        file.write(pattern(_BLOCK))
    source = CountingSource(FileSource(ten_gigabytes))
    reader = open_scanned(source, registry.scan(source))
    buffer = bytearray(3 * _BLOCK)
    reader.read_into(memoryview(buffer), (block - 1) * _BLOCK)
    assert buffer == bytes(_BLOCK) + pattern(_BLOCK) + bytes(_BLOCK)
    reader.close()
