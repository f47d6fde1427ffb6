"""ext2, ext3 and ext4: groups, inodes, directories.

Read here and not by a library, for what decides whether a file can be read at all, the flags of its
inode and of its extents, no library tells; and what is parsed twice is one day parsed differently.
Source: fs/ext4/ext4.h, super.c and inline.c of Linux, and its ext4 documentation.
"""

from __future__ import annotations

import collections
import os
import stat
import struct
from typing import TYPE_CHECKING, Any

from ..errors import DamagedError, RefusedError
from .driver import Content, check_all_was_read
from .ext_attributes import ExtAttributes
from .ext_checksums import ExtChecksums
from .ext_inode import EXTENTS_FLAG, BlockMaps, Inode
from .ext_journal import Journal, ReplayedSource
from .source import PAGE
from .wire import ENCRYPTED, LOST, Entry, Times, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Run, Tell
    from .source import Source, VolumeSource
    from .wire import Row

_META_BG, _64_BIT = 0x10, 0x80
_SPARSE_SUPER, _SPARSE_SUPER_2 = 0x1, 0x200

_COMPRESSED_FLAG, _ENCRYPT_FLAG = 0x4, 0x800
_EA_INODE_FLAG, _INLINE_DATA_FLAG, _HUGE_FILE_FLAG = 0x200000, 0x10000000, 0x40000

_IN_INODE = 60
_IS_LINUX = 0

_INODE = struct.Struct("<HHIIIIIHHIII")
_LONGEST_TARGET = 4096
_OLD_SIZE = 128
_MORE_TIMES = 24
"""Bytes beyond the old size up to where it was made, the last that is read."""

_LINKS = 26
_MODIFIED, _MODIFIED_MORE = struct.Struct("<i"), struct.Struct("<I")
_TYPE = 0o170000

_NAME = struct.Struct("<IHBB")
_SHORTEST = 8
"""Bytes of an entry without its name."""

_TYPES = {
    stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO,
    stat.S_IFSOCK,
}  # fmt: skip


class Ext:
    """An ext file system.

    Args:
        source: the volume.
    """

    root = 2

    def __init__(self, source: VolumeSource) -> None:
        self._source = source
        data = source.read(1024, 1024)
        self._inodes, low = struct.unpack_from("<II", data, 0)
        (self._first_block, log_block) = struct.unpack_from("<II", data, 20)
        (self._blocks_per_group,) = struct.unpack_from("<I", data, 32)
        (self._per_group,) = struct.unpack_from("<I", data, 40)
        revision = int.from_bytes(data[76:80], "little")
        self._inode_size = _OLD_SIZE
        incompat = ro_compat = compat = 0
        if revision:
            (self._inode_size,) = struct.unpack_from("<H", data, 88)
            compat, incompat, ro_compat = struct.unpack_from("<III", data, 92)
        self.block_size: int = 1024 << log_block
        self._is_linux = int.from_bytes(data[72:76], "little") == _IS_LINUX
        self._descriptor_size = 32
        high = 0
        if incompat & _64_BIT:
            (self._descriptor_size,) = struct.unpack_from("<H", data, 254)
            (high,) = struct.unpack_from("<I", data, 0x150)
        self.blocks = high << 32 | low
        is_sane = (
            log_block <= 6  # noqa: PLR2004 - 64 KiB
            and self._per_group
            and self._blocks_per_group
            and self._inode_size in {128 << shift for shift in range(10)}
            and self._inode_size <= self.block_size
            and self._descriptor_size in {32 << shift for shift in range(6)}
            and self._first_block <= 1
        )
        if not is_sane:
            raise DamagedError("ext.superblock", 1024, "its sizes cannot be")
        self._first_meta_bg = None
        if incompat & _META_BG:
            (self._first_meta_bg,) = struct.unpack_from("<I", data, 260)
        self._is_sparse = bool(ro_compat & _SPARSE_SUPER)
        self._backups: tuple[int, ...] | None = None
        if compat & _SPARSE_SUPER_2:
            self._backups = struct.unpack_from("<II", data, 0x24C)
        self._journal = int.from_bytes(data[224:228], "little")
        self._tables: dict[int, int] = {}
        self._doubtful: set[int] = set()
        features = compat, incompat, ro_compat
        self.checksums = ExtChecksums(data, features, self.block_size, self._inode_size)
        self._maps = BlockMaps(
            source, self.block_size, self._first_block, self.blocks, self.checksums
        )
        self._attributes = ExtAttributes(self)

    def replayed(self, source: Source) -> ReplayedSource:
        """Return the volume as it is once its journal was replayed.

        Raises:
            RefusedError: its journal is not read.
            DamagedError: its journal cannot be read.
        """
        if not self._journal:
            raise RefusedError(
                "ext.journal", 0,
                "it is on another device: --as-is reads the rest as it lies there",
            )  # fmt: skip
        journal = Journal(source, self._maps.runs(self.inode(self._journal)).found, self.block_size)
        return ReplayedSource(source, journal.logged(), self.block_size)

    # -- inodes --------------------------------------------------------------

    def inode(self, number: int) -> Inode:
        """Return an inode.

        Raises:
            FileNotFoundError: there is none of this number.
            DamagedError: its place is outside of the volume, or its checksum is wrong.
        """
        if not 0 < number <= self._inodes:
            raise FileNotFoundError(f"there is no inode {number}")
        group, index = divmod(number - 1, self._per_group)
        table = self._tables.get(group)
        if table is None:
            table = self._tables[group] = self._table(group)
        offset = table + index * self._inode_size
        at = offset % PAGE
        try:
            data = self._source.page(offset // PAGE)[at : at + self._inode_size]
        except DamagedError:
            # What is missing of the page may be none of this inode.
            data = memoryview(self._source.read(offset, self._inode_size))
        if len(data) < self._inode_size:
            raise DamagedError("ext.inode", offset, f"inode {number} is outside of the volume")
        if self.checksums.has_inodes:
            try:
                self.checksums.check_inode(number, data, offset)
            except DamagedError as error:
                if group not in self._doubtful:
                    raise
                what = f"{error.detail}; the descriptor of group {group} has a wrong one too"
                raise DamagedError(error.structure, offset, what) from None
        return Inode(number, data)

    def _table(self, group: int) -> int:
        """Return where the inodes of a group begin, in bytes."""
        per_block = self.block_size // self._descriptor_size
        number, index = divmod(group, per_block)
        # With bigalloc, the first block of 1 KiB is one too, though it holds no superblock.
        block = 1024 // self.block_size + 1 + number
        if self._first_meta_bg is not None and number >= self._first_meta_bg:
            first = number * per_block
            has_super = int(self._has_super(first))
            if self.block_size == 1024 and not number and not self._first_block:  # noqa: PLR2004
                has_super += 1
            block = first * self._blocks_per_group + self._first_block + has_super
        offset = block * self.block_size + index * self._descriptor_size
        data = self._source.read(offset, self._descriptor_size)
        if not self.checksums.is_right_group(group, data):
            self._doubtful.add(group)
        found = int.from_bytes(data[8:12], "little")
        if self._descriptor_size >= 64:  # noqa: PLR2004
            found |= int.from_bytes(data[40:44], "little") << 32
        if not 0 < found < self.blocks:
            raise DamagedError(
                "ext.group_descriptor", offset,
                f"group {group} has its inodes at block {found} of {self.blocks}",
            )  # fmt: skip
        return found * self.block_size

    def _has_super(self, group: int) -> bool:
        """Tell whether a group begins with a copy of the superblock."""
        if not group:
            return True
        if self._backups is not None:
            return group in self._backups
        if group == 1 or not self._is_sparse:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        return self._entry(b"", self.inode(inode))

    def _entry(self, name: bytes, inode: Inode) -> Entry:
        data = inode.data
        _mode, uid, _size, _at, _ct, _mt, _dt, gid, links, blocks, flags, _ = _INODE.unpack_from(
            data
        )
        number = inode.number
        self._check_is_file(inode)
        if self._is_linux:
            blocks_high, _acl, uid_high, gid_high = struct.unpack_from("<HHHH", data, 116)
            uid |= uid_high << 16
            gid |= gid_high << 16
            blocks |= blocks_high << 32
        stored = blocks * (self.block_size if flags & _HUGE_FILE_FLAG else 512)
        device, target = 0, b""
        if inode.kind == stat.S_IFLNK:
            target = self._target(inode)
        elif inode.kind in {stat.S_IFCHR, stat.S_IFBLK}:
            device = _device(inode.block)
        return Entry(
            name, number, inode.size, inode.mode, links, uid, gid, device,
            min(stored, (1 << 64) - 1), self._times(data), target,
            ENCRYPTED if flags & _ENCRYPT_FLAG else 0,
        )  # fmt: skip

    def _check_is_file(self, inode: Inode) -> None:
        """Check that a name may lead to an inode.

        Raises:
            DamagedError: it is deleted, or of no type.
        """
        if inode.data[_LINKS] or inode.data[_LINKS + 1]:
            if inode.mode & _TYPE in _TYPES:
                return
            what = f"has the mode 0o{inode.mode:o}"
        else:
            what = "is deleted"
        raise DamagedError(f"ext.inode {inode.number}", 0, f"a name leads to it, but it {what}")

    def _has_more_times(self, data: memoryview) -> bool:
        """Tell whether an inode is large enough for nanoseconds, and when it was made."""
        return self._inode_size > _OLD_SIZE and data[128] | data[129] << 8 >= _MORE_TIMES

    def _times(self, data: memoryview) -> Times:
        accessed, changed, modified = struct.unpack_from("<iii", data, 8)
        changed_more, modified_more, accessed_more, created, created_more = (
            struct.unpack_from("<IIIiI", data, 132)
            if self._has_more_times(data)
            else (0, 0, 0, 0, 0)
        )
        return Times(
            _moment(modified, modified_more),
            _moment(accessed, accessed_more),
            _moment(changed, changed_more),
            _moment(created, created_more) if created or created_more else None,
        )

    def _target(self, inode: Inode) -> bytes:
        if inode.flags & _ENCRYPT_FLAG:
            return b""
        if inode.size > _LONGEST_TARGET:
            raise DamagedError(f"ext.inode {inode.number}", 0, f"a link of {inode.size} bytes")
        if inode.flags & _INLINE_DATA_FLAG:
            return self._inline(inode)[: inode.size]
        if inode.size < _IN_INODE and not inode.flags & EXTENTS_FLAG:
            return bytes(inode.block[: inode.size])
        return self._bytes(inode, 0, inode.size)

    # -- where bytes are -----------------------------------------------------

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file are."""
        if stream:
            raise FileNotFoundError("ext has no other streams")
        found = self.inode(inode)
        self.check_readable(found)
        if found.kind != stat.S_IFREG:
            return Content(0, ())
        if found.flags & _INLINE_DATA_FLAG:
            return Content(found.size, None)
        mapped = self._maps.runs(found)
        runs: list[Run] | None = mapped.found
        if isinstance(self._source, ReplayedSource):
            runs = self._source.redirect(mapped.found)
        return Content(found.size, runs, mapped.reasons)

    def check_readable(self, inode: Inode) -> None:
        """Check that what a file holds is what is stored.

        Raises:
            RefusedError: it is not.
        """
        name = f"ext.inode {inode.number}"
        if inode.flags & _ENCRYPT_FLAG:
            raise RefusedError(name, 0, "it is encrypted (fscrypt): its key is not in the image")
        if inode.flags & _COMPRESSED_FLAG:
            raise RefusedError(name, 0, "it is compressed by e2compr, which is not read")

    def read(self, inode: int, stream: bytes, offset: int, length: int) -> bytes:
        """Return bytes of a file that is in its inode."""
        self.content(inode, stream)
        found = self.inode(inode)
        if found.flags & _INLINE_DATA_FLAG:
            data = self._inline(found)[: found.size]
            return (data + bytes(found.size - len(data)))[offset : offset + length]
        return self._bytes(found, offset, max(0, min(length, found.size - offset)))

    def _bytes(self, inode: Inode, offset: int, length: int) -> bytes:
        """Return bytes of a file by its runs, which `offset` and `length` are inside of."""
        data = bytearray(length)
        runs = self._maps.runs(inode)
        for start, count, place in runs.there(offset, offset + length, f"ext.inode {inode.number}"):
            data[start - offset : start - offset + count] = self._source.read(place, count)
        return bytes(data)

    def large_value(self, number: int, size: int, owner: Inode) -> bytes:
        """Return the value of an attribute of `owner` that has an inode of its own."""
        inode = self.inode(number)
        if not inode.flags & _EA_INODE_FLAG or inode.size != size:
            raise DamagedError(f"ext.inode {number}", 0, "it is no value of an attribute")
        value = self._bytes(inode, 0, size)
        self.checksums.check_value(inode, value, owner)
        return value

    def _inline(self, inode: Inode) -> bytes:
        """Return what is in the inode itself: as many bytes as there is room for."""
        return bytes(inode.block) + self._attributes.inline_rest(inode)

    # -- directories ---------------------------------------------------------

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for name, number in self._names(self._directory(inode), tell):
            try:
                yield self._entry(name, self.inode(number))
            except (DamagedError, FileNotFoundError) as error:
                tell(f"{name!r}: {error}")

    def rows(self, inode: int, tell: Tell) -> Iterator[Row]:
        """Yield what a directory has, in short."""
        for name, number in self._names(self._directory(inode), tell):
            try:
                found = self.inode(number)
                self._check_is_file(found)
            except (DamagedError, FileNotFoundError) as error:
                tell(f"{name!r}: {error}")
                continue
            data = found.data
            (seconds,) = _MODIFIED.unpack_from(data, 16)
            (more,) = _MODIFIED_MORE.unpack_from(data, 136) if self._has_more_times(data) else (0,)
            written = _moment(seconds, more)
            flags = ENCRYPTED if found.flags & _ENCRYPT_FLAG else 0
            yield (
                name,
                number,
                found.size,
                moment(written) if more & 3 else written,
                found.mode,
                flags,
            )

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        problems: collections.deque[str] = collections.deque(maxlen=1)
        for each, number in self._names(self._directory(inode), problems.append):
            if each == name:
                return self._entry(name, self.inode(number))
        check_all_was_read(f"ext.inode {inode}", problems)
        return None

    def _directory(self, number: int) -> Inode:
        inode = self.inode(number)
        if inode.kind != stat.S_IFDIR:
            raise NotADirectoryError(f"inode {number} is no directory")
        if inode.flags & _ENCRYPT_FLAG:
            raise RefusedError(
                f"ext.inode {number}", 0, "its names are encrypted (fscrypt); the key is not here"
            )
        return inode

    def _names(self, inode: Inode, tell: Tell) -> Iterator[tuple[bytes, int]]:
        if inode.flags & _INLINE_DATA_FLAG:
            # The number of the parent stands before the names.
            yield from self._names_in(bytes(inode.block[4:]), inode, 0, tell)
            rest = self._attributes.inline_rest(inode)
            if rest:
                yield from self._names_in(rest, inode, _IN_INODE, tell)
            return
        size = self.block_size
        runs = self._maps.runs(inode)
        for number, (start, count, place) in enumerate(runs.found):
            if place < 0:
                if start < inode.size:
                    why = runs.why(number) if place == LOST else "they are a hole"
                    tell(
                        f"directory {inode.number}: bytes [{start}, {start + count}) are missing:"
                        f" {why}"
                    )
                continue
            for at in range(0, min(count, max(0, inode.size - start)), size):
                try:
                    block = self._source.read(place + at, size)
                    self.checksums.check_directory(inode, block, (start + at) // size, place + at)
                except DamagedError as error:
                    stop = start + at + size
                    tell(
                        f"directory {inode.number}: what is in [{start + at}, {stop}) is lost:"
                        f" {error}"
                    )
                    continue
                yield from self._names_in(block, inode, start + at, tell)

    def _names_in(
        self, block: bytes, inode: Inode, start: int, tell: Tell
    ) -> Iterator[tuple[bytes, int]]:
        position, stop = 0, len(block)
        unpack = _NAME.unpack_from
        while position + 8 <= stop:
            # Without the feature filetype, the byte behind the length of the name is not looked at
            # by Linux, and holds whatever was there before.
            number, length, name_length, _kind = unpack(block, position)
            if length in {0xFFFF, 0} and stop == 1 << 16:
                length = stop - position if position == 0 or length == 0 else 0xFFFC
            if (
                length < _SHORTEST
                or length & 3
                or position + length > stop
                or (number and 8 + name_length > length)
            ):
                tell(
                    f"directory {inode.number}: what stands at {start + position} is no entry;"
                    f" what follows it up to {start + stop} is lost"
                )
                return
            if number:
                name = block[position + 8 : position + 8 + name_length]
                if not name or b"/" in name or b"\0" in name:
                    tell(f"directory {inode.number}: {name!r} at {start + position} is no name")
                elif name not in {b".", b".."}:
                    yield name, number
            position += length

    # -- what else there is --------------------------------------------------

    def attributes(self, inode: int, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of a file."""
        return self._attributes.all(self.inode(inode), tell)

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return that there are none."""
        self.inode(inode)
        return []

    def block(self, number: int) -> bytes:
        """Return a block of the volume.

        Raises:
            DamagedError: there is none of this number.
        """
        if not self._first_block < number < self.blocks:
            raise DamagedError("ext.block", 0, f"there is no block {number}")
        return self._source.read(number * self.block_size, self.block_size)


def open_ext(source: Source, _kind: str, options: Mapping[str, Any]) -> Ext:
    """Return an ext file system; with the option ``replay``, as its journal would have it."""
    found = Ext(source)
    # What the journal holds may be the superblock itself.
    return Ext(found.replayed(source)) if options.get("replay") else found


def _is_power(number: int, base: int) -> bool:
    while number > 1 and not number % base:
        number //= base
    return number == 1


def _moment(seconds: int, more: int) -> int:
    """Return nanoseconds since 1970: two bits beside the nanoseconds go on with the seconds."""
    return (seconds + ((more & 3) << 32)) * 1_000_000_000 + (more >> 2)


def _device(block: memoryview) -> int:
    old, new = struct.unpack_from("<II", block)
    if old:
        return os.makedev(old >> 8 & 0xFF, old & 0xFF)
    return os.makedev((new & 0xFFF00) >> 8, (new & 0xFF) | (new >> 12 & 0xFFF00))
