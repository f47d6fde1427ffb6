"""partclone on disk: bytes to frozen records. Pure functions, no I/O.

All numbers are little-endian; sizes and offsets are bytes.

Source: partclone's IMAGE_FORMATS.md and src/partclone.h of releases 0.2.89 to 0.3.47, and images
written by those. The stored checksum modes differ from the ones of IMAGE_FORMATS.md, which are
those of the command line (observed: partclone 0.3.23, 0.3.47).
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import zlib
from typing import NoReturn

from ..errors import (
    ChecksumError,
    CorruptImageError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)

MAGIC = b"partclone-image"
VERSION_OFFSET = 30
VERSION_STOP = 34
V2_SIZE = 110
V1_SIZE = 4160
V1_BITMAP_MARKER = b"BiTmAgIc"
BITMAP_CRC_SIZE = 4
RESEED_OFFSET = 104
V1_CHECKSUM_SIZE = 4
V1_WIDE_CHECKSUM_SIZE = 8
"""Writers before 0.1.0 on 64-bit machines stored each checksum in eight bytes."""

MAX_BLOCK_SIZE = 64 << 20
_MAX_SIZE = (1 << 63) - 1
_V2_FEATURE_SIZE = 18
_V2_IMAGE_VERSION = 2
_ENDIAN_LITTLE = 0xC0DE
_ENDIAN_BIG = 0xDEC0

_V2 = struct.Struct("<16s14s4sH16sQQQQIIHHHHIBBI")
_V2_CRC_OFFSET = 106
_V1_OFFSET = 36


class ChecksumMode(enum.IntEnum):
    """Stored values of the checksum mode; CRC32_0001 stands for format 0001 and is not stored."""

    NONE = 0x00
    CRC32 = 0x20
    XXH64 = 0x30
    XXH128 = 0x31
    CRC32_0001 = 0xFF


CHECKSUM_SIZES = {
    ChecksumMode.NONE: 0,
    ChecksumMode.CRC32: 4,
    ChecksumMode.XXH64: 8,
    ChecksumMode.XXH128: 16,
}


class BitmapMode(enum.IntEnum):
    """How the bitmap is stored: not at all, a bit per block, or a byte per block."""

    NONE = 0
    BIT = 1
    BYTE = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """The header of either version; what a version does not store has the value it implies.

    Attributes:
        header_size: bytes of the header; the bitmap follows.
        used_superblock: used blocks by the file system's own count; informational, may be wrong.
        used_bitmap: used blocks by the bitmap, as the writer counted them.
        blocks_per_checksum: stored blocks that share one checksum; 0 where there is none.
        reseed: False where a checksum goes on from the one before.
        header_crc32: the stored header checksum, None for version 0001.
    """

    version: str
    creator: str | None
    fs_type: str
    device_size: int
    total_blocks: int
    used_superblock: int
    used_bitmap: int
    block_size: int
    header_size: int
    cpu_bits: int | None
    checksum_mode: ChecksumMode
    checksum_size: int
    blocks_per_checksum: int
    reseed: bool
    bitmap_mode: BitmapMode
    header_crc32: int | None

    @property
    def bitmap_size(self) -> int:
        """Stored bytes of the bitmap, without the checksum or marker behind it."""
        if self.bitmap_mode is BitmapMode.NONE:
            return 0
        if self.bitmap_mode is BitmapMode.BYTE:
            return self.total_blocks
        return (self.total_blocks + 7) // 8

    @property
    def data_offset(self) -> int:
        """Where the first stored block lies."""
        if self.bitmap_mode is BitmapMode.NONE:
            return self.header_size
        trailer = len(V1_BITMAP_MARKER) if self.bitmap_mode is BitmapMode.BYTE else BITMAP_CRC_SIZE
        return self.header_size + self.bitmap_size + trailer


def crc32_register(data: bytes, seed: int = 0xFFFFFFFF) -> int:
    """Return the CRC-32 register after `data`, without the final inversion.

    Chains: ``crc32_register(b, crc32_register(a)) == crc32_register(a + b)``.
    """
    return zlib.crc32(data, seed ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def parse_header(data: bytes) -> Header:
    """Parse the header at the beginning of `data`.

    Args:
        data: the first `V1_SIZE` bytes of the image, fewer only where it is shorter.

    Raises:
        NotThisFormatError: it does not begin with partclone's magic.
        TruncatedImageError: `data` ends inside the header.
        UnsupportedFeatureError: another version, byte order or mode than this one reads.
        ChecksumError: the header checksum is wrong.
        CorruptImageError: a field contradicts another, or is out of its bounds.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise NotThisFormatError("partclone.header", 0, "the partclone magic is not there")
    if len(data) < VERSION_STOP:
        _truncated(len(data), V2_SIZE)
    version = data[VERSION_OFFSET:VERSION_STOP]
    if version == b"0002":
        return _parse_v2(data)
    if version == b"0001":
        return _parse_v1(data)
    raise UnsupportedFeatureError(
        "partclone.header",
        VERSION_OFFSET,
        f"format version {_text(version)!r}: versions 0001 and 0002 are read",
    )


def _parse_v2(data: bytes) -> Header:
    if len(data) < V2_SIZE:
        _truncated(len(data), V2_SIZE)
    (
        _magic, creator, _version, endian, fs_type, device_size, total_blocks, used_superblock,
        used_bitmap, block_size, feature_size, image_version, cpu_bits, mode, checksum_size,
        blocks_per_checksum, reseed, bitmap_mode, stored_crc,
    ) = _V2.unpack_from(data)  # fmt: skip
    if endian == _ENDIAN_BIG:
        _big_endian(34)
    if endian != _ENDIAN_LITTLE:
        raise CorruptImageError("partclone.header", 34, f"byte order mark is 0x{endian:04x}")
    crc = crc32_register(data[:_V2_CRC_OFFSET])
    if crc != stored_crc:
        raise ChecksumError("partclone.header", 0, group=0, expected=stored_crc, actual=crc)
    if feature_size != _V2_FEATURE_SIZE or image_version != _V2_IMAGE_VERSION:
        raise UnsupportedFeatureError(
            "partclone.header",
            88,
            f"feature size {feature_size}, image version {image_version}: 18 and 2 are read",
        )
    header = Header(
        version="0002",
        creator=_text(creator),
        fs_type=_text(fs_type),
        device_size=device_size,
        total_blocks=total_blocks,
        used_superblock=used_superblock,
        used_bitmap=used_bitmap,
        block_size=block_size,
        header_size=V2_SIZE,
        cpu_bits=cpu_bits,
        checksum_mode=_checksum_mode(mode, checksum_size, blocks_per_checksum),
        checksum_size=checksum_size,
        blocks_per_checksum=blocks_per_checksum,
        reseed=bool(reseed),
        bitmap_mode=_bitmap_mode(bitmap_mode),
        header_crc32=stored_crc,
    )
    _check_geometry(header, offsets=(84, 60, 76, 52))
    return header


def _checksum_mode(mode: int, size: int, blocks: int) -> ChecksumMode:
    if mode not in set(CHECKSUM_SIZES):
        raise UnsupportedFeatureError(
            "partclone.header", 96, f"checksum mode 0x{mode:x}: none, CRC32, XXH64, XXH128 are read"
        )
    known = ChecksumMode(mode)
    if size != CHECKSUM_SIZES[known]:
        raise CorruptImageError(
            "partclone.header", 98, f"{known.name} with checksums of {size} bytes"
        )
    if known is not ChecksumMode.NONE and blocks == 0:
        raise CorruptImageError("partclone.header", 100, f"{known.name} with 0 blocks per checksum")
    return known


def _bitmap_mode(mode: int) -> BitmapMode:
    if mode in {BitmapMode.NONE, BitmapMode.BIT}:
        return BitmapMode(mode)
    if mode == BitmapMode.BYTE:
        # partclone's own writer and reader disagree on what follows such a bitmap.
        raise UnsupportedFeatureError(
            "partclone.header", 105, "a byte bitmap in format 0002: no release writes one"
        )
    raise UnsupportedFeatureError("partclone.header", 105, f"bitmap mode {mode}: 0 and 1 are read")


def _parse_v1(data: bytes) -> Header:
    if len(data) < V1_SIZE:
        _truncated(len(data), V1_SIZE)
    fs_type = _text(data[15:30])
    header = _v1_header(fs_type, struct.unpack_from("<IQQQ", data, _V1_OFFSET))
    try:
        _check_geometry(header, offsets=(36, 48, 56, 40))
    except CorruptImageError:
        foreign = _v1_header(fs_type, struct.unpack_from(">IQQQ", data, _V1_OFFSET))
        if _is_plausible(foreign):
            _big_endian(_V1_OFFSET)
        raise
    return header


def _v1_header(fs_type: str, fields: tuple[int, int, int, int]) -> Header:
    block_size, device_size, total_blocks, used_blocks = fields
    return Header(
        version="0001",
        creator=None,
        fs_type=fs_type,
        device_size=device_size,
        total_blocks=total_blocks,
        used_superblock=used_blocks,
        used_bitmap=used_blocks,
        block_size=block_size,
        header_size=V1_SIZE,
        cpu_bits=None,
        checksum_mode=ChecksumMode.CRC32_0001,
        checksum_size=V1_CHECKSUM_SIZE,
        blocks_per_checksum=1,
        reseed=False,
        bitmap_mode=BitmapMode.BYTE,
        header_crc32=None,
    )


def _is_plausible(header: Header) -> bool:
    try:
        _check_geometry(header, offsets=(0, 0, 0, 0))
    except CorruptImageError:
        return False
    return True


def _check_geometry(header: Header, *, offsets: tuple[int, int, int, int]) -> None:
    """Bound block size, block counts and device size; `offsets` tell where each is stored."""
    block_size, total_blocks = header.block_size, header.total_blocks
    if not 0 < block_size <= MAX_BLOCK_SIZE:
        raise CorruptImageError("partclone.header", offsets[0], f"block size {block_size}")
    if total_blocks == 0:
        raise CorruptImageError("partclone.header", offsets[1], "0 blocks")
    if total_blocks * block_size > _MAX_SIZE:
        raise CorruptImageError(
            "partclone.header",
            offsets[1],
            f"{total_blocks} blocks of {block_size} bytes: more than a file can have",
        )
    if header.used_bitmap > total_blocks:
        raise CorruptImageError(
            "partclone.header", offsets[2], f"{header.used_bitmap} of {total_blocks} blocks used"
        )
    if header.device_size > _MAX_SIZE:
        raise CorruptImageError("partclone.header", offsets[3], f"device size {header.device_size}")
    if header.version != "0001" and total_blocks * block_size > header.device_size:
        raise CorruptImageError(
            "partclone.header",
            offsets[3],
            f"{total_blocks} blocks of {block_size} bytes on a device of {header.device_size}",
        )


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _truncated(length: int, needed: int) -> NoReturn:
    raise TruncatedImageError(
        "partclone.header", length, f"the file ends {needed - length} bytes before the header does"
    )


def _big_endian(offset: int) -> NoReturn:
    raise UnsupportedFeatureError(
        "partclone.header",
        offset,
        "written on a big-endian machine: restore it with partclone on such a machine",
    )
