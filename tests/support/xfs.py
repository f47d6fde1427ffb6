"""XFS for tests: made by mkfs.xfs, and changed where no tool changes it."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Self

from imgcat.filesystems.worker.crc32c import crc32c

from support.files_inside import loop_mounted, of_mount
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.files_inside import Facts

SIZE = 320 * MIB
"""mkfs.xfs makes none that are much smaller."""

VERSION, FEATURES_2, RO_COMPAT, INCOMPAT, LOG_INCOMPAT = 100, 200, 212, 216, 220
"""Where words of features are in the superblock."""


def make(raw: Path, options: str, *more: object, size: int = SIZE) -> Path:
    """Make an XFS in a file, which is sparse."""
    raw.touch()
    os.truncate(raw, size)
    quiet("mkfs.xfs", "-q", "-f", *options.split(), *more, raw)
    return raw


def seal(image: bytearray, place: int, length: int, at: int) -> None:
    """Store the checksum of a block that was changed.

    Args:
        image: the volume.
        place: where the block lies.
        length: its bytes.
        at: where in it its checksum is.
    """
    image[place + at : place + at + 4] = bytes(4)
    found = crc32c(0xFFFFFFFF, bytes(image[place : place + length])) ^ 0xFFFFFFFF
    struct.pack_into("<I", image, place + at, found)


def set_bits(raw: Path, word: int, bits: int, *, without: int = 0) -> None:
    """Set bits in a word of features, and take others from it, in the first superblock."""
    with raw.open("r+b") as opened:
        image = bytearray(opened.read(512))
        kind = ">H" if word == VERSION else ">I"
        (before,) = struct.unpack_from(kind, image, word)
        struct.pack_into(kind, image, word, (before | bits) & ~without)
        if image[101] & 0xF == 5:
            seal(image, 0, 512, 224)
        opened.seek(0)
        opened.write(image)


def asked(raw: Path, *commands: str, write: bool = False) -> str:
    """Return what xfs_db says."""
    words = [word for command in commands for word in ("-c", command)]
    return quiet("xfs_db", "-x" if write else "-r", *words, raw)


def prototype(content: Path, place: Path, *, repeat: tuple[bytes, int] = (b"", 0)) -> Path:
    """Write what `mkfs.xfs -p` puts into a file system: the way where no kernel mounts it.

    Args:
        content: a tree; the list knows no blanks, so they become underscores in its names.
        place: where the list is written.
        repeat: a file of the top, and how often it is put beside itself, as NAME0, NAME1, ...
    """
    lines = [b"boot 0 0", _prototyped(os.lstat(content))]
    _prototype_below(os.fsencode(content), lines)
    name, count = repeat
    path = os.path.join(os.fsencode(content), name)
    what = _prototyped(os.lstat(path))
    repeated = [b"%s%d %s %s" % (name, number, what, path) for number in range(count)]
    place.write_bytes(b"\n".join([*lines, *repeated, b"$", b""]))
    return place


def _prototype_below(above: bytes, lines: list[bytes]) -> None:
    for name in sorted(os.listdir(above)):
        plain = name.replace(b" ", b"_")
        path = os.path.join(above, plain)
        os.rename(os.path.join(above, name), path)
        status = os.lstat(path)
        line = b"%s %s" % (plain, _prototyped(status))
        if stat.S_ISLNK(status.st_mode):
            line += b" " + os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            line += b" " + path
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            line += b" %d %d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
        lines.append(line)
        if stat.S_ISDIR(status.st_mode):
            _prototype_below(path, lines)
            lines.append(b"$")


def _prototyped(status: os.stat_result) -> bytes:
    mode = status.st_mode
    letters = {
        stat.S_IFDIR: "d", stat.S_IFREG: "-", stat.S_IFLNK: "l", stat.S_IFIFO: "p",
        stat.S_IFCHR: "c", stat.S_IFBLK: "b",
    }  # fmt: skip
    more = ("u" if mode & stat.S_ISUID else "-") + ("g" if mode & stat.S_ISGID else "-")
    words = f"{letters[stat.S_IFMT(mode)]}{more}{mode & 0o777:03o} {status.st_uid} {status.st_gid}"
    return words.encode()


class CountedVolume:
    """A volume as a driver sees it, which counts what is read.

    Args:
        raw: the file that it is in.

    Attributes:
        size: its bytes.
        reads: how often something was read.
    """

    def __init__(self, raw: Path) -> None:
        self._opened = raw.open("rb", buffering=0)
        self.size = os.fstat(self._opened.fileno()).st_size
        self.reads = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def page(self, number: int) -> memoryview:
        """Return 64 KiB."""
        return memoryview(self.read(number << 16, 1 << 16))

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes."""
        self.reads += 1
        return os.pread(self._opened.fileno(), length, offset)


def with_a_bit_of_everything(content: Path, raw: Path, *, version: int, names: int) -> Path:
    """Make a small XFS with trees of every kind: of extents, names and attributes.

    Args:
        content: what is put in, with more beside it, which is written there.
        raw: where it is made.
        version: 4 or 5.
        names: how many one directory has; with 600, its hashes are a tree.
    """
    many = content / "many"
    many.mkdir()
    for number in range(names):
        (many / f"one of many, with the number {number}").touch()
    os.symlink("x" * 900, content / "link")
    small = {"size": 20 * MIB}
    options = f"--unsupported -b size=1024 -m crc={version - 4}"
    # xfs_db dies of putting the first one where it does not fit into the inode.
    sizes = (1, *[100] * 40, 3000, 20_000)
    if version == 5:
        make(raw, options, **small)
        with loop_mounted(raw, raw.with_name("mount")) as mount:
            quiet("cp", "-r", *sorted(content.iterdir()), mount)
            with (mount / "pieces").open("wb") as opened:
                for number in range(300):
                    os.pwrite(opened.fileno(), b"%d" % number, number * 2048)
            for number, size in enumerate(sizes):
                os.setxattr(mount / "pieces", f"user.of {number}", bytes(size))
        return raw
    make(raw, options, "-p", prototype(content, raw.with_name("listed")), **small)
    told = asked(raw, "blockget -n", "ncheck").splitlines()
    inode = next(line.split()[0] for line in told if line.endswith("a_file_of_number_3"))
    commands = (f"attr_set -u -v {size} of{number}" for number, size in enumerate(sizes))
    asked(raw, f"inode {inode}", *commands, write=True)
    return raw


def sealed(image: bytes) -> list[tuple[int, int, int]]:
    """Return the blocks that have a right checksum: place, length, where it is in them."""
    found = []
    for place in range(0, len(image), 512):
        head = image[place : place + 16]
        at = {
            b"XFSB": 224, b"XDB3": 4, b"XDD3": 4, b"XSLM": 12, b"XARM": 12, b"BMA3": 64,
        }.get(head[:4])  # fmt: skip
        if head[:2] == b"IN":
            at = 100
        elif head[8:10] in {b"\x3e\xbe", b"\x3b\xee", b"\x3d\xf1", b"\x3d\xff"}:
            at = 12
        for length in (512, 1024, 2048) if at is not None else ():
            block = bytearray(image[place : place + length])
            seal(block, 0, length, at or 0)
            if block == image[place : place + length]:
                found.append((place, length, at or 0))
    return found


def shown(top: Path, *, every_time: bool = False) -> dict[bytes, Facts]:
    """Return what a mount tells, without what it tells twice: ACLs are also shown as stored."""
    found = of_mount(top, every_time=every_time)
    for facts in found.values():
        for name in (b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"):
            facts["attributes"].pop(name, None)
    return found
