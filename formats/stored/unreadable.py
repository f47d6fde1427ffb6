"""Reading a source from one end to the other, only to find what cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import FormatError
from ..ordered_map import in_order
from ..progress import WHOLE
from ..sources.pages import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource

_PIECE = 4 << 20


class Unreadable(NamedTuple):
    """Source bytes ``[start, stop)`` that cannot be read, and why."""

    start: int
    stop: int
    reason: str


def unreadable(
    source: ByteSource,
    start: int,
    stop: int,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Unreadable]:
    """Read bytes ``[start, stop)`` and yield what cannot be read, ascending, a page at the finest.

    Of a compressed image, every byte is compared with what it was when it was scanned.

    Args:
        source: the bytes.
        start: the first.
        stop: behind the last.
        progress: told where it has got to.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        OSError: the operating system could not read.
    """

    def of_piece(at: int) -> list[Unreadable]:
        return _unreadable(source, at, min(stop, at + _PIECE))

    done = max(0, stage.begin - start) // _PIECE
    offsets = range(start + done * _PIECE, stop, _PIECE)
    for at, found in zip(offsets, in_order(of_piece, offsets, jobs=jobs), strict=True):
        yield from found
        if progress is not None:
            progress(min(stop, at + _PIECE))
        stage.reached(min(stop, at + _PIECE))


def _unreadable(source: ByteSource, start: int, stop: int) -> list[Unreadable]:
    try:
        source.readv((memoryview(bytearray(stop - start)),), start)
    except FormatError as error:
        if stop - start <= PAGE_SIZE:
            return [Unreadable(start, stop, str(error))]
        middle = (start + stop) // 2
        return _unreadable(source, start, middle) + _unreadable(source, middle, stop)
    return []
