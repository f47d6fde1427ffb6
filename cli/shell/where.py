"""Where a guest byte lies: through every image, cluster, stream and file that is between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...formats.extent import ExtentKind
from ...formats.sources.byte_source import ByteSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.extent import Extent
    from ...formats.reader import ImageReader
    from .session import Session


def steps(session: Session, offset: int) -> Iterator[str]:
    """Yield each step of the way to a guest byte, in words.

    Args:
        session: which image.
        offset: the guest byte, inside of the image.
    """
    reader: ImageReader = session.opened.reader
    yield f"byte {offset} of {session.name}"
    while True:
        extent = next(iter(reader.extents(offset, offset + 1)))
        if extent.kind is ExtentKind.UNREADABLE:
            yield f"cannot be read: {extent.reason}"
            return
        if extent.kind is ExtentKind.ZERO:
            yield "zeros: nothing is stored"
            return
        if isinstance(extent.source, ByteSource):
            yield from _stored(extent)
            return
        # What a child is called its reader says.
        inner: Any = extent.source
        offset = extent.offset
        reader = cast("ImageReader", inner)
        yield f"byte {offset} of {getattr(inner, 'name', 'another image')}"


def _stored(extent: Extent) -> Iterator[str]:
    source = cast("ByteSource", extent.source)
    place = source.place(extent.offset)
    if extent.kind is ExtentKind.COMPRESSED:
        yield (
            f"in the compressed piece of {extent.stored_length} bytes at {extent.offset}, which "
            f"decodes to guest bytes [{extent.start}, {extent.stop})"
        )
    elif place.is_compressed:
        yield f"byte {extent.offset} of the plain stream"
    if place.path is None:
        yield "kept in the catalog itself"
    elif place.is_compressed or place.offset is None:
        yield f"decoded from {place.path}"
    else:
        yield f"byte {place.offset} of {place.path}"
