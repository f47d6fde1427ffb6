"""Directory trees from a seed: what file systems keep in other ways than plain files."""

from __future__ import annotations

import os
import random
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = (
    b"line\nfeed", b"\x1b[31mred", b"not utf-8 \xff\xfe", b"back\\slash", b"caret^", b" blank ",
    "ümläut".encode(), "\U0001f600".encode(), b"-r", b"a" * 255, b"\x7f", b"*?",
)  # fmt: skip


def grow(top: Path, seed: int, *, size: int = 30) -> None:
    """Fill a directory of a file system that knows all of this.

    Args:
        top: where.
        seed: of the random numbers.
        size: how many files there are of the usual kinds.
    """
    generator = random.Random(seed)
    directories = [os.fsencode(top)]
    for number in range(size // 4):
        path = os.path.join(generator.choice(directories), b"dir%d" % number)
        os.mkdir(path, generator.choice([0o700, 0o755, 0o1777]))
        directories.append(path)
    files: list[bytes] = []
    for number in range(size):
        path = os.path.join(generator.choice(directories), b"file%d" % number)
        _MAKERS[number % len(_MAKERS)](path, generator)
        files.append(path)
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(generator.choice(directories), name)
        with open(path, "wb") as opened:
            opened.write(name * number)
        files.append(path)
    for number in range(6):
        here = os.path.join(generator.choice(directories), b"link%d" % number)
        os.link(generator.choice(files), here)
        target = b"x" * generator.choice([1, 59, 60, 61, 200, 900])
        os.symlink(target, os.path.join(generator.choice(directories), b"symlink%d" % number))
    os.mkfifo(os.path.join(directories[-1], b"fifo"), 0o640)
    os.mknod(os.path.join(directories[-1], b"chr"), 0o020600, os.makedev(4, 300))
    os.mknod(os.path.join(directories[0], b"blk"), 0o060660, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as listener:
        where = os.open(directories[0], os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{where}/socket")
        os.close(where)
    _many(os.path.join(directories[0], b"many"), generator)
    for path in files:
        os.chmod(path, generator.choice([0o600, 0o644, 0o4755, 0o2711, 0o777]))
        os.chown(path, generator.choice([0, 1000, 70000]), generator.choice([0, 100, 1 << 20]))
        seconds = generator.choice([0, 1, 951782400, 1 << 31, (1 << 32) + 5, -86400 * 365])
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + generator.randrange(10**9)))


def _write(path: bytes, pieces: list[tuple[int, bytes]], size: int | None = None) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    for offset, data in pieces:
        os.pwrite(opened, data, offset)
    if size is not None:
        os.ftruncate(opened, size)
    os.close(opened)


def _small(path: bytes, generator: random.Random) -> None:
    _write(path, [(0, generator.randbytes(generator.choice([0, 1, 59, 60, 61, 100, 150, 700])))])


def _large(path: bytes, generator: random.Random) -> None:
    _write(path, [(0, generator.randbytes(generator.randrange(1, 400_000)))])


def _sparse(path: bytes, generator: random.Random) -> None:
    places = sorted(generator.randrange(40_000_000) for _ in range(6))
    pieces = [(place, generator.randbytes(5000)) for place in places]
    _write(path, pieces, places[-1] + generator.choice([5000, 123_457]))


def _fragmented(path: bytes, generator: random.Random) -> None:
    # Every other block: more extents than a node of the tree takes.
    pieces = [(place * 8192, generator.randbytes(1000)) for place in range(500)]
    _write(path, pieces)


def _unwritten(path: bytes, generator: random.Random) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(opened, 0, 300_000)
    finally:
        os.pwrite(opened, generator.randbytes(20_000), 100_000)
        os.close(opened)


def _with_attributes(path: bytes, generator: random.Random) -> None:
    _small(path, generator)
    for size in (1, 40, 300):
        try:
            os.setxattr(path, b"user.of%d" % size, generator.randbytes(size))
        except OSError:
            # Where there is no more room for them.
            return
    # owner rwx, user 1000 r--, group r-x, mask rwx, others ---
    entries = [(1, 7, 0xFFFFFFFF), (2, 4, 1000), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF),
               (32, 0, 0xFFFFFFFF)]  # fmt: skip
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    try:
        os.setxattr(path, b"system.posix_acl_access", acl)
        os.setxattr(path, b"user.large", generator.randbytes(5000))
    except OSError:
        return


def _many(path: bytes, generator: random.Random) -> None:
    os.mkdir(path)
    for number in range(700):
        _write(os.path.join(path, b"one_of_many_%d_%d" % (number, generator.randrange(10**6))), [])
    for name in os.listdir(path)[::3]:
        os.unlink(os.path.join(path, name))


_MAKERS = (_small, _large, _sparse, _fragmented, _unwritten, _with_attributes)
