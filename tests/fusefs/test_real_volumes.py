"""Real file systems, saved by the real partclone: what the mount shows is what it restores."""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.volumes import KINDS, Kind, Volume, make_volume, mounted, quiet, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


@pytest.fixture(scope="module")
def volume_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Volume]:
    """Make the volume of a kind, once."""
    return functools.cache(lambda kind: make_volume(kind, tmp_path_factory.mktemp(kind.name)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_mounted_volume_is_the_restored_one(
    kind: Kind, volume_of: Callable[[Kind], Volume], program: Program, tmp_path: Path
) -> None:
    volume = volume_of(kind)
    program.run("add", volume.image)
    mount = program.mount_all(tmp_path / "mount")
    shown = mount / volume.kind.name
    assert shown.stat().st_size == volume.kind.size
    # The restored file was sparse before, so this compares zeros in unused blocks too.
    quiet("cmp", shown, volume.restored)
    (row,) = program.json("ls")
    assert row["fs_type"] == volume.kind.fs_type
    assert shown.stat().st_blocks == -(-row["used_bytes"] // 512)

    quiet(*volume.kind.check, shown)
    if volume.kind.mount is not None:
        point = tmp_path / "files"
        with mounted([*volume.kind.mount, shown, point], point):
            assert {path: sha256(point / path) for path in volume.files} == volume.files
    elif volume.files:
        listed = quiet("mdir", "-b", "-/", "-i", shown, "::")
        for path, expected in volume.files.items():
            assert f"::/{path}" in listed
            out = tmp_path / "out"
            quiet("mcopy", "-n", "-o", "-i", shown, f"::/{path}", out)
            assert sha256(out) == expected


def test_ntfsfix_says_of_the_mount_what_it_says_of_the_restored_volume(
    volume_of: Callable[[Kind], Volume], program: Program, tmp_path: Path
) -> None:
    # partclone leaves the backup boot sector out, so ntfsfix wants it back in both.
    volume = volume_of(next(kind for kind in KINDS if kind.name == "ntfs"))
    program.run("add", volume.image)
    shown = program.mount_all(tmp_path / "mount") / "ntfs"
    said = [
        subprocess.run(["ntfsfix", "-n", path], capture_output=True, text=True, check=False).stdout
        for path in (shown, volume.restored)
    ]
    assert "Processing of $MFT and $MFTMirr completed successfully." in said[0]
    assert said[0] == said[1]


def test_every_sample_shows_the_bytes_of_its_volume(
    samples: list[Sample], program: Program, tmp_path: Path
) -> None:
    program.run("add", *(sample.path for sample in samples))
    mount = program.mount_all(tmp_path / "mount")
    shown = {sample.name: sha256(mount / sample.name) for sample in samples}
    assert shown == {sample.name: sample.volume_sha256 for sample in samples}
    assert len(shown) == 9
    quiet("e2fsck", "-fn", mount / samples[0].name)
