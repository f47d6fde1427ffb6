"""Opening a partclone image as the catalog does: scan once, then read from what the scan gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgcat.formats import probe
from imgcat.formats.index.rank import ChunkCache, RankIndex
from imgcat.formats.partclone import reader as partclone

if TYPE_CHECKING:
    from imgcat.formats.reader import ImageReader, Scan
    from imgcat.formats.source import ByteSource


def open_scanned(source: ByteSource, scan: Scan, cache: ChunkCache | None = None) -> ImageReader:
    """Return a reader over `source` from the result of its scan."""
    index = None
    if scan.chunks is not None:
        chunks = scan.chunks
        index = RankIndex(scan.info.total_blocks, chunks.__getitem__, cache or ChunkCache(), key=1)
    return partclone.open_reader(source, scan.info.layout, index)


def scan_and_open(source: ByteSource) -> tuple[Scan, ImageReader]:
    """Scan `source` and return a reader over it too."""
    scan = probe.scan(source)
    return scan, open_scanned(source, scan)
