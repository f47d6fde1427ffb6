"""Writing an image that is made of others, all of which are in the catalog already."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ...formats.composed.segments import LiteralBytes
from ...formats.index.kind import IndexKind
from ..database import composing, naming, reading, writing
from ..database.moment import utc_now
from ..database.transaction import driver_connection
from .outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import sqlalchemy as sa

    from ...formats.composed.segments import Segment
    from ...formats.reader import JsonValue


@dataclasses.dataclass(frozen=True, slots=True)
class Composition:
    """An image that is made of others.

    Attributes:
        format: what it is called in the place of a format.
        fs_type: what it holds: of a disk, the kind of its partition table.
        creator: the program that wrote what it was made from, None where that is not told.
        size: guest bytes.
        block_size: bytes in a sector.
        header: what else there is to tell.
        segments: what it is made of.
        children: the ids of images, by the names that the segments have; of a name that is not
            there, nothing can be read.
        warnings: what is odd, but harms no read.
    """

    format: str
    fs_type: str
    creator: str | None
    size: int
    block_size: int
    header: Mapping[str, JsonValue]
    segments: Sequence[Segment]
    children: Mapping[str, int]
    warnings: tuple[str, ...]


def put_composition(
    connection: sa.Connection, composition: Composition, *, known: int | None, wish: str
) -> tuple[int, Outcome]:
    """Write an image that is made of others, inside of a transaction; return its id.

    Args:
        connection: in a transaction.
        composition: what it is.
        known: the id of the image that it is already, None if it is new.
        wish: the name that a new one gets if no other has it.

    Raises:
        CatalogError: it is made of itself, or images lie too deep below each other.
    """
    driver = driver_connection(connection)
    before = None if known is None else reading.record_of_id(driver, known)
    index_id = writing.new_index(
        connection, IndexKind.SEGMENTS, composition.size // composition.block_size
    )
    composing.insert_segments(connection, index_id, _segments(composition))
    values = _values(composition) | {"index_id": index_id}
    if before is None:
        values |= {
            "name": naming.free_name(driver, wish),
            "added_at": values["scanned_at"],
            "fingerprint": b"",
        }
        image_id = writing.insert_image(connection, values)
    else:
        image_id = before.row.id
        writing.update_image(connection, image_id, **values)
        writing.replace_volumes(connection, image_id, ())
    composing.refresh_one(connection, image_id)
    if before is None:
        return image_id, Outcome.ADDED
    now = reading.record_of_id(driver, image_id)
    if now.fingerprint == before.fingerprint and now.segments == before.segments:
        # As it was: what the kernel has cached of it stays right.
        writing.update_image(connection, image_id, index_id=before.index_id)
        writing.delete_index(connection, index_id)
        return image_id, Outcome.UNCHANGED
    writing.update_image(connection, image_id, **writing.UNVERIFIED)
    writing.replace_bad_ranges(connection, image_id, ())
    composing.refresh_above(connection, [image_id])
    return image_id, Outcome.UPDATED


def _segments(composition: Composition) -> Iterator[composing.NewSegment]:
    for segment in composition.segments:
        content = segment.content
        if not isinstance(content, LiteralBytes):
            yield composing.NewSegment(
                segment.start, segment.stop, content.name,
                composition.children.get(content.name), content.offset,
                stripes=content.stripes,
            )  # fmt: skip
            continue
        for start in range(segment.start, segment.stop, composing.LITERAL_SIZE):
            stop = min(segment.stop, start + composing.LITERAL_SIZE)
            data = content.after(start - segment.start).taken(stop - start)
            yield composing.NewSegment(start, stop, literal=data)


def _values(composition: Composition) -> dict[str, object]:
    used = sum(segment.stop - segment.start for segment in composition.segments)
    return {
        "path": None,
        "format": composition.format,
        "format_version": "",
        "creator": composition.creator,
        "fs_type": composition.fs_type,
        "size_bytes": composition.size,
        "block_size": composition.block_size,
        "total_blocks": composition.size // composition.block_size,
        "used_blocks": -(-used // composition.block_size),
        "used_bytes": used,
        "stored_bytes": 0,
        "compression": None,
        "volume_count": 0,
        "checksum": "none",
        "content": "full",
        "status": "ready",
        "status_detail": None,
        "warnings": list(composition.warnings),
        "header": dict(composition.header),
        "layout": {},
        "scanned_at": utc_now(),
        "scan_seconds": 0.0,
    }
