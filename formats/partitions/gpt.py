"""GPT: headers and entries. Source: UEFI specification, chapter 5."""

from __future__ import annotations

import dataclasses
import struct
import uuid
import zlib
from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from .table import DiskTable, Partition
from .types import GPT_TYPES

if TYPE_CHECKING:
    from .table import Read

MAGIC = b"EFI PART"
SECTOR_SIZES = (512, 4096)
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MOST_ENTRIES = 1024
_LARGEST_ENTRY = 4096
_BOOTABLE = 1 << 2


@dataclasses.dataclass(frozen=True, slots=True)
class _Header:
    """A header that is right, and its entries."""

    guid: bytes
    other_lba: int
    entries: bytes
    entry_size: int


class _BadHeader(Exception):  # noqa: N818 - never leaves this module
    """What is wrong with one."""


def read_gpt(read: Read, size: int, sector_size: int | None) -> DiskTable | None:
    """Return the table of a disk whose first sector says that it has one; None where it has none.

    Args:
        read: reads the disk.
        size: its bytes.
        sector_size: bytes in a sector; found out if None.

    Raises:
        CorruptImageError: both headers are damaged, or an entry cannot be.
    """
    sizes = SECTOR_SIZES if sector_size is None else (sector_size,)
    faults = []
    for each in sizes:
        try:
            header = _header(read, each, each)
        except _BadHeader as error:
            faults.append((each, str(error)))
            continue
        warnings = _compare(read, size, each, header)
        return _table(header, each, size, warnings)
    for each in sizes:
        try:
            header = _header(read, size // each * each - each, each)
        except _BadHeader:
            continue
        wrong = "; ".join(what for at, what in faults if at == each)
        return _table(header, each, size, [f"its GPT is damaged ({wrong}): the copy is read"])
    known = [(at, what) for at, what in faults if what != "is not there"]
    if not known:
        return None
    raise CorruptImageError("gpt.header", known[0][0], f"{known[0][1]}, and its copy too")


def _header(read: Read, offset: int, sector_size: int) -> _Header:
    data = read(offset, sector_size) if offset >= 0 else b""
    if data[:8] != MAGIC or len(data) < sector_size:
        raise _BadHeader("is not there")
    (
        _magic, _revision, length, crc, _reserved, own, other, _first, _last, guid, entries_lba,
        count, entry_size, entries_crc,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if not _HEADER.size <= length <= sector_size:
        raise _BadHeader(f"has {length} bytes")
    if zlib.crc32(data[:16] + bytes(4) + data[20:length]) != crc:
        raise _BadHeader("has a wrong checksum")
    if own * sector_size != offset:
        raise _BadHeader(f"says that it lies in sector {own}")
    sane = _ENTRY.size <= entry_size <= _LARGEST_ENTRY and entry_size % 8 == 0
    if not sane or count > _MOST_ENTRIES:
        raise _BadHeader(f"has {count} entries of {entry_size} bytes")
    entries = read(entries_lba * sector_size, count * entry_size) if entries_lba < 1 << 52 else b""
    if len(entries) < count * entry_size or zlib.crc32(entries) != entries_crc:
        raise _BadHeader("has entries with a wrong checksum")
    return _Header(guid, other, entries, entry_size)


def _compare(read: Read, size: int, sector_size: int, header: _Header) -> list[str]:
    """Return what is odd about the copy of a header."""
    try:
        copy = _header(read, size // sector_size * sector_size - sector_size, sector_size)
    except _BadHeader as error:
        return [f"the copy of its GPT {error}"]
    if (copy.guid, copy.entries) != (header.guid, header.entries):
        return ["the copy of its GPT is another table"]
    return []


def _table(header: _Header, sector_size: int, size: int, warnings: list[str]) -> DiskTable:
    found = []
    for number, at in enumerate(range(0, len(header.entries), header.entry_size), 1):
        kind, own, first, last, attributes, name = _ENTRY.unpack_from(header.entries, at)
        if not any(kind):
            continue
        start, stop = first * sector_size, (last + 1) * sector_size
        if not first or stop <= start or start >= size:
            raise CorruptImageError(
                "gpt.entries", at, f"partition {number} lies at sectors {first} to {last}"
            )
        if stop > size:
            warnings.append(f"partition {number} ends {stop - size} bytes behind the disk")
        guid = _guid(kind)
        found.append(
            Partition(
                number=number,
                start=start,
                stop=min(stop, size),
                type=guid,
                type_name=GPT_TYPES.get(guid),
                uuid=_guid(own).lower(),
                name=name.decode("utf-16-le", "replace").partition("\0")[0] or None,
                is_bootable=bool(attributes & _BOOTABLE),
                attributes=attributes,
            )
        )
    return DiskTable("gpt", _guid(header.guid), sector_size, tuple(found), tuple(warnings))


def _guid(data: bytes) -> str:
    return str(uuid.UUID(bytes_le=data)).upper()
