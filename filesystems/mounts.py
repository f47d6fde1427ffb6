"""What is mounted where, and which devices and files lie below a path: as Linux tells it.

Nothing is cached: mounts come and go.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE = "/proc/self/mountinfo"
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_UPPER = b"upperdir="

FileIdentity = tuple[int, int]
"""Device and inode of a file."""


class Mount(NamedTuple):
    """A line of the table of mounts.

    Attributes:
        device: what `stat` tells of files in it.
        root: the directory of the file system that is shown.
        point: where it is shown.
        fs_type: as the kernel has it.
        source: what was mounted, as it was named.
        options: of the file system, such as ``rw``.
    """

    device: int
    root: bytes
    point: bytes
    fs_type: str
    source: bytes
    options: tuple[bytes, ...]

    @property
    def is_writable(self) -> bool:
        """Whether the file system may be written, through whatever mount of it."""
        return b"ro" not in self.options


class Loop(NamedTuple):
    """A loop device of a file.

    Attributes:
        name: as ``loop0``.
        device: its number.
        offset: the byte of the file that it begins at.
    """

    name: str
    device: int
    offset: int


def mounts() -> list[Mount]:
    """Return the table of mounts, in its order. A later one may hide an earlier one.

    Raises:
        OSError: there is none.
    """
    with open(_TABLE, "rb") as table:
        return [_parse(line) for line in table]


def mounts_of(device: int) -> list[Mount]:
    """Return the mounts of a block device that show all of it: of its root directory.

    Raises:
        OSError: there is no table of mounts.
    """
    return [each for each in mounts() if each.device == device and each.root == b"/"]


def loops_of(path: str) -> list[Loop]:
    """Return the loop devices of a file.

    Raises:
        OSError: the file cannot be looked at.
    """
    wanted = _identity(os.stat(path))
    found = []
    for directory in glob.glob("/sys/block/loop*"):
        # It may be gone by now.
        with contextlib.suppress(OSError, ValueError):
            backing = _text(f"{directory}/loop/backing_file")
            if _identity(os.stat(backing)) == wanted:
                offset = int(_text(f"{directory}/loop/offset"))
                found.append(Loop(os.path.basename(directory), _number(directory), offset))
    return found


def parts_of(loop: Loop) -> list[tuple[str, int]]:
    """Return names and numbers of the partitions of a loop device."""
    found = []
    for directory in glob.glob(f"/sys/block/{loop.name}/{loop.name}p*"):
        with contextlib.suppress(OSError, ValueError):
            found.append((os.path.basename(directory), _number(directory)))
    return found


def backing_file(device: int) -> Iterator[FileIdentity]:
    """Yield the file that a loop device shows, or that the disk of its partition does."""
    directory = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for each in (directory, os.path.dirname(directory)):
        with contextlib.suppress(OSError):
            yield _identity(os.stat(_text(f"{each}/loop/backing_file")))


class Below(NamedTuple):
    """What the bytes of a path come to lie on.

    Attributes:
        devices: numbers of block devices.
        files: files that are used as devices, or mounted.
    """

    devices: set[int]
    files: set[FileIdentity]


def below(path: str) -> Below:
    """Return all devices and files that what is written at a path comes to lie on.

    Those are: what the file system is on, the disk that a partition is of, what a logical volume or
    a RAID is made of, the file of a loop device, and what that one lies on.

    Raises:
        OSError: the path cannot be looked at.
    """
    found = Below(set(), set())
    status = os.stat(path)
    if stat.S_ISBLK(status.st_mode):
        _add_device(status.st_rdev, found)
    else:
        _add_file_system(status.st_dev, found)
    return found


def _add_file_system(device: int, found: Below) -> None:
    _add_device(device, found)
    for mount in mounts():
        if mount.device != device:
            continue
        # Where the file system has a number of its own, such as Btrfs, or a driver in user space.
        _add_source(mount.source, found)
        for option in mount.options:
            if option.startswith(_UPPER):
                with contextlib.suppress(OSError):
                    upper = os.stat(option[len(_UPPER) :]).st_dev
                    if upper not in found.devices:
                        _add_file_system(upper, found)


def _add_source(source: bytes, found: Below) -> None:
    if not source.startswith(b"/"):
        return
    with contextlib.suppress(OSError):
        status = os.stat(source)
        if stat.S_ISBLK(status.st_mode):
            _add_device(status.st_rdev, found)
        elif stat.S_ISREG(status.st_mode) and _identity(status) not in found.files:
            found.files.add(_identity(status))
            _add_file_system(status.st_dev, found)


def _add_device(device: int, found: Below) -> None:
    if device in found.devices:
        return
    found.devices.add(device)
    directory = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    for other in _under(directory):
        _add_device(other, found)
    with contextlib.suppress(OSError):
        _add_source(os.fsencode(_text(f"{directory}/loop/backing_file")), found)


def _under(directory: str) -> Iterator[int]:
    """Yield what a device is made of: its disk, or the devices below it."""
    names = glob.glob(f"{directory}/slaves/*")
    if os.path.exists(f"{directory}/partition"):
        names.append(os.path.join(os.path.realpath(directory), os.pardir))
    for each in names:
        with contextlib.suppress(OSError, ValueError):
            yield _number(each)


def _number(directory: str) -> int:
    major, _colon, minor = _text(f"{directory}/dev").partition(":")
    return os.makedev(int(major), int(minor))


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return os.fsdecode(file.read().rstrip(b"\n"))


def _identity(status: os.stat_result) -> FileIdentity:
    return status.st_dev, status.st_ino


def _parse(line: bytes) -> Mount:
    before, _dash, behind = line.rstrip(b"\n").partition(b" - ")
    _id, _parent, device, root, point, *_rest = before.split(b" ")
    fs_type, source, options = behind.split(b" ", 2)
    major, _colon, minor = device.partition(b":")
    return Mount(
        os.makedev(int(major), int(minor)),
        _plain(root),
        _plain(point),
        fs_type.decode(),
        _plain(source),
        tuple(_plain(each) for each in options.split(b",")),
    )


def _plain(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), text)
