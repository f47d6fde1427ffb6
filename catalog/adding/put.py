"""Writing scanned images to the catalog."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from ...formats.codecs.seek_points import INDEX_VERSION, pages_digest
from ..database import reading
from ..database.moment import utc_now
from ..errors import ImageChangedError, ImageNotFoundError, NameTakenError
from ..names import USUAL_NAMES, check_name
from ..opening.freshness import Freshness, freshness
from ..opening.identity import is_untouched
from ..records import AWAY, FAILED, LIVE, STALE, ImageRecord
from .moved import MovedImages
from .outcome import Ingested, Outcome

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    import sqlalchemy as sa

    from ..records import Volume
    from ..store import Catalog
    from .scan import ScannedFile


def needs_scan(catalog: Catalog, record: ImageRecord | None) -> bool:
    """Tell whether the file behind a record must be scanned (again), or one that it stands upon."""
    return (
        record is None
        or record.row.status in {FAILED, LIVE, STALE}
        or freshness(record.volumes) is not Freshness.FRESH
        or _is_outdated(record)
        or (
            record.is_difference
            and freshness(catalog.volumes_below(record.row.id)) is not Freshness.FRESH
        )
    )


def _is_outdated(record: ImageRecord) -> bool:
    """Tell whether another version of imgcat has made the seek points, which are not read."""
    return any(stream.index_version != INDEX_VERSION for stream in record.streams)


class _Stays(NamedTuple):
    """What stays of an image that is known, now that its files were scanned again."""

    keeps_index: bool
    keeps_verdict: bool


_NOTHING = _Stays(keeps_index=False, keeps_verdict=False)


def _what_stays(known: ImageRecord, scanned: ScannedFile, parent_key: int | None) -> _Stays:
    """Return what stays. See `opening.identity` for the rule.

    The fingerprint is of samples. Where a file is another one, or its time is, its data may be too,
    and what the kernel has cached of the old ones must not be shown: that takes an index of its
    own, unless each page is compared with its hash.
    """
    if known.fingerprint != scanned.scan.info.fingerprint or _is_outdated(known):
        return _NOTHING
    if parent_key != (known.segments[0].child_key if known.is_difference else None):
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
        ImageChangedError: what it is a difference to was removed meanwhile.
        NameTakenError: `name` is given, and another image has it, or it cannot be a name.
        CatalogError: the catalog could not be written; it is then as before.
    """
    # Imported when there is something to write: SQLAlchemy is loaded while the scan runs.
    from ..database import composing, naming, writing
    from ..database.transaction import driver_connection
    from .derived import put_inside, put_snapshots

    if name is not None:
        check_name(name)
    with catalog.database.writing() as connection:
        asking = driver_connection(connection)
        known = reading.record_of_path(asking, scanned.path)
        outcome = Outcome.UPDATED
        if known is None:
            known = (moved or MovedImages()).find(asking, scanned.scan.info.fingerprint)
            outcome = Outcome.ADDED if known is None else Outcome.MOVED
        parent_key = _parent_key(asking, scanned)
        stays = _what_stays(known, scanned, parent_key) if known else _NOTHING
        is_new = known is None or not stays.keeps_index or renew
        if known is not None and not is_new:
            index_id = known.index_id
        else:
            index_id = _insert_index(connection, scanned)
        values = _values(scanned) | {"index_id": index_id}
        if name is not None:
            values["name"] = naming.claim_name(asking, name, known.row.id if known else None)
        if known is None:
            wanted = wish or USUAL_NAMES.of_file(scanned.path)
            values.setdefault("name", naming.free_name(asking, wanted))
            values["added_at"] = values["scanned_at"]
            image_id = writing.insert_image(connection, values)
        else:
            image_id = known.row.id
            if not stays.keeps_verdict:
                values |= _forget_verdict(connection, known)
            writing.update_image(connection, image_id, **values)
        writing.replace_volumes(connection, image_id, scanned.volumes)
        if scanned.parent_id is not None:
            composing.check_depth(connection, image_id)
        if is_new:
            put_snapshots(connection, image_id, scanned.scan.snapshots, values)
        put_inside(connection, image_id, scanned.inside, may_be_disk=scanned.may_be_disk)
        composing.refresh_above(connection, [image_id])
    return Ingested(outcome, catalog.get(image_id), scanned.scan.is_right)


def put_moved(
    catalog: Catalog, moves: Sequence[tuple[ImageRecord, tuple[Volume, ...]]]
) -> list[Ingested | Exception]:
    """Let other files be those of images that were recognised; they keep id, name and index.

    A verdict stays only where the files are the same ones, by size, time and inode.

    Args:
        catalog: where they are.
        moves: what was known of each when it was recognised, and its files where they are now.

    Returns:
        What came of each, in order: `ImageChangedError` where the entry was changed meanwhile,
        `NameTakenError` where another image has been added from that path.

    Raises:
        CatalogError: the catalog could not be written; it is then as before.
    """
    from ..database import composing
    from ..database.transaction import driver_connection

    results: list[Ingested | Exception] = []
    with catalog.database.writing() as connection:
        for record, volumes in moves:
            try:
                _move(connection, record, volumes)
            except (ImageChangedError, ImageNotFoundError, NameTakenError) as error:
                results.append(error)
                continue
            is_moved = volumes[0].path != record.row.path
            outcome = Outcome.MOVED if is_moved else Outcome.UPDATED
            now = reading.record_of_id(driver_connection(connection), record.row.id)
            results.append(Ingested(outcome, now))
        composing.refresh_above(connection, [record.row.id for record, _volumes in moves])
    return results


def _move(connection: sa.Connection, record: ImageRecord, volumes: tuple[Volume, ...]) -> None:
    """Let other files be those of an image; nothing is written before all is looked at."""
    from ..database import writing
    from ..database.transaction import driver_connection

    image_id, path = record.row.id, volumes[0].path
    asking = driver_connection(connection)
    now = reading.record_of_id(asking, image_id)
    if (now.index_id, now.row.path) != (record.index_id, record.row.path):
        raise ImageChangedError(f"{record.row.name}: was changed meanwhile: try again")
    other = reading.record_of_path(asking, path)
    if other is not None and other.row.id != image_id:
        raise NameTakenError(f"{path}: is in the catalog already, as {other.row.name}")
    values: dict[str, Any] = {"path": path}
    if now.row.status in AWAY:
        if now.row.status_before is None:
            raise ImageChangedError(f"{record.row.name}: was changed meanwhile: try again")
        values |= {
            "status": now.row.status_before,
            "status_detail": now.row.detail_before,
            **writing.NOT_AWAY,
        }
    if not is_untouched(record.volumes, volumes):
        values |= _forget_verdict(connection, now)
    writing.update_image(connection, image_id, **values)
    writing.replace_volumes(connection, image_id, volumes)


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
    from .derived import put_inside, put_snapshots

    image_id = before.row.id
    with catalog.database.writing() as connection:
        asking = driver_connection(connection)
        now = reading.record_of_id(asking, image_id)
        if now.index_id != before.index_id:
            raise ImageChangedError(f"{before.row.name}: was scanned anew meanwhile")
        other = reading.record_of_path(asking, scanned.path)
        if other is not None and other.row.id != image_id:
            raise NameTakenError(f"{scanned.path}: is in the catalog already, as {other.row.name}")
        if before.is_difference:
            scanned = dataclasses.replace(scanned, parent_id=before.segments[0].child_id)
        index_id = _insert_index(connection, scanned)
        values = _values(scanned) | {"index_id": index_id}
        writing.update_image(connection, image_id, **values)
        writing.replace_volumes(connection, image_id, scanned.volumes)
        put_snapshots(connection, image_id, scanned.scan.snapshots, values)
        put_inside(connection, image_id, scanned.inside, may_be_disk=scanned.may_be_disk)
        composing.refresh_above(connection, [image_id])
    return catalog.get(image_id)


def _forget_verdict(connection: sa.Connection, known: ImageRecord) -> dict[str, Any]:
    """Forget what a verification has found; return what its columns are from then on."""
    from ..database import writing

    writing.replace_bad_ranges(connection, known.row.id, ())
    values: dict[str, Any] = dict(writing.UNVERIFIED)
    if known.row.verified_at is not None:
        values["verify_detail"] = "not since it changed"
    return values


def _parent_key(asking: sqlite3.Connection, scanned: ScannedFile) -> int | None:
    """Return the content key of what an image is a difference to, None where it is whole."""
    if scanned.parent is None or scanned.parent_id is None:
        return None
    key = reading.content_key_of(asking, scanned.parent_id)
    if key is None:
        raise ImageChangedError(f"{scanned.path}: its parent was removed meanwhile")
    return key


def _insert_index(connection: sa.Connection, scanned: ScannedFile) -> int:
    """Write the index of a scan, and what it is a difference to; return its id."""
    from ..database import composing, writing
    from ..database.transaction import driver_connection

    index_id = writing.insert_index(connection, scanned.scan)
    writing.insert_streams(connection, index_id, scanned.streams)
    if scanned.parent_id is not None:
        name = reading.name_of_id(driver_connection(connection), scanned.parent_id)
        size = max(1, scanned.scan.info.size)
        below = composing.NewSegment(0, size, name, scanned.parent_id, 0)
        composing.insert_segments(connection, index_id, [below])
    return index_id


def _values(scanned: ScannedFile) -> dict[str, Any]:
    info = scanned.scan.info
    return {
        "path": scanned.path,
        "format": info.format,
        "format_version": info.format_version,
        "creator": info.creator,
        "fs_type": scanned.fs_type,
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
        "warnings": scanned.warnings,
        "header": dict(info.header),
        "layout": dict(info.layout),
        "fingerprint": info.fingerprint,
        "scanned_at": utc_now(),
        "scan_seconds": round(scanned.seconds, 6),
        "looked_at": utc_now(),
        "status_before": None,
        "detail_before": None,
    }
