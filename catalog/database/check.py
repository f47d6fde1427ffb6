"""Checking a catalog: the database's own checks, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.index.rank import popcount, unpack_chunk
from ...formats.index.rank_chunk import CHUNK_BLOCKS, RankChunk
from ..names import file_name

if TYPE_CHECKING:
    import sqlite3

    from .connection import Database

_RANK_INDEXES = """
    SELECT images.name, index_id, total_blocks, used_blocks
    FROM images JOIN indexes ON indexes.id = images.index_id
    WHERE indexes.kind = 'rank'
"""
_CHUNKS = "SELECT chunk, rank, bitmap FROM rank_chunks WHERE index_id = ? ORDER BY chunk"


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
        for name, index_id, total_blocks, used_blocks in connection.execute(_RANK_INDEXES):
            wrong = _what_is_wrong(connection, index_id, total_blocks, used_blocks)
            if wrong:
                problems.append(
                    f"{file_name(name)}: its index is damaged ({wrong}): `imgcat add --force` it"
                )
    return problems


def _what_is_wrong(
    connection: sqlite3.Connection, index_id: int, total_blocks: int, used_blocks: int
) -> str | None:
    """Return what is wrong with a rank index: each chunk must unpack and count on from the last."""
    rank = 0
    number = 0
    for chunk in map(RankChunk._make, connection.execute(_CHUNKS, (index_id,))):
        if chunk.number != number:
            return f"chunk {number} is missing"
        if chunk.rank != rank:
            return f"chunk {number} begins at rank {chunk.rank}, not {rank}"
        try:
            rank += popcount(unpack_chunk(chunk, total_blocks))
        except FormatError as error:
            return str(error)
        number += 1
    if number != -(-total_blocks // CHUNK_BLOCKS):
        return f"chunk {number} is missing"
    if rank != used_blocks:
        return f"it marks {rank} blocks, and {used_blocks} are used"
    return None
