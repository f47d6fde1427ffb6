"""A name that may be in what cannot be read of a directory is not said to be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import DamagedError
from support.files_inside import loop_mounted, volume_in
from support.ntfs import make as make_ntfs
from support.ntfs import ntfs_3g
from support.volumes import MIB
from support.xfs import make as make_xfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

COUNT = 700


def _fill(top: Path) -> None:
    for number in range(COUNT):
        (top / f"a file of number {number:03}").touch()


def _xfs(raw: Path, place: Path) -> bytes:
    make_xfs(raw, "-b size=4096")
    with loop_mounted(raw, place / "mount") as mount:
        _fill(mount)
    return b"XDD3"


def _ntfs(raw: Path, place: Path) -> bytes:
    make_ntfs(raw, size=24 * MIB)
    with ntfs_3g(raw, place / "mount") as mount:
        _fill(mount)
    return b"INDX"


@pytest.mark.parametrize("make", [_xfs, _ntfs])
def test_a_block_of_a_directory_is_damaged(
    make: Callable[[Path, Path], bytes], tmp_path: Path
) -> None:
    raw = tmp_path / "volume.raw"
    magic = make(raw, tmp_path)
    image = bytearray(raw.read_bytes())
    # A block that was split has old names too, which nothing leads to.
    name = "a file of number 350".encode("utf-16-le" if magic == b"INDX" else "ascii")
    places = [at for at in range(0, len(image), 4096) if image[at : at + 4] == magic]
    for place in [at for at in places if name in image[at : at + 4096]]:
        image[place : place + 4096] = bytes(4096)
    raw.write_bytes(image)
    told: list[str] = []
    with volume_in(raw, as_is=True) as volume:
        found = {entry.name for entry in volume.entries(0, told.append)}
        assert told
        assert 0 < len(found) < COUNT
        kept = min(each for each in found if each.startswith(b"a file"))
        assert volume.find(0, kept).name == kept
        for missing in (b"a file of number 350", b"never there"):
            assert missing not in found
            with pytest.raises(DamagedError, match="not in what can be read of it"):
                volume.find(0, missing)
