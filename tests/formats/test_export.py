"""Writing guest bytes to files, devices and streams: the bytes, the holes, and what is left over.

Images come from the naive writer, which knows the guest bytes.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import pickle
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.formats.composed.parts import Child, Literal
from imgcat.formats.composed.reader import ComposedReader, Slice
from imgcat.formats.errors import UnreadablePartError
from imgcat.formats.extent import check_cover, merged
from imgcat.formats.files.new_file import PARTIAL_SUFFIX
from imgcat.formats.passes import export as exporting
from imgcat.formats.passes.export import (
    Filling,
    TargetBusyError,
    TargetError,
    TargetKind,
    export,
    export_stream,
    target_kind,
)
from imgcat.formats.stored import used_windows as readahead
from imgcat.formats.stored.used_windows import (
    WINDOW_SIZE,
    Lost,
    UnreadableRangeError,
    plan_windows,
    read_guest,
    used_ranges,
)
from support.attack_images import patchy, scattered
from support.holes import data_ranges, whole_blocks
from support.memory_source import CountingSource, MemorySource
from support.opening import open_scanned, scan_and_open
from support.volumes import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imgcat.formats.reader import ImageReader
    from support.partclone_writer import Written

MIB = 1 << 20
FILL = 0xA5
FILLINGS = [Filling(), Filling(sparse=False), Filling(byte=FILL)]


@dataclasses.dataclass(frozen=True)
class Guest:
    """An open image, and the bytes that it must give."""

    reader: ImageReader
    data: bytes

    def filled(self, byte: int) -> bytes:
        """Return the bytes with the unused ones replaced."""
        out = bytearray([byte]) * len(self.data)
        for start, stop in used_ranges(self.reader):
            out[start:stop] = self.data[start:stop]
        return bytes(out)


def _opened(written: Written, keep: int | None = None) -> Guest:
    """Open an image; with `keep`, one whose stored bytes end there once it was scanned."""
    scan, reader = scan_and_open(MemorySource(written.image))
    if keep is not None:
        reader = open_scanned(MemorySource(written.image[:keep]), scan)
    return Guest(reader, written.guest)


IMAGES: dict[str, Callable[[], Written]] = {
    "patchy": lambda: patchy(1, 900),
    "small-groups-and-a-tail": lambda: patchy(
        2, 1500, block_size=1024, tail=700, checksum="CRC32", blocks_per_checksum=1
    ),
    "of-0001": lambda: patchy(3, 300, version="0001"),
    "full": lambda: patchy(4, present=[True] * 300),
    "empty": lambda: patchy(5, present=[False] * 300),
    "holes-at-both-ends": lambda: patchy(6, present=[False] * 700 + [True] * 9 + [False] * 700),
    "one-byte-longer": lambda: patchy(7, present=[True] * 256, tail=1),
}


@pytest.fixture(scope="module", params=IMAGES)
def guest(request: pytest.FixtureRequest) -> Guest:
    return _opened(IMAGES[request.param]())


@pytest.fixture
def small() -> Guest:
    return _opened(patchy(11, 700))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory / "disk.raw"


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert [each.name for each in threading.enumerate() if each.name == "read-ahead"] == []


# -- files -----------------------------------------------------------------


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_file_has_every_byte(guest: Guest, out: Path, filling: Filling) -> None:
    told: list[int] = []
    export(guest.reader, str(out), filling, progress=told.append)
    assert out.read_bytes() == guest.filled(filling.byte)
    assert os.listdir(out.parent) == [out.name]
    assert told == sorted(told)
    assert told[-1] == len(guest.data)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~umask


def test_holes_are_where_nothing_is_used(guest: Guest, out: Path) -> None:
    export(guest.reader, str(out))
    block = os.statvfs(out).f_bsize
    used = whole_blocks(used_ranges(guest.reader), block, len(guest.data))
    assert data_ranges(out) == used


@pytest.mark.parametrize("filling", FILLINGS[1:])
def test_no_holes_where_none_are_wanted(guest: Guest, out: Path, filling: Filling) -> None:
    export(guest.reader, str(out), filling)
    assert data_ranges(out) == [(0, len(guest.data))]


def test_only_what_is_used_is_read_and_once(tmp_path: Path) -> None:
    block_count = (1 << 40) // 4096
    blocks = {0: b"a" * 4096, block_count // 2: b"b" * 4096, block_count - 1: b"c" * 4096}
    image = scattered(blocks, block_count)
    scan, _reader = scan_and_open(MemorySource(image))
    source = CountingSource(MemorySource(image))
    out = tmp_path / "disk"
    export(open_scanned(source, scan), str(out))
    assert [(call.offset, call.length) for call in source.calls] == [
        (len(image) - 4096 * (3 - number), 4096) for number in range(3)
    ]
    assert out.stat().st_size == 1 << 40
    with out.open("rb") as file:
        for number, data in blocks.items():
            file.seek(number * 4096)
            assert file.read(4096) == data


def test_an_existing_file_is_kept_unless_forced(small: Guest, out: Path) -> None:
    out.write_bytes(b"mine")
    out.chmod(0o640)
    with pytest.raises(TargetError, match=r"disk\.raw: is there already: --force replaces it"):
        export(small.reader, str(out))
    assert out.read_bytes() == b"mine"
    export(small.reader, str(out), force=True)
    assert out.read_bytes() == small.data
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert os.listdir(out.parent) == [out.name]


def test_a_link_goes_on_leading_there(small: Guest, out: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(out)
    export(small.reader, str(link))
    assert link.is_symlink()
    assert out.read_bytes() == small.data


def test_the_longest_name_there_is(small: Guest, out: Path) -> None:
    longest = out.with_name("ü" * 127 + "x")
    export(small.reader, str(longest))
    assert os.listdir(out.parent) == [longest.name]


def test_a_name_taken_meanwhile_is_not_taken_away(small: Guest, out: Path) -> None:
    with pytest.raises(TargetError, match="somebody else has made it meanwhile"):
        export(small.reader, str(out), progress=lambda _done: _put(out))
    assert out.read_bytes() == b"theirs"
    assert os.listdir(out.parent) == [out.name]


def _put(path: Path) -> None:
    path.write_bytes(b"theirs")


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Path]:
    """A file system without files that have no name."""
    quiet("truncate", "-s", "64M", tmp_path / "ntfs.raw")
    quiet("mkfs.ntfs", "-F", "-Q", tmp_path / "ntfs.raw")
    point = tmp_path / "ntfs"
    point.mkdir()
    quiet("ntfs-3g", tmp_path / "ntfs.raw", point)
    yield point
    quiet("umount", point)


@pytest.mark.loop
def test_a_file_system_without_hard_links(
    small: Guest, fuse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    out = fuse / "disk.raw"
    monkeypatch.setattr(os, "link", link)
    export(small.reader, str(out))
    assert out.read_bytes() == small.data
    assert os.listdir(fuse) == [out.name]
    export(small.reader, str(out), force=True)
    out.unlink()
    with pytest.raises(TargetError, match="meanwhile"):
        export(small.reader, str(out), progress=lambda _done: _put(out))
    assert out.read_bytes() == b"theirs"
    assert os.listdir(fuse) == [out.name]


@pytest.mark.loop
def test_what_killed_processes_have_left_is_removed_and_no_other(small: Guest, fuse: Path) -> None:
    out = fuse / "disk.raw"
    abandoned = fuse / f"disk.raw.0123abcd{PARTIAL_SUFFIX}"
    others = [
        fuse / f"disk.0123abcd{PARTIAL_SUFFIX}", fuse / f"disk.raw.mine{PARTIAL_SUFFIX}",
        fuse / f"a.disk.raw.0123abcd{PARTIAL_SUFFIX}",
    ]  # fmt: skip
    for path in (abandoned, *others):
        path.touch()
    seen: list[str] = []

    def look(_done: int) -> None:
        # Another process that writes the same is none that was killed.
        if not seen:
            seen.extend(os.listdir(fuse))
            export(small.reader, str(out))
            seen.append(*(set(os.listdir(fuse)) & set(seen) - {each.name for each in others}))

    with pytest.raises(TargetError, match="meanwhile"):
        export(small.reader, str(out), progress=look)
    assert abandoned.name not in seen
    assert sorted(os.listdir(fuse)) == sorted([out.name, *(each.name for each in others)])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_export_leaves_nothing(
    small: Guest, out: Path, error: type[BaseException], there: bool
) -> None:
    if there:
        out.write_bytes(b"mine")
    seen: list[str] = []

    def interrupt(_done: int) -> None:
        seen.extend(os.listdir(out.parent))
        raise error

    with pytest.raises(error):
        export(small.reader, str(out), force=there, progress=interrupt)
    assert seen == ([out.name] if there else [])
    assert os.listdir(out.parent) == ([out.name] if there else [])
    assert not there or out.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["patchy", "small-groups-and-a-tail", "of-0001"])
def test_a_truncated_image_leaves_nothing_and_says_where(name: str, out: Path) -> None:
    written = IMAGES[name]()
    lost = sorted(written.block_offsets)[len(written.block_offsets) * 2 // 3]
    block_size = 1024 if name.startswith("small") else 4096
    guest = _opened(written, written.block_offsets[lost])
    with pytest.raises(UnreadableRangeError) as caught:
        export(guest.reader, str(out))
    assert caught.value.start <= lost * block_size < caught.value.stop
    assert lost * block_size - caught.value.start < 4096
    assert f"bytes [{caught.value.start}, {caught.value.stop}) cannot be read" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert os.listdir(out.parent) == []


class _Failing:
    """A reader whose device fails from one guest byte on."""

    def __init__(self, inner: ImageReader, bad: int) -> None:
        self._inner = inner
        self._bad = bad

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_into(self, view: memoryview, offset: int) -> None:
        if offset + len(view) > self._bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "/images/sda1")
        self._inner.read_into(view, offset)


def test_a_failing_disk_names_the_guest_bytes(small: Guest) -> None:
    reader: Any = _Failing(small.reader, 10_000)
    buffer = memoryview(bytearray(65536))
    with pytest.raises(OSError, match=r"guest bytes \[8192, 69632\) cannot be read") as caught:
        read_guest(reader, buffer, 4096)
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == "/images/sda1"


def test_what_cannot_be_a_target(small: Guest, out: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="is a directory: name a file in it"):
        export(small.reader, str(tmp_path))
    missing = tmp_path / "missing" / "disk.raw"
    with pytest.raises(FileNotFoundError) as caught:
        export(small.reader, str(missing))
    assert caught.value.filename == str(missing)
    out.write_bytes(b"x")
    exporting.check_apart(str(missing), [out.stat()])
    exporting.check_apart(str(tmp_path), [out.stat()])
    with pytest.raises(TargetError, match="is a file of the image itself"):
        exporting.check_apart(str(out), [tmp_path.stat(), out.stat()])
    with out.open("rb") as file, pytest.raises(TargetError, match="standard output: is a file of"):
        exporting.check_apart(file.fileno(), [out.stat()])


@pytest.mark.loop
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk(small: Guest, tmp_path: Path, kind: str) -> None:
    point = tmp_path / "full"
    point.mkdir()
    if kind == "tmpfs":
        quiet("mount", "-t", "tmpfs", "-o", "size=1M", "none", point)
    else:
        disk = tmp_path / "disk"
        with disk.open("wb") as file:
            file.truncate(MIB)
        quiet("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", disk)
        quiet("mount", "-o", "loop", disk, point)
    try:
        before = os.listdir(point)
        out = point / "disk.raw"
        for filling in FILLINGS:
            with pytest.raises(OSError, match="No space left") as caught:
                export(small.reader, str(out), filling)
            assert caught.value.filename == str(out)
            assert os.listdir(point) == before
    finally:
        quiet("umount", point)


# -- streams ---------------------------------------------------------------


class _Drain(threading.Thread):
    """Reads a descriptor to its end."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.data = b""
        self.start()

    def run(self) -> None:
        with open(self._fd, "rb") as file:
            self.data = file.read()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("filling", FILLINGS)
def test_a_pipe_gets_every_byte(guest: Guest, filling: Filling, blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    drain = _Drain(reading)
    export_stream(guest.reader, writing, filling)
    os.close(writing)
    drain.join()
    assert drain.data == guest.filled(filling.byte)


def test_a_pipe_that_nobody_reads_any_more(small: Guest) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        export_stream(small.reader, writing)
    os.close(writing)


def test_a_fifo_and_a_character_device(small: Guest, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert target_kind(str(fifo)) is TargetKind.STREAM
    holder = os.open(fifo, os.O_RDWR)
    drain = _Drain(os.open(fifo, os.O_RDONLY))
    export(small.reader, str(fifo))
    os.close(holder)
    drain.join()
    assert drain.data == small.data
    export(small.reader, os.devnull)
    with pytest.raises(OSError, match="No space left") as caught:
        export(small.reader, "/dev/full")
    assert caught.value.filename == "/dev/full"


# -- block devices ---------------------------------------------------------


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A loop device of 5 MiB that holds other bytes, and its file."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xee" * (5 * MIB))
    device = quiet("losetup", "--find", "--show", disk).strip()
    yield device, disk
    quiet("losetup", "-d", device)


@pytest.mark.loop
@pytest.mark.parametrize("filling", FILLINGS)
def test_a_device_gets_every_byte_and_no_more(loop: tuple[str, Path], filling: Filling) -> None:
    for name in ("patchy", "small-groups-and-a-tail", "empty", "holes-at-both-ends"):
        guest = _opened(IMAGES[name]())
        device, disk = loop
        disk.write_bytes(b"\xee" * (5 * MIB))
        quiet("blockdev", "--flushbufs", device)
        size = len(guest.data)
        assert size < 5 * MIB or name == "holes-at-both-ends"
        if size > 5 * MIB:
            with pytest.raises(TargetError, match=rf"has 5242880 bytes, but the image has {size}"):
                export(guest.reader, device, filling, force=True)
            continue
        export(guest.reader, device, filling, force=True)
        with open(device, "rb") as file:
            data = file.read()
        assert data[:size] == guest.filled(filling.byte)
        assert set(data[size:]) == {0xEE}


@pytest.mark.loop
def test_the_kernel_zeroes_what_it_can(
    loop: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, disk = loop
    present = [False] * 3 + [True] + [False] * 800 + [True] + [False] * 300
    guest = _opened(patchy(9, present=present))
    for works in (True, False):
        if not works:
            monkeypatch.setattr(exporting, "_BLKZEROOUT", 0)
        export(guest.reader, device, force=True)
        # Only the device's file tells how the zeros came there; asked before it is read.
        zeroed = MIB not in range(*data_ranges(disk)[0])
        assert zeroed is works
        assert disk.read_bytes()[: len(guest.data)] == guest.data
        disk.write_bytes(b"\xee" * (5 * MIB))


@pytest.mark.loop
def test_a_device_in_use_is_left_alone(
    loop: tuple[str, Path], small: Guest, tmp_path: Path
) -> None:
    device, disk = loop
    with pytest.raises(TargetError, match="is a block device: --force writes over all"):
        export(small.reader, device)
    quiet("mkfs.ext2", "-q", device)
    before = disk.read_bytes()
    point = tmp_path / "point"
    point.mkdir()
    quiet("mount", "-o", "ro", device, point)
    try:
        with pytest.raises(TargetBusyError, match="is mounted or in use"):
            export(small.reader, device, force=True)
    finally:
        quiet("umount", point)
    assert disk.read_bytes() == before


# -- the parts -------------------------------------------------------------


def test_windows_are_cut_where_they_should() -> None:
    ranges = [(0, 3), (5, 25), (27, 28), (41, 42)]
    assert list(plan_windows(ranges, 10)) == [
        [(0, 3), (5, 10)],
        [(10, 20)],
        [(20, 25), (27, 28)],
        [(41, 42)],
    ]
    assert list(plan_windows([], 10)) == []


def test_neighbours_are_merged(guest: Guest) -> None:
    extents = list(guest.reader.extents(0, guest.reader.size))
    joined = list(merged(extents))
    check_cover(joined, 0, guest.reader.size)
    assert all(one.kind is not two.kind for one, two in itertools.pairwise(joined))
    offsets = {extent.start: extent.offset for extent in extents}
    assert all(extent.offset == offsets[extent.start] for extent in joined)
    assert list(merged([])) == []


def test_few_buffers_go_round(guest: Guest) -> None:
    seen: set[int] = set()
    with readahead.ReadAhead(guest.reader) as windows:
        for window in windows:
            assert (
                window.offset // WINDOW_SIZE
                == (window.offset + len(window.view) - 1) // WINDOW_SIZE
            )
            seen.add(id(window.view.obj))
    assert len(seen) <= 4


def test_what_lies_beside_a_lost_part_is_rescued_and_each_byte_lost_once(tmp_path: Path) -> None:
    """Parts that begin where no page does, all within a piece that is read at once."""

    def cannot_be_opened() -> ImageReader:
        raise UnreadablePartError("sda1", 0, "is gone")

    borders = 0, 22_016, 124_416, 160_000
    before, after = os.urandom(borders[1]), os.urandom(borders[3] - borders[2])
    parts = [Literal.of(before), Child("sda1", cannot_be_opened), Literal.of(after)]
    slices = [
        Slice(start, stop, part, 0)
        for start, stop, part in zip(borders, borders[1:], parts, strict=False)
    ]
    lost: list[Lost] = []
    out = tmp_path / "out"
    export(ComposedReader(borders[3], slices), str(out), rescue=lost.append)
    assert out.read_bytes() == before + bytes(borders[2] - borders[1]) + after
    assert [(each.start, each.stop) for each in lost] == [(borders[1], borders[2])]
