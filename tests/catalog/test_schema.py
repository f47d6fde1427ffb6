"""The schema: made, held against the models, upgraded, refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.adding.scan import scan_file
from imgcat.catalog.database import models, schema
from imgcat.catalog.database.check import check
from imgcat.catalog.database.connection import Database
from imgcat.catalog.errors import (
    CatalogSchemaError,
    ImageChangedError,
    SchemaOutdatedError,
    SchemaTooNewError,
)
from imgcat.catalog.opening.open import open_image
from imgcat.catalog.store import Catalog
from imgcat.formats.errors import UnreadablePartError
from imgcat.formats.reader import read_bytes
from support import ntfsclone_writer, partclone_writer, partimage_writer, samples
from support.old_catalogs import dump, populate, recorded
from support.old_shelf import write_shelf

ROOT = Path(__file__).parent.parent.parent

HEAD = schema.REVISIONS[-1]
NEXT = f"{int(HEAD) + 1:04}"
"""A revision that is not there yet."""

_NEXT = '''
"""A revision of the test's own."""
from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = "{head}"

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


def next_revision(tmp_path: Path, extra: str = "") -> Path:
    """Return a script directory with one revision more than today's."""
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations)
    (migrations / "versions" / f"v{NEXT}_next.py").write_text(
        _NEXT.format(revision=NEXT, head=HEAD, extra=extra)
    )
    return migrations


def test_a_new_catalog_is_what_the_revisions_make_of_an_empty_database(tmp_path: Path) -> None:
    """It is made all at once, of what the last of them has left behind: rows and all."""
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("schema-*.sql"))
    made = []
    for name, directory in (("revisions", migrations), ("recorded", schema.MIGRATIONS)):
        database = Database(str(tmp_path / name), write=True, create=True)
        assert schema.ensure_current(database, migrations=directory) is None
        with database.raw() as connection:
            connection.execute("UPDATE identity SET key = abs(key) > 1")
            found = connection.execute("SELECT name, type, sql FROM sqlite_schema").fetchall()
            rows = {
                table: connection.execute(f"SELECT * FROM {table}").fetchall()
                for table, kind, sql in found
                if kind == "table" and not sql.startswith("CREATE VIRTUAL")
            }
            made.append((sorted((*each, (sql or "").strip()) for *each, sql in found), rows))
        assert dump(database.path) == recorded(HEAD)
        assert check(database) == []
        database.close()
    assert made[0] == made[1]
    written = subprocess.run(
        [sys.executable, ROOT / "tools" / "new_catalog.py"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert written.stdout == (schema.MIGRATIONS / f"schema-{HEAD}.sql").read_text()


def test_no_two_new_catalogs_have_one_key(tmp_path: Path) -> None:
    keys = set()
    for number in range(3):
        with Catalog.open(str(tmp_path / f"{number}.db"), create=True):
            pass
        with contextlib.closing(sqlite3.connect(tmp_path / f"{number}.db")) as connection:
            keys.update(connection.execute("SELECT key FROM identity"))
    assert len(keys) == 3


def shelf_of(revision: str, directory: Path) -> dict[str, str]:
    """Write the files that a populated catalog knows; return the sha256 of each guest, by name."""
    if revision == "0001":
        sample = samples.unpack_one(directory, "ext4-0.3.23")
        shutil.move(sample.path, directory / "sda1.img")
        return {"sda1": sample.volume_sha256}
    if revision >= "0003":
        return write_shelf(directory)
    clusters = ntfsclone_writer.write(
        ntfsclone_writer.Recipe(order=[0, 1, 2, 5, 6, 9, 17], cluster_count=20)
    )
    volume = partimage_writer.write(partimage_writer.Recipe(present=[True, False, True, True] * 40))
    blocks = partclone_writer.write(partclone_writer.Recipe(present=[True, False, True, True] * 8))
    found = {}
    for name, image, guest in (
        ("ntfs", clusters.image, clusters.guest),
        ("ext", volume.volumes[0], volume.guest),
        ("clone", blocks.image, blocks.guest),
    ):
        (directory / f"{name}.img").write_bytes(image)
        found[name] = hashlib.sha256(guest).hexdigest()
    return found


def old_catalog(revision: str, path: Path, directory: Path) -> None:
    """Make a catalog as imgcat made it when this revision was the last, of files that are there."""
    connection = sqlite3.connect(path)
    populate(connection, revision)
    tables = ["images", "volumes", *(["image_directories"] if revision >= "0003" else [])]
    for table in tables:
        connection.execute(
            f"UPDATE {table} SET path = replace(path, '/backups/', ?)", (f"{directory}/",)
        )
    for volume, size in connection.execute("SELECT path, size_bytes FROM volumes").fetchall():
        status = os.stat(volume)
        assert status.st_size == size
        connection.execute(
            "UPDATE volumes SET mtime_ns = ?, inode = ? WHERE path = ?",
            (status.st_mtime_ns, status.st_ino, volume),
        )
    connection.commit()
    connection.close()


@pytest.mark.parametrize("old", schema.REVISIONS[:-1])
def test_a_catalog_of_an_older_schema_is_upgraded_and_its_images_are_served(
    tmp_path: Path, old: str
) -> None:
    path = tmp_path / "c.db"
    shelf = shelf_of(old, tmp_path)
    old_catalog(old, path, tmp_path)
    path.chmod(0o600)
    said: list[str] = []
    with Catalog.open(str(path), notify=said.append) as catalog:
        listed = {row.name: row for row, _volumes in catalog.list_images()}
        assert listed.keys() == shelf.keys()
        for name, sha256 in shelf.items():
            with contextlib.closing(open_image(catalog, listed[name].id)) as opened:
                guest = read_bytes(opened.reader, 0, opened.reader.size)
                assert hashlib.sha256(guest).hexdigest() == sha256
                assert opened.is_composed or opened.has_fingerprint()
        assert {row.content for row in listed.values()} == {"full"}
        assert {row.status for row in listed.values()} == {"ready"}
        verified = {row.verify_result for row in listed.values() if row.path is not None}
        assert verified == {None if old == "0002" else "ok"}
        assert check(catalog.database) == []
        assert catalog.database.path == str(path)
        with catalog.database.raw() as connection:
            keys = connection.execute("SELECT content_key FROM indexes").fetchall()
            assert len({key for (key,) in keys} - {0}) == len(keys) >= len(shelf)
    copied = f"{path}.before-{old}"
    assert said == [
        f"catalog upgraded from schema {old} to {HEAD}; the old one is kept as {copied}"
    ]
    assert dump(str(path)) == recorded(HEAD)
    assert dump(copied) == recorded(old)
    with Catalog.open(copied, write=True) as copy:
        assert {row.name for row, _volumes in copy.list_images()} == shelf.keys()


@pytest.mark.parametrize("suffixes", [("aa", "ab", "ac"), ("000", "001", "002")])
def test_a_volume_in_pieces_is_joined_rightly_or_refused_after_an_upgrade(
    tmp_path: Path, suffixes: tuple[str, ...]
) -> None:
    """Of pieces that are numbered as volumes are, no name tells what they are."""
    directory = tmp_path / "backup.20240131"
    directory.mkdir()
    shelf = shelf_of("0003", directory)
    path = tmp_path / "c.db"
    old_catalog("0003", path, directory)
    present = [n % 5 != 2 for n in range(200)]
    written = partimage_writer.write(partimage_writer.Recipe(present=present))
    assert hashlib.sha256(written.guest).hexdigest() == shelf["volumes"]
    (whole,) = written.volumes
    (tmp_path / "whole").write_bytes(whole)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE images SET path = ?, fingerprint = ? WHERE name = 'volumes'",
            (
                str(directory / f"volumes.{suffixes[0]}"),
                scan_file(str(tmp_path / "whole")).scan.info.fingerprint,
            ),
        )
        for number, suffix in enumerate(suffixes):
            piece = directory / f"volumes.{suffix}"
            piece.write_bytes(
                whole[number * 40_000 : (number + 1) * 40_000 if number < 2 else None]
            )
            status = piece.stat()
            connection.execute(
                "UPDATE volumes SET path = ?, size_bytes = ?, mtime_ns = ?, inode = ?"
                " WHERE path = ?",
                (
                    str(piece), status.st_size, status.st_mtime_ns, status.st_ino,
                    str(directory / f"volumes.{number:03}"),
                ),
            )  # fmt: skip
        connection.commit()
    with Catalog.open(str(path)) as catalog:
        image_id = catalog.resolve("volumes")
        if suffixes[0] == "000":
            with pytest.raises(ImageChangedError):
                open_image(catalog, image_id)
            # A rescan sees what they are.
            assert rescan(catalog, image_id).record.row.status in {"ready", "failed"}
            return
        with contextlib.closing(open_image(catalog, image_id)) as opened:
            assert read_bytes(opened.reader, 0, opened.reader.size) == written.guest


def test_a_disk_whose_directory_is_away_when_the_catalog_is_upgraded(tmp_path: Path) -> None:
    """It says so, gives no byte that may be wrong, and is mended when it is looked at again."""
    path = tmp_path / "c.db"
    shelf = write_shelf(tmp_path)
    old_catalog("0003", path, tmp_path)
    (tmp_path / "laptop").rename(tmp_path / "away")
    with Catalog.open(str(path)) as catalog:
        disk = catalog.get(catalog.resolve("laptop/sda.disk"))
        assert disk.row.status == "failed"
        assert "could not be put together" in str(disk.row.status_detail)
        with (
            contextlib.closing(open_image(catalog, disk.row.id)) as opened,
            pytest.raises(UnreadablePartError, match=r"laptop/sda\.disk"),
        ):
            read_bytes(opened.reader, 0, 512)
        (tmp_path / "away").rename(tmp_path / "laptop")
        assert rescan(catalog, disk.row.id).outcome is Outcome.UPDATED
        with contextlib.closing(open_image(catalog, disk.row.id)) as opened:
            guest = read_bytes(opened.reader, 0, opened.reader.size)
        assert hashlib.sha256(guest).hexdigest() == shelf["laptop/sda.disk"]


def test_an_id_is_not_used_again_after_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    shelf_of("0002", tmp_path)
    old_catalog("0002", path, tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE sqlite_sequence SET seq = 40 WHERE name = 'images'")
    connection.commit()
    connection.close()
    (tmp_path / "new.img").write_bytes((tmp_path / "clone.img").read_bytes())
    with Catalog.open(str(path)) as catalog:
        assert add_file(catalog, str(tmp_path / "new.img")).record.row.id == 41


def test_compressed_streams_go_with_their_index(database: Database) -> None:
    with database.raw() as connection:
        connection.execute(
            "INSERT INTO indexes (id, kind, total_units, created_at, content_key)"
            " VALUES (7, 'full', 1, 'now', 70)"
        )
        connection.execute(
            "INSERT INTO streams VALUES (3, 7, 0, 'zstd', 'zstandard', 1, 10, 5, 10, 10)"
        )
        connection.execute("INSERT INTO seek_points VALUES (3, 0, 0, 0, 0, X'')")
        connection.execute("INSERT INTO page_hashes VALUES (3, 0, X'00')")
        for table in ("streams", "seek_points", "page_hashes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(
                "INSERT INTO streams VALUES (4, 7, 0, 'zstd', 'zstandard', 1, 10, 5, 10, 10)"
            )
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute("INSERT INTO seek_points VALUES (4, 0, 0, 0, 0, X'')")
        connection.execute("DELETE FROM indexes WHERE id = 7")
        for table in ("streams", "seek_points", "page_hashes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        # An id is never used again.
        connection.execute("INSERT INTO indexes VALUES (8, 'full', 1, 'now', 80, NULL, NULL)")
        connection.execute(
            "INSERT INTO streams (index_id, ordinal, codec, library,"
            " index_version, plain_bytes, stored_bytes, span_bytes)"
            " VALUES (8, 0, 'xz', 'liblzma', 1, 10, 5, 10)"
        )
        assert connection.execute("SELECT id FROM streams").fetchone() == (4,)


def test_the_models_are_the_migrated_schema(database: Database) -> None:
    with database.writing() as connection:
        context = alembic.migration.MigrationContext.configure(
            connection,
            # Of the tables, it is the one that SQLAlchemy has no words for.
            opts={
                "include_name": lambda name, _kind, _above: (
                    not str(name).startswith("file_name_trigrams")
                )
            },
        )
        assert alembic.autogenerate.compare_metadata(context, models.metadata) == []


def test_a_new_catalog_names_its_application_and_revision(database: Database) -> None:
    with database.raw() as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (int(schema.REVISIONS[-1]),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_older_catalog_is_copied_and_upgraded(database: Database, tmp_path: Path) -> None:
    with database.raw() as connection:
        connection.execute("INSERT INTO indexes VALUES (7, 'full', 1, 'now', 70, NULL, NULL)")
    message = schema.ensure_current(
        database, revisions=(*schema.REVISIONS, NEXT), migrations=next_revision(tmp_path)
    )
    copy = f"{database.path}.before-{HEAD}"
    assert message == (
        f"catalog upgraded from schema {HEAD} to {NEXT}; the old one is kept as {copy}"
    )
    assert dump(copy) == recorded(HEAD)
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
        schema.ensure_current(database, revisions=(*schema.REVISIONS, NEXT), migrations=migrations)
    assert dump(database.path) == recorded(HEAD)
    with database.reading() as connection:
        assert schema.revision_of(connection, database.path) == HEAD


def test_a_second_copy_does_not_overwrite_the_first(database: Database, tmp_path: Path) -> None:
    first = Path(f"{database.path}.before-{HEAD}")
    first.write_text("precious")
    migrations = next_revision(tmp_path)
    schema.ensure_current(database, revisions=(*schema.REVISIONS, NEXT), migrations=migrations)
    assert first.read_text() == "precious"
    assert dump(f"{first}.2") == recorded(HEAD)


def test_a_newer_catalog_is_refused(database: Database) -> None:
    with database.raw() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(SchemaTooNewError, match=f"schema 0099, but this imgcat knows up to {HEAD}"):
        schema.ensure_current(database)


def test_an_older_catalog_opened_for_reading_is_not_upgraded(
    database: Database, tmp_path: Path
) -> None:
    reading = Database(database.path, write=False)
    with pytest.raises(SchemaOutdatedError, match="imgcat db upgrade"):
        schema.ensure_current(
            reading, revisions=(*schema.REVISIONS, NEXT), migrations=next_revision(tmp_path)
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
