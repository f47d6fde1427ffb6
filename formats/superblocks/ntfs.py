"""NTFS: boot sector, $Volume and $LogFile. Source: layout.h and logfile.c of ntfs-3g."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .file_system import FileSystem, Journal, label_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .file_system import Read

_OEM = b"NTFS    "
_LOG_FILE, _VOLUME = 2, 3
_NAME, _INFORMATION, _DATA, _END = 0x60, 0x70, 0x80, 0xFFFFFFFF
_IS_DIRTY = 1
_NO_CLIENT = 0xFFFF
_IS_CLEAN = 2
_SECTOR = 512
_LARGEST_RECORD = 1 << 16
_LARGEST_CLUSTER = 2 << 20
_LOG_PAGE = 4096


def parse(data: bytes, read: Read, size: int) -> FileSystem | None:
    """Return what the boot sector and the first records tell, None where it is none.

    Args:
        data: the first sector.
        read: reads the volume.
        size: its bytes.
    """
    if len(data) < _SECTOR or data[3:11] != _OEM:
        return None
    (sector_size,) = struct.unpack_from("<H", data, 11)
    per_cluster = data[13] if data[13] <= 0x80 else 1 << (256 - data[13])  # noqa: PLR2004
    sectors, mft = struct.unpack_from("<QQ", data, 40)
    (per_record,) = struct.unpack_from("<b", data, 64)
    (serial,) = struct.unpack_from("<Q", data, 72)
    cluster = sector_size * per_cluster
    if sector_size not in {256, 512, 1024, 2048, 4096} or not _is_power(cluster, _LARGEST_CLUSTER):
        return None
    # Negative: a power of two.
    record_size = cluster * per_record if per_record > 0 else 1 << min(31, -per_record)
    if not sectors or not _is_power(record_size, _LARGEST_RECORD) or record_size < _SECTOR:
        return None

    def record(number: int) -> bytes | None:
        offset = mft * cluster + number * record_size
        return _fixed(read(offset, record_size)) if offset + record_size <= size else None

    label, is_dirty, version = _volume(record(_VOLUME))
    return FileSystem(
        type="ntfs",
        uuid=f"{serial:016X}",
        label=label,
        block_size=cluster,
        size=sectors * sector_size,
        journal=_journal(record(_LOG_FILE), read, cluster, size),
        is_dirty=is_dirty,
        detail={"version": version, "sector_size": sector_size},
    )


def _is_power(number: int, largest: int) -> bool:
    return 0 < number <= largest and not number & (number - 1)


def _fixed(record: bytes) -> bytes | None:
    """Return a record with the ends of its sectors put back; None where it is none."""
    if record[:4] != b"FILE":
        return None
    start, count = struct.unpack_from("<HH", record, 4)
    data = bytearray(record)
    if start + 2 * count > len(data) or (count - 1) * _SECTOR > len(data):
        return None
    for number in range(1, count):
        end = number * _SECTOR
        if data[end - 2 : end] != record[start : start + 2]:
            # A sector was not written with the others.
            return None
        data[end - 2 : end] = record[start + 2 * number : start + 2 * number + 2]
    return bytes(data)


def _attributes(record: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of each attribute."""
    (position,) = struct.unpack_from("<H", record, 20)
    while position + 24 <= len(record):
        kind, length = struct.unpack_from("<II", record, position)
        if kind == _END or length < 24 or position + length > len(record):  # noqa: PLR2004
            return
        yield kind, record[position : position + length]
        position += length


def _resident(attribute: bytes) -> bytes:
    length, offset = struct.unpack_from("<IH", attribute, 16)
    return attribute[offset : offset + length] if not attribute[8] else b""


def _volume(record: bytes | None) -> tuple[str | None, bool, str]:
    """Return label, whether it is marked dirty, and version."""
    label, is_dirty, version = None, False, ""
    for kind, attribute in _attributes(record or b"\0" * 22):
        value = _resident(attribute)
        if kind == _NAME:
            label = label_of(value, "utf-16-le")
        elif kind == _INFORMATION and len(value) >= 12:  # noqa: PLR2004
            version = f"{value[8]}.{value[9]}"
            is_dirty = bool(value[10] & _IS_DIRTY)
    return label, is_dirty, version


def _journal(record: bytes | None, read: Read, cluster: int, size: int) -> Journal:
    """Return the state of $LogFile, by its two restart pages."""
    offset = _first_run(record or b"\0" * 22)
    if offset is None or offset * cluster + 2 * _LOG_PAGE > size:
        return Journal.UNKNOWN
    pages = read(offset * cluster, 2 * _LOG_PAGE)
    if len(pages) < 2 * _LOG_PAGE:
        return Journal.UNKNOWN
    if set(pages) == {0xFF}:
        # Emptied by Windows, or by a tool that makes it do so.
        return Journal.CLEAN
    found = [_restart(pages[start : start + _LOG_PAGE]) for start in (0, _LOG_PAGE)]
    known = [each for each in found if each is not None]
    if not known:
        return Journal.UNKNOWN
    _lsn, is_clean = max(known)
    return Journal.CLEAN if is_clean else Journal.REPLAY


def _first_run(record: bytes) -> int | None:
    """Return the first cluster of what a record's data are in."""
    for kind, attribute in _attributes(record):
        if kind == _DATA and attribute[8]:
            (at,) = struct.unpack_from("<H", attribute, 32)
            head = attribute[at] if at < len(attribute) else 0
            lengths, offsets = head & 0xF, head >> 4
            place = attribute[at + 1 + lengths : at + 1 + lengths + offsets]
            if 0 < offsets <= 8 and len(place) == offsets:  # noqa: PLR2004
                found = int.from_bytes(place, "little", signed=True)
                return found if found >= 0 else None
    return None


def _restart(page: bytes) -> tuple[int, bool] | None:
    """Return the last sequence number of a restart page, and whether nothing is to be done."""
    if page[:4] != b"RSTR":
        return None
    (at,) = struct.unpack_from("<H", page, 24)
    if at + 16 > _SECTOR - 2:
        return None
    lsn, _clients, _free, in_use, flags = struct.unpack_from("<QHHHH", page, at)
    return lsn, in_use == _NO_CLIENT or bool(flags & _IS_CLEAN)
