"""What is read of the rows that say what an image is made of. Loads nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

from ..errors import CatalogError

if TYPE_CHECKING:
    import sqlite3

DEPTH = 16
"""Images below each other, at the most."""

# How deep what is below an image goes; one more than is allowed where it does not end.
_DEPTH_BELOW = """
    WITH RECURSIVE below (image_id, depth) AS (
        VALUES (?1, 0)
        UNION
        SELECT segments.child_id, below.depth + 1
        FROM below JOIN images ON images.id = below.image_id
        JOIN segments ON segments.index_id = images.index_id
        WHERE segments.child_id IS NOT NULL AND below.depth <= ?2
    )
    SELECT max(depth) FROM below
"""


def unpack_literal(stored: bytes, size: int) -> bytes:
    """Return literal bytes from their stored form.

    Raises:
        CatalogError: they are damaged, or not `size` bytes.
    """
    try:
        named = zstandard.frame_content_size(stored)
        data = zstandard.ZstdDecompressor().decompress(stored) if named == size else b""
    except zstandard.ZstdError as error:
        raise CatalogError(f"literal bytes are damaged: {error}: add the image again") from error
    if len(data) != size:
        raise CatalogError(f"{named} literal bytes where {size} belong: add the image again")
    return data


def below_itself(driver: sqlite3.Connection, image_id: int) -> bool:
    """Tell whether an image is made of itself, or too many lie below each other to tell."""
    (depth,) = driver.execute(_DEPTH_BELOW, (image_id, DEPTH)).fetchone()
    return bool(depth > DEPTH)
