"""The catalog's verbs. A `Catalog` may be used from several threads at once."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, Self

from .database import pieces, pins, private, reading, schema
from .database.connection import BUSY_SECONDS, Database
from .errors import (
    CatalogError,
    CatalogMissingError,
    ImageNotFoundError,
    SchemaOutdatedError,
)
from .names import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..formats.codecs.seek_points import Span
    from ..formats.index.map_chunk import MapChunk
    from ..formats.index.ranges import RangeList
    from ..formats.index.rank_chunk import RankChunk
    from .database.watch import Follower
    from .records import (
        ImageCost,
        ImageFiles,
        ImageRecord,
        ImageRow,
        InsideRows,
        OpenSpec,
        Volume,
    )

log = logging.getLogger("imgcat.catalog")


def default_path() -> str:
    """Return where the catalog is unless one says otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "imgcat", "catalog.db")


class Catalog:
    """An open catalog. Use `Catalog.open`.

    Attributes:
        database: its database.
        pins: what keeps the indexes of images that are open.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pins = pins.Pins(database.path)

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
            notify: told in words when an older schema was upgraded, and when files of the catalog
                were taken from others who might read them.

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
            database.identify()
        except BaseException:
            database.close()
            raise
        if message and notify:
            notify(message)
        # Now that it is known to be a catalog: whatever else it were would be left as it is.
        for notice in private.tighten(path):
            (notify or log.info)(notice)
        return cls(database)

    @classmethod
    def open_to_ask(cls, path: str | None, notify: Callable[[str], None] | None = None) -> Catalog:
        """Open the catalog without the right to change it, after upgrading one of an older schema.

        Raises:
            As `open`.
        """
        try:
            return cls.open(path, write=False, notify=notify)
        except SchemaOutdatedError:
            cls.open(path, notify=notify).close()
            return cls.open(path, write=False, notify=notify)

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
            return reading.listing(connection)

    def get(self, image_id: int) -> ImageRecord:
        """Return all that is known of one image.

        Raises:
            ImageNotFoundError: there is no image with this id.
        """
        with self.database.reading() as connection:
            return reading.record_of_id(connection, image_id)

    def cost(self, image_id: int) -> ImageCost:
        """Return what an image takes in the catalog. Its whole index is read for that.

        Raises:
            ImageNotFoundError: there is no image with this id.
        """
        from .database import cost

        with self.database.reading() as connection:
            return cost.cost_of_id(connection, image_id)

    def files_like(self, inode: int, paths: tuple[str, str]) -> list[tuple[str, str]]:
        """Return path and image's name of the files with an inode number, or one of two paths.

        Args:
            inode: as `stat` tells it.
            paths: absolute ones.
        """
        # As the catalog keeps it: SQLite's numbers have a sign.
        signed = (inode + (1 << 63)) % (1 << 64) - (1 << 63)
        with self.database.asking() as connection:
            return reading.files_like(connection, signed, paths)

    def find_path(self, path: str) -> ImageRecord | None:
        """Return the image whose file is `path`, or None."""
        with self.database.reading() as connection:
            return reading.record_of_path(connection, path)

    def inside(self, image_id: int) -> InsideRows:
        """Return what is known to be inside of an image. Four statements."""
        from .database import insides

        with self.database.reading() as connection:
            return insides.inside(connection, image_id)

    def warnings_within(self, image_id: int) -> list[tuple[str, str]]:
        """Return what is odd about what is derived from an image: names, and words."""
        from .database import insides

        with self.database.asking() as connection:
            return insides.warnings_within(connection, image_id)

    def path_of_uuid(self, uuid: str) -> str | None:
        """Return the path of a VHD with this UUID, None where there is none. One statement."""
        with self.database.asking() as connection:
            return reading.path_of_uuid(connection, uuid)

    def name_of(self, image_id: int) -> str | None:
        """Return the name of an image, None where it was removed. One statement."""
        with self.database.asking() as connection:
            return reading.name_of_id(connection, image_id)

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

        What a token may be, `names.Tokens` says.

        Raises:
            ImageNotFoundError: a token names nothing; the message names it.
        """
        with self.database.asking() as connection:
            known = Tokens(reading.identities(connection))
        found: dict[int, None] = {}
        for token in tokens:
            matching = known.find(token, globs=globs, directory=directory)
            if not matching:
                raise ImageNotFoundError(
                    f"{token}: no image in the catalog has this name, id or path; "
                    "`imgcat ls` lists them"
                )
            found |= dict.fromkeys(matching)
        return list(found)

    def paths(self) -> list[tuple[int, str]]:
        """Return id and path of the images that have files of their own. One statement."""
        with self.database.asking() as connection:
            known = reading.identities(connection)
        return [(image_id, path) for image_id, _name, path in known if path is not None]

    def parts(self) -> dict[int, tuple[int | None, ...]]:
        """Return the children of every image that is made of others; None is one that is gone."""
        with self.database.asking() as connection:
            return reading.parts(connection)

    def mount_rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of what a mount shows; see `opening.entries`. Two statements."""
        from .database import shown

        with self.database.reading() as connection:
            return shown.mount_entries(connection)

    def image_files(self, image_id: int) -> ImageFiles:
        """Return the files that an image's bytes come from; none if there is no such image."""
        from .database import shown

        with self.database.reading() as connection:
            return shown.image_files(connection, image_id)

    def volumes_below(self, image_id: int) -> tuple[Volume, ...]:
        """Return the files of all images that an image is made of. One statement."""
        with self.database.asking() as connection:
            return reading.volumes_below(connection, image_id)

    def open_spec(self, image_id: int) -> OpenSpec:
        """Return what opening the image needs; see `reading.open_spec`.

        Raises:
            ImageNotFoundError: the image was removed.
        """
        with self.database.asking() as connection:
            return reading.open_spec(connection, image_id)

    def load_chunk(
        self, index_id: int, number: int, *, content_key: int | None = None
    ) -> RankChunk:
        """Return one chunk of a rank index. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        with self.database.asking() as connection:
            return pieces.rank_chunk(connection, index_id, content_key, number)

    def load_ranges(
        self, index_id: int, start: int, stop: int, *, content_key: int | None = None
    ) -> RangeList:
        """Return the ranges of a range index that overlap ``[start, stop)``. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        with self.database.asking() as connection:
            return pieces.cluster_ranges(connection, index_id, content_key, start, stop)

    def load_map(
        self, index_id: int, number: int, *, content_key: int | None = None
    ) -> MapChunk | None:
        """Return one chunk of a map, None where it has no runs. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        with self.database.asking() as connection:
            return pieces.map_chunk(connection, index_id, content_key, number)

    def load_span(
        self,
        stream_id: int,
        plain_offset: int,
        plain_bytes: int,
        *,
        content_key: int | None = None,
    ) -> Span:
        """Return the span of a compressed stream at an offset. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        with self.database.asking() as connection:
            return pieces.span(connection, stream_id, content_key, plain_offset, plain_bytes)

    def load_hashes(self, stream_id: int, group: int, *, content_key: int | None = None) -> bytes:
        """Return a group of a stream's page hashes as it is stored. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        with self.database.asking() as connection:
            return pieces.page_hashes(connection, stream_id, content_key, group)

    def load_seal(self, index_id: int, group: int, *, content_key: int | None = None) -> bytes:
        """Return a group of an image's page hashes as it is stored. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted, or has no seal any more.
        """
        with self.database.asking() as connection:
            return pieces.seal(connection, index_id, content_key, group)

    def load_literal(self, index_id: int, start: int, *, content_key: int | None = None) -> bytes:
        """Return the literal bytes of a segment as they are stored. One statement, by key.

        Raises:
            ChunkMissingError: the index was deleted.
        """
        with self.database.asking() as connection:
            return pieces.literal(connection, index_id, content_key, start)

    def check_schema(self) -> None:
        """Check that the catalog can be used: another may have come in its place.

        Raises:
            CatalogSchemaError: its schema cannot be used; it says what to do.
            CatalogError: it could not be read.
        """
        schema.ensure_current(self.database)

    def follow(self) -> Follower:
        """Return what tells whether another process has committed, or another catalog has come."""
        from .database.watch import Follower

        return Follower(self.database)

    def take_what_is_there(self) -> None:
        """Use the catalog that has taken the place of this one. It may block."""
        self.database.take_what_is_there()
        self.pins.renew()

    # -- changing ----------------------------------------------------------

    def remove(self, image_ids: Sequence[int]) -> None:
        """Forget images, in one transaction. Their files are not touched.

        Of an image that is made of them, their bytes cannot be read from then on.
        """
        from .database import composing, writing

        with self.database.writing() as connection:
            parents = composing.parents_of(connection, image_ids)
            for image_id in image_ids:
                writing.delete_image(connection, image_id)
            composing.refresh(connection, parents)
            writing.delete_empty_directories(connection)
        self.purge()

    def rename(self, image_id: int, name: str) -> None:
        """Give the image another name.

        Raises:
            NameTakenError: another image has it, or it cannot be a name.
        """
        self.rename_many({image_id: name})

    def rename_many(
        self, wanted: Mapping[int, str], *, dry_run: bool = False
    ) -> dict[int, tuple[str, str]]:
        """Give images other names, all at once, and to what is named after them.

        Args:
            wanted: the names, by id.
            dry_run: only find out what would be.

        Returns:
            The name before and the name now, by id, of all that are renamed.

        Raises:
            NameTakenError: one of them cannot have its name; nothing is changed then.
        """
        from .database import renaming

        done: dict[int, tuple[str, str]] = {}
        with contextlib.suppress(_UndoneError), self.database.writing() as connection:
            done = renaming.rename(connection, wanted)
            if dry_run:
                raise _UndoneError
        return done

    def set_status(self, image_id: int, status: str, detail: str | None) -> None:
        """Record what an image was found to be; of one that goes away, what it was is kept."""
        self.set_statuses({image_id: (status, detail)})

    def set_statuses(self, found: Mapping[int, tuple[str, str | None]]) -> None:
        """Record what images were found to be, and why, by their ids; see `set_status`."""
        from .database import composing, writing

        with self.database.writing() as connection:
            for image_id, (status, detail) in found.items():
                writing.set_status(connection, image_id, status, detail)
            composing.refresh_above(connection, list(found))

    def make_portable(self) -> None:
        """Keep paths below the catalog's directory relative to it, from now on."""
        from .database import places
        from .database.transaction import driver_connection

        with self.database.writing() as connection:
            places.make_portable(driver_connection(connection))

    def purge(self) -> None:
        """Delete what nothing uses any more: names of files; indexes, unless they may be read by.

        Raises:
            CatalogError: the catalog cannot be written.
        """
        self._purge_unused_indexes()
        self._purge_leftovers()

    def _purge_unused_indexes(self) -> None:
        with pins.unpinned(self.path) as alone:
            if not alone:
                return
            with self.database.asking() as asking:
                if not reading.has_unused_indexes(asking):
                    return
            from .database import writing

            with self.database.writing() as connection:
                writing.delete_unused_indexes(connection)

    def _purge_leftovers(self) -> None:
        from .database import leftovers

        with self.database.asking() as asking:
            if not leftovers.has_leftovers(asking):
                return
        from .database.transaction import driver_connection

        with self.database.writing() as connection:
            leftovers.delete_leftovers(driver_connection(connection))


class _UndoneError(Exception):
    """A transaction that is not to stay."""


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}") from error
    return True


def _make_directory(path: str) -> None:
    """Make the directory of a new catalog; the default one for its owner alone."""
    try:
        if path == os.path.dirname(os.path.abspath(default_path())):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, private.DIRECTORY_MODE)
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise CatalogError(f"{path}: cannot be made: {error.strerror}") from error
