"""Where a file has data, as the file system tells."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def data_ranges(path: Path) -> list[tuple[int, int]]:
    """Return the ranges ``[start, stop)`` of a file that are no holes."""
    found = []
    with path.open("rb") as file:
        stop = 0
        while True:
            try:
                start = os.lseek(file.fileno(), stop, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return found
                raise
            stop = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, stop))


def whole_blocks(ranges: Iterable[tuple[int, int]], block: int, size: int) -> list[tuple[int, int]]:
    """Return ascending `ranges` grown to whole blocks of a file of `size` bytes, and joined."""
    grown: list[tuple[int, int]] = []
    for start, stop in ranges:
        first, last = start // block * block, min(size, -(-stop // block) * block)
        if grown and first <= grown[-1][1]:
            grown[-1] = (grown[-1][0], max(last, grown[-1][1]))
        else:
            grown.append((first, last))
    return grown
