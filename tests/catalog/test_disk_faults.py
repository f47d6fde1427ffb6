"""Disks whose partitions or tables are lost, touched, damaged or others for a while."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.database import composing, pins
from imgcat.catalog.database.check import check
from imgcat.catalog.database.transaction import driver_connection
from imgcat.catalog.errors import CatalogError, ImageChangedError
from imgcat.catalog.opening import stored_files as opening
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.opening.open import open_image, open_watched
from imgcat.catalog.upkeep.verify import verify_image
from imgcat.formats.errors import UnreadablePartError
from imgcat.formats.extent import ExtentKind, check_cover, merged
from imgcat.formats.index.rank_chunk import ChunkMissingError
from imgcat.formats.reader import read_bytes
from support.catalogued_disk import (
    SDA1,
    SDA2,
    SIZE,
    add,
    attention,
    observed,
    offset_and_length,
    read,
    record,
)

if TYPE_CHECKING:
    from imgcat.catalog.store import Catalog
    from support.small_disk import SmallDisk


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


@pytest.mark.parametrize("how", ["at first", "later", "removed", "without a first chunk"])
def test_a_partition_that_was_saved_and_is_not_there_is_never_zeros(
    how: str, catalog: Catalog, saved: SmallDisk
) -> None:
    whole = saved.disk()
    if how != "at first":
        add(catalog, saved)
    if how == "removed":
        catalog.remove([catalog.resolve("laptop/sda2")])
    if how == "without a first chunk":
        saved.second_image.rename(saved.second_image.with_name("sda2.ntfs-img.ab"))
    else:
        saved.second_image.unlink()
    for _ in range(2):
        add(catalog, saved)
        rescan(catalog, catalog.resolve("laptop/sda.disk"))
        assert observed(catalog, "laptop/sda.disk") == "damaged"
        with contextlib.closing(open_image(catalog, catalog.resolve("laptop/sda.disk"))) as opened:
            lost = [e for e in merged(opened.reader.extents(0, SIZE)) if e.reason]
            assert [(each.start, each.stop) for each in lost] == [SDA2]
        assert read(catalog, "laptop/sda.disk", 0, SDA2[0]) == whole[: SDA2[0]]
        assert not verify_image(catalog, catalog.resolve("laptop/sda.disk")).ok
    for chunk in saved.directory.glob("sda2.ntfs-img*"):
        chunk.unlink()
    saved.save_second()
    add(catalog, saved)
    assert observed(catalog, "laptop/sda.disk") == "ready"
    assert read(catalog, "laptop/sda.disk") == saved.disk()


def test_what_could_not_be_opened_just_now_is_no_verdict(
    catalog: Catalog, saved: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(catalog, saved)
    disk = catalog.resolve("laptop/sda.disk")
    original = opening.StoredFiles

    def refuse(paths: list[str], *others: Any, **options: Any) -> Any:
        if os.path.basename(paths[0]).startswith("sda2"):
            raise PermissionError(errno.EACCES, "Permission denied", paths[0])
        return original(paths, *others, **options)

    # Root may read everything.
    monkeypatch.setattr(opening, "StoredFiles", refuse)
    report = verify_image(catalog, disk)
    assert [(bad.start, bad.stop) for bad in report.bad_ranges] == [SDA2]
    assert record(catalog, "laptop/sda.disk").row.verify_result is None
    monkeypatch.undo()
    assert verify_image(catalog, disk).ok


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


def test_a_partition_that_is_opened_late_is_the_one_that_the_disk_is_made_of(
    catalog: Catalog, saved: SmallDisk
) -> None:
    add(catalog, saved)
    whole = saved.disk()
    with contextlib.closing(open_watched(catalog, catalog.resolve("laptop/sda.disk"))) as opened:
        assert read_bytes(opened, *offset_and_length(SDA2)) == whole[slice(*SDA2)]
        saved.save_first(seed=2)
        with pins.pinned(catalog.path):
            rescan(catalog, catalog.resolve("laptop/sda1"))
        # Never one partition of before and one of now.
        with pytest.raises(UnreadablePartError, match=r"sda1: .*scanned anew"):
            read_bytes(opened, *offset_and_length(SDA1))
        assert read_bytes(opened, *offset_and_length(SDA2)) == whole[slice(*SDA2)]
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
        assert read_bytes(opened.reader, *offset_and_length(SDA2)) == whole[slice(*SDA2)]


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
