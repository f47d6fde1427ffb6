"""VHD has no checksums of its data: what is stored is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..finding import Finding
from ..index.kind import IndexKind
from ..progress import WHOLE
from ..stored.mapped import MappedClusters
from ..stored.mapped_verify import verify_mapped
from ..stored.unreadable import unreadable
from .reader import open_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource


def verify(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Finding]:
    """Read everything that is stored, and yield what cannot be read.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
        progress: told the bytes that are done.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        OSError: the operating system could not read.
    """
    reader = open_reader(source, fields, index)
    if index.kind is IndexKind.FULL:
        for bad in unreadable(source, 0, reader.size, progress=progress, jobs=jobs, stage=stage):
            yield Finding(bad.start, bad.stop, f"cannot be read: {bad.reason}")
        return
    geometry = MappedClusters.from_json(fields)
    yield from verify_mapped(
        reader, geometry, index.map_index(), progress=progress, jobs=jobs, stage=stage
    )
