"""Images of the other tools, large enough to be measured."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from images import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import Workshop

_FILE_SIZE = 16 * MIB


def save_ntfs(shop: Workshop, name: str, size: int, fill: int) -> Path:
    """Make an NTFS of `size` bytes with `fill` random bytes in files; save it with ntfsclone."""
    raw = _empty(shop, name, size)
    shop.run("mkntfs", "-q", "-F", "-Q", "-c", 4096, raw)
    point = shop.make(f"{name}.mount")
    shop.run("ntfs-3g", raw, point)
    _fill(point, fill)
    shop.run("umount", point)
    image = shop.directory / f"{name}.img"
    shop.run_silently("ntfsclone", "--save-image", "--output", image, raw)
    raw.unlink()
    return image


def save_ext3(shop: Workshop, name: str, size: int, fill: int) -> Path:
    """Make an ext3 of `size` bytes with `fill` random bytes in files; save it with partimage."""
    raw = _empty(shop, name, size)
    content = shop.make(f"{name}.content")
    _fill(content, fill)
    features = "^metadata_csum,^64bit,^extent,^huge_file,^flex_bg,^dir_nlink,^extra_isize"
    options = ("-t", "ext3", "-I", 128, "-b", 4096, "-O", features)
    shop.run("mke2fs", "-q", "-F", *options, "-d", content, raw)
    shop.run("rm", "-r", content)
    image = shop.directory / name
    device = shop.run("losetup", "--find", "--show", raw).strip()
    try:
        shop.run(
            "env", "TERM=vt100", "partimage", "-b", "-z0", "-o", "-d", "-c", "save", device, image
        )
    finally:
        shop.run("losetup", "--detach", device)
    raw.unlink()
    return image.with_name(f"{name}.000")


def write_fragments(path: Path, count: int, cluster_size: int = 4096) -> None:
    """Write an ntfsclone image of `count` clusters with a gap after each; their bytes are holes.

    The header and the commands are real; the clusters that lie between are never written.
    """
    clusters = 2 * count
    header = struct.pack(
        "<16sBBIqqQI", b"\0ntfsclone-image", 10, 1, cluster_size, clusters * cluster_size + 512,
        clusters, count, 56,
    )  # fmt: skip
    gap = b"\0" + struct.pack("<q", 1) + b"\1"
    with path.open("wb") as file:
        file.write(header.ljust(56, b"\0") + b"\1")
        offset = file.tell() + cluster_size
        descriptor = file.fileno()
        for _ in range(count - 1):
            os.pwrite(descriptor, gap, offset)
            offset += len(gap) + cluster_size
        # The last gap, and the backup boot sector.
        os.pwrite(descriptor, gap + bytes(512), offset)


def _empty(shop: Workshop, name: str, size: int) -> Path:
    raw = shop.directory / f"{name}.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    return raw


def _fill(directory: Path, size: int) -> None:
    for number, start in enumerate(range(0, size, _FILE_SIZE)):
        with (directory / f"file{number:03d}").open("wb") as file:
            file.write(os.urandom(min(_FILE_SIZE, size - start)))
