"""The journal of ext3 and ext4, replayed in memory: nothing is written anywhere.

What the journal holds of blocks that were not written to their places yet is found, and read in
place of what lies there. Source: fs/jbd2/recovery.c and include/linux/jbd2.h of Linux.
"""

from __future__ import annotations

import collections
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError, RefusedError
from .crc32c import crc32c
from .source import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Run
    from .source import Source

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_SUPERBLOCKS = {3, 4}
_REVOKES, _64_BIT, _ASYNC, _CHECKSUM_2, _CHECKSUM_3, _FAST_COMMIT = 1, 2, 4, 8, 0x10, 0x20
_READ = _REVOKES | _64_BIT | _CHECKSUM_2 | _CHECKSUM_3 | _FAST_COMMIT
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_FAST_COMMIT_BLOCKS = 256
_HEAD = 9
"""The tag that an area of fast commits begins with."""

_MOST_PAGES = 256
_STRUCTURE = "ext.journal"


class Logged(NamedTuple):
    """A block that the journal holds.

    Attributes:
        place: where it lies in the volume, in bytes.
        is_escaped: its first four bytes are those of the journal's magic, and zeros are stored.
    """

    place: int
    is_escaped: bool


class Journal:
    """The journal of a volume.

    Args:
        source: the volume.
        runs: where the journal's own bytes lie.
        block_size: bytes in a block of the file system.
    """

    def __init__(self, source: Source, runs: list[Run], block_size: int) -> None:
        self._source = source
        self._runs = runs
        self._size = block_size
        head = self._block(0)
        magic, kind, _sequence, size, length, first, sequence, start = struct.unpack_from(
            ">IIIIIIII", head
        )
        if magic != _MAGIC or kind not in _SUPERBLOCKS or size != block_size:
            raise DamagedError(_STRUCTURE, self._place(0), "its superblock is none")
        features = struct.unpack_from(">I", head, 40)[0] if kind != min(_SUPERBLOCKS) else 0
        if features & ~_READ:
            raise RefusedError(
                _STRUCTURE, self._place(0), f"its features 0x{features & ~_READ:x} are not read"
            )
        self._features = features
        self._sequence, self._start = sequence, start
        self._first, self._stop = first, length
        if features & _FAST_COMMIT:
            self._stop -= struct.unpack_from(">I", head, 84)[0] or _FAST_COMMIT_BLOCKS
        blocks = sum(count for _start, count, _place in runs) // block_size
        if not 0 < first < self._stop <= length <= blocks or not start < self._stop:
            raise DamagedError(_STRUCTURE, self._place(0), "its sizes cannot be")
        self._seed = crc32c(0xFFFFFFFF, head[48:64])
        self._has_checksums = bool(features & (_CHECKSUM_2 | _CHECKSUM_3))

    def logged(self) -> dict[int, Logged]:
        """Return the blocks that are to be read from the journal, by their numbers.

        Raises:
            DamagedError: a block of it has another checksum than is stored.
            RefusedError: there is something in it that is not read.
        """
        if not self._start:
            return {}
        found: dict[int, tuple[int, Logged]] = {}
        revoked: dict[int, int] = {}
        sequence = self._sequence
        for sequence, blocks, revokes in self._transactions():
            for number in revokes:
                revoked[number] = sequence
            for number, logged in blocks:
                found[number] = (sequence, logged)
        self._refuse_fast_commits(sequence)
        return {
            number: logged
            for number, (when, logged) in found.items()
            if revoked.get(number, -1) < when
        }

    def _transactions(self) -> Iterator[tuple[int, list[tuple[int, Logged]], list[int]]]:
        """Yield those that were committed: number, blocks, and numbers that were revoked."""
        position, sequence = self._start, self._sequence
        blocks: list[tuple[int, Logged]] = []
        checks: list[tuple[int, int, int]] = []
        revokes: list[int] = []
        # Each block once: a journal is a ring.
        left = self._stop - self._first
        while left > 0:
            data = self._block(position)
            magic, kind, number = struct.unpack_from(">III", data)
            if magic != _MAGIC or number != sequence & 0xFFFFFFFF:
                return
            left -= 1
            position = self._behind(position)
            if kind == _DESCRIPTOR:
                for block, flags, checksum in self._tags(data):
                    logged = Logged(self._place(position), bool(flags & _ESCAPED))
                    blocks.append((block, logged))
                    checks.append((position, sequence, checksum))
                    position = self._behind(position)
                    left -= 1
            elif kind == _REVOKE:
                revokes += self._revoked(data)
            elif kind == _COMMIT:
                for check in checks:
                    self._check(*check)
                yield sequence, blocks, revokes
                blocks, checks, revokes = [], [], []
                sequence += 1
            else:
                return

    def _tags(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield number, flags and checksum of each block that a descriptor is of."""
        stop = len(data) - 4 if self._has_checksums else len(data)
        is_64 = self._features & _64_BIT
        if self._features & _CHECKSUM_3:
            size = 16
        else:
            size = (12 if is_64 else 8) + (2 if self._features & _CHECKSUM_2 else 0)
        position = 12
        while position + size <= stop:
            if self._features & _CHECKSUM_3:
                low, flags, high, checksum = struct.unpack_from(">IIII", data, position)
            else:
                low, checksum, flags = struct.unpack_from(">IHH", data, position)
                high = struct.unpack_from(">I", data, position + 8)[0] if is_64 else 0
            yield (high << 32 if is_64 else 0) | low, flags, checksum
            position += size + (0 if flags & _SAME_UUID else 16)
            if flags & _LAST:
                return

    def _revoked(self, data: bytes) -> list[int]:
        (used,) = struct.unpack_from(">I", data, 12)
        width = 8 if self._features & _64_BIT else 4
        if not 16 <= used <= len(data):  # noqa: PLR2004
            raise DamagedError(_STRUCTURE, 0, "a block of revocations is longer than it")
        return [
            int.from_bytes(data[at : at + width], "big")
            for at in range(16, used - width + 1, width)
        ]

    def _check(self, position: int, sequence: int, stored: int) -> None:
        if not self._has_checksums:
            return
        found = crc32c(self._seed, (sequence & 0xFFFFFFFF).to_bytes(4, "big"))
        found = crc32c(found, self._block(position))
        mask = 0xFFFFFFFF if self._features & _CHECKSUM_3 else 0xFFFF
        if found & mask != stored:
            raise DamagedError(
                _STRUCTURE, self._place(position),
                f"block {position} of it has the checksum 0x{found & mask:x}, but 0x{stored:x} is"
                " stored; --as-is reads the rest as it lies there",
            )  # fmt: skip

    def _refuse_fast_commits(self, last: int) -> None:
        """Refuse a journal with changes that stand behind its last whole transaction."""
        if not self._features & _FAST_COMMIT:
            return
        tag, length, _features, number = struct.unpack_from("<HHII", self._block(self._stop))
        if tag == _HEAD and length >= 8 and number in {last, last + 1}:  # noqa: PLR2004
            raise RefusedError(
                _STRUCTURE, self._place(self._stop),
                "its fast commits are not replayed: --as-is reads the rest as it lies there",
            )  # fmt: skip

    def _behind(self, position: int) -> int:
        return position + 1 if position + 1 < self._stop else self._first

    def _place(self, number: int) -> int:
        offset = number * self._size
        for start, count, place in self._runs:
            if start <= offset < start + count and place >= 0:
                return place + offset - start
        raise DamagedError(_STRUCTURE, 0, f"there is no block {number} of it")

    def _block(self, number: int) -> bytes:
        return self._source.read(self._place(number), self._size)


class ReplayedSource:
    """A volume as it is once its journal was replayed: a `Source`.

    Args:
        source: the volume as it lies there.
        blocks: what the journal holds, by the number of the block.
        block_size: bytes in a block.
    """

    def __init__(self, source: Source, blocks: Mapping[int, Logged], block_size: int) -> None:
        self._source = source
        self._size = block_size
        self.size = source.size
        self.blocks = blocks
        self._pages: collections.OrderedDict[int, memoryview] = collections.OrderedDict()
        self._by_page: dict[int, list[int]] = collections.defaultdict(list)
        for number in blocks:
            self._by_page[number * block_size // PAGE].append(number)

    def page(self, number: int) -> memoryview:
        """Return page `number`; see `Source.page`."""
        changed = self._by_page.get(number)
        if changed is None:
            return self._source.page(number)
        known = self._pages.get(number)
        if known is not None:
            return known
        page = bytearray(self._source.page(number))
        for block in changed:
            at = block * self._size - number * PAGE
            data = self._logged(self.blocks[block])[: max(0, len(page) - at)]
            page[at : at + len(data)] = data
        self._pages[number] = memoryview(page)
        if len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return self._pages[number]

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes ``[offset, offset + length)``; see `Source.read`."""
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        if not any(number in self._by_page for number in range(first, last + 1)):
            return self._source.read(offset, length)
        if not 0 <= offset <= offset + length <= self.size:
            # Its error is this one's too.
            return self._source.read(offset, length)
        data = b"".join(self.page(number) for number in range(first, last + 1))
        return data[offset - first * PAGE :][:length]

    def _logged(self, logged: Logged) -> bytes:
        data = self._source.read(logged.place, self._size)
        return _MAGIC.to_bytes(4, "big") + data[4:] if logged.is_escaped else data

    def redirect(self, runs: list[Run]) -> list[Run] | None:
        """Return where bytes are to be read; None where they do not lie there as they are.

        Args:
            runs: where they would lie if the journal had been written to its places.
        """
        found: list[Run] = []
        size = self._size
        for start, count, place in runs:
            if place < 0 or not self._touches(place, count):
                found.append((start, count, place))
                continue
            for at in range(0, count, size):
                logged = self.blocks.get((place + at) // size)
                length = min(size, count - at)
                if logged is None:
                    found.append((start + at, length, place + at))
                elif logged.is_escaped:
                    return None
                else:
                    found.append((start + at, length, logged.place))
        return found

    def _touches(self, place: int, count: int) -> bool:
        first, last = place // self._size, (place + count - 1) // self._size
        if last - first > len(self.blocks):
            return any(first <= block <= last for block in self.blocks)
        return any(block in self.blocks for block in range(first, last + 1))
