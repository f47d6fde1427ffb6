"""Copying files out of a volume, with what they are: never outside of where they are to go.

Directories are held by descriptors, and no name is followed through a symbolic link: what a volume
calls its files leads nowhere else. Each file comes to be under its name when it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from ..formats.errors import FormatError
from ..formats.files.new_file import DESCRIPTORS, NO_UNNAMED_FILES
from ..formats.index.rank_chunk import ChunkMissingError
from . import ahead
from .content import FileContent
from .names import shown
from .worker.wire import ZEROS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .content import WorkerContent
    from .volume import Volume
    from .worker.wire import Entry

    Tell = Callable[[str], None]

_PIECE = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNNAMED = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_OF_TARGET = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

OF_ONE_FILE = (FormatError, ChunkMissingError, OSError)
"""What can be wrong with one file, and must not end the work on the others."""


@dataclasses.dataclass(slots=True)
class Tally:
    """What came of a copy.

    Attributes:
        files: files that were written, links and directories too.
        size: bytes that were written.
        unchanged: files that were there already, of the same size and time.
        problems: what could not be copied.
        dropped: what could not be kept, and of how many files.
    """

    files: int = 0
    size: int = 0
    unchanged: int = 0
    problems: int = 0
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)

    def drop(self, what: str) -> None:
        """Count a file that something could not be kept of."""
        self.dropped[what] = self.dropped.get(what, 0) + 1


class Copier:
    """Copies files out of a volume into a directory.

    Args:
        volume: where they are.
        target: the directory.
        tell: told what cannot be copied.
        streams: whether the other streams of a file are written too, as ``NAME:STREAM``.
        progress: told the bytes of the files that are done, holes too.

    Attributes:
        tally: what came of it.
    """

    def __init__(
        self,
        volume: Volume,
        target: str,
        *,
        tell: Tell,
        streams: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._volume = volume
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tell = tell
        self._streams = streams
        self._progress = progress
        self._links: dict[int, tuple[tuple[bytes, ...], bytes]] = {}
        self._done = 0
        self._buffer = memoryview(bytearray(_PIECE))
        self._has_unnamed = os.path.isdir(DESCRIPTORS)
        self._umask = os.umask(0)
        os.umask(self._umask)
        self.tally = Tally()

    def close(self) -> None:
        """Close the directory."""
        os.close(self._root)

    def copy(self, entry: Entry, name: bytes, path: bytes, *, recursive: bool) -> None:
        """Copy a file, or a directory with all that is in it.

        Args:
            entry: the file.
            name: what it is to be called.
            path: where it is in the volume, for messages.
            recursive: whether a directory is copied; else it is refused.

        Raises:
            OSError: the target is full, or cannot be written.
        """
        if stat.S_ISDIR(entry.mode) and not recursive:
            self._problem(path, "it is a directory: -r copies directories")
            return
        self._copy(self._root, (), entry, name, path, frozenset())

    def _copy(
        self,
        directory: int,
        place: tuple[bytes, ...],
        entry: Entry,
        name: bytes,
        path: bytes,
        above: frozenset[int],
    ) -> None:
        try:
            if stat.S_ISDIR(entry.mode):
                self._directory(directory, place, entry, name, path, above)
                return
            if entry.links > 1 and entry.inode in self._links:
                self._link(directory, entry, name)
            elif not self._is_there(directory, entry, name):
                self._one(directory, entry, name, path)
            else:
                self.tally.unchanged += 1
            if entry.links > 1:
                self._links.setdefault(entry.inode, (place, name))
            if stat.S_ISREG(entry.mode):
                self._done += entry.size
        except OF_ONE_FILE as error:
            if isinstance(error, OSError) and error.errno in _OF_TARGET:
                # Of the target, and not of this file: the next one would end in the same way.
                raise
            self._problem(path, _text_of(error))

    def _problem(self, path: bytes, why: str) -> None:
        self.tally.problems += 1
        self._tell(f"{shown(path)}: {why}")

    # -- directories -----------------------------------------------------------

    def _directory(
        self,
        directory: int,
        place: tuple[bytes, ...],
        entry: Entry,
        name: bytes,
        path: bytes,
        above: frozenset[int],
    ) -> None:
        if entry.inode in above:
            self._problem(path, "it is inside of itself")
            return
        inside = self._volume.entries(entry.inode, lambda why: self._problem(path, why))
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
        # A link of that name is not followed, nor is anything but a directory opened.
        here = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            for each in self._in_order(here, inside):
                below = path.rstrip(b"/") + b"/" + each.name
                self._copy(here, (*place, name), each, each.name, below, above | {entry.inode})
            self._keep(here, entry, path)
        finally:
            os.close(here)
        self.tally.files += 1

    def _in_order(self, here: int, inside: list[Entry]) -> Iterator[Entry]:
        return ahead.in_order(self._volume, inside, lambda each: not self._may_be_there(here, each))

    def _may_be_there(self, directory: int, entry: Entry) -> bool:
        if entry.links > 1 and entry.inode in self._links:
            return True
        try:
            return self._is_there(directory, entry, entry.name)
        except OSError:
            # It is met again, and told, when it is written.
            return False

    @contextlib.contextmanager
    def _opened(self, place: tuple[bytes, ...]) -> Iterator[int]:
        """Give a directory that was written before, reached without following a link."""
        here = os.dup(self._root)
        try:
            for name in place:
                below = os.open(name, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    # -- files -----------------------------------------------------------------

    def _is_there(self, directory: int, entry: Entry, name: bytes) -> bool:
        """Tell whether an earlier copy has written it: it is of the same type, size and time."""
        try:
            known = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_IFMT(known.st_mode) != stat.S_IFMT(entry.mode):
            if stat.S_ISDIR(known.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return False
        is_file = stat.S_ISREG(entry.mode)
        has_time = entry.times.modified in {None, known.st_mtime_ns}
        return is_file and has_time and known.st_size == entry.size

    def _link(self, directory: int, entry: Entry, name: bytes) -> None:
        place, first = self._links[entry.inode]
        with self._opened(place) as above, self._new_name(directory, name) as fresh:
            os.link(first, fresh, src_dir_fd=above, dst_dir_fd=directory, follow_symlinks=False)
        self.tally.files += 1

    @contextlib.contextmanager
    def _new_name(self, directory: int, name: bytes) -> Iterator[bytes]:
        """Give a name for what is being written; it takes the place of `name` when that is done."""
        fresh = b".imgcat-" + secrets.token_hex(8).encode()
        try:
            yield fresh
            os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            # After a success too: of two names of one file, renaming leaves both.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=directory)

    def _one(self, directory: int, entry: Entry, name: bytes, path: bytes) -> None:
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFREG:
            self._file(directory, entry, name, path, b"")
            if self._streams:
                for stream, _size in self._volume.streams(entry.inode):
                    beside = name + b":" + stream.replace(b"/", b"_")
                    self._file(directory, entry, beside, path, stream)
            elif self._volume.kind in {"ntfs", "hfsplus"} and self._volume.streams(entry.inode):
                self.tally.drop("other streams (--streams keeps them)")
        elif kind == stat.S_IFLNK:
            with self._new_name(directory, name) as fresh:
                os.symlink(entry.target, fresh, dir_fd=directory)
                self._keep_of_link(directory, entry, fresh)
        elif kind == stat.S_IFSOCK:
            self.tally.drop("sockets")
            return
        else:
            with self._new_name(directory, name) as fresh:
                os.mknod(fresh, kind | 0o600, entry.device, dir_fd=directory)
                opened = os.open(fresh, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
                try:
                    self._keep_by_name(opened, entry)
                finally:
                    os.close(opened)
        self.tally.files += 1

    def _file(self, directory: int, entry: Entry, name: bytes, path: bytes, stream: bytes) -> None:
        content = self._volume.content(entry.inode, stream)
        opened = self._unnamed(directory)
        if opened is not None:
            try:
                self._write(opened, content)
                self._keep(opened, entry, path)
                self._name(opened, directory, name)
            finally:
                os.close(opened)
            return
        with self._new_name(directory, name) as fresh:
            opened = os.open(fresh, _NEW, 0o600, dir_fd=directory)
            try:
                self._write(opened, content)
                self._keep(opened, entry, path)
            finally:
                os.close(opened)

    def _unnamed(self, directory: int) -> int | None:
        """Return a file that has no name yet, so that nothing is left of it if this ends."""
        if not self._has_unnamed:
            return None
        try:
            return os.open(b".", _UNNAMED, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES:
                raise
            self._has_unnamed = False
            return None

    def _name(self, opened: int, directory: int, name: bytes) -> None:
        """Give a file without a name the one that it is to have."""
        itself = b"%s/%d" % (os.fsencode(DESCRIPTORS), opened)
        try:
            os.link(itself, name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError:
            # What is there can be replaced by what has a name only.
            with self._new_name(directory, name) as fresh:
                os.link(itself, fresh, dst_dir_fd=directory, follow_symlinks=True)

    def _write(self, opened: int, content: FileContent | WorkerContent) -> None:
        position = 0
        for start, stop in _pieces(content):
            position = start
            while position < stop:
                view = self._buffer[: min(_PIECE, stop - position)]
                content.read_into(view, position)
                have = 0
                while have < len(view):
                    have += os.pwrite(opened, view[have:], position + have)
                position += len(view)
                self.tally.size += len(view)
                if self._progress is not None:
                    self._progress(self._done + position)
        if position < content.size:
            os.ftruncate(opened, content.size)

    # -- what they are -----------------------------------------------------------

    def _keep(self, opened: int, entry: Entry, path: bytes) -> None:
        """Give what was written the owner, mode, attributes and times that it has in the volume."""
        if self._volume.has_owners:
            is_owned = self._own(opened, entry)
            mode = stat.S_IMODE(entry.mode)
            os.fchmod(opened, mode if is_owned else mode & 0o1777)
            tell = self._tell_of(path)
            for name, value in self._volume.attributes(entry.inode, tell).items():
                try:
                    os.setxattr(opened, name, value)
                except OSError:
                    self.tally.drop(f"attributes {shown(name.partition(b'.')[0])}.*")
        else:
            plain = 0o777 if stat.S_ISDIR(entry.mode) else 0o666
            os.fchmod(opened, plain & ~self._umask)
        _set_times(opened, entry)

    def _tell_of(self, path: bytes) -> Tell:
        return lambda why: self._problem(path, why)

    def _own(self, opened: int, entry: Entry) -> bool:
        try:
            os.fchown(opened, entry.uid, entry.gid)
        except PermissionError:
            self.tally.drop("owners (only root may give files away)")
            return False
        return True

    def _keep_of_link(self, directory: int, entry: Entry, name: bytes) -> None:
        if self._volume.has_owners:
            try:
                os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
            except PermissionError:
                self.tally.drop("owners (only root may give files away)")
        times = _times(entry)
        if times is not None:
            os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)

    def _keep_by_name(self, opened: int, entry: Entry) -> None:
        """Do as `_keep` for what must not be opened to be written: devices and fifos."""
        # It is this very file, whatever the name leads to by now.
        path = f"/proc/self/fd/{opened}"
        if self._volume.has_owners:
            try:
                os.chown(path, entry.uid, entry.gid)
            except PermissionError:
                self.tally.drop("owners (only root may give files away)")
            os.chmod(path, stat.S_IMODE(entry.mode) & 0o777)
        times = _times(entry)
        if times is not None:
            os.utime(path, ns=times)


def size_below(volume: Volume, entry: Entry) -> int:
    """Return the bytes of a file, or of all files in a directory, as far as that can be told."""
    size = 0
    todo, seen = [entry], set()
    while todo:
        here = todo.pop()
        if stat.S_ISREG(here.mode):
            size += here.size
        elif stat.S_ISDIR(here.mode) and here.inode not in seen:
            seen.add(here.inode)
            # What is wrong with it is told when it is copied.
            with contextlib.suppress(*OF_ONE_FILE):
                todo += volume.entries(here.inode)
    return size


def _pieces(content: FileContent | WorkerContent) -> Iterator[tuple[int, int]]:
    """Yield what of a file is not zeros by definition."""
    if isinstance(content, FileContent):
        for start, stop, place in content.runs(0, content.size):
            if place != ZEROS:
                yield start, stop
    elif content.size:
        yield 0, content.size


def _times(entry: Entry) -> tuple[int, int] | None:
    modified, accessed = entry.times.modified, entry.times.accessed
    if modified is None:
        return None
    return (modified if accessed is None else accessed, modified)


def _set_times(opened: int, entry: Entry) -> None:
    times = _times(entry)
    if times is not None:
        os.utime(opened, ns=times)


def _text_of(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
