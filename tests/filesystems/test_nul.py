"""Bytes of zero where a name or a path ends with one: damage, by name, and all else is given."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import DamagedError
from support.files_inside import volume_in
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A link that leads to where no path does, and an attribute that has no name that can be."""
    content = tmp_path / "content"
    content.mkdir()
    for number in range(3):
        path = content / f"file {number}"
        path.write_text(f"{number}")
        os.setxattr(path, f"user.of-{number}", b"value")
        os.setxattr(path, f"user.also-of-{number}", b"other value")
    os.symlink("a-target-to-be-cut", content / "cut")
    os.symlink("a-target-that-is-right", content / "right")
    image = tmp_path / "root.raw"
    image.touch()
    os.truncate(image, 8 * MIB)
    # No checksum tells of what is wrong here.
    options = ("-t", "ext4", "-O", "^metadata_csum", "-d", content)
    quiet("mke2fs", "-q", "-F", *options, image)
    data = image.read_bytes()
    for before, after in ((b"a-target-to-be-cut", b"a-target\0to-be-cut"), (b"of-1", b"of\x001")):
        assert before in data
        data = data.replace(before, after)
    image.write_bytes(data)
    return image


def test_a_volume_names_them(raw: Path) -> None:
    told: list[str] = []
    with volume_in(raw) as volume:
        entries = {entry.name: entry for entry in volume.entries(0, told.append)}
        assert sorted(entries) == [b"file 0", b"file 1", b"file 2", b"lost+found", b"right"]
        assert [each for each in told if "b'cut'" in each and "NUL" in each] == told != []
        with pytest.raises(DamagedError, match="NUL"):
            volume.find(0, b"cut")
        numbers = [entries[b"file %d" % number].inode for number in range(3)]
        for is_ahead in (False, True):
            if is_ahead:
                volume.look_ahead(numbers)
                assert [volume.has_looked_at(each) for each in numbers] == [True, False, True]
            told.clear()
            found = [volume.attributes(each, told.append) for each in numbers]
            assert [sorted(each) for each in found] == [
                [b"user.also-of-0", b"user.of-0"], [], [b"user.also-of-2", b"user.of-2"]
            ]  # fmt: skip
            assert len(told) == 2
            assert all("is no name in its attributes" in each for each in told)


def test_all_else_is_copied_and_archived(program: Program, raw: Path, tmp_path: Path) -> None:
    into, archive = tmp_path / "into", tmp_path / "all.tar"
    into.mkdir()
    said = program.run("cp", "-r", f"{raw}:/", into, code=5).stderr
    assert "Traceback" not in said
    assert "'cut'" in said
    copied = into / "root.raw"
    assert sorted(os.listdir(copied)) == ["file 0", "file 1", "file 2", "lost+found", "right"]
    assert os.listxattr(copied / "file 1") == []
    assert sorted(os.listxattr(copied / "file 2")) == ["user.also-of-2", "user.of-2"]
    with archive.open("wb") as out:
        process = program.start("tar", f"{raw}:/", stdout=out)
        assert b"Traceback" not in process.communicate()[1]
        assert process.returncode == 5
    with tarfile.open(archive) as opened:
        names = {name.removeprefix("./") for name in opened.getnames()}
    assert names == {".", "file 0", "file 1", "file 2", "lost+found", "right"}


def test_a_mount_shows_all_else(program: Program, raw: Path, tmp_path: Path) -> None:
    program.run("add", raw)
    mount = program.mount_all(tmp_path / "mount", "--files")
    root = mount / "files" / "root"
    assert sorted(os.listdir(root)) == ["file 0", "file 1", "file 2", "lost+found", "right"]
    assert os.listxattr(root / "file 1") == []
    assert sorted(os.listxattr(root / "file 0")) == ["user.also-of-0", "user.of-0"]
    with pytest.raises(OSError, match=r"Input/output error|needs cleaning"):
        os.lstat(root / "cut")
    assert (root / "file 1").read_text() == "1"
