"""Nobody reads through a mount what they could not read without it.

Read by other users, in a mount of root's that lets everybody in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.attack_images import BLOCK, solid
from support.program import Program, wait_until
from support.shortcuts import catalogue, daemon_pid
from support.small_disk import SmallDisk
from support.strangers import NOBODY, SOMEBODY, TEAM, open_directory, put_acl, read_as

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.fuse

GUEST = b"A" * (8 * BLOCK)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach, made under the usual umask."""
    umask = os.umask(0o022)
    try:
        with open_directory() as directory:
            yield directory
    finally:
        os.umask(umask)


@pytest.fixture
def program(place: Path) -> Iterator[Program]:
    """The program, with a home below that directory."""
    with Program(place / "home") as found:
        yield found


@pytest.fixture
def image(place: Path) -> Path:
    """An image in a directory of its own."""
    path = place / "images" / "a.img"
    path.parent.mkdir()
    path.write_bytes(solid(b"A", 8))
    return path


@pytest.fixture
def mount(program: Program, image: Path, place: Path) -> Path:
    """A mount of that image, as it was: everybody may read it."""
    catalogue(program, image)
    return program.mount_all(place / "mount", "--allow-other=on")


def shown(path: Path) -> tuple[int, int, int]:
    """Return mode, owner and group as `stat` tells them."""
    status = path.stat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def test_what_everybody_may_read_everybody_reads(image: Path, mount: Path) -> None:
    assert read_as(image) is not None
    assert read_as(mount / "a") == GUEST
    assert shown(mount / "a") == (0o444, 0, 0)


def test_an_image_in_a_private_directory(program: Program, image: Path, place: Path) -> None:
    image.parent.chmod(0o700)
    catalogue(program, image)
    mount = program.mount_all(place / "mount", "--allow-other=on")
    assert read_as(image) is None
    assert read_as(mount / "a") is None
    assert shown(mount / "a") == (0o400, 0, 0)
    assert (mount / "a").read_bytes() == GUEST


def test_a_private_directory_further_up(program: Program, image: Path, place: Path) -> None:
    deep = image.parent / "b" / "c"
    deep.mkdir(parents=True)
    shutil.move(image, deep / "a.img")
    image.parent.chmod(0o711)
    (image.parent / "b").chmod(0o750)
    catalogue(program, deep / "a.img")
    mount = program.mount_all(place / "mount", "--allow-other=on")
    assert read_as(mount / "a") is None
    (image.parent / "b").chmod(0o711)
    wait_until(lambda: read_as(mount / "a") == GUEST, "it is open to all", 30)


def test_an_image_that_is_made_private_is_so_for_the_next_who_opens_it(
    image: Path, mount: Path
) -> None:
    assert read_as(mount / "a") == GUEST
    image.chmod(0o600)
    # The kernel still goes by what it was told.
    assert shown(mount / "a")[0] == 0o444
    assert read_as(mount / "a") is None
    wait_until(lambda: shown(mount / "a")[0] == 0o400, "it is shown so", 30)
    image.chmod(0o644)
    wait_until(lambda: read_as(mount / "a") == GUEST, "it is open to all again", 30)


def test_who_has_it_open_goes_on_and_its_directory_counts_at_once(image: Path, mount: Path) -> None:
    with (mount / "a").open("rb") as opened:
        image.parent.chmod(0o700)
        assert read_as(mount / "a") is None
        assert opened.read() == GUEST


def test_a_group_and_an_owner(image: Path, mount: Path) -> None:
    os.chown(image, SOMEBODY, TEAM)
    image.chmod(0o640)
    wait_until(lambda: shown(mount / "a") == (0o440, SOMEBODY, TEAM), "the owner is shown", 30)
    cases = [
        (SOMEBODY, NOBODY, ()), (NOBODY, NOBODY, ()), (NOBODY, TEAM, ()), (NOBODY, NOBODY, (TEAM,)),
    ]  # fmt: skip
    for uid, gid, groups in cases:
        assert read_as(mount / "a", uid, gid, groups) == (
            GUEST if read_as(image, uid, gid, groups) else None
        ), (uid, gid, groups)
    image.chmod(0o604)
    wait_until(lambda: shown(mount / "a")[0] == 0o404, "the mode is shown", 30)
    for uid, gid, groups in cases:
        assert (read_as(mount / "a", uid, gid, groups) is None) == (
            read_as(image, uid, gid, groups) is None
        ), (uid, gid, groups)


@pytest.mark.parametrize("where", ["file", "directory"])
def test_an_acl_counts_as_closed_to_group_and_others(image: Path, mount: Path, where: str) -> None:
    put_acl(image if where == "file" else image.parent, NOBODY, 0)
    assert read_as(image) is None, "the list holds"
    assert read_as(mount / "a") is None
    assert read_as(mount / "a", SOMEBODY) is None
    wait_until(lambda: shown(mount / "a")[0] == 0o400, "it is shown so", 30)


def test_a_chunk_of_a_split_image_that_is_private(
    program: Program, image: Path, place: Path
) -> None:
    data = image.read_bytes()
    image.unlink()
    chunks = [image.with_name(f"a.img.a{letter}") for letter in "abc"]
    third = -(-len(data) // 3)
    for number, chunk in enumerate(chunks):
        chunk.write_bytes(data[number * third : (number + 1) * third])
    program.run("add", chunks[0])
    chunks[1].chmod(0o600)
    mount = program.mount_all(place / "mount", "--allow-other=on")
    assert read_as(mount / "a") is None
    assert (mount / "a").read_bytes() == GUEST
    chunks[1].chmod(0o644)
    wait_until(lambda: read_as(mount / "a") == GUEST, "it is open to all", 30)


@pytest.mark.parametrize(
    "private",
    ["sda1.ext4-ptcl-img.uncomp", "sda2.ntfs-img", "sda-mbr", "sda-hidden-data-after-mbr"],
)
def test_a_disk_is_as_private_as_the_most_private_of_its_files(
    program: Program, place: Path, private: str
) -> None:
    saved = SmallDisk(place / "laptop")
    program.run("add", saved.directory)
    mount = program.mount_all(place / "mount", "--allow-other=on") / "laptop"
    assert read_as(mount / "sda.disk") == saved.disk()[:65536]
    (saved.directory / private).chmod(0o600)
    assert read_as(mount / "sda.disk") is None
    assert (read_as(mount / "sda1") is None) == private.startswith("sda1")
    wait_until(lambda: shown(mount / "sda.disk")[0] == 0o400, "it is shown so", 30)
    # What is there no more grants nothing, and denies nothing.
    if private == "sda-mbr":
        (saved.directory / private).unlink()
        wait_until(lambda: read_as(mount / "sda.disk") is not None, "it is open again", 30)


def test_files_of_several_owners(program: Program, place: Path) -> None:
    saved = SmallDisk(place / "laptop")
    os.chown(saved.first_image, SOMEBODY, TEAM)
    saved.first_image.chmod(0o640)
    program.run("add", saved.directory)
    mount = program.mount_all(place / "mount", "--allow-other=on") / "laptop"
    for uid, gid in ((SOMEBODY, SOMEBODY), (NOBODY, TEAM), (NOBODY, NOBODY)):
        assert read_as(mount / "sda.disk", uid, gid) is None
    assert shown(mount / "sda.disk") == (0o400, 0, 0)
    saved.first_image.chmod(0o644)
    wait_until(lambda: read_as(mount / "sda.disk") is not None, "all of it is open to all", 30)


def test_what_cannot_be_looked_at_is_for_the_user_of_the_daemon(image: Path, mount: Path) -> None:
    moved = image.with_name("moved")
    image.rename(moved)
    assert read_as(mount / "a") is None
    wait_until(lambda: shown(mount / "a") == (0o400, 0, 0), "it is shown so", 30)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        (mount / "a").read_bytes()
    moved.rename(image)
    wait_until(lambda: read_as(mount / "a") == GUEST, "it is open to all again", 30)


def test_what_the_catalog_says_of_modes_counts_for_nothing(
    program: Program, image: Path, mount: Path
) -> None:
    program.run("unmount", mount)
    secret = image.with_name("secret")
    shutil.copy2(image, secret)
    secret.chmod(0o600)
    with sqlite3.connect(program.catalog) as connection:
        status = secret.stat()
        connection.execute(
            "UPDATE volumes SET path = ?, mode = 292, uid = 0, gid = 0, inode = ?, mtime_ns = ?",
            (str(secret), status.st_ino, status.st_mtime_ns),
        )
    connection.close()
    program.run("mount-all", mount, "--allow-other=on")
    assert (mount / "a").read_bytes() == GUEST
    assert read_as(mount / "a") is None
    assert shown(mount / "a")[0] == 0o400


def test_a_link_to_an_image(program: Program, image: Path, place: Path) -> None:
    hidden = place / "hidden"
    hidden.mkdir(0o700)
    shutil.move(image, hidden / "a.img")
    image.symlink_to(hidden / "a.img")
    catalogue(program, image)
    mount = program.mount_all(place / "mount", "--allow-other=on")
    assert read_as(mount / "a") is None
    hidden.chmod(0o711)
    wait_until(lambda: read_as(mount / "a") == GUEST, "it is open to all", 30)


def test_an_image_inside_of_its_own_mount_is_not_looked_at(
    program: Program, image: Path, mount: Path
) -> None:
    program.run("unmount", mount)
    with sqlite3.connect(program.catalog) as connection:
        connection.execute("UPDATE volumes SET path = ?", (str(mount / "a"),))
    connection.close()
    program.run("mount-all", mount, "--allow-other=on")
    assert shown(mount / "a") == (0o400, 0, 0)
    assert image.exists()


@contextlib.contextmanager
def traced(pid: int, place: Path) -> Iterator[list[tuple[int, str]]]:
    """Write down which thread of a process makes which system calls with the names of files."""
    trace, found = place / "trace", []
    calls = "trace=%file,getxattr,lgetxattr"
    tracing = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-e", calls, "-o", trace, "-s", "4096"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tracing.stderr is not None
    assert "attached" in tracing.stderr.readline()
    try:
        yield found
    finally:
        tracing.terminate()
        tracing.communicate()
        for line in trace.read_text().splitlines():
            thread, _, call = line.partition(" ")
            found.append((int(thread), call))


def test_the_thread_that_serves_looks_at_no_file(
    program: Program, image: Path, mount: Path, place: Path
) -> None:
    pid = daemon_pid(program, mount)
    with traced(pid, place) as found:
        for mode in (0o644, 0o600, 0o644):
            image.chmod(mode)
            os.listdir(mount)
            quiet_stat = (mount / "a").stat()
            assert quiet_stat.st_size == len(GUEST)
            read_as(mount / "a")
    # trio runs in the first thread.
    calls = [(thread, call) for thread, call in found if str(image.parent) in call]
    assert [call for thread, call in calls if thread == pid] == []
    assert len(calls) > 3, "others do"


def test_reading_does_not_ask_who_may_read(
    program: Program, image: Path, mount: Path, place: Path
) -> None:
    with (mount / "a").open("rb", buffering=0) as opened:
        with traced(daemon_pid(program, mount), place) as found:
            for number in range(2000):
                assert os.pread(opened.fileno(), 512, number % 60 * 512) == b"A" * 512
        looks = [call for _thread, call in found if "getxattr" in call and f'"{image}"' in call]
        # One every five seconds, as the kernel asks for attributes then.
        assert len(looks) < 20


def test_a_link_whose_dots_lead_elsewhere_than_they_seem(program: Program, place: Path) -> None:
    private, theirs = place / "private", place / "theirs"
    (private / "d").mkdir(parents=True, mode=0o755)
    theirs.mkdir()
    secret = private / "secret.img"
    secret.write_bytes(solid(b"S", 8))
    secret.chmod(0o600)
    (theirs / "d").symlink_to(private / "d")
    (theirs / "backup.img").symlink_to("d/../secret.img")
    # Where the link seems to lead, taken as text.
    (theirs / "secret.img").write_bytes(b"x")
    catalogue(program, theirs / "backup.img")
    mount = program.mount_all(place / "mount", "--allow-other=on")
    assert (mount / "backup").read_bytes() == b"S" * (8 * BLOCK)
    assert read_as(mount / "backup") is None
    assert shown(mount / "backup") == (0o400, 0, 0)


def test_a_path_that_leads_elsewhere_when_it_is_opened_opens_nothing(
    program: Program, place: Path
) -> None:
    """What was judged and what is opened are the same file, whatever a link does meanwhile."""
    secret, public = place / "secret.img", place / "public.img"
    secret.write_bytes(solid(b"S", 8))
    secret.chmod(0o600)
    public.write_bytes(solid(b"P", 8))
    link = place / "link.img"
    link.symlink_to(secret)
    catalogue(program, link)
    mount = program.mount_all(place / "mount", "--allow-other=on")
    # Open for its owner: others are handed the same reader.
    with (mount / "link").open("rb") as held:
        assert held.read(1) == b"S"
        other = place / "other"
        other.symlink_to(public)
        other.replace(link)
        assert read_as(mount / "link") is None
    assert read_as(mount / "link") is None
