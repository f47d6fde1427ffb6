"""The files of one volume: the face of this wing."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from array import array
from typing import TYPE_CHECKING, Any, TypeVar

from ..formats.errors import FormatError
from ..formats.superblocks.find import find_file_system
from .content import FileContent, WorkerContent
from .errors import DamagedError, RefusedError, WorkerError
from .gate import check
from .names import shown
from .process import Worker, Workers
from .worker.wire import RUN, WALL_CLOCK, Entry, Kind, Times, unpack_entries

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..formats.reader import ImageReader
    from ..formats.superblocks.file_system import FileSystem
    from .process import Limits

    Tell = Callable[[str], None]

_T = TypeVar("_T")

MOST_ENTRIES = 1 << 22
"""Entries that a directory may have."""

_MOST_RUNS = 1 << 23
_MOST_LINKS = 40
_SECTOR = 512
_LARGEST_INODE = (1 << 40) - 1

_ALL = Workers()


def _nothing(_text: str) -> None:
    """Tell nobody."""


class Volume:
    """A file system in an image. Any number of threads may use it.

    Nothing is asked of the file system until something is asked of this.

    Args:
        reader: reads the volume.
        as_is: read it as it lies there, though its journal has not been replayed.
        has_content: whether the image has what its files hold, not only how they are called.
        workers: the workers of this program.
        limits: what its worker may take.
        on_failure: told when its worker has died or hung.

    Raises:
        RefusedError: it is of a kind that is not read.
        FormatError: the image cannot give its beginning.
        OSError: the same.

    Attributes:
        kind: the file system, as blkid has it.
        caveat: what is to be said with every listing; None where there is nothing.
        has_owners: whether its files have owners and modes; else those of entries stand for none.
    """

    def __init__(
        self,
        reader: ImageReader,
        *,
        as_is: bool = False,
        has_content: bool = True,
        workers: Workers = _ALL,
        limits: Limits | None = None,
        on_failure: Tell = _nothing,
    ) -> None:
        passed = check(_found_in(reader), as_is=as_is)
        self.kind = passed.kind
        self.caveat = passed.caveat
        self.has_owners = passed.has_owners
        self._reader = reader
        self._has_content = has_content
        more = {} if limits is None else {"limits": limits}
        self._worker = Worker(
            reader, passed.kind, dict(passed.options), workers, on_failure=on_failure, **more
        )

    def close(self) -> None:
        """End the worker; the reader is the caller's. Closing twice is harmless."""
        self._worker.close()

    # -- files ---------------------------------------------------------------

    def stat(self, inode: int = 0) -> Entry:
        """Return a file by its number, without its name; 0 is the root directory.

        Raises:
            FileNotFoundError: there is none.
            FormatError: it cannot be read; a `WorkerError` where the worker has died over it.
            OSError: the image cannot be read.
        """
        return self._one("stat", inode=inode)

    def entries(self, inode: int = 0, tell: Tell = _nothing) -> list[Entry]:
        """Return what a directory has, as it lies there, without itself and its parent.

        Args:
            inode: the directory.
            tell: told what of it cannot be read.

        Raises:
            NotADirectoryError: it is none.
            As `stat`.
        """
        found: list[Entry] = []

        def take(kind: Kind, data: memoryview) -> None:
            if kind is Kind.PROBLEM:
                tell(bytes(data).decode(errors="replace"))
                return
            for entry in self._unpacked(data):
                if _is_name(entry.name):
                    found.append(entry)
                else:
                    tell(f"{entry.name!r} is no name")
            if len(found) > MOST_ENTRIES:
                raise RefusedError(
                    f"directory {inode}", 0, f"it has more than {MOST_ENTRIES} entries"
                )

        try:
            self._worker.ask("list", take, inode=inode)
        except DamagedError as error:
            if not found:
                raise
            # The worker has said what it could read before.
            tell(str(error))
        return found

    def find(self, inode: int, name: bytes) -> Entry:
        """Return what a name in a directory leads to. Raises as `entries`."""
        return self._one("find", inode=inode, name=name.hex())

    def resolve(self, path: bytes, *, follow: bool = True) -> Entry:
        """Return the file that a path leads to, through symbolic links, which end at the root.

        Args:
            path: from the root on; ``/`` and the empty path are the root itself.
            follow: whether a link at the very end is followed too.

        Raises:
            FileNotFoundError: there is none.
            NotADirectoryError: what the path goes through is none.
            OSError: links lead in a circle.
            As `stat`.
        """
        above = [self.stat()]
        todo = _parts(path)
        links = 0
        while todo:
            name = todo.pop(0)
            if not stat.S_ISDIR(above[-1].mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown(path))
            if name == b"..":
                above = above[:-1] or above
                continue
            try:
                entry = self.find(above[-1].inode, name)
            except FileNotFoundError:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), shown(path)
                ) from None
            if stat.S_ISLNK(entry.mode) and (todo or follow):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if entry.target.startswith(b"/"):
                    above = above[:1]
                todo[:0] = _parts(entry.target)
                continue
            above.append(entry)
        return above[-1]

    # -- what they hold --------------------------------------------------------

    def content(self, inode: int, stream: bytes = b"") -> FileContent | WorkerContent:
        """Return what a file, or another stream of it, holds; nothing of it is read yet.

        Raises:
            RefusedError: its bytes are not there, or are not what the file held.
            FileNotFoundError: there is no such file, or stream.
            As `stat`.
        """
        runs = _Runs(self._reader.size)
        told = self._worker.ask(
            "content", lambda _kind, data: runs.add(data), inode=inode, stream=stream.hex()
        )
        size = told.get("size")
        if not isinstance(size, int) or not 0 <= size < 1 << 63:
            raise WorkerError(f"reader of {self.kind}", 0, f"a file of {size} bytes")
        if size and not self._has_content:
            raise RefusedError(
                f"{self.kind}.file {inode}", 0, "the image has no contents of files (--metadata)"
            )
        if told.get("plain"):
            runs.end(size)
            return FileContent(self._reader, size, runs.starts, runs.places)

        def read(offset: int, length: int) -> bytes:
            return self._read(inode, stream, offset, length)

        return WorkerContent(size, read)

    def _read(self, inode: int, stream: bytes, offset: int, length: int) -> bytes:
        pieces: list[bytes] = []
        self._worker.ask(
            "read", lambda _kind, piece: pieces.append(bytes(piece)), inode=inode,
            stream=stream.hex(), offset=offset, length=length,
        )  # fmt: skip
        data = b"".join(pieces)
        if not 0 < len(data) <= length:
            raise WorkerError(
                f"reader of {self.kind}", 0,
                f"{len(data)} bytes of file {inode} where {length} at {offset} were wanted",
            )  # fmt: skip
        return data

    def attributes(self, inode: int, tell: Tell = _nothing) -> dict[bytes, bytes]:
        """Return the extended attributes of a file, as Linux names them. Raises as `stat`."""
        told = self._worker.ask("attributes", _teller(tell), inode=inode)
        return dict(self._pairs(told, "attributes", bytes.fromhex))

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return names and sizes of the other streams of a file. Raises as `stat`."""
        told = self._worker.ask("streams", _teller(_nothing), inode=inode)
        return self._pairs(told, "streams", int)

    # -- helpers ---------------------------------------------------------------

    def _pairs(
        self, told: dict[str, Any], key: str, convert: Callable[[Any], _T]
    ) -> list[tuple[bytes, _T]]:
        try:
            return [(bytes.fromhex(name), convert(value)) for name, value in told[key]]
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerError(f"reader of {self.kind}", 0, f"its {key} are none: {error}") from None

    def _one(self, what: str, **arguments: Any) -> Entry:  # noqa: ANN401
        found: list[Entry] = []
        self._worker.ask(what, lambda _kind, data: found.extend(self._unpacked(data)), **arguments)
        if len(found) != 1:
            raise WorkerError(f"reader of {self.kind}", 0, f"{len(found)} files in place of one")
        return found[0]

    def _unpacked(self, data: memoryview) -> list[Entry]:
        return [
            each._replace(times=Times(*(local_time(moment) for moment in each.times)))
            if each.flags & WALL_CLOCK
            else each
            for each in _unpacked(data)
        ]


def _found_in(reader: ImageReader) -> FileSystem | None:
    """Return the file system that a volume holds, also where not all of its beginning is there."""
    missing: list[FormatError] = []

    def read(offset: int, length: int) -> bytes:
        data = memoryview(bytearray(max(0, min(length, reader.size - offset))))
        try:
            reader.read_into(data, offset)
        except FormatError:
            for start in range(0, len(data), _SECTOR):
                piece = data[start : start + _SECTOR]
                try:
                    reader.read_into(piece, offset + start)
                except FormatError as error:
                    # What is looked for may lie beside it.
                    piece[:] = bytes(len(piece))
                    missing.append(error)
        return bytes(data)

    found = find_file_system(read, reader.size)
    if found is None and missing:
        raise missing[0]
    return found


class _Runs:
    """The runs of a file, as they come from the worker: checked, for nobody vouches for them.

    Args:
        limit: bytes of the volume.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._behind = 0
        self.starts = array("Q")
        self.places = array("q")

    def add(self, data: memoryview) -> None:
        """Add the runs in a frame.

        Raises:
            WorkerError: they do not follow each other, or are not in the volume.
        """
        if len(data) % RUN.size or len(self.starts) > _MOST_RUNS:
            raise WorkerError("runs", 0, "there are too many")
        for start, length, place in RUN.iter_unpack(data):
            is_there = place == -1 or (place >= 0 and place + length <= self._limit)
            if start != self._behind or not 0 < length < 1 << 63 or not is_there:
                raise WorkerError("runs", 0, f"{length} bytes at {start}, in the volume at {place}")
            self.starts.append(start)
            self.places.append(place)
            self._behind = start + length

    def end(self, size: int) -> None:
        """Check that they go up to the end of the file.

        Raises:
            WorkerError: they do not.
        """
        if self._behind < size:
            raise WorkerError("runs", 0, f"they end at {self._behind} of {size} bytes")


def _teller(tell: Tell) -> Callable[[Kind, memoryview], None]:
    return lambda _kind, data: tell(bytes(data).decode(errors="replace"))


def _unpacked(data: memoryview) -> list[Entry]:
    try:
        found = unpack_entries(data)
    except struct.error as error:
        raise WorkerError("entries", 0, str(error)) from None
    for entry in found:
        if entry.inode > _LARGEST_INODE or entry.size >= 1 << 63:
            raise WorkerError("entries", 0, f"file {entry.inode} of {entry.size} bytes")
    return found


def local_time(moment: int | None) -> int | None:
    """Return the time at which clocks here showed what they would show at `moment` in UTC."""
    if moment is None:
        return None
    seconds, rest = divmod(moment, 1_000_000_000)
    shown = time.gmtime(seconds)
    return int(time.mktime((*shown[:6], 0, 0, -1))) * 1_000_000_000 + rest


def _is_name(name: bytes) -> bool:
    return name not in {b"", b".", b".."} and b"/" not in name and b"\0" not in name


def _parts(path: bytes) -> list[bytes]:
    return [each for each in path.split(b"/") if each not in {b"", b"."}]
