"""A walk tells in short what listing every directory tells, also of what is damaged."""

from __future__ import annotations

import random
import stat
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.filesystems.volume import Volume
from imgcat.filesystems.worker.wire import moment
from imgcat.formats.errors import FormatError
from support.files_inside import volume_in
from support.ntfs import grow, make, ntfs_3g
from support.volumes import MIB, quiet
from support.with_hole import WithHole

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.filesystems.walking import WalkedDirectory

Rows = dict[int, list[tuple[Any, ...]]]


def walked(volume: Volume, problems: list[str]) -> tuple[Rows, set[int]]:
    """Return what a walk tells of each directory, by its inode, and which it has not all of."""
    found: Rows = {}
    partly = set()
    inodes = [volume.root]
    for each in volume.walk(problems.append):
        inode = inodes[each.number]
        rows = found[inode] = _rows(each)
        inodes += [row[1] for row in rows if stat.S_ISDIR(row[4])]
        if not each.is_whole:
            partly.add(inode)
    return found, partly


def _rows(each: WalkedDirectory) -> list[tuple[Any, ...]]:
    columns = each.names, each.inodes, each.sizes, each.times, each.modes, each.flags
    return list(zip(*columns, strict=True))


def listed(volume: Volume, inode: int, problems: list[str]) -> list[tuple[Any, ...]]:
    """Return the same of a directory by its entries."""
    return [
        (each.name, each.inode, each.size, moment(each.times.modified), each.mode, each.flags)
        for each in volume.entries(inode, problems.append)
    ]


def compare(volume: Volume) -> tuple[int, int]:
    """Compare both of all directories; return how many rows there are, and how many problems."""
    rows = troubled = 0
    found, partly = walked(volume, [])
    for inode, expected in found.items():
        problems: list[str] = []
        try:
            entries = listed(volume, inode, problems)
        except (FormatError, FileNotFoundError, NotADirectoryError) as error:
            entries = []
            problems.append(str(error))
        assert expected == entries, inode
        # What has another name is walked once.
        assert inode in partly or not problems, problems
        rows += len(expected)
        troubled += len(problems)
    return rows, troubled


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NTFS with files of every kind, small enough to be damaged often."""
    place = tmp_path_factory.mktemp("ntfs")
    raw = place / "volume.raw"
    make(raw, size=64 * MIB)
    with ntfs_3g(raw, place / "mount") as mount:
        grow(mount, 7)
    return raw


@pytest.mark.fuse
def test_of_every_kind_of_file(ntfs: Path) -> None:
    with volume_in(ntfs) as volume:
        rows, troubled = compare(volume)
    assert rows > 1000
    assert not troubled


@pytest.mark.fuse
@pytest.mark.parametrize("times", [30, pytest.param(400, marks=pytest.mark.soak)])
def test_of_damaged_records_of_ntfs(ntfs: Path, times: int, tmp_path: Path) -> None:
    """Also records whose sectors hold together: nothing in them tells that they are wrong."""
    image = ntfs.read_bytes()
    records = [at for at in range(0, len(image), 1024) if image[at : at + 4] == b"FILE"]
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    counts, troubled = set(), 0
    for _number in range(times):
        damaged = bytearray(image)
        for _flip in range(300):
            # Behind the ends of its sectors; where its attributes are, mostly.
            at = generator.choice(records) + generator.randrange(
                4, generator.choice([56, 130, 400])
            )
            damaged[at] ^= 1 << generator.randrange(8)
        path = tmp_path / "damaged.raw"
        path.write_bytes(damaged)
        try:
            with volume_in(path, as_is=True) as volume:
                rows, problems = compare(volume)
        except FormatError:
            # Its own files are told of by records too.
            continue
        counts.add(rows)
        troubled += problems
    print(f"{times} volumes: {sorted(counts)} rows, {troubled} problems")
    assert len(counts) > 5
    assert troubled > times


@pytest.mark.fuse
def test_of_records_that_are_missing(ntfs: Path) -> None:
    """What the library has zeros for is not told of by what it says."""
    image = ntfs.read_bytes()
    records = [at for at in range(0, len(image), 1024) if image[at : at + 4] == b"FILE"]
    troubled = 0
    for at in records[100::250]:
        volume = Volume(WithHole(image, range(at, at + 3000)), as_is=True)  # type: ignore[arg-type]
        troubled += compare(volume)[1]
        volume.close()
    assert troubled


@pytest.mark.parametrize("options", [("-O", "^metadata_csum"), ("-t", "ext2")])
def test_of_damaged_inodes_of_ext(options: tuple[str, ...], tmp_path: Path) -> None:
    content, path = tmp_path / "content", tmp_path / "volume.raw"
    for number in range(300):
        above = content / f"directory {number // 10}"
        above.mkdir(parents=True, exist_ok=True)
        (above / f"file {number}").write_bytes(b"x" * number)
    quiet("mke2fs", "-q", "-F", "-b", "1024", *options, "-d", content, path, "4M")
    image = path.read_bytes()
    used = [at for at in range(0, len(image), 128) if 3 < len(set(image[at : at + 128])) < 120]
    generator = random.Random(3)
    counts, troubled = set(), 0
    for _number in range(10):
        damaged = bytearray(image)
        for _flip in range(60):
            damaged[generator.choice(used) + generator.randrange(128)] ^= generator.randrange(256)
        path.write_bytes(damaged)
        try:
            with volume_in(path, as_is=True) as volume:
                rows, problems = compare(volume)
        except FormatError:
            continue
        counts.add(rows)
        troubled += problems
    assert len(counts) > 1
    assert troubled
