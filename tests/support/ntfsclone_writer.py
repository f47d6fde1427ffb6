"""A naive writer of ntfsclone images, of the versions before 10, 10.0 and 10.1, for tests.

It follows the description of the format with plain loops, and shares no code with the reader that
it is there to test. Every record holds bytes of its own, so that of a cluster that is stored twice
each copy can be told from the other, and the guest is what writing one after the other leaves.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"\x00ntfsclone-image"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What image to write.

    Attributes:
        order: the clusters that are stored, in the order of the image; some may be there twice.
        cluster_count: whole clusters of the file system.
        cluster_size: bytes in a cluster.
        tail: bytes of the device behind the last whole cluster.
        major: of the version; below 10 there is no offset to the data.
        minor: of the version.
        data_offset: where the commands begin; from version 10 on.
        backup_boot: whether a record for the backup boot sector is written; None for what the
            version says.
        used: what the header counts, if not the true number of clusters.
        trailing: bytes behind the image.
    """

    order: Sequence[int]
    cluster_count: int
    cluster_size: int = 512
    tail: int = 512
    major: int = 10
    minor: int = 1
    data_offset: int = 56
    backup_boot: bool | None = None
    used: int | None = None
    trailing: bytes = b""


@dataclasses.dataclass(frozen=True)
class Written:
    """An image, and what it must read as.

    Attributes:
        image: the stored bytes.
        guest: the guest bytes.
        records: cluster, and where its command lies in the image, in the image's order.
        end: where the image ends and what trails it begins.
    """

    image: bytes
    guest: bytes
    records: tuple[tuple[int, int], ...]
    end: int


def write(recipe: Recipe) -> Written:
    """Write the image of `recipe`."""
    size, count = recipe.cluster_size, recipe.cluster_count
    device_size = count * size + recipe.tail
    used = len(set(recipe.order)) if recipe.used is None else recipe.used
    out = bytearray(
        header(
            device_size=device_size,
            cluster_count=count,
            cluster_size=size,
            used=used,
            major=recipe.major,
            minor=recipe.minor,
            data_offset=recipe.data_offset,
        )
    )
    has_backup = recipe.backup_boot
    if has_backup is None:
        has_backup = recipe.major == 10 and recipe.minor == 1
    order = [*recipe.order, count] if has_backup else list(recipe.order)
    guest = bytearray(device_size)
    records = []
    position = 0
    for number, cluster in enumerate(order):
        if cluster != position:
            out += gap(cluster - position)
        records.append((cluster, len(out)))
        start = cluster * size
        stop = min(start + size, device_size)
        data = pattern(number, stop - start)
        out += b"\x01" + data
        guest[start:stop] = data
        position = cluster + 1
    if not has_backup and position != count:
        out += gap(count - position)
    end = len(out)
    return Written(bytes(out) + recipe.trailing, bytes(guest), tuple(records), end)


def header(
    *,
    device_size: int,
    cluster_count: int,
    cluster_size: int = 512,
    used: int = 0,
    major: int = 10,
    minor: int = 1,
    data_offset: int = 56,
) -> bytes:
    """Return the header and its padding, up to the first command."""
    out = MAGIC + bytes([major, minor])
    out += struct.pack("<I", cluster_size)
    out += struct.pack("<q", device_size)
    out += struct.pack("<q", cluster_count)
    out += struct.pack("<Q", used)
    if major < 10:
        return out
    out += struct.pack("<I", data_offset)
    return out.ljust(data_offset, b"\0")


def gap(count: int) -> bytes:
    """Return the command of a gap."""
    return b"\0" + struct.pack("<q", count)


def pattern(record: int, size: int) -> bytes:
    """Return `size` bytes of which each 16 name the record and their offset in it."""
    out = bytearray()
    for offset in range(0, size, 16):
        out += f"{record:x}:{offset:x}ghijklmnopqrstu".encode()[:16]
    return bytes(out[:size])
