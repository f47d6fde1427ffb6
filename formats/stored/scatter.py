"""Scatter reads: one buffer filled from as few reads of the source as its bytes allow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..sources.byte_source import ByteSource

_SCRATCH_SIZE = (1 << 20) + (64 << 10)
"""Bytes of small groups that are read at once without an allocation: a mount's largest read."""

_SMALL_GROUP = 16 << 10
"""Below this, copying a group costs less than a buffer of its own in a scatter read."""

_FEW_GROUPS = 8
"""Up to this many, each is a buffer of its own, however small."""

_ZEROS = bytes(1 << 20)


def fill_zero(view: memoryview) -> None:
    """Set every byte of `view` to zero."""
    for start in range(0, len(view), len(_ZEROS)):
        stop = min(len(view), start + len(_ZEROS))
        view[start:stop] = _ZEROS[: stop - start]


class Scatter:
    """Fills one buffer from few reads of the source.

    Pieces are given in ascending guest order. What lies between two pieces in the guest becomes
    zeros; what lies between them in the source (a checksum) is read into a junk buffer, so that
    neighbouring pieces stay one read. Small groups are read together and copied from there.

    Args:
        view: the buffer.
        most_junk: bytes between two pieces, up to which reading on is cheaper than a second read.
    """

    __slots__ = (
        "_filled",
        "_most_junk",
        "_next_source",
        "_scratch_buffer",
        "_scratch_used",
        "_view",
        "copies",
        "reads",
    )

    def __init__(self, view: memoryview, most_junk: int) -> None:
        self._view = view
        self._most_junk = most_junk
        self._filled = 0
        self._next_source = -1
        self.reads: list[tuple[list[memoryview], int]] = []
        self.copies: list[_Copy] = []
        self._scratch_used = 0
        self._scratch_buffer: memoryview | None = None

    def piece(self, start: int, stop: int, source_offset: int) -> None:
        """Let ``view[start:stop]`` come from the source at `source_offset`."""
        if start > self._filled:
            fill_zero(self._view[self._filled : start])
        self._filled = stop
        self._read(self._view[start:stop], source_offset)

    def grouped(
        self, start: int, stop: int, source_offset: int, within: int, group: int, gap: int
    ) -> None:
        """Let ``view[start:stop]`` come from groups that lie one after the other in the source.

        Args:
            start: first byte of the view.
            stop: byte after the last.
            source_offset: where the first byte lies in the source.
            within: how far into its group the first byte lies.
            group: bytes in a group.
            gap: bytes between two groups, which are skipped.
        """
        if group < _SMALL_GROUP and stop - start > _FEW_GROUPS * group:
            if start > self._filled:
                fill_zero(self._view[self._filled : start])
            self._filled = stop
            raw = self._scratch(stop - start + (within + stop - start - 1) // group * gap)
            self._read(raw, source_offset)
            self.copies.append(_Copy(raw, self._view[start:stop], within, group, gap))
            return
        while start < stop:
            length = min(stop - start, group - within)
            self.piece(start, start + length, source_offset)
            start += length
            source_offset += length + gap
            within = 0

    def finish(self) -> None:
        """Zero what is left of the buffer."""
        if self._filled < len(self._view):
            fill_zero(self._view[self._filled :])

    def read(self, source: ByteSource) -> None:
        """Fill the pieces, waiting where needed."""
        for buffers, offset in self.reads:
            source.readv(buffers, offset)
        self._copy()

    def read_nowait(self, source: ByteSource) -> bool:
        """Fill the pieces unless that needs waiting."""
        if not all(source.readv_nowait(buffers, offset) for buffers, offset in self.reads):
            return False
        self._copy()
        return True

    def _copy(self) -> None:
        for copy in self.copies:
            copy.run()
        buffer, self._scratch_buffer = self._scratch_buffer, None
        if buffer is not None and len(_free) < _MOST_FREE:
            _free.append(buffer)

    def _read(self, buffer: memoryview, source_offset: int) -> None:
        gap = source_offset - self._next_source
        if self._next_source >= 0 and 0 <= gap <= self._most_junk:
            buffers = self.reads[-1][0]
            if gap:
                # One of its own: what is stored there is compared with hashes, too.
                buffers.append(memoryview(bytearray(gap)))
            buffers.append(buffer)
        else:
            self.reads.append(([buffer], source_offset))
        self._next_source = source_offset + len(buffer)

    def _scratch(self, size: int) -> memoryview:
        """Return a buffer that is good until this is done."""
        start = self._scratch_used
        self._scratch_used += size
        if self._scratch_used > _SCRATCH_SIZE:
            return memoryview(bytearray(size))
        if self._scratch_buffer is None:
            with contextlib.suppress(IndexError):
                self._scratch_buffer = _free.pop()
        if self._scratch_buffer is None:
            self._scratch_buffer = memoryview(bytearray(_SCRATCH_SIZE))
        return self._scratch_buffer[start : start + size]


class _Copy(NamedTuple):
    """Groups that were read together with their gaps, and where they go without them.

    `raw` begins `within` bytes into a group.
    """

    raw: memoryview
    view: memoryview
    within: int
    group: int
    gap: int

    def run(self) -> None:
        """Copy them."""
        raw, view, within, group, gap = self
        stride = group + gap
        head = min(len(view), group - within) if within else 0
        view[:head] = raw[:head]
        position = head + gap if head else 0
        count, tail = divmod(len(view) - head, group)
        if count:
            stored = np.frombuffer(raw, np.uint8)[position:]
            groups = np.lib.stride_tricks.as_strided(stored, (count, group), (stride, 1))
            guest = np.frombuffer(view, np.uint8)[head : head + count * group]
            np.copyto(guest.reshape(count, group), groups)
            position += count * stride
        if tail:
            view[len(view) - tail :] = raw[position : position + tail]


_free: list[memoryview] = []
"""Buffers for who needs one next; nbdkit's threads are new to Python at each call."""

_MOST_FREE = 8
