"""docs/usage.md and docs/files.md, run as they are: in a clean home, by root and by a user."""

from __future__ import annotations

import errno
import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clonezilla_writer import Part, write_directory
from support.months import write_months
from support.program import COMMAND, wait_until
from support.somebody import OWN_FUSE, READS_ALL
from support.strangers import NOBODY, open_directory
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "usage.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE + (DOCS / "files.md").read_text(), re.DOTALL)
NEEDS_ROOT = re.compile(r"^(losetup|mount -o|umount) ")
NEEDS_A_DISK = re.compile(r"/dev/sdb")
"""What would write to a disk of this machine, or to another machine's."""

PHOTO = b"one photo of a beach\n" * 4000


@pytest.fixture(scope="module")
def world() -> Iterator[Path]:
    """What the page speaks of: /home and /mnt, as they would be."""
    with open_directory() as place:
        anna = place / "home" / "anna"
        content = place / "saved" / "content"
        (content / "home" / "anna").mkdir(parents=True)
        (content / "home" / "anna" / "beach.jpg").write_bytes(PHOTO)
        parts = (Part("raw", 3 * MIB, saver="dd"), Part("ext4", 24 * MIB))
        saved = write_directory(
            place / "saved", parts, label="gpt", size=40 * MIB, image_name="laptop"
        )
        for where in ("home/anna/backups/laptop", "home/partimag/laptop-2026",
                      "home/partimag/2026-11-20-img"):  # fmt: skip
            shutil.copytree(saved.directory, place / where)
        volume = saved.partitions["sda2"].raw
        image = place / "saved" / "root.img"
        quiet("partclone.extfs", "-c", "-s", volume, "-o", image, "-L", place / "saved" / "log")
        (place / "mnt" / "nas" / "hosts" / "beta").mkdir(parents=True)
        shutil.copy(image, place / "mnt" / "nas" / "hosts" / "beta" / "sda1.img")
        for name in ("root.img", "home.img", "sda1.img", "sda5.img"):
            shutil.copy(image, anna / name)
        write_months(place / "saved" / "months", anna, photo=PHOTO)
        (place / "mnt" / "root").mkdir()
        quiet("zstd", "-q", saved.disk, "-o", anna / "sda.dd.zst")
        quiet("qemu-img", "convert", "-O", "qcow2", saved.disk, anna / "vm.qcow2")
        program = place / "home" / "bin" / "imgcat"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        yield place


SEED = """
mkdir .local
imgcat add -q root.img home.img sda1.img vm.qcow2
imgcat add -q --prefix 2025-01 sda5.img
imgcat add -q --name laptop-2025 backups/laptop
"""
INDEXED = "imgcat add -q --index may.img june.img\n"


@pytest.fixture(scope="module")
def seed(world: Path) -> Callable[[bool, bool], str]:
    """Return what gives a home the catalog that its blocks begin with; each is made once."""

    @functools.cache
    def made(as_root: bool, is_indexed: bool) -> str:
        kept = f"/home/kept/{'root' if as_root else 'user'}-{'indexed' if is_indexed else 'plain'}"
        (world / kept[1:]).parent.mkdir(exist_ok=True)
        script = f"{SEED}{INDEXED if is_indexed else ''}cp -a .local {kept}"
        done = run(world, script, as_root=as_root)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return f"cp -a {kept} .local\n"

    return made


def run(world: Path, script: str, *, as_root: bool) -> subprocess.CompletedProcess[str]:
    """Run a script in a home of its own, where /home and /mnt are those of the page."""
    home = world / "home" / "anna"
    for left in (".local", "images", "shelf.png", "over-time.png", "root.raw", "beach.jpg"):
        path = home / left
        if path.is_dir():
            # A daemon of the block before, whose mount was let go, may be ending still.
            wait_until(lambda gone=path: _remove(gone), f"{path} is removed", 30)
        else:
            path.unlink(missing_ok=True)
    owner = 0 if as_root else NOBODY
    quiet("chown", "-R", f"{owner}:{owner}", world)
    binds = 'mount --bind "$1/home" /home && mount --bind "$1/mnt" /mnt && shift && exec "$@"'
    spare = world / "dev"
    spare.mkdir(exist_ok=True)
    mine = () if as_root else ("sh", "-c", OWN_FUSE, "sh", str(spare), *READS_ALL)
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", binds, "sh", str(world), *mine,
         "sh", "-ec", f"cd\n{script}"],
        capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL,
        env={"HOME": "/home/anna", "PATH": "/home/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": "/home/anna/.local"},
    )  # fmt: skip


def _remove(directory: Path) -> bool:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return not directory.exists()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


@pytest.mark.parametrize("as_root", [True, False], ids=["root", "user"])
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(
    world: Path, seed: Callable[[bool, bool], str], number: int, as_root: bool
) -> None:
    lines = [line for line in BLOCKS[number].splitlines() if line and line[0] != "#"]
    assert any("imgcat" in line for line in lines), lines
    script = seed(as_root, bool(re.search(r"\b(may|june|history)\b", BLOCKS[number])))
    for line in lines:
        command = re.sub(r"\s+#.*$", "", line)
        if NEEDS_A_DISK.search(command):
            if not command.startswith("imgcat add"):
                continue
            command = command.replace("/dev/sdb", "")
        if NEEDS_ROOT.search(command) and not as_root:
            # The rest of a line may be a user's.
            command = command.partition(" && ")[2]
        script += f"{command}\n"
    script += "if mountpoint -q /mnt/images; then imgcat unmount --lazy /mnt/images; fi\n"
    done = run(world, script, as_root=as_root)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    for device in re.findall(r"^/dev/loop\d+$", done.stdout, re.MULTILINE):
        subprocess.run(["losetup", "-d", device], check=False)


def test_the_way_to_one_photo(world: Path) -> None:
    """What the page shows of it is what is printed, to the last character."""
    (session,) = (
        block for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) if "beach" in block
    )
    commands = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
    script = "mkdir .local\n" + "\n".join(f"echo '$ '{quoted(each)}\n{each}" for each in commands)
    done = run(world, f"{script}\nimgcat unmount images", as_root=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout == session
    assert (world / "home" / "anna" / "beach.jpg").read_bytes() == PHOTO


@pytest.mark.parametrize("title", ["## One file out of", "## One question to all"])
def test_the_sessions_of_the_readme(world: Path, title: str) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    section = readme.partition(title)[2]
    (session,) = re.findall(r"```console\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    commands = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
    script = "mkdir .local\n" + "\n".join(f"echo '$ '{quoted(each)}\n{each}" for each in commands)
    done = run(world, script, as_root=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout == session
    if "beach.jpg ." in commands[-1]:
        assert (world / "home" / "anna" / "beach.jpg").read_bytes() == PHOTO


def quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
