"""All that is known of the files below a directory: by a kernel's mount, and by a volume."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import hashlib
import os
import stat
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import xxhash
from imgcat.filesystems.volume import Volume
from imgcat.formats.opening import open_image

from support.unmounting import unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Facts = dict[str, Any]

HASH = xxhash.xxh3_128
"""Of what files hold: both sides are hashed by it, and most of it is zeros of holes."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME = -100, 0x100, 0x800


@contextlib.contextmanager
def loop_mounted(raw: Path, point: Path, options: str = "") -> Iterator[Path]:
    """Mount a file system in a file."""
    point.mkdir(exist_ok=True)
    words = ["mount", "-o", ",".join(filter(None, ["loop", options])), str(raw), str(point)]
    subprocess.run(words, check=True)
    try:
        yield point
    finally:
        unmount(point, raw)


def of_mount(top: Path, *, attributes: bool = True, every_time: bool = False) -> dict[bytes, Facts]:
    """Return what a mount tells of each path below a directory.

    Args:
        top: the directory.
        attributes: extended attributes too.
        every_time: when each was read, changed and made too, not only when it was written.
    """
    found: dict[bytes, Facts] = {}
    start = os.fsencode(top)
    for above, directories, files in os.walk(start):
        for name in directories + files:
            path = os.path.join(above, name)
            status = os.lstat(path)
            facts: Facts = {
                "mode": status.st_mode, "links": status.st_nlink, "uid": status.st_uid,
                "gid": status.st_gid, "mtime": status.st_mtime_ns, "inode": status.st_ino,
            }  # fmt: skip
            if every_time:
                facts |= {
                    "atime": status.st_atime_ns, "ctime": status.st_ctime_ns, "created": _born(path)
                }  # fmt: skip
            if not stat.S_ISDIR(status.st_mode):
                facts["size"] = status.st_size
            if stat.S_ISLNK(status.st_mode):
                facts["target"] = os.readlink(path)
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as opened:
                    facts["hash"] = hashlib.file_digest(opened, HASH).hexdigest()
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                facts["device"] = status.st_rdev
            if attributes:
                facts["attributes"] = {
                    os.fsencode(each): os.getxattr(path, each, follow_symlinks=False)
                    for each in os.listxattr(path, follow_symlinks=False)
                }
            found[os.path.relpath(path, start)] = facts
    return found


def _born(path: bytes) -> int | None:
    """Return when a file was made, which `os.stat` does not tell; None where nobody knows."""
    found = ctypes.create_string_buffer(256)
    if _LIBC.statx(_AT_FDCWD, path, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, found):
        raise OSError(ctypes.get_errno(), "statx")
    (mask,), (seconds, part) = (
        struct.unpack_from("<I", found), struct.unpack_from("<qI", found, 80)
    )  # fmt: skip
    return seconds * 10**9 + part if mask & _STATX_BTIME else None


def of_volume(
    volume: Volume, problems: list[str], *, attributes: bool = True, every_time: bool = False
) -> dict[bytes, Facts]:
    """Return the same by a volume."""
    found: dict[bytes, Facts] = {}
    todo = [(b"", 0)]
    while todo:
        above, inode = todo.pop()
        for entry in volume.entries(inode, problems.append):
            path = above + entry.name
            assert path not in found
            assert volume.find(inode, entry.name) == entry
            facts: Facts = {
                "mode": entry.mode, "links": entry.links, "uid": entry.uid, "gid": entry.gid,
                "mtime": entry.times.modified, "inode": entry.inode,
            }  # fmt: skip
            if every_time:
                times = entry.times
                facts |= {
                    "atime": times.accessed, "ctime": times.changed, "created": times.created
                }  # fmt: skip
            if stat.S_ISDIR(entry.mode):
                todo.append((path + b"/", entry.inode))
            else:
                facts["size"] = entry.size
            if stat.S_ISLNK(entry.mode):
                facts["target"] = entry.target
            if stat.S_ISREG(entry.mode):
                facts["hash"] = digest(volume, entry.inode)
            if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode):
                facts["device"] = entry.device
            if attributes:
                facts["attributes"] = volume.attributes(entry.inode, problems.append)
            found[path] = facts
    return found


def digest(volume: Volume, inode: int, stream: bytes = b"", *, by: Callable[[], Any] = HASH) -> str:
    """Return a hash of what a file holds, of 128 bits if nothing else is asked for."""
    content = volume.content(inode, stream)
    hashed = by()
    for start in range(0, content.size, 1 << 20):
        view = memoryview(bytearray(min(1 << 20, content.size - start)))
        content.read_into(view, start)
        hashed.update(view)
    return hashed.hexdigest()


@contextlib.contextmanager
def asked_within(volume: Volume, seconds: float) -> Iterator[None]:
    """Ask what must be answered in that time; a worker that is to begin has the usual time."""
    limits = volume._worker._limits
    volume._worker._limits = dataclasses.replace(limits, seconds=seconds)
    try:
        yield
    finally:
        volume._worker._limits = limits


@contextlib.contextmanager
def volume_in(image: Path, **options: Any) -> Iterator[Volume]:
    """Give the files of a partition in an image."""
    opened = open_image(image, is_raw=image.suffix == ".raw")
    volume = Volume(opened.reader, **options)
    try:
        yield volume
    finally:
        volume.close()
        opened.close()
