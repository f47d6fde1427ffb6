"""Images that are made of others, as rows: their segments, and what follows from their children.

The content key of such an image holds those of its children: when a child is scanned anew or
removed, `refresh` gives whatever is made of it another index, and with that another inode, in the
same transaction. All functions are called inside of a transaction that the caller has begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash
import zstandard

from ...formats.index.kind import IndexKind
from ..errors import CatalogError
from ..names import file_name, stored_name
from ..records import DAMAGED, LIVE, MISSING, READABLE, READY, STALE
from . import writing
from .segments import DEPTH, below_itself, unpack_literal
from .stripes import pack_stripes
from .transaction import driver_connection

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    import sqlalchemy as sa

    from ...formats.composed.segments import Stripes

LITERAL_SIZE = 1 << 20
"""Most literal bytes of a segment: what is loaded at once."""

_CHILDREN = """
    SELECT segments.start_byte, segments.stop_byte, segments.child_name, segments.child_offset,
           segments.literal, segments.child_key, images.id, images.name, images.status,
           images.used_bytes, images.fingerprint, indexes.content_key, segments.stripes
    FROM segments
    LEFT JOIN images ON images.id = segments.child_id
    LEFT JOIN indexes ON indexes.id = images.index_id
    WHERE segments.index_id = ?
    ORDER BY segments.start_byte
"""

_COPY = """
    INSERT INTO segments (index_id, start_byte, stop_byte, child_name, child_id, child_key,
                          child_offset, literal, stripes)
    SELECT ?1, start_byte, stop_byte, child_name, child_id,
           (SELECT content_key FROM indexes JOIN images ON images.index_id = indexes.id
            WHERE images.id = child_id),
           child_offset, literal, stripes
    FROM segments WHERE index_id = ?2
"""

_ABOVE = """
    SELECT DISTINCT images.id FROM images JOIN segments ON segments.index_id = images.index_id
    WHERE segments.child_id = ?
"""


_INDEX_OF = """
    SELECT index_id, indexes.kind FROM images JOIN indexes ON indexes.id = index_id
    WHERE images.id = ?
"""


class NewSegment(NamedTuple):
    """A segment that is to be written: bytes of a child by its name, or literal ones."""

    start: int
    stop: int
    child_name: str | None = None
    child_id: int | None = None
    child_offset: int | None = None
    literal: bytes | None = None
    stripes: Stripes | None = None


class Composed(NamedTuple):
    """What follows from what an image is made of.

    Attributes:
        fingerprint: 16 bytes over all of it, the children's own fingerprints among it.
        used_bytes: literal bytes, and those that the children have stored.
        status: what the image is, its children being what they are.
        detail: why, in words.
        is_outdated: a child is not the one any more that it was.
    """

    fingerprint: bytes
    used_bytes: int
    status: str
    detail: str | None
    is_outdated: bool


def insert_segments(
    connection: sa.Connection, index_id: int, segments: Iterable[NewSegment]
) -> None:
    """Write what an image is made of.

    Args:
        connection: in a transaction.
        index_id: its index.
        segments: ascending and not overlapping; literal ones have `LITERAL_SIZE` at the most.
    """
    compressor = zstandard.ZstdCompressor(level=3)
    driver_connection(connection).executemany(
        "INSERT INTO segments (index_id, start_byte, stop_byte, child_name, child_id, child_key,"
        " child_offset, literal, stripes) VALUES (?1, ?2, ?3, ?4, ?5,"
        " (SELECT content_key FROM indexes JOIN images ON images.index_id = indexes.id"
        "  WHERE images.id = ?5), ?6, ?7, ?8)",
        (
            (
                index_id, each.start, each.stop,
                None if each.child_name is None else stored_name(each.child_name),
                each.child_id, each.child_offset,
                None if each.literal is None else compressor.compress(each.literal),
                pack_stripes(each.stripes),
            )
            for each in segments
        ),
    )  # fmt: skip


def compose(connection: sa.Connection, image_id: int) -> Composed:
    """Return what follows from what an image is made of, and from its children as they are.

    Raises:
        CatalogError: it is made of itself, or images lie too deep below each other.
    """
    driver = driver_connection(connection)
    check_depth(connection, image_id)
    index_id, size = driver.execute(
        "SELECT index_id, size_bytes FROM images WHERE id = ?", (image_id,)
    ).fetchone()
    return _composed(driver, index_id, size)


def check_depth(connection: sa.Connection, image_id: int) -> None:
    """Check that what is below an image ends.

    Raises:
        CatalogError: it is made of itself, or images lie too deep below each other.
    """
    if below_itself(driver_connection(connection), image_id):
        raise CatalogError(
            f"image {image_id}: is made of itself, or of more than {DEPTH} images below each other"
        )


def _composed(driver: sqlite3.Connection, index_id: int, size: int) -> Composed:
    hasher = xxhash.xxh3_128(size.to_bytes(8, "little"))
    used = 0
    lost: dict[str, str] = {}
    odd: dict[str, str] = {}
    children: dict[str, int] = {}
    is_outdated = is_live = False
    for (
        start, stop, name, offset, literal, key, child_id, _child, status, child_used, fingerprint,
        current_key, stripes,
    ) in driver.execute(_CHILDREN, (index_id,)):  # fmt: skip
        hasher.update(repr((start, stop, offset)).encode())
        hasher.update((stripes or "").encode())
        if literal is not None:
            hasher.update(unpack_literal(literal, stop - start))
            used += stop - start
            continue
        text = file_name(name)
        hasher.update(name if isinstance(name, bytes) else name.encode())
        hasher.update(fingerprint or b"gone")
        is_outdated = is_outdated or key != current_key
        children[text] = children.get(text, 0) + stop - start
        if child_id is None:
            lost[text] = "is not in the catalog"
        elif status == DAMAGED:
            odd[text] = "is damaged"
        elif status == LIVE:
            is_live = True
        elif status != READY:
            lost[text] = f"is {status}"
        if child_used is not None and text not in lost:
            used += min(child_used, stop - start)
    status, detail = _status(children, lost, odd)
    if is_live and status == READY:
        status = LIVE
    return Composed(hasher.digest(), used, status, detail, is_outdated)


def _status(
    children: dict[str, int], lost: dict[str, str], odd: dict[str, str]
) -> tuple[str, str | None]:
    if not lost and not odd:
        return READY, None
    detail = "; ".join(f"{name} {what}" for name, what in (lost | odd).items())
    if lost and len(lost) == len(children):
        return MISSING, f"{detail}: nothing of it can be read but its tables"
    return DAMAGED, f"{detail}: {'its' if len(lost | odd) == 1 else 'their'} bytes are in doubt"


def parents_of(connection: sa.Connection, image_ids: Sequence[int]) -> list[int]:
    """Return the images that are made of any of these, directly."""
    driver = driver_connection(connection)
    found: dict[int, None] = {}
    for image_id in image_ids:
        found |= dict.fromkeys(parent for (parent,) in driver.execute(_ABOVE, (image_id,)))
    return list(found)


def refresh_above(connection: sa.Connection, image_ids: Sequence[int]) -> None:
    """Bring what is made of these images up to date: they were scanned anew, or found missing."""
    refresh(connection, parents_of(connection, image_ids))


def refresh(connection: sa.Connection, image_ids: Sequence[int]) -> None:
    """Bring images that are made of others up to date with those, and whatever is made of them."""
    for image_id in _upwards(connection, image_ids):
        refresh_one(connection, image_id)


def refresh_one(connection: sa.Connection, image_id: int) -> None:
    """Bring one image up to date with what it is made of, and nothing that is made of it."""
    driver = driver_connection(connection)
    row = driver.execute(_INDEX_OF, (image_id,)).fetchone()
    if row is None:
        # Removed together with what it is made of.
        return
    if row[1] == IndexKind.MAP:
        _refresh_difference(connection, image_id, row[0])
        return
    found = compose(connection, image_id)
    values = {
        "fingerprint": found.fingerprint,
        "used_bytes": found.used_bytes,
        "status": found.status,
        "status_detail": found.detail,
        **writing.NOT_AWAY,
    }
    if found.is_outdated:
        index_id = writing.copy_index(connection, row[0])
        driver.execute(_COPY, (index_id, row[0]))
        values |= {"index_id": index_id, **writing.UNVERIFIED}
        writing.replace_bad_ranges(connection, image_id, ())
    writing.update_image(connection, image_id, **values)


def _refresh_difference(connection: sa.Connection, image_id: int, index_id: int) -> None:
    """Bring the status of a difference, or of a snapshot, up to date with what it stands upon.

    Its own index stays: what was changed below it makes the whole of it stale, until it is scanned
    again.
    """
    driver = driver_connection(connection)
    for (
        _start, _stop, name, offset, _literal, key, child_id, _child, status, _used, _fingerprint,
        current_key, _stripes,
    ) in driver.execute(_CHILDREN, (index_id,)).fetchall():  # fmt: skip
        now, detail = READY, None
        if child_id is None:
            now, detail = STALE, f"its parent {file_name(name)} is not in the catalog any more"
        elif offset is None:
            now = status
        elif key != current_key:
            now, detail = STALE, f"its parent {file_name(name)} was scanned anew: rescan it"
        elif status not in READABLE:
            now, detail = STALE, f"its parent {file_name(name)} is {status}"
        was = driver.execute("SELECT status FROM images WHERE id = ?", (image_id,)).fetchone()[0]
        if offset is None or STALE in {now, was}:
            columns = {"status": now, "status_detail": detail, **writing.NOT_AWAY}
            writing.update_image(connection, image_id, **columns)


def _upwards(connection: sa.Connection, image_ids: Sequence[int]) -> Iterator[int]:
    """Yield the images, and then what is made of them, each floor after the one below it."""
    level: Sequence[int] = image_ids
    for _ in range(DEPTH):
        if not level:
            return
        yield from level
        level = parents_of(connection, level)
