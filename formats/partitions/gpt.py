"""GPT: headers and entries. All numbers are little-endian. Source: UEFI specification, chapter 5.

The header lies in the second sector, its copy in the last one; each leads to entries of its own.
"""

from __future__ import annotations

import dataclasses
import struct
import uuid
import zlib
from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from .table import DiskTable, Partition, cut
from .types import GPT_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .table import Read

MAGIC = b"EFI PART"
SECTOR_SIZES = (512, 4096)
"""What is tried where nobody knows."""

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_CRC_AT = 16
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MOST_ENTRIES = 1024
_LARGEST_ENTRY = 4096
_FIRST_FREE = 2
_BOOTABLE = 1 << 2


@dataclasses.dataclass(frozen=True, slots=True)
class _Header:
    """A header that is right, and its entries.

    Attributes:
        offset: its first byte.
        guid: of the disk.
        other: where it says that its copy lies.
        usable: the first and the last sector for partitions.
        entries_offset: the first byte of the entries.
        entries: their bytes.
        entry_size: bytes in an entry.
    """

    offset: int
    guid: bytes
    other: int
    usable: tuple[int, int]
    entries_offset: int
    entries: bytes
    entry_size: int

    @property
    def content(self) -> tuple[object, ...]:
        """What a copy has, too."""
        return self.guid, self.usable, self.entries, self.entry_size


@dataclasses.dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with a header, or with its entries.

    Attributes:
        structure: the one that is damaged.
        offset: where it lies.
        what: is wrong.
        is_absent: there is nothing like a header.
        is_unread: it lies on the disk, but could not be read.
        other: where it says that its copy lies, None where it does not say.
    """

    structure: str
    offset: int
    what: str
    is_absent: bool = False
    is_unread: bool = False
    other: int | None = None

    def __str__(self) -> str:
        return f"{self.structure} @0x{self.offset:x}: {self.what}"


def begins_gpt(read: Read, size: int, sector_size: int | None) -> bool:
    """Tell whether the first header and its entries are whole."""
    return any(isinstance(_header(read, size, each, each), _Header) for each in _sizes(sector_size))


def read_gpt(read: Read, size: int, sector_size: int | None) -> DiskTable | None:
    """Return the table of a disk whose boot record says that it has one; None without any header.

    Args:
        read: reads the disk; nothing behind its end.
        size: its bytes.
        sector_size: bytes in a sector; found out if None.

    Raises:
        CorruptImageError: both headers are damaged, or an entry cannot be.
    """
    damaged: list[tuple[int, _Fault]] = []
    for each in _sizes(sector_size):
        first = _header(read, size, each, each)
        if isinstance(first, _Header):
            return _table(first, each, size, _compare(read, size, each, first))
        damaged.append((each, first))
    faults: list[tuple[_Fault, _Fault]] = []
    for each, fault in damaged:
        copy = _copy(read, size, each, [_last(size, each), fault.other])
        if isinstance(copy, _Header):
            warning = f"the GPT is damaged ({fault}): its copy at byte {copy.offset} is read"
            return _table(copy, each, size, [warning])
        faults.append((fault, copy))
    # With sectors of another size, there is nothing at all: that says nothing of the damage.
    found = [pair for pair in faults if not (pair[0].is_absent and pair[1].is_absent)]
    if not found:
        return None
    fault, copy = found[0]
    raise CorruptImageError(fault.structure, fault.offset, f"{fault.what}; and of the copy, {copy}")


def _sizes(sector_size: int | None) -> tuple[int, ...]:
    return SECTOR_SIZES if sector_size is None else (sector_size,)


def _last(size: int, sector_size: int) -> int:
    return size // sector_size - 1


def _header(read: Read, size: int, offset: int, sector_size: int) -> _Header | _Fault:
    """Return a header with its entries, or what is wrong with either."""
    data = read(offset, sector_size)
    if data[:8] != MAGIC or len(data) < sector_size:
        is_unread = len(data) < sector_size and offset + sector_size <= size
        what = "cannot be read" if is_unread else "is not there"
        return _Fault("gpt.header", offset, what, is_absent=True, is_unread=is_unread)
    (
        _magic, _revision, length, crc, _reserved, own, other, first, last, guid, entries_lba,
        count, entry_size, entries_crc,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    what = ""
    if not _HEADER.size <= length <= sector_size:
        what = f"has {length} bytes"
    elif zlib.crc32(data[:_CRC_AT] + bytes(4) + data[_CRC_AT + 4 : length]) != crc:
        what = "has a wrong checksum"
    elif own * sector_size != offset:
        what = f"says that it lies in sector {own}"
    elif not _can_be(count, entry_size):
        what = f"has {count} entries of {entry_size} bytes"
    if what:
        return _Fault("gpt.header", offset, what, other=other)
    entries_offset, length = entries_lba * sector_size, count * entry_size
    entries = read(entries_offset, length)
    if len(entries) == length and zlib.crc32(entries) == entries_crc:
        return _Header(offset, guid, other, (first, last), entries_offset, entries, entry_size)
    is_unread = len(entries) < length and entries_offset + length <= size
    if len(entries) == length:
        what = "have a wrong checksum"
    else:
        what = "cannot be read" if is_unread else "lie behind the disk"
    return _Fault("gpt.entries", entries_offset, what, is_unread=is_unread, other=other)


def _can_be(count: int, entry_size: int) -> bool:
    """Tell whether there may be as many entries as long: they are read at once."""
    is_sane = _ENTRY.size <= entry_size <= _LARGEST_ENTRY and entry_size % 8 == 0
    return is_sane and 0 < count <= _MOST_ENTRIES


def _copy(
    read: Read, size: int, sector_size: int, places: Sequence[int | None]
) -> _Header | _Fault:
    """Return the copy of a header, or what is wrong with the one at the first of these places."""
    faults = []
    for place in places:
        if place is None or place < _FIRST_FREE:
            continue
        found = _header(read, size, place * sector_size, sector_size)
        if isinstance(found, _Header):
            return found
        faults.append(found)
    return faults[0] if faults else _Fault("gpt.header", 0, "has no place", is_absent=True)


def _compare(read: Read, size: int, sector_size: int, header: _Header) -> list[str]:
    """Return what is odd about the copy of a header, as far as it can be read."""
    last = _last(size, sector_size)
    copy = _copy(read, size, sector_size, [header.other, last])
    if isinstance(copy, _Fault):
        if copy.is_unread:
            # Nothing is known of it.
            return []
        if header.other > last:
            where = header.other * sector_size
            return [f"the copy of the GPT would lie at byte {where}, behind the disk"]
        return [f"the copy of the GPT is damaged ({copy})"]
    warnings = []
    if copy.offset != last * sector_size:
        warnings.append(
            f"the copy of the GPT lies at byte {copy.offset}, not at the end of the disk"
        )
    if copy.content != header.content:
        warnings.append(f"the copy of the GPT at byte {copy.offset} is another table")
    return warnings


def _table(header: _Header, sector_size: int, size: int, warnings: list[str]) -> DiskTable:
    """Return the table of a header.

    Raises:
        CorruptImageError: a partition begins outside of the disk, or ends before it begins.
    """
    found = []
    for number, at in enumerate(range(0, len(header.entries), header.entry_size), 1):
        kind, own, first, last, attributes, name = _ENTRY.unpack_from(header.entries, at)
        if not any(kind):
            continue
        start, stop = first * sector_size, (last + 1) * sector_size
        if first < _FIRST_FREE or last < first or start >= size:
            raise CorruptImageError(
                "gpt.entries",
                header.entries_offset + at,
                f"partition {number} lies in sectors {first} to {last}, the disk has "
                f"{size // sector_size}",
            )
        guid = _guid(kind)
        found.append(
            Partition(
                number=number,
                start=start,
                stop=cut(number, stop, size, warnings),
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
