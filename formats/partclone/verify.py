"""partclone: every checksum of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash
from isal import isal_zlib

from ..errors import FormatError
from ..finding import Finding
from ..index.rank import FullIndex
from ..progress import WHOLE
from ..stored.blocks import StoredBlocks
from ..stored.checksum_groups import BadGroup, Groups, all_right, bad_groups, finding_of, uncovered
from ..stored.unreadable import unreadable
from . import layout, reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource
    from ..sources.forward import ForwardSource

_FLIP = 0xFFFFFFFF


def verify(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Finding]:
    """Check header, bitmap and every group of blocks, and yield what is wrong.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the rank index of the scan.
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        OSError: the operating system could not read.
        FormatError: the image is no partclone image any more.
    """
    blocks = StoredBlocks.from_json(fields)
    if not stage.begin:
        yield from _head(source)
    mode, reseed = _mode(source, blocks)
    if mode is layout.ChecksumMode.NONE:
        yield from _sweep(source, blocks, index, progress, jobs, stage)
        return
    groups = Groups(source, blocks, _checker(mode, blocks, reseed=reseed))
    if not stage.begin:
        yield from uncovered(groups, index)
    if mode in {layout.ChecksumMode.XXH64, layout.ChecksumMode.XXH128} and not reseed:
        yield from _verify_running(groups, mode, index, progress)
        return
    for bad in bad_groups(groups, jobs=jobs, progress=progress, stage=stage):
        yield finding_of(groups, bad, index)


def _head(source: ByteSource) -> Iterator[Finding]:
    """Yield what is wrong with header and bitmap, or missing at the end."""
    try:
        info = reader.scan(source).info
    except FormatError as error:
        yield Finding(None, None, str(error))
        return
    if info.missing is not None:
        yield Finding(*info.missing, str(info.damage))
    elif info.damage is not None:
        yield Finding(None, None, info.damage)


def _sweep(
    source: ByteSource,
    blocks: StoredBlocks,
    index: StoredIndex,
    progress: Progress | None,
    jobs: int | None,
    stage: Stage,
) -> Iterator[Finding]:
    """Read all blocks of an image without checksums, and yield those that cannot be read."""
    ranks = index.rank_index() or FullIndex(blocks.total_blocks)
    stop = min(source.size, blocks.stored_size)
    for bad in unreadable(
        source, blocks.data_offset, stop, progress=progress, jobs=jobs, stage=stage
    ):
        first, last = (
            (offset - blocks.data_offset) // blocks.block_size
            for offset in (bad.start, bad.stop - 1)
        )
        yield Finding(
            ranks.block_of_rank(first) * blocks.block_size,
            min((ranks.block_of_rank(last) + 1) * blocks.block_size, blocks.size),
            f"cannot be read: {bad.reason}",
        )


def are_right(source: ForwardSource, blocks: StoredBlocks) -> bool:
    """Tell whether every checksum of the blocks is right, reading the image forwards and once.

    Args:
        source: the image, of which no more was read than header and bitmap.
        blocks: where the blocks lie.

    Raises:
        FormatError: the image ends too early.
        OSError: the operating system could not read.
    """
    mode, reseed = _mode(source, blocks)
    source.forget(blocks.data_offset)
    if mode is layout.ChecksumMode.NONE:
        return True
    groups = Groups(source, blocks, _checker(mode, blocks, reseed=reseed))
    if mode in {layout.ChecksumMode.XXH64, layout.ChecksumMode.XXH128} and not reseed:
        return not any(stored != computed for _number, stored, computed in _running(groups, mode))
    return all_right(groups)


def _mode(source: ByteSource, blocks: StoredBlocks) -> tuple[layout.ChecksumMode, bool]:
    """Return checksum mode and reseed flag, also where the header is damaged elsewhere.

    The size of the checksums, which the catalog has kept, tells the mode; of the reseed flag a
    damaged header is asked all the same.
    """
    if not blocks.group_size:
        return layout.ChecksumMode.NONE, True
    head = source.read_at(0, layout.V2_SIZE)
    if head[layout.VERSION_OFFSET : layout.VERSION_STOP] == b"0001":
        return layout.ChecksumMode.CRC32_0001, False
    sizes = {size: mode for mode, size in layout.CHECKSUM_SIZES.items()}
    return sizes[blocks.checksum_size], bool(head[layout.RESEED_OFFSET])


def _checker(mode: layout.ChecksumMode, blocks: StoredBlocks, *, reseed: bool) -> _Checker:
    if mode is layout.ChecksumMode.CRC32_0001:
        return _FirstBytes(blocks.block_size, blocks.checksum_size)
    if mode is layout.ChecksumMode.CRC32:
        return _Crc32(is_chained=not reseed)
    return _XXHash(mode)


class _Checker:
    """What the checksums have in common."""

    is_chained = False
    has_partial = True

    def compute(self, pieces: Iterable[memoryview], before: bytes) -> bytes:
        raise NotImplementedError

    def is_same(self, stored: bytes, computed: bytes) -> bool:
        return stored == computed


class _Crc32(_Checker):
    """The register of CRC-32, without the final inversion; seeded anew or with the one before."""

    def __init__(self, *, is_chained: bool) -> None:
        self.is_chained = is_chained

    def compute(self, pieces: Iterable[memoryview], before: bytes) -> bytes:
        crc = int.from_bytes(before, "little") ^ _FLIP if before else 0
        for piece in pieces:
            crc = isal_zlib.crc32(piece, crc)
        return (crc ^ _FLIP).to_bytes(4, "little")


class _FirstBytes(_Checker):
    """Format 0001: its writers feed the first byte of a block, as often as the block has bytes."""

    is_chained = True

    def __init__(self, block_size: int, checksum_size: int) -> None:
        self._block_size = block_size
        self._size = checksum_size

    def compute(self, pieces: Iterable[memoryview], before: bytes) -> bytes:
        first = b""
        for piece in pieces:
            first = first or bytes(piece[:1])
        crc = int.from_bytes(before[:4], "little") ^ _FLIP if before else 0
        crc = isal_zlib.crc32(first * self._block_size, crc)
        return (crc ^ _FLIP).to_bytes(4, "little")

    def is_same(self, stored: bytes, computed: bytes) -> bool:
        # In eight bytes, the upper four are not used.
        return stored[:4] == computed


def _new_hasher(mode: layout.ChecksumMode) -> xxhash.xxh64 | xxhash.xxh3_128:
    return xxhash.xxh64() if mode is layout.ChecksumMode.XXH64 else xxhash.xxh3_128()


class _XXHash(_Checker):
    """XXH64 or XXH3 with 128 bits, each group by itself; stored as little-endian numbers."""

    def __init__(self, mode: layout.ChecksumMode) -> None:
        self._mode = mode

    def compute(self, pieces: Iterable[memoryview], before: bytes) -> bytes:  # noqa: ARG002
        hasher = _new_hasher(self._mode)
        for piece in pieces:
            hasher.update(piece)
        return hasher.digest()[::-1]


def _verify_running(
    groups: Groups, mode: layout.ChecksumMode, index: StoredIndex, progress: Progress | None
) -> Iterator[Finding]:
    """Check a hash that is never seeded anew: from the first group to the last, in one thread.

    One that is wrong and followed by a right one was itself damaged. After damage in the data none
    is right any more: the first of those is what one knows of, the others cannot be told.
    """
    wrong: list[BadGroup] = []
    for number, stored, computed in _running(groups, mode):
        if stored == computed:
            yield from (finding_of(groups, bad, index) for bad in wrong)
            wrong.clear()
        else:
            wrong.append(BadGroup(number, stored, computed))
        if progress is not None:
            progress(groups.offset(number + 1))
    if not wrong:
        return
    first, *others = wrong
    finding = finding_of(groups, first, index)
    if others:
        _start, stop = groups.guest_range(others[-1].number, index)
        rest = f"the {len(others)} checksums after it go on from there"
        finding = finding._replace(
            detail=f"{finding.detail}; {rest}, and tell nothing of what follows up to byte {stop}"
        )
    yield finding


def _running(groups: Groups, mode: layout.ChecksumMode) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield each group's number, and its checksum as stored and as computed."""
    hasher = _new_hasher(mode)
    for number in range(groups.count):
        for piece in groups.pieces(number):
            hasher.update(piece)
        yield number, groups.checksum(number), hasher.digest()[::-1]
