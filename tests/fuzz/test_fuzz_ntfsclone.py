"""Whatever bytes an ntfsclone image holds, only the documented errors come, in bounded memory.

Header and commands of small images are mutated many times from a fixed seed. There are no
checksums that would stop a mutation, so that most of them reach the commands.
"""

from __future__ import annotations

import collections
import random
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats import registry
from imgcat.formats.errors import FormatError
from imgcat.formats.extent import check_cover
from imgcat.formats.sources import prefetch as pieces
from support.memory_source import MemorySource
from support.ntfsclone_writer import Recipe, Written, gap, header, write
from support.opening import open_scanned

if TYPE_CHECKING:
    from collections.abc import Iterator

_MUTATIONS = 10_000
"""Mutations of all images together."""

_TRACED = 500
"""So many of them with every allocation traced, which is slow."""

_PEAK = 64 << 20
_SLOWEST = 5.0
"""Seconds that no mutation may take; each is a matter of milliseconds."""

_FIELDS = (0, 16, 17, 18, 22, 30, 38, 46, 50, 56)

_EXTREMES = tuple(
    sorted(
        {
            value + delta
            for value in (0, 1 << 7, 1 << 8, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 62, 1 << 63)
            for delta in (-1, 0, 1)
        }
        | {2, 3, 10, 11, 50, 56, 256, 512, 1024, 4096, 2 << 20, 4 << 20, -2, -7, -20}
    )
)

_IMAGES = [
    write(Recipe(order=[0, 1, 2, 5, 6, 9, 17], cluster_count=20, cluster_size=256, tail=100)),
    write(Recipe(order=[4, 5, 2, 9, 0, 7], cluster_count=20, cluster_size=256, tail=0)),
    write(Recipe(order=[0, 3, 19], cluster_count=20, cluster_size=512, minor=0)),
    write(Recipe(order=[0, *range(3, 40)], cluster_count=40, cluster_size=256, major=3)),
]


class _Mutator:
    """Changes an image, at random but always alike."""

    def __init__(self, written: Written, seed: int) -> None:
        self._rng = random.Random(seed)
        self._image = written.image
        self._places = [*_FIELDS, *(offset for _cluster, offset in written.records)]
        self._mutations = (
            self._flip, self._flip, self._overwrite, self._overwrite, self._overwrite,
            self._truncate, self._insert, self._insert_gap, self._insert_gap, self._remove,
        )  # fmt: skip

    def images(self, count: int) -> Iterator[bytes]:
        """Yield `count` mutations."""
        for _ in range(count):
            data = bytearray(self._image)
            for _ in range(self._rng.choice((1, 1, 1, 2, 3, 6))):
                self._rng.choice(self._mutations)(data)
            yield bytes(data)

    def _place(self, data: bytearray) -> int:
        """Return an offset, mostly at a field or a command, or shortly beside one."""
        if self._rng.random() < 0.8:
            place = self._rng.choice(self._places) + self._rng.choice((0, 0, 0, 0, 1, 2, 7, -9))
        else:
            place = self._rng.randrange(len(self._image))
        return max(0, min(place, len(data)))

    def _flip(self, data: bytearray) -> None:
        place = self._place(data)
        if place < len(data):
            data[place] ^= 1 << self._rng.randrange(8)

    def _overwrite(self, data: bytearray) -> None:
        width = self._rng.choice((1, 1, 2, 4, 8))
        number = self._rng.choice(_EXTREMES) % (1 << 8 * width)
        place = self._place(data)
        data[place : place + width] = number.to_bytes(width, "little")

    def _truncate(self, data: bytearray) -> None:
        if self._rng.random() < 0.5:
            del data[self._place(data) :]

    def _insert(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._rng.randbytes(self._rng.choice((1, 2, 8)))

    def _insert_gap(self, data: bytearray) -> None:
        place = max(50, self._place(data))
        data[place:place] = gap(self._rng.choice((1, 2, -1, -2, -3, 0, 1 << 62, -(1 << 63))))

    def _remove(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self._rng.choice((1, 9, 257))]


def _outcome(image: bytes) -> str:
    """Scan; read from what can be opened, at its ends and where something is missing."""
    source = MemorySource(image)
    try:
        scan = registry.scan(source)
    except FormatError as error:
        return type(error).__name__
    info, ranges = scan.info, scan.ranges
    assert ranges is not None
    assert 0 < info.size < 1 << 63
    assert 0 <= info.used_blocks <= info.total_blocks
    assert 0 <= info.used_bytes <= min(info.size, len(image))
    position = 0
    for first, number, offset in ranges:
        assert position <= first < first + number <= info.total_blocks
        assert 46 < offset < len(image)
        position = first + number
    reader = open_scanned(source, scan)
    places = {0, info.size // 2, info.size - 1}
    if info.missing is not None:
        first, last = info.missing
        assert 0 <= first < last == info.size
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
    return "damaged" if info.damage else info.content


def _all_outcomes(images: Iterator[bytes]) -> collections.Counter[str]:
    outcomes: collections.Counter[str] = collections.Counter()
    for image in images:
        began = time.perf_counter()
        outcomes[_outcome(image)] += 1
        assert time.perf_counter() - began < _SLOWEST, image.hex()
    return outcomes


@pytest.fixture(scope="module", autouse=True)
def _small_pieces() -> Iterator[None]:
    """Read in pieces so small that every image has borders of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_SIZE", 700)
        yield


def test_mutated_images_raise_only_documented_errors() -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    for seed, written in enumerate(_IMAGES):
        images = _Mutator(written, seed).images(_MUTATIONS // len(_IMAGES))
        outcomes += _all_outcomes(images)
    assert outcomes.total() == _MUTATIONS
    # Mutations that all end in the same place would prove nothing.
    for outcome in ("full", "metadata", "damaged", "CorruptImageError", "TruncatedImageError",
                    "UnsupportedFeatureError", "NotThisFormatError"):  # fmt: skip
        assert outcomes[outcome] > _MUTATIONS // 100, outcomes


@pytest.mark.parametrize("number", range(len(_IMAGES)))
def test_mutated_images_take_bounded_memory(number: int) -> None:
    images = _Mutator(_IMAGES[number], 100 + number).images(_TRACED // len(_IMAGES))
    tracemalloc.start()
    try:
        _all_outcomes(images)
        assert tracemalloc.get_traced_memory()[1] < _PEAK
    finally:
        tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(rest=st.binary(max_size=300), version=st.sampled_from((b"\x0a\x01", b"\x0a\x00", b"\x03")))
def test_any_bytes_behind_the_magic(rest: bytes, version: bytes) -> None:
    _outcome(rest)
    _outcome(b"\0ntfsclone-image" + version + rest)


_COMMANDS = st.one_of(
    st.integers(-6, 6).map(gap),
    st.sampled_from(_EXTREMES).filter(lambda n: -(1 << 63) <= n < 1 << 63).map(gap),
    st.integers(0, 255).map(lambda n: b"\x01" + bytes([n]) * 256),
    st.binary(min_size=1, max_size=12),
)


@settings(max_examples=300, deadline=None)
@given(
    commands=st.lists(_COMMANDS, max_size=12), count=st.integers(1, 9),
    tail=st.sampled_from((0, 1, 256, 600)), version=st.sampled_from(((3, 1), (10, 0), (10, 1))),
)  # fmt: skip
def test_any_commands_behind_a_header_that_is_right(
    commands: list[bytes], count: int, tail: int, version: tuple[int, int]
) -> None:
    head = header(
        device_size=count * 256 + tail, cluster_count=count, cluster_size=256,
        major=version[0], minor=version[1],
    )  # fmt: skip
    _outcome(head + b"".join(commands))
