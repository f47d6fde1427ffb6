"""Opening an image that is made of others: from its rows, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...formats.composed.parts import Child, Literal
from ...formats.composed.reader import ComposedReader, Slice
from ...formats.composed.striped import Striped
from ...formats.errors import FormatError, UnreadablePartError
from ...formats.index.rank_chunk import ChunkMissingError
from ..database.segments import unpack_literal
from ..errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...formats.composed.parts import Part
    from ...formats.extent import Extent
    from ...formats.index.cache import IndexCache
    from ...formats.reader import ImageReader
    from ..records import OpenSpec, SegmentRow
    from ..store import Catalog

    OpenChild = Callable[[int, int | None], ImageReader]


def open_composed(
    catalog: Catalog, spec: OpenSpec, cache: IndexCache, open_child: OpenChild
) -> ComposedReader:
    """Return a reader over an image that is made of others. They are opened when they are read.

    What cannot be read of one of them is an `UnreadablePartError` that names it.

    Args:
        catalog: where it is.
        spec: what it is made of.
        cache: where literal bytes are kept.
        open_child: opens an image by its id, watched, if it has that content key.
    """
    children: dict[tuple[str, int | None, int | None], Child] = {}
    slices = []
    for row in spec.segments:
        part: Part
        if row.child_name is None:
            part, offset = _literal(catalog, spec, row, cache), 0
        else:
            offset = row.child_offset or 0
            which = row.child_name, row.child_id, row.child_key
            if which not in children:
                children[which] = _child(row, row.child_name, open_child)
            part = children[which]
            if row.stripes is not None:
                part = Striped(children[which], row.stripes)
        slices.append(Slice(row.start, row.stop, part, offset))
    return ComposedReader(spec.size_bytes, slices)


def _literal(catalog: Catalog, spec: OpenSpec, row: SegmentRow, cache: IndexCache) -> Literal:
    size = row.stop - row.start

    def load() -> bytes:
        stored = catalog.load_literal(spec.index_id, row.start, content_key=spec.content_key)
        return unpack_literal(stored, size)

    return Literal(size, load, cache, (spec.content_key, row.start))


def _child(row: SegmentRow, name: str, open_child: OpenChild) -> Child:
    def open_it() -> ImageReader:
        if row.child_id is None:
            raise UnreadablePartError(name, 0, "is not in the catalog: add its directory again")
        try:
            return _NamedReader(name, open_child(row.child_id, row.child_key))
        except (CatalogError, OSError) as error:
            raise _named(name, error) from error

    return Child(name, open_it)


class _NamedReader:
    """A reader whose errors name the part that it reads. See `ImageReader`."""

    def __init__(self, name: str, reader: ImageReader) -> None:
        self.name = name
        self._reader = reader
        self.read_into_nowait = reader.read_into_nowait
        self.close = reader.close

    @property
    def size(self) -> int:
        return self._reader.size

    def read_into(self, view: memoryview, offset: int) -> None:
        try:
            self._reader.read_into(view, offset)
        except UnreadablePartError:
            raise
        except (CatalogError, ChunkMissingError, FormatError) as error:
            raise _named(self.name, error) from error

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        try:
            yield from self._reader.extents(start, stop)
        except UnreadablePartError:
            raise
        except (CatalogError, ChunkMissingError, FormatError) as error:
            raise _named(self.name, error) from error


def _named(name: str, error: Exception) -> UnreadablePartError:
    return UnreadablePartError(name, 0, str(error))
