"""Where every regular file of a volume lies, and hashes of it: laid aside in a spool."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ...filesystems import ahead
from ...filesystems.content import FileContent
from ...filesystems.copying import OF_ONE_FILE
from ...filesystems.errors import RefusedError, WorkerError
from ...filesystems.fiemap import UnsettledError
from ...filesystems.names import shown
from ...formats.reader import read_bytes
from .hashing import hash_runs, hashes_of
from .runs import PIECE, merged

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...filesystems.mounted import MountedVolume, Opened
    from ...filesystems.volume import Volume
    from ...filesystems.walking import WalkedDirectory
    from ...formats.reader import ImageReader
    from .spool import Spool

    Tell = Callable[[str], None]
    Progress = Callable[[int], None]

MOST_DATA = 4096
"""Bytes of a file that are kept themselves, where they lie nowhere as they are."""

_ATTEMPTS = 3
_PIECES_AT_ONCE = 64
_READ = PIECE * _PIECES_AT_ONCE


def regular(directory: WalkedDirectory) -> list[int]:
    """Return the numbers of the regular files in a directory."""
    return [
        inode
        for inode, mode in zip(directory.inodes, directory.modes, strict=True)
        if stat.S_ISREG(mode)
    ]


def gather(volume: Volume, spool: Spool, tell: Tell, progress: Progress) -> None:
    """Lay aside the directories and files of a volume.

    Args:
        volume: the file system, which nobody writes.
        spool: where to.
        tell: told what cannot be read.
        progress: told how many files are done.

    Raises:
        As `Volume.walk`.
    """
    for directory in volume.walk(tell):
        spool.add_directory(directory)
        spool.note(regular(directory))
    behind = -1
    while inodes := spool.noted(behind, ahead.MOST):
        volume.look_ahead(inodes)
        for inode in inodes:
            _gather_one(volume, inode, spool, tell)
        behind = inodes[-1]
        progress(spool.files)


def _gather_one(volume: Volume, inode: int, spool: Spool, tell: Tell) -> None:
    size = 0
    try:
        content = volume.content(inode, tell=tell)
        size = content.size
        if isinstance(content, FileContent):
            spool.add_runs(inode, size, merged(runs_of(content), size))
        elif size <= MOST_DATA:
            spool.add_data(inode, read_bytes(content, 0, size))
        else:
            spool.add_lost(
                inode, size, "it is stored compressed: its bytes lie nowhere as they are"
            )
    except WorkerError:
        raise
    except OF_ONE_FILE as error:
        tell(str(error))
        spool.add_lost(inode, size, str(error))


def runs_of(content: FileContent) -> list[tuple[int, int, int]]:
    """Return the runs of a file."""
    return [(start, stop - start, place) for start, stop, place in content.runs(0, content.size)]


def hash_all(reader: ImageReader, spool: Spool, tell: Tell, progress: Progress) -> None:
    """Hash all that was laid aside. Raises as `hash_runs`.

    Args:
        reader: reads the volume.
        spool: where the runs are, and the hashes go.
        tell: told what cannot be read.
        progress: told the bytes that are done.
    """
    hash_runs(reader, spool.runs(), spool.put_hashes, tell, progress)


class MountedGatherer:
    """Lays aside the files of a file system that is mounted, as they are met.

    A file is hashed by what it holds, not by what lies in its blocks: whatever is written to it, or
    them, meanwhile, a hash never vouches for other bytes than those of the file.

    Args:
        volume: the file system.
        spool: where to.
        with_hashes: whether files are hashed.
        tell: told what cannot be read.
        progress: told how many files are done.
    """

    def __init__(
        self,
        volume: MountedVolume,
        spool: Spool,
        *,
        with_hashes: bool,
        tell: Tell,
        progress: Progress,
    ) -> None:
        self._volume = volume
        self._spool = spool
        self._with_hashes = with_hashes
        self._tell = tell
        self._progress = progress

    def gather(self) -> None:
        """Lay aside all. Raises as `MountedVolume.walk`."""
        for directory in self._volume.walk(self._tell, self._see):
            self._spool.add_directory(directory)
            self._progress(self._spool.files)

    def _see(self, directory: int, name: bytes, status: os.stat_result) -> None:
        if self._spool.has(status.st_ino):
            return
        try:
            self._see_one(directory, name, status)
        except OF_ONE_FILE as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._tell(f"file {status.st_ino}, {shown(name)}: {why}")
            self._spool.add_lost(status.st_ino, status.st_size, why)

    def _see_one(self, directory: int, name: bytes, status: os.stat_result) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                opened = self._volume.map(directory, name, status, sync=True)
            except UnsettledError:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            try:
                self._lay_aside(opened, status.st_ino)
            finally:
                opened.close()
            return

    def _lay_aside(self, opened: Opened, inode: int) -> None:
        if opened.runs is None:
            if opened.size > MOST_DATA:
                raise RefusedError("file", 0, "its bytes lie nowhere as they are")
            data = os.pread(opened.fd, opened.size, 0)
            self._spool.add_data(inode, data)
            return
        runs = merged(opened.runs, opened.size)
        piece = self._spool.add_runs(inode, opened.size, runs)
        if not self._with_hashes:
            return
        for start, length, place in runs:
            if place < 0:
                continue
            for at in range(0, length, _READ):
                count = min(_READ, length - at)
                data = os.pread(opened.fd, count, start + at)
                if len(data) == count:
                    self._spool.put_hashes(piece, hashes_of(memoryview(data)))
                # Of a file that was cut off meanwhile, there are no hashes of the rest.
                piece += -(-count // PIECE)
