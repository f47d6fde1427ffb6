"""Taking a snapshot: where all files of a volume lie, into the catalog, in one transaction."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from ...filesystems.errors import RefusedError
from ...filesystems.gate import EXT
from ...filesystems.mounted import MountedVolume
from ...filesystems.names import shown
from ...filesystems.volume import Volume, found_in
from ...formats.superblocks.file_system import Journal
from ..database import models, reading
from ..database.moment import utc_now
from ..database.transaction import driver_connection
from ..errors import ImageNotFoundError, NameTakenError
from ..files.indexing import telling_uuid
from ..files.records import NewGeneration, TakenFrom
from ..files.storing import GenerationExistsError, store_generation
from ..names import check_name, name_of_file
from .gathering import MountedGatherer, gather
from .hashing import Hasher
from .naming import write_names
from .records import State
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...filesystems.process import WorkerFailure
    from ...formats.superblocks.file_system import FileSystem
    from ..files.records import StoredGeneration
    from ..store import Catalog
    from .source import Source

    Tell = Callable[[str], None]
    Progress = Callable[[int], None]


def _nothing(_what: object) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True, slots=True)
class Telling:
    """Who is told what, while a snapshot is taken or files are got back.

    Attributes:
        tell: told what cannot be read.
        files: told how many files were met.
        size: told how many bytes there will be, once that is known.
        done: told how many of them are done.
        failure: told when the reader of a file system has died or hung.
    """

    tell: Tell = _nothing
    files: Progress = _nothing
    size: Progress = _nothing
    done: Progress = _nothing
    failure: Callable[[WorkerFailure], None] = _nothing


class Taken(NamedTuple):
    """A snapshot that was taken.

    Attributes:
        stored: what was written.
        state: how the file system was.
        caveat: what may be missing; None where nothing is.
        files: regular files that are kept.
        size: bytes of them that lie somewhere.
    """

    stored: StoredGeneration
    state: State
    caveat: str | None
    files: int
    size: int


_QUIET = Telling()

_BEFORE_PATH = ":"
"""What stands between a snapshot and a path in it, where one is named."""


def usual_name(source: Source) -> str:
    """Return how a snapshot is called that was given no name: after its source, and the time."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d-%H%M%S")
    named_after = name_of_file(os.path.basename(source.name)).replace(_BEFORE_PATH, "-")
    return f"{named_after or 'snapshot'}-{now}"


def take_snapshot(
    catalog: Catalog,
    source: Source,
    name: str,
    *,
    with_hashes: bool = False,
    as_is: bool = False,
    telling: Telling = _QUIET,
) -> Taken:
    """Keep path, number, size and place of every file of a volume, and hashes if wanted.

    Everything is read before anything is written, and what is laid aside until then has no name:
    if the process is killed, nothing of it stays.

    Args:
        catalog: where to.
        source: the volume.
        name: how it is to be called.
        with_hashes: keep a hash of each `runs.PIECE` bytes of what files hold.
        as_is: read a file system as it lies there, though its journal was not replayed.
        telling: who is told what.

    Raises:
        NameTakenError: a snapshot, or an image, is called so; or nothing can be.
        RefusedError: the file system is not read, or the source has only what files use.
        CatalogError: the catalog cannot be used.
        FormatError: the source cannot be read.
        OSError: the same.
    """
    check_name(name)
    _check_named(name)
    _check_free(catalog, name)
    if not source.has_unused:
        raise RefusedError(
            source.kind, 0,
            "it has only what files use, so that no deleted one can come back out of it:"
            " `imgcat index` keeps which files it has",
        )  # fmt: skip
    found = found_in(source.reader)
    if found is None:
        raise RefusedError("volume", 0, "no file system that is known begins here")
    moment = utc_now()
    spool = Spool()
    problems = 0

    def tell(why: str) -> None:
        nonlocal problems
        problems += 1
        telling.tell(why)

    try:
        counted = dataclasses.replace(telling, tell=tell)
        state, caveat = _gather(source, found, spool, counted, with_hashes, as_is)
        new = NewGeneration(
            fs_type=found.type,
            fs_uuid=telling_uuid(found.uuid),
            taken_at=moment,
            taken_from=TakenFrom.NOW,
            snapshot_name=name,
            caveat=caveat,
        )
        row = {
            "source": source.name,
            "source_kind": source.kind,
            "size_bytes": source.reader.size,
            "state": state.value,
            "has_hashes": int(with_hashes),
        }

        def more(connection: sa.Connection, generation_id: int) -> None:
            connection.execute(sa.insert(models.snapshots), row | {"generation_id": generation_id})
            driver = driver_connection(connection)
            if reading.owner_of_name(driver, name) is not None:
                # It was added while the files were looked at.
                raise _taken_by_image(name)
            write_names(driver, generation_id, spool.directories())
            spool.write(driver, generation_id)

        try:
            stored = store_generation(catalog, new, spool.directories, more, lambda: problems)
        except GenerationExistsError:
            raise _taken(name) from None
        return Taken(stored, state, caveat, spool.files, spool.size)
    finally:
        spool.close()


def _gather(
    source: Source,
    found: FileSystem,
    spool: Spool,
    telling: Telling,
    with_hashes: bool,  # noqa: FBT001
    as_is: bool,  # noqa: FBT001
) -> tuple[State, str | None]:
    """Lay aside all of a volume; return how it was, and what may be missing."""
    mount = source.mount
    if mount is not None:
        mounted = MountedVolume(mount)
        try:
            MountedGatherer(
                mounted, spool, with_hashes=with_hashes, tell=telling.tell, progress=telling.files
            ).gather()
        finally:
            mounted.close()
        if not mount.is_writable:
            return State.READ_ONLY, None
        return State.MOUNTED, (
            f"it was mounted at {shown(mount.point)} meanwhile: what was written or deleted while"
            " the snapshot was taken may be missing, or be there in part"
        )
    volume = Volume(source.reader, as_is=as_is, on_failure=telling.failure)
    hasher = Hasher(source.reader, spool.put_hashes, telling.tell) if with_hashes else None
    try:
        gather(volume, spool, hasher, telling.tell, telling.files)
        return _state_of(found, volume.caveat, as_is=as_is)
    finally:
        if hasher is not None:
            hasher.close()
        volume.close()


def _state_of(found: FileSystem, caveat: str | None, *, as_is: bool) -> tuple[State, str | None]:
    if found.journal is Journal.REPLAY and found.type in EXT and not as_is:
        return State.REPLAYED, (
            "it had not been unmounted, and its journal was replayed in memory: what had not come"
            " to its journal is missing"
        )
    if found.journal in {Journal.REPLAY, Journal.UNKNOWN}:
        return State.NOT_REPLAYED, caveat
    return (State.NOT_UNMOUNTED if found.is_dirty else State.CLEAN), caveat


def _check_named(name: str) -> None:
    unfit = next((each for each in (_BEFORE_PATH, "/") if each in name), None)
    if unfit is not None:
        raise NameTakenError(
            f"{name!r} cannot be a snapshot's name: there is a {unfit!r} in it, and"
            " `imgcat recover NAME:/PATH` could not tell where the path begins"
        )


def _check_free(catalog: Catalog, name: str) -> None:
    with catalog.database.asking() as connection:
        if reading.is_name_of_snapshot(connection, name):
            raise _taken(name)
    try:
        catalog.resolve(name)
    except ImageNotFoundError:
        return
    raise _taken_by_image(name)


def _taken_by_image(name: str) -> NameTakenError:
    return NameTakenError(f"{name}: an image is called so: --name gives the snapshot another name")


def _taken(name: str) -> NameTakenError:
    return NameTakenError(f"{name}: there is a snapshot of that name: --name gives it another")
