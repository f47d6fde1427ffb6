"""What a snapshot finds, laid aside until it is written: in files without names.

They go with the process, however it ends. A large file system takes no more memory than a small
one.
"""

from __future__ import annotations

import marshal
import os
from array import array
from typing import TYPE_CHECKING, Any

from ...filesystems.walking import WalkedDirectory
from ...formats import temporary
from ..database.aside import database_aside, naming_room
from .runs import HASH_SIZE, NO_HASH, count_pieces, pack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from ...filesystems.worker.driver import Run

_ASIDE = """
    CREATE TABLE files (inode INTEGER PRIMARY KEY, size INTEGER, runs BLOB, data BLOB, why TEXT,
                        first_piece INTEGER, piece_count INTEGER);
"""
_TYPES = "QQqII"
_INSERT = """
    INSERT INTO snapshot_files (generation_id, inode, size_bytes, runs, data, hashes, why)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class Spool:
    """Directories, files, runs and hashes. For one thread, but for `put_hashes`.

    What lays anything aside raises a `NoRoomError` where the temporary directory is full.

    Attributes:
        files: files that were laid aside.
        size: bytes of them that lie somewhere.
        pieces: how many pieces these are.
    """

    def __init__(self) -> None:
        self.files = self.size = self.pieces = 0
        self._has_hashes = False
        self._walked = temporary.unnamed_file()
        self._hashes = temporary.unnamed_file(buffering=0)
        self._aside = database_aside(_ASIDE)

    def close(self) -> None:
        """Throw it all away."""
        self._aside.close()
        self._walked.close()
        self._hashes.close()

    # -- directories -----------------------------------------------------------

    @naming_room()
    def add_directory(self, directory: WalkedDirectory) -> None:
        """Lay a directory aside."""
        number, names, *columns, is_whole = directory
        packed = [array(kind, each).tobytes() for kind, each in zip(_TYPES, columns, strict=True)]
        marshal.dump((number, names, packed, is_whole), self._walked)

    def directories(self) -> Iterator[WalkedDirectory]:
        """Yield the directories again, in their order."""
        with naming_room():
            # What was not written out yet is now.
            self._walked.seek(0)
        while True:
            try:
                # Written above.
                number, names, packed, is_whole = marshal.load(self._walked)  # noqa: S302
            except EOFError:
                return
            columns = [array(kind, each) for kind, each in zip(_TYPES, packed, strict=True)]
            inodes, sizes, times, modes, flags = columns
            yield WalkedDirectory(
                number, names, inodes, sizes, times, modes, flags, is_whole=is_whole
            )

    # -- files -----------------------------------------------------------------

    @naming_room()
    def note(self, inodes: Sequence[int]) -> None:
        """Note regular files, of which it is told later where they lie. Twice is once."""
        self._aside.executemany(
            "INSERT OR IGNORE INTO files (inode) VALUES (?)", [(each,) for each in inodes]
        )

    def noted(self, behind: int, most: int) -> list[int]:
        """Return the next files that were noted, by their numbers."""
        rows = self._aside.execute(
            "SELECT inode FROM files WHERE inode > ? ORDER BY inode LIMIT ?", (behind, most)
        )
        return [row[0] for row in rows]

    def has(self, inode: int) -> bool:
        """Tell whether a file was noted, or laid aside."""
        row = self._aside.execute("SELECT 1 FROM files WHERE inode = ?", (inode,)).fetchone()
        return row is not None

    def add_runs(self, inode: int, size: int, runs: list[Run]) -> int:
        """Lay aside where a file lies, and return the number of its first piece."""
        first = self.pieces
        for _start, length, place in runs:
            if place >= 0:
                self.pieces += count_pieces(length)
                self.size += length
        self._add(inode, size, pack(runs), None, None, first, self.pieces - first)
        return first

    def add_data(self, inode: int, data: bytes) -> None:
        """Lay aside what a file holds that lies nowhere as it is."""
        self._add(inode, len(data), None, data, None, self.pieces, 0)

    def add_lost(self, inode: int, size: int, why: str) -> None:
        """Lay aside that a file cannot be got back."""
        self._add(inode, size, None, None, why, self.pieces, 0)

    @naming_room()
    def put_hashes(self, piece: int, hashes: bytes) -> None:
        """Lay aside the hashes of some pieces. Any thread may."""
        self._has_hashes = True
        os.pwrite(self._hashes.fileno(), hashes, piece * HASH_SIZE)

    # -- all of it ---------------------------------------------------------------

    def write(self, driver: sqlite3.Connection, generation_id: int) -> None:
        """Write the files into the catalog.

        Args:
            driver: of the catalog, in a transaction.
            generation_id: what they belong to.
        """
        driver.executemany(_INSERT, self._rows(generation_id))

    @naming_room()
    def _add(self, *values: Any) -> None:  # noqa: ANN401 - columns
        self.files += 1
        self._aside.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def _rows(self, generation_id: int) -> Iterator[tuple[Any, ...]]:
        for inode, size, runs, data, why, first, count in self._aside.execute(
            "SELECT * FROM files WHERE size IS NOT NULL ORDER BY inode"
        ):
            hashes = None
            if self._has_hashes and runs is not None:
                found = os.pread(self._hashes.fileno(), count * HASH_SIZE, first * HASH_SIZE)
                # Of those at the end there may be none.
                hashes = found + NO_HASH * (count - len(found) // HASH_SIZE)
            yield generation_id, inode, size, runs, data, hashes, why
