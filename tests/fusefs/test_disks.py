"""A mounted disk that is made of other images: what is saved anew is seen in it."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest
from support.program import wait_until
from support.small_disk import SECOND, SECTOR, SmallDisk

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from support.program import Program

pytestmark = pytest.mark.fuse


@pytest.fixture
def saved(program: Program, tmp_path: Path) -> SmallDisk:
    """A disk in the catalog."""
    made = SmallDisk(tmp_path / "laptop")
    program.run("add", made.directory)
    return made


@pytest.fixture
def mount(program: Program, saved: SmallDisk, tmp_path: Path) -> Path:
    """The directory that shows the disk and its partitions."""
    return program.mount_all(tmp_path / "mnt") / saved.directory.name


def test_a_partition_that_is_saved_anew_is_seen_in_the_mounted_disk(
    program: Program, saved: SmallDisk, mount: Path
) -> None:
    disk = mount / "sda.disk"
    old = saved.disk()
    # Read before, and held open, so that the kernel has it cached.
    assert disk.read_bytes() == old
    with disk.open("rb") as held:
        assert held.read() == old
        saved.save_first(seed=2)
        program.run("rescan", "laptop/sda1")
        new = saved.disk()
        assert new != old
        wait_until(lambda: _shows(mount / "sda1", saved.guests["sda1"]), "sda1 is new", 20)
        # Both are shown at once.
        assert disk.read_bytes() == new
        # Who had it open goes on with what was opened, as with a file that is replaced.
        held.seek(0)
        assert reads_or_refuses(held) in {old, None}
    assert disk.read_bytes() == new


def reads_or_refuses(file: BinaryIO) -> bytes | None:
    """Return what is read, None where that is refused: what the kernel keeps it may drop."""
    try:
        return file.read()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


def _shows(path: Path, data: bytes) -> bool:
    """Tell whether it reads as `data`; until the mount has seen the change, it is refused."""
    with contextlib.suppress(OSError):
        return path.read_bytes() == data
    return False


def test_saved_anew_and_not_scanned_its_bytes_are_refused(saved: SmallDisk, mount: Path) -> None:
    disk = mount / "sda.disk"
    assert disk.read_bytes() == saved.disk()
    saved.save_second()
    with saved.second_image.open("ab") as file:
        file.write(b"more")
    # The kernel reads whole pages.
    length = SECOND * SECTOR // mmap.PAGESIZE * mmap.PAGESIZE
    with disk.open("rb", buffering=0) as file:
        # What lies before the partition is read on.
        assert file.read(length) == saved.disk()[:length]
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.pread(file.fileno(), SECTOR, SECOND * SECTOR)


def test_a_partition_that_is_removed_changes_the_disk(
    program: Program, saved: SmallDisk, mount: Path
) -> None:
    disk = mount / "sda.disk"
    inode = disk.stat().st_ino
    assert disk.read_bytes() == saved.disk()
    program.run("rm", "laptop/sda2")
    wait_until(lambda: not (mount / "sda2").exists(), "it is gone", 20)
    wait_until(lambda: disk.stat().st_ino != inode, "the disk is another", 20)
    with disk.open("rb", buffering=0) as file, pytest.raises(OSError, match="Input/output"):
        os.pread(file.fileno(), SECTOR, SECOND * SECTOR)
    program.run("add", saved.directory)
    wait_until((mount / "sda2").exists, "it is there again", 20)
    assert disk.read_bytes() == saved.disk()


def test_an_image_that_is_made_private_is_private_in_the_mount_soon(
    saved: SmallDisk, mount: Path
) -> None:
    # All is in a directory of root's own; test_permissions has those that are open to others.
    saved.first_image.chmod(0)
    for name in ("sda1", "sda.disk"):
        wait_until(
            lambda name=name: (mount / name).stat().st_mode & 0o777 == 0,
            f"{name} is private",
            20,
        )
    assert (mount / "sda2").stat().st_mode & 0o777 == 0o400
