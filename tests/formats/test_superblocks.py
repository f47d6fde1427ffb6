"""File systems as their own tools make and leave them, against what blkid and those tools say."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imgcat.formats.superblocks.file_system import FileSystem, Journal
from imgcat.formats.superblocks.find import find_file_system
from support.unmounting import unmount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
MAKERS = {
    "ext2": (8, "mkfs.ext2 -q -F -L two"),
    "ext3": (16, "mkfs.ext3 -q -F -L three -b 1024"),
    "ext4": (16, "mkfs.ext4 -q -F -L four"),
    "ext4-more": (64, "mkfs.ext4 -q -F -O inline_data,casefold,encrypt,verity,quota,orphan_file"),
    "ext4-bigalloc": (64, "mkfs.ext4 -q -F -O bigalloc,64bit -C 16384"),
    "ntfs": (16, "mkfs.ntfs -q -F -f -L Windows"),
    "fat12": (4, "mkfs.vfat -F 12 -n TWELVE"),
    "fat16": (16, "mkfs.vfat -F 16 -n SIXTEEN"),
    "fat32": (64, "mkfs.vfat -F 32 -n THIRTYTWO"),
    "fat-unnamed": (16, "mkfs.vfat -F 16"),
    "exfat": (16, "mkfs.exfat -L names"),
    "xfs": (300, "mkfs.xfs -q -L ix"),
    "xfs-old": (300, "mkfs.xfs -q -m crc=0"),
    "btrfs": (128, "mkfs.btrfs -q -L butter"),
    "f2fs": (64, "mkfs.f2fs -q -l flash"),
    "swap": (4, "mkswap -L paging"),
}
DISCS = {
    "rock-ridge": ("genisoimage -quiet -R -V Disc", "iso9660", "rock_ridge"),
    "joliet": ("genisoimage -quiet -J -V Disc", "iso9660", "joliet"),
    "both": ("xorriso -as mkisofs -quiet -J -V Disc", "iso9660", "rock_ridge"),
    "plain": ("genisoimage -quiet -V Disc", "iso9660", "plain"),
    "udf": ("genisoimage -quiet -udf -R -V Disc", "udf", "rock_ridge"),
}
TYPES = {"fat12": "vfat", "fat16": "vfat", "fat32": "vfat", "fat-unnamed": "vfat"}


def make(directory: Path, name: str) -> Path:
    """Make a volume."""
    size, command = MAKERS[name]
    path = directory / name
    with path.open("wb") as file:
        file.truncate(size * MIB)
    subprocess.run([*command.split(), path], check=True, capture_output=True)
    return path


def look(path: Path) -> FileSystem | None:
    """Return what is told of a volume, by few and short reads."""
    with path.open("rb") as file:
        reads = 0

        def read(offset: int, length: int) -> bytes:
            nonlocal reads
            reads += length
            return os.pread(file.fileno(), length, offset)

        found = find_file_system(read, path.stat().st_size)
        assert reads < 2 * MIB
        return found


def blkid(path: Path) -> dict[str, str]:
    """Return what blkid says."""
    said = subprocess.run(
        ["blkid", "-p", "-o", "export", path], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split("=", 1) for line in said.splitlines())


@pytest.mark.parametrize("name", DISCS)
def test_a_disc_is_what_blkid_says(name: str, tmp_path: Path) -> None:
    command, kind, names = DISCS[name]
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_text("content")
    path = tmp_path / "disc"
    subprocess.run([*command.split(), "-o", path, content], check=True, capture_output=True)
    found, said = look(path), blkid(path)
    assert found is not None
    assert (found.type, kind) == (said["TYPE"], said["TYPE"])
    assert (found.label, found.block_size) == (said["LABEL"], int(said["BLOCK_SIZE"]))
    assert found.uuid == (said["UUID"] if kind == "iso9660" else None)
    assert ("joliet" in found.features) == (name in {"joliet", "both"})
    assert ("iso9660" in found.features) == (kind == "udf")
    assert found.detail["names"] == names


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_what_blkid_says(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, name)
    said = blkid(path)
    found = look(path)
    assert found is not None
    assert (found.type, found.uuid, found.label) == (
        said["TYPE"], said.get("UUID"), said.get("LABEL"),
    )  # fmt: skip
    assert found.journal in {Journal.NONE, Journal.CLEAN}
    assert not found.is_dirty
    if "FSSIZE" in said and name.startswith("ext"):
        assert found.size == MAKERS[name][0] * MIB


@pytest.mark.parametrize("name", [name for name in MAKERS if name.startswith("ext")])
def test_the_features_are_those_of_dumpe2fs(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, name)
    found = look(path)
    assert found is not None
    said = subprocess.run(
        ["dumpe2fs", "-h", path], check=True, capture_output=True, text=True
    ).stdout
    (line,) = re.findall(r"Filesystem features: +(.*)", said)
    assert sorted(found.features) == sorted(line.split())
    (line,) = re.findall(r"Last write time: +(.*)", said)
    assert found.written_at is not None
    written = datetime.fromtimestamp(found.written_at, UTC)
    env = os.environ | {"TZ": "UTC", "LC_ALL": "C"}
    said = subprocess.run(
        ["dumpe2fs", "-h", path], check=True, capture_output=True, text=True, env=env
    ).stdout
    (line,) = re.findall(r"Last write time: +(.*)", said)
    assert written.strftime("%a %b %e %H:%M:%S %Y") == line


@contextlib.contextmanager
def mounted(path: Path, directory: Path) -> Iterator[Path]:
    """Mount a volume through a loop device, to be written."""
    directory.mkdir()
    subprocess.run(["mount", "-o", "loop", path, directory], check=True)
    try:
        yield directory
    finally:
        unmount(directory, path)


@pytest.mark.parametrize("name", ["ext3", "ext4", "xfs", "btrfs"])
def test_a_journal_that_must_be_replayed(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, name)
    crashed = tmp_path / "crashed"
    with mounted(path, tmp_path / "mnt") as directory:
        for number in range(60):
            (directory / f"file{number}").write_bytes(os.urandom(9000))
        with (directory / "last").open("wb") as file:
            file.write(b"x" * 5000)
            os.fsync(file.fileno())
            shutil.copyfile(path, crashed)
    found, after = look(crashed), look(path)
    assert found is not None
    assert after is not None
    assert found.journal is Journal.REPLAY
    assert after.journal is Journal.CLEAN
    assert (found.uuid, found.type) == (after.uuid, after.type)
    if name == "xfs":
        said = subprocess.run(
            ["xfs_repair", "-n", crashed], capture_output=True, text=True, check=False
        )
        assert "log" in said.stdout + said.stderr
    if name.startswith("ext"):
        said = subprocess.run(
            ["dumpe2fs", "-h", crashed], capture_output=True, text=True, check=True
        )
        assert "needs_recovery" in said.stdout


def test_the_log_of_an_xfs_that_went_round(tmp_path: Path) -> None:
    path = make(tmp_path, "xfs")
    crashed = tmp_path / "crashed"
    for number in range(3):
        with mounted(path, tmp_path / f"mnt{number}") as directory:
            for each in range(4000):
                (directory / f"file{each}").write_bytes(b"")
            os.sync()
            for each in range(4000):
                (directory / f"file{each}").rename(directory / f"{number} another name {each}")
            os.sync()
            shutil.copyfile(path, crashed)
        found, after = look(crashed), look(path)
        assert found is not None
        assert after is not None
        assert (found.journal, after.journal) == (Journal.REPLAY, Journal.CLEAN)


def test_a_fat_and_an_ntfs_that_are_marked(tmp_path: Path) -> None:
    for name, at, bit in (("fat16", 37, 1), ("fat32", 65, 1), ("exfat", 106, 2)):
        path = make(tmp_path, name)
        data = bytearray(path.read_bytes())
        data[at] |= bit
        path.write_bytes(bytes(data))
        found = look(path)
        assert found is not None
        assert found.is_dirty
    path = make(tmp_path, "ntfs")
    subprocess.run(["ntfsfix", path], check=True, capture_output=True)
    found = look(path)
    assert found is not None
    # ntfsfix has Windows check it at the next start.
    assert found.is_dirty


def test_encrypted_and_joined_volumes_are_told_by_name(tmp_path: Path) -> None:
    luks = bytearray(MIB)
    luks[:8] = b"LUKS\xba\xbe\0\x02"
    luks[168:204] = b"0f0e0d0c-0b0a-0908-0706-050403020100"
    lvm = bytearray(MIB)
    lvm[512:520] = b"LABELONE"
    lvm[512 + 20 : 512 + 24] = (32).to_bytes(4, "little")
    lvm[536:544] = b"LVM2 001"
    lvm[544:576] = b"abcdefghijklmnopqrstuvwxyz012345"
    path = tmp_path / "volume"
    path.write_bytes(bytes(luks))
    said, found = blkid(path), look(path)
    assert found is not None
    assert (found.type, found.uuid) == (said["TYPE"], said["UUID"])
    path.write_bytes(bytes(lvm))
    found = look(path)
    assert found is not None
    assert (found.type, found.uuid) == ("LVM2_member", "abcdef-ghij-klmn-opqr-stuv-wxyz-012345")


def test_a_disk_with_a_table_is_no_fat(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    subprocess.run(["sfdisk", "-q", path], input="2048,,7\n", text=True, check=True)
    assert look(path) is None
    path.write_bytes(os.urandom(MIB))
    assert look(path) is None


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The beginnings of volumes of every kind."""
    directory = tmp_path_factory.mktemp("heads")
    found = []
    for name in MAKERS:
        path = make(directory, name)
        with path.open("rb") as file:
            found.append(file.read(MIB))
        path.unlink()
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_bytes_do_any_harm(heads: list[bytes], data: st.DataObject) -> None:
    volume = bytearray(data.draw(st.sampled_from(heads)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.sampled_from([0, 512, 1024, 65536])) + data.draw(st.integers(0, 600))
        volume[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    cut = data.draw(st.integers(0, len(volume)))
    whole = bytes(volume[:cut])
    reads = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        assert offset >= 0
        assert 0 <= length <= 4 * MIB
        return whole[offset : offset + length]

    found = find_file_system(read, data.draw(st.sampled_from([len(whole), 1 << 40])))
    assert reads < 200
    assert found is None or found.type
