"""What a directory tells of one disk: its partition table, its sector and its size."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import TYPE_CHECKING

from ..errors import FormatError
from ..partitions.text_tables import DEFAULT_SECTOR_SIZE, parse_parted, parse_sfdisk
from .files import file_name

if TYPE_CHECKING:
    from ..partitions.text_tables import PartedDisk, PartitionTable, Row
    from .files import Files

SAVED_SECTOR = 512
"""What Clonezilla counts in when it saves GPT and hidden data, whatever the disk's sector is."""

GPT_FIRST_SIZE = 34 * SAVED_SECTOR
GPT_SECOND_SIZE = 33 * SAVED_SECTOR
_GPT_TABLE_SIZE = 16384
_GPT_MAGIC = b"EFI PART"
_GPT_HEADER = struct.Struct("<8sIIIIQQQQ")
_LAST_BYTE = (1 << 63) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a disk.

    Attributes:
        table: its partition table, None where there is none, or it cannot be understood.
        sector_size: bytes in a sector.
        size: bytes of the disk, None where nothing tells.
        table_problems: what is odd in what was written of the table.
        size_problems: what is odd in what tells the size.
    """

    table: PartitionTable | None
    sector_size: int
    size: int | None
    table_problems: tuple[str, ...]
    size_problems: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is odd."""
        return self.table_problems + self.size_problems


def row_name(row: Row, table: PartitionTable, disk: str) -> str:
    """Return what the files of a partition in the table of `disk` are named after.

    A table that was written when the disk had another name still counts: then the number tells.
    """
    if table.device is None or file_name(table.device) == disk:
        return file_name(row.device)
    return f"{disk}p{row.number}" if disk[-1:].isdigit() else f"{disk}{row.number}"


def read_evidence(files: Files, disk: str) -> Evidence:
    """Return what is known of a disk. What cannot be read or understood becomes a problem."""
    table_problems: list[str] = []
    parted = _read_parted(files, disk, table_problems)
    table = _read_table(files, disk, parted, table_problems)
    sector_size = (
        table.sector_size
        if table is not None
        else (parted and parted.sector_size) or DEFAULT_SECTOR_SIZE
    )
    size_problems: list[str] = []
    size = _size(files, disk, table, parted, size_problems)
    return Evidence(table, sector_size, size, tuple(table_problems), tuple(size_problems))


def _read_parted(files: Files, disk: str, problems: list[str]) -> PartedDisk | None:
    name = f"{disk}-pt.parted"
    if name not in files:
        return None
    try:
        return parse_parted(files.text(name), structure=f"clonezilla.{name}")
    except (FormatError, OSError) as error:
        problems.append(f"{name} was not read: {error}")
        return None


def _read_table(
    files: Files, disk: str, parted: PartedDisk | None, problems: list[str]
) -> PartitionTable | None:
    name = f"{disk}-pt.sf"
    if name not in files:
        return None
    sector_size = (parted and parted.sector_size) or DEFAULT_SECTOR_SIZE
    try:
        # Of a disk without a partition table the file is empty.
        text = files.text(name)
        if not text.strip():
            return None
        return parse_sfdisk(text, sector_size=sector_size, structure=f"clonezilla.{name}")
    except (FormatError, OSError) as error:
        problems.append(f"{name} was not read: {error}")
        return None


def _size(
    files: Files,
    disk: str,
    table: PartitionTable | None,
    parted: PartedDisk | None,
    problems: list[str],
) -> int | None:
    """Return the size by the best evidence, and no less than where the last partition ends."""
    end = max((row.stop for row in table.rows), default=0) if table is not None else 0
    size = (parted and parted.size) or _gpt_size(files, disk, problems) or _last_lba_size(table)
    if not size:
        if end:
            problems.append(
                f"nothing tells the size of {disk}: it is shown up to its last partition"
            )
        return end or None
    if size < end:
        problems.append(f"a partition ends at byte {end}, behind the end of {disk}, {size}")
        return end
    return size


def _gpt_size(files: Files, disk: str, problems: list[str]) -> int | None:
    """Return the size of the disk by the place of the backup header, which is its last sector."""
    name = f"{disk}-gpt-1st"
    if name not in files:
        return None
    try:
        data = files.read(name, GPT_FIRST_SIZE)
    except (FormatError, OSError) as error:
        problems.append(f"{name} was not read: {error}")
        return None
    for sector_size in (512, 4096):
        header = data[sector_size : 2 * sector_size]
        if not header.startswith(_GPT_MAGIC) or len(header) < _GPT_HEADER.size:
            continue
        _, _, length, checksum, _, _, backup, _, _ = _GPT_HEADER.unpack_from(header)
        covered = header[:16] + bytes(4) + header[20:length]
        size = (backup + 1) * sector_size
        if _GPT_HEADER.size <= length <= len(header) and zlib.crc32(covered) == checksum:
            return size if size <= _LAST_BYTE else None
    problems.append(f"{name} holds no intact header of a GPT")
    return None


def _last_lba_size(table: PartitionTable | None) -> int | None:
    """Return the size of a disk whose last sector for partitions is followed by the backup GPT."""
    if table is None or table.last_lba is None:
        return None
    backup = -(-_GPT_TABLE_SIZE // table.sector_size) + 1
    size = (table.last_lba + 1 + backup) * table.sector_size
    return size if size <= _LAST_BYTE else None
