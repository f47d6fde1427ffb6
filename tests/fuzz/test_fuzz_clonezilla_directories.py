"""Whatever an image directory of Clonezilla holds, it is understood, or refused with its name.

Texts are mutated in directories whose files become links, pipes and directories too, many times
from fixed seeds. What is understood can be stored and read.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.database.check import check
from imgcat.catalog.errors import CatalogError
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.opening.open import open_image
from imgcat.catalog.store import Catalog
from imgcat.formats.clonezilla import sums
from imgcat.formats.clonezilla.directory import read_directory
from imgcat.formats.clonezilla.disk import disk_layout
from imgcat.formats.clonezilla.files import is_plain_name
from imgcat.formats.composed.segments import LiteralBytes
from imgcat.formats.errors import CorruptImageError, FormatError
from imgcat.formats.extent import check_cover
from imgcat.formats.reader import read_bytes
from support.clonezilla_texts import GPT, OLD, TEXTS, Mutator, check_names
from support.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from imgcat.formats.clonezilla.records import ImageDirectory

_SECTOR_SIZES = {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
_TOO_LONG_TEXTS = 1 << 63
"""What SQLite cannot store any more."""

_PATIENCE = 20
"""Seconds after which a directory counts as one that is waited for."""

_SECRET = b"SECRET-from-outside"


@contextlib.contextmanager
def _patience(seconds: int = _PATIENCE) -> Iterator[None]:
    """Fail, instead of waiting for ever for what nobody writes."""

    def fail(*_: object) -> None:
        pytest.fail(f"it was waited for, {seconds} seconds long")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


_opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _opened.append(os.fsdecode(arguments[0]))


@contextlib.contextmanager
def _opened_paths() -> Iterator[list[str]]:
    """Give the list of paths that are opened during the block, by whatever means."""
    global _opened  # noqa: PLW0603 - an audit hook stays for ever
    if not _hooked:
        sys.addaudithook(_note)
        _hooked.append(True)
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None


_hooked: list[bool] = []

_ODD_NAMES = (
    b"sd\xff1.ext4-ptcl-img.uncomp", b"..ext4-ptcl-img.zst", b"...ext4-ptcl-img.zst", b".aa",
    b"sda1.ext4-ptcl-img.uncomp\n", b"sda1\n.ext4-ptcl-img.uncomp", b"sda1.ext4-ptcl-img.aa",
    b"sda1.ext4-ptcl-img.uncomp.aaab", b"sda2.ntfs-img.aa", b"sda2.ntfs-img.ab", b"sda", b"sda1",
    b"sda1.000", b"sda1.001", b"cciss-c0d0p1.000", b"vg0-root.xfs-img", b"vg0-root.aa",
    b"sda2.ntfs-img.\xd9\xa0\xd9\xa1", b"swappt-\n.info", b"swappt-\xfe.info", b"sda3-ebr",
    b"sda-gpt-1st", b"sda-gpt-2nd", b"sdb-mbr", b"..-pt.sf", b"\xff-pt.sf", b"x\n-pt.sf", b"disk",
    b"n" * 240 + b"-pt.sf", b"SHA1SUMS", b"Info-saved-by-cmd.txt", b"sda.ext4-ptcl-img.uncomp",
    b"THIS_IMAGE_DIR_IS_BROKEN.txt", b"MD5SUMS\n",
)  # fmt: skip


class _Directories:
    """Makes image directories from one that is right, at random but always alike."""

    def __init__(self, where: Path, seed: int) -> None:
        self._where = where
        self._mutator = Mutator(seed)
        saved = SmallDisk(where / "right")
        self._files = {path.name: path.read_bytes() for path in saved.directory.iterdir()} | TEXTS
        self.guests = {
            saved.first_image.read_bytes(): saved.guests["sda1"],
            saved.second_image.read_bytes(): saved.guests["sda2"],
        }
        """What images hold, by the bytes of their files."""
        self._outside = where / "outside"
        self._outside.mkdir()
        (self._outside / "secret").write_bytes(_SECRET)
        os.mkfifo(self._outside / "pipe")
        self._count = 0

    def make(self) -> str:
        """Return the path of a new directory."""
        rng = self._mutator.rng
        self._count += 1
        name = rng.choice((b"img%d", b"img%d", b"img\xff%d", b"im\ng %d")) % self._count
        directory = os.path.join(str(self._where), os.fsdecode(name))
        os.mkdir(directory)
        for each, data in self._files.items():
            with open(os.path.join(directory, each), "wb") as file:
                file.write(data)
        if rng.random() < 0.3:
            self._write(directory, "sda-pt.sf", rng.choice((GPT, OLD)))
        if rng.random() < 0.2:
            # Nothing tells the size but the header of the GPT, which may be cut off.
            os.unlink(os.path.join(directory, "sda-pt.parted"))
            header = bytes(512) + b"EFI PART" + rng.randbytes(84)
            self._write(directory, "sda-gpt-1st", header[: rng.randrange(500, 620)])
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            if rng.random() < 0.6:
                name = rng.choice(list(TEXTS))
                self._write(directory, name, self._mutator.mutated(TEXTS[name]))
            else:
                self._damage(directory)
        return directory

    def _write(self, directory: str, name: str, data: bytes) -> None:
        path = os.path.join(directory, name)
        _remove(path)
        with open(path, "wb") as file:
            file.write(data)

    def _damage(self, directory: str) -> None:
        """Put something else in the place of a file, or beside it."""
        rng = self._mutator.rng
        names = sorted(os.listdir(directory))
        name = rng.choice((*names, *map(os.fsdecode, _ODD_NAMES)))
        path, other = os.path.join(directory, name), os.path.join(directory, rng.choice(names))
        target = rng.choice((
            str(self._outside / "secret"), str(self._outside / "pipe"), str(self._outside), path,
            other, "../outside/secret", "nowhere", "/dev/zero", "/dev/full", ".", "sub/a",
        ))  # fmt: skip
        way = rng.randrange(9)
        if way == 0:
            _remove(path)
        elif way <= 3:
            _remove(path)
            os.symlink(target, path)
        elif way == 4:
            _remove(path)
            os.mkfifo(path)
        elif way == 5:
            _remove(path)
            os.mkdir(path)
        elif way == 6:
            _remove(path)
            _bind(path)
        elif way == 7 and os.path.isfile(other) and not os.path.islink(other):
            _remove(path) if path != other else None
            os.rename(other, path)
        else:
            data = rng.choice((*self._files.values(), b"", bytes(512) + b"EFI PART" + b"\1" * 40))
            self._write(directory, name, data[: rng.randrange(len(data) + 1)])


def _bind(path: str) -> None:
    """Make a socket, unless the path is too long for one."""
    with socket.socket(socket.AF_UNIX) as made, contextlib.suppress(OSError):
        made.bind(os.fsencode(path))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _read(path: str) -> ImageDirectory | None:
    """Read a directory and lay out its disks: nothing out of it is opened, all is in bounds."""
    inside = os.path.join(os.path.realpath(path), "")
    with _patience(), _opened_paths() as opened:
        try:
            directory = read_directory(path)
        except FormatError as error:
            check_names(error, path)
            return None
        layouts = []
        for disk in directory.disks:
            with contextlib.suppress(CorruptImageError):
                layouts.append(disk_layout(directory, disk, {"sda1": 102_400}))
        for name in directory.checksum_files:
            with contextlib.suppress(FormatError, OSError):
                results = list(sums.check_sums(path, name))
                assert all(result.detail for result in results if result.outcome != "ok")
    assert opened or not directory.disks
    for each in opened:
        assert os.path.realpath(each).startswith(inside), each
    assert _SECRET.decode() not in repr(directory)
    for partition in directory.partitions:
        assert is_plain_name(partition.name)
        assert partition.device_size is None or 0 < partition.device_size < _TOO_LONG_TEXTS
        assert partition.problem or os.path.isfile(partition.first_file)
        assert partition.problem or os.path.realpath(partition.first_file).startswith(inside)
    for layout in layouts:
        assert 0 < layout.size < _TOO_LONG_TEXTS
        assert layout.sector_size in _SECTOR_SIZES
        position = 0
        for segment in layout.segments:
            assert position <= segment.start < segment.stop <= layout.size
            position = segment.stop
            if isinstance(segment.content, LiteralBytes):
                assert _SECRET not in segment.content.data
                length = len(segment.content.data) - segment.content.offset
                assert segment.stop - segment.start <= length
    return directory


def _run_directories(where: Path, seed: int, count: int) -> collections.Counter[str]:
    directories = _Directories(where, seed)
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        path = directories.make()
        directory = _read(path)
        if directory is None:
            outcomes["refused"] += 1
        else:
            outcomes["with problems" if directory.problems else "without"] += 1
            outcomes["partitions refused"] += any(p.problem for p in directory.partitions)
        shutil.rmtree(path)
    return outcomes


def test_mutated_directories_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = _run_directories(tmp_path, 1, 250)
    for outcome in ("with problems", "partitions refused"):
        assert outcomes[outcome] > 20, outcomes


def _check_image(catalog: Catalog, image_id: int, guests: Mapping[bytes, bytes]) -> int:
    """Read an image at its borders and those of its extents; return how many reads gave bytes.

    One whose file is as it was is read whole: it holds what it held.
    """
    path = catalog.get(image_id).row.path
    with contextlib.closing(open_image(catalog, image_id)) as opened:
        reader = opened.reader
        assert 0 < reader.size < _TOO_LONG_TEXTS
        borders = {0, reader.size // 2, reader.size}
        # The extents of a disk that is told to be huge end soon; those of its images do not.
        if reader.size < 1 << 24:
            extents = list(reader.extents(0, reader.size))
            check_cover(extents, 0, reader.size)
            borders |= {extent.start for extent in extents[:6]}
        read = 0
        for border in borders:
            start, stop = max(0, border - 300), min(reader.size, border + 300)
            with contextlib.suppress(FormatError):
                data = read_bytes(reader, start, stop - start)
                assert len(data) == stop - start
                assert _SECRET not in data
                read += 1
        if path is not None and reader.size < 1 << 24:
            with open(path, "rb") as file:
                guest = guests.get(file.read())
            assert guest is None or read_bytes(reader, 0, reader.size) == guest
    return read


def _run_catalog(where: Path, seed: int, count: int) -> collections.Counter[str]:
    directories = _Directories(where, seed)
    outcomes: collections.Counter[str] = collections.Counter()
    database = where / "c.db"
    with Catalog.open(str(database), create=True) as catalog:
        for _ in range(count):
            path = directories.make()
            with _patience():
                try:
                    results = list(add_directory(catalog, path))
                except FormatError as error:
                    check_names(error, path)
                    outcomes["refused"] += 1
                    continue
                for result in results:
                    if result.ingested is None:
                        assert isinstance(result.error, FormatError | OSError | CatalogError)
                        outcomes["failed"] += 1
                        continue
                    row = result.ingested.record.row
                    outcomes[row.format] += 1
                    outcomes["read"] += _check_image(catalog, row.id, directories.guests)
                    record = catalog.get(row.id)
                    assert record.row.name == row.name
                again = list(add_directory(catalog, path))
            assert [r.path for r in again] == [r.path for r in results]
            assert all(r.ingested.outcome is Outcome.UNCHANGED for r in again if r.ingested)
        assert len(mount_entries(catalog)) == len(catalog.list_images())
        assert check(catalog.database) == []
    # Whoever opens the catalog with another program reads it too.
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("SELECT * FROM attention").fetchall()
        other.execute("SELECT * FROM shelf").fetchall()
        other.execute("SELECT value FROM directory_facts, json_each(detail)").fetchall()
    return outcomes


def test_what_is_understood_can_be_stored_and_read(tmp_path: Path) -> None:
    outcomes = _run_catalog(tmp_path, 2, 35)
    for outcome in ("disk", "partclone", "ntfsclone"):
        assert outcomes[outcome] > 10, outcomes
    assert outcomes["read"] > 200, outcomes
