"""Disks with partition tables: as sfdisk writes them, and made by hand."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

from imgcat.formats.partitions.on_disk import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imgcat.formats.partitions.table import DiskTable

MIB = 1 << 20
SIZE = 16 * MIB
HEADER, ENTRIES = 512, 1024
COPY = SIZE - 512
EFI, LINUX = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
GPT = f"""label: gpt
label-id: 0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0
start=2048, size=4096, type={EFI}, name="EFI", uuid=11111111-2222-3333-4444-555555555555
start=6144, size=8192, type={LINUX}, name="root é", attrs="RequiredPartition LegacyBIOSBootable"
/dev/x7 : start=14336, size=8192, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, attrs="GUID:63"
/dev/x5 : start=24576, size=4096, type=5C6B8E4A-0000-4000-8000-0123456789AB
"""
LONG_GPT = GPT.replace("label: gpt", "label: gpt\ntable-length: 300")
DOS = """label: dos
label-id: 0xcafe1234
start=2048, size=4096, type=83, bootable
start=6144, size=2048, type=7
start=8192, size=20480, type=5
start=28672, size=2048, type=da
start=10240, size=4096, type=83
start=16384, size=4096, type=82, bootable
start=22528, size=2048, type=c
"""
CONTAINER, SECOND, THIRD = 8192 * 512, 14336 * 512, 20480 * 512
"""Where the boot records of the logical partitions lie."""

ODD_GPT = "label: gpt\nstart=256, size=512, name=one\nstart=1024, size=512, bootable\n"
ODD_DOS = """label: dos
label-id: 0x1
start=256, size=512, type=83
start=768, size=2048, type=f
start=1024, size=256, type=83
start=1536, size=256, type=82
"""


def partition(path: Path, script: str, size: int = SIZE) -> bytes:
    """Make a disk with a table."""
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["sfdisk", "-q", path], input=script, text=True, check=True)
    return path.read_bytes()


@contextlib.contextmanager
def looped(path: Path, *options: str) -> Iterator[str]:
    """Have a disk as a device."""
    device = subprocess.run(
        ["losetup", "-f", "--show", *options, path], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def look(data: bytes, sector_size: int | None = None) -> DiskTable | None:
    """Return the table of a disk in memory."""
    return read_table(lambda at, length: data[at : at + length], len(data), sector_size)


def found_in(data: bytes, sector_size: int | None = None) -> DiskTable:
    """Return the table of a disk that has one."""
    table = look(data, sector_size)
    assert table is not None
    return table


def said_by(*command: str | Path) -> str:
    """Return what a tool says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def entry(status: int, kind: int, start: int, sectors: int) -> bytes:
    """Return an entry of a boot record."""
    return struct.pack("<B3sB3sII", status, bytes(3), kind, bytes(3), start, sectors)


def record(*entries: bytes, disk_id: int = 0) -> bytes:
    """Return a boot record."""
    return (
        bytes(440) + struct.pack("<IH", disk_id, 0) + b"".join(entries).ljust(64, b"\0") + b"U\xaa"
    )


def disk(records: dict[int, bytes], sectors: int = 8192) -> bytearray:
    """Return a disk with these boot records, by the sectors that they lie in."""
    data = bytearray(sectors * 512)
    for sector, each in records.items():
        data[sector * 512 : sector * 512 + 512] = each
    return data


def seal(data: bytearray, at: int, sector: int = 512) -> None:
    """Make the checksums of a header right again."""
    (lba,) = struct.unpack_from("<Q", data, at + 72)
    count, size = struct.unpack_from("<II", data, at + 80)
    entries = data[lba * sector : lba * sector + count * size]
    struct.pack_into("<I", data, at + 88, zlib.crc32(entries))
    struct.pack_into("<I", data, at + 16, 0)
    (length,) = struct.unpack_from("<I", data, at + 12)
    struct.pack_into("<I", data, at + 16, zlib.crc32(data[at : at + length]))
