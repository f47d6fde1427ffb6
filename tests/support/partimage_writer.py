"""A naive writer of partimage images, for tests.

It follows the description of the format with plain loops, and shares no code with the reader that
it is there to test.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = 16384


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What image to write.

    Attributes:
        present: which blocks are stored, one item a block.
        block_size: bytes in a block.
        tail: bytes of the partition behind the last block; below zero, the last block is cut off.
        bitmap_extra: bytes of the bitmap that no block needs.
        ones_in_padding: set every bit behind the last block.
        volume_sizes: bytes of the stream in each volume but the last.
        identifier: what all volumes have in common.
        mbr_count: boot sectors.
        extensions: contents of the ten extensions, the others empty.
        unsigned: sums as machines write them whose `char` has no sign.
        description: what the user wrote.
        with_tail: end the image as it should be.
    """

    present: Sequence[bool]
    block_size: int = 512
    tail: int = 0
    bitmap_extra: int = 16
    ones_in_padding: bool = False
    volume_sizes: Sequence[int] = ()
    identifier: int = 0x1122334455667788
    mbr_count: int = 0
    extensions: Sequence[bytes] = ()
    unsigned: bool = False
    description: bytes = b""
    with_tail: bool = True


@dataclasses.dataclass(frozen=True)
class Written:
    """An image, and what it must read as.

    Attributes:
        volumes: the files.
        stream: the volumes without their headers, one after the other.
        guest: the partition's bytes.
        block_offsets: where each stored block begins in the stream.
        bitmap_offset: where the bitmap begins in the stream.
        data_offset: where the data begin.
        data_stop: where they end.
    """

    volumes: list[bytes]
    stream: bytes
    guest: bytes
    block_offsets: dict[int, int]
    bitmap_offset: int
    data_offset: int
    data_stop: int


def header_sum(data: bytes, *, unsigned: bool = False) -> bytes:
    """Return the sum that follows a header."""
    total = 0
    for octet in data:
        total += octet if unsigned or octet < 128 else octet - 256
    return struct.pack("<I", total % (1 << 32))


def volume_header(number: int, identifier: int, version: bytes = b"0.6.1") -> bytes:
    """Return the 512 bytes that a volume begins with."""
    return struct.pack("<32s64sIQ", b"PaRtImAgE-VoLuMe", version, number, identifier).ljust(
        512, b"\0"
    )


def main_header(size: int, mbr_count: int = 0, description: bytes = b"", encrypt: int = 0) -> bytes:
    """Return the main header without its sum."""
    data = bytearray(HEADER)

    def put(offset: int, value: bytes) -> None:
        data[offset : offset + len(value)] = value

    put(0, b"ext2fs")
    put(512, description)
    put(4608, b"/dev/sdb3")
    put(5120, b"backup.img")
    for number, name in enumerate((b"Linux", b"box", b"6.1", b"#1", b"x86_64")):
        put(9215 + 65 * number, name)
    put(9540, struct.pack("<II", 0, 0))
    put(9548, struct.pack("<11i", 7, 41, 5, 20, 10, 126, 5, 324, 0, 3600, 0))
    put(9592, struct.pack("<Q", size))
    put(9600, b"host\xe9")
    put(9728, b"0.6.9")
    put(9792, struct.pack("<III", mbr_count, 2048 if mbr_count else 0, encrypt))
    return bytes(data)


def local_header(block_size: int, used: int, total: int, bitmap_size: int) -> bytes:
    """Return the local header without its sum."""
    return struct.pack("<5Q64s", block_size, used, total, bitmap_size, 0, b"a label").ljust(
        HEADER, b"\0"
    )


def _bitmap(recipe: Recipe) -> bytes:
    count = len(recipe.present)
    bitmap = bytearray((count + 7) // 8 + recipe.bitmap_extra)
    for number in range(8 * len(bitmap)):
        if recipe.present[number] if number < count else recipe.ones_in_padding:
            bitmap[number // 8] |= 1 << number % 8
    return bytes(bitmap)


def write(recipe: Recipe) -> Written:
    """Return the image that a recipe asks for."""
    size = recipe.block_size
    count = len(recipe.present)
    first = bytes((at * 13 + (at >> 8)) % 256 for at in range(size))
    more = [bytes((octet + step) % 256 for octet in range(256)) for step in range(256)]
    blocks = [first.translate(more[(number * 7 + 1) % 256]) for number in range(count)]
    guest_size = count * size + recipe.tail
    guest = b"".join(
        block if present else bytes(size)
        for block, present in zip(blocks, recipe.present, strict=True)
    )
    guest = guest[:guest_size].ljust(guest_size, b"\0")

    bitmap = _bitmap(recipe)
    stream = bytearray()

    def summed(data: bytes) -> bytes:
        return data + header_sum(data, unsigned=recipe.unsigned)

    stream += summed(main_header(guest_size, recipe.mbr_count, recipe.description))
    stream += b"MAGIC-BEGIN-MBRBACKUP" + b"\xaa" * 2048 * recipe.mbr_count
    for number in range(10):
        content = recipe.extensions[number] if number < len(recipe.extensions) else b""
        stream += b"MAGIC-BEGIN-EXT00%d" % number + struct.pack("<I", len(content)) + content
    used = sum(map(bool, recipe.present))
    stream += b"MAGIC-BEGIN-LOCALHEADER" + summed(local_header(size, used, count, len(bitmap)))
    stream += b"MAGIC-BEGIN-BITMAP"
    bitmap_offset = len(stream)
    stream += bitmap + b"MAGIC-BEGIN-INFO" + summed(b"info".ljust(HEADER, b"\xff"))
    stream += b"MAGIC-BEGIN-DATABLOCKS"
    data_offset = len(stream)

    offsets = {}
    group = bytearray()
    for number, present in enumerate(recipe.present):
        if not present:
            continue
        offsets[number] = len(stream)
        left = blocks[number]
        while left:
            some = left[: 65536 - len(group)]
            stream += some
            group += some
            left = left[len(some) :]
            if len(group) == 65536:
                stream += b"CHK\0" + struct.pack("<IQ", zlib.crc32(group), number)
                group.clear()
    data_stop = len(stream)
    stream += b"MAGIC-BEGIN-TAIL"
    stream += struct.pack("<QI", sum(stream), len(recipe.volume_sizes)).ljust(HEADER, b"\0")
    if not recipe.with_tail:
        del stream[data_stop:]

    volumes = []
    start = 0
    for number, length in enumerate((*recipe.volume_sizes, len(stream))):
        part = bytes(stream[start : start + length])
        volumes.append(volume_header(number, recipe.identifier) + part)
        start += length
    return Written(volumes, bytes(stream), guest, offsets, bitmap_offset, data_offset, data_stop)
