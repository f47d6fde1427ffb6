"""NTFS that was not unmounted: refused by name, or read right, and never old without a word."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import RefusedError
from imgcat.formats.superblocks.file_system import FileSystem, Journal
from imgcat.formats.superblocks.find import find_file_system
from support.files_inside import of_mount, of_volume, volume_in
from support.ntfs import IS_CLEAN, NO_CLIENT, make, mark_dirty, ntfs_3g, write_log
from support.program import wait_until
from support.unmounting import wait_until_free
from support.volumes import MIB

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fuse


def superblock_of(raw: Path) -> FileSystem:
    data = raw.read_bytes()
    found = find_file_system(lambda offset, length: data[offset : offset + length], len(data))
    assert found is not None
    return found


def ntfs_3g_takes(raw: Path, point: Path) -> bool:
    """Tell whether ntfs-3g finds the journal emptied: else it mounts it without writing."""
    point.mkdir(exist_ok=True)
    words = ["ntfs-3g", "-o", "norecover", raw, point]
    said = subprocess.run(words, capture_output=True, check=True).stderr
    subprocess.run(["umount", point], check=True)
    wait_until_free(raw)
    # It takes the pages for what they are meant to be.
    assert b"inconsistent" not in said, said
    return b"Falling back to read-only" not in said


PAGES = {
    "in use": (((7, 0, 0), (7, 0, 0)), False),
    "in use, the other page older": (((9, 0, 0), (7, NO_CLIENT, IS_CLEAN)), False),
    "in use, the other page newer": (((7, NO_CLIENT, IS_CLEAN), (9, 0, 0)), False),
    "in use, and clean": (((7, 0, IS_CLEAN), (7, 0, IS_CLEAN)), True),
    "not in use": (((7, NO_CLIENT, 0), (7, NO_CLIENT, 0)), True),
    "clean since the other page": (((7, 0, 0), (9, NO_CLIENT, IS_CLEAN)), True),
}


@pytest.mark.parametrize("state", PAGES)
def test_a_journal_is_clean_where_ntfs_3g_says_so(state: str, tmp_path: Path) -> None:
    """The restart pages of $LogFile are those of a machine that crashed, or of one that did not."""
    pages, is_clean = PAGES[state]
    raw, copy = tmp_path / "volume.raw", tmp_path / "copy.raw"
    make(raw, size=16 * MIB)
    write_log(raw, *pages)
    copy.write_bytes(raw.read_bytes())
    assert ntfs_3g_takes(copy, tmp_path / "mount") == is_clean
    if is_clean:
        with volume_in(raw) as volume:
            assert volume.caveat is None
            assert volume.entries() == []
        return
    message = r"its journal was not replayed.*--as-is"
    with pytest.raises(RefusedError, match=message), volume_in(raw):
        pass
    with volume_in(raw, as_is=True) as volume:
        assert volume.caveat is not None
        assert "read as it lies there" in volume.caveat
        assert volume.entries() == []


def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    write_log(raw, (7, 0, 0), (7, 0, 0))
    raw.write_bytes(raw.read_bytes().replace(b"RSTR", b"CHKD"))
    message = r"what its journal holds cannot be told.*--as-is"
    with pytest.raises(RefusedError, match=message), volume_in(raw):
        pass


def test_a_dirty_mark_is_told_with_every_listing(tmp_path: Path) -> None:
    """There is nothing to replay then, and what is missing nobody can tell."""
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    mark_dirty(raw)
    assert superblock_of(raw).is_dirty
    with volume_in(raw) as volume:
        assert volume.caveat is not None
        assert "marked as not unmounted" in volume.caveat


def test_what_ntfs_3g_wrote_before_it_was_killed_is_read(tmp_path: Path) -> None:
    """It keeps no journal and sets no mark: what it has written is all that there is."""
    raw, point = tmp_path / "volume.raw", tmp_path / "mount"
    make(raw, size=32 * MIB)
    point.mkdir()
    with subprocess.Popen(["ntfs-3g", "-o", "no_detach", raw, point]) as daemon:
        wait_until(point.is_mount, "it is mounted", 30)
        for number in range(300):
            (point / f"a file of number {number}").write_bytes(b"%d " % number * 700)
        for number in range(0, 300, 2):
            (point / f"a file of number {number}").unlink()
        (point / "a file of number 1").rename(point / "another name")
        copy = tmp_path / "copy.raw"
        copy.write_bytes(raw.read_bytes())
        meant = {name: facts["hash"] for name, facts in of_mount(point, attributes=False).items()}
        daemon.kill()
    subprocess.run(["umount", "-l", point], check=True)
    wait_until_free(raw)
    for each in (copy, raw):
        found = superblock_of(each)
        assert (found.journal, found.is_dirty) == (Journal.CLEAN, False)
        problems: list[str] = []
        with volume_in(each) as volume:
            read = of_volume(volume, problems, attributes=False)
        assert problems == []
        assert {name: facts["hash"] for name, facts in read.items()} == meant
    with ntfs_3g(raw, point, "ro") as mount:
        shown = of_mount(mount, attributes=False)
    assert {name: facts["hash"] for name, facts in shown.items()} == meant
