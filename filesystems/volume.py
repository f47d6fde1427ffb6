"""The files of one volume: the face of this wing."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any, TypeVar

from ..formats.errors import FormatError
from ..formats.superblocks.find import find_file_system
from . import ahead
from .checked_runs import CheckedRuns
from .content import FileContent, WorkerContent
from .errors import DamagedError, RefusedError, WorkerError
from .gate import check as check_kind
from .listing import NO_TARGET, Listing, check, in_local_time
from .mapping import Mapped, map_all
from .paths import Walk
from .process import Worker, Workers
from .walking import walk
from .worker.wire import Entry, Kind, unpack_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..formats.reader import ImageReader
    from ..formats.superblocks.file_system import FileSystem
    from .process import Limits, WorkerFailure
    from .walking import WalkedDirectory

    Tell = Callable[[str], None]

_T = TypeVar("_T")

MOST_ENTRIES = 1 << 22
"""Entries that a directory may have."""

_SECTOR = 512

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
        on_failure: told when its worker has died, hung or talked nonsense.

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
        on_failure: Callable[[WorkerFailure], None] = lambda _failure: None,
    ) -> None:
        passed = check_kind(found_in(reader), as_is=as_is)
        self.kind = passed.kind
        self.caveat = passed.caveat
        self.has_owners = passed.has_owners
        self._reader = reader
        self._has_content = has_content
        self._ahead: dict[int, ahead.Small] = {}
        more = {} if limits is None else {"limits": limits}
        self._worker = Worker(
            reader, passed.kind, dict(passed.options), workers, on_failure=on_failure, **more
        )

    def close(self) -> None:
        """End the worker; the reader is the caller's. Closing twice is harmless."""
        self._worker.close()

    # -- files ---------------------------------------------------------------

    @property
    def root(self) -> int:
        """The number of the root directory, once anything was asked; 0 before."""
        return int(self._worker.opened.get("root", 0))

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
        return list(self.listing(inode, tell))

    def listing(self, inode: int = 0, tell: Tell = _nothing, most_bytes: int = 1 << 40) -> Listing:
        """Do as `entries`, and return what makes an entry when it is asked for.

        Raises:
            RefusedError: it would take more than `most_bytes` of memory, or has too many entries.
            As `entries`.
        """
        found = Listing()

        def take(kind: Kind, data: memoryview) -> None:
            if kind is Kind.PROBLEM:
                found.is_whole = False
                tell(bytes(data).decode(errors="replace"))
                return
            found.add(data, tell)
            if len(found) > MOST_ENTRIES or found.size_bytes > most_bytes:
                what = "entries" if len(found) > MOST_ENTRIES else "bytes of them in memory"
                most = MOST_ENTRIES if len(found) > MOST_ENTRIES else most_bytes
                raise RefusedError(f"directory {inode}", 0, f"it has more than {most} {what}")

        try:
            self._worker.ask("list", take, inode=inode)
        except DamagedError as error:
            if not len(found):
                raise
            # The worker has said what it could read before.
            found.is_whole = False
            tell(str(error))
        return found

    def walk(self, tell: Tell = _nothing) -> Iterator[WalkedDirectory]:
        """Yield what is in every directory, in short. Raises as `walking.walk`."""
        return walk(self._worker, lambda: self.root, tell)

    def find(self, inode: int, name: bytes) -> Entry:
        """Return what a name in a directory leads to. Raises as `entries`."""
        return self._one("find", inode=inode, name=name.hex())

    def resolve(self, path: bytes, *, follow: bool = True) -> Entry:
        """Return the file that a path leads to, through symbolic links, which end at the root.

        Raises as `paths.Walk.go`, and as `stat`.

        Args:
            path: from the root on; ``/`` and the empty path are the root itself.
            follow: whether a link at the very end is followed too.
        """
        return Walk([(b"", self.stat())], path, self.find).go(follow=follow)

    def way_to(self, target: bytes, above: list[int]) -> bytes:
        """Return the way from a directory to where a link in it leads, through no other link.

        What is missing of it is as in the link. Raises as `resolve`, but for that.

        Args:
            target: of the link.
            above: the directories that the link is in, from its own to the root.
        """
        start = [(b"", self.stat(inode)) for inode in reversed(above)]
        walk = Walk(start, target, self.find)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            walk.go(follow=True)
        same = 0
        for before, now in zip(start, walk.passed, strict=False):
            if before is not now:
                break
            same += 1
        names = [name for name, _entry in walk.passed[same:]]
        for name in walk.left:
            if name != b"..":
                names.append(name)
            elif names:
                names.pop()
            else:
                # Above the root there is nothing.
                same = max(1, same - 1)
        return b"/".join([b".."] * (len(start) - same) + names) or b"."

    # -- what they hold --------------------------------------------------------

    def look_ahead(self, inodes: list[int]) -> None:
        """Ask for all that there is to know of some files at once, which are read next.

        Of those that were asked for before, nothing is known any more. Raises nothing for a file:
        what is wrong with it is told when that is asked for.

        Args:
            inodes: files, `ahead.MOST` of them at most.
        """
        found: dict[int, ahead.Small] = {}

        def take(_kind: Kind, data: memoryview) -> None:
            inode, small = ahead.parse(data)
            if small is not None:
                found[inode] = small

        self._worker.ask("files", take, inodes=inodes)
        self._ahead = found

    def has_looked_at(self, inode: int) -> bool:
        """Tell whether a file was asked for by `look_ahead`, and all of it is known."""
        return inode in self._ahead

    def map(self, inodes: Sequence[int], tell: Tell = _nothing) -> Iterator[Mapped]:
        """Yield where each of some files lies, in their order; see `mapping.map_all`.

        Args:
            inodes: any number of files. Nothing else can be asked until all were yielded.
            tell: told which bytes of a file are lost, and why, in the thread of who takes them.
        """
        return map_all(self._worker, self.content, self._reader.size, inodes, tell)

    def content(
        self, inode: int, stream: bytes = b"", tell: Tell = _nothing
    ) -> FileContent | WorkerContent:
        """Return what a file, or another stream of it, holds; nothing of it is read yet.

        Args:
            inode: the file.
            stream: the other stream; empty for what the file itself holds.
            tell: told which bytes are lost, for what tells where they are is damaged. Reading
                those raises a `DamagedError`; the others can be read.

        Raises:
            RefusedError: its bytes are not there, or are not what the file held.
            FileNotFoundError: there is no such file, or stream.
            As `stat`.
        """
        runs = CheckedRuns(self._reader.size)
        name = f"{self.kind}.file {inode}"
        small = None if stream else self._ahead.get(inode)
        if small is not None:
            size: Any = small.size
            is_plain = small.data is None
            for run in small.runs or ():
                runs.add_one(*run)
        else:
            told = self._worker.ask("content", runs.take, inode=inode, stream=stream.hex())
            size, is_plain = told.get("size"), bool(told.get("plain"))
        if not isinstance(size, int) or not 0 <= size < 1 << 63:
            raise WorkerError(f"reader of {self.kind}", 0, f"a file of {size} bytes")
        if size and not self._has_content:
            raise RefusedError(name, 0, "the image has no contents of files (--metadata)")
        if is_plain:
            runs.end(size)
            for text in runs.problems(size):
                tell(f"{name}: {text}")
            return FileContent(self._reader, size, runs.starts, runs.places, name, runs.reasons())
        for why in runs.whys:
            tell(f"{name}: {why}")

        def read(offset: int, length: int) -> bytes:
            if small is not None and small.data is not None:
                return small.data[offset : offset + length]
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
        small = self._ahead.get(inode)
        if small is not None:
            return small.attributes
        told = self._worker.ask("attributes", _teller(tell), inode=inode)
        return dict(self._named(told, "attributes", bytes.fromhex, inode, tell))

    def streams(self, inode: int, tell: Tell = _nothing) -> list[tuple[bytes, int]]:
        """Return names and sizes of the other streams of a file. Raises as `stat`."""
        small = self._ahead.get(inode)
        if small is not None:
            return small.streams
        told = self._worker.ask("streams", _teller(tell), inode=inode)
        return self._named(told, "streams", int, inode, tell)

    # -- helpers ---------------------------------------------------------------

    def _named(
        self,
        told: dict[str, Any],
        key: str,
        convert: Callable[[Any], _T],
        inode: int,
        tell: Tell,
    ) -> list[tuple[bytes, _T]]:
        """Return what has names that there can be; tells which others there are."""
        found = []
        for name, value in self._pairs(told, key, convert):
            if ahead.is_name_beside(name):
                found.append((name, value))
            else:
                tell(f"file {inode}: {name!r} is no name in its {key}")
        return found

    def _pairs(
        self, told: dict[str, Any], key: str, convert: Callable[[Any], _T]
    ) -> list[tuple[bytes, _T]]:
        try:
            return [(bytes.fromhex(name), convert(value)) for name, value in told[key]]
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerError(f"reader of {self.kind}", 0, f"its {key} are none: {error}") from None

    def _one(self, what: str, **arguments: Any) -> Entry:  # noqa: ANN401
        found: list[Entry] = []
        self._worker.ask(what, lambda _kind, data: found.extend(_unpacked(data)), **arguments)
        if len(found) != 1:
            raise WorkerError(f"reader of {self.kind}", 0, f"{len(found)} files in place of one")
        return found[0]


def found_in(reader: ImageReader) -> FileSystem | None:
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


def _teller(tell: Tell) -> Callable[[Kind, memoryview], None]:
    return lambda _kind, data: tell(bytes(data).decode(errors="replace"))


def _unpacked(data: memoryview) -> list[Entry]:
    try:
        found = unpack_entries(data)
    except struct.error as error:
        raise WorkerError("entries", 0, str(error)) from None
    for entry in found:
        check(entry.inode, entry.size)
        if b"\0" in entry.target:
            raise DamagedError(f"file {entry.inode}", 0, NO_TARGET)
    return [in_local_time(entry) for entry in found]
