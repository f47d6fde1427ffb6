"""The life of a disk made of partitions' images: added, renewed, damaged, moved, removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.catalog.adding import clonezilla, compose
from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.adding.put import Outcome, add_file
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.database import composing, pins
from imgcat.catalog.database.check import check
from imgcat.catalog.database.transaction import driver_connection
from imgcat.catalog.errors import CatalogError, ImageChangedError
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.opening.freshness import Observed
from imgcat.catalog.opening.open import open_by_name, open_image, open_watched
from imgcat.catalog.store import Catalog
from imgcat.catalog.upkeep.verify import verify_image
from imgcat.formats.clonezilla import directory as clonezilla_directory
from imgcat.formats.composed.segments import ChildBytes, Segment
from imgcat.formats.errors import UnreadablePartError
from imgcat.formats.extent import ExtentKind, check_cover, merged
from imgcat.formats.index.rank_chunk import ChunkMissingError
from imgcat.formats.reader import read_bytes
from support.small_disk import FIRST, SECOND, SECTOR, SECTORS, SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imgcat.catalog.records import ImageRecord

SIZE = SECTORS * SECTOR
SDA1 = (FIRST * SECTOR, (FIRST + 200) * SECTOR)
SDA2 = (SECOND * SECTOR, (SECOND + 110) * SECTOR)


@pytest.fixture
def saved(tmp_path: Path) -> SmallDisk:
    return SmallDisk(tmp_path / "laptop")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(str(tmp_path / "c.db"), create=True) as opened:
        yield opened


def add(catalog: Catalog, saved: SmallDisk) -> list[Any]:
    return list(add_directory(catalog, str(saved.directory)))


def record(catalog: Catalog, name: str) -> ImageRecord:
    return catalog.get(catalog.resolve(name))


def read(catalog: Catalog, name: str, start: int = 0, stop: int | None = None) -> bytes:
    with contextlib.closing(open_image(catalog, catalog.resolve(name))) as opened:
        end = opened.reader.size if stop is None else stop
        return read_bytes(opened.reader, start, end - start)


def observed(catalog: Catalog, name: str) -> str:
    return Observed(catalog.list_images(), catalog.parts()).status(catalog.resolve(name))


def attention(catalog: Catalog) -> dict[str, tuple[str, str]]:
    with catalog.database.raw() as connection:
        rows = connection.execute("SELECT name, what, detail FROM attention")
        return {name: (what, detail) for name, what, detail in rows}


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
    assert read_bytes(opened, *_span(SDA1)) == old[slice(*SDA1)]
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


def _span(span: tuple[int, int]) -> tuple[int, int]:
    return span[0], span[1] - span[0]


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


def test_the_tables_of_a_disk_may_be_touched(catalog: Catalog, saved: SmallDisk) -> None:
    add(catalog, saved)
    before = record(catalog, "laptop/sda.disk")
    for name in ("sda-mbr", "sda-pt.sf", "disk"):
        os.utime(saved.directory / name)
    result = rescan(catalog, before.row.id)
    assert result.outcome is Outcome.UNCHANGED
    assert (result.record.row.status, result.record.index_id) == ("ready", before.index_id)
    assert read(catalog, "laptop/sda.disk") == saved.disk()
    assert check(catalog.database) == []


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


def test_a_disk_whose_table_cannot_be_read_any_more_says_so_and_goes_on(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    (saved.directory / "sda-pt.parted").write_text("Disk /dev/sda: 99999999999999999999s\n")
    (saved.directory / "sda-pt.sf").write_text("nonsense\n")
    result = rescan(catalog, catalog.resolve("laptop/sda.disk"))
    assert result.outcome is Outcome.FAILED
    assert result.record.row.status == "failed"
    assert read(catalog, "laptop/sda.disk") == saved.disk()


@pytest.mark.parametrize("how", ["lost", "removed", "stale", "damaged"])
def test_a_lost_partition_spoils_only_its_own_bytes(
    how: str, catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    disk = catalog.resolve("laptop/sda.disk")
    before = record(catalog, "laptop/sda.disk")
    whole = saved.disk()
    match how:
        case "lost":
            saved.second_image.unlink()
            rescan(catalog, catalog.resolve("laptop/sda2"))
        case "removed":
            catalog.remove([catalog.resolve("laptop/sda2")])
        case "stale":
            with saved.second_image.open("ab") as file:
                file.write(b"more")
        case _:
            os.truncate(saved.second_image, 20_000)
            rescan(catalog, catalog.resolve("laptop/sda2"))
    assert observed(catalog, "laptop/sda.disk") == "damaged"
    if how != "stale":
        what, detail = attention(catalog)["laptop/sda.disk"]
        assert what == "damaged"
        assert "sda2 is" in detail
    if how in {"removed", "damaged"}:
        # What the kernel has cached of it is not shown any more.
        assert record(catalog, "laptop/sda.disk").index_id > before.index_id
    assert read(catalog, "laptop/sda.disk", 0, SDA2[0]) == whole[: SDA2[0]]
    assert read(catalog, "laptop/sda.disk", SDA2[1]) == whole[SDA2[1] :]
    with contextlib.closing(open_image(catalog, disk)) as opened:
        check_cover(opened.reader.extents(0, SIZE), 0, SIZE)
        lost = [e for e in merged(opened.reader.extents(0, SIZE)) if e.reason]
        assert {e.kind for e in lost} == {ExtentKind.UNREADABLE}
        assert lost[0].reason.startswith("sda2")
        assert SDA2[0] <= lost[0].start < lost[-1].stop <= SDA2[1]
        if how != "damaged":
            assert (lost[0].start, lost[0].stop, len(lost)) == (*SDA2, 1)
            with pytest.raises(UnreadablePartError, match="sda2"):
                read_bytes(opened.reader, SDA2[0], 1)
    assert check(catalog.database) == []
    report = verify_image(catalog, disk)
    assert not report.ok
    assert all(bad.start is not None and bad.start >= SDA2[0] for bad in report.bad_ranges)
    assert all("sda2" in bad.detail for bad in report.bad_ranges)
    assert record(catalog, "laptop/sda1").row.verify_result == "ok"
    if how in {"lost", "damaged", "stale"}:
        saved.save_second()
        rescan(catalog, catalog.resolve("laptop/sda2"))
    else:
        add(catalog, saved)
    assert observed(catalog, "laptop/sda.disk") == "ready"
    assert record(catalog, "laptop/sda.disk").row.id == disk
    assert read(catalog, "laptop/sda.disk") == whole
    assert "laptop/sda.disk" not in attention(catalog)


def test_a_disk_without_any_partition_is_missing(catalog: Catalog, saved: SmallDisk) -> None:
    add(catalog, saved)
    away = saved.directory.with_name("away")
    saved.directory.rename(away)
    assert observed(catalog, "laptop/sda.disk") == "missing"
    for name in ("laptop/sda1", "laptop/sda2", "laptop/sda.disk"):
        assert rescan(catalog, catalog.resolve(name)).outcome is Outcome.MISSING
    assert attention(catalog)["laptop/sda.disk"][0] == "missing"
    away.rename(saved.directory)
    for name in ("laptop/sda.disk", "laptop/sda1", "laptop/sda2"):
        rescan(catalog, catalog.resolve(name))
    assert attention(catalog) == {}
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


def test_a_killed_or_failing_transaction_leaves_the_disk_as_it_was(
    catalog: Catalog, saved: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition and the disk that is made of it are renewed together, or not at all."""
    add(catalog, saved)
    before = mount_entries(catalog)
    saved.save_first(seed=2)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(composing.writing, "copy_index", fail)
    with pytest.raises(RuntimeError, match="planted"):
        rescan(catalog, catalog.resolve("laptop/sda1"))
    assert mount_entries(catalog) == before
    with pytest.raises(ImageChangedError):
        open_image(catalog, catalog.resolve("laptop/sda1"))


def test_an_image_made_of_itself_is_refused(catalog: Catalog, saved: SmallDisk) -> None:
    add(catalog, saved)
    disk = catalog.resolve("laptop/sda.disk")

    def compose_of_itself() -> None:
        with catalog.database.writing() as connection:
            driver_connection(connection).execute(
                "UPDATE segments SET child_id = ? WHERE child_name = 'sda1'", (disk,)
            )
            composing.refresh(connection, [disk])

    with pytest.raises(CatalogError, match="made of itself"):
        compose_of_itself()
    assert read(catalog, "laptop/sda.disk") == saved.disk()
    # In a catalog in which something else has written that, it ends too.
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection:
        connection.execute("UPDATE segments SET child_id = ? WHERE child_name = 'sda1'", (disk,))
        connection.commit()
    assert observed(catalog, "laptop/sda.disk") == "damaged"
    assert any("made of itself" in problem for problem in check(catalog.database))
    with (
        contextlib.closing(open_image(catalog, disk)) as opened,
        pytest.raises(UnreadablePartError),
    ):
        read_bytes(opened.reader, SDA1[0], 1)


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


def test_a_partition_that_is_opened_late_is_the_one_that_the_disk_is_made_of(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    whole = saved.disk()
    with contextlib.closing(open_watched(catalog, catalog.resolve("laptop/sda.disk"))) as opened:
        assert read_bytes(opened, *_span(SDA2)) == whole[slice(*SDA2)]
        saved.save_first(seed=2)
        with pins.pinned(catalog.path):
            rescan(catalog, catalog.resolve("laptop/sda1"))
        # Never one partition of before and one of now.
        with pytest.raises(UnreadablePartError, match=r"sda1: .*scanned anew"):
            read_bytes(opened, *_span(SDA1))
        assert read_bytes(opened, *_span(SDA2)) == whole[slice(*SDA2)]
    assert read(catalog, "laptop/sda.disk") == saved.disk() != whole


@pytest.mark.parametrize("who", ["add", "rescan"])
def test_a_table_that_cannot_be_read_for_a_while_costs_the_disk_nothing(
    who: str, catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    before = record(catalog, "laptop/sda.disk")
    names = ("sda-pt.parted", "sda-pt.sf")
    texts = {name: (saved.directory / name).read_bytes() for name in names}
    for name in names:
        (saved.directory / name).write_text("nonsense\n")
    add(catalog, saved) if who == "add" else rescan(catalog, before.row.id)
    assert observed(catalog, "laptop/sda.disk") == "failed"
    assert attention(catalog)["laptop/sda.disk"][0] == "failed"
    assert read(catalog, "laptop/sda.disk") == saved.disk()
    for name, text in texts.items():
        (saved.directory / name).write_bytes(text)
    rescan(catalog, before.row.id) if who == "add" else add(catalog, saved)
    now = record(catalog, "laptop/sda.disk")
    assert (now.row.id, now.index_id, now.row.status) == (before.row.id, before.index_id, "ready")
    assert len(catalog.list_images()) == 3
    assert attention(catalog) == {}


def test_a_partition_that_cannot_be_scanned_for_a_while_stays_the_disks(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    whole, image = saved.disk(), saved.first_image.read_bytes()
    saved.first_image.write_bytes(image[:20])
    assert [type(each.error).__name__ for each in add(catalog, saved)] == [
        "TruncatedImageError", "NoneType", "NoneType",
    ]  # fmt: skip
    assert observed(catalog, "laptop/sda.disk") == "damaged"
    saved.first_image.write_bytes(image)
    rescan(catalog, catalog.resolve("laptop/sda1"))
    assert observed(catalog, "laptop/sda.disk") == "ready"
    assert read(catalog, "laptop/sda.disk") == whole


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


def test_a_damaged_index_of_a_partition_spoils_only_its_own_bytes(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    whole = saved.disk()
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection:
        spoilt = connection.execute("UPDATE rank_chunks SET bitmap = x'00'").rowcount
        connection.commit()
    assert spoilt == 1
    with contextlib.closing(open_image(catalog, catalog.resolve("laptop/sda.disk"))) as opened:
        check_cover(opened.reader.extents(0, SIZE), 0, SIZE)
        lost = [e for e in merged(opened.reader.extents(0, SIZE)) if e.reason]
        assert [(e.start, e.stop) for e in lost] == [SDA1]
        assert lost[0].reason.startswith("sda1: ")
        with pytest.raises(UnreadablePartError, match="sda1: "):
            read_bytes(opened.reader, SDA1[0], 1)
        assert read_bytes(opened.reader, *_span(SDA2)) == whole[slice(*SDA2)]


def test_an_index_of_another_content_is_not_taken_for_the_one_that_was_opened(
    catalog: Catalog, saved: SmallDisk
) -> None:
    """As where a catalog was put back from a copy while an image was open."""
    add(catalog, saved)
    opened = [open_image(catalog, catalog.resolve(f"laptop/{name}")) for name in ("sda1", "sda2")]
    disk = open_image(catalog, catalog.resolve("laptop/sda.disk"))
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection:
        connection.execute("UPDATE indexes SET content_key = content_key - 1")
        connection.commit()
    for image in opened:
        with pytest.raises(ChunkMissingError):
            read_bytes(image.reader, 0, 4096)
        image.close()
    with pytest.raises(ChunkMissingError):
        read_bytes(disk.reader, 0, 512)
    disk.close()
