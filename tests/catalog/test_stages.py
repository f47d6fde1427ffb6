"""A verification that is ended in its middle, and gone on with: it finds what one would have."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding.put import put
from imgcat.catalog.adding.scan import How, scan_file
from imgcat.catalog.upkeep.stages import VerifyStoppedError
from imgcat.catalog.upkeep.verify import VerifyReport, VerifyRun, verify_image
from support import ntfsclone_writer, partclone_writer, partimage_writer
from support.streams import compress
from support.virtual_disks import qemu_img, write_raw

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.catalog.store import Catalog

SIZE = 26 << 20
BLOCK = 4096
HARM = (0.2, 0.5, 0.501, 0.9)
"""Where bytes of the file are changed, as shares of it."""

PARTCLONE = {
    "reseeded": {"blocks_per_checksum": 100},
    "chained": {"reseed": False},
    "chained-wide": {"reseed": False, "blocks_per_checksum": 200},
    "xxh": {"checksum": "XXH64", "blocks_per_checksum": 16},
    "unchecked": {"checksum": "NONE"},
    "v1": {"version": "0001"},
}
KINDS = (*PARTCLONE, "partimage", "raw", "gzip", "qcow2", "vhd")


@pytest.fixture(scope="module", params=KINDS)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("original") / f"{request.param}.img"
    make(request.param, made)
    return made


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    copied = tmp_path / original.name
    shutil.copy2(original, copied)
    return copied


def make(kind: str, path: Path) -> None:
    rng = random.Random(kind)
    if kind in {"qcow2", "vhd"}:
        raw = write_raw(path.with_suffix(".raw"), SIZE, 5)
        options = ("-o", "subformat=dynamic") if kind == "vhd" else ()
        qemu_img("convert", "-O", "vpc" if kind == "vhd" else kind, *options, raw, path)
    elif kind == "raw":
        path.write_bytes(rng.randbytes(SIZE))
    elif kind == "partimage":
        present = [n % 9 != 2 for n in range(SIZE // 512)]
        path.write_bytes(
            partimage_writer.write(partimage_writer.Recipe(present=present)).volumes[0]
        )
    else:
        options = PARTCLONE.get(kind, {})
        recipe = partclone_writer.Recipe(
            present=[n % 9 != 2 for n in range(SIZE // BLOCK)], block_size=BLOCK,
            guest=rng.randbytes(SIZE), **options,
        )  # fmt: skip
        image = partclone_writer.write(recipe).image
        path.write_bytes(compress("gzip", image) if kind == "gzip" else image)


def add(catalog: Catalog, path: Path) -> int:
    how = How(is_raw=path.name.startswith("raw"))
    return put(catalog, scan_file(str(path), how=how)).record.row.id


def harm(path: Path) -> None:
    """Change bytes; size and time stay, as on a disk that forgets."""
    before = path.stat()
    with path.open("r+b") as file:
        for at in HARM:
            file.seek(int(at * before.st_size))
            octet = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([octet ^ 0x40]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def in_stages(catalog: Catalog, image_id: int) -> tuple[VerifyReport, int]:
    """Verify as far as a batch at a time; return the report, and how often it was ended."""
    for count in itertools.count():
        assert count < 100
        try:
            run = VerifyRun(jobs=2, until=lambda: True)
            return verify_image(catalog, image_id, run), count
        except VerifyStoppedError:
            continue
    raise AssertionError


def stages(catalog: Catalog) -> int:
    with catalog.database.asking() as connection:
        (count,) = connection.execute("SELECT count(*) FROM verify_stages").fetchone()
    return int(count)


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("is_harmed", [False, True])
def test_the_verdict_is_that_of_one_run(
    catalog: Catalog, path: Path, is_harmed: bool, is_sealed: bool
) -> None:
    image_id = add(catalog, path)
    if is_sealed:
        assert verify_image(catalog, image_id).ok
    if is_harmed:
        harm(path)
    whole = verify_image(catalog, image_id, VerifyRun(jobs=2))
    parts, count = in_stages(catalog, image_id)
    assert count >= 2
    assert (parts.bad_ranges, parts.bad_count, parts.detail) == (
        whole.bad_ranges, whole.bad_count, whole.detail,
    )  # fmt: skip
    # In format 0001 a checksum is over the first byte of each block.
    unchecked = ("unchecked", "v1", "raw", "qcow2", "vhd")
    checks = not path.name.startswith(unchecked) or is_sealed
    assert whole.ok is not (is_harmed and checks)
    assert stages(catalog) == 0
    row = catalog.get(image_id).row
    assert row.verify_result == ("ok" if whole.ok else "bad")


def test_what_was_read_in_stages_is_sealed(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "raw.img"
    make("raw", path)
    image_id = add(catalog, path)
    report, count = in_stages(catalog, image_id)
    assert report.ok
    assert count >= 2
    assert catalog.get(image_id).row.sealed_at is not None
    # As by a seal of one run: a change without a trace is found.
    harm(path)
    # Two of the changes are in one page.
    assert verify_image(catalog, image_id).bad_count == 3


def test_each_stage_reads_its_part(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "reseeded.img"
    make("reseeded", path)
    image_id = add(catalog, path)
    reached: list[int] = []
    for _ in range(3):
        with pytest.raises(VerifyStoppedError) as stopped:
            verify_image(catalog, image_id, VerifyRun(reached.append, 1, until=lambda: True))
        assert stopped.value.reached == reached[-1]
    # One piece each, and, from the second on, that before it once more.
    first, second, third = sorted(set(reached))
    assert reached == [first, first, second, second, third]
    assert third < path.stat().st_size


@pytest.mark.parametrize("change", ["touched", "scanned", "replaced"])
def test_nothing_is_gone_on_with_where_something_has_changed(
    catalog: Catalog, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "reseeded.img"
    make("reseeded", path)
    image_id = add(catalog, path)
    first: list[int] = []
    with pytest.raises(VerifyStoppedError):
        verify_image(
            catalog, image_id, VerifyRun(first.append, 1, until=lambda: first[-1] > SIZE // 2)
        )
    if change == "touched":
        os.utime(path)
    elif change == "scanned":
        put(catalog, scan_file(str(path)), renew=True)
    else:
        path.with_suffix(".new").write_bytes(path.read_bytes())
        path.with_suffix(".new").rename(path)
    again: list[int] = []
    verify_image(catalog, image_id, VerifyRun(again.append, 1, until=lambda: False))
    assert again[0] == first[0]


def test_a_stream_of_commands_is_followed_to_its_end(catalog: Catalog, tmp_path: Path) -> None:
    """Nobody can begin in the middle of one: it takes as long as it takes."""
    path = tmp_path / "ntfs.img"
    recipe = ntfsclone_writer.Recipe(order=range(350), cluster_count=400, cluster_size=4096, tail=0)
    path.write_bytes(ntfsclone_writer.write(recipe).image)
    image_id = add(catalog, path)
    assert verify_image(catalog, image_id, VerifyRun(until=lambda: True)).ok
    assert stages(catalog) == 0


def test_a_partition_is_ended_in_the_middle_of_its_disk(catalog: Catalog, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw.img", SIZE, 5)
    table = "label: dos\nstart=2048, type=83\n"
    subprocess.run(["sfdisk", "-q", raw], input=table, text=True, check=True)
    add(catalog, raw)
    partition = catalog.resolve("raw.p1")
    with pytest.raises(VerifyStoppedError) as stopped:
        verify_image(catalog, partition, VerifyRun(until=lambda: True))
    assert stopped.value.name == "raw"
    report, count = in_stages(catalog, partition)
    assert report.ok
    assert count >= 2
