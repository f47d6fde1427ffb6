"""Checking a catalog: the database's own checks, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ..formats.index.chunk import CHUNK_BLOCKS
from . import models

if TYPE_CHECKING:
    from .store import Catalog


def check(catalog: Catalog) -> list[str]:
    """Return what is wrong with the catalog, in words; nothing if all is well. Reads all of it."""
    with catalog.database.reading() as connection:
        problems = [
            f"integrity: {line}"
            for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars()
            if line != "ok"
        ]
        problems += [
            f"foreign key: row {row[1]} of {row[0]} names a missing row of {row[2]}"
            for row in connection.exec_driver_sql("PRAGMA foreign_key_check")
        ]
        problems += _incomplete_indexes(connection)
    return problems


def _incomplete_indexes(connection: sa.Connection) -> list[str]:
    images, indexes, chunks = models.images.c, models.indexes.c, models.rank_chunks.c
    query = (
        sa.select(images.name, images.total_blocks, sa.func.count(chunks.chunk))
        .join_from(models.images, models.indexes, indexes.id == images.index_id)
        .outerjoin(models.rank_chunks, chunks.index_id == indexes.id)
        .where(indexes.kind == "rank")
        .group_by(images.id)
    )
    return [
        f"{name}: {rows} of {-(-total // CHUNK_BLOCKS)} rows of its index are there: "
        f"`imgcat add --force` its file"
        for name, total, rows in connection.execute(query)
        if rows != -(-total // CHUNK_BLOCKS)
    ]
