"""A naive writer of partclone images, versions 0001 and 0002, for tests.

It follows the description of the format with plain loops, and shares no code with the reader that
it is there to test. It appends one thing after the other and notes where each block came to lie,
so no formula for an offset is used anywhere.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import TYPE_CHECKING, Protocol

import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"partclone-image"
V2_SIZE = 110
V1_SIZE = 4160

CHECKSUMS = {"NONE": (0x00, 0), "CRC32": (0x20, 4), "XXH64": (0x30, 8), "XXH128": (0x31, 16)}
"""Stored mode and size in bytes of each checksum of version 0002."""

BITMAPS = {"NONE": 0, "BIT": 1, "BYTE": 8}
"""Stored mode of each kind of bitmap."""

_PATTERN = bytearray()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What image to write. The fields that say 0002 mean nothing in version 0001.

    Attributes:
        present: which blocks are stored, one item per block.
        version: ``0001`` or ``0002``.
        block_size: bytes in a block.
        checksum: a key of `CHECKSUMS`; 0002.
        blocks_per_checksum: stored blocks that share a checksum; 0002.
        reseed: False for a checksum that goes on from the one before; 0002.
        bitmap: a key of `BITMAPS`; 0002.
        ones_in_padding: set the bits behind the last block, as real writers often do; 0002.
        free_bytes: what a byte bitmap says of free blocks, in turn.
        tail: bytes of the device behind the last whole block.
        device_size: what the header says of the device, if not the blocks and the tail.
        wide: checksums of eight bytes, as 64-bit writers before 0.1.0 wrote them; 0001.
        cpu_bits: what the header says of the writer's machine; 0002.
        big_endian: write every number of the header the other way round.
        creator: the release that the header names; 0002.
        fs_type: the file system that the header names.
        used_superblock: the header's first count of used blocks, if not the true one; 0002.
        used_bitmap: the header's count of used blocks, if not the true one.
        guest: the bytes of the device, if not a pattern; only its used blocks are stored.
    """

    present: Sequence[bool]
    version: str = "0002"
    block_size: int = 64
    checksum: str = "CRC32"
    blocks_per_checksum: int = 3
    reseed: bool = True
    bitmap: str = "BIT"
    ones_in_padding: bool = False
    free_bytes: bytes = b"\0"
    tail: int = 0
    device_size: int | None = None
    wide: bool = False
    cpu_bits: int = 64
    big_endian: bool = False
    creator: bytes = b"0.3.47"
    fs_type: bytes = b"EXTFS"
    used_superblock: int | None = None
    used_bitmap: int | None = None
    guest: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Written:
    """An image, and what it must read as.

    Attributes:
        image: the stored bytes.
        guest: the guest bytes.
        data_offset: where the first stored block lies.
        block_offsets: where each stored block lies, by its number.
    """

    image: bytes
    guest: bytes
    data_offset: int
    block_offsets: dict[int, int]


def write(recipe: Recipe) -> Written:
    """Write the image of `recipe`."""
    block_count = len(recipe.present)
    size = block_count * recipe.block_size + recipe.tail
    device = pattern(size) if recipe.guest is None else recipe.guest
    used = [number for number in range(block_count) if recipe.present[number]]

    out = bytearray(_head(recipe, len(used)))
    data_offset = len(out)
    summing = _summing(recipe)
    guest = bytearray(max(size, recipe.device_size or 0))
    block_offsets = {}
    for number in used:
        start = number * recipe.block_size
        block = device[start : start + recipe.block_size]
        guest[start : start + recipe.block_size] = block
        block_offsets[number] = len(out)
        out += block
        out += summing.after(block)
    out += summing.at_end()
    return Written(bytes(out), bytes(guest), data_offset, block_offsets)


def pattern(size: int) -> bytes:
    """Return `size` bytes of which each 16 begin with their offset in hexadecimal digits."""
    # It is the same for all, as far as it goes.
    for offset in range(len(_PATTERN), size, 16):
        # The letters tell a byte from the same byte of a neighbour shifted by less than 16.
        _PATTERN.extend(f"{offset:x}ghijklmnopqrstuv".encode("ascii")[:16])
    return bytes(_PATTERN[:size])


def crc_register(data: bytes, register: int = 0xFFFFFFFF) -> int:
    """Return the register of the reflected CRC-32 after `data`, not inverted at the end.

    zlib inverts it at both ends.
    """
    return zlib.crc32(data, register ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def pack_bits(present: Sequence[bool], *, ones_in_padding: bool = False) -> bytes:
    """Return one bit per block, least significant first, in as few bytes as hold them."""
    out = bytearray((len(present) + 7) // 8)
    for position in range(len(out) * 8):
        bit = present[position] if position < len(present) else ones_in_padding
        if bit:
            out[position // 8] |= 1 << (position % 8)
    return bytes(out)


def header_v2(
    *,
    device_size: int,
    total_blocks: int,
    used_bitmap: int,
    block_size: int,
    checksum: str = "CRC32",
    blocks_per_checksum: int = 3,
    reseed: bool = True,
    bitmap: str = "BIT",
    cpu_bits: int = 64,
    creator: bytes = b"0.3.47",
    fs_type: bytes = b"EXTFS",
    used_superblock: int | None = None,
    big_endian: bool = False,
) -> bytes:
    """Return the 110 bytes of a header of version 0002, its checksum included."""
    order = ">" if big_endian else "<"
    mode, checksum_size = CHECKSUMS[checksum]
    out = bytearray()
    out += MAGIC + b"\0"
    out += creator.ljust(14, b"\0")
    out += b"0002"
    out += struct.pack(order + "H", 0xC0DE)
    out += fs_type.ljust(16, b"\0")
    out += struct.pack(order + "Q", device_size)
    out += struct.pack(order + "Q", total_blocks)
    out += struct.pack(order + "Q", used_bitmap if used_superblock is None else used_superblock)
    out += struct.pack(order + "Q", used_bitmap)
    out += struct.pack(order + "I", block_size)
    out += struct.pack(order + "I", 18)
    out += struct.pack(order + "H", 2)
    out += struct.pack(order + "H", cpu_bits)
    out += struct.pack(order + "H", mode)
    out += struct.pack(order + "H", checksum_size)
    out += struct.pack(order + "I", blocks_per_checksum)
    out += struct.pack(order + "B", reseed)
    out += struct.pack(order + "B", BITMAPS[bitmap])
    out += struct.pack(order + "I", crc_register(bytes(out)))
    return bytes(out)


def header_v1(
    *,
    device_size: int,
    total_blocks: int,
    used_bitmap: int,
    block_size: int,
    fs_type: bytes = b"EXTFS",
    big_endian: bool = False,
) -> bytes:
    """Return the 4160 bytes of a header of version 0001, which has no checksum."""
    order = ">" if big_endian else "<"
    out = bytearray()
    out += MAGIC
    out += fs_type.ljust(15, b"\0")
    out += b"0001"
    out += bytes(2)
    out += struct.pack(order + "I", block_size)
    out += struct.pack(order + "Q", device_size)
    out += struct.pack(order + "Q", total_blocks)
    out += struct.pack(order + "Q", used_bitmap)
    out += bytes(4096)
    return bytes(out)


def _head(recipe: Recipe, used_count: int) -> bytes:
    """Return header and bitmap, up to the first stored block."""
    block_count = len(recipe.present)
    device_size = recipe.device_size
    if device_size is None:
        device_size = block_count * recipe.block_size + recipe.tail
    used_bitmap = used_count if recipe.used_bitmap is None else recipe.used_bitmap
    if recipe.version == "0001":
        header = header_v1(
            device_size=device_size,
            total_blocks=block_count,
            used_bitmap=used_bitmap,
            block_size=recipe.block_size,
            fs_type=recipe.fs_type,
            big_endian=recipe.big_endian,
        )
        return header + _byte_bitmap(recipe) + b"BiTmAgIc"
    header = header_v2(
        device_size=device_size,
        total_blocks=block_count,
        used_bitmap=used_bitmap,
        block_size=recipe.block_size,
        checksum=recipe.checksum,
        blocks_per_checksum=recipe.blocks_per_checksum,
        reseed=recipe.reseed,
        bitmap=recipe.bitmap,
        cpu_bits=recipe.cpu_bits,
        creator=recipe.creator,
        fs_type=recipe.fs_type,
        used_superblock=recipe.used_superblock,
        big_endian=recipe.big_endian,
    )
    if recipe.bitmap == "NONE":
        return header
    if recipe.bitmap == "BIT":
        bitmap = pack_bits(recipe.present, ones_in_padding=recipe.ones_in_padding)
    else:
        bitmap = _byte_bitmap(recipe)
    return header + bitmap + crc_register(bitmap).to_bytes(4, "little")


def _byte_bitmap(recipe: Recipe) -> bytes:
    out = bytearray()
    for number in range(len(recipe.present)):
        free = recipe.free_bytes[number % len(recipe.free_bytes)]
        out.append(1 if recipe.present[number] else free)
    return bytes(out)


class _Summing(Protocol):
    """What is written between the blocks."""

    def after(self, block: bytes) -> bytes:
        """Return what follows `block`."""

    def at_end(self) -> bytes:
        """Return what follows everything."""


def _summing(recipe: Recipe) -> _Summing:
    if recipe.version == "0001":
        return _BlockSums(8 if recipe.wide else 4)
    return _GroupSums(recipe.checksum, recipe.blocks_per_checksum, reseed=recipe.reseed)


class _BlockSums:
    """The checksums of version 0001: one after each block, each going on from the last.

    Its writers never advance their pointer, so a block counts as its first byte, repeated.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._register = 0xFFFFFFFF

    def after(self, block: bytes) -> bytes:
        """Return the checksum of `block` and of all before it."""
        self._register = crc_register(block[:1] * len(block), self._register)
        return self._register.to_bytes(self._width, "little")

    def at_end(self) -> bytes:
        """Return nothing."""
        return b""


class _GroupSums:
    """The checksums of version 0002: one after so many blocks, and one after what is left."""

    def __init__(self, kind: str, blocks_per_checksum: int, *, reseed: bool) -> None:
        self._kind = kind
        self._blocks_per_checksum = blocks_per_checksum
        self._reseed = reseed
        self._sum = _new_sum(kind)
        self._block_count = 0

    def after(self, block: bytes) -> bytes:
        """Return a checksum if `block` completes a group."""
        if self._kind == "NONE":
            return b""
        self._sum.update(block)
        self._block_count += 1
        if self._block_count < self._blocks_per_checksum:
            return b""
        return self._flush()

    def at_end(self) -> bytes:
        """Return the checksum of a last group that is not full."""
        return self._flush() if self._block_count else b""

    def _flush(self) -> bytes:
        stored = self._sum.intdigest().to_bytes(CHECKSUMS[self._kind][1], "little")
        self._block_count = 0
        if self._reseed:
            self._sum = _new_sum(self._kind)
        return stored


class _Sum(Protocol):
    """A checksum that goes on, as xxhash has them."""

    def update(self, data: bytes, /) -> None:
        """Go on with `data`."""

    def intdigest(self) -> int:
        """Return the checksum of all data so far."""


class _Crc32:
    def __init__(self) -> None:
        self._register = 0xFFFFFFFF

    def update(self, data: bytes, /) -> None:
        self._register = crc_register(data, self._register)

    def intdigest(self) -> int:
        return self._register


def _new_sum(kind: str) -> _Sum:
    if kind == "XXH64":
        return xxhash.xxh64(seed=0)
    if kind == "XXH128":
        return xxhash.xxh3_128()
    return _Crc32()
