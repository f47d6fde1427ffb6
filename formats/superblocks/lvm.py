"""The label of a physical volume of LVM2: which one it is, and where its metadata lie.

Source: LVM2, lib/label/label.h, lib/format_text/layout.h, lib/misc/crc.c. Little-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ChecksumError, CorruptImageError
from .file_system import FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTOR = 512
LABEL_SECTORS = 4
"""The label is in one of the first four sectors."""

_STRUCTURE = "lvm.label"
_MAGIC, _TYPE = b"LABELONE", b"LVM2 001"
_LABEL = struct.Struct("<8sQII8s")
_CHECKED_FROM = 20
_AREA = struct.Struct("<QQ")
_UUID_GROUPS = (6, 4, 4, 4, 4, 4, 6)
_UUID_SIZE = 32
_MOST_AREAS = 16
_FIRST_CHECKSUM = 0xF597A6CF
_ONES = 0xFFFFFFFF


class PhysicalVolume(NamedTuple):
    """What a label tells.

    Attributes:
        uuid: as LVM writes it, with hyphens.
        size: bytes of the device when it was made.
        metadata_areas: where its metadata areas begin, and their bytes.
    """

    uuid: str
    size: int
    metadata_areas: tuple[tuple[int, int], ...]


def checksum(data: bytes | memoryview) -> int:
    """Return the CRC-32 of LVM2: that of zlib, but for its first value and its last step."""
    return zlib.crc32(data, _FIRST_CHECKSUM ^ _ONES) ^ _ONES


def parse(data: bytes) -> FileSystem | None:
    """Return what a physical volume is as a file system, whether its checksum is right or not.

    Args:
        data: the first bytes of the volume.
    """
    _number, sector = next(_labels(data), (0, b""))
    if not sector:
        return None
    (at,) = struct.unpack_from("<I", sector, _CHECKED_FROM)
    return FileSystem("LVM2_member", uuid=_hyphened(sector[at : at + _UUID_SIZE]))


def read_label(data: bytes) -> PhysicalVolume:
    """Return what the label of a physical volume tells: the first one that is whole, as LVM does.

    Args:
        data: the first four sectors of the volume, or more.

    Raises:
        ChecksumError: the label was changed.
        CorruptImageError: it contradicts itself, or there is none.
    """
    first_error: CorruptImageError | None = None
    for number, sector in _labels(data):
        try:
            return _read(number, sector)
        except CorruptImageError as error:
            first_error = first_error or error
    raise first_error or CorruptImageError(_STRUCTURE, 0, "there is none in the first four sectors")


def _labels(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the sectors that begin as a label does."""
    for number in range(LABEL_SECTORS):
        sector = data[number * SECTOR : (number + 1) * SECTOR]
        if sector[:8] == _MAGIC and sector[24:32] == _TYPE:
            yield number, sector


def _read(number: int, sector: bytes) -> PhysicalVolume:
    here = number * SECTOR
    if len(sector) < SECTOR:
        raise CorruptImageError(_STRUCTURE, here, "the volume ends in it")
    _magic, said, stored, at, _type = _LABEL.unpack_from(sector)
    actual = checksum(sector[_CHECKED_FROM:])
    if actual != stored:
        raise ChecksumError(_STRUCTURE, here, group=0, expected=stored, actual=actual)
    if said != number:
        raise CorruptImageError(_STRUCTURE, here, f"it says that it is in sector {said}")
    if not _LABEL.size <= at <= SECTOR - _UUID_SIZE - 8:
        raise CorruptImageError(_STRUCTURE, here, f"the volume's header is said to be at {at}")
    name = sector[at : at + _UUID_SIZE]
    if not name.isalnum():
        raise CorruptImageError(_STRUCTURE, here + at, "the volume's UUID has impossible letters")
    (size,) = struct.unpack_from("<Q", sector, at + _UUID_SIZE)
    # Two lists that end with zeros: the areas of data, of which the metadata tell again, and
    # those of metadata.
    _data_areas, after = _areas(sector, at + _UUID_SIZE + 8, here)
    areas, _after = _areas(sector, after, here)
    return PhysicalVolume(_hyphened(name), size, areas)


def _areas(sector: bytes, at: int, here: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return a list of areas that begins at a byte of the sector, and where it has ended."""
    found: list[tuple[int, int]] = []
    while at + _AREA.size <= SECTOR and len(found) <= _MOST_AREAS:
        offset, size = _AREA.unpack_from(sector, at)
        at += _AREA.size
        if offset == 0:
            return tuple(found), at
        found.append((offset, size))
    raise CorruptImageError(_STRUCTURE, here + at, "a list of areas does not end")


def _hyphened(name: bytes) -> str:
    text = name.decode("ascii", "backslashreplace")
    parts, position = [], 0
    for length in _UUID_GROUPS:
        parts.append(text[position : position + length])
        position += length
    return "-".join(parts)
