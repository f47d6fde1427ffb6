"""HFS+ volumes: an empty one, filled by the kernel of a user-mode Linux, and what that shows."""

from __future__ import annotations

import os
import random
import stat
import struct
import unicodedata
from typing import TYPE_CHECKING, Any

from support.files_inside import of_mount

if TYPE_CHECKING:
    from pathlib import Path

_NOW = 3_800_000_000
_NODE = struct.Struct(">IIbBHH")


def make_empty(
    path: Path, size: int, *, block_size: int = 4096, node_size: int = 4096, is_x: bool = False
) -> None:
    """Write an empty volume: no program for it is to be had here. The kernel does all the rest.

    Args:
        path: the file.
        size: bytes.
        block_size: bytes in an allocation block.
        node_size: bytes in a node of the catalog.
        is_x: HFSX, whose names differ by case.
    """
    blocks = size // block_size
    used = -(-2048 // block_size)
    places = {}
    lengths = {"bitmap": -(-blocks // 8), "extents": 1 << 16, "catalog": 16 * node_size}
    for name, length in lengths.items():
        count = -(-length // block_size)
        places[name] = (used, count)
        used += count
    behind = -(-1024 // block_size)
    bits = bytearray(places["bitmap"][1] * block_size)
    for number in [*range(used), *range(blocks - behind, blocks)]:
        bits[number >> 3] |= 0x80 >> (number & 7)

    def fork(name: str) -> bytes:
        start, count = places[name]
        return struct.pack(">QII", count * block_size, 1 << 16, count) + struct.pack(
            ">II56x", start, count
        )

    header = struct.pack(
        ">2sHI4sIIIII", b"HX" if is_x else b"H+", 5 if is_x else 4, 0x100, b"10.0", 0, _NOW, _NOW,
        0, _NOW,
    ) + struct.pack(
        ">IIIIIIIIIIQ32x", 0, 0, block_size, blocks, blocks - used - behind, used, 1 << 16, 1 << 16,
        16, 1, 1,
    ) + fork("bitmap") + fork("extents") + fork("catalog") + bytes(160)  # fmt: skip
    name = "volume".encode("utf-16-be")
    folder = struct.pack(">HHIIIIIIIII", 1, 0, 0, 2, _NOW, _NOW, _NOW, _NOW, 0, 0, 0) + struct.pack(
        ">BBHI40x", 0, 0, 0o40755, 1
    )
    records = [
        struct.pack(">HIH", 6 + len(name), 1, len(name) // 2) + name + folder,
        struct.pack(">HIH", 6, 2, 0) + struct.pack(">HHIH", 3, 0, 1, len(name) // 2) + name,
    ]
    leaf = bytearray(node_size)
    _NODE.pack_into(leaf, 0, 0, 0, -1, 1, len(records), 0)
    at = 14
    for number, record in enumerate(records):
        leaf[at : at + len(record)] = record
        struct.pack_into(">H", leaf, node_size - 2 * number - 2, at)
        at += len(record)
    struct.pack_into(">H", leaf, node_size - 2 * len(records) - 2, at)
    with path.open("wb") as file:
        file.truncate(size)
        for offset in (1024, size - 1024):
            file.seek(offset)
            file.write(header)
        file.seek(places["bitmap"][0] * block_size)
        file.write(bits)
        file.seek(places["extents"][0] * block_size)
        file.write(_head(4096, (1 << 16) // 4096, 10, 0, 2, is_empty=True))
        file.seek(places["catalog"][0] * block_size)
        file.write(_head(node_size, 16, 516, 0xBC if is_x else 0xCF, 6, is_empty=False) + leaf)


def _head(
    size: int, nodes: int, key: int, compare: int, attributes: int, *, is_empty: bool
) -> bytes:
    head = bytearray(size)
    _NODE.pack_into(head, 0, 0, 0, 1, 0, 3, 0)
    depth, root, count, first, last = (0,) * 5 if is_empty else (1, 1, 2, 1, 1)
    struct.pack_into(
        ">HIIIIHHIIHIBBI", head, 14, depth, root, count, first, last, size, key, nodes,
        nodes - (1 if is_empty else 2), 0, 1 << 16, 0, compare, attributes,
    )  # fmt: skip
    head[248] = 0x80 if is_empty else 0xC0
    for number, at in enumerate([14, 120, 248, size - 8]):
        struct.pack_into(">H", head, size - 2 * number - 2, at)
    return bytes(head)


def cut_out(disc: Path) -> None:
    """Leave of a disc by xorriso the HFS+ that its Apple partition map tells of."""
    image = disc.read_bytes()
    entry = image.index(b"Apple_HFS\0", 512) - 48
    assert image[entry : entry + 2] == b"PM"
    start, count = struct.unpack_from(">II", image, entry + 8)
    disc.write_bytes(image[512 * start : 512 * (start + count)])


NAMES = (
    "ümläut", "e\u0301 both \u00e9", "日本", "각각", "\u1112\u1161\u11ab", "Ω \u2126",
    "a:b", "\u1e69\u0323", "ǖ", "क़", "x" * 255, " blank ", "line\nfeed", "-r", "UPPER", "ﬁ",
)  # fmt: skip


def fill(top: Path) -> None:
    """Fill a volume with all that the kernel's driver makes."""
    generator = random.Random(top.stat().st_ino)
    for place in ("", "one", "one/two", "one/two/three"):
        (top / place).mkdir(exist_ok=True)
        for name in NAMES:
            path = top / place / name
            path.write_bytes(generator.randbytes(generator.choice([0, 1, 700, 30_000])))
            path.chmod(generator.choice([0o600, 0o644, 0o4755, 0o777]))
            os.chown(path, generator.choice([0, 1000, 70000]), generator.choice([0, 100]))
            seconds = generator.choice([1, 951782400, 2_000_000_000])
            os.utime(path, (seconds, seconds))
    many = top / "many"
    many.mkdir()
    for number in range(700):
        (many / f"one of many, with a name of some length {number}").write_text(str(number))
    for path in sorted(many.iterdir())[::3]:
        path.unlink()
    # Two that grow in turns: neither is in one piece, and their extents overflow.
    with (top / "first").open("wb") as first, (top / "second").open("wb") as second:
        for _round in range(40):
            for opened in (first, second):
                opened.write(generator.randbytes(9000))
                opened.flush()
                os.fsync(opened.fileno())
    for number, target in enumerate((b"x", b"/etc/passwd", b"../../x", b"y" * 900)):
        os.symlink(target, os.fsencode(top / f"symlink{number}"))
    os.mkfifo(top / "fifo", 0o640)
    os.link(top / "first", top / "one" / "the same")
    os.link(top / "first", top / "many" / "the same again")
    os.link(top / "UPPER", top / "linked")
    for number, path in enumerate((top / "first", top / "second", top / "one")):
        os.setxattr(path, b"user.name", b"value")
        os.setxattr(path, b"user.of%d" % number, generator.randbytes(300 * (number + 1)))
        os.setxattr(path, b"osx.com.example.tag", b"x" * number)
    os.setxattr(top / "second", b"osx.com.apple.FinderInfo", b"TEXTttxt" + bytes(24))
    os.setxattr(top / "second", b"trusted.other", b"")


def shown(top: Path) -> dict[bytes, dict[str, Any]]:
    """Return what a mount shows, and the attributes of what has some."""
    found = of_mount(top, attributes=False)
    for path, facts in found.items():
        facts["attributes"] = {}
        full = os.path.join(os.fsencode(top), path)
        if stat.S_ISREG(facts["mode"]) or stat.S_ISDIR(facts["mode"]):
            try:
                names = os.listxattr(full)
            except OSError:
                # A volume without a tree for them.
                continue
            facts["attributes"] = {os.fsencode(each): os.getxattr(full, each) for each in names}
    return found


def fill_with_characters(top: Path) -> None:
    """Make a file for every character that is made of two, and for Hangul."""
    for number in [*range(0xC0, 0xAC00), *range(0xAC00, 0xD7A4, 97), *range(0xF900, 0xFFFE)]:
        if unicodedata.decomposition(chr(number)):
            (top / f"{number:05x}{chr(number)}").write_bytes(b"")
            both = unicodedata.normalize("NFD", chr(number))
            (top / f"{number:05x}d{both}{both[1:]}").write_bytes(b"")


def names(top: Path) -> list[bytes]:
    """Return all names of a directory."""
    return sorted(os.listdir(os.fsencode(top)))


def fill_for_decmpfs(top: Path) -> None:
    """Make a file with the attribute that tells of its compression."""
    (top / "compressed").write_bytes(b"")
    value = struct.pack("<4sIQ", b"fpmc", 3, 12345) + bytes(16)
    os.setxattr(top / "compressed", b"osx.com.apple.decmpfs", value)
