"""Extents of one kind, joined: where a guest's bytes are, whatever lies between them in the image.

A reader ends an extent wherever a checksum lies between its bytes. Whoever asks what the guest
holds does not care.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .extent import Extent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def merged(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Yield adjacent `extents`, with neighbours of one kind as one; holds only one at a time.

    The ``source_offset`` of a DATA extent is where its first byte lies; the rest follow it with
    gaps.
    """
    start, stop, kind, source_offset = 0, 0, None, -1
    for extent in extents:
        if extent.kind is kind:
            stop = extent.stop
            continue
        if kind is not None:
            yield Extent(start, stop, kind, source_offset)
        start, stop, kind, source_offset = extent
    if kind is not None:
        yield Extent(start, stop, kind, source_offset)
