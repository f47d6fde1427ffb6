"""The master boot record, and extended partitions. All numbers are little-endian."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CorruptImageError
from .table import DiskTable, Partition
from .types import MBR_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .table import Read

_SECTOR = 512
_TABLE = 446
_ENTRY = struct.Struct("<B3sB3sII")
_ENTRIES = 4
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE = 0xEE
_BOOTABLE = 0x80
_FIRST_LOGICAL = 5
_MOST_LOGICAL = 128


class Entry(NamedTuple):
    """An entry, in sectors."""

    status: int
    type: int
    start: int
    sectors: int


def entries_of(sector: bytes) -> tuple[Entry, ...] | None:
    """Return the entries of a boot record, None where it is none."""
    if len(sector) < _SECTOR or sector[510:512] != b"\x55\xaa":
        return None
    found = []
    for number in range(_ENTRIES):
        status, _chs, kind, _chs_end, start, count = _ENTRY.unpack_from(
            sector, _TABLE + number * _ENTRY.size
        )
        found.append(Entry(status, kind, start, count))
    return tuple(found)


def read_mbr(
    read: Read, size: int, sector: bytes, entries: tuple[Entry, ...], sector_size: int
) -> DiskTable | None:
    """Return the table of a disk, None where the entries cannot be one.

    Args:
        read: reads the disk.
        size: its bytes.
        sector: its first sector.
        entries: of that.
        sector_size: bytes in a sector.

    Raises:
        CorruptImageError: the chain of extended partitions cannot be followed.
    """
    used = [entry for entry in entries if entry.type and entry.sectors]
    if not used or any(entry.status not in {0, _BOOTABLE} for entry in entries):
        return None
    if any(not entry.start or entry.start * sector_size >= size for entry in used):
        return None
    disk_id = struct.unpack_from("<I", sector, 440)[0]
    warnings: list[str] = []
    found = []
    for number, entry in enumerate(entries, 1):
        if entry.type and entry.sectors:
            found.append(
                _partition(
                    number, entry, entry.start * sector_size, sector_size, size, disk_id, warnings
                )
            )
    for container, entry in list(zip(found, used, strict=True)):
        if entry.type in _EXTENDED:
            logical = _logical(read, container, sector_size)
            for number, (part, start) in enumerate(logical, _FIRST_LOGICAL):
                found.append(_partition(number, part, start, sector_size, size, disk_id, warnings))
            break
    return DiskTable("dos", f"0x{disk_id:08x}", sector_size, tuple(found), tuple(warnings))


def _partition(  # noqa: PLR0913, PLR0917
    number: int,
    entry: Entry,
    start: int,
    sector_size: int,
    size: int,
    disk_id: int,
    warnings: list[str],
) -> Partition:
    stop = start + entry.sectors * sector_size
    if stop > size:
        warnings.append(f"partition {number} ends {stop - size} bytes behind the disk")
    return Partition(
        number=number,
        start=start,
        stop=min(stop, size),
        type=f"{entry.type:x}",
        type_name=MBR_TYPES.get(entry.type),
        uuid=f"{disk_id:08x}-{number:02x}" if disk_id else None,
        is_bootable=entry.status == _BOOTABLE,
        is_container=entry.type in _EXTENDED,
    )


def _logical(read: Read, container: Partition, sector_size: int) -> Iterator[tuple[Entry, int]]:
    """Yield the logical partitions of an extended one: entries, and their first bytes.

    Raises:
        CorruptImageError: the chain leads out of the partition, or does not end.
    """
    offset, seen = container.start, {container.start}
    for _ in range(_MOST_LOGICAL):
        entries = entries_of(read(offset, _SECTOR))
        if entries is None:
            if offset == container.start:
                # Nobody has made one in it.
                return
            raise CorruptImageError("ebr", offset, "is no boot record")
        own, following = entries[0], entries[1]
        if own.type and own.sectors:
            start = offset + own.start * sector_size
            if not own.start or not container.start < start < container.stop:
                raise CorruptImageError("ebr", offset, f"a partition at byte {start}, outside")
            yield own, start
        if not following.type or not following.sectors:
            return
        offset = container.start + following.start * sector_size
        if offset in seen:
            raise CorruptImageError("ebr", offset, "the chain comes back here")
        if not container.start <= offset < container.stop:
            raise CorruptImageError("ebr", offset, "the chain leads out of its partition")
        seen.add(offset)
    raise CorruptImageError("ebr", offset, f"more than {_MOST_LOGICAL} logical partitions")
