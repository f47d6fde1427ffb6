"""Where the clusters of an NTFS attribute lie, as its records tell it.

Read here, for The Sleuth Kit takes a list of runs that contradicts itself, and refuses a file for
one that leads out of the volume. Source: runlist.c of ntfs-3g, ntfs_mapping_pairs_decompress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .driver import Runs
from .wire import ZEROS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .ntfs_records import Attribute

_WIDEST = 8


class Clusters(NamedTuple):
    """The clusters of a volume.

    Attributes:
        size: bytes in one.
        total: how many there are.
    """

    size: int
    total: int


def runs_of(parts: Iterable[Attribute], clusters: Clusters, limit: int, structure: str) -> Runs:
    """Return where the first `limit` bytes of an attribute are.

    A number in a list of runs is told as the difference to the one before. So where one cannot be,
    it and all that follow in this part of the list are lost; and where all are not as many clusters
    as the part is of, the part is.

    Args:
        parts: the attribute, from each record that has some of it.
        clusters: those of the volume.
        limit: bytes.
        structure: the file, for messages.

    Raises:
        DamagedError: two records tell of the same clusters.
    """
    found = Runs()
    for part in sorted(parts, key=lambda each: each.first):
        start = part.first * clusters.size
        if start < found.stop < limit:
            raise DamagedError(structure, found.stop, "two records tell of the same clusters of it")
        found.lose(min(start, limit), "no record tells where they are")
        planned, why = _decoded(part, clusters)
        for behind, place in planned:
            found.add(min(behind * clusters.size, limit), place)
        if why is not None:
            found.lose(min(part.behind * clusters.size, limit), why)
    found.lose(limit, f"its list of runs ends at {found.stop} of {limit} bytes")
    return found


def _decoded(part: Attribute, clusters: Clusters) -> tuple[list[tuple[int, int]], str | None]:
    """Return the runs of a part: cluster behind the last, and place; and why there are no more.

    The reason is None where they are all.
    """
    found: list[tuple[int, int]] = []
    cluster, number = part.first, 0
    position, data = 0, part.pairs
    while position < len(data) and data[position]:
        header = data[position]
        length_width, place_width = header & 0xF, header >> 4
        behind = position + 1 + length_width + place_width
        if not 0 < length_width <= _WIDEST or place_width > _WIDEST or behind > len(data):
            return found, f"run {len(found)} of its list is none"
        length = int.from_bytes(
            data[position + 1 : position + 1 + length_width], "little", signed=True
        )
        if length <= 0:
            return found, f"run {len(found)} of its list has {length} clusters"
        cluster += length
        if cluster > part.behind:
            break
        if place_width:
            number += int.from_bytes(
                data[position + 1 + length_width : behind], "little", signed=True
            )
            if not 0 <= number <= clusters.total - length:
                return found, (
                    f"clusters [{number}, {number + length}) are not all of the volume's"
                    f" {clusters.total}"
                )
        found.append((cluster, number * clusters.size if place_width else ZEROS))
        position = behind
    if cluster != part.behind:
        # Any of their lengths may be wrong.
        want = part.behind - part.first
        return [], f"its list of runs is not of the {want} clusters that it says it is of"
    return found, None
