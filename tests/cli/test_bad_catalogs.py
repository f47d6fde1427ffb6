"""Catalogs that cannot be read, written, locked or understood: a message, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.database import schema
from imgcat.catalog.database.check import check
from imgcat.catalog.errors import CatalogError
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.opening.errnos import is_expected
from imgcat.catalog.opening.freshness import Observed
from imgcat.catalog.opening.open import open_watched
from imgcat.catalog.store import Catalog
from support.attack_images import BLOCK, patchy, solid
from support.confined import MODES_HOLD, fill_up, run_confined, small_disk
from support.partclone_writer import Recipe, write
from support.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.program import Program

GOOD = write(Recipe(present=[True, False, True, True] * 8)).image


@pytest.fixture
def image(program: Program, tmp_path: Path) -> Path:
    """An image that is in the catalog."""
    path = tmp_path / "a.img"
    path.write_bytes(solid(b"A", 8))
    program.run("add", path)
    return path


def commands(image: Path, mount: Path) -> list[tuple[tuple[object, ...], bool]]:
    """Return commands that use the catalog, and whether each of them writes."""
    mount.mkdir(exist_ok=True)
    return [
        (("ls",), False),
        (("sql", "SELECT count(*) FROM images"), False),
        (("mount-all", mount), False),
        (("show", "a"), False),
        (("db", "check"), False),
        (("add", "--force", image), True),
        (("rename", "a", "b"), True),
    ]


# -- not a catalog ---------------------------------------------------------


def test_there_is_no_catalog_yet(program: Program, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    for arguments in [("ls",), ("sql", "SELECT 1"), ("mount-all", mount), ("rm", "x"), ("rescan",)]:
        said = program.run(*arguments, code=3).stderr
        assert said == (
            f"imgcat: {program.catalog}: there is no catalog yet: `imgcat add IMAGE...` makes one\n"
        )
    assert not program.catalog.exists()
    assert os.listdir(mount) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"This is my diary.\n" * 500, "not a SQLite database (it begins with 54 68 69 73"),
        (b"SQLite format 3", "not a SQLite database"),
        (b"SQLite format 3\0" + bytes(84), ""),
        (b"SQLite format 3\0" + random.Random(3).randbytes(8192), ""),
    ],
    ids=["text", "cut in the magic", "header of zeros", "magic and garbage"],
)
def test_what_is_not_sqlite_is_refused_and_left(
    program: Program, tmp_path: Path, content: bytes, reason: str
) -> None:
    program.catalog.write_bytes(content)
    (tmp_path / "a.img").write_bytes(GOOD)
    for arguments in (("ls",), ("add", tmp_path / "a.img")):
        said = program.run(*arguments, code=6).stderr
        assert said.startswith(f"imgcat: {program.catalog}: ")
        assert reason in said
        assert "left as it is" in said
    assert program.catalog.read_bytes() == content
    assert sorted(each.name for each in program.home.glob("catalog*")) == ["catalog.db"]


@pytest.mark.parametrize("application_id", [0, 0x494D4743])
def test_the_database_of_another_application_is_refused_and_left(
    program: Program, tmp_path: Path, application_id: int
) -> None:
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        connection.execute("CREATE TABLE images (id, name)")
        connection.execute(f"PRAGMA application_id = {application_id}")
        connection.commit()
    before = program.catalog.read_bytes()
    (tmp_path / "a.img").write_bytes(GOOD)
    for arguments in (("ls",), ("add", tmp_path / "a.img")):
        said = program.run(*arguments, code=6).stderr
        assert said == (
            f"imgcat: {program.catalog}: a SQLite database, but not an imgcat catalog; "
            "it is left as it is\n"
        )
    assert program.catalog.read_bytes() == before
    assert not list(program.home.glob("catalog.db-*"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '0999'",
        "DELETE FROM alembic_version",
        "INSERT INTO alembic_version VALUES ('0000')",
        "ALTER TABLE alembic_version RENAME COLUMN version_num TO number",
        "DROP TABLE images",
    ],
    ids=["newer", "none", "two", "column", "no images"],
)
def test_a_schema_that_is_not_ours_is_refused_and_left(
    program: Program, image: Path, tmp_path: Path, statement: str
) -> None:
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    for arguments, _writes in commands(image, tmp_path / "mount"):
        if "no images" in statement or arguments[0] not in {"ls", "add", "mount-all"}:
            continue
        said = program.run(*arguments, code=6).stderr
        assert str(program.catalog) in said
        if "0999" in statement:
            assert said == (
                f"imgcat: {program.catalog}: schema 0999, but this imgcat knows up to "
                f"{schema.REVISIONS[-1]}: "
                "a newer imgcat wrote it; upgrade imgcat, or use another catalog with --db\n"
            )
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        assert connection.execute("SELECT name, sql FROM sqlite_schema").fetchall() == before
    assert not list(program.home.glob("*before*"))


def test_an_empty_file_becomes_a_catalog_by_an_add(program: Program, tmp_path: Path) -> None:
    program.catalog.touch()
    (tmp_path / "a.img").write_bytes(GOOD)
    program.run("add", tmp_path / "a.img")
    assert [row["name"] for row in program.json("ls")] == ["a"]


def test_what_is_no_file_is_no_catalog(program: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    device = tmp_path / "device"
    os.mknod(device, 0o020666, os.makedev(1, 3))
    (tmp_path / "a.img").write_bytes(GOOD)
    for path in (tmp_path, fifo, device):
        for arguments in (("ls",), ("add", tmp_path / "a.img")):
            said = program.run("--db", path, *arguments, code=6, timeout=60).stderr
            assert said.startswith(f"imgcat: {path}: ")
    assert not list(tmp_path.glob("device-*"))
    assert not list(tmp_path.glob("fifo-*"))


def test_a_path_with_every_kind_of_character(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(GOOD)
    directory = os.fsencode(tmp_path) + b"/a b%20?mode=ro#\xff\n"
    os.mkdir(directory)
    for arguments in (("add", tmp_path / "a.img"), ("ls",), ("db", "check")):
        program.run("--db", directory + b"/c?d#e%41.db", *arguments)
    assert sorted(name for name in os.listdir(directory) if b"-" not in name) == [b"c?d#e%41.db"]


# -- permissions -----------------------------------------------------------


@pytest.fixture
def read_only(program: Program, image: Path) -> Iterator[Path]:
    """A directory with a catalog in WAL mode, neither of which can be written."""
    directory = program.home
    for each in directory.glob("catalog.db-*"):
        each.unlink()
    program.catalog.chmod(0o400)
    directory.chmod(0o555)
    assert image.exists()
    yield directory
    directory.chmod(0o755)


@pytest.mark.fuse
def test_a_read_only_catalog_is_read_and_not_written(
    program: Program, image: Path, read_only: Path, tmp_path: Path
) -> None:
    before = program.catalog.read_bytes()
    assert before[18:20] == b"\2\2", "not in WAL mode"
    mount = tmp_path / "mount"
    program._mounts.append(mount)
    for name in ("state", "run"):
        program.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
        program.environment["XDG_RUNTIME_DIR"] = str(tmp_path / name)
    for arguments, writes in commands(image, mount):
        result = run_confined(program, MODES_HOLD, *arguments, code=6 if writes else 0)
        if writes:
            assert result.stderr == (
                f"imgcat: {program.catalog}: the catalog is read-only: use another with --db\n"
            )
    assert (mount / "a").read_bytes() == b"A" * (8 * BLOCK)
    assert program.catalog.read_bytes() == before


def test_a_catalog_that_may_not_be_read(program: Program, image: Path, tmp_path: Path) -> None:
    program.catalog.chmod(0)
    for arguments, _writes in commands(image, tmp_path / "mount")[1:6:2]:
        said = run_confined(program, MODES_HOLD, *arguments, code=6).stderr
        assert said == f"imgcat: {program.catalog}: Permission denied\n"


def test_a_catalog_in_a_directory_that_may_not_be_entered(
    program: Program, image: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    program.catalog.rename(closed / "catalog.db")
    closed.chmod(0)
    for arguments in (("ls",), ("add", image)):
        # It is not known whether there is one, so nobody is told that there is none.
        said = run_confined(
            program, MODES_HOLD, "--db", closed / "catalog.db", *arguments, code=6
        ).stderr
        assert "Permission denied" in said or "permissions" in said
    closed.chmod(0o755)


def test_a_new_catalog_where_none_can_be_made(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(GOOD)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for path in (closed / "catalog.db", closed / "deeper" / "catalog.db"):
        said = run_confined(
            program, MODES_HOLD, "--db", path, "add", tmp_path / "a.img", code=6
        ).stderr
        assert said.startswith(f"imgcat: {closed}")
        assert "permission" in said.lower()
    assert os.listdir(closed) == []


# -- locks and disks -------------------------------------------------------


def test_a_locked_catalog_is_busy_and_readable(
    program: Program, image: Path, tmp_path: Path
) -> None:
    connection = sqlite3.connect(program.catalog, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    other = tmp_path / "b.img"
    other.write_bytes(GOOD)
    # All of them at once, for each waits for a while.
    waiting = [
        program.start(*arguments)
        for arguments in (("add", other), ("rename", "a", "c"), ("rm", "a"))
    ]
    assert [row["name"] for row in program.json("ls")] == ["a"]
    assert program.sql("SELECT count(*) AS n FROM images") == [{"n": 1}]
    assert program.run("add", image).stdout.startswith("unchanged a")
    for process in waiting:
        _output, said = process.communicate(timeout=60)
        assert process.returncode == 7
        assert said.decode() == (
            f"imgcat: {program.catalog}: another process is writing to the catalog: try again\n"
        )
    connection.execute("ROLLBACK")
    connection.close()
    program.run("add", other)
    assert [row["name"] for row in program.json("ls")] == ["a", "b"]


def test_a_lock_that_is_let_go_in_time_is_waited_for(
    program: Program, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "b.img").write_bytes(GOOD)
    connection = sqlite3.connect(program.catalog, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    process = program.start("add", tmp_path / "b.img")
    time.sleep(2)
    assert process.poll() is None
    connection.execute("COMMIT")
    connection.close()
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


@pytest.mark.loop
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_on_a_full_disk_nothing_is_lost_and_reading_goes_on(
    program: Program, tmp_path: Path, kind: str
) -> None:
    paths = [tmp_path / f"{name}.img" for name in "abc"]
    for number, path in enumerate(paths):
        path.write_bytes(patchy(number).image)
    with small_disk(tmp_path, kind) as disk:
        database = disk / "catalog.db"
        program.run("--db", database, "add", paths[0])
        ballast = fill_up(disk)
        for arguments in (("add", paths[1]), ("rm", "a"), ("rename", "a", "x")):
            said = program.run("--db", database, *arguments, code=6).stderr
            assert said.startswith(f"imgcat: {database}: ")
            assert "full" in said, said
        # Reading needs no space; at least it must not be called anything but what it is.
        listed = program.run("--db", database, "ls", "--json")
        assert [row["name"] for row in json.loads(listed.stdout)] == ["a"]
        assert program.run("--db", database, "db", "check").stdout == "ok\n"

        ballast.unlink()
        assert program.run("--db", database, "db", "check").stdout == "ok\n"
        program.run("--db", database, "add", *paths)
        listed = program.run("--db", database, "ls", "--json")
        assert [row["name"] for row in json.loads(listed.stdout)] == ["a", "b", "c"]


@pytest.mark.loop
def test_a_disk_that_becomes_full_in_the_middle_of_an_add(program: Program, tmp_path: Path) -> None:
    # Random bitmaps do not compress: each image takes 16 KiB of catalog, and as much of its log.
    paths = [tmp_path / f"i{number:02d}.img" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(patchy(number, 1 << 17, block_size=1).image)
    with small_disk(tmp_path, "tmpfs", 1 << 20) as disk:
        database = disk / "catalog.db"
        result = program.run("--db", database, "add", *paths, code=6)
        assert "full" in result.stderr
        added = [line.split()[1].rstrip(":") for line in result.stdout.splitlines()]
        assert 2 < len(added) < 40
        copy = tmp_path / "copy.db"
        for each in disk.glob("catalog.db*"):
            if not each.name.endswith(("-shm", ".lock")):
                shutil.copy(each, tmp_path / each.name.replace("catalog", "copy"))
    assert program.run("--db", copy, "db", "check").stdout == "ok\n"
    listed = program.run("--db", copy, "ls", "--json")
    # What was said to be added is there, and nothing half.
    assert [row["name"] for row in json.loads(listed.stdout)] == added
    program.run("--db", copy, "add", *paths)


# -- garbage ---------------------------------------------------------------


@pytest.fixture
def whole(program: Program, tmp_path: Path) -> bytes:
    """The bytes of a catalog of a few images, in a single file."""
    for number in range(6):
        (tmp_path / f"i{number}.img").write_bytes(patchy(number).image)
    program.run("add", *sorted(tmp_path.glob("i*.img")))
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return program.catalog.read_bytes()


def spoilt(whole: bytes, generator: random.Random) -> bytes:
    """Return a catalog with bytes, a page, or a run of bits changed behind the file's header."""
    data = bytearray(whole)
    kind = generator.randrange(3)
    if kind == 0:
        for _ in range(generator.randrange(1, 40)):
            data[generator.randrange(100, len(data))] = generator.randrange(256)
    elif kind == 1:
        page = generator.randrange(1, len(data) // 4096) * 4096
        data[page : page + 4096] = generator.randbytes(4096)
    else:
        start = generator.randrange(100, len(data) - 300)
        for position in range(start, start + generator.randrange(1, 300)):
            data[position] ^= 1 << generator.randrange(8)
    return bytes(data)


def test_garbage_in_a_catalog_raises_nothing_but_what_is_said(
    whole: bytes, program: Program, tmp_path: Path
) -> None:
    generator = random.Random(20261121)
    program.catalog.unlink()
    for number in range(90):
        path = tmp_path / f"spoilt-{number}.db"
        path.write_bytes(spoilt(whole, generator))
        with contextlib.suppress(CatalogError), Catalog.open(str(path), write=False) as catalog:
            _use(catalog)
        with contextlib.suppress(CatalogError), Catalog.open(str(path)) as catalog:
            for image_id in (1, 4):
                with contextlib.suppress(CatalogError):
                    rescan(catalog, image_id)
            with contextlib.suppress(CatalogError):
                add_file(catalog, str(tmp_path / "i2.img"), force=True)
            with contextlib.suppress(CatalogError):
                catalog.remove([3])
        assert path.exists()
        for each in tmp_path.glob(f"{path.name}*"):
            each.unlink()


def _use(catalog: Catalog) -> None:
    """Do what reading commands and a mount do, each of which may say that it cannot."""
    with contextlib.suppress(CatalogError):
        observed = Observed(catalog.list_images(), catalog.parts())
        for row, _volumes in catalog.list_images():
            observed.status(row.id)
    with contextlib.suppress(CatalogError):
        check(catalog.database)
    with contextlib.suppress(CatalogError):
        mount_entries(catalog)
    for image_id in range(1, 7):
        with contextlib.suppress(CatalogError):
            catalog.get(image_id)
        try:
            reader = open_watched(catalog, image_id)
        except Exception as error:
            if not is_expected(error):
                raise
            continue
        try:
            reader.read_into(memoryview(bytearray(BLOCK)), 17 * BLOCK)
        except Exception as error:
            if not is_expected(error):
                raise
        finally:
            reader.close()


def test_garbage_in_a_catalog_is_told_without_a_traceback(
    whole: bytes, program: Program, tmp_path: Path
) -> None:
    page = 4096
    spoilings = {
        "every page but the first": (page, random.Random(1).randbytes(len(whole) - page)),
        "the schema's text": (
            whole.index(b'CREATE TABLE "images"') + 7, b"\xff\xfe\xfd TABLE imagine",
        ),
        "the first page": (100, bytes(page - 100)),
    }  # fmt: skip
    for name, (offset, garbage) in spoilings.items():
        data = bytearray(whole)
        data[offset : offset + len(garbage)] = garbage
        program.catalog.write_bytes(data)
        for arguments in (("ls",), ("add", "--force", tmp_path / "i1.img"), ("db", "check")):
            result = subprocess.run(
                [sys.executable, "-m", "imgcat", *map(str, arguments)], env=program.environment,
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert result.returncode in {5, 6}, (name, arguments, result.stderr)
            assert "Traceback" not in result.stderr, (name, arguments)
            assert str(program.catalog) in result.stderr + result.stdout or "integrity" in (
                result.stdout
            ), (name, arguments)
        assert program.catalog.exists(), name
        assert len(program.catalog.read_bytes()) >= len(data) // 2


def test_a_check_of_a_damaged_catalog_says_what_is_damaged(whole: bytes, program: Program) -> None:
    # In an index of the database, so that its tables can still be read.
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_images_fingerprint'"
        ).fetchone()
    data = bytearray(whole)
    data[(page - 1) * 4096 + 8 : page * 4096] = bytes(4096 - 8)
    program.catalog.write_bytes(data)
    result = program.run("db", "check", code=5)
    assert "integrity: " in result.stdout
    assert "Traceback" not in result.stderr


# -- SQL -------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM images",
        "CREATE TEMP TABLE t (x)",
        "PRAGMA user_version = 5",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO 'elsewhere.db'",
        "ATTACH 'elsewhere.db' AS elsewhere",
        "ATTACH 'file:elsewhere.db?mode=rwc' AS elsewhere",
        "BEGIN IMMEDIATE",
        "SELECT 1; DELETE FROM images",
        "SELECT load_extension('x')",
    ],
)
def test_sql_writes_nothing_anywhere(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with Catalog.open(str(program.catalog), create=True) as catalog:
        (tmp_path / "a.img").write_bytes(GOOD)
        add_file(catalog, str(tmp_path / "a.img"))
    before = program.catalog.read_bytes()
    said = program.run("sql", statement, code=2).stderr
    assert "QUERY" in said
    assert "Traceback" not in said
    assert sorted(os.listdir(tmp_path)) == ["a.img", "home"]
    assert program.catalog.read_bytes() == before


def test_sql_of_any_bytes_is_an_error_and_no_bug(program: Program, image: Path) -> None:
    assert image.exists()
    for query in (b"SELECT '\xff'", b"SELECT '\xed\xa0\x80'"):
        assert b"Traceback" not in _fed(program, query, 0, 2)
    assert b"Traceback" not in _fed(program, b"SELECT 1\0; DROP TABLE images", 2)
    result = subprocess.run(
        [sys.executable, "-m", "imgcat", "sql", b"SELECT '\xff' AS x"], env=program.environment,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert b"Traceback" not in result.stderr
    assert result.returncode in {0, 2}


def _fed(program: Program, query: bytes, *codes: int) -> bytes:
    """Give a query on standard input, and return what is said."""
    result = subprocess.run(
        [sys.executable, "-m", "imgcat", "sql", "-"], env=program.environment, input=query,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode in codes, result.stderr.decode(errors="replace")
    return result.stdout + result.stderr


def test_sql_values_of_every_kind(program: Program, image: Path) -> None:
    assert image.exists()
    query = "SELECT x'00ff' AS b, NULL AS n, 1.5 AS f, -9223372036854775808 AS i, 'ä\n\"' AS t"
    assert program.sql(query) == [
        {"b": "00ff", "n": None, "f": 1.5, "i": -(2**63), "t": 'ä\n"'},
    ]
    assert program.run("sql", "--csv", query).stdout == (
        'b,n,f,i,t\n00ff,,1.5,-9223372036854775808,"ä\n"""\n'
    )
    table = program.run("sql", query).stdout.splitlines()
    assert table[1].split() == ["x'00ff'", "-", "1.5", "-9223372036854775808", 'ä\\n"']
    assert len(program.sql("SELECT fingerprint FROM images")[0]["fingerprint"]) == 32
    assert program.run("sql", "SELECT 1 WHERE 0").stdout == "1\n"
    assert program.sql("SELECT 1 WHERE 0") == []
    # Strict JSON knows no infinity.
    text = program.run("sql", "--json", "SELECT 9e999 AS huge, -9e999 AS low").stdout
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


MANY = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {}) SELECT x FROM n"


@pytest.mark.parametrize(
    ("form", "buffered"), [("--csv", True), ("--json", False), (None, True), (None, False)]
)
def test_a_closed_pipe_ends_a_huge_output_quietly(
    program: Program, image: Path, form: str | None, buffered: bool
) -> None:
    assert image.exists()
    environment = {k: v for k, v in program.environment.items() if k != "PYTHONUNBUFFERED"}
    process = program.start(
        "sql", *([form] if form else []), MANY.format(100_000),
        env=environment if buffered else environment | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 141


def computed(pid: int) -> float:
    """Return the seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_endless_query_can_be_interrupted(program: Program, image: Path) -> None:
    assert image.exists()
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT count(*) FROM n"
    process = program.start("sql", endless)
    try:
        wait_until(lambda: computed(process.pid) > 1, "it computes", 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_version_that_cannot_be_written(program: Program, unbuffered: str) -> None:
    environment = {**program.environment, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        process = program.start("--version", stdout=full, env=environment)
        _out, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    assert errors == b"imgcat: standard output: No space left on device\n"


def test_a_full_disk_behind_the_output_is_told(program: Program, image: Path) -> None:
    assert image.exists()
    environment = {k: v for k, v in program.environment.items() if k != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        process = program.start("ls", stdout=full, env=environment)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode != 0
    assert said.strip() != ""
    assert "Traceback" not in said
    assert "No space left on device" in said
