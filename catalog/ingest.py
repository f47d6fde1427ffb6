"""From an image's file to its rows: the only part of the catalog that scans images."""

from __future__ import annotations

import dataclasses
import enum
import os
import time
from typing import TYPE_CHECKING, Any

from ..formats import probe
from ..formats.errors import FormatError
from . import reading, writing
from .errors import ImageChangedError
from .freshness import Freshness, compare, freshness, volume_from_stat
from .moment import utc_now
from .names import check_name, name_of_file
from .records import DAMAGED, FAILED, MISSING, READY, ImageRecord, Volume
from .transaction import driver_connection

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from ..formats.reader import Progress, Scan
    from .store import Catalog


class Outcome(enum.Enum):
    """What came of an `add` or a `rescan`."""

    ADDED = "added"
    UPDATED = "updated"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    MISSING = "missing"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Ingested:
    """The result for one image; `record` is as the catalog has it now."""

    outcome: Outcome
    record: ImageRecord


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file and what its scan found, not yet in the catalog."""

    path: str
    volumes: tuple[Volume, ...]
    scan: Scan
    layout: Mapping[str, int]
    seconds: float

    @property
    def status(self) -> str:
        """What the image's status is after this scan."""
        return DAMAGED if self.scan.info.damage else READY


def scan_file(path: str, progress: Progress | None = None) -> ScannedFile:
    """Scan the image in a file, and in its other volumes. Touches no catalog; for any thread.

    Args:
        path: the image's file; of several volumes, any.
        progress: told the stored bytes that are done.

    Raises:
        FormatError: the file is no image, or one that cannot be read.
        ImageChangedError: it was changed while it was scanned.
        OSError: the operating system could not read it.
    """
    began = time.monotonic()
    with probe.open_files(os.path.abspath(path)) as stored:
        volumes = tuple(volume_from_stat(file.path, file.stat, file.size) for file in stored.files)
        scan = probe.scan_files(stored, progress)
        for file, volume in zip(stored.files, volumes, strict=True):
            size = file.size if file.size != file.stat.st_size else None
            if compare(volume, os.stat(file.path), size) is not Freshness.FRESH:
                raise ImageChangedError(
                    f"{file.path}: was changed while it was scanned: try again later"
                )
        layout = dict(scan.info.layout)
        if stored.volume_header_size:
            layout["volume_header_size"] = stored.volume_header_size
    return ScannedFile(volumes[0].path, volumes, scan, layout, time.monotonic() - began)


def needs_scan(record: ImageRecord | None) -> bool:
    """Tell whether the file behind a record must be scanned (again)."""
    return (
        record is None
        or record.row.status == FAILED
        or freshness(record.volumes) is not Freshness.FRESH
    )


def put(catalog: Catalog, scanned: ScannedFile, *, name: str | None = None) -> Ingested:
    """Write a scanned image, in one transaction.

    The image of the same path is updated, keeping its id and name. An image whose files are gone
    and whose fingerprint is the same has moved here: it keeps id, name and verification record.

    Raises:
        NameTakenError: `name` is given, and another image has it, or it cannot be a name.
        CatalogError: the catalog could not be written; it is then as before.
    """
    if name is not None:
        check_name(name)
    with catalog.database.writing() as connection:
        asking = driver_connection(connection)
        known = reading.record_of_path(asking, scanned.path)
        outcome = Outcome.UPDATED
        if known is None:
            known = _moved_from(asking, scanned)
            outcome = Outcome.ADDED if known is None else Outcome.MOVED
        same_bytes = known is not None and known.fingerprint == scanned.scan.info.fingerprint
        index_id = known.index_id if known and same_bytes else writing.insert_index(
            connection, scanned.scan
        )  # fmt: skip
        values = _values(scanned) | {"index_id": index_id}
        if name is not None:
            values["name"] = writing.claim_name(connection, name, known.row.id if known else None)
        if known is None:
            values.setdefault("name", writing.free_name(connection, name_of_file(scanned.path)))
            values["added_at"] = values["scanned_at"]
            image_id = writing.insert_image(connection, values)
        else:
            image_id = known.row.id
            if not same_bytes:
                values |= {"verified_at": None, "verify_result": None, "verify_detail": None}
                writing.replace_bad_ranges(connection, image_id, ())
            writing.update_image(connection, image_id, **values)
        writing.replace_volumes(connection, image_id, scanned.volumes)
    return Ingested(outcome, catalog.get(image_id))


def add_file(
    catalog: Catalog, path: str, *, name: str | None = None, force: bool = False
) -> Ingested:
    """Scan the file and write it, unless the catalog has it and nothing changed.

    Args:
        catalog: where it goes.
        path: the image's file.
        name: the name it shall have; else one is made from the file's.
        force: scan even if nothing changed.

    Raises:
        As `scan_file` and `put`.
    """
    known = catalog.find_path(os.path.abspath(path))
    if known is not None and not force and not needs_scan(known):
        if name is not None and name != known.row.name:
            catalog.rename(known.row.id, name)
            return Ingested(Outcome.UPDATED, catalog.get(known.row.id))
        return Ingested(Outcome.UNCHANGED, known)
    ingested = put(catalog, scan_file(path), name=name)
    if ingested.outcome is not Outcome.ADDED:
        catalog.purge_unused_indexes()
    return ingested


def rescan(catalog: Catalog, image_id: int) -> Ingested:
    """Look at the files of an image and mend its entry.

    Raises:
        ImageNotFoundError: there is no such image.
        CatalogError: the catalog could not be written.
    """
    record = catalog.get(image_id)
    state = freshness(record.volumes)
    if state is Freshness.MISSING:
        paths = (volume.path for volume in record.volumes)
        gone = next((path for path in paths if not os.path.exists(path)), record.row.path)
        return _set_status(catalog, record, MISSING, f"{gone} is not there", Outcome.MISSING)
    if state is Freshness.FRESH and record.row.status in {READY, DAMAGED}:
        return Ingested(Outcome.UNCHANGED, record)
    try:
        scanned = scan_file(record.row.path)
    except (FormatError, OSError, ImageChangedError) as error:
        return _set_status(catalog, record, FAILED, str(error), Outcome.FAILED)
    ingested = put(catalog, scanned)
    catalog.purge_unused_indexes()
    return ingested


def _set_status(
    catalog: Catalog, record: ImageRecord, status: str, detail: str, outcome: Outcome
) -> Ingested:
    if (record.row.status, record.row.status_detail) != (status, detail):
        catalog.set_status(record.row.id, status, detail)
    return Ingested(outcome, catalog.get(record.row.id))


def _moved_from(connection: sqlite3.Connection, scanned: ScannedFile) -> ImageRecord | None:
    """Return the record of the image that was moved to here, if there is one."""
    for path in reading.paths_of_fingerprint(connection, scanned.scan.info.fingerprint):
        record = reading.record_of_path(connection, path)
        if record and freshness(record.volumes) is Freshness.MISSING:
            return record
    return None


def _values(scanned: ScannedFile) -> dict[str, Any]:
    info = scanned.scan.info
    return {
        "path": scanned.path,
        "format": info.format,
        "format_version": info.format_version,
        "creator": info.creator,
        "fs_type": info.fs_type,
        "size_bytes": info.size,
        "block_size": info.block_size,
        "total_blocks": info.total_blocks,
        "used_blocks": info.used_blocks,
        "used_bytes": info.used_bytes,
        "stored_bytes": sum(volume.size_bytes for volume in scanned.volumes),
        "compression": None,
        "volume_count": len(scanned.volumes),
        "checksum": info.checksum,
        "content": info.content,
        "status": scanned.status,
        "status_detail": info.damage,
        "warnings": list(info.warnings),
        "header": dict(info.header),
        "layout": dict(scanned.layout),
        "fingerprint": info.fingerprint,
        "scanned_at": utc_now(),
        "scan_seconds": round(scanned.seconds, 6),
    }
