"""A compressed stream as a byte source: what it decodes, how often, and what it keeps."""

from __future__ import annotations

import concurrent.futures
import random
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.codecs import decoders as live
from imgcat.formats.codecs import failures, look_ahead
from imgcat.formats.codecs import registry as codecs
from imgcat.formats.codecs.decoded_source import DecodedSource
from imgcat.formats.codecs.decoders import Decoding
from imgcat.formats.codecs.scan import PageHasher, scan_stream
from imgcat.formats.codecs.seek_points import SeekPoint
from imgcat.formats.codecs.seek_tables import MemoryTable
from imgcat.formats.errors import (
    CorruptImageError,
    FormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.sources.pages import PAGE_SIZE, page_hash
from support.memory_source import MemorySource
from support.program import wait_until
from support.streams import CODECS, mixed, packed_mixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgcat.formats.codecs.seek_points import StreamIndex
    from imgcat.formats.sources.byte_source import ByteSource

PAGES = 64
PLAIN = mixed(PAGES * PAGE_SIZE - 1000, 5)
"""The last page is a short one."""


class CountingCodec:
    """Another codec; the points that it is asked to decode from are in `entered`."""

    def __init__(self, name: str) -> None:
        self._inner = codecs.named(name)
        self.NAME, self.LIBRARY = self._inner.NAME, self._inner.LIBRARY
        self.weight = self._inner.weight
        self.scan = self._inner.scan
        self.entered: list[int] = []
        self.decoded = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def decode(self, stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
        """Note and pass on."""
        self.entered.append(point.plain_offset)
        for piece in self._inner.decode(stored, point):
            self.may_go_on.wait(60)
            self.decoded += len(piece)
            yield piece


class Opened:
    """A stream that was scanned, and is read through a `CountingCodec`."""

    def __init__(
        self, tool: str = "zstd", spacing: int = 1 << 20, decoding: Decoding | None = None
    ) -> None:
        self.stored = MemorySource(packed_mixed(tool, len(PLAIN), 5))
        self.codec = CountingCodec(CODECS[tool])
        self.index: StreamIndex = scan_stream(self.stored, self.codec, spacing=spacing)
        assert self.index.damage is None
        self.decoding = decoding or Decoding()
        self.source = self.another(0)

    def another(self, key: int) -> DecodedSource:
        """Return the same stream under another key."""
        return DecodedSource(self.stored, self.codec, MemoryTable(self.index), key, self.decoding)

    def check(self, start: int, size: int) -> None:
        """Read, and compare."""
        assert self.source.read_at(start, size) == PLAIN[start : start + size]

    def nowait(self, start: int, size: int) -> bytes | None:
        """Read without waiting."""
        buffers = [memoryview(bytearray(size // 3)), memoryview(bytearray(size - size // 3))]
        return b"".join(buffers) if self.source.readv_nowait(buffers, start) else None


@pytest.fixture(autouse=True)
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode only what is asked for: what comes ahead of readers has tests of its own."""
    monkeypatch.setattr(look_ahead, "_FOLLOWING", 1 << 60)


def test_what_is_decoded_needs_no_waiting() -> None:
    opened = Opened()
    start = 5 * PAGE_SIZE - 100
    assert opened.nowait(start, 200) is None
    assert opened.codec.entered == []
    opened.check(start, 200)
    assert opened.nowait(start, 200) == PLAIN[start : start + 200]
    assert opened.nowait(4 * PAGE_SIZE, 2 * PAGE_SIZE) == PLAIN[4 * PAGE_SIZE : 6 * PAGE_SIZE]
    # One page more, and it has to wait.
    assert opened.nowait(4 * PAGE_SIZE, 2 * PAGE_SIZE + 1) is None
    assert len(opened.codec.entered) == 1
    assert opened.nowait(len(PLAIN) - 1, 2) is None


def test_every_length_and_place_around_the_borders_of_pages() -> None:
    opened = Opened()
    rng = random.Random(1)
    borders = [0, 1, PAGE_SIZE, 2 * PAGE_SIZE, 30 * PAGE_SIZE, (PAGES - 1) * PAGE_SIZE, len(PLAIN)]
    for border in borders:
        for start in (border - 1, border, border + 1):
            for size in (0, 1, 2, 4096, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE):
                if start >= 0 and start + size <= len(PLAIN):
                    opened.check(start, size)
    for _ in range(100):
        start = rng.randrange(len(PLAIN))
        opened.check(start, rng.randrange(min(400_000, len(PLAIN) - start) + 1))
    lengths = [0, 1, 70_000, 0, 300_000, 5]
    buffers = [memoryview(bytearray(length)) for length in lengths]
    opened.source.readv(buffers, 12_345)
    assert b"".join(buffers) == PLAIN[12_345 : 12_345 + sum(lengths)]


def test_beyond_the_end_nothing_is_allocated() -> None:
    opened = Opened()
    tracemalloc.start()
    try:
        for start, size in ((0, 1 << 60), (1 << 62, 1), (len(PLAIN), 1), (len(PLAIN) - 1, 2)):
            with pytest.raises(TruncatedImageError, match="the plain stream ends here"):
                opened.source.read_at(start, size)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert opened.codec.entered == []


@pytest.mark.parametrize(
    "tool", ["gzip", "pbzip2", "xz-blocks", "zstd", "pzstd", "lz4-linked", "lz4-small", "lzma"]
)
def test_reading_forwards_decodes_nothing_twice(tool: str) -> None:
    opened = Opened(tool)
    for page in range(PAGES):
        start = page * PAGE_SIZE
        opened.check(start, min(PAGE_SIZE, len(PLAIN) - start))
    assert len(opened.codec.entered) <= len(opened.index.points)
    assert opened.codec.entered == sorted(set(opened.codec.entered))
    assert opened.codec.decoded <= len(PLAIN) + 2 * PAGE_SIZE * len(opened.codec.entered)


def test_a_read_of_many_pages_enters_each_span_once() -> None:
    opened = Opened("lz4-linked", 256 << 10)
    assert len(opened.index.points) > 20
    opened.check(0, len(PLAIN))
    assert len(opened.codec.entered) <= len(opened.index.points)


def test_a_random_read_decodes_no_more_than_its_span() -> None:
    opened = Opened("pzstd")
    starts = [point.plain_offset for point in opened.index.points]
    assert len(starts) > 4
    middle = starts[3] + PAGE_SIZE
    opened.check(middle, 10)
    assert opened.codec.entered == [starts[3]]
    assert opened.codec.decoded <= 3 * PAGE_SIZE


def test_two_sequential_readers_of_one_stream_keep_a_decoder_each() -> None:
    opened = Opened("zstd", 16 << 20, Decoding(8 * PAGE_SIZE))
    assert len(opened.index.points) == 1
    for page in range(PAGES // 2 - 1):
        opened.check(page * PAGE_SIZE, PAGE_SIZE)
        opened.check((page + PAGES // 2) * PAGE_SIZE, PAGE_SIZE)
    # The second one begins at the only point; after that, both go on.
    assert opened.codec.entered == [0, 0]


def _together(opened: Opened, reads: list[tuple[int, int]]) -> None:
    opened.codec.may_go_on.clear()
    with concurrent.futures.ThreadPoolExecutor(len(reads)) as pool:
        futures = [pool.submit(opened.source.read_at, start, size) for start, size in reads]
        # All of them are on their way before the first piece comes out.
        wait_until(
            lambda: all(future.running() or future.done() for future in futures), "they run", 20
        )
        opened.codec.may_go_on.set()
        for (start, size), future in zip(reads, futures, strict=True):
            assert future.result(30) == PLAIN[start : start + size]


@pytest.mark.parametrize("distance", [0, 1, 3])
def test_two_threads_that_want_the_same_span_decode_it_once(distance: int) -> None:
    opened = Opened("zstd", 4 << 20)
    _together(opened, [(0, PAGE_SIZE), (distance * PAGE_SIZE, PAGE_SIZE)])
    # Who came first may have been the one that wants the later page, and keeps the earlier.
    assert opened.codec.entered == [0]
    assert opened.codec.decoded <= (distance + 2) * PAGE_SIZE


def test_many_threads_get_right_bytes() -> None:
    opened = Opened("lz4-linked", 256 << 10, Decoding(6 * PAGE_SIZE))

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            start = rng.randrange(len(PLAIN))
            size = rng.randrange(min(300_000, len(PLAIN) - start))
            found = opened.nowait(start, size)
            assert found in {None, PLAIN[start : start + size]}
            opened.check(start, size)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_pages_keep_to_their_budget() -> None:
    budget = 10 * PAGE_SIZE
    opened = Opened("zstd", 1 << 20, Decoding(budget))
    for page in range(PAGES - 1):
        opened.check(page * PAGE_SIZE, PAGE_SIZE)
        assert opened.decoding.pages.weight <= budget
    assert opened.nowait((PAGES - 2) * PAGE_SIZE, 10) is not None
    assert opened.nowait(0, 10) is None
    opened.check(0, 10)


def test_streams_share_one_budget_and_do_not_mix() -> None:
    opened = Opened("zstd", 1 << 20)
    other = opened.another(1)
    opened.check(0, 10)
    assert not other.readv_nowait((memoryview(bytearray(10)),), 0)
    assert other.read_at(0, 10) == PLAIN[:10]
    assert opened.codec.entered == [0, 0]


def test_closing_lets_go_of_decoders_and_of_the_file() -> None:
    opened = Opened("zstd", 1 << 20)
    other = opened.another(1)
    opened.check(0, 10)
    other.read_at(0, 10)
    opened.source.close()
    assert opened.stored.closed == 1
    assert opened.decoding.take(opened.source, 0, 1 << 40) is None
    assert opened.decoding.take(other, 0, 1 << 40) is not None


def test_decoders_that_wait_keep_to_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MOST_DECODERS", 3)
    opened = Opened("lz4-small", 256 << 10)
    for page in range(0, 40, 4):
        opened.check(page * PAGE_SIZE, 10)
    waiting = 0
    while opened.decoding.take(opened.source, 0, 1 << 40) is not None:
        waiting += 1
    assert waiting == 3
    each = opened.codec.weight(opened.stored, SeekPoint(0, 0))
    opened.decoding.shrink(0, 2 * each, 1 << 30)
    opened.decoding.pages = Decoding().pages
    for page in range(0, 40, 4):
        opened.check(page * PAGE_SIZE, 10)
    waiting = 0
    while opened.decoding.take(opened.source, 0, 1 << 40) is not None:
        waiting += 1
    assert waiting == 2


def test_a_decoder_is_taken_only_where_it_saves_work() -> None:
    decoding = Decoding()
    for position in (100, 500, 900):
        decoder = live.LiveDecoder(7, SeekPoint(position, 0), iter([b"x" * 100]), 1)
        decoding.put_back(decoder)
    assert decoding.take(7, 0, 50) is None
    assert decoding.take(7, 600, 800) is None
    assert decoding.take(8, 0, 800) is None
    taken = decoding.take(7, 0, 800)
    assert taken is not None
    assert taken.position == 500
    assert taken.read(40) == b"x" * 40
    taken.skip(50)
    assert taken.position == 590
    assert taken.read(40) == b"x" * 10
    assert taken.position == 600
    again = decoding.take(7, 0, 800)
    assert again is not None
    assert again.position == 100


def test_a_page_that_is_wrong_spoils_no_other() -> None:
    opened = Opened("pbzip2", 1)
    hashes = bytearray(opened.index.hashes)
    hashes[8 * 20] ^= 1
    opened.index = type(opened.index)(
        *(bytes(hashes) if name == "hashes" else getattr(opened.index, name)
          for name in opened.index.__dataclass_fields__)
    )  # fmt: skip
    opened.source = opened.another(3)
    opened.check(0, 20 * PAGE_SIZE)
    for _ in range(2):
        with pytest.raises(CorruptImageError, match="does not give the bytes that it gave"):
            opened.source.read_at(20 * PAGE_SIZE, 1)
    opened.check(21 * PAGE_SIZE, 10 * PAGE_SIZE)
    with pytest.raises(CorruptImageError, match="the bzip2 stream"):
        opened.source.read_at(19 * PAGE_SIZE, 3 * PAGE_SIZE)


def test_page_hashes_do_not_depend_on_the_pieces() -> None:
    data = PLAIN[: 3 * PAGE_SIZE + 77]
    expected = b"".join(
        page_hash(data[start : start + PAGE_SIZE]) for start in range(0, len(data), PAGE_SIZE)
    )
    for step in (1000, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, len(data)):
        hasher = PageHasher()
        for start in range(0, len(data), step):
            hasher.take(data[start : start + step])
        assert hasher.finish() == expected
        assert hasher.size == len(data)


def test_a_codec_of_no_such_name() -> None:
    with pytest.raises(UnsupportedFeatureError, match="codec 'rar' is not known"):
        codecs.named("rar")


@pytest.mark.parametrize("tool", ["zstd", "xz-blocks", "pbzip2"])
def test_what_cannot_be_decoded_is_not_tried_again_and_again(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tool)
    good = opened.stored
    middle = good.size // 2
    changed = bytearray(good.read_at(0, good.size))
    changed[middle : middle + 200] = bytes(200)
    opened.source = DecodedSource(
        MemorySource(bytes(changed)), opened.codec, MemoryTable(opened.index), 7, opened.decoding
    )
    bad = []
    for number in range(PAGES):
        try:
            opened.check(number * PAGE_SIZE, 100)
        except FormatError:
            bad.append(number)
    assert bad
    entered = len(opened.codec.entered)
    for number in bad * 3:
        with pytest.raises(FormatError):
            opened.check(number * PAGE_SIZE, 100)
    assert len(opened.codec.entered) == entered
    # Seconds later it is tried again.
    now = time.monotonic()
    monkeypatch.setattr(failures.time, "monotonic", lambda: now + 60)
    with pytest.raises(FormatError):
        opened.check(bad[0] * PAGE_SIZE, 100)
    assert len(opened.codec.entered) == entered + 1
