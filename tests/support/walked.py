"""File systems that are only a mapping of paths, walked over as real ones are."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from imgcat.filesystems.walking import WalkedDirectory
from imgcat.filesystems.worker.wire import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class File(NamedTuple):
    """What a file is; of directories, too."""

    mode: int
    size: int = 0
    mtime_ns: int | None = 0
    inode: int = 0
    flags: int = 0


def walked(files: Mapping[bytes, File]) -> Iterator[WalkedDirectory]:
    """Yield the directories of a tree: paths from ``/`` on, every directory among them."""
    children: dict[bytes, list[bytes]] = {}
    for path in files:
        above, _slash, name = path.rpartition(b"/")
        children.setdefault(above, []).append(name)
    todo = [b""]
    for number, here in enumerate(todo):
        names = children.get(here, [])
        found = [files[here + b"/" + name] for name in names]
        todo += [
            here + b"/" + name
            for name, each in zip(names, found, strict=True)
            if stat.S_ISDIR(each.mode)
        ]
        yield WalkedDirectory(
            number,
            names,
            [each.inode for each in found],
            [each.size for each in found],
            [NO_TIME if each.mtime_ns is None else each.mtime_ns for each in found],
            [each.mode for each in found],
            [each.flags for each in found],
        )
