"""The pieces of indexes that a reader loads when it first needs them: each one row, by its key.

Plain SQL on the driver's connections, as in `reading`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...formats.codecs.seek_points import SeekPoint, Span
from ...formats.index.map_chunk import MapChunk
from ...formats.index.rank_chunk import ChunkMissingError, RankChunk

if TYPE_CHECKING:
    import sqlite3

    from ...formats.index.ranges import RangeList

_SPAN = """
    SELECT plain_offset, stored_offset, state, window_bytes, window,
           coalesce((SELECT min(plain_offset) FROM seek_points
                     WHERE stream_id = ?1 AND plain_offset > ?2), ?3)
    FROM seek_points WHERE stream_id = ?1 AND plain_offset <= ?2
        AND (?4 IS NULL OR ?4 = (SELECT content_key FROM indexes JOIN streams
                                 ON streams.index_id = indexes.id WHERE streams.id = ?1))
    ORDER BY plain_offset DESC LIMIT 1
"""
_AGAIN = ": the image was removed or scanned anew meanwhile: open it again"

# Of an index that still has the content key ?2, if one is given.
_LITERAL = """
    SELECT literal FROM segments WHERE index_id = ?1 AND start_byte = ?3
        AND (?2 IS NULL OR ?2 = (SELECT content_key FROM indexes WHERE id = ?1))
"""
_CHUNK = """
    SELECT rank, bitmap FROM rank_chunks WHERE index_id = ?1 AND chunk = ?3
        AND (?2 IS NULL OR ?2 = (SELECT content_key FROM indexes WHERE id = ?1))
"""
_MAP_CHUNK = """
    SELECT (SELECT runs FROM map_chunks WHERE index_id = ?1 AND chunk = ?3) FROM indexes
    WHERE id = ?1 AND (?2 IS NULL OR ?2 = content_key)
"""
_PAGE_HASHES = """
    SELECT hashes FROM page_hashes WHERE stream_id = ?1 AND page_group = ?3
        AND (?2 IS NULL OR ?2 = (SELECT content_key FROM indexes JOIN streams
                                 ON streams.index_id = indexes.id WHERE streams.id = ?1))
"""
_SEAL = """
    SELECT hashes FROM seals WHERE index_id = ?1 AND page_group = ?3
        AND (?2 IS NULL OR ?2 = (SELECT content_key FROM indexes WHERE id = ?1))
"""
# The range that begins before the window may reach into it.
_WINDOW = """
    SELECT first_cluster, cluster_count, source_offset FROM cluster_ranges
    WHERE index_id = ?1 AND (?2 IS NULL OR ?2 = (SELECT content_key FROM indexes WHERE id = ?1))
      AND first_cluster < ?4 AND first_cluster >= coalesce(
        (SELECT max(first_cluster) FROM cluster_ranges WHERE index_id = ?1 AND first_cluster <= ?3),
        ?3)
    ORDER BY first_cluster
"""


def literal(connection: sqlite3.Connection, index_id: int, key: int | None, start: int) -> bytes:
    """Return the literal bytes of a segment as they are stored. One statement, by key.

    Args:
        connection: to ask.
        index_id: the index that the segment is of.
        key: the content key that the index had; None for any. A catalog that was put back from a
            copy may have another index by the same id.
        start: where the segment begins.

    Raises:
        ChunkMissingError: the index was deleted.
    """
    row = connection.execute(_LITERAL, (index_id, key, start)).fetchone()
    if row is None or row[0] is None:
        raise ChunkMissingError(f"the segments of index {index_id} are gone{_AGAIN}")
    return bytes(row[0])


def rank_chunk(
    connection: sqlite3.Connection, index_id: int, key: int | None, number: int
) -> RankChunk:
    """Return one chunk of a rank index. One statement, by key; see `literal` for the content key.

    Raises:
        ChunkMissingError: the index was deleted.
    """
    row = connection.execute(_CHUNK, (index_id, key, number)).fetchone()
    if row is None:
        raise ChunkMissingError(f"chunk {number} of index {index_id} is gone{_AGAIN}")
    return RankChunk(number, *row)


def cluster_ranges(
    connection: sqlite3.Connection, index_id: int, key: int | None, start: int, stop: int
) -> RangeList:
    """Return the ranges that overlap clusters ``[start, stop)``, sorted. One statement, by key.

    A second one where there are none; see `literal` for the content key.

    Raises:
        ChunkMissingError: the index was deleted.
    """
    # Imported where needed: who only lists images does without numpy.
    from ...formats.index.ranges import RangeList

    found = RangeList.of(connection.execute(_WINDOW, (index_id, key, start, stop)))
    is_there = "SELECT 1 FROM indexes WHERE id = ?1 AND content_key = coalesce(?2, content_key)"
    if not found and not connection.execute(is_there, (index_id, key)).fetchone():
        raise ChunkMissingError(f"index {index_id} is gone{_AGAIN}")
    return found


def map_chunk(
    connection: sqlite3.Connection, index_id: int, key: int | None, number: int
) -> MapChunk | None:
    """Return one chunk of a map, None where it has no runs. One statement, by key.

    See `literal` for the content key.

    Raises:
        ChunkMissingError: the index was deleted.
    """
    row = connection.execute(_MAP_CHUNK, (index_id, key, number)).fetchone()
    if row is None:
        raise ChunkMissingError(f"index {index_id} is gone{_AGAIN}")
    return None if row[0] is None else MapChunk(number, bytes(row[0]))


def span(
    connection: sqlite3.Connection,
    stream_id: int,
    key: int | None,
    plain_offset: int,
    plain_bytes: int,
) -> Span:
    """Return the span of a stream that a plain offset lies in. One statement, by key.

    See `literal` for the content key, which is that of the stream's index.

    Raises:
        ChunkMissingError: the index was deleted.
    """
    row = connection.execute(_SPAN, (stream_id, plain_offset, plain_bytes, key)).fetchone()
    if row is None:
        raise ChunkMissingError(f"the seek points of stream {stream_id} are gone{_AGAIN}")
    *point, stop = row
    return Span(SeekPoint(*point), stop)


def page_hashes(
    connection: sqlite3.Connection, stream_id: int, key: int | None, group: int
) -> bytes:
    """Return a group of page hashes as it is stored. One statement, by key.

    See `literal` for the content key, which is that of the stream's index.

    Raises:
        ChunkMissingError: the index was deleted.
    """
    row = connection.execute(_PAGE_HASHES, (stream_id, key, group)).fetchone()
    if row is None:
        raise ChunkMissingError(f"the page hashes of stream {stream_id} are gone{_AGAIN}")
    return bytes(row[0])


def seal(connection: sqlite3.Connection, index_id: int, key: int | None, group: int) -> bytes:
    """Return a group of hashes of an image that is sealed, as it is stored. One statement, by key.

    See `literal` for the content key.

    Raises:
        ChunkMissingError: the index was deleted, or has no seal any more.
    """
    row = connection.execute(_SEAL, (index_id, key, group)).fetchone()
    if row is None:
        raise ChunkMissingError(f"the seal of index {index_id} is gone{_AGAIN}")
    return bytes(row[0])
