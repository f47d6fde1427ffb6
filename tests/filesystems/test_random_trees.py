"""Trees at random, many of them: whatever lies in a volume is as another reader shows it.

Ten trees stand beside each other in each volume, grown and changed in turns, with others between
them that are gone again. Each has a seed of its own, which is printed; `TREES` in the environment
is a seed of the whole, to have the same trees again.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.exfat import exfat_fuse
from support.files_inside import HASH, Facts, digest, loop_mounted, of_mount, of_volume, volume_in
from support.ntfs import make as make_ntfs
from support.ntfs import ntfs_3g
from support.random_trees import (
    EXFAT,
    EXT,
    EXT_WITHOUT_MORE_TIME,
    FAT,
    NTFS,
    XFS,
    XFS_WITHOUT_MORE_TIME,
    RandomTree,
)  # fmt: skip
from support.volumes import MIB, quiet
from support.xfs import shown

if TYPE_CHECKING:
    from pathlib import Path

    from support.random_trees import Abilities

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

OF_A_VOLUME = 10
FEW = 3
MANY = 100

many = pytest.mark.parametrize(
    "volumes", [FEW, pytest.param(MANY, marks=pytest.mark.soak)], ids=lambda n: f"{n * OF_A_VOLUME}"
)


class Kept:
    """What is known of the trees that were tried.

    Args:
        kind: the file system.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.seed = int(os.environ.get("TREES", random.randrange(1 << 32)))
        self._next = self.seed
        self.trees = self.paths = 0
        self.differences: list[str] = []

    def volume(self, options: str) -> list[int]:
        """Return the seeds of the trees of one more volume, and print them."""
        seeds = list(range(self._next, self._next + OF_A_VOLUME))
        self._next += OF_A_VOLUME
        print(f"{self._kind} {options}: trees {seeds[0]} to {seeds[-1]}", flush=True)
        return seeds

    def compare(
        self,
        seeds: list[int],
        expected: dict[bytes, Facts],
        found: dict[bytes, Facts],
        problems: list[str],
    ) -> None:
        """Take note of what differs, tree by tree."""
        self.differences += [f"of {seeds[0]} to {seeds[-1]}: {each}" for each in problems]
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                here, there = expected.get(path) or {}, found.get(path) or {}
                self.differences += [
                    f"{path!r}: {key} is {here.get(key)!r:.200}, and was found to be"
                    f" {there.get(key)!r:.200}"
                    for key in sorted(here.keys() | there.keys())
                    if here.get(key) != there.get(key)
                ]
        tops = {path.partition(b"/")[0] for path in expected}
        assert {b"tree %d" % seed for seed in seeds} <= tops
        self.trees += len(seeds)
        self.paths += len(expected)

    def end(self) -> None:
        """Tell how many there were; none may differ."""
        print(
            f"{self.trees} trees of {self._kind}, {self.paths} paths, from {self.seed} on:"
            f" {len(self.differences)} differences", flush=True,
        )  # fmt: skip
        assert not self.differences[:20], "\n".join(self.differences[:20])
        assert self.paths > 15 * self.trees > 0


def live(top: Path, seeds: list[int], abilities: Abilities, *, packed: bool = False) -> None:
    """Let trees grow in turns, and others that are deleted between them.

    Args:
        top: of the volume.
        seeds: of the trees.
        abilities: of the file system.
        packed: let what is made later in some of their directories be compressed by NTFS.
    """
    generator = random.Random(seeds[0])
    here = os.fsencode(top)
    trees: list[RandomTree] = []
    for seed in seeds:
        gone = None
        if not generator.randrange(3):
            gone = RandomTree(os.path.join(here, b"gone"), seed + (1 << 40), abilities)
        trees.append(RandomTree(os.path.join(here, b"tree %d" % seed), seed, abilities))
        if gone is not None:
            subprocess.run(["rm", "-rf", gone.top], check=True)
        if packed:
            _pack_some(top / f"tree {seed}", generator)
        generator.choice(trees).age()
    for tree in trees:
        tree.age()
        tree.finish()


EXT2 = [
    "-b 1024", "-b 2048", "-b 4096", "-b 1024 -r 0", "-b 1024 -I 128", "-b 4096 -I 512",
    "-b 1024 -O ^dir_index", "-b 1024 -O ^sparse_super,^resize_inode", "-b 2048 -O ^filetype",
    "-b 1024 -O sparse_super2,^resize_inode", "-b 4096 -g 8192",
]  # fmt: skip
EXT3 = [
    "-b 1024", "-b 2048", "-b 4096", "-b 1024 -I 128", "-b 1024 -I 1024", "-b 4096 -O ^dir_index",
    "-b 1024 -g 1024", "-b 2048 -O ^filetype,^large_file", "-b 4096 -O ^resize_inode",
]  # fmt: skip
EXT4 = [
    "-b 1024", "-b 2048", "-b 4096", "-b 1024 -O inline_data", "-b 4096 -O inline_data",
    "-b 4096 -O inline_data -I 1024", "-b 1024 -I 128", "-b 1024 -O meta_bg,^resize_inode",
    "-b 1024 -O sparse_super2,meta_bg,^resize_inode", "-b 4096 -O ^64bit", "-b 4096 -O ea_inode",
    "-b 1024 -O ea_inode,large_dir,inline_data", "-b 4096 -O bigalloc -C 65536",
    "-b 1024 -O bigalloc -C 16384", "-b 2048 -O bigalloc,inline_data -C 8192",
    "-b 4096 -O ^filetype", "-b 1024 -O ^extent,^64bit", "-b 1024 -O ^flex_bg",
    "-b 4096 -O ^metadata_csum,uninit_bg", "-b 1024 -O metadata_csum_seed,mmp",
    "-b 4096 -O orphan_file,verity", "-b 4096 -O fast_commit",
    "-b 2048 -O ^huge_file,^dir_nlink,^extra_isize", "-b 1024 -O ^dir_index", "-b 1024 -g 1024",
]  # fmt: skip


@many
@pytest.mark.parametrize(("kind", "options"), [("ext2", EXT2), ("ext3", EXT3), ("ext4", EXT4)])
def test_ext_as_the_kernel_shows_it(
    kind: str, options: list[str], volumes: int, tmp_path: Path
) -> None:
    kept = Kept(kind)
    generator = random.Random(kept.seed)
    raw = tmp_path / "volume.raw"
    for _number in range(volumes):
        made = generator.choice(options)
        how = generator.choice(["", "nodelalloc"]) if kind == "ext4" else ""
        seeds = kept.volume(f"{made} {how}")
        raw.unlink(missing_ok=True)
        raw.touch()
        os.truncate(raw, 192 * MIB)
        quiet("mke2fs", "-q", "-F", "-t", kind, *made.split(), raw)
        has_more_time = "-I 128" not in made and "-r 0" not in made
        with loop_mounted(raw, tmp_path / "mount", how) as mount:
            live(mount, seeds, EXT if has_more_time else EXT_WITHOUT_MORE_TIME)
        with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
            expected = of_mount(mount, every_time=True)
        problems: list[str] = []
        with volume_in(raw) as volume:
            found = of_volume(volume, problems, every_time=True)
        kept.compare(seeds, expected, found, problems)
    kept.end()


# -- XFS ---------------------------------------------------------------------

XFS_OPTIONS = [
    "-b size=4096", "-b size=1024", "-b size=2048 -i size=1024", "-n size=8192", "-n size=65536",
    "-i size=2048", "-m reflink=0,rmapbt=0", "-m rmapbt=1", "-i sparse=0", "-m bigtime=0",
    "-m finobt=0,inobtcount=0",
]  # fmt: skip


@many
def test_xfs_as_the_kernel_shows_it(volumes: int, tmp_path: Path) -> None:
    kept = Kept("xfs")
    generator = random.Random(kept.seed)
    raw = tmp_path / "volume.raw"
    for _number in range(volumes):
        made = generator.choice(XFS_OPTIONS)
        seeds = kept.volume(made)
        raw.unlink(missing_ok=True)
        raw.touch()
        os.truncate(raw, 304 * MIB)
        quiet("mkfs.xfs", "-q", "-f", *made.split(), raw)
        abilities = XFS_WITHOUT_MORE_TIME if "bigtime=0" in made else XFS
        with loop_mounted(raw, tmp_path / "mount") as mount:
            live(mount, seeds, abilities)
        with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
            expected = shown(mount, every_time=True)
        problems: list[str] = []
        with volume_in(raw) as volume:
            found = of_volume(volume, problems, every_time=True)
        kept.compare(seeds, expected, found, problems)
    kept.end()


# -- NTFS --------------------------------------------------------------------

NTFS_OPTIONS = [
    "-c 512", "-c 1024", "-c 2048", "-c 4096", "-c 8192", "-c 16384", "-c 65536",
    "-c 4096 -s 4096", "-c 1024 -s 1024", "-c 4096 -z 1",
]  # fmt: skip


def _pack_some(top: Path, generator: random.Random) -> None:
    """Let what is made in some directories be compressed."""
    for above, directories, _files in os.walk(os.fsencode(top)):
        for name in directories:
            if not generator.randrange(3):
                path = os.path.join(above, name)
                os.setxattr(path, "system.ntfs_attrib", struct.pack("<I", 0x800))


@many
def test_ntfs_as_ntfs_3g_shows_it(volumes: int, tmp_path: Path) -> None:
    kept = Kept("ntfs")
    generator = random.Random(kept.seed)
    raw = tmp_path / "volume.raw"
    for _number in range(volumes):
        made = generator.choice(NTFS_OPTIONS)
        seeds = kept.volume(made)
        raw.unlink(missing_ok=True)
        make_ntfs(raw, *made.split(), size=192 * MIB)
        with ntfs_3g(raw, tmp_path / "mount") as mount:
            live(mount, seeds, NTFS, packed=True)
        with ntfs_3g(raw, tmp_path / "mount", "ro") as mount:
            expected = of_mount(mount, attributes=False, every_time=True)
            _add_what_ntfs_has(mount, expected)
        problems: list[str] = []
        with volume_in(raw) as volume:
            found = of_volume(volume, problems, attributes=False, every_time=True)
            for facts in found.values():
                facts["streams"] = {
                    name: digest(volume, facts["inode"], name)
                    for name, _size in volume.streams(facts["inode"])
                }
        for facts in (*expected.values(), *found.values()):
            # It has types, and no modes.
            facts["mode"] &= 0o170000
        kept.compare(seeds, expected, found, problems)
    kept.end()


def _add_what_ntfs_has(mount: Path, expected: dict[bytes, Facts]) -> None:
    """Add the times of each file as they are stored, and its other streams.

    Of times before 1970, `stat` has whole seconds only, and not always the right ones.
    """
    for name, facts in expected.items():
        path = os.path.join(os.fsencode(mount), name)
        times = struct.unpack("<4Q", os.getxattr(path, "system.ntfs_times", follow_symlinks=False))
        for key, ticks in zip(("created", "mtime", "atime", "ctime"), times, strict=True):
            facts[key] = (ticks - 116_444_736_000_000_000) * 100
        facts["streams"] = {
            os.fsencode(each).removeprefix(b"user."): HASH(
                os.getxattr(path, each, follow_symlinks=False)
            ).hexdigest()
            for each in os.listxattr(path, follow_symlinks=False)
        }


# -- exFAT -------------------------------------------------------------------

EXFAT_OPTIONS = ["-c 512", "-c 1K", "-c 2K", "-c 4K", "-c 16K", "-c 64K", "-c 256K"]


@many
def test_exfat_as_exfat_fuse_shows_it(volumes: int, tmp_path: Path) -> None:
    kept = Kept("exfat")
    generator = random.Random(kept.seed)
    raw = tmp_path / "volume.raw"
    for _number in range(volumes):
        made = generator.choice(EXFAT_OPTIONS)
        seeds = kept.volume(made)
        raw.unlink(missing_ok=True)
        raw.touch()
        os.truncate(raw, 256 * MIB)
        quiet("mkfs.exfat", *made.split(), raw)
        with exfat_fuse(raw, tmp_path / "mount") as mount:
            live(mount, seeds, EXFAT)
        with exfat_fuse(raw, tmp_path / "mount", "ro") as mount:
            expected = of_mount(mount, attributes=False, every_time=True)
        problems: list[str] = []
        with volume_in(raw) as volume:
            found = of_volume(volume, problems, attributes=False, every_time=True)
        for facts in (*expected.values(), *found.values()):
            # It has no modes, owners and links, and numbers that each reader makes for itself.
            facts["mode"] &= 0o170000
            for key in ("inode", "links", "uid", "gid", "ctime", "created"):
                facts.pop(key, None)
            for key in ("mtime", "atime"):
                # exfat-fuse leaves the hundredths of a second away.
                facts[key] //= 10**9
        kept.compare(seeds, expected, found, problems)
    kept.end()


# -- FAT ---------------------------------------------------------------------

FAT_OPTIONS = {
    12: [(8, "-s 4"), (15, "-s 8"), (30, "-s 16 -f 1"), (15, "-s 8 -r 1024"), (15, "-S 1024 -s 4")],
    16: [(16, "-s 1"), (40, "-s 4"), (120, "-s 16"), (40, "-s 4 -f 1 -R 64"), (40, "-S 2048 -s 1")],
    32: [(34, "-s 1"), (80, "-s 2"), (300, "-s 8"), (80, "-s 2 -f 1 -R 64"), (300, "-S 4096 -s 1")],
}  # fmt: skip


class Mtools:
    """A FAT in a file, written by mtools.

    Args:
        raw: the file.
        model: the directory whose paths are those in the volume too.
    """

    def __init__(self, raw: Path, model: Path) -> None:
        self._raw, self._model = raw, os.fsencode(model)
        self._environment = {**os.environ, "LANG": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}

    def run(self, command: str, *arguments: str | bytes | Path) -> None:
        done = subprocess.run(
            [command, "-i", self._raw, *arguments], env=self._environment, capture_output=True,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, (command, arguments, done.stderr)

    def inside(self, path: bytes) -> bytes:
        return b"::/" + os.path.relpath(path, self._model)

    def changed(self, how: str, path: bytes, onto: bytes) -> None:
        """Do to the volume what was done to the model."""
        if how == "deleted":
            self.run("mdel", self.inside(path))
        elif how == "renamed":
            # mmove fails where a directory must become longer.
            self.run("mcopy", "-s", "-m", onto, self.inside(onto))
            self.run("mdeltree", self.inside(path))
        else:
            self.run("mcopy", "-o", "-m", path, self.inside(path))


def _copy_in(volume: Mtools, model: Path, seeds: list[int]) -> None:
    """Let trees grow and change in a directory and in a volume."""
    generator = random.Random(seeds[0])
    here = os.fsencode(model)
    filler = model / "filler"
    filler.touch()
    os.truncate(filler, 2 * MIB)
    for number in range(2):
        volume.run("mcopy", filler, f"::/filler {number}")
    filler.unlink()
    trees: list[RandomTree] = []
    for number, seed in enumerate(seeds):
        top = os.path.join(here, b"tree %d" % seed)
        trees.append(RandomTree(top, seed, FAT, size=12, changed=volume.changed))
        trees[-1].finish()
        volume.run("mcopy", "-s", "-m", top, "::/")
        if number in {2, 6}:
            volume.run("mdel", f"::/filler {number // 4}")
        generator.choice(trees).age(steps=3)
    for tree in trees:
        tree.age(steps=2)


def _listed_by_7z(raw: Path) -> dict[bytes, Facts]:
    """Return types, sizes and times as 7-Zip tells them."""
    told = subprocess.run(
        ["7z", "l", "-slt", "-tFAT", "-sccUTF-8", raw], capture_output=True, check=True,
        env={**os.environ, "LANG": "C.UTF-8", "TZ": "UTC"},
    ).stdout  # fmt: skip
    found: dict[bytes, Facts] = {}
    for each in told.partition(b"\n----------\n")[2].strip().split(b"\n\n"):
        if not each.startswith(b"Path = "):
            # It counts its warnings: of a volume with one table only, one.
            continue
        row = dict(line.partition(b" = ")[::2] for line in each.split(b"\n"))
        is_directory = row[b"Folder"] == b"+"
        found[row[b"Path"]] = facts = {
            "mode": 0o040000 if is_directory else 0o100000,
            **{
                name: int(dt.datetime.fromisoformat(row[key].decode() + "+00:00").timestamp() * 100)
                for name, key in (
                    ("mtime", b"Modified"), ("atime", b"Accessed"), ("created", b"Created")
                )
            },
        }  # fmt: skip
        if not is_directory:
            facts["size"] = int(row[b"Size"])
    return found


@many
@pytest.mark.parametrize("bits", FAT_OPTIONS)
def test_fat_as_mtools_and_7zip_show_it(
    bits: int, volumes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    kept = Kept(f"FAT{bits}")
    generator = random.Random(kept.seed)
    raw, model, out = tmp_path / "volume.raw", tmp_path / "model", tmp_path / "out"
    for _number in range(volumes):
        size, made = generator.choice(FAT_OPTIONS[bits])
        seeds = kept.volume(f"{size} MiB {made}")
        for path in (model, out):
            subprocess.run(["rm", "-rf", path], check=True)
            path.mkdir()
        raw.unlink(missing_ok=True)
        raw.touch()
        os.truncate(raw, size * MIB)
        quiet("mkfs.vfat", "-F", bits, *made.split(), raw)
        volume_of_mtools = Mtools(raw, model)
        _copy_in(volume_of_mtools, model, seeds)
        quiet("fsck.fat", "-n", raw)
        for seed in seeds:
            volume_of_mtools.run("mcopy", "-s", "-m", f"::/tree {seed}", out)
        expected = _listed_by_7z(raw)
        copied, meant = of_mount(out, attributes=False), of_mount(model, attributes=False)
        assert copied.keys() == meant.keys()
        assert expected.keys() == meant.keys()
        for path, facts in copied.items():
            assert facts.get("hash") == meant[path].get("hash"), path
            if "hash" in facts:
                expected[path]["hash"] = facts["hash"]
        problems: list[str] = []
        with volume_in(raw) as volume:
            found = of_volume(volume, problems, attributes=False, every_time=True)
        for facts in found.values():
            facts["mode"] &= 0o170000
            for key in ("inode", "links", "uid", "gid", "ctime"):
                del facts[key]
            for key in ("mtime", "atime", "created"):
                facts[key] //= 10**7
        kept.compare(seeds, expected, found, problems)
    kept.end()
