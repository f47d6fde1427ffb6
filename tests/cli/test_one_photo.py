"""One photo out of a backup, as root and without: each command that `show` prints, tried."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support.clonezilla_writer import Part, SavedDisk, write_directory
from support.partclone_writer import Recipe, write
from support.somebody import run_as_somebody
from support.strangers import open_directory
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program

pytestmark = pytest.mark.fuse

PHOTO = "file3.txt"
KINDS = {"sda1": "vfat", "sda2": "ext4", "sda3": "ntfs"}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> SavedDisk:
    """A disk of Clonezilla, gzip and zstd, with the same photo on each of its partitions."""
    parts = (
        Part("vfat", 40 * MIB, compression="gz"),
        Part("ext4", 48 * MIB, split=200_000),
        Part("ntfs", 32 * MIB),
    )
    where = tmp_path_factory.mktemp("saved")
    where.chmod(0o755)
    saved = write_directory(where, parts, label="gpt", image_name="laptop")
    # One more, for what there is no partition of: with subvolumes, and extents of its own.
    btrfs = where / "pool.raw"
    quiet("truncate", "-s", "128M", btrfs)
    quiet("mkfs.btrfs", "-q", "--rootdir", where / "content", btrfs)
    return saved


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can reach."""
    with open_directory() as place:
        yield place


@pytest.fixture
def photo(laptop: SavedDisk) -> bytes:
    return (laptop.directory.parent / "content" / PHOTO).read_bytes()


def filled_in(command: str, mount: Path, place: Path) -> str:
    """Put a user's own paths into a command that `show` has printed."""
    for word, path in (("DIR", mount), ("TO", place / "to"), ("OUT", place / "out")):
        command = f" {command} ".replace(f" {word} ", f" {path} ").strip()
        command = command.replace(f" {word}/", f" {path}/").replace(f"-o{word}", f"-o{path}")
        command = command.replace(f" {word}'", f" {path}'")
    return command.replace("PATH", PHOTO)


def found_in(place: Path, photo: bytes) -> list[Path]:
    """Return the files below a directory that are the photo."""
    files = (each for each in place.rglob("*") if each.is_file())
    return [each for each in files if each.read_bytes() == photo]


STORY = """
imgcat add -q "$1" "$2"
mkdir -p images to
imgcat mount-all images
trap 'imgcat unmount images' EXIT
imgcat show --json "$3" > shown.json
"""


KEEP = """
mkdir kept
cp -r to/. kept
if mountpoint -q to; then fusermount3 -u to; fi
cd
"""


def test_without_root(laptop: SavedDisk, photo: bytes, open_place: Path) -> None:
    """As a user: the Clonezilla disk and a btrfs, by every command that needs no root."""
    for number, name in enumerate(("laptop/sda1", "laptop/sda2", "laptop/sda3", "pool")):
        home = open_place / f"home{number}"
        extra = laptop.directory.parent / "pool.raw"
        shown = shown_to_somebody(home, laptop.directory, extra, name)
        ways = [way for way in shown["routes"] if not way["root"]]
        assert all(way["missing"] is None for way in ways), ways
        assert shown["mounted"] == str(home / "images" / name)
        places = [home / f"place{way}" for way in range(len(ways))]
        script = f"{STORY}set -x"
        for way, place in zip(ways, places, strict=True):
            (place / "to").mkdir(parents=True)
            command = filled_in(way["command"], home / "images", place)
            # What mounts at `to` goes again, and 7z takes out to where one is.
            said = "" if ">" in command else " > said"
            script += f"\ncd {shlex.quote(str(place))}\n{command}{said}\n{KEEP}"
        done = run_as_somebody(home, script, laptop.directory, extra, name)
        assert done.returncode == 0, (done.stdout, done.stderr)
        tried = set()
        for way, place in zip(ways, places, strict=True):
            tried.add(way["purpose"])
            if way["purpose"] in {"mount", "copy one", "copy all"}:
                assert found_in(place, photo), way["command"]
            elif way["purpose"].startswith("list"):
                listed = (place / "said").read_text(errors="replace").lower()
                # The short names of FAT have their ending apart.
                assert PHOTO in listed or "file3    txt" in listed, way["command"]
        assert {"check", "copy one"} <= tried or {"check", "copy all"} <= tried


def shown_to_somebody(home: Path, *arguments: object) -> dict[str, Any]:
    done = run_as_somebody(home, STORY, *arguments)
    assert done.returncode == 0, (done.stdout, done.stderr)
    shown: dict[str, Any] = json.loads((home / "shown.json").read_text())
    return shown


def test_a_user_is_told_what_root_needs(laptop: SavedDisk, open_place: Path) -> None:
    """What a user has mounted, root cannot look into: root mounts the user's catalog itself."""
    extra = laptop.directory.parent / "pool.raw"
    home = open_place / "home"
    shown = shown_to_somebody(home, laptop.directory, extra, "laptop/sda2")
    first, second = (way["command"] for way in shown["routes"] if way["root"])
    catalog = home / ".local" / "share" / "imgcat" / "catalog.db"
    assert first == f"imgcat --db {catalog} mount --trust-catalog laptop/sda2 DIR"
    assert second == "mount -t ext4 -o loop,ro,noload DIR/laptop/sda2 /mnt"
    done = run_as_somebody(home, "imgcat doctor || true")
    assert "echo user_allow_other | sudo tee -a /etc/fuse.conf" in done.stdout
    assert f"sudo imgcat --db {catalog} mount-all --trust-catalog DIR" in done.stdout


def test_without_dev_fuse_it_says_so(laptop: SavedDisk, open_place: Path) -> None:
    if os.stat("/dev/fuse").st_mode & 0o006:
        pytest.skip("every user of this machine may open /dev/fuse")
    home = open_place / "home"
    script = 'imgcat add -q "$1"; mkdir m; imgcat mount-all m'
    done = run_as_somebody(home, script, laptop.directory, may_fuse=False)
    assert done.returncode == 8
    assert "/dev/fuse" in done.stderr
    # There is another way, which needs none.
    script = 'imgcat export laptop/sda2 sda2.raw && debugfs -R "dump /$1 out" sda2.raw'
    done = run_as_somebody(home, script, PHOTO, may_fuse=False)
    assert done.returncode == 0, done.stderr
    assert (home / "out").stat().st_size


def test_with_root(program: Program, laptop: SavedDisk, photo: bytes, tmp_path: Path) -> None:
    extra = laptop.directory.parent / "pool.raw"
    program.run("add", laptop.directory, extra)
    mount = program.mount_all(tmp_path / "images")
    with open("/proc/filesystems", encoding="ascii") as file:
        kernel = file.read().split()
    done = 0
    for name in ("laptop/sda1", "laptop/sda2", "laptop/sda3", "pool"):
        shown = program.json("show", name)
        assert shown["mounted"] == str(mount / name)
        (way,) = (way for way in shown["routes"] if way["root"])
        kind = shlex.split(way["command"])[2]
        if kind not in kernel and shutil.which(f"mount.{kind}") is None:
            continue
        done += 1
        assert mounted_photo(way["command"]) == photo
    assert done >= 3


def mounted_photo(command: str) -> bytes:
    """Run a command that mounts at /mnt, in a table of mounts of its own; return the photo."""
    script = f"{command} >&2 && cat /mnt/{PHOTO} && umount /mnt"
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], capture_output=True, check=False
    )
    assert result.returncode == 0, (command, result.stderr)
    return result.stdout


def test_a_disk_leads_to_its_partitions(
    program: Program, laptop: SavedDisk, photo: bytes, tmp_path: Path
) -> None:
    program.run("add", laptop.directory)
    program.mount_all(tmp_path / "images")
    ways = {way["purpose"]: way for way in program.json("show", "laptop/sda.disk")["routes"]}
    table = subprocess.run(
        ["sh", "-c", ways["its table"]["command"]], capture_output=True, text=True, check=True
    ).stdout
    assert table.count("Linux filesystem") + table.count("Microsoft basic data") >= 2
    assert mounted_photo(ways["mount partition 2"]["command"]) == photo
    assert mounted_photo(ways["mount partition 3"]["command"]) == photo
    assert ways["into partition 2"]["command"] == "imgcat show laptop/sda2"
    device = subprocess.run(
        ["sh", "-c", ways["partitions as devices"]["command"]], capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip
    try:
        if not os.path.exists(f"{device}p2"):
            # As `doctor` says it of a kernel that reads no partition tables, with what mends it.
            (note,) = (each for each in program.json("doctor") if "losetup" in each["what"])
            assert note["level"] == "note"
            assert note["mend"] == "partx -a /dev/loopN"
            subprocess.run(["partx", "-a", device], check=True)
        assert mounted_photo(f"mount -o ro,noload {device}p2 /mnt") == photo
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_nothing_is_told_that_cannot_work(program: Program, tmp_path: Path) -> None:
    volume = tmp_path / "volume.raw"
    quiet("truncate", "-s", "200M", volume)
    quiet("mkfs.ext4", "-q", "-F", volume)
    subprocess.run(["xz", "-T1", "-k", "-1", volume], check=True)
    program.run("add", "--name", "packed", "--format", "raw", f"{volume}.xz", code=4)
    (way,) = program.json("show", "packed")["routes"]
    assert way["command"] == "imgcat repack --replace packed packed.img.zst"
    program.run("add", "--name", "plain", volume)
    commands = [way["command"] for way in program.json("show", "plain")["routes"]]
    assert commands[:3] == [
        "imgcat files plain:/", "imgcat cp plain:/PATH OUT", "imgcat mount plain DIR"
    ]  # fmt: skip
    volume.write_bytes(volume.read_bytes()[:-512])
    (way,) = program.json("show", "plain")["routes"]
    assert way["command"] == "imgcat rescan plain"
    volume.unlink()
    assert program.json("show", "plain")["routes"] == []
    assert "To its files" not in program.run("show", "plain").stdout
    # Straight from a file, there is no catalog that it could be mounted from.
    (tmp_path / "x.img").write_bytes(write(Recipe(present=[True] * 60)).image)
    ways = program.json("show", tmp_path / "x.img")["routes"]
    assert ways[0]["command"] == f"imgcat mount {tmp_path}/x.img DIR"
