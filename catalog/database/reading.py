"""From rows to records: every question that imgcat itself asks the catalog.

Plain SQL on the driver's connections; `connection` says why. The functions take a connection, and
one that reads more than once needs a transaction around it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ...formats.index.kind import IndexKind
from ..errors import ImageNotFoundError
from ..names import file_name, stored_name
from ..records import (
    BadRange,
    ImageRecord,
    ImageRow,
    OpenSpec,
    SegmentRow,
    StreamSpec,
    Volume,
)
from .places import PLACE
from .segments import DEPTH
from .stripes import unpack_stripes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator


_ROW_FIELDS = tuple(ImageRow.__dataclass_fields__)
_VOLUME_FIELDS = tuple(Volume.__dataclass_fields__)
_PARENT = "(SELECT parents.name FROM images AS parents WHERE parents.id = images.parent_id)"
_ELSEWHERE = {
    "parent": _PARENT,
    "sealed_at": "indexes.sealed_at",
    "path": PLACE.format("images.path"),
}
_ROW_COLUMNS = ", ".join(_ELSEWHERE.get(field, f"images.{field}") for field in _ROW_FIELDS)
_VOLUME_COLUMNS = ", ".join(
    PLACE.format("volumes.path") if field == "path" else f"volumes.{field}"
    for field in _VOLUME_FIELDS
)
_OF_PATH = "path IN (?1, near(?1))"
_FILE_NAMES = tuple(_ROW_FIELDS.index(field) for field in ("name", "path", "parent"))
_VOLUME_COUNT = len(_VOLUME_FIELDS)

_LIST = f"""
    SELECT {_ROW_COLUMNS} FROM images JOIN indexes ON indexes.id = images.index_id
    ORDER BY images.name
"""  # noqa: S608 - our own columns
_IDENTITIES = f"SELECT id, name, {PLACE.format('path')} FROM images ORDER BY name"  # noqa: S608
_VOLUMES = f"SELECT image_id, {_VOLUME_COLUMNS} FROM volumes"  # noqa: S608
_RECORD = f"""
    SELECT {_ROW_COLUMNS}, images.total_blocks, images.used_blocks, images.scan_seconds,
           images.warnings, images.header, images.layout, images.fingerprint,
           images.index_id, indexes.kind, indexes.digest, images.looked_at
    FROM images JOIN indexes ON indexes.id = images.index_id
"""  # noqa: S608
# Of an image that is made of others, what its files are: those of all images below it.
FILES_BELOW = """
    WITH RECURSIVE below (image_id, child_id) AS (
        SELECT images.id, segments.child_id
        FROM images JOIN segments ON segments.index_id = images.index_id
        WHERE segments.child_id IS NOT NULL {condition}
        UNION
        SELECT below.image_id, segments.child_id
        FROM below JOIN images ON images.id = below.child_id
        JOIN segments ON segments.index_id = images.index_id
        WHERE segments.child_id IS NOT NULL
    )
"""
_VOLUMES_BELOW = f"""
    {FILES_BELOW.format(condition="AND images.id = ?")}
    SELECT {_VOLUME_COLUMNS} FROM below JOIN volumes ON volumes.image_id = below.child_id
"""  # noqa: S608
_OPEN = f"""
    SELECT {_VOLUME_COLUMNS}, images.name, images.format, images.size_bytes, images.layout,
           images.fingerprint, images.index_id, indexes.kind, indexes.content_key,
           images.total_blocks, images.compression, indexes.sealed_at
    FROM images
    JOIN indexes ON indexes.id = images.index_id
    LEFT JOIN volumes ON volumes.image_id = images.id
    WHERE images.id = ?
    ORDER BY volumes.ordinal
"""  # noqa: S608
_SEGMENTS = """
    SELECT start_byte, stop_byte, child_name, child_id, child_offset, child_key, stripes
    FROM segments WHERE index_id = ? ORDER BY start_byte
"""


DERIVED = """
    WITH RECURSIVE derived (id, depth) AS (
        SELECT id, 1 FROM images WHERE parent_id = ?1
        UNION
        SELECT images.id, depth + 1 FROM images JOIN derived ON images.parent_id = derived.id
        WHERE depth < ?2
    )
"""
"""What is derived from image ``?1``, and from that, to a depth of ``?2``."""

_DERIVED = f"{DERIVED} SELECT id, name FROM derived JOIN images USING (id) ORDER BY id"  # noqa: S608
_STREAMS = """
    SELECT id, codec, library, plain_bytes, trusted_bytes, span_bytes, index_version
    FROM streams WHERE index_id = ? ORDER BY ordinal
"""
_BAD_RANGES = """
    SELECT start_byte, stop_byte, detail FROM bad_ranges WHERE image_id = ? ORDER BY ordinal
"""


def listing(connection: sqlite3.Connection) -> list[tuple[ImageRow, tuple[Volume, ...]]]:
    """Return every image with its volumes, by name. Two statements."""
    rows = [_image_row(row) for row in connection.execute(_LIST)]
    volumes = _volumes_by_image(connection.execute(f"{_VOLUMES} ORDER BY image_id, ordinal"))
    return [(row, tuple(volumes.get(row.id, ()))) for row in rows]


def record_of_id(connection: sqlite3.Connection, image_id: int) -> ImageRecord:
    """Return all that is known of one image.

    Raises:
        ImageNotFoundError: there is no image with this id.
    """
    row = connection.execute(f"{_RECORD} WHERE images.id = ?", (image_id,)).fetchone()
    if row is None:
        raise ImageNotFoundError(f"no image has the id {image_id}: it was removed meanwhile")
    return _record(connection, row)


def record_of_path(connection: sqlite3.Connection, path: str) -> ImageRecord | None:
    """Return the image whose file is `path`, or None."""
    row = connection.execute(f"{_RECORD} WHERE images.{_OF_PATH}", (stored_name(path),)).fetchone()
    return None if row is None else _record(connection, row)


def volumes_of_fingerprint(
    connection: sqlite3.Connection, fingerprint: bytes
) -> dict[int, list[Volume]]:
    """Return the files of the images with this fingerprint, by their ids, ascending."""
    return _volumes_by_image(
        connection.execute(
            f"SELECT image_id, {_VOLUME_COLUMNS} FROM images "  # noqa: S608 - our own columns
            "JOIN volumes ON volumes.image_id = images.id WHERE images.fingerprint = ? "
            "AND images.path IS NOT NULL ORDER BY images.id, volumes.ordinal",
            (fingerprint,),
        )
    )


def images_of_inode(connection: sqlite3.Connection, volume: Volume) -> list[tuple[int, str]]:
    """Return id and path of images whose first file had this size, time and inode. By key."""
    rows = connection.execute(
        "SELECT image_id, place(path) FROM volumes WHERE size_bytes = ? AND mtime_ns = ?"
        " AND inode = ? AND ordinal = 0 ORDER BY image_id",
        (volume.size_bytes, volume.mtime_ns, volume.inode),
    )
    return [(image_id, file_name(path)) for image_id, path in rows]


def volumes_of_time(
    connection: sqlite3.Connection, size: int, first_ns: int, last_ns: int
) -> dict[int, list[Volume]]:
    """Return the files of images whose first one had this size, and a time of a range. By key."""
    return _volumes_by_image(
        connection.execute(
            f"SELECT image_id, {_VOLUME_COLUMNS} FROM volumes "  # noqa: S608 - our own columns
            "WHERE image_id IN (SELECT image_id FROM volumes WHERE size_bytes = ?"
            " AND mtime_ns BETWEEN ? AND ? AND ordinal = 0) ORDER BY image_id, ordinal",
            (size, first_ns, last_ns),
        )
    )


def files_like(
    connection: sqlite3.Connection, inode: int, paths: tuple[str, str]
) -> list[tuple[str, str]]:
    """Return path and image's name of files that had an inode number, or have one of two paths."""
    rows = connection.execute(
        "SELECT place(volumes.path), images.name FROM volumes JOIN images ON images.id = image_id "
        "WHERE volumes.inode = ?1 OR volumes.path IN (?2, near(?2), ?3, near(?3))",
        (inode, *(stored_name(path) for path in paths)),
    )
    return [(file_name(path), file_name(name)) for path, name in rows]


def path_of_uuid(connection: sqlite3.Connection, uuid: str) -> str | None:
    """Return the path of a VHD with this UUID, None where there is none."""
    row = connection.execute(
        "SELECT place(path) FROM images WHERE format = 'vhd' AND path IS NOT NULL"
        " AND json_extract(header, '$.uuid') = ? ORDER BY id",
        (uuid,),
    ).fetchone()
    return None if row is None else file_name(row[0])


def derived_from(connection: sqlite3.Connection, image_id: int) -> list[tuple[int, str]]:
    """Return id and name of what is derived from an image, and from that: snapshots, partitions."""
    rows = connection.execute(_DERIVED, (image_id, DEPTH))
    return [(child, file_name(name)) for child, name in rows]


def owner_of_name(connection: sqlite3.Connection, name: str) -> int | None:
    """Return the id of the image with this name, or None."""
    row = connection.execute(
        "SELECT id FROM images WHERE name = ?", (stored_name(name),)
    ).fetchone()
    return None if row is None else int(row[0])


def is_name_of_snapshot(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether a snapshot is called so. By key."""
    row = connection.execute(
        "SELECT 1 FROM file_generations WHERE snapshot_name = ?", (stored_name(name),)
    ).fetchone()
    return row is not None


def ids_within(connection: sqlite3.Connection, folder: str) -> Iterator[int]:
    """Yield the ids of images whose names are in a folder, at any depth. By key."""
    # '0' comes after '/'. Texts and blobs are apart: names that are no UTF-8 may be in a folder
    # whose own name is.
    low, high = os.fsencode(f"{folder}/"), os.fsencode(f"{folder}0")
    bounds = {(low, high), (stored_name(f"{folder}/"), stored_name(f"{folder}0"))}
    for pair in bounds:
        rows = connection.execute("SELECT id FROM images WHERE name >= ? AND name < ?", pair)
        yield from (image_id for (image_id,) in rows)


def is_id_of_another(connection: sqlite3.Connection, name: str, image_id: int | None) -> bool:
    """Tell whether a name of digits is the id of an image, and not of this one."""
    row = connection.execute(
        "SELECT 1 FROM images WHERE id = CAST(? AS INTEGER) AND id IS NOT ?", (name, image_id)
    ).fetchone()
    return row is not None


def content_key_of(connection: sqlite3.Connection, image_id: int) -> int | None:
    """Return the content key of an image, or None where there is no such image."""
    row = connection.execute(
        "SELECT content_key FROM images JOIN indexes ON indexes.id = index_id WHERE images.id = ?",
        (image_id,),
    ).fetchone()
    return None if row is None else int(row[0])


def name_of_id(connection: sqlite3.Connection, image_id: int) -> str | None:
    """Return the name of an image, None where there is no such image."""
    row = connection.execute("SELECT name FROM images WHERE id = ?", (image_id,)).fetchone()
    return None if row is None else file_name(row[0])


def identities(connection: sqlite3.Connection) -> list[tuple[int, str, str | None]]:
    """Return id, name and path of every image, by name. One statement."""
    rows = connection.execute(_IDENTITIES)
    return [(image_id, file_name(name), _file_name(path)) for image_id, name, path in rows]


def parts(connection: sqlite3.Connection) -> dict[int, tuple[int | None, ...]]:
    """Return the children of every image that is made of others; None is one that is gone.

    Of a difference that is its parent, and of a snapshot the image that it is one of.
    """
    found: dict[int, dict[int | None, None]] = {}
    rows = connection.execute(
        """
        SELECT images.id, segments.child_id
        FROM images JOIN indexes ON indexes.id = images.index_id
        LEFT JOIN segments ON segments.index_id = indexes.id AND child_name IS NOT NULL
        WHERE (images.path IS NULL AND indexes.kind = 'segments')
           OR (indexes.kind = 'map' AND segments.child_name IS NOT NULL)
        ORDER BY images.id, segments.start_byte
        """
    )
    for image_id, child_id in rows:
        found.setdefault(image_id, {})[child_id] = None
    return {image_id: tuple(children) for image_id, children in found.items()}


def volumes_below(connection: sqlite3.Connection, image_id: int) -> tuple[Volume, ...]:
    """Return the files of all images that an image is made of. One statement."""
    return tuple(_volume(row) for row in connection.execute(_VOLUMES_BELOW, (image_id,)))


def open_spec(connection: sqlite3.Connection, image_id: int) -> OpenSpec:
    """Return what opening an image needs.

    One statement; two where it is compressed, or made of other images, or a difference to one.

    Raises:
        ImageNotFoundError: the image was removed.
    """
    rows = connection.execute(_OPEN, (image_id,)).fetchall()
    if not rows:
        raise ImageNotFoundError(f"image {image_id} was removed from the catalog")
    (
        name, image_format, size, layout, fingerprint, index_id, kind, key, total, compression,
        sealed_at,
    ) = rows[0][_VOLUME_COUNT:]  # fmt: skip
    streams: tuple[StreamSpec, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    if compression is not None:
        streams = tuple(StreamSpec(*row) for row in connection.execute(_STREAMS, (index_id,)))
    fields = json.loads(layout)
    volumes = tuple(_volume(row[:_VOLUME_COUNT]) for row in rows if row[0] is not None)
    is_derived = kind == IndexKind.MAP and (not volumes or fields.get("has_parent"))
    if kind == IndexKind.SEGMENTS or is_derived:
        segments = _segments(connection, index_id)
    return OpenSpec(
        image_id=image_id,
        name=file_name(name),
        format=image_format,
        size_bytes=size,
        layout=fields,
        fingerprint=fingerprint,
        volumes=volumes,
        index_id=index_id,
        index_kind=kind,
        content_key=key,
        total_blocks=total,
        is_sealed=sealed_at is not None,
        streams=streams,
        segments=segments,
    )


def directory_of_image(
    connection: sqlite3.Connection, image_id: int, role: str
) -> tuple[str, str] | None:
    """Return path and device of an image in its image directory, or None where it is in none."""
    row = connection.execute(
        """
        SELECT place(image_directories.path), device FROM directory_images
        JOIN image_directories ON image_directories.id = directory_images.directory_id
        WHERE image_id = ? AND role = ? ORDER BY directory_id DESC
        """,
        (image_id, role),
    ).fetchone()
    return None if row is None else (file_name(row[0]), file_name(row[1]))


def directory_paths(connection: sqlite3.Connection) -> list[str]:
    """Return the paths of all image directories."""
    rows = connection.execute("SELECT place(path) FROM image_directories ORDER BY id")
    return [file_name(path) for (path,) in rows]


def directory_images(
    connection: sqlite3.Connection, path: str, role: str
) -> dict[str, tuple[int, int]]:
    """Return id and guest bytes of the images of a role in a directory, by device."""
    rows = connection.execute(
        """
        SELECT device, images.id, images.size_bytes FROM directory_images
        JOIN image_directories ON image_directories.id = directory_images.directory_id
        JOIN images ON images.id = directory_images.image_id
        WHERE image_directories.path IN (?1, near(?1)) AND role = ?2
        """,
        (stored_name(path), role),
    )
    return {file_name(device): (image_id, size) for device, image_id, size in rows}


def directories_of(connection: sqlite3.Connection, image_ids: Iterable[int]) -> list[str]:
    """Return the paths of the image directories that any of these images is in."""
    wanted = ", ".join(str(int(image_id)) for image_id in image_ids)
    rows = connection.execute(
        f"""
        SELECT DISTINCT place(image_directories.path) FROM directory_images
        JOIN image_directories ON image_directories.id = directory_images.directory_id
        WHERE image_id IN ({wanted}) ORDER BY 1
        """  # noqa: S608 - numbers
    )
    return [file_name(path) for (path,) in rows]


def has_unused_indexes(connection: sqlite3.Connection) -> bool:
    """Tell whether there is an index that no image uses."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM indexes WHERE id NOT IN (SELECT index_id FROM images))"
    ).fetchone()
    return bool(row[0])


def _record(connection: sqlite3.Connection, row: tuple[Any, ...]) -> ImageRecord:
    listed = _image_row(row[: len(_ROW_FIELDS)])
    (
        total, used, seconds, warnings, header, layout, fingerprint, index_id, kind, digest,
        looked_at,
    ) = row[len(_ROW_FIELDS) :]  # fmt: skip
    bad = connection.execute(_BAD_RANGES, (listed.id,))
    volumes = _volumes_by_image(
        connection.execute(f"{_VOLUMES} WHERE image_id = ? ORDER BY ordinal", (listed.id,))
    )
    return ImageRecord(
        row=listed,
        total_blocks=total,
        used_blocks=used,
        scan_seconds=seconds,
        warnings=tuple(json.loads(warnings)),
        header=json.loads(header),
        layout=json.loads(layout),
        fingerprint=fingerprint,
        volumes=tuple(volumes.get(listed.id, ())),
        index_id=index_id,
        index_kind=kind,
        digest=digest,
        bad_ranges=tuple(BadRange(*fields) for fields in bad),
        streams=tuple(StreamSpec(*each) for each in connection.execute(_STREAMS, (index_id,))),
        segments=(
            _segments(connection, index_id) if kind in {IndexKind.SEGMENTS, IndexKind.MAP} else ()
        ),
        looked_at=looked_at,
    )


def _segments(connection: sqlite3.Connection, index_id: int) -> tuple[SegmentRow, ...]:
    return tuple(
        SegmentRow(start, stop, _file_name(name), child, offset, key, unpack_stripes(stripes))
        for start, stop, name, child, offset, key, stripes in connection.execute(
            _SEGMENTS, (index_id,)
        )
    )


def _file_name(value: str | bytes | None) -> str | None:
    return None if value is None else file_name(value)


def _image_row(row: tuple[Any, ...]) -> ImageRow:
    fields = list(row)
    for number in _FILE_NAMES:
        fields[number] = _file_name(fields[number])
    return ImageRow(*fields)


def _volumes_by_image(rows: sqlite3.Cursor) -> dict[int, list[Volume]]:
    found: dict[int, list[Volume]] = {}
    for image_id, *fields in rows:
        found.setdefault(image_id, []).append(_volume(fields))
    return found


def _volume(fields: tuple[Any, ...] | list[Any]) -> Volume:
    path, *rest = fields
    return Volume(file_name(path), *rest)
