"""Where every regular file of a volume lies, and hashes of it: laid aside in a spool."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ...filesystems.errors import RefusedError
from ...filesystems.fiemap import UnsettledError
from ...filesystems.names import shown
from ...filesystems.of_one_file import OF_ONE_FILE
from ...filesystems.worker.wire import FEW_BYTES
from ..database.aside import NoRoomError
from .hashing import hashes_of
from .runs import PIECE, count_pieces, merged

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...filesystems.mapping import Mapped
    from ...filesystems.mounted import MountedVolume, Opened
    from ...filesystems.volume import Volume
    from ...filesystems.walking import WalkedDirectory
    from ...filesystems.worker.driver import Run
    from .hashing import Hasher
    from .spool import Spool

    Tell = Callable[[str], None]
    Progress = Callable[[int], None]

_MAPPED_AT_ONCE = 1 << 14

TOLD_EVERY = 256
"""Files after which it is told how many are done."""

_HASHED_AT_ONCE = 1 << 28
"""Bytes of files that are read in the order of the disk: so many that a head seldom goes back."""

_COMPRESSED = "it is stored compressed: its bytes lie nowhere as they are"

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


def gather(
    volume: Volume, spool: Spool, hasher: Hasher | None, tell: Tell, progress: Progress
) -> None:
    """Lay aside the directories and files of a volume.

    Args:
        volume: the file system, which nobody writes.
        spool: where to.
        hasher: is given where files lie as that is known; None where they are not hashed.
        tell: told what cannot be read.
        progress: told how many files are done.

    Raises:
        As `Volume.walk`, `Volume.map` and `Hasher.add`.
    """
    for directory in volume.walk(tell):
        spool.add_directory(directory)
        spool.note(regular(directory))
    behind = -1
    while inodes := spool.noted(behind, _MAPPED_AT_ONCE):
        found = _Batch(hasher)
        for file in volume.map(inodes, tell):
            _lay_aside(file, spool, found)
            if not spool.files % TOLD_EVERY:
                progress(spool.files)
        found.flush()
        behind = inodes[-1]
        progress(spool.files)
    if hasher is not None:
        hasher.finish()


class _Batch:
    """Runs that are hashed together, in the order of the disk."""

    def __init__(self, hasher: Hasher | None) -> None:
        self._hasher = hasher
        self._runs: list[tuple[int, int, int]] = []
        self._size = 0

    def add(self, runs: list[Run], first_piece: int) -> None:
        """Add the runs of a file."""
        if self._hasher is None:
            return
        for _start, length, place in runs:
            if place >= 0:
                self._runs.append((place, length, first_piece))
                first_piece += count_pieces(length)
                self._size += length
        if self._size >= _HASHED_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Let them be hashed."""
        if self._hasher is not None:
            self._hasher.add(sorted(self._runs))
        self._runs, self._size = [], 0


def _lay_aside(file: Mapped, spool: Spool, found: _Batch) -> None:
    if file.runs is not None:
        runs = merged(file.runs, file.size)
        found.add(runs, spool.add_runs(file.inode, file.size, runs))
    elif file.data is not None:
        spool.add_data(file.inode, file.data)
    else:
        spool.add_lost(file.inode, file.size, file.why or _COMPRESSED)


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
        except NoRoomError:
            # Not of this file: nothing more could be laid aside.
            raise
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
            if opened.size > FEW_BYTES:
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
