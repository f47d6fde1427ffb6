"""Names and inodes of a mount. Pure: no FUSE, no I/O.

A name with ``/`` makes directories. An inode number stands for one image with one content: when an
image is scanned anew and has changed, its name gets a new inode, so that no byte the kernel has
cached for the old one is ever shown for the new one. Numbers are never used again.

Lookup counts follow the kernel's rule: a node that has no name any more is dropped when the
kernel has forgotten it. Used by one thread only.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from ..catalog.names import free_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..catalog.records import MountEntry

ROOT_INODE = 1


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A file or a directory. `entry` is None for a directory, `children` for a file."""

    inode: int
    parent: Node | None
    name: bytes
    entry: MountEntry | None
    children: dict[bytes, Node] | None
    lookups: int = 0
    linked: bool = True

    @property
    def is_directory(self) -> bool:
        """Tell whether this is a directory."""
        return self.children is not None

    @property
    def subdirectory_count(self) -> int:
        """The number of directories directly inside."""
        return sum(child.is_directory for child in (self.children or {}).values())


@dataclasses.dataclass(frozen=True, slots=True)
class Unlinked:
    """A name that no longer leads to a node: what the kernel must forget."""

    parent_inode: int
    name: bytes
    inode: int


class Tree:
    """All nodes of a mount."""

    def __init__(self) -> None:
        self.root = Node(ROOT_INODE, None, b"", None, {}, lookups=1)
        self._nodes = {ROOT_INODE: self.root}
        self._last_inode = ROOT_INODE
        self._image_count = 0
        self.size_bytes = 0

    @property
    def image_count(self) -> int:
        """The number of files."""
        return self._image_count

    def node(self, inode: int) -> Node | None:
        """Return the node of an inode number, or None if the kernel has forgotten it."""
        return self._nodes.get(inode)

    def child(self, parent_inode: int, name: bytes) -> Node | None:
        """Return what `name` leads to in a directory, or None."""
        parent = self._nodes.get(parent_inode)
        if parent is None or parent.children is None:
            return None
        return parent.children.get(name)

    def children(self, inode: int) -> list[Node]:
        """Return what is in a directory, by name."""
        node = self._nodes.get(inode)
        if node is None or node.children is None:
            return []
        return [child for _name, child in sorted(node.children.items())]

    def looked_up(self, node: Node) -> None:
        """Count that the kernel was told of the node once more."""
        node.lookups += 1

    def forget(self, inode: int, count: int) -> None:
        """Count that the kernel forgot the node `count` times."""
        node = self._nodes.get(inode)
        if node is None:
            return
        node.lookups = max(0, node.lookups - count)
        if node.lookups == 0 and not node.linked:
            del self._nodes[inode]

    def update(self, entries: Iterable[MountEntry]) -> list[Unlinked]:
        """Make the tree show `entries`, and return what vanished or now means something else."""
        wanted = _arrange(entries)
        self._image_count = len(wanted)
        self.size_bytes = sum(entry.size_bytes for entry in wanted.values())
        unlinked: list[Unlinked] = []
        layout: _Directory = {}
        for path, entry in wanted.items():
            directory = layout
            *parents, last = path
            for part in parents:
                inner = directory.setdefault(part, {})
                assert isinstance(inner, dict)
                directory = inner
            directory[last] = entry
        self._sync(self.root, layout, unlinked)
        return unlinked

    def _sync(self, node: Node, wanted: _Directory, unlinked: list[Unlinked]) -> None:
        assert node.children is not None
        for name, child in list(node.children.items()):
            if not _means_the_same(child, wanted.get(name)):
                self._unlink(node, name, child, unlinked)
        for name, what in wanted.items():
            child = node.children.get(name) or self._link(node, name, what)
            if isinstance(what, dict):
                self._sync(child, what, unlinked)
            else:
                child.entry = what

    def _link(self, parent: Node, name: bytes, what: _Directory | MountEntry) -> Node:
        self._last_inode += 1
        is_directory = isinstance(what, dict)
        node = Node(
            self._last_inode,
            parent,
            name,
            None if isinstance(what, dict) else what,
            {} if is_directory else None,
        )
        self._nodes[node.inode] = node
        assert parent.children is not None
        parent.children[name] = node
        return node

    def _unlink(self, parent: Node, name: bytes, node: Node, unlinked: list[Unlinked]) -> None:
        for child_name, child in list((node.children or {}).items()):
            self._unlink(node, child_name, child, unlinked)
        assert parent.children is not None
        del parent.children[name]
        node.linked = False
        unlinked.append(Unlinked(parent.inode, name, node.inode))
        if node.lookups == 0:
            del self._nodes[node.inode]


_Directory = dict[bytes, "_Directory | MountEntry"]


def _means_the_same(node: Node, what: _Directory | MountEntry | None) -> bool:
    if what is None:
        return False
    if isinstance(what, dict):
        return node.is_directory
    return node.entry is not None and _content(node.entry) == _content(what)


def _content(entry: MountEntry) -> tuple[int, int, int, int]:
    return entry.image_id, entry.index_id, entry.mtime_ns, entry.size_bytes


def _arrange(entries: Iterable[MountEntry]) -> dict[tuple[bytes, ...], MountEntry]:
    """Return the path of every entry. A file whose name is a directory's gets `` (2)``."""
    listed = sorted(entries, key=lambda entry: entry.image_id)
    directories = {
        prefix for entry in listed for prefix in _prefixes(os.fsencode(entry.name).split(b"/"))
    }
    taken = {os.fsencode(entry.name) for entry in listed}
    paths: dict[tuple[bytes, ...], MountEntry] = {}
    for entry in listed:
        path = tuple(os.fsencode(entry.name).split(b"/"))
        if path in directories:
            other = free_name(
                entry.name,
                lambda name: (
                    os.fsencode(name) in taken
                    or tuple(os.fsencode(name).split(b"/")) in directories
                ),
            )
            taken.add(os.fsencode(other))
            path = tuple(os.fsencode(other).split(b"/"))
        paths[path] = entry
    return paths


def _prefixes(parts: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    for length in range(1, len(parts)):
        yield tuple(parts[:length])
