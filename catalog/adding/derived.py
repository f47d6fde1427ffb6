"""What is derived from an image: its snapshots, partitions and logical volumes.

None has a file of its own.
Everything here is called in the transaction that writes the image itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import xxhash

from ...formats.composed.segments import ChildBytes, Segment
from ...formats.passes.look_inside import Inside
from ..database import composing, insides, naming, writing
from ..database.moment import utc_now
from ..database.transaction import driver_connection
from ..errors import NameTakenError
from ..names import check_name, file_name, legible
from .compose import Composition, put_composition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    from ...formats.partitions.table import Partition
    from ...formats.passes.look_inside import VolumeInside
    from ...formats.reader import Scan

PARTITION = "partition"
"""What a partition of a disk is called in the place of a format."""

LOGICAL_VOLUME = "logical-volume"
"""What a logical volume of LVM2 is called in the place of a format."""

_NOTHING = Inside()
_SECTOR = 512

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
            columns["name"] = naming.free_name(driver, _entry_name(holder, name, scan))
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


def put_inside(
    connection: sa.Connection, image_id: int, inside: Inside, *, may_be_disk: bool
) -> None:
    """Write what was found inside of an image: its file system, its partitions and volumes.

    Args:
        connection: in a transaction.
        image_id: the image, which has been written.
        inside: what was found in it.
        may_be_disk: whether it may have, or have had, a partition table.
    """
    driver = driver_connection(connection)
    insides.replace_file_system(driver, image_id, inside.file_system)
    if may_be_disk:
        put_partitions(connection, image_id, inside)
    put_logical_volumes(connection, image_id, inside.volumes)


def put_partitions(
    connection: sa.Connection,
    disk_id: int,
    inside: Inside,
    known_images: Mapping[int, int | None] | None = None,
) -> None:
    """Write the partition table of a disk, and each partition as an image of its own.

    Args:
        connection: in a transaction.
        disk_id: the disk, which has been written.
        inside: what was found in it.
        known_images: ids of partitions that are images of their own, by the first byte of each;
            None of one that is, and is not there.
    """
    driver = driver_connection(connection)
    before = insides.partition_images(driver, disk_id)
    (stored,) = driver.execute("SELECT name FROM images WHERE id = ?", (disk_id,)).fetchone()
    disk = file_name(stored)
    linked = known_images or {}
    images: dict[int, int] = {}
    partitions = inside.table.partitions if inside.table else ()
    for each in partitions:
        if each.is_container:
            continue
        if each.start in linked:
            image_id = linked[each.start]
            images |= {} if image_id is None else {each.number: image_id}
            continue
        found = inside.within.get(each.number, _NOTHING)
        assert inside.table is not None
        composition = _partition(disk, disk_id, each, inside.table.sector_size, found)
        wish = f"{disk}.p{each.number}"
        known = before.pop(each.number, None)
        child, _outcome = put_composition(connection, composition, known=known, wish=wish)
        writing.update_image(connection, child, parent_id=disk_id, looked_at=utc_now())
        put_inside(connection, child, found, may_be_disk=False)
        images[each.number] = child
    for image_id in before.values():
        writing.delete_image(connection, image_id)
    insides.replace_table(driver, disk_id, inside.table, images)


def _partition(
    disk: str, disk_id: int, partition: Partition, sector_size: int, found: Inside
) -> Composition:
    size = partition.stop - partition.start
    return Composition(
        format=PARTITION,
        fs_type=_kind_of(found),
        creator=None,
        size=size,
        block_size=sector_size,
        header={
            "number": partition.number,
            "start": partition.start,
            "type": partition.type,
            "type_name": partition.type_name,
            "uuid": partition.uuid,
            "label": partition.name,
        },
        segments=(Segment(0, size, ChildBytes(disk, partition.start)),),
        children={disk: disk_id},
        warnings=tuple(found.warnings),
    )


def put_logical_volumes(
    connection: sa.Connection, image_id: int, volumes: Sequence[VolumeInside]
) -> None:
    """Let these be the logical volumes of an image, each an image of its own.

    Args:
        connection: in a transaction.
        image_id: the image that they lie in.
        volumes: what was found.
    """
    driver = driver_connection(connection)
    before = insides.logical_volume_images(driver, image_id, LOGICAL_VOLUME)
    if not before and not volumes:
        return
    (stored,) = driver.execute("SELECT name FROM images WHERE id = ?", (image_id,)).fetchone()
    holder = file_name(stored)
    for volume in volumes:
        known = before.pop(volume.uuid, None)
        composition = _logical_volume(holder, image_id, volume)
        wish = _volume_name(holder, volume)
        child, _outcome = put_composition(connection, composition, known=known, wish=wish)
        writing.update_image(connection, child, parent_id=image_id, looked_at=utc_now())
        put_inside(connection, child, volume.inside, may_be_disk=True)
    for child in before.values():
        writing.delete_image(connection, child)


def _logical_volume(holder: str, image_id: int, volume: VolumeInside) -> Composition:
    segments = tuple(
        Segment(each.start, each.stop, ChildBytes(holder, each.offset, each.stripes))
        for each in volume.stretches
    )
    return Composition(
        format=LOGICAL_VOLUME,
        fs_type=_kind_of(volume.inside),
        creator=None,
        size=volume.size,
        block_size=_SECTOR,
        header={
            "volume_group": volume.group,
            "group_uuid": volume.group_uuid,
            "volume": volume.name,
            "uuid": volume.uuid,
            "physical_volumes": " ".join(volume.physical_volumes),
        },
        segments=segments,
        children={holder: image_id},
        warnings=tuple(volume.inside.warnings),
    )


def _volume_name(holder: str, volume: VolumeInside) -> str:
    """Return what a logical volume is called: as device-mapper does, whose hyphens are doubled."""
    group, name = (each.replace("-", "--") for each in (volume.group, volume.name))
    wish = f"{holder}.{group}-{name}"
    try:
        check_name(wish)
    except NameTakenError:
        return f"{holder}.{volume.uuid}"
    return wish


def _kind_of(inside: Inside) -> str:
    """Return what an image holds, in a word."""
    if inside.file_system is not None:
        return inside.file_system.type
    return "disk" if inside.table is not None else "unknown"
