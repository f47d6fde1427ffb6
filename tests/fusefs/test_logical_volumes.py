"""The logical volumes of a disk, each an image: mounted, served, written out, looked into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.files_inside import of_mount
from support.lvm import Place, disk_of, empty, lvm_on
from support.nbd import serving
from support.program import wait_until
from support.shortcuts import statuses
from support.virtual_disks import qemu_img
from support.volumes import MIB, mounted, quiet, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

GUEST_FILES = {"etc/hostname": b"guest\n", "home/photo": b"a photo of a beach\n" * 9000}


class Disk(NamedTuple):
    """A disk with a volume group in each of two partitions, and one over two more.

    Attributes:
        path: the disk.
        volumes: the raw file of each volume, by the name that its image has.
    """

    path: Path
    volumes: dict[str, Path]


def ext4(path: Path, size: int) -> Path:
    """Make a file system of so many MiB with files in it."""
    content = path.with_suffix(".content")
    for name, data in GUEST_FILES.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data + path.name.encode())
    empty(path, size)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, path)
    return path


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    where = tmp_path_factory.mktemp("lvm")
    path = where / "disk"
    one, two, three = disk_of(path, 40, 32, 32)
    root, home, wide = (ext4(where / name, size) for name, size in
                        (("root", 16), ("home", 10), ("wide", 24)))  # fmt: skip
    with lvm_on(where / "home-1", one) as lvm:
        lvm.group("vg")
        lvm.volume("root", 9, group="vg")
        lvm.volume("my-home", 10, group="vg")
        lvm.run("lvextend", "-q", "-L", "16M", "vg/root")
        lvm.write("root", root.read_bytes(), "vg")
        lvm.write("my-home", home.read_bytes(), "vg")
        zero = 'zero {\nid = "zzzzzz-aaaa-bbbb-cccc-dddd-eeee-ffffff"\nstatus = ["VISIBLE"]\n'
        zero += "segment_count = 1\nsegment1 {\nstart_extent = 0\nextent_count = 1\n"
        lvm.edit(
            ("logical_volumes {\n", f'logical_volumes {{\n{zero}type = "zero"\n}}\n}}\n'), "vg"
        )
    with lvm_on(where / "home-2", two, three) as lvm:
        lvm.group("pool")
        lvm.volume("wide", 24, "-i2", "-I64k", group="pool")
        lvm.write("wide", wide.read_bytes(), "pool")
    names = {"disk.p1.vg-root": root, "disk.p1.vg-my--home": home, "disk.pool-wide": wide}
    return Disk(path, names)


@pytest.mark.parametrize("container", ["raw", "qcow2"])
def test_each_volume_is_an_image(
    container: str, disk: Disk, program: Program, tmp_path: Path
) -> None:
    path = disk.path
    if container == "qcow2":
        path = tmp_path / "disk.qcow2"
        qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", disk.path, path)
    said = program.run("add", path, "--name", "disk")
    assert "disk.p1: logical volume vg/zero is of type zero: it is not read" in said.stderr
    listed = {row["name"]: row for row in program.json("ls")}
    assert set(listed) == {"disk", "disk.p1", "disk.p2", "disk.p3", *disk.volumes}
    mount = program.mount_all(tmp_path / "mnt")
    for name, raw in disk.volumes.items():
        row = listed[name]
        assert (row["format"], row["fs_type"], row["size_bytes"]) == (
            "logical-volume", "ext4", raw.stat().st_size,
        )  # fmt: skip
        assert sha256(mount / name) == sha256(raw)
    if container == "qcow2":
        return
    for name, raw in disk.volumes.items():
        quiet("e2fsck", "-fn", mount / name)
        told = program.run("cat", f"{name}:/home/photo").stdout
        assert told.encode() == GUEST_FILES["home/photo"] + raw.name.encode()
    out = tmp_path / "out"
    program.run("export", "disk.pool-wide", out)
    assert sha256(out) == sha256(disk.volumes["disk.pool-wide"])
    point = tmp_path / "point"
    with mounted(["mount", "-o", "loop,ro,noload", mount / "disk.pool-wide", point], point):
        assert {name.decode() for name in of_mount(point)} >= GUEST_FILES.keys()
    program.run("verify", "disk.p1.vg-root", "disk.pool-wide")
    assert set(statuses(program).values()) == {"ready"}
    assert program.run("db", "check").stdout == "ok\n"


def test_what_is_said_of_the_disk(disk: Disk, program: Program) -> None:
    program.run("add", disk.path, "--name", "disk")
    text = program.run("show", "disk.p1").stdout
    assert "vg/my-home:" in text
    assert "-> disk.p1.vg-my--home" in text
    assert "logical volume vg/zero is of type zero: it is not read" in text
    fields = json.loads(program.run("show", "--json", "disk.p1").stdout)
    assert [each["image"] for each in fields["logical_volumes"]] == [
        "disk.p1.vg-root", "disk.p1.vg-my--home",
    ]  # fmt: skip
    # A volume that lies in several partitions is the disk's, and each of them tells of it.
    for name in ("disk", "disk.p2", "disk.p3"):
        assert "-> disk.pool-wide" in program.run("show", name).stdout
    said = program.run("files", "disk.p1:/", code=4).stderr
    assert "files are in those: disk.p1.vg-root, disk.p1.vg-my--home" in said
    again = program.json("add", disk.path)["images"][0]
    assert again["outcome"] == "unchanged"
    assert len(again["warnings"]) == 1
    program.run("add", "--strict", "--force", disk.path, code=5)


def test_straight_from_the_file(
    disk: Disk, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vm.img"
    os.link(disk.path, path)
    for place in ("p1.vg-root", "p1.vg-my--home", "pool-wide"):
        found = program.run("files", f"{path}.{place}:/etc").stdout
        assert "hostname" in found
    said = program.run("files", f"{path}.p1.vg-none:/", code=3).stderr
    assert "it has vm.p1, vm.p1.vg-my--home, vm.p1.vg-root, vm.p2" in said
    # What the catalog knows by that name comes first.
    program.run("add", disk.volumes["disk.p1.vg-root"], "--name", "vm.img.p1.vg-none")
    monkeypatch.chdir(tmp_path)
    assert "hostname" in program.run("files", "vm.img.p1.vg-none:/etc").stdout


def test_served_to_a_client(disk: Disk, program: Program, tmp_path: Path) -> None:
    program.run("add", disk.path, "--name", "disk")
    with serving(program) as server:
        out = tmp_path / "out"
        quiet("nbdcopy", server.of("disk.pool-wide"), out)
        assert sha256(out) == sha256(disk.volumes["disk.pool-wide"])


def test_names_and_ids_stay_when_a_group_changes(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    (place,) = disk_of(path, 40)
    root = ext4(tmp_path / "root", 8)
    with lvm_on(tmp_path / "home", place) as lvm:
        lvm.group()
        lvm.volume("root", 8)
        lvm.volume("gone", 2)
        lvm.write("root", root.read_bytes())
        program.run("add", path)
        mount = program.mount_all(tmp_path / "mnt")
        ids = {row["name"]: row["id"] for row in program.json("ls")}
        assert ids.keys() == {"disk", "disk.p1", "disk.p1.vg-root", "disk.p1.vg-gone"}
        inode = (mount / "disk.p1.vg-root").stat().st_ino
        lvm.run("lvremove", "-q", "-y", "vg/gone")
        lvm.run("lvextend", "-q", "-L", "12M", "vg/root")
        lvm.volume("new", 3)
    assert set(statuses(program).values()) == {"stale"}
    with pytest.raises(OSError, match=r"Stale|Input/output"):
        (mount / "disk.p1.vg-root").read_bytes()
    program.run("rescan")
    now = {row["name"]: row["id"] for row in program.json("ls")}
    assert now.keys() == {"disk", "disk.p1", "disk.p1.vg-root", "disk.p1.vg-new"}
    assert {name: ids[name] for name in now.keys() & ids.keys()}.items() <= now.items()
    wait_until(lambda: (mount / "disk.p1.vg-root").stat().st_ino != inode, "it is new", 30)
    assert (mount / "disk.p1.vg-root").read_bytes() == root.read_bytes() + bytes(4 * MIB)
    # They go by the disk's name, and with it.
    program.run("rename", "disk", "old/web")
    assert set(statuses(program)) == {
        "old/web", "old/web.p1", "old/web.p1.vg-root", "old/web.p1.vg-new",
    }  # fmt: skip
    other = tmp_path / "part.db"
    program.run("db", "export", "old/web.p1.vg-root", "-o", other)
    assert len(json.loads(program.run("--db", other, "ls", "--json").stdout)) == 4
    program.run("--db", other, "db", "check")
    program.run("rm", "old/web")
    assert statuses(program) == {}


def test_volumes_in_volumes_and_disks_in_them(program: Program, tmp_path: Path) -> None:
    inner, table, outer = tmp_path / "inner", tmp_path / "table", tmp_path / "outer"
    deepest = ext4(tmp_path / "deepest", 6)
    with lvm_on(tmp_path / "home-1", empty(inner, 12)) as lvm:
        lvm.group("inner")
        lvm.volume("root", 6, group="inner")
        lvm.write("root", deepest.read_bytes(), "inner")
    (place,) = disk_of(table, 8)
    with table.open("r+b") as file:
        file.seek(place.start)
        file.write(deepest.read_bytes())
    with lvm_on(tmp_path / "home-2", empty(outer, 40)) as lvm:
        lvm.group("outer")
        for name, content in (("pv", inner), ("vm", table)):
            size = content.stat().st_size // MIB
            lvm.volume(name, size, group="outer")
            lvm.write(name, content.read_bytes(), "outer")
    program.run("add", outer)
    kinds = {row["name"]: row["fs_type"] for row in program.json("ls")}
    assert kinds == {
        "outer": "LVM2_member", "outer.outer-pv": "LVM2_member",
        "outer.outer-pv.inner-root": "ext4", "outer.outer-vm": "disk",
        "outer.outer-vm.p1": "ext4",
    }  # fmt: skip
    mount = program.mount_all(tmp_path / "mnt")
    expected = deepest.read_bytes()
    assert (mount / "outer.outer-pv.inner-root").read_bytes() == expected
    assert (mount / "outer.outer-vm.p1").read_bytes()[: len(expected)] == expected
    found = program.run("cat", f"{outer}.outer-vm.p1:/etc/hostname").stdout
    assert found == "guest\ndeepest"
    assert program.run("db", "check").stdout == "ok\n"
    program.run("rename", "outer", "x")
    assert "x.outer-pv.inner-root" in statuses(program)


def test_an_image_of_a_partition_alone(disk: Disk, program: Program, tmp_path: Path) -> None:
    part = tmp_path / "sda1.img.gz"
    with disk.path.open("rb") as file, part.open("wb") as target:
        file.seek(MIB)
        subprocess.run(["gzip", "-1"], input=file.read(40 * MIB), stdout=target, check=True)
    program.run("add", part)
    assert set(statuses(program)) == {"sda1", "sda1.vg-root", "sda1.vg-my--home"}
    mount = program.mount_all(tmp_path / "mnt")
    assert sha256(mount / "sda1.vg-root") == sha256(disk.volumes["disk.p1.vg-root"])


def test_a_bad_place_of_a_stripe_is_told_where_it_is(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    places = disk_of(path, 12, 12)
    wide = ext4(tmp_path / "wide", 8)
    with lvm_on(tmp_path / "home", *places) as lvm:
        lvm.group()
        lvm.volume("wide", 8, "-i2", "-I64k")
        lvm.write("wide", wide.read_bytes())
    program.run("add", path)
    program.run("verify", "disk")
    before = path.stat()
    mark = GUEST_FILES["etc/hostname"] + b"wide" + bytes(100)
    place = path.read_bytes().index(mark)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    program.run("verify", "disk", code=5)
    program.run("verify", "disk.vg-wide", code=5)
    bad = json.loads(program.run("show", "disk.vg-wide", "--json").stdout)["bad_ranges"]
    where = wide.read_bytes().index(mark)
    assert any(each["start"] <= where < each["stop"] for each in bad)
    assert all(each["stop"] <= 8 * MIB for each in bad)


BACK_TO_0009 = """
import os, sqlite3
catalog = sqlite3.connect(os.environ["IMGCAT_DB"])
catalog.execute("PRAGMA foreign_keys = ON")
catalog.execute("DELETE FROM images WHERE format = 'logical-volume'")
catalog.execute("ALTER TABLE segments DROP COLUMN stripes")
catalog.commit()
catalog.execute("PRAGMA foreign_keys = OFF")
# What later revisions have made. With a virtual table go those in which it is stored.
for kind in ("trigger", "view", "table"):
    for name, in catalog.execute(
        "SELECT name FROM sqlite_schema WHERE type = ? AND name <> 'file_systems'"
        " AND (name GLOB 'file_*' OR name GLOB 'snapshot*' OR name IN ('files',"
        " 'lineages', 'worker_failures')) ORDER BY sql NOT GLOB 'CREATE VIRTUAL*'", (kind,)
    ).fetchall():
        catalog.execute(f"DROP {kind} IF EXISTS {name}")
catalog.execute("UPDATE alembic_version SET version_num = '0009'")
catalog.commit()
"""


def test_a_catalog_from_before_volumes_were_read(
    disk: Disk, program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "disk"
    shutil.copyfile(disk.path, path)
    program.run("add", path)
    program.run_python(BACK_TO_0009)
    assert program.run("db", "upgrade").stdout
    assert len(statuses(program)) == 4
    program.run("rescan")
    assert set(statuses(program)) == {"disk", "disk.p1", "disk.p2", "disk.p3", *disk.volumes}


def test_the_place_of_a_group_over_two_images_is_told(program: Program, tmp_path: Path) -> None:
    one, two = empty(tmp_path / "one", 12), empty(tmp_path / "two", 12)
    with lvm_on(tmp_path / "home", Place(one.path), Place(two.path)) as lvm:
        lvm.group()
        lvm.volume("data", 4, "-i2", "-I64k")
        uuids = {row["pv_name"]: row["pv_uuid"] for row in lvm.report("pvs", "pv_name,pv_uuid")}
    said = program.run("add", one.path, two.path).stderr
    for uuid in uuids.values():
        assert f"lies on physical volume {uuid}, which is not in this image" in said
    assert set(statuses(program)) == {"one", "two"}
