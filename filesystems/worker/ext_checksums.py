"""The checksums of ext4's feature metadata_csum: of each structure, as the kernel looks at them.

Without the feature there are none, and nothing is checked. Source: fs/ext4/inode.c, namei.c,
extents.c, xattr.c and super.c of Linux.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..errors import DamagedError
from .crc32c import crc32c

if TYPE_CHECKING:
    from .ext_inode import Inode

_METADATA_CSUM, _CSUM_SEED = 0x400, 0x2000
_DIR_INDEX, _INDEX_FLAG = 0x20, 0x1000
_IS_LINUX, _IS_CRC32C = 0, 1
_ALL = 0xFFFFFFFF

_SUPERBLOCK = 1024
_OF_SUPERBLOCK, _UUID, _SEED, _TYPE = 0x3FC, 0x68, 0x270, 0x175

_OLD_SIZE = 128
_LOW, _HIGH = 124, 130
"""Where an inode has the halves of its checksum; the second one beyond the old size."""

_GENERATION = slice(100, 104)
_HALF, _EXTRA = struct.Struct("<H"), struct.Struct("<HH")
_WITH_HIGH = _HIGH + 2 - _OLD_SIZE
"""Bytes beyond the old size with which an inode has the upper half."""

_NO_HALF = bytes(2)
_LOW_HALF = 0xFFFF

_LARGEST_BLOCK = 1 << 16
_TAIL = 12
_TAIL_HEAD = bytes([0, 0, 0, 0, _TAIL, 0, 0, 0xDE])
_DX_ENTRY, _DX_TAIL, _IN_ROOT, _IN_NODE = 8, 8, 32, 8
_ROOT_INFO = 24

_OF_ATTRIBUTES, _OF_DESCRIPTOR = 16, 30
_ADVICE = "e2fsck says what is left of it, on a copy that `imgcat export` makes"


class ExtChecksums:
    """What checks the structures of one file system.

    Args:
        superblock: its 1024 bytes.
        features: its compat, incompat and ro_compat words.
        block_size: bytes in a block.
        inode_size: bytes of an inode.

    Attributes:
        is_on: whether there is anything to check.

    Raises:
        DamagedError: the superblock has another checksum than is stored.
    """

    def __init__(
        self, superblock: bytes, features: tuple[int, int, int], block_size: int, inode_size: int
    ) -> None:
        compat, incompat, ro_compat = features
        self.is_on = bool(ro_compat & _METADATA_CSUM)
        self._block_size, self._inode_size = block_size, inode_size
        self._has_index = bool(compat & _DIR_INDEX)
        if incompat & _CSUM_SEED:
            (self._seed,) = struct.unpack_from("<I", superblock, _SEED)
        else:
            self._seed = crc32c(_ALL, superblock[_UUID : _UUID + 16])
        if self.is_on:
            if superblock[_TYPE] != _IS_CRC32C:
                what = f"its checksums are of kind {superblock[_TYPE]}, which nobody knows"
                raise DamagedError("ext.superblock", _SUPERBLOCK, what)
            found = crc32c(_ALL, superblock[:_OF_SUPERBLOCK])
            (stored,) = struct.unpack_from("<I", superblock, _OF_SUPERBLOCK)
            _compare("ext.superblock", _SUPERBLOCK, found, stored)
        creator = int.from_bytes(superblock[72:76], "little")
        self.has_inodes = self.is_on and creator == _IS_LINUX

    def is_right_group(self, group: int, descriptor: bytes) -> bool:
        """Tell whether the descriptor of a group has the checksum that is stored.

        One that has another is made use of, as by the kernel where it does not write: all that it
        tells is where inodes are, and their own checksums have their numbers in them.
        """
        if not self.is_on:
            return True
        at = _OF_DESCRIPTOR
        body = descriptor[:at] + bytes(2) + descriptor[at + 2 :]
        found = crc32c(self._seed, group.to_bytes(4, "little") + body)
        return found & 0xFFFF == int.from_bytes(descriptor[at : at + 2], "little")

    # -- inodes --------------------------------------------------------------

    def check_inode(self, number: int, data: memoryview, offset: int) -> None:
        """Check an inode.

        Args:
            number: the inode.
            data: its bytes.
            offset: where in the volume it is.

        Raises:
            DamagedError: it has another checksum than is stored.
        """
        raw = bytes(data)
        number_in_it = number.to_bytes(4, "little")
        (stored,) = _HALF.unpack_from(raw, _LOW)
        mask = _LOW_HALF
        if self._inode_size > _OLD_SIZE:
            extra, high = _EXTRA.unpack_from(raw, _OLD_SIZE)
            if extra >= _WITH_HIGH:
                stored |= high << 16
                mask = _ALL
        rest = raw[_LOW + 2 :]
        if mask == _ALL:
            rest = b"".join((raw[_LOW + 2 : _HIGH], _NO_HALF, raw[_HIGH + 2 :]))
        pieces = number_in_it, raw[_GENERATION], raw[:_LOW], _NO_HALF, rest
        found = crc32c(self._seed, b"".join(pieces)) & mask
        if found != stored:
            _compare(f"ext.inode {number}", offset, found, stored)

    def _seed_of(self, number: int, data: bytes | memoryview) -> int:
        return crc32c(self._seed, number.to_bytes(4, "little") + bytes(data[_GENERATION]))

    # -- what inodes lead to -------------------------------------------------

    def check_directory(self, inode: Inode, block: bytes, number: int, place: int) -> None:
        """Check a block of a directory, of names or of its index.

        Args:
            inode: the directory.
            block: the block.
            number: which of its blocks it is.
            place: where in the volume it is, in bytes.

        Raises:
            DamagedError: it has another checksum than is stored, or no place for one.
        """
        if not self.is_on:
            return
        structure = f"ext.directory {inode.number}"
        length = int.from_bytes(block[4:6], "little")
        if self._has_index and inode.flags & _INDEX_FLAG:
            # 16 bits do not hold the length of the largest blocks.
            all_of_it = {0, 0xFFFF} if self._block_size == _LARGEST_BLOCK else {self._block_size}
            is_whole = length in all_of_it and not any(block[:4])
            if not number or is_whole:
                self._check_index(inode, block, structure, place)
                return
        at = len(block) - _TAIL
        if block[at : at + 8] != _TAIL_HEAD:
            raise DamagedError(structure, place, f"its block {number} has no checksum: {_ADVICE}")
        found = crc32c(self._seed_of(inode.number, inode.data), block[:at])
        _compare(structure, place, found, int.from_bytes(block[at + 8 :], "little"))

    def _check_index(self, inode: Inode, block: bytes, structure: str, place: int) -> None:
        is_root = block[4:6] == bytes([12, 0])
        head = _IN_ROOT if is_root else _IN_NODE
        limit, count = struct.unpack_from("<HH", block, head)
        at = head + limit * _DX_ENTRY
        is_sound = at + _DX_TAIL <= len(block) and count <= limit
        if is_root:
            # Behind the two entries: four bytes of zeros, the kind of hash, and its own length.
            is_sound &= not any(block[_ROOT_INFO : _ROOT_INFO + 4]) and block[_ROOT_INFO + 5] == 8  # noqa: PLR2004
        if not is_sound:
            raise DamagedError(structure, place, f"a node of its index is none: {_ADVICE}")
        found = crc32c(
            self._seed_of(inode.number, inode.data),
            block[: head + count * _DX_ENTRY] + block[at : at + 4] + bytes(4),
        )
        _compare(structure, place, found, int.from_bytes(block[at + 4 : at + 8], "little"))

    def check_extents(self, inode: Inode, block: bytes, place: int) -> None:
        """Check a block of the extent tree of a file.

        Raises:
            DamagedError: it has another checksum than is stored, or no place for one.
        """
        if not self.is_on:
            return
        structure = f"ext.inode {inode.number}"
        at = 12 + 12 * int.from_bytes(block[4:6], "little")
        if at + 4 > len(block):
            raise DamagedError(structure, place, "a node of its extent tree is none")
        found = crc32c(self._seed_of(inode.number, inode.data), block[:at])
        _compare(structure, place, found, int.from_bytes(block[at : at + 4], "little"))

    def check_attributes(self, number: int, block: bytes) -> None:
        """Check block `number` of the volume, which holds extended attributes.

        Raises:
            DamagedError: it has another checksum than is stored.
        """
        if self.is_on:
            body = bytearray(block)
            stored = int.from_bytes(block[_OF_ATTRIBUTES : _OF_ATTRIBUTES + 4], "little")
            body[_OF_ATTRIBUTES : _OF_ATTRIBUTES + 4] = bytes(4)
            found = crc32c(self._seed, number.to_bytes(8, "little") + bytes(body))
            _compare("ext.xattr", number * self._block_size, found, stored)

    def check_value(self, inode: Inode, value: bytes, owner: Inode) -> None:
        """Check the value of an attribute that has an inode of its own, whatever the features.

        Raises:
            DamagedError: it has another checksum than its inode has in place of a time.
        """
        read, _changed, written = struct.unpack_from("<III", inode.data, 8)
        is_lustres = written == owner.number and inode.data[_GENERATION] == owner.data[_GENERATION]
        found = crc32c(self._seed, value)
        if found != read and not is_lustres:
            _compare(f"ext.inode {inode.number}", 0, found, read)


def _compare(structure: str, place: int, found: int, stored: int) -> None:
    if found != stored:
        raise DamagedError(
            structure, place,
            f"at {place} of the volume: 0x{stored:x} is stored as its checksum, which is"
            f" 0x{found:x}: {_ADVICE}",
        )  # fmt: skip
