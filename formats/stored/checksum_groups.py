"""Checking groups: every checksum of stored blocks, on all cores.

A *group* is the stored blocks that share a checksum. Groups are read in batches, each by one of
several threads; reading and the checksums themselves run without Python's lock.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import FormatError
from ..finding import Finding
from ..index.rank import FullIndex
from ..ordered_map import in_order
from ..progress import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource
    from .blocks import StoredBlocks

_BATCH_SIZE = 4 << 20
"""Bytes that a thread reads at once."""


class Checker(Protocol):
    """A checksum as a format stores it."""

    @property
    def is_chained(self) -> bool:
        """Whether a checksum goes on from the one before."""

    @property
    def has_partial(self) -> bool:
        """Whether a last group that is not full has a checksum too."""

    def compute(self, pieces: Iterable[memoryview], before: bytes) -> bytes:
        """Return the checksum of a group as it would be stored.

        Args:
            pieces: the group's bytes, in order.
            before: the stored checksum of the group before, empty for the first.
        """

    def is_same(self, stored: bytes, computed: bytes) -> bool:
        """Tell whether the stored checksum is the computed one."""


class BadGroup(NamedTuple):
    """A group whose checksum is another than the stored one.

    `error` says why it could not be read, where that is what is wrong.
    """

    number: int
    stored: bytes
    computed: bytes
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """The groups of an image, and where each lies.

    Attributes:
        source: the stored bytes.
        blocks: their geometry.
        checker: their checksum.
    """

    source: ByteSource
    blocks: StoredBlocks
    checker: Checker

    @property
    def stride(self) -> int:
        """Bytes from one group to the next."""
        return self.blocks.group_size + self.blocks.checksum_size

    @property
    def count(self) -> int:
        """The number of groups with a checksum that are wholly there."""
        data = self.blocks.used_blocks * self.blocks.block_size
        full, rest = divmod(data, self.blocks.group_size)
        there = max(0, self.source.size - self.blocks.data_offset) // self.stride
        if there < full:
            return there
        partial = rest and self.checker.has_partial
        return full + bool(partial and self.offset(full) + rest + self._size <= self.source.size)

    @property
    def _size(self) -> int:
        return self.blocks.checksum_size

    def offset(self, number: int) -> int:
        """Return where a group begins in the source."""
        return self.blocks.data_offset + number * self.stride

    def length(self, number: int) -> int:
        """Return the bytes of a group, without its checksum."""
        data = self.blocks.used_blocks * self.blocks.block_size
        return min(self.blocks.group_size, data - number * self.blocks.group_size)

    def checksum(self, number: int) -> bytes:
        """Return the stored checksum of a group; nothing for -1."""
        if number < 0:
            return b""
        return self.source.read_at(self.offset(number) + self.length(number), self._size)

    def pieces(self, number: int) -> Iterator[memoryview]:
        """Yield the bytes of a group of any size, in one buffer of this thread."""
        offset, left = self.offset(number), self.length(number)
        while left:
            piece = _buffer.view[: min(left, _BATCH_SIZE)]
            self.source.readv((piece,), offset)
            yield piece
            offset += len(piece)
            left -= len(piece)

    def check(self, first: int, stop: int) -> list[BadGroup]:
        """Check groups ``[first, stop)``, which are one or fit into a buffer.

        What cannot be read, as a damaged piece of a compressed stream, is bad; the rest is checked.
        """
        try:
            before = self.checksum(first - 1) if self.checker.is_chained else b""
            return self.check_from(first, stop, before)[0]
        except FormatError as error:
            if stop - first == 1:
                return [BadGroup(first, b"", b"", str(error))]
            middle = (first + stop) // 2
            return self.check(first, middle) + self.check(middle, stop)

    def check_from(self, first: int, stop: int, before: bytes) -> tuple[list[BadGroup], bytes]:
        """Check groups ``[first, stop)``, which are one or fit into a buffer, reading forwards.

        Args:
            first: the first group.
            stop: the group behind the last.
            before: the stored checksum of the group before, if they are chained; empty for the
                first.

        Returns:
            The bad ones, and what is `before` the group that follows.

        Raises:
            FormatError, OSError: the source cannot be read.
        """
        checker = self.checker
        if stop - first == 1:
            computed = checker.compute(self.pieces(first), before)
            stored = self.checksum(first)
            same = checker.is_same(stored, computed)
            bad = [] if same else [BadGroup(first, stored, computed)]
            return bad, stored if checker.is_chained else b""
        found = []
        start = self.offset(first)
        view = _buffer.view[: self.offset(stop - 1) + self.length(stop - 1) + self._size - start]
        self.source.readv((view,), start)
        at = 0
        for number in range(first, stop):
            end = at + self.length(number)
            stored = bytes(view[end : end + self._size])
            computed = checker.compute((view[at:end],), before)
            if not checker.is_same(stored, computed):
                found.append(BadGroup(number, stored, computed))
            if checker.is_chained:
                before = stored
            at = end + self._size
        return found, before

    def guest_range(self, number: int, index: StoredIndex) -> tuple[int, int]:
        """Return the guest bytes ``[start, stop)`` from the first to the last one of a group."""
        first = number * self.blocks.group_size
        return self.guest_range_of(first, first + self.length(number), index)

    def guest_range_of(self, first: int, behind: int, index: StoredIndex) -> tuple[int, int]:
        """Return the guest bytes from the first to the last of used-data bytes [first, behind)."""
        size = self.blocks.block_size
        ranks = index.rank_index() or FullIndex(self.blocks.total_blocks)
        last = behind - 1
        start = ranks.block_of_rank(first // size) * size + first % size
        stop = ranks.block_of_rank(last // size) * size + last % size + 1
        return start, stop


def bad_groups(
    groups: Groups,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    stage: Stage = WHOLE,
) -> Iterator[BadGroup]:
    """Check every group that is there, and yield the bad ones, ascending.

    Args:
        groups: the groups.
        jobs: threads; as many as there are processors if None.
        progress: told the stored bytes that are done.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        FormatError, OSError: the source cannot be read.
    """
    at_once = max(1, _BATCH_SIZE // groups.stride)
    done = max(0, stage.begin - groups.blocks.data_offset) // groups.stride
    # The batch before it once more: a chained checksum may go on from one that is bad.
    firsts = range(max(0, done // at_once - 1) * at_once, groups.count, at_once)

    def stop_of(first: int) -> int:
        return min(groups.count, first + at_once)

    checked = in_order(lambda first: groups.check(first, stop_of(first)), firsts, jobs=jobs)
    last: BadGroup | None = None
    for first, found in zip(firsts, checked, strict=True):
        for bad in found:
            # Where the stored checksum before is what is damaged, this group is not.
            if last and last.number == bad.number - 1 and _goes_on(groups, last, bad):
                last = None
                continue
            last = bad
            yield bad
        reached = min(groups.offset(stop_of(first)), groups.source.size)
        if progress is not None:
            progress(reached)
        stage.reached(reached)


def all_right(groups: Groups) -> bool:
    """Tell whether every group is right, reading the source forwards and each byte once.

    Raises:
        FormatError, OSError: the source cannot be read.
    """
    at_once = max(1, _BATCH_SIZE // groups.stride)
    before = b""
    for first in range(0, groups.count, at_once):
        bad, before = groups.check_from(first, min(groups.count, first + at_once), before)
        if bad:
            return False
    return True


def _goes_on(groups: Groups, before: BadGroup, bad: BadGroup) -> bool:
    """Tell whether a chained checksum fits what was computed of the group before."""
    if not groups.checker.is_chained or before.error or bad.error:
        return False
    computed = groups.checker.compute(groups.pieces(bad.number), before.computed)
    return groups.checker.is_same(bad.stored, computed)


def uncovered(groups: Groups, index: StoredIndex) -> Iterator[Finding]:
    """Yield what of an image that is cut off is there, and has no checksum any more.

    At most one: the blocks behind the last checksum.
    """
    blocks = groups.blocks
    first = groups.count * blocks.group_size
    stop = blocks.whole_blocks(groups.source.size) * blocks.block_size
    if first < stop:
        start, end = groups.guest_range_of(first, stop, index)
        yield Finding(
            start,
            end,
            f"no checksum covers the last {stop - first} bytes, from "
            f"0x{groups.offset(groups.count):x} of the image on: the one that would is cut off",
        )


def finding_of(groups: Groups, bad: BadGroup, index: StoredIndex) -> Finding:
    """Return the finding for a bad group."""
    start, stop = groups.guest_range(bad.number, index)
    if bad.error:
        return Finding(start, stop, f"cannot be read: {bad.error}")
    return Finding(
        start,
        stop,
        f"checksum {bad.number} is {bad.computed.hex()}, but {bad.stored.hex()} is stored, "
        f"for {groups.length(bad.number)} bytes from 0x{groups.offset(bad.number):x} of the image "
        "on",
    )


class _Buffer(threading.local):
    """A buffer for each thread."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BATCH_SIZE))


_buffer = _Buffer()
