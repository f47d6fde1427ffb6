"""Checking a catalog: the database's own checks, and that every image's index is whole."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from ...formats import registry
from ...formats.codecs.seek_points import SeekPoint
from ...formats.codecs.window_use import unpack
from ...formats.errors import FormatError
from ...formats.index import map as maps
from ...formats.index.kind import IndexKind
from ...formats.index.map_chunk import CHUNK_UNITS, MapChunk
from ...formats.index.rank import popcount, unpack_chunk
from ...formats.index.rank_chunk import CHUNK_BLOCKS, RankChunk
from ...formats.sources.pages import HASH_SIZE, HASHES_IN_GROUP, PAGE_SIZE, unpack_hashes
from ..errors import CatalogError
from ..names import file_name
from .check_files import check_files
from .segments import below_itself, unpack_literal
from .stripes import unpack_stripes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from .connection import Database

_IMAGES = """
    SELECT images.id, images.name, index_id, indexes.kind, total_blocks, used_blocks, size_bytes,
           compression, layout, format, sealed_at
    FROM images JOIN indexes ON indexes.id = images.index_id
    ORDER BY images.name
"""
_CHUNKS = "SELECT chunk, rank, bitmap FROM rank_chunks WHERE index_id = ? ORDER BY chunk"
_RANGES = """
    SELECT first_cluster, cluster_count, source_offset FROM cluster_ranges
    WHERE index_id = ? ORDER BY first_cluster
"""
_MAP = "SELECT chunk, runs FROM map_chunks WHERE index_id = ? ORDER BY chunk"
_SEGMENTS = """
    SELECT start_byte, stop_byte, child_name, child_offset, child_key, literal, stripes,
           (SELECT content_key FROM indexes JOIN images ON images.index_id = indexes.id
            WHERE images.id = segments.child_id)
    FROM segments WHERE index_id = ? ORDER BY start_byte
"""
_STREAMS = """
    SELECT id, ordinal, plain_bytes, stored_bytes, span_bytes,
           (SELECT sum(size_bytes) FROM volumes
            WHERE image_id = ?2 AND volumes.stream = streams.ordinal)
    FROM streams WHERE index_id = ?1 ORDER BY ordinal
"""
_POINTS = """
    SELECT plain_offset, stored_offset, state, window_bytes, window FROM seek_points
    WHERE stream_id = ? ORDER BY plain_offset
"""
_SEALS = "SELECT page_group, hashes FROM seals WHERE index_id = ? ORDER BY page_group"
_STORED = "SELECT sum(size_bytes), count(DISTINCT stream) FROM volumes WHERE image_id = ?"
_HASHES = "SELECT page_group, hashes FROM page_hashes WHERE stream_id = ? ORDER BY page_group"


class _Image(NamedTuple):
    """What the catalog says of an image whose index is checked."""

    id: int
    name: str | bytes
    index_id: int
    kind: str
    total_blocks: int
    used_blocks: int
    size_bytes: int
    compression: str | None
    layout: str
    format: str
    sealed_at: str | None


def check(database: Database) -> list[str]:
    """Return what is wrong with the catalog, in words; nothing if all is well. Reads all of it."""
    with database.reading() as connection:
        problems = [
            f"integrity: {line}"
            for (line,) in connection.execute("PRAGMA integrity_check")
            if line != "ok"
        ]
        problems += [
            f"foreign key: row {row[1]} of {row[0]} names a missing row of {row[2]}"
            for row in connection.execute("PRAGMA foreign_key_check")
        ]
        keys = connection.execute(
            "SELECT content_key FROM indexes GROUP BY 1 HAVING count(*) > 1 OR content_key = 0"
        )
        problems += [f"indexes: the key {key} is no index's own" for (key,) in keys]
        problems += check_files(connection)
        for image in map(_Image._make, connection.execute(_IMAGES).fetchall()):
            wrong = _what_is_wrong(connection, image)
            if wrong:
                problems.append(
                    f"{file_name(image.name)}: its index is damaged ({wrong}): "
                    "`imgcat add --force` it"
                )
    return problems


def _what_is_wrong(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Return the first thing that is wrong with an image's index and its streams, or None."""
    try:
        return (
            _index_fault(connection, image)
            or _streams_fault(connection, image)
            or _seal_fault(connection, image)
        )
    except (FormatError, CatalogError) as error:
        return str(error)


def _index_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    faults: dict[str, Callable[[sqlite3.Connection, _Image], str | None]] = {
        IndexKind.RANK: _rank_fault,
        IndexKind.RANGES: _ranges_fault,
        IndexKind.MAP: _map_fault,
        IndexKind.SEGMENTS: _segments_fault,
        IndexKind.FULL: _full_fault,
    }
    if image.kind not in faults:
        return f"of the unknown kind {image.kind!r}"
    return faults[image.kind](connection, image)


def _full_fault(_connection: sqlite3.Connection, image: _Image) -> str | None:
    if image.used_blocks != image.total_blocks:
        return f"{image.used_blocks} of {image.total_blocks} blocks are used, without an index"
    return None


def _rank_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Each chunk must unpack, and count on from the one before."""
    rank = 0
    number = 0
    for chunk in map(RankChunk._make, connection.execute(_CHUNKS, (image.index_id,))):
        if chunk.number != number:
            return f"chunk {number} is missing"
        if chunk.rank != rank:
            return f"chunk {number} begins at rank {chunk.rank}, not {rank}"
        rank += popcount(unpack_chunk(chunk, image.total_blocks))
        number += 1
    if number != -(-image.total_blocks // CHUNK_BLOCKS):
        return f"chunk {number} is missing"
    if rank != image.used_blocks:
        return f"it marks {rank} blocks, and {image.used_blocks} are used"
    return None


def _ranges_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Ranges must follow each other, inside of the image, and lie in what is stored."""
    stored_size = json.loads(image.layout).get("stored_size", 0)
    stop = count = 0
    for first, number, offset in connection.execute(_RANGES, (image.index_id,)):
        if first < stop or number <= 0 or first + number > image.total_blocks:
            return f"clusters [{first}, {first + number}) cannot be after {stop}"
        if not 0 <= offset < stored_size:
            return f"cluster {first} at byte {offset} of {stored_size}"
        stop, count = first + number, count + number
    if count != image.used_blocks:
        return f"it has {count} clusters, and {image.used_blocks} are stored"
    return None


def _map_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Each chunk must unpack and lie inside of the image; as much must be stored as is said."""
    stored_size = json.loads(image.layout).get("data_stop", 0)
    count = 0
    for chunk in map(MapChunk._make, connection.execute(_MAP, (image.index_id,))):
        runs = maps.unpack_chunk(chunk)
        if chunk.number < 0 or (runs.stops and runs.stops[-1] > _units_in_clusters(image)):
            return f"chunk {chunk.number} of {CHUNK_UNITS} units reaches behind the end"
        for run in map(runs.run, range(len(runs.firsts))):
            if run.kind >= maps.MapKind.DATA:
                count += run.stop - run.first
                if run.offset >= stored_size:
                    return f"unit {run.first} at byte {run.offset} of {stored_size}"
    if not 0 <= count - image.used_blocks < _units_in_clusters(image) - image.total_blocks + 1:
        return f"it has {count} units, and {image.used_blocks} are stored"
    return None


def _units_in_clusters(image: _Image) -> int:
    """Return how many units there are, counting all of the last cluster."""
    layout = json.loads(image.layout)
    each = int(layout["cluster_size"]) // int(layout["unit_size"])
    return -(-image.total_blocks // each) * each


def _segments_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Segments must follow each other, and name their children as they are now."""
    if below_itself(connection, image.id):
        return "it is made of itself"
    end = 0
    for start, stop, name, offset, key, literal, stripes, current in connection.execute(
        _SEGMENTS, (image.index_id,)
    ):
        if start < end or stop > image.size_bytes:
            return f"bytes [{start}, {stop}) cannot be after {end}"
        if name is None:
            unpack_literal(literal, stop - start)
        elif offset is None or offset < 0:
            return f"bytes [{start}, {stop}) begin at {offset} of {file_name(name)}"
        elif key != current:
            return f"{file_name(name)} was scanned anew since"
        unpack_stripes(stripes)
        end = stop
    return None


def _streams_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Each stream's points must lie one behind the other, and all of its pages have a hash."""
    streams = connection.execute(_STREAMS, (image.index_id, image.id)).fetchall()
    if bool(streams) != (image.compression is not None):
        return f"{len(streams)} streams of compression {image.compression}"
    for expected, (stream_id, ordinal, plain, stored, span, in_files) in enumerate(streams):
        if ordinal != expected:
            return f"stream {expected} is missing"
        if stored != in_files:
            return f"stream {ordinal} has {stored} bytes, and {in_files} are in its files"
        fault = next(_point_faults(connection, stream_id, plain, stored, span), None)
        fault = fault or _hashes_fault(connection.execute(_HASHES, (stream_id,)), plain)
        if fault:
            return f"stream {ordinal}: {fault}"
    return None


def _point_faults(
    connection: sqlite3.Connection, stream_id: int, plain: int, stored: int, span: int
) -> Iterator[str]:
    points = [SeekPoint(*row) for row in connection.execute(_POINTS, (stream_id,))]
    starts = [point.plain_offset for point in points]
    if not points or starts[0] != 0:
        yield "it has no first seek point"
        return
    if plain and starts[-1] >= plain:
        yield f"a seek point at plain byte {starts[-1]} of {plain}"
    for before, after in itertools.pairwise(points):
        if after.stored_offset < before.stored_offset:
            yield f"the seek point at plain byte {after.plain_offset} leads back"
    for point in points:
        if not 0 <= point.stored_offset <= stored:
            yield f"a seek point at byte {point.stored_offset} of {stored}"
        if fault := _window_fault(point):
            yield fault
    largest = max(after - before for before, after in itertools.pairwise([*starts, plain]))
    if largest != span:
        yield f"seek points are {largest} bytes apart, and {span} is said"


def _window_fault(point: SeekPoint) -> str | None:
    if not point.window:
        return None
    where = f"the window of the seek point at plain byte {point.plain_offset}"
    try:
        size = len(unpack(point.window, point.window_size))
    except zstandard.ZstdError as error:
        return f"{where}: {error}"
    return None if size == point.window_size else f"{where} has {size} bytes"


def _seal_fault(connection: sqlite3.Connection, image: _Image) -> str | None:
    """Each page that is stored of an image that is sealed must have a hash."""
    rows = connection.execute(_SEALS, (image.index_id,)).fetchall()
    if image.sealed_at is None or image.compression is not None:
        return "hashes of what is not sealed" if rows else None
    stored, streams = connection.execute(_STORED, (image.id,)).fetchone()
    stored -= streams * registry.named(image.format).volume_header_size
    fault = _hashes_fault(rows, stored)
    return f"its seal: {fault}" if fault else None


def _hashes_fault(rows: Iterable[tuple[int, bytes]], size: int) -> str | None:
    pages = -(-size // PAGE_SIZE)
    found = 0
    for expected, (group, hashes) in enumerate(rows):
        size = len(unpack_hashes(hashes))
        wanted = min(HASHES_IN_GROUP, pages - found) * HASH_SIZE
        if group != expected or size != wanted:
            return f"the page hashes of group {expected} are not whole"
        found += size // HASH_SIZE
    return None if found == pages else f"{pages - found} page hashes are missing"
