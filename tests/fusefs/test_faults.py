"""Images that change, vanish or lie while they are mounted: right bytes or an error, alone."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import mmap
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import zstandard
from support.attack_images import BLOCK, flip, overwrite, patchy, replace, scattered, solid
from support.confined import (
    MODES_HOLD,
    REFUSED,
    end_by_force,
    errno_of_reading,
    mounts_at,
    run_confined,
)
from support.program import wait_until
from support.shortcuts import catalogue, daemon_pid, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.partclone_writer import Written
    from support.program import Program

pytestmark = pytest.mark.fuse

COUNT = 512
SIZE = COUNT * BLOCK


class House:
    """A mount of two images: the one that things happen to, and one that they must not harm."""

    def __init__(self, program: Program, directory: Path) -> None:
        self.program = program
        self.victim = directory / "victim.img"
        self.victim.write_bytes(solid(b"A"))
        self.bystander = patchy(3)
        (directory / "bystander.img").write_bytes(self.bystander.image)
        catalogue(program, self.victim, directory / "bystander.img")
        self.mount = program.mount_all(directory / "mount")
        self.shown = self.mount / "victim"
        self.fd = os.open(self.shown, os.O_RDONLY)
        assert os.pread(self.fd, BLOCK, 0) == b"A" * BLOCK

    def offsets(self) -> Iterator[int]:
        """Yield the offsets of blocks all over the image, the first one, which is cached, too."""
        yield from range(0, SIZE, 31 * BLOCK)

    def status(self) -> str:
        """Return what a listing says of the victim."""
        return statuses(self.program)["victim"]

    def check_bystander(self) -> None:
        """Check that the other image is as it was, also for direct reads."""
        assert (self.mount / "bystander").read_bytes() == self.bystander.guest

    def becomes(self, fill: bytes) -> None:
        """Wait until the name shows an image of `fill`; meanwhile it never shows another."""
        deadline = time.monotonic() + 30
        while (seen := errno_of_reading(self.shown, 0, 4)) != fill * 4:
            assert seen in REFUSED | {errno.ENOENT}, seen
            assert time.monotonic() < deadline, "the new bytes do not appear"
            time.sleep(0.02)
        assert self.shown.read_bytes() == fill * self.shown.stat().st_size


@pytest.fixture
def house(program: Program, tmp_path: Path) -> Iterator[House]:
    built = House(program, tmp_path)
    yield built
    with contextlib.suppress(OSError):
        os.close(built.fd)


def test_deleted(house: House) -> None:
    data = house.victim.read_bytes()
    house.victim.unlink()
    assert [os.pread(house.fd, 4, offset) for offset in house.offsets()] == [b"AAAA"] * 17
    assert errno_of_reading(house.shown) == errno.ESTALE
    house.check_bystander()
    assert [row["status"] for row in house.program.json("ls")] == ["ready", "missing"]
    assert f"{house.victim}: missing: " in house.program.run("rescan", "victim", code=3).stderr
    assert "unchanged bystander" in house.program.run("rescan", code=3).stdout
    house.victim.write_bytes(data)
    # Its header and bitmap tell that it is the image that was scanned.
    assert house.status() == "ready"
    house.becomes(b"A")
    house.program.run("rescan")
    house.becomes(b"A")
    assert house.status() == "ready"


def test_truncated_in_place(house: House) -> None:
    keep = house.victim.stat().st_size // 2
    os.truncate(house.victim, keep)
    for offset in house.offsets():
        seen = errno_of_reading(house.fd, offset, 4)
        assert seen in REFUSED | {b"AAAA"}, offset
        # What is gone is not made up.
        assert offset < keep or seen in REFUSED, offset
    assert errno_of_reading(house.shown) == errno.ESTALE
    house.check_bystander()
    assert house.status() == "stale"
    said = house.program.run("rescan", "victim", code=5).stderr
    assert f"{house.victim}: damaged: truncated at {keep} of " in said
    assert house.status() == "damaged"
    wait_until(lambda: errno_of_reading(house.shown, 0, 4) == b"AAAA", "it is served again", 30)
    assert errno_of_reading(house.shown, SIZE - BLOCK) == errno.EIO


def test_replaced(house: House) -> None:
    replace(house.victim, solid(b"B", COUNT // 2))
    assert [os.pread(house.fd, 4, offset) for offset in house.offsets()] == [b"AAAA"] * 17
    assert errno_of_reading(house.shown) == errno.ESTALE
    assert house.status() == "stale"
    assert "updated   victim" in house.program.run("rescan", "victim").stdout
    house.becomes(b"B")
    assert house.shown.stat().st_size == SIZE // 2
    assert [os.pread(house.fd, 4, offset) for offset in house.offsets()] == [b"AAAA"] * 17
    house.check_bystander()


def test_replaced_by_one_of_the_same_size(house: House) -> None:
    replace(house.victim, solid(b"B"))
    assert [os.pread(house.fd, 4, offset) for offset in house.offsets()] == [b"AAAA"] * 17
    assert errno_of_reading(house.shown) == errno.ESTALE
    house.program.run("rescan", "victim")
    house.becomes(b"B")
    assert [os.pread(house.fd, 4, offset) for offset in house.offsets()] == [b"AAAA"] * 17


def test_overwritten_in_place_an_open_file_never_shows_the_other_image(house: House) -> None:
    overwrite(house.victim, solid(b"B"))
    assert errno_of_reading(house.shown) == errno.ESTALE
    for offset in house.offsets():
        assert errno_of_reading(house.fd, offset, 4) in REFUSED | {b"AAAA"}, offset
    house.check_bystander()
    house.program.run("rescan", "victim")
    house.becomes(b"B")
    for offset in house.offsets():
        assert errno_of_reading(house.fd, offset, 4) in REFUSED | {b"AAAA"}, offset


def test_changed_where_no_sample_lies_the_old_cache_is_not_shown(house: House) -> None:
    # The length, header, bitmap and sampled bytes are the same: it counts as merely touched.
    data = bytearray(house.victim.read_bytes())
    assert house.shown.read_bytes() == b"A" * SIZE
    start, stop = len(data) // 30, len(data) // 30 + 3 * BLOCK
    data[start:stop] = data[start:stop].replace(b"A", b"B")
    replace(house.victim, bytes(data))
    seen = errno_of_reading(house.shown, start + BLOCK, 16)
    assert seen in REFUSED | {b"B" * 16}


def test_touched(house: House) -> None:
    os.utime(house.victim)
    assert errno_of_reading(house.fd, SIZE // 2, 4) == b"AAAA"
    assert house.shown.read_bytes() == b"A" * SIZE
    assert house.status() == "ready"
    house.program.run("rescan", "victim")
    house.becomes(b"A")
    assert os.pread(house.fd, 4, SIZE - 4) == b"AAAA"


def test_replaced_by_what_is_no_file(house: House) -> None:
    data = house.victim.read_bytes()
    nothing = house.victim.with_name("nothing")
    replacements: dict[str, Callable[[], None]] = {
        "directory": house.victim.mkdir,
        "fifo": lambda: os.mkfifo(house.victim),
        "loop of links": lambda: house.victim.symlink_to(house.victim),
        "socket": lambda: os.mknod(house.victim, 0o140600),
        "link to nothing": lambda: house.victim.symlink_to(nothing),
        "link into a file": lambda: house.victim.symlink_to(f"{__file__}/nothing"),
    }
    wrong = {}
    for what, put in replacements.items():
        house.victim.unlink()
        put()
        seen = errno_of_reading(house.shown)
        assert house.status() in {"missing", "stale", "failed"}, what
        assert errno_of_reading(house.fd, SIZE // 2, 4) == b"AAAA"
        if seen not in REFUSED:
            wrong[what] = seen
        if what == "directory":
            house.victim.rmdir()
            house.victim.touch()
    assert wrong == {}
    house.check_bystander()
    code = {"socket": 5, "link to nothing": 3}
    for what, expected in code.items():
        house.victim.unlink()
        replacements[what]()
        said = house.program.run("rescan", "victim", code=expected).stderr
        assert said.startswith(f"imgcat: {house.victim}: "), what
        assert house.status() in {"missing", "stale", "failed"}
    house.victim.unlink()
    house.victim.write_bytes(data)
    house.program.run("rescan", "victim")
    house.becomes(b"A")


def test_made_unreadable(program: Program, tmp_path: Path) -> None:
    victim = tmp_path / "victim.img"
    victim.write_bytes(solid(b"A", 8))
    shutil.copy2(victim, tmp_path / "bystander.img")
    catalogue(program, victim, tmp_path / "bystander.img")
    mount = tmp_path / "mount"
    mount.mkdir()
    program._mounts.append(mount)
    run_confined(program, MODES_HOLD, "mount-all", mount)
    with (mount / "victim").open("rb", buffering=0) as opened:
        victim.chmod(0)
        assert errno_of_reading(mount / "victim") == errno.EACCES
        assert opened.read() == b"A" * (8 * BLOCK)
    assert (mount / "bystander").read_bytes() == b"A" * (8 * BLOCK)
    said = run_confined(program, MODES_HOLD, "add", "--force", victim, code=5).stderr
    assert said == f"imgcat: {victim}: Permission denied\n"
    victim.chmod(0o600)
    assert (mount / "victim").read_bytes() == b"A" * (8 * BLOCK)
    # Nothing of it was lost.
    assert {row["status"] for row in program.json("ls")} == {"ready"}


# -- index chunks that were not loaded yet ---------------------------------

CHUNK = 1 << 20
SMALL = 512


def many_chunks(letter: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Return an image of four chunks of blocks, with a few stored blocks in each."""
    blocks = {
        number: b"%c%015d" % (letter, number) * (SMALL // 16)
        for base in range(0, 4 * CHUNK, CHUNK)
        for number in (base, base + 1, base + 77_777, base + CHUNK - 1)
    }
    return scattered(blocks, 4 * CHUNK), blocks


@pytest.mark.parametrize("what", ["deleted", "rescan", "rm"])
def test_an_open_file_reads_chunks_that_it_never_touched(
    program: Program, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "big.img"
    image, blocks = many_chunks(b"A")
    path.write_bytes(image)
    catalogue(program, path)
    mount = program.mount_all(tmp_path / "mount")
    fd = os.open(mount / "big", os.O_RDONLY)
    assert os.pread(fd, SMALL, 0) == blocks[0]

    if what == "deleted":
        path.unlink()
    elif what == "rescan":
        other, other_blocks = many_chunks(b"B")
        replace(path, other)
        assert "updated" in program.run("rescan", "big").stdout
    else:
        program.run("rm", "big")
        path.unlink()
        wait_until(lambda: os.listdir(mount) == [], "the name is gone", 30)
        # Others that write to the catalog must not take the index away either.
        (tmp_path / "other.img").write_bytes(solid(b"x", 8))
        program.run("add", tmp_path / "other.img")
        program.run("rm", "other")
    for number, block in blocks.items():
        assert os.pread(fd, SMALL, number * SMALL) == block
        assert os.pread(fd, SMALL, (number + 5) * SMALL).strip(b"\0") == b""
    if what == "rescan":
        wait_until(
            lambda: errno_of_reading(mount / "big", 0, 1) == b"B", "the new bytes are there", 30
        )
        with (mount / "big").open("rb") as file:
            for number, block in other_blocks.items():
                assert os.pread(file.fileno(), SMALL, number * SMALL) == block
    os.close(fd)
    program.run("unmount", mount)
    # The last daemon takes the unused indexes with it.
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        unused = "SELECT count(*) FROM indexes WHERE id NOT IN (SELECT index_id FROM images)"
        assert connection.execute(unused).fetchone() == (0,)


# -- the catalog breaks under a running mount ------------------------------


def _changed_unseen(frame: bytes) -> bytes:
    """Return the frame with a bit changed, best one that a decompressor does not notice."""
    content = zstandard.ZstdDecompressor().decompress(frame)
    for position in range(8 * len(frame) - 1, 0, -1):
        changed = bytearray(frame)
        changed[position // 8] ^= 1 << (position % 8)
        with contextlib.suppress(zstandard.ZstdError):
            other = zstandard.ZstdDecompressor().decompress(bytes(changed))
            if len(other) == len(content) and other != content:
                return bytes(changed)
    return flip(frame, len(frame) // 2)


@pytest.fixture
def flipped(program: Program, tmp_path: Path) -> Written:
    """What is catalogued as ``a``, with a bit of its index changed since."""
    written = patchy(11, 2048, block_size=512)
    (tmp_path / "a.img").write_bytes(written.image)
    catalogue(program, tmp_path / "a.img")
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        (bitmap,) = connection.execute("SELECT bitmap FROM rank_chunks").fetchone()
        connection.execute("UPDATE rank_chunks SET bitmap = ?", (_changed_unseen(bitmap),))
        connection.commit()
    return written


def test_a_flipped_bit_in_an_index_gives_no_wrong_bytes(
    program: Program, tmp_path: Path, flipped: Written
) -> None:
    mount = program.mount_all(tmp_path / "mount")
    assert errno_of_reading(mount / "a", 0, 1 << 20) in REFUSED | {flipped.guest}


def test_a_flipped_bit_in_an_index_is_found_by_a_check(program: Program, flipped: Written) -> None:
    assert flipped
    assert "a: " in program.run("db", "check", code=5).stdout


def _spoil(catalog: Path) -> None:
    """Write nonsense over everything but the first page, as a failing disk might."""
    generator = random.Random(1)
    with catalog.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(generator.randbytes(size - 4096))


NONSENSE = {
    "size": "UPDATE images SET size_bytes = 'many' WHERE id = ?",
    "no name": "UPDATE images SET name = '' WHERE id = ?",
    "up": "UPDATE images SET name = '../..' WHERE id = ?",
    "zero in name": "UPDATE images SET name = 'a' || char(0) || 'b' WHERE id = ?",
    "bytes as name": "UPDATE images SET name = x'2f2f' WHERE id = ?",
    "fields": "UPDATE images SET layout = '{}' WHERE id = ?",
    "no json": "UPDATE images SET layout = '{' WHERE id = ?",
    "format": "UPDATE images SET format = 'floppy' WHERE id = ?",
    "path": "UPDATE volumes SET path = '' WHERE image_id = ?",
    "mode": "UPDATE volumes SET mode = 'rwx' WHERE image_id = ?",
    "volumes": "DELETE FROM volumes WHERE image_id = ?",
    "chunks": "DELETE FROM rank_chunks WHERE index_id = ?",
    "chunk": "UPDATE rank_chunks SET bitmap = x'00', rank = -5 WHERE index_id = ?",
}
ENDS_MORE_THAN_ITSELF = ("size", "no name")


@pytest.mark.parametrize(
    "names",
    [*((name,) for name in ENDS_MORE_THAN_ITSELF), tuple(NONSENSE.keys() - ENDS_MORE_THAN_ITSELF)],
    ids=[*ENDS_MORE_THAN_ITSELF, "others"],
)
def test_nonsense_in_a_row_harms_no_other_image(
    program: Program, tmp_path: Path, names: tuple[str, ...]
) -> None:
    with_holes = patchy(5, 16)
    for number in range(len(names)):
        (tmp_path / f"{number:02d}.img").write_bytes(with_holes.image)
    catalogue(program, *sorted(tmp_path.glob("*.img")))
    (tmp_path / "bystander.img").write_bytes(solid(b"B", 16))
    catalogue(program, tmp_path / "bystander.img")
    mount = program.mount_all(tmp_path / "mount")
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        for number, name in enumerate(names):
            connection.execute(NONSENSE[name], (number + 1,))
        connection.commit()
    time.sleep(1.2)
    assert mounts_at(mount) == 1, "the mount has ended"
    assert (mount / "bystander").read_bytes() == b"B" * (16 * BLOCK)
    shown = {os.fsdecode(name) for name in os.listdir(os.fsencode(mount))}
    for name in shown - {"bystander"}:
        seen = errno_of_reading(mount / name, 0, BLOCK)
        assert isinstance(seen, int) or seen == with_holes.guest[:BLOCK], name
    # And the mount goes on following the catalog.
    (tmp_path / "later.img").write_bytes(solid(b"L", 16))
    catalogue(program, tmp_path / "later.img")
    wait_until(lambda: errno_of_reading(mount / "later", 0, 1) == b"L", "it follows on", 30)


def test_a_spoilt_catalog_does_not_end_the_mount(house: House) -> None:
    with contextlib.closing(sqlite3.connect(house.program.catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _spoil(house.program.catalog)
    # Whatever the daemon finds when it looks, it has what it needs for open files.
    with (
        contextlib.closing(sqlite3.connect(house.program.catalog)) as connection,
        contextlib.suppress(sqlite3.Error),
    ):
        connection.execute("PRAGMA user_version = 77")
        connection.commit()
    time.sleep(1.5)
    assert mounts_at(house.mount) == 1
    assert sorted(os.listdir(house.mount)) == ["bystander", "victim"]
    assert [os.pread(house.fd, 4, offset) for offset in house.offsets()] == [b"AAAA"] * 17


# -- a mount that shows itself ---------------------------------------------


@pytest.fixture
def own_mount(program: Program, tmp_path: Path) -> Iterator[Path]:
    """A mount point whose mount is ended by force, for its daemon may wait for itself."""
    mount = tmp_path / "mount"
    yield mount
    end_by_force(mount)


def all_at_once(program: Program, paths: list[Path]) -> dict[str, bytes | int | None]:
    """Read files, each in a process of its own, with all requests in front of the daemon at once.

    Returns, by name, the bytes that were read, the exit code of a failed ``cat``, or None for one
    that hangs. Whatever hangs is ended, and the mount with it.
    """
    pid = daemon_pid(program, paths[0].parent)
    os.kill(pid, signal.SIGSTOP)
    readers = {path: subprocess.Popen(["cat", path], stdout=subprocess.PIPE) for path in paths}
    time.sleep(0.5)
    os.kill(pid, signal.SIGCONT)
    found: dict[str, bytes | int | None] = {}
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as executor:
        reading = {path: executor.submit(reader.communicate) for path, reader in readers.items()}
        _done, hung = concurrent.futures.wait(reading.values(), timeout=60)
        if hung:
            end_by_force(paths[0].parent)
        for path, future in reading.items():
            output = future.result(60)[0]
            code = readers[path].returncode
            found[path.name] = None if future in hung else code or output
    return found


def test_an_image_that_hides_behind_its_own_mount_hangs_nobody(
    program: Program, tmp_path: Path, own_mount: Path
) -> None:
    # A disk with images is taken away, and the mount goes to where it was.
    own_mount.mkdir()
    (own_mount / "sda1").write_bytes(solid(b"A", 16))
    (tmp_path / "other.img").write_bytes(solid(b"O", 16))
    catalogue(program, own_mount / "sda1", tmp_path / "other.img")
    (own_mount / "sda1").unlink()
    program.run("mount-all", own_mount)
    assert all_at_once(program, [own_mount / "sda1", own_mount / "other"]) == {
        "sda1": 1,
        "other": b"O" * (16 * BLOCK),
    }


def test_images_inside_images_hang_nobody(
    program: Program, tmp_path: Path, own_mount: Path
) -> None:
    inner = patchy(1, 32)
    padded = inner.image + bytes(-len(inner.image) % BLOCK)
    blocks = {n: padded[n * BLOCK : (n + 1) * BLOCK] for n in range(len(padded) // BLOCK)}
    for number in range(20):
        (tmp_path / f"outer{number:02d}.img").write_bytes(scattered(blocks, len(blocks)))
    catalogue(program, *sorted(tmp_path.glob("outer*.img")))
    own_mount.mkdir()
    program.run("mount-all", own_mount)
    # Each of them shows an image, which may be added from there.
    paths = sorted(own_mount.glob("outer??"))
    catalogue(program, *paths)
    wait_until(lambda: len(os.listdir(own_mount)) == 40, "they are all shown", 30)
    found = all_at_once(program, [own_mount / f"{path.name} (2)" for path in paths])
    # Right bytes or a refusal: that is for the program to choose.
    assert [name for name, what in found.items() if what not in {inner.guest, 1}] == []


# -- many at once ----------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True], ids=["soft limit", "hard limit"])
def test_more_open_files_than_descriptors(program: Program, tmp_path: Path, hard: bool) -> None:
    for number in range(100):
        (tmp_path / f"i{number:02d}.img").write_bytes(solid(b"%c" % (65 + number), 4))
    catalogue(program, *tmp_path.glob("*.img"))
    mount = tmp_path / "mount"
    mount.mkdir()
    program._mounts.append(mount)
    limit = ("prlimit", "--nofile=64:64" if hard else "--nofile=64:")
    run_confined(program, limit, "mount-all", mount)
    with contextlib.ExitStack() as stack:
        refused = set()
        for number in range(300):
            try:
                # However often an image is opened, it takes one.
                fd = os.open(mount / f"i{number % 100:02d}", os.O_RDONLY)
            except OSError as error:
                refused.add(error.errno)
            else:
                stack.callback(os.close, fd)
                assert os.pread(fd, 1, 0) == b"%c" % (65 + number % 100)
        assert refused <= {errno.EMFILE, errno.EIO}
        assert bool(refused) == hard
    # They are given back, and then all is as before.
    wait_until(lambda: errno_of_reading(mount / "i00", 0, 1) == b"A", "it opens again", 30)
    (tmp_path / "later.img").write_bytes(solid(b"L", 4))
    catalogue(program, tmp_path / "later.img")
    wait_until(lambda: "later" in os.listdir(mount), "it still follows the catalog", 30)


def test_sixteen_readers_and_one_image_truncated_meanwhile(
    program: Program, tmp_path: Path
) -> None:
    guests = {}
    for number in range(16):
        written = patchy(number, 512)
        guests[f"i{number:02d}"] = written.guest
        (tmp_path / f"i{number:02d}.img").write_bytes(written.image)
    catalogue(program, *tmp_path.glob("*.img"))
    mount = program.mount_all(tmp_path / "mount")

    def read(name: str) -> tuple[int, set[int]]:
        """Read at random places, past the kernel's cache; return how many were right."""
        generator = random.Random(name)
        right, errors = 0, set()
        buffer = mmap.mmap(-1, 16 * BLOCK)
        fd = os.open(mount / name, os.O_RDONLY | os.O_DIRECT)
        for round_number in range(400):
            start = generator.randrange(512 - 16) * BLOCK
            length = generator.randrange(1, 17) * BLOCK
            if name == "i05" and round_number == 100:
                os.truncate(tmp_path / "i05.img", 300_000)
            try:
                count = os.preadv(fd, [memoryview(buffer)[:length]], start)
            except OSError as error:
                errors.add(error.errno or 0)
            else:
                assert buffer[:count] == guests[name][start : start + length], (name, start)
                right += 1
        os.close(fd)
        return right, errors

    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        results = dict(zip(guests, executor.map(read, guests), strict=True))
    right, errors = results.pop("i05")
    assert right >= 100
    assert errors
    assert errors <= REFUSED
    assert list(results.values()) == [(400, set())] * 15


def test_names_are_listed_once_while_images_come_and_go(program: Program, tmp_path: Path) -> None:
    stay = [f"stay-{number:03d}" for number in range(60)]
    image = solid(b"S", 1)
    for name in stay:
        (tmp_path / f"{name}.img").write_bytes(image)
    catalogue(program, *tmp_path.glob("stay*.img"))
    go = [tmp_path / f"go-{number:03d}.img" for number in range(15)]
    for path in go:
        path.write_bytes(solid(b"G", 1))
    mount = program.mount_all(tmp_path / "mount")
    # What comes first stays until it was listed: it could be gone before the daemon has looked.
    turn = '"$0" -m imgcat -q add "$@" && {} "$0" -m imgcat -q rm "go-*"'
    script = f"{turn.format('read -r listed &&')} && {turn.format('')}"
    changing = subprocess.Popen(
        ["sh", "-c", script, sys.executable, *map(str, go)],
        env=program.environment, stdin=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert changing.stdin is not None
    listings = 0
    seen_going = False
    deadline = time.monotonic() + 120
    while changing.poll() is None:
        assert time.monotonic() < deadline, "what has come is not shown"
        names = os.listdir(mount)
        assert len(names) == len(set(names))
        assert [name for name in sorted(names) if name.startswith("stay")] == stay
        if not seen_going and listings > 10 and len(names) > len(stay):
            seen_going = True
            changing.stdin.write(b"\n")
        for name in names[:: 1 + listings % 7]:
            with contextlib.suppress(FileNotFoundError):
                assert (mount / name).stat().st_size == BLOCK
        listings += 1
    changing.stdin.close()
    assert changing.returncode == 0
    assert seen_going
    wait_until(lambda: sorted(os.listdir(mount)) == stay, "what was removed is gone", 30)


def test_reading_past_the_end_and_writing(house: House) -> None:
    assert os.pread(house.fd, 100, SIZE) == b""
    assert os.pread(house.fd, 100, SIZE - 10) == b"A" * 10
    assert os.pread(house.fd, 100, 1 << 62) == b""
    with pytest.raises(OSError, match="Invalid argument"):
        os.pread(house.fd, 1, -1)
    attempts: list[Callable[[], object]] = [
        lambda: os.open(house.shown, os.O_WRONLY),
        lambda: os.open(house.shown, os.O_RDWR),
        lambda: os.open(house.shown, os.O_RDONLY | os.O_TRUNC),
        lambda: os.open(house.mount / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.truncate(house.shown, 0),
        house.shown.unlink,
        lambda: house.shown.rename(house.mount / "other"),
        lambda: house.shown.chmod(0o777),
        lambda: os.utime(house.shown),
        (house.mount / "dir").mkdir,
        lambda: os.link(house.shown, house.mount / "link"),
        lambda: os.symlink("x", house.mount / "link"),
        lambda: os.setxattr(house.shown, "user.x", b"y"),
    ]
    for number, attempt in enumerate(attempts):
        with pytest.raises(OSError, match=r"Read-only file system") as raised:
            attempt()
        assert raised.value.errno == errno.EROFS, number
    assert hashlib.sha256(house.shown.read_bytes()).digest() == hashlib.sha256(b"A" * SIZE).digest()
