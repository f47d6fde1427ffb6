"""Writing a generation: what is new, in one transaction."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ..database import file_names as names
from ..database import models
from ..database.moment import utc_now
from ..database.transaction import driver_connection
from .comparing import Aside, base_of
from .records import ROOT, StoredGeneration, family

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from ...filesystems.walking import WalkedDirectory
    from ..store import Catalog
    from .records import NewGeneration

_ATTEMPTS = 3
"""Times that a file system is walked over, where others write about it meanwhile."""

_LINEAGE = "SELECT id FROM file_lineages WHERE fs_type = ? AND fs_uuid IS ? AND label = ?"
_END = """
    UPDATE file_versions SET last_generation = ?1
    WHERE lineage_id = ?2 AND directory_id = ?3 AND name_id = ?4 AND last_generation IS NULL
"""
_REPLACED = "\0replaced"
"""What a generation is called that is replaced, within the transaction that does it: an image has
one at a time."""

_SET_ASIDE = "UPDATE file_generations SET image_id = NULL, snapshot_name = ? WHERE image_id = ?"
_DELETE_REPLACED = "DELETE FROM file_generations WHERE snapshot_name = ?"
_INSERT = """
    INSERT INTO file_versions (lineage_id, directory_id, name_id, first_generation, mode,
                               size_bytes, mtime_ns, inode, flags)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class GenerationExistsError(Exception):
    """The image, or a snapshot of that name, has a generation already."""


class OutdatedError(Exception):
    """The image was scanned anew, or removed, while its files were walked over."""


class _ChangedError(Exception):
    """Others have written about the same file system meanwhile."""


def store_generation(
    catalog: Catalog,
    new: NewGeneration,
    walk: Callable[[], Iterable[WalkedDirectory]],
    more: Callable[[sa.Connection, int], None] = lambda _connection, _generation: None,
    problems: Callable[[], int] = lambda: 0,
    *,
    replaces: bool = False,
) -> StoredGeneration:
    """Keep a state of a file system: of what has not changed since the last, no row is written.

    The file system is walked over without a lock; then all is written in one transaction.

    Args:
        catalog: where to.
        new: what it is a state of.
        walk: begins to walk over its directories; begins anew each time that it is called.
        more: writes what belongs to it, in the same transaction, with the generation's id.
        problems: how many things could not be read.
        replaces: whether one of the same image goes, in the same transaction.

    Raises:
        GenerationExistsError: there is one of the image, or a snapshot of that name.
        OutdatedError: the image was scanned anew, or removed, meanwhile.
        CatalogError: the catalog cannot be used, or others write to it all the time.
        Exception: what `walk` raises.
    """
    for attempt in range(_ATTEMPTS):
        with catalog.database.reading() as connection:
            aside = Aside(connection, base_of(connection, _known_lineage(connection, new)))
            try:
                aside.compare(walk())
            except BaseException:
                aside.close()
                raise
        # What follows reads nothing of that state of the catalog any more.
        try:
            with catalog.database.writing() as writing:
                writer = _Writer(writing, new, aside, replaces=replaces)
                return writer.write(problems(), more)
        except _ChangedError:
            if attempt == _ATTEMPTS - 1:
                raise _too_busy(catalog.path) from None
        finally:
            aside.close()
    raise AssertionError


def _too_busy(path: str) -> Exception:
    from ..errors import CatalogBusyError

    return CatalogBusyError(f"{path}: others index the same file system all the time: try again")


def _known_lineage(connection: sqlite3.Connection, new: NewGeneration) -> int | None:
    if new.fs_uuid is None and not new.label:
        # Nothing tells it from others.
        return None
    key = (family(new.fs_type), new.fs_uuid, new.label)
    row = connection.execute(_LINEAGE, key).fetchone()
    return None if row is None else int(row[0])


class _Writer:
    """Writes one generation, in a transaction.

    Args:
        connection: in the transaction.
        new: the generation.
        aside: what is new in it.
        replaces: whether one of the same image goes.
    """

    def __init__(
        self, connection: sa.Connection, new: NewGeneration, aside: Aside, *, replaces: bool
    ) -> None:
        self._connection = connection
        self._driver = driver_connection(connection)
        self._new = new
        self._aside = aside
        self._replaces = replaces
        self._is_same = False

    def write(self, problems: int, more: Callable[[sa.Connection, int], None]) -> StoredGeneration:
        if self._replaces:
            self._driver.execute(_SET_ASIDE, (_REPLACED, self._new.image_id))
        self._check_is_new()
        lineage_id = _known_lineage(self._driver, self._new)
        self._check_base(lineage_id)
        if lineage_id is None:
            lineage_id = self._insert_lineage()
        number = self._aside.base.number + 1
        name_ids = self._write_names()
        directories = self._write_directories(name_ids)
        self._driver.executemany(
            _END,
            (
                (number - 1, lineage_id, directory_id, name_id)
                for directory_id, name_id in self._aside.ended_rows()
            ),
        )
        self._driver.executemany(_INSERT, self._rows(lineage_id, number, name_ids, directories))
        generation_id = self._insert_generation(lineage_id, number, problems)
        if self._replaces:
            # Behind the new one: what both have stays where it is.
            self._driver.execute(_DELETE_REPLACED, (_REPLACED,))
        more(self._connection, generation_id)
        aside = self._aside
        return StoredGeneration(
            generation_id, lineage_id, number, aside.files, aside.added, aside.ended, problems
        )

    def _check_is_new(self) -> None:
        """Check that the image is the one that was read, and has no generation.

        Raises:
            OutdatedError: it is another now, or gone.
            GenerationExistsError: it has one.
        """
        new = self._new
        if new.image_id is not None:
            row = self._driver.execute(
                "SELECT index_id FROM images WHERE id = ?", (new.image_id,)
            ).fetchone()
            if row is None or row[0] != new.index_id:
                raise OutdatedError
        name = None if new.snapshot_name is None else names.kept_name(new.snapshot_name.encode(
            errors="surrogateescape"))  # fmt: skip
        if self._driver.execute(
            "SELECT 1 FROM file_generations WHERE image_id = ? OR snapshot_name = ?",
            (new.image_id, name),
        ).fetchone():
            raise GenerationExistsError

    def _check_base(self, lineage_id: int | None) -> None:
        """Check that what the file system was compared with is still what there is.

        Raises:
            _ChangedError: it is not.
        """
        before = self._aside.base
        now = base_of(self._driver, lineage_id)
        # This transaction has counted itself.
        self._is_same = now.transactions == before.transactions + 1
        if self._is_same:
            return
        if now[:3] != before[:3]:
            raise _ChangedError
        for name_id, hashed in self._aside.known_names():
            row = self._driver.execute(
                "SELECT hash FROM file_names WHERE id = ?", (name_id,)
            ).fetchone()
            if row is None or row[0] != hashed:
                raise _ChangedError

    def _insert_lineage(self) -> int:
        key = self._connection.execute(
            sa.insert(models.file_lineages).values(
                fs_type=family(self._new.fs_type),
                fs_uuid=self._new.fs_uuid,
                label=self._new.label,
            )
        ).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _insert_generation(self, lineage_id: int, number: int, problems: int) -> int:
        new = self._new
        key = self._connection.execute(
            sa.insert(models.file_generations).values(
                lineage_id=lineage_id,
                number=number,
                image_id=new.image_id,
                snapshot_name=new.snapshot_name,
                taken_at=new.taken_at,
                taken_from=new.taken_from.value,
                indexed_at=utc_now(),
                file_count=self._aside.files,
                problem_count=problems,
                caveat=new.caveat,
            )
        ).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _write_names(self) -> array[int]:
        """Write the names that are new, and return the ids of all, by their ids aside."""
        (last,) = self._driver.execute("SELECT coalesce(max(id), 0) FROM file_names").fetchone()
        if self._is_same:
            names.insert(self._driver, self._aside.new_names(last))
            return array("q", range(last, last + self._aside.names + 1))
        found = array("q", [0])

        def fresh() -> Iterator[tuple[int, int, names.Name]]:
            nonlocal last
            for _aside_id, hashed, name in self._aside.new_names():
                # Others may have written it meanwhile.
                known = names.id_of(self._driver, name)
                if known is None:
                    last += 1
                    yield last, hashed, name
                found.append(known or last)

        names.insert(self._driver, fresh())
        return found

    def _write_directories(self, name_ids: array[int]) -> array[int]:
        """Write the directories that are new, and return the rows of all, by their numbers."""
        found = array("q", [ROOT])
        for _number, parent, an_id, known in self._aside.directories():
            if known and self._is_same:
                found.append(known)
                continue
            key = (found[parent], name_ids[-an_id] if an_id < 0 else an_id)
            row = None
            if known or not self._is_same:
                row = self._driver.execute(
                    "SELECT id FROM file_directories WHERE parent_id = ? AND name_id = ?", key
                ).fetchone()
            if known and (row is None or row[0] != known):
                raise _ChangedError
            if row is not None:
                found.append(row[0])
                continue
            inserted = self._driver.execute(
                "INSERT INTO file_directories (parent_id, name_id) VALUES (?, ?)", key
            )
            assert inserted.lastrowid is not None
            found.append(inserted.lastrowid)
        return found

    def _rows(
        self, lineage_id: int, number: int, name_ids: array[int], directories: array[int]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of new versions, those of a directory in the order of the table."""
        for directory_id, found in self._aside.new_rows(directories):
            rows = [
                (lineage_id, directory_id, name_ids[-an_id] if an_id < 0 else an_id, number, *rest)
                for an_id, *rest in found
            ]
            rows.sort()
            yield from rows
