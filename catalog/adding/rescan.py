"""Looking at the files of catalogued images again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...formats.clonezilla.directory import read_directory
from ...formats.errors import FormatError, UnsupportedFeatureError
from ...formats.raw import reader as raw
from ..database import failures, reading
from ..errors import ImageChangedError
from ..opening.freshness import Freshness, freshness
from ..records import DAMAGED, FAILED, MISSING, ImageRecord
from .add import with_parent
from .clonezilla import DISK, PARTITION, put_directory
from .outcome import Ingested, Outcome
from .put import needs_scan, put
from .recognise import put_recognised
from .scan import How, scan_file

if TYPE_CHECKING:
    from ..store import Catalog


def rescan(catalog: Catalog, image_id: int) -> Ingested:
    """Look at the files of an image and mend its entry.

    What is made of it is brought up to date in the same transaction. Of an image that is made of
    others, what tells how it is made is read again; the others are not looked at.

    Raises:
        ImageNotFoundError: there is no such image.
        CatalogError: the catalog could not be written.
    """
    record = catalog.get(image_id)
    _forget_failures(catalog, image_id)
    if record.is_composed:
        return _rescan_disk(catalog, record)
    if record.row.path is None:
        return _rescan_holder(catalog, record)
    return _rescan_files(catalog, record)


def _forget_failures(catalog: Catalog, image_id: int) -> None:
    """Forget what readers of its files failed over: that may be mended by now."""
    with catalog.database.asking() as connection:
        if not failures.has_any(connection, image_id):
            return
    from ..database.transaction import driver_connection

    with catalog.database.writing() as writing:
        failures.delete(driver_connection(writing), image_id)


def _rescan_holder(catalog: Catalog, record: ImageRecord) -> Ingested:
    """Look at the image again that a snapshot or a partition is one of."""
    holder = record.segments[0].child_id if record.segments else None
    if holder is None:
        return Ingested(Outcome.UNCHANGED, record)
    outcome = rescan(catalog, holder).outcome
    return Ingested(outcome, catalog.get(record.row.id))


def _rescan_files(catalog: Catalog, record: ImageRecord) -> Ingested:
    assert record.row.path is not None
    state = freshness(record.volumes)
    if state is Freshness.MISSING:
        paths = (volume.path for volume in record.volumes)
        gone = next((path for path in paths if not os.path.exists(path)), record.row.path)
        return _set_status(catalog, record, MISSING, f"{gone} is not there", Outcome.MISSING)
    is_settled = record.looked_at is not None and record.row.status not in {MISSING, DAMAGED}
    if is_settled and not needs_scan(catalog, record):
        return Ingested(Outcome.UNCHANGED, record)
    # What it was recognised as may have been another file: only what somebody has said stays.
    how = How(
        is_raw=raw.TAKEN_AS in record.header,
        or_raw=record.row.format == raw.NAME,
        by_geometry="size_rule" in record.header,
        allowed=_allowed(catalog, record),
        by_id=catalog.path_of_uuid,
    )
    # What is damaged is looked at again.
    is_as_ever = record.row.status != DAMAGED
    recognised = put_recognised(catalog, record.row.path, record, how=how) if is_as_ever else None
    if recognised is not None:
        return recognised
    try:
        scanned = with_parent(catalog, scan_file(record.row.path, how=how), how)
    except UnsupportedFeatureError as error:
        hint = ": `imgcat add --format raw` takes it for raw all the same" if how.or_raw else ""
        return _set_status(catalog, record, FAILED, f"{error}{hint}", Outcome.FAILED)
    except (FormatError, OSError, ImageChangedError) as error:
        return _set_status(catalog, record, FAILED, str(error), Outcome.FAILED)
    ingested = put(catalog, scanned)
    catalog.purge()
    return ingested


def _allowed(catalog: Catalog, record: ImageRecord) -> tuple[str, ...]:
    """Return the directories that an image was allowed to lead into when it was added."""
    files = (*record.volumes, *catalog.volumes_below(record.row.id))
    return tuple(dict.fromkeys(os.path.dirname(volume.path) for volume in files))


def _rescan_disk(catalog: Catalog, record: ImageRecord) -> Ingested:
    """Read again what the directory tells of a disk, which goes on being what it was meanwhile."""
    with catalog.database.reading() as connection:
        where = reading.directory_of_image(connection, record.row.id, DISK)
        found = {} if where is None else reading.directory_images(connection, where[0], PARTITION)
    if where is None:
        return _rescan_holder(catalog, record)
    path, device = where
    if not os.path.isdir(path):
        return _set_status(catalog, record, MISSING, f"{path} is not there", Outcome.MISSING)
    try:
        directory = read_directory(path)
        if device not in directory.disks:
            return _set_status(
                catalog, record, MISSING, f"{path} has no disk {device} any more", Outcome.MISSING
            )
        results = put_directory(catalog, directory, found)
    except (FormatError, OSError) as error:
        return _set_status(catalog, record, FAILED, str(error), Outcome.FAILED)
    result = results[directory.disks.index(device)]
    if result.ingested is None:
        return _set_status(catalog, record, FAILED, str(result.error), Outcome.FAILED)
    catalog.purge()
    return result.ingested


def _set_status(
    catalog: Catalog, record: ImageRecord, status: str, detail: str, outcome: Outcome
) -> Ingested:
    if (record.row.status, record.row.status_detail) != (status, detail):
        catalog.set_status(record.row.id, status, detail)
    return Ingested(outcome, catalog.get(record.row.id))
