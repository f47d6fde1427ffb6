"""The runs of a file as the catalog has them, and the pieces that hashes are of. Pure.

A run is ``(start, length, place)``: bytes of the file, and where in the volume the first of them
lies, or `ZEROS` or `LOST`. Packed, it is ``length << 2 | kind``, and of one that lies somewhere how
far behind the end of the one before, both in 7 bits a byte, the lowest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...filesystems.worker.wire import LOST, ZEROS
from ..errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...filesystems.worker.driver import Run

PIECE = 1 << 16
"""Bytes of a run that have a hash of their own; the last of a run may be shorter."""

HASH_SIZE = 16
"""Bytes of a hash, xxh3_128, big endian."""

NO_HASH = bytes(HASH_SIZE)
"""In place of the hash of bytes that could not be read."""

_PLACED, _ZEROS, _LOST = 0, 1, 2
_KINDS = {ZEROS: _ZEROS, LOST: _LOST}
_PLACES = {_ZEROS: ZEROS, _LOST: LOST}
_LARGEST = 1 << 63


class Piece(NamedTuple):
    """Some bytes of a file that lie together, and have one hash.

    Attributes:
        start: the first in the file.
        length: how many.
        place: where it lies in the volume.
    """

    start: int
    length: int
    place: int


def merged(runs: Iterable[Run], size: int) -> list[Run]:
    """Return runs cut at the end of the file, each as long as it can be."""
    found: list[Run] = []
    for start, full, place in runs:
        length = min(full, size - start)
        if length <= 0:
            break
        if found:
            before, count, where = found[-1]
            if place == where < 0 or (where >= 0 and place == where + count):
                found[-1] = (before, count + length, where)
                continue
        found.append((start, length, place))
    return found


def pieces_of(runs: Iterable[Run]) -> Iterator[Piece]:
    """Yield the pieces of what lies somewhere, in the order of the file."""
    for start, length, place in runs:
        if place >= 0:
            for at in range(0, length, PIECE):
                yield Piece(start + at, min(PIECE, length - at), place + at)


def count_pieces(length: int) -> int:
    """Return how many pieces a run has."""
    return -(-length // PIECE)


def pack(runs: Iterable[Run]) -> bytes:
    """Return runs as the catalog has them."""
    packed = bytearray()
    behind = 0
    for _start, length, place in runs:
        _add(packed, length << 2 | _KINDS.get(place, _PLACED))
        if place >= 0:
            shift = place - behind
            # Zigzag: what lies before has the odd numbers.
            _add(packed, shift << 1 if shift >= 0 else (-shift << 1) - 1)
            behind = place + length
    return bytes(packed)


def unpack(packed: bytes, size: int) -> list[Run]:
    """Return the runs of a file of `size` bytes.

    Raises:
        CatalogError: they are not that.
    """
    numbers = _numbers(packed)
    found: list[Run] = []
    start = behind = 0
    is_right = True
    try:
        for number in numbers:
            length, kind = number >> 2, number & 3
            if kind == _PLACED:
                shift = next(numbers)
                place = behind + (-((shift + 1) >> 1) if shift & 1 else shift >> 1)
                behind = place + length
            else:
                place = _PLACES[kind]
            is_right = is_right and length > 0 and (kind != _PLACED or 0 <= place < _LARGEST)
            found.append((start, length, place))
            start += length
    except (KeyError, RuntimeError, StopIteration, ValueError):
        is_right = False
    if start != size or not is_right:
        raise CatalogError("the runs of a file are damaged in the catalog: take the snapshot again")
    return found


def _add(packed: bytearray, number: int) -> None:
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            yield number
            number = shift = 0
    if shift:
        raise ValueError
