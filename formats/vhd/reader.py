"""VHD: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from ..errors import (
    CorruptImageError,
    NotThisFormatError,
    TruncatedImageError,
)
from ..index.map import MapKind, pack_chunk
from ..index.map_chunk import CHUNK_UNITS
from ..index.rank import FullIndex
from ..reader import ImageInfo, ParentName, Scan
from ..sources.fingerprint import hash_samples
from ..stored.blocks import StoredBlocks, StoredBlocksReader
from ..stored.mapped import MappedClusters, MappedReader
from . import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.map_chunk import MapChunk
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader, JsonValue
    from ..sources.byte_source import ByteSource
    from ..stored.geometry import Geometry

NAME = "vhd"
BY_GEOMETRY = "geometry"
"""In a header of the catalog: the size is that of cylinders, heads and sectors."""

_LONGEST_PATH = 1 << 16
"""Bytes of a parent's path that are looked at."""


class FoundFooter(NamedTuple):
    """A footer, where it lies, and what is odd about it."""

    footer: layout.Footer
    offset: int
    warnings: tuple[str, ...] = ()


def ends_like(source: ByteSource) -> bool:
    """Tell whether a source has a footer at its end: a fixed disk begins like none."""
    return any(
        source.read_at(offset, len(layout.MAGIC)) == layout.MAGIC for offset in _ends(source)
    )


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Read the footer, and of a disk that grows the table of its blocks.

    Args:
        source: the stored bytes.
        progress: told the stored bytes that are done.

    Raises:
        FormatError: it cannot be read.
        OSError: the operating system could not read.
    """
    return _scan(source, read_footer(source), progress)


def scan_by_geometry(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Do as `scan`, and take the size from cylinders, heads and sectors, as Virtual PC does.

    A geometry that is the largest that there is tells nothing: then the footer's size counts.

    Args:
        source: the stored bytes.
        progress: told the stored bytes that are done.

    Raises:
        FormatError: it cannot be read.
        OSError: the operating system could not read.
    """
    found = read_footer(source)
    footer = found.footer
    if not footer.is_geometry_full and footer.geometry_size:
        footer = dataclasses.replace(footer, current_size=footer.geometry_size)
    scan = _scan(source, found._replace(footer=footer), progress)
    info = scan.info
    header = dict(info.header) | {"size_rule": BY_GEOMETRY}
    return dataclasses.replace(scan, info=dataclasses.replace(info, header=header))


def _scan(source: ByteSource, found: FoundFooter, progress: Progress | None) -> Scan:
    is_fixed = found.footer.kind == layout.FIXED
    scan = _scan_fixed(source, found) if is_fixed else _scan_blocks(source, found)
    if progress is not None:
        progress(source.size)
    return scan


def fingerprint(source: ByteSource) -> bytes:
    """Return the fingerprint that `scan` would give, from a few reads.

    Raises:
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    found = read_footer(source)
    hasher = xxhash.xxh3_128()
    hasher.update(source.read_at(found.offset, min(layout.FOOTER_SIZE, source.size - found.offset)))
    if found.footer.header_offset is not None:
        header = read_header(source, found.footer)
        size = min(header.entries * 4, source.size - header.table_offset)
        hasher.update(source.read_at(header.table_offset, size))
    hash_samples(source, 0, hasher)
    return hasher.digest()


def open_reader(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    parent: ImageReader | None = None,
) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
        parent: what it is a difference to, closed with the reader; None where it is whole.
    """
    if "unit_size" in fields:
        geometry = MappedClusters.from_json(fields)
        return MappedReader(source, geometry, index.map_index(), parent=parent)
    blocks = StoredBlocks.from_json(fields)
    return StoredBlocksReader(source, blocks, FullIndex(blocks.total_blocks))


def read_footer(source: ByteSource) -> FoundFooter:
    """Find and parse a footer: at the end, at the end of old ones, or the copy at the beginning.

    Raises:
        NotThisFormatError: there is none.
        CorruptImageError: a field of it cannot be.
        OSError: the operating system could not read.
    """
    for offset in _ends(source):
        data = source.read_at(offset, source.size - offset)
        if data.startswith(layout.MAGIC):
            return _checked(layout.parse_footer(data, offset), offset)
    copy = source.read_at(0, min(source.size, layout.FOOTER_SIZE))
    found = _checked(layout.parse_footer(copy, 0), 0)
    if found.footer.kind == layout.FIXED:
        raise NotThisFormatError("vhd.footer", 0, "a footer where a fixed disk has its data")
    return found._replace(
        warnings=(*found.warnings, "has no footer at its end: its copy at the beginning is read")
    )


def read_header(source: ByteSource, footer: layout.Footer) -> layout.DynamicHeader:
    """Read and parse the dynamic header; see `layout.parse_header` for what it raises."""
    offset = footer.header_offset
    assert offset is not None
    if offset + layout.HEADER_SIZE > source.size:
        raise TruncatedImageError("vhd.header", source.size, f"it lies at {offset}, behind the end")
    return layout.parse_header(source.read_at(offset, layout.HEADER_SIZE), offset, footer)


def _ends(source: ByteSource) -> Iterator[int]:
    """Yield where a footer at the end may lie."""
    for size in (layout.FOOTER_SIZE, layout.SHORT_FOOTER_SIZE):
        if source.size >= size:
            yield source.size - size


def _checked(footer: layout.Footer, offset: int) -> FoundFooter:
    warnings = []
    if footer.checksum != footer.computed:
        warnings.append(_checksum_words("footer", footer.computed, footer.checksum))
    if footer.has_saved_state:
        warnings.append("a machine was suspended with it: its memory is stored elsewhere")
    return FoundFooter(footer, offset, tuple(warnings))


def _checksum_words(what: str, computed: int, stored: int) -> str:
    return f"the {what}'s checksum is 0x{computed:08x}, but 0x{stored:08x} is stored"


def _scan_fixed(source: ByteSource, found: FoundFooter) -> Scan:
    footer = found.footer
    size = footer.current_size
    if size > found.offset:
        raise TruncatedImageError(
            "vhd.footer", found.offset, f"a disk of {size} bytes, but only {found.offset} before it"
        )
    total = -(-size // layout.SECTOR)
    blocks = StoredBlocks(
        size=size,
        block_size=layout.SECTOR,
        total_blocks=total,
        used_blocks=total,
        data_offset=0,
        group_size=0,
        checksum_size=0,
        partial_checksum=0,
    )
    info = _info(source, found, _Used(layout.SECTOR, total, size), blocks)
    return Scan(info, chunks=None)


def _scan_blocks(source: ByteSource, found: FoundFooter) -> Scan:
    footer = found.footer
    header = read_header(source, footer)
    size, block_size = footer.current_size, header.block_size
    total = -(-size // block_size)
    table = _read_table(source, found, header, total)
    if header.checksum != header.computed:
        words = _checksum_words("header", header.computed, header.checksum)
        found = found._replace(warnings=(*found.warnings, words))
    if footer.kind == layout.DIFFERENCING:
        return _scan_difference(source, found, header, table)
    chunks, stored = [], 0
    for number, start in enumerate(range(0, total, CHUNK_UNITS)):
        entries = table[start : start + CHUNK_UNITS]
        is_stored = entries != layout.ABSENT
        stored += int(np.count_nonzero(is_stored))
        chunk = _chunk(number, entries, is_stored, header)
        if chunk is not None:
            chunks.append(chunk)
    beyond = total * block_size - size
    last_is_stored = total > 0 and int(table[-1]) != layout.ABSENT
    used = stored * block_size - (beyond if last_is_stored else 0)
    geometry = MappedClusters(
        size=size,
        unit_size=block_size,
        cluster_size=block_size,
        data_stop=source.size,
        compression=0,
    )
    info = _info(source, found, _Used(block_size, stored, used), geometry)
    info = dataclasses.replace(info, header=dict(info.header) | _header_fields(header))
    return Scan(info, chunks=None, map_chunks=tuple(chunks))


def _scan_difference(
    source: ByteSource, found: FoundFooter, header: layout.DynamicHeader, table: np.ndarray
) -> Scan:
    """Map a difference: of each stored block, its bitmap tells which sectors it has.

    All other sectors are those of the parent.
    """
    footer = found.footer
    if header.parent_id == footer.id:
        raise CorruptImageError("vhd.header", 0, f"a difference to itself, {footer.id}")
    size, sector = footer.current_size, layout.SECTOR
    total = -(-size // sector)
    chunks, stored = [], 0
    last_is_stored = False
    for number in _touched(table, header.block_size):
        first = number * CHUNK_UNITS
        if first >= total:
            # The last block may reach far behind the end of the disk.
            break
        count = min(CHUNK_UNITS, total - first)
        kinds, offsets = _sectors(source, header, table, first, count)
        stored += int(np.count_nonzero(kinds))
        last_is_stored = first + count == total and bool(kinds[-1])
        chunk = pack_chunk(number, kinds, offsets, np.zeros(count, np.uint32), sector)
        if chunk is not None:
            chunks.append(chunk)
    used = stored * sector - (-size % sector if last_is_stored else 0)
    geometry = MappedClusters(
        size=size,
        unit_size=sector,
        cluster_size=sector,
        data_stop=source.size,
        compression=0,
        has_parent=1,
    )
    info = _info(source, found, _Used(sector, stored, used), geometry)
    fields = _header_fields(header) | {
        "parent_uuid": str(header.parent_id),
        "parent_name": header.parent_name,
        "parent_modified": header.parent_seconds,
    }
    info = dataclasses.replace(
        info, header=dict(info.header) | fields, parent=_parent(source, header)
    )
    return Scan(info, chunks=None, map_chunks=tuple(chunks))


def _touched(table: np.ndarray, block_size: int) -> list[int]:
    """Return the numbers of the chunks of a map of sectors that stored blocks lie in."""
    per_chunk = CHUNK_UNITS * layout.SECTOR
    numbers: set[int] = set()
    for block in np.flatnonzero(table != layout.ABSENT).tolist():
        start = block * block_size
        numbers.update(range(start // per_chunk, (start + block_size - 1) // per_chunk + 1))
    return sorted(numbers)


def _sectors(
    source: ByteSource, header: layout.DynamicHeader, table: np.ndarray, first: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return kind and offset of sectors ``[first, first + count)`` of a difference."""
    kinds = np.zeros(count, np.uint8)
    offsets = np.zeros(count, np.uint64)
    each = header.block_size // layout.SECTOR
    position = first
    while position < first + count:
        block, skipped = divmod(position, each)
        part = min(each - skipped, first + count - position)
        entry = int(table[block]) if block < len(table) else layout.ABSENT
        if entry != layout.ABSENT:
            offset = entry * layout.SECTOR
            bitmap = np.frombuffer(source.read_at(offset, header.bitmap_size), np.uint8)
            # The first sector is the highest bit.
            is_stored = np.unpackbits(bitmap)[skipped : skipped + part].astype(bool)
            places = np.arange(skipped, skipped + part, dtype=np.uint64) * np.uint64(layout.SECTOR)
            places += np.uint64(offset + header.bitmap_size)
            here = slice(position - first, position - first + part)
            kinds[here] = np.where(is_stored, np.uint8(MapKind.DATA), np.uint8(MapKind.ABSENT))
            offsets[here] = np.where(is_stored, places, np.uint64(0))
        position += part
    return kinds, offsets


def _parent(source: ByteSource, header: layout.DynamicHeader) -> ParentName:
    """Return what the parent is called, in the header and in the locators."""
    names = [header.parent_name] if header.parent_name else []
    for locator in header.locators:
        length = min(locator.length, _LONGEST_PATH)
        if locator.code in layout.LOCATOR_ENCODINGS and locator.offset + length <= source.size:
            data = source.read_at(locator.offset, length)
            names.append(layout.locator_path(locator.code, data))
    return ParentName(tuple(dict.fromkeys(filter(None, names))), NAME, str(header.parent_id))


def _read_table(
    source: ByteSource, found: FoundFooter, header: layout.DynamicHeader, total: int
) -> np.ndarray:
    """Return the entries of all blocks of the disk, checked.

    Raises:
        TruncatedImageError: the table, or a block, lies behind the end.
        CorruptImageError: an entry cannot be.
    """
    end = header.table_offset + header.entries * 4
    if end > source.size:
        raise TruncatedImageError(
            "vhd.table", source.size, f"it has {header.entries} entries at {header.table_offset}"
        )
    data = source.read_at(header.table_offset, total * 4)
    table = np.frombuffer(data, ">u4").astype(np.uint32)
    offsets = table.astype(np.uint64) * np.uint64(layout.SECTOR)
    is_stored = table != layout.ABSENT
    size = np.uint64(header.bitmap_size + header.block_size)
    header_offset = found.footer.header_offset or 0
    limit = found.offset or source.size
    behind = offsets + size > np.uint64(limit)
    over_header = _overlap(offsets, size, header_offset, header_offset + layout.HEADER_SIZE)
    over_table = _overlap(offsets, size, header.table_offset, end)
    over_footer = offsets < np.uint64(layout.FOOTER_SIZE)
    for where, error, what in (
        (behind, TruncatedImageError, "behind the end of the file"),
        (over_footer, CorruptImageError, "inside of the footer"),
        (over_header, CorruptImageError, "over the header"),
        (over_table, CorruptImageError, "over the table"),
    ):
        wrong = where & is_stored
        if wrong.any():
            number = int(wrong.argmax())
            raise error(
                "vhd.table", header.table_offset + number * 4, f"block {number} lies {what}"
            )
    stored = np.sort(offsets[is_stored])
    if (stored[1:] < stored[:-1] + size).any():
        raise CorruptImageError("vhd.table", header.table_offset, "two blocks lie over each other")
    return table


def _overlap(offsets: np.ndarray, size: np.uint64, start: int, stop: int) -> np.ndarray:
    """Tell of each place whether `size` bytes there reach into bytes ``[start, stop)``."""
    result: np.ndarray = (offsets < np.uint64(stop)) & (offsets + size > np.uint64(start))
    return result


def _chunk(
    number: int, entries: np.ndarray, is_stored: np.ndarray, header: layout.DynamicHeader
) -> MapChunk | None:
    kinds = np.where(is_stored, np.uint8(MapKind.DATA), np.uint8(MapKind.ABSENT))
    places = entries.astype(np.uint64) * np.uint64(layout.SECTOR) + np.uint64(header.bitmap_size)
    offsets = np.where(is_stored, places, np.uint64(0))
    lengths = np.zeros(len(entries), np.uint32)
    return pack_chunk(number, kinds, offsets, lengths, header.block_size)


class _Used(NamedTuple):
    """What is stored: bytes in a block, blocks, and the guest bytes in them."""

    block_size: int
    blocks: int
    size: int


def _info(source: ByteSource, found: FoundFooter, used: _Used, geometry: Geometry) -> ImageInfo:
    footer = found.footer
    return ImageInfo(
        format=NAME,
        format_version=layout.KINDS[footer.kind],
        creator=footer.creator or None,
        fs_type="disk",
        size=footer.current_size,
        block_size=used.block_size,
        total_blocks=-(-footer.current_size // used.block_size),
        used_blocks=used.blocks,
        used_bytes=used.size,
        checksum="none",
        header=_footer_fields(footer),
        layout=geometry.to_json(),
        fingerprint=fingerprint(source),
        warnings=found.warnings,
    )


def _footer_fields(footer: layout.Footer) -> dict[str, JsonValue]:
    cylinders, heads, sectors = footer.geometry
    return {
        "type": layout.KINDS[footer.kind],
        "uuid": str(footer.id),
        "created": footer.seconds,
        "creator": footer.creator,
        "creator_version": f"0x{footer.creator_version:08x}",
        "creator_system": footer.creator_system,
        "original_size": footer.original_size,
        "current_size": footer.current_size,
        "cylinders": cylinders,
        "heads": heads,
        "sectors": sectors,
    }


def _header_fields(header: layout.DynamicHeader) -> dict[str, JsonValue]:
    return {
        "table_offset": header.table_offset,
        "blocks": header.entries,
        "block_size": header.block_size,
    }
