"""The schema: made, held against the models, upgraded, refused."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest
from imgcat.catalog import models, schema
from imgcat.catalog.engine import Database
from imgcat.catalog.errors import CatalogSchemaError, SchemaOutdatedError, SchemaTooNewError
from imgcat.catalog.store import Catalog

HERE = Path(__file__).parent

_NEXT = '''
"""A revision of the test's own."""
from alembic import op
import sqlalchemy as sa

revision = "0003"
down_revision = "0002"

def upgrade() -> None:
    op.add_column("images", sa.Column("shelf_number", sa.Integer))
    op.execute("CREATE TABLE made (x INTEGER)")
    {extra}
'''


@pytest.fixture
def database(tmp_path: Path) -> Database:
    with Catalog.open(str(tmp_path / "c.db"), create=True) as catalog:
        path = catalog.path
    return Database(path, write=True)


def dump(path: str) -> str:
    """Return the schema as SQLite tells it, in order of name."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
            "ORDER BY name"
        )
        return "\n\n".join(f"{row[0].strip()};" for row in rows) + "\n"
    finally:
        connection.close()


def next_revision(tmp_path: Path, extra: str = "") -> Path:
    """Return a script directory with one revision more than today's."""
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations)
    (migrations / "versions" / "v0003_next.py").write_text(_NEXT.format(extra=extra))
    return migrations


def test_the_schema_of_each_revision_is_the_recorded_one(database: Database) -> None:
    head = schema.REVISIONS[-1]
    assert dump(database.path) == (HERE / f"schema-{head}.sql").read_text()


def test_a_catalog_of_the_first_schema_is_upgraded_with_its_images(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    connection = sqlite3.connect(path)
    connection.executescript((HERE / "schema-0001.sql").read_text())
    connection.executescript((HERE / "populated-0001.sql").read_text())
    connection.close()
    said: list[str] = []
    with Catalog.open(str(path), notify=said.append) as catalog:
        listed = catalog.list_images()
        record = catalog.get(listed[0][0].id)
        chunk = catalog.load_chunk(record.index_id, 0)
    head = schema.REVISIONS[-1]
    copied = f"{path}.before-0001"
    assert said == [f"catalog upgraded from schema 0001 to {head}; the old one is kept as {copied}"]
    assert [(row.name, row.content, row.verify_result) for row, _volumes in listed] == [
        ("sda1", "full", "ok")
    ]
    assert chunk.rank == 0
    assert dump(str(path)) == (HERE / f"schema-{schema.REVISIONS[-1]}.sql").read_text()
    with Catalog.open(f"{path}.before-0001", write=True) as copy:
        assert [row.name for row, _volumes in copy.list_images()] == ["sda1"]


def test_the_models_are_the_migrated_schema(database: Database) -> None:
    with database.writing() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, models.metadata) == []


def test_a_new_catalog_names_its_application_and_revision(database: Database) -> None:
    with database.raw() as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (int(schema.REVISIONS[-1]),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_older_catalog_is_copied_and_upgraded(database: Database, tmp_path: Path) -> None:
    with database.raw() as connection:
        connection.execute("INSERT INTO indexes VALUES (7, 'full', 1, 'now')")
    message = schema.ensure_current(
        database, revisions=(*schema.REVISIONS, "0003"), migrations=next_revision(tmp_path)
    )
    copy = f"{database.path}.before-0002"
    assert message == (f"catalog upgraded from schema 0002 to 0003; the old one is kept as {copy}")
    assert dump(copy) == (HERE / "schema-0002.sql").read_text()
    for path, columns in ((copy, 0), (database.path, 1)):
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT id FROM indexes").fetchall() == [(7,)]
        found = connection.execute(
            "SELECT count(*) FROM pragma_table_info('images') WHERE name = 'shelf_number'"
        ).fetchone()
        assert found == (columns,)
        connection.close()


def test_a_failed_upgrade_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    migrations = next_revision(tmp_path, extra="raise ValueError('planted')")
    with pytest.raises(ValueError, match="planted"):
        schema.ensure_current(
            database, revisions=(*schema.REVISIONS, "0003"), migrations=migrations
        )
    assert dump(database.path) == (HERE / "schema-0002.sql").read_text()
    with database.reading() as connection:
        assert schema.revision_of(connection, database.path) == "0002"


def test_a_second_copy_does_not_overwrite_the_first(database: Database, tmp_path: Path) -> None:
    first = Path(f"{database.path}.before-0002")
    first.write_text("precious")
    migrations = next_revision(tmp_path)
    schema.ensure_current(database, revisions=(*schema.REVISIONS, "0003"), migrations=migrations)
    assert first.read_text() == "precious"
    assert dump(f"{first}.2") == (HERE / "schema-0002.sql").read_text()


def test_a_newer_catalog_is_refused(database: Database) -> None:
    with database.raw() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(SchemaTooNewError, match=r"schema 0099, but this imgcat knows up to 0002"):
        schema.ensure_current(database)


def test_an_older_catalog_opened_for_reading_is_not_upgraded(
    database: Database, tmp_path: Path
) -> None:
    reading = Database(database.path, write=False)
    with pytest.raises(SchemaOutdatedError, match="imgcat db upgrade"):
        schema.ensure_current(
            reading, revisions=(*schema.REVISIONS, "0003"), migrations=next_revision(tmp_path)
        )
    reading.close()


def test_the_database_of_something_else_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CatalogSchemaError, match="not an imgcat catalog"):
        Catalog.open(str(path))
    assert path.read_bytes() == before


def test_revisions_are_the_ones_on_disk() -> None:
    numbers = sorted(p.name[1:5] for p in (schema.MIGRATIONS / "versions").glob("v*.py"))
    assert tuple(numbers) == schema.REVISIONS


def test_a_read_only_database_takes_no_write(database: Database) -> None:
    reading = Database(database.path, write=False)
    with reading.raw() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM images")
    reading.close()
