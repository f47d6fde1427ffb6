"""What is derived from an image, and has no file of its own: its snapshots.

Everything here is called in the transaction that writes the image itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import xxhash

from ..database import composing, writing
from ..database.transaction import driver_connection
from ..errors import NameTakenError
from ..names import check_name, file_name, legible

if TYPE_CHECKING:
    import sqlalchemy as sa

    from ...formats.reader import Scan

_KNOWN_SNAPSHOTS = """
    SELECT id, json_extract(header, '$.snapshot_id'), json_extract(header, '$.snapshot')
    FROM images WHERE parent_id = ? AND json_extract(header, '$.snapshot_id') IS NOT NULL
"""


def put_snapshots(
    connection: sa.Connection,
    image_id: int,
    snapshots: tuple[tuple[str, Scan], ...],
    values: dict[str, Any],
) -> None:
    """Let these be the snapshots of an image; those that it has no more are forgotten.

    Args:
        connection: in a transaction.
        image_id: the image, which has been written.
        snapshots: their names and scans.
        values: the columns of the image.
    """
    driver = driver_connection(connection)
    known = {
        (number, name): row for row, number, name in driver.execute(_KNOWN_SNAPSHOTS, (image_id,))
    }
    if not known and not snapshots:
        return
    (stored,) = driver.execute("SELECT name FROM images WHERE id = ?", (image_id,)).fetchone()
    holder = file_name(stored)
    for name, scan in snapshots:
        index_id = writing.insert_index(connection, scan)
        link = composing.NewSegment(0, max(1, scan.info.size), holder, image_id)
        composing.insert_segments(connection, index_id, [link])
        columns = _of_snapshot(scan, image_id, values) | {"index_id": index_id}
        row = known.pop(_key_of(scan), None)
        if row is None:
            columns["name"] = writing.free_name(connection, _entry_name(holder, name, scan))
            columns["added_at"] = values["scanned_at"]
            writing.insert_image(connection, columns)
        else:
            writing.update_image(connection, row, **(columns | writing.UNVERIFIED))
            writing.replace_bad_ranges(connection, row, ())
            composing.refresh_above(connection, [row])
    for row in known.values():
        writing.delete_image(connection, row)


def _key_of(scan: Scan) -> tuple[str, str]:
    """Return id and name of a snapshot as the catalog has them."""
    header = scan.info.header
    return legible(str(header["snapshot_id"])), legible(str(header["snapshot"]))


def _of_snapshot(scan: Scan, image_id: int, values: dict[str, Any]) -> dict[str, Any]:
    info = scan.info
    own = json.dumps(dict(info.header), sort_keys=True).encode()
    return values | {
        "path": None,
        "parent_id": image_id,
        "size_bytes": info.size,
        "total_blocks": info.total_blocks,
        "used_blocks": info.used_blocks,
        "used_bytes": info.used_bytes,
        "stored_bytes": 0,
        "volume_count": 0,
        "warnings": [],
        "header": dict(info.header),
        "layout": dict(info.layout),
        "fingerprint": xxhash.xxh3_128_digest(own + values["fingerprint"]),
    }


def _entry_name(holder: str, name: str, scan: Scan) -> str:
    """Return what a snapshot is called: a name that its user gave it, as far as it can be one."""
    wish = f"{holder}@{name.replace('/', '-')}"
    try:
        check_name(wish)
    except NameTakenError:
        return f"{holder}@{scan.info.header['snapshot_id']}"
    return wish
