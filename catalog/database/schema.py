"""Which schema a database has, and bringing an older one up to date."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CatalogSchemaError, SchemaOutdatedError, SchemaTooNewError
from . import private

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import sqlalchemy as sa

    from .connection import Database

REVISIONS: tuple[str, ...] = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
)
"""Every revision of the schema, oldest first."""

APPLICATION_ID = 0x494D4743
"""``IMGC``, in the header of every catalog."""

completions: dict[str, Callable[[sa.Connection], None]] = {}
"""By revision, what fills in behind it what it cannot know, in the same transaction."""

MIGRATIONS = Path(__file__).resolve().parent.parent.parent / "migrations"

END = ";\n\n"
"""What ends each statement of a recorded schema; a trigger has semicolons inside."""


def revision_of(connection: sqlite3.Connection, path: str) -> str | None:
    """Return the revision of a catalog, None for an empty database.

    Raises:
        CatalogSchemaError: it is the database of something else.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    if not tables and application_id == 0:
        return None
    if application_id != APPLICATION_ID or "alembic_version" not in tables:
        raise CatalogSchemaError(
            f"{path}: a SQLite database, but not an imgcat catalog; it is left as it is"
        )
    revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if len(revisions) != 1:
        raise CatalogSchemaError(
            f"{path}: names {len(revisions)} revisions of its schema, not one; it is left as it is"
        )
    return str(revisions[0][0])


def ensure_current(
    database: Database,
    *,
    revisions: Sequence[str] = REVISIONS,
    migrations: Path = MIGRATIONS,
) -> str | None:
    """Make sure that the database has the newest schema; it writes where it does not.

    An empty database gets the schema as it is recorded, or by all revisions where it is not. An
    older one is first copied beside itself, then upgraded in one transaction.

    Args:
        database: the catalog's database.
        revisions: every revision, oldest first.
        migrations: Alembic's script directory.

    Returns:
        What was done, in words for the user, or None where nothing had to be.

    Raises:
        SchemaTooNewError: a newer imgcat wrote it.
        SchemaOutdatedError: it is older, and open for reading only.
        CatalogSchemaError: it is the database of something else.
        CatalogError: it could not be read or written.
    """
    head = revisions[-1]
    with database.reading() as connection:
        current = revision_of(connection, database.path)
    if current == head:
        return None
    if current is not None and current not in revisions:
        raise SchemaTooNewError(
            f"{database.path}: schema {current}, but this imgcat knows up to {head}: "
            "a newer imgcat wrote it; upgrade imgcat, or use another catalog with --db"
        )
    if not database.write:
        raise SchemaOutdatedError(
            f"{database.path}: schema {current or 'none'}, and {head} is needed: "
            "run `imgcat db upgrade`"
        )
    if current is None:
        database.use_wal()
    with database.migrating() as connection:
        from .transaction import driver_connection

        # Another process may have been quicker. Who has the lock makes the copy.
        current = revision_of(driver_connection(connection), database.path)
        if current == head:
            return None
        copy = None if current is None else _copy_before(database, current)
        recorded = migrations / f"schema-{head}.sql"
        if current is None and recorded.is_file():
            _make(driver_connection(connection), recorded)
        else:
            _upgrade(connection, migrations)
        for revision, complete in completions.items():
            if current is not None and current < revision:
                complete(connection)
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {int(head)}")
    if copy is None:
        return None
    return f"catalog upgraded from schema {current} to {head}; the old one is kept as {copy}"


def _make(connection: sqlite3.Connection, recorded: Path) -> None:
    """Make all at once what the revisions would make one after the other."""
    for statement in recorded.read_text(encoding="utf-8").split(END):
        connection.execute(statement)


def _upgrade(connection: sa.Connection, migrations: Path) -> None:
    # Imported where needed: it costs more than most commands take.
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic reads its options through a ConfigParser, where % begins an interpolation.
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _copy_before(database: Database, revision: str) -> str:
    """Copy the database beside itself and return the copy's path; never overwrites."""
    base = f"{database.path}.before-{revision}"
    copy, number = base, 1
    while os.path.lexists(copy):
        number += 1
        copy = f"{base}.{number}"
    backup(database, copy)
    return copy


def backup(database: Database, target: str) -> None:
    """Write a consistent copy of the database to the new file `target`, for its owner alone.

    It has a name of its own until it is whole: SQLite opens nothing without one.

    Raises:
        TargetError: `target` is there already.
        OSError: it cannot be written.
        CatalogError: the database cannot be read.
    """
    # Imported where needed: most who open a catalog copy none.
    from ...formats.files.new_file import new_named_file

    with (
        new_named_file(target, force=False, mode=private.MODE) as (_fd, partial),
        database.raw() as source,
        contextlib.closing(sqlite3.connect(partial)) as out,
    ):
        # Whatever ends this, the copy is thrown away: a journal would only stay behind.
        out.execute("PRAGMA journal_mode = OFF").fetchone()
        source.backup(out)
