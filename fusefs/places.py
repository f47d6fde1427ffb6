"""Where the directories and links inside of an image are: that tells where a link may lead.

The kernel asks for a link by its number, and not by the path that led to it. In a damaged or
hostile file system, one number may be in several directories, and a target that stays inside of
the image from one of them may lead out of it from another. So the first place that was seen is
kept, for as long as the mount lasts, and what is seen elsewhere too is not trusted any more.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..catalog.records import MountEntry

log = logging.getLogger("imgcat.mount")

_MOST = 1 << 17
"""Directories and links of which the place is kept; a few hundred bytes each."""

_ROOT = 0


class Place(NamedTuple):
    """Where a link is.

    Attributes:
        above: the directories that it is in, from its own to the root.
        is_only: whether it was seen nowhere else; else it was at places of the same depth only.
    """

    above: list[int]
    is_only: bool


class Places:
    """The places of directories and links inside of images. In the event loop only.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = _MOST if most is None else most
        self._above: dict[tuple[int, int], int] = {}
        self._alike: set[tuple[int, int]] = set()
        self._doubtful: set[tuple[int, int]] = set()
        self._was_told = False

    def parent(self, image: MountEntry, number: int) -> int:
        """Return the directory that a directory is in.

        Raises:
            OSError: as `place`.
        """
        return self.place(image, number).above[0]

    def put(self, image: MountEntry, number: int, parent: int) -> None:
        """Take note that a directory or a link was seen in a directory."""
        key = (image.content_key, number)
        known = self._above.get(key)
        if known is None:
            if len(self._above) < self._most:
                self._above[key] = parent
            elif not self._was_told:
                self._was_told = True
                log.warning(
                    "%s: there are more directories and links than %d: where those lead is not told"
                    " any more: mount it anew, or use `imgcat cp`", image.name, self._most,
                )  # fmt: skip
        elif known != parent and key not in self._doubtful:
            if self._depth(image, known) == self._depth(image, parent) is not None:
                self._alike.add(key)
            else:
                self._doubtful.add(key)
                log.warning("%s: file %d has names at several depths", image.name, number)

    def place(self, image: MountEntry, number: int) -> Place:
        """Return where a directory or link is.

        Raises:
            OSError: ESTALE where that is not known; EIO where there is more than one answer.
        """
        above: list[int] = []
        key = (image.content_key, number)
        is_only = key not in self._alike
        while number != _ROOT:
            key = (image.content_key, number)
            parent = self._above.get(key)
            if parent is None:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            # Of a directory, the kernel has one place at a time, and it is not said which.
            if key in self._doubtful or (above and key in self._alike) or parent in above:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            above.append(parent)
            number = parent
        return Place(above, is_only)

    def _depth(self, image: MountEntry, directory: int) -> int | None:
        try:
            return len(self.place(image, directory).above)
        except OSError:
            return None
