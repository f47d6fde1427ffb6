"""What an image takes in the catalog: counted when somebody wants to see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...formats.index.kind import IndexKind
from ..errors import ImageNotFoundError
from ..records import ImageCost, StreamCost

if TYPE_CHECKING:
    import sqlite3

_INDEX_OF = """
    SELECT index_id, kind FROM images JOIN indexes ON indexes.id = images.index_id
    WHERE images.id = ?
"""
_CHUNKS_COST = """
    SELECT count(*), coalesce(sum(length(bitmap)), 0) FROM rank_chunks WHERE index_id = ?
"""
# Three numbers of at most eight bytes, and the row's own header.
_RANGES_COST = "SELECT count(*), 24 * count(*) FROM cluster_ranges WHERE index_id = ?"
_MAP_COST = """
    SELECT count(*), coalesce(sum(length(runs)), 0) FROM map_chunks WHERE index_id = ?
"""
_SEGMENTS_COST = """
    SELECT count(*),
           coalesce(sum(coalesce(length(literal), 0) + coalesce(length(stripes), 0) + 48), 0)
    FROM segments WHERE index_id = ?
"""
# Five numbers of at most eight bytes a point, and the row's own header.
_STREAMS_COST = """
    SELECT codec, library, plain_bytes, stored_bytes, span_bytes, index_version,
           (SELECT count(*) FROM seek_points WHERE stream_id = id),
           (SELECT coalesce(sum(length(window) + 48), 0) FROM seek_points WHERE stream_id = id)
           + (SELECT coalesce(sum(length(hashes) + 24), 0) FROM page_hashes WHERE stream_id = id)
    FROM streams WHERE index_id = ? ORDER BY ordinal
"""


def cost_of_id(connection: sqlite3.Connection, image_id: int) -> ImageCost:
    """Return what the index of an image takes; reads all of it.

    Raises:
        ImageNotFoundError: there is no image with this id.
    """
    row = connection.execute(_INDEX_OF, (image_id,)).fetchone()
    if row is None:
        raise ImageNotFoundError(f"no image has the id {image_id}: it was removed meanwhile")
    index_id, kind = row
    cost = {
        IndexKind.RANGES: _RANGES_COST,
        IndexKind.MAP: _MAP_COST,
        IndexKind.SEGMENTS: _SEGMENTS_COST,
    }
    rows, size = connection.execute(cost.get(kind, _CHUNKS_COST), (index_id,)).fetchone()
    streams = connection.execute(_STREAMS_COST, (index_id,))
    return ImageCost(rows, size, tuple(StreamCost(*fields) for fields in streams))
