"""An NTFS of which an image has not all: what is missing costs what it holds, and no more."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest
import pytsk3
from imgcat.filesystems.errors import DamagedError
from imgcat.filesystems.volume import Volume
from imgcat.formats.errors import FormatError
from support.files_inside import digest, of_mount
from support.ntfs import make, ntfs_3g
from support.volumes import MIB
from support.with_hole import WithHole

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = 4096
OWN = {"$AttrDef": (4, 128), "$Bitmap": (6, 128), "$SDS of $Secure": (9, 128), "bitmap": (0, 176)}
"""What a volume keeps for itself, by the numbers of its file and attribute."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, Any]]:
    """A volume with files of every kind, and what a mount has of them."""
    place = tmp_path_factory.mktemp("ntfs")
    raw = place / "volume.raw"
    make(raw, size=16 * MIB)
    chosen = random.Random(5)
    with ntfs_3g(raw, place / "mount") as mount:
        (mount / "many").mkdir()
        for number in range(90):
            data = b"%d " % number * chosen.randrange(3000)
            (mount / "many" / f"a file of number {number}").write_bytes(data)
        packed = mount / "packed"
        packed.mkdir()
        os.setxattr(packed, "system.ntfs_attrib", (0x800).to_bytes(4, "little"))
        (packed / "text").write_bytes(b"what is written again and again " * 20_000)
        (mount / "noise").write_bytes(chosen.randbytes(300_000))
        # In so many parts that the list of its records has no room in the first of them.
        with (mount / "parts").open("wb") as opened, (mount / "between").open("wb") as between:
            for number in range(200):
                opened.seek(number * 3 * 65536)
                opened.write(b"part %d" % number)
                between.write(chosen.randbytes(5000))
    with ntfs_3g(raw, place / "mount", "ro") as mount:
        expected = of_mount(mount, attributes=False)
    return raw, expected


def used_places(raw: Path) -> dict[tuple[int, int], list[range]]:
    """Where the attributes of all files lie, by the numbers of file and attribute."""
    opened = pytsk3.FS_Info(pytsk3.Img_Info(str(raw)))
    found: dict[tuple[int, int], list[range]] = {}
    for number in range(opened.info.last_inum):
        for attribute in opened.open_meta(number):
            found[number, int(attribute.info.type)] = [
                range(run.addr * CLUSTER, (run.addr + run.len) * CLUSTER)
                for run in attribute
                if not int(run.flags) & 0b11
            ]
    return found


def all_of(image: bytes, hole: range) -> tuple[dict[bytes, str], list[str]]:
    """Return what each file of a volume with a hole holds, and what is said."""
    found: dict[bytes, str] = {}
    told: list[str] = []
    volume = Volume(WithHole(image, hole), as_is=True)
    try:
        todo = [(b"", 0)]
        while todo:
            above, inode = todo.pop()
            for entry in volume.entries(inode, told.append):
                if entry.mode & 0o170000 == 0o040000:
                    todo.append((above + entry.name + b"/", entry.inode))
                    continue
                try:
                    found[above + entry.name] = digest(volume, entry.inode)
                except FormatError as error:
                    told.append(str(error))
    except DamagedError as error:
        told.append(str(error))
    finally:
        volume.close()
    return found, told


@pytest.mark.parametrize("name", OWN)
def test_what_a_volume_keeps_for_itself_costs_no_file(
    name: str, made: tuple[Path, dict[bytes, Any]]
) -> None:
    raw, expected = made
    (hole, *_more) = used_places(raw)[OWN[name]]
    found, told = all_of(raw.read_bytes(), hole)
    assert found == {
        path: each["hash"] for path, each in expected.items() if "hash" in each
    }  # fmt: skip
    # The library does not look at all of them.
    assert all(f"bytes [{hole.start}, " in each and "cannot be read" in each for each in told)


def test_nothing_that_is_missing_becomes_zeros(made: tuple[Path, dict[bytes, Any]]) -> None:
    """A cluster after the other, of tables, indexes, and files that are compressed."""
    raw, expected = made
    sums = {path: each["hash"] for path, each in expected.items() if "hash" in each}
    image = raw.read_bytes()
    places = used_places(raw)
    clusters = [
        range(start, start + CLUSTER)
        for (number, kind), runs in places.items()
        if (number, kind) == (0, 128) or number == 5 or number >= 24
        for run in runs
        for start in run[::CLUSTER]
    ]
    lost = 0
    for hole in random.Random(3).sample(clusters, 25):
        try:
            found, told = all_of(image, hole)
        except FormatError:
            # The gate looks at what the whole stands on.
            lost += 1
            continue
        assert not [each for each in told if "Error" in each]
        for path, each in found.items():
            assert sums[path] == each, (hole, path)
        assert told or found == sums, hole
        lost += found != sums
    assert lost > 10
