"""The chain of extended boot records of a disk with logical partitions.

Clonezilla saves only the first, which lies where the extended partition begins. A restore makes the
others anew from the partition table; so does this. Everything is counted in bytes here, and
in sectors in the records.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .text_tables import PartitionTable, Row

EBR_SIZE = 512
_CODE_SIZE = 446
_ENTRY = struct.Struct("<B3sB3sII")
_SIGNATURE = b"\x55\xaa"
_HEADS, _TRACK = 255, 63
_MAX_CYLINDER = 1023
_EXTENDED_TYPE = 0x05
_LINUX_TYPE = 0x83
_BOOTABLE = 0x80
_FIRST_LOGICAL = 5
_MAX_SECTORS = (1 << 32) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class BootRecord:
    """An extended boot record.

    Attributes:
        offset: its first byte on the disk.
        data: its 512 bytes.
        is_saved: they are in the directory as they are.
        number: of the partition that it is named after: the extended one for the first.
    """

    offset: int
    data: bytes
    is_saved: bool
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Entries:
    """The two entries of a record that count, in sectors; a size of 0 is none."""

    start: int
    size: int
    next_start: int
    next_size: int


def extended_partition(table: PartitionTable) -> Row | None:
    """Return the partition that holds the logical ones, None where there is none."""
    if table.label != "dos":
        return None
    return next((r for r in table.rows if r.number < _FIRST_LOGICAL and r.is_extended), None)


def boot_records(
    table: PartitionTable, saved: Mapping[int, bytes]
) -> tuple[tuple[BootRecord, ...], tuple[str, ...]]:
    """Return the chain of boot records, and what is odd.

    A saved record is used as it is where it agrees with the partition table; else only its program
    code is, as in a restore.

    Args:
        table: the partition table.
        saved: the saved records, by the number of the partition that the file is named after.
    """
    extended = extended_partition(table)
    if extended is None:
        return (), ()
    logical = sorted((r for r in table.rows if r.number >= _FIRST_LOGICAL), key=lambda r: r.number)
    return _Chain(table.sector_size, extended, logical, saved).result()


class _Chain:
    def __init__(
        self, sector: int, extended: Row, logical: Sequence[Row], saved: Mapping[int, bytes]
    ) -> None:
        self._sector = sector
        self._extended = extended
        self._logical = logical
        self._saved = saved
        self._problems: list[str] = []

    def result(self) -> tuple[tuple[BootRecord, ...], tuple[str, ...]]:
        first = self._saved_record(0)
        if not self._logical:
            data = first or bytes(EBR_SIZE - len(_SIGNATURE)) + _SIGNATURE
            place = self._extended.start
            return (self._record(0, place, data, is_saved=first is not None),), ()
        places = self._places()
        records = [self._made(index, places) for index in range(len(places))]
        return tuple(record for record in records if record), tuple(self._problems)

    def _places(self) -> list[int]:
        """Return where the record of each logical partition lies, as far as that can be told."""
        places = [self._extended.start]
        gap = self._logical[0].start - self._extended.start
        for index in range(1, len(self._logical)):
            row = self._logical[index]
            guesses = [self._linked(index), self._own(index), row.start - gap]
            guesses.append(row.start - self._sector)
            place = next(
                (g for g in guesses if g is not None and self._is_free(g, row, places)), None
            )
            if place is None:
                self._problems.append(
                    f"there is no room for the boot record of {row.device}: it and those after it "
                    "are not in the chain of logical partitions"
                )
                break
            places.append(place)
        return places

    def _linked(self, index: int) -> int | None:
        """Return where the saved record before says that this one lies."""
        entries = _entries(self._saved_record(index - 1))
        if entries is None or not entries.next_size:
            return None
        return self._extended.start + entries.next_start * self._sector

    def _own(self, index: int) -> int | None:
        """Return where a record must lie whose first entry leads to its partition."""
        entries = _entries(self._saved.get(self._logical[index].number))
        if entries is None or not entries.size:
            return None
        return self._logical[index].start - entries.start * self._sector

    def _is_free(self, place: int, row: Row, places: Sequence[int]) -> bool:
        if not self._extended.start < place < row.start or place in places:
            return False
        stop = place + self._sector
        return not any(other.start < stop and place < other.stop for other in self._logical)

    def _saved_record(self, index: int) -> bytes | None:
        number = self._logical[index].number if index else self._extended.number
        data = self._saved.get(number)
        return data if _entries(data) is not None else None

    def _made(self, index: int, places: Sequence[int]) -> BootRecord | None:
        """Return the saved record if it fits, else one that is made from the table."""
        row, place = self._logical[index], places[index]
        following = places[index + 1] if index + 1 < len(places) else None
        saved = self._saved_record(index)
        start, size = (row.start - place) // self._sector, (row.stop - row.start) // self._sector
        next_start = next_size = 0
        if following is not None:
            next_start = (following - self._extended.start) // self._sector
            next_size = (self._logical[index + 1].stop - following) // self._sector
        if not (0 < start <= _MAX_SECTORS and max(size, next_start, next_size) <= _MAX_SECTORS):
            self._problems.append(f"no boot record can lead to {row.device}")
            return None
        entries = _entries(saved)
        if saved is not None and entries is not None:
            if (entries.start, entries.size) == (start, size) and (
                entries.next_start if entries.next_size else 0
            ) == next_start:
                return self._record(index, place, saved, is_saved=True)
            self._problems.append(
                f"the saved boot record before {row.device} does not agree with the partition table"
            )
        kind = row.mbr_type if row.mbr_type is not None else _LINUX_TYPE
        flag = _BOOTABLE if row.is_bootable else 0
        data = (saved or bytes(_CODE_SIZE))[:_CODE_SIZE]
        data += self._entry(flag, kind, place, start, size)
        if next_size:
            data += self._entry(0, _EXTENDED_TYPE, self._extended.start, next_start, next_size)
        data = data.ljust(EBR_SIZE - len(_SIGNATURE), b"\0") + _SIGNATURE
        return self._record(index, place, data, is_saved=False)

    def _entry(self, flag: int, kind: int, base: int, start: int, size: int) -> bytes:
        """Return an entry that leads to `size` sectors, `start` sectors behind byte `base`."""
        first = base // self._sector + start
        return _ENTRY.pack(flag, _chs(first), kind, _chs(first + size - 1), start, size)

    def _record(self, index: int, place: int, data: bytes, *, is_saved: bool) -> BootRecord:
        number = self._logical[index].number if index else self._extended.number
        return BootRecord(place, data, is_saved, number)


def _chs(sector: int) -> bytes:
    """Return cylinder, head and sector, as fdisk counts them where nobody needs them any more."""
    cylinder, rest = divmod(sector, _HEADS * _TRACK)
    head, number = divmod(rest, _TRACK)
    if cylinder > _MAX_CYLINDER:
        cylinder, head, number = _MAX_CYLINDER, _HEADS - 1, _TRACK - 1
    return bytes((head, number + 1 | cylinder >> 2 & 0xC0, cylinder & 0xFF))


def _entries(data: bytes | None) -> _Entries | None:
    """Return the entries of a saved record, None where it is none."""
    if data is None or len(data) < EBR_SIZE or data[EBR_SIZE - 2 : EBR_SIZE] != _SIGNATURE:
        return None
    *_, start, size = _ENTRY.unpack_from(data, _CODE_SIZE)
    *_, next_start, next_size = _ENTRY.unpack_from(data, _CODE_SIZE + _ENTRY.size)
    return _Entries(start, size, next_start, next_size)
