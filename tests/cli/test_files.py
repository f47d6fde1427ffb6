"""files, cat, cp and tar: in every container, for every kind of token, and what they say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.clonezilla_writer import Part, write_directory
from support.files_inside import loop_mounted
from support.program import COMMAND
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

PHOTO = b"one photo of a beach\n" * 4000
ODD = b"line\nfeed\x1b[31m\xff"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 with a photo in it."""
    place = tmp_path_factory.mktemp("volume")
    content = place / "content"
    (content / "home" / "anna").mkdir(parents=True)
    (content / "home" / "anna" / "beach.jpg").write_bytes(PHOTO)
    os.symlink("anna/beach.jpg", content / "home" / "photo")
    os.symlink("../../../../../etc/passwd", content / "home" / "out")
    with open(os.path.join(os.fsencode(content), ODD), "wb") as opened:
        opened.write(b"odd")
    raw = place / "root.raw"
    raw.touch()
    os.truncate(raw, 24 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, raw)
    return raw


def _partclone(volume: Path, place: Path) -> tuple[Path, str]:
    image = place / "root.img"
    quiet("partclone.extfs", "-c", "-s", volume, "-o", image, "-L", place / "log")
    return image, "root"


def _packed(volume: Path, place: Path, *command: str) -> tuple[Path, str]:
    image, _name = _partclone(volume, place)
    quiet(*command, image)
    (packed,) = (path for path in place.iterdir() if path.name.startswith("root.img."))
    image.unlink(missing_ok=True)
    return packed, "root"


def _gzip(volume: Path, place: Path) -> tuple[Path, str]:
    return _packed(volume, place, "gzip")


def _zstd(volume: Path, place: Path) -> tuple[Path, str]:
    return _packed(volume, place, "zstd", "-q", "--rm")


def _xz(volume: Path, place: Path) -> tuple[Path, str]:
    return _packed(volume, place, "xz")


def _raw(volume: Path, place: Path) -> tuple[Path, str]:
    return shutil.copy(volume, place / "root.dd"), "root"


def _disk(volume: Path, place: Path) -> Path:
    disk = place / "disk.dd"
    disk.touch()
    os.truncate(disk, 32 * MIB)
    quiet("sh", "-c", f"echo '2048,49152,L' | sfdisk -q '{disk}'")
    data = volume.read_bytes()
    with disk.open("r+b") as opened:
        opened.seek(MIB)
        opened.write(data)
    return disk


def _qcow2(volume: Path, place: Path) -> tuple[Path, str]:
    image = place / "vm.qcow2"
    quiet("qemu-img", "convert", "-c", "-O", "qcow2", _disk(volume, place), image)
    return image, f"{image.name}.p1"


def _vhd(volume: Path, place: Path) -> tuple[Path, str]:
    image = place / "vm.vhd"
    quiet("qemu-img", "convert", "-O", "vpc", _disk(volume, place), image)
    return image, f"{image.name}.p1"


CONTAINERS = {
    "partclone": _partclone, "gzip": _gzip, "zstd": _zstd, "xz": _xz, "raw": _raw,
    "qcow2": _qcow2, "vhd": _vhd,
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_one_file_out_of_every_container(
    program: Program, volume: Path, tmp_path: Path, container: str
) -> None:
    place = tmp_path / "images"
    place.mkdir()
    path, name = CONTAINERS[container](volume, place)
    # Straight from the file first: the catalog is not even made.
    straight = f"{path}.p1" if ".p" in name else str(path)
    into = tmp_path / "photo"
    program.run("cp", f"{straight}:/home/anna/beach.jpg", into)
    assert into.read_bytes() == PHOTO
    assert not program.catalog.exists()
    program.run("add", path)
    assert program.run("cat", f"{name}:/home/anna/beach.jpg").stdout.encode() == PHOTO
    assert program.run("cat", f"{name}:/home/photo").stdout.encode() == PHOTO
    assert program.run("files", f"{name}:/home").stdout.split() == ["anna/", "out", "photo"]
    (entry,) = program.json("files", f"{name}:/home/anna")
    assert (entry["path"], entry["size"], entry["type"]) == ("beach.jpg", len(PHOTO), "file")


@pytest.mark.fuse
@pytest.mark.loop
def test_a_mount_shows_the_files_in_every_container(
    program: Program, volume: Path, tmp_path: Path
) -> None:
    names = {}
    for container, save in CONTAINERS.items():
        place = tmp_path / container
        place.mkdir()
        path, name = save(volume, place)
        partition = name.removeprefix(path.name) if ".p" in name else ""
        program.run("add", "--name", container, path)
        names[container] = container + partition
    parts = (Part("ext4", 24 * MIB, compression="zst"),)
    saved = write_directory(tmp_path, parts, label="gpt", size=40 * MIB, image_name="laptop")
    program.run("add", saved.directory)
    mount = program.mount_all(tmp_path / "all", "--files")
    for name in names.values():
        top = mount / "files" / name
        assert (top / "home" / "anna" / "beach.jpg").read_bytes() == PHOTO, name
        assert (top / os.fsdecode(ODD)).read_bytes() == b"odd"
        assert os.readlink(top / "home" / "photo") == "anna/beach.jpg"
    with loop_mounted(saved.partitions["sda1"].raw, tmp_path / "mount", "ro") as original:
        quiet("diff", "-r", original, mount / "files" / "laptop" / "sda1")


@pytest.mark.parametrize("saver", ["partclone", "dd"])
def test_partitions_of_a_clonezilla_directory(
    program: Program, volume: Path, tmp_path: Path, saver: str
) -> None:
    parts = (Part("ext4", 24 * MIB, saver=saver),)
    saved = write_directory(tmp_path, parts, label="gpt", size=40 * MIB, image_name="laptop")
    program.run("add", saved.directory)
    listed = program.run("files", "-R", "laptop/sda1").stdout.splitlines()
    names = [each for each in listed if not each.endswith("/") and each != "/lost+found"]
    assert names
    model = saved.partitions["sda1"].raw
    for name in names[:3]:
        found = program.run("cat", f"laptop/sda1:{name}").stdout
        assert found == program.run("cat", f"{model}:{name}").stdout
    told = program.run("files", "laptop/sda.disk", code=4).stderr
    assert "it has partitions, and files are in those: laptop/sda1" in told


def test_names_are_escaped_and_typed_so(program: Program, volume: Path) -> None:
    program.run("add", volume)
    listed = program.run("files", "root").stdout
    assert "line\\x0afeed\\x1b[31m\\xff" in listed.splitlines()
    assert "\x1b" not in listed
    assert program.run("cat", "root:/line\\x0afeed\\x1b[31m\\xff").stdout == "odd"
    assert program.run("cat", os.fsencode("root:/") + ODD).stdout == "odd"
    told = program.run("files", os.fsencode("root:/") + ODD + b"x", code=3).stderr
    assert "\x1b" not in told


def test_links_stay_inside(program: Program, volume: Path) -> None:
    program.run("add", volume)
    told = program.run("cat", "root:/home/out", code=3).stderr
    assert "No such file" in told
    long = program.run("files", "-l", "root:/home").stdout
    assert "out -> ../../../../../etc/passwd" in long


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("cat", "root:/nothing"), 3, "No such file"),
        (("cat", "root:/home/anna/beach.jpg/x"), 3, "Not a directory"),
        (("cat", "root:/home"), 2, "is a directory: `imgcat files` lists it"),
        (("cat", "root"), 2, "names no file"),
        (("cat", "unknown:/x"), 3, "no image in the catalog"),
        (("files", "unknown"), 3, "no image in the catalog"),
        (("files", ":/x"), 2, "names no image"),
        (("cp", "root:/home", "out"), 2, "is a directory: use -r"),
        (("cp", "root:/home/photo"), 2, "two at the least"),
        (("cp", "root:/a", "root:/b", "nowhere"), 2, "is no directory"),
    ],
)
def test_what_is_said_of_mistakes(
    program: Program, volume: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    program.run("add", volume)
    result = program.run(*arguments, code=code)
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_an_image_without_contents_lists_and_gives_none(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 32 * MIB)
    quiet("mkfs.ntfs", "-q", "-F", "-f", raw)
    (tmp_path / "large").write_bytes(os.urandom(100_000))
    quiet("ntfscp", "-f", "-q", raw, tmp_path / "large", "large")
    image = tmp_path / "meta.img"
    quiet("ntfsclone", "--metadata", "--save-image", "-f", "-O", image, raw)
    program.run("add", image)
    assert "large" in program.run("files", "meta").stdout.splitlines()
    told = program.run("cat", "meta:/large", code=4).stderr
    assert "has no contents of files" in told


def test_several_sources_of_which_one_is_bad(
    program: Program, volume: Path, tmp_path: Path
) -> None:
    program.run("add", volume)
    into = tmp_path / "into"
    into.mkdir()
    places = ("root:/nothing", "root:/home/anna/beach.jpg")
    told = json.loads(program.run("cp", "--json", *places, into, code=3).stdout)
    assert [each["files"] for each in told["sources"]] == [0, 1]
    assert told["exit_code"] == 3
    assert (into / "beach.jpg").read_bytes() == PHOTO


def anyhow(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=program.environment, capture_output=True, check=False,
        encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip


def test_a_pipe_that_is_closed_ends_an_archive(program: Program, volume: Path) -> None:
    """Not an error of each file that could not be written any more."""
    program.run("add", volume)
    reading, writing = os.pipe()
    process = program.start("tar", "root:/", stdout=writing)
    os.close(writing)
    os.close(reading)
    said = process.communicate()[1]
    assert process.returncode == 141
    assert said == b""


def test_bytes_that_are_missing_are_an_error_at_those_bytes(
    program: Program, volume: Path, tmp_path: Path
) -> None:
    """A file whose end is cut off with the image's: what is before it can be had."""
    image, name = _partclone(volume, tmp_path)
    size = image.stat().st_size
    os.truncate(image, size - 30_000)
    program.run("add", image, code=5)
    listed = anyhow(program, "files", "-R", name)
    assert listed.returncode in {0, 5}
    assert "Traceback" not in listed.stderr
    whole = 0
    for line in listed.stdout.splitlines():
        if not line.endswith("/"):
            done = anyhow(program, "cat", f"{name}:{line}")
            assert done.returncode in {0, 3, 5}, done.stderr
            assert "Traceback" not in done.stderr
            if not done.returncode:
                whole += 1
                # The odd one holds three letters, all others are the photo.
                assert done.stdout in {PHOTO.decode(), "odd"}
    assert whole < 4
