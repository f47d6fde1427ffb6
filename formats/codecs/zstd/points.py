"""Seek points inside of a zstd frame.

A block can be decoded without the ones before it where it, and those that follow, borrow neither
entropy tables nor repeated offsets from them, given the plain bytes before it as a window: the
blocks are put behind a made-up frame header, and the window is the dictionary. Whether that is so
cannot be seen; some that cannot be entered decode to something else without an error. So a block is
tried, and it becomes a seek point only when everything up to the next one comes out of it as it
came out of the whole frame.

`zstd -T` compresses jobs of four windows that do not borrow from each other, so the first block of
each can be entered; elsewhere, one of a few blocks can.
"""

from __future__ import annotations

import array
import collections
import concurrent.futures
from typing import TYPE_CHECKING, NamedTuple, Self

import xxhash
import zstandard

from ...errors import FormatError
from ...sources.pages import PAGE_SIZE
from .. import window_use as window
from ..cursor import Feed
from ..seek_points import SPAN_BUDGET, SeekPoint
from . import layout as zstd_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...sources.byte_source import ByteSource

_TRIED_BLOCKS = 8
"""Blocks that are decoded before a candidate is believed in: most others fail in the first."""

_PENDING = 2
"""Candidates that are checked while the frame is decoded; each holds a window."""

_BUDGET = 0.012
"""Bytes of windows for each stored byte that are aimed at: two in a hundred are allowed."""


class Block(NamedTuple):
    """A block of the frame.

    Attributes:
        stored_offset: where its header lies.
        stored_size: its bytes, header included.
        plain_offset: its first plain byte.
        plain_size: its plain bytes.
        digest: XXH3 of them, 64 bits.
    """

    stored_offset: int
    stored_size: int
    plain_offset: int
    plain_size: int
    digest: int

    @property
    def plain_stop(self) -> int:
        """The plain byte behind its last."""
        return self.plain_offset + self.plain_size


class _Blocks:
    """The blocks of a frame, of which there are millions, in columns."""

    def __init__(self) -> None:
        self._columns = tuple(array.array(code) for code in "QIQIQ")

    def append(self, block: Block) -> None:
        for column, value in zip(self._columns, block, strict=True):
            column.append(value)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, number: int) -> Block:
        return Block(*(column[number] for column in self._columns))


class _Candidate(NamedTuple):
    first: int
    """Which block of the frame it is."""
    window: bytes
    """The plain bytes before it."""
    head: bytes = b""
    """The plain bytes from it on that can refer to the window; empty until they have come by."""


class FramePoints:
    """Finds the seek points of one frame while it is decoded. Use it in a ``with`` block.

    Args:
        stored: the compressed stream.
        window_size: the frame's.
        state: what the points' state is.
        due: the plain offset from which on the first one is wanted.
        spacing: plain bytes between two points at the least.
    """

    def __init__(
        self, stored: ByteSource, window_size: int, state: int, due: int, spacing: int
    ) -> None:
        self._stored = stored
        self._window_size = window_size
        self._state = state
        self._spacing = spacing
        self._due = due
        self._blocks = _Blocks()
        self._history: collections.deque[bytes] = collections.deque()
        self._history_size = 0
        self._candidate: _Candidate | None = None
        self._accepted: _Candidate | None = None
        self._checks: collections.deque[
            tuple[int, int, concurrent.futures.Future[SeekPoint | None]]
        ] = collections.deque()
        self._points: list[tuple[int, SeekPoint]] = []
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._is_stopped = False
        self._cost = 0.0
        self._spent = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End what is being checked, at the next block, and wait for that."""
        self._is_stopped = True
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def add(self, block: Block, may_begin: bool, plain: bytes) -> None:  # noqa: FBT001
        """Take the next block of the frame.

        Args:
            block: where it lies, and what it gave.
            may_begin: whether it needs no entropy tables.
            plain: what it gave.
        """
        number = len(self._blocks)
        self._blocks.append(block)
        if self._candidate is None:
            if may_begin and number and block.plain_offset >= self._due:
                self._candidate = _Candidate(number, self._window())
        elif number - self._candidate.first == _TRIED_BLOCKS:
            self._try_candidate(number)
        self._remember(plain)
        accepted = self._accepted
        if accepted is not None and not accepted.head:
            since = block.plain_stop - self._blocks[accepted.first].plain_offset
            if self._window_size <= since <= self._history_size:
                self._accepted = accepted._replace(head=self._last(since)[: self._window_size])

    def finish(self) -> list[SeekPoint]:
        """Return the points, ascending, when the frame is at its end."""
        stop = len(self._blocks)
        if self._candidate is not None:
            self._try_candidate(stop)
        if self._accepted is not None:
            self._check(self._accepted, stop)
        while self._checks:
            self._collect()
        return [point for _first, point in self._points]

    def _remember(self, plain: bytes) -> None:
        self._history.append(plain)
        self._history_size += len(plain)
        # A block more than the window, so that a head is whole when it is taken.
        kept = self._window_size + zstd_layout.BLOCK_MAX
        # A frame of nothing has a window of nothing.
        while self._history and self._history_size - len(self._history[0]) >= kept:
            self._history_size -= len(self._history.popleft())

    def _window(self) -> bytes:
        """Return the plain bytes before the next block, with zeros before the frame's beginning."""
        return self._last(self._window_size).rjust(self._window_size, b"\0")

    def _last(self, size: int) -> bytes:
        """Return the last `size` plain bytes, or as many as are known."""
        return b"".join(self._history)[-size:]

    def _try_candidate(self, stop: int) -> None:
        """Accept the candidate, or look for another from the next block on."""
        candidate, self._candidate = self._candidate, None
        assert candidate is not None
        if not self._decodes_alike(candidate.first, stop, candidate.window):
            return
        if self._accepted is not None:
            self._check(self._accepted, candidate.first)
        self._accepted = candidate
        here = self._blocks[candidate.first]
        before = self._blocks[max(0, candidate.first - 64)]
        stored = max(1, here.stored_offset - before.stored_offset)
        ratio = max(1, here.plain_offset - before.plain_offset) / stored
        # Far enough that one more window is within what all stored bytes so far, and those, allow.
        origin_stored = self._blocks[0].stored_offset
        lacking = (self._spent + self._cost) / _BUDGET - (here.stored_offset - origin_stored)
        wanted = max(self._spacing, int(lacking * ratio))
        step = 4 * self._window_size
        # A multiple of four windows from the frame's beginning: there a job of zstd -T begins.
        origin = self._blocks[0].plain_offset
        due = here.plain_offset - origin + min(wanted, SPAN_BUDGET - 2 * PAGE_SIZE)
        if due > step and step <= SPAN_BUDGET // 2:
            due -= due % step
        self._due = origin + max(due, here.plain_offset - origin + self._spacing)

    def _check(self, candidate: _Candidate, stop: int) -> None:
        """Begin to check a candidate up to the block `stop`."""
        while len(self._checks) >= _PENDING:
            self._collect()
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="points")
        future = self._executor.submit(self._checked, candidate, stop)
        self._checks.append((candidate.first, stop, future))

    def _collect(self) -> None:
        first, stop, future = self._checks.popleft()
        point = future.result()
        if point is not None:
            self._points.append((first, point))
            self._spent += len(point.window)
            self._cost = max(len(point.window), self._cost / 2)
            return
        # What comes before has to lead through its span too. A frame's beginning always does.
        while self._points:
            earlier, point = self._points[-1]
            plain_window = window.unpacked(point)
            if self._decodes_alike(earlier, stop, plain_window):
                return
            self._points.pop()

    def _checked(self, candidate: _Candidate, stop: int) -> SeekPoint | None:
        """Return the point, or None where something else comes out of it."""
        first = self._blocks[candidate.first]
        # A reader goes on up to the next page's beginning.
        stop = self._reaching(stop, self._blocks[stop - 1].plain_stop + PAGE_SIZE)
        size = min(len(candidate.window), self._blocks[stop - 1].plain_stop - first.plain_offset)
        try:
            real = candidate.head[:size] or self._head(candidate, candidate.window, size)
            needed = window.referred(
                lambda marks: self._head(candidate, marks, size), len(candidate.window), real
            )
        except FormatError:
            return None
        packed = window.pack(candidate.window, needed)
        sparse = window.unpack(packed, len(candidate.window))
        if not self._decodes_alike(candidate.first, stop, sparse):
            packed = window.pack(candidate.window, None)
            if not self._decodes_alike(candidate.first, stop, candidate.window):
                return None
        return SeekPoint(
            first.plain_offset, first.stored_offset, self._state, len(candidate.window), packed
        )

    def _reaching(self, stop: int, plain_stop: int) -> int:
        known = len(self._blocks)
        while stop < known and self._blocks[stop - 1].plain_stop < plain_stop:
            stop += 1
        return stop

    def _head(self, candidate: _Candidate, plain_window: bytes, size: int) -> bytes:
        """Return the first `size` plain bytes that come out with a window."""
        pieces, have = [], 0
        for piece in self._decode(candidate.first, len(self._blocks), plain_window):
            pieces.append(piece)
            have += len(piece)
            if have >= size:
                break
        return b"".join(pieces)[:size]

    def _decodes_alike(self, first: int, stop: int, plain_window: bytes) -> bool:
        """Tell whether blocks ``[first, stop)`` give with a window what the frame gave."""
        number = first
        try:
            for piece in self._decode(first, stop, plain_window):
                block = self._blocks[number]
                if (
                    len(piece) != block.plain_size
                    or xxhash.xxh3_64_intdigest(piece) != block.digest
                ):
                    return False
                number += 1
        except FormatError:
            return False
        return True

    def _decode(self, first: int, stop: int, plain_window: bytes) -> Iterator[bytes]:
        decompressor = inside_decompressor(plain_window)
        feed = Feed(
            self._stored, self._blocks[first].stored_offset, structure="zstd.block", chunk=256 << 10
        )
        for number in range(first, stop):
            if self._is_stopped:
                # Nobody asks any more what comes of it.
                return
            block = self._blocks[number]
            try:
                yield decompressor.decompress(feed.take(block.stored_size))
            except zstandard.ZstdError as error:
                raise zstd_layout.failure("zstd.block", block.stored_offset, error) from error


def inside_decompressor(plain_window: bytes) -> zstandard.ZstdDecompressionObj:
    """Return what decodes blocks from the inside of a frame, given the plain bytes before them."""
    decompressor = zstandard.ZstdDecompressor(
        dict_data=zstandard.ZstdCompressionDict(
            plain_window, dict_type=zstandard.DICT_TYPE_RAWCONTENT
        ),
        max_window_size=2 * zstd_layout.WINDOW_MAX,
    ).decompressobj()
    decompressor.decompress(zstd_layout.made_up_header(len(plain_window)))
    return decompressor
