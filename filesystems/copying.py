"""Copying files out of a volume, with what they are: never outside of where they are to go."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from typing import TYPE_CHECKING

from ..formats.files.new_file import TargetError, naming
from . import ahead
from .content import FileContent
from .names import shown
from .of_one_file import OF_ONE_FILE
from .target import FULL, Target
from .worker.wire import ZEROS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .content import WorkerContent
    from .target import Directory, Guard
    from .volume import Volume
    from .worker.wire import Entry

    Tell = Callable[[str], None]

_PIECE = 1 << 20
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_SPECIAL_BITS = {stat.S_ISUID: "setuid", stat.S_ISGID: "setgid", stat.S_ISVTX: "sticky"}


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


def _anything(_path: str) -> None:
    """Refuse nothing."""


class Copier:
    """Copies files out of a volume into a directory.

    Args:
        volume: where they are.
        target: the directory.
        tell: told what cannot be copied.
        guard: refuses paths that must not be written over; see `target.Guard`.
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
        guard: Guard = _anything,
        streams: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._volume = volume
        self._target = Target(target, guard)
        self._tell = tell
        self._streams = streams
        self._progress = progress
        self._links: dict[int, tuple[tuple[bytes, ...], bytes]] = {}
        self._done = 0
        self._buffer = memoryview(bytearray(_PIECE))
        self._umask = os.umask(0)
        os.umask(self._umask)
        self.tally = Tally()

    def close(self) -> None:
        """Close the directory."""
        self._target.close()

    def copy(self, entry: Entry, name: bytes, path: bytes, *, recursive: bool) -> None:
        """Copy a file, or a directory with all that is in it.

        Args:
            entry: the file.
            name: what it is to be called.
            path: where it is in the volume, for messages.
            recursive: whether a directory is copied; else it is refused.

        Raises:
            OSError: the target is full; the error names the path.
        """
        if stat.S_ISDIR(entry.mode) and not recursive:
            self._problem(path, "it is a directory: -r copies directories")
            return
        self._copy(self._target.root, (), entry, name, path, frozenset())

    def _copy(
        self,
        directory: Directory,
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
            if isinstance(error, OSError) and error.errno in FULL:
                # Of the target, and not of this file: the next one would end in the same way.
                raise
            self._problem(path, _text_of(error))

    def _problem(self, path: bytes, why: str) -> None:
        self.tally.problems += 1
        self._tell(f"{shown(path)}: {why}")

    # -- directories -----------------------------------------------------------

    def _directory(
        self,
        directory: Directory,
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
        with self._target.below(directory, name) as here:
            for each in self._in_order(here, inside):
                below = path.rstrip(b"/") + b"/" + each.name
                self._copy(here, (*place, name), each, each.name, below, above | {entry.inode})
            self._keep(here.fd, os.fsdecode(here.path), entry, path)
        self.tally.files += 1

    def _in_order(self, here: Directory, inside: list[Entry]) -> Iterator[Entry]:
        return ahead.in_order(self._volume, inside, lambda each: not self._may_be_there(here, each))

    def _may_be_there(self, directory: Directory, entry: Entry) -> bool:
        if entry.links > 1 and entry.inode in self._links:
            return True
        try:
            return self._is_there(directory, entry, entry.name)
        except (OSError, TargetError):
            # It is met again, and told, when it is written.
            return False

    # -- files -----------------------------------------------------------------

    def _is_there(self, directory: Directory, entry: Entry, name: bytes) -> bool:
        """Tell whether an earlier copy has written it: it is of the same type, size and time.

        Raises:
            TargetError: it is what nothing takes the place of.
            IsADirectoryError: the same.
        """
        known = self._target.status(directory, name)
        if known is None:
            return False
        kind = stat.S_IFMT(known.st_mode)
        if kind != stat.S_IFMT(entry.mode):
            if kind == stat.S_IFDIR:
                where = directory.place(name)
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), where)
            return False
        has_time = entry.times.modified in {None, known.st_mtime_ns}
        if kind == stat.S_IFREG:
            return has_time and known.st_size == entry.size
        if kind == stat.S_IFLNK:
            return has_time and os.readlink(name, dir_fd=directory.fd) == entry.target
        return kind not in _DEVICES or known.st_rdev == entry.device

    def _link(self, directory: Directory, entry: Entry, name: bytes) -> None:
        place, first = self._links[entry.inode]
        with self._target.opened(place) as above:
            self._target.link(above, first, directory, name)
        self.tally.files += 1

    def _one(self, directory: Directory, entry: Entry, name: bytes, path: bytes) -> None:
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFREG:
            self._file(directory, entry, name, path, b"")
            if self._streams:
                for stream, _size in self._volume.streams(entry.inode, self._tell_of(path)):
                    beside = name + b":" + stream.replace(b"/", b"_")
                    self._file(directory, entry, beside, path, stream)
            elif self._volume.kind in {"ntfs", "hfsplus"} and self._volume.streams(entry.inode):
                self.tally.drop("other streams (--streams keeps them)")
        elif kind == stat.S_IFLNK:
            with (
                self._target.new_name(directory, name) as fresh,
                naming(directory.place(name)),
            ):
                os.symlink(entry.target, fresh, dir_fd=directory.fd)
                self._keep_of_link(directory.fd, entry, fresh)
        elif kind == stat.S_IFSOCK:
            self.tally.drop("sockets")
            return
        else:
            with (
                self._target.new_name(directory, name) as fresh,
                naming(directory.place(name)),
            ):
                os.mknod(fresh, kind | 0o600, entry.device, dir_fd=directory.fd)
                opened = os.open(fresh, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory.fd)
                try:
                    self._keep_by_name(opened, entry)
                finally:
                    os.close(opened)
        self.tally.files += 1

    def _file(
        self, directory: Directory, entry: Entry, name: bytes, path: bytes, stream: bytes
    ) -> None:
        content = self._volume.content(entry.inode, stream)
        place = directory.place(name)
        with self._target.new_file(directory, name) as opened:
            self._write(opened, place, content)
            self._keep(opened, place, entry, path)

    def _write(self, opened: int, place: str, content: FileContent | WorkerContent) -> None:
        position = 0
        for start, stop in _pieces(content):
            position = start
            while position < stop:
                view = self._buffer[: min(_PIECE, stop - position)]
                content.read_into(view, position)
                with naming(place):
                    _write_all(opened, view, position)
                position += len(view)
                self.tally.size += len(view)
                if self._progress is not None:
                    self._progress(self._done + position)
        if position < content.size:
            with naming(place):
                os.ftruncate(opened, content.size)

    # -- what they are -----------------------------------------------------------

    def _keep(self, opened: int, place: str, entry: Entry, path: bytes) -> None:
        """Give what was written the owner, mode, attributes and times that it has in the volume."""
        if self._volume.has_owners:
            with naming(place):
                is_owned = self._own(opened, entry)
                self._set_mode(opened, stat.S_IMODE(entry.mode), is_owned=is_owned)
            for name, value in self._volume.attributes(entry.inode, self._tell_of(path)).items():
                try:
                    os.setxattr(opened, name, value)
                except OSError:
                    self.tally.drop(f"attributes {shown(name.partition(b'.')[0])}.*")
        else:
            plain = 0o777 if stat.S_ISDIR(entry.mode) else 0o666
            with naming(place):
                os.fchmod(opened, plain & ~self._umask)
        with naming(place):
            _set_times(opened, entry)

    def _set_mode(self, opened: int, mode: int, *, is_owned: bool) -> None:
        """Set the mode of a file, and count what of it is not kept."""
        # With another owner, they would give away what is not theirs.
        os.fchmod(opened, mode if is_owned else mode & 0o1777)
        if mode & 0o7000:
            lost = mode & ~stat.S_IMODE(os.fstat(opened).st_mode)
            for bit, what in _SPECIAL_BITS.items():
                if lost & bit:
                    self.tally.drop(what)

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


def _write_all(opened: int, view: memoryview, position: int) -> None:
    have = 0
    while have < len(view):
        have += os.pwrite(opened, view[have:], position + have)


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
        name = error.filename
        where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
        return f"{where}{error.strerror}"
    return str(error)
