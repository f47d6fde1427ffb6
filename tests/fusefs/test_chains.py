"""Disks that stand upon others, through a real mount: what QEMU's own tools read, or refused."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import struct
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest
import pyvhdi
from support.program import wait_until
from support.shortcuts import catalogue, statuses
from support.vhd_writer import SECTOR, Difference, write_difference
from support.virtual_disks import KIB, MIB, changes, guest_of, map_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

pytestmark = pytest.mark.fuse

SIZE = 6 * MIB


def chain(directory: Path, hows: list[str], seed: int = 1) -> list[Path]:
    """Make a raw disk and differences to it, each larger by a little than what is below it."""
    base = write_raw(directory / "base.raw", SIZE, seed)
    # Without holes, which qemu-img tells of a raw disk and imgcat does not.
    base.write_bytes(base.read_bytes())
    found = [base]
    driver = "raw"
    for number, how in enumerate(hows):
        path = directory / f"{'abcdef'[number]}.qcow2"
        size = SIZE + (number + 1) * 100 * KIB
        qemu_img("create", "-f", "qcow2", "-b", found[-1].name, "-F", driver, "-o", how, path, size)
        qemu_io(path, "qcow2", changes(size, seed * 10 + number, 8))
        found.append(path)
        driver = "qcow2"
    return found


MATRIX = [
    ["compat=0.10,cluster_size=512", "cluster_size=64k", "cluster_size=2M"],
    ["extended_l2=on,cluster_size=16k", "compression_type=zstd", "compat=0.10,cluster_size=4k"],
    ["cluster_size=4k", "extended_l2=on", "extended_l2=on,cluster_size=2M"],
]


@pytest.mark.parametrize("hows", MATRIX, ids=range(len(MATRIX)))
def test_a_chain_of_three_is_what_qemu_says(
    hows: list[str], program: Program, tmp_path: Path
) -> None:
    paths = chain(tmp_path, hows)
    catalogue(program, paths[-1])
    # Everything that it stands upon is there too, by a name of its own.
    assert len(program.json("ls")) == len(paths)
    mount = program.mount_all(tmp_path / "mnt")
    for path in paths[1:]:
        assert (mount / path.name).read_bytes() == guest_of(path, "qcow2")
        _check_map(program, path)
    assert program.run("db", "check").stdout == "ok\n"


def _check_map(program: Program, path: Path) -> None:
    """Compare the map with that of QEMU, which tells holes of the files too: those are zeros."""
    ours = json.loads(program.run("map", path.name, "--json").stdout)
    guest = guest_of(path, "qcow2")
    where: dict[int, tuple[int, int]] = {}
    for each in ours:
        for at in range(each["start"], each["start"] + each["length"], SECTOR):
            if each["data"]:
                where[at] = each["depth"], each["offset"] + at - each["start"]
    for each in map_of(path, "qcow2"):
        for at in range(each["start"], each["start"] + each["length"], SECTOR):
            if each["data"]:
                assert where[at] == (each["depth"], each["offset"] + at - each["start"])
            elif at in where:
                assert not any(guest[at : at + SECTOR])


@pytest.mark.parametrize("is_raw", [True, False])
def test_a_data_file_has_the_data(
    is_raw: bool, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.qcow2"
    monkeypatch.chdir(tmp_path)
    how = f"data_file=disk.data,data_file_raw={'on' if is_raw else 'off'},preallocation=off"
    qemu_img("create", "-f", "qcow2", "-o", how, path, SIZE)
    qemu_io(path, "qcow2", changes(SIZE, 3, 12))
    catalogue(program, path)
    mount = program.mount_all(tmp_path / "mnt")
    guest = guest_of(path, "qcow2")
    assert (mount / "disk.qcow2").read_bytes() == guest
    rows = program.sql("SELECT ordinal, role, path FROM volumes")
    assert [(row["role"], os.path.basename(row["path"])) for row in rows] == [
        ("image", "disk.qcow2"), ("data", "disk.data"),
    ]  # fmt: skip
    extents = json.loads(program.run("map", "disk.qcow2", "--json").stdout)
    assert {each["filename"] for each in extents if each["data"]} == {str(tmp_path / "disk.data")}
    # What was changed in it makes the disk stale, as a change of the image does.
    data = bytearray((tmp_path / "disk.data").read_bytes())
    (tmp_path / "disk.data").write_bytes(bytes(data[:-1]) + b"x")
    assert statuses(program) == {"disk.qcow2": "stale"}
    with pytest.raises(OSError, match="Stale"):
        (mount / "disk.qcow2").read_bytes()
    (tmp_path / "disk.data").unlink()
    assert program.run("add", "--force", path, code=3).stderr.count("disk.data") >= 1


def test_snapshots_are_entries_of_their_own(program: Program, tmp_path: Path) -> None:
    path = write_raw(tmp_path / "raw", SIZE, 4)
    disk = tmp_path / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", path, disk)
    for number, name in enumerate(["before", "a/b", "1"]):
        qemu_img("snapshot", "-c", name, disk)
        qemu_io(disk, "qcow2", changes(SIZE, 5 + number, 6))
    catalogue(program, disk)
    expected = {}
    for name in ("before", "a/b", "1"):
        raw = tmp_path / "expected"
        qemu_img("convert", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", disk, raw)
        expected[f"disk.qcow2@{name.replace('/', '-')}"] = raw.read_bytes()
    expected["disk.qcow2"] = guest_of(disk, "qcow2")
    mount = program.mount_all(tmp_path / "mnt")
    assert sorted(os.listdir(mount)) == sorted(expected)
    for name, guest in expected.items():
        assert (mount / name).read_bytes() == guest, name
    rows = {row["name"]: row for row in program.json("ls")}
    assert rows["disk.qcow2@1"]["path"] is None
    assert rows["disk.qcow2@1"]["parent"] == "disk.qcow2"
    inode = (mount / "disk.qcow2@1").stat().st_ino
    # One is deleted, another is made: the others stay who they are.
    qemu_img("snapshot", "-d", "before", disk)
    qemu_img("snapshot", "-c", "late", disk)
    assert statuses(program)["disk.qcow2@1"] == "stale"
    program.run("rescan")
    assert set(statuses(program)) == {
        "disk.qcow2", "disk.qcow2@1", "disk.qcow2@a-b", "disk.qcow2@late",
    }  # fmt: skip
    shown = mount / "disk.qcow2@1"
    wait_until(lambda: shown.stat().st_ino != inode, "the snapshot is a new content", 30)
    assert shown.read_bytes() == expected["disk.qcow2@1"]
    program.run("rename", "disk.qcow2", "web")
    assert set(statuses(program)) == {"web", "web@1", "web@a-b", "web@late"}
    program.run("verify", "web@1")
    program.run("rm", "web")
    assert statuses(program) == {}


@pytest.mark.parametrize("what", ["touched", "written", "replaced", "gone", "removed"])
def test_what_was_changed_below_makes_all_above_stale(
    what: str, program: Program, tmp_path: Path
) -> None:
    base, first, second = chain(tmp_path, ["cluster_size=64k", "cluster_size=64k"])
    catalogue(program, second)
    mount = program.mount_all(tmp_path / "mnt")
    guest = guest_of(second, "qcow2")
    with (mount / second.name).open("rb", buffering=0) as open_file:
        assert open_file.read(4096) == guest[:4096]
        if what == "touched":
            os.utime(base, ns=(1, 1))
        elif what == "written":
            with base.open("r+b") as file:
                file.seek(SIZE // 2)
                file.write(b"changed")
        elif what == "replaced":
            other = tmp_path / "other"
            other.write_bytes(bytes(SIZE))
            os.replace(other, base)
        elif what == "gone":
            base.rename(tmp_path / "elsewhere")
        else:
            program.run("rm", "base")
        if what == "removed":
            # What is open still knows what it was.
            assert _read(mount / second.name) in {guest, None}
        else:
            with pytest.raises(OSError, match=r"Stale|Input/output"):
                (mount / second.name).read_bytes()
    found = statuses(program)
    assert found[first.name] == found[second.name] == "stale"
    if what in {"gone", "removed"}:
        return
    program.run("rescan")
    assert set(statuses(program).values()) == {"ready"}
    guest = guest_of(second, "qcow2")
    wait_until(lambda: _read(mount / second.name) == guest, "it is as it is now", 30)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def test_a_moved_chain_keeps_its_names(program: Program, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    _base, top = chain(here, ["cluster_size=64k"])
    program.run("add", top, "--name", "mine")
    guest = guest_of(top, "qcow2")
    here.rename(there)
    assert statuses(program)["mine"] == "missing"
    catalogue(program, there / top.name)
    assert statuses(program) == {"base": "ready", "mine": "ready"}
    mount = program.mount_all(tmp_path / "mnt")
    assert (mount / "mine").read_bytes() == guest


@pytest.mark.parametrize("name", [
    "/etc/hostname", "../base.raw", 'json:{"driver":"raw","file.filename":"base.raw"}',
    "nbd:localhost:10809", "file:base.raw", "link.raw", "sub/../../base.raw", "fat:rw:dir",
])  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(
    name: str, program: Program, tmp_path: Path
) -> None:
    home = tmp_path / "images"
    home.mkdir()
    write_raw(tmp_path / "base.raw", SIZE, 1)
    (home / "link.raw").symlink_to(tmp_path / "base.raw")
    (home / "sub").mkdir()
    top = home / "top.qcow2"
    qemu_img("create", "-f", "qcow2", "-u", "-b", name, "-F", "raw", top, SIZE)
    found = program.run("add", top, code=4)
    assert "backing file" in found.stderr
    assert program.json("ls") == []
    if ("base.raw" in name and ":" not in name) or name == "link.raw":
        program.run("add", "--allow-backing", tmp_path, top)
        # What was allowed once is so again.
        os.utime(tmp_path / "base.raw")
        program.run("rescan")
        assert set(statuses(program).values()) == {"ready"}


def test_a_data_file_that_lies_elsewhere_is_refused(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "images"
    home.mkdir()
    path = home / "disk.qcow2"
    monkeypatch.chdir(home)
    qemu_img("create", "-f", "qcow2", "-o", "data_file=aaaa.raw", path, SIZE)
    data = path.read_bytes()
    assert data.count(b"aaaa.raw") == 1
    (tmp_path / "s.raw").write_bytes(bytes(SIZE))
    path.write_bytes(data.replace(b"aaaa.raw", b"../s.raw"))
    assert "leads out of its directory" in program.run("add", path, code=4).stderr
    program.run("add", "--allow-backing", tmp_path, path)
    with gzip.open(home / "disk.gz", "wb") as file:
        file.write(data)
    assert "its data are in another file" in program.run("add", home / "disk.gz", code=4).stderr


def test_chains_that_do_not_end_are_refused(program: Program, tmp_path: Path) -> None:
    own = tmp_path / "own.qcow2"
    qemu_img("create", "-f", "qcow2", "-u", "-b", "own.qcow2", "-F", "qcow2", own, SIZE)
    assert "a difference to itself" in program.run("add", own, code=5).stderr
    for one, other in itertools.permutations(["x.qcow2", "y.qcow2"]):
        qemu_img("create", "-f", "qcow2", "-u", "-b", other, "-F", "qcow2", tmp_path / one, SIZE)
    assert "a difference to itself" in program.run("add", tmp_path / "x.qcow2", code=5).stderr
    write_raw(tmp_path / "0", SIZE, 1)
    for number in range(1, 19):
        driver = "qcow2" if number > 1 else "raw"
        path = tmp_path / str(number)
        qemu_img("create", "-f", "qcow2", "-u", "-b", number - 1, "-F", driver, path, SIZE)
    assert "lie below each other" in program.run("add", tmp_path / "18", code=5).stderr
    catalogue(program, tmp_path / "16")


def test_a_backing_file_without_a_format_is_raw_or_refused(
    program: Program, tmp_path: Path
) -> None:
    paths = chain(tmp_path, ["cluster_size=64k"])
    top = tmp_path / "top.qcow2"
    for base, code in ((paths[0], 0), (paths[1], 4)):
        qemu_img("create", "-f", "qcow2", "-b", base.name, "-F", "raw", top, SIZE)
        data = bytearray(top.read_bytes())
        at = data.index(struct.pack(">I", 0xE2792ACA))
        struct.pack_into(">I", data, at, 0x12345678)
        top.write_bytes(bytes(data))
        found = program.run("add", top, code=code)
        if code:
            assert "which looks like qcow2" in found.stderr


def test_a_private_backing_file_is_not_read_through_a_public_image(
    program: Program, tmp_path: Path
) -> None:
    base, top = chain(tmp_path, ["cluster_size=64k"])
    base.chmod(0o600)
    catalogue(program, top)
    mount = program.mount_all(tmp_path / "mnt")
    assert (mount / top.name).stat().st_mode & 0o777 == 0o400
    assert (mount / "base").stat().st_mode & 0o777 == 0o400


# -- VHD -----------------------------------------------------------------------------------------


def difference(path: Path, parent: Path, seed: int) -> tuple[uuid.UUID, dict[int, bytes]]:
    """Write a VHD difference; return its UUID and the sectors that it has.

    Runs of sectors begin anywhere, and end with a byte of the bitmap: of a byte with sectors that
    are stored and others behind them, libvhdi gives those others from the difference too.
    """
    rng = random.Random(seed)
    sectors = {}
    for _ in range(60):
        first = rng.randrange(SIZE // SECTOR)
        stop = min(SIZE // SECTOR, -(-(first + rng.choice([1, 2, 7, 64])) // 8) * 8)
        for number in range(first, stop):
            sectors[number] = rng.randbytes(SECTOR)
    own = uuid.UUID(int=rng.getrandbits(128))
    disk = Difference(SIZE, own, id_of(parent), parent.name, sectors)
    path.write_bytes(write_difference(disk))
    return own, sectors


def id_of(path: Path) -> uuid.UUID:
    """Return the UUID in the footer of a VHD."""
    return uuid.UUID(bytes=path.read_bytes()[-512:][68:84])


@pytest.fixture
def vhds(tmp_path: Path) -> tuple[list[Path], list[bytes]]:
    """A dynamic VHD and two differences above each other, and the guest bytes of each."""
    raw = write_raw(tmp_path / "raw", SIZE, 8)
    base = tmp_path / "base.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, base)
    guests = [bytearray(raw.read_bytes())]
    raw.unlink()
    paths = [base]
    for number in range(2):
        path = tmp_path / f"d{number}.vhd"
        _own, sectors = difference(path, paths[-1], number)
        guest = bytearray(guests[-1])
        for at, data in sectors.items():
            guest[at * SECTOR : (at + 1) * SECTOR] = data
        paths.append(path)
        guests.append(guest)
    return paths, [bytes(guest) for guest in guests]


def test_differencing_vhds(
    vhds: tuple[list[Path], list[bytes]], program: Program, tmp_path: Path
) -> None:
    paths, guests = vhds
    catalogue(program, paths[-1])
    mount = program.mount_all(tmp_path / "mnt")
    for path, guest in zip(paths, guests, strict=True):
        assert (mount / path.name).read_bytes() == guest
    assert program.run("verify", "--all").stdout.count("ok ") == len(paths)


def test_the_differences_are_what_an_independent_library_reads(
    vhds: tuple[list[Path], list[bytes]],
) -> None:
    paths, guests = vhds
    files = []
    for path, guest in zip(paths, guests, strict=True):
        file = pyvhdi.file()
        file.open(str(path))
        if files:
            file.set_parent(files[-1])
        files.append(file)
        assert file.get_media_size() == len(guest)
        assert file.read_buffer_at_offset(len(guest), 0) == guest
    for file in reversed(files):
        file.close()


@pytest.mark.parametrize("block_size", [512 * KIB, 2 * MIB, 16 * MIB])
def test_each_bit_of_a_bitmap_is_a_sector(
    block_size: int, program: Program, tmp_path: Path
) -> None:
    base, top = tmp_path / "base.vhd", tmp_path / "top.vhd"
    raw = write_raw(tmp_path / "raw", SIZE, 8)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, base)
    sectors = {number: bytes([number]) * SECTOR for number in (0, 3, 4, 9, 200)}
    own = uuid.uuid4()
    disk = Difference(
        SIZE, own, id_of(base), base.name, sectors, block_size, space_in_sectors=False
    )
    top.write_bytes(write_difference(disk))
    guest = bytearray(raw.read_bytes())
    for at, data in sectors.items():
        guest[at * SECTOR : (at + 1) * SECTOR] = data
    catalogue(program, top)
    mount = program.mount_all(tmp_path / "mnt")
    assert (mount / "top.vhd").read_bytes() == guest


def test_a_parent_is_found_by_its_uuid_or_named(
    vhds: tuple[list[Path], list[bytes]], program: Program, tmp_path: Path
) -> None:
    (base, first, second), guests = vhds
    # Renamed, beside its child: by its UUID. Elsewhere: only if the catalog knows it.
    base.rename(tmp_path / "renamed.vhd")
    catalogue(program, first)
    assert set(statuses(program)) == {"renamed.vhd", "d0.vhd"}
    program.run("rm", "*")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "renamed.vhd").rename(elsewhere / "base.vhd")
    found = program.run("add", first, code=3)
    assert "base.vhd" in found.stderr
    assert str(id_of(elsewhere / "base.vhd")) in found.stderr
    catalogue(program, elsewhere / "base.vhd")
    catalogue(program, second)
    mount = program.mount_all(tmp_path / "mnt")
    assert (mount / "d1.vhd").read_bytes() == guests[2]
    # Another one by the same name is not taken for it.
    program.run("rm", "*")
    raw = write_raw(tmp_path / "raw", SIZE, 9)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, base)
    found = program.run("add", first, code=3)
    assert f"{base} is another one, {id_of(base)}" in found.stderr


def test_a_link_beside_it_leads_to_no_parent_elsewhere(
    vhds: tuple[list[Path], list[bytes]], program: Program, tmp_path: Path
) -> None:
    (base, first, _second), guests = vhds
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    elsewhere.mkdir()
    base.rename(elsewhere / "base.vhd")
    base.symlink_to(elsewhere / "base.vhd")
    assert "base.vhd" in program.run("add", first, code=3).stderr
    program.run("add", "--allow-backing", elsewhere, first)
    mount = program.mount_all(tmp_path / "mnt")
    assert (mount / "d0.vhd").read_bytes() == guests[1]


def test_a_difference_is_refused_where_its_bytes_cannot_be(
    vhds: tuple[list[Path], list[bytes]], program: Program, tmp_path: Path
) -> None:
    (_base, first, _second), _guests = vhds
    whole = first.read_bytes()
    own = whole[68:84]
    damaged = bytearray(whole)
    damaged[512 + 40 : 512 + 56] = own
    first.write_bytes(bytes(damaged))
    assert "a difference to itself" in program.run("add", first, code=5).stderr
    first.write_bytes(whole)
    assert "checksum" in program.run("add", "--strict", _spoilt(tmp_path, whole), code=5).stderr
    found = program.run("add", _spoilt(tmp_path, whole))
    assert "checksum" in found.stderr


def test_the_size_may_be_that_of_the_geometry(program: Program, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", SIZE, 8)
    path = tmp_path / "d.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, path)
    data = bytearray(path.read_bytes())
    # 100 cylinders, 4 heads, 17 sectors: what QEMU goes by where Virtual PC has made it.
    for at in (0, len(data) - 512):
        data[at + 28 : at + 32] = b"vpc "
        struct.pack_into(">HBB", data, at + 56, 100, 4, 17)
        data[at + 64 : at + 68] = bytes(4)
        struct.pack_into(">I", data, at + 64, ~sum(data[at : at + 512]) & 0xFFFFFFFF)
    path.write_bytes(bytes(data))
    guest = guest_of(path, "vpc")
    assert len(guest) == 100 * 4 * 17 * 512
    catalogue(program, path)
    assert program.json("ls")[0]["size_bytes"] == SIZE
    program.run("add", "--force", "--vhd-size", "geometry", path)
    mount = program.mount_all(tmp_path / "mnt")
    assert (mount / "d.vhd").read_bytes() == guest
    os.utime(path)
    program.run("rescan")
    assert program.json("ls")[0]["size_bytes"] == len(guest)


def _spoilt(directory: Path, whole: bytes) -> Path:
    """Write a VHD with a wrong checksum."""
    data = bytearray(whole)
    for at in (64, len(data) - 512 + 64):
        data[at] ^= 1
    path = directory / "spoilt.vhd"
    path.write_bytes(bytes(data))
    return path


def test_nothing_is_said_of_a_disk_by_its_own_tools_that_is_not_so(tmp_path: Path) -> None:
    """The chains above are whole by the word of qemu-img, else the tests would show little."""
    paths = chain(tmp_path, MATRIX[0])
    for path in paths[1:]:
        found = subprocess.run(
            ["qemu-img", "check", "-q", path], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout
