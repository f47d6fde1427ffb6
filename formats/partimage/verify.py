"""partimage: the checks inside the data, the headers' sums, and the sum over the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from isal import isal_zlib

from ..errors import FormatError
from ..finding import Finding
from ..ordered_map import in_order
from ..progress import WHOLE
from ..stored.blocks import StoredBlocks
from ..stored.checksum_groups import Groups, all_right, bad_groups, finding_of, uncovered
from . import layout, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource
    from ..sources.forward import Readable

_CHECKED_SIZE = 8
"""Bytes of a check that are checked: magic and CRC. The block that follows is advice only."""

_PIECE = 4 << 20


def verify(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Finding]:
    """Check headers, every check inside the data, and the sum at the end; yield what is wrong.

    Args:
        source: the stream, without volume headers.
        fields: `ImageInfo.layout` of the scan.
        index: the rank index of the scan.
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        OSError: the operating system could not read.
    """
    blocks = StoredBlocks.from_json(fields)
    is_right = stage.is_right
    try:
        info = reader.scan(source).info if not stage.begin else None
    except FormatError as error:
        is_right = False
        yield Finding(None, None, str(error))
    else:
        if info is not None and info.missing is not None:
            yield Finding(*info.missing, str(info.damage))
    groups = Groups(source, blocks, _Check())
    is_cut = source.size < blocks.stored_size + len(layout.TAIL_MAGIC) + layout.TAIL_SUM_SIZE
    if is_cut and not stage.begin:
        # The sum in the tail is what covers the data behind the last check.
        yield from uncovered(groups, index)
    for bad in bad_groups(groups, jobs=jobs, progress=progress, stage=stage):
        is_right = False
        yield finding_of(groups, bad, index)
    if is_right:
        yield from _check_tail(groups, index, jobs)


def are_right(source: ByteSource, blocks: StoredBlocks, sum_so_far: Callable[[], int]) -> bool:
    """Tell whether every check and the sum are right, reading the stream forwards and once.

    Args:
        source: the stream, of which no more was read than headers and bitmap.
        blocks: where the blocks lie.
        sum_so_far: returns the sum of the bytes of the stream that were read.

    Raises:
        FormatError: the image ends too early.
        OSError: it cannot be read.
    """
    if not all_right(Groups(source, blocks, _Check())):
        return False
    offset = blocks.stored_size
    magic = source.read_at(offset, len(layout.TAIL_MAGIC))
    computed = sum_so_far() % (1 << 64)
    tail = source.read_at(offset + len(magic), layout.TAIL_SUM_SIZE)
    return magic == layout.TAIL_MAGIC and int.from_bytes(tail, "little") == computed


class Summed:
    """A file, and the sum of the bytes that were read of it."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.sum = 0

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes, none at the end."""
        data = self._file.read(size)
        if data:
            self.sum += int(np.frombuffer(data, np.uint8).sum(dtype=np.uint64))
        return data


class _Check:
    """The check after each 64 KiB of data: a magic, a CRC-32, and advice."""

    is_chained = False
    has_partial = False

    def compute(self, pieces: Iterable[memoryview], before: bytes) -> bytes:  # noqa: ARG002
        crc = 0
        for piece in pieces:
            crc = isal_zlib.crc32(piece, crc)
        return layout.CHECK_MAGIC + crc.to_bytes(4, "little")

    def is_same(self, stored: bytes, computed: bytes) -> bool:
        return stored[:_CHECKED_SIZE] == computed


def _check_tail(groups: Groups, index: StoredIndex, jobs: int | None) -> Iterator[Finding]:
    """Check the sum of all bytes, which alone covers bitmap and the last data.

    Only asked where all else is right: whatever else was found changes it too.
    """
    source, blocks = groups.source, groups.blocks
    offset = blocks.stored_size
    stop = offset + len(layout.TAIL_MAGIC)
    if stop + layout.TAIL_SUM_SIZE > source.size:
        if source.size >= offset:
            yield Finding(None, None, f"the tail @0x{offset:x} is cut off: nothing tells the sum")
        return
    magic = source.read_at(offset, len(layout.TAIL_MAGIC))
    if magic != layout.TAIL_MAGIC:
        yield Finding(None, None, f"partimage.tail @0x{offset:x}: {magic!r} begins it")
        return
    stored = int.from_bytes(source.read_at(stop, layout.TAIL_SUM_SIZE), "little")
    computed = _sum(source, stop, jobs)
    if stored == computed:
        return
    detail = (
        f"the sum of all bytes is {computed}, but {stored} is stored, and every other check is "
        "right: so it is in what has no other, the bitmap or the last data"
    )
    data = blocks.used_blocks * blocks.block_size
    if data % blocks.group_size:
        yield Finding(*groups.guest_range(data // blocks.group_size, index), detail)
    else:
        yield Finding(None, None, detail)


def _sum(source: ByteSource, stop: int, jobs: int | None) -> int:
    """Return the sum of the stream's bytes before `stop`, modulo 2^64."""

    def sum_of(offset: int) -> int:
        buffer = bytearray(min(_PIECE, stop - offset))
        source.readv((memoryview(buffer),), offset)
        return int(np.frombuffer(buffer, np.uint8).sum(dtype=np.uint64))

    return sum(in_order(sum_of, range(0, stop, _PIECE), jobs=jobs)) % (1 << 64)
