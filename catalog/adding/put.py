"""Writing scanned images to the catalog."""

from __future__ import annotations

import dataclasses
import enum
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ...formats.codecs.seek_points import INDEX_VERSION, pages_digest
from ..database import reading
from ..database.moment import utc_now
from ..errors import ImageChangedError, NameTakenError
from ..names import check_name, name_of_file
from ..opening.freshness import Freshness, freshness
from ..opening.identity import is_untouched
from ..records import FAILED, ImageRecord
from .moved import MovedImages
from .scan import ScannedFile, scan_file

if TYPE_CHECKING:
    from ..store import Catalog


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
    """The result for one image.

    Attributes:
        outcome: what came of it.
        record: the image as the catalog has it now.
        is_right: its checksums were looked at while it was scanned, and nothing is wrong.
    """

    outcome: Outcome
    record: ImageRecord
    is_right: bool = False


def needs_scan(record: ImageRecord | None) -> bool:
    """Tell whether the file behind a record must be scanned (again)."""
    return (
        record is None
        or record.row.status == FAILED
        or freshness(record.volumes) is not Freshness.FRESH
        or _is_outdated(record)
    )


def _is_outdated(record: ImageRecord) -> bool:
    """Tell whether another version of imgcat has made the seek points, which are not read."""
    return any(stream.index_version != INDEX_VERSION for stream in record.streams)


class _Stays(NamedTuple):
    """What stays of an image that is known, now that its files were scanned again."""

    keeps_index: bool
    keeps_verdict: bool


_NOTHING = _Stays(keeps_index=False, keeps_verdict=False)


def _what_stays(known: ImageRecord, scanned: ScannedFile) -> _Stays:
    """Return what stays. See `opening.identity` for the rule.

    The fingerprint is of samples. Where a file is another one, or its time is, its data may be too,
    and what the kernel has cached of the old ones must not be shown: that takes an index of its
    own, unless each page is compared with its hash.
    """
    if known.fingerprint != scanned.scan.info.fingerprint or _is_outdated(known):
        return _NOTHING
    if is_untouched(known.volumes, scanned.volumes):
        return _Stays(keeps_index=True, keeps_verdict=True)
    if scanned.streams:
        # All of it was decoded just now, and hashed.
        is_same = pages_digest(scanned.streams) == known.digest
        return _Stays(keeps_index=is_same, keeps_verdict=is_same)
    return _Stays(keeps_index=known.row.sealed_at is not None, keeps_verdict=False)


def put(
    catalog: Catalog,
    scanned: ScannedFile,
    *,
    name: str | None = None,
    wish: str | None = None,
    renew: bool = False,
    moved: MovedImages | None = None,
) -> Ingested:
    """Write a scanned image, in one transaction.

    The image of the same path is updated, keeping its id and name. An image whose files are gone
    and whose fingerprint is the same has moved here: it keeps id and name. A verdict stays only
    where nothing can have changed since, or all of it was looked at just now.

    Args:
        catalog: where it goes.
        scanned: what the scan found.
        name: the name it shall have.
        wish: the name that a new one gets if no other has it; made from the file's if None.
        renew: write the index anew even if the image is the same.
        moved: what is known of moved images from others that were written just before.

    Raises:
        NameTakenError: `name` is given, and another image has it, or it cannot be a name.
        CatalogError: the catalog could not be written; it is then as before.
    """
    # Imported when there is something to write: SQLAlchemy is loaded while the scan runs.
    from ..database import composing, writing
    from ..database.transaction import driver_connection

    if name is not None:
        check_name(name)
    with catalog.database.writing() as connection:
        asking = driver_connection(connection)
        known = reading.record_of_path(asking, scanned.path)
        outcome = Outcome.UPDATED
        if known is None:
            known = (moved or MovedImages()).find(asking, scanned.scan.info.fingerprint)
            outcome = Outcome.ADDED if known is None else Outcome.MOVED
        stays = (
            _what_stays(known, scanned) if known else _Stays(keeps_index=False, keeps_verdict=False)
        )
        if known is not None and stays.keeps_index and not renew:
            index_id = known.index_id
        else:
            index_id = writing.insert_index(connection, scanned.scan)
            writing.insert_streams(connection, index_id, scanned.streams)
        values = _values(scanned) | {"index_id": index_id}
        if name is not None:
            values["name"] = writing.claim_name(connection, name, known.row.id if known else None)
        if known is None:
            wanted = wish or name_of_file(scanned.path)
            values.setdefault("name", writing.free_name(connection, wanted))
            values["added_at"] = values["scanned_at"]
            image_id = writing.insert_image(connection, values)
        else:
            image_id = known.row.id
            if not stays.keeps_verdict:
                values |= writing.UNVERIFIED
                if known.row.verified_at is not None:
                    values["verify_detail"] = "not since it changed"
                writing.replace_bad_ranges(connection, image_id, ())
            writing.update_image(connection, image_id, **values)
        writing.replace_volumes(connection, image_id, scanned.volumes)
        composing.refresh_above(connection, [image_id])
    return Ingested(outcome, catalog.get(image_id), scanned.scan.is_right)


def replace(catalog: Catalog, scanned: ScannedFile, *, before: ImageRecord) -> ImageRecord:
    """Let an entry be of another file with the same image; keep id, name and verification.

    Args:
        catalog: where the entry is.
        scanned: the scan of the other file.
        before: the entry as it was when the other file was made.

    Raises:
        ImageChangedError: the entry was changed meanwhile.
        NameTakenError: another entry is of that file.
        CatalogError: the catalog could not be written; it is then as before.
    """
    from ..database import composing, writing
    from ..database.transaction import driver_connection

    image_id = before.row.id
    with catalog.database.writing() as connection:
        asking = driver_connection(connection)
        now = reading.record_of_id(asking, image_id)
        if now.index_id != before.index_id:
            raise ImageChangedError(f"{before.row.name}: was scanned anew meanwhile")
        other = reading.record_of_path(asking, scanned.path)
        if other is not None and other.row.id != image_id:
            raise NameTakenError(f"{scanned.path}: is in the catalog already, as {other.row.name}")
        index_id = writing.insert_index(connection, scanned.scan)
        writing.insert_streams(connection, index_id, scanned.streams)
        writing.update_image(connection, image_id, **(_values(scanned) | {"index_id": index_id}))
        writing.replace_volumes(connection, image_id, scanned.volumes)
        composing.refresh_above(connection, [image_id])
    return catalog.get(image_id)


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
    ingested = put(catalog, scan_file(path), name=name, renew=force)
    if ingested.outcome is not Outcome.ADDED:
        catalog.purge_unused_indexes()
    return ingested


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
        "compression": scanned.compression,
        "volume_count": len(scanned.volumes),
        "checksum": info.checksum,
        "content": info.content,
        "status": scanned.status,
        "status_detail": scanned.status_detail,
        "warnings": list(info.warnings),
        "header": dict(info.header),
        "layout": dict(info.layout),
        "fingerprint": info.fingerprint,
        "scanned_at": utc_now(),
        "scan_seconds": round(scanned.seconds, 6),
    }
