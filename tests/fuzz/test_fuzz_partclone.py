"""Whatever bytes a partclone image holds, only the documented errors come, in bounded memory.

Each real header, with the beginning of its bitmap, is mutated many times from a fixed seed. Every
mutation goes through the header parser and the whole scan, and what can be opened is read from.
Where there are checksums that would stop a mutation at once, it is tried a second time with them
put right, so that the checks behind them are reached.
"""

from __future__ import annotations

import collections
import contextlib
import random
import resource
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats import registry
from imgcat.formats.errors import FormatError
from imgcat.formats.extent import check_cover
from imgcat.formats.partclone.layout import parse_header
from support import samples
from support.memory_source import MemorySource
from support.opening import open_scanned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MUTATIONS = 10_000
"""Mutations of each sample."""

_TRACED = 1000
"""So many of them with every allocation traced, which is slow."""

_PEAK = 64 << 20

_V2_SIZE = 110
_V1_SIZE = 4160
_BITMAP_CRC = 1152 + 4
"""Bytes of the bitmap of a sample of version 0002, with its checksum."""

_V2_FIELDS = (0, 16, 30, 34, 36, 52, 60, 68, 76, 84, 88, 92, 94, 96, 98, 100, 104, 105, 106, 110)
_V1_FIELDS = (0, 15, 30, 34, 36, 40, 48, 56, 64, 4160)

_EXTREMES = tuple(
    sorted(
        {
            value + delta
            for value in (0, 1 << 7, 1 << 8, 1 << 15, 1 << 16, 1 << 26, 1 << 31, 1 << 32)
            for delta in (-1, 0, 1)
        }
        | {value + delta for value in (1 << 53, 1 << 62, 1 << 63, 1 << 64) for delta in (-1, 0, 1)}
        | {2, 3, 4, 8, 16, 0x20, 0x30, 0x31, 0xFF, 0xC0DE, 0xDEC0, 512, 1024, 4096, 9216, 9217}
    )
)
"""Numbers at the edges of what fields can hold, and numbers that mean something in some field."""


class _Mutator:
    """Changes the head of one sample, at random but always alike."""

    def __init__(self, name: str, head: bytes, others: list[bytes]) -> None:
        self._rng = random.Random(name)
        self._head = head
        self._others = others
        self._is_old = head[30:34] == b"0001"
        self._fields = _V1_FIELDS if self._is_old else _V2_FIELDS
        self._mutations = (
            self._flip,
            self._flip,
            self._overwrite,
            self._overwrite,
            self._overwrite,
            self._fill,
            self._truncate,
            self._splice,
            self._insert,
            self._remove,
        )

    def heads(self, count: int) -> Iterator[bytes]:
        """Yield `count` mutations."""
        for _ in range(count):
            data = bytearray(self._head)
            for _ in range(self._rng.choice((1, 1, 1, 2, 3, 6))):
                self._rng.choice(self._mutations)(data)
            yield bytes(data)

    def _place(self, data: bytearray) -> int:
        """Return an offset, mostly at a field or shortly behind one."""
        if self._rng.random() < 0.7:
            place = self._rng.choice(self._fields) + self._rng.choice((0, 0, 0, 1, 2, 7))
        else:
            place = self._rng.randrange(len(self._head))
        return min(place, len(data))

    def _flip(self, data: bytearray) -> None:
        place = self._place(data)
        if place < len(data):
            data[place] ^= 1 << self._rng.randrange(8)

    def _overwrite(self, data: bytearray) -> None:
        width = self._rng.choice((1, 2, 4, 8))
        number = self._rng.choice(_EXTREMES) % (1 << 8 * width)
        written = number.to_bytes(width, "little")
        place = self._place(data)
        data[place : place + width] = written if self._rng.random() < 0.8 else written[::-1]

    def _fill(self, data: bytearray) -> None:
        place = self._place(data)
        stop = min(len(data), place + self._rng.choice((2, 8, 40, 400)))
        data[place:stop] = bytes([self._rng.choice((0, 1, 0x7F, 0xFF))]) * (stop - place)

    def _truncate(self, data: bytearray) -> None:
        if self._rng.random() < 0.3:
            del data[self._place(data) :]

    def _splice(self, data: bytearray) -> None:
        other = self._rng.choice(self._others)
        place, start = self._place(data), self._rng.randrange(len(other))
        length = self._rng.choice((4, 16, 100, 1000))
        data[place : place + length] = other[start : start + length]

    def _insert(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._rng.randbytes(self._rng.choice((1, 2, 8)))

    def _remove(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self._rng.choice((1, 2, 8))]


def _resealed(head: bytes) -> bytes:
    """Return the head of an image of version 0002 with the checksums put right that it holds."""
    data = bytearray(head)
    if len(data) < _V2_SIZE:
        return head
    struct.pack_into("<I", data, 106, zlib.crc32(data[:106]) ^ 0xFFFFFFFF)
    stop = _V2_SIZE + (struct.unpack_from("<Q", data, 60)[0] + 7) // 8
    if stop + 4 <= len(data):
        struct.pack_into("<I", data, stop, zlib.crc32(data[_V2_SIZE:stop]) ^ 0xFFFFFFFF)
    return bytes(data)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of every sample, by name."""
    directory = tmp_path_factory.mktemp("samples")
    return {sample.name: sample.path.read_bytes() for sample in samples.unpack(directory)}


class _Outcomes(NamedTuple):
    """How often parsing and scanning ended in what way."""

    parsed: collections.Counter[str]
    scanned: collections.Counter[str]


def _head_size(image: bytes) -> int:
    return _V1_SIZE + 200 if image[30:34] == b"0001" else _V2_SIZE + _BITMAP_CRC


def _outcome_of_parsing(head: bytes) -> str:
    try:
        parse_header(head)
    except FormatError as error:
        return type(error).__name__
    return "parsed"


def _outcome_of_scanning(source: MemorySource) -> str:
    """Scan; read from what can be opened, at its ends and where something is missing."""
    try:
        scan = registry.scan(source)
    except FormatError as error:
        return type(error).__name__
    info = scan.info
    assert 0 < info.size < 1 << 63
    assert 0 <= info.used_blocks <= info.total_blocks
    reader = open_scanned(source, scan)
    places = {0, info.size // 2, info.size - 1}
    if info.missing is not None:
        first, last = info.missing
        assert 0 <= first < last <= info.size
        places |= {max(0, first - 700), last - 1}
    for start in places:
        stop = min(info.size, start + 1500)
        check_cover(reader.extents(start, stop), start, stop)
        view = memoryview(bytearray(stop - start))
        reader.read_into_nowait(view, start)
        try:
            reader.read_into(view, start)
        except FormatError:
            assert info.missing is not None
    return "damaged" if info.damage else "whole"


@contextlib.contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Let the process have `more` bytes than it has now: beyond, MemoryError is raised.

    Unlike tracing each allocation it costs nothing, so that every mutation can be held to it.
    """
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _traced_peak(most: int) -> Iterator[None]:
    """Assert that at no time more than `most` bytes are allocated beside those before."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def _try_all(heads: Iterable[bytes], tail: bytes, *, sealed: bool) -> _Outcomes:
    """Parse and scan each of `heads`, as it is and with its checksums put right."""
    outcomes = _Outcomes(collections.Counter(), collections.Counter())
    for head in heads:
        for each in {head, _resealed(head)} if sealed else {head}:
            outcomes.parsed[_outcome_of_parsing(each[:_V1_SIZE])] += 1
            outcomes.scanned[_outcome_of_scanning(MemorySource(each, tail))] += 1
    return outcomes


@pytest.mark.parametrize("name", samples.names())
def test_mutated_heads_raise_only_documented_errors(name: str, images: dict[str, bytes]) -> None:
    image = images[name]
    size = _head_size(image)
    tail = image[size:]
    sealed = image[30:34] == b"0002"
    mutator = _Mutator(name, image[:size], [other[:200] for other in images.values()])
    with _traced_peak(_PEAK):
        _try_all(mutator.heads(_TRACED), tail, sealed=sealed)
    with _memory_limit(_PEAK):
        outcomes = _try_all(mutator.heads(_MUTATIONS - _TRACED), tail, sealed=sealed)

    # Mutations that all end in the same place would prove nothing.
    least = _MUTATIONS // 100
    for outcome in ("parsed", "CorruptImageError", "UnsupportedFeatureError"):
        assert outcomes.parsed[outcome] > least, outcomes
    for outcome in ("whole", "damaged", "CorruptImageError"):
        assert outcomes.scanned[outcome] > least, outcomes


def test_the_memory_limit_limits() -> None:
    with _memory_limit(_PEAK), pytest.raises(MemoryError):
        bytearray(2 * _PEAK)
    assert len(bytearray(2 * _PEAK)) == 2 * _PEAK


@settings(deadline=None)
@given(rest=st.binary(max_size=300), version=st.sampled_from((b"0001", b"0002", b"")))
def test_any_bytes_behind_the_magic(rest: bytes, version: bytes) -> None:
    begin = b"partclone-image".ljust(30, b"\0") + version
    for data in (rest, begin + rest, begin + rest + bytes(_V1_SIZE)):
        _outcome_of_parsing(data)
        _outcome_of_scanning(MemorySource(data))


_SMALL = st.integers(0, 40) | st.sampled_from(_EXTREMES).filter(lambda number: number >= 0)


@settings(max_examples=500, deadline=None)
@given(
    numbers=st.tuples(_SMALL, _SMALL, _SMALL, _SMALL, _SMALL, _SMALL),
    mode=st.sampled_from(((0, 0), (0x20, 4), (0x30, 8), (0x31, 16))),
    bitmap_mode=st.sampled_from((0, 1)),
    rest=st.binary(max_size=200),
)
def test_any_numbers_in_a_header_that_is_else_right(
    numbers: tuple[int, ...], mode: tuple[int, int], bitmap_mode: int, rest: bytes
) -> None:
    *counts, block_size, blocks_per_checksum = numbers
    head = bytearray(b"partclone-image\0" + b"0.3.47".ljust(14, b"\0") + b"0002\xde\xc0")
    head += b"raw".ljust(16, b"\0")
    for number in counts:
        head += (number % (1 << 64)).to_bytes(8, "little")
    head += struct.pack("<IIHH", block_size % (1 << 32), 18, 2, 64)
    head += struct.pack("<HHIBB", *mode, blocks_per_checksum % (1 << 32), 1, bitmap_mode)
    head += bytes(4) + rest
    data = _resealed(bytes(head))
    _outcome_of_parsing(data)
    _outcome_of_scanning(MemorySource(data))
