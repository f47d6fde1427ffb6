"""Opening an image as the catalog does: scan once, then read from what the scan gave."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from imgcat.formats import registry

if TYPE_CHECKING:
    from imgcat.formats.index.cache import IndexCache
    from imgcat.formats.reader import ImageReader, Scan
    from imgcat.formats.sources.byte_source import ByteSource


def open_scanned(source: ByteSource, scan: Scan, cache: IndexCache | None = None) -> ImageReader:
    """Return a reader over `source` from the result of its scan."""
    index = scan.stored_index()
    if cache is not None:
        index = dataclasses.replace(index, cache=cache)
    return registry.open_reader(scan.info.format, source, scan.info.layout, index)


def scan_and_open(source: ByteSource) -> tuple[Scan, ImageReader]:
    """Scan `source` and return a reader over it too."""
    scan = registry.scan(source)
    return scan, open_scanned(source, scan)
