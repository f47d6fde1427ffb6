"""Partition tables as sfdisk writes them, against what it says of them."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imgcat.formats.errors import CorruptImageError, FormatError
from imgcat.formats.partitions.on_disk import read_table

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.partitions.table import DiskTable

MIB = 1 << 20
SIZE = 64 * MIB
EFI, LINUX = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
GPT = f"""label: gpt
label-id: 0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0
start=2048, size=20480, type={EFI}, name="EFI", uuid=11111111-2222-3333-4444-555555555555
start=22528, size=40960, type={LINUX}, name="root é", attrs="LegacyBIOSBootable"
start=63488, type=E6D6D379-F507-44C2-A23C-238F2A3DF928
"""
DOS = """label: dos
label-id: 0xcafe1234
start=2048, size=20480, type=83, bootable
start=22528, size=4096, type=7
start=26624, size=90112, type=5
start=28672, size=20480, type=83
start=51200, size=20480, type=82
start=73728, size=20480, type=c
"""


def partition(directory: Path, script: str, size: int = SIZE) -> Path:
    """Make a disk with a table."""
    path = directory / "disk"
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["sfdisk", "-q", path], input=script, text=True, check=True)
    return path


def look(data: bytes, sector_size: int | None = None) -> DiskTable | None:
    """Return the table of a disk in memory."""
    return read_table(lambda at, length: data[at : at + length], len(data), sector_size)


def told_by_sfdisk(path: Path) -> dict[str, Any]:
    """Return what sfdisk says."""
    said = subprocess.run(["sfdisk", "--json", path], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout)["partitiontable"]
    return found


def check_against_sfdisk(path: Path, prefix: str, device: object = None) -> None:
    """Compare a table with what sfdisk says of the file, or of a device that it lies behind."""
    said = told_by_sfdisk(device or path)  # type: ignore[arg-type]
    table = look(path.read_bytes())
    assert table is not None
    assert (table.scheme, table.id, table.sector_size) == (
        said["label"], said["id"], said["sectorsize"],
    )  # fmt: skip
    assert table.warnings == ()
    unit = table.sector_size
    found = [
        (each.number, each.start // unit, (each.stop - each.start) // unit, each.type, each.name)
        for each in table.partitions
    ]
    assert found == [
        (
            int(each["node"].removeprefix(prefix)), each["start"], each["size"], each["type"],
            each.get("name"),
        )
        for each in said["partitions"]
    ]  # fmt: skip
    assert [each.is_bootable for each in table.partitions] == [
        each.get("bootable", "LegacyBIOSBootable" in each.get("attrs", ""))
        for each in said["partitions"]
    ]
    if table.scheme == "gpt":
        uuids = [each["uuid"].lower() for each in said["partitions"]]
        assert [each.uuid for each in table.partitions] == uuids


@pytest.mark.parametrize("script", [GPT, DOS], ids=["gpt", "dos"])
def test_a_table_is_what_sfdisk_says(script: str, tmp_path: Path) -> None:
    path = partition(tmp_path, script)
    check_against_sfdisk(path, str(path))


def test_partuuids_of_an_mbr_are_those_of_partx(tmp_path: Path) -> None:
    path = partition(tmp_path, DOS)
    said = subprocess.run(
        ["partx", "-g", "-r", "-o", "NR,UUID", path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    table = look(path.read_bytes())
    assert table is not None
    expected = [f"{each.number} {each.uuid}" for each in table.partitions]
    assert said.stdout.splitlines() == expected


def test_sectors_of_4096_bytes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(SIZE)
    device = subprocess.run(
        ["losetup", "-f", "--show", "-b", "4096", path], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        script = "label: gpt\nstart=256, size=2560, name=one\nstart=2816, size=5120\n"
        subprocess.run(["sfdisk", "-q", device], input=script, text=True, check=True)
        os.sync()
        check_against_sfdisk(path, f"{device}p", device)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_the_copy_is_read_where_the_first_is_damaged(tmp_path: Path) -> None:
    data = bytearray(partition(tmp_path, GPT).read_bytes())
    whole = look(bytes(data))
    assert whole is not None
    for at, what in ((512 + 60, "wrong checksum"), (1024 + 40, "entries"), (512, "not there")):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        found = look(bytes(damaged))
        assert found is not None
        assert found.partitions == whole.partitions
        assert what in found.warnings[0]
        damaged[-512 + 60] ^= 0xFF
        if what == "not there":
            assert look(bytes(damaged[: len(damaged) - 512] + bytes(512))) is None
        else:
            with pytest.raises(CorruptImageError, match="and its copy too"):
                look(bytes(damaged))
    data[-512 + 60] ^= 0xFF
    found = look(bytes(data))
    assert found is not None
    assert "copy of its GPT" in found.warnings[0]


def test_a_hybrid_table_is_a_gpt(tmp_path: Path) -> None:
    data = bytearray(partition(tmp_path, GPT).read_bytes())
    data[446 + 16 : 446 + 32] = struct.pack(
        "<B3sB3sII", 0x80, bytes(3), 0x83, bytes(3), 22528, 40960
    )
    found = look(bytes(data))
    assert found is not None
    assert found.scheme == "gpt"
    assert len(found.partitions) == 3


def test_a_file_system_is_no_table(tmp_path: Path) -> None:
    for command in ("mkfs.vfat", "mkfs.vfat -F 32", "mkfs.ntfs -q -F -f", "mkfs.exfat"):
        path = tmp_path / "volume"
        with path.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run([*command.split(), path], check=True, capture_output=True)
        assert look(path.read_bytes()) is None
    assert look(bytes(MIB)) is None
    assert look(b"") is None


def test_chains_of_boot_records_that_cannot_be(tmp_path: Path) -> None:
    data = partition(tmp_path, DOS).read_bytes()
    container = 26624 * 512
    for start, message in ((0, "comes back"), (2048, "comes back"), (200000, "leads out")):
        damaged = bytearray(data)
        at = container + 2048 * 0 + 446 + 16
        struct.pack_into("<I", damaged, at + 8, start)
        if start == 2048:
            # The next one leads to itself.
            nxt = container + 2048 * 512
            damaged[nxt : nxt + 512] = damaged[container : container + 512]
        with pytest.raises(CorruptImageError, match=message):
            look(bytes(damaged))


def test_partitions_over_each_other_are_refused(tmp_path: Path) -> None:
    data = bytearray(partition(tmp_path, DOS).read_bytes())
    struct.pack_into("<I", data, 446 + 16 + 8, 2049)
    with pytest.raises(CorruptImageError, match="lie over each other"):
        look(bytes(data))


def test_what_reaches_behind_the_disk(tmp_path: Path) -> None:
    data = partition(tmp_path, DOS).read_bytes()
    cut = look(data[: 74000 * 512])
    assert cut is not None
    assert any("behind the disk" in each for each in cut.warnings)
    assert cut.partitions[-1].stop == 74000 * 512
    # A table of another disk altogether.
    assert look(data[: 2048 * 512]) is None
    gpt = bytearray(partition(tmp_path, GPT).read_bytes())
    entries = 1024
    struct.pack_into("<QQ", gpt, entries + 32, 1 << 40, 1 << 41)
    crc = zlib.crc32(gpt[entries : entries + 128 * 128])
    struct.pack_into("<I", gpt, 512 + 88, crc)
    struct.pack_into("<I", gpt, 512 + 16, 0)
    struct.pack_into("<I", gpt, 512 + 16, zlib.crc32(gpt[512 : 512 + 92]))
    with pytest.raises(CorruptImageError, match="partition 1 lies at"):
        look(bytes(gpt))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Disks with tables."""
    directory = tmp_path_factory.mktemp("tables")
    small = GPT.replace("size=40960", "size=4096").replace("63488", "30720, size=2048")
    scripts = [
        small,
        DOS.replace("90112", "30112")
        .replace("start=51200, size=20480", "start=51200, size=2048")
        .split("start=73728")[0],
    ]
    return [partition(directory, each, 32 * MIB).read_bytes() for each in scripts]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_bytes_do_any_harm(tables: list[bytes], data: st.DataObject) -> None:
    disk = bytearray(data.draw(st.sampled_from(tables)))
    for _ in range(data.draw(st.integers(1, 6))):
        base = data.draw(st.sampled_from([446, 512, 1024, len(disk) - 512, 26624 * 512 + 446]))
        at = base + data.draw(st.integers(0, 100))
        disk[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    whole = bytes(disk[: data.draw(st.sampled_from([len(disk), 4096, 512, 511, 0, 20 * MIB]))])
    try:
        found = look(whole)
    except FormatError:
        return
    for each in found.partitions if found else ():
        assert 0 < each.start < each.stop <= len(whole)
