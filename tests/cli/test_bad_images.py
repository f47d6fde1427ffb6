"""Adding what is no image, half an image, or an image with an odd name: what `imgcat add` says."""

from __future__ import annotations

import errno
import gzip
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from imgcat.catalog.adding import batch
from imgcat.catalog.store import Catalog
from imgcat.cli.exit_codes import code_of
from support.attack_images import BLOCK, flip, patchy, solid
from support.confined import MODES_HOLD, errno_of_reading, mounts_at, run_confined
from support.partclone_writer import MAGIC, Recipe, header_v1, header_v2, write
from support.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.partclone_writer import Written
    from support.program import Program

GOOD = write(Recipe(present=[True, False, True, True] * 8)).image
GOOD_0001 = write(Recipe(present=[True, False, True, True] * 8, version="0001")).image
BITMAP_OFFSET = 110


def header(**fields: object) -> bytes:
    """Return a header with a right checksum that says these things, and a little after it."""
    usual: dict[str, object] = {
        "device_size": 4096 * 64,
        "total_blocks": 64,
        "used_bitmap": 8,
        "block_size": 4096,
    }
    return header_v2(**(usual | fields)) + bytes(64)  # type: ignore[arg-type]


BAD: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 4, "image @0x0: the file is empty"),
    "a-byte": (b"x", 4, "image @0x0: no disk image of a known format (it begins with 78)"),
    "zeros": (bytes(1 << 16), 4, "no disk image of a known format"),
    "text": (b"#!/bin/sh\nexit 0\n", 4, "no disk image of a known format"),
    "cut-in-the-magic": (MAGIC[:-1], 4, "no disk image of a known format"),
    "lzop": (b"\x89LZO\x00\r\n\x1a\n" + bytes(60), 4, "lzop: unpack it with lzop -d"),
    "gzip-of-text": (gzip.compress(b"#!/bin/sh\n"), 4, "no disk image of a known format"),
    "gzip-of-zstd": (
        gzip.compress(zstandard.compress(GOOD)), 4,
        "compressed twice: unpack the outer gzip first",
    ),
    "gzip-of-no-blocks": (b"\x1f\x8b\x08\x00" + bytes(60), 5, "gzip."),
    "version-9": (MAGIC + b"\0" + bytes(14) + b"0009" + bytes(5000), 4, "format version '0009'"),
    "big-endian-0002": (
        write(Recipe(present=[True] * 8, big_endian=True)).image, 4,
        "written on a big-endian machine",
    ),
    "big-endian-0001": (
        write(Recipe(present=[True] * 8, version="0001", big_endian=True)).image, 4,
        "written on a big-endian machine",
    ),
    "header-checksum": (
        flip(GOOD, 60), 5, "partclone.header @0x0: checksum 0 is 0x",
    ),
    "bitmap-checksum": (
        flip(GOOD, BITMAP_OFFSET), 5, "partclone.bitmap @0x6e: checksum 0 is 0x",
    ),
    "bitmap-marker-0001": (
        GOOD_0001.replace(b"BiTmAgIc", b"BiTmAgIC"), 5, "partclone.bitmap @0x1060: b'BiTmAgIC'",
    ),
    "no-blocks": (header(total_blocks=0), 5, "partclone.header @0x3c: 0 blocks"),
    "block-size-0": (header(block_size=0), 5, "partclone.header @0x54: block size 0"),
    "block-size-4g": (header(block_size=2**32 - 1), 5, "partclone.header @0x54: block size"),
    "blocks-overflow": (
        header(total_blocks=2**62, device_size=2**63 - 1), 5, "more than a file can have",
    ),
    "bitmap-of-petabytes": (
        header(total_blocks=2**50, device_size=2**62), 5,
        "partclone.bitmap @0x6e: 140737488355332 bytes of it belong here, 64 are left",
    ),
    "device-of-16-exbibytes": (
        header(device_size=2**64 - 1), 5, "partclone.header @0x34: device size",
    ),
    "device-smaller-than-blocks": (
        header(device_size=4096), 5, "64 blocks of 4096 bytes on a device of 4096",
    ),
    "more-used-than-blocks": (
        header(used_bitmap=2**63), 5, "partclone.header @0x4c: 9223372036854775808 of 64 blocks",
    ),
    "absurd-0001": (
        header_v1(device_size=2**40, total_blocks=2**40, used_bitmap=1, block_size=4096), 5,
        "partclone.bitmap @0x1040",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", [4, 5])
def test_what_is_no_image_is_refused_with_a_reason(
    program: Program, tmp_path: Path, code: int
) -> None:
    cases = {name: case for name, case in BAD.items() if case[1] == code}
    paths = [tmp_path / f"{name}.img" for name in cases]
    for path, (data, _code, _reason) in zip(paths, cases.values(), strict=True):
        path.write_bytes(data)
    result = program.run("add", *paths, code=code)
    lines = result.stderr.splitlines()
    assert len(lines) == len(paths)
    for line, path, (_data, _code, reason) in zip(lines, paths, cases.values(), strict=True):
        assert line.startswith(f"imgcat: {path}: ")
        assert reason in line
    assert result.stdout == ""
    assert program.json("ls") == []
    # What the run ends with is the worst code of all: here is that of each.
    with Catalog.open(str(program.catalog)) as catalog:
        for each in batch.add_files(catalog, map(str, paths)):
            assert each.error is not None
            assert code_of(each.error) == code, each.path


@pytest.mark.parametrize("whole", [GOOD[:110], GOOD_0001[:4160]], ids=["0002", "0001"])
def test_a_header_cut_anywhere_is_said_to_be_cut_there(
    program: Program, tmp_path: Path, whole: bytes
) -> None:
    lengths = [length for length in (15, 16, 30, 33, 34, 109, 110, 4159) if length < len(whole)]
    paths = [tmp_path / f"cut-{length}.img" for length in lengths]
    for path, length in zip(paths, lengths, strict=True):
        path.write_bytes(whole[:length])
    said = program.run("add", *paths, code=5).stderr.splitlines()
    assert len(said) == len(paths)
    for line, path, length in zip(said, paths, lengths, strict=True):
        missing = (110 if length < 34 else len(whole)) - length
        assert line == (
            f"imgcat: {path}: partclone.header @0x{length:x}: "
            f"the file ends {missing} bytes before the header does"
        )


def test_a_cut_bitmap_is_no_image(program: Program, tmp_path: Path) -> None:
    lengths = (110, 111, 113, 117)
    paths = [tmp_path / f"cut-{length}.img" for length in lengths]
    for path, length in zip(paths, lengths, strict=True):
        path.write_bytes(GOOD[:length])
    said = program.run("add", *paths, code=5).stderr.splitlines()
    assert [line.split(": ", 2)[2] for line in said] == [
        f"partclone.bitmap @0x6e: 8 bytes of it belong here, {length - 110} are left"
        for length in lengths
    ]


def test_what_is_no_file_is_refused(program: Program, tmp_path: Path) -> None:
    directory, fifo, device = tmp_path / "dir", tmp_path / "fifo", tmp_path / "device"
    directory.mkdir()
    os.mkfifo(fifo)
    os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path, code, reason in [
            (directory, 4, "is a directory, and none of Clonezilla: -r searches it"),
            (fifo, 4, "not a regular file or block device"),
            (device, 4, "not a regular file or block device"),
            (tmp_path / "socket", 4, "not a regular file or block device"),
            (tmp_path / "missing.img", 3, "No such file or directory"),
            (directory / "a" / "b.img", 3, "No such file or directory"),
        ]:
            said = program.run("add", path, code=code, timeout=60).stderr
            assert said.startswith(f"imgcat: {path}: "), said
            assert reason in said


def test_a_loop_of_links_is_an_error_and_no_endless_search(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "Too many levels" in program.run("add", tmp_path / "a", code=5).stderr
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "up").symlink_to(tree)
    (tree / "deep" / "good.img").write_bytes(GOOD)
    # The image, and the summary.
    assert program.run("add", "-r", tree).stdout.count("\n") == 2


def test_a_search_opens_nothing_but_files(program: Program, tmp_path: Path) -> None:
    # To open a fifo wakes who writes to it, a tape rewinds, and a watchdog resets the machine.
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.img").write_bytes(GOOD)
    (tree / "no-image").write_bytes(b"nothing")
    (tree / "dangling").symlink_to(tree / "nowhere")
    os.mkfifo(tree / "fifo")
    woken = threading.Event()

    def write_to_fifo() -> None:
        fd = os.open(tree / "fifo", os.O_WRONLY)
        woken.set()
        os.close(fd)

    writer = threading.Thread(target=write_to_fifo)
    writer.start()
    try:
        said = program.run("add", "-r", tree, timeout=60)
        assert not woken.wait(0.2), "the search has opened the fifo"
    finally:
        os.close(os.open(tree / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        writer.join()
    assert said.stdout.startswith("added     good: ")
    assert said.stderr == ""


def test_one_bad_among_good_ones(program: Program, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.img", "empty.img", "missing.img", "b.img", "c.img")]
    for path in (paths[0], paths[3], paths[4]):
        path.write_bytes(GOOD)
    paths[1].touch()
    result = program.run("add", *paths, code=4)
    assert [line.split(":")[0].split()[1] for line in result.stdout.splitlines()] == ["a", "b", "c"]
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        str(paths[1]),
        str(paths[2]),
    ]
    assert [row["name"] for row in program.json("ls")] == ["a", "b", "c"]
    # The worst counts, wherever it stands.
    paths[2].write_bytes(flip(GOOD, 60))
    program.run("add", *paths, code=5)


def test_an_unreadable_image_does_not_stop_the_others(program: Program, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.img", "secret.img", "b.img")]
    for path in paths:
        path.write_bytes(GOOD)
    paths[1].chmod(0)
    result = run_confined(program, MODES_HOLD, "add", *paths, code=5)
    assert result.stderr == f"imgcat: {paths[1]}: Permission denied\n"
    assert [row["name"] for row in program.json("ls")] == ["a", "b"]


def test_a_search_names_what_it_may_not_read(program: Program, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    for directory in (shelf / "closed", shelf / "open", shelf / "sealed"):
        directory.mkdir(parents=True)
        (directory / "x.img").write_bytes(GOOD)
    secret = shelf / "open" / "secret.img"
    secret.write_bytes(GOOD)
    (shelf / "open" / "dangling").symlink_to("nowhere")
    secret.chmod(0)
    (shelf / "closed").chmod(0)
    # Its names can be listed, and none of them looked at.
    (shelf / "sealed").chmod(0o444)
    result = run_confined(program, MODES_HOLD, "add", "-r", shelf, code=5)
    assert sorted(result.stderr.splitlines()) == [
        f"imgcat: {path}: Permission denied"
        for path in (shelf / "closed", secret, shelf / "sealed" / "x.img")
    ]
    assert [row["path"] for row in program.json("ls")] == [str(shelf / "open" / "x.img")]


def test_the_same_file_twice_is_one_image(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(GOOD)
    program.run("add", path, path, tmp_path / "." / "a.img", os.path.relpath(path))
    assert [row["path"] for row in program.json("ls")] == [str(path)]


# -- damaged images --------------------------------------------------------


class Cut:
    """An image that ends too early.

    Attributes:
        data: the bytes that are left.
        there: for each block whether it can be read: it is unused, or wholly in `data`.
        missing: the guest bytes from the first to the last block that cannot.
    """

    def __init__(self, written: Written, end: int) -> None:
        self.data = written.image[:end]
        self.there = [
            number not in written.block_offsets or written.block_offsets[number] + BLOCK <= end
            for number in range(len(written.guest) // BLOCK)
        ]
        lost = [number for number, there in enumerate(self.there) if not there]
        self.missing = (lost[0] * BLOCK, (lost[-1] + 1) * BLOCK)


@pytest.mark.fuse
def test_truncated_images_give_what_they_have(program: Program, tmp_path: Path) -> None:
    written = patchy(20261121)
    middle = sorted(written.block_offsets.values())[70]
    # The 70 blocks before it make ten full groups, so a checksum of 8 bytes ends there.
    cuts = {
        name: Cut(written, end)
        for name, end in [
            ("in-a-block", middle + 1000),
            ("in-a-checksum", middle - 4),
            ("at-a-block", middle),
            ("before-data", written.data_offset),
        ]
    }
    for name, cut in cuts.items():
        (tmp_path / f"{name}.img").write_bytes(cut.data)
    (tmp_path / "whole.img").write_bytes(written.image)
    result = program.run("add", *sorted(tmp_path.glob("*.img")), code=5)
    assert result.stdout.count("added") == 5
    for name, cut in cuts.items():
        assert (
            f"imgcat: {tmp_path / name}.img: damaged: truncated at {len(cut.data)} of "
            f"{len(written.image)} bytes: {cut.there.count(False)} blocks are missing, "
            f"within guest bytes [{cut.missing[0]}, {cut.missing[1]})\n"
        ) in result.stderr
    statuses = {row["name"]: row["status"] for row in program.json("ls")}
    assert statuses == dict.fromkeys(cuts, "damaged") | {"whole": "ready"}
    # Whoever adds it again is told again, and so is who asks for a rescan.
    assert "damaged" in program.run("add", tmp_path / "in-a-block.img", code=5).stderr
    assert "damaged" in program.run("rescan", "in-a-block", code=5).stderr

    mount = program.mount_all(tmp_path / "mount")
    for name, cut in cuts.items():
        fd = os.open(mount / name, os.O_RDONLY)
        for number, there in enumerate(cut.there):
            start = number * BLOCK
            expected = written.guest[start : start + BLOCK] if there else errno.EIO
            assert errno_of_reading(fd, start, BLOCK) == expected, (name, number)
        os.close(fd)
        with pytest.raises(OSError, match="Input/output error"):
            (mount / name).read_bytes()
    assert (mount / "whole").read_bytes() == written.guest
    log = next((program.home / "state" / "imgcat").glob("*.log")).read_text()
    assert re.search(r"WARNING .*: in-a-block: read of \d+ bytes at \d+: source @0x", log)
    assert "Traceback" not in log


@pytest.mark.fuse
def test_an_image_of_eight_exbibytes_harms_nobody(program: Program, tmp_path: Path) -> None:
    # A header of 110 bytes that says that every block is stored.
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.img").write_bytes(
            header_v2(
                device_size=2**63 - 4096, total_blocks=2**51 - 1, used_bitmap=2**51 - 1,
                block_size=4096, bitmap="NONE",
            )
        )  # fmt: skip
    (tmp_path / "good.img").write_bytes(solid(b"G", 8))
    program.run("add", *sorted(tmp_path.glob("*.img")), code=5)
    mount = program.mount_all(tmp_path / "mount")
    assert (mount / "a").stat().st_size == 2**63 - 4096
    fd = os.open(mount / "a", os.O_RDONLY)
    for offset in (0, 2**62, 2**63 - 8192):
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(fd, 4096, offset)
    os.close(fd)
    assert (mount / "good").read_bytes() == b"G" * (8 * BLOCK)
    os.statvfs(mount)
    assert len(program.json("ls")) == 4
    for view in ("totals", "shelf", "attention", "directories"):
        program.run("sql", f"SELECT * FROM {view}")


def test_an_inode_number_of_64_bits_is_no_obstacle(program: Program, tmp_path: Path) -> None:
    # mergerfs, CIFS and NFS give such numbers; SQLite's integers have a sign.
    (tmp_path / "good.img").write_bytes(GOOD)
    (tmp_path / "mount").mkdir()
    server = Path(__file__).parent.parent / "support" / "odd_inodes.py"
    process = subprocess.Popen(
        [sys.executable, str(server), str(tmp_path / "good.img"), str(tmp_path / "mount")]
    )
    try:
        path = tmp_path / "mount" / "odd.img"
        wait_until(path.exists, "the file system is there", 30)
        assert path.stat().st_ino >= 1 << 63
        program.run("add", path)
        assert program.json("ls")[0]["status"] == "ready"
        assert program.run("add", path).stdout.startswith("unchanged")
        assert program.run("rescan").stdout.startswith("unchanged")
    finally:
        if mounts_at(tmp_path / "mount"):
            subprocess.run(["umount", "-l", tmp_path / "mount"], check=True)
        process.terminate()
        process.wait(60)


def test_an_image_behind_a_link_that_dangles_is_missing(program: Program, tmp_path: Path) -> None:
    (tmp_path / "real.img").write_bytes(GOOD)
    (tmp_path / "link.img").symlink_to(tmp_path / "real.img")
    program.run("add", tmp_path / "link.img")
    (tmp_path / "real.img").unlink()
    assert program.json("ls")[0]["status"] == "missing"
    assert str(tmp_path / "link.img") in program.run("rescan", code=3).stderr
    assert program.json("ls")[0]["status"] == "missing"


# -- odd names -------------------------------------------------------------

NOT_UTF8 = b"caf\xe9 \xff\x80.img"


@pytest.mark.fuse
def test_a_name_that_is_not_utf8_survives_everything(program: Program, tmp_path: Path) -> None:
    written = patchy(7, 16)
    path = os.fsencode(tmp_path) + b"/" + NOT_UTF8
    with open(path, "wb") as file:
        file.write(written.image)
    name = os.fsdecode(NOT_UTF8.removesuffix(b".img"))
    # What is shown can be written to anything, and typed.
    shown = "".join(f"\\x{ord(c) & 0xFF:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)
    assert f" {shown}: " in program.run("add", path).stdout
    assert shown in program.run("ls").stdout
    assert program.json("show", shown)["id"] == 1
    listed = program.json("ls")
    assert [row["name"] for row in listed] == [name]
    assert os.fsencode(listed[0]["path"]) == path
    assert program.json("show", os.fsencode(name))["id"] == 1
    assert program.run("add", path).stdout.startswith("unchanged")
    assert program.run("rescan", os.fsencode(name)).stdout.startswith("unchanged")
    assert os.fsencode(program.run("sql", "--csv", "SELECT name FROM images").stdout)

    mount = program.mount_all(tmp_path / "mount")
    assert os.listdir(os.fsencode(mount)) == [NOT_UTF8.removesuffix(b".img")]
    assert (mount / name).read_bytes() == written.guest
    program.run("rename", os.fsencode(name), b"\xfe/\xfd")
    wait_until(lambda: os.listdir(os.fsencode(mount)) == [b"\xfe"], "the new name is there", 30)
    with open(os.fsencode(mount) + b"/\xfe/\xfd", "rb") as file:
        assert file.read() == written.guest
    program.run("rm", path)
    wait_until(lambda: os.listdir(mount) == [], "the image is gone", 30)


def test_a_name_must_be_free_and_must_be_one(program: Program, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.img").write_bytes(GOOD)
    program.run("add", "--name", "taken", tmp_path / "a.img")
    for name, reason in [
        ("taken", "'taken' is the name of another image (id 1)"),
        ("", "cannot be a name"),
        ("a/../b", "cannot be a name"),
        ("ü" * 128, "a part is over 255 bytes"),
    ]:
        said = program.run("add", "--name", name, tmp_path / "b.img", code=2).stderr
        assert reason in said, (name, said)
        assert "Traceback" not in said
    assert [row["name"] for row in program.json("ls")] == ["taken"]
    program.run("add", "--name", "ü" * 127, tmp_path / "b.img")


def test_a_name_for_a_whole_directory_is_refused_before_anything_is_added(
    program: Program, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.img").write_bytes(GOOD)
    program.run("add", "-r", "--name", "one", tmp_path, code=2)
    assert program.json("ls") == []


CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u202e]")
EVIL = "a\x1b]0;owned\x07\x1b[2J\u202eb\rc\td\x7fe\x9bf"


def test_no_control_character_of_a_name_reaches_the_terminal(
    program: Program, tmp_path: Path
) -> None:
    evil = tmp_path / f"{EVIL}.img"
    cut = tmp_path / f"cut{EVIL}.img"
    evil.write_bytes(write(Recipe(present=[True] * 8, used_bitmap=7)).image + b"trailing")
    cut.write_bytes(solid(b"x", 8)[:-5000])
    (tmp_path / f"bad{EVIL}.img").write_bytes(b"no image")
    (tmp_path / f"dir{EVIL}").mkdir()
    for arguments, code in [
        (("add", evil), 0),
        (("add", cut), 5),
        (("add", tmp_path / f"bad{EVIL}.img"), 4),
        (("add", tmp_path / f"missing{EVIL}.img"), 3),
        (("add", tmp_path / f"dir{EVIL}"), 4),
        (("add", "--name", EVIL, cut), 2),
        (("ls",), 0),
        (("show", evil), 0),
        (("show", f"no{EVIL}"), 3),
        (("rescan",), 5),
        (("rename", evil, f"{EVIL}2"), 0),
        (("sql", f"SELECT name, path, '{EVIL}' FROM images"), 0),
        (("mount-all", tmp_path / f"missing{EVIL}" / "below"), 8),
        (("unmount", tmp_path / f"dir{EVIL}"), 3),
        (("--db", evil, "ls"), 6),
        (("--db", tmp_path / f"missing{EVIL}", "ls"), 3),
        (("rm", f"{EVIL}*"), 0),
    ]:
        result = program.run(*arguments, code=code)
        for text in (result.stdout, result.stderr):
            assert not CONTROL.search(text), (arguments[0], text)


def test_no_newline_of_a_name_forges_a_line(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "a\nadded     b: forged.img"
    path.write_bytes(b"no image")
    assert program.run("add", path, code=4).stderr.count("\n") == 1
    path.write_bytes(solid(b"x", 8)[:-5000])
    result = program.run("add", path, code=5)
    assert (result.stdout.count("\n"), result.stderr.count("\n")) == (1, 1)
    assert program.run("rescan", code=5).stderr.count("\n") == 1
    assert program.run("ls").stdout.count("\n") == 2


def test_no_control_character_of_a_header_reaches_the_terminal(
    program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "a.img"
    written = write(
        Recipe(present=[True] * 8, fs_type=b"\x1b[31mEXT\x07\n", creator=b"\x1b]0;x\x07\x9b1m")
    )
    path.write_bytes(written.image)
    for arguments in [("add", path), ("ls",), ("show", "1"), ("add", "--force", path)]:
        result = program.run(*arguments)
        assert not CONTROL.search(result.stdout + result.stderr), arguments
    assert result.stdout.count("\n") == 1
    version = tmp_path / "version.img"
    version.write_bytes(MAGIC + b"\0" + bytes(14) + b"\x1b[2J" + bytes(5000))
    assert not CONTROL.search(program.run("add", version, code=4).stderr)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_named_like_an_option(program: Program, elsewhere: Path) -> None:
    for name in ("-r", "--name", "-"):
        (elsewhere / name).write_bytes(GOOD)
    program.run("add", "--", "-r", "--name", "-")
    assert [row["name"] for row in program.json("ls")] == ["-", "--name", "-r"]
    assert "--name" in program.run("show", "--", "--name").stdout
    program.run("rename", "--", "-r", "--force")
    program.run("rm", "--", "--force", "-", "--name")
    assert program.json("ls") == []


def test_names_of_any_length_and_digits_are_merely_not_found(program: Program) -> None:
    path = program.home / "a.img"
    path.write_bytes(GOOD)
    program.run("add", path)
    for token in ("9" * 5000, "x" * 100_000, "²", "-1", "["):
        assert "no image in the catalog" in program.run("show", "--", token, code=3).stderr
    assert program.run("add", "x" * 5000, code=5).stderr.endswith("File name too long\n")


def test_a_terminal_of_another_encoding_gets_what_it_can_show(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "日本語 é.img").write_bytes(GOOD)
    environment = program.environment | {"PYTHONIOENCODING": "ascii"}
    program.run("add", tmp_path / "日本語 é.img", env=environment)
    assert "ready" in program.run("ls", env=environment).stdout
