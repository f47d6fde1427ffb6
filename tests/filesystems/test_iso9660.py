"""ISO 9660 by every kind of names, as a kernel shows it."""

from __future__ import annotations

import os
import random
import stat
import struct
import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import RefusedError
from imgcat.formats.errors import CorruptImageError
from support.files_inside import digest, of_volume, volume_in
from support.trees import ODD_NAMES
from support.uml import in_uml
from support.volumes import quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.files_inside import Facts

SECTOR = 2048
TARGETS = (
    b"x", b"/", b"/etc/passwd", b"..", b"../..", "./a/../ü".encode(), b"y" * 200,
    b"a/" * 300 + b"b",
)  # fmt: skip

XORRISO = ("xorriso", "-as", "mkisofs", "-quiet")
GENISOIMAGE = ("genisoimage", "-quiet")
FEWER = ("-m", "one of many ???*")
"""Two thousand files take a kernel a while: once is enough."""

WITHOUT_LONG = ("-m", "symlink7", *FEWER)
"""genisoimage never ends over a link to so far."""

ROCK_RIDGE: dict[str, tuple[str, ...]] = {
    "genisoimage": (*GENISOIMAGE, *WITHOUT_LONG, "-R", "-cache-inodes"),
    "genisoimage-joliet": (*GENISOIMAGE, *WITHOUT_LONG, "-R", "-J", "-iso-level", "3",
                           "-m", "😀", "-m", "not utf*"),
    "genisoimage-4": (*GENISOIMAGE, *WITHOUT_LONG, "-R", "-iso-level", "4", "-l"),
    "xorriso": (*XORRISO, "-R", "-J", "-iso-level", "3"),
    "xorriso-1.12": (
        "xorriso", "-compliance", "new_rr:deep_paths_off:long_paths_off", "-as", "mkisofs",
        "-quiet", "-iso-level", "1", "-rr_reloc_dir", "/rr_moved", *FEWER,
    ),
    "xorriso-hardlinks": (*XORRISO, "--hardlinks", *FEWER),
}  # fmt: skip
PLAIN: dict[str, tuple[str, ...]] = {
    "1": (*GENISOIMAGE, "-iso-level", "1"),
    "2": (*GENISOIMAGE, *FEWER, "-iso-level", "2", "-allow-multidot", "-N"),
    "3": (*GENISOIMAGE, *FEWER, "-iso-level", "3", "-allow-lowercase", "-D"),
    "4": (*GENISOIMAGE, *FEWER, "-iso-level", "4"),
    "relaxed": (*GENISOIMAGE, *FEWER, "-U"),
}


def grow(top: Path, *, has_links: bool) -> None:
    """Fill a directory with what goes onto a disc."""
    generator = random.Random(9660)
    deep = top
    for level in range(12):
        deep = deep / f"level {level}"
        deep.mkdir(parents=True)
        (deep / "a File.text").write_bytes(generator.randbytes(level * 1000))
    many = top / "many"
    many.mkdir()
    for number in range(2000):
        (many / f"one of many {number}").write_bytes(b"%d" % number if number % 7 == 0 else b"")
    for number, size in enumerate([1, 2047, 2048, 2049, 300_000]):
        (top / f"FILE{number}.DAT").write_bytes(generator.randbytes(size))
    if not has_links:
        for name in ("ümläut", "日本語", "\U0001f600 smile", "two.dots.here", "a;b", "x" * 60):
            (top / name).write_text(name)
        return
    odd = top / "odd"
    odd.mkdir()
    for number, name in enumerate(ODD_NAMES):
        # Linux cuts longer names off.
        with open(os.fsencode(odd) + b"/" + name[:250], "wb") as opened:
            opened.write(name * number)
    for number, target in enumerate(TARGETS):
        os.symlink(target, os.fsencode(top) + b"/symlink%d" % number)
    os.link(top / "FILE4.DAT", top / "the same")
    os.mkfifo(top / "fifo", 0o640)
    # Of larger numbers, what xorriso writes means another device.
    os.mknod(top / "chr", 0o020600, os.makedev(4, 64))
    os.mknod(top / "blk", 0o060660, os.makedev(200, 70))
    for number, path in enumerate(sorted(top.iterdir())):
        if not path.is_symlink():
            path.chmod([0o600, 0o644, 0o4755, 0o777][number % 4])
        os.chown(path, number % 3 * 70_000, number % 2 * 100, follow_symlinks=False)
        seconds = [0, 1, 951782400, 1 << 31, 5_000_000_000][number % 5]
        os.utime(path, (seconds, seconds), follow_symlinks=False)


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("unix") / "content"
    grow(top, has_links=True)
    return top


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("dos") / "content"
    grow(top, has_links=False)
    return top


def made(command: tuple[str, ...], content: Path, place: Path, zone: str = "UTC") -> Path:
    """Return a disc."""
    raw = place / "disc.raw"
    raw.unlink(missing_ok=True)
    done = subprocess.run(
        [*command, "-o", raw, content], env={**os.environ, "TZ": zone}, capture_output=True,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return raw


def shown(images: list[Path], options: str, out: Path) -> list[dict[bytes, Facts]]:
    """Return what a kernel shows of discs."""
    return in_uml(images, f"iso9660:{options}", "support.files_inside:of_mount", out)


def read(raw: Path) -> dict[bytes, Facts]:
    """Return what is read, without any problem."""
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems)
    if raw.parent.name == "xorriso-hardlinks":
        # It keeps the numbers of files in attributes of its own.
        assert problems
        problems = [each for each in problems if "(AAIP) are not read" not in each]
    assert problems == []
    return found


def compare(found: dict[bytes, Facts], expected: dict[bytes, Facts], *, is_unix: bool) -> None:
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        for each in (facts, found[path]):
            # Each reader makes numbers of its own.
            del each["inode"]
            # Of a date, that kernel has 32 bits of seconds.
            each["mtime"] %= (1 << 32) * 10**9
            if not is_unix:
                # There are no modes and owners: a kernel has some for all.
                each["mode"] &= 0o170000
                for key in ("links", "uid", "gid"):
                    del each[key]
        assert found[path] == facts, path


def test_rock_ridge_is_what_a_kernel_shows(unix: Path, tmp_path: Path) -> None:
    images = []
    for number, (name, command) in enumerate(ROCK_RIDGE.items()):
        place = tmp_path / name
        place.mkdir()
        # Times are stored by the clock on the wall, and how far that is from UTC.
        images.append(
            made(command, unix, place, ["UTC", "Asia/Kolkata", "America/Caracas"][number % 3])
        )
    for image, expected in zip(images, shown(images, "", tmp_path / "out"), strict=True):
        assert len(expected) > 150, image
        links = sum(stat.S_ISLNK(each["mode"]) for each in expected.values())
        assert links >= len(TARGETS) - 1
        # Where its name leaves no room for more in its record, that kernel has a mode for all.
        for path in expected:
            if path.startswith(b"odd/aaa"):
                (source,) = (unix / "odd").glob("aaa*")
                expected[path]["mode"] = source.stat().st_mode
        compare(read(image), expected, is_unix=True)
    assert len(read(images[3])) > 2000


def test_joliet_is_what_a_kernel_shows(dos: Path, tmp_path: Path) -> None:
    images = []
    for name, command in {
        "genisoimage": (*GENISOIMAGE, "-J", "-joliet-long", "-D", "-m", "*smile"),
        "xorriso": (
            "xorriso",
            "-compliance",
            "joliet_utf16",
            "-rockridge",
            "off",
            "-as",
            "mkisofs",
            "-quiet",
            "-J",
            *FEWER,
        ),
    }.items():
        place = tmp_path / name
        place.mkdir()
        images.append(made(command, dos, place))
    for image, expected in zip(
        images, shown(images, "iocharset=utf8", tmp_path / "out"), strict=True
    ):
        assert any("日本語".encode() == path for path in expected)
        compare(read(image), expected, is_unix=False)


def test_plain_names_are_what_a_kernel_shows(dos: Path, tmp_path: Path) -> None:
    images = []
    for name, command in PLAIN.items():
        place = tmp_path / name
        place.mkdir()
        images.append(made(command, dos, place))
    for image, expected in zip(images, shown(images, "", tmp_path / "out"), strict=True):
        assert b"file0.dat" in expected
        compare(read(image), expected, is_unix=False)


def small(place: Path, command: tuple[str, ...], *names: str) -> Path:
    """Return a disc with a few files of 4 KiB."""
    content = place / "content"
    content.mkdir()
    generator = random.Random(1)
    for name in names:
        (content / name).write_bytes(generator.randbytes(4096))
    return made(command, content, place)


def record_of(image: bytearray, name: bytes) -> int:
    """Return where the directory record with a name begins."""
    return image.index(name, 17 * SECTOR) - 33


def test_a_file_of_several_sections(tmp_path: Path) -> None:
    """What is larger than 4 GiB has one record for each section of it."""
    raw = small(tmp_path, (*GENISOIMAGE,), "AAA", "AAB", "AAC")
    image = bytearray(raw.read_bytes())
    for number, name in enumerate([b"AAA.;1", b"AAB.;1", b"AAC.;1"]):
        at = record_of(image, name)
        image[at + 33 : at + 39] = b"AAA.;1"
        image[at + 25] = 0x80 if number < 2 else 0
    raw.write_bytes(image)
    (expected,) = shown([raw], "", tmp_path / "out")
    assert expected[b"aaa"]["size"] == 3 * 4096
    compare(read(raw), expected, is_unix=False)
    image[at + 33] = ord("B")
    raw.write_bytes(image)
    problems: list[str] = []
    with volume_in(raw) as volume:
        assert [each.name for each in volume.entries(0, problems.append)] == [b"baa"]
    assert "is not whole" in problems[0]


@pytest.mark.soak
@pytest.mark.parametrize("command", [GENISOIMAGE, XORRISO])
def test_a_file_of_more_than_four_gibibytes(command: tuple[str, ...], tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    with (content / "large").open("wb") as opened:
        for place in range(0, 4400 << 20, 100 << 20):
            opened.seek(place)
            opened.write(b"%d" % place)
    options = (
        "-R",
        "-iso-level",
        "3",
        *(("-allow-limited-size",) if command is GENISOIMAGE else ()),
    )
    raw = made((*command, *options), content, tmp_path)
    compare(read(raw), shown([raw], "", tmp_path / "out")[0], is_unix=True)


def test_compressed_files(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    generator = random.Random(2)
    for number, size in enumerate([0, 1, 32768, 100_000, 400_001]):
        data = b"".join(b"%d " % generator.randrange(1000) for _ in range(size // 3 + 1))[:size]
        (content / f"file{number}").write_bytes(data)
    (content / "zeros").write_bytes(bytes(200_000))
    raw = tmp_path / "disc.raw"
    quiet(
        "xorriso", "-outdev", raw, "-map", content, "/", "-set_filter_r", "--zisofs", "/", "--",
        "-end",
    )  # fmt: skip
    assert b"pz" in raw.read_bytes()
    (expected,) = shown([raw], "", tmp_path / "out")
    assert expected[b"file4"]["size"] == 400_001
    compare(read(raw), expected, is_unix=True)


def test_times_in_the_long_form(tmp_path: Path) -> None:
    """No program that makes discs writes them: they are put in the place of others here."""
    raw = small(tmp_path, (*GENISOIMAGE, "-R"), "file")
    image = bytearray(raw.read_bytes())
    at = image.index(b"TF", record_of(image, b"FILE"))
    assert image[at + 2] == 26
    image[at : at + 26] = (
        b"TF\x16\x01\x82" + b"2019010203040599" + struct.pack("b", -20) + b"PD\x04\x01"
    )
    raw.write_bytes(image)
    expected = datetime(2019, 1, 2, 3, 4, 5, 990_000, timezone(timedelta(hours=-5)))
    assert read(raw)[b"file"]["mtime"] == int(expected.timestamp() * 100) * 10**7


def _interleaved(image: bytearray) -> None:
    image[record_of(image, b"FILE") + 26] = 2


def _elsewhere(image: bytearray) -> None:
    image[record_of(image, b"FILE") + 28] = 2


def _sparse(image: bytearray) -> None:
    at = image.index(b"TF", record_of(image, b"FILE"))
    image[at : at + 26] = b"SF\x15\x01" + bytes(17) + b"PD\x05\x01\0"


REFUSED: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "interleaved": (_interleaved, "it is interleaved, which is not read"),
    "another volume": (_elsewhere, "it is on volume 2 of a set"),
    "sparse": (_sparse, "it is sparse"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_that_are_refused_by_name(what: str, tmp_path: Path) -> None:
    change, message = REFUSED[what]
    raw = small(tmp_path, (*GENISOIMAGE, "-R"), "file", "other")
    image = bytearray(raw.read_bytes())
    change(image)
    raw.write_bytes(image)
    with volume_in(raw) as volume:
        by_name = {each.name: each for each in volume.entries()}
        with pytest.raises(RefusedError, match=message):
            volume.content(by_name[b"file"].inode)
        assert digest(volume, by_name[b"other"].inode)


def test_a_disc_that_is_cut_off(tmp_path: Path) -> None:
    raw = small(tmp_path, (*GENISOIMAGE, "-R", "-no-pad"), "first", "second")
    os.truncate(raw, raw.stat().st_size - 2048)
    with volume_in(raw) as volume:
        names = {each.name: each for each in volume.entries()}
        assert digest(volume, names[b"first"].inode)
        with pytest.raises(CorruptImageError, match="not inside of the volume"):
            volume.content(names[b"second"].inode)


def test_system_use_that_goes_on_in_itself(tmp_path: Path) -> None:
    raw = small(tmp_path, (*XORRISO, "-R"), "x" * 250)
    image = bytearray(raw.read_bytes())
    at = image.index(b"CE\x1c\x01", record_of(image, b"XXX"))
    block, offset = struct.unpack_from("<I4xI4x", image, at + 4)
    area = block * SECTOR + offset
    image[area : area + 28] = image[at : at + 28]
    struct.pack_into("<I", image, at + 20, 28)
    struct.pack_into("<I", image, area + 20, 28)
    raw.write_bytes(image)
    problems: list[str] = []
    with volume_in(raw) as volume:
        assert volume.entries(0, problems.append) == []
    assert "goes on for more than" in problems[0]


def test_attributes_of_xorriso_are_told(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_text("x")
    os.setxattr(content / "file", "user.name", b"value")
    raw = made((*XORRISO, "-R", "--xattr"), content, tmp_path)
    problems: list[str] = []
    with volume_in(raw) as volume:
        assert volume.attributes(volume.find(0, b"file").inode, problems.append) == {}
    assert "(AAIP) are not read" in problems[0]


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    raw = small(tmp_path, (*GENISOIMAGE, "-U"), "File", "file", "other")
    found = read(raw)
    assert set(found) == {b"File", b"file", b"other"}
