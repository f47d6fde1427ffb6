"""The file systems of a mount's images, open while somebody looks into them.

Everything here may block, and is called in threads. A file system is opened when it is first looked
into; of those that nobody uses just now, the longest unused are closed where there are many.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ..filesystems.volume import Volume
from ..formats.errors import FormatError
from .tree import FILE_BITS, inode_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..catalog.opening.permissions import FileIdentity
    from ..catalog.opening.watched import WatchedReader
    from ..catalog.records import MountEntry
    from ..filesystems.content import FileContent, WorkerContent
    from ..filesystems.listing import Listing
    from ..filesystems.process import WorkerFailure, Workers
    from ..filesystems.worker.wire import Entry

log = logging.getLogger("imgcat.mount")

_MOST_UNUSED = 32
"""File systems that stay open though nobody uses them."""

_LOOK_EVERY = 1.0
"""Seconds after which one looks again whether the image's files are the ones that were opened."""

_MOST_TOLD = 20
"""Lines in the log of what is wrong with one directory."""

ROOT = 0
"""Stands for the root directory of a file system, whatever number that has."""


class InsideFile(NamedTuple):
    """A file inside of an image.

    Attributes:
        image: the image.
        number: the file's number in the file system; `ROOT` for the root.
        following: numbers of files that are likely to be opened next.
    """

    image: MountEntry
    number: int
    following: tuple[int, ...] = ()

    @property
    def inode(self) -> int:
        """Its inode number in the mount."""
        return inode_in(self.image, self.number)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.image.name}: file {self.number}"


def inode_in(image: MountEntry, number: int) -> int:
    """Return the inode number of a file inside of an image."""
    return inode_of(image) + number + 1


def number_of(inode: int) -> int:
    """Return the number that a file has in its file system, by its inode number in the mount."""
    return (inode & ((1 << FILE_BITS) - 1)) - 1


class _OpenVolume:
    """A file system that is open.

    Attributes:
        reader: reads the image.
        volume: its files.
        users: threads and open files that use it just now.
        looked_at: when it was last seen that the image's files are the ones that were opened.
        is_retired: whether it is closed when the last of its users is done.
    """

    def __init__(self, reader: WatchedReader, volume: Volume) -> None:
        self.reader = reader
        self.volume = volume
        self.users = 0
        self.looked_at = time.monotonic()
        self.is_retired = False

    def close(self) -> None:
        self.volume.close()
        self.reader.close()


class _Slot:
    """The place of one image: whoever opens it holds its lock, and others of it wait.

    Attributes:
        open: its file system, if that is open.
        is_gone: whether the place is not this one any more.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: _OpenVolume | None = None
        self.is_gone = False


class Volumes:
    """The file systems of the images of one mount. For any number of threads.

    Args:
        opener: opens an image.
        workers: the workers of this program.
        on_failure: told of an image whose worker has died or hung, and how.
        most_bytes: memory that the entries of one directory may take.
    """

    def __init__(
        self,
        opener: Callable[[MountEntry], WatchedReader],
        workers: Workers,
        on_failure: Callable[[MountEntry, WorkerFailure], None],
        most_bytes: int,
    ) -> None:
        self._opener = opener
        self._workers = workers
        self._on_failure = on_failure
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._slots: collections.OrderedDict[int, _Slot] = collections.OrderedDict()

    # -- questions -----------------------------------------------------------

    def stat(self, image: MountEntry, number: int) -> Entry:
        """Return a file by its number. Raises as `Volume.stat`, and as the opener."""
        with self._using(image) as known:
            return _normal(known, known.volume.stat(number))

    def find(self, image: MountEntry, number: int, name: bytes) -> Entry:
        """Return what a name in a directory leads to. Raises as `Volume.find`."""
        with self._using(image) as known:
            return _normal(known, known.volume.find(number, name))

    def listing(self, image: MountEntry, number: int) -> tuple[Listing, int]:
        """Return what a directory has, and the number of the root. Raises as `Volume.listing`."""
        problems = 0

        def tell(why: str) -> None:
            nonlocal problems
            problems += 1
            if problems <= _MOST_TOLD:
                log.warning("%s: %s", image.name, why)

        with self._using(image) as known:
            found = known.volume.listing(number, tell, self._most_bytes)
            if problems > _MOST_TOLD:
                log.warning("%s: and %d lines more", image.name, problems - _MOST_TOLD)
            return found, known.volume.root

    def attributes(self, image: MountEntry, number: int) -> dict[bytes, bytes]:
        """Return the extended attributes of a file. Raises as `Volume.attributes`."""
        with self._using(image) as known:
            return known.volume.attributes(number, lambda why: log.warning("%s", why))

    def has_owners(self, image: MountEntry) -> bool:
        """Tell whether the files of an image have owners and modes."""
        with self._using(image) as known:
            return known.volume.has_owners

    def way_to(self, image: MountEntry, target: bytes, above: list[int]) -> bytes:
        """Return the way to where a link leads. Raises as `Volume.way_to`."""
        with self._using(image) as known:
            return known.volume.way_to(target, above)

    def open_file(self, file: InsideFile) -> InsideReader:
        """Open a file. Raises as `Volume.content`."""
        known = self._take(file.image)
        try:
            if file.following and not known.volume.has_looked_at(file.number):
                known.volume.look_ahead([file.number, *file.following])
            content = known.volume.content(
                file.number, tell=lambda why: log.warning("%s: %s", file.image.name, why)
            )
            return InsideReader(known.reader, content, self, known)
        except BaseException:
            self.let_go(known)
            raise

    def open_file_nowait(self, file: InsideFile) -> InsideReader | None:
        """Do as `open_file` if that needs no waiting; else return None."""
        with self._lock:
            slot = self._slots.get(file.image.content_key)
        if slot is None or not slot.lock.acquire(blocking=False):
            return None
        try:
            known = slot.open
            is_fresh = known is not None and time.monotonic() - known.looked_at < _LOOK_EVERY
            if known is None or not is_fresh or not known.volume.has_looked_at(file.number):
                return None
            try:
                content = known.volume.content(file.number)
            except FormatError:
                # It is met again, and told, by who may wait.
                return None
            with self._lock:
                known.users += 1
            return InsideReader(known.reader, content, self, known)
        finally:
            slot.lock.release()

    # -- opening and closing ---------------------------------------------------

    @contextlib.contextmanager
    def _using(self, image: MountEntry) -> Iterator[_OpenVolume]:
        known = self._take(image)
        try:
            yield known
        finally:
            self.let_go(known)

    def _take(self, image: MountEntry) -> _OpenVolume:
        """Return the file system of an image, counted as used until `let_go`."""
        while True:
            with self._lock:
                slot = self._slots.setdefault(image.content_key, _Slot())
                self._slots.move_to_end(image.content_key)
            with slot.lock:
                if slot.is_gone:
                    continue
                known = slot.open
                if known is not None and not self._is_current(known):
                    slot.open = None
                    self._retire(known)
                    known = None
                if known is None:
                    known = slot.open = self._open(image)
                with self._lock:
                    known.users += 1
                break
        self._close_unused()
        return known

    def _is_current(self, known: _OpenVolume) -> bool:
        now = time.monotonic()
        if now - known.looked_at < _LOOK_EVERY:
            return True
        known.looked_at = now
        return known.reader.is_current()

    def _open(self, image: MountEntry) -> _OpenVolume:
        reader = self._opener(image)
        try:
            volume = Volume(
                reader,
                has_content=image.has_content,
                workers=self._workers,
                on_failure=lambda why: self._on_failure(image, why),
            )
        except BaseException:
            reader.close()
            raise
        if volume.caveat:
            log.warning("%s: %s", image.name, volume.caveat)
        return _OpenVolume(reader, volume)

    def let_go(self, known: _OpenVolume) -> None:
        """Count a user less; close it if that was the last one and it is not wanted any more."""
        with self._lock:
            known.users -= 1
            is_last = known.is_retired and not known.users
        if is_last:
            known.close()

    def _retire(self, known: _OpenVolume) -> None:
        with self._lock:
            known.is_retired = True
            is_unused = not known.users
        if is_unused:
            known.close()

    def _close_unused(self) -> None:
        """Close those that were unused for the longest time, where there are too many."""
        with self._lock:
            unused = [
                (key, slot)
                for key, slot in self._slots.items()
                if slot.open is None or not slot.open.users
            ]
        for key, slot in unused[: max(0, len(unused) - _MOST_UNUSED)]:
            if not slot.lock.acquire(blocking=False):
                continue
            try:
                known, slot.open = slot.open, None
                slot.is_gone = True
                with self._lock:
                    if self._slots.get(key) is slot:
                        del self._slots[key]
                if known is not None:
                    self._retire(known)
            finally:
                slot.lock.release()

    def close(self) -> None:
        """Close all of them, when the mount has ended."""
        with self._lock:
            slots, self._slots = self._slots, collections.OrderedDict()
        for slot in slots.values():
            if slot.open is not None:
                self._retire(slot.open)


def _normal(known: _OpenVolume, entry: Entry) -> Entry:
    """Return an entry with `ROOT` in place of the root's number: it has one inode in a mount."""
    return entry._replace(inode=ROOT) if entry.inode == known.volume.root else entry


class InsideReader:
    """Reads a file inside of an image, as a `WatchedReader` reads the image.

    Args:
        image: reads the image.
        content: the file.
        volumes: what is told when it is closed.
        known: the file system that it is in.
    """

    def __init__(
        self,
        image: WatchedReader,
        content: FileContent | WorkerContent,
        volumes: Volumes,
        known: _OpenVolume,
    ) -> None:
        self._image = image
        self._content = content
        self._volumes = volumes
        self._known = known
        self._is_closed = False
        self.size = content.size
        self.read_into = content.read_into
        self.read_into_nowait = content.read_into_nowait
        self.files: frozenset[FileIdentity] = image.files
        self.was_touched = image.was_touched

    def is_current(self) -> bool:
        """Tell whether the image's paths lead to the files that were opened. It may block."""
        return not self._known.is_retired and self._image.is_current()

    def close(self) -> None:
        """Let go of the file system. Closing twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            self._volumes.let_go(self._known)
