"""Partition tables as text: what is understood, and what is refused with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.partitions.text_tables import (
    PartedDisk,
    PartitionTable,
    Row,
    parse_parted,
    parse_sfdisk,
)

_GPT = """\
label: gpt
label-id: B4C86195-0DB7-624E-B72D-D2D52E2243BA
device: /dev/sda
unit: sectors
first-lba: 34
last-lba: 409566
sector-size: 512

/dev/sda1 : start=        2048, size=       81920, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
uuid=1387FD30-0BD9-9D48-9544-C1AE7818CF32, name="EFI, \\x22system\\x22", attrs="RequiredPartition"
/dev/sda2 : start=       83968, size=       98304, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
"""

_OLD = """\
# partition table of /dev/sda
unit: sectors

/dev/sda1 : start=     2048, size= 74838016, Id=83, bootable
/dev/sda2 : start= 74842110, size=  3297282, Id= 5
/dev/sda3 : start=        0, size=        0, Id= 0
/dev/sda4 : start=        0, size=        0, Id= 0
/dev/sda5 : start= 74842112, size=  3297280, Id=82
"""


def test_gpt() -> None:
    table = parse_sfdisk(_GPT)
    esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    assert table == PartitionTable(
        label="gpt",
        label_id="B4C86195-0DB7-624E-B72D-D2D52E2243BA",
        device="/dev/sda",
        sector_size=512,
        first_lba=34,
        last_lba=409566,
        rows=(
            Row("/dev/sda1", 1, 2048 * 512, 83968 * 512, esp, False, "EFI, \\x22system\\x22"),
            Row("/dev/sda2", 2, 83968 * 512, 182272 * 512, linux, False, None),
        ),
    )
    assert table.rows[0].mbr_type is None
    assert not table.rows[0].is_extended


def test_what_an_old_sfdisk_wrote() -> None:
    table = parse_sfdisk(_OLD)
    assert (table.label, table.device, table.last_lba) == ("dos", None, None)
    assert [(row.number, row.mbr_type, row.is_bootable) for row in table.rows] == [
        (1, 0x83, True), (2, 0x05, False), (5, 0x82, False),
    ]  # fmt: skip
    assert [row.is_extended for row in table.rows] == [False, True, False]


def test_the_sector_size_of_the_text_counts() -> None:
    text = "label: dos\nsector-size: 4096\n/dev/sda1 : start=1, size=2, type=83\n"
    for default in (512, 4096):
        row = parse_sfdisk(text, sector_size=default).rows[0]
        assert (row.start, row.stop) == (4096, 3 * 4096)
    row = parse_sfdisk(text.replace("sector-size", "other"), sector_size=2048).rows[0]
    assert (row.start, row.stop) == (2048, 3 * 2048)


@pytest.mark.parametrize("device", ["/dev/nvme0n1p12", "/dev/mapper/raid-part12", "/tmp/a: b12"])
def test_devices(device: str) -> None:
    if ": " in device:
        with pytest.raises(CorruptImageError):
            parse_sfdisk(f"unit: sectors\n{device} : start=1, size=1")
        return
    row = parse_sfdisk(f"unit: sectors\n{device} : start=1, size=1").rows[0]
    assert (row.device, row.number, row.mbr_type) == (device, 12, None)


_ROW = "/dev/sda1 : start=1, size=1"


@pytest.mark.parametrize(
    ("text", "place", "detail"),
    [
        ("", "0x0: line 1", "no partition table: expected what sfdisk -d prints"),
        ("# a\n\n#b", "0x5: line 3", "no partition table: expected what sfdisk -d prints"),
        ("unit: furlongs", "0x0: line 1", "the unit is 'furlongs', not sectors"),
        ("what", "0x0: line 1", "neither a heading nor a partition"),
        ("a: \u00e4\u00e4\n\n???", "0x9: line 3", "neither a heading nor a partition"),
        ("/dev/sda1 start=1", "0x0: line 1", "no partition as sfdisk -d prints it"),
        ("/dev/sda : start=1, size=1", "0x0: line 1", "a partition without a number"),
        ("/dev/sda1 : start=1", "0x0: line 1", "a partition without start or size"),
        ("\n/dev/sda1 : start=-1, size=1", "0x1: line 2", "'-1' is no number of sectors"),
        (f'{_ROW}, name="x', "0x0: line 1", "a quote is not closed"),
        (f"{_ROW}{1 << 62}", "0x0: line 1", f"'1{1 << 62}' is no number of sectors"),
        (f"/dev/sda1 : start={1 << 62}, size={1 << 62}", "0x0: line 1",
         f"a partition that ends at sector {1 << 63}"),
        (f"sector-size: 513\n{_ROW}", "0x11: line 2", "a sector of 513 bytes"),
        (f"{_ROW}\n{_ROW}", "0x1c: line 2", "a partition is listed twice"),
        (f"{_ROW}\n/dev/sdb1 : start=9, size=1", "0x1c: line 2", "a partition is listed twice"),
        (f"{_ROW}\nsector-size: 4096\na: b", "0x1c: line 2",
         "the sector size is told behind a partition"),
    ],
)  # fmt: skip
def test_refused(text: str, place: str, detail: str) -> None:
    with pytest.raises(CorruptImageError) as caught:
        parse_sfdisk(text)
    assert str(caught.value) == f"clonezilla.pt.sf @{place}: {detail}"


def test_rows_are_counted() -> None:
    rows = "".join(f"/dev/sda{n} : start={n}, size=1\n" for n in range(1, 1100))
    with pytest.raises(CorruptImageError, match="more than 1024 partitions"):
        parse_sfdisk(rows)


def test_a_long_row_is_refused_at_once() -> None:
    with pytest.raises(CorruptImageError, match="line 1: no partition"):
        parse_sfdisk("/dev/sda1 : start=1, size=1" + " ," * 400_000)
    with pytest.raises(CorruptImageError, match="line 1"):
        parse_sfdisk("/" + " " * 1_000_000)


def test_parted() -> None:
    text = (
        "Model: Disk /dev/sdz: 1s (scsi)\nDisk /dev/sda: 409600s\n"
        "Sector size (logical/physical): 4096B/4096B\nPartition Table: gpt\nDisk Flags:\n\n"
        "Number  Start\nDisk /dev/sdb: 7s\n"
    )
    assert parse_parted(text) == PartedDisk(409600 * 4096, 4096, "gpt")
    assert parse_parted("Disk /dev/sda: 1000B\n") == PartedDisk(1000, None, None)
    assert parse_parted("Disk /dev/sda: 42.9GB\nPartition Table: loop") == PartedDisk(
        None, None, "loop"
    )
    assert parse_parted("") == PartedDisk(None, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Disk /dev/sda: 9223372036854775807s", "line 1: a disk of"),
        (f"Disk /dev/sda: {'9' * 5000}s", "line 1: '9{40}' is no number"),
        ("\nSector size (logical/physical): 500B/4096B", "line 2: a sector of 500 bytes"),
    ],
)
def test_parted_refused(text: str, message: str) -> None:
    with pytest.raises(CorruptImageError, match=message):
        parse_parted(text)


_LINES = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.sampled_from(_GPT.splitlines() + _OLD.splitlines()),
        st.builds(
            "/dev/sda{} : start={}, size={}, type={}".format,
            st.integers(-1, 200), st.integers(-1, 1 << 66), st.integers(-1, 1 << 66), st.text(),
        ),
        st.builds("{}: {}".format, st.sampled_from(["sector-size", "last-lba", "unit"]), st.text()),
        st.builds("Disk /dev/sda: {}{}".format, st.integers(), st.sampled_from(["s", "B", "GB"])),
    ),
    max_size=12,
)  # fmt: skip


@given(lines=_LINES, sector_size=st.sampled_from([512, 4096]))
def test_any_text_is_understood_or_refused(lines: list[str], sector_size: int) -> None:
    text = "\n".join(lines)
    try:
        table = parse_sfdisk(text, sector_size=sector_size)
    except CorruptImageError:
        pass
    else:
        for row in table.rows:
            assert 0 <= row.start < row.stop < 1 << 63
            assert row.start % 512 == row.stop % 512 == 0
    try:
        size = parse_parted(text).size
    except CorruptImageError:
        return
    assert size is None or 0 <= size < 1 << 63
