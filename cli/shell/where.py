"""Where a guest byte lies: through every image, cluster, stream and file that is between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...formats.extent import ExtentKind
from ...formats.sources.byte_source import ByteSource
from ...formats.sources.encoded import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.extent import Extent
    from ...formats.reader import ImageReader
    from ...formats.sources.encoded import Encoded
    from .session import Session

_LARGEST_CLUSTER = 2 << 20


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
            if extent.kind is ExtentKind.COMPRESSED:
                whole = _whole(reader, extent)
                yield (
                    f"in the compressed piece of {whole.stored_length} bytes at {whole.offset}, "
                    f"which decodes to guest bytes [{whole.start}, {whole.stop})"
                )
            yield from _stored(extent.source, extent.offset)
            return
        # What a child is called its reader says.
        inner: Any = extent.source
        offset = extent.offset
        reader = cast("ImageReader", inner)
        yield f"byte {offset} of {getattr(inner, 'name', 'another image')}"


def _whole(reader: ImageReader, extent: Extent) -> Extent:
    """Return the extent of the whole cluster that a byte of it was asked for."""
    start = extent.start // _LARGEST_CLUSTER * _LARGEST_CLUSTER
    stop = min(reader.size, start + _LARGEST_CLUSTER)
    around = (each for each in reader.extents(start, stop) if each.stop > extent.start)
    return next(around, extent)


def _stored(source: ByteSource, offset: int) -> Iterator[str]:
    """Yield where a byte of what is stored of an image lies."""
    piece = encoded(source, offset)
    if piece is not None:
        yield f"byte {piece.offset} of the plain stream"
        yield (
            f"in its bytes [{piece.start}, {piece.stop}), which are decoded from bytes "
            f"[{piece.stored_start}, {piece.stored_stop}) of the {piece.codec} stream"
        )
        yield _files_of(piece)
        return
    place = source.place(offset)
    if place.path is None:
        yield "kept in the catalog itself"
    elif place.offset is None:
        yield f"decoded from {place.path}"
    else:
        yield f"byte {place.offset} of {place.path}"


def _files_of(piece: Encoded) -> str:
    first = piece.stored.place(piece.stored_start)
    last = piece.stored.place(max(piece.stored_start, piece.stored_stop - 1))
    stop = "?" if last.offset is None else last.offset + 1
    if first.path == last.path:
        return f"bytes [{first.offset}, {stop}) of {first.path}"
    return f"from byte {first.offset} of {first.path} up to byte {stop} of {last.path}"
