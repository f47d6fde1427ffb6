"""What was asked of many small files at once, before each of them is read.

One question for each file, and one more for its attributes, would cost more than what is in it.
"""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import WorkerError
from .worker.wire import FEW_BYTES, FEW_RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .volume import Volume
    from .worker.driver import Run
    from .worker.wire import Entry

MOST = 256
"""Files that are asked for at once."""


class Small(NamedTuple):
    """A file of which all is known but the bytes that lie in the volume.

    Attributes:
        size: bytes.
        runs: where they lie; None where `data` has them.
        data: the bytes, where they lie nowhere as they are.
        attributes: extended attributes, as Linux names them.
        streams: names and sizes of the other streams.
    """

    size: int
    runs: list[Run] | None
    data: bytes | None
    attributes: dict[bytes, bytes]
    streams: list[tuple[bytes, int]]

    def names(self) -> list[bytes]:
        """Return what its attributes and streams are called."""
        return [*self.attributes, *(name for name, _size in self.streams)]


def in_order(
    volume: Volume, entries: list[Entry], is_wanted: Callable[[Entry], bool]
) -> Iterator[Entry]:
    """Yield what is in a directory, files before all else, each few of them asked for at once.

    Args:
        volume: where they are.
        entries: what is in a directory.
        is_wanted: whether a file will be read.
    """
    files = [each for each in entries if stat.S_ISREG(each.mode)]
    for start in range(0, len(files), MOST):
        some = files[start : start + MOST]
        wanted = [each.inode for each in some if is_wanted(each)]
        if len(wanted) > 1:
            volume.look_ahead(wanted)
        yield from some
    yield from (each for each in entries if not stat.S_ISREG(each.mode))


def is_name_beside(name: bytes) -> bool:
    """Tell whether an extended attribute, or another stream, may be called so."""
    return bool(name) and b"\0" not in name


def parse(frame: memoryview) -> tuple[int, Small | None]:
    """Return the number of a file, and what was told of it; None where it must be asked for alone.

    Raises:
        WorkerError: it is nonsense.
    """
    try:
        told = json.loads(bytes(frame))
        inode, found = int(told["inode"]), told["told"]
        small = None if found is None else _small(found)
    except (KeyError, TypeError, ValueError) as error:
        raise WorkerError("small file", 0, f"what is told of it is none: {error}") from None
    if small is not None and not all(map(is_name_beside, small.names())):
        # It is told by who asks for it alone.
        return inode, None
    return inode, small


def _small(told: dict[str, Any]) -> Small:
    size, runs, data = told["size"], told["runs"], told["data"]
    if not isinstance(size, int) or not 0 <= size < 1 << 63:
        raise ValueError(f"{size} bytes")
    if data is not None:
        data = bytes.fromhex(data)
        if len(data) != size or size > FEW_BYTES:
            raise ValueError(f"{len(data)} bytes of {size}")
    else:
        runs = [(int(start), int(length), int(place)) for start, length, place in runs]
        if len(runs) > FEW_RUNS:
            raise ValueError(f"{len(runs)} runs")
    return Small(
        size,
        runs,
        data,
        {bytes.fromhex(name): bytes.fromhex(value) for name, value in told["attributes"]},
        [(bytes.fromhex(name), int(count)) for name, count in told["streams"]],
    )
