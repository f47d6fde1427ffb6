"""XFS of versions 4 and 5.

Read here and not by a library, for none tells which extents were never written, and none looks at
the checksums, owners and places that structures of version 5 tell of themselves. Source:
fs/xfs/libxfs of Linux, and "XFS Algorithms & Data Structures".
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Any

from ..errors import DamagedError, RefusedError
from .driver import Content, Run, join
from .source import PAGE
from .wire import Entry
from .xfs_attributes import XfsAttributes
from .xfs_directory import Directories
from .xfs_extents import Blocks, Extents
from .xfs_geometry import Geometry, Seal
from .xfs_inode import DEVICE, LOCAL, Inode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Tell
    from .source import VolumeSource

_TYPES = {
    stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO,
    stat.S_IFSOCK,
}  # fmt: skip

_LONGEST_TARGET = 1024
_MOST_BLOCKS_OF_TARGET = 4
_LINK_MAGIC, _LINK_HEADER = b"XSLM", 56
_LINK_SEAL = Seal(checksum=12, place=40, uuid=16, owner=32)


class Xfs:
    """An XFS.

    Args:
        source: the volume.
    """

    def __init__(self, source: VolumeSource, _kind: str, _options: Mapping[str, Any]) -> None:
        self._source = source
        self._geometry = Geometry(source)
        self.root = self._geometry.root
        self._extents = Extents(source, self._geometry)
        self._directories = Directories(source, self._geometry, self._extents)
        self._attributes = XfsAttributes(source, self._geometry, self._extents)

    # -- inodes --------------------------------------------------------------

    def _inode(self, number: int) -> Inode:
        """Return an inode.

        Raises:
            FileNotFoundError: there is none of this number.
            DamagedError: what is in its place is none.
            RefusedError: its number is larger than can be told.
        """
        place = self._geometry.inode_place(number)
        size = self._geometry.inode_size
        page, at = divmod(place, PAGE)
        try:
            data = bytes(self._source.page(page)[at : at + size])
        except DamagedError:
            # What is missing of the page may be none of this inode.
            data = self._source.read(place, size)
        if len(data) < size:
            raise DamagedError(f"xfs.inode {number}", place, "it is outside of the volume")
        return Inode(self._geometry, number, data, place)

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        return self._entry(b"", self._inode(inode))

    def _entry(self, name: bytes, inode: Inode) -> Entry:
        if not inode.links or inode.kind not in _TYPES:
            what = "is deleted" if not inode.links else f"has the mode 0o{inode.mode:o}"
            raise DamagedError(inode.name, 0, f"a name leads to it, but it {what}")
        device, target = 0, b""
        if inode.kind == stat.S_IFLNK:
            target = self._target(inode)
        elif inode.kind in {stat.S_IFCHR, stat.S_IFBLK}:
            device = _device(inode)
        stored = min(inode.blocks * self._geometry.block_size, (1 << 64) - 1)
        return Entry(
            name, inode.number, inode.size, inode.mode, inode.links, inode.uid, inode.gid, device,
            stored, inode.times, target,
        )  # fmt: skip

    def _target(self, inode: Inode) -> bytes:
        size = inode.size
        if not 0 < size <= _LONGEST_TARGET:
            raise DamagedError(inode.name, 0, f"a link of {size} bytes")
        if inode.fork.format == LOCAL:
            target = inode.fork.data[:size]
        else:
            target = self._target_in_blocks(inode)
        if len(target) != size:
            raise DamagedError(inode.name, 0, f"{len(target)} bytes of a link of {size} are there")
        return target

    def _target_in_blocks(self, inode: Inode) -> bytes:
        pieces = self._extents.of(inode, inode.fork)
        blocks = Blocks(self._source, self._geometry, inode, pieces)
        target = b""
        for start, count, _place in pieces:
            left = inode.size - len(target)
            if not left:
                break
            data, place = blocks.read(start, min(count, _MOST_BLOCKS_OF_TARGET))
            if self._geometry.is_5:
                # Each extent has a header, however many blocks it has.
                magic, offset, length = struct.unpack_from(">4sII", data)
                is_right = magic == _LINK_MAGIC and offset == len(target)
                if not is_right or not 0 < length <= len(data) - _LINK_HEADER:
                    raise DamagedError(inode.name, place, "a block of the link is none")
                self._geometry.check(data, _LINK_SEAL, place, inode.number, f"{inode.name}: link")
                data = data[_LINK_HEADER : _LINK_HEADER + length]
            target += data[:left]
        return target

    # -- where bytes are -----------------------------------------------------

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file are."""
        if stream:
            raise FileNotFoundError("XFS has no other streams")
        found = self._inode(inode)
        if found.kind != stat.S_IFREG:
            return Content(0, ())
        if found.is_realtime and found.fork.extents:
            raise RefusedError(
                found.name, 0, "its data is on the realtime device, which is not in the image"
            )
        return Content(found.size, self._runs(found))

    def _runs(self, inode: Inode) -> list[Run]:
        """Return where a file's bytes are, in whole blocks, without a gap up to its size."""
        runs: list[Run] = []
        size = self._geometry.block_size
        position = 0
        for first, count, place in self._extents.of(inode, inode.fork):
            start = first * size
            if start >= inode.size:
                # Allocated for what may be written there.
                break
            if start > position:
                join(runs, position, start - position, -1)
            join(runs, start, count * size, place)
            position = start + count * size
        if position < inode.size:
            join(runs, position, inode.size - position, -1)
        return runs

    def read(self, inode: int, _stream: bytes, _offset: int, _length: int) -> bytes:
        """Raise: every file has its place."""
        raise DamagedError(f"xfs.inode {inode}", 0, "it lies in its blocks")

    # -- directories ---------------------------------------------------------

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for name, number in self._directories.names(self._directory(inode), tell):
            try:
                yield self._entry(name, self._inode(number))
            except (DamagedError, FileNotFoundError, RefusedError) as error:
                tell(f"{name!r}: {error}")

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        number = self._directories.find(self._directory(inode), name)
        return None if number is None else self._entry(name, self._inode(number))

    def _directory(self, number: int) -> Inode:
        inode = self._inode(number)
        if inode.kind != stat.S_IFDIR:
            raise NotADirectoryError(f"inode {number} is no directory")
        return inode

    # -- what else there is --------------------------------------------------

    def attributes(self, inode: int, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of a file."""
        return self._attributes.all(self._inode(inode), tell)

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return that there are none."""
        self._inode(inode)
        return []


def _device(inode: Inode) -> int:
    """Return a device's number: 18 bits of the minor one, above them nine of the major one."""
    if inode.fork.format != DEVICE:
        raise DamagedError(inode.name, 0, "it is a device without a number")
    (stored,) = struct.unpack_from(">I", inode.fork.data)
    return os.makedev(stored >> 18 & 0x1FF, stored & 0x3FFFF)
