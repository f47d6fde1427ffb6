"""HFS+ and HFSX: the catalog, forks, hard links and attributes.

The number of a file is its CNID; that of a file with hard links is that of the file they lead to.
What is shown, and how attributes are called, is as Linux does it, but for resource forks, which are
the stream ``rsrc``.

Source: Apple's technical note TN1150, hfs_format.h of XNU, and fs/hfsplus of Linux.
"""

from __future__ import annotations

import collections
import stat
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DamagedError, RefusedError
from .driver import Content, WithoutExtras
from .hfsplus_names import as_stored, decoded, shown
from .hfsplus_trees import DATA, EXTENTS_FILE, FORK, RESOURCE, Forks, Record, Tree, extent_key
from .naming import distinct
from .wire import COMPRESSED, Entry, Times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .driver import Run, Tell
    from .source import Source

_FOLDER, _FILE, _FOLDER_THREAD, _FILE_THREAD = 1, 2, 3, 4
_LENGTHS = {_FOLDER: 88, _FILE: 248}
_ROOT, _CATALOG, _ATTRIBUTES = 2, 4, 8
_EPOCH = 2082844800
_SECOND = 1_000_000_000
_DATA_FORK, _RESOURCE_FORK = slice(88, 88 + FORK), slice(168, 168 + FORK)
_FINDER = slice(48, 80)
_HARD_LINK = b"hlnkhfs+"
_DIRECTORY_LINK = b"fdrpMACS"
_COMPRESSED_FLAG = 0x20
_PRIVATE = "\0\0\0\0HFS+ Private Data"
_PRIVATE_DIRECTORIES = ".HFS+ Private Directory Data\r"
_STREAM = b"rsrc"
_INLINE = 0x10
_NAMESPACES = (b"system.", b"user.", b"security.", b"trusted.")
_DECMPFS = b"com.apple.decmpfs"
_LONGEST_TARGET = 65535
_KEPT_DIRECTORIES, _KEPT_RECORDS = 16, 100_000


class _Item(NamedTuple):
    """A folder or file of the catalog.

    Attributes:
        text: its name as it is stored.
        data: its record.
    """

    text: str
    data: bytes

    @property
    def number(self) -> int:
        """Return its CNID."""
        return int.from_bytes(self.data[8:12], "big")

    @property
    def is_folder(self) -> bool:
        """Tell whether it is a folder."""
        return self.data[1] == _FOLDER

    @property
    def kind(self) -> bytes:
        """Return of a file what Finder takes it for: type and creator."""
        return b"" if self.is_folder else self.data[48:56]

    @property
    def special(self) -> int:
        """Return what its BSD information has beside owner and mode."""
        return int.from_bytes(self.data[44:48], "big")


class HfsPlus(WithoutExtras):
    """An HFS+, or an HFSX.

    Args:
        source: the volume.
    """

    root = _ROOT

    def __init__(self, source: Source, _kind: str, _options: Mapping[str, Any]) -> None:
        header = source.read(1024, 512)
        block_size, blocks = struct.unpack_from(">II", header, 40)
        if block_size < 512 or block_size & (block_size - 1):  # noqa: PLR2004
            raise DamagedError("hfsplus.volume_header", 1024, f"blocks of {block_size} bytes")
        if blocks * block_size > source.size:
            raise DamagedError(
                "hfsplus.volume_header", 1024,
                f"it has {blocks} blocks of {block_size} bytes in a volume of {source.size}",
            )  # fmt: skip
        self._forks = Forks(source, block_size, blocks)
        self._source = source
        runs = self._tree_runs(header[192:272], EXTENTS_FILE)
        if runs:
            self._forks.overflow = Tree(source, runs, extent_key, "hfsplus.extents")
        self._catalog = Tree(
            source, self._tree_runs(header[272:352], _CATALOG), _catalog_key, "hfsplus.catalog"
        )
        runs = self._tree_runs(header[352:432], _ATTRIBUTES)
        self._attributes = (
            Tree(source, runs, _attribute_key, "hfsplus.attributes") if runs else None
        )
        self._kept: collections.OrderedDict[int, dict[int, _Item]] = collections.OrderedDict()
        self._last: tuple[int, dict[bytes, _Item]] = (0, {})
        self._hidden: dict[str, int] | None = None

    def _tree_runs(self, fork: bytes, number: int) -> list[Run]:
        return self._forks.runs(fork, number, DATA, f"hfsplus.file {number}")

    # -- the catalog ---------------------------------------------------------

    def _folder(self, number: int) -> dict[int, _Item]:
        """Return what a folder has, by CNID, in the order of the catalog."""
        known = self._kept.get(number)
        if known is not None:
            self._kept.move_to_end(number)
            return known
        found: dict[int, _Item] = {}
        is_there = False
        for record in self._catalog.since((number, "")):
            if int.from_bytes(record.key[:4], "big") != number:
                break
            kind = int.from_bytes(record.data[:2], "big")
            if kind in _LENGTHS:
                item = _item(record, kind)
                found[item.number] = item
            elif kind == _FILE_THREAD:
                raise NotADirectoryError(f"file {number} is no directory")
            is_there = is_there or kind == _FOLDER_THREAD
        if not is_there:
            raise FileNotFoundError(f"there is no directory {number}")
        self._kept[number] = found
        while len(self._kept) > 1 and (
            len(self._kept) > _KEPT_DIRECTORIES
            or sum(map(len, self._kept.values())) > _KEPT_RECORDS
        ):
            self._kept.popitem(last=False)
        return found

    def _stored(self, number: int) -> _Item:
        """Return a folder or file by its CNID."""
        for items in self._kept.values():
            if number in items:
                return items[number]
        for record in self._catalog.since((number, "")):
            kind, parent = struct.unpack_from(">HxxI", record.data)
            if record.key[:6] != struct.pack(">IH", number, 0):
                break
            if kind not in {_FOLDER_THREAD, _FILE_THREAD}:
                break
            if number == _ROOT:
                return self._root_item(parent)
            item = self._folder(parent).get(number)
            if item is None:
                raise DamagedError(
                    "hfsplus.catalog", record.offset,
                    f"folder {parent} does not have file {number}, though its thread says so",
                )  # fmt: skip
            return item
        raise FileNotFoundError(f"there is no file {number}")

    def _root_item(self, parent: int) -> _Item:
        for record in self._catalog.since((parent, "")):
            if int.from_bytes(record.key[:4], "big") != parent:
                break
            if int.from_bytes(record.data[:2], "big") == _FOLDER:
                return _item(record, _FOLDER)
        raise DamagedError("hfsplus.catalog", 0, "there is no root folder")

    def _private(self, name: str) -> int | None:
        """Return the number of a folder at the root in which what is linked to is kept."""
        if self._hidden is None:
            self._hidden = {
                item.text: item.number
                for item in self._folder(_ROOT).values()
                if item.text in {_PRIVATE, _PRIVATE_DIRECTORIES} and item.is_folder
            }
        return self._hidden.get(name)

    def _followed(self, item: _Item) -> _Item:
        """Return what a hard link leads to; everything else as it is."""
        if item.kind != _HARD_LINK:
            return item
        private = self._private(_PRIVATE)
        name = f"iNode{item.special}"
        if private is not None:
            wanted = (private, name.lower())
            for record in self._catalog.since(wanted):
                kind = int.from_bytes(record.data[:2], "big")
                if _catalog_key(record.key) != wanted or kind != _FILE:
                    break
                return _item(record, kind)
        raise DamagedError("hfsplus.catalog", 0, f"a hard link leads to {name}, which is missing")

    # -- entries -------------------------------------------------------------

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has."""
        for name, item in self._named(inode, tell):
            try:
                yield self._entry(name, self._followed(item))
            except (DamagedError, RefusedError) as error:
                tell(f"{name!r}: {error}")

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to."""
        if self._last[0] != inode:
            self._last = inode, dict(self._named(inode, lambda _text: None))
        item = self._last[1].get(name)
        return None if item is None else self._entry(name, self._followed(item))

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name."""
        return self._entry(b"", self._stored(inode))

    def _named(self, inode: int, tell: Tell) -> Iterator[tuple[bytes, _Item]]:
        items = self._folder(inode)
        hidden = {self._private(_PRIVATE), self._private(_PRIVATE_DIRECTORIES)}
        names = (
            (shown(item.text), as_stored(item.text), number)
            for number, item in items.items()
            if number not in hidden
        )
        for name, number in distinct(names, inode, tell):
            yield name, items[number]

    def _entry(self, name: bytes, item: _Item) -> Entry:
        data = item.data
        created, modified, changed, accessed = map(_moment, struct.unpack_from(">4I", data, 12))
        uid, gid, mode = struct.unpack_from(">II2xH", data, 32)
        what = f"hfsplus.file {item.number}"
        if item.kind == _DIRECTORY_LINK:
            raise RefusedError(what, 0, "it is a hard link to a directory, which is not read")
        if item.is_folder:
            mode = stat.S_IFDIR | (stat.S_IMODE(mode) if mode else 0o755)
        mode = mode or stat.S_IFREG | 0o644
        kind = stat.S_IFMT(mode)
        if kind in {stat.S_IFCHR, stat.S_IFBLK}:
            raise RefusedError(what, 0, "it is a device, whose number Linux and macOS read unlike")
        if kind not in _KINDS or (kind == stat.S_IFDIR) != item.is_folder:
            raise DamagedError(what, 0, f"it has the mode 0o{mode:o}")
        size = stored = 0
        if not item.is_folder:
            size, blocks = struct.unpack_from(">Q4xI", data, _DATA_FORK.start)
            stored = blocks * self._forks.block_size
        target = self._target(item) if kind == stat.S_IFLNK else b""
        is_compressed = self._is_compressed(item)
        if is_compressed:
            size = self._size_before(item)
        return Entry(
            name, item.number, size, mode, self._links(item, kind), uid, gid, stored=stored,
            times=Times(modified, accessed, changed, created), target=target,
            flags=COMPRESSED if is_compressed else 0,
        )  # fmt: skip

    def _links(self, item: _Item, kind: int) -> int:
        return max(1, item.special) if kind == stat.S_IFREG else 1

    def _target(self, item: _Item) -> bytes:
        (size,) = struct.unpack_from(">Q", item.data, _DATA_FORK.start)
        what = f"hfsplus.file {item.number}"
        if size > _LONGEST_TARGET:
            raise DamagedError(what, 0, f"a link of {size} bytes")
        runs = self._forks.runs(item.data[_DATA_FORK], item.number, DATA, what)
        data = b"".join(self._source.read(place, count) for _start, count, place in runs)
        return data[:size]

    # -- what files hold -----------------------------------------------------

    def _is_compressed(self, item: _Item) -> bool:
        return not item.is_folder and bool(item.data[41] & _COMPRESSED_FLAG)

    def _size_before(self, item: _Item) -> int:
        """Return how many bytes a compressed file has, by its attribute."""
        for name, record in self._stored_attributes(item.number):
            if name == _DECMPFS and len(record.data) >= 32:  # noqa: PLR2004
                return int(struct.unpack_from("<Q", record.data, 24)[0])
        raise DamagedError(
            f"hfsplus.file {item.number}", 0, f"it is compressed, but has no {_DECMPFS.decode()}"
        )

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file, or of its resource fork, are."""
        item = self._stored(inode)
        what = f"hfsplus.file {inode}"
        if stream not in {b"", _STREAM}:
            raise FileNotFoundError("HFS+ has resource forks, and no other streams")
        if item.is_folder or self._entry(b"", item).mode >> 12 != stat.S_IFREG >> 12:
            return Content(0, ())
        if self._is_compressed(item):
            raise RefusedError(what, 0, "it is compressed (decmpfs), which is not read")
        kind, place = (RESOURCE, _RESOURCE_FORK) if stream else (DATA, _DATA_FORK)
        fork = item.data[place]
        (size,) = struct.unpack_from(">Q", fork)
        if stream and not size:
            raise FileNotFoundError("it has no resource fork")
        return Content(size, self._forks.runs(fork, inode, kind, what))

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return the resource fork of a file, if there is one."""
        item = self._stored(inode)
        if item.is_folder or self._is_compressed(item):
            return []
        (size,) = struct.unpack_from(">Q", item.data, _RESOURCE_FORK.start)
        return [(_STREAM, size)] if size else []

    # -- attributes ----------------------------------------------------------

    def _stored_attributes(self, number: int) -> Iterator[tuple[bytes, Record]]:
        if self._attributes is None:
            return
        for record in self._attributes.since((number, "")):
            if int.from_bytes(record.key[2:6], "big") != number:
                return
            yield shown(_attribute_name(record.key)), record

    def attributes(self, inode: int, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of a file, and what Finder knows of it."""
        item = self._stored(inode)
        found = []
        # So does Linux: of links and the like it tells none.
        is_told = stat.S_IFMT(self._entry(b"", item).mode) in {stat.S_IFREG, stat.S_IFDIR}
        if is_told and any(item.data[_FINDER]):
            found.append((b"osx.com.apple.FinderInfo", item.data[_FINDER]))
        for name, record in self._stored_attributes(inode):
            kind = int.from_bytes(record.data[:4], "big")
            if kind != _INLINE:
                tell(f"file {inode}: the attribute {name!r} is kept in extents, which is not read")
                continue
            (size,) = struct.unpack_from(">I", record.data, 12)
            value = record.data[16 : 16 + size]
            if len(value) < size:
                tell(f"file {inode}: the attribute {name!r} is cut off")
                continue
            found.append((name if name.startswith(_NAMESPACES) else b"osx." + name, value))
        return found


_KINDS = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK}


def _item(record: Record, kind: int) -> _Item:
    if len(record.data) < _LENGTHS[kind]:
        raise DamagedError("hfsplus.catalog", record.offset, "a record of it is cut off")
    return _Item(_catalog_name(record.key), record.data)


def _catalog_name(key: bytes) -> str:
    return _name(key, 4, "hfsplus.catalog")


def _attribute_name(key: bytes) -> str:
    return _name(key, 10, "hfsplus.attributes")


def _name(key: bytes, at: int, what: str) -> str:
    (length,) = struct.unpack_from(">H", key, at)
    name = key[at + 2 : at + 2 + 2 * length]
    if len(name) < 2 * length:
        raise DamagedError(what, 0, "a name is longer than its key")
    return decoded(name)


def _catalog_key(key: bytes) -> tuple[int, str]:
    """Return by what the catalog is sorted, as far as it is needed: names that are ASCII."""
    return int.from_bytes(key[:4], "big"), _catalog_name(key).lower()


def _attribute_key(key: bytes) -> tuple[int, str]:
    """Return by what attributes are sorted, as far as it is needed: the first of a file."""
    return int.from_bytes(key[2:6], "big"), _attribute_name(key)


def _moment(seconds: int) -> int | None:
    """Return seconds since 1904 as nanoseconds since 1970."""
    return (seconds - _EPOCH) * _SECOND if seconds else None
