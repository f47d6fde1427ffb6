"""The partition table of a disk's bytes, of whatever kind it is."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from ..superblocks.fat import is_boot_sector
from .gpt import begins_gpt, read_gpt
from .mbr import PROTECTIVE, SECTOR, SIGNATURE, SIGNATURE_AT, entries_of, read_mbr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .table import DiskTable, Partition, Read

_LAST_PRIMARY = 4
_JUMP_SHORT, _JUMP_NEAR, _NOP = 0xEB, 0xE9, 0x90
_NTFS = (b"NTFS    ", b"-FVE-FS-")
_EXFAT = b"EXFAT   "
_NTFS_SECTORS = frozenset({256, 512, 1024, 2048, 4096})
_EXFAT_SHIFTS = range(9, 13)


def read_table(read: Read, size: int, sector_size: int | None = None) -> DiskTable | None:
    """Return the partition table of a disk, None where there is none.

    A first sector that is the boot sector of a file system is no table, though it ends like one;
    neither are entries that begin outside of the disk. Of a hybrid table, the GPT counts.

    Args:
        read: reads the disk, by offset and length; fewer bytes at its end, and where it cannot be
            read: a copy that is not needed may be out of reach.
        size: bytes of the disk.
        sector_size: bytes in a sector; if None, what a GPT shows it to be, and 512 of an MBR, which
            does not show it.

    Raises:
        CorruptImageError: there is one, and it contradicts itself.
        Whatever `read` raises.
    """

    def within(offset: int, length: int) -> bytes:
        return read(offset, min(length, size - offset)) if 0 <= offset < size else b""

    sector = within(0, SECTOR)
    entries = entries_of(sector)
    if entries is None:
        return None
    protective = [each for each in entries if each.type == PROTECTIVE]
    # What a file system left in the first sector says nothing against a GPT that is whole.
    if begins_file_system(sector) and not (protective and begins_gpt(within, size, sector_size)):
        return None
    if protective:
        table = read_gpt(within, size, sector_size)
        if table is None and any(each.start == 1 for each in protective):
            raise CorruptImageError(
                "gpt.header", sector_size or SECTOR,
                "by the boot record there is a GPT, but neither it nor its copy can be found",
            )  # fmt: skip
    else:
        table = read_mbr(within, size, sector, sector_size or SECTOR)
    if table is not None:
        _check_apart(table)
    return table


def begins_file_system(first_sector: bytes) -> bool:
    """Tell whether a first sector is the boot sector of a FAT, NTFS or exFAT, or of BitLocker.

    They end like a partition table, but begin with a jump and have plausible numbers behind it.

    Args:
        first_sector: its first 512 bytes, or more.
    """
    if len(first_sector) < SECTOR or first_sector[SIGNATURE_AT:SECTOR] != SIGNATURE:
        return False
    if first_sector[0] != _JUMP_NEAR and (first_sector[0], first_sector[2]) != (_JUMP_SHORT, _NOP):
        return False
    name = first_sector[3:11]
    if name == _EXFAT:
        return not any(first_sector[11:64]) and first_sector[108] in _EXFAT_SHIFTS
    bytes_per_sector, per_cluster = struct.unpack_from("<HB", first_sector, 11)
    if name in _NTFS:
        return bytes_per_sector in _NTFS_SECTORS and per_cluster > 0
    return is_boot_sector(first_sector) and _has_fat_size(first_sector)


def _has_fat_size(sector: bytes) -> bool:
    """Tell whether sectors of the volume and of a table of it are told, in fields old or new."""
    total, table = struct.unpack_from("<H", sector, 19)[0], struct.unpack_from("<H", sector, 22)[0]
    new_total, new_table = struct.unpack_from("<II", sector, 32)
    return bool((total or new_total) and (table or new_table))


def _check_apart(table: DiskTable) -> None:
    """Check that no two partitions share a byte, but for what lies in a container.

    Raises:
        CorruptImageError: two do.
    """
    _check_each_apart(table.scheme, (p for p in table.partitions if not p.is_container))
    if any(each.is_container for each in table.partitions):
        _check_each_apart(table.scheme, (p for p in table.partitions if p.number <= _LAST_PRIMARY))


def _check_each_apart(scheme: str, partitions: Iterable[Partition]) -> None:
    ordered = sorted(partitions, key=lambda each: (each.start, each.stop))
    for one, other in itertools.pairwise(ordered):
        if other.start < one.stop:
            raise CorruptImageError(
                f"{scheme}.partitions",
                other.start,
                f"partitions {one.number} and {other.number} lie over each other",
            )
