"""Seek points in the catalog: made anew when they are of another version, or damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.batch import Options, add_files
from imgcat.catalog.adding.put import Outcome, put
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.adding.scan import How, scan_file
from imgcat.catalog.errors import ImageChangedError
from imgcat.catalog.opening.open import open_image
from imgcat.catalog.store import Catalog
from imgcat.formats.errors import FormatError
from imgcat.formats.index.rank_chunk import ChunkMissingError
from imgcat.formats.reader import read_bytes
from support.statements import statements_of_this_thread
from support.streams import packed, plain_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imgcat.catalog.records import ImageRecord


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "catalog.db", create=True, write=True) as opened:
        yield opened


@pytest.fixture
def image(catalog: Catalog, tmp_path: Path) -> ImageRecord:
    path = tmp_path / "a.img.gz"
    path.write_bytes(packed("gzip", "partclone"))
    return add_file(catalog, str(path)).record


def _spoil(catalog: Catalog, statement: str) -> None:
    with catalog.database.writing() as connection:
        assert connection.exec_driver_sql(statement).rowcount > 0


def _read(catalog: Catalog, image: ImageRecord) -> bytes:
    opened = open_image(catalog, image.row.id)
    try:
        return read_bytes(opened.reader, 0, opened.reader.size)
    finally:
        opened.close()


def test_points_of_another_version_are_made_anew(catalog: Catalog, image: ImageRecord) -> None:
    _spoil(catalog, "UPDATE streams SET index_version = 0")
    with pytest.raises(ImageChangedError, match=r"imgcat rescan a"):
        _read(catalog, image)
    found = rescan(catalog, image.row.id)
    assert found.outcome is Outcome.UPDATED
    assert found.record.index_id > image.index_id
    assert _read(catalog, image) == plain_image("partclone").guest
    with catalog.database.writing() as connection:
        rows = connection.exec_driver_sql("SELECT DISTINCT index_id FROM streams").fetchall()
    assert [tuple(row) for row in rows] == [(found.record.index_id,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE page_hashes SET hashes = x'00'",
        "UPDATE page_hashes SET hashes = zeroblob(length(hashes))",
        "UPDATE seek_points SET stored_offset = stored_offset + 1",
        "DELETE FROM page_hashes",
        "DELETE FROM seek_points",
    ],
)
def test_damaged_points_are_told_and_made_anew(
    catalog: Catalog, image: ImageRecord, statement: str
) -> None:
    _spoil(catalog, statement)
    # Never other bytes.
    with pytest.raises((FormatError, ChunkMissingError)):
        _read(catalog, image)
    path = image.row.path
    (result,) = add_files(catalog, [path], options=Options(force=True))
    assert result.ingested is not None
    assert _read(catalog, image) == plain_image("partclone").guest


def test_what_is_decoded_is_read_without_a_word_to_the_catalog(
    catalog: Catalog, tmp_path: Path
) -> None:
    """In the event loop: a reader that goes on, whose spans are many and all decoded."""
    path = tmp_path / "a.img.lz4"
    path.write_bytes(packed("lz4-small", "partclone"))
    image = put(catalog, scan_file(str(path), how=How(spacing=64 << 10))).record
    assert catalog.cost(image.row.id).streams[0].point_count > 40
    guest = plain_image("partclone").guest
    opened = open_image(catalog, image.row.id)
    try:
        assert read_bytes(opened.reader, 0, opened.reader.size) == guest
        view = memoryview(bytearray(16 << 10))
        with statements_of_this_thread(catalog) as seen:
            for offset in range(0, len(guest), len(view)):
                assert opened.reader.read_into_nowait(view, offset)
                assert view == guest[offset : offset + len(view)]
        assert seen == []
    finally:
        opened.close()
