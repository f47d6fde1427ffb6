"""The range index in the catalog: rows to ask, windows to load, and never zeros in their place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.database import pieces
from imgcat.catalog.opening.open import open_by_name, open_image
from imgcat.catalog.store import Catalog
from imgcat.formats.files import detect
from imgcat.formats.index.ranges import WINDOW_CLUSTERS
from imgcat.formats.index.rank_chunk import ChunkMissingError
from imgcat.formats.reader import read_bytes
from imgcat.formats.sources.file import FileSource
from support.ntfsclone_writer import Recipe, Written, write
from support.statements import statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from support.program import Program

_COUNT = 2 * WINDOW_CLUSTERS + 100
_RECIPE = Recipe(
    # The second run reaches from the first window into the second.
    order=[*range(100), *range(16_000, 17_000), *range(30_000, 30_500, 2)],
    cluster_count=_COUNT,
)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    found = write(_RECIPE)
    (tmp_path / "c.img").write_bytes(found.image)
    return found


@pytest.fixture
def catalog(tmp_path: Path, written: Written) -> Iterator[Catalog]:
    with Catalog.open(str(tmp_path / "catalog.db"), create=True) as opened:
        add_file(opened, str(tmp_path / "c.img"))
        yield opened


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every read of any file, from now on."""
    seen: list[tuple[str, int]] = []
    for name in ("readv", "readv_nowait"):

        def noted(
            self: FileSource, buffers: Sequence[memoryview], offset: int,
            *, _original: object = getattr(FileSource, name), _name: str = name,
        ) -> object:  # fmt: skip
            seen.append((_name, offset))
            return _original(self, buffers, offset)  # type: ignore[operator]

        monkeypatch.setattr(FileSource, name, noted)
    original = FileSource.read_at

    def read_at(self: FileSource, offset: int, length: int) -> bytes:
        seen.append(("read_at", offset))
        return original(self, offset, length)

    monkeypatch.setattr(FileSource, "read_at", read_at)
    return seen


def test_ranges_are_rows(catalog: Catalog, written: Written) -> None:
    with catalog.database.asking() as connection:
        rows = connection.execute(
            "SELECT first_cluster, cluster_count, source_offset FROM cluster_ranges"
            " JOIN images USING (index_id) WHERE name = 'c' ORDER BY first_cluster"
        ).fetchall()
    offsets = {cluster: offset + 1 for cluster, offset in written.records}
    expected = [(0, 100), (16_000, 1000), *((n, 1) for n in range(30_000, 30_500, 2)), (_COUNT, 1)]
    assert rows == [(first, count, offsets[first]) for first, count in expected]
    record = catalog.get(1)
    cost = catalog.cost(1)
    assert (record.index_kind, cost.index_rows) == ("ranges", len(expected))
    assert cost.index_bytes == 24 * len(expected)


def test_opening_reads_nothing_and_a_window_is_one_statement(
    catalog: Catalog, written: Written, reads: list[tuple[str, int]]
) -> None:
    with statements(catalog) as seen:
        image = open_image(catalog, 1)
        assert len(seen) == 1
        assert reads == []
        # Across the border of two windows: one statement each, and one read for the run.
        start = 16_100 * 512
        assert read_bytes(image.reader, start, 400_000) == written.guest[start:][:400_000]
        assert len(seen) == 3
        assert len(reads) == 1
        assert read_bytes(image.reader, start + 7, 100) == written.guest[start + 7 :][:100]
        assert not any(read_bytes(image.reader, 150 * 512, 100_000))
        assert len(seen) == 3
        assert len(reads) == 2
    image.close()


def test_every_window_equals_the_guest(catalog: Catalog, written: Written) -> None:
    with open_by_name(catalog, "c") as image:
        assert image.read(0, image.size) == written.guest
        assert image.info.format == "ntfsclone"


@pytest.mark.parametrize("start", [0, 50, 99, 100, 16_000, 16_500, 16_999, 17_000, 30_001, _COUNT])
@pytest.mark.parametrize("length", [1, 2, 1000, WINDOW_CLUSTERS])
def test_what_a_statement_finds(catalog: Catalog, start: int, length: int) -> None:
    found = catalog.load_ranges(1, start, start + length)
    whole = catalog.load_ranges(1, 0, _COUNT + 1)
    assert len(whole) == 253
    assert list(found.overlapping(start, start + length)) == list(
        whole.overlapping(start, start + length)
    )
    # At most one more, which ends before.
    assert len(found) - len(list(whole.overlapping(start, start + length))) in {0, 1}


def test_the_statement_goes_by_key(catalog: Catalog) -> None:
    with catalog.database.asking() as connection:
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {pieces._WINDOW}", (1, None, 5, 9)
        ).fetchall()
    said = [row[3] for row in plan]
    assert all("SCAN" not in line and "TEMP B-TREE" not in line for line in said), said


def test_a_deleted_index_is_an_error_and_never_zeros(catalog: Catalog) -> None:
    image = open_image(catalog, 1)
    assert any(read_bytes(image.reader, 0, 100))
    with catalog.database.raw() as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM cluster_ranges")
        connection.execute("DELETE FROM indexes")
    # A window that was loaded before, and one that was not; stored or not.
    assert any(read_bytes(image.reader, 0, 100))
    for cluster in (WINDOW_CLUSTERS, 29_999, _COUNT):
        assert not image.reader.read_into_nowait(memoryview(bytearray(10)), cluster * 512)
        with pytest.raises(ChunkMissingError):
            read_bytes(image.reader, cluster * 512, 10)
    image.close()


def test_an_image_that_stores_nothing_there_is_no_deleted_index(tmp_path: Path) -> None:
    found = write(Recipe(order=[0], cluster_count=3 * WINDOW_CLUSTERS))
    (tmp_path / "empty.img").write_bytes(found.image)
    with Catalog.open(str(tmp_path / "other.db"), create=True) as catalog:
        add_file(catalog, str(tmp_path / "empty.img"))
        with open_by_name(catalog, "empty") as image:
            assert image.read(WINDOW_CLUSTERS * 512, 5000) == bytes(5000)


def test_adding_again_scans_nothing(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "open_files", None)
    added = add_file(catalog, str(tmp_path / "c.img"))
    assert added.outcome is Outcome.UNCHANGED


@pytest.mark.fuse
def test_a_second_mount_scans_nothing(program: Program, tmp_path: Path, written: Written) -> None:
    program.run("add", tmp_path / "c.img")
    scanned = program.sql("SELECT scanned_at, index_id FROM images")
    # A scan would fail now; size and time are as they were.
    status = (tmp_path / "c.img").stat()
    with (tmp_path / "c.img").open("r+b") as file:
        file.write(b"not an image")
    os.utime(tmp_path / "c.img", ns=(0, status.st_mtime_ns))
    for name in ("first", "second"):
        mount = program.mount_all(tmp_path / name)
        assert (mount / "c").read_bytes() == written.guest
        program.run("unmount", mount)
    assert program.sql("SELECT scanned_at, index_id FROM images") == scanned
