"""Volumes whose files are deleted, and their blocks used for others; what must be said of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from support.exfat import exfat_fuse
from support.files_inside import loop_mounted
from support.ntfs import ntfs_3g
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECTOR, _LARGEST_BLOCK = 512, 4096
PIECE = 65536
SIZES = (0, 1, 100, 1023, 4096, 5000, 65536, 70_001, 150_000)
_KEPT = 5
"""One file of so many is not deleted."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A file system.

    Attributes:
        name: how the test is called.
        size: bytes of the volume.
        mkfs: what makes it.
        mount: mounts it; None where mtools write it.
        deep: blocks, each behind a hole, of a file whose tree of extents is deep; 0 for none.
        can_allocate: it has unwritten extents and holes that are punched.
        can_trim: `fstrim` works on it.
    """

    name: str
    size: int
    mkfs: tuple[str, ...]
    mount: Callable[[Path, Path], Any] | None
    deep: int = 600
    can_allocate: bool = False
    can_trim: bool = False


KINDS = (
    Kind("ext2-1k", 96 * MIB, ("mkfs.ext2", "-q", "-F", "-b", "1024"), loop_mounted, 900,
         can_trim=True),
    Kind(
        "ext4-1k", 96 * MIB, ("mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "inline_data"),
        loop_mounted, 900, can_allocate=True, can_trim=True,
    ),
    Kind("ext4", 128 * MIB, ("mkfs.ext4", "-q", "-F", "-b", "4096"), loop_mounted, 2000,
         can_allocate=True, can_trim=True),
    Kind("xfs", 320 * MIB, ("mkfs.xfs", "-q", "-f", "-b", "size=1024"), loop_mounted, 2500,
         can_allocate=True, can_trim=True),
    Kind("ntfs", 128 * MIB, ("mkfs.ntfs", "-q", "-F", "-f"), ntfs_3g),
    Kind("exfat", 128 * MIB, ("mkfs.exfat",), exfat_fuse, 0),
    Kind("fat16", 96 * MIB, ("mkfs.vfat", "-F", "16"), None, 0),
    Kind("fat32", 72 * MIB, ("mkfs.vfat", "-F", "32", "-s", "1"), None, 0),
)  # fmt: skip


class Story:
    """A volume before and after files were deleted.

    Args:
        kind: the file system.
        place: a directory for all of it.
        count: files.
        seed: of what is random.

    Attributes:
        raw: the volume.
        before: a copy of it, as it was when all files were there.
        files: what each held then, by its path.
        new: what each held that was written later, by its path.
    """

    def __init__(self, kind: Kind, place: Path, count: int, seed: int) -> None:
        self.kind = kind
        self.raw, self.before = place / "volume.raw", place / "before.raw"
        self.files: dict[str, bytes] = {}
        self.new: dict[str, bytes] = {}
        self._place = place
        self._random = random.Random(seed)
        self._count = count
        with self.raw.open("wb") as file:
            file.truncate(kind.size)
        quiet(*kind.mkfs, self.raw)

    def bytes_of(self, size: int) -> bytes:
        """Return bytes that are nowhere else."""
        return self._random.randbytes(size)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount the volume."""
        assert self.kind.mount is not None
        with self.kind.mount(self.raw, self._place / "mount") as point:
            yield point

    # -- all files are there -----------------------------------------------------

    def fill(self) -> None:
        """Write the files."""
        if self.kind.mount is None:
            self._fill_by_mtools()
        else:
            with self.mounted() as top:
                self._fill_mounted(top)
        quiet("cp", "--sparse=always", self.raw, self.before)

    def _path(self, number: int) -> str:
        return f"d{number // 100:02d}/f{number:04d}"

    def _fill_by_mtools(self) -> None:
        content = self._place / "content"
        for number in range(self._count):
            data = self.bytes_of(self._random.choice(SIZES))
            path = content / self._path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.files[self._path(number)] = data
        # With holes of every size before them, later files are in pieces.
        directories = sorted(content.iterdir())
        half = len(directories) // 2
        quiet("mcopy", "-s", "-i", self.raw, *directories[:half], "::")
        gone = [path for path in self.files if path < directories[half].name][::3]
        self._delete_by_mtools(gone)
        for path in gone:
            del self.files[path]
        quiet("mcopy", "-s", "-i", self.raw, *directories[half:], "::")

    def _delete_by_mtools(self, paths: list[str]) -> None:
        for start in range(0, len(paths), 200):
            quiet("mdel", "-i", self.raw, *(f"::{path}" for path in paths[start : start + 200]))

    def _fill_mounted(self, top: Path) -> None:
        for number in range(self._count - 30):
            self._write(top, self._path(number), self.bytes_of(self._random.choice(SIZES)))
        os.sync()
        (top / "odd").mkdir()
        self._interleaved(top)
        if self.kind.deep:
            self._sparse(top, "odd/deep", self.kind.deep, 1024 if "1k" in self.kind.name else 4096)
        for number in range(5):
            self._sparse(top, f"odd/sparse{number}", 5, 70_000)
        if self.kind.can_allocate:
            self._allocated(top)

    def _write(self, top: Path, path: str, data: bytes) -> None:
        (top / path).parent.mkdir(exist_ok=True)
        (top / path).write_bytes(data)
        self.files[path] = data

    def _interleaved(self, top: Path) -> None:
        """Write files in turn, so that each is in pieces."""
        paths = [f"odd/pieces{number}" for number in range(8)]
        parts: dict[str, list[bytes]] = {path: [] for path in paths}
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context((top / path).open("wb", buffering=0)) for path in paths]
            for _turn in range(12):
                for path, file in zip(paths, opened, strict=True):
                    parts[path].append(self.bytes_of(self._random.choice((4096, 8192, 40_960))))
                    file.write(parts[path][-1])
                    os.fsync(file.fileno())
        self.files |= {path: b"".join(each) for path, each in parts.items()}

    def _sparse(self, top: Path, path: str, count: int, size: int) -> None:
        data = bytearray(2 * size * count)
        with (top / path).open("wb", buffering=0) as file:
            for number in range(count):
                part = self.bytes_of(size)
                start = (2 * number + 1) * size
                data[start : start + size] = part
                os.pwrite(file.fileno(), part, start)
        self.files[path] = bytes(data)

    def _allocated(self, top: Path) -> None:
        """Write into the middle of what is allocated, whose blocks hold old bytes."""
        for number in range(4):
            path = f"odd/allocated{number}"
            part = self.bytes_of(50_000)
            with (top / path).open("wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, 300_000)
                os.pwrite(file.fileno(), part, 100_000)
            self.files[path] = bytes(100_000) + part + bytes(150_000)

    # -- most are not ------------------------------------------------------------

    def ruin(self) -> None:
        """Delete most files, write others, change some in their places, and discard blocks."""
        paths = sorted(self.files)
        kept = set(paths[::_KEPT])
        gone = [path for path in paths if path not in kept]
        if self.kind.mount is None:
            self._delete_by_mtools(gone)
            self._write_new_by_mtools()
        else:
            with self.mounted() as top:
                for path in gone:
                    (top / path).unlink()
                quiet("sync", "-f", top)
                self._write_new(top)
                self._change(top, sorted(kept))
                quiet("sync", "-f", top)
                if self.kind.can_trim:
                    third = self.kind.size // 3
                    quiet("fstrim", "-o", third, "-l", third, top)
        if not self.kind.can_trim:
            self._discard(gone)

    def _new_ones(self) -> Iterator[tuple[str, bytes]]:
        left = int(self.kind.size * 0.3)
        number = 0
        while left > 0:
            data = self.bytes_of(self._random.choice((3000, 60_000, 200_000, 1_000_000)))
            left -= len(data)
            yield f"new{number}", data
            number += 1

    def _write_new(self, top: Path) -> None:
        for path, data in self._new_ones():
            (top / path).write_bytes(data)
            self.new[path] = data

    def _write_new_by_mtools(self) -> None:
        content = self._place / "new"
        content.mkdir()
        for path, data in self._new_ones():
            (content / path).write_bytes(data)
            self.new[path] = data
        quiet("mcopy", "-i", self.raw, *sorted(content.iterdir()), "::")
        shutil.rmtree(content)

    def _change(self, top: Path, kept: list[str]) -> None:
        large = [path for path in kept if len(self.files[path]) >= 3 * 4096]
        for path in large[:10]:
            with (top / path).open("r+b", buffering=0) as file:
                middle = len(self.files[path]) // 2
                os.pwrite(file.fileno(), bytes([self.files[path][middle] ^ 0xFF]), middle)
        if self.kind.can_allocate:
            for path in large[10:15]:
                subprocess.run(
                    ["fallocate", "--punch-hole", "-o", "4096", "-l", "4096", top / path],
                    check=True,
                )

    def _discard(self, gone: list[str]) -> None:
        """Discard blocks of files that were deleted, as a disk does that was told of them."""
        before = self.before.read_bytes()
        with self.raw.open("r+b", buffering=0) as file:
            for path in [each for each in gone if len(self.files[each]) >= PIECE][:40]:
                place = before.find(self.files[path][:4096])
                assert place >= 0
                data = os.pread(file.fileno(), 4096, place)
                if data == self.files[path][:4096]:
                    quiet(
                        "fallocate", "--punch-hole", "--keep-size", "-o", place, "-l", 4096,
                        self.raw,
                    )  # fmt: skip

    # -- what must be said ---------------------------------------------------------

    def check(self, outcomes: list[dict[str, Any]]) -> dict[str, int]:
        """Check what was said of each file, and what was written; return how many of each verdict.

        The bytes of each piece are compared with those of the file, where they lay: in the volume
        as it was, and as it is. Nothing is told by what the program has kept.
        """
        assert {each["path"][1:] for each in outcomes} == set(self.files)
        before, now = self.before.read_bytes(), self.raw.read_bytes()
        found: dict[str, int] = {}
        for each in outcomes:
            verdict, data = each["verdict"], self.files[each["path"][1:]]
            found[verdict] = found.get(verdict, 0) + 1
            bad = [_Range(**one) for one in each["ranges"]]
            for one in bad:
                assert (
                    before[one.place : one.place + one.stop - one.start]
                    == (data[one.start : one.stop])
                ), "it lay elsewhere"
                self._check_cause(one, now)
            for start, stop, place in _joined(bad):
                # No piece is said to be damaged that is not.
                for at in range(start, stop, PIECE):
                    behind = min(stop, at + PIECE)
                    there = place + at - start
                    assert now[there : there + behind - at] != data[at:behind], each
            self._check_output(each, verdict, data, bad)
        return found

    def _check_cause(self, one: _Range, now: bytes) -> None:
        there = now[one.place : one.place + one.stop - one.start]
        if one.cause == "reallocated":
            assert one.owner is not None
            path = one.owner[1:]
            owner = self.new.get(path, self.files.get(path, b""))
            # Neighbours in the volume may be far apart in the file; what is behind its end, in its
            # last block, is its own too.
            sectors = [there[at : at + _SECTOR] for at in range(0, len(there), _SECTOR)]
            others = sum(sector not in owner for sector in sectors)
            assert others * _SECTOR <= _LARGEST_BLOCK, one
        elif one.cause == "zeros":
            assert not any(there)
        else:
            assert one.cause == "changed"

    def _check_output(
        self, each: dict[str, Any], verdict: str, data: bytes, bad: list[_Range]
    ) -> None:
        if verdict == "verified":
            assert not bad
            with open(each["output"], "rb") as file:
                assert file.read() == data
            return
        assert bad
        causes = {one.cause for one in bad}
        if verdict == "zeroed":
            assert each["output"] is None
            assert causes == {"zeros"}
            return
        assert verdict in {"partial", "reallocated"}
        assert verdict == "partial" or "reallocated" in causes
        assert each["output"].endswith(".partial")
        with open(each["output"], "rb") as file:
            written = bytearray(file.read())
        assert len(written) == len(data)
        assert os.path.exists(each["output"] + ".map")
        for one in bad:
            if one.cause == "reallocated":
                assert not any(written[one.start : one.stop])
            written[one.start : one.stop] = data[one.start : one.stop]
        assert written == data, "bytes are wrong beside those that are said to be"


@dataclasses.dataclass(frozen=True)
class _Range:
    start: int
    stop: int
    place: int
    cause: str
    owner: str | None
    owner_inode: int | None


def _joined(ranges: list[_Range]) -> Iterator[tuple[int, int, int]]:
    """Yield ranges, those joined that lie behind each other."""
    found: tuple[int, int, int] | None = None
    for one in ranges:
        if found is not None:
            start, stop, place = found
            if stop == one.start and place + stop - start == one.place:
                found = (start, one.stop, place)
                continue
            yield found
        found = (one.start, one.stop, one.place)
    if found is not None:
        yield found
