"""exFAT as exfat-fuse shows it."""

from __future__ import annotations

import os
import random
import struct
from typing import TYPE_CHECKING

import pytest
from support.exfat import exfat_fuse
from support.files_inside import of_mount, of_volume, volume_in
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fuse


def grow(top: Path, seed: int) -> None:
    generator = random.Random(seed)
    for place in ("", "one", "one/two", "one/two/three"):
        (top / place).mkdir(exist_ok=True)
        for number, name in enumerate(
            ["plain.txt", "ümläut", "日本", "\U0001f600", "a" * 255, "empty", "dots.. in", "^"]
        ):
            length = 0 if name == "empty" else generator.randrange(60_000)
            path = top / place / name
            path.write_bytes(generator.randbytes(length))
            seconds = 400_000_000 + number * 123_456_788
            os.utime(path, (seconds, seconds))
    many = top / "many"
    many.mkdir()
    for number in range(700):
        (many / f"one of many, with a name of some length {number}").write_text(str(number))
    for path in sorted(many.iterdir())[::3]:
        path.unlink()
    # Two that grow in turns: neither is in one piece.
    with (top / "first").open("wb") as first, (top / "second").open("wb") as second:
        for _round in range(60):
            for opened in (first, second):
                opened.write(generator.randbytes(9000))
                opened.flush()
    with (top / "grown").open("wb") as opened:
        opened.write(generator.randbytes(5000))
        opened.truncate(700_000)


@pytest.mark.parametrize("cluster", ["512", "4K", "64K"])
def test_every_file_is_as_exfat_fuse_shows_it(cluster: str, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 96 * MIB)
    quiet("mkfs.exfat", "-c", cluster, raw)
    with exfat_fuse(raw, tmp_path / "mount") as mount:
        grow(mount, len(cluster))
    with exfat_fuse(raw, tmp_path / "mount", "ro") as mount:
        expected = of_mount(mount, attributes=False)
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems, attributes=False)
    assert problems == []
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        for each in (facts, found[path]):
            # It has no modes, owners and links, and numbers that each reader makes for itself.
            each["mode"] &= 0o170000
            for key in ("inode", "links", "uid", "gid"):
                del each[key]
            # exfat-fuse leaves the hundredths of a second away.
            each["mtime"] //= 10**9
        assert found[path] == facts, path


def test_what_was_never_written_is_zeros(tmp_path: Path) -> None:
    """Windows makes files longer than what it has written of them."""
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 16 * MIB)
    quiet("mkfs.exfat", "-c", "4K", raw)
    with exfat_fuse(raw, tmp_path / "mount") as mount:
        (mount / "file").write_bytes(b"x" * 10_000)
    image = bytearray(raw.read_bytes())
    place = image.index("file".encode("utf-16-le")) - 2 - 64
    assert image[place] == 0x85
    struct.pack_into("<Q", image, place + 32 + 8, 3000)
    total = 0
    for number, byte in enumerate(image[place : place + 96]):
        if number not in {2, 3}:
            total = ((total & 1) << 15) + (total >> 1) + byte & 0xFFFF
    struct.pack_into("<H", image, place + 2, total)
    raw.write_bytes(image)
    with volume_in(raw) as volume:
        entry = volume.find(0, b"file")
        view = memoryview(bytearray(entry.size))
        volume.content(entry.inode).read_into(view, 0)
    assert bytes(view) == b"x" * 3000 + bytes(7000)
    image[place + 40] ^= 1
    raw.write_bytes(image)
    problems: list[str] = []
    with volume_in(raw) as volume:
        assert [each.name for each in volume.entries(0, problems.append)] == []
    assert "another checksum" in problems[0]
