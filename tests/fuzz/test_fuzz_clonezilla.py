"""Whatever an image directory of Clonezilla holds, it is understood, or refused with its name.

Texts as the tools write them are mutated many times from fixed seeds: alone, and in directories
whose files become links, pipes and directories. What is understood can be stored and read.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.database.check import check
from imgcat.catalog.errors import CatalogError
from imgcat.catalog.opening.entries import mount_entries
from imgcat.catalog.opening.open import open_image
from imgcat.catalog.store import Catalog
from imgcat.formats.clonezilla import metadata, sums
from imgcat.formats.clonezilla.directory import read_directory
from imgcat.formats.clonezilla.disk import disk_layout
from imgcat.formats.clonezilla.files import MAX_TEXT_SIZE, is_plain_name
from imgcat.formats.composed.segments import LiteralBytes
from imgcat.formats.errors import CorruptImageError, FormatError
from imgcat.formats.extent import check_cover
from imgcat.formats.files import split_names
from imgcat.formats.partimage import volumes
from imgcat.formats.partitions.ebr import boot_records
from imgcat.formats.partitions.text_tables import parse_parted, parse_sfdisk
from imgcat.formats.reader import read_bytes
from support.partimage_writer import volume_header
from support.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from imgcat.formats.clonezilla.records import ImageDirectory
    from imgcat.formats.partitions.text_tables import PartitionTable

_SECTOR_SIZES = {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
_TOO_LONG_TEXTS = 1 << 63
"""What SQLite cannot store any more."""

_LONG = MAX_TEXT_SIZE // 4
"""Bytes of a text that is long enough for what grows faster than it to take minutes."""

_SLOWEST = 2.0
"""Seconds of processor time that no long text may take; each takes a tenth."""

_PEAK = 200 * _LONG
"""Bytes of memory that a long text may take: so many for each of its own."""

_PATIENCE = 20
"""Seconds after which a directory counts as one that is waited for."""

_SECRET = b"SECRET-from-outside"

_UUID = b"6f9619ff-8b86-d011-b42d-00c04fc964ff"

_SFDISK = b"""\
label: dos
label-id: 0x5c7b1ea1
device: /dev/sda
unit: sectors
sector-size: 512

/dev/sda1 : start=          40, size=         200, type=83, bootable
/dev/sda2 : start=         300, size=         110, type=7
/dev/sda3 : start=         420, size=          70, type=5
/dev/sda5 : start=         422, size=          20, type=82
/dev/sda6 : start=         450, size=          30, type=83
"""

_GPT = b"""\
label: gpt
label-id: B4C86195-0DB7-624E-B72D-D2D52E2243BA
device: /dev/sda
unit: sectors
first-lba: 34
last-lba: 466
sector-size: 512

/dev/sda1 : start=          40, size=         200, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
uuid=1387FD30-0BD9-9D48-9544-C1AE7818CF32, name="EFI, \\x22system\\x22", attrs="RequiredPartition"
/dev/sda2 : start=         300, size=         110, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
"""

_OLD = b"""\
# partition table of /dev/sda
unit: sectors

/dev/sda1 : start=       40, size=      200, Id=83, bootable
/dev/sda2 : start=      300, size=      110, Id= 7
/dev/sda3 : start=        0, size=        0, Id= 0
"""

_PARTED = b"""\
Model: ATA VBOX HARDDISK (scsi)
Disk /dev/sda: 500s
Sector size (logical/physical): 512B/4096B
Partition Table: msdos
Disk Flags:

Number  Start  End   Size  Type     File system  Flags
 1      40s    239s  200s  primary  ext4         boot
"""

_TEXTS = {
    "disk": b"sda\n",
    "parts": b"sda1 sda2 cciss/c0d0p1\n",
    "sda-pt.sf": _SFDISK,
    "sda-pt.parted": _PARTED,
    "sda-chs.sf": b"cylinders=25\nheads=255\nsectors=63\n",
    "dev-fs.list": b"# <Device name>   <File system>   <Size>\n/dev/sda1 ext4 100K\n"
    b"/dev/sda2 ntfs 55K\n/dev/sda5 swap 10K\n",
    "lvm_vg_dev.list": b"vg0 /dev/sda6 hSHbcK-3O5g-Jd4l\nvg1 /dev/mapper/x\n",
    "lvm_logv.list": b"/dev/vg0/root  Linux rev 1.0 ext4 filesystem data\n/dev/vg0/swap  swap\n",
    "luks-dev.list": b"/dev/sda7 " + _UUID + b" /dev/mapper/ocs_luks_x\n",
    "swappt-sda5.info": b'UUID="' + _UUID + b'"\nLABEL="a b"\n',
    "clonezilla-img": b"This image was saved by Clonezilla at 2026-02-03 04:05:06 UTC.\n"
    b"Saved by clonezilla-live-3.2.0-5-amd64.\nThe log during saving:\n",
    "MD5SUMS": b"d41d8cd98f00b204e9800998ecf8427e  disk\n"
    b"MD5 (parts) = d41d8cd98f00b204e9800998ecf8427e\n\\" + b"0" * 32 + b" *a\\nb\n",
}  # fmt: skip
"""Texts as the tools write them, by the names of their files."""

_NUMBERS = tuple(
    str(number).encode()
    for number in (
        0, -1, 1, 63, 511, 513, 4096, 65536, 1 << 31, 1 << 32, (1 << 54) - 1, 1 << 54, 1 << 62,
        (1 << 63) - 1, 1 << 63, 1 << 64, 10**19, 10**20 - 1, 10**400,
    )
) + tuple("".join(chr(0x660 + int(digit)) for digit in str(n)).encode() for n in (7, 40, 512)) + (
    "\u00b2".encode(), "\uff11\uff12".encode(), b"+5", b"0x10", b"1_0", b"4e1", b"",
)  # fmt: skip
"""Numbers at the borders, and what `int` takes for one, or `isdigit` for a digit."""

_PIECES = (
    b"\0", b"\r", b"\n", b"\xff", b"\xed\xa0\x80", "\u0130".encode(), "\u2028".encode(), b"\x85",
    b"\x1c", b'"', b"=", b":", b" : ", b",", b"/", b"/..", b"../", b"#", b"\\", b" ", b"\t",
    b"/dev/", b"/dev/mapper/", b"x" * 5000, b"1" * 5000,
)  # fmt: skip


class _Mutator:
    """Changes texts, at random but always alike."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._ways = (
            self._remove, self._double, self._swap, self._number, self._number, self._number,
            self._number, self._insert, self._overwrite, self._cut, self._carriage_returns,
            self._foreign_line,
        )  # fmt: skip

    def mutated(self, text: bytes) -> bytes:
        """Return the text with one to a few changes."""
        lines = text.split(b"\n")
        for _ in range(self.rng.choice((1, 1, 1, 2, 3, 6))):
            self.rng.choice(self._ways)(lines)
            lines = lines or [b""]
        return b"\n".join(lines)

    def _at(self, lines: list[bytes]) -> int:
        return self.rng.randrange(len(lines))

    def _remove(self, lines: list[bytes]) -> None:
        del lines[self._at(lines)]

    def _double(self, lines: list[bytes]) -> None:
        lines.insert(self._at(lines), lines[self._at(lines)])

    def _swap(self, lines: list[bytes]) -> None:
        one, other = self._at(lines), self._at(lines)
        lines[one], lines[other] = lines[other], lines[one]

    def _number(self, lines: list[bytes]) -> None:
        """Put another number in place of one."""
        places = []
        for index, line in enumerate(lines):
            start = 0
            for word in line.replace(b",", b" ").replace(b"=", b" ").split(b" "):
                if word[:1].isdigit():
                    digits = len(word) - len(word.lstrip(b"0123456789"))
                    places.append((index, start, start + digits))
                start += len(word) + 1
        if places:
            index, start, stop = self.rng.choice(places)
            number = self.rng.choice((*_NUMBERS, b"%d" % self.rng.randrange(600)))
            lines[index] = lines[index][:start] + number + lines[index][stop:]

    def _insert(self, lines: list[bytes]) -> None:
        index = self._at(lines)
        place = self.rng.randrange(len(lines[index]) + 1)
        lines[index] = lines[index][:place] + self.rng.choice(_PIECES) + lines[index][place:]

    def _overwrite(self, lines: list[bytes]) -> None:
        index = self._at(lines)
        place = self.rng.randrange(len(lines[index]) + 1)
        piece = self.rng.choice((*_PIECES, self.rng.randbytes(2)))
        lines[index] = lines[index][:place] + piece + lines[index][place + len(piece) :]

    def _cut(self, lines: list[bytes]) -> None:
        index = self._at(lines)
        lines[index] = lines[index][: self.rng.randrange(len(lines[index]) + 1)]

    def _carriage_returns(self, lines: list[bytes]) -> None:
        lines[:] = [line + b"\r" for line in lines]

    def _foreign_line(self, lines: list[bytes]) -> None:
        others = self.rng.choice((_GPT, _OLD, *_TEXTS.values())).split(b"\n")
        lines.insert(self._at(lines), self.rng.choice(others))


def _decoded(text: bytes) -> str:
    """Return a text as the directory's files are decoded."""
    return text.decode("utf-8", "surrogateescape")


def _table_outcome(text: str, sector_size: int = 512) -> PartitionTable | None:
    """Parse a partition table; check what is understood, and how it is refused."""
    try:
        table = parse_sfdisk(text, sector_size=sector_size, structure="clonezilla.sda-pt.sf")
    except CorruptImageError as error:
        _check_error(error, "clonezilla.sda-pt.sf", text)
        return None
    assert table.sector_size in _SECTOR_SIZES
    for lba in (table.first_lba, table.last_lba):
        assert lba is None or 0 <= lba < _TOO_LONG_TEXTS
    assert len({row.number for row in table.rows}) == len(table.rows) <= 1024
    lines = iter(text.split("\n"))
    for row in table.rows:
        assert 0 <= row.start < row.stop < _TOO_LONG_TEXTS
        assert row.start % table.sector_size == row.stop % table.sector_size == 0
        assert 0 <= row.number < 10**9
        assert row.mbr_type is None or 0 <= row.mbr_type < 256
        # In the order of the text, and with the numbers that stand there.
        numbers = (row.start, row.stop - row.start)
        words = [str(row.number), *(str(number // table.sector_size) for number in numbers)]
        assert any(
            each.strip().startswith(row.device) and all(word in each for word in words)
            for each in lines
        )
    return table


def _parted_outcome(text: str) -> str:
    try:
        disk = parse_parted(text, structure="clonezilla.sda-pt.parted")
    except CorruptImageError as error:
        _check_error(error, "clonezilla.sda-pt.parted", text)
        return "refused"
    assert disk.sector_size is None or disk.sector_size in _SECTOR_SIZES
    assert disk.size is None or 0 <= disk.size < _TOO_LONG_TEXTS
    if disk.size is not None:
        assert str(disk.size) in text or str(disk.size // (disk.sector_size or 512)) in text
    return "understood"


def _check_error(error: CorruptImageError, structure: str, text: str) -> None:
    assert error.structure == structure
    assert error.detail.startswith("line ")
    assert 0 <= error.offset <= len(text.encode("utf-8", "surrogateescape"))
    assert len(error.detail) < 10_000


def _check_names(error: FormatError, path: str) -> None:
    assert path in error.detail


def _parse_lists(text: str) -> None:
    """Parse a text as each of the lists: none raises, and what is told can name files."""
    names, refused = metadata.parse_names(text)
    assert all(map(is_plain_name, names))
    assert len(names) <= 1024
    assert len(refused) <= 1024
    assert len(set(names)) == len(names)
    metadata.parse_fragment(text)
    assert metadata.parse_swap("sda5", text).device == "sda5"
    devices = [*metadata.parse_file_systems(text)]
    devices += [group.device for group in metadata.parse_volume_groups(text)]
    devices += [volume.name for volume in metadata.parse_logical_volumes(text)]
    for luks in metadata.parse_luks_devices(text):
        devices += [luks.device] if luks.mapped is None else [luks.device, luks.mapped]
    assert all(map(is_plain_name, devices))
    metadata.parse_log(text)
    lines = text.count("\n") + 1
    for algorithm in ("md5", "b2"):
        found = sums.parse_sums(text, algorithm)
        assert all(is_plain_name(line.name) for line in found.lines)
        assert all(0 < number <= lines for number, _ in found.problems)


def _check_boot_records(table: PartitionTable, rng: random.Random) -> None:
    """Make the chain of boot records from a table, and from saved ones that hold anything."""
    saved = {
        row.number: rng.randbytes(446) + bytes(4) + rng.choice((rng.randbytes(60), bytes(60)))
        + rng.choice((b"\x55\xaa", b"", b"\0\0"))
        for row in table.rows if rng.random() < 0.5
    }  # fmt: skip
    records, problems = boot_records(table, saved)
    assert len({record.offset for record in records}) == len(records)
    for record in records:
        assert len(record.data) == 512
        assert record.data[510:] == b"\x55\xaa"
        assert 0 <= record.offset < _TOO_LONG_TEXTS
        assert not record.is_saved or record.data == saved[record.number][:512]
    assert all(isinstance(problem, str) for problem in problems)


def _run_texts(seed: int, count: int) -> collections.Counter[str]:
    mutator = _Mutator(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(count):
        text = _decoded(mutator.mutated((_SFDISK, _GPT, _OLD)[number % 3]))
        table = _table_outcome(text, mutator.rng.choice((512, 4096)))
        outcomes["no table" if table is None else table.label] += 1
        if table is not None:
            _check_boot_records(table, mutator.rng)
        outcomes[_parted_outcome(_decoded(mutator.mutated(_PARTED)))] += 1
        _parse_lists(_decoded(mutator.mutated(mutator.rng.choice(list(_TEXTS.values())))))
    return outcomes


@pytest.mark.parametrize("seed", range(2))
def test_mutated_texts_are_understood_or_refused(seed: int) -> None:
    outcomes = _run_texts(seed, 1500)
    # Mutations that all end in the same place would prove nothing.
    for outcome in ("no table", "dos", "gpt", "understood", "refused"):
        assert outcomes[outcome] > 100, outcomes


@settings(max_examples=150, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_any_text(data: bytes) -> None:
    text = _decoded(data)
    _table_outcome(text)
    _table_outcome(f"unit: sectors\n/dev/sda1 : start=1, size=1, {text}")
    _parted_outcome(text)
    _parted_outcome(f"Disk /dev/sda: {text}")
    _parse_lists(text)


def _filled(piece: str, head: str = "") -> str:
    return (head + piece * (_LONG // len(piece)))[:_LONG]


_LONG_TEXTS = {
    "empty lines": _filled("\n"),
    "headings": _filled("a: b\n"),
    "other headings": "".join(f"a{n}: b\n" for n in range(_LONG // 10)),
    "a long heading": _filled("a -_", "a"),
    "a long device": _filled(" 1", "/"),
    "colons": _filled(": 1", "Disk /"),
    "digits": _filled("9", "Disk /dev/sda: "),
    "a row": _filled(' ,"', "/dev/sda1 : start=1, size=1"),
    "rows of nothing": _filled("/dev/sda1 : start=0, size=0\n"),
    "devices": _filled("/dev/a x\n"),
    "mapped": _filled("/dev/mapper/a ", "/dev/a "),
    "words": _filled("a "),
    "slashes": _filled("/"),
    "programs": _filled("Saved by ", "Saved by "),
    "sums": _filled(") = a", "MD5 (a"),
    "escapes": _filled("\\", "\\" + "0" * 32 + "  "),
    "surrogates": _filled("\udcff"),
}


@pytest.mark.parametrize("what", _LONG_TEXTS)
def test_long_texts_take_little_time(what: str) -> None:
    text = _LONG_TEXTS[what]
    began = time.process_time()
    _table_outcome(text)
    _parted_outcome(text)
    _parse_lists(text)
    assert time.process_time() - began < _SLOWEST


@pytest.mark.parametrize("what", ["other headings", "words"])
def test_long_texts_take_bounded_memory(what: str) -> None:
    tracemalloc.start()
    try:
        _table_outcome(_LONG_TEXTS[what])
        _parted_outcome(_LONG_TEXTS[what])
        metadata.parse_names(_LONG_TEXTS[what])
        assert tracemalloc.get_traced_memory()[1] < _PEAK
    finally:
        tracemalloc.stop()


_SUFFIXES = st.one_of(
    st.sampled_from(["aa", "ab", "ac", "zz", "aaa", "aab", "000", "001", "002", "01", "00", "gz",
                     "\u0660\u0661", "aa\n", "000\n", "", "aaaaaaaaa", "00000000", "zaaa"]),
    st.text("abz01", min_size=1, max_size=4),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(suffixes=st.sets(_SUFFIXES, min_size=1, max_size=8), alone=st.sets(_SUFFIXES, max_size=3))
def test_a_file_is_among_its_chunks(
    tmp_path_factory: pytest.TempPathFactory, suffixes: set[str], alone: set[str]
) -> None:
    where = tmp_path_factory.mktemp("chunks")
    for suffix in suffixes:
        (where / f"a.{suffix}").touch()
    heads = {str(where / f"a.{suffix}") for suffix in alone}
    for suffix in sorted(suffixes):
        path = str(where / f"a.{suffix}")
        run = split_names.run_of(path)
        assert not run or path in run
        assert split_names.first_chunk(path) in (run or [path])
        try:
            paths = split_names.chunk_paths(path, heads.__contains__)
        except FormatError as error:
            _check_names(error, str(where))
            continue
        assert path in paths
        assert all(map(os.path.exists, paths))
    shutil.rmtree(where)


def test_a_name_that_goes_on_in_another_line_is_no_chunk(tmp_path: Path) -> None:
    for name in ("a.aa", "a.ab", "a.000", "a.001"):
        (tmp_path / name).write_bytes(b"")
    for name in ("a.aa\n", "a.001\n"):
        path = str(tmp_path / name)
        assert split_names.chunk_paths(path, lambda _: True) == [path]
        assert volumes.first_volume(path, lambda _: volume_header(1, 2)) == path


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
        self._mutator = _Mutator(seed)
        saved = SmallDisk(where / "right")
        self._files = {path.name: path.read_bytes() for path in saved.directory.iterdir()} | _TEXTS
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
            self._write(directory, "sda-pt.sf", rng.choice((_GPT, _OLD)))
        if rng.random() < 0.2:
            # Nothing tells the size but the header of the GPT, which may be cut off.
            os.unlink(os.path.join(directory, "sda-pt.parted"))
            header = bytes(512) + b"EFI PART" + rng.randbytes(84)
            self._write(directory, "sda-gpt-1st", header[: rng.randrange(500, 620)])
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            if rng.random() < 0.6:
                name = rng.choice(list(_TEXTS))
                self._write(directory, name, self._mutator.mutated(_TEXTS[name]))
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
            _check_names(error, path)
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
                    _check_names(error, path)
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
