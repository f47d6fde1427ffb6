"""Verifying mapped images, which have no checksums: what is stored is read, and decoded."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..errors import FormatError
from ..finding import Finding
from ..index.map import MapKind
from ..ordered_map import in_order
from ..progress import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..index.map import MapIndex
    from ..progress import Progress, Stage
    from ..reader import ImageReader
    from .mapped import MappedClusters

_PIECE = 4 << 20


def verify_mapped(
    reader: ImageReader,
    geometry: MappedClusters,
    index: MapIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Finding]:
    """Read every cluster that is stored, and yield what cannot be read or decoded.

    Args:
        reader: reads the image.
        geometry: its clusters.
        index: its map.
        progress: told the guest bytes that are done, of those that are stored.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        OSError: the operating system could not read.
    """
    step = max(_PIECE, geometry.cluster_size)

    def of_piece(piece: tuple[int, int]) -> list[Finding]:
        return list(_unreadable(reader, *piece, geometry.cluster_size))

    done = stage.begin // step * step
    pieces = itertools.islice(_stored_pieces(index, geometry, step), done // step, None)
    for found in in_order(of_piece, pieces, jobs=jobs):
        yield from found
        done += step
        if progress is not None:
            progress(min(geometry.size, done))
        stage.reached(done)


def _stored_pieces(
    index: MapIndex, geometry: MappedClusters, step: int
) -> Iterator[tuple[int, int]]:
    """Yield the guest bytes that are stored, up to `step` at once."""
    unit_size = geometry.unit_size
    for run in index.runs(0, -(-geometry.size // unit_size)):
        if run.kind < MapKind.DATA:
            continue
        stop = min(run.stop * unit_size, geometry.size)
        for start in range(run.first * unit_size, stop, step):
            yield start, min(stop, start + step)


def _unreadable(reader: ImageReader, start: int, stop: int, cluster_size: int) -> Iterator[Finding]:
    try:
        reader.read_into(memoryview(bytearray(stop - start)), start)
    except FormatError as error:
        edge = (start // cluster_size + 1) * cluster_size
        if stop <= edge:
            yield Finding(start, stop, f"cannot be read: {error}")
            return
        middle = max(edge, (start + stop) // 2 // cluster_size * cluster_size)
        yield from _unreadable(reader, start, middle, cluster_size)
        yield from _unreadable(reader, middle, stop, cluster_size)
