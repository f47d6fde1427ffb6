"""partimage images of format 0.6: bytes to records, no I/O.

All numbers are little-endian. Offsets are those of the logical stream: the volumes one after the
other, each without its volume header. Source: partimage 0.6.9; observed with the same. See
NOTES.md.
"""

from __future__ import annotations

import dataclasses
import struct

import numpy as np

from ..errors import (
    ChecksumError,
    CorruptImageError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)

MAGIC = b"PaRtImAgE-VoLuMe"
VOLUME_HEADER_SIZE = 512
HEADER_SIZE = 16384
"""Bytes of the main header, the local header, the info header and the tail, without their sums."""

SUM_SIZE = 4
MBR_SIZE = 2048
EXT_COUNT = 10
GROUP_SIZE = 65536
"""Data bytes that are followed by a check."""

CHECK_SIZE = 16
CHECK_MAGIC = b"CHK\0"

MBR_MAGIC = b"MAGIC-BEGIN-MBRBACKUP"
LOCAL_MAGIC = b"MAGIC-BEGIN-LOCALHEADER"
BITMAP_MAGIC = b"MAGIC-BEGIN-BITMAP"
INFO_MAGIC = b"MAGIC-BEGIN-INFO"
DATA_MAGIC = b"MAGIC-BEGIN-DATABLOCKS"
TAIL_MAGIC = b"MAGIC-BEGIN-TAIL"
TAIL_SUM_SIZE = 8

VERSIONS = frozenset({"0.6.0", "0.6.1"})
_LARGEST_BLOCK = 256 << 10
_SECTOR = 512
_LARGEST_SIZE = 1 << 62
_VOLUME = struct.Struct("<32s64sIQ")
_LOCAL = struct.Struct("<5Q64s")
_VOLUME_NAME = "partimage.volume"
_MAIN_NAME = "partimage.main_header"
_LOCAL_NAME = "partimage.local_header"


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeHeader:
    """What each volume begins with.

    Attributes:
        version: the version of the format.
        number: which volume it is, counted from 0.
        identifier: the same in every volume of an image; 0 in old ones.
    """

    version: str
    number: int
    identifier: int


@dataclasses.dataclass(frozen=True, slots=True)
class MainHeader:
    """What the image says of the partition and of its making.

    Attributes:
        fs_type: the file system, as partimage calls it.
        description: what the user wrote.
        device: the device that was saved.
        first_file: the first volume, as it was named.
        uname: system, node, release, version and machine of the kernel.
        compression: 0 none, 1 gzip, 2 bzip2, as it was when the image was written.
        flags: the image's flags.
        created: local time of the machine, ISO 8601.
        partition_size: bytes of the partition.
        hostname: the machine's name.
        version: the version of partimage.
        mbr_count: boot sectors that are kept with the image.
        mbr_size: bytes of each.
    """

    fs_type: str
    description: str
    device: str
    first_file: str
    uname: tuple[str, ...]
    compression: int
    flags: int
    created: str
    partition_size: int
    hostname: str
    version: str
    mbr_count: int
    mbr_size: int


@dataclasses.dataclass(frozen=True, slots=True)
class LocalHeader:
    """The geometry. Sizes are bytes.

    Attributes:
        block_size: bytes in a block.
        used_blocks: blocks that are stored, as the writer counted.
        total_blocks: blocks of the partition.
        bitmap_size: bytes of the bitmap; may be many more than the blocks need.
        bad_blocks: blocks that could not be read.
        label: the volume's label.
    """

    block_size: int
    used_blocks: int
    total_blocks: int
    bitmap_size: int
    bad_blocks: int
    label: str


def parse_volume_header(data: bytes) -> VolumeHeader:
    """Return the header at the beginning of a volume.

    Raises:
        NotThisFormatError: it begins like no partimage volume.
        TruncatedImageError: it ends too early.
        UnsupportedFeatureError: its version is not known.
    """
    if not data.startswith(MAGIC):
        raise NotThisFormatError(_VOLUME_NAME, 0, "not a partimage volume")
    if len(data) < VOLUME_HEADER_SIZE:
        raise TruncatedImageError(
            _VOLUME_NAME,
            len(data),
            f"the file ends {VOLUME_HEADER_SIZE - len(data)} bytes before the volume header does",
        )
    _magic, version, number, identifier = _VOLUME.unpack_from(data)
    if _text(version) not in VERSIONS:
        raise UnsupportedFeatureError(
            _VOLUME_NAME, 32, f"format {_text(version)!r}: 0.6.0 and 0.6.1 are read"
        )
    return VolumeHeader(_text(version), number, identifier)


def parse_main_header(data: bytes) -> MainHeader:
    """Return the main header; `data` are its bytes with the sum behind them.

    Raises:
        ChecksumError: its sum is wrong.
        UnsupportedFeatureError: the image is encrypted.
        CorruptImageError: a field cannot be.
    """
    check_sum(_MAIN_NAME, 0, data)
    (compression, flags) = struct.unpack_from("<II", data, 9540)
    (size,) = struct.unpack_from("<Q", data, 9592)
    mbr_count, mbr_size, encryption = struct.unpack_from("<III", data, 9792)
    if encryption:
        raise UnsupportedFeatureError(
            _MAIN_NAME, 9800, f"encrypted (method {encryption}): decrypt it with partimage"
        )
    if mbr_count and mbr_size != MBR_SIZE:
        raise CorruptImageError(_MAIN_NAME, 9796, f"boot sectors of {mbr_size} bytes, not 2048")
    if not 0 < size <= _LARGEST_SIZE:
        raise CorruptImageError(_MAIN_NAME, 9592, f"partition size {size}")
    return MainHeader(
        fs_type=_text(data[0:512]),
        description=_text(data[512:4608]),
        device=_text(data[4608:5120]),
        first_file=_text(data[5120:9215]),
        uname=tuple(_text(data[9215 + 65 * n : 9280 + 65 * n]) for n in range(5)),
        compression=compression,
        flags=flags,
        created=_time(struct.unpack_from("<9i", data, 9548)),
        partition_size=size,
        hostname=_text(data[9600:9728]),
        version=_text(data[9728:9792]),
        mbr_count=mbr_count,
        mbr_size=mbr_size,
    )


def parse_local_header(data: bytes, offset: int, partition_size: int) -> LocalHeader:
    """Return the local header; `data` are its bytes with the sum behind them.

    Args:
        data: the bytes.
        offset: where they lie in the stream.
        partition_size: as the main header has it.

    Raises:
        ChecksumError: its sum is wrong.
        CorruptImageError: a field cannot be.
    """
    check_sum(_LOCAL_NAME, offset, data)
    block_size, used, total, bitmap_size, bad, label = _LOCAL.unpack_from(data)
    if block_size == 0 or block_size % _SECTOR or block_size > _LARGEST_BLOCK:
        raise CorruptImageError(
            _LOCAL_NAME, offset, f"block size {block_size} is no multiple of 512 up to 256 KiB"
        )
    if total == 0 or total * block_size > partition_size + block_size:
        raise CorruptImageError(
            _LOCAL_NAME,
            offset + 16,
            f"{total} blocks of {block_size} bytes in a partition of {partition_size}",
        )
    if used > total:
        raise CorruptImageError(_LOCAL_NAME, offset + 8, f"{used} of {total} blocks used")
    if bitmap_size < (total + 7) // 8:
        raise CorruptImageError(
            _LOCAL_NAME, offset + 24, f"a bitmap of {bitmap_size} bytes for {total} blocks"
        )
    return LocalHeader(block_size, used, total, bitmap_size, bad, _text(label))


def check_sum(structure: str, offset: int, data: bytes) -> None:
    """Check the sum of bytes that follows a header.

    It is a sum of C's `char`: signed on x86, unsigned on ARM and POWER. Either is right.

    Raises:
        ChecksumError: it is neither.
    """
    octets = np.frombuffer(data, np.uint8, count=HEADER_SIZE)
    stored = int.from_bytes(data[HEADER_SIZE : HEADER_SIZE + SUM_SIZE], "little")
    unsigned = int(octets.sum(dtype=np.uint64))
    signed = (unsigned - 256 * int((octets >= 128).sum())) % (1 << 32)  # noqa: PLR2004 - the sign
    if stored not in {signed, unsigned}:
        raise ChecksumError(structure, offset, group=0, expected=stored, actual=signed)


def _time(fields: tuple[int, ...]) -> str:
    second, minute, hour, day, month, year = fields[:6]
    return f"{year + 1900:04}-{month + 1:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
