"""Print migrations/schema-REVISION.sql: what all revisions together make of an empty database."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from imgcat.catalog.database import schema
from imgcat.catalog.database.connection import Database

_BEGINNING = """\
-- A new catalog: what the revisions make, one after the other, of an empty database.
-- Written by `python tools/new_catalog.py > migrations/schema-{head}.sql`.
-- The one before goes to tests/catalog when there is another.
"""

_MADE_ANEW = {("identity", "key"): "random()"}
"""Columns that no two catalogs have the same in."""


def recorded() -> str:
    """Return the whole file."""
    with tempfile.TemporaryDirectory() as place:
        migrations, path = Path(place) / "migrations", f"{place}/catalog.db"
        shutil.copytree(
            schema.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("schema-*.sql")
        )
        database = Database(path, write=True, create=True)
        schema.ensure_current(database, migrations=migrations)
        database.close()
        connection = sqlite3.connect(path)
        try:
            made = _made(connection)
            rows = [_insert(connection, table) for table, _sql in made]
        finally:
            connection.close()
    statements = [sql.strip() for _name, sql in made] + [each for row in rows for each in row]
    for each in statements:
        if schema.END in each:
            raise SystemExit(f"{each}: what stands between statements is in it")
    beginning = _BEGINNING.format(head=schema.REVISIONS[-1])
    return beginning + "".join(f"{each}{schema.END}" for each in statements).rstrip() + "\n"


def _made(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return name and SQL of all that is in a database, in the order in which it was made."""
    found = connection.execute(
        "SELECT name, sql, type FROM sqlite_schema WHERE sql IS NOT NULL"
        " AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    ).fetchall()
    virtual = [name for name, sql, _kind in found if sql.startswith("CREATE VIRTUAL TABLE")]
    return [
        (name, sql)
        for name, sql, _kind in found
        # A virtual table makes its own tables beside it.
        if not any(name.startswith(f"{each}_") for each in virtual)
    ]


def _insert(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return what puts the rows into a table that a new catalog has; none for what is no table."""
    kind = connection.execute(
        "SELECT type, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_schema WHERE name = ?", (table,)
    ).fetchone()
    if kind != ("table", 0):
        return []
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(
        f"'{_MADE_ANEW[table, each]}'" if (table, each) in _MADE_ANEW else f"quote({each})"
        for each in columns
    )
    names = ", ".join(columns)
    return [
        f"INSERT INTO {table} ({names}) VALUES ({', '.join(row)})"  # noqa: S608 - a table of ours
        for row in connection.execute(f"SELECT {values} FROM {table}")  # noqa: S608
    ]


if __name__ == "__main__":
    print(recorded(), end="")
