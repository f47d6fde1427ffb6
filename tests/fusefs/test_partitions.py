"""The partitions of disks, each a file: its own checker passes, and the kernel mounts it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.clonezilla_writer import Part, write_directory
from support.program import wait_until
from support.shortcuts import catalogue, statuses
from support.virtual_disks import MIB, qemu_img, qemu_io
from support.volumes import mounted, quiet, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from support.clonezilla_writer import SavedDisk
    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

XFS = Part("xfs", 304 * MIB, compression="gz")
GPT = (Part("vfat", 40 * MIB), Part("ext4", 48 * MIB), Part("ntfs", 32 * MIB), XFS)
DOS = (
    Part("ntfs", 32 * MIB, saver="ntfsclone", compression="gz"), Part("extended", 410 * MIB),
    Part("ext4", 48 * MIB), Part("vfat", 40 * MIB), XFS,
)  # fmt: skip
CHECKS = {
    "ext4": ("e2fsck", "-fn"),
    "vfat": ("fsck.fat", "-n"),
    "ntfs": ("ntfsresize", "--info", "--force"),
    "xfs": ("xfs_repair", "-n", "-f"),
}
MOUNTS = {
    "ext4": ("mount", "-t", "ext4", "-o", "loop,ro,noload"),
    "xfs": ("mount", "-t", "xfs", "-o", "loop,ro,norecovery,nouuid"),
    "ntfs": ("ntfs-3g", "-o", "ro"),
}


@pytest.fixture(scope="module", params=["gpt", "dos"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedDisk:
    """A disk, and the same saved by Clonezilla's tools."""
    where = tmp_path_factory.mktemp(request.param)
    parts = GPT if request.param == "gpt" else DOS
    return write_directory(where, parts, label=request.param, size=460 * MIB, image_name="saved")


def numbers(saved: SavedDisk) -> dict[int, str]:
    """Return the names of a disk's partitions by their numbers."""
    return {int(name.removeprefix(saved.name)): name for name in saved.partitions}


def dump(disk: Path) -> str:
    """Return what `sfdisk -d` prints, without the path."""
    return quiet("sfdisk", "-d", disk).replace(str(disk), "DISK")


def check_contents(kind: str, volume: Path, content: Path, here: Path) -> None:
    """Check a volume with its own tool, and compare the files in it."""
    quiet(*CHECKS[kind], volume)
    if kind == "vfat":
        here.mkdir()
        quiet("mcopy", "-i", volume, "::*", here)
        quiet("diff", "-r", content, here)
        return
    with mounted([*MOUNTS[kind], volume, here], here):
        for path in content.iterdir():
            assert (here / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "how", ["raw", "qcow2", "vhd", "clonezilla", pytest.param("gzip", marks=pytest.mark.soak)]
)
def test_each_partition_is_a_file(
    how: str, saved: SavedDisk, program: Program, tmp_path: Path
) -> None:
    disk = tmp_path / f"disk.{how}"
    if how == "raw":
        disk = saved.disk
    elif how == "qcow2":
        qemu_img("convert", "-f", "raw", "-O", "qcow2", saved.disk, disk)
    elif how == "vhd":
        qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", saved.disk, disk)
    elif how == "gzip":
        with saved.disk.open("rb") as source, gzip.open(disk, "wb", 1) as target:
            shutil.copyfileobj(source, target, MIB)
    if how == "clonezilla":
        program.run("add", saved.directory)
        name = f"saved/{saved.name}.disk"
    else:
        program.run("add", disk, "--name", "disk")
        name = "disk"
    mount = program.mount_all(tmp_path / "mnt")
    assert dump(mount / name) == dump(saved.disk)
    rows = {
        row["number"]: row
        for row in program.sql(f"SELECT * FROM partition_list WHERE disk = '{name}'")
        if row["image"] is not None
    }
    assert rows.keys() == numbers(saved).keys()
    for number, partition in numbers(saved).items():
        original = saved.partitions[partition]
        # What Clonezilla has saved is an image already, and not shown twice.
        shown = f"saved/{partition}" if how == "clonezilla" else f"disk.p{number}"
        row = rows[number]
        assert (row["image"], row["start_byte"], row["fs_type"]) == (
            shown, original.start, original.part.kind,
        )  # fmt: skip
        volume = mount / shown
        if how != "clonezilla":
            assert sha256(volume) == sha256(original.raw)
        content = original.raw.parent / "content"
        check_contents(original.part.kind, volume, content, tmp_path / f"here{number}")
    assert program.run("db", "check").stdout == "ok\n"
    assert set(statuses(program).values()) == {"ready"}


def test_what_no_image_was_saved_of_is_a_partition_of_the_disk(
    program: Program, tmp_path: Path
) -> None:
    parts = (Part("ext4", 16 * MIB), Part("swap", 16 * MIB))
    saved = write_directory(tmp_path, parts, label="gpt", size=64 * MIB, image_name="small")
    program.run("add", saved.directory)
    assert set(statuses(program)) == {"small/sda1", "small/sda.disk", "small/sda.disk.p2"}
    program.run("add", saved.directory)
    assert len(statuses(program)) == 3


def partitioned(path: Path, *sizes: int) -> Path:
    """Make a disk of partitions of so many MiB, the first an ext4."""
    with path.open("wb") as file:
        file.truncate((sum(sizes) + 2) * MIB)
    lines = ["label: gpt", *(f"size={size}MiB" for size in sizes)]
    subprocess.run(["sfdisk", "-q", path], input="\n".join(lines), text=True, check=True)
    quiet("mkfs.ext4", "-q", "-F", "-L", "one", "-E", "offset=1048576", path, f"{sizes[0]}M")
    return path


def test_a_table_that_changed(program: Program, tmp_path: Path) -> None:
    path = partitioned(tmp_path / "disk", 16, 8, 8)
    catalogue(program, path)
    ids = {row["name"]: row["id"] for row in program.json("ls")}
    assert set(ids) == {"disk", "disk.p1", "disk.p2", "disk.p3"}
    mount = program.mount_all(tmp_path / "mnt")
    inode = (mount / "disk.p1").stat().st_ino
    subprocess.run(["sfdisk", "-q", "--delete", path, "2"], check=True, capture_output=True)
    assert set(statuses(program).values()) == {"stale"}
    with pytest.raises(OSError, match=r"Stale|Input/output"):
        (mount / "disk.p1").read_bytes()
    program.run("rescan")
    now = {row["name"]: row["id"] for row in program.json("ls")}
    assert now == {name: ids[name] for name in ("disk", "disk.p1", "disk.p3")}
    wait_until(lambda: (mount / "disk.p1").stat().st_ino != inode, "it is another content", 30)
    assert not (mount / "disk.p2").exists()
    quiet("e2fsck", "-fn", mount / "disk.p1")
    # They go by the disk's name, and with it.
    program.run("rename", "disk", "backups/web")
    assert set(statuses(program)) == {"backups/web", "backups/web.p1", "backups/web.p3"}
    program.run("rm", "backups/web")
    assert statuses(program) == {}


def test_a_table_that_cannot_be_is_told(program: Program, tmp_path: Path) -> None:
    path = partitioned(tmp_path / "disk", 16, 8)
    with path.open("r+b") as file:
        file.seek(512 + 60)
        file.write(b"\xff\xff")
    found = program.run("add", path)
    assert "the GPT is damaged" in found.stderr
    assert set(statuses(program)) == {"disk", "disk.p1", "disk.p2"}
    with path.open("r+b") as file:
        file.seek(-512 + 60, os.SEEK_END)
        file.write(b"\xff\xff")
    found = program.run("add", path, code=5)
    assert "--format raw" in found.stderr
    found = program.run("add", "--format", "raw", path)
    assert "its partition table" in found.stderr
    assert set(statuses(program)) == {"disk"}
    program.run("add", "--strict", "--force", "--format", "raw", path, code=5)


def test_what_is_inside_is_in_the_catalog(program: Program, tmp_path: Path) -> None:
    path = partitioned(tmp_path / "disk", 16, 8)
    catalogue(program, path)
    inside = json.loads(program.run("show", "disk.p1", "--json").stdout)["file_system"]
    said = quiet("blkid", "-p", "-o", "export", "-O", str(MIB), path)
    assert f"UUID={inside['uuid']}" in said
    assert (inside["type"], inside["label"], inside["journal"]) == ("ext4", "one", "clean")
    text = program.run("show", "disk").stdout
    assert "gpt" in text
    assert "-> disk.p1" in text
    assert "e2fsck -fn" in program.run("show", "disk.p1").stdout
    # Of what an older imgcat has added, a rescan tells.
    program.run_python(
        "import sqlite3, os; c = sqlite3.connect(os.environ['IMGCAT_DB']);"
        "c.execute('DELETE FROM file_systems'); c.execute('DELETE FROM partitions');"
        "c.execute('UPDATE images SET looked_at = NULL'); c.commit()"
    )
    program.run("rescan", "disk")
    assert program.sql("SELECT fs_type FROM partition_list WHERE number = 1") == [
        {"fs_type": "ext4"}
    ]


def test_file_systems_of_partclone_images_are_told_too(program: Program, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "root.img"
    with raw.open("wb") as file:
        file.truncate(32 * MIB)
    quiet("mkfs.ext4", "-q", "-F", "-L", "root", raw)
    quiet("partclone.extfs", "-c", "-s", raw, "-o", image, "-L", tmp_path / "log")
    catalogue(program, image)
    (row,) = program.sql("SELECT type, label FROM file_systems")
    assert row == {"type": "ext4", "label": "root"}


def test_a_raw_image_is_known_by_what_is_in_it(program: Program, tmp_path: Path) -> None:
    for name, command in (("ext", "mkfs.ext4 -q -F"), ("fat", "mkfs.vfat"), ("swap", "mkswap")):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(16 * MIB)
        quiet(*command.split(), path)
        catalogue(program, path)
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(MIB))
    program.run("add", noise, code=4)
    program.run("add", "--format", "raw", noise)
    kinds = {row["name"]: (row["format"], row["fs_type"]) for row in program.json("ls")}
    assert kinds == {
        "ext": ("raw", "ext4"), "fat": ("raw", "vfat"), "swap": ("raw", "swap"),
        "noise": ("raw", "raw"),
    }  # fmt: skip
    # A rescan takes it for what it was added as.
    os.utime(noise)
    program.run("rescan", "noise")
    assert statuses(program)["noise"] == "ready"


def test_a_block_device_is_live(program: Program, tmp_path: Path) -> None:
    path = partitioned(tmp_path / "disk", 24, 8)
    device = quiet("losetup", "-f", "--show", path).strip()
    try:
        program.run("add", device, "--name", "dev")
        assert statuses(program) == {"dev": "live", "dev.p1": "live", "dev.p2": "live"}
        mount = program.mount_all(tmp_path / "mnt")
        assert (mount / "dev").read_bytes() == path.read_bytes()
        where = tmp_path / "written"
        # It is written behind the program's back: what is read is what is there now.
        with (
            (mount / "dev").open("rb", buffering=0) as disk,
            (mount / "dev.p1").open("rb", buffering=0) as part,
        ):
            before = os.pread(disk.fileno(), 8 * MIB, MIB)
            start = ("mount", "-o", f"loop,offset={MIB},sizelimit={24 * MIB}")
            with mounted([*start, device, where], where):
                (where / "file").write_bytes(os.urandom(2 * MIB))
                os.sync()
            data = path.read_bytes()
            after = os.pread(disk.fileno(), 8 * MIB, MIB)
            assert after != before
            assert after == data[MIB : 9 * MIB]
            assert os.pread(part.fileno(), 8 * MIB, 0) == after
            # Any place and length, not only whole sectors.
            assert os.pread(disk.fileno(), 777, MIB + 1333) == data[MIB + 1333 :][:777]
        program.run("verify", "dev")
        assert statuses(program)["dev"] == "live"
        assert program.sql("SELECT sealed_at FROM indexes WHERE sealed_at IS NOT NULL") == []
    finally:
        program.run("rm", "dev")
        quiet("losetup", "-d", device)


def test_a_partition_of_a_chain_is_stale_with_it(program: Program, tmp_path: Path) -> None:
    base = partitioned(tmp_path / "base", 16, 8)
    top = tmp_path / "top.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", "base", "-F", "raw", top)
    qemu_io(top, "qcow2", [f"write -P 9 {20 * MIB} 64k"])
    catalogue(program, top)
    mount = program.mount_all(tmp_path / "mnt")
    quiet("e2fsck", "-fn", mount / "top.qcow2.p1")
    assert set(statuses(program)) == {
        "base", "base.p1", "base.p2", "top.qcow2", "top.qcow2.p1", "top.qcow2.p2",
    }  # fmt: skip
    os.utime(base)
    assert set(statuses(program).values()) == {"stale"}
    with pytest.raises(OSError, match=r"Stale|Input/output"):
        (mount / "top.qcow2.p1").read_bytes()
