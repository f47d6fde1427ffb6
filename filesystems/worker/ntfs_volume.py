"""The volume as The Sleuth Kit reads it: what cannot be read of it is not told as what it holds.

The library reads much at once and keeps it, and refuses all of it for a part that cannot be read;
a whole volume too, where that is in what it looks at when it opens it, such as ``$Secure``, which
nothing here is made of. So it gets zeros in place of what is missing, and whatever it has given is
checked for having been made of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytsk3

from ..errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .driver import Run
    from .source import Source

ERRORS = (OSError, RuntimeError)
"""What the library raises; the second where it was a function of ours that has failed."""

_SECTOR = 512


class TskVolume(pytsk3.Img_Info):  # type: ignore[misc]
    """The volume as the library reads it.

    Args:
        source: the volume.

    Attributes:
        missing: the sectors that it has got zeros for, by their numbers.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.missing: set[int] = set()
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the volume, fewer at its end; zeros in place of what is missing."""
        try:
            return self._source.up_to(offset, size)
        except DamagedError:
            stop = min(offset + size, self._source.size)
            starts = [offset, *range((offset // _SECTOR + 1) * _SECTOR, stop, _SECTOR), stop]
            return b"".join(map(self._piece, starts[:-1], starts[1:]))

    def _piece(self, start: int, stop: int) -> bytes:
        """Return bytes of one sector."""
        try:
            return self._source.read(start, stop - start)
        except DamagedError:
            self.missing.add(start // _SECTOR)
            return bytes(stop - start)

    def get_size(self) -> int:
        """Return the bytes of the volume."""
        return self._source.size

    def close(self) -> None:
        """Do nothing: the volume is the parent's."""

    def check(self, structure: str, runs: Iterable[Run], start: int, stop: int) -> None:
        """Check that bytes that the library has given are the volume's.

        Args:
            structure: what they are of.
            runs: where its bytes are.
            start: the first byte of it that was read.
            stop: the one behind the last.

        Raises:
            DamagedError: some are zeros in place of what cannot be read.
        """
        for first, count, place in runs if self.missing else ():
            begin, end = max(first, start), min(first + count, stop)
            if begin < end and place >= 0:
                self.check_place(structure, place + begin - first, end - begin)

    def check_place(self, structure: str, place: int, length: int) -> None:
        """Do as `check` for bytes that lie together in the volume. Raises as that."""
        for sector in range(place // _SECTOR, -(-(place + length) // _SECTOR)):
            if sector in self.missing:
                raise DamagedError(structure, sector * _SECTOR, self._why(sector))

    def told(self) -> Iterator[str]:
        """Yield in words what was missing up to now, neighbours joined."""
        sectors = sorted(self.missing)
        starts = [each for each in sectors if each - 1 not in self.missing]
        stops = [each + 1 for each in sectors if each + 1 not in self.missing]
        for start, stop in zip(starts, stops, strict=True):
            where = f"bytes [{start * _SECTOR}, {stop * _SECTOR}) of the volume"
            yield f"{where}, which the file system keeps its own in: {self._why(start)}"

    def _why(self, sector: int) -> str:
        at = sector * _SECTOR
        try:
            self._source.read(at, min(_SECTOR, self._source.size - at))
        except DamagedError as error:
            return f"what is at {at} of the volume cannot be read: {error.detail}"
        return f"what is at {at} of the volume could not be read before"


def damaged(structure: str, error: Exception) -> DamagedError:
    """Return what is wrong with a structure, by what the library has raised over it."""
    return DamagedError(structure, 0, str(error).split("\n")[0])
