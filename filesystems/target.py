"""The directory that files are copied into: nothing is written beside it, nor over what matters.

Directories are held by descriptors, and no name is followed through a symbolic link. Each file
comes to be under its name when it is whole. Errors of the operating system name the place in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, NamedTuple

from ..formats.files.new_file import DESCRIPTORS, NO_UNNAMED_FILES, SPECIAL, TargetError, naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Guard = Callable[[str], None]
    """Called with each path that is written; raises a `TargetError` where that must not be."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNNAMED = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_FRESH = b".imgcat-"
_ABANDONED = re.compile(re.escape(_FRESH) + rb"[0-9a-f]{16}")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of the target as a whole: the next file would end in the same way."""


class Directory(NamedTuple):
    """A directory that is written.

    Attributes:
        fd: its descriptor.
        path: what it is called in messages.
    """

    fd: int
    path: bytes

    def place(self, name: bytes) -> str:
        """Return what a name in it is called in messages."""
        return os.fsdecode(os.path.join(self.path, name))


class Target:
    """The directory that files are copied into.

    Args:
        path: of the directory, which is there.
        guard: see `Guard`.

    Raises:
        OSError: it cannot be opened.

    Attributes:
        root: the directory itself.
    """

    def __init__(self, path: str, guard: Guard) -> None:
        self._guard = guard
        self._has_unnamed = os.path.isdir(DESCRIPTORS)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.root = Directory(fd, os.fsencode(path))
        _claim(fd)

    def close(self) -> None:
        """Close the directory."""
        os.close(self.root.fd)

    # -- directories -----------------------------------------------------------

    @contextlib.contextmanager
    def below(self, above: Directory, name: bytes) -> Iterator[Directory]:
        """Give a directory in another one, made if need be.

        Raises:
            OSError: it cannot be made, or is none; a link to one is none either.
        """
        with naming(above.place(name)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above.fd)
            here = Directory(
                os.open(name, _DIRECTORY, dir_fd=above.fd), os.path.join(above.path, name)
            )
        try:
            _claim(here.fd)
            yield here
        finally:
            os.close(here.fd)

    @contextlib.contextmanager
    def opened(self, place: tuple[bytes, ...]) -> Iterator[Directory]:
        """Give a directory that was written before, by the names that lead to it."""
        here = self.root._replace(fd=os.dup(self.root.fd))
        try:
            for name in place:
                with naming(here.place(name)):
                    below = os.open(name, _DIRECTORY, dir_fd=here.fd)
                os.close(here.fd)
                here = Directory(below, os.path.join(here.path, name))
            yield here
        finally:
            os.close(here.fd)

    # -- files -----------------------------------------------------------------

    def status(self, here: Directory, name: bytes) -> os.stat_result | None:
        """Return what is under a name already, None where nothing is."""
        try:
            with naming(here.place(name)):
                return os.stat(name, dir_fd=here.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def check(self, here: Directory, name: bytes) -> None:
        """Refuse a name under which there is what must not be replaced.

        Raises:
            TargetError: there is; the message names it.
            OSError: it cannot be looked at.
        """
        self._guard(here.place(name))
        known = self.status(here, name)
        if known is not None and stat.S_IFMT(known.st_mode) in SPECIAL:
            what = SPECIAL[stat.S_IFMT(known.st_mode)]
            raise TargetError(
                f"{here.place(name)}: is {what}, which is not replaced: `imgcat cat` writes into it"
            )

    @contextlib.contextmanager
    def new_name(self, here: Directory, name: bytes) -> Iterator[bytes]:
        """Give a name for what is being written; it takes the place of `name` when that is done.

        Raises:
            As `check`.
        """
        self.check(here, name)
        fresh = _FRESH + secrets.token_hex(8).encode()
        try:
            yield fresh
            with naming(here.place(name)):
                os.rename(fresh, name, src_dir_fd=here.fd, dst_dir_fd=here.fd)
        finally:
            # After a success too: of two names of one file, renaming leaves both.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=here.fd)

    @contextlib.contextmanager
    def new_file(self, here: Directory, name: bytes) -> Iterator[int]:
        """Give a file to write, which gets its name at the end of the block.

        Raises:
            As `check`.
        """
        # Before all of it was written.
        self.check(here, name)
        place = here.place(name)
        opened = self._unnamed(here)
        if opened is not None:
            try:
                yield opened
                self._name(opened, here, name)
            finally:
                os.close(opened)
            return
        with self.new_name(here, name) as fresh:
            with naming(place):
                opened = os.open(fresh, _NEW, 0o600, dir_fd=here.fd)
            try:
                yield opened
            finally:
                os.close(opened)

    def link(self, first: Directory, old: bytes, here: Directory, name: bytes) -> None:
        """Give a file that was written before another name."""
        with self.new_name(here, name) as fresh, naming(here.place(name)):
            os.link(old, fresh, src_dir_fd=first.fd, dst_dir_fd=here.fd, follow_symlinks=False)

    def _unnamed(self, here: Directory) -> int | None:
        """Return a file that has no name yet, so that nothing is left of it if this ends."""
        if not self._has_unnamed:
            return None
        try:
            return os.open(b".", _UNNAMED, 0o600, dir_fd=here.fd)
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES:
                raise OSError(error.errno, error.strerror, os.fsdecode(here.path)) from error
            self._has_unnamed = False
            return None

    def _name(self, opened: int, here: Directory, name: bytes) -> None:
        """Give a file without a name the one that it is to have."""
        itself = b"%s/%d" % (os.fsencode(DESCRIPTORS), opened)
        with naming(here.place(name)):
            try:
                os.link(itself, name, dst_dir_fd=here.fd, follow_symlinks=True)
            except FileExistsError:
                # What is there can be replaced by what has a name only.
                with self.new_name(here, name) as fresh:
                    os.link(itself, fresh, dst_dir_fd=here.fd, follow_symlinks=True)


def _claim(fd: int) -> None:
    """Remove what copies have left here that were killed, and keep others from doing so meanwhile.

    Whoever writes into a directory holds a lock on it. What is there while nobody does is nobody's.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Another copy writes here, or there are no locks: nobody can tell what is abandoned.
        is_alone = False
    else:
        is_alone = True
    if is_alone:
        for name in filter(_ABANDONED.fullmatch, map(os.fsencode, os.listdir(fd))):
            # Who is not allowed to leaves it.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=fd)
    # Only for as long as another removes what is abandoned, there is another lock to wait for.
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
