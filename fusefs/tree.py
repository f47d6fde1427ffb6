"""Names and inodes of a mount. Pure: no FUSE, no I/O.

A name with ``/`` makes directories. Inode numbers are computed, not counted, so that every process
and every mount of a catalog gives the same: `CONTENT_BITS` of them are the index of what a file
holds, which is another one whenever that was scanned anew, and `FILE_BITS` are 0 for the image and
1 for the directory of its files; the files in there have others. Directories that names make have
numbers made of their paths. No number is remembered for the kernel's sake: what has no name any
more is no more.

A `Tree` is used by one thread only. What is to be changed is worked out by a `Planner`, in any
other.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from ..catalog.names import free_name
from ..catalog.opening.entries import entries_of
from ..catalog.records import LARGEST_INDEX
from ..filesystems.gate import is_read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from ..catalog.records import MountEntry

    Path = tuple[bytes, ...]

ROOT_INODE = 1

CONTENT_BITS = LARGEST_INDEX.bit_length()
FILE_BITS = 40

_HANDLE_MASK = (1 << 64) - 1
_FILE_MASK = (1 << FILE_BITS) - 1

FILES = b"files"
"""The directory of the files inside of images, where they are shown."""

_FIRST_OF_FILES = 1 << (FILE_BITS + 1)
"""Places in the listing of a directory: files come after all directories."""


def inode_of(entry: MountEntry) -> int:
    """Return the inode number of an image's file."""
    return entry.index_id << FILE_BITS


def volume_inode_of(inode: int) -> int:
    """Return the inode number of the directory of an image's files, by that of any file in it."""
    return inode & ~_FILE_MASK | 1


def is_inside(inode: int) -> bool:
    """Tell whether an inode number is of the directory of an image's files, or of a file in it."""
    return bool(inode >> FILE_BITS and inode & _FILE_MASK)


def handle_of(entry: MountEntry) -> int:
    """Return the handle of an image's file: the key of what it holds, as 64 bits without a sign.

    An inode number may stand for another content one day, in another catalog; a handle never does.
    """
    return entry.content_key & _HANDLE_MASK


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A file or a directory. `entry` is None for a directory, `children` for a file.

    What `is_volume` is the directory of the files inside of an image, which are not in the tree.
    """

    inode: int
    parent: Node | None
    name: bytes
    entry: MountEntry | None
    children: dict[bytes, Node] | None
    listing: list[Node] | None = None
    subdirectory_count: int = 0
    is_volume: bool = False

    @property
    def is_directory(self) -> bool:
        """Tell whether this is a directory."""
        return self.is_volume or self.children is not None

    @property
    def place(self) -> int:
        """Where it stands in the listing of its directory, whatever else is there; from 1 on."""
        if self.entry is None:
            return self.inode
        return _FIRST_OF_FILES + self.entry.index_id


@dataclasses.dataclass(frozen=True, slots=True)
class Unlinked:
    """A name that no longer leads to a node: what the kernel must forget."""

    parent_inode: int
    name: bytes
    inode: int


class Changes(NamedTuple):
    """What is to be changed in a tree.

    Attributes:
        removed: paths of files that go.
        placed: paths of files that come, or are something else than before, and what they are.
        image_count: files that there are then.
        size_bytes: guest bytes of all of them.
    """

    removed: Sequence[Path]
    placed: Sequence[tuple[Path, MountEntry]]
    image_count: int
    size_bytes: int


class Applied(NamedTuple):
    """What the kernel must be told.

    Attributes:
        unlinked: names that lead elsewhere, or nowhere.
        reused: inode numbers that stood for another content before: only in a catalog that was put
            back from a copy, or is another one altogether.
        touched: inode numbers of which what `stat` tells has changed.
    """

    unlinked: list[Unlinked]
    reused: list[int]
    touched: list[int]


class Tree:
    """All nodes of a mount.

    Args:
        with_files: whether there is a directory `FILES`, with one of the files of each image.

    Attributes:
        image_count: the number of files.
        size_bytes: guest bytes of all of them.
    """

    def __init__(self, *, with_files: bool = False) -> None:
        self._with_files = with_files
        self.root = Node(ROOT_INODE, None, b"", None, {})
        self._nodes = {ROOT_INODE: self.root}
        self._keys: dict[int, int] = {}
        self._by_handle: dict[int, Node] = {}
        self.image_count = 0
        self.size_bytes = 0

    def node(self, inode: int) -> Node | None:
        """Return the node of an inode number, or None if there is none with a name."""
        return self._nodes.get(inode)

    def entry_of_handle(self, handle: int) -> MountEntry | None:
        """Return the image whose content a handle is of, or None if none has a name."""
        node = self._by_handle.get(handle)
        return None if node is None else node.entry

    def image_around(self, inode: int) -> MountEntry | None:
        """Return the image that a file is inside of, or None if that has no name any more."""
        node = self._nodes.get(volume_inode_of(inode))
        return None if node is None else node.entry

    def child(self, parent_inode: int, name: bytes) -> Node | None:
        """Return what `name` leads to in a directory, or None."""
        parent = self._nodes.get(parent_inode)
        if parent is None or parent.children is None:
            return None
        return parent.children.get(name)

    def children(self, inode: int, after: int = 0, count: int | None = None) -> list[Node]:
        """Return what is in a directory, in the order of their places, from behind one on.

        All of them, or `count` at most.
        """
        node = self._nodes.get(inode)
        if node is None or node.children is None:
            return []
        if node.listing is None:
            node.listing = sorted(node.children.values(), key=lambda child: child.place)
        first = bisect.bisect_right(node.listing, after, key=lambda child: child.place)
        return node.listing[first : None if count is None else first + count]

    def apply(self, changes: Changes) -> Applied:
        """Change what is to be changed, and return what the kernel must be told."""
        applied = Applied([], [], [])
        self.image_count = changes.image_count
        self.size_bytes = changes.size_bytes
        for path in changes.removed:
            self._remove(path, applied)
            self._remove((FILES, *path), applied)
        for path, entry in changes.placed:
            self._place(path, entry, applied)
            if self._shows_files_of(entry):
                self._place((FILES, *path), entry, applied, is_volume=True)
            else:
                self._remove((FILES, *path), applied)
        return applied

    def _shows_files_of(self, entry: MountEntry) -> bool:
        # Of a block device nothing may be kept, and a file system is read with what was kept of it.
        return self._with_files and is_read(entry.file_system) and not entry.is_live

    def _remove(self, path: Path, applied: Applied) -> None:
        node: Node | None = self.root
        for part in path:
            node = None if node is None or node.children is None else node.children.get(part)
        if node is not None and node.entry is None:
            # A directory of that name: what is in it has names of its own.
            return
        while node is not None and node.parent is not None and not node.children:
            parent = node.parent
            self._unlink(parent, node, applied)
            node = parent

    def _place(
        self, path: Path, entry: MountEntry, applied: Applied, *, is_volume: bool = False
    ) -> None:
        parent = self.root
        *directories, name = path
        for depth, part in enumerate(directories):
            assert parent.children is not None
            below = parent.children.get(part)
            if below is None:
                below = Node(self._directory_inode(path[: depth + 1]), parent, part, None, {})
                self._link(parent, below)
            parent = below
        assert parent.children is not None
        known = parent.children.get(name)
        inode = volume_inode_of(inode_of(entry)) if is_volume else inode_of(entry)
        if known is not None:
            assert known.entry is not None
            if (known.inode, known.entry.content_key) == (inode, entry.content_key):
                known.entry = entry
                applied.touched.append(inode)
                return
            self._unlink(parent, known, applied)
        if self._keys.setdefault(inode, entry.content_key) != entry.content_key:
            self._keys[inode] = entry.content_key
            applied.reused.append(inode)
        self._link(parent, Node(inode, parent, name, entry, None, is_volume=is_volume))

    def _link(self, parent: Node, node: Node) -> None:
        assert parent.children is not None
        parent.children[node.name] = node
        parent.listing = None
        parent.subdirectory_count += node.is_directory
        self._nodes[node.inode] = node
        if node.entry is not None and not node.is_volume:
            self._by_handle[handle_of(node.entry)] = node

    def _unlink(self, parent: Node, node: Node, applied: Applied) -> None:
        assert parent.children is not None
        del parent.children[node.name]
        parent.listing = None
        parent.subdirectory_count -= node.is_directory
        # Under another name it may be there already.
        if self._nodes.get(node.inode) is node:
            del self._nodes[node.inode]
        if node.entry is not None and self._by_handle.get(handle_of(node.entry)) is node:
            del self._by_handle[handle_of(node.entry)]
        applied.unlinked.append(Unlinked(parent.inode, node.name, node.inode))

    def _directory_inode(self, path: Path) -> int:
        digest = hashlib.blake2b(b"/".join(path), digest_size=8).digest()
        space = (1 << FILE_BITS) - ROOT_INODE - 1
        number = int.from_bytes(digest, "little") % space
        while ROOT_INODE + 1 + number in self._nodes:
            number = (number + 1) % space
        return ROOT_INODE + 1 + number


class Planner:
    """Works out what a tree must change to show what the catalog has.

    Only what differs from the last time is looked at. Used by one thread at a time.

    Args:
        only: ids of the images that are shown; all if None.
        reserved: a name in the root that no image may have; None where there is none.
    """

    def __init__(self, only: Collection[int] | None = None, reserved: bytes | None = None) -> None:
        self._only = only
        self._reserved = reserved
        self._rows: frozenset[tuple[Any, ...]] = frozenset()
        self._entries: dict[int, MountEntry] = {}
        self._paths: dict[int, Path] = {}
        self._wanted: dict[Path, int] = {}
        self._directories: dict[Path, int] = {}
        self._is_arranged = False
        self._size_bytes = 0

    def plan(self, rows: Sequence[tuple[Any, ...]]) -> Changes | None:
        """Return what is to be changed, None where nothing is.

        Args:
            rows: what the catalog has now, as `Catalog.mount_rows` gives it.
        """
        now = frozenset(rows)
        changed = {row[0] for row in now ^ self._rows}
        self._rows = now
        entries = {
            entry.image_id: entry
            for entry in entries_of([row for row in rows if row[0] in changed], self._only)
        }
        before = {each: self._entries[each] for each in changed if each in self._entries}
        differing = [
            image_id
            for image_id in sorted({*entries, *before})
            if entries.get(image_id) != before.get(image_id)
        ]
        if not differing:
            return None
        for image_id in differing:
            self._forget(image_id)
        for image_id in differing:
            if image_id in entries:
                self._remember(entries[image_id])
        return self._changes(differing)

    def _changes(self, differing: Sequence[int]) -> Changes:
        affected = differing
        if self._is_arranged or any(map(self._is_in_conflict, differing)):
            old = self._paths
            self._paths = arrange(self._entries, self._reserved)
            moved = (each for each in old if old[each] != self._paths.get(each))
            affected = sorted({*differing, *moved})
            self._is_arranged = any(
                path != path_of(self._entries[each].name) for each, path in self._paths.items()
            )
        else:
            old = {each: self._paths.pop(each) for each in differing if each in self._paths}
            for each in differing:
                if each in self._entries:
                    self._paths[each] = path_of(self._entries[each].name)
        return Changes(
            removed=[
                old[each] for each in affected if each in old and old[each] != self._paths.get(each)
            ],
            placed=[
                (self._paths[each], self._entries[each]) for each in affected if each in self._paths
            ],
            image_count=len(self._entries),
            size_bytes=self._size_bytes,
        )

    def _is_in_conflict(self, image_id: int) -> bool:
        """Tell whether an image's name is that of a directory, or another's one of its own."""
        entry = self._entries.get(image_id)
        if entry is None:
            return False
        path = path_of(entry.name)
        if path[0] == self._reserved:
            return True
        return path in self._directories or any(each in self._wanted for each in prefixes(path))

    def _remember(self, entry: MountEntry) -> None:
        path = path_of(entry.name)
        self._entries[entry.image_id] = entry
        self._size_bytes += entry.size_bytes
        self._wanted[path] = entry.image_id
        for prefix in prefixes(path):
            self._directories[prefix] = self._directories.get(prefix, 0) + 1

    def _forget(self, image_id: int) -> None:
        entry = self._entries.pop(image_id, None)
        if entry is None:
            return
        self._size_bytes -= entry.size_bytes
        path = path_of(entry.name)
        self._wanted.pop(path, None)
        for prefix in prefixes(path):
            self._directories[prefix] -= 1
            if not self._directories[prefix]:
                del self._directories[prefix]


def arrange(entries: Mapping[int, MountEntry], reserved: bytes | None = None) -> dict[int, Path]:
    """Return the path of every entry, by id. A file whose name is a directory's gets `` (2)``.

    So does what begins with a name that is reserved.
    """
    names = {image_id: entries[image_id].name for image_id in sorted(entries)}
    if reserved is not None:
        firsts = {path_of(name)[0] for name in names.values()}
        instead = free_name(os.fsdecode(reserved), lambda name: os.fsencode(name) in firsts)
        for image_id, name in names.items():
            first, slash, rest = name.partition("/")
            if os.fsencode(first) == reserved:
                names[image_id] = instead + slash + rest
    directories = {prefix for name in names.values() for prefix in prefixes(path_of(name))}
    taken = {os.fsencode(name) for name in names.values()}
    paths: dict[int, Path] = {}
    for image_id, name in names.items():
        path = path_of(name)
        if path in directories:
            other = free_name(
                name, lambda name: os.fsencode(name) in taken or path_of(name) in directories
            )
            taken.add(os.fsencode(other))
            path = path_of(other)
        paths[image_id] = path
    return paths


def path_of(name: str) -> Path:
    """Return the parts of a name."""
    return tuple(os.fsencode(name).split(b"/"))


def prefixes(path: Iterable[bytes]) -> Iterator[Path]:
    """Yield the paths of the directories above a path, the uppermost first."""
    parts = tuple(path)
    for length in range(1, len(parts)):
        yield parts[:length]
