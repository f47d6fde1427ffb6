"""What a mount asks of the catalog: what it is to show, and where that comes from.

Plain SQL on the driver's connections, as in `reading`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..names import file_name
from ..records import ImageFiles, MountEntry
from .reading import FILES_BELOW

if TYPE_CHECKING:
    import sqlite3

_ENTRY = """
    images.id, images.name, images.size_bytes, images.used_bytes, images.index_id,
    indexes.content_key, images.status = 'live', volumes.mtime_ns, file_systems.type,
    images.content = 'full'
"""
_MOUNT_ENTRIES = f"""
    SELECT {_ENTRY}
    FROM images JOIN indexes ON indexes.id = images.index_id
    JOIN volumes ON volumes.image_id = images.id
    LEFT JOIN file_systems ON file_systems.image_id = images.id
    WHERE volumes.ordinal = 0 AND indexes.kind <> 'segments'
"""  # noqa: S608 - our own columns
_COMPOSED_ENTRIES = f"""
    {FILES_BELOW.format(condition="")}
    SELECT {_ENTRY}
    FROM images JOIN indexes ON indexes.id = images.index_id
    LEFT JOIN below ON below.image_id = images.id
    LEFT JOIN volumes ON volumes.image_id = below.child_id
    LEFT JOIN file_systems ON file_systems.image_id = images.id
    WHERE images.path IS NULL
"""  # noqa: S608
# Its own, and those of what it is a difference to.
_FILES = f"""
    {FILES_BELOW.format(condition="AND images.id = ?1")}
    SELECT place(path), NULL, NULL FROM volumes WHERE image_id = ?1
    UNION ALL
    SELECT place(volumes.path), NULL, NULL
    FROM below JOIN volumes ON volumes.image_id = below.child_id
    WHERE EXISTS (SELECT 1 FROM volumes WHERE image_id = ?1)
"""  # noqa: S608
# Of an image that is made of others, besides: the small files that its literal bytes are from.
_FILES_OF_COMPOSED = f"""
    {FILES_BELOW.format(condition="AND images.id = ?1")}
    SELECT place(volumes.path), NULL, NULL
    FROM below JOIN volumes ON volumes.image_id = below.child_id
    UNION
    SELECT place(image_directories.path), directory_images.device, directory_facts.name
    FROM directory_images
    JOIN image_directories ON image_directories.id = directory_images.directory_id
    JOIN directory_facts ON directory_facts.directory_id = image_directories.id
    WHERE directory_images.role = 'disk' AND directory_facts.kind = 'file'
      AND directory_images.image_id IN (SELECT ?1 UNION SELECT child_id FROM below)
"""  # noqa: S608


def mount_entries(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return the rows of what a mount shows, as `mount_entry` takes them. Two statements.

    Of an image that is made of others there is a row for each of its files.
    """
    return [
        *connection.execute(_MOUNT_ENTRIES).fetchall(),
        *connection.execute(_COMPOSED_ENTRIES).fetchall(),
    ]


def mount_entry(image_id: int, name: str | bytes, *rest: Any) -> MountEntry:  # noqa: ANN401 - a row
    """Return what a mount shows of a row."""
    size, used, index_id, key, is_live, mtime_ns, file_system, has_content = rest
    return MountEntry(
        image_id, file_name(name), size, used, index_id, key, bool(is_live), mtime_ns,
        file_system, bool(has_content),
    )  # fmt: skip


def image_files(connection: sqlite3.Connection, image_id: int) -> ImageFiles:
    """Return the files that an image's bytes come from; none of an image that is not there.

    One statement; two where it is made of others.
    """
    rows = connection.execute(_FILES, (image_id,)).fetchall()
    if not rows:
        rows = connection.execute(_FILES_OF_COMPOSED, (image_id,)).fetchall()
    paths, copied = [], []
    for path, device, name in rows:
        if device is None:
            paths.append(file_name(path))
        elif file_name(name).startswith(file_name(device)):
            copied.append(f"{file_name(path)}/{file_name(name)}")
    return ImageFiles(tuple(paths), tuple(copied))
