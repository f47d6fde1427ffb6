"""FAT12, FAT16, FAT32 and exFAT. Source: Microsoft's specifications of both."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from .file_system import FileSystem, Journal, label_of

if TYPE_CHECKING:
    from .file_system import Read

_SECTOR = 512
_MOST_FAT12, _MOST_FAT16 = 4085, 65525
_LARGEST_DIRECTORY = 64 << 10
_IS_VOLUME, _IS_LONG_NAME = 0x08, 0x0F
_DELETED = 0xE5
_EXFAT = b"EXFAT   "
_EXFAT_LABEL = 0x83
_EXFAT_DIRTY = 2


class Geometry(NamedTuple):
    """Where the parts of a FAT lie, in bytes.

    Attributes:
        bits: 12, 16 or 32, by the number of its clusters.
        sector_size: bytes in a sector.
        cluster_size: bytes in a cluster.
        table: where the file allocation table that is used begins.
        table_size: bytes of it.
        root: where the root directory begins.
        root_size: bytes of it that are known to be there.
        root_cluster: its first cluster, 0 where it is none of clusters.
        data: where the first cluster, which has the number 2, begins.
        clusters: how many there are.
        size: bytes of the volume.
    """

    bits: int
    sector_size: int
    cluster_size: int
    table: int
    table_size: int
    root: int
    root_size: int
    root_cluster: int
    data: int
    clusters: int
    size: int


def geometry(data: bytes) -> Geometry | None:
    """Return where the parts of a FAT lie, by its boot sector; None where it is none.

    A boot sector of a disk ends in 55AA too: this one has plausible numbers besides.
    """
    if not is_boot_sector(data):
        return None
    sector, per_cluster, reserved, fats, root_entries, total16 = struct.unpack_from(
        "<HBHBHH", data, 11
    )
    (fat16_size,) = struct.unpack_from("<H", data, 22)
    total = total16 or struct.unpack_from("<I", data, 32)[0]
    fat_size = fat16_size or struct.unpack_from("<I", data, 36)[0]
    root_sectors = -(-root_entries * 32 // sector)
    first_data = reserved + fats * fat_size + root_sectors
    if not fat_size or first_data >= total:
        return None
    clusters = (total - first_data) // per_cluster
    is_32 = not fat16_size
    cluster, used = 0, 0
    root, length = (reserved + fats * fat_size) * sector, root_entries * 32
    if is_32:
        (cluster,) = struct.unpack_from("<I", data, 44)
        (flags,) = struct.unpack_from("<H", data, 40)
        # Only one of the tables is kept up to date where they do not mirror each other.
        used = flags & 0xF if flags & 0x80 and flags & 0xF < fats else 0
        root = (first_data + (max(2, cluster) - 2) * per_cluster) * sector
        length = per_cluster * sector
    return Geometry(
        32 if is_32 else 12 if clusters < _MOST_FAT12 else 16,
        sector, per_cluster * sector, (reserved + used * fat_size) * sector, fat_size * sector,
        root, length, cluster, first_data * sector, clusters, total * sector,
    )  # fmt: skip


def parse(data: bytes, read: Read) -> FileSystem | None:
    """Return what the boot sector of a FAT tells, None where it is none.

    Args:
        data: the first sector.
        read: reads the volume.
    """
    found = geometry(data)
    if found is None:
        return None
    at = 67 if found.bits == 32 else 39  # noqa: PLR2004
    has_more = data[at - 1] in {0x28, 0x29}
    (serial,) = struct.unpack_from("<I", data, at)
    label = _root_label(read(found.root, min(found.root_size, _LARGEST_DIRECTORY)))
    boot_label = label_of(data[at + 4 : at + 15], "latin-1") if has_more else None
    return FileSystem(
        type="vfat",
        uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}" if has_more else None,
        label=label or (None if boot_label == "NO NAME" else boot_label),
        block_size=found.cluster_size,
        size=found.size,
        is_dirty=_is_dirty(data, read, _first_table(data), found.bits),
        detail={"bits": found.bits, "sector_size": found.sector_size},
    )


def _first_table(data: bytes) -> int:
    sector, _per_cluster, reserved = struct.unpack_from("<HBH", data, 11)
    return int(sector * reserved)


def is_boot_sector(data: bytes) -> bool:
    """Tell whether a first sector is one of a FAT: not every one that ends in 55AA is."""
    if len(data) < _SECTOR or data[510:512] != b"\x55\xaa":
        return False
    if not (data[0] == 0xEB and data[2] == 0x90) and data[0] != 0xE9:  # noqa: PLR2004
        return False
    sector, per_cluster, reserved, fats = struct.unpack_from("<HBHB", data, 11)
    media = data[21]
    return (
        sector in {512, 1024, 2048, 4096}
        and per_cluster > 0
        and not per_cluster & (per_cluster - 1)
        and reserved > 0
        and fats in {1, 2}
        and (media == 0xF0 or media >= 0xF8)  # noqa: PLR2004
    )


def _root_label(directory: bytes) -> str | None:
    for start in range(0, len(directory) - 31, 32):
        entry = directory[start : start + 32]
        if entry[0] == 0:
            return None
        attributes = entry[11]
        if entry[0] != _DELETED and attributes & 0x3F != _IS_LONG_NAME and attributes & _IS_VOLUME:
            return label_of(entry[:11], "latin-1")
    return None


def _is_dirty(data: bytes, read: Read, fat: int, bits: int) -> bool:
    """Tell whether it was not unmounted: by the boot sector, or by the second entry of the FAT."""
    is_marked = bool(data[65 if bits == 32 else 37] & 3)  # noqa: PLR2004
    if bits == 12:  # noqa: PLR2004
        return is_marked
    entry = read(fat, 8)
    if len(entry) < 8:  # noqa: PLR2004
        return is_marked
    if bits == 16:  # noqa: PLR2004
        return is_marked or not struct.unpack_from("<H", entry, 2)[0] & 0x8000
    return is_marked or not struct.unpack_from("<I", entry, 4)[0] & 0x08000000


def parse_exfat(data: bytes, read: Read) -> FileSystem | None:
    """Return what the boot sector of an exFAT tells, None where it is none.

    Args:
        data: the first sector.
        read: reads the volume.
    """
    if len(data) < _SECTOR or data[3:11] != _EXFAT or any(data[11:64]):
        return None
    (sectors,) = struct.unpack_from("<Q", data, 72)
    heap, clusters, root, serial = struct.unpack_from("<IIII", data, 88)
    (flags,) = struct.unpack_from("<H", data, 106)
    sector_shift, cluster_shift = data[108], data[109]
    if not 9 <= sector_shift <= 12 or sector_shift + cluster_shift > 25:  # noqa: PLR2004
        return None
    cluster = 1 << (sector_shift + cluster_shift)
    label = None
    if 2 <= root < clusters + 2:  # noqa: PLR2004
        start = (heap << sector_shift) + (root - 2) * cluster
        directory = read(start, min(cluster, _LARGEST_DIRECTORY))
        label = _exfat_label(directory)
    return FileSystem(
        type="exfat",
        uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
        label=label,
        block_size=cluster,
        size=sectors << sector_shift,
        journal=Journal.NONE,
        is_dirty=bool(flags & _EXFAT_DIRTY),
        detail={"flags": flags, "sector_size": 1 << sector_shift},
    )


def _exfat_label(directory: bytes) -> str | None:
    for start in range(0, len(directory) - 31, 32):
        kind = directory[start]
        if kind == 0:
            return None
        if kind == _EXFAT_LABEL:
            count = min(directory[start + 1], 11)
            return label_of(directory[start + 2 : start + 2 + 2 * count], "utf-16-le")
    return None
