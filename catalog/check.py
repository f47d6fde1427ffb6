"""Checking a catalog: the database's own checks, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ..formats.errors import FormatError
from ..formats.index.chunk import CHUNK_BLOCKS, RankChunk
from ..formats.index.rank import popcount, unpack_chunk
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
        images = models.images.c
        rows = connection.execute(
            sa.select(images.name, images.index_id, images.total_blocks, images.used_blocks)
            .join_from(models.images, models.indexes, models.indexes.c.id == images.index_id)
            .where(models.indexes.c.kind == "rank")
        ).all()
        for name, index_id, total_blocks, used_blocks in rows:
            wrong = _what_is_wrong(connection, index_id, total_blocks, used_blocks)
            if wrong:
                problems.append(f"{name}: its index is damaged ({wrong}): `imgcat add --force` it")
    return problems


def _what_is_wrong(
    connection: sa.Connection, index_id: int, total_blocks: int, used_blocks: int
) -> str | None:
    """Return what is wrong with a rank index: each chunk must unpack and count on from the last."""
    chunks = models.rank_chunks.c
    rank = 0
    number = 0
    for row in connection.execute(
        sa.select(chunks.chunk, chunks.rank, chunks.bitmap)
        .where(chunks.index_id == index_id)
        .order_by(chunks.chunk)
    ):
        if row.chunk != number:
            return f"chunk {number} is missing"
        if row.rank != rank:
            return f"chunk {number} begins at rank {row.rank}, not {rank}"
        try:
            rank += popcount(unpack_chunk(RankChunk(*row), total_blocks))
        except FormatError as error:
            return str(error)
        number += 1
    if number != -(-total_blocks // CHUNK_BLOCKS):
        return f"chunk {number} is missing"
    if rank != used_blocks:
        return f"it marks {rank} blocks, and {used_blocks} are used"
    return None
