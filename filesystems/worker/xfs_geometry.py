"""Where the blocks and inodes of an XFS lie, and whether a block is what it says it is.

Source: fs/xfs/libxfs/xfs_format.h, xfs_sb.c and xfs_inode_buf.c of Linux.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError, RefusedError
from .crc32c import crc32c

if TYPE_CHECKING:
    from .source import VolumeSource

_SUPERBLOCK = "xfs.superblock"
_CHECKSUM = 224
_VERSION_5 = 5
_CASE_BIT, _MORE_BIT = 0x4000, 0x8000
_TYPES_2 = 0x200
_TYPES, _META_UUID = 0x1, 0x4
_INODE_CHECKSUM, _INODE_NUMBER, _INODE_UUID = 100, 152, 160
_LARGEST_DIRECTORY_BLOCK = 64 << 10
_LARGEST_INODE = (1 << 40) - 1
_SECTOR = 512


class Seal(NamedTuple):
    """Where a block of version 5 tells what it is, in bytes from its beginning.

    Attributes:
        checksum: its CRC-32C, the only number there with its low byte first.
        place: where it lies, in units of 512 bytes.
        uuid: of its file system.
        owner: the inode that it belongs to.
    """

    checksum: int
    place: int
    uuid: int
    owner: int


class Geometry:
    """The superblock.

    Args:
        source: the volume.

    Raises:
        DamagedError: it contradicts itself, or has another checksum than is stored.

    Attributes:
        block_size: bytes in a block.
        blocks: how many there are.
        directory_size: bytes in a block of a directory.
        inode_size: bytes in an inode.
        root: the number of the root directory.
        is_5: whether its structures tell what they are.
        has_types: whether entries of directories tell the types of files.
        folds_case: whether names are found whatever the case of their ASCII letters.
    """

    def __init__(self, source: VolumeSource) -> None:
        data = source.read(0, _SECTOR)
        self.block_size: int
        self.blocks: int
        self.root: int
        self.inode_size: int
        self._group_blocks: int
        self.block_size, self.blocks = struct.unpack_from(">IQ", data, 4)
        (self.root,) = struct.unpack_from(">Q", data, 56)
        self._group_blocks, groups = struct.unpack_from(">II", data, 84)
        version, sector, self.inode_size, per_block = struct.unpack_from(">HHHH", data, 100)
        block_log, sector_log, inode_log, self._per_block_log, self._group_log = data[120:125]
        in_progress, directory_log = data[126], data[192]
        features_2, bad_features_2 = struct.unpack_from(">II", data, 200)
        self.is_5 = version & 0xF == _VERSION_5
        incompat = int.from_bytes(data[216:220], "big") if self.is_5 else 0
        self._uuid = data[248:264] if incompat & _META_UUID else data[32:48]
        is_sane = (
            9 <= block_log <= 16  # noqa: PLR2004
            and self.block_size == 1 << block_log
            and 9 <= sector_log <= 15  # noqa: PLR2004
            and sector == 1 << sector_log
            and 8 <= inode_log <= 11  # noqa: PLR2004
            and self.inode_size == 1 << inode_log
            and per_block == 1 << self._per_block_log
            and inode_log + self._per_block_log == block_log
            and self._group_log <= 31  # noqa: PLR2004
            and 0 < self._group_blocks <= 1 << self._group_log
            and 0 < self.blocks <= groups * self._group_blocks
            and self.block_size << directory_log <= _LARGEST_DIRECTORY_BLOCK
        )
        if not is_sane:
            raise DamagedError(_SUPERBLOCK, 0, "its sizes cannot be")
        if self.is_5 and not _has_right_checksum(source.read(0, sector), _CHECKSUM):
            raise DamagedError(_SUPERBLOCK, 0, "it has another checksum than is stored")
        if in_progress:
            raise DamagedError(_SUPERBLOCK, 0, "what made it had not ended: mkfs.xfs or xfs_copy")
        self.directory_size = self.block_size << directory_log
        # The bits of version 4 were written to two places once.
        more = features_2 | bad_features_2 if version & _MORE_BIT else 0
        self.has_types = bool(incompat & _TYPES if self.is_5 else more & _TYPES_2)
        self.folds_case = bool(version & _CASE_BIT)

    def inode_place(self, number: int) -> int:
        """Return where an inode lies: its number is group, block and place in one.

        Raises:
            FileNotFoundError: there is none of this number.
            RefusedError: its number is larger than can be told.
        """
        if number > _LARGEST_INODE:
            raise RefusedError(
                f"xfs.inode {number}", 0, "numbers of more than 40 bits are not read: mount it"
            )
        block, index = divmod(number, 1 << self._per_block_log)
        group, within = divmod(block, 1 << self._group_log)
        place = group * self._group_blocks + within
        if not 0 < within < self._group_blocks or place >= self.blocks:
            raise FileNotFoundError(f"there is no inode {number}")
        return place * self.block_size + index * self.inode_size

    def place(self, block: int, count: int, structure: str) -> int:
        """Return where blocks lie, in bytes, by a number that is group and block in one.

        Raises:
            DamagedError: they are not all in one group, or are its headers.
        """
        group, within = block >> self._group_log, block & ((1 << self._group_log) - 1)
        first = group * self._group_blocks + within
        if not 0 < within <= within + count <= self._group_blocks or first + count > self.blocks:
            raise DamagedError(
                structure, 0, f"it has {count} blocks from {within} on of group {group}: none of it"
            )
        return first * self.block_size

    def check(self, data: bytes, seal: Seal, place: int, owner: int, structure: str) -> None:
        """Check that a block of version 5 is the one that was looked for.

        Args:
            data: the block, whole.
            seal: where it tells of itself.
            place: where it was read, in bytes.
            owner: the inode that led to it.
            structure: for the message.

        Raises:
            DamagedError: it is another, or was changed.
        """
        if not _has_right_checksum(data, seal.checksum):
            raise DamagedError(structure, place, "it has another checksum than is stored")
        (stored_place,) = struct.unpack_from(">Q", data, seal.place)
        (stored_owner,) = struct.unpack_from(">Q", data, seal.owner)
        if stored_place * _SECTOR != place:
            raise DamagedError(
                structure, place, f"at {place} is what belongs to {stored_place * _SECTOR}"
            )
        if stored_owner != owner:
            raise DamagedError(structure, place, f"it belongs to inode {stored_owner}")
        self._check_uuid(data, seal.uuid, place, structure)

    def check_inode(self, data: bytes, number: int, place: int) -> None:
        """Check that an inode of version 5 is the one that was looked for. Raises as `check`."""
        structure = f"xfs.inode {number}"
        if not _has_right_checksum(data, _INODE_CHECKSUM):
            raise DamagedError(structure, place, "it has another checksum than is stored")
        (stored,) = struct.unpack_from(">Q", data, _INODE_NUMBER)
        if stored != number:
            raise DamagedError(structure, place, f"in its place is inode {stored}")
        self._check_uuid(data, _INODE_UUID, place, structure)

    def _check_uuid(self, data: bytes, at: int, place: int, structure: str) -> None:
        if data[at : at + 16] != self._uuid:
            raise DamagedError(structure, place, "it is of another file system, that was here once")


def _has_right_checksum(data: bytes, at: int) -> bool:
    stored = int.from_bytes(data[at : at + 4], "little")
    return crc32c(0xFFFFFFFF, data[:at] + bytes(4) + data[at + 4 :]) ^ 0xFFFFFFFF == stored
