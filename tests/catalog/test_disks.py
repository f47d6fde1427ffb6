"""The life of a disk made of partitions' images: added, renewed, moved, opened again."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from imgcat.catalog.adding import clonezilla, compose
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.database import pins
from imgcat.catalog.database.check import check
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.opening.open import open_by_name, open_image, open_watched
from imgcat.catalog.store import Catalog
from imgcat.catalog.upkeep.verify import verify_image
from imgcat.formats.clonezilla import directory as clonezilla_directory
from imgcat.formats.composed.segments import ChildBytes, Segment
from imgcat.formats.extent import check_cover
from imgcat.formats.reader import read_bytes
from support.catalogued_disk import SDA1, SDA2, SIZE, add, observed, offset_and_length, read, record
from support.small_disk import FIRST, SECOND, SECTOR, SmallDisk

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_disk_is_read_as_it_was_saved(catalog: Catalog, saved: SmallDisk) -> None:
    results = add(catalog, saved)
    assert [r.ingested.outcome for r in results] == [Outcome.ADDED] * 3
    assert read(catalog, "laptop/sda.disk") == saved.disk()
    disk = record(catalog, "laptop/sda.disk")
    assert (disk.row.path, disk.row.parent, disk.volumes) == (None, None, ())
    assert (disk.row.format, disk.row.fs_type, disk.row.status) == ("disk", "dos", "ready")
    assert disk.is_composed
    assert [(each.start, each.stop, each.child_name) for each in disk.segments] == [
        (0, SECTOR, None), (SECTOR, FIRST * SECTOR, None), (*SDA1, "sda1"), (*SDA2, "sda2"),
    ]  # fmt: skip
    with contextlib.closing(open_image(catalog, disk.row.id)) as opened:
        check_cover(opened.reader.extents(0, SIZE), 0, SIZE)
        stored = sum(e.length for e in opened.reader.extents(0, SIZE) if e.is_stored)
        assert disk.row.used_bytes == stored
    assert check(catalog.database) == []
    assert len(catalog.list_images()) == 3


def test_what_is_told_in_bytes_that_are_not_utf8(catalog: Catalog, saved: SmallDisk) -> None:
    where = os.fsencode(saved.directory)
    os.rename(saved.second_image, os.path.join(where, b"sd\xff2.ntfs-img"))
    texts = {
        b"sda-pt.sf": b"label: \xfe\n/dev/sda1 : start=40, size=200\n"
        b"/dev/sd\xff2 : start=300, size=110\n/dev/sd\xff3 : start=420, size=9\n",
        b"clonezilla-img": b"Saved by \xfd.\nThis image was saved by X at \xfc.\n",
        b"luks-dev.list": b"/dev/\xfb\n",
    }
    for name, text in texts.items():
        with open(os.path.join(where, name), "wb") as file:
            file.write(text)
    assert all(result.ingested for result in add(catalog, saved))
    catalog.remove([catalog.resolve(os.fsdecode(b"laptop/sd\xff2"))])
    row = record(catalog, "laptop/sda.disk").row
    assert (row.fs_type, row.creator) == (r"\xfe", r"\xfd")
    assert (row.status, row.status_detail) == (
        "damaged", r"sd\xff2 is not in the catalog: its bytes are in doubt",
    )  # fmt: skip
    # Whoever opens the catalog with another program gets UTF-8 too, but for names.
    with catalog.database.raw() as connection:
        (told,) = connection.execute("SELECT clonezilla_version, saved_at FROM image_directories")
        details = {detail for (detail,) in connection.execute("SELECT detail FROM attention")}
        (luks,) = connection.execute("SELECT name FROM directory_facts WHERE kind = 'luks'")
    assert told == (r"\xfd", r"\xfc")
    assert r"sd\xff3 is zeros: there is no image of it" in details
    assert luks == (b"\xfb",)


def test_opening_a_disk_reads_no_text_file(
    catalog: Catalog, saved: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(catalog, saved)
    expected = saved.disk()
    for name in os.listdir(saved.directory):
        if not name.startswith(("sda1.", "sda2.")):
            (saved.directory / name).unlink()
    monkeypatch.setattr(clonezilla_directory, "read_directory", None)
    assert read(catalog, "laptop/sda.disk") == expected


def test_a_partition_that_is_saved_anew_renews_its_disk(catalog: Catalog, saved: SmallDisk) -> None:
    add(catalog, saved)
    before = {entry.name: entry for entry in mount_entries(catalog)}
    verify_image(catalog, catalog.resolve("laptop/sda.disk"))
    opened = open_watched(catalog, before["laptop/sda.disk"].image_id)
    old = saved.disk()
    assert read_bytes(opened, *offset_and_length(SDA1)) == old[slice(*SDA1)]
    saved.save_first(seed=2)
    with pins.pinned(catalog.path):
        # As a daemon does, so that what it has open keeps its index.
        assert rescan(catalog, catalog.resolve("laptop/sda1")).outcome is Outcome.UPDATED
    after = {entry.name: entry for entry in mount_entries(catalog)}
    for name in ("laptop/sda1", "laptop/sda.disk"):
        assert after[name].image_id == before[name].image_id
        # Another inode, and another key for whatever is cached.
        assert after[name].index_id > before[name].index_id
        assert after[name].content_key != before[name].content_key
    assert after["laptop/sda2"] == before["laptop/sda2"]
    assert read(catalog, "laptop/sda.disk") == saved.disk() != old
    disk = record(catalog, "laptop/sda.disk")
    assert (disk.row.verified_at, disk.row.status) == (None, "ready")
    assert check(catalog.database) == []
    # Who had it open goes on with the file that it had open.
    assert read_bytes(opened, 0, SIZE) == old
    opened.close()


def test_a_partition_that_was_touched_is_seen_in_its_disk(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    disk = catalog.resolve("laptop/sda.disk")
    with contextlib.closing(open_watched(catalog, disk)) as reader:
        assert not reader.was_touched
        assert reader.is_current()
        os.utime(saved.first_image)
        assert not reader.is_current()
    with contextlib.closing(open_watched(catalog, disk)) as reader:
        # The kernel must not keep what it has cached of it.
        assert reader.was_touched
        assert read_bytes(reader, 0, SIZE) == saved.disk()


def test_tables_that_were_changed_are_taken_at_a_rescan(catalog: Catalog, saved: SmallDisk) -> None:
    add(catalog, saved)
    before = record(catalog, "laptop/sda.disk")
    old = saved.disk()
    saved.mbr = bytes(reversed(saved.mbr))
    (saved.directory / "sda-mbr").write_bytes(saved.mbr)
    # Until then it is what it was.
    assert read(catalog, "laptop/sda.disk") == old
    result = rescan(catalog, before.row.id)
    assert result.outcome is Outcome.UPDATED
    assert result.record.index_id > before.index_id
    assert read(catalog, "laptop/sda.disk") == saved.disk()


def test_a_directory_that_was_moved_keeps_its_ids_and_leaves_nothing(
    catalog: Catalog, saved: SmallDisk, tmp_path: Path
) -> None:
    add(catalog, saved)
    before = {row.name: row.id for row, _volumes in catalog.list_images()}
    index_id = record(catalog, "laptop/sda.disk").index_id
    saved.directory = saved.directory.rename(tmp_path / "elsewhere")
    outcomes = [result.ingested.outcome for result in add(catalog, saved)]
    assert outcomes == [Outcome.MOVED, Outcome.MOVED, Outcome.UNCHANGED]
    assert {row.name: row.id for row, _volumes in catalog.list_images()} == before
    assert record(catalog, "laptop/sda.disk").index_id == index_id
    with catalog.database.raw() as connection:
        assert connection.execute("SELECT path FROM image_directories").fetchall() == [
            (str(saved.directory),)
        ]
        assert connection.execute("SELECT count(*) FROM directory_images").fetchone() == (3,)
    assert observed(catalog, "laptop/sda.disk") == "ready"
    assert read(catalog, "laptop/sda.disk") == saved.disk()
    assert rescan(catalog, before["laptop/sda.disk"]).outcome is Outcome.UNCHANGED


def test_a_copy_of_a_directory_is_another_one(
    catalog: Catalog, saved: SmallDisk, tmp_path: Path
) -> None:
    add(catalog, saved)
    shutil.copytree(saved.directory, tmp_path / "copy")
    list(add_directory(catalog, str(tmp_path / "copy")))
    names = {row.name for row, _volumes in catalog.list_images()}
    assert len(names) == 6
    with catalog.database.raw() as connection:
        assert connection.execute("SELECT count(*) FROM image_directories").fetchone() == (2,)


def test_a_file_system_on_the_whole_disk_without_a_table(
    catalog: Catalog, saved: SmallDisk
) -> None:
    """Only the image tells the size of the disk; the catalog keeps it."""
    for path in saved.directory.iterdir():
        if path != saved.first_image:
            path.unlink()
    saved.first_image.rename(saved.directory / "sda.ext4-ptcl-img.uncomp")
    (saved.directory / "disk").write_text("sda\n")
    (saved.directory / "parts").write_text("sda\n")
    (saved.directory / "sda-chs.sf").write_text("cylinders=1\nheads=1\nsectors=1\n")
    results = add(catalog, saved)
    assert all(result.ingested for result in results)
    assert read(catalog, "laptop/sda.disk") == saved.guests["sda1"]
    disk = catalog.resolve("laptop/sda.disk")
    assert rescan(catalog, disk).outcome is Outcome.UNCHANGED
    assert verify_image(catalog, disk).ok


def test_the_facts_are_what_is_served(catalog: Catalog, saved: SmallDisk) -> None:
    """An old table names no sector size, and parted does: one parser, one result."""
    (saved.directory / "sda-pt.parted").write_text(
        "Disk /dev/sda: 500s\nSector size (logical/physical): 4096B/4096B\n"
    )
    add(catalog, saved)
    with catalog.database.raw() as connection:
        starts = connection.execute(
            "SELECT name, detail ->> 'start' FROM directory_facts WHERE kind = 'table_row'"
        ).fetchall()
        sector_size = connection.execute(
            "SELECT detail ->> 'sector_size' FROM directory_facts WHERE kind = 'partition_table'"
        ).fetchone()
    disk = record(catalog, "laptop/sda.disk")
    served = [(each.child_name, each.start) for each in disk.segments if each.child_name]
    assert starts == served == [("sda1", FIRST * 4096), ("sda2", SECOND * 4096)]
    assert sector_size == (4096,)


def test_the_facts_follow_no_link_out_of_the_directory(
    catalog: Catalog, saved: SmallDisk, tmp_path: Path
) -> None:
    table = saved.directory / "sda-pt.sf"
    outside = table.rename(tmp_path / "outside.sf")
    table.symlink_to(outside)
    add(catalog, saved)
    with catalog.database.raw() as connection:
        kinds = connection.execute(
            "SELECT DISTINCT kind FROM directory_facts WHERE kind IN ('table_row', 'problem')"
        ).fetchall()
    assert kinds == [("problem",)]


def test_it_is_the_same_after_the_catalog_was_opened_again(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    catalog.close()
    with Catalog.open(catalog.path, write=False) as again:
        assert read(again, "laptop/sda.disk") == saved.disk()
        with contextlib.closing(open_by_name(again, "laptop/sda.disk")) as image:
            assert image.read(0, SIZE) == saved.disk()


def test_a_partition_may_be_added_alone_before(catalog: Catalog, saved: SmallDisk) -> None:
    add_file(catalog, str(saved.second_image), name="windows")
    add(catalog, saved)
    assert {row.name for row, _v in catalog.list_images()} == {
        "windows", "laptop/sda1", "laptop/sda.disk",
    }  # fmt: skip
    assert read(catalog, "laptop/sda.disk") == saved.disk()
    clonezilla_rows = catalog.parts()[catalog.resolve("laptop/sda.disk")]
    assert catalog.resolve("windows") in clonezilla_rows
    assert clonezilla.FORMAT == "disk"


def test_looking_again_at_a_disk_that_did_not_change_renews_nothing_above(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    disk = record(catalog, "laptop/sda.disk")
    composition = compose.Composition(
        format="disk", fs_type="none", creator=None, size=SIZE, block_size=SECTOR, header={},
        segments=[Segment(0, SIZE, ChildBytes("sda.disk", 0))], children={"sda.disk": disk.row.id},
        warnings=(),
    )  # fmt: skip
    with catalog.database.writing() as connection:
        top, _outcome = compose.put_composition(connection, composition, known=None, wish="top")
    before = catalog.get(top)
    assert rescan(catalog, disk.row.id).outcome is Outcome.UNCHANGED
    assert catalog.get(top).index_id == before.index_id
    assert check(catalog.database) == []
    assert read(catalog, "top") == saved.disk()
    saved.save_first(seed=2)
    rescan(catalog, catalog.resolve("laptop/sda1"))
    assert catalog.get(top).index_id > before.index_id
    assert read(catalog, "top") == saved.disk()
    assert check(catalog.database) == []
