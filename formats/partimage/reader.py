"""partimage: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from ..errors import CorruptImageError, TruncatedImageError
from ..index.rank import ChunkBuilder, FullIndex, block_of_rank
from ..index.rank_chunk import CHUNK_BYTES
from ..reader import ImageInfo, Scan
from ..sources.fingerprint import hash_samples
from ..stored.blocks import StoredBlocks, StoredBlocksReader
from . import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..index.rank_chunk import RankChunk
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader, JsonValue
    from ..sources.byte_source import ByteSource

NAME = "partimage"

_LENGTH_SIZE = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Headers:
    """The parsed headers, and where bitmap and data lie in the stream."""

    main: layout.MainHeader
    local: layout.LocalHeader
    bitmap_offset: int
    data_offset: int


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Read headers and bitmap once, verify the headers' sums, and build the rank index.

    Args:
        source: the stream, without volume headers.
        progress: told the bytes that are done.

    Raises:
        FormatError: the image cannot be read; one whose data is cut off can, and says so.
        OSError: the operating system could not read.
    """
    head = read_head(source, progress)
    hash_samples(source, head.headers.data_offset, head.hasher)
    return scan_of(head, source.size)


class Head(NamedTuple):
    """What comes before the blocks: the headers, where they lie, their index, and a hash of it."""

    headers: Headers
    blocks: StoredBlocks
    chunks: tuple[RankChunk, ...]
    hasher: xxhash.xxh3_128


def read_head(source: ByteSource, progress: Progress | None = None) -> Head:
    """Read headers and bitmap. Raises as `scan`."""
    headers = read_headers(source)
    hasher = xxhash.xxh3_128()
    hasher.update(source.read_at(0, layout.HEADER_SIZE))
    blocks, chunks = read_index(source, headers, hasher, progress)
    return Head(headers, blocks, chunks, hasher)


def scan_of(head: Head, stored_size: int) -> Scan:
    """Return the scan of an image, of which the head was read.

    Args:
        head: as `read_head` gave it; its hasher took the samples too.
        stored_size: bytes of the whole stream.

    Raises:
        CorruptImageError: the counts contradict each other.
    """
    headers, blocks, chunks, hasher = head
    local = headers.local
    if local.used_blocks != blocks.used_blocks and stored_size < blocks.stored_size:
        raise CorruptImageError(
            "partimage.bitmap",
            headers.bitmap_offset,
            f"{blocks.used_blocks} blocks are marked as used, but the header counts "
            f"{local.used_blocks}, and the stream is too short for what is marked",
        )
    missing = blocks.missing(stored_size, chunks)
    return Scan(
        ImageInfo(
            format=NAME,
            format_version="0.6",
            creator=headers.main.version or None,
            fs_type=headers.main.fs_type,
            size=blocks.size,
            block_size=local.block_size,
            total_blocks=local.total_blocks,
            used_blocks=blocks.used_blocks,
            used_bytes=_used_bytes(blocks, chunks),
            checksum="crc32",
            header=_header_fields(headers),
            layout=blocks.to_json(),
            fingerprint=hasher.digest(),
            missing=missing,
            damage=_damage(stored_size, blocks, missing),
            warnings=tuple(_warnings(stored_size, headers, blocks)),
        ),
        chunks,
    )


def read_index(
    source: ByteSource,
    headers: Headers,
    hasher: xxhash.xxh3_128 | None = None,
    progress: Progress | None = None,
) -> tuple[StoredBlocks, tuple[RankChunk, ...]]:
    """Read the bitmap, and return where the blocks lie and the rank index.

    Args:
        source: the stream, without volume headers.
        headers: as `read_headers` gave them.
        hasher: takes the bytes of the bitmap.
        progress: told the bytes that are done.

    Raises:
        FormatError, OSError: the bitmap cannot be read.
    """
    builder = ChunkBuilder(headers.local.total_blocks)
    length = (headers.local.total_blocks + 7) // 8
    for start in range(0, length, 8 * CHUNK_BYTES):
        piece = source.read_at(headers.bitmap_offset + start, min(8 * CHUNK_BYTES, length - start))
        if hasher is not None:
            hasher.update(piece)
        builder.add(piece)
        if progress is not None:
            progress(headers.bitmap_offset + start)
    return _stored_blocks(headers, builder.present_blocks), tuple(builder.chunks)


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
        source: the stream, without volume headers.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
    """
    blocks = StoredBlocks.from_json(fields)
    ranks = index.rank_index() or FullIndex(blocks.total_blocks)
    return StoredBlocksReader(source, blocks, ranks)


def read_headers(source: ByteSource) -> Headers:
    """Read and parse what comes before the data, each part by the length of the one before.

    Raises:
        FormatError: a part is missing, damaged or cannot be.
        OSError: the operating system could not read.
    """
    whole = layout.HEADER_SIZE + layout.SUM_SIZE
    main = layout.parse_main_header(_read(source, 0, whole, "partimage.main_header"))
    offset = _expect(source, whole, layout.MBR_MAGIC)
    offset += main.mbr_count * layout.MBR_SIZE
    for number in range(layout.EXT_COUNT):
        offset = _expect(source, offset, b"MAGIC-BEGIN-EXT%03d" % number)
        length = _read(source, offset, _LENGTH_SIZE, "partimage.extension")
        offset += _LENGTH_SIZE + int.from_bytes(length, "little")
    offset = _expect(source, offset, layout.LOCAL_MAGIC)
    data = _read(source, offset, whole, "partimage.local_header")
    local = layout.parse_local_header(data, offset, main.partition_size)
    bitmap_offset = _expect(source, offset + whole, layout.BITMAP_MAGIC)
    # Checked before anything is allocated: the size of the bitmap is only a number in a file.
    if bitmap_offset + local.bitmap_size > source.size:
        raise TruncatedImageError(
            "partimage.bitmap",
            bitmap_offset,
            f"{local.bitmap_size} bytes of it belong here, {source.size - bitmap_offset} are left",
        )
    offset = _expect(source, bitmap_offset + local.bitmap_size, layout.INFO_MAGIC)
    layout.check_sum(
        "partimage.info_header", offset, _read(source, offset, whole, "partimage.info_header")
    )
    data_offset = _expect(source, offset + whole, layout.DATA_MAGIC)
    return Headers(main, local, bitmap_offset, data_offset)


def _read(source: ByteSource, offset: int, length: int, structure: str) -> bytes:
    if offset + length > source.size:
        raise TruncatedImageError(
            structure,
            offset,
            f"{length} bytes of it belong here, {max(0, source.size - offset)} are left",
        )
    return source.read_at(offset, length)


def _expect(source: ByteSource, offset: int, magic: bytes) -> int:
    """Return what follows a magic, which must be at `offset`."""
    found = _read(source, offset, len(magic), "partimage.magic")
    if found != magic:
        raise CorruptImageError(
            "partimage.magic", offset, f"{found!r} where {magic.decode()} belongs"
        )
    return offset + len(magic)


def _stored_blocks(headers: Headers, used_blocks: int) -> StoredBlocks:
    local = headers.local
    return StoredBlocks(
        # The last block may reach beyond the partition (FAT), or end before it does (NTFS).
        size=headers.main.partition_size,
        block_size=local.block_size,
        total_blocks=local.total_blocks,
        used_blocks=used_blocks,
        data_offset=headers.data_offset,
        group_size=layout.GROUP_SIZE,
        checksum_size=layout.CHECK_SIZE,
        partial_checksum=0,
    )


def _used_bytes(blocks: StoredBlocks, chunks: tuple[RankChunk, ...]) -> int:
    used = blocks.used_blocks * blocks.block_size
    beyond = blocks.total_blocks * blocks.block_size - blocks.size
    if not used or beyond <= 0:
        return used
    last = block_of_rank(chunks, blocks.total_blocks, blocks.used_blocks - 1)
    return used - beyond if last == blocks.total_blocks - 1 else used


def _damage(stored_size: int, blocks: StoredBlocks, missing: tuple[int, int] | None) -> str | None:
    if missing is None:
        return None
    lost = blocks.used_blocks - blocks.whole_blocks(stored_size)
    return (
        f"the volumes end at {stored_size} of {blocks.stored_size} bytes: {lost} blocks are "
        f"missing, within guest bytes [{missing[0]}, {missing[1]}); if there is another volume, "
        "put it beside the first"
    )


def _warnings(stored_size: int, headers: Headers, blocks: StoredBlocks) -> list[str]:
    found = []
    end = blocks.stored_size + len(layout.TAIL_MAGIC) + layout.HEADER_SIZE
    if stored_size > end:
        found.append(f"{stored_size - end} bytes follow the image's end")
    elif blocks.stored_size <= stored_size < end:
        found.append(f"the tail is cut off: {end - stored_size} bytes are missing")
    if headers.local.used_blocks != blocks.used_blocks:
        found.append(
            f"the header counts {headers.local.used_blocks} used blocks, the bitmap marks "
            f"{blocks.used_blocks}: the bitmap is trusted"
        )
    if headers.local.bad_blocks:
        found.append(f"{headers.local.bad_blocks} blocks could not be read when it was made")
    return found


def _header_fields(headers: Headers) -> dict[str, JsonValue]:
    """Return the headers as they are shown and kept, in the words of ``partimage imginfo``."""
    main, local = headers.main, headers.local
    return {
        "filesystem": main.fs_type,
        "description": main.description,
        "original_device": main.device,
        "original_file": main.first_file,
        "creation_date": main.created,
        "hostname": main.hostname,
        "system": " ".join(filter(None, main.uname)),
        "partimage_version": main.version,
        "compression_when_written": ("none", "gzip", "bzip2", "lzo")[main.compression]
        if main.compression < 4  # noqa: PLR2004 - the names that there are
        else str(main.compression),
        "flags": main.flags,
        "partition_size": main.partition_size,
        "boot_sectors": main.mbr_count,
        "block_size": local.block_size,
        "total_blocks": local.total_blocks,
        "used_blocks": local.used_blocks,
        "bitmap_size": local.bitmap_size,
        "bad_blocks": local.bad_blocks,
        "label": local.label,
        "data_offset": headers.data_offset,
    }
