"""Stored bytes that are compared with their hashes, and taking those hashes."""

from __future__ import annotations

import concurrent.futures
import errno
import random
from typing import TYPE_CHECKING

import pytest
import xxhash
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.sources.pages import HASHES_IN_GROUP, PAGE_SIZE
from imgcat.formats.sources.sealed import BrokenSealError, SealedSource
from imgcat.formats.sources.sealing import SealingSource
from support.memory_source import MemorySource

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 20 * PAGE_SIZE + 12_345
DATA = random.Random(5).randbytes(SIZE)


def hashes_of(data: bytes) -> bytes:
    """Return what the catalog keeps of some bytes, by the plainest of loops."""
    pages = (data[start : start + PAGE_SIZE] for start in range(0, len(data), PAGE_SIZE))
    return b"".join(xxhash.xxh3_64(page).digest()[::-1] for page in pages)


class Counting(MemorySource):
    """Bytes in memory that may change, and how many of them were read."""

    def __init__(self, data: bytes) -> None:
        self.now = bytearray(data)
        super().__init__(self.now)  # type: ignore[arg-type]
        self.bytes_read = 0
        self.waits = False
        self.fails_at: int | None = None

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        length = sum(map(len, buffers))
        self.bytes_read += length
        if self.fails_at is not None and offset <= self.fails_at < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        super().readv(buffers, offset)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        return not self.waits and super().readv_nowait(buffers, offset)


class Sealed(SealedSource):
    """A sealed source, and how often its hashes were loaded."""

    def __init__(self, source: Counting, data: bytes) -> None:
        hashes = hashes_of(data)
        self.loads = 0
        self.loaded: dict[int, bytes] = {}
        self.told: list[int] = []

        def load(group: int) -> bytes:
            if group not in self.loaded:
                self.loads += 1
                start = group * HASHES_IN_GROUP * 8
                self.loaded[group] = hashes[start : start + HASHES_IN_GROUP * 8]
            return self.loaded[group]

        super().__init__(
            source, load, self.loaded.get,
            lambda error: self.told.append(error.offset),
        )  # fmt: skip


def in_pieces(source: SealedSource, offset: int, lengths: Sequence[int]) -> bytes:
    """Read into buffers of these lengths."""
    buffers = [memoryview(bytearray(length)) for length in lengths]
    source.readv(buffers, offset)
    return b"".join(buffers)


def test_every_page_is_looked_at_once() -> None:
    source = Counting(DATA)
    sealed = Sealed(source, DATA)
    for start in range(0, SIZE, 1 << 20):
        assert sealed.read_at(start, min(1 << 20, SIZE - start)) == DATA[start : start + (1 << 20)]
    # Whole pages are hashed where they were read to.
    assert source.bytes_read == SIZE
    assert sealed.loads == 1
    for start in range(0, SIZE, 4096):
        sealed.read_at(start, min(4096, SIZE - start))
    assert source.bytes_read == 2 * SIZE


@pytest.mark.parametrize("seed", range(5))
def test_reads_of_any_place_and_pieces(seed: int) -> None:
    rng = random.Random(seed)
    source = Counting(DATA)
    sealed = Sealed(source, DATA)
    for _ in range(60):
        lengths = [rng.choice((0, 1, 4, 4096, 70_000, PAGE_SIZE)) for _ in range(rng.randint(1, 9))]
        offset = rng.randrange(SIZE - sum(lengths))
        assert in_pieces(sealed, offset, lengths) == DATA[offset : offset + sum(lengths)]


def test_a_wrong_page_is_an_error_wherever_it_is_touched() -> None:
    source = Counting(DATA)
    source.now[5 * PAGE_SIZE + 77] ^= 1
    sealed = Sealed(source, DATA)
    sealed.read_at(0, 5 * PAGE_SIZE)
    sealed.read_at(6 * PAGE_SIZE, 1000)
    for offset, length in ((5 * PAGE_SIZE, 1), (6 * PAGE_SIZE - 1, 2), (4 * PAGE_SIZE, 1 << 18)):
        with pytest.raises(BrokenSealError, match="imgcat add --force") as raised:
            sealed.read_at(offset, length)
        assert raised.value.offset == 5 * PAGE_SIZE
        with pytest.raises(BrokenSealError):
            sealed.readv_nowait((memoryview(bytearray(length)),), offset)
    assert set(sealed.told) == {5 * PAGE_SIZE}


def test_a_page_that_was_looked_at_is_so_again_when_it_may_have_changed() -> None:
    source = Counting(DATA)
    sealed = Sealed(source, DATA)
    sealed.read_at(0, SIZE)
    source.now[100] ^= 1
    assert sealed.read_at(0, 4096) != DATA[:4096]
    sealed.forget()
    with pytest.raises(BrokenSealError):
        sealed.read_at(4096, 4096)


def test_nothing_waits_unless_it_may() -> None:
    source = Counting(DATA)
    sealed = Sealed(source, DATA)
    view = memoryview(bytearray(4096))
    # The hashes lie in the catalog.
    assert not sealed.readv_nowait((view,), 8192)
    sealed.readv((view,), 8192)
    assert sealed.readv_nowait((view,), 16384)
    assert view == DATA[16384 : 16384 + 4096]
    assert sealed.readv_nowait((view,), 3 * PAGE_SIZE + 5)
    assert view == DATA[3 * PAGE_SIZE + 5 :][:4096]
    source.waits = True
    assert not sealed.readv_nowait((view,), 16384)
    assert sealed.loads == 1


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE, SIZE])
def test_the_hashes_of_all(size: int) -> None:
    data = DATA[:size]
    assert SealingSource(Counting(data)).finish() == hashes_of(data)


def test_hashes_are_taken_while_others_read_and_each_byte_is_read_once() -> None:
    source = Counting(DATA)
    sealing = SealingSource(source, readers=4)

    def read(start: int) -> bool:
        length = min(100_000, SIZE - start)
        return sealing.read_at(start, length) == DATA[start : start + length]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(0, 15 * PAGE_SIZE, 100_000)))
    assert sealing.finish() == hashes_of(DATA)
    assert source.bytes_read == SIZE


def test_what_changes_meanwhile_is_no_seal() -> None:
    big = random.Random(6).randbytes(40 << 20)
    source = Counting(big)
    sealing = SealingSource(source)
    sealing.read_at(0, 10)
    for start in range(4 << 20, 40 << 20, 4 << 20):
        sealing.read_at(start, 10)
    source.now[5] ^= 1
    with pytest.raises(CorruptImageError, match="changed while it was read"):
        sealing.read_at(0, 10)


def test_what_cannot_be_read_is_told_exactly_and_there_is_no_seal() -> None:
    source = Counting(DATA)
    source.fails_at = 9 * PAGE_SIZE
    sealing = SealingSource(source)
    with pytest.raises(OSError, match="Input/output"):
        sealing.read_at(9 * PAGE_SIZE - 5, 10)
    assert sealing.read_at(9 * PAGE_SIZE + 1, 10) == DATA[9 * PAGE_SIZE + 1 :][:10]
    assert sealing.read_at(9 * PAGE_SIZE - 10, 10) == DATA[9 * PAGE_SIZE - 10 :][:10]
    assert sealing.finish() is None
