"""What is written to the catalog, inside of a transaction that the caller has begun."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from . import models, names, reading
from .errors import NameTakenError
from .moment import utc_now
from .transaction import driver_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..formats.reader import Scan
    from .records import BadRange, Volume


def insert_index(connection: sa.Connection, scan: Scan) -> int:
    """Write the index of a scan and return its id."""
    index_id = _new_id(
        connection.execute(
            sa.insert(models.indexes).values(
                kind=scan.index_kind.value,
                total_units=scan.info.total_blocks,
                created_at=utc_now(),
            )
        )
    )
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
    return index_id


def insert_image(connection: sa.Connection, values: dict[str, Any]) -> int:
    """Write an image and return its id."""
    return _new_id(connection.execute(sa.insert(models.images).values(values)))


def update_image(connection: sa.Connection, image_id: int, **values: Any) -> None:  # noqa: ANN401
    """Change columns of an image."""
    connection.execute(
        sa.update(models.images).where(models.images.c.id == image_id).values(values)
    )


def delete_image(connection: sa.Connection, image_id: int) -> None:
    """Forget an image; its index stays until `delete_unused_indexes`."""
    connection.execute(sa.delete(models.images).where(models.images.c.id == image_id))


def delete_unused_indexes(connection: sa.Connection) -> None:
    """Delete the indexes that no image uses."""
    used = sa.select(models.images.c.index_id)
    connection.execute(sa.delete(models.indexes).where(models.indexes.c.id.not_in(used)))


def replace_volumes(connection: sa.Connection, image_id: int, volumes: tuple[Volume, ...]) -> None:
    """Let these be the files of an image."""
    connection.execute(sa.delete(models.volumes).where(models.volumes.c.image_id == image_id))
    connection.execute(
        sa.insert(models.volumes),
        [
            {"image_id": image_id, "ordinal": ordinal, **dataclasses.asdict(volume)}
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


def claim_name(connection: sa.Connection, name: str, image_id: int | None) -> str:
    """Return `name` if the image may have it.

    Raises:
        NameTakenError: another image has it.
    """
    owner = reading.owner_of_name(driver_connection(connection), name)
    if owner not in {None, image_id}:
        raise NameTakenError(f"{name!r} is the name of another image (id {owner})")
    return name


def free_name(connection: sa.Connection, name: str) -> str:
    """Return `name`, or one made from it that no image has."""
    driver = driver_connection(connection)
    return names.free_name(
        name, lambda candidate: reading.owner_of_name(driver, candidate) is not None
    )


def _new_id(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
