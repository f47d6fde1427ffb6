"""raw: there are no checksums and no structure, so every byte is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..finding import Finding
from ..progress import WHOLE
from ..stored.blocks import StoredBlocks
from ..stored.unreadable import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource


def verify(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,  # noqa: ARG001
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Finding]:
    """Read every byte and yield what cannot be read: there are no checksums, and no structure.

    Of a compressed image every byte is compared with what it was when it was scanned.

    Args:
        source: the partition's bytes.
        fields: `ImageInfo.layout` of the scan.
        index: as the other formats have it.
        progress: told the bytes that are done.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        OSError: the operating system could not read.
    """
    size = StoredBlocks.from_json(fields).size
    for bad in unreadable(source, 0, size, progress=progress, jobs=jobs, stage=stage):
        yield Finding(bad.start, bad.stop, f"cannot be read: {bad.reason}")
