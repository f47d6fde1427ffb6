"""The files of an image directory, none of which leads out of it.

Names come from text files that nobody vouches for, and a file may be a symbolic link. Here it is
decided, once, which files may be opened at all.
"""

from __future__ import annotations

import os
import stat

from ..errors import CorruptImageError

MAX_TEXT_SIZE = 1 << 20
"""No text file of an image directory comes near to this, but for the log."""


class OutsideError(CorruptImageError):
    """A file of the directory is a link that leads out of it, or is no regular file."""


def is_plain_name(name: str) -> bool:
    """Tell whether `name` can only be a file in the directory itself."""
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name


def file_name(device: str) -> str:
    """Return what Clonezilla calls the files of a device, e.g. ``vg-lv`` for ``/dev/vg/lv``."""
    for prefix in ("/dev/mapper/", "/dev/"):
        if device.startswith(prefix):
            device = device[len(prefix) :]
            break
    return device.replace("/", "-")


class Files:
    """The names in a directory, listed once.

    Args:
        path: the directory.

    Attributes:
        path: as given.
        names: every name in it.

    Raises:
        OSError: it cannot be listed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.names = frozenset(os.listdir(path))

    def __contains__(self, name: object) -> bool:
        """Tell whether there is such a name; a dangling link has one too."""
        return name in self.names

    def matching(self, suffix: str) -> list[str]:
        """Return the names that end so and have something before it, without the suffix."""
        cut = len(suffix)
        return sorted(n[:-cut] for n in self.names if n.endswith(suffix) and len(n) > cut)

    def resolve(self, name: str) -> str:
        """Return the path of a regular file of the directory.

        Links inside the directory are followed.

        Raises:
            OutsideError: it leads out of the directory, or is no regular file.
            OSError: it does not exist or cannot be looked at.
        """
        path = os.path.join(self.path, name)
        if not is_plain_name(name):
            raise _outside(name, "the name leads out of the directory")
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(path)
            if not real.startswith(os.path.join(os.path.realpath(self.path), "")):
                raise _outside(
                    name, "it is a symbolic link out of the directory: replace it by the file"
                )
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise _outside(name, "it is no regular file")
        return path

    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raises as `resolve`."""
        return os.stat(self.resolve(name)).st_size

    def read(self, name: str, limit: int) -> bytes:
        """Return at most the first `limit` bytes of a file. Raises as `resolve`."""
        # Without waiting, should the file have become a pipe since it was looked at.
        fd = os.open(self.resolve(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            return file.read(limit)

    def text(self, name: str, *, head: bool = False) -> str:
        """Return a text file; bytes that are not UTF-8 become surrogates.

        Args:
            name: the file.
            head: of a file that is too long return the beginning, instead of raising.

        Raises:
            CorruptImageError: it is longer than `MAX_TEXT_SIZE`, or leads out of the directory.
            OSError: it cannot be read.
        """
        data = self.read(name, MAX_TEXT_SIZE + 1)
        if len(data) > MAX_TEXT_SIZE and not head:
            raise CorruptImageError(
                f"clonezilla.{name}",
                MAX_TEXT_SIZE,
                "the text goes on: this is no file of Clonezilla",
            )
        return data[:MAX_TEXT_SIZE].decode("utf-8", "surrogateescape")


def _outside(name: str, detail: str) -> OutsideError:
    return OutsideError(f"clonezilla.{name}", 0, detail)
