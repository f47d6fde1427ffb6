"""What the shell shows of a QCOW2 image, from the image itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ...formats.qcow2 import layout
from ...formats.qcow2.reader import read_header, read_snapshots
from .session import UsageError, write, write_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.sources.byte_source import ByteSource
    from .session import Session

_INCOMPATIBLE = ("dirty", "corrupt", "external data file", "compression type", "extended L2")
_COMPATIBLE = ("lazy refcounts",)
_AUTOCLEAR = ("bitmaps", "raw external data")


def write_header(session: Session) -> None:
    """Write every field of the header, and the snapshots."""
    source, header = _open(session)
    write_fields(
        {
            "version": header.version,
            "backing file": header.backing_file,
            "backing format": header.backing_format,
            "data file": header.data_file,
            "cluster size": f"{header.cluster_size} (2^{header.cluster_bits})",
            "size": header.size,
            "L1 entries": header.l1_size,
            "L1 offset": header.l1_offset,
            "L2 entry size": header.entry_size,
            "L2 entries": header.entries,
            "refcount table offset": header.refcount_table_offset,
            "refcount table clusters": header.refcount_table_clusters,
            "refcount bits": 1 << header.refcount_order,
            "snapshots": header.snapshot_count,
            "snapshots offset": header.snapshots_offset,
            "incompatible features": _features(header.incompatible, _INCOMPATIBLE),
            "compatible features": _features(header.compatible, _COMPATIBLE),
            "autoclear features": _features(header.autoclear, _AUTOCLEAR),
            "header length": header.header_length,
            "compression type": layout.COMPRESSIONS[header.compression],
        }
    )
    for snapshot in read_snapshots(source, header):
        write(
            f"snapshot {snapshot.id} {snapshot.name!r}: L1 of {snapshot.l1_size} entries at "
            f"{snapshot.l1_offset}, {header.size if snapshot.size is None else snapshot.size} bytes"
        )


def write_l1(session: Session) -> None:
    """Write the entries of the first table."""
    source, header = _open(session)
    covers = header.cluster_size * header.entries
    for number, entry in enumerate(_l1(source, header)):
        offset = entry & layout.OFFSET_MASK
        what = f"L2 table at {offset}" if offset else "no table"
        copied = ", copied" if entry >> 63 else ""
        write(f"{number}: guest {number * covers}: {what}{copied}  (0x{entry:016x})")


def write_l2(session: Session, number: int) -> None:
    """Write the entries of a second table, as they are and what they mean."""
    source, header = _open(session)
    l1 = _l1(source, header)
    if number >= len(l1):
        raise UsageError(f"the first table has {len(l1)} entries")
    offset = l1[number] & layout.OFFSET_MASK
    if not offset:
        write(f"entry {number} of the first table leads to no table")
        return
    table = source.read_at(offset, header.cluster_size)
    first = number * header.entries
    for position in range(min(header.entries, header.cluster_count - first)):
        (word,) = struct.unpack_from(">Q", table, position * header.entry_size)
        bitmap = None
        if header.is_extended:
            (bitmap,) = struct.unpack_from(">Q", table, position * header.entry_size + 8)
        guest = (first + position) * header.cluster_size
        raw = f"0x{word:016x}" + ("" if bitmap is None else f" 0x{bitmap:016x}")
        write(f"{position}: guest {guest}: {_entry(header, word, bitmap)}  ({raw})")


def _entry(header: layout.Header, word: int, bitmap: int | None) -> str:
    if word & layout.IS_COMPRESSED:
        shift = 62 - (header.cluster_bits - 8)
        host = word & ((1 << shift) - 1)
        sectors = ((word >> shift) & ((1 << (header.cluster_bits - 8)) - 1)) + 1
        return f"compressed at {host}, {sectors * 512 - host % 512} bytes at the most"
    host = word & layout.OFFSET_MASK
    if bitmap is not None:
        return _subclusters(host, bitmap)
    if word & layout.IS_ZERO:
        return f"zeros, room at {host}" if host else "zeros"
    if host or (word >> 63 and header.data_file is not None):
        return f"data at {host}"
    return "not stored"


def _subclusters(host: int, bitmap: int) -> str:
    """Return what the parts of a cluster are, with like neighbours as one."""
    kinds = []
    for bit in range(layout.SUBCLUSTERS):
        is_data, is_zero = bitmap >> bit & 1, bitmap >> (32 + bit) & 1
        kinds.append("data" if is_data else "zeros" if is_zero else "not stored")
    parts, start = [], 0
    for bit in range(1, layout.SUBCLUSTERS + 1):
        if bit == layout.SUBCLUSTERS or kinds[bit] != kinds[start]:
            parts.append(f"{start}-{bit - 1} {kinds[start]}")
            start = bit
    where = f" at {host}" if host else ""
    return f"{kinds[0]}{where}" if len(parts) == 1 else f"parts{where}: {', '.join(parts)}"


def _open(session: Session) -> tuple[ByteSource, layout.Header]:
    source = session.opened.stored.source
    return source, read_header(source)


def _l1(source: ByteSource, header: layout.Header) -> tuple[int, ...]:
    data = source.read_at(header.l1_offset, header.l1_size * 8) if header.l1_size else b""
    return struct.unpack(f">{header.l1_size}Q", data)


def _features(bits: int, names: tuple[str, ...]) -> str:
    words = [
        names[bit] if bit < len(names) else f"bit {bit}"
        for bit in _bits(bits)
    ]  # fmt: skip
    return f"0x{bits:x}" + (f" ({', '.join(words)})" if words else "")


def _bits(word: int) -> Iterator[int]:
    return (bit for bit in range(word.bit_length()) if word >> bit & 1)
