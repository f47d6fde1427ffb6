"""The runs of a file, as the worker tells them: checked, for nobody vouches for what it says."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from .errors import WorkerError
from .worker.wire import LOST, MOST_REASONS, RUN, ZEROS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_RUNS = 1 << 23


class CheckedRuns:
    """The runs of a file, as they come from the worker: checked, for nobody vouches for them.

    Args:
        limit: bytes of the volume.

    Attributes:
        starts: where each begins in the file.
        places: where it lies; see `FileContent`.
        whys: why runs are lost: the first of those that are, the second, and so on.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._behind = 0
        self._lost = array("Q")
        self.starts = array("Q")
        self.places = array("q")
        self.whys: list[str] = []

    def take(self, kind: Kind, data: memoryview) -> None:
        """Take a frame of the answer: runs, or why one is lost.

        Raises:
            WorkerError: it is none that can be.
        """
        if kind is not Kind.PROBLEM:
            self._add(data)
        elif len(self.whys) < MOST_REASONS:
            self.whys.append(bytes(data).decode(errors="replace"))
        else:
            raise WorkerError("runs", 0, "too many are lost with a reason")

    def reasons(self) -> dict[int, str]:
        """Return why runs are lost, by their numbers."""
        return dict(zip(self._lost, self.whys, strict=False))

    def problems(self, size: int) -> Iterator[str]:
        """Yield which bytes of a file of `size` are lost; of many only how many others there are.

        Yields:
            `MOST_REASONS` texts and one.
        """
        lost = [number for number in self._lost if self.starts[number] < size]
        for number, why in zip(lost, self.whys, strict=False):
            behind = self.starts[number + 1] if number + 1 < len(self.starts) else size
            yield f"bytes [{self.starts[number]}, {min(size, behind)}) are lost: {why}"
        others = len(lost) - len(self.whys)
        if others > 0:
            yield f"{others} other stretch{'es' * (others != 1)} of its bytes are lost too"

    def _add(self, data: memoryview) -> None:
        """Add the runs in a frame.

        Raises:
            WorkerError: they do not follow each other, or are not in the volume.
        """
        if len(data) % RUN.size or len(self.starts) > _MOST_RUNS:
            raise WorkerError("runs", 0, "there are too many")
        for start, length, place in RUN.iter_unpack(data):
            self.add_one(start, length, place)

    def add_one(self, start: int, length: int, place: int) -> None:
        """Add a run. Raises as `add`."""
        is_there = place in {ZEROS, LOST} or 0 <= place <= self._limit - length
        if start != self._behind or not 0 < length < 1 << 63 or not is_there:
            raise WorkerError("runs", 0, f"{length} bytes at {start}, in the volume at {place}")
        if place == LOST:
            self._lost.append(len(self.starts))
        self.starts.append(start)
        self.places.append(place)
        self._behind = start + length

    def end(self, size: int) -> None:
        """Check that they go up to the end of the file.

        Raises:
            WorkerError: they do not.
        """
        if self._behind < size:
            raise WorkerError("runs", 0, f"they end at {self._behind} of {size} bytes")
