"""What the shell shows of a VHD: what one needs to follow the format by hand."""

from __future__ import annotations

import datetime as dt
import struct
from typing import TYPE_CHECKING

from ...formats.vhd import layout
from ...formats.vhd.reader import read_footer, read_header
from .session import UsageError, write, write_fields

if TYPE_CHECKING:
    from ...formats.sources.byte_source import ByteSource
    from .session import Session


_FEATURES = ("temporary", "reserved, always set")
_PIECE = 1 << 18
"""Entries of the table that are read at a time: it may have as many as 2^32."""


def write_footer(session: Session) -> None:
    """Write every field of the footer, and where it lies; of a disk that grows, the header too."""
    found = read_footer(_source(session))
    footer = found.footer
    cylinders, heads, sectors = footer.geometry
    write_fields(
        {
            "offset": found.offset,
            "cookie": layout.MAGIC.decode(),
            "features": _features(footer.features),
            "version": _version(footer.version),
            "header offset": footer.header_offset,
            "created": _time(footer.seconds),
            "creator": footer.creator,
            "creator version": _version(footer.creator_version),
            "creator system": footer.creator_system,
            "original size": footer.original_size,
            "current size": footer.current_size,
            "geometry": f"{cylinders} cylinders, {heads} heads, {sectors} sectors = "
            f"{footer.geometry_size} bytes",
            "type": f"{footer.kind} ({layout.KINDS[footer.kind]})",
            "checksum": _checksum(footer.checksum, footer.computed),
            "UUID": footer.id,
            "saved state": "yes" if footer.has_saved_state else "no",
        }
    )
    for warning in found.warnings:
        write(f"warning: {warning}")
    if footer.header_offset is not None:
        write_header(session)


def write_header(session: Session) -> None:
    """Write every field of the dynamic header, and what it says of a parent."""
    header = _header(session)
    source = _source(session)
    write_fields(
        {
            "dynamic header": f"at {read_footer(source).footer.header_offset}",
            "header cookie": layout.HEADER_MAGIC.decode(),
            "table offset": header.table_offset,
            "header version": _version(header.version),
            "blocks": header.entries,
            "block size": header.block_size,
            "bitmap size": header.bitmap_size,
            "header checksum": _checksum(header.checksum, header.computed),
            "parent UUID": header.parent_id if header.parent_id.int else None,
            "parent changed": _time(header.parent_seconds) if header.parent_id.int else None,
            "parent name": header.parent_name or None,
        }
    )
    for number, locator in enumerate(header.locators):
        path = ""
        is_there = locator.offset + locator.length <= source.size
        if locator.code in layout.LOCATOR_ENCODINGS and is_there:
            data = source.read_at(locator.offset, min(locator.length, 1 << 16))
            path = f": {layout.locator_path(locator.code, data)}"
        write(f"locator {number} {locator.code}: {locator.length} bytes at {locator.offset}{path}")


def write_table(session: Session, numbers: tuple[int, int | None]) -> None:
    """Write entries of the block table.

    Args:
        session: which image.
        numbers: the first block, and the block behind the last; None for the end of the table.
    """
    header = _header(session)
    first, stop = numbers
    stop = header.entries if stop is None else min(stop, header.entries)
    if first >= header.entries:
        raise UsageError(f"the table has {header.entries} entries")
    source = _source(session)
    for start in range(first, stop, _PIECE):
        count = min(_PIECE, stop - start)
        data = source.read_at(header.table_offset + start * 4, count * 4)
        _write_entries(header, start, data)


def _write_entries(header: layout.DynamicHeader, first: int, data: bytes) -> None:
    for number, (entry,) in enumerate(struct.iter_unpack(">I", data), first):
        guest = number * header.block_size
        if entry == layout.ABSENT:
            write(f"{number}: guest {guest}: not stored")
            continue
        bitmap = entry * layout.SECTOR
        start = bitmap + header.bitmap_size
        write(
            f"{number}: guest {guest}: sector {entry}, bitmap [{bitmap}, {start}), "
            f"data [{start}, {start + header.block_size})"
        )


def _header(session: Session) -> layout.DynamicHeader:
    source = _source(session)
    footer = read_footer(source).footer
    if footer.header_offset is None:
        raise UsageError(f"{session.name} is of a fixed size: it has neither header nor table")
    return read_header(source, footer)


def _source(session: Session) -> ByteSource:
    return session.opened.stored.source


def _features(bits: int) -> str:
    words = [
        _FEATURES[bit] if bit < len(_FEATURES) else f"bit {bit}"
        for bit in range(32)
        if bits >> bit & 1
    ]
    return f"0x{bits:08x}" + (f" ({', '.join(words)})" if words else "")


def _version(number: int) -> str:
    return f"0x{number:08x} ({number >> 16}.{number & 0xFFFF})"


def _time(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _checksum(stored: int, computed: int) -> str:
    if stored == computed:
        return f"0x{stored:08x}, right"
    return f"0x{stored:08x}, but 0x{computed:08x} is right"
