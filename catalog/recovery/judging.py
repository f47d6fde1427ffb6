"""What became of the bytes of a file: read from where they lay, hashed, and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...filesystems.of_one_file import OF_ONE_FILE
from ...filesystems.worker.wire import LOST
from .hashing import hash_of
from .records import Cause, Range, Verdict
from .runs import HASH_SIZE, NO_HASH, PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ...formats.reader import ImageReader
    from .records import SavedFile

    Write = Callable[[int, memoryview], None]
    Owners = Callable[[int, int], Iterable[tuple[int, int, int, bytes]]]

_AT_ONCE = 64 * PIECE

_MAY_BE_OTHERS = frozenset({Cause.CHANGED, Cause.ZEROS, Cause.UNKNOWN})


def _write_nothing(_offset: int, _data: memoryview) -> None:
    """Keep nothing."""


def read_file(reader: ImageReader, file: SavedFile, write: Write = _write_nothing) -> list[Range]:
    """Read a file from where it lay, and tell what became of its bytes.

    Args:
        reader: reads the volume.
        file: where it lay; not one that has no runs.
        write: takes what was read that is not zeros: the byte of the file, and the bytes.

    Returns:
        The ranges that lay somewhere, in the order of the file, as long as they can be.
    """
    found: list[Range] = []
    piece = 0
    buffer = memoryview(bytearray(_AT_ONCE))
    for start, length, place in file.runs or ():
        if place < 0:
            if place == LOST:
                _add(found, Range(start, start + length, LOST, Cause.LOST))
            continue
        for at in range(0, length, _AT_ONCE):
            view = buffer[: min(_AT_ONCE, length - at)]
            for each in _read_pieces(reader, view, start + at, place + at, file.hashes, piece):
                if each.cause not in {Cause.UNREADABLE, Cause.ZEROS}:
                    low = each.start - start - at
                    data = view[low : low + each.stop - each.start]
                    if any(data[:1]) or not _is_zeros(data):
                        write(each.start, data)
                _add(found, each)
                piece += 1
    return found


def _read_pieces(
    reader: ImageReader, view: memoryview, start: int, place: int, hashes: bytes | None, piece: int
) -> Iterator[Range]:
    """Yield the pieces of a part of a run, and what became of each."""
    is_read = _can_read(reader, view, place)
    for at in range(0, len(view), PIECE):
        data = view[at : at + PIECE]
        known = None
        if hashes is not None:
            known = hashes[piece * HASH_SIZE : (piece + 1) * HASH_SIZE]
        if is_read or _can_read(reader, data, place + at):
            cause = _cause_of(data, known)
        else:
            cause = Cause.UNREADABLE
        yield Range(start + at, start + at + len(data), place + at, cause)
        piece += 1


def _can_read(reader: ImageReader, view: memoryview, place: int) -> bool:
    if place + len(view) > reader.size:
        return False
    try:
        reader.read_into(view, place)
    except OF_ONE_FILE:
        return False
    return True


def _cause_of(data: memoryview, known: bytes | None) -> Cause:
    if known in {None, NO_HASH}:
        return Cause.ZEROS if _is_zeros(data) else Cause.UNKNOWN
    if hash_of(data) == known:
        return Cause.HOLDS
    return Cause.ZEROS if _is_zeros(data) else Cause.CHANGED


_ZEROS = bytes(PIECE)


def _is_zeros(data: memoryview) -> bool:
    return data == _ZEROS[: len(data)]


def _add(found: list[Range], new: Range) -> None:
    """Add a range, to the last one where it goes on."""
    if found:
        last = found[-1]
        goes_on = last.stop == new.start and last.place + last.stop - last.start == new.place
        if goes_on and last[3:] == new[3:]:
            found[-1] = last._replace(stop=new.stop)
            return
    found.append(new)


def with_owners(ranges: Iterable[Range], owners: Owners) -> list[Range]:
    """Return ranges, with those told apart that belong to another file now.

    Args:
        ranges: of one file.
        owners: yields what of bytes ``[start, stop)`` of the volume belongs to others: start, stop,
            number and path of the file; by where it begins.
    """
    found: list[Range] = []
    for each in ranges:
        if each.cause not in _MAY_BE_OTHERS:
            _add(found, each)
            continue
        position = each.start
        shift = each.start - each.place
        for low, high, inode, owner in owners(each.place, each.place + each.stop - each.start):
            start, stop = max(low + shift, position), high + shift
            if stop <= start:
                continue
            if start > position:
                _add(found, each._replace(start=position, stop=start, place=position - shift))
            _add(found, Range(start, stop, start - shift, Cause.OTHERS, inode, owner))
            position = stop
        if position < each.stop:
            _add(found, each._replace(start=position, place=position - shift))
    return found


_VERDICTS: tuple[tuple[Verdict, Callable[[set[Cause]], bool]], ...] = (
    (Verdict.VERIFIED, lambda causes: causes <= {Cause.HOLDS}),
    (Verdict.UNVERIFIABLE, lambda causes: causes <= {Cause.HOLDS, Cause.UNKNOWN}),
    (Verdict.PARTIAL, lambda causes: Cause.HOLDS in causes),
    (Verdict.REALLOCATED, lambda causes: Cause.OTHERS in causes),
    (Verdict.ZEROED, lambda causes: causes == {Cause.ZEROS}),
    (Verdict.ABSENT, lambda causes: causes <= {Cause.UNREADABLE, Cause.LOST}),
    # A file may have zeros in it.
    (Verdict.UNVERIFIABLE, lambda causes: causes <= {Cause.ZEROS, Cause.UNKNOWN}),
)


def verdict_of(ranges: Iterable[Range]) -> Verdict:
    """Return what is to be said of a file, by what became of its bytes that lay somewhere.

    Where a hash holds of some bytes and not of others, it is `PARTIAL`, whatever became of those.
    Where none holds: it is `REALLOCATED` if any of it belongs to another file, else `ZEROED` if all
    of it reads as zeros, else `ABSENT` if none of it can be read, else `PARTIAL`. Where there are
    no hashes, it is the same, but for bytes of which nothing is known: with those it is
    `UNVERIFIABLE`, unless something is known to be wrong.
    """
    causes = {each.cause for each in ranges}
    return next((verdict for verdict, fits in _VERDICTS if fits(causes)), Verdict.PARTIAL)
