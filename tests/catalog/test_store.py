"""The catalog's verbs: identity, staleness, names, and what each costs in SQL statements."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from imgcat.catalog.adding import batch
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.adding.walk import find_images
from imgcat.catalog.database import writing
from imgcat.catalog.database.check import check
from imgcat.catalog.database.pins import pinned
from imgcat.catalog.errors import ImageNotFoundError, NameTakenError
from imgcat.catalog.names import free_name, name_of_file
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.store import Catalog
from imgcat.formats.index.rank_chunk import ChunkMissingError
from support.partclone_writer import Recipe, write
from support.statements import statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.samples import Sample


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(str(tmp_path / "catalog.db"), create=True) as opened:
        yield opened


@pytest.fixture
def image(tmp_path: Path, samples: list[Sample]) -> Path:
    path = tmp_path / "sda1.img"
    shutil.copy2(samples[0].path, path)
    return path


def test_add_keeps_what_the_scan_found(
    catalog: Catalog, image: Path, samples: list[Sample]
) -> None:
    added = add_file(catalog, str(image))
    assert added.outcome is Outcome.ADDED
    record = catalog.get(added.record.row.id)
    assert record == added.record
    assert record.row.name == "sda1"
    assert record.row.path == str(image)
    assert record.row.size_bytes == samples[0].volume_bytes
    assert record.used_blocks == samples[0].used_blocks
    assert record.row.status == "ready"
    assert record.header["file_system"] == "EXTFS"
    assert check(catalog.database) == []


def test_an_unchanged_image_is_not_scanned_again(catalog: Catalog, image: Path) -> None:
    first = add_file(catalog, str(image))
    # With other bytes a scan would fail; size, time and inode are as they were.
    with image.open("r+b") as file:
        file.write(b"not an image")
    os.utime(image, ns=(0, first.record.volumes[0].mtime_ns))
    assert add_file(catalog, str(image)).outcome is Outcome.UNCHANGED


def test_a_touched_image_keeps_its_id_and_gets_an_index_and_a_verdict_of_its_own(
    catalog: Catalog, image: Path
) -> None:
    """The fingerprint is of samples: what the kernel has cached of before must not be shown."""
    first = add_file(catalog, str(image)).record
    with catalog.database.writing() as connection:
        connection.execute(sa.text("UPDATE images SET verified_at = 'then', verify_result = 'ok'"))
    os.utime(image)
    again = add_file(catalog, str(image))
    assert again.outcome is Outcome.UPDATED
    assert again.record.row.id == first.row.id
    assert again.record.index_id > first.index_id
    row = again.record.row
    assert (row.verified_at, row.verify_result) == (None, None)
    assert row.verify_detail == "not since it changed"
    assert again.record.volumes[0].mtime_ns == image.stat().st_mtime_ns


def test_a_replaced_image_keeps_its_id_and_loses_its_verification(
    catalog: Catalog, image: Path, samples: list[Sample]
) -> None:
    first = add_file(catalog, str(image)).record
    with catalog.database.writing() as connection:
        connection.execute(sa.text("UPDATE images SET verified_at='then', verify_result='ok'"))
    shutil.copy(samples[5].path, image)
    again = add_file(catalog, str(image)).record
    assert again.row.id == first.row.id
    assert again.index_id > first.index_id
    assert again.row.verified_at is None
    with catalog.database.reading() as connection:
        assert connection.execute("SELECT id FROM indexes").fetchall() == [(again.index_id,)]


def test_a_moved_image_keeps_id_name_and_verification(catalog: Catalog, image: Path) -> None:
    first = add_file(catalog, str(image), name="laptop").record
    with catalog.database.writing() as connection:
        connection.execute(sa.text("UPDATE images SET verified_at='then', verify_result='ok'"))
    moved = image.rename(image.with_name("elsewhere.img"))
    again = add_file(catalog, str(moved))
    assert again.outcome is Outcome.MOVED
    assert (again.record.row.id, again.record.row.name) == (first.row.id, "laptop")
    assert again.record.row.verify_result == "ok"
    assert [volume.path for volume in again.record.volumes] == [str(moved)]


def test_a_copy_is_another_image(catalog: Catalog, image: Path) -> None:
    add_file(catalog, str(image))
    copy = image.with_name("copy.img")
    shutil.copy(image, copy)
    assert add_file(catalog, str(copy)).outcome is Outcome.ADDED


def test_same_names_get_a_number_that_stays(catalog: Catalog, image: Path, tmp_path: Path) -> None:
    for directory in ("a", "b", "c"):
        (tmp_path / directory).mkdir()
        shutil.copy(image, tmp_path / directory / "sda1.img")
    names = [add_file(catalog, str(tmp_path / d / "sda1.img")).record.row.name for d in "abc"]
    assert names == ["sda1", "sda1 (2)", "sda1 (3)"]
    catalog.remove([catalog.resolve("sda1")])
    assert {row.name for row, _v in catalog.list_images()} == {"sda1 (2)", "sda1 (3)"}


def test_rescan_mends_what_it_can(catalog: Catalog, image: Path, samples: list[Sample]) -> None:
    image_id = add_file(catalog, str(image)).record.row.id
    assert rescan(catalog, image_id).outcome is Outcome.UNCHANGED
    hidden = image.rename(image.with_suffix(".away"))
    missing = rescan(catalog, image_id)
    assert missing.record.row.status == "missing"
    assert str(image) in str(missing.record.row.status_detail)
    hidden.rename(image)
    assert rescan(catalog, image_id).record.row.status == "ready"
    image.write_bytes(b"no image any more")
    failed = rescan(catalog, image_id)
    assert failed.outcome is Outcome.FAILED
    assert "no disk image of a known format" in str(failed.record.row.status_detail)
    shutil.copy(samples[0].path, image)
    assert rescan(catalog, image_id).record.row.status == "ready"


def test_resolve_takes_names_ids_paths_and_globs(catalog: Catalog, image: Path) -> None:
    first = add_file(catalog, str(image), name="one/a").record.row.id
    copy = image.with_name("copy.img")
    shutil.copy(image, copy)
    second = add_file(catalog, str(copy), name="one/b").record.row.id
    assert catalog.resolve("one/a") == first
    assert catalog.resolve(str(second)) == second
    assert catalog.resolve(os.path.relpath(image)) == first
    assert catalog.resolve_many(["one/*", "one/b"]) == [first, second]
    with pytest.raises(ImageNotFoundError, match="nothing: no image"):
        catalog.resolve("nothing")
    with pytest.raises(ImageNotFoundError):
        catalog.resolve("one/*")


@pytest.mark.parametrize("name", ["", "/", "a//b", "a/", "..", "a/../b", "x" * 256, "a\0b"])
def test_what_cannot_be_a_path_cannot_be_a_name(catalog: Catalog, image: Path, name: str) -> None:
    image_id = add_file(catalog, str(image)).record.row.id
    with pytest.raises(NameTakenError):
        catalog.rename(image_id, name)


def test_a_taken_name_is_refused(catalog: Catalog, image: Path) -> None:
    add_file(catalog, str(image), name="here")
    copy = image.with_name("copy.img")
    shutil.copy(image, copy)
    other = add_file(catalog, str(copy)).record.row.id
    with pytest.raises(NameTakenError, match="another image"):
        catalog.rename(other, "here")
    with pytest.raises(NameTakenError, match="another image"):
        add_file(catalog, str(copy), name="here", force=True)


def test_a_file_name_that_is_not_utf8_survives(
    catalog: Catalog, image: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.img")
    shutil.copy(image, odd)
    add_file(catalog, odd)
    ((row, volumes),) = catalog.list_images()
    assert os.fsencode(row.name) == b"caf\xe9"
    assert os.path.samefile(volumes[0].path, odd)
    assert catalog.resolve(odd) == row.id == catalog.resolve(row.name)
    assert add_file(catalog, odd).outcome is Outcome.UNCHANGED


def test_an_index_is_kept_while_a_daemon_may_read_by_it(catalog: Catalog, image: Path) -> None:
    record = add_file(catalog, str(image)).record
    with pinned(catalog.path):
        catalog.remove([record.row.id])
        assert catalog.load_chunk(record.index_id, 0).rank == 0
        catalog.purge()
        assert catalog.load_chunk(record.index_id, 0).rank == 0
    catalog.purge()
    with pytest.raises(ChunkMissingError):
        catalog.load_chunk(record.index_id, 0)


def test_a_pin_is_of_the_catalog_that_is_there(
    catalog: Catalog, image: Path, tmp_path: Path
) -> None:
    with catalog.pins.held() as is_kept:
        assert is_kept
        other = tmp_path / "other.db"
        with Catalog.open(str(other), create=True) as made:
            made_id = add_file(made, str(image)).record.row.id
        other.replace(catalog.path)
        # Whoever has made it has its lock file too.
        Path(f"{catalog.path}.lock").unlink()
        catalog.take_what_is_there()
        with Catalog.open(catalog.path) as changing:
            index_id = changing.get(made_id).index_id
            changing.remove([made_id])
            changing.purge()
            assert changing.load_chunk(index_id, 0).rank == 0
    with Catalog.open(catalog.path) as changing:
        changing.purge()
        with pytest.raises(ChunkMissingError):
            changing.load_chunk(index_id, 0)


def test_an_index_id_is_never_used_again(catalog: Catalog, image: Path) -> None:
    first = add_file(catalog, str(image)).record
    catalog.remove([first.row.id])
    second = add_file(catalog, str(image)).record
    assert second.index_id > first.index_id
    assert second.row.id > first.row.id


def test_statement_counts_do_not_grow_with_the_catalog(
    catalog: Catalog, image: Path, tmp_path: Path
) -> None:
    for number in range(30):
        shutil.copy(image, tmp_path / f"n{number}.img")
    paths = [str(tmp_path / f"n{number}.img") for number in range(30)]
    assert all(
        result.ingested for result in batch.add_files(catalog, paths, options=batch.Options(jobs=2))
    )
    with statements(catalog) as seen:
        assert len(catalog.list_images()) == 30
        assert len(seen) == 2
        seen.clear()
        assert len(mount_entries(catalog)) == 30
        assert len(seen) == 2
        seen.clear()
        spec = catalog.open_spec(3)
        assert len(seen) == 1
        seen.clear()
        catalog.load_chunk(spec.index_id, 0)
        assert len(seen) == 1


def test_one_image_is_one_transaction(
    catalog: Catalog, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(writing, "replace_volumes", fail)
    with pytest.raises(RuntimeError, match="planted"):
        add_file(catalog, str(image))
    with catalog.database.reading() as connection:
        for table in ("images", "volumes", "indexes", "rank_chunks"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_one_bad_file_does_not_stop_the_others(
    catalog: Catalog, image: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.img"
    bad.write_bytes(b"partclone-image")
    results = list(
        batch.add_files(
            catalog, [str(bad), str(tmp_path / "gone"), str(image)], options=batch.Options(jobs=2)
        )
    )
    assert [type(result.error).__name__ for result in results] == [
        "TruncatedImageError", "FileNotFoundError", "NoneType",
    ]  # fmt: skip
    assert len(catalog.list_images()) == 1


def test_directories_are_searched_for_images(tmp_path: Path, image: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    shutil.copy(image, tmp_path / "x" / "y" / "odd-suffix.bin")
    (tmp_path / "x" / "note.img").write_text("no image")
    os.mkfifo(tmp_path / "x" / "fifo")
    (tmp_path / "x" / "loop").symlink_to(tmp_path / "x")
    assert list(find_images(str(tmp_path / "x"))) == [str(tmp_path / "x" / "y" / "odd-suffix.bin")]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("sda1.img", "sda1"),
        ("sda1.ext4-ptcl-img.uncomp", "sda1.ext4-ptcl-img"),
        ("disk.pcl.gz", "disk"),
        ("ext4-0.3.23.img", "ext4-0.3.23"),
        (".img", ".img"),
        ("no-suffix", "no-suffix"),
        ("A.IMG", "A"),
    ],
)
def test_the_name_of_a_file(file: str, name: str) -> None:
    assert name_of_file(f"/somewhere/{file}") == name


def test_a_free_name_fits_into_a_directory_entry() -> None:
    taken = {"é" * 127, "x"}
    assert free_name("x", taken.__contains__) == "x (2)"
    long = free_name("é" * 127, taken.__contains__)
    assert long.endswith(" (2)")
    assert len(os.fsencode(long)) <= 255


def test_many_chunks_are_written_and_loaded(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "many.img"
    present = [False] * ((2 << 20) + 77)
    for block in (0, 5, (1 << 20) + 1, (2 << 20) + 76):
        present[block] = True
    path.write_bytes(write(Recipe(present=present, block_size=1)).image)
    record = add_file(catalog, str(path)).record
    assert catalog.cost(record.row.id).index_rows == 3
    assert [catalog.load_chunk(record.index_id, n).rank for n in range(3)] == [0, 2, 3]
