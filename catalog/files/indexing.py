"""Indexing an image: every file of it into the catalog."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from ...filesystems.gate import has_files, is_read
from ...filesystems.volume import Volume, found_in
from ..errors import ImageNotFoundError
from ..opening.freshness import Freshness, freshness
from ..opening.open import open_image
from ..opening.watched import WatchedReader
from ..records import LIVE
from .records import NewGeneration, TakenFrom
from .storing import GenerationExistsError, OutdatedError, store_generation
from .taken import taken_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...filesystems.process import WorkerFailure
    from ...filesystems.walking import WalkedDirectory
    from ..records import FileSystemRow, ImageRecord
    from ..store import Catalog
    from .records import StoredGeneration

_WITH_FILE_SYSTEM = """
    SELECT images.id, file_systems.type, file_generations.id IS NOT NULL, index_id, images.status
    FROM images JOIN file_systems ON file_systems.image_id = images.id
    LEFT JOIN file_generations ON file_generations.image_id = images.id
    ORDER BY images.name
"""
_BELOW = """
    WITH RECURSIVE below(id) AS (
        VALUES (?) UNION SELECT images.id FROM below JOIN images ON parent_id = below.id
    )
    SELECT id FROM below
"""
_LABEL = """
    SELECT label FROM file_generations JOIN file_lineages ON file_lineages.id = lineage_id
    WHERE image_id = ?
"""
_ZERO_UUIDS = frozenset({"", "0000-0000", "00000000-0000-0000-0000-000000000000", "0" * 16})
"""What stands in the place of a UUID, or serial number, where none was given."""


class NoFilesError(ImageNotFoundError):
    """The image holds no file system whose files could be indexed."""


@dataclasses.dataclass(frozen=True, slots=True)
class How:
    """How images are indexed.

    Attributes:
        force: index even what has been.
        as_is: read file systems though their journals were not replayed.
        label: tells file systems apart that share a UUID; empty for the usual.
        taken_at: when the backup was taken, UTC in ISO 8601; None where it tells itself.
    """

    force: bool = False
    as_is: bool = False
    label: str = ""
    taken_at: str | None = None


_USUAL = How()


class Indexable(NamedTuple):
    """An image whose files can be indexed, as far as the type of its file system tells.

    Attributes:
        image_id: the image.
        is_done: whether they are indexed already.
        index_id: what the image is read by: of another scan, another.
    """

    image_id: int
    is_done: bool
    index_id: int


def indexable(catalog: Catalog) -> list[Indexable]:
    """Return the images whose files can be indexed, by name. One statement."""
    return [
        Indexable(image_id, bool(is_done), index_id)
        for image_id, fs_type, is_done, index_id, status in _with_file_system(catalog)
        if status != LIVE and is_read(fs_type)
    ]


def not_indexable(catalog: Catalog) -> list[int]:
    """Return the images that have files which cannot be indexed; `index_image` says why not."""
    return [
        image_id
        for image_id, fs_type, _is_done, _index_id, status in _with_file_system(catalog)
        if has_files(fs_type) and (status == LIVE or not is_read(fs_type))
    ]


def _with_file_system(catalog: Catalog) -> list[tuple[int, str, int, int, str]]:
    with catalog.database.asking() as connection:
        return connection.execute(_WITH_FILE_SYSTEM).fetchall()


def with_what_is_inside(catalog: Catalog, image_id: int) -> list[int]:
    """Return an image, and the images of partitions and volumes that are in it. One statement."""
    with catalog.database.asking() as connection:
        return [row[0] for row in connection.execute(_BELOW, (image_id,))]


def index_image(
    catalog: Catalog,
    image_id: int,
    how: How = _USUAL,
    *,
    tell: Callable[[str], None] = lambda _why: None,
    progress: Callable[[int], None] = lambda _files: None,
    on_failure: Callable[[WorkerFailure], None] = lambda _failure: None,
) -> StoredGeneration | None:
    """Write every file of an image into the catalog.

    Args:
        catalog: where it is.
        image_id: the image.
        how: how it is indexed.
        tell: told what cannot be read, and what is to be said with all of it.
        progress: told how many files were met.
        on_failure: told when the reader of the file system has died or hung.

    Returns:
        What was written; None where it is indexed already; when it was taken is set then, too.
        Files that are away are not missed then; those that are others than were scanned are.

    Raises:
        NoFilesError: it holds no file system that is known, or it is a disk, or in use.
        RefusedError: its file system is not read.
        ImageNotFoundError: there is no such image.
        ImageChangedError: its files are not the ones that were scanned.
        CatalogError: the catalog cannot be used.
        FormatError: the image cannot be read.
        OSError: the same.
    """
    known = _known(catalog, image_id)
    if known is not None:
        is_apart = bool(how.label) and how.label != known
        if not how.force and not is_apart:
            _check_unchanged(catalog, image_id)
            _set_taken_at(catalog, image_id, how.taken_at)
            return None
    while True:
        record = catalog.get(image_id)
        file_system = _file_system_of(catalog, record)
        opened = open_image(catalog, image_id)
        try:
            volume = Volume(WatchedReader(opened), as_is=how.as_is, on_failure=on_failure)
            try:
                new = _generation(catalog, record, file_system, volume, how)
                if volume.caveat:
                    tell(volume.caveat)
                walking = _Walking(volume, tell, progress)
                return store_generation(
                    catalog, new, walking.begin, problems=walking.count,
                    replaces=known is not None,
                )  # fmt: skip
            except OutdatedError:
                # What it is now is another image, or none: then `get` says so.
                continue
            except GenerationExistsError:
                # Another process was quicker.
                return None
            finally:
                volume.close()
        finally:
            opened.close()


def _check_unchanged(catalog: Catalog, image_id: int) -> None:
    """Check that an image's files, as far as they are there, are the ones that were scanned.

    Raises:
        ImageChangedError: they are not.
        FormatError: the same, of an image that is made of others.
        OSError: one cannot be opened.
    """
    volumes = (*catalog.get(image_id).volumes, *catalog.volumes_below(image_id))
    if freshness(volumes) not in {Freshness.TOUCHED, Freshness.STALE}:
        return
    opened = open_image(catalog, image_id, at_any_cost=True)
    try:
        # What an image is made of is opened when it is read.
        found_in(opened.reader)
    finally:
        opened.close()


class _Walking:
    """A walk over a volume that may have to begin anew."""

    def __init__(
        self, volume: Volume, tell: Callable[[str], None], progress: Callable[[int], None]
    ) -> None:
        self._volume = volume
        self._tell = tell
        self._progress = progress
        self._files = 0
        self._problems = 0

    def count(self) -> int:
        return self._problems

    def begin(self) -> Iterator[WalkedDirectory]:
        self._problems = self._files = 0
        for directory in self._volume.walk(self._told):
            self._files += len(directory.names)
            self._progress(self._files)
            yield directory

    def _told(self, why: str) -> None:
        self._problems += 1
        self._tell(why)


def _file_system_of(catalog: Catalog, record: ImageRecord) -> FileSystemRow:
    inside = catalog.inside(record.row.id)
    if record.row.status == LIVE:
        raise NoFilesError("it is a device, whose files change: `imgcat snapshot` keeps them")
    if inside.file_system is not None:
        return inside.file_system
    names = [each.image for each in inside.partitions if each.image]
    names += [each.image for each in inside.logical_volumes]
    if names:
        raise NoFilesError(f"it is a disk, and files are in its parts: {', '.join(names)}")
    raise NoFilesError("no file system that is known is in it")


def _generation(
    catalog: Catalog, record: ImageRecord, found: FileSystemRow, volume: Volume, how: How
) -> NewGeneration:
    with catalog.database.asking() as connection:
        moment, told_by = taken_at(connection, record.row.id)
    if how.taken_at is not None:
        moment, told_by = how.taken_at, TakenFrom.USER
    return NewGeneration(
        fs_type=volume.kind,
        fs_uuid=telling_uuid(found.uuid),
        taken_at=moment,
        taken_from=told_by,
        image_id=record.row.id,
        index_id=record.index_id,
        label=how.label,
        caveat=volume.caveat,
    )


def telling_uuid(uuid: str | None) -> str | None:
    """Return a UUID, or serial number; None for what stands there where none was given."""
    return None if uuid is None or uuid.lower() in _ZERO_UUIDS else uuid


def _known(catalog: Catalog, image_id: int) -> str | None:
    """Return the label that an image was indexed with, None where it was not. One statement."""
    with catalog.database.asking() as connection:
        row = connection.execute(_LABEL, (image_id,)).fetchone()
    return None if row is None else str(row[0])


def _set_taken_at(catalog: Catalog, image_id: int, moment: str | None) -> None:
    """Let a backup that is indexed have been taken at another time, if that is said."""
    from ..database.transaction import driver_connection

    if moment is None:
        return
    with catalog.database.writing() as connection:
        driver_connection(connection).execute(
            "UPDATE file_generations SET taken_at = ?, taken_from = ? WHERE image_id = ?",
            (moment, TakenFrom.USER.value, image_id),
        )
