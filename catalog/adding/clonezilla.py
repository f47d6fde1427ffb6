"""Image directories of Clonezilla: each partition an image, each disk one that is made of them.

What a directory tells is read once, when it is added or scanned again; all else is rows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...formats.clonezilla.directory import is_image_directory, read_directory
from ...formats.clonezilla.disk import DISK_SUFFIX, disk_header, disk_layout
from ...formats.clonezilla.evidence import row_name
from ...formats.errors import CorruptImageError, FormatError, UnreadablePartError
from ...formats.passes.look_inside import look_inside
from ..database import naming, reading
from ..database.moment import utc_now
from ..names import USUAL_NAMES
from ..records import FAILED
from . import batch
from .outcome import Ingested

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    import sqlalchemy as sa

    from ...formats.clonezilla.records import ImageDirectory
    from ...formats.progress import Progress
    from ...formats.reader import ImageReader
    from ..names import NameSource
    from ..store import Catalog
    from .compose import Composition

PARTITION = "partition"
DISK = "disk"

FORMAT = "disk"


def add_directory(
    catalog: Catalog,
    path: str,
    *,
    names: NameSource = USUAL_NAMES,
    name: str | None = None,
    options: batch.Options | None = None,
    progress: Progress | None = None,
) -> Iterator[batch.Result]:
    """Add every partition and disk of an image directory, and what it tells of itself.

    Yields a result for each. One bad or missing partition does not stop the others.

    Args:
        catalog: where they go.
        path: the directory.
        names: what the folder of its images is called, if they are new.
        name: the folder that all of its images shall be in, those too that it has.
        options: how they are scanned.
        progress: told the bytes of all files that are done.

    Raises:
        FormatError: it is no image directory, or one that cannot be read: an encrypted one.
        OSError: it cannot be listed.
        NameTakenError: others are in the folder `name`, or it cannot be one.
        CatalogError: the catalog itself cannot be used any more.
    """
    directory = read_directory(os.path.abspath(path))
    folder = _folder(catalog, directory, names, name)
    found: dict[str, tuple[int, int]] = {}
    devices = {}
    items = []
    for partition in directory.partitions:
        if partition.problem is not None:
            error = CorruptImageError("clonezilla.partition", 0, partition.problem)
            yield batch.Result(os.path.join(directory.path, partition.name), error=error)
            continue
        devices[partition.first_file] = partition.name
        wish = f"{folder}/{partition.name}"
        items.append(batch.Item(partition.first_file, wish, partition.is_raw))
    for result in batch.add_files(
        catalog, items, options=options or batch.Options(), progress=progress
    ):
        device = devices.get(result.path)
        if result.ingested is not None and device is not None:
            row = result.ingested.record.row
            found[device] = row.id, row.size_bytes
        yield result
    with catalog.database.reading() as connection:
        known = reading.directory_images(connection, directory.path, PARTITION)
    # One that could not be scanned just now, or is not there, stays the one that it was.
    expected = (*directory.lost, *(partition.name for partition in directory.partitions))
    found = {device: known[device] for device in expected if device in known} | found
    yield from put_directory(catalog, directory, found, folder)
    if name is not None:
        _rename_members(catalog, directory.path, name)


def _folder(
    catalog: Catalog, directory: ImageDirectory, names: NameSource, name: str | None
) -> str:
    """Return the folder of a directory's images: the one that they are in, else one of their own.

    Raises:
        NameTakenError: others are in the folder `name`, or it cannot be one.
    """
    with catalog.database.reading() as connection:
        members = _members(connection, directory.path)
        if name is not None:
            return naming.claim_folder(connection, name, members.keys())
        for image_id, last in members.items():
            known = reading.name_of_id(connection, image_id) or ""
            if known.endswith(f"/{last}"):
                return known.removesuffix(f"/{last}")
        wish = names.of_directory(directory.path)
        return naming.free_folder(connection, wish, members.keys())


def _members(connection: sqlite3.Connection, path: str) -> dict[int, str]:
    """Return the images of a directory, each with what it is called there."""
    return {
        image_id: device + suffix
        for role, suffix in ((PARTITION, ""), (DISK, DISK_SUFFIX))
        for device, (image_id, _size) in reading.directory_images(connection, path, role).items()
    }


def _rename_members(catalog: Catalog, path: str, folder: str) -> None:
    """Let all images of a directory be in a folder of the catalog."""
    with catalog.database.reading() as connection:
        wanted = {
            image_id: f"{folder}/{last}"
            for image_id, last in _members(connection, path).items()
            if reading.name_of_id(connection, image_id) != f"{folder}/{last}"
        }
    if wanted:
        catalog.rename_many(wanted)


def put_directory(
    catalog: Catalog,
    directory: ImageDirectory,
    found: Mapping[str, tuple[int, int]],
    folder: str | None = None,
) -> list[batch.Result]:
    """Write what a directory tells, and its disks, in one transaction; return the disks' results.

    A directory that was moved here, images and all, is known by those: it keeps the ids of its
    disks, and nothing of its old path stays.

    Args:
        catalog: where it goes.
        directory: what lies in it.
        found: id and guest bytes of its partitions' images, by device.
        folder: what disks that are new are put into; that of the directory's name if None.

    Raises:
        CatalogError: the catalog could not be written; it is then as before.
    """
    # Imported when there is something to write: loading SQLAlchemy takes a while.
    from ..database import writing
    from ..database.transaction import driver_connection
    from .compose import put_composition

    composed = {disk: _composition_or_error(directory, disk, found) for disk in directory.disks}
    with catalog.database.writing() as connection:
        driver = driver_connection(connection)
        moved_from = _moved_from(connection, directory, found)
        known: dict[str, tuple[int, int]] = {}
        for path in (*moved_from, directory.path):
            known |= reading.directory_images(driver, path, DISK)
        members = {(PARTITION, device): image_id for device, (image_id, _size) in found.items()}
        done = {}
        for disk, composition in composed.items():
            image_id = known.get(disk, (None, 0))[0]
            if isinstance(composition, Exception):
                if image_id is not None:
                    # It goes on being what it was.
                    members[DISK, disk] = image_id
                    writing.update_image(
                        connection, image_id, status=FAILED, status_detail=str(composition)
                    )
                continue
            wish = f"{folder or directory.name}/{disk}{DISK_SUFFIX}"
            done[disk] = put_composition(connection, composition, known=image_id, wish=wish)
            members[DISK, disk] = done[disk][0]
            _put_partitions(connection, done[disk][0], composition)
        writing.replace_directory(
            connection, _columns(directory), members, list(_facts(directory)),
            moved_from=moved_from,
        )  # fmt: skip
    results = []
    for disk, composition in composed.items():
        label = os.path.join(directory.path, disk + DISK_SUFFIX)
        if isinstance(composition, Exception):
            results.append(batch.Result(label, error=composition))
        else:
            image_id, outcome = done[disk]
            results.append(batch.Result(label, Ingested(outcome, catalog.get(image_id))))
    return results


def compose_disk(
    directory: ImageDirectory, disk: str, found: Mapping[str, tuple[int, int]]
) -> Composition:
    """Return what a disk of a directory is made of.

    Args:
        directory: where it was saved.
        disk: its name.
        found: id and guest bytes of the partitions' images, by device.

    Raises:
        CorruptImageError: nothing tells how large it is.
        OSError: a file cannot be read.
    """
    from .compose import Composition

    layout = disk_layout(directory, disk, {name: size for name, (_id, size) in found.items()})
    return Composition(
        format=FORMAT,
        fs_type=layout.label or "none",
        creator=directory.clonezilla_version,
        size=layout.size,
        block_size=layout.sector_size,
        header=disk_header(directory, layout),
        segments=layout.segments,
        children={name: image_id for name, (image_id, _size) in found.items()},
        warnings=layout.problems,
    )


def compose_all(connection: sa.Connection) -> None:
    """Compose the disks of all directories, in a catalog that has just been upgraded.

    What cannot be composed stays as the upgrade has left it, and says so.
    """
    from ..database import writing
    from ..database.transaction import driver_connection
    from .compose import put_composition

    driver = driver_connection(connection)
    for path in reading.directory_paths(driver):
        found = reading.directory_images(driver, path, PARTITION)
        for disk, (image_id, _size) in reading.directory_images(driver, path, DISK).items():
            try:
                composition = compose_disk(read_directory(path), disk, found)
            except (FormatError, OSError, ValueError, KeyError) as error:
                detail = f"could not be put together when the catalog was upgraded: {error}"
                writing.update_image(connection, image_id, status=FAILED, status_detail=detail)
            else:
                put_composition(connection, composition, known=image_id, wish="")


def find_directories(path: str) -> Iterator[str]:
    """Yield the image directories at and below a path, in order."""
    for parent, below, _files in os.walk(path):
        below.sort()
        if is_image_directory(parent):
            below.clear()
            yield parent


def _put_partitions(connection: sa.Connection, disk_id: int, composition: Composition) -> None:
    """Write the partition table of a disk; what is an image already is that, and not another."""
    from ...formats.composed.reader import ComposedReader
    from ...formats.composed.segments import ChildBytes
    from ..database import writing
    from .derived import put_partitions

    def refuse(name: str) -> ImageReader:
        # Its table lies in what was saved of the disk itself.
        raise UnreadablePartError(name, 0, "is not looked at here")

    reader = ComposedReader.of_segments(composition.size, composition.segments, refuse)
    inside = look_inside(reader, is_disk=True, sector_size=composition.block_size)
    # Of a part whose image could not be read just now, there is none.
    images = {
        segment.start: composition.children.get(segment.content.name)
        for segment in composition.segments
        if isinstance(segment.content, ChildBytes) and segment.content.offset == 0
    }
    put_partitions(connection, disk_id, inside, images)
    writing.update_image(connection, disk_id, looked_at=utc_now())


def _composition_or_error(
    directory: ImageDirectory, disk: str, found: Mapping[str, tuple[int, int]]
) -> Composition | Exception:
    try:
        return compose_disk(directory, disk, found)
    except (FormatError, OSError) as error:
        return error


def _moved_from(
    connection: sa.Connection, directory: ImageDirectory, found: Mapping[str, tuple[int, int]]
) -> list[str]:
    """Return other paths that the directory's images were in, where no directory is any more."""
    from ..database.transaction import driver_connection

    image_ids = [image_id for image_id, _size in found.values()]
    paths = reading.directories_of(driver_connection(connection), image_ids)
    return [path for path in paths if path != directory.path and not is_image_directory(path)]


def _columns(directory: ImageDirectory) -> dict[str, Any]:
    return {
        "path": directory.path,
        "name": directory.name,
        "clonezilla_version": directory.clonezilla_version,
        "saved_at": directory.saved_at,
        "is_broken": int(directory.is_broken),
        "scanned_at": utc_now(),
    }


def _facts(directory: ImageDirectory) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, name and detail of everything that the directory tells."""
    for disk in directory.disks:
        yield "disk", disk, {}
        yield from _table_rows(directory, disk)
    for partition in directory.partitions:
        yield (
            "image",
            partition.name,
            {
                "disk": partition.disk,
                "fs_type": partition.fs_type,
                "device_size": partition.device_size,
                "problem": partition.problem,
            },
        )
    for swap in directory.swaps:
        yield "swap", swap.device, {"uuid": swap.uuid, "label": swap.label}
    for group in directory.volume_groups:
        yield "volume_group", group.name, {"device": group.device, "uuid": group.uuid}
    for volume in directory.logical_volumes:
        detail = {"device": volume.device, "description": volume.description}
        yield "logical_volume", volume.name, detail
    for device in directory.luks_devices:
        yield "luks", device.device, {"uuid": device.uuid, "mapped": device.mapped}
    yield from _names("checksum_file", directory.checksum_files)
    yield from _names("file", directory.files)
    for problem in directory.problems:
        yield "problem", "", {"text": problem}


def _names(kind: str, names: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    return ((kind, name, {}) for name in names)


def _table_rows(directory: ImageDirectory, disk: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    table = directory.evidence[disk].table
    if table is None:
        return
    yield (
        "partition_table",
        disk,
        {"label": table.label, "label_id": table.label_id, "sector_size": table.sector_size},
    )
    for row in table.rows:
        yield (
            "table_row",
            row_name(row, table, disk),
            {
                "start": row.start,
                "stop": row.stop,
                "type": row.type,
                "bootable": row.is_bootable,
                "name": row.name,
            },
        )
