"""A storm of changes under readers that check every byte: none is wrong, and nothing is left over.

A third of a minute of it is part of the tests; `make soak` has twenty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import ntfsclone_writer, partclone_writer, partimage_writer
from support.program import COMMAND, wait_until
from support.streams import compress

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.fresh]

BLOCK = 4096
BLOCKS = 256
READERS = 12
EXPECTED = frozenset({errno.ENOENT, errno.ESTALE, errno.EIO})
"""What a reader may be told while files and names come and go."""

CODES = frozenset({0, 2, 3, 4, 5, 6, 7})
"""Exit codes that a command may have meanwhile: all but that of a fault of its own."""

KINDS = (
    "partclone", "partclone.zst", "partclone.gz", "partclone.xz", "partclone.bz2", "partclone.lz4",
    "partclone.split", "ntfsclone", "ntfsclone.gz", "partimage", "partimage.zst",
)  # fmt: skip


@dataclasses.dataclass
class Saved:
    """An image on the shelf, under one path, with whatever it has held so far.

    Attributes:
        number: part of every name that it ever has.
        kind: one of `KINDS`.
        path: its first file.
        guests: what it may be read as: an open file is of one of these.
    """

    number: int
    kind: str
    path: Path
    guests: list[bytes]


def image_of(kind: str, seed: int) -> tuple[bytes, bytes]:
    """Return an image and its guest."""
    rng = random.Random(seed)
    guest = rng.randbytes(BLOCK * BLOCKS)
    if kind.startswith("ntfsclone"):
        order = sorted(rng.sample(range(BLOCKS), 200))
        recipe = ntfsclone_writer.Recipe(
            order=order, cluster_count=BLOCKS, cluster_size=BLOCK, tail=0
        )
        written = ntfsclone_writer.write(recipe)
        return written.image, written.guest
    present = [rng.random() < 0.7 for _ in range(BLOCKS)]
    if kind.startswith("partimage"):
        made = partimage_writer.write(partimage_writer.Recipe(present=present * 3))
        return made.volumes[0], made.guest
    image = partclone_writer.write(
        partclone_writer.Recipe(
            present=present, block_size=BLOCK, blocks_per_checksum=16, guest=guest
        )
    )
    return image.image, image.guest


class Shelf:
    """The images, and the changes to their files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.saved = []
        for number, kind in enumerate(KINDS):
            name = f"i{number:02}.img"
            ending = kind.partition(".")[2]
            if ending == "split":
                path = directory / f"{name}.aa"
            else:
                path = directory / (f"{name}.{ending}" if ending else name)
            self.saved.append(Saved(number, kind, path, []))
            self.replace(self.saved[-1], number)

    def replace(self, saved: Saved, seed: int) -> None:
        """Save it anew, with another content."""
        image, guest = image_of(saved.kind, seed)
        saved.guests.append(guest)
        tool = {"zst": "zstd", "gz": "gzip", "xz": "xz", "bz2": "bzip2", "lz4": "lz4"}
        ending = saved.kind.partition(".")[2]
        if ending == "split":
            third = len(image) // 3 + 1
            for number in range(3):
                piece = saved.path.with_suffix(f".a{'abc'[number]}")
                _put(piece, image[number * third : (number + 1) * third])
        else:
            _put(saved.path, compress(tool[ending], image) if ending in tool else image)


def _put(path: Path, data: bytes) -> None:
    """Replace a file as backup programs do."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


class Reader(threading.Thread):
    """Opens what it finds, reads at random, and checks every byte."""

    def __init__(self, mounts: list[Path], shelf: Shelf, seed: int) -> None:
        super().__init__()
        self.mounts, self.shelf, self.rng = mounts, shelf, random.Random(seed)
        self.wrong: list[str] = []
        self.odd: list[OSError] = []
        self.reads = 0
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.is_set():
            try:
                self._read_one()
            except OSError as error:
                if error.errno not in EXPECTED:
                    self.odd.append(error)

    def _read_one(self) -> None:
        mount = self.rng.choice(self.mounts)
        names = os.listdir(mount)
        if not names:
            time.sleep(0.05)
            return
        name = self.rng.choice(names)
        saved = self.shelf.saved[int(name[1:3])]
        direct = os.O_DIRECT if self.rng.random() < 0.5 else 0
        fd = os.open(mount / name, os.O_RDONLY | direct)
        try:
            # What it may hold by now; a version is known before its file is there.
            candidates = list(range(len(saved.guests)))
            for _ in range(self.rng.randrange(1, 12)):
                size = self.rng.choice((BLOCK, 8 * BLOCK, 64 * BLOCK))
                offset = self.rng.randrange(BLOCKS) * BLOCK
                data = os.pread(fd, size, offset)
                self.reads += 1
                before = [*candidates, *range(candidates[-1] + 1, len(saved.guests))]
                fitting = [
                    number
                    for number, guest in enumerate(saved.guests)
                    if guest[offset : offset + len(data)] == data
                ]
                candidates = [number for number in before if number in fitting]
                if not candidates:
                    others = [
                        (each.number, number)
                        for each in self.shelf.saved
                        for number, guest in enumerate(each.guests)
                        if guest[offset : offset + len(data)] == data
                    ]
                    self.wrong.append(
                        f"{name} ({saved.kind}): {len(data)} bytes at {offset}: of {others}, and "
                        f"before of {before}; {'direct' if direct else 'cached'}, "
                        f"{'zeros' if not any(data) else 'data'}"
                    )
                    return
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)


class Storm:
    """What is done to the shelf, the catalog and the daemon, at random but always alike."""

    def __init__(self, program: Program, shelf: Shelf, mount: Path, seed: int) -> None:
        self.program, self.shelf, self.mount = program, shelf, mount
        self.rng = random.Random(seed)
        self.seed = 1000
        self.faults: list[str] = []
        self.done: dict[str, int] = {}

    def run(self, seconds: float) -> None:
        actions: list[Callable[[], None]] = [
            self.add, self.add, self.remove, self.rename, self.rescan, self.verify, self.repack,
            self.replace, self.replace, self.truncate, self.flip, self.chmod, self.touch,
            self.stop_and_go,
        ]  # fmt: skip
        began = time.monotonic()
        swaps = [0.3, 0.6]
        while (passed := time.monotonic() - began) < seconds:
            if swaps and passed > swaps[0] * seconds:
                swaps.pop(0)
                self.swap_catalog()
            action = self.rng.choice(actions)
            self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
            action()

    def command(self, *arguments: object) -> None:
        """Run a command, which may be refused, but not fail."""
        result = subprocess.run(
            [*COMMAND, *map(str, arguments)], env=self.program.environment, capture_output=True,
            check=False, timeout=120,
        )  # fmt: skip
        if result.returncode not in CODES or b"Traceback" in result.stderr:
            self.faults.append(f"{arguments}: {result.returncode}: {result.stderr.decode()}")

    def any(self) -> Saved:
        return self.rng.choice(self.shelf.saved)

    def names(self) -> list[str]:
        return os.listdir(self.mount)

    def add(self) -> None:
        options = self.rng.choice(((), ("--force",), ("--verify",)))
        self.command("add", *options, *(self.any().path for _ in range(3)))

    def remove(self) -> None:
        self.command("rm", self.any().path)

    def rename(self) -> None:
        saved = self.any()
        self.command("rename", saved.path, f"i{saved.number:02}-{self.rng.randrange(1000)}")

    def rescan(self) -> None:
        self.command("rescan")

    def verify(self) -> None:
        self.command("verify", self.any().path)

    def repack(self) -> None:
        out = self.shelf.directory.parent / "repacked.img.zst"
        self.command("repack", "--force", self.any().path, out)

    def replace(self) -> None:
        self.seed += 1
        self.shelf.replace(self.any(), self.seed)

    def truncate(self) -> None:
        path = self.any().path
        os.truncate(path, path.stat().st_size * self.rng.randrange(1, 10) // 10)

    def flip(self) -> None:
        """Damage a file, with or without a trace; then save it anew, for it would stay damaged."""
        saved = self.any()
        path, status = saved.path, saved.path.stat()
        if saved.kind.startswith("partclone") and status.st_size:
            # What nothing protects is not flipped: only what is compressed, or is checked.
            if "." in saved.kind and not saved.kind.endswith("split"):
                with path.open("r+b") as file:
                    file.seek(status.st_size * self.rng.randrange(2, 9) // 10)
                    file.write(self.rng.randbytes(3))
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
                time.sleep(0.2)
            self.replace()

    def chmod(self) -> None:
        self.any().path.chmod(self.rng.choice((0o600, 0o644, 0o400)))

    def touch(self) -> None:
        os.utime(self.any().path)

    def stop_and_go(self) -> None:
        pid = self.program.daemon_pid(self.mount)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(pid, signal.SIGCONT)

    def swap_catalog(self) -> None:
        """Put another catalog of the same files in the place of this one."""
        other = self.program.home / "other.db"
        for path in self.program.home.glob("other.db*"):
            path.unlink()
        self.command("--db", other, "add", *(saved.path for saved in reversed(self.shelf.saved)))
        if self.rng.random() < 0.5:
            shutil.copyfile(other, self.program.catalog)
        else:
            other.rename(self.program.catalog)


def _storm(program: Program, tmp_path: Path, seconds: float) -> None:
    shelf = Shelf(tmp_path / "shelf")
    program.run("add", *(saved.path for saved in shelf.saved))
    mount = program.mount_all(tmp_path / "one")
    second = program.mount_all(tmp_path / "two")
    pid = program.daemon_pid(mount)
    assert pid is not None
    readers = [Reader([mount, second], shelf, seed) for seed in range(READERS)]
    for reader in readers:
        reader.start()
    storm = Storm(program, shelf, mount, 7)
    try:
        storm.run(seconds / 3)
        early, early_files = _resident_kb(pid), len(_open_files(pid))
        storm.run(seconds * 2 / 3)
    finally:
        for reader in readers:
            reader.is_over.set()
        for reader in readers:
            reader.join(120)
    assert [each for reader in readers for each in reader.wrong] == []
    assert [each for reader in readers for each in reader.odd] == []
    assert storm.faults == []
    assert sum(reader.reads for reader in readers) > 20 * seconds
    assert _resident_kb(pid) < early + (96 << 10)
    log = "".join(Path(each["log_file"]).read_text() for each in program.json("mounts")
                  if each["path"] in {str(mount), str(second)})  # fmt: skip
    assert "Traceback" not in log

    # What was open is closed, but for what serves. Of connections that were closed while another
    # one held a lock, SQLite keeps the descriptors for those to come: as many as were open at once.
    def others() -> list[str]:
        return [each for each in _open_files(pid) if each != str(program.catalog)]

    try:
        wait_until(lambda: len(others()) < 25, "descriptors are given back", 20)
        assert len(_open_files(pid)) < early_files + 16
    except AssertionError as error:
        error.add_note("\n".join(_open_files(pid)))
        raise


def _open_files(pid: int) -> list[str]:
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return sorted(found)


def _resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_a_storm(program: Program, tmp_path: Path) -> None:
    _storm(program, tmp_path, 20)


@pytest.mark.soak
def test_twenty_minutes_of_storm(program: Program, tmp_path: Path) -> None:
    _storm(program, tmp_path, 1200)
