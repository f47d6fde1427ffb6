"""Image directories of Clonezilla: each partition an image, each disk one made of them."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

from ...formats.clonezilla.directory import is_image_directory, read_directory
from ...formats.errors import CorruptImageError, FormatError
from ...formats.partitions.text_tables import parse_sfdisk
from ..database.moment import utc_now
from ..errors import ImageChangedError, NameTakenError
from ..opening import composed as disks
from ..opening.freshness import volume_from_stat
from . import batch
from .put import Outcome, put
from .scan import ScannedFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...formats.clonezilla.records import ImageDirectory
    from ...formats.progress import Progress
    from ..store import Catalog

PARTITION = "partition"
DISK = "disk"

_TABLE_MAX = 1 << 20


def add_directory(
    catalog: Catalog,
    path: str,
    *,
    options: batch.Options | None = None,
    progress: Progress | None = None,
) -> Iterator[batch.Result]:
    """Add every partition and disk of an image directory, and what it tells of itself.

    Yields a result for each. One bad or missing partition does not stop the others.

    Args:
        catalog: where they go.
        path: the directory.
        options: how they are scanned.
        progress: told the bytes of all files that are done.

    Raises:
        FormatError: it is no image directory, or one that cannot be read: an encrypted one.
        OSError: it cannot be listed.
        CatalogError: the catalog itself cannot be used any more.
    """
    directory = read_directory(os.path.abspath(path))
    found: dict[tuple[str, str], int] = {}
    sizes: dict[str, int] = {}
    devices = {}
    items = []
    for partition in directory.partitions:
        if partition.problem is not None:
            error = CorruptImageError("clonezilla.partition", 0, partition.problem)
            yield batch.Result(os.path.join(directory.path, partition.name), error=error)
            continue
        devices[partition.first_file] = partition.name
        wish = f"{directory.name}/{partition.name}"
        items.append(batch.Item(partition.first_file, wish, partition.is_raw))
    for result in batch.add_files(
        catalog, items, options=options or batch.Options(), progress=progress
    ):
        device = devices.get(result.path)
        if result.ingested is not None and device is not None:
            row = result.ingested.record.row
            found[PARTITION, device] = row.id
            sizes[device] = row.size_bytes
        yield result
    for disk in directory.disks:
        result = add_disk(catalog, directory, disk, sizes)
        if result.ingested is not None:
            found[DISK, disk] = result.ingested.record.row.id
        yield result
    _write(catalog, directory, found)


def add_disk(
    catalog: Catalog, directory: ImageDirectory, disk: str, sizes: Mapping[str, int]
) -> batch.Result:
    """Add a disk of an image directory, whose partitions are in the catalog already."""
    path = disks.disk_path(directory.path, disk)
    began = time.monotonic()
    try:
        volumes = tuple(
            volume_from_stat(name, os.stat(name)) for name in disks.metadata_files(directory, disk)
        )
        scan = disks.scan_disk(directory, disk, sizes)
        scanned = ScannedFile(path, volumes, scan, {}, time.monotonic() - began)
        known = catalog.find_path(path)
        ingested = put(catalog, scanned, wish=f"{directory.name}/{disk}{disks.SUFFIX}")
        if known is not None and known.fingerprint == scan.info.fingerprint:
            ingested = dataclasses.replace(ingested, outcome=Outcome.UNCHANGED)
    except (FormatError, OSError, ImageChangedError, NameTakenError) as error:
        return batch.Result(path, error=error)
    return batch.Result(path, ingested)


def find_directories(path: str) -> Iterator[str]:
    """Yield the image directories at and below a path, in order."""
    for parent, below, _files in os.walk(path):
        below.sort()
        if is_image_directory(parent):
            below.clear()
            yield parent


def _write(
    catalog: Catalog, directory: ImageDirectory, found: Mapping[tuple[str, str], int]
) -> None:
    from ..database import writing

    values = {
        "path": directory.path,
        "name": directory.name,
        "clonezilla_version": directory.clonezilla_version,
        "saved_at": directory.saved_at,
        "is_broken": int(directory.is_broken),
        "scanned_at": utc_now(),
    }
    with catalog.database.writing() as connection:
        writing.replace_directory(connection, values, found, list(_facts(directory)))


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
        yield (
            "logical_volume",
            volume.name,
            {
                "device": volume.device,
                "description": volume.description,
            },
        )
    for device in directory.luks_devices:
        yield "luks", device.device, {"uuid": device.uuid, "mapped": device.mapped}
    for name in directory.checksum_files:
        yield "checksum_file", name, {}
    for name in directory.files:
        yield "file", name, {}
    for problem in directory.problems:
        yield "problem", "", {"text": problem}


def _table_rows(directory: ImageDirectory, disk: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    name = f"{disk}-pt.sf"
    if name not in directory.files:
        return
    try:
        with open(os.path.join(directory.path, name), encoding="utf-8", errors="replace") as file:
            table = parse_sfdisk(file.read(_TABLE_MAX))
    except (FormatError, OSError) as error:
        yield "problem", name, {"text": str(error)}
        return
    yield (
        "partition_table",
        disk,
        {
            "label": table.label,
            "label_id": table.label_id,
            "sector_size": table.sector_size,
        },
    )
    for row in table.rows:
        yield (
            "table_row",
            os.path.basename(row.device),
            {
                "start": row.start,
                "stop": row.stop,
                "type": row.type,
                "bootable": row.is_bootable,
                "name": row.name,
            },
        )
