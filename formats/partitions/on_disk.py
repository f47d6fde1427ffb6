"""The partition table of a disk's bytes, of whatever kind it is."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from ..superblocks.fat import is_boot_sector
from .gpt import read_gpt
from .mbr import PROTECTIVE, entries_of, read_mbr

if TYPE_CHECKING:
    from .table import DiskTable, Partition, Read

_SECTOR = 512
_BOOT_SECTORS = (b"NTFS    ", b"EXFAT   ", b"-FVE-FS-")


def read_table(read: Read, size: int, sector_size: int | None = None) -> DiskTable | None:
    """Return the partition table of a disk, None where there is none.

    A first sector that is the boot sector of a file system is no table, though it ends like one;
    neither are entries that lie outside of the disk.

    Args:
        read: reads the disk, by offset and length; fewer bytes at its end.
        size: bytes of the disk.
        sector_size: bytes in a sector; if None, 512, or of a GPT what it is.

    Raises:
        CorruptImageError: there is one, and it contradicts itself.
        Whatever `read` raises.
    """

    def within(offset: int, length: int) -> bytes:
        return read(offset, min(length, size - offset)) if 0 <= offset < size else b""

    sector = within(0, _SECTOR)
    entries = entries_of(sector)
    if entries is None or begins_file_system(sector):
        return None
    if any(entry.type == PROTECTIVE for entry in entries):
        # A hybrid table has others beside: the GPT counts.
        table = read_gpt(within, size, sector_size)
    else:
        table = read_mbr(within, size, sector, entries, sector_size or _SECTOR)
    if table is not None:
        _check_apart(table.partitions)
    return table


def begins_file_system(sector: bytes) -> bool:
    """Tell whether a first sector is the boot sector of a file system."""
    return sector[3:11] in _BOOT_SECTORS or is_boot_sector(sector)


def _check_apart(partitions: tuple[Partition, ...]) -> None:
    """Check that no two partitions share a byte, but for what lies in a container.

    Raises:
        CorruptImageError: two do.
    """
    plain = sorted((p.start, p.stop, p.number) for p in partitions if not p.is_container)
    for (_start, stop, number), (start, _stop, other) in itertools.pairwise(plain):
        if start < stop:
            raise CorruptImageError(
                "partitions", start, f"partitions {number} and {other} lie over each other"
            )
