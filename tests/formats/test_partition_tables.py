"""Partition tables as tools write them, against what these and libblkid say; and damaged ones."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.partitions.on_disk import begins_file_system, read_table
from imgcat.formats.partitions.text_tables import parse_sfdisk
from imgcat.formats.partitions.types import GPT_TYPES, MBR_TYPES
from support.partition_tables import (
    CONTAINER,
    COPY,
    DOS,
    EFI,
    ENTRIES,
    GPT,
    HEADER,
    LONG_GPT,
    MIB,
    ODD_DOS,
    ODD_GPT,
    SECOND,
    SIZE,
    THIRD,
    disk,
    entry,
    found_in,
    look,
    looped,
    partition,
    record,
    said_by,
    seal,
)

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.partitions.table import DiskTable


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk with a GPT."""
    return partition(tmp_path_factory.mktemp("gpt") / "disk", GPT)


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk with an MBR and logical partitions."""
    return partition(tmp_path_factory.mktemp("dos") / "disk", DOS)


# What tools say.


def check_against_sfdisk(table: DiskTable, target: str | Path, prefix: str) -> None:
    """Compare a table with both forms of what sfdisk says of a file or a device."""
    said: dict[str, Any] = json.loads(said_by("sfdisk", "--json", target))["partitiontable"]
    label = {"gpt": "gpt", "mbr": "dos"}[table.scheme]
    assert (label, table.id, table.sector_size) == (said["label"], said["id"], said["sectorsize"])
    assert table.warnings == ()
    unit = table.sector_size
    assert [
        (each.number, each.start // unit, (each.stop - each.start) // unit, each.type, each.name)
        for each in table.partitions
    ] == [
        (
            int(each["node"].removeprefix(prefix)), each["start"], each["size"], each["type"],
            each.get("name"),
        )
        for each in sorted(said["partitions"], key=lambda p: int(p["node"].removeprefix(prefix)))
    ]  # fmt: skip
    # What is not ASCII is escaped in this form, so that names are left out.
    text = parse_sfdisk(said_by("sfdisk", "-d", target))
    rows = sorted(text.rows, key=lambda row: row.number)
    assert [
        (each.number, each.start, each.stop, each.type.lower(), each.is_container)
        for each in table.partitions
    ] == [(row.number, row.start, row.stop, row.type, row.is_extended) for row in rows]
    if table.scheme == "mbr":
        assert [each.is_bootable for each in table.partitions] == [row.is_bootable for row in rows]
    by_number = {int(p["node"].removeprefix(prefix)): p for p in said["partitions"]}
    for each in table.partitions:
        attributes = by_number[each.number].get("attrs", "")
        if table.scheme == "gpt":
            assert each.uuid == by_number[each.number]["uuid"].lower()
            assert each.is_bootable == ("LegacyBIOSBootable" in attributes)


def check_against_partx(
    table: DiskTable, target: str | Path, untyped: frozenset[str] = frozenset()
) -> None:
    """Compare a table with what partx, and so libblkid, says; but for partitions without a type."""
    said = said_by("partx", "--raw", "-g", "-o", "NR,START,SECTORS,UUID", target)
    lines = [line for line in said.splitlines() if line.split()[0] not in untyped]
    assert len(lines) == len(said.splitlines()) - len(untyped)
    # partx counts by 512 bytes, and of a container only the sectors of its first boot record.
    assert [line.split() for line in lines] == [
        [
            str(each.number),
            str(each.start // 512),
            line.split()[2] if each.is_container else str((each.stop - each.start) // 512),
            str(each.uuid),
        ]
        for each, line in zip(table.partitions, lines, strict=True)
    ]


@pytest.mark.parametrize("script", [GPT, LONG_GPT, DOS], ids=["gpt", "long-gpt", "dos"])
def test_a_table_is_what_tools_say(script: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    table = found_in(partition(path, script))
    check_against_sfdisk(table, path, str(path))
    check_against_partx(table, path)
    assert len(table.partitions) == script.count("start=")
    assert table.sector_size == 512


def test_what_is_told_of_a_partition(gpt: bytes, dos: bytes) -> None:
    first, second, fifth, seventh = found_in(gpt).partitions
    assert first.uuid == "11111111-2222-3333-4444-555555555555"
    assert (first.name, first.type, first.type_name) == ("EFI", EFI, "EFI System")
    assert (second.name, second.is_bootable, second.attributes) == ("root é", True, 0b101)
    assert (fifth.type_name, fifth.name) == (None, None)
    assert seventh.attributes == 1 << 63
    *_, container, fourth, logical = found_in(dos).partitions[:5]
    assert (container.is_container, container.type_name) == (True, "Extended")
    assert (fourth.type, fourth.type_name, fourth.uuid) == ("da", "Non-FS data", "cafe1234-04")
    assert (logical.number, logical.start, logical.stop) == (5, 10240 * 512, 14336 * 512)


@pytest.mark.loop
@pytest.mark.parametrize("script", [ODD_GPT, ODD_DOS], ids=["gpt", "dos"])
def test_sectors_of_4096_bytes(script: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(SIZE)
    with looped(path, "-b", "4096") as device:
        subprocess.run(["sfdisk", "-q", device], input=script, text=True, check=True)
        os.sync()
        data = path.read_bytes()
        # A GPT shows the size of a sector; an MBR does not.
        table = found_in(data, None if script is ODD_GPT else 4096)
        assert table.sector_size == 4096
        check_against_sfdisk(table, device, f"{device}p")
    if script is ODD_GPT:
        damaged = bytearray(data)
        damaged[4096:8192] = bytes(4096)
        found = found_in(bytes(damaged))
        assert (found.sector_size, found.partitions) == (4096, table.partitions)
        assert "its copy at byte 16773120 is read" in found.warnings[0]


ODD_CHAINS = {
    # Two containers, the second with a data entry behind the link, and an empty record.
    "two-containers": disk({
        0: record(
            entry(0, 5, 64, 512), entry(0, 0x83, 2048, 64), entry(0, 0x85, 1024, 512), disk_id=7
        ),
        64: record(entry(0, 0x83, 8, 56), entry(0, 5, 128, 64)),
        192: record(entry(0, 0x83, 8, 56)),
        1024: record(entry(0, 0x0F, 64, 128), entry(0x80, 0x82, 8, 56)),
        1088: record(entry(0, 0, 0, 0), entry(0, 5, 256, 64)),
        1280: record(entry(0, 0x83, 8, 32)),
    }),
    # The third and the fourth entry count where they fit; what has no type has a number.
    "more-entries": disk({
        0: record(entry(0, 0, 0, 0), entry(0, 0x0F, 64, 1024), disk_id=7),
        64: record(
            entry(0, 0x83, 8, 8), entry(0, 5, 512, 128),
            entry(0, 0x83, 16, 8), entry(0, 0x83, 4000, 8),
        ),
        576: record(entry(0, 0, 8, 8), entry(0, 0x83, 16, 8), entry(0, 0x83, 24, 8)),
    }),
    # The chain goes back to a record that lies before.
    "backwards": disk({
        0: record(entry(0, 5, 64, 1024), disk_id=7),
        64: record(entry(0, 0x83, 8, 56), entry(0, 5, 512, 64)),
        576: record(entry(0, 0x83, 8, 56), entry(0, 5, 128, 64)),
        192: record(entry(0, 0x83, 8, 56)),
    }),
    # A record without a signature ends the chain.
    "unsigned": disk({
        0: record(entry(0, 5, 64, 1024), disk_id=7),
        64: record(entry(0, 0x83, 8, 56), entry(0, 5, 512, 64)),
        576: bytes(510) + b"xx",
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_CHAINS)
def test_odd_chains_are_what_libblkid_makes_of_them(name: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(ODD_CHAINS[name])
    table = found_in(bytes(ODD_CHAINS[name]))
    check_against_partx(table, path, frozenset({"7"} if name == "more-entries" else ()))
    assert bool(table.warnings) == (name == "unsigned")


def test_the_names_of_types_are_those_of_sfdisk() -> None:
    for label, names in (
        ("dos", {f"{kind:x}": name for kind, name in MBR_TYPES.items()}),
        ("gpt", GPT_TYPES),
    ):
        said = dict(
            line.strip().split("  ", 1)
            for line in said_by("sfdisk", "--label", label, "-T").splitlines()[2:]
        )
        known = {key.upper() if label == "gpt" else key: name for key, name in said.items()}
        # The lists of other versions are longer or shorter.
        same = [names[key] == known[key] for key in names if key in known]
        assert len(same) > 60
        assert all(same)


# GPT.


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (HEADER, "gpt.header @0x200: is not there"),
        (HEADER + 60, "gpt.header @0x200: has a wrong checksum"),
        (HEADER + 12, "gpt.header @0x200: has "),
        (ENTRIES + 40, "gpt.entries @0x400: have a wrong checksum"),
    ],
)
def test_the_copy_is_read_where_the_first_is_damaged(gpt: bytes, at: int, what: str) -> None:
    damaged = bytearray(gpt)
    damaged[at] ^= 0xFF
    found = found_in(bytes(damaged))
    assert found.partitions == found_in(gpt).partitions
    assert what in found.warnings[0]
    assert f"its copy at byte {COPY} is read" in found.warnings[0]
    damaged[COPY + 60] ^= 0xFF
    with pytest.raises(CorruptImageError, match="wrong checksum") as caught:
        look(bytes(damaged))
    assert caught.value.offset == (ENTRIES if "entries" in what else HEADER)
    assert f"0x{COPY:x}" in str(caught.value)


def test_both_headers_are_gone(gpt: bytes) -> None:
    damaged = bytearray(gpt)
    damaged[HEADER : HEADER + 512] = bytes(512)
    assert "is not there" in found_in(bytes(damaged)).warnings[0]
    damaged[COPY:] = bytes(512)
    with pytest.raises(CorruptImageError, match="neither it nor its copy can be found") as caught:
        look(bytes(damaged))
    assert (caught.value.structure, caught.value.offset) == ("gpt.header", HEADER)
    # No program makes a GPT that is kept by an entry elsewhere.
    struct.pack_into("<I", damaged, 446 + 8, 7)
    assert look(bytes(damaged)) is None


def test_the_copy_of_a_gpt_is_compared(gpt: bytes) -> None:
    damaged = bytearray(gpt)
    damaged[COPY + 60] ^= 0xFF
    assert "copy of the GPT is damaged" in found_in(bytes(damaged)).warnings[0]
    other = bytearray(gpt)
    (lba,) = struct.unpack_from("<Q", other, COPY + 72)
    other[lba * 512 + 56] ^= 1
    seal(other, COPY)
    found = found_in(bytes(other))
    assert found.partitions == found_in(gpt).partitions
    assert found.warnings == (f"the copy of the GPT at byte {COPY} is another table",)


def test_a_disk_that_was_made_larger_or_smaller(gpt: bytes) -> None:
    grown = gpt + bytes(4 * MIB)
    found = found_in(grown)
    assert found.partitions == found_in(gpt).partitions
    assert found.warnings == (
        f"the copy of the GPT lies at byte {COPY}, not at the end of the disk",
    )
    damaged = bytearray(grown)
    damaged[ENTRIES] ^= 0xFF
    assert f"its copy at byte {COPY} is read" in found_in(bytes(damaged)).warnings[0]
    # The last partition that begins before is cut, and what it says is that.
    cut = found_in(gpt[: 25000 * 512 + 100])
    assert [each.stop for each in cut.partitions][2] == 25000 * 512 + 100
    assert [each.stop for each in cut.partitions][3] == 22528 * 512
    assert "would lie at byte" in cut.warnings[0]
    assert "partition 5 ends" in cut.warnings[1]
    assert "is cut there" in cut.warnings[1]
    with pytest.raises(CorruptImageError, match="partition 5 lies in sectors 24576 to") as caught:
        look(gpt[: 24576 * 512])
    assert (caught.value.structure, caught.value.offset) == ("gpt.entries", ENTRIES + 4 * 128)


def reaching(data: bytes, stop: int) -> DiskTable | None:
    """Return the table of a disk of which only what lies before `stop` can be read."""
    return read_table(lambda at, length: data[:stop][at : at + length], len(data))


def test_what_cannot_be_read(gpt: bytes, dos: bytes) -> None:
    # That the copy of what is whole is out of reach says nothing of the disk.
    assert reaching(gpt, MIB) == found_in(gpt)
    assert reaching(gpt, COPY) == found_in(gpt)
    damaged = bytearray(gpt)
    damaged[HEADER + 60] ^= 1
    with pytest.raises(CorruptImageError, match=r"gpt\.header @0xfffe00: cannot be read"):
        reaching(bytes(damaged), MIB)
    with pytest.raises(CorruptImageError, match="neither it nor its copy can be found"):
        reaching(gpt, HEADER)
    with pytest.raises(CorruptImageError, match=r"gpt\.entries @0x400: cannot be read"):
        reaching(gpt, ENTRIES)
    for stop, count, place in ((MIB, 4, CONTAINER), (SECOND + 511, 5, SECOND)):
        found = reaching(dos, stop)
        assert found is not None
        assert found.partitions == found_in(dos).partitions[:count]
        assert f"the boot record at byte {place} cannot be read" in found.warnings[0]


def test_entries_of_other_sizes(gpt: bytes) -> None:
    for size, count in ((256, 64), (136, 100), (4096, 4), (4096, 7)):
        data = bytearray(gpt)
        for at, lba in ((HEADER, 2), (COPY, (COPY >> 9) - 60)):
            for number in range(count):
                own = gpt[ENTRIES + number * 128 :][:128].ljust(size, b"\xaa")
                data[lba * 512 + number * size :][:size] = own
                where = lba * 512 + number * size
                data[where : where + size] = own
            struct.pack_into("<Q", data, at + 72, lba)
            struct.pack_into("<II", data, at + 80, count, size)
            seal(data, at)
        found = found_in(bytes(data))
        assert found.warnings == ()
        assert found.partitions == tuple(p for p in found_in(gpt).partitions if p.number <= count)


@pytest.mark.parametrize(
    ("count", "size"), [(1025, 128), (0, 128), (4, 64), (4, 8192), (4, 129), (1 << 31, 1 << 31)]
)
def test_entries_that_cannot_be(gpt: bytes, count: int, size: int) -> None:
    data = bytearray(gpt)
    for at in (HEADER, COPY):
        struct.pack_into("<II", data, at + 80, count, size)
        seal(data, at)
    with pytest.raises(CorruptImageError, match=f"has {count} entries of {size} bytes"):
        look(bytes(data))


@pytest.mark.parametrize(
    ("first", "last"), [(1 << 40, 1 << 41), (6000, 5999), (0, 10), (1, 10), ((1 << 64) - 1,) * 2]
)
def test_a_partition_of_a_gpt_that_cannot_be(gpt: bytes, first: int, last: int) -> None:
    data = bytearray(gpt)
    struct.pack_into("<QQ", data, ENTRIES + 128 + 32, first, last)
    seal(data, HEADER)
    with pytest.raises(CorruptImageError, match="partition 2 lies in sectors") as caught:
        look(bytes(data))
    assert caught.value.offset == ENTRIES + 128


def test_a_name_that_is_no_text(gpt: bytes) -> None:
    data = bytearray(gpt)
    data[ENTRIES + 56 : ENTRIES + 128] = b"\x00\xd8A\0".ljust(72, b"\0")
    data[ENTRIES + 128 + 56 : ENTRIES + 256] = b"x\0" * 36
    seal(data, HEADER)
    first, second = found_in(bytes(data)).partitions[:2]
    assert first.name is not None
    first.name.encode()
    assert second.name == "x" * 36


def test_a_hybrid_table_is_a_gpt(gpt: bytes) -> None:
    data = bytearray(gpt)
    own = data[446:462]
    # In any place, and with entries that lie over those of the GPT.
    data[446:462] = entry(0x80, 0x83, 6144, 8192)
    data[462:478] = own
    data[478:494] = entry(0, 0x83, 7000, 99999999)
    found = found_in(bytes(data))
    assert found == found_in(gpt)


# MBR.


def test_a_disk_without_identifier(dos: bytes) -> None:
    data = bytearray(dos)
    data[440:444] = bytes(4)
    found = found_in(bytes(data))
    assert found.id is None
    assert {each.uuid for each in found.partitions} == {None}


@pytest.mark.parametrize(
    ("at", "start", "message", "offset"),
    [
        (CONTAINER, 0, "comes back to byte 4194304", CONTAINER),
        (SECOND, 6144, "comes back to byte 7340032", SECOND),
        (THIRD, 6144, "comes back to byte 7340032", THIRD),
        (CONTAINER, 20480, "leads out of its container", CONTAINER),
        (SECOND, (1 << 32) - 4096, "leads out of its container", SECOND),
    ],
)
def test_chains_that_cannot_be(dos: bytes, at: int, start: int, message: str, offset: int) -> None:
    data = bytearray(dos)
    data[at + 462 : at + 478] = entry(0, 5, start, 100)
    with pytest.raises(CorruptImageError, match=message) as caught:
        look(bytes(data))
    assert (caught.value.structure, caught.value.offset) == ("mbr.ebr", offset)


def chain(length: int) -> bytes:
    """Return a disk with as many logical partitions."""
    records = {0: record(entry(0, 5, 64, 4096))}
    for number in range(length):
        link = [entry(0, 5, 16 * (number + 1), 16)] if number + 1 < length else []
        records[64 + 16 * number] = record(entry(0, 0x83, 8, 8), *link)
    return bytes(disk(records))


def test_chains_that_are_too_long() -> None:
    assert [each.number for each in found_in(chain(128)).partitions][-1] == 132
    with pytest.raises(CorruptImageError, match="more than 128 boot records") as caught:
        look(chain(129))
    assert caught.value.offset == (64 + 16 * 127) * 512


def test_a_logical_partition_outside_of_its_container(dos: bytes) -> None:
    for start in (0, 20480):
        data = bytearray(dos)
        struct.pack_into("<I", data, SECOND + 446 + 8, start)
        with pytest.raises(CorruptImageError, match="partition 6 begins at byte") as caught:
            look(bytes(data))
        assert caught.value.offset == SECOND
    data = bytearray(dos)
    data[446 + 48 : 446 + 64] = bytes(16)
    struct.pack_into("<I", data, THIRD + 446 + 12, 8192)
    found = found_in(bytes(data))
    assert found.warnings == ("partition 7 reaches out of its container",)
    assert found.partitions[-1].stop == (22528 + 8192) * 512


def test_records_that_are_none(dos: bytes) -> None:
    data = bytearray(dos)
    data[CONTAINER : CONTAINER + 512] = bytes(512)
    # Nothing was made in it yet.
    found = found_in(bytes(data))
    assert (len(found.partitions), found.warnings) == (4, ())
    data[CONTAINER] = 1
    assert "has no signature" in found_in(bytes(data)).warnings[0]
    data = bytearray(dos)
    data[SECOND + 510] = 0
    found = found_in(bytes(data))
    assert [each.number for each in found.partitions] == [1, 2, 3, 4, 5]
    assert f"the boot record at byte {SECOND} has no signature" in found.warnings[0]


def test_an_mbr_that_reaches_behind_the_disk(dos: bytes) -> None:
    data = bytearray(dos)
    data[446 + 48 : 446 + 64] = bytes(16)
    whole = found_in(bytes(data))
    for stop, count, last in ((23000, 6, True), (22528, 5, False), (20480, 5, False)):
        cut = found_in(bytes(data[: stop * 512]))
        assert [each.number for each in cut.partitions] == [1, 2, 3, 5, 6, 7][:count]
        assert cut.partitions[2].stop == stop * 512
        assert "partition 3 ends" in cut.warnings[0]
        assert len(cut.warnings) == 2
        if last:
            assert cut.partitions[-1].stop == stop * 512
            assert cut.warnings[1].startswith("partition 7 ends")
        else:
            assert "behind the disk" in cut.warnings[1]
            assert cut.partitions[3:] == whole.partitions[3:5]
    # The fourth begins outside: no table of this disk.
    assert look(dos[: 28672 * 512]) is None


def test_partitions_over_each_other_are_refused(gpt: bytes, dos: bytes) -> None:
    data = bytearray(dos)
    struct.pack_into("<I", data, 446 + 16 + 8, 6143)
    with pytest.raises(CorruptImageError, match="partitions 1 and 2 lie over each") as caught:
        look(bytes(data))
    assert (caught.value.structure, caught.value.offset) == ("mbr.partitions", 6143 * 512)
    for at, value, pair in (
        (446 + 32 + 12, 20481, "3 and 4"),
        (CONTAINER + 446 + 12, 9000, "5 and 6"),
        (THIRD + 446 + 12, 9000, "7 and 4|4 and 7"),
    ):
        data = bytearray(dos)
        struct.pack_into("<I", data, at, value)
        with pytest.raises(CorruptImageError, match=f"partitions (?:{pair}) lie over"):
            look(bytes(data))
    data = bytearray(gpt)
    struct.pack_into("<Q", data, ENTRIES + 40, 6144)
    seal(data, HEADER)
    with pytest.raises(CorruptImageError, match=r"gpt\.partitions .* 1 and 2 lie over each"):
        look(bytes(data))


def test_entries_that_are_no_table(dos: bytes) -> None:
    for at, value in ((446, 1), (446 + 48, 0x7F), (510, 0), (511, 0)):
        data = bytearray(dos)
        data[at] = value
        assert look(bytes(data)) is None
    data = bytearray(dos)
    struct.pack_into("<I", data, 446 + 8, 0)
    assert look(bytes(data)) is None
    assert look(bytes(disk({0: record()}))) is None
    assert look(bytes(MIB)) is None
    for length in (0, 1, 511, 512):
        assert look(dos[:length]) is None


# File systems.


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The first sectors of volumes, by what made them."""
    path = tmp_path_factory.mktemp("volumes") / "volume"
    found = {}
    for command in (
        "mkfs.vfat", "mkfs.vfat -F 12", "mkfs.vfat -F 16", "mkfs.vfat -F 32", "mkfs.vfat -S 4096",
        "mkfs.vfat -f 1 --mbr=n", "mkfs.ntfs -q -F -f", "mkfs.ntfs -q -F -f -s 4096",
        "mkfs.exfat",
    ):  # fmt: skip
        with path.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run([*command.split(), path], check=True, capture_output=True)
        with path.open("rb") as file:
            found[command] = file.read(MIB)
    return found


def test_a_file_system_is_no_table(volumes: dict[str, bytes]) -> None:
    for command, data in volumes.items():
        assert data[510:512] == b"\x55\xaa", command
        assert begins_file_system(data[:512]), command
        assert look(data) is None, command
        # Neither with bytes in it that could be entries.
        odd = data[:446] + entry(0, 0x83, 1, 10).ljust(64, b"\0") + data[510:]
        assert look(odd) is None, command


def test_a_table_is_no_file_system(gpt: bytes, dos: bytes, volumes: dict[str, bytes]) -> None:
    assert not begins_file_system(gpt[:512])
    assert not begins_file_system(dos[:512])
    assert not begins_file_system(b"")
    # A boot manager begins with a jump, too, and has no such numbers behind it.
    manager = b"\xeb\x63\x90" + dos[3:]
    assert found_in(manager) == found_in(dos)
    for data in volumes.values():
        assert not begins_file_system(bytes(3) + data[3:512])
        assert not begins_file_system(data[:11] + b"\xff" * 53 + data[64:512])
        assert not begins_file_system(data[:510])
        # A boot sector that is left over: the MBR cannot be trusted, a GPT proves itself.
        assert look(data[:446] + dos[446:]) is None
        assert found_in(data[:446] + gpt[446:]) == found_in(gpt)
