"""Image directories as Clonezilla lays them out, of real disks: partitions and disks mounted."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.clonezilla_writer import (
    DOS_PARTS,
    GPT_PARTS,
    copy_directory,
    write_directory,
    write_sums,
)
from support.volumes import mounted, quiet, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.clonezilla_writer import SavedDisk
    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> SavedDisk:
    where = tmp_path_factory.mktemp("gpt")
    return write_directory(where, GPT_PARTS, label="gpt", name="sda", image_name="laptop-2026")


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> SavedDisk:
    where = tmp_path_factory.mktemp("dos")
    return write_directory(where, DOS_PARTS, label="dos", name="nvme0n1", image_name="server")


@contextlib.contextmanager
def _loop_partitions(disk: Path) -> Iterator[dict[int, str]]:
    """Attach a disk, and give the device node of each partition that the kernel finds on it."""
    device = subprocess.run(
        ["losetup", "--find", "--show", "-r", "-P", disk],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    name = os.path.basename(device)
    nodes = {}
    made = []
    try:
        # A kernel that was built without partition tables leaves reading them to this.
        if not any(entry.name.startswith(f"{name}p") for entry in os.scandir(f"/sys/block/{name}")):
            quiet("partx", "--add", device)
        for entry in os.scandir(f"/sys/block/{name}"):
            if not entry.name.startswith(f"{name}p"):
                continue
            node = f"/dev/{entry.name}"
            if not os.path.exists(node):
                # Without udev nobody makes it.
                with open(f"{entry.path}/dev", encoding="ascii") as file:
                    major, minor = map(int, file.read().split(":"))
                os.mknod(node, 0o600 | 0o060000, os.makedev(major, minor))
                made.append(node)
            nodes[int(entry.name.removeprefix(f"{name}p"))] = node
        yield nodes
    finally:
        for node in made:
            os.unlink(node)
        quiet("losetup", "-d", device)


def _table(disk: Path) -> str:
    """Return what fdisk prints of a disk, without its path."""
    text = subprocess.run(["fdisk", "-l", disk], check=True, capture_output=True, text=True).stdout
    return "\n".join(
        " ".join(line.replace(str(disk), "DISK").split()) for line in text.splitlines()
    )


def _number(saved: SavedDisk, name: str) -> int:
    """Return the number of a partition."""
    return int(name.rpartition("p" if saved.name[-1].isdigit() else saved.name)[2])


@pytest.mark.parametrize("which", ["gpt", "dos"])
def test_partitions_and_disks_are_what_was_saved(
    which: str, request: pytest.FixtureRequest, program: Program, tmp_path: Path
) -> None:
    saved: SavedDisk = request.getfixturevalue(which)
    program.run("add", saved.directory)
    mount = program.mount_all(tmp_path / "mnt") / saved.directory.name
    images = {name for name, each in saved.partitions.items() if each.image is not None}
    # The swap, of which nothing was saved, is a partition of the disk.
    unsaved = {
        f"{saved.name}.disk.p{_number(saved, name)}" for name in saved.partitions.keys() - images
    }
    assert len(unsaved) == 1
    assert set(os.listdir(mount)) == images | {f"{saved.name}.disk"} | unsaved
    for name in images:
        each = saved.partitions[name]
        if each.part.kind == "raw" or each.part.saver == "dd":
            assert sha256(mount / name) == sha256(each.raw)
        if each.part.kind == "ext4":
            quiet("e2fsck", "-fn", mount / name)
    disk = mount / f"{saved.name}.disk"
    assert disk.stat().st_size == saved.disk.stat().st_size
    assert _table(disk) == _table(saved.disk)
    with _loop_partitions(disk) as nodes:
        numbers = {_number(saved, name) for name in saved.partitions}
        assert numbers <= set(nodes)
        for name, each in saved.partitions.items():
            if each.part.kind != "ext4":
                continue
            number = _number(saved, name)
            here = tmp_path / f"disk-{name}"
            with (
                mounted(["mount", "-t", "ext4", "-o", "ro,noload", nodes[number], here], here),
                _original(each.raw, tmp_path / f"raw-{name}") as there,
            ):
                quiet("diff", "-r", here, there)


@contextlib.contextmanager
def _original(raw: Path, point: Path) -> Iterator[Path]:
    with mounted(["mount", "-t", "ext4", "-o", "loop,ro,noload", raw, point], point):
        yield point


def test_what_the_directory_tells_is_in_the_catalog(gpt: SavedDisk, program: Program) -> None:
    program.run("add", gpt.directory)
    (row,) = program.sql("SELECT * FROM image_directories")
    assert (row["name"], row["is_broken"]) == ("laptop-2026", 0)
    assert row["saved_at"]
    starts = {
        row["name"]: row["start"]
        for row in program.sql(
            "SELECT name, detail ->> 'start' AS start FROM directory_facts WHERE kind = 'table_row'"
        )
    }
    assert starts == {name: each.start for name, each in gpt.partitions.items()}
    (swap,) = program.sql("SELECT name FROM directory_facts WHERE kind = 'swap'")
    assert swap["name"] == "sda4"
    members = program.sql("SELECT role, device FROM directory_images ORDER BY role, device")
    assert [(row["role"], row["device"]) for row in members] == [
        ("disk", "sda"), *(("partition", name) for name in ("sda1", "sda2", "sda3", "sda5")),
    ]  # fmt: skip


def test_adding_again_changes_nothing_and_removing_all_forgets_it(
    gpt: SavedDisk, program: Program
) -> None:
    program.run("add", gpt.directory)
    before = program.json("ls")
    again = program.run("add", gpt.directory).stdout
    # What is derived from the disk is not told of by itself.
    assert again.count("unchanged") == len([row for row in before if row["parent"] is None])
    assert [row["id"] for row in program.json("ls")] == [row["id"] for row in before]
    program.run("rm", "laptop-2026/*")
    assert program.sql("SELECT * FROM image_directories") == []
    assert program.sql("SELECT * FROM directory_facts") == []


def test_one_bad_partition_does_not_stop_the_others(
    gpt: SavedDisk, program: Program, tmp_path: Path
) -> None:
    copy = copy_directory(gpt, tmp_path).directory
    first = next(copy.glob("sda2*.aa"))
    first.unlink()
    shutil.copyfile(copy / "sda-mbr", next(copy.glob("sda3*")))
    (copy / "THIS_IMAGE_DIR_IS_BROKEN.txt").write_text("broken\n")
    result = program.run("add", copy, code=5)
    assert "sda2" in result.stderr
    assert "sda3" in result.stderr
    names = {row["name"] for row in program.json("ls")}
    assert names == {
        "laptop-2026/sda1", "laptop-2026/sda5", "laptop-2026/sda.disk", "laptop-2026/sda.disk.p4",
    }  # fmt: skip
    assert program.sql("SELECT is_broken FROM image_directories") == [{"is_broken": 1}]
    mount = program.mount_all(tmp_path / "mnt")
    disk = mount / "laptop-2026" / "sda.disk"
    start = gpt.partitions["sda1"].start
    with disk.open("rb") as file, gpt.partitions["sda1"].raw.open("rb") as raw:
        assert os.pread(file.fileno(), 512, start) == raw.read(512)
        with pytest.raises(OSError, match="error"):
            os.pread(file.fileno(), 4096, gpt.partitions["sda3"].start)


@pytest.mark.parametrize("name", ["ecryptfs.info", "gocryptfs.info"])
def test_an_encrypted_directory_is_refused_by_name(
    name: str, gpt: SavedDisk, program: Program, tmp_path: Path
) -> None:
    copy = copy_directory(gpt, tmp_path).directory
    (copy / name).write_text("disk_of_img=sda\n")
    result = program.run("add", copy, code=4)
    assert name.partition(".")[0] in result.stderr
    assert program.json("ls") == []


def test_recursive_add_finds_directories_and_files(
    gpt: SavedDisk, dos: SavedDisk, program: Program, tmp_path: Path
) -> None:
    tree = tmp_path / "tree" / "deep"
    tree.mkdir(parents=True)
    copy_directory(gpt, tree)
    copy_directory(dos, tree)
    shutil.copy(next(gpt.directory.glob("sda1.*")), tree / "alone.img.gz")
    (tree / "notes.txt").write_text("no image\n")
    program.run("add", "-r", tmp_path / "tree")
    names = {row["name"] for row in program.json("ls")}
    assert {
        "deep/alone", "deep/laptop-2026/sda1", "deep/laptop-2026/sda.disk", "deep/server/nvme0n1p5",
    } <= names  # fmt: skip
    # A file, and of each directory its partitions and its disk.
    assert len(names) == 1 + 6 + 5


def test_sums_are_checked(gpt: SavedDisk, program: Program, tmp_path: Path) -> None:
    copy = copy_directory(gpt, tmp_path).directory
    write_sums(copy)
    program.run("add", copy)
    right = program.run("verify", "--sums", "laptop-2026/sda1").stdout
    assert "ok" in right
    with next(copy.glob("sda5*")).open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    result = program.run("verify", "--sums", "laptop-2026/sda1", code=5)
    assert "sda5" in result.stderr
