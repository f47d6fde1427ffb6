"""What is written to the catalog, inside of a transaction that the caller has begun."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ...formats.codecs.seek_points import INDEX_VERSION, pages_digest
from ...formats.index.kind import IndexKind
from ...formats.sources import pages
from .. import names
from ..errors import CatalogError
from ..records import AWAY, LARGEST_INDEX
from . import models, places
from .moment import utc_now
from .transaction import driver_connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...formats.codecs.seek_points import StreamIndex
    from ...formats.reader import Scan
    from ..records import BadRange, Volume


UNVERIFIED = {"verified_at": None, "verify_result": None, "verify_detail": None}
"""What the columns of an image are before it was verified."""

NOT_AWAY = {"status_before": None, "detail_before": None}
"""What those columns are of an image whose files are there."""


def new_index(connection: sa.Connection, kind: IndexKind, total_units: int) -> int:
    """Write an index without its rows, with a key that no other has, and return its id.

    Raises:
        CatalogError: there were too many before.
    """
    index_id = _new_id(
        connection.execute(
            sa.insert(models.indexes).values(
                kind=kind.value,
                total_units=total_units,
                created_at=utc_now(),
                content_key=int.from_bytes(os.urandom(8)) >> 1 or 1,
            )
        )
    )
    if index_id > LARGEST_INDEX:
        raise CatalogError(
            f"{LARGEST_INDEX} scans are in this catalog: no more can be numbered: begin another"
        )
    return index_id


def copy_index(connection: sa.Connection, index_id: int) -> int:
    """Write an index like another, without its rows and with a key of its own; return its id."""
    kind, total_units = connection.execute(
        sa.select(models.indexes.c.kind, models.indexes.c.total_units).where(
            models.indexes.c.id == index_id
        )
    ).one()
    return new_index(connection, IndexKind(kind), total_units)


def insert_index(connection: sa.Connection, scan: Scan) -> int:
    """Write the index of a scan and return its id. Raises as `new_index`."""
    index_id = new_index(connection, scan.index_kind, scan.info.total_blocks)
    # On the driver's connection: a million rows through SQLAlchemy would take a minute.
    driver = driver_connection(connection)
    if scan.chunks:
        driver.executemany(
            "INSERT INTO rank_chunks (index_id, chunk, rank, bitmap) VALUES (?, ?, ?, ?)",
            ((index_id, *chunk) for chunk in scan.chunks),
        )
    if scan.ranges:
        driver.executemany(
            "INSERT INTO cluster_ranges (index_id, first_cluster, cluster_count, source_offset)"
            " VALUES (?, ?, ?, ?)",
            ((index_id, *found) for found in scan.ranges),
        )
    if scan.map_chunks:
        driver.executemany(
            "INSERT INTO map_chunks (index_id, chunk, runs) VALUES (?, ?, ?)",
            ((index_id, *chunk) for chunk in scan.map_chunks),
        )
    return index_id


def insert_streams(
    connection: sa.Connection, index_id: int, streams: Sequence[StreamIndex]
) -> None:
    """Write the seek points and page hashes of an image's compressed streams.

    Args:
        connection: in a transaction.
        index_id: the image's index, which they belong to.
        streams: what the scan found, in order.
    """
    driver = driver_connection(connection)
    if streams:
        # What is compressed is compared with its page hashes from the first read on.
        mark_sealed(connection, index_id, pages_digest(streams))
    for ordinal, stream in enumerate(streams):
        stream_id = _new_id(
            connection.execute(
                sa.insert(models.streams).values(
                    index_id=index_id,
                    ordinal=ordinal,
                    codec=stream.codec,
                    library=stream.library,
                    index_version=INDEX_VERSION,
                    plain_bytes=stream.plain_size,
                    trusted_bytes=stream.trusted_size,
                    stored_bytes=stream.stored_size,
                    span_bytes=stream.largest_span,
                )
            )
        )
        driver.executemany(
            "INSERT INTO seek_points"
            " (stream_id, plain_offset, stored_offset, state, window_bytes, window)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((stream_id, *point) for point in stream.points),
        )
        driver.executemany(
            "INSERT INTO page_hashes (stream_id, page_group, hashes) VALUES (?, ?, ?)",
            ((stream_id, group, hashes) for group, hashes in pages.hash_groups(stream.hashes)),
        )


def insert_seal(connection: sa.Connection, index_id: int, size: int, hashes: bytes) -> None:
    """Write the hashes of all that is stored of an image that is not compressed.

    Args:
        connection: in a transaction.
        index_id: the image's index; a seal that it has is replaced.
        size: bytes that are stored, without headers of volumes.
        hashes: of their pages.
    """
    driver = driver_connection(connection)
    driver.execute("DELETE FROM seals WHERE index_id = ?", (index_id,))
    driver.executemany(
        "INSERT INTO seals (index_id, page_group, hashes) VALUES (?, ?, ?)",
        ((index_id, group, packed) for group, packed in pages.hash_groups(hashes)),
    )
    mark_sealed(connection, index_id, pages.digest_of_pages(size, hashes))


def mark_sealed(connection: sa.Connection, index_id: int, digest: bytes) -> None:
    """Tell that there are hashes of all that is stored, and what they are all together."""
    connection.execute(
        sa.update(models.indexes)
        .where(models.indexes.c.id == index_id)
        .values(sealed_at=utc_now(), digest=digest)
    )


def insert_image(connection: sa.Connection, values: dict[str, Any]) -> int:
    """Write an image and return its id."""
    values = _placed(connection, values)
    return _new_id(connection.execute(sa.insert(models.images).values(values)))


def update_image(connection: sa.Connection, image_id: int, **values: Any) -> None:  # noqa: ANN401
    """Change columns of an image."""
    connection.execute(
        sa.update(models.images)
        .where(models.images.c.id == image_id)
        .values(_placed(connection, values))
    )


def _placed(connection: sa.Connection, values: dict[str, Any]) -> dict[str, Any]:
    """Return columns with the path as the catalog keeps it."""
    path = values.get("path")
    if path is None:
        return values
    return values | {"path": places.kept(driver_connection(connection), path)}


def set_status(connection: sa.Connection, image_id: int, status: str, detail: str | None) -> None:
    """Write what an image was found to be; of one that goes away, what it was is kept."""
    images = models.images.c
    is_away = status in AWAY
    stays = images.status.in_(AWAY)
    connection.execute(
        sa.update(models.images)
        .where(images.id == image_id)
        .values(
            status=status,
            status_detail=detail,
            status_before=sa.case((stays, images.status_before), else_=images.status)
            if is_away
            else None,
            detail_before=sa.case((stays, images.detail_before), else_=images.status_detail)
            if is_away
            else None,
        )
    )


def delete_image(connection: sa.Connection, image_id: int) -> None:
    """Forget an image; its index stays until `delete_unused_indexes`."""
    connection.execute(sa.delete(models.images).where(models.images.c.id == image_id))


def delete_index(connection: sa.Connection, index_id: int) -> None:
    """Delete an index that no image uses, and that nobody can have opened."""
    connection.execute(sa.delete(models.indexes).where(models.indexes.c.id == index_id))


def delete_unused_indexes(connection: sa.Connection) -> None:
    """Delete the indexes that no image uses."""
    used = sa.select(models.images.c.index_id)
    connection.execute(sa.delete(models.indexes).where(models.indexes.c.id.not_in(used)))


def replace_volumes(connection: sa.Connection, image_id: int, volumes: tuple[Volume, ...]) -> None:
    """Let these be the files of an image."""
    connection.execute(sa.delete(models.volumes).where(models.volumes.c.image_id == image_id))
    if not volumes:
        return
    connection.execute(
        sa.insert(models.volumes),
        [
            _placed(
                connection, {"image_id": image_id, "ordinal": ordinal, **dataclasses.asdict(volume)}
            )
            for ordinal, volume in enumerate(volumes)
        ],
    )


def replace_bad_ranges(
    connection: sa.Connection, image_id: int, bad_ranges: Sequence[BadRange]
) -> None:
    """Let these be the damage that is known of an image."""
    connection.execute(sa.delete(models.bad_ranges).where(models.bad_ranges.c.image_id == image_id))
    if bad_ranges:
        connection.execute(
            sa.insert(models.bad_ranges),
            [
                {
                    "image_id": image_id,
                    "ordinal": ordinal,
                    "start_byte": bad.start,
                    "stop_byte": bad.stop,
                    "detail": bad.detail,
                }
                for ordinal, bad in enumerate(bad_ranges)
            ],
        )


def delete_stage(connection: sa.Connection, image_id: int) -> None:
    """Forget how far a verification of an image had got."""
    table = models.verify_stages
    connection.execute(sa.delete(table).where(table.c.image_id == image_id))


def replace_directory(
    connection: sa.Connection,
    values: dict[str, Any],
    images: Mapping[tuple[str, str], int],
    facts: Sequence[tuple[str, str, dict[str, Any]]],
    *,
    moved_from: Sequence[str] = (),
) -> None:
    """Write what an image directory is and tells, in place of what was known of its path.

    Args:
        connection: in a transaction.
        values: its columns.
        images: the ids of its images, by role and device.
        facts: kind, name and detail of what it tells.
        moved_from: paths that it had before, of which nothing is known from then on.
    """
    table = models.image_directories
    driver = driver_connection(connection)
    for path in (values["path"], *moved_from):
        driver.execute(
            "DELETE FROM image_directories WHERE path IN (?1, near(?1))", (names.stored_name(path),)
        )
    values = _placed(connection, values)
    directory_id = _new_id(connection.execute(sa.insert(table).values(values)))
    members = [
        {"directory_id": directory_id, "role": role, "device": device, "image_id": image_id}
        for (role, device), image_id in images.items()
    ]
    if members:
        connection.execute(sa.insert(models.directory_images), members)
    counts: dict[str, int] = {}
    rows = []
    for kind, name, detail in facts:
        ordinal = counts[kind] = counts.get(kind, -1) + 1
        rows.append(
            {
                "directory_id": directory_id,
                "kind": kind,
                "ordinal": ordinal,
                "name": name,
                "detail": detail,
            }
        )
    if rows:
        connection.execute(sa.insert(models.directory_facts), rows)


def delete_empty_directories(connection: sa.Connection) -> None:
    """Forget the image directories of which no image is left."""
    used = sa.select(models.directory_images.c.directory_id)
    table = models.image_directories
    connection.execute(sa.delete(table).where(table.c.id.not_in(used)))


def _new_id(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
