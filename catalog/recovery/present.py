"""What a source holds now: its names, and to which files some of its bytes belong."""

from __future__ import annotations

import stat
from array import array
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...filesystems.errors import RefusedError
from ...filesystems.gate import check
from ...filesystems.mounted import MountedVolume
from ...filesystems.of_one_file import OF_ONE_FILE
from ...filesystems.volume import Volume, found_in
from ...filesystems.walking import time_or_none
from ..database.aside import database_aside, naming_room
from .gathering import TOLD_EVERY, regular

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from ...filesystems.walking import WalkedDirectory
    from ...filesystems.worker.driver import Run
    from .source import Source
    from .taking import Telling

_NAMES = """
    CREATE TABLE names (directory INTEGER, name BLOB, inode INTEGER, number INTEGER,
                        size INTEGER, mtime INTEGER, PRIMARY KEY (directory, name)) WITHOUT ROWID;
    CREATE TABLE directories (number INTEGER PRIMARY KEY, parent INTEGER, name BLOB);
    CREATE TABLE not_whole (number INTEGER PRIMARY KEY);
"""


class Now(NamedTuple):
    """A file that is there now.

    Attributes:
        inode: its number.
        size: bytes.
        mtime_ns: when it was written; None where that is not known.
    """

    inode: int
    size: int
    mtime_ns: int | None


class Held(NamedTuple):
    """Bytes ``[start, stop)`` of a volume that belong to a file now."""

    start: int
    stop: int
    inode: int


class Wanted:
    """Bytes of a volume of which it is asked to which files they belong.

    Args:
        ranges: first byte, and how many; in any order, and they may overlap.
        block_size: bytes that a file has of its last block, though its own end before.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]], block_size: int) -> None:
        self._block_size = block_size
        rows = np.array(sorted(ranges), dtype=np.int64).reshape(-1, 2)
        starts, stops = rows[:, 0], rows.sum(axis=1)
        reach = np.maximum.accumulate(stops)
        # A range begins anew where none before reaches.
        is_first = np.ones(len(rows), dtype=bool)
        is_first[1:] = starts[1:] > reach[:-1]
        self._starts = starts[is_first]
        self._stops = reach[np.append(is_first[1:], True)] if len(rows) else starts
        self._held: list[Held] = []

    def give(self, inode: int, runs: Iterable[Run]) -> None:
        """Note where a file lies now."""
        for _start, count, place in runs:
            if place < 0:
                continue
            length = -(-count // self._block_size) * self._block_size
            number = int(np.searchsorted(self._stops, place, side="right"))
            while number < len(self._starts) and self._starts[number] < place + length:
                start = max(place, int(self._starts[number]))
                stop = min(place + length, int(self._stops[number]))
                self._held.append(Held(start, stop, inode))
                number += 1

    def settle(self) -> None:
        """Make ready for questions, once all files were noted."""
        self._held.sort()
        self._at = np.array([each.start for each in self._held], dtype=np.int64)
        self._reach = np.maximum.accumulate(
            np.array([each.stop for each in self._held], dtype=np.int64)
        )

    def holders(self, start: int, stop: int) -> Iterator[Held]:
        """Yield what of bytes ``[start, stop)`` belongs to files, by where it begins."""
        first = int(np.searchsorted(self._reach, start, side="right"))
        last = int(np.searchsorted(self._at, stop, side="left"))
        for held in self._held[first:last]:
            low, high = max(held.start, start), min(held.stop, stop)
            if low < high:
                yield Held(low, high, held.inode)


class Present:
    """The names that a source has now. They lie in a file without a name. For one thread."""

    def __init__(self) -> None:
        self._names = database_aside(_NAMES)
        self._names.execute("INSERT INTO directories VALUES (0, NULL, NULL)")
        self._directories = 1
        self._is_indexed = False

    def close(self) -> None:
        """Throw it away."""
        self._names.close()

    @naming_room()
    def add(self, directory: WalkedDirectory) -> None:
        """Take what is in a directory.

        Raises:
            NoRoomError: the temporary directory is full.
        """
        if not directory.is_whole:
            self._names.execute("INSERT INTO not_whole VALUES (?)", (directory.number,))
        rows = []
        for name, inode, size, time, mode in zip(
            directory.names, directory.inodes, directory.sizes, directory.times, directory.modes,
            strict=True,
        ):  # fmt: skip
            number = None
            if stat.S_ISDIR(mode):
                number = self._directories
                self._directories += 1
                self._names.execute(
                    "INSERT INTO directories VALUES (?, ?, ?)", (number, directory.number, name)
                )
            rows.append((directory.number, name, inode, number, size, time_or_none(time)))
        self._names.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?, ?, ?)", rows)

    def find(self, path: bytes) -> Now | None:
        """Return what is at a path now, None where nothing is that could be read."""
        return self._follow(path)[0]

    def is_gone(self, path: bytes) -> bool | None:
        """Tell whether nothing is at a path now.

        None where that is not known: the path ends in a directory of which not all could be read.
        """
        now, directory = self._follow(path)
        if now is not None:
            return False
        if directory is None:
            # What was a directory is none now.
            return True
        row = self._names.execute("SELECT 1 FROM not_whole WHERE number = ?", (directory,))
        return None if row.fetchone() else True

    def _follow(self, path: bytes) -> tuple[Now | None, int | None]:
        """Return what is at a path, and the last directory that leads there.

        The latter is None where the path goes on behind what is no directory.
        """
        here: int | None = 0
        directory = 0
        row = None
        for part in path.split(b"/"):
            if here is None:
                return None, None
            directory = here
            row = self._names.execute(
                "SELECT number, inode, size, mtime FROM names WHERE directory = ? AND name = ?",
                (directory, part),
            ).fetchone()
            if row is None:
                return None, directory
            here = row[0]
        assert row is not None
        return Now(*row[1:]), directory

    @naming_room()
    def name_of(self, inode: int) -> bytes:
        """Return a path of a file, empty where it has none."""
        if not self._is_indexed:
            self._names.execute("CREATE INDEX by_inode ON names (inode)")
            self._is_indexed = True
        row = self._names.execute(
            "SELECT directory, name FROM names WHERE inode = ?", (inode,)
        ).fetchone()
        parts: list[bytes] = []
        while row is not None and row[1] is not None:
            parts.append(row[1])
            row = self._names.execute(
                "SELECT parent, name FROM directories WHERE number = ?", (row[0],)
            ).fetchone()
        return b"/".join(reversed(parts))


def look(source: Source, wanted: Wanted | None, telling: Telling) -> Present:
    """Look through a source: which names it has, and to which files the wanted bytes belong.

    A file system whose journal was not replayed is read as it lies there. Nothing is written, nor
    is anything that waits for it written out.

    Args:
        source: the volume.
        wanted: what is asked for; None where names will do.
        telling: told what cannot be read, and how many files were met.

    Raises:
        RefusedError: its file system is not read.
        FormatError: it cannot be read.
        OSError: the same.
    """
    present = Present()
    try:
        if source.mount is not None:
            _look_at_mounted(source, wanted, present, telling)
        else:
            _look_at_volume(source, wanted, present, telling)
        if wanted is not None:
            wanted.settle()
    except BaseException:
        present.close()
        raise
    return present


def _look_at_mounted(
    source: Source, wanted: Wanted | None, present: Present, telling: Telling
) -> None:
    assert source.mount is not None
    volume = MountedVolume(source.mount)
    seen: set[int] = set()

    def see(directory: int, name: bytes, status: os.stat_result) -> None:
        if wanted is None or not status.st_blocks:
            return
        if status.st_nlink > 1:
            if status.st_ino in seen:
                return
            seen.add(status.st_ino)
        try:
            opened = volume.map(directory, name, status, sync=False)
        except OF_ONE_FILE as error:
            telling.tell(f"file {status.st_ino}: {error}")
            return
        opened.close()
        wanted.give(status.st_ino, opened.runs or ())

    try:
        files = 0
        for found in volume.walk(telling.tell, see):
            present.add(found)
            files += len(found.names)
            telling.files(files)
    finally:
        volume.close()


def _look_at_volume(
    source: Source, wanted: Wanted | None, present: Present, telling: Telling
) -> None:
    volume = Volume(source.reader, as_is=_is_as_is(source), on_failure=telling.failure)
    try:
        files = 0
        inodes: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
        for found in volume.walk(telling.tell):
            present.add(found)
            if wanted is not None:
                inodes.append(np.array(regular(found), dtype=np.uint64))
            files += len(found.names)
            telling.files(files)
        if wanted is None or not inodes:
            return
        every = array("Q", np.unique(np.concatenate(inodes)).tobytes())
        for number, file in enumerate(volume.map(every, telling.tell), 1):
            wanted.give(file.inode, file.runs or ())
            if not number % TOLD_EVERY:
                telling.files(number)
    finally:
        volume.close()


def _is_as_is(source: Source) -> bool:
    """Tell whether a file system must be read as it lies there to be read at all."""
    try:
        check(found_in(source.reader), as_is=False)
    except RefusedError:
        return True
    return False
