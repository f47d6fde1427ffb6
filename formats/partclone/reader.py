"""partclone: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash
from isal import isal_zlib

from ..errors import ChecksumError, CorruptImageError, TruncatedImageError
from ..index.rank import ChunkBuilder, FullIndex
from ..index.rank_chunk import CHUNK_BLOCKS, CHUNK_BYTES
from ..reader import ImageInfo, Scan
from ..sources.fingerprint import hash_samples
from ..stored.blocks import StoredBlocks, StoredBlocksReader
from . import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.rank_chunk import RankChunk
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader, JsonValue
    from ..sources.byte_source import ByteSource

NAME = "partclone"

_BIT_PIECE = 8 * CHUNK_BYTES


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Read header and bitmap once, verify their checksums, and build the rank index.

    The stored blocks themselves are not read, but for a few samples.

    Args:
        source: the stored bytes.
        progress: told the bytes of the bitmap that are done.

    Raises:
        FormatError: the image cannot be read; one whose data is cut off can, and says so.
        OSError: the operating system could not read.
    """
    head = read_head(source, progress)
    hash_samples(source, head.blocks.data_offset, head.hasher)
    return scan_of(head, source.size)


class Head(NamedTuple):
    """What comes before the blocks: the header, where they lie, their index, and a hash of it."""

    header: layout.Header
    blocks: StoredBlocks
    chunks: tuple[RankChunk, ...] | None
    hasher: xxhash.xxh3_128


def read_head(source: ByteSource, progress: Progress | None = None) -> Head:
    """Read header and bitmap. Raises as `scan`."""
    header = read_header(source)
    hasher = xxhash.xxh3_128()
    hasher.update(source.read_at(0, header.header_size))
    blocks, chunks = read_index(source, header, hasher, progress)
    return Head(header, blocks, chunks, hasher)


def scan_of(head: Head, stored_size: int) -> Scan:
    """Return the scan of an image, of which the head was read.

    Args:
        head: as `read_head` gave it; its hasher took the samples too.
        stored_size: bytes of the whole image as it is stored.

    Raises:
        CorruptImageError: the counts contradict each other.
    """
    header, blocks, chunks, hasher = head
    _check_counts(stored_size, header, blocks)
    missing = blocks.missing(stored_size, chunks)
    return Scan(
        ImageInfo(
            format=NAME,
            format_version=header.version,
            creator=header.creator,
            fs_type=header.fs_type,
            size=blocks.size,
            block_size=header.block_size,
            total_blocks=header.total_blocks,
            used_blocks=blocks.used_blocks,
            used_bytes=blocks.used_blocks * blocks.block_size,
            checksum=header.checksum_mode.name.lower(),
            header=_header_fields(header),
            layout=blocks.to_json(),
            fingerprint=hasher.digest(),
            missing=missing,
            damage=_damage(stored_size, blocks, missing),
            warnings=tuple(_warnings(stored_size, header, blocks)),
        ),
        chunks,
    )


def read_index(
    source: ByteSource,
    header: layout.Header,
    hasher: xxhash.xxh3_128 | None = None,
    progress: Progress | None = None,
) -> tuple[StoredBlocks, tuple[RankChunk, ...] | None]:
    """Read the bitmap, and return where the blocks lie and the rank index.

    Args:
        source: the stored bytes.
        header: the image's header.
        hasher: takes the bytes of the bitmap.
        progress: told the bytes of the bitmap that are done.

    Raises:
        FormatError: the bitmap cannot be read, or its checksum is wrong.
        OSError: the operating system could not read.
    """
    builder = ChunkBuilder(header.total_blocks)
    for bits in _bitmap(source, header, hasher or xxhash.xxh3_128()):
        builder.add(bits)
        if progress is not None:
            progress(header.header_size + len(builder.chunks) * CHUNK_BYTES)
    full = header.bitmap_mode is layout.BitmapMode.NONE
    used_blocks = header.total_blocks if full else builder.present_blocks
    blocks = _stored_blocks(header, used_blocks)
    if header.version == "0001" and _has_wide_checksums(source, blocks):
        blocks = _widened(blocks)
    return blocks, None if full else tuple(builder.chunks)


def fingerprint(source: ByteSource) -> bytes:
    """Return the fingerprint that `scan` would give, without building an index.

    Raises:
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    return scan(source).info.fingerprint


def open_reader(source: ByteSource, fields: Mapping[str, int], index: StoredIndex) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
    """
    blocks = StoredBlocks.from_json(fields)
    ranks = index.rank_index() or FullIndex(blocks.total_blocks)
    return StoredBlocksReader(source, blocks, ranks)


def read_header(source: ByteSource) -> layout.Header:
    """Read and parse the header; see `layout.parse_header` for what it raises."""
    return layout.parse_header(source.read_at(0, min(source.size, layout.V1_SIZE)))


def _bitmap(
    source: ByteSource, header: layout.Header, hasher: xxhash.xxh3_128
) -> Iterator[bytes | memoryview]:
    """Yield the bitmap as bits, least significant first, and verify it at its end."""
    if header.bitmap_mode is layout.BitmapMode.NONE:
        return
    start, stop = header.header_size, header.header_size + header.bitmap_size
    # Checked before anything is allocated: the count of blocks is only a number in a file.
    if header.data_offset > source.size:
        raise TruncatedImageError(
            "partclone.bitmap",
            start,
            f"{header.data_offset - start} bytes of it belong here, {source.size - start} are left",
        )
    is_bytes = header.bitmap_mode is layout.BitmapMode.BYTE
    step = CHUNK_BLOCKS if is_bytes else _BIT_PIECE
    crc = 0
    for offset in range(start, stop, step):
        piece = source.read_at(offset, min(step, stop - offset))
        hasher.update(piece)
        if is_bytes:
            yield np.packbits(np.frombuffer(piece, np.uint8) == 1, bitorder="little").tobytes()
        else:
            crc = isal_zlib.crc32(piece, crc)
            yield piece
    if is_bytes:
        _check_marker(source, stop)
    else:
        _check_bitmap_crc(source, start, stop, crc ^ 0xFFFFFFFF)


def _check_bitmap_crc(source: ByteSource, start: int, stop: int, actual: int) -> None:
    expected = int.from_bytes(source.read_at(stop, layout.BITMAP_CRC_SIZE), "little")
    if actual != expected:
        raise ChecksumError("partclone.bitmap", start, group=0, expected=expected, actual=actual)


def _check_marker(source: ByteSource, offset: int) -> None:
    marker = source.read_at(offset, len(layout.V1_BITMAP_MARKER))
    if marker != layout.V1_BITMAP_MARKER:
        raise CorruptImageError(
            "partclone.bitmap", offset, f"{marker!r} where {layout.V1_BITMAP_MARKER!r} ends it"
        )


def _stored_blocks(header: layout.Header, used_blocks: int) -> StoredBlocks:
    return StoredBlocks(
        # Format 0001 may name a device smaller than its blocks; never cut off a block.
        size=max(header.device_size, header.total_blocks * header.block_size),
        block_size=header.block_size,
        total_blocks=header.total_blocks,
        used_blocks=used_blocks,
        data_offset=header.data_offset,
        group_size=header.blocks_per_checksum * header.block_size if header.checksum_size else 0,
        checksum_size=header.checksum_size,
        partial_checksum=header.checksum_size,
    )


def _widened(blocks: StoredBlocks) -> StoredBlocks:
    size = layout.V1_WIDE_CHECKSUM_SIZE
    return dataclasses.replace(blocks, checksum_size=size, partial_checksum=size)


def _has_wide_checksums(source: ByteSource, blocks: StoredBlocks) -> bool:
    """Tell whether an image of format 0001 stores each checksum in eight bytes.

    The checksums of its first two blocks tell; where they do not, because there is only one
    block or they are damaged, the length does.
    """
    wide = _widened(blocks)
    narrow_fits, wide_fits = (_second_checksum_fits(source, each) for each in (blocks, wide))
    if narrow_fits != wide_fits:
        return wide_fits
    if not narrow_fits and _ends_in_second_block(source, blocks):
        raise TruncatedImageError(
            "partclone.data",
            source.size,
            "the file ends in its second block, too early to tell the width of its checksums",
        )
    return source.size == wide.stored_size


def _ends_in_second_block(source: ByteSource, blocks: StoredBlocks) -> bool:
    """Tell whether the file ends where a narrow second block would be whole, a wide one not.

    What follows a narrow first checksum is data; the upper half of a wide one is zero.
    """
    first_stop = blocks.data_offset + blocks.block_size + layout.V1_CHECKSUM_SIZE
    second_stop = first_stop + blocks.block_size
    return (
        blocks.used_blocks >= 2  # noqa: PLR2004 - the second block
        and second_stop <= source.size < second_stop + layout.V1_WIDE_CHECKSUM_SIZE
        and source.read_at(first_stop, 4) == bytes(4)
    )


def _second_checksum_fits(source: ByteSource, blocks: StoredBlocks) -> bool:
    stride = blocks.block_size + blocks.checksum_size
    if blocks.used_blocks < 2:  # noqa: PLR2004 - the first block is alike in both
        return False
    seed = 0xFFFFFFFF
    for number in range(2):
        offset = blocks.data_offset + number * stride
        if offset + blocks.block_size + layout.V1_CHECKSUM_SIZE > source.size:
            return False
        # The writers of 0001 feed the first byte of a block, block_size times.
        seed = layout.crc32_register(source.read_at(offset, 1) * blocks.block_size, seed)
        stored = source.read_at(offset + blocks.block_size, layout.V1_CHECKSUM_SIZE)
    return int.from_bytes(stored, "little") == seed


def _check_counts(stored_size: int, header: layout.Header, blocks: StoredBlocks) -> None:
    """Refuse an image whose length fits the header's count and not the bitmap's."""
    counted = header.used_bitmap
    if (
        counted != blocks.used_blocks
        and header.version != "0001"
        and stored_size != blocks.stored_size
        and stored_size == blocks.size_with(counted)
    ):
        raise CorruptImageError(
            "partclone.bitmap",
            header.header_size,
            f"{blocks.used_blocks} blocks are marked as used, but the header counts and the file "
            f"holds {counted}: which ones cannot be known",
        )


def _damage(stored_size: int, blocks: StoredBlocks, missing: tuple[int, int] | None) -> str | None:
    if stored_size >= blocks.stored_size:
        return None
    lost = blocks.used_blocks - blocks.whole_blocks(stored_size)
    where = (
        f"{lost} blocks are missing, within guest bytes [{missing[0]}, {missing[1]})"
        if missing
        else "only the last checksum is missing"
    )
    return f"truncated at {stored_size} of {blocks.stored_size} bytes: {where}"


def _warnings(stored_size: int, header: layout.Header, blocks: StoredBlocks) -> Iterator[str]:
    if stored_size > blocks.stored_size:
        yield f"{stored_size - blocks.stored_size} bytes follow the image's end"
    if header.used_bitmap != blocks.used_blocks:
        yield (
            f"the header counts {header.used_bitmap} used blocks, the bitmap marks "
            f"{blocks.used_blocks}: the bitmap is trusted"
        )
    if blocks.checksum_size == layout.V1_WIDE_CHECKSUM_SIZE and header.version == "0001":
        yield "written by a partclone before 0.1.0 with eight-byte checksums"


def _header_fields(header: layout.Header) -> dict[str, JsonValue]:
    """Return the header as it is shown and kept, in the order and words of partclone.info."""
    return {
        "file_system": header.fs_type,
        "device_size": header.device_size,
        "total_blocks": header.total_blocks,
        "used_blocks_superblock": header.used_superblock,
        "used_blocks_bitmap": header.used_bitmap,
        "block_size": header.block_size,
        "image_format": header.version,
        "platform_bits": header.cpu_bits,
        "partclone_version": header.creator,
        "bitmap_mode": header.bitmap_mode.name,
        "checksum_algorithm": header.checksum_mode.name,
        "checksum_size": header.checksum_size,
        "blocks_per_checksum": header.blocks_per_checksum,
        "reseed_checksum": header.reseed,
        "header_crc32": None if header.header_crc32 is None else f"{header.header_crc32:08x}",
        "data_offset": header.data_offset,
    }
