"""Sealed images: what a verdict is worth when files change, and what stays of an index."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.put import Outcome, put
from imgcat.catalog.adding.rescan import rescan
from imgcat.catalog.adding.scan import How, scan_file
from imgcat.catalog.database.check import check
from imgcat.catalog.errors import ImageChangedError
from imgcat.catalog.opening.freshness import observed_status
from imgcat.catalog.opening.open import open_image, open_watched
from imgcat.catalog.opening.shared import Shared
from imgcat.catalog.upkeep.damage import DamageRecorder
from imgcat.catalog.upkeep.verify import verify_image
from imgcat.formats.errors import FormatError
from imgcat.formats.reader import read_bytes
from imgcat.formats.sources.sealed import BrokenSealError
from support import ntfsclone_writer, partclone_writer, partimage_writer
from support.program import wait_until
from support.streams import compress

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.catalog.records import ImageRecord
    from imgcat.catalog.store import Catalog

FORMATS = ("partclone", "partclone-unchecked", "ntfsclone", "partimage", "raw")


def image_of(kind: str) -> bytes:
    """Return an image of a MiB or two; most of it is data."""
    rng = random.Random(kind)
    if kind == "raw":
        return rng.randbytes(1_500_000)
    if kind == "ntfsclone":
        recipe = ntfsclone_writer.Recipe(
            order=range(350), cluster_count=400, cluster_size=4096, tail=0
        )
        return ntfsclone_writer.write(recipe).image
    if kind == "partimage":
        return partimage_writer.write(
            partimage_writer.Recipe(present=[n % 9 != 2 for n in range(1500)])
        ).volumes[0]
    checksum = "NONE" if kind.endswith("unchecked") else "CRC32"
    return partclone_writer.write(
        partclone_writer.Recipe(
            present=[n % 9 != 2 for n in range(400)], block_size=4096, checksum=checksum,
            blocks_per_checksum=64,
        )
    ).image  # fmt: skip


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = tmp_path / f"{request.param}.img"
    made.write_bytes(image_of(request.param))
    return made


def add(catalog: Catalog, path: Path) -> ImageRecord:
    return put(catalog, scan_file(str(path), how=How(is_raw=path.name.startswith("raw")))).record


def flip(path: Path, *, keep_times: bool = True) -> None:
    """Change four bytes of data that no sample is of."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size * 7 // 15 + 10_000)
        old = file.read(4)
        file.seek(-4, os.SEEK_CUR)
        file.write(bytes(byte ^ 0x55 for byte in old))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def whole(catalog: Catalog, image_id: int, shared: Shared | None = None) -> bytes:
    with contextlib.closing(open_watched(catalog, image_id, shared=shared)) as reader:
        view = memoryview(bytearray(reader.size))
        reader.read_into(view, 0)
        return bytes(view)


def test_verifying_seals_and_a_change_without_a_trace_is_an_error(
    catalog: Catalog, path: Path
) -> None:
    image_id = add(catalog, path).row.id
    assert catalog.get(image_id).row.sealed_at is None
    right = whole(catalog, image_id)
    assert verify_image(catalog, image_id).ok
    record = catalog.get(image_id)
    assert record.row.sealed_at is not None
    assert check(catalog.database) == []
    assert whole(catalog, image_id) == right
    flip(path)
    told = []
    shared = Shared(on_broken=lambda spec, error: told.append((spec.image_id, error.offset)))
    with pytest.raises(BrokenSealError, match="are not what they were"):
        whole(catalog, image_id, shared)
    assert [image for image, _offset in told] == [image_id]
    # Who does not want to know is given what is there.
    assert whole(catalog, image_id, Shared(compare=False)) != right
    report = verify_image(catalog, image_id)
    assert not report.ok
    assert any("when the image was sealed" in bad.detail for bad in report.bad_ranges)
    named = next(bad for bad in report.bad_ranges if "sealed" in bad.detail)
    assert named.start is not None
    # The seal is not put on what is wrong.
    flip(path)
    assert whole(catalog, image_id) == right
    assert verify_image(catalog, image_id).ok


def test_all_else_is_read_where_one_page_is_wrong(catalog: Catalog, path: Path) -> None:
    image_id = add(catalog, path).row.id
    right = whole(catalog, image_id)
    verify_image(catalog, image_id)
    flip(path)
    bad = 0
    with contextlib.closing(open_image(catalog, image_id)) as opened:
        for start in range(0, opened.reader.size, 4096):
            size = min(4096, opened.reader.size - start)
            try:
                assert read_bytes(opened.reader, start, size) == right[start : start + size]
            except BrokenSealError:
                bad += size
    # A page, and the blocks at its borders.
    assert 0 < bad <= (128 << 10) + 4 * 4096 + len(right) // 8


def test_at_most_two_rows_a_gib(catalog: Catalog, tmp_path: Path) -> None:
    sparse = tmp_path / "raw.img"
    with sparse.open("wb") as file:
        file.truncate(3 << 30)
    image_id = add(catalog, sparse).row.id
    assert verify_image(catalog, image_id).ok
    with catalog.database.raw() as connection:
        assert connection.execute("SELECT count(*) FROM seals").fetchone() == (6,)


def test_a_verdict_does_not_survive_a_change(catalog: Catalog, path: Path) -> None:
    image_id = add(catalog, path).row.id
    assert verify_image(catalog, image_id).ok
    flip(path, keep_times=False)
    assert rescan(catalog, image_id).record.row.verify_result is None
    row = catalog.get(image_id).row
    assert (row.verified_at, row.verify_detail) == (None, "not since it changed")
    # It was sealed: the index is kept, and what changed is found.
    with pytest.raises(FormatError):
        whole(catalog, image_id)
    assert not verify_image(catalog, image_id).ok


def test_a_verdict_does_not_move_to_another_file(catalog: Catalog, path: Path) -> None:
    image_id = add(catalog, path).row.id
    assert verify_image(catalog, image_id).ok
    copy = path.with_name(f"{path.stem}-copy.img")
    shutil.copy2(path, copy)
    flip(copy)
    path.unlink()
    moved = put(catalog, scan_file(str(copy), how=How(is_raw=path.name.startswith("raw"))))
    assert (moved.outcome, moved.record.row.id) == (Outcome.MOVED, image_id)
    assert moved.record.row.verify_result is None
    with pytest.raises(FormatError):
        whole(catalog, image_id)


def test_a_file_that_was_renamed_keeps_its_verdict(catalog: Catalog, path: Path) -> None:
    image_id = add(catalog, path).row.id
    assert verify_image(catalog, image_id).ok
    before = catalog.get(image_id)
    elsewhere = path.with_name(f"{path.stem}-elsewhere.img")
    path.rename(elsewhere)
    moved = put(catalog, scan_file(str(elsewhere), how=How(is_raw=path.name.startswith("raw"))))
    assert moved.outcome is Outcome.MOVED
    assert (moved.record.row.verify_result, moved.record.index_id) == ("ok", before.index_id)
    assert moved.record.row.sealed_at == before.row.sealed_at


def test_what_is_touched_is_read_only_where_its_index_must_be_right(
    catalog: Catalog, path: Path
) -> None:
    image_id = add(catalog, path).row.id
    right = whole(catalog, image_id)
    os.utime(path, ns=(1, 1))
    record = catalog.get(image_id)
    if path.name.startswith(("partclone", "partimage")):
        assert observed_status(record.row, record.volumes) == "ready"
        assert whole(catalog, image_id) == right
    else:
        # Nothing but another scan can tell.
        assert observed_status(record.row, record.volumes) == "stale"
        with pytest.raises(ImageChangedError, match="imgcat rescan"):
            whole(catalog, image_id)
        rescan(catalog, image_id)
    assert verify_image(catalog, image_id).ok
    os.utime(path, ns=(2, 2))
    record = catalog.get(image_id)
    assert observed_status(record.row, record.volumes) == "ready"
    assert whole(catalog, image_id) == right


def test_pages_are_looked_at_again_when_the_file_is_touched_while_it_is_open(
    catalog: Catalog, path: Path
) -> None:
    image_id = add(catalog, path).row.id
    assert verify_image(catalog, image_id).ok
    with contextlib.closing(open_watched(catalog, image_id)) as reader:
        view = memoryview(bytearray(reader.size))
        reader.read_into(view, 0)
        right = bytes(view)
        os.utime(path)
        reader.read_into(view, 0)
        assert view == right
        flip(path, keep_times=False)
        with pytest.raises((BrokenSealError, ImageChangedError)):
            reader.read_into(view, 0)


def test_the_same_bytes_have_one_digest_however_they_are_stored(
    catalog: Catalog, tmp_path: Path
) -> None:
    data = image_of("partclone")
    for name, stored in (
        ("plain.img", data),
        ("a.img.zst", compress("zstd", data)),
        ("b.img.gz", compress("gzip", data)),
    ):
        (tmp_path / name).write_bytes(stored)
        image_id = add_file(catalog, str(tmp_path / name)).record.row.id
        verify_image(catalog, image_id)
    with catalog.database.raw() as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT digest) FROM indexes WHERE sealed_at IS NOT NULL"
        ).fetchone()
    assert found == (3, 1)
    assert hashlib.sha256(whole(catalog, 1)).digest() == hashlib.sha256(whole(catalog, 2)).digest()


def test_a_file_that_was_put_back_is_ready_again(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "one.img"
    path.write_bytes(image_of("partclone"))
    image_id = add_file(catalog, str(path)).record.row.id
    verify_image(catalog, image_id)
    before, whole = path.stat(), path.read_bytes()

    def put(data: bytes) -> None:
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    recorder = DamageRecorder(catalog.path)
    for number in range(2):
        damaged = bytearray(whole)
        damaged[300_000 + number] ^= 1
        put(bytes(damaged))
        shared = Shared(on_broken=recorder.tell)
        reader = open_watched(catalog, image_id, shared=shared)
        with pytest.raises(BrokenSealError):
            read_bytes(reader, 0, reader.size)
        reader.close()
        # The second time too, though it is the same content.
        wait_until(lambda: catalog.get(image_id).row.status == "damaged", "it is recorded", 20)
        put(whole)
        assert verify_image(catalog, image_id).ok
        row = catalog.get(image_id).row
        assert (row.status, row.status_detail, row.verify_result) == ("ready", None, "ok")
        recorder._told.clear()


def test_two_reads_that_meet_a_change_give_no_unchecked_byte(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reads a page that was looked at before; the other takes the change as it is meanwhile."""
    path = tmp_path / "one.img"
    path.write_bytes(image_of("partclone-unchecked"))
    image_id = add_file(catalog, str(path)).record.row.id
    verify_image(catalog, image_id)
    reader = open_watched(catalog, image_id)
    record = catalog.get(image_id)
    data = path.read_bytes()
    for place in range(0, reader.size, 4096):
        right = read_bytes(reader, place, 4096)
        at = data.find(right)
        changed = data[:at] + bytes([right[0] ^ 1]) + data[at + 1 :]
        # One that the samples of the fingerprint do not show.
        path.with_suffix(".try").write_bytes(changed)
        found = scan_file(str(path.with_suffix(".try"))).scan.info.fingerprint
        if any(right) and found == record.fingerprint:
            break
    real = reader._reader.read_into
    is_first = True

    def read_into(view: memoryview, offset: int) -> None:
        nonlocal is_first
        real(view, offset)
        if is_first:
            is_first = False
            with contextlib.suppress(FormatError, ImageChangedError):
                # Far from there, where nothing is wrong.
                reader.read_into(memoryview(bytearray(4096)), reader.size - 4096)

    monkeypatch.setattr(reader, "_reader", SimpleNamespace(read_into=read_into))
    path.write_bytes(changed)
    with pytest.raises((FormatError, ImageChangedError)):
        read_bytes(reader, place, 4096)
    reader.close()


def test_a_chunk_that_was_changed_is_seen_by_the_read_that_touches_it(
    catalog: Catalog, tmp_path: Path
) -> None:
    data = image_of("partclone-unchecked")
    step = len(data) // 6
    for number, start in enumerate(range(0, len(data), step)):
        (tmp_path / f"one.img.a{'abcdefgh'[number]}").write_bytes(data[start : start + step])
    image_id = add_file(catalog, str(tmp_path / "one.img.aa")).record.row.id
    verify_image(catalog, image_id)
    reader = open_watched(catalog, image_id)
    assert len(reader._files) > 4
    guest = read_bytes(reader, 0, reader.size)
    chunk = tmp_path / "one.img.ad"
    changed = bytearray(chunk.read_bytes())
    changed[1000] ^= 1
    with chunk.open("r+b") as file:
        file.write(changed)
    wrong = 0
    for start in range(0, reader.size - 4096, 4096):
        try:
            wrong += read_bytes(reader, start, 4096) != guest[start : start + 4096]
        except (FormatError, ImageChangedError, OSError):
            continue
    assert wrong == 0
    reader.close()


def test_the_first_bytes_are_read_without_waiting_once_their_index_is_loaded(
    catalog: Catalog, path: Path
) -> None:
    image_id = add(catalog, path).row.id
    reader = open_watched(catalog, image_id)
    whole = read_bytes(reader, 0, reader.size)
    reader.close()
    reader = open_watched(catalog, image_id)
    reader.load_index()
    view = memoryview(bytearray(4096))
    assert reader.read_into_nowait(view, 0)
    assert view == whole[:4096]
    reader.close()
