"""ISO 9660: with Rock Ridge where it has that, else with Joliet, else with its plain names.

Which of the trees is read, and how names are shown, is as Linux does it. The number of a directory
is where it lies, in bytes, and that of another file where its first directory record does: names of
a hard-linked file are files of their own, as Linux has them.

Source: ECMA-119, and fs/isofs of Linux.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ...formats.superblocks.iso9660 import (
    RECORD,
    SECTOR,
    descriptors,
    fields,
    tree_of,
)
from ..errors import DamagedError, RefusedError
from . import zisofs
from .driver import Content, Run, WithoutExtras, check_all_was_read, join
from .naming import distinct
from .rock_ridge import Facts, facts, kind_of, moment
from .wire import COMPRESSED, Entry, Times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Tell
    from .source import Source

_DIRECTORY, _ASSOCIATED, _MORE = 0x02, 0x04, 0x80
_ITSELF, _ABOVE = b"\0", b"\1"
_LARGEST_DIRECTORY = 256 << 20
_MOST_SECTIONS = 4096
_SHORTEST = RECORD + 1


class _Record(NamedTuple):
    """A directory record.

    Attributes:
        offset: where it lies in the volume.
        data: all of it.
    """

    offset: int
    data: bytes

    @property
    def flags(self) -> int:
        """Return its flags."""
        return self.data[25]

    @property
    def name(self) -> bytes:
        """Return its name as it is stored."""
        return self.data[RECORD : RECORD + self.data[32]]

    @property
    def size(self) -> int:
        """Return how many bytes it leads to."""
        return int.from_bytes(self.data[10:14], "little")

    @property
    def place(self) -> int:
        """Return in which sector what it leads to begins, behind an extended attribute record."""
        return int.from_bytes(self.data[2:6], "little") + self.data[1]


class _File(NamedTuple):
    """A file: its records, of which each leads to a section of it, and what the first tells."""

    records: list[_Record]
    told: Facts

    @property
    def first(self) -> _Record:
        """Return the record that tells of it."""
        return self.records[0]


class Iso9660(WithoutExtras):
    """An ISO 9660.

    Args:
        source: the volume.
    """

    def __init__(self, source: Source, _kind: str, _options: Mapping[str, Any]) -> None:
        self._source = source
        tree = tree_of(source.up_to, descriptors(source.up_to))
        if tree is None:
            raise DamagedError("iso9660.descriptor", 16 * SECTOR, "there is no primary one")
        self._tree = tree
        if tree.at.block_size != SECTOR:
            raise RefusedError(
                "iso9660", 0, f"logical blocks of {tree.at.block_size} bytes are not read"
            )
        self.root = _Record(0, tree.at.root).place * SECTOR
        # The directory in which a name was looked for last, and all of its names.
        self._last: tuple[int, dict[bytes, _File], list[str]] = (-1, {}, [])

    # -- records -------------------------------------------------------------

    def _record(self, offset: int) -> _Record:
        """Return the record at an offset.

        Raises:
            DamagedError: there is none.
        """
        left = SECTOR - offset % SECTOR
        data = self._source.read(offset, min(left, self._source.size - offset))
        length = data[0] if data else 0
        if not _SHORTEST <= length <= len(data) or RECORD + data[32] > length or not data[32]:
            raise DamagedError("iso9660.directory_record", offset, "it is none")
        return _Record(offset, data[:length])

    def _facts(self, record: _Record) -> Facts:
        if self._tree.skip is None:
            return Facts()
        length = record.data[32]
        # A name of an even length is followed by a byte that pads it.
        start = RECORD + length + 1 - length % 2
        if record.name != _ITSELF or record.offset != self.root:
            start += self._tree.skip
        problems: list[str] = []
        found = facts(fields(
            record.data[start:], record.offset + start, SECTOR, self._source.up_to,
            problems=problems,
        ))  # fmt: skip
        if problems:
            raise DamagedError("iso9660.directory_record", record.offset, problems[0])
        return found

    def _records(self, inode: int, tell: Tell) -> Iterator[_Record]:
        """Yield the records of a directory, without itself and its parent."""
        itself = self._itself(inode)
        if itself.size > _LARGEST_DIRECTORY:
            raise DamagedError("iso9660.directory", inode, f"it has {itself.size} bytes")
        for start in range(inode, inode + itself.size, SECTOR):
            at = start
            try:
                while at < start + SECTOR and self._source.read(at, 1) != b"\0":
                    record = self._record(at)
                    if record.name not in {_ITSELF, _ABOVE}:
                        yield record
                    at += len(record.data)
            except DamagedError as error:
                tell(f"directory {inode}: {error}; what follows it up to {start + SECTOR} is lost")

    def _itself(self, inode: int) -> _Record:
        """Return the record that a directory has of itself.

        Raises:
            NotADirectoryError: there is another file.
        """
        record = self._record(inode)
        if record.name != _ITSELF or not record.flags & _DIRECTORY:
            raise NotADirectoryError(f"what lies at {inode} is no directory")
        return record

    def _files(self, inode: int, tell: Tell) -> Iterator[_File]:
        """Yield the files of a directory."""
        waiting: list[_Record] = []
        for record in self._records(inode, tell):
            if record.flags & _ASSOCIATED:
                tell(f"directory {inode}: {record.name!r} has an associated file, not read")
                continue
            if waiting and waiting[0].name != record.name:
                tell(f"directory {inode}: {waiting[0].name!r} is not whole")
                waiting = []
            waiting.append(record)
            if record.flags & _MORE and len(waiting) < _MOST_SECTIONS:
                continue
            try:
                yield _File(waiting, self._facts(waiting[0]))
            except DamagedError as error:
                tell(f"directory {inode}: {error}")
            waiting = []
        if waiting:
            tell(f"directory {inode}: {waiting[0].name!r} is not whole")

    def _file(self, inode: int) -> _File:
        """Return a file by its number."""
        if not 0 < inode < self._source.size:
            raise FileNotFoundError(f"there is no file {inode}")
        found = [self._record(inode)]
        while found[-1].flags & _MORE and found[0].name != _ITSELF:
            at = found[-1].offset + len(found[-1].data)
            if at % SECTOR == 0 or self._source.read(at, 1) == b"\0":
                at = -(-at // SECTOR) * SECTOR
            following = self._record(at)
            if following.name != found[0].name or len(found) > _MOST_SECTIONS:
                raise DamagedError("iso9660.file", inode, "its last sections are missing")
            found.append(following)
        return _File(found, self._facts(found[0]))

    # -- entries -------------------------------------------------------------

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for name, found in self._named(inode, tell):
            try:
                yield self._entry(name, found)
            except (DamagedError, FileNotFoundError, NotADirectoryError) as error:
                tell(f"{name!r}: {error}")

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        if self._last[0] != inode:
            problems: list[str] = []
            self._last = inode, dict(self._named(inode, problems.append)), problems
        found = self._last[1].get(name)
        if found is None:
            check_all_was_read(f"iso9660.directory {inode}", self._last[2])
        return None if found is None else self._entry(name, found)

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        return self._entry(b"", self._file(inode))

    def _named(self, inode: int, tell: Tell) -> Iterator[tuple[bytes, _File]]:
        files = [each for each in self._files(inode, tell) if not each.told.is_relocated]
        names = (
            (*self._shown(each), number) for number, each in enumerate(files)
        )  # fmt: skip
        for name, number in distinct(names, inode, tell):
            yield name, files[number]

    def _shown(self, found: _File) -> tuple[bytes, bytes]:
        """Return how a name is shown, and how it is stored."""
        stored = found.first.name
        if found.told.name is not None:
            return found.told.name, found.told.name
        if self._tree.is_joliet:
            text = stored[: len(stored) & ~1].decode("utf-16-be", "surrogatepass")
            encoded = text.encode("utf-8", "surrogatepass")
            return encoded.removesuffix(b";1").rstrip(b".") or encoded, encoded
        shown = stored.lower()
        # The point before a version is one that the name must have.
        shown = shown.removesuffix(b".;1" if shown.endswith(b".;1") else b";1")
        return shown.replace(b";", b".").replace(b"/", b"."), stored

    def _entry(self, name: bytes, found: _File) -> Entry:
        record, told = found.first, found.told
        number = record.offset
        if told.child is not None:
            number = told.child * SECTOR
        elif record.flags & _DIRECTORY:
            number = record.place * SECTOR
        if number != record.offset:
            # What a directory is, it tells itself: another record may have led here.
            record = self._itself(number)
            told = self._facts(record)
        is_directory = bool(record.flags & _DIRECTORY)
        mode = told.mode
        if mode is None:
            mode = stat.S_IFDIR | 0o755 if is_directory else stat.S_IFREG | 0o644
        kind = kind_of(mode)
        if is_directory != (kind == stat.S_IFDIR):
            raise DamagedError("iso9660.PX", record.offset, f"its mode is 0o{mode:o}")
        times = told.times
        if times.modified is None:
            times = times._replace(modified=moment(record.data[18:25]))
        size = self._size(found) if kind == stat.S_IFREG else len(told.target)
        return Entry(
            name, number, size, mode, told.links, told.uid, told.gid,
            told.device if kind in {stat.S_IFBLK, stat.S_IFCHR} else 0,
            times=Times(*times), target=told.target if kind == stat.S_IFLNK else b"",
            flags=COMPRESSED if told.zisofs else 0,
        )  # fmt: skip

    # -- what files hold -----------------------------------------------------

    def _size(self, found: _File) -> int:
        if found.told.zisofs:
            return found.told.zisofs.size
        return sum(each.size for each in found.records)

    def _runs(self, found: _File) -> list[Run]:
        """Return where the bytes of a file are stored."""
        what = f"iso9660.file {found.first.offset}"
        runs: list[Run] = []
        position = 0
        for record in found.records:
            unit, gap = record.data[26], record.data[27]
            (sequence,) = struct.unpack_from("<H", record.data, 28)
            if unit or gap:
                raise RefusedError(what, record.offset, "it is interleaved, which is not read")
            if sequence not in {0, self._tree.at.sequence}:
                raise RefusedError(what, record.offset, f"it is on volume {sequence} of a set")
            if record is not found.records[-1] and record.size % SECTOR:
                raise DamagedError(what, record.offset, "a section of it ends within a block")
            place = record.place * SECTOR
            if record.size and place + record.size > self._source.size:
                raise DamagedError(
                    what, record.offset,
                    f"bytes [{place}, {place + record.size}) are not inside of the volume's"
                    f" {self._source.size}",
                )  # fmt: skip
            if record.size:
                join(runs, position, record.size, place)
            position += record.size
        return runs

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file are."""
        if stream:
            raise FileNotFoundError("ISO 9660 has no other streams")
        found = self._file(inode)
        if self._entry(b"", found).mode >> 12 != stat.S_IFREG >> 12:
            return Content(0, ())
        what = f"iso9660.file {inode}"
        if found.told.is_sparse:
            raise RefusedError(what, inode, "it is sparse (SF of Rock Ridge), which is not read")
        runs = self._runs(found)
        if found.told.zisofs:
            zisofs.check(found.told.zisofs, what)
            return Content(found.told.zisofs.size, None)
        return Content(self._size(found), runs)

    def read(self, inode: int, _stream: bytes, offset: int, length: int) -> bytes:
        """Return bytes of a file that is compressed."""
        found = self._file(inode)
        how = found.told.zisofs
        runs = self._runs(found)
        if how is None or len(runs) != 1:
            raise DamagedError(f"iso9660.file {inode}", inode, "it is not compressed in one piece")
        ((_start, size, place),) = runs

        def stored(start: int, count: int) -> bytes:
            if start + count > size:
                raise DamagedError(
                    f"iso9660.file {inode}", place, "what is stored of it ends early"
                )
            return self._source.read(place + start, count)

        return zisofs.read(how, f"iso9660.file {inode}", stored, offset, length)

    def attributes(self, inode: int, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return none: those that xorriso stores by AAIP are not read, which is told."""
        found = self._file(inode)
        if found.told.has_attributes:
            tell(f"file {inode}: its extended attributes and ACLs (AAIP) are not read")
        return []
