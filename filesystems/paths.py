"""Paths in a file system: where they lead, through symbolic links that end at its root."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from .names import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from .worker.wire import Entry

    Find = Callable[[int, bytes], Entry]

_MOST_LINKS = 40


class Walk:
    """A walk along a path, as far as it leads.

    Args:
        start: the directories from the root to where it begins, each with its name; the root's is
            empty.
        path: where it goes from there; from the root on, where it begins with a slash.
        find: returns what a name in a directory leads to.

    Attributes:
        passed: the directories from the root to where it stands, and what stands there, each with
            its name. None of them is a link that was followed.
        left: the names that are still to be gone.
    """

    def __init__(self, start: list[tuple[bytes, Entry]], path: bytes, find: Find) -> None:
        self._path = path
        self._find = find
        self._links = 0
        self.passed = start[:1] if path.startswith(b"/") else list(start)
        self.left = parts(path)

    def go(self, *, follow: bool) -> Entry:
        """Go to the end, and return what is there.

        Args:
            follow: whether a link at the very end is followed too.

        Raises:
            FileNotFoundError: there is none; `left` begins with the name that is missing.
            NotADirectoryError: what the path goes through is none.
            OSError: links lead in a circle.
            As `find`.
        """
        while self.left:
            name = self.left[0]
            here = self.passed[-1][1]
            if not stat.S_ISDIR(here.mode):
                raise NotADirectoryError(
                    errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown(self._path)
                )
            if name == b"..":
                self.passed = self.passed[:-1] or self.passed
                del self.left[0]
                continue
            try:
                entry = self._find(here.inode, name)
            except FileNotFoundError:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), shown(self._path)
                ) from None
            del self.left[0]
            if stat.S_ISLNK(entry.mode) and (self.left or follow):
                self._follow(entry.target)
            else:
                self.passed.append((name, entry))
        return self.passed[-1][1]

    def _follow(self, target: bytes) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith(b"/"):
            self.passed = self.passed[:1]
        self.left[:0] = parts(target)


def parts(path: bytes) -> list[bytes]:
    """Return the names in a path."""
    return [each for each in path.split(b"/") if each not in {b"", b"."}]


def needs_place(target: bytes) -> bool:
    """Tell whether it depends on where a link is whether its target leads out."""
    return target.startswith(b"/") or b".." in target.split(b"/")


def inside_link(target: bytes, depth: int) -> bytes | None:
    """Return a link's target so that it leads nowhere but into its file system.

    As after `chroot`, the root is where absolute targets begin, and above it is itself.

    Args:
        target: as it is stored.
        depth: directories between the root and the link: 0 for a link in the root.

    Returns:
        None where words alone do not tell: behind a name that may be a link itself, ``..`` may
        be anywhere.
    """
    names = parts(target)
    ups = 0
    while ups < len(names) and names[ups] == b"..":
        ups += 1
    if b".." in names[ups:]:
        return None
    if target.startswith(b"/"):
        return b"/".join([b".."] * depth + names[ups:]) or b"."
    if ups <= depth:
        return target
    return b"/".join([b".."] * depth + names[ups:]) or b"."
