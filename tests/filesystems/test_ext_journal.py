"""Volumes that were copied while they were mounted and written: as the kernel replays them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import DamagedError, RefusedError
from imgcat.filesystems.worker.crc32c import crc32c
from support.files_inside import loop_mounted, of_mount, of_volume, volume_in
from support.trees import grow
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loop

KINDS = {
    "ext3": ("-t ext3", ""),
    "ext4": ("-t ext4", ""),
    "ext4-1k": ("-t ext4 -b 1024", ""),
    "ext4-no-csum": ("-t ext4 -O ^metadata_csum,^64bit", ""),
    "ext4-data-journal": ("-t ext4", "data=journal"),
    "ext3-data-journal": ("-t ext3 -b 1024", "data=journal"),
    "ext4-small-journal": ("-t ext4 -b 1024 -J size=1", ""),
    "inline_data": ("-t ext4 -O inline_data,meta_bg,^resize_inode", ""),
}


def written(raw: Path, mount: Path, options: str, seed: int) -> tuple[Path, bytes]:
    """Return a copy of a volume that was made while it was mounted and written.

    Also the name of its directory that only its journal has.
    """
    crashed = raw.with_name("crashed.raw")
    generator = random.Random(seed)
    with loop_mounted(raw, mount, options) as top:
        grow(top, seed)
        os.sync()
        # Deleted, so that their blocks are used again, and revoked.
        shutil.rmtree(top / "many")
        for number in range(400):
            (top / f"after{number}").write_bytes(generator.randbytes(generator.randrange(9000)))
            if number % 3 == 0:
                (top / f"after{number // 2}").unlink(missing_ok=True)
        # The magic of a journal, at the beginning of a block that is journaled.
        (top / "magic").write_bytes(bytes.fromhex("c03b3998") + b"and what follows it" * 400)
        # Whoever syncs every disk of the machine meanwhile has it written to its place too.
        for attempt in range(20):
            made = top / f"made{attempt}"
            made.mkdir()
            with (made / "last").open("wb") as opened:
                opened.write(b"last" * 1000)
                os.fsync(opened.fileno())
            shutil.copyfile(raw, crashed)
            listed = subprocess.run(
                ["debugfs", "-R", "ls -p /", crashed], capture_output=True, check=True
            )
            assert b"/lost+found/" in listed.stdout
            if os.fsencode(f"/{made.name}/") not in listed.stdout:
                return crashed, os.fsencode(made.name)
    raise AssertionError("nothing is in the journal only")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_as_the_kernel_replays_it(kind: str, tmp_path: Path) -> None:
    options, mount_options = KINDS[kind]
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 128 * MIB)
    quiet("mke2fs", "-q", "-F", *options.split(), raw)
    crashed, made = written(raw, tmp_path / "mount", mount_options, 23)
    problems: list[str] = []
    with volume_in(crashed) as volume:
        assert volume.caveat is None
        found = of_volume(volume, problems)
    with volume_in(crashed, as_is=True) as volume:
        assert volume.caveat is not None
        before = {entry.name for entry in volume.entries()}
    replayed = tmp_path / "replayed.raw"
    shutil.copyfile(crashed, replayed)
    with loop_mounted(replayed, tmp_path / "mount") as mount:
        expected = of_mount(mount)
    assert problems == []
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        assert found[path] == facts, path
    assert made + b"/last" in found
    assert made not in before


def test_a_journal_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 64 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", raw)
    crashed, made = written(raw, tmp_path / "mount", "", 5)
    with volume_in(crashed) as volume:
        # The directory is in the journal, and perhaps in other places.
        inode = volume.find(0, made).inode
        assert volume.find(inode, b"last").size == 4000
    image = bytearray(crashed.read_bytes())
    place = 0
    while (place := image.find(b"\x06\x01magic"[1:], place + 1)) > 0:
        image[place + 3] ^= 1
    crashed.write_bytes(image)
    with (
        pytest.raises(DamagedError, match=r"ext\.journal: block \d+ of it has the checksum"),
        volume_in(crashed) as volume,
    ):
        volume.entries()
    with volume_in(crashed, as_is=True) as volume:
        assert volume.entries()


def test_a_journal_on_another_device_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 16 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", raw)
    image = bytearray(raw.read_bytes())
    image[1024 + 96] |= 4
    image[1024 + 224 : 1024 + 228] = bytes(4)
    raw.write_bytes(image)
    with volume_in(raw) as volume:
        for _again in range(2):
            with pytest.raises(RefusedError, match="it is on another device: --as-is"):
                volume.entries()


def test_the_checksum() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending.
    for data, expected in (
        (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E),
    ):  # fmt: skip
        assert crc32c(0xFFFFFFFF, data) ^ 0xFFFFFFFF == expected
