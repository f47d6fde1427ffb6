"""Files that are known by another place or inode: told by `stat` and by samples, without a scan.

What is recognised is what a scan would find: `opening.identity` has the rule. Of what is compressed
or sealed, each page is compared with its hash when it is read, whatever was recognised here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, NamedTuple

from ...formats.codecs.decoders import Decoding
from ...formats.codecs.seek_points import INDEX_VERSION
from ...formats.errors import FormatError
from ...formats.files import detect
from ...formats.index.rank_chunk import ChunkMissingError
from ...formats.raw import reader as raw
from ..database import reading
from ..errors import CatalogError, ImageChangedError
from ..opening.freshness import Freshness, freshness, volume_from_stat
from ..opening.identity import is_untouched, times_before
from ..opening.shared import Shared
from ..opening.stored_files import has_fingerprint, open_files
from ..records import AWAY, DAMAGED, NEEDS_REPACK, READY
from .moved import MovedImages
from .outcome import Ingested, Outcome
from .put import put_moved
from .scan import USUAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..records import ImageRecord, Volume
    from ..store import Catalog
    from .scan import How


_PAGES = 256 << 10
"""Bytes of decoded pages that are kept for a look."""


class Recognised(NamedTuple):
    """An image that a path leads to.

    Attributes:
        record: what is known of it.
        volumes: its files where they are now; None where the path is another name of a file that is
            where it was.
    """

    record: ImageRecord
    volumes: tuple[Volume, ...] | None


def put_recognised(
    catalog: Catalog,
    path: str,
    known: ImageRecord | None,
    *,
    name: str | None = None,
    how: How = USUAL,
) -> Ingested | None:
    """Write where an image is now, if it is recognised; else None: only a scan can tell.

    Args:
        catalog: where it is.
        path: the first file of an image.
        known: the image of this path, None where there is none.
        name: the name that it shall have.
        how: how it would be scanned.

    Raises:
        ImageChangedError: its entry was changed meanwhile.
        NameTakenError: another image has the name, or has been added from that path meanwhile.
        CatalogError: the catalog could not be used.
    """
    found = recognise(catalog, path, known, how, MovedImages())
    if found is None:
        return None
    (result,) = put_all(catalog, [found])
    if isinstance(result, Exception):
        raise result
    return named(catalog, result, name)


def put_all(catalog: Catalog, found: Sequence[Recognised]) -> list[Ingested | Exception]:
    """Write where images are now, in one transaction; return what came of each, in order.

    Raises:
        CatalogError: the catalog could not be written; it is then as before.
    """
    moves = [(each.record, each.volumes) for each in found if each.volumes is not None]
    results = iter(put_moved(catalog, moves) if moves else ())
    return [
        Ingested(Outcome.UNCHANGED, each.record) if each.volumes is None else next(results)
        for each in found
    ]


def named(catalog: Catalog, ingested: Ingested, name: str | None) -> Ingested:
    """Give an image that is in the catalog the name that it shall have, if any.

    Raises:
        NameTakenError: another image has it, or it cannot be one.
    """
    row = ingested.record.row
    if name is None or name == row.name:
        return ingested
    catalog.rename(row.id, name)
    return Ingested(ingested.outcome, catalog.get(row.id))


def _would_be_another(catalog: Catalog, record: ImageRecord, how: How) -> bool:
    """Tell whether a scan as it is wanted would make something else of the same file."""
    return (
        (how.is_raw and record.row.format != raw.NAME)
        or (how.strict and bool(record.warnings or catalog.warnings_within(record.row.id)))
        or how.by_geometry != ("size_rule" in record.header)
    )


def recognise(
    catalog: Catalog, path: str, known: ImageRecord | None, how: How, moved: MovedImages
) -> Recognised | None:
    """Return the image that a file is, None where only a scan can tell. Reads samples of it.

    The image of the path itself comes first; then one that has this file by another name; then one
    whose files are gone, and which had the same size and time.

    Args:
        catalog: what is known.
        path: the first file of an image.
        known: the image of this path.
        how: how it would be scanned.
        moved: what is known of moved images from others that were looked at just before; that this
            one was found is noted there.

    Raises:
        CatalogError: the catalog could not be read.
    """
    found = _recognise(catalog, os.path.abspath(path), known, moved)
    if found is None or _would_be_another(catalog, found.record, how):
        return None
    moved.claimed.add(found.record.row.id)
    return found


def _recognise(
    catalog: Catalog, path: str, known: ImageRecord | None, moved: MovedImages
) -> Recognised | None:
    if known is not None:
        return _recognised(catalog, known, path)
    try:
        status = os.stat(path)
    except OSError:
        # The scan says what is wrong.
        return None
    first = volume_from_stat(path, status)
    with catalog.database.asking() as connection:
        links = reading.images_of_inode(connection, first)
    for image_id, other in links:
        with contextlib.suppress(OSError):
            if os.path.samefile(other, path):
                return Recognised(catalog.get(image_id), None)
    for image_id in moved.away(catalog, first):
        if image_id in moved.claimed:
            continue
        record = catalog.get(image_id)
        if freshness(record.volumes) is Freshness.MISSING:
            found = _recognised(catalog, record, path)
            if found is not None:
                return found
    return None


def _recognised(catalog: Catalog, record: ImageRecord, path: str) -> Recognised | None:
    """Return what is known of an image if a path leads to its files, as they were."""
    if not _may_be_known_again(record):
        return None
    try:
        volumes = _volumes_at(path, record.volumes)
    except (OSError, FormatError):
        return None
    if volumes is None or not _keeps_index(record, volumes):
        return None
    spec = dataclasses.replace(catalog.open_spec(record.row.id), volumes=volumes)
    try:
        stored = open_files(catalog, spec, Shared(decoding=Decoding(_PAGES, looks_ahead=False)))
    except (ImageChangedError, OSError):
        return None
    try:
        is_the_image = has_fingerprint(spec, stored)
    except (OSError, ChunkMissingError, CatalogError):
        # It cannot be read just now, or its index was deleted meanwhile.
        is_the_image = False
    finally:
        stored.close()
    return Recognised(record, volumes) if is_the_image else None


def _may_be_known_again(record: ImageRecord) -> bool:
    """Tell whether what is known of an image was right, and can be used."""
    row = record.row
    status = row.status_before if row.status in AWAY else row.status
    return (
        status in {READY, DAMAGED, NEEDS_REPACK}
        # It was looked into, as an older imgcat did not.
        and record.looked_at is not None
        and not record.is_difference
        and all(stream.index_version == INDEX_VERSION for stream in record.streams)
    )


def _keeps_index(record: ImageRecord, volumes: tuple[Volume, ...]) -> bool:
    """Tell whether files that are as large and as old as those of an image keep its index."""
    are_alike = all(
        now.size_bytes == before.size_bytes and _has_time_of(before, now)
        for now, before in zip(volumes, record.volumes, strict=True)
    )
    is_sealed = record.row.sealed_at is not None
    return are_alike and (is_sealed or is_untouched(record.volumes, volumes))


def _has_time_of(before: Volume, now: Volume) -> bool:
    first, last = times_before(now.mtime_ns)
    return first <= before.mtime_ns <= last


def _volumes_at(path: str, before: tuple[Volume, ...]) -> tuple[Volume, ...] | None:
    """Return the files of an image whose first one is at a path; None where they are others.

    Raises:
        OSError: one is not there, or cannot be looked at.
        FormatError: they do not belong together.
    """
    if not before:
        return None
    directory, name = os.path.split(path)
    if len(before) == 1:
        paths = [path]
    elif os.path.basename(before[0].path) == name and _are_together(before):
        paths = [os.path.join(directory, os.path.basename(each.path)) for each in before]
    else:
        with detect.open_files(path) as stored:
            paths = [file.path for file in stored.files]
    if len(paths) != len(before):
        return None
    return tuple(
        volume_from_stat(path, os.stat(path), stream=each.stream, role=each.role)
        for path, each in zip(paths, before, strict=True)
    )


def _are_together(volumes: tuple[Volume, ...]) -> bool:
    return len({os.path.dirname(volume.path) for volume in volumes}) == 1
