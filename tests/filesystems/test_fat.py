"""FAT as mtools writes it."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.files_inside import HASH, of_volume, volume_in
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("bits", "size"), [(12, 4), (16, 40), (32, 80)])
def test_every_file_is_as_mtools_has_written_it(bits: int, size: int, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, size * MIB)
    quiet("mkfs.vfat", "-F", str(bits), raw)
    content = tmp_path / "content"
    generator = random.Random(bits)
    names = ["plain.txt", "A long name with spaces.text", "ümläut.bin", "UPPER.TXT", "empty",
             "dots.in.the.name", "日本.txt", "a" * 100]  # fmt: skip
    for place in ("", "one", "one/two", "one/two/three"):
        (content / place).mkdir(exist_ok=True)
        for name in names:
            length = 0 if name == "empty" else generator.randrange(60_000)
            (content / place / name).write_bytes(generator.randbytes(length))
            seconds = generator.randrange(400_000_000, 2_000_000_000) & ~1
            os.utime(content / place / name, (seconds, seconds))
    many = content / "many"
    many.mkdir()
    for number in range(200):
        (many / f"one of many {number}").write_text(str(number))
        os.utime(many / f"one of many {number}", (1_600_000_000, 1_600_000_000))
    environment = {**os.environ, "LANG": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    for path in sorted(content.iterdir()):
        subprocess.run(["mcopy", "-s", "-m", "-i", raw, path, "::/"], check=True, env=environment)
    for number in range(0, 200, 3):
        subprocess.run(["mdel", "-i", raw, f"::/many/one of many {number}"], check=True,
                       env=environment)  # fmt: skip
        (many / f"one of many {number}").unlink()
    quiet("fsck.fat", "-n", raw)
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems, attributes=False)
    assert problems == []
    expected = {
        os.fsencode(os.path.relpath(os.path.join(above, name), content)): os.path.join(above, name)
        for above, directories, files in os.walk(content)
        for name in directories + files
    }
    assert found.keys() == expected.keys()
    for name, path in expected.items():
        if os.path.isdir(path):
            assert found[name]["mode"] == 0o040755
            continue
        with open(path, "rb") as opened:
            digest = hashlib.file_digest(opened, HASH).hexdigest()
        assert found[name]["hash"] == digest, name
        assert found[name]["size"] == os.path.getsize(path)
        assert found[name]["mtime"] == os.stat(path).st_mtime_ns
        assert found[name]["mode"] == 0o100644
