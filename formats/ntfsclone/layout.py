"""ntfsclone images: bytes to records, no I/O.

Source: `ntfsclone.c` of ntfs-3g; observed with ntfs-3g 2022.10.3. All numbers are little-endian and
packed. See NOTES.md.
"""

from __future__ import annotations

import dataclasses
import struct

from ..errors import (
    CorruptImageError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)

MAGIC = b"\x00ntfsclone-image"
HEADER_SIZE = 50
"""Bytes of the header since format 10.0; what follows up to the data is padding."""

OLD_HEADER_SIZE = 46
"""Bytes of the header before format 10.0; the data follows at once."""

GAP = 0
"""The command byte of a gap: a signed 64-bit count of clusters follows, by which to go on."""

DATA = 1
"""The command byte of a cluster: its bytes follow."""

GAP_SIZE = 9
"""Bytes of a gap, with its command byte."""

_FIRST_NEW_MAJOR = 10
_BACKUP_BOOT_VERSION = (10, 1)
_SMALLEST_CLUSTER = 256
_LARGEST_CLUSTER = 2 << 20
_HEADER = struct.Struct("<16sBBIqqQ")
_STRUCTURE = "ntfsclone.header"


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """The header. Sizes and offsets are bytes.

    Attributes:
        major: major version of the format; before 10 it was the version of the NTFS.
        minor: minor version.
        cluster_size: bytes in a cluster.
        device_size: bytes of the device that was saved.
        cluster_count: whole clusters of the file system.
        used_clusters: clusters that were to be saved, for the progress of a restore.
        data_offset: where the commands begin.
    """

    major: int
    minor: int
    cluster_size: int
    device_size: int
    cluster_count: int
    used_clusters: int
    data_offset: int

    @property
    def version(self) -> str:
        """The version as it is written, e.g. ``10.1``."""
        return f"{self.major}.{self.minor}"

    @property
    def has_backup_boot(self) -> bool:
        """Whether a record for the backup boot sector ends the commands."""
        return (self.major, self.minor) >= _BACKUP_BOOT_VERSION

    def record_size(self, cluster: int) -> int:
        """Return the bytes that are stored of a cluster: fewer where the device ends inside."""
        if (cluster + 1) * self.cluster_size >= self.device_size:
            return self.device_size - cluster * self.cluster_size
        return self.cluster_size


def parse_header(data: bytes) -> Header:
    """Return the header at the beginning of `data`.

    Raises:
        NotThisFormatError: it begins like no ntfsclone image.
        TruncatedImageError: it ends too early.
        UnsupportedFeatureError: the version is newer than any that is known.
        CorruptImageError: a field cannot be.
    """
    if not data.startswith(MAGIC):
        raise NotThisFormatError(_STRUCTURE, 0, "not an ntfsclone image")
    if len(data) < OLD_HEADER_SIZE:
        raise _cut_off(len(data), OLD_HEADER_SIZE)
    _magic, major, minor, cluster_size, device_size, cluster_count, used = _HEADER.unpack_from(data)
    if major > _FIRST_NEW_MAJOR:
        raise UnsupportedFeatureError(
            _STRUCTURE, 16, f"format {major}.{minor}; up to 10.1 is known: ask for a newer imgcat"
        )
    data_offset = OLD_HEADER_SIZE
    if major == _FIRST_NEW_MAJOR:
        if len(data) < HEADER_SIZE:
            raise _cut_off(len(data), HEADER_SIZE)
        (data_offset,) = struct.unpack_from("<I", data, 46)
        if data_offset < HEADER_SIZE:
            raise CorruptImageError(
                _STRUCTURE, 46, f"data at {data_offset}, inside of the header of {HEADER_SIZE}"
            )
    header = Header(major, minor, cluster_size, device_size, cluster_count, used, data_offset)
    _check(header)
    return header


def parse_gap(data: bytes | bytearray | memoryview, offset: int) -> int:
    """Return the signed count of a gap.

    Args:
        data: its bytes, the command byte among them.
        offset: where it lies in the image, for the error.

    Raises:
        TruncatedImageError: it is cut off.
        CorruptImageError: it is zero, which no writer makes.
    """
    if len(data) < GAP_SIZE:
        raise TruncatedImageError("ntfsclone.gap", offset, "the file ends inside of it")
    count = int.from_bytes(data[1:GAP_SIZE], "little", signed=True)
    if count == 0:
        raise CorruptImageError("ntfsclone.gap", offset, "of zero clusters")
    return count


def _check(header: Header) -> None:
    size = header.cluster_size
    if size & (size - 1) or not _SMALLEST_CLUSTER <= size <= _LARGEST_CLUSTER:
        raise CorruptImageError(
            _STRUCTURE, 18,
            f"cluster size {size} is no power of two from {_SMALLEST_CLUSTER} to "
            f"{_LARGEST_CLUSTER}",
        )  # fmt: skip
    if header.device_size <= 0:
        raise CorruptImageError(_STRUCTURE, 22, f"device size {header.device_size}")
    if header.cluster_count <= 0:
        raise CorruptImageError(_STRUCTURE, 30, f"{header.cluster_count} clusters")
    if header.cluster_count * size > header.device_size:
        raise CorruptImageError(
            _STRUCTURE, 30,
            f"{header.cluster_count} clusters of {size} bytes are more than the device's "
            f"{header.device_size}",
        )  # fmt: skip


def _cut_off(length: int, wanted: int) -> TruncatedImageError:
    return TruncatedImageError(
        _STRUCTURE, length, f"the file ends {wanted - length} bytes before the header does"
    )
