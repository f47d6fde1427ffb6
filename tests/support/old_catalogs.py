"""Catalogs as imgcat made them when another revision of the schema was the last one."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from imgcat.catalog.database import schema

_OLD = Path(__file__).parent.parent / "catalog"


def recorded(revision: str) -> str:
    """Return the schema of a revision as it is recorded, in order of name: see `dump`.

    That of the last one is what new catalogs are made of.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        _make(connection, revision)
        return _dumped(connection)


def dump(path: str) -> str:
    """Return the schema of a catalog as SQLite tells it, in order of name."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return _dumped(connection)


def populate(connection: sqlite3.Connection, revision: str) -> None:
    """Make an empty database a catalog of an old revision, which knows the images of its shelf."""
    _make(connection, revision)
    connection.executescript((_OLD / f"populated-{revision}.sql").read_text())


def _make(connection: sqlite3.Connection, revision: str) -> None:
    directory = schema.MIGRATIONS if revision == schema.REVISIONS[-1] else _OLD
    text = (directory / f"schema-{revision}.sql").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("-- ")]
    made = [each for each in "\n".join(lines).split(schema.END) if each.startswith("CREATE ")]
    # By name, an index may come before its table.
    for statement in sorted(made, key=lambda each: not each.startswith("CREATE TABLE")):
        connection.execute(statement)


def _dumped(connection: sqlite3.Connection) -> str:
    rows = connection.execute(
        # The index of trigrams makes tables of its own beside it.
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        " AND name NOT GLOB 'file_name_trigrams_*' ORDER BY name"
    )
    return "".join(f"{sql.strip()}{schema.END}" for (sql,) in rows)
