"""Partition tables and file systems, as rows: written in a transaction, read as in `reading`."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

from ..names import file_name, legible
from ..records import FileSystemRow, InsideRows, LogicalVolumeRow, PartitionRow, TableRow
from .reading import DERIVED
from .segments import DEPTH

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from ...formats.partitions.table import DiskTable
    from ...formats.superblocks.file_system import FileSystem

_FILE_SYSTEM = """
    SELECT type, uuid, label, block_size, size_bytes, features, journal, is_dirty, written_at,
           detail
    FROM file_systems WHERE image_id = ?
"""
_TABLE = "SELECT scheme, uuid, sector_size FROM partition_tables WHERE disk_id = ?"
_PARTITIONS = """
    SELECT number, start_byte, stop_byte, partitions.type, type_name, partitions.uuid,
           partitions.label, is_bootable, is_container, image_id, images.name, file_systems.type
    FROM partitions LEFT JOIN images ON images.id = image_id
    LEFT JOIN file_systems USING (image_id)
    WHERE disk_id = ? ORDER BY number
"""

# Where a group lies in several partitions, its volumes lie in the disk: then they are found there,
# by the physical volumes that they lie on.
_LOGICAL_VOLUMES = """
    SELECT images.id, images.name, json_extract(header, '$.volume_group'),
           json_extract(header, '$.volume'), json_extract(header, '$.uuid'), images.size_bytes,
           images.fs_type
    FROM images
    WHERE images.format = 'logical-volume' AND (
        parent_id = ?1
        OR parent_id = (SELECT parent_id FROM images WHERE id = ?1) AND EXISTS (
            SELECT 1 FROM file_systems WHERE file_systems.image_id = ?1
            AND instr(json_extract(header, '$.physical_volumes'), file_systems.uuid)
        )
    )
    ORDER BY images.id
"""
_WARNINGS_WITHIN = f"""
    {DERIVED}
    SELECT name, warnings FROM derived JOIN images USING (id) WHERE warnings <> '[]'
    ORDER BY images.id
"""  # noqa: S608 - our own statement


def replace_file_system(
    driver: sqlite3.Connection, image_id: int, found: FileSystem | None
) -> None:
    """Let this be the file system of an image."""
    driver.execute("DELETE FROM file_systems WHERE image_id = ?", (image_id,))
    if found is None:
        return
    driver.execute(
        "INSERT INTO file_systems (image_id, type, uuid, label, block_size, size_bytes, features,"
        " journal, is_dirty, written_at, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            image_id, found.type, _text(found.uuid), _text(found.label), found.block_size,
            found.size, json.dumps([legible(each) for each in found.features]),
            found.journal.value, int(found.is_dirty), _moment(found.written_at),
            json.dumps({key: _number(value) for key, value in found.detail.items()}),
        ),
    )  # fmt: skip


def replace_table(
    driver: sqlite3.Connection,
    disk_id: int,
    table: DiskTable | None,
    images: Mapping[int, int],
) -> None:
    """Let this be the partition table of a disk.

    Args:
        driver: in a transaction.
        disk_id: the disk.
        table: its table; None where it has none.
        images: the images that its partitions are, by their numbers.
    """
    driver.execute("DELETE FROM partitions WHERE disk_id = ?", (disk_id,))
    driver.execute("DELETE FROM partition_tables WHERE disk_id = ?", (disk_id,))
    if table is None:
        return
    driver.execute(
        "INSERT INTO partition_tables (disk_id, scheme, uuid, sector_size) VALUES (?, ?, ?, ?)",
        (disk_id, table.scheme, table.id, table.sector_size),
    )
    driver.executemany(
        "INSERT INTO partitions (disk_id, number, start_byte, stop_byte, type, type_name, uuid,"
        " label, is_bootable, is_container, image_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                disk_id, each.number, each.start, each.stop, each.type, each.type_name, each.uuid,
                _text(each.name), int(each.is_bootable), int(each.is_container),
                images.get(each.number),
            )
            for each in table.partitions
        ),
    )  # fmt: skip


def partition_images(driver: sqlite3.Connection, disk_id: int) -> dict[int, int]:
    """Return the images that are derived from a disk as its partitions, by their numbers."""
    rows = driver.execute(
        "SELECT number, image_id FROM partitions JOIN images ON images.id = image_id"
        " WHERE disk_id = ?1 AND images.parent_id = ?1",
        (disk_id,),
    )
    return dict(rows.fetchall())


def logical_volume_images(
    driver: sqlite3.Connection, image_id: int, image_format: str
) -> dict[str, int]:
    """Return the images that are derived from one as its logical volumes, by their UUIDs."""
    rows = driver.execute(
        "SELECT json_extract(header, '$.uuid'), id FROM images WHERE parent_id = ? AND format = ?",
        (image_id, image_format),
    )
    return dict(rows.fetchall())


def warnings_within(connection: sqlite3.Connection, image_id: int) -> list[tuple[str, str]]:
    """Return what is odd about what is derived from an image: the name of each, and the words."""
    return [
        (file_name(name), warning)
        for name, warnings in connection.execute(_WARNINGS_WITHIN, (image_id, DEPTH))
        for warning in json.loads(warnings)
    ]


def inside(connection: sqlite3.Connection, image_id: int) -> InsideRows:
    """Return what is known to be inside of an image. Four statements."""
    row = connection.execute(_FILE_SYSTEM, (image_id,)).fetchone()
    file_system = None
    if row is not None:
        kind, uuid, label, block_size, size, features, journal, is_dirty, written_at, detail = row
        file_system = FileSystemRow(
            kind, uuid, label, block_size, size, tuple(json.loads(features)), journal,
            bool(is_dirty), written_at, json.loads(detail),
        )  # fmt: skip
    row = connection.execute(_TABLE, (image_id,)).fetchone()
    table = None if row is None else TableRow(*row)
    partitions = []
    for number, start, stop, kind, type_name, uuid, label, boot, box, child, name, fs in (
        connection.execute(_PARTITIONS, (image_id,))
    ):  # fmt: skip
        shown = None if name is None else file_name(name)
        row = (
            number, start, stop, kind, type_name, uuid, label, bool(boot), bool(box), child, shown,
            fs,
        )  # fmt: skip
        partitions.append(PartitionRow(*row))
    volumes = tuple(
        LogicalVolumeRow(image_id, file_name(name), *rest)
        for image_id, name, *rest in connection.execute(_LOGICAL_VOLUMES, (image_id,))
    )
    return InsideRows(file_system, table, tuple(partitions), volumes)


def _text(value: str | None) -> str | None:
    return None if value is None else legible(value)


def _number(value: object) -> object:
    """Return what JSON and SQLite can keep: feature words of 64 bits may be larger."""
    return hex(value) if isinstance(value, int) and value >= 1 << 63 else value


def _moment(seconds: int | None) -> str | None:
    """Return a time as the catalog has it, None where it is none that a calendar has."""
    if seconds is None or not 0 <= seconds < 253402300800:  # noqa: PLR2004 - the year 10000
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
