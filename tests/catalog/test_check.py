"""`db check`: every kind of index, spoilt in every way that it is looked at for."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.adding.put import put
from imgcat.catalog.adding.scan import How, scan_file
from imgcat.catalog.database.check import check
from imgcat.catalog.store import Catalog
from support.old_shelf import write_shelf
from support.streams import packed
from support.virtual_disks import qemu_img, write_raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with every kind of index, and compressed streams with windows."""
    directory = tmp_path_factory.mktemp("shelf")
    write_shelf(directory)
    (directory / "windows.img.zst").write_bytes(packed("zstd", "partclone"))
    raw = write_raw(directory / "raw", 3 << 20, seed=1)
    how = "extended_l2=on,cluster_size=64k"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", how, raw, directory / "disk.qcow2")
    path = directory / "c.db"
    with Catalog.open(str(path), create=True) as catalog:
        for name in ("packed.img.xz", "volumes.000", "windows.img.zst", "disk.qcow2"):
            put(catalog, scan_file(str(directory / name), how=How(spacing=256 << 10)))
        assert all(each.ingested for each in add_directory(catalog, str(directory / "laptop")))
        assert check(catalog.database) == []
        with catalog.database.raw() as connection:
            kinds = {kind for (kind,) in connection.execute("SELECT kind FROM indexes")}
            assert kinds == {"rank", "ranges", "map", "segments"}
            (windows,) = connection.execute(
                "SELECT count(*) FROM seek_points WHERE length(window) > 0"
            ).fetchone()
            assert windows
    return path


def test_nothing_is_wrong_with_a_compressed_image_in_several_files(tmp_path: Path) -> None:
    stream = packed("zstd", "partclone")
    for number, start in enumerate(range(0, len(stream), 200_000)):
        (tmp_path / f"split.img.zst.a{'abcdefghij'[number]}").write_bytes(
            stream[start : start + 200_000]
        )
    with Catalog.open(str(tmp_path / "c.db"), create=True) as catalog:
        record = put(catalog, scan_file(str(tmp_path / "split.img.zst.aa"))).record
        assert len(record.volumes) > 1
        assert check(catalog.database) == []


@pytest.fixture
def connection(whole: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of it that anything can be written to."""
    copy = tmp_path / "c.db"
    copy.write_bytes(whole.read_bytes())
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as opened:
        yield opened


SPOILT = {
    "rank-chunk-gone": ("DELETE FROM rank_chunks WHERE index_id = 1", "packed", "chunk 0 is"),
    "rank-wrong": ("UPDATE rank_chunks SET rank = 5 WHERE index_id = 1", "packed", "at rank 5"),
    "rank-bits": (
        ("UPDATE rank_chunks SET bitmap = (SELECT bitmap FROM rank_chunks WHERE index_id = 2)"
        " WHERE index_id = 1"), "packed", "unpacks to",
    ),
    "rank-count": ("UPDATE images SET used_blocks = 7 WHERE id = 1", "packed", "7 are used"),
    "range-gone": (
        "DELETE FROM cluster_ranges WHERE first_cluster = 60", "laptop/sda2", "it has 40 clusters",
    ),
    "range-overlaps": (
        "UPDATE cluster_ranges SET cluster_count = 70 WHERE first_cluster = 0", "laptop/sda2",
        "cannot be after 70",
    ),
    "range-outside": (
        "UPDATE cluster_ranges SET cluster_count = 400 WHERE first_cluster = 60", "laptop/sda2",
        "[60, 460) cannot be",
    ),
    "range-elsewhere": (
        "UPDATE cluster_ranges SET source_offset = 1 << 40", "laptop/sda2", "at byte 1099511627776",
    ),
    "map-gone": ("DELETE FROM map_chunks", "disk.qcow2", "it has 0 units"),
    "map-damaged": ("UPDATE map_chunks SET runs = X'00112233'", "disk.qcow2", "add the image"),
    "map-behind": ("UPDATE map_chunks SET chunk = 9", "disk.qcow2", "reaches behind the end"),
    "map-elsewhere": (
        "UPDATE images SET layout = json_set(layout, '$.data_stop', 9) WHERE format = 'qcow2'",
        "disk.qcow2", "of 9",
    ),
    "no-first-point": (
        "DELETE FROM seek_points WHERE stream_id = 2 AND plain_offset = 0", "windows",
        "no first seek point",
    ),
    "point-behind": (
        ("UPDATE seek_points SET plain_offset = 1 << 40 WHERE stream_id = 2 AND plain_offset ="
        " (SELECT max(plain_offset) FROM seek_points WHERE stream_id = 2)"), "windows",
        "a seek point at plain byte 1099511627776",
    ),
    "point-outside": (
        ("UPDATE seek_points SET stored_offset = 1 << 40 WHERE stream_id = 2 AND plain_offset ="
        " (SELECT max(plain_offset) FROM seek_points WHERE stream_id = 2)"), "windows",
        "a seek point at byte 1099511627776",
    ),
    "points-back": (
        ("UPDATE seek_points SET stored_offset = 100000000 WHERE stream_id = 2"
        " AND plain_offset = 0"), "windows", "leads back",
    ),
    "window-damaged": (
        "UPDATE seek_points SET window = X'00112233' WHERE length(window) > 0", "windows",
        "the window of the seek point",
    ),
    "window-of-another-size": (
        "UPDATE seek_points SET window_bytes = window_bytes + 1 WHERE length(window) > 0",
        "windows", "the window of the seek point",
    ),
    "span": ("UPDATE streams SET span_bytes = 1 WHERE id = 2", "windows", "1 is said"),
    "hashes-gone": (
        "DELETE FROM page_hashes WHERE stream_id = 2", "windows", "page hashes are missing",
    ),
    "hashes-of-another": (
        ("UPDATE page_hashes SET hashes = (SELECT hashes FROM page_hashes WHERE stream_id = 1)"
        " WHERE stream_id = 2"), "windows", "of group 0 are not whole",
    ),
    "hashes-damaged": (
        "UPDATE page_hashes SET hashes = X'00' WHERE stream_id = 2", "windows", "add the image",
    ),
    "stream-gone": ("DELETE FROM streams WHERE id = 2", "windows", "0 streams"),
    "stream-numbered": ("UPDATE streams SET ordinal = 3 WHERE id = 2", "windows", "0 is missing"),
    "stream-of-other-files": (
        "UPDATE streams SET stored_bytes = 5 WHERE id = 2", "windows", "has 5 bytes",
    ),
    "segment-overlaps": (
        "UPDATE segments SET stop_byte = 30000 WHERE start_byte = 0", "laptop/sda.disk",
        "literal bytes",
    ),
    "segment-outside": (
        "UPDATE segments SET stop_byte = 1 << 40 WHERE child_name = 'sda2'", "laptop/sda.disk",
        "cannot be after",
    ),
    "segment-literal": (
        "UPDATE segments SET literal = X'1234' WHERE start_byte = 0", "laptop/sda.disk", "damaged",
    ),
    "segment-offset": (
        "UPDATE segments SET child_offset = -1 WHERE child_name = 'sda2'", "laptop/sda.disk",
        "begin at -1 of sda2",
    ),
    "segment-of-another-content": (
        "UPDATE indexes SET content_key = 17 WHERE kind = 'ranges'", "laptop/sda.disk",
        "sda2 was scanned anew",
    ),
    "kind": ("UPDATE indexes SET kind = 'what' WHERE id = 1", "packed", "unknown kind 'what'"),
    "full": ("UPDATE indexes SET kind = 'full' WHERE id = 1", "packed", "without an index"),
    "keys-alike": (
        "UPDATE indexes SET content_key = 5 WHERE kind = 'rank'", "indexes", "the key 5",
    ),
    "no-key": ("UPDATE indexes SET content_key = 0 WHERE id = 1", "indexes", "the key 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_spoilt_is_told(what: str, connection: sqlite3.Connection, tmp_path: Path) -> None:
    statement, name, detail = SPOILT[what]
    assert connection.execute(statement).rowcount > 0
    with Catalog.open(str(tmp_path / "c.db")) as catalog:
        problems = check(catalog.database)
    assert any(name in problem and detail in problem for problem in problems), problems
