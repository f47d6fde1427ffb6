"""exFAT: sets of entries, and files by chains of clusters or without them.

Source: Microsoft's exFAT file system specification.
"""

from __future__ import annotations

import collections
import contextlib
import stat
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DamagedError
from .driver import Content, Runs, WithoutExtras, check_all_was_read
from .fat_chains import EXFAT, Chains, moment
from .wire import LOST, WALL_CLOCK, ZEROS, Entry, Times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Tell
    from .source import Source

_ENTRY = 32
_END, _FILE, _STREAM, _NAME = 0x00, 0x85, 0xC0, 0xC1
_IN_USE = 0x80
_MOST_SECONDARY = 18
_LEAST_SECONDARY = 2
_DIRECTORY = 0x10
_NO_CHAIN = 2
_OFFSET_IS_VALID = 0x80
_QUARTER = 15 * 60 * 1_000_000_000
_TEN_MILLISECONDS = 10_000_000
_LARGEST_DIRECTORY = 256 << 20


class _Set(NamedTuple):
    """The entries of one file.

    Attributes:
        number: the file's: where the first of them lies, in entries.
        name: what it is called.
        data: all of them.
    """

    number: int
    name: bytes
    data: bytes

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return bool(self.data[4] & _DIRECTORY)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many bytes were ever written, and how many there are."""
        written: int
        size: int
        (written,), (size,) = (
            struct.unpack_from("<Q", self.data, _ENTRY + 8),
            struct.unpack_from("<Q", self.data, _ENTRY + 24),
        )
        return written, size


class ExFat(WithoutExtras):
    """An exFAT.

    Args:
        source: the volume.
    """

    root = 1
    """No entry lies there: its number would be a place in the boot sector."""

    def __init__(self, source: Source, _kind: str, _options: Mapping[str, Any]) -> None:
        self._source = source
        boot = source.read(0, 512)
        table, table_size, heap, clusters, self._root = struct.unpack_from("<IIIII", boot, 80)
        (flags,) = struct.unpack_from("<H", boot, 106)
        sector, cluster, tables = boot[108], boot[109], boot[110]
        if not 9 <= sector <= 12 or sector + cluster > 25 or tables not in {1, 2}:  # noqa: PLR2004
            raise DamagedError("exfat.boot_sector", 0, "its sizes cannot be")
        if flags & 1 and tables == 2:  # noqa: PLR2004
            table += table_size
        self._size = 1 << (sector + cluster)
        self._heap = heap << sector
        self._chains = Chains(
            source, EXFAT, (table << sector, table_size << sector), (self._heap, clusters),
            self._size,
        )  # fmt: skip

    # -- entries -------------------------------------------------------------

    def _entry(self, name: bytes, found: _Set) -> Entry:
        data = found.data
        mode = stat.S_IFDIR | 0o755 if found.is_directory else stat.S_IFREG | 0o644
        stamps = struct.unpack_from("<III", data, 8)
        more = (data[20], data[21], 0)
        created, modified, accessed = (
            _moment(stamp, tens, offset)
            for stamp, tens, offset in zip(stamps, more, data[22:25], strict=True)
        )
        is_known = all(offset & _OFFSET_IS_VALID for offset in data[22:25])
        return Entry(
            name, found.number, 0 if found.is_directory else found.sizes[1], mode,
            times=Times(modified, accessed, None, created),
            flags=0 if is_known else WALL_CLOCK,
        )  # fmt: skip

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        if inode == self.root:
            return Entry(b"", inode, 0, stat.S_IFDIR | 0o755)
        return self._entry(b"", self._stored(inode))

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for found in self._sets(inode, tell):
            yield self._entry(found.name, found)

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        problems: collections.deque[str] = collections.deque(maxlen=1)
        for found in self._sets(inode, problems.append):
            if found.name == name:
                return self._entry(name, found)
        check_all_was_read(f"exfat.directory {inode}", problems)
        return None

    def _stored(self, number: int) -> _Set:
        """Return the entries of a file by its number.

        A set may go on in the next cluster of its directory. Which that is, by the table or behind
        the first, only the directory tells; the set's checksum tells as well.
        """
        offset = number * _ENTRY
        if offset < self._heap or offset + _ENTRY > self._source.size:
            raise FileNotFoundError(f"there is no entry {number}")
        data = self._source.read(offset, _ENTRY)
        if data[0] != _FILE:
            raise FileNotFoundError(f"entry {number} is no file's")
        left = self._size - (offset - self._heap) % self._size
        want = (data[1] + 1) * _ENTRY
        data = self._source.read(offset, min(want, left))
        if want <= left:
            return _parsed(number, data)
        cluster = (offset - self._heap) // self._size + 2
        failure: DamagedError | None = None
        for place in self._following(cluster):
            try:
                return _parsed(number, data + self._source.read(place, want - left))
            except DamagedError as error:
                failure = error
        raise failure or DamagedError(f"exfat.file {number}", offset, "its entries are cut off")

    def _following(self, cluster: int) -> Iterator[int]:
        """Yield where a directory may go on behind a cluster of it."""
        for behind in (self._chains.following(cluster), cluster + 1):
            with contextlib.suppress(DamagedError):
                yield self._chains.place(behind, "exfat.directory")

    def _sets(self, inode: int, tell: Tell) -> Iterator[_Set]:
        waiting = b""
        number = want = 0
        for place, data in self._slots(inode, tell):
            kind = data[0]
            if kind == _END:
                break
            if kind == _FILE:
                if waiting:
                    tell(f"directory {inode}: what stands at entry {number} is not whole")
                waiting, number, want = data, place, (data[1] + 1) * _ENTRY
            elif waiting:
                waiting += data
            if waiting and len(waiting) >= want:
                try:
                    yield _parsed(number, waiting)
                except DamagedError as error:
                    tell(str(error))
                waiting = b""
        if waiting:
            tell(f"directory {inode}: what stands at entry {number} is not whole")

    def _slots(self, inode: int, tell: Tell) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of a directory as they lie there, and their numbers."""
        if inode == self.root:
            runs = self._of_root(tell)
        else:
            found = self._stored(inode)
            if not found.is_directory:
                raise NotADirectoryError(f"entry {inode} is no directory")
            size = found.sizes[1]
            if size > _LARGEST_DIRECTORY:
                raise DamagedError(f"exfat.directory {inode}", 0, f"it has {size} bytes")
            runs = self._runs(found, size, f"exfat.directory {inode}")
        for number, (start, length, place) in enumerate(runs.found):
            if place == LOST:
                tell(
                    f"directory {inode}: bytes [{start}, {start + length}) are missing:"
                    f" {runs.why(number)}"
                )
                continue
            for at in range(0, length, self._size):
                try:
                    data = self._source.read(place + at, min(self._size, length - at))
                except DamagedError as error:
                    tell(f"directory {inode}: {error}")
                    continue
                for position in range(0, len(data) - _ENTRY + 1, _ENTRY):
                    yield (place + at + position) // _ENTRY, data[position : position + _ENTRY]

    def _of_root(self, tell: Tell) -> Runs:
        found = Runs()
        most = _LARGEST_DIRECTORY // self._size + 1
        try:
            for place in self._chains.places(self._root, most, "exfat.root"):
                found.add(found.stop + self._size, place)
        except DamagedError as error:
            tell(str(error))
        return found

    # -- what files hold -----------------------------------------------------

    def _runs(self, found: _Set, size: int, what: str) -> Runs:
        """Return where the first `size` bytes of a file are."""
        (first,) = struct.unpack_from("<I", found.data, _ENTRY + 20)
        if not found.data[_ENTRY + 1] & _NO_CHAIN:
            return self._chains.runs(first, size, what)
        runs = Runs()
        behind = self._chains.clusters + 2
        if 2 <= first < behind:  # noqa: PLR2004
            runs.add(min(size, (behind - first) * self._size), self._chains.place(first, what))
        runs.lose(size, f"its clusters begin at {first}, and the volume's end before {behind}")
        return runs

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file are; those that were never written are zeros."""
        if stream:
            raise FileNotFoundError("exFAT has no other streams")
        if inode == self.root:
            return Content(0, ())
        found = self._stored(inode)
        if found.is_directory:
            return Content(0, ())
        written, size = found.sizes
        what = f"exfat.file {inode}"
        if written > size:
            raise DamagedError(what, 0, f"{written} bytes of its {size} were written")
        runs = self._runs(found, written, what)
        runs.add(size, ZEROS)
        return Content(size, runs.found, runs.reasons)


def _parsed(number: int, data: bytes) -> _Set:
    """Return a set of entries.

    Raises:
        DamagedError: they are none, or have another checksum than is stored.
    """
    what = f"exfat.file {number}"
    if not _LEAST_SECONDARY <= data[1] <= _MOST_SECONDARY or len(data) != (data[1] + 1) * _ENTRY:
        raise DamagedError(what, number * _ENTRY, "its entries are none")
    total = 0
    for place, byte in enumerate(data):
        if place not in {2, 3}:
            total = ((total & 1) << 15) + (total >> 1) + byte & 0xFFFF
    if total != int.from_bytes(data[2:4], "little"):
        raise DamagedError(what, number * _ENTRY, "its entries have another checksum")
    if data[_ENTRY] != _STREAM:
        raise DamagedError(what, number * _ENTRY, "it has no stream")
    units = b"".join(
        data[at + 2 : at + _ENTRY]
        for at in range(2 * _ENTRY, len(data), _ENTRY)
        if data[at] == _NAME
    )
    length = data[_ENTRY + 3]
    if not 0 < length <= len(units) // 2:
        raise DamagedError(what, number * _ENTRY, "its name is cut off")
    name = units[: 2 * length].decode("utf-16-le", "surrogatepass")
    encoded = name.encode("utf-8", "surrogatepass")
    if "/" in name or "\0" in name:
        raise DamagedError(what, number * _ENTRY, f"{encoded!r} is no name")
    return _Set(number, encoded, data)


def _moment(stamp: int, tens: int, offset: int) -> int | None:
    found = moment(stamp >> 16, stamp & 0xFFFF)
    if found is None:
        return None
    if offset & _OFFSET_IS_VALID:
        # Seven bits with a sign: quarters of an hour east of UTC.
        quarters = (offset & 0x7F) - (0x80 if offset & 0x40 else 0)
        found -= quarters * _QUARTER
    return found + tens * _TEN_MILLISECONDS
