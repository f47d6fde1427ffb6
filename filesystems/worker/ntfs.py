"""NTFS, by The Sleuth Kit; what it does not tell, by the records and indexes themselves.

Source: tsk_fs.h of The Sleuth Kit; dir.c and compress.c of ntfs-3g.
"""

from __future__ import annotations

import bisect
import os
import stat
import struct
from typing import TYPE_CHECKING, Any

import pytsk3

from ..errors import DamagedError, RefusedError
from . import ntfs_records as records
from .driver import Content, Run, check_all_was_read, join, row_of
from .ntfs_index import Index
from .ntfs_reparse import LINKS, check_tag, target_of
from .ntfs_runs import Clusters, runs_of
from .ntfs_volume import ERRORS, TskVolume, damaged
from .wire import COMPRESSED, ENCRYPTED, REPARSE, ZEROS, Entry, Times, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Tell
    from .ntfs_index import Name
    from .source import Source
    from .wire import Row

_FIRST_USER_FILE = 16
_UNIT = 16
"""Clusters that are compressed together."""

_REGULAR, _DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
"""What stands for a mode where a file system has none."""

_MODES = {pytsk3.TSK_FS_META_TYPE_REG: _REGULAR, pytsk3.TSK_FS_META_TYPE_DIR: _DIRECTORY}

_IS_COMPRESSED, _IS_ENCRYPTED = 0x1, 0x4000
_INDEX = records.OF_NAMES.decode("utf-16-le").encode()
"""As the library has it."""

_INTERIX_LINK = b"IntxLNK\1"
_LONGEST_INTERIX = 8 + 2 * 4096
_TICKS_TO_1970 = 116_444_736_000_000_000


class Ntfs:
    """An NTFS.

    Args:
        source: the volume.
    """

    def __init__(self, source: Source, _kind: str, _options: Mapping[str, Any]) -> None:
        self._source = source
        self._volume = TskVolume(source)
        try:
            self._fs = pytsk3.FS_Info(self._volume, type=pytsk3.TSK_FS_TYPE_NTFS)
        except ERRORS as error:
            for why in self._volume.told():
                raise DamagedError("ntfs.volume", 0, why) from None
            raise damaged("ntfs.volume", error) from None
        self._problems = list(self._volume.told())
        info = self._fs.info
        self.root = int(info.root_inum)
        self._last = int(info.last_inum)
        self.block_size = int(info.block_size)
        self._records = self._open_records()

    def _open_records(self) -> records.Records:
        boot = self._source.read(0, 512)
        (per_record,) = struct.unpack_from("<b", boot, 64)
        size = 1 << -per_record if per_record < 0 else per_record * self.block_size
        (first,) = struct.unpack_from("<Q", boot, 48)
        self._volume.check_place("ntfs.mft", first * self.block_size, size)
        table = self._runs(self._attribute(self._open(0), records.DATA, b""))
        starts = [start for start, _length, _place in table]

        def read(offset: int, length: int) -> bytes:
            data = b""
            while length:
                number = bisect.bisect_right(starts, offset) - 1
                start, count, place = table[number]
                some = min(length, start + count - offset)
                if some <= 0 or place < 0:
                    raise DamagedError("ntfs.mft", offset, "a record is outside of the table")
                data += self._source.read(place + offset - start, some)
                offset, length = offset + some, length - some
            return data

        return records.Records(read, size, lambda number: self._whole(number, records.LIST))

    # -- inodes --------------------------------------------------------------

    def _open(self, inode: int) -> Any:  # noqa: ANN401 - the library has no types
        file = self._by_library(inode)
        if self._volume.missing and inode:
            # The library may have zeros in place of its record.
            self._records.attributes(inode)
        return file

    def _by_library(self, inode: int) -> Any:  # noqa: ANN401
        if not 0 <= inode <= self._last:
            raise FileNotFoundError(f"there is no file {inode}")
        try:
            return self._fs.open_meta(inode=inode)
        except ERRORS as error:
            raise damaged(f"ntfs.file {inode}", error) from None

    def _check_number(self, inode: int) -> None:
        if inode < _FIRST_USER_FILE and inode != self.root:
            raise FileNotFoundError(f"file {inode} is one of the file system's own")

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        self._check_number(inode)
        try:
            file = self._open(inode)
        except DamagedError:
            # For a single run that cannot be, the library refuses a file as a whole.
            return self._by_records(inode)
        return self._entry(b"", file)

    def _by_records(self, inode: int) -> Entry:
        """Return a file as its records tell of it."""
        found = self._records.attributes(inode)
        standard = next((each.value for each in found if each.kind == records.STANDARD), None)
        if standard is None or len(standard) < records.STANDARD_SIZE:
            raise DamagedError(f"ntfs.file {inode}", 0, "its record does not tell what it is")
        index = (records.INDEX_ROOT, records.OF_NAMES)
        is_directory = any((each.kind, each.name) == index for each in found)
        mode = _DIRECTORY if is_directory else _REGULAR
        return self._with_record(Entry(b"", inode, 0, mode))

    def _entry(self, name: bytes, file: Any) -> Entry:  # noqa: ANN401
        meta = file.info.meta
        if meta is None:
            raise DamagedError("file", 0, "it leads to no file")
        kind = _MODES.get(meta.type)
        number = int(meta.addr)
        if kind is None or not int(meta.flags) & int(pytsk3.TSK_FS_META_FLAG_ALLOC):
            raise DamagedError(f"ntfs.file {number}", 0, "a name leads to it, but it is deleted")
        size = 0 if kind & stat.S_IFDIR == stat.S_IFDIR else int(meta.size)
        entry = Entry(name, number, size, kind, max(1, int(meta.nlink)))
        return self._with_record(entry)

    # -- what NTFS has beside -------------------------------------------------

    def _with_record(self, entry: Entry) -> Entry:
        """Return an entry with what only the record tells."""
        found = self._records.attributes(entry.inode)
        flags = 0
        attributes = 0
        times = entry.times
        for each in found:
            if (
                each.kind == records.STANDARD
                and each.value is not None
                and len(each.value) >= records.STANDARD_SIZE
            ):
                # The library keeps 32 bits of seconds since 1970.
                created, modified, changed, accessed, attributes = struct.unpack_from(
                    "<4qI", each.value
                )
                times = Times(*map(_moment, (modified, accessed, changed, created)))
            elif each.kind == records.DATA and not each.name:
                flags |= _flags(each.flags)
                if not each.first and stat.S_ISREG(entry.mode):
                    # The library tells of none where a run of it cannot be.
                    entry = entry._replace(size=_size(entry.inode, each))
        links = len(set(records.names(found)))
        entry = entry._replace(flags=flags, links=max(1, links), times=times)
        tag, target = self._reparse(entry.inode, found)
        if tag in LINKS:
            entry = entry._replace(
                mode=stat.S_IFLNK | 0o777, target=target, size=len(target), flags=flags | REPARSE
            )
        elif tag is not None:
            entry = entry._replace(flags=flags | REPARSE)
        elif attributes & records.IS_SYSTEM and stat.S_ISREG(entry.mode):
            return self._interix(entry)
        return entry

    def _reparse(self, inode: int, found: list[records.Attribute]) -> tuple[int | None, bytes]:
        """Return the tag of a reparse point, and where it leads if it is a link."""
        point = next((each for each in found if each.kind == records.REPARSE), None)
        if point is None:
            return None, b""
        value = point.value if point.value is not None else self._whole(inode, records.REPARSE)
        if len(value) < 8:  # noqa: PLR2004
            raise DamagedError(f"ntfs.file {inode}", 0, "its reparse point is cut off")
        (tag,) = struct.unpack_from("<I", value)
        return tag, target_of(tag, value)

    def _interix(self, entry: Entry) -> Entry:
        """Return what a file of Services for Unix is, as ntfs-3g writes and reads it."""
        if entry.size in {0, 1}:
            kind = stat.S_IFSOCK if entry.size else stat.S_IFIFO
            return entry._replace(mode=kind | 0o644, size=0)
        if not 8 < entry.size <= _LONGEST_INTERIX:  # noqa: PLR2004
            return entry
        data = self.read(entry.inode, b"", 0, entry.size)
        if data[:8] == _INTERIX_LINK:
            target = data[8:].decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")
            return entry._replace(mode=stat.S_IFLNK | 0o777, target=target, size=len(target))
        kinds = {b"IntxCHR\0": stat.S_IFCHR, b"IntxBLK\0": stat.S_IFBLK}
        if data[:8] in kinds and len(data) == 24:  # noqa: PLR2004
            major, minor = struct.unpack_from("<QQ", data, 8)
            device = os.makedev(major & 0xFFF, minor & 0xFFFFF)
            return entry._replace(mode=kinds[data[:8]] | 0o644, size=0, device=device)
        return entry

    # -- directories ----------------------------------------------------------

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for why in self._problems if inode == self.root else ():
            tell(why)
        for each in self._names(inode, tell):
            entry = self._named_or_told(each, tell)
            if entry is not None:
                yield entry

    def rows(self, inode: int, tell: Tell) -> Iterator[Row]:
        """Yield what a directory has, in short: by records alone, where they are plain."""
        for why in self._problems if inode == self.root else ():
            tell(why)
        for each in self._names(inode, tell):
            number = each.number
            # Behind the last the library has what it makes up itself.
            is_plain = not self._volume.missing and number < self._last
            short = self._records.in_short(number, each.sequence) if is_plain else None
            if short is not None:
                mode = _DIRECTORY if short.is_directory else _REGULAR
                written = moment(_moment(short.modified))
                yield each.name, number, short.size, written, mode, _flags(short.flags)
                continue
            entry = self._named_or_told(each, tell)
            if entry is not None:
                yield row_of(entry)

    def _named_or_told(self, name: Name, tell: Tell) -> Entry | None:
        try:
            return self._named(name)
        except (
            DamagedError, RefusedError, FileNotFoundError, struct.error, UnicodeError,
        ) as error:  # fmt: skip
            tell(f"{name.name!r}: {error}")
            return None

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        problems: list[str] = []
        for each in self._names(inode, problems.append):
            if each.name == name:
                return self._named(each)
        check_all_was_read(f"ntfs.directory {inode}", problems)
        return None

    def _named(self, name: Name) -> Entry:
        try:
            file = self._open(name.number)
        except DamagedError:
            # For a single run that cannot be, the library refuses a file as a whole.
            return self._by_records(name.number)._replace(name=name.name)
        if name.sequence and file.info.meta is not None and file.info.meta.seq != name.sequence:
            raise DamagedError(
                f"ntfs.file {name.number}", 0, "a name leads to it that was another file's"
            )
        return self._entry(name.name, file)

    def _names(self, inode: int, tell: Tell) -> Iterator[Name]:
        self._check_number(inode)
        above = self._open(inode)
        if above.info.meta is None or above.info.meta.type != pytsk3.TSK_FS_META_TYPE_DIR:
            raise NotADirectoryError(f"file {inode} is no directory")
        what = f"ntfs.directory {inode}"
        root = next(
            (
                each.value
                for each in self._records.attributes(inode)
                if each.kind == records.INDEX_ROOT and each.name == records.OF_NAMES
            ),
            None,
        )
        if root is None:
            raise DamagedError(what, 0, "it has no index of names")

        def read(offset: int, length: int) -> bytes:
            try:
                blocks = self._attribute(above, records.INDEX_BLOCKS, _INDEX)
            except FileNotFoundError:
                raise DamagedError(what, 0, "the blocks of its index are not there") from None
            data = self._bytes(above, blocks, offset, length)
            if len(data) != length:
                raise DamagedError(what, 0, f"its index ends before {offset + length}")
            return data

        for each in Index(what, root, read, self.block_size).names(tell):
            # The root is in itself, and beside what the file system has for its own use.
            if each.name != b"." and each.number >= _FIRST_USER_FILE:
                yield each

    # -- what files hold --------------------------------------------------------

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file, or of one of its other streams, are."""
        if not stat.S_ISREG(self.stat(inode).mode) and not stream:
            return Content(0, ())
        found = self._records.attributes(inode)
        first = self._first_of(found, stream)
        if first is None:
            if not stream:
                return Content(0, ())
            raise FileNotFoundError(f"it has no stream {stream!r}")
        structure = f"ntfs.file {inode}"
        tag, _target = self._reparse(inode, found)
        if tag is not None and not stream:
            check_tag(structure, tag)
        if first.flags & _IS_ENCRYPTED:
            raise RefusedError(structure, 0, "it is encrypted (EFS): its key is not in the image")
        size = _size(inode, first)
        if first.value is not None:
            return Content(size, None)
        parts = [each for each in found if (each.kind, each.name) == (first.kind, first.name)]
        clusters = Clusters(self.block_size, self._source.size // self.block_size)
        if first.flags & _IS_COMPRESSED:
            stored = max(each.behind for each in parts) * self.block_size
            for why in runs_of(parts, clusters, stored, structure).reasons:
                # What its units are is not known without all of it.
                raise DamagedError(structure, 0, f"it is compressed, and {why}")
            return Content(size, None)
        runs = runs_of(parts, clusters, min(size, first.written), structure)
        runs.add(size, ZEROS)
        return Content(size, runs.found, runs.reasons)

    def _first_of(self, found: list[records.Attribute], stream: bytes) -> records.Attribute | None:
        """Return where what a file, or another stream of it, holds begins."""
        name = stream.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
        for each in found:
            if each.kind == records.DATA and each.name == name and not each.first:
                return each
        return None

    def _attribute(self, file: Any, kind: int, name: bytes) -> Any:  # noqa: ANN401
        for each in file:
            if int(each.info.type) == kind and (each.info.name or b"") == name:
                return each
        raise FileNotFoundError(f"it has no attribute {kind} {name!r}")

    def _runs(self, attribute: Any) -> list[Run]:  # noqa: ANN401
        size = self.block_size
        found: list[Run] = []
        nowhere = int(pytsk3.TSK_FS_ATTR_RUN_FLAG_SPARSE) | int(pytsk3.TSK_FS_ATTR_RUN_FLAG_FILLER)
        for run in attribute:
            place = -1 if int(run.flags) & nowhere else int(run.addr) * size
            join(found, int(run.offset) * size, int(run.len) * size, place)
        return found

    def read(self, inode: int, stream: bytes, offset: int, length: int) -> bytes:
        """Return bytes of what lies nowhere as it is."""
        first = self._first_of(self._records.attributes(inode), stream)
        if first is not None and first.value is not None:
            return first.value[offset : offset + length]
        file = self._open(inode)
        attribute = self._attribute(file, records.DATA, stream)
        return self._bytes(file, attribute, offset, length, unit=_UNIT * self.block_size)

    def _whole(self, inode: int, kind: int) -> bytes:
        """Return the first attribute of a kind of a file, whole."""
        # Not checked by its records: they are what asks for this.
        file = self._by_library(inode)
        attribute = next((each for each in file if int(each.info.type) == kind), None)
        if attribute is None or int(attribute.info.size) > 1 << 20:
            raise DamagedError(f"ntfs.file {inode}", 0, f"its attribute 0x{kind:x} is not there")
        return self._bytes(file, attribute, 0, int(attribute.info.size))

    def _bytes(
        self,
        file: Any,  # noqa: ANN401
        attribute: Any,  # noqa: ANN401
        offset: int,
        length: int,
        unit: int = 1,
    ) -> bytes:
        """Return bytes of an attribute, which are stored in units of `unit` bytes."""
        length = max(0, min(length, int(attribute.info.size) - offset))
        data = b""
        try:
            while len(data) < length:
                more = file.read_random(
                    offset + len(data), length - len(data), attribute.info.type, attribute.info.id
                )
                if not more:
                    raise DamagedError("file", 0, f"its bytes end at {offset + len(data)}")
                data += more
        except ERRORS as error:
            raise damaged(f"ntfs.file {file.info.meta.addr}", error) from None
        if self._volume.missing:
            structure = f"ntfs.file {file.info.meta.addr}"
            start, stop = offset // unit * unit, -(-(offset + length) // unit) * unit
            self._volume.check(structure, self._runs(attribute), start, stop)
        return data

    def attributes(self, inode: int, _tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return that there are none."""
        self.stat(inode)
        return []

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return the names and sizes of the other streams of a file."""
        self._check_number(inode)
        return [
            (each.name.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass"),
             _size(inode, each))
            for each in self._records.attributes(inode)
            if each.kind == records.DATA and each.name and not each.first
        ]  # fmt: skip


def _moment(ticks: int) -> int | None:
    """Return nanoseconds since 1970 of 100 ns since 1601; None where there is no time."""
    return (ticks - _TICKS_TO_1970) * 100 if ticks else None


def _flags(flags: int) -> int:
    """Return what an entry has of the flags of an attribute."""
    is_compressed, is_encrypted = flags & _IS_COMPRESSED, flags & _IS_ENCRYPTED
    return (COMPRESSED if is_compressed else 0) | (ENCRYPTED if is_encrypted else 0)


def _size(inode: int, first: records.Attribute) -> int:
    """Return the bytes of an attribute, which begins here.

    Raises:
        DamagedError: nothing has so many.
    """
    if first.size >= 1 << 63:
        raise DamagedError(f"ntfs.file {inode}", 0, f"it has {first.size} bytes")
    return first.size
