"""A catalog that another takes the place of while it is mounted: no byte of one for the other's."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.program import Program, wait_until
from support.streams import compress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.fuse

COUNT = 6
BLOCK = 4096
BLOCKS = 600


def save(directory: Path, seed: int) -> dict[str, bytes]:
    """Write images under the same names for every seed; return what they hold."""
    directory.mkdir()
    guests = {}
    rng = random.Random(seed)
    for number in range(COUNT):
        present = [rng.random() < 0.7 for _ in range(BLOCKS)]
        written = write(
            Recipe(
                present=present, block_size=BLOCK, blocks_per_checksum=16,
                guest=rng.randbytes(BLOCK * BLOCKS),
            )
        )  # fmt: skip
        name = f"image{number}"
        if number % 2:
            (directory / f"{name}.img.zst").write_bytes(compress("zstd", written.image))
        else:
            (directory / f"{name}.img").write_bytes(written.image)
        guests[name] = written.guest
    return guests


class Reader(threading.Thread):
    """Reads the mounted images at random, and notes bytes that are neither catalog's."""

    def __init__(self, mount: Path, either: list[dict[str, bytes]], seed: int) -> None:
        super().__init__()
        self.mount, self.either, self.rng = mount, either, random.Random(seed)
        self.wrong: list[str] = []
        self.odd: list[OSError] = []
        self.reads = 0
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.is_set():
            name = self.rng.choice(list(self.either[0]))
            try:
                self._read(name)
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ESTALE, errno.EIO}:
                    self.odd.append(error)

    def _read(self, name: str) -> None:
        fd = os.open(self.mount / name, os.O_RDONLY | os.O_DIRECT)
        try:
            # One open file is one image: all that is read through it is of the same catalog.
            candidates = [guests[name] for guests in self.either]
            for _ in range(8):
                offset = self.rng.randrange(BLOCKS) * BLOCK
                data = os.pread(fd, BLOCK, offset)
                self.reads += 1
                candidates = [each for each in candidates if each[offset : offset + BLOCK] == data]
                if not candidates:
                    self.wrong.append(f"{name} at {offset}")
                    return
        finally:
            os.close(fd)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Program]:
    """A program with a catalog of its own, of other images under the same names and ids."""
    with Program(tmp_path / "other-home") as made:
        yield made


@contextlib.contextmanager
def reading(mount: Path, either: list[dict[str, bytes]]) -> Iterator[None]:
    """Have the mounted images read during the block, and check all that was read."""
    readers = [Reader(mount, either, seed) for seed in range(4)]
    for reader in readers:
        reader.start()
    try:
        wait_until(lambda: all(reader.reads > 50 for reader in readers), "they read", 30)
        yield
    finally:
        for reader in readers:
            reader.is_over.set()
        for reader in readers:
            reader.join(60)
    assert [reader.wrong for reader in readers] == [[]] * 4
    assert [reader.odd for reader in readers] == [[]] * 4


def check_held(fd: int, guest: bytes) -> None:
    """Check that a file that was opened before gives what it held, or nothing; and close it."""
    for step in (*range(0, BLOCK * BLOCKS, 40 * BLOCK), None):
        try:
            if step is None:
                os.close(fd)
            else:
                assert os.pread(fd, BLOCK, step) == guest[step : step + BLOCK]
        except OSError as error:
            if error.errno not in {errno.EIO, errno.ESTALE}:
                raise


@pytest.mark.parametrize("how", ["moved away and made again", "overwritten", "renamed over"])
def test_another_catalog_takes_the_place(
    how: str, program: Program, other: Program, tmp_path: Path
) -> None:
    first, second = save(tmp_path / "first", 1), save(tmp_path / "second", 2)
    program.run("add", *sorted((tmp_path / "first").iterdir()))
    other.run("add", *sorted((tmp_path / "second").iterdir()))
    mount = program.mount_all(tmp_path / "mount")
    held = {name: os.open(mount / name, os.O_RDONLY | os.O_DIRECT) for name in first}
    assert os.pread(held["image0"], BLOCK, 0) == first["image0"][:BLOCK]
    try:
        with reading(mount, [first, second]):
            if how == "overwritten":
                shutil.copyfile(other.catalog, program.catalog)
            elif how == "renamed over":
                shutil.copyfile(other.catalog, tmp_path / "copy.db")
                os.replace(tmp_path / "copy.db", program.catalog)
            else:
                for path in program.catalog.parent.glob("catalog.db*"):
                    path.rename(tmp_path / f"away-{path.name}")
                program.run("add", *sorted((tmp_path / "second").iterdir()))
            # It may be followed while images are still being added to it.
            wait_until(
                lambda: all(shows(mount, name, second) for name in second),
                "the other is shown", 30,
            )  # fmt: skip
    finally:
        for name, fd in held.items():
            check_held(fd, first[name])


def shows(mount: Path, name: str, guests: dict[str, bytes]) -> bool:
    try:
        return (mount / name).read_bytes() == guests[name]
    except OSError:
        return False


def test_no_catalog_is_there_any_more(program: Program, tmp_path: Path) -> None:
    first = save(tmp_path / "first", 1)
    program.run("add", *sorted((tmp_path / "first").iterdir()))
    mount = program.mount_all(tmp_path / "mount")
    away = tmp_path / "away.db"
    program.catalog.rename(away)
    assert (mount / "image0").read_bytes() == first["image0"]
    away.rename(program.catalog)
    for name, guest in first.items():
        assert (mount / name).read_bytes() == guest
