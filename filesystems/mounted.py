"""The files of a file system that is mounted: ext and XFS, as the kernel tells of them.

Nothing is written, but for what `sync` has the kernel write out. Directories are held by
descriptors and no link is followed. What is mounted on top of it is left out.
"""

from __future__ import annotations

import contextlib
import os
import stat
from array import array
from typing import TYPE_CHECKING

from .errors import RefusedError
from .fiemap import is_realtime, map_file
from .listing import LARGEST_INODE
from .names import shown
from .walking import MOST_DIRECTORIES, WalkedDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .mounts import Mount
    from .worker.driver import Run

    Tell = Callable[[str], None]
    See = Callable[[int, bytes, os.stat_result], None]

READ = frozenset({"ext2", "ext3", "ext4", "xfs"})
"""Types, as the kernel has them, of which it tells where files lie in the device."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _nothing(_text: str) -> None:
    """Tell nobody."""


def _see_nothing(_directory: int, _name: bytes, _status: os.stat_result) -> None:
    """Look at nothing."""


class MountedVolume:
    """A file system that is mounted. For one thread.

    Args:
        mount: of its root directory.

    Raises:
        RefusedError: it is of a type that does not tell where its files lie.
        OSError: it cannot be looked into, or something else is mounted over it.
    """

    def __init__(self, mount: Mount) -> None:
        if mount.fs_type not in READ:
            raise RefusedError(mount.fs_type, 0, f"mounted at {shown(mount.point)}: {_WHY_NOT}")
        self.mount = mount
        self._is_xfs = mount.fs_type == "xfs"
        self._root = os.open(mount.point, _DIRECTORY)
        if os.fstat(self._root).st_dev != mount.device:
            os.close(self._root)
            raise RefusedError(
                mount.fs_type, 0, f"something else is mounted over it at {shown(mount.point)}"
            )

    def close(self) -> None:
        """Let it go."""
        os.close(self._root)

    def walk(self, tell: Tell = _nothing, see: See = _see_nothing) -> Iterator[WalkedDirectory]:
        """Yield what is in every directory, the root first; see `walking.walk`.

        Args:
            tell: told what cannot be read.
            see: given each name of a regular file, with a descriptor of its directory, before that
                directory is yielded: in the order of their inodes, which is about that of the disk.

        Raises:
            RefusedError: there are more directories than are walked.
            What `see` raises.
        """
        parents, names = array("Q", [0]), [b""]
        inodes = array("Q", [os.fstat(self._root).st_ino])
        number = 0
        while number < len(names):
            way = _way(number, parents, names)
            with contextlib.ExitStack() as stack:
                try:
                    here = self._open(way, inodes[number], stack)
                    found, is_whole = self._scan(here, way, tell)
                except OSError as error:
                    tell(f"{shown(b'/' + b'/'.join(way))}: {error.strerror}")
                    here, found, is_whole = -1, [], False
                files = [each for each in found if stat.S_ISREG(each[1].st_mode)]
                for name, status in sorted(files, key=lambda each: each[1].st_ino):
                    see(here, name, status)
            for name, status in found:
                if stat.S_ISDIR(status.st_mode):
                    parents.append(number)
                    names.append(name)
                    inodes.append(status.st_ino)
            if len(names) > MOST_DIRECTORIES:
                raise RefusedError(
                    "file system", 0, f"it has more than {MOST_DIRECTORIES} directories"
                )
            yield _walked(number, found, is_whole=is_whole)
            number += 1

    def map(self, directory: int, name: bytes, status: os.stat_result, *, sync: bool) -> Opened:
        """Open a file, and tell where it lies.

        Args:
            directory: a descriptor of its directory.
            name: its name in that.
            status: what was told of it.
            sync: have it written out before.

        Raises:
            FileNotFoundError: it is gone, or another is called so.
            As `fiemap.map_file`.
        """
        try:
            fd = os.open(name, _FILE | os.O_NOATIME, dir_fd=directory)
        except PermissionError:
            # Reading another's file leaves its time of access as it is for root only.
            fd = os.open(name, _FILE, dir_fd=directory)
        try:
            now = os.fstat(fd)
            self._check(fd, name, now, status)
            return Opened(fd, now.st_size, map_file(fd, now.st_size, sync=sync))
        except BaseException:
            os.close(fd)
            raise

    def _check(self, fd: int, name: bytes, now: os.stat_result, status: os.stat_result) -> None:
        if (now.st_dev, now.st_ino) != (self.mount.device, status.st_ino):
            raise FileNotFoundError(2, "another file is called so by now", name)
        if self._is_xfs and is_realtime(fd):
            raise RefusedError("xfs.file", 0, "it lies on the real-time device")

    def _open(self, way: list[bytes], inode: int, stack: contextlib.ExitStack) -> int:
        """Return a descriptor of a directory, which no link was followed to."""
        here = os.dup(self._root)
        for name in way:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=here)
            finally:
                os.close(here)
            here = below
        stack.callback(os.close, here)
        now = os.fstat(here)
        if (now.st_dev, now.st_ino) != (self.mount.device, inode):
            raise FileNotFoundError(2, "another directory is called so by now")
        return here

    def _scan(
        self, here: int, way: list[bytes], tell: Tell
    ) -> tuple[list[tuple[bytes, os.stat_result]], bool]:
        """Return what is in a directory, and whether that is all of it."""
        found = []
        is_whole = True
        with os.scandir(here) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                path = shown(b"/" + b"/".join([*way, name]))
                try:
                    status = os.stat(name, dir_fd=here, follow_symlinks=False)
                except FileNotFoundError:
                    # Gone since the directory was read.
                    continue
                except OSError as error:
                    tell(f"{path}: {error.strerror}")
                    is_whole = False
                    continue
                if status.st_dev != self.mount.device:
                    is_whole = False
                    tell(f"{path}: something else is mounted there, and hides what is below")
                elif status.st_ino > LARGEST_INODE:
                    is_whole = False
                    tell(f"{path}: its number {status.st_ino} is larger than any that is kept")
                else:
                    found.append((name, status))
        return found, is_whole


_WHY_NOT = (
    "only of ext and XFS does the kernel tell where the files of a mounted one lie: unmount it,"
    " or mount it read-only"
)


class Opened:
    """A file of a mounted file system, open.

    Args:
        fd: its descriptor, which is closed with this.
        size: its bytes.
        runs: where they lie, None where they lie in its inode.
    """

    def __init__(self, fd: int, size: int, runs: list[Run] | None) -> None:
        self.fd = fd
        self.size = size
        self.runs = runs

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


def _way(number: int, parents: array[int], names: list[bytes]) -> list[bytes]:
    way = []
    while number:
        way.append(names[number])
        number = parents[number]
    return way[::-1]


def _walked(
    number: int, found: list[tuple[bytes, os.stat_result]], *, is_whole: bool
) -> WalkedDirectory:
    states = [status for _name, status in found]
    return WalkedDirectory(
        number,
        [name for name, _status in found],
        array("Q", [each.st_ino for each in states]),
        array("Q", [each.st_size for each in states]),
        array("q", [each.st_mtime_ns for each in states]),
        array("I", [each.st_mode for each in states]),
        array("I", [0] * len(states)),
        is_whole,
    )
