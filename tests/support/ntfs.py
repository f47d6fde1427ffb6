"""Making NTFS, and mounting it by ntfs-3g."""

from __future__ import annotations

import contextlib
import os
import random
import struct
from typing import TYPE_CHECKING

from support.trees import ODD_NAMES
from support.unmounting import unmount
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def ntfs_3g(raw: Path, point: Path, options: str = "") -> Iterator[Path]:
    """Mount an NTFS in a file; other streams are extended attributes there."""
    point.mkdir(exist_ok=True)
    all_options = ",".join(filter(None, ["compression,streams_interface=xattr", options]))
    quiet("ntfs-3g", "-o", all_options, raw, point)
    try:
        yield point
    finally:
        unmount(point, raw)


def make(raw: Path, *options: str, size: int = 96 * MIB) -> None:
    """Make an NTFS in a file."""
    raw.touch()
    os.truncate(raw, size)
    quiet("mkfs.ntfs", "-q", "-F", "-f", *options, raw)


def grow(top: Path, seed: int) -> None:
    """Make files of every kind in a mounted NTFS."""
    generator = random.Random(seed)
    packed = top / "packed"
    packed.mkdir()
    os.setxattr(packed, "system.ntfs_attrib", struct.pack("<I", 0x800))
    text = b"".join(b"line %d of a text\n" % number for number in range(30_000))
    (packed / "text").write_bytes(text)
    (packed / "noise").write_bytes(generator.randbytes(200_000))
    (packed / "both").write_bytes(
        text[:70_000] + generator.randbytes(70_000) + bytes(90_000) + text
    )
    (packed / "small").write_bytes(b"resident, though its directory is packed")
    for number in range(40):
        (top / f"file{number}").write_bytes(generator.randbytes(generator.randrange(3000)))
    (top / "large").write_bytes(generator.randbytes(3_000_000))
    with (top / "sparse").open("wb") as opened:
        for place in (0, 1_000_000, 20_000_000):
            opened.seek(place)
            opened.write(generator.randbytes(10_000))
        opened.truncate(30_000_001)
    with (top / "fragmented").open("wb") as opened, (top / "between").open("wb") as between:
        for number in range(200):
            opened.seek(number * 3 * 65536)
            opened.write(generator.randbytes(100))
            between.write(generator.randbytes(5000))
    # Longer than what was ever written of it.
    with (top / "reserved").open("w+b") as opened:
        opened.write(generator.randbytes(20_000))
        os.posix_fallocate(opened.fileno(), 0, 500_000)
    with (top / "grown").open("wb") as opened:
        opened.write(generator.randbytes(5000))
        opened.truncate(400_000)
    for name in ODD_NAMES:
        path = os.path.join(os.fsencode(top), name)
        # Not all of them are names on NTFS.
        with contextlib.suppress(OSError), open(path, "wb") as opened:
            opened.write(name)
    deep = top
    for number in range(14):
        deep /= f"a directory with a rather long name {number}"
        deep.mkdir()
    (deep / "deep").write_text("deep")
    many = top / "many"
    many.mkdir()
    for number in range(1500):
        (many / f"one of many {number} {generator.randrange(10**6)}").write_text(str(number))
    for path in sorted(many.iterdir())[::3]:
        path.unlink()
    os.link(top / "large", many / "the same as large")
    os.symlink("large", top / "link")
    os.symlink("../many/ümläut", deep / "link")
    os.mkfifo(top / "fifo")
    os.mknod(top / "chr", 0o020600, os.makedev(5, 1))
    os.mknod(top / "blk", 0o060600, os.makedev(8, 1))
    os.setxattr(top / "large", "user.stream", b"a stream beside")
    os.setxattr(top / "file1", "user.big", generator.randbytes(60_000))
    os.utime(top / "file2", ns=(0, 123_456_789_012_345_600))
    os.utime(top / "file3", ns=(0, 4_000_000_000_000_000_000))


NO_CLIENT = 0xFFFF
IS_CLEAN = 0x2


def write_log(raw: Path, *pages: tuple[int, int, int]) -> None:
    """Write the two restart pages of ``$LogFile``, as layout.h of ntfs-3g has them.

    Args:
        raw: the volume, as `make` made it.
        pages: of each its last sequence number, its first client that is in use, or `NO_CLIENT`,
            and its flags.
    """
    image = bytearray(raw.read_bytes())
    offset, size = _attribute(image, "$LogFile", 0x80)
    for number, (lsn, in_use, flags) in enumerate(pages):
        start = offset + number * 4096
        image[start : start + 4096] = _restart_page(size, lsn, in_use, flags)
    # Behind them there are no pages with records.
    image[offset + 8192 : offset + size] = b"\xff" * (size - 8192)
    raw.write_bytes(image)


def mark_dirty(raw: Path) -> None:
    """Set the flag in ``$VOLUME_INFORMATION`` that wants chkdsk to look."""
    image = bytearray(raw.read_bytes())
    offset, _size = _attribute(image, "$Volume", 0x70)
    image[offset + 10] |= 1
    raw.write_bytes(image)


def _restart_page(file_size: int, lsn: int, in_use: int, flags: int) -> bytes:
    page = bytearray(4096)
    # Header: where the ends of its sectors are kept, sizes of pages, where the area is, version.
    struct.pack_into("<4sHHQIIHhh", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
    client = 64
    free = NO_CLIENT if in_use != NO_CLIENT else 0
    struct.pack_into(
        "<QHHHHIHHQIHHII", page, 48, lsn, 1, free, in_use, flags, 67 - file_size.bit_length(),
        client + 160, client, file_size, 0, 48, 64, 1, 0,
    )  # fmt: skip
    struct.pack_into(
        "<QQHHH6xI8s", page, 48 + client, lsn, lsn, NO_CLIENT, NO_CLIENT, 0, 8,
        "NTFS".encode("utf-16-le"),
    )  # fmt: skip
    struct.pack_into("<H", page, 30, 1)
    for number in range(8):
        end = number * 512 + 510
        page[32 + 2 * number : 34 + 2 * number] = page[end : end + 2]
        struct.pack_into("<H", page, end, 1)
    return bytes(page)


def _attribute(image: bytearray, name: str, kind: int) -> tuple[int, int]:
    """Return where the value of an attribute of a file lies, of one run at the most; its size."""
    record = image.rindex(b"FILE", 0, image.index(name.encode("utf-16-le")))
    position = record + struct.unpack_from("<H", image, record + 20)[0]
    while struct.unpack_from("<I", image, position)[0] != kind:
        position += struct.unpack_from("<I", image, position + 4)[0]
    if not image[position + 8]:
        length, at = struct.unpack_from("<IH", image, position + 16)
        return position + at, length
    at = position + struct.unpack_from("<H", image, position + 32)[0]
    lengths, offsets = image[at] & 0xF, image[at] >> 4
    cluster = int.from_bytes(image[at + 1 + lengths : at + 1 + lengths + offsets], "little")
    (size,) = struct.unpack_from("<Q", image, position + 48)
    return cluster * struct.unpack_from("<H", image, 11)[0] * image[13], size
