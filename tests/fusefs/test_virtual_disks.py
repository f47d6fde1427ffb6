"""Virtual disks through a real mount: the bytes that QEMU's own tools read."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.packers import split
from support.virtual_disks import MIB, changes, guest_of, map_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

pytestmark = pytest.mark.fuse

SIZE = 24 * MIB
HOWS = {
    "plain": ("qcow2", ["-O", "qcow2"]),
    "v2": ("qcow2", ["-O", "qcow2", "-o", "compat=0.10,cluster_size=512"]),
    "zlib": ("qcow2", ["-O", "qcow2", "-c"]),
    "zstd": ("qcow2", ["-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=2M"]),
    "extended": ("qcow2", ["-O", "qcow2", "-o", "extended_l2=on"]),
    "dynamic": ("vpc", ["-O", "vpc", "-o", "force_size=on"]),
    "fixed": ("vpc", ["-O", "vpc", "-o", "subformat=fixed,force_size=on"]),
}


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """A disk of each kind, and how QEMU calls its format."""
    directory = tmp_path_factory.mktemp("disks")
    raw = write_raw(directory / "raw", SIZE, seed=1, writes=60)
    found = {}
    for number, (name, (driver, how)) in enumerate(HOWS.items()):
        path = directory / name
        qemu_img("convert", "-f", "raw", *how, raw, path)
        qemu_io(path, driver, changes(SIZE, number, 10))
        found[name] = path, driver
    return found


def test_every_disk_is_what_qemu_says(
    disks: dict[str, tuple[Path, str]], program: Program, tmp_path: Path
) -> None:
    program.run("add", *(path for path, _driver in disks.values()))
    mount = program.mount_all(tmp_path / "mnt")
    for name, (path, driver) in disks.items():
        guest = guest_of(path, driver)
        shown = mount / name
        assert shown.stat().st_size == len(guest)
        assert shown.read_bytes() == guest
        fd = os.open(shown, os.O_RDONLY)
        rng = random.Random(1)
        for _ in range(200):
            offset = rng.randrange(len(guest))
            length = rng.randrange(1, 100_000)
            assert os.pread(fd, length, offset) == guest[offset : offset + length]
        os.close(fd)
    for row in program.json("ls"):
        assert (row["status"], row["fs_type"]) == ("ready", "disk")
    assert program.run("verify", "--all").stdout.count("ok ") == len(disks)
    assert program.run("db", "check").stdout == "ok\n"


def test_the_map_is_that_of_qemu_img(disks: dict[str, tuple[Path, str]], program: Program) -> None:
    path, driver = disks["plain"]
    program.run("add", path)
    ours = json.loads(program.run("map", "plain", "--json").stdout)
    wanted = [
        (each["start"], each["length"], each["depth"], each["data"], each["zero"])
        for each in map_of(path, driver)
        if each["data"]
    ]
    assert wanted == [
        (each["start"], each["length"], each["depth"], each["data"], each["zero"])
        for each in ours
        if each["data"]
    ]


def test_below_a_compression_and_in_pieces(
    disks: dict[str, tuple[Path, str]], program: Program, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(disks["zlib"][0].read_bytes(), 1))
    fixed = tmp_path / "fixed.gz"
    fixed.write_bytes(gzip.compress(disks["fixed"][0].read_bytes(), 1))
    whole = tmp_path / "whole"
    whole.write_bytes(disks["extended"][0].read_bytes())
    pieces = split(whole, 2, 300_000)
    program.run("add", packed, fixed, pieces[0])
    mount = program.mount_all(tmp_path / "mnt")
    names = {"packed": "zlib", "fixed": "fixed", "whole": "extended"}
    assert {path.name for path in mount.iterdir()} == set(names)
    for name, kind in names.items():
        assert (mount / name).read_bytes() == guest_of(*disks[kind]), name


def test_an_image_that_is_written_to_is_stale_and_gives_no_wrong_byte(
    disks: dict[str, tuple[Path, str]], program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "written.qcow2"
    path.write_bytes(disks["plain"][0].read_bytes())
    program.run("add", path)
    mount = program.mount_all(tmp_path / "mnt")
    fd = os.open(mount / path.name, os.O_RDONLY | os.O_DIRECT)
    before = guest_of(path, "qcow2")
    assert os.pread(fd, 4096, 0) == before[:4096]
    qemu_io(path, "qcow2", [f"write -P {n} {n * MIB} 64k" for n in range(20)])
    for number in range(20):
        with pytest.raises(OSError, match=r"error|Stale"):
            os.pread(fd, 4096, number * MIB)
    os.close(fd)
    assert [row["status"] for row in program.json("ls")] == ["stale"]
    program.run("rescan", path.name)
    assert (mount / path.name).read_bytes() == guest_of(path, "qcow2")


def test_the_mounted_disk_is_exported_and_compared_by_qemu(
    disks: dict[str, tuple[Path, str]], program: Program, tmp_path: Path
) -> None:
    path, driver = disks["zstd"]
    program.run("add", path)
    out = tmp_path / "out"
    program.run("export", "zstd", out)
    said = subprocess.run(
        ["qemu-img", "compare", "-f", driver, "-F", "raw", path, out],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout.strip()) == (0, "Images are identical.")
