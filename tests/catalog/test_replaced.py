"""A catalog that is overwritten in place while it is open: its pages are never taken for both."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.database.check import check
from imgcat.catalog.database.identity import Identity, Original
from imgcat.catalog.errors import CatalogReplacedError, CatalogSchemaError
from imgcat.catalog.store import Catalog
from imgcat.formats.index.rank_chunk import ChunkMissingError
from support.partclone_writer import Recipe, write
from support.program import wait_until

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = 4096
FILES = 6


class Chunk(NamedTuple):
    """What a reader that opened an image asks by, and what it must be given."""

    index_id: int
    content_key: int
    bitmap: bytes


class Two:
    """Two catalogs of the same files, whose ids are another's in the other."""

    def __init__(self, directory: Path) -> None:
        rng = random.Random(11)
        files = []
        for number in range(FILES):
            present = [rng.random() < 0.5 for _ in range(BLOCKS)]
            files.append(directory / f"i{number}.img")
            files[-1].write_bytes(write(Recipe(present=present, block_size=512)).image)
        self.databases = [directory / "one.db", directory / "two.db"]
        self.chunks: list[list[Chunk]] = []
        for path, order in zip(self.databases, (files, files[::-1]), strict=True):
            with Catalog.open(str(path), create=True) as made:
                records = [add_file(made, str(each)).record for each in order]
                found = []
                for record in records:
                    spec = made.open_spec(record.row.id)
                    bitmap = made.load_chunk(record.index_id, 0).bitmap
                    found.append(Chunk(record.index_id, spec.content_key, bitmap))
            self.chunks.append(found)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("two"))


def test_ids_are_another_s_in_the_other(two: Two) -> None:
    first, second = two.chunks
    assert [each.index_id for each in first] == [each.index_id for each in second]
    assert [each.bitmap for each in first] == [each.bitmap for each in reversed(second)]
    assert not {each.content_key for each in first} & {each.content_key for each in second}


def test_everybody_who_asks_is_told(two: Two, tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    shutil.copyfile(two.databases[0], path)
    with Catalog.open(str(path), write=False) as catalog:
        follower = catalog.follow()
        follower.version()
        # Connections that have kept pages: as many as are kept.
        with catalog.database.asking(), catalog.database.asking(), catalog.database.asking():
            catalog.list_images()
        shutil.copyfile(two.databases[1], path)
        for chunk in two.chunks[0]:
            with pytest.raises(CatalogReplacedError):
                catalog.load_chunk(chunk.index_id, 0, content_key=chunk.content_key)
            with pytest.raises(CatalogReplacedError):
                follower.version()
        catalog.take_what_is_there()
        follower.close()
        follower.version()
        for old, new in zip(*two.chunks, strict=True):
            with pytest.raises(ChunkMissingError):
                catalog.load_chunk(old.index_id, 0, content_key=old.content_key)
            found = catalog.load_chunk(new.index_id, 0, content_key=new.content_key)
            assert found.bitmap == new.bitmap
        follower.close()


def test_a_file_that_has_little_of_what_its_log_had_is_no_other(two: Two, tmp_path: Path) -> None:
    """Its first page, which comes first, tells of pages that are written after it."""
    path = tmp_path / "catalog.db"
    shutil.copyfile(two.databases[0], path)
    whole = path.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    with Catalog.open(str(path), write=False) as catalog:
        follower = catalog.follow()
        before = follower.version()
        with path.open("r+b") as file:
            file.truncate(page)
        found = []
        thread = threading.Thread(target=lambda: found.append(follower.version()))
        thread.start()
        # Longer than a file takes to be thought settled.
        time.sleep(0.4)
        assert thread.is_alive()
        with path.open("r+b") as file:
            file.seek(page)
            file.write(whole[page:])
        thread.join(30)
        assert found == [before]
        for chunk in two.chunks[0]:
            found_chunk = catalog.load_chunk(chunk.index_id, 0, content_key=chunk.content_key)
            assert found_chunk.bitmap == chunk.bitmap
        path.write_bytes(bytes(page))
        with pytest.raises(CatalogReplacedError):
            follower.version()
        follower.close()


def test_a_log_that_is_written_back_in_part_makes_no_other_catalog(
    two: Two, tmp_path: Path
) -> None:
    """While somebody reads, nothing is written back of pages that have changed since."""
    path = tmp_path / "catalog.db"
    shutil.copyfile(two.databases[0], path)
    originals = [Original(str(path), _identity_of(path)) for _ in range(2)]
    assert originals[0].is_there()
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("CREATE TABLE large (x)")
        for _ in range(5):
            writer.execute("INSERT INTO large VALUES (randomblob(9000))")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM large").fetchone()
        writer.execute("UPDATE large SET x = randomblob(9000)")
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        head = path.read_bytes()[:100]
        says = int.from_bytes(head[16:18], "big") * int.from_bytes(head[28:32], "big")
        assert path.stat().st_size < says
        # It stays so for as long as the reader does.
        long_ago = time.time() - 10
        os.utime(path, (long_ago, long_ago))
        for each in originals:
            assert each.is_there()
        # Half of another one is another one.
        other = two.databases[1].read_bytes()
        path.write_bytes(other[: path.stat().st_size])
        os.utime(path, (long_ago, long_ago + 1))
        for each in originals:
            assert not each.is_there()


def _identity_of(path: Path) -> Identity:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((key,),) = connection.execute("SELECT key FROM identity")
    status = path.stat()
    return Identity(status.st_dev, status.st_ino, key)


def test_a_writer_writes_into_no_other(two: Two, tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    shutil.copyfile(two.databases[0], path)
    with Catalog.open(str(path)) as catalog:
        catalog.rename(1, "first")
        with catalog.database.raw() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(two.databases[1], path)
        for number in (1, 2):
            with pytest.raises(CatalogReplacedError):
                catalog.rename(number, f"another{number}")
    assert path.read_bytes() == two.databases[1].read_bytes()
    with Catalog.open(str(path)) as catalog:
        assert check(catalog.database) == []


def test_no_bitmap_is_another_image_s_while_they_are_exchanged(two: Two, tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    shutil.copyfile(two.databases[0], path)
    wrong: list[str] = []
    given = [0, 0]
    is_over = threading.Event()

    def ask(catalog: Catalog, rng: random.Random) -> None:
        while not is_over.is_set():
            of = rng.randrange(2)
            chunk = rng.choice(two.chunks[of])
            try:
                found = catalog.load_chunk(chunk.index_id, 0, content_key=chunk.content_key)
            except (CatalogReplacedError, ChunkMissingError, CatalogSchemaError):
                # The last: there is half of a catalog while it is copied.
                continue
            given[of] += 1
            if found.bitmap != chunk.bitmap:
                wrong.append(f"index {chunk.index_id} of catalog {of}")

    with Catalog.open(str(path), write=False) as catalog:
        asking = [
            threading.Thread(target=ask, args=(catalog, random.Random(seed))) for seed in range(4)
        ]
        for each in asking:
            each.start()
        try:
            for turn in range(10):
                of = (turn + 1) % 2
                shutil.copyfile(two.databases[of], path)
                time.sleep(0.15)
                catalog.take_what_is_there()
                enough = given[of] + 20
                wait_until(
                    lambda of=of, enough=enough: given[of] > enough,  # type: ignore[misc]
                    "it is asked for what is in it", 30,
                )  # fmt: skip
        finally:
            is_over.set()
            for each in asking:
                each.join(60)
    assert wrong == []
    assert min(given) > 0


def test_a_log_of_another_catalog_is_refused_before_it_is_mixed_in(
    two: Two, tmp_path: Path
) -> None:
    path = tmp_path / "catalog.db"
    shutil.copyfile(two.databases[0], path)
    wal = tmp_path / "catalog.db-wal"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        # Who reads keeps the log from being emptied.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM images").fetchone()
        with Catalog.open(str(path)) as catalog:
            catalog.rename(1, "first")
        log = wal.read_bytes()
    assert log
    for each in tmp_path.glob("catalog.db*"):
        each.unlink()
    shutil.copyfile(two.databases[1], path)
    wal.write_bytes(log)
    for write_too in (False, True):
        with pytest.raises(CatalogSchemaError, match=r"catalog\.db-wal: was written by another"):
            Catalog.open(str(path), write=write_too)
        assert path.read_bytes() == two.databases[1].read_bytes()
        assert wal.read_bytes() == log
    wal.unlink()
    with Catalog.open(str(path)) as catalog:
        assert check(catalog.database) == []


def test_a_catalog_that_is_made_meanwhile_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two make it at once: one looks at its log before the other is through, then at its file."""
    path = tmp_path / "catalog.db"
    is_there, seen = Original.is_there, []
    with Catalog.open(str(tmp_path / "made.db"), create=True) as made:
        key = made.database.identify().key
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as maker:
        maker.execute("PRAGMA journal_mode = WAL")
        # What is written first tells no key; another transaction is under way.
        maker.execute("PRAGMA user_version = 0")

        def made_by_then(original: Original) -> bool:
            seen.append(original.identity.key)
            if len(seen) == 1:
                with contextlib.closing(sqlite3.connect(tmp_path / "made.db")) as source:
                    source.backup(maker)
                maker.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return is_there(original)

        monkeypatch.setattr(Original, "is_there", made_by_then)
        with Catalog.open(str(path)) as catalog:
            assert catalog.list_images() == []
    assert seen[:2] == [None, key]
