"""The directory that is mounted on, held by a descriptor: what was looked at is what is covered.

A path may lead elsewhere from one moment to the next, where somebody else can write a directory
that it goes through. So the directory is opened once, looked at through its descriptor, and root
mounts through that too. `fusermount3`, which mounts for all other users, takes a path alone, and
lets nobody mount on what they may not write; there, and for root too, it is looked at afterwards
what was covered.
"""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Self

from .errors import MountError
from .mounts import FS_TYPE, MountPoint, mount_points

log = logging.getLogger("imgcat.daemon")

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


class MountTarget:
    """An empty directory, open, to mount on. A context manager: leaving it closes the descriptor.

    Args:
        path: absolute, without links.

    Raises:
        MountError: it is not the directory that this path is of any more, or is not empty.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mount_id: int | None = None
        try:
            self._fd = os.open(path, _DIRECTORY)
        except OSError as error:
            raise MountError(f"{path}: {error.strerror}") from error
        try:
            self._check_place()
        except OSError as error:
            os.close(self._fd)
            raise MountError(f"{path}: {error.strerror}") from error
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def name(self) -> str:
        """What to give to whoever mounts."""
        return self._own_name if os.geteuid() == 0 else self.path

    @property
    def _own_name(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the directory."""
        os.close(self._fd)

    def check_covered(self) -> None:
        """Check that what was mounted covers the directory, and that its path leads there.

        Raises:
            MountError: it does not. What was mounted is unmounted.
        """
        here = os.readlink(self._own_name)
        found = self._covering(here)
        if found is None or here != self.path or _mount_id_at(self.path) != found.id:
            if found is not None:
                _detach(here)
            raise MountError(
                f"{self.path}: was moved or replaced while it was mounted on, and so was "
                "unmounted: use a directory that nobody else can write above"
            )
        self._mount_id = found.id

    def aim_at_mount(self) -> bool:
        """Have `name` lead to what is mounted, for who unmounts by it; tell whether it does."""
        if os.geteuid() != 0:
            return True
        try:
            fd = os.open(self.path, _DIRECTORY)
        except OSError as error:
            log.info("%s: cannot be opened to unmount it: %s", self.path, error.strerror)
            return False
        try:
            if _mount_id_of(fd) != self._mount_id:
                return False
            os.dup2(fd, self._fd, inheritable=False)
        finally:
            os.close(fd)
        return True

    def _check_place(self) -> None:
        # Without a link in the last part of the path, there may be one further up.
        if os.readlink(self._own_name) != self.path:
            raise MountError(
                f"{self.path}: was moved or replaced meanwhile: use a directory that nobody else "
                "can write above"
            )
        if os.listdir(self._own_name):
            raise MountError(f"{self.path}: is not empty: mount on an empty directory")

    def _covering(self, here: str) -> MountPoint | None:
        """Return the topmost of our mounts on the directory, None if there is none."""
        inside = _mount_id_of(self._fd)
        for point in reversed(mount_points()):
            if (point.path, point.parent_id, point.fs_type) == (here, inside, FS_TYPE):
                return point
        return None


def _mount_id_at(path: str) -> int | None:
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:
        # A link by now, or nothing at all.
        return None
    try:
        return _mount_id_of(fd)
    finally:
        os.close(fd)


def _mount_id_of(fd: int) -> int:
    """Return the id of the mount that an open file is in, asking no file system."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == "mnt_id":
                return int(value)
    raise MountError("/proc/self/fdinfo tells no mnt_id: mount /proc")


def _detach(path: str) -> None:
    """Detach what is mounted at a path, in whatever state it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW):
        # The end of this process ends it, and `imgcat unmount` clears it away.
        log.warning("%s: stays mounted: %s", path, os.strerror(ctypes.get_errno()))
