"""What the shell shows of a QCOW2 image, from the image itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

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
_KINDS_OF_FEATURES = ("incompatible", "compatible", "autoclear")
_MOST_SHOWN = 64
"""Bytes of an extension that are shown, where nothing is known of what they mean."""


class _FirstTable(NamedTuple):
    """The first table of the disk, or of one of its snapshots.

    Attributes:
        entries: its entries.
        cluster_count: clusters that the guest has.
    """

    entries: tuple[int, ...]
    cluster_count: int


def write_header(session: Session) -> None:
    """Write every field of the header, its extensions, and the snapshots."""
    source, header = _open(session)
    first = source.read_at(0, min(source.size, header.cluster_size))
    backing_offset, backing_size = struct.unpack_from(">QI", first, 8)
    extensions = layout.parse_extensions(first, header)
    names = {
        (kind, bit): name for each in extensions for kind, bit, name in each.features
    }  # fmt: skip
    write_fields(
        {
            "magic": first[:4].hex(" "),
            "version": header.version,
            "backing file": header.backing_file,
            "backing file name": f"{backing_size} bytes at {backing_offset}"
            if backing_offset
            else None,
            "backing format": header.backing_format,
            "data file": header.data_file,
            "cluster size": f"{header.cluster_size} (2^{header.cluster_bits})",
            "size": header.size,
            # An encrypted one is not opened.
            "encryption": "0 (none)",
            "L1 entries": header.l1_size,
            "L1 offset": header.l1_offset,
            "L2 entry size": header.entry_size,
            "L2 entries": header.entries,
            "refcount table offset": header.refcount_table_offset,
            "refcount table clusters": header.refcount_table_clusters,
            "refcount bits": 1 << header.refcount_order,
            "snapshots": header.snapshot_count,
            "snapshots offset": header.snapshots_offset,
            "incompatible features": _features(header.incompatible, 0, _INCOMPATIBLE, names),
            "compatible features": _features(header.compatible, 1, _COMPATIBLE, names),
            "autoclear features": _features(header.autoclear, 2, _AUTOCLEAR, names),
            "header length": header.header_length,
            "compression type": layout.COMPRESSIONS[header.compression],
        }
    )
    for each in extensions:
        _write_extension(each)
    for snapshot in read_snapshots(source, header):
        write(
            f"snapshot {snapshot.id} {snapshot.name!r}: L1 of {snapshot.l1_size} entries at "
            f"{snapshot.l1_offset}, {header.size if snapshot.size is None else snapshot.size} bytes"
        )


def _write_extension(extension: layout.Extension) -> None:
    kind = layout.EXTENSIONS.get(extension.kind, "unknown")
    line = (
        f"extension 0x{extension.kind:08x} ({kind}): {len(extension.data)} bytes at "
        f"{extension.offset}"
    )
    if extension.text is not None:
        write(f"{line}: {extension.text}")
    elif extension.features:
        write(line)
        for number, bit, name in extension.features:
            which = dict(enumerate(_KINDS_OF_FEATURES)).get(number, f"kind {number}")
            write(f"  {which} bit {bit}: {name}")
    else:
        more = "..." if len(extension.data) > _MOST_SHOWN else ""
        shown = extension.data[:_MOST_SHOWN].hex(" ")
        write(f"{line}: {shown}{more}" if shown else line)


def write_l1(session: Session) -> None:
    """Write the entries of the first table."""
    source, header = _open(session)
    covers = header.cluster_size * header.entries
    for number, entry in enumerate(_first_table(session, source, header).entries):
        offset = entry & layout.OFFSET_MASK
        what = f"L2 table at {offset}" if offset else "no table"
        copied = ", copied" if entry >> 63 else ""
        write(f"{number}: guest {number * covers}: {what}{copied}  (0x{entry:016x})")


def write_l2(session: Session, number: int) -> None:
    """Write the entries of a second table, as they are and what they mean."""
    source, header = _open(session)
    l1 = _first_table(session, source, header)
    if number >= len(l1.entries):
        raise UsageError(f"the first table has {len(l1.entries)} entries")
    offset = l1.entries[number] & layout.OFFSET_MASK
    if not offset:
        write(f"entry {number} of the first table leads to no table")
        return
    table = source.read_at(offset, header.cluster_size)
    first = number * header.entries
    for position in range(min(header.entries, l1.cluster_count - first)):
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
    has_data_file = bool(header.incompatible & layout.EXTERNAL_DATA)
    if bitmap is not None:
        return _subclusters(host, bitmap)
    if word & layout.IS_ZERO:
        return f"zeros, room at {host}" if host else "zeros"
    if host or (word >> 63 and has_data_file):
        return f"data at {host}{' of the data file' if has_data_file else ''}"
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


def _first_table(session: Session, source: ByteSource, header: layout.Header) -> _FirstTable:
    """Return the first table of the image: of a snapshot, the snapshot's."""
    offset, count, size = header.l1_offset, header.l1_size, header.size
    wanted = dict(session.record.header).get("snapshot_id")
    if wanted is not None:
        snapshot = next(
            (each for each in read_snapshots(source, header) if each.id == wanted), None
        )
        if snapshot is None:
            raise UsageError(f"the image has no snapshot {wanted} any more")
        offset, count = snapshot.l1_offset, snapshot.l1_size
        size = header.size if snapshot.size is None else snapshot.size
        layout.check_l1(header, offset, count, size, "qcow2.snapshot")
    data = source.read_at(offset, count * 8) if count else b""
    return _FirstTable(struct.unpack(f">{count}Q", data), -(-size // header.cluster_size))


def _features(
    bits: int, kind: int, known: tuple[str, ...], names: dict[tuple[int, int], str]
) -> str:
    """Return feature bits in words: those of the format, else the names that the image has."""
    words = [
        known[bit] if bit < len(known) else names.get((kind, bit), f"bit {bit}")
        for bit in _bits(bits)
    ]  # fmt: skip
    return f"0x{bits:x}" + (f" ({', '.join(words)})" if words else "")


def _bits(word: int) -> Iterator[int]:
    return (bit for bit in range(word.bit_length()) if word >> bit & 1)
