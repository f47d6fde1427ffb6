"""Where many files lie: what is known is used while the worker finds out more."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from .checked_runs import CheckedRuns
from .content import FileContent
from .errors import WorkerError
from .in_thread import in_thread
from .of_one_file import OF_ONE_FILE
from .worker.wire import ALONE, CONTENT, FEW_BYTES, NO_DATA, RUN, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .content import WorkerContent
    from .process import Worker
    from .worker.driver import Run

    Tell = Callable[[str], None]
    Content = Callable[[int, bytes, Tell], FileContent | WorkerContent]

_AT_ONCE = 256
"""Files that are asked for at once."""

_MOST_RUNS = 8192
"""Runs of them that are kept for whoever is slower than the worker, some times over."""


class Mapped(NamedTuple):
    """Where a file lies.

    Attributes:
        inode: its number.
        size: bytes.
        runs: where they lie, ascending and without a gap; None where they lie nowhere as they are.
        data: the bytes, of a file without runs that has `FEW_BYTES` at most; else None.
        why: why nobody knows; else None.
    """

    inode: int
    size: int
    runs: list[Run] | None = None
    data: bytes | None = None
    why: str | None = None


def map_all(
    worker: Worker, content: Content, limit: int, inodes: Sequence[int], tell: Tell
) -> Iterator[Mapped]:
    """Yield where each of some files lies, in their order.

    Args:
        worker: of the file system.
        content: gives what one file holds, as `Volume.content`.
        limit: bytes of the volume.
        inodes: the files.
        tell: told which bytes are lost, in the thread of who takes the files.

    Raises:
        WorkerError: the worker has died, or talks nonsense.
        OSError: the image cannot be read.
        FormatError: the same.
    """

    def ask(give: Callable[[list[Mapped | str]], None]) -> None:
        for at in range(0, len(inodes), _AT_ONCE):
            some = list(inodes[at : at + _AT_ONCE])
            answers = _Answers(limit, iter(some))
            worker.ask("contents", answers.take, inodes=some)
            if len(answers.found) < len(some):
                raise WorkerError("reader", 0, "it has not told of all files")
            found: list[Mapped | str] = []
            runs = 0
            for known, is_alone in answers.found:
                for each in _alone(content, known.inode) if is_alone else (known,):
                    found.append(each)
                    runs += 1 if isinstance(each, str) else len(each.runs or ())
                if runs >= _MOST_RUNS:
                    give(found)
                    found, runs = [], 0
            give(found)

    for some in in_thread(ask, "map"):
        for each in some:
            if isinstance(each, str):
                tell(each)
            else:
                yield each


def _alone(content: Content, inode: int) -> Iterator[Mapped | str]:
    """Yield what is to be told of a file that is asked for alone, then where it lies."""
    told: list[str] = []
    size = 0
    try:
        found = content(inode, b"", told.append)
        size = found.size
        if isinstance(found, FileContent):
            runs = [(start, stop - start, place) for start, stop, place in found.runs(0, size)]
            mapped = Mapped(inode, size, runs)
        elif size > FEW_BYTES:
            mapped = Mapped(inode, size)
        else:
            data = bytearray(size)
            found.read_into(memoryview(data), 0)
            mapped = Mapped(inode, size, data=bytes(data))
    except WorkerError:
        raise
    except OF_ONE_FILE as error:
        told.append(str(error))
        mapped = Mapped(inode, size, why=str(error))
    yield from told
    yield mapped


class _Answers:
    """What the worker tells of some files.

    Attributes:
        found: each file, and whether it must be asked for alone.
    """

    def __init__(self, limit: int, inodes: Iterator[int]) -> None:
        self._limit = limit
        self._inodes = inodes
        self.found: list[tuple[Mapped, bool]] = []

    def take(self, _kind: Kind, data: memoryview) -> None:
        """Take a frame.

        Raises:
            WorkerError: it is nonsense.
        """
        position = 0
        while position < len(data):
            try:
                position = self._add(data, position)
            except struct.error as error:
                raise WorkerError("contents", position, str(error)) from None

    def _add(self, data: memoryview, position: int) -> int:
        inode, size, count, length = CONTENT.unpack_from(data, position)
        if inode != next(self._inodes, None) or size >= 1 << 63:
            raise WorkerError("contents", position, f"file {inode} of {size} bytes")
        start: int = position + CONTENT.size
        if length in {ALONE, NO_DATA}:
            stop: int = start + count * RUN.size
            runs = list(RUN.iter_unpack(data[start:stop]))
            if length == NO_DATA:
                checked = CheckedRuns(self._limit)
                for run in runs:
                    checked.add_one(*run)
                checked.end(size)
            self.found.append((Mapped(inode, size, runs), length == ALONE))
        else:
            stop = start + length
            if count or length != size or size > FEW_BYTES:
                raise WorkerError("contents", position, f"{length} bytes of a file of {size}")
            self.found.append((Mapped(inode, size, data=bytes(data[start:stop])), False))
        if stop > len(data):
            raise WorkerError("contents", position, f"file {inode} is cut off")
        return stop
