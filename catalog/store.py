"""The catalog's verbs. A `Catalog` may be used from several threads at once."""

from __future__ import annotations

import contextlib
import datetime as dt
import fnmatch
import logging
import os
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from ..formats.index.chunk import ChunkMissingError, RankChunk
from . import models, pins, schema
from .engine import BUSY_SECONDS, Database
from .errors import CatalogError, CatalogMissingError, ImageNotFoundError, NameTakenError
from .names import check_name
from .records import ImageRecord, ImageRow, MountEntry, OpenSpec, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

log = logging.getLogger("imgcat.catalog")

_ROW_FIELDS = tuple(ImageRow.__dataclass_fields__)
_VOLUME_FIELDS = tuple(Volume.__dataclass_fields__)


def default_path() -> str:
    """Return where the catalog is unless one says otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "imgcat", "catalog.db")


def utc_now() -> str:
    """Return the time now, UTC, ISO 8601 with seconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Catalog:
    """An open catalog. Use `Catalog.open`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(
        cls,
        path: str | None = None,
        *,
        write: bool = True,
        create: bool = False,
        busy_seconds: float = BUSY_SECONDS,
        notify: Callable[[str], None] | None = None,
    ) -> Catalog:
        """Open the catalog at `path`, the default one if None.

        Args:
            path: the database file.
            write: False promises not to change it.
            create: make it where there is none. Writes.
            busy_seconds: how long to wait for other processes.
            notify: told in words when an older schema was upgraded.

        Raises:
            CatalogMissingError: there is none, and `create` is not given.
            CatalogSchemaError: it is not one, or its schema cannot be used.
            CatalogError: it cannot be opened.
        """
        path = os.path.abspath(path or default_path())
        if not _is_there(path):
            if not create:
                raise CatalogMissingError(
                    f"{path}: there is no catalog yet: `imgcat add IMAGE...` makes one"
                )
            _make_directory(os.path.dirname(path))
        database = Database(path, write=write, create=create, busy_seconds=busy_seconds)
        try:
            message = schema.ensure_current(database)
        except BaseException:
            database.close()
            raise
        if message and notify:
            notify(message)
        return cls(database)

    @property
    def path(self) -> str:
        """The database file."""
        return self.database.path

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the database."""
        self.close()

    # -- asking ------------------------------------------------------------

    def list_images(self) -> list[tuple[ImageRow, tuple[Volume, ...]]]:
        """Return every image with its volumes, by name. Two statements, whatever their number."""
        with self.database.reading() as connection:
            rows = connection.execute(
                sa.select(*(models.images.c[field] for field in _ROW_FIELDS)).order_by(
                    models.images.c.name
                )
            ).all()
            volumes = _volumes_by_image(connection)
        return [(ImageRow(*row), tuple(volumes.get(row[0], ()))) for row in rows]

    def get(self, image_id: int) -> ImageRecord:
        """Return all that is known of one image.

        Raises:
            ImageNotFoundError: there is no image with this id.
        """
        with self.database.reading() as connection:
            record = _record(connection, models.images.c.id == image_id)
        if record is None:
            raise ImageNotFoundError(f"no image has the id {image_id}")
        return record

    def find_path(self, path: str) -> ImageRecord | None:
        """Return the image whose file is `path`, or None."""
        with self.database.reading() as connection:
            return find_path(connection, path)

    def resolve(self, token: str) -> int:
        """Return the id of the one image that `token` names: a name, an id or a path.

        Raises:
            ImageNotFoundError: none does.
        """
        found = self.resolve_many([token], globs=False)
        return found[0]

    def resolve_many(
        self, tokens: Sequence[str], *, globs: bool = True, directory: str | None = None
    ) -> list[int]:
        """Return the ids that the tokens name, in order, each once.

        A token is a name, an id, a path that was added, or (with `globs`) a pattern over names.
        Relative paths begin in `directory`, the current one if None.

        Raises:
            ImageNotFoundError: a token names nothing; the message names it.
        """
        with self.database.reading() as connection:
            rows = connection.execute(
                sa.select(models.images.c.id, models.images.c.name, models.images.c.path).order_by(
                    models.images.c.name
                )
            ).all()
        by_name = {row.name: row.id for row in rows}
        by_path = {row.path: row.id for row in rows}
        ids = {row.id for row in rows}
        found: dict[int, None] = {}
        for token in tokens:
            if (exact := by_name.get(token)) is not None:
                found[exact] = None
            elif _is_id(token) and int(token) in ids:
                found[int(token)] = None
            elif (exact := by_path.get(_absolute(token, directory))) is not None:
                found[exact] = None
            else:
                matching = [r.id for r in rows if globs and fnmatch.fnmatchcase(r.name, token)]
                if not matching:
                    raise ImageNotFoundError(
                        f"{token}: no image in the catalog has this name, id or path; "
                        "`imgcat ls` lists them"
                    )
                found |= dict.fromkeys(matching)
        return list(found)

    def mount_entries(self, only: Sequence[int] | None = None) -> list[MountEntry]:
        """Return what a mount shows, by name: all images, or those of the ids. One statement.

        A row with nonsense in it, as a failing disk may leave, is logged and left out.
        """
        images, volumes = models.images.c, models.volumes.c
        query = (
            sa.select(
                images.id,
                images.name,
                images.size_bytes,
                images.used_bytes,
                images.index_id,
                volumes.mtime_ns,
                volumes.mode,
                volumes.uid,
                volumes.gid,
            )
            .join_from(models.images, models.volumes, volumes.image_id == images.id)
            .where(volumes.ordinal == 0)
            .order_by(images.name)
        )
        wanted = None if only is None else set(only)
        with self.database.reading() as connection:
            entries = [MountEntry(*row) for row in connection.execute(query)]
        return [
            entry
            for entry in entries
            if (wanted is None or entry.image_id in wanted) and _is_sound(entry)
        ]

    def open_spec(self, image_id: int) -> OpenSpec:
        """Return what opening the image needs. One statement.

        Raises:
            ImageNotFoundError: the image was removed.
        """
        query = (
            sa.select(
                models.images,
                models.indexes.c.kind.label("index_kind"),
                *(models.volumes.c[f].label(f"volume_{f}") for f in _VOLUME_FIELDS),
            )
            .join(models.indexes, models.indexes.c.id == models.images.c.index_id)
            .join(models.volumes, models.volumes.c.image_id == models.images.c.id)
            .where(models.images.c.id == image_id)
            .order_by(models.volumes.c.ordinal)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        if not rows:
            raise ImageNotFoundError(f"image {image_id} was removed from the catalog")
        first = rows[0]
        return OpenSpec(
            image_id=image_id,
            name=first["name"],
            format=first["format"],
            layout=first["layout"],
            fingerprint=first["fingerprint"],
            volumes=tuple(Volume(*(row[f"volume_{f}"] for f in _VOLUME_FIELDS)) for row in rows),
            index_id=first["index_id"],
            index_kind=first["index_kind"],
            total_blocks=first["total_blocks"],
        )

    def load_chunk(self, index_id: int, number: int) -> RankChunk:
        """Return one chunk of a rank index. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        chunks = models.rank_chunks.c
        with self.database.reading() as connection:
            row = connection.execute(
                sa.select(chunks.rank, chunks.bitmap).where(
                    chunks.index_id == index_id, chunks.chunk == number
                )
            ).one_or_none()
        if row is None:
            raise ChunkMissingError(f"chunk {number} of index {index_id} is gone")
        return RankChunk(number, row.rank, row.bitmap)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Callable[[], int]]:
        """Give a function that returns another number after another process has committed."""
        with self.database.raw() as connection:
            yield lambda: int(connection.execute("PRAGMA data_version").fetchone()[0])

    # -- changing ----------------------------------------------------------

    def remove(self, image_ids: Sequence[int]) -> None:
        """Forget images, in one transaction. Their files are not touched."""
        with self.database.writing() as connection:
            for image_id in image_ids:
                connection.execute(sa.delete(models.images).where(models.images.c.id == image_id))
        self.purge_unused_indexes()

    def rename(self, image_id: int, name: str) -> None:
        """Give the image another name.

        Raises:
            NameTakenError: another image has it, or it cannot be a name.
        """
        check_name(name)
        with self.database.writing() as connection:
            owner = connection.execute(
                sa.select(models.images.c.id).where(models.images.c.name == name)
            ).scalar_one_or_none()
            if owner not in {None, image_id}:
                raise NameTakenError(f"{name!r} is the name of another image (id {owner})")
            connection.execute(
                sa.update(models.images).where(models.images.c.id == image_id).values(name=name)
            )

    def set_status(self, image_id: int, status: str, detail: str | None) -> None:
        """Record what an image was found to be."""
        with self.database.writing() as connection:
            connection.execute(
                sa.update(models.images)
                .where(models.images.c.id == image_id)
                .values(status=status, status_detail=detail)
            )

    def purge_unused_indexes(self) -> None:
        """Delete the indexes that no image uses, unless a daemon may still read by one."""
        unused = models.indexes.c.id.not_in(sa.select(models.images.c.index_id))
        with pins.unpinned(self.path) as alone:
            if not alone:
                return
            with self.database.reading() as connection:
                if connection.execute(sa.select(sa.exists().where(unused))).scalar_one() == 0:
                    return
            with self.database.writing() as connection:
                connection.execute(sa.delete(models.indexes).where(unused))


def _is_id(token: str) -> bool:
    return token.isdecimal() and len(token) < 20  # noqa: PLR2004 - digits of a 64-bit number


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}") from error
    return True


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise CatalogError(f"{path}: cannot be made: {error.strerror}") from error


def _is_sound(entry: MountEntry) -> bool:
    numbers = (entry.size_bytes, entry.used_bytes, entry.mode, entry.uid, entry.gid)
    try:
        check_name(entry.name)
        sound = all(isinstance(n, int) and n >= 0 for n in numbers) and isinstance(
            entry.mtime_ns, int
        )
    except (NameTakenError, AttributeError):
        sound = False
    if not sound:
        log.warning("image %s: its row in the catalog is damaged: add it again", entry.image_id)
    return sound


def _absolute(path: str, directory: str | None) -> str:
    return os.path.normpath(os.path.join(directory or os.getcwd(), path))


def find_path(connection: sa.Connection, path: str) -> ImageRecord | None:
    """Return the image whose file is `path`, or None, on a connection of one's own."""
    return _record(connection, models.images.c.path == path)


def _record(connection: sa.Connection, where: sa.ColumnElement[bool]) -> ImageRecord | None:
    row = (
        connection.execute(
            sa.select(models.images, models.indexes.c.kind.label("index_kind"))
            .join(models.indexes, models.indexes.c.id == models.images.c.index_id)
            .where(where)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    chunks = models.rank_chunks.c
    index_rows, index_bytes = connection.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(chunks.bitmap)), 0)
        ).where(chunks.index_id == row["index_id"])
    ).one()
    return ImageRecord(
        row=ImageRow(*(row[field] for field in _ROW_FIELDS)),
        total_blocks=row["total_blocks"],
        used_blocks=row["used_blocks"],
        scan_seconds=row["scan_seconds"],
        warnings=tuple(row["warnings"]),
        header=row["header"],
        layout=row["layout"],
        fingerprint=row["fingerprint"],
        volumes=tuple(_volumes_by_image(connection, row["id"]).get(row["id"], ())),
        index_id=row["index_id"],
        index_kind=row["index_kind"],
        index_rows=index_rows,
        index_bytes=index_bytes,
    )


def _volumes_by_image(
    connection: sa.Connection, image_id: int | None = None
) -> dict[int, list[Volume]]:
    query: sa.Select[Any] = sa.select(
        models.volumes.c.image_id, *(models.volumes.c[field] for field in _VOLUME_FIELDS)
    ).order_by(models.volumes.c.image_id, models.volumes.c.ordinal)
    if image_id is not None:
        query = query.where(models.volumes.c.image_id == image_id)
    found: dict[int, list[Volume]] = {}
    for row in connection.execute(query):
        found.setdefault(row[0], []).append(Volume(*row[1:]))
    return found
