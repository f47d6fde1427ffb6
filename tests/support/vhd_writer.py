"""Writes VHD differences by the published layout: no tool of the distribution makes one.

Source: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0. Blocks are stored
in the order in which they are given; of each, only some sectors may be.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid

SECTOR = 512
_ABSENT = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference that is to be written.

    Attributes:
        size: guest bytes.
        id: its UUID.
        parent_id: its parent's.
        parent_name: its parent's name, in the header and in the locators.
        sectors: the sectors that it has, by their numbers.
        block_size: bytes in a block.
        space_in_sectors: whether the locator's space counts sectors, or bytes as Windows writes it.
    """

    size: int
    id: uuid.UUID
    parent_id: uuid.UUID
    parent_name: str
    sectors: dict[int, bytes]
    block_size: int = 2 << 20
    space_in_sectors: bool = True


def write_difference(disk: Difference) -> bytes:
    """Return the file."""
    footer = _footer(disk)
    entries = -(-disk.size // disk.block_size)
    table_size = -(-entries * 4 // SECTOR) * SECTOR
    path = disk.parent_name.encode("utf-16-le")
    space = -(-len(path) // SECTOR) * SECTOR
    path_at = 512 + 1024 + table_size
    header = _header(disk, entries, path_at, len(path), space)
    per_block = disk.block_size // SECTOR
    bitmap_size = -(-per_block // 8 // SECTOR) * SECTOR
    table = [_ABSENT] * entries
    blocks = b""
    at = path_at + space
    by_block: dict[int, dict[int, bytes]] = {}
    for number, data in disk.sectors.items():
        by_block.setdefault(number // per_block, {})[number % per_block] = data
    for block, sectors in by_block.items():
        table[block] = (at + len(blocks)) // SECTOR
        bitmap = bytearray(bitmap_size)
        # What is not its own may hold anything.
        content = bytearray(b"\xee" * disk.block_size)
        for number, data in sectors.items():
            bitmap[number // 8] |= 0x80 >> number % 8
            content[number * SECTOR : (number + 1) * SECTOR] = data
        blocks += bytes(bitmap) + bytes(content)
    packed = struct.pack(f">{entries}I", *table).ljust(table_size, b"\xff")
    return footer + header + packed + path.ljust(space, b"\0") + blocks + footer


def _footer(disk: Difference) -> bytes:
    fields = struct.pack(
        ">8sIIQI4sI4sQQHBBII16sB",
        b"conectix", 2, 0x10000, 512, 0, b"win ", 0x60001, b"Wi2k", disk.size, disk.size,
        *_geometry(disk.size), 4, 0, disk.id.bytes, 0,
    )  # fmt: skip
    return _with_checksum(fields.ljust(512, b"\0"), 64)


def _geometry(size: int) -> tuple[int, int, int]:
    return min(65535, size // SECTOR // (16 * 63)), 16, 63


def _header(disk: Difference, entries: int, path_at: int, path_size: int, space: int) -> bytes:
    name = disk.parent_name.encode("utf-16-be").ljust(512, b"\0")
    fields = struct.pack(
        ">8sQQIIII16sII512s",
        b"cxsparse", (1 << 64) - 1, 512 + 1024, 0x10000, entries, disk.block_size, 0,
        disk.parent_id.bytes, 0, 0, name,
    )  # fmt: skip
    told = space // SECTOR if disk.space_in_sectors else space
    locator = struct.pack(">4sIIIQ", b"W2ru", told, path_size, 0, path_at)
    return _with_checksum((fields + locator).ljust(1024, b"\0"), 36)


def _with_checksum(data: bytes, at: int) -> bytes:
    return data[:at] + struct.pack(">I", ~sum(data) & 0xFFFFFFFF) + data[at + 4 :]
