"""The master boot record, and extended partitions. All numbers are little-endian.

An extended partition holds a chain of extended boot records (EBR). Each has an entry for a logical
partition, counted from the record, and one that leads to the next record, counted from the
beginning of the extended partition. Source: what Linux does, `block/partitions/msdos.c`, since the
numbers of the partitions are its.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CorruptImageError
from .table import DiskTable, Partition, cut
from .types import MBR_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .table import Read

SECTOR = 512
"""Bytes of a boot record, however long the sectors are."""

SIGNATURE = b"\x55\xaa"
SIGNATURE_AT = 510

PROTECTIVE = 0xEE
"""The type of the entry that keeps a GPT from programs that do not know it."""

_ID_AT = 440
_TABLE_AT = 446
_ENTRY = struct.Struct("<B3sB3sII")
_ENTRIES = 4
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
_BOOTABLE = 0x80
_FIRST_LOGICAL = 5
_MOST_RECORDS = 128


class Entry(NamedTuple):
    """An entry of a boot record, in sectors."""

    status: int
    type: int
    start: int
    sectors: int

    @property
    def is_link(self) -> bool:
        """It is an extended partition, or leads to the next record."""
        return self.sectors > 0 and self.type in _EXTENDED


@dataclasses.dataclass(frozen=True, slots=True)
class _Logical:
    """A logical partition; `record` is the first byte of the boot record that tells of it."""

    entry: Entry
    record: int
    start: int


def entries_of(sector: bytes) -> tuple[Entry, ...] | None:
    """Return the four entries of a boot record, None where it is none."""
    if len(sector) < SECTOR or sector[SIGNATURE_AT:SECTOR] != SIGNATURE:
        return None
    found = []
    for number in range(_ENTRIES):
        status, _chs, kind, _chs_end, start, count = _ENTRY.unpack_from(
            sector, _TABLE_AT + number * _ENTRY.size
        )
        found.append(Entry(status, kind, start, count))
    return tuple(found)


def read_mbr(read: Read, size: int, sector: bytes, sector_size: int) -> DiskTable | None:
    """Return the table of a disk, None where the entries cannot be one.

    Args:
        read: reads the disk.
        size: its bytes.
        sector: its first sector.
        sector_size: bytes in a sector.

    Raises:
        CorruptImageError: the chain of extended partitions cannot be followed.
    """
    entries = entries_of(sector)
    # Linux looks at the marks of empty entries, too: it is how programs are told from tables.
    if entries is None or any(each.status not in {0, _BOOTABLE} for each in entries):
        return None
    used = [(n, each) for n, each in enumerate(entries, 1) if each.type and each.sectors]
    if not used or any(not e.start or e.start * sector_size >= size for _, e in used):
        return None
    (disk_id,) = struct.unpack_from("<I", sector, _ID_AT)
    table = _Table(size, sector_size, disk_id)
    for number, entry in used:
        table.add(number, entry, entry.start * sector_size)
    number = _FIRST_LOGICAL
    for _, container in used:
        if not container.is_link:
            continue
        stop = (container.start + container.sectors) * sector_size
        for each in _Chain(read, size, container, sector_size, table.warnings).logical():
            # What has a size but no type has a number, and nothing in it.
            if each.entry.type:
                table.add_logical(number, each, stop)
            number += 1
    return DiskTable(
        scheme="mbr",
        id=f"0x{disk_id:08x}" if disk_id else None,
        sector_size=sector_size,
        partitions=tuple(table.partitions),
        warnings=tuple(table.warnings),
    )


class _Table:
    """What is found of a table so far."""

    def __init__(self, size: int, sector_size: int, disk_id: int) -> None:
        self._size = size
        self._sector_size = sector_size
        self._disk_id = disk_id
        self.partitions: list[Partition] = []
        self.warnings: list[str] = []

    def add(self, number: int, entry: Entry, start: int) -> None:
        """Add a partition that begins on the disk."""
        stop = start + entry.sectors * self._sector_size
        self.partitions.append(
            Partition(
                number=number,
                start=start,
                stop=cut(number, stop, self._size, self.warnings),
                type=f"{entry.type:x}",
                type_name=MBR_TYPES.get(entry.type),
                uuid=f"{self._disk_id:08x}-{number:02x}" if self._disk_id else None,
                is_bootable=entry.status == _BOOTABLE,
                is_container=entry.is_link,
            )
        )

    def add_logical(self, number: int, logical: _Logical, container_stop: int) -> None:
        """Add a logical partition.

        Raises:
            CorruptImageError: it begins outside of its container.
        """
        entry, start = logical.entry, logical.start
        if not entry.start or start >= container_stop:
            raise CorruptImageError(
                "mbr.ebr", logical.record,
                f"partition {number} begins at byte {start}: not in what is left of its container",
            )  # fmt: skip
        if start >= self._size:
            # The table has proved to be one: this is the image of a disk that was cut.
            self.warnings.append(
                f"partition {number} begins {start - self._size} bytes behind the disk: "
                "it is left out"
            )
            return
        if start + entry.sectors * self._sector_size > container_stop:
            self.warnings.append(f"partition {number} reaches out of its container")
        self.add(number, entry, start)


class _Chain:
    """The chain of boot records in an extended partition."""

    def __init__(
        self, read: Read, size: int, container: Entry, sector_size: int, warnings: list[str]
    ) -> None:
        self._read = read
        self._size = size
        self._sector_size = sector_size
        self._sectors = container.sectors
        self._start = container.start * sector_size
        self._stop = self._start + container.sectors * sector_size
        self._warnings = warnings

    def logical(self) -> Iterator[_Logical]:
        """Yield the logical partitions, as Linux finds them.

        Raises:
            CorruptImageError: the chain leads out of the partition, or does not end.
        """
        record, sectors = self._start, self._sectors
        seen = {record}
        while True:
            entries = self._entries(record)
            for number, each in enumerate(entries):
                start = record + each.start * self._sector_size
                if not each.sectors or each.is_link:
                    continue
                # The other two entries are often what was there before.
                if number < 2 or self._is_within(each, start, sectors):  # noqa: PLR2004
                    yield _Logical(each, record, start)
            link = next((each for each in entries if each.is_link), None)
            if link is None:
                return
            following = self._start + link.start * self._sector_size
            if following in seen:
                raise CorruptImageError(
                    "mbr.ebr", record, f"the chain comes back to byte {following}"
                )
            if following >= self._stop:
                raise CorruptImageError(
                    "mbr.ebr", record, f"the chain leads out of its container, to byte {following}"
                )
            if len(seen) == _MOST_RECORDS:
                raise CorruptImageError(
                    "mbr.ebr", record, f"the chain has more than {_MOST_RECORDS} boot records"
                )
            seen.add(following)
            record, sectors = following, link.sectors

    def _entries(self, record: int) -> tuple[Entry, ...]:
        """Return the entries of a record, none where it is none: the chain ends there for Linux."""
        data = self._read(record, SECTOR)
        entries = entries_of(data)
        if entries is not None:
            return entries
        # An extended partition that nothing was made in begins with zeros.
        if record != self._start or data != bytes(SECTOR):
            if len(data) == SECTOR:
                what = "has no signature"
            else:
                is_inside = record + SECTOR <= self._size
                what = "cannot be read" if is_inside else "lies behind the disk"
            self._warnings.append(
                f"the boot record at byte {record} {what}: logical partitions from there on "
                "are not known"
            )
        return ()

    def _is_within(self, entry: Entry, start: int, sectors: int) -> bool:
        stop = start + entry.sectors * self._sector_size
        return 0 < entry.start <= sectors - entry.sectors and stop <= self._stop
