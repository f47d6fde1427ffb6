"""FAT12, FAT16 and FAT32: directories and chains of clusters.

Read here and not by a library: The Sleuth Kit puts other characters in the place of some in short
names. Source: Microsoft's FAT32 File System Specification.
"""

from __future__ import annotations

import collections
import stat
import struct
from typing import TYPE_CHECKING, Any

from ...formats.superblocks.fat import geometry
from ..errors import DamagedError
from .driver import Content, WithoutExtras, check_all_was_read
from .fat_chains import Chains, moment
from .wire import WALL_CLOCK, Entry, Times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Tell
    from .source import Source

_ENTRY, _SECTOR = 32, 512
_DELETED, _LAST, _WAS_E5 = 0xE5, 0x00, 0x05
_LONG_NAME, _VOLUME, _DIRECTORY = 0x0F, 0x08, 0x10
_LAST_PIECE, _PIECE_MASK = 0x40, 0x3F
_UNITS = 13
_LOWER_NAME, _LOWER_SUFFIX = 0x08, 0x10
_TEN_MILLISECONDS = 10_000_000
_LARGEST_DIRECTORY = 65536 * _ENTRY


class Fat(WithoutExtras):
    """A FAT.

    Args:
        source: the volume.
    """

    root = 1
    """No entry lies there: its number would be a place in the boot sector."""

    def __init__(self, source: Source, _kind: str, _options: Mapping[str, Any]) -> None:
        self._source = source
        found = geometry(source.read(0, 512))
        if found is None:
            raise DamagedError("fat.boot_sector", 0, "its sizes cannot be")
        self._at = found
        self._chains = Chains(
            source, found.bits, (found.table, found.table_size), (found.data, found.clusters),
            found.cluster_size,
        )  # fmt: skip

    # -- entries -------------------------------------------------------------

    def _entry(self, name: bytes, number: int, data: bytes) -> Entry:
        is_directory = bool(data[11] & _DIRECTORY)
        mode = stat.S_IFDIR | 0o755 if is_directory else stat.S_IFREG | 0o644
        tenths, made, made_on, read_on = struct.unpack_from("<BHHH", data, 13)
        written, written_on = struct.unpack_from("<HH", data, 22)
        (size,) = struct.unpack_from("<I", data, 28)
        created = moment(made_on, made)
        times = Times(
            moment(written_on, written), moment(read_on, 0), None,
            None if created is None else created + tenths * _TEN_MILLISECONDS,
        )  # fmt: skip
        return Entry(
            name, number, 0 if is_directory else size, mode, times=times,
            flags=WALL_CLOCK,
        )  # fmt: skip

    def _stored(self, number: int) -> bytes:
        offset = number * _ENTRY
        if number < self._at.root // _ENTRY or offset + _ENTRY > self._source.size:
            raise FileNotFoundError(f"there is no entry {number}")
        data = self._source.read(offset, _ENTRY)
        if data[0] in {_DELETED, _LAST} or data[11] & _VOLUME:
            raise FileNotFoundError(f"entry {number} is no file's")
        return data

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        if inode == self.root:
            return Entry(b"", inode, 0, stat.S_IFDIR | 0o755)
        return self._entry(b"", inode, self._stored(inode))

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for name, number, data in self._names(inode, tell):
            yield self._entry(name, number, data)

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        problems: collections.deque[str] = collections.deque(maxlen=1)
        for each, number, data in self._names(inode, problems.append):
            if each == name:
                return self._entry(each, number, data)
        check_all_was_read(f"fat.directory {inode}", problems)
        return None

    def _names(self, inode: int, tell: Tell) -> Iterator[tuple[bytes, int, bytes]]:
        """Yield names, numbers and entries."""
        pieces = _Pieces()
        for number, data in self._slots(inode, tell):
            if data[0] == _LAST:
                return
            if data[0] == _DELETED:
                pieces = _Pieces()
            elif data[11] & 0x3F == _LONG_NAME:
                pieces.add(data)
            elif data[11] & _VOLUME:
                pieces = _Pieces()
            else:
                name = pieces.name(data) or short_name(data)
                pieces = _Pieces()
                if not name or b"/" in name or b"\0" in name:
                    tell(f"directory {inode}: {name!r} is no name")
                elif name not in {b".", b".."}:
                    yield name, number, data

    def _slots(self, inode: int, tell: Tell) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of a directory as they lie there, and their numbers."""
        for start, length in self._areas(inode, tell):
            for offset in range(start, start + length, _SECTOR):
                try:
                    data = self._source.read(offset, _SECTOR)
                except DamagedError as error:
                    tell(f"directory {inode}: {error}")
                    continue
                for at in range(0, _SECTOR, _ENTRY):
                    yield (offset + at) // _ENTRY, data[at : at + _ENTRY]

    def _areas(self, inode: int, tell: Tell) -> Iterator[tuple[int, int]]:
        step = self._at.cluster_size
        if inode == self.root:
            first = self._at.root_cluster
            if self._at.bits != 32:  # noqa: PLR2004
                yield self._at.root, self._at.root_size
                return
        else:
            data = self._stored(inode)
            if not data[11] & _DIRECTORY:
                raise NotADirectoryError(f"entry {inode} is no directory")
            first = self._first(data)
        most = max(1, _LARGEST_DIRECTORY // step)
        try:
            for place in self._chains.places(first, most, f"fat.directory {inode}"):
                yield place, step
        except DamagedError as error:
            tell(str(error))

    def _first(self, data: bytes) -> int:
        (low,) = struct.unpack_from("<H", data, 26)
        (high,) = struct.unpack_from("<H", data, 20)
        return int(low | high << 16) if self._at.bits == 32 else int(low)  # noqa: PLR2004

    # -- what files hold -----------------------------------------------------

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file are."""
        if stream:
            raise FileNotFoundError("FAT has no other streams")
        if inode == self.root:
            return Content(0, ())
        data = self._stored(inode)
        if data[11] & _DIRECTORY:
            return Content(0, ())
        (size,) = struct.unpack_from("<I", data, 28)
        runs = self._chains.runs(self._first(data), size, f"fat.file {inode}")
        return Content(size, runs.found, runs.reasons)


class _Pieces:
    """A long name, from its pieces, which stand before the short one, the last piece first."""

    def __init__(self) -> None:
        self._units = b""
        self._missing = 0
        self._sum = -1

    def add(self, data: bytes) -> None:
        """Take a piece; one that does not go on with those before begins anew."""
        number = data[0] & _PIECE_MASK
        if data[0] & _LAST_PIECE:
            self._units, self._missing, self._sum = b"", number, data[13]
        elif number != self._missing or data[13] != self._sum:
            self._units, self._missing, self._sum = b"", 0, -1
            return
        self._units = data[1:11] + data[14:26] + data[28:32] + self._units
        self._missing -= 1

    def name(self, data: bytes) -> bytes:
        """Return the name, if it is whole and of the entry that follows; else nothing."""
        if self._missing or self._sum != _checksum(data[:11]):
            return b""
        text = self._units.decode("utf-16-le", "surrogatepass")
        return text.partition("\0")[0].encode("utf-8", "surrogatepass")


def _checksum(name: bytes) -> int:
    total = 0
    for byte in name:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def short_name(data: bytes) -> bytes:
    """Return the name in an entry, with small letters where it says so.

    Which code page it is in, FAT does not say. What is the same character in 437 and 850, which
    Linux and mtools take it for, is that; of others the byte itself stands in the name.
    """
    first = bytes([_DELETED]) if data[0] == _WAS_E5 else data[:1]
    stem = _decoded((first + data[1:8]).rstrip(b" "), is_lower=bool(data[12] & _LOWER_NAME))
    suffix = _decoded(data[8:11].rstrip(b" "), is_lower=bool(data[12] & _LOWER_SUFFIX))
    return stem + b"." + suffix if suffix else stem


def _decoded(raw: bytes, *, is_lower: bool) -> bytes:
    found = []
    for byte in raw:
        one = bytes([byte])
        char = one.decode("cp437")
        if char == one.decode("cp850"):
            found.append((char.lower() if is_lower else char).encode())
        else:
            found.append(one)
    return b"".join(found)
