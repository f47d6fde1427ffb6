"""Logical volumes, as LVM2's own tools have made them: found byte by byte, or refused by name."""

from __future__ import annotations

import random
import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.composed.reader import ComposedReader
from imgcat.formats.composed.segments import ChildBytes, Segment, Stripes
from imgcat.formats.opening import open_image
from imgcat.formats.passes.look_inside import Inside, VolumeInside, look_inside
from imgcat.formats.reader import read_bytes
from imgcat.formats.superblocks.lvm import checksum
from support.lvm import disk_of, empty, grub, lvm_on
from support.volumes import MIB

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loop


def look(path: Path) -> Inside:
    with open_image(path, is_raw=True) as image:
        return look_inside(image.reader, is_disk=True)


def volumes_of(inside: Inside) -> dict[str, VolumeInside]:
    return {f"{each.group}/{each.name}": each for each in inside.volumes}


def content_of(path: Path, start: int, volume: VolumeInside) -> bytes:
    """Return the bytes of a volume by what was found of it; `start` is that of what it lies in."""
    segments = [
        Segment(each.start, each.stop, ChildBytes("disk", each.offset + start, each.stripes))
        for each in volume.stretches
    ]
    for number, each in enumerate(volume.stretches):
        if each.stripes is not None:
            moved = Stripes(each.stripes.size, tuple(start + at for at in each.stripes.offsets))
            content = ChildBytes("disk", each.offset, moved)
            segments[number] = Segment(each.start, each.stop, content)
    reader = ComposedReader.of_segments(
        volume.size, segments, lambda _name: open_image(path, is_raw=True).reader
    )
    try:
        return read_bytes(reader, 0, volume.size)
    finally:
        reader.close()


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size * MIB)


def test_the_checksum_is_that_of_the_labels_of_lvm2(tmp_path: Path) -> None:
    place = empty(tmp_path / "pv", 8)
    with lvm_on(tmp_path / "home", place) as lvm:
        lvm.run("pvcreate", "-q", *lvm.devices)
        (told,) = lvm.report("pvs", "pv_uuid,pe_start,pv_size")
    sector = place.path.read_bytes()[512:1024]
    assert struct.unpack_from("<I", sector, 16)[0] == checksum(sector[20:])
    inside = look(place.path)
    assert inside.file_system is not None
    assert (inside.file_system.type, inside.file_system.uuid) == ("LVM2_member", told["pv_uuid"])
    # It is in no group, and nothing is odd about that.
    assert (inside.volumes, inside.warnings) == ((), [])


def test_linear_volumes_in_several_pieces(tmp_path: Path) -> None:
    place = empty(tmp_path / "pv", 40)
    data = {"root": noise(1, 10), "x-y": noise(2, 4), "a.b+c_d": noise(3, 3)}
    with lvm_on(tmp_path / "home", place) as lvm:
        lvm.group("my-vg")
        lvm.volume("root", 4, group="my-vg")
        lvm.volume("x-y", 2, group="my-vg")
        lvm.run("lvextend", "-L", "7M", "my-vg/root")
        lvm.volume("a.b+c_d", 3, group="my-vg")
        lvm.run("lvextend", "-L", "12M", "my-vg/root")
        lvm.run("lvextend", "-L", "4M", "my-vg/x-y")
        lvm.run("lvreduce", "-f", "-L", "10M", "my-vg/root")
        segments = lvm.report("lvs", "lv_name", "--segments", "my-vg")
        for name, content in data.items():
            lvm.write(name, content, "my-vg")
        uuids = {row["lv_name"]: row["lv_uuid"] for row in lvm.report("lvs", "lv_name,lv_uuid")}
    inside = look(place.path)
    assert inside.warnings == []
    found = volumes_of(inside)
    assert found.keys() == {f"my-vg/{name}" for name in data}
    assert len(segments) == sum(len(each.stretches) for each in found.values()) > len(data)
    for name, content in data.items():
        volume = found[f"my-vg/{name}"]
        assert volume.uuid == uuids[name]
        assert content_of(place.path, 0, volume) == content


@pytest.mark.parametrize(("count", "stripe"), [(2, "4k"), (2, "64k"), (3, "64k"), (3, "512k")])
def test_striped_volumes(tmp_path: Path, count: int, stripe: str) -> None:
    disk = tmp_path / "disk"
    places = disk_of(disk, *[20] * count)
    data = {"str": noise(count, 6 * count), "line": noise(9, 3)}
    with lvm_on(tmp_path / "home", *places) as lvm:
        lvm.group()
        lvm.volume("line", 3, on=lvm.devices[-1:])
        lvm.volume("str", 4 * count, "-i", count, "-I", stripe)
        lvm.volume("between", 1)
        lvm.run("lvextend", "-i", count, "-I", stripe, "-L", f"{6 * count}M", "vg/str")
        for name, content in data.items():
            lvm.write(name, content)
    inside = look(disk)
    found = volumes_of(inside)
    # A group that lies in several partitions is the disk's.
    assert found.keys() == {"vg/str", "vg/line", "vg/between"}
    assert all(each.volumes == () for each in inside.within.values())
    for name, content in data.items():
        assert content_of(disk, 0, found[f"vg/{name}"]) == content
        # GRUB's own reader finds the same where it is told nothing but the disk.
        told = grub(disk, "crc", f"(lvm/vg-{name})0+{len(content) // 512}")
        assert int(told, 16) == zlib.crc32(content)


def test_each_group_is_in_the_partition_that_has_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    first, second = disk_of(disk, 16, 16)
    for number, place in enumerate((first, second)):
        with lvm_on(tmp_path / "home", place) as lvm:
            lvm.group(f"vg{number}")
            lvm.volume("data", 5, group=f"vg{number}")
            lvm.write("data", noise(number, 5), f"vg{number}")
    inside = look(disk)
    assert inside.volumes == ()
    for number, place in enumerate((first, second)):
        found = volumes_of(inside.within[number + 1])
        content = content_of(disk, place.start, found[f"vg{number}/data"])
        assert content == noise(number, 5)


def test_a_ring_of_metadata_that_has_begun_again(tmp_path: Path) -> None:
    place = empty(tmp_path / "pv", 16)
    with lvm_on(tmp_path / "home", place) as lvm:
        lvm.run("pvcreate", "-q", "--metadatasize", "60k", "--dataalignment", "64k", *lvm.devices)
        lvm.run("vgcreate", "-q", "-s", "1M", "vg", *lvm.devices)
        lvm.volume("data", 3)
        lvm.write("data", noise(5, 3))
        # A long text fills the ring in a few steps.
        tags = (word for number in range(100) for word in ("--addtag", f"{number:0100}"))
        lvm.run("vgchange", "-q", *tags, "vg")
        has_wrapped = False
        for number in range(12):
            lvm.run("vgchange", "-q", "--addtag", f"tag{number}", "vg")
            found = volumes_of(look(place.path))["vg/data"]
            assert content_of(place.path, 0, found) == noise(5, 3)
            header = place.path.read_bytes()[4096 : 4096 + 512]
            ring, at, size = struct.unpack_from("<QQQ", header, 32)
            has_wrapped = has_wrapped or at + size > ring
        assert has_wrapped


def second_area(path: Path) -> int:
    """Return where the second metadata area begins, by the label."""
    label = path.read_bytes()[512:1024]
    return int(struct.unpack_from("<Q", label, 32 + 40 + 32 + 16)[0])


def test_of_two_metadata_areas_the_newer_counts(tmp_path: Path) -> None:
    place = empty(tmp_path / "pv", 16)
    with lvm_on(tmp_path / "home", place) as lvm:
        lvm.run("pvcreate", "-q", "--metadatacopies", "2", *lvm.devices)
        lvm.run("vgcreate", "-q", "-s", "1M", "vg", *lvm.devices)
        lvm.volume("first", 3)
        assert look(place.path).warnings == []
        at = second_area(place.path)
        before = place.path.read_bytes()
        lvm.volume("second", 2)
        both = place.path.read_bytes()
        assert volumes_of(look(place.path)).keys() == {"vg/first", "vg/second"}
        seqno = int(lvm.report("vgs", "vg_seqno")[0]["vg_seqno"])
    old, new = seqno - 1, seqno
    # As if the machine had stopped before the second area was written, or the first one.
    for data, newest, oldest in (
        (both[:at] + before[at:], 0x1000, at),
        (before[:at] + both[at:], at, 0x1000),
    ):
        place.path.write_bytes(data)
        found = look(place.path)
        assert volumes_of(found).keys() == {"vg/first", "vg/second"}
        (said,) = found.warnings
        assert f"number {new} @0x{newest:x} is the newest" in said
        assert f"older are {old} @0x{oldest:x}" in said
    # One that is damaged is told, and the other counts.
    place.path.write_bytes(both[:0x1100] + b"damaged" + both[0x1107:])
    found = look(place.path)
    assert volumes_of(found).keys() == {"vg/first", "vg/second"}
    assert "lvm.metadata_area @0x1000: checksum 0" in found.warnings[0]
    place.path.write_bytes(
        b"".join((both[:0x1100], b"x", both[0x1101 : at + 9], b"x", both[at + 10 :]))
    )
    found = look(place.path)
    assert found.volumes == ()
    assert len(found.warnings) == 3
    assert "is in no group whose metadata are in this image" in found.warnings[-1]


def test_metadata_that_differ_and_have_the_same_number(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    places = disk_of(disk, 12, 12)
    with lvm_on(tmp_path / "home", *places) as lvm:
        lvm.group()
        before = disk.read_bytes()
        lvm.volume("one", 2)
        one = disk.read_bytes()
        disk.write_bytes(before)
    with lvm_on(tmp_path / "home", *places) as lvm:
        lvm.volume("two", 3)
    two = disk.read_bytes()
    cut = places[1].start
    disk.write_bytes(one[:cut] + two[cut:])
    found = look(disk)
    assert found.volumes == ()
    (said,) = found.warnings
    assert "differ, and have the same number 2" in said


def test_a_physical_volume_that_is_not_here(tmp_path: Path) -> None:
    here, away = empty(tmp_path / "here", 12), empty(tmp_path / "away", 12)
    with lvm_on(tmp_path / "home", here, away) as lvm:
        lvm.group()
        lvm.volume("whole", 3, on=lvm.devices[:1])
        lvm.volume("over", 6, "-i2", "-I64k")
        lvm.volume("else", 2, on=lvm.devices[1:])
        lvm.write("whole", noise(1, 3))
        lvm.write("over", noise(2, 6))
        uuids = {row["pv_name"]: row["pv_uuid"] for row in lvm.report("pvs", "pv_name,pv_uuid")}
        lost = uuids[lvm.devices[1]]
    found = look(here.path)
    assert volumes_of(found).keys() == {"vg/whole"}
    assert content_of(here.path, 0, found.volumes[0]) == noise(1, 3)
    assert found.warnings == [
        f"logical volume vg/{name} lies on physical volume {lost}, which is not in this image, "
        "or in another group by now: it is not read"
        for name in ("over", "else")
    ]


def test_a_physical_volume_that_was_taken_for_another_group(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    places = disk_of(disk, 12, 12)
    with lvm_on(tmp_path / "home", *places) as lvm:
        lvm.group("old")
        lvm.volume("here", 3, group="old", on=lvm.devices[:1])
        lvm.volume("away", 3, group="old", on=lvm.devices[1:])
        lvm.write("here", noise(1, 3), "old")
        (uuid,) = (
            row["pv_uuid"]
            for row in lvm.report("pvs", "pv_name,pv_uuid")
            if row["pv_name"] == lvm.devices[1]
        )
        before = disk.read_bytes()
        # The other one is away meanwhile, and never told.
        lvm.run("vgremove", "-q", "-f", "old")
        lvm.run("vgcreate", "-q", "-s", "1M", "new", lvm.devices[1])
        lvm.volume("data", 4, group="new")
        lvm.write("data", noise(2, 4), "new")
    newer = disk.read_bytes()
    with lvm_on(tmp_path / "home", places[1]) as lvm:
        lvm.run("vgremove", "-q", "-f", "new")
    free = disk.read_bytes()
    cut = places[1].start
    said = (
        f"logical volume old/away lies on physical volume {uuid}, which is not in this image, "
        "or in another group by now: it is not read"
    )
    for state, names in ((newer, {"new/data"}), (free, set())):
        disk.write_bytes(before[:cut] + state[cut:])
        inside = look(disk)
        assert inside.volumes == ()
        first, second = inside.within[1], inside.within[2]
        assert content_of(disk, places[0].start, volumes_of(first)["old/here"]) == noise(1, 3)
        assert first.warnings == [said]
        assert volumes_of(second).keys() == names


def test_a_physical_volume_without_metadata(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    places = disk_of(disk, 12, 12)
    with lvm_on(tmp_path / "home", *places) as lvm:
        lvm.run("pvcreate", "-q", "--metadatacopies", "0", lvm.devices[0])
        lvm.run("pvcreate", "-q", lvm.devices[1])
        lvm.run("vgcreate", "-q", "-s", "1M", "vg", *lvm.devices)
        lvm.volume("data", 6, "-i2", "-I64k")
        lvm.write("data", noise(7, 6))
        uuid = next(
            row["pv_uuid"] for row in lvm.report("pvs", "pv_name,pv_uuid")
            if row["pv_name"] == lvm.devices[0]
        )  # fmt: skip
    found = look(disk)
    assert content_of(disk, 0, found.volumes[0]) == noise(7, 6)
    alone = tmp_path / "alone"
    alone.write_bytes(disk.read_bytes()[places[0].start : places[1].start])
    assert look(alone).warnings == [
        f"physical volume {uuid} is in no group whose metadata are in this image"
    ]


def test_the_same_physical_volume_twice(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    first, second = disk_of(disk, 12, 12)
    with lvm_on(tmp_path / "home", first) as lvm:
        lvm.group()
        lvm.volume("data", 3)
    data = disk.read_bytes()
    copy = data[first.start : second.start]
    disk.write_bytes(data[: second.start] + copy + data[second.start + len(copy) :])
    found = look(disk)
    assert found.volumes == ()
    assert [re.sub(r"\w{6}-[\w-]{31}", "UUID", each) for each in found.warnings] == [
        "volume group vg: physical volume UUID is there twice",
        "logical volume vg/data lies on physical volume UUID, which is there twice: it is not read",
    ]


def segment(kind: str, **more: object) -> str:
    """Return a segment of one extent, as text."""
    values = "\n".join(f"{name} = {value}" for name, value in more.items())
    return f'segment1 {{\nstart_extent = 0\nextent_count = 1\ntype = "{kind}"\n{values}\n}}'


def volume_text(name: str, inner: str, *, visible: bool = True) -> str:
    number = f"{zlib.crc32(name.encode()):08d}"[:8]
    flags = '"READ", "WRITE"' + (', "VISIBLE"' if visible else "")
    return (
        f'{name} {{\nid = "{number[:6]}-aaaa-bbbb-cccc-dddd-eeee-ffffff"\nstatus = [{flags}]\n'
        f"flags = []\nsegment_count = 1\n{inner}\n}}\n"
    )


def part_text(name: str, at: int) -> str:
    """Return a hidden volume of one extent, as text."""
    inner = segment("striped", stripe_count=1, stripes=f'["pv0", {at}]')
    return volume_text(name, inner, visible=False)


MIRROR = (
    volume_text("m", segment("mirror", mirror_count=2, mirror_log='"m_mlog"', region_size=1024,
                             mirrors='["m_i0", 0, "m_i1", 0]'))
    + "".join(
        part_text(name, at)
        for name, at in (("m_i0", 10), ("m_i1", 11), ("m_mlog", 12))
    )
)  # fmt: skip
RAID = volume_text(
    "r", segment("raid1", device_count=2, region_size=1024,
                 raids='["r_rmeta_0", "r_rimage_0", "r_rmeta_1", "r_rimage_1"]'),
) + "".join(
    part_text(name, at)
    for name, at in (("r_rmeta_0", 10), ("r_rimage_0", 11), ("r_rmeta_1", 12), ("r_rimage_1", 13))
)  # fmt: skip
THIN = (
    volume_text("t", segment("thin", thin_pool='"pool"', transaction_id=0, device_id=1))
    + volume_text("pool", segment("thin-pool", metadata='"pool_tmeta"', pool='"pool_tdata"',
                                  transaction_id=1, chunk_size=128, discards='"passdown"',
                                  zero_new_blocks=1))
    + "".join(
        part_text(name, at)
        for name, at in (("pool_tmeta", 10), ("pool_tdata", 11))
    )
)  # fmt: skip
SNAPSHOT = volume_text(
    "snap", segment("striped", stripe_count=1, stripes='["pv0", 10]')
) + volume_text(
    "snapshot0", segment("snapshot", chunk_size=8, origin='"data"', cow_store='"snap"'),
    visible=False,
)  # fmt: skip
MERGING = SNAPSHOT.replace("cow_store", "merging_store")


@pytest.mark.parametrize(
    ("text", "seen", "refused"),
    [
        (MIRROR, {"m": "mirror"}, ["vg/m is of type mirror"]),
        (RAID, {"r": "raid1"}, ["vg/r is of type raid1"]),
        (THIN, {"t": "thin", "pool": "thin-pool"},
         ["vg/t is of type thin", "vg/pool is of type thin-pool"]),
        (SNAPSHOT, {"snap": "linear"}, ["vg/snap is a snapshot of data"]),
        (MERGING, {"snap": "linear"},
         ["vg/data is being merged with a snapshot", "vg/snap is a snapshot that is being merged"]),
        (volume_text("z", segment("zero")), {"z": "zero"}, ["vg/z is of type zero"]),
        (volume_text("e", segment("error")), {"e": "error"}, ["vg/e is of type error"]),
    ],
    ids=["mirror", "raid1", "thin", "snapshot", "merging", "zero", "error"],
)  # fmt: skip
def test_what_is_not_read_is_refused_by_name(
    tmp_path: Path, text: str, seen: dict[str, str], refused: list[str]
) -> None:
    place = empty(tmp_path / "pv", 24)
    with lvm_on(tmp_path / "home", place) as lvm:
        lvm.group()
        lvm.volume("data", 3)
        lvm.write("data", noise(1, 3))
        lvm.edit(("logical_volumes {\n", f"logical_volumes {{\n{text}"))
        # Hidden ones are in brackets.
        kinds = {
            row["lv_name"].strip("[]"): row["segtype"]
            for row in lvm.report("lvs", "lv_name,segtype", "-a")
        }
    assert seen.items() <= kinds.items()
    found = look(place.path)
    assert sorted(found.warnings) == sorted(
        f"logical volume {each}: it is not read" for each in refused
    )
    names = {"vg/data"} - {each.split()[0] for each in refused}
    assert volumes_of(found).keys() == names
    for volume in found.volumes:
        assert content_of(place.path, 0, volume) == noise(1, 3)
