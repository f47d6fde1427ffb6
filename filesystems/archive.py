"""Files of a volume as a tar archive (POSIX.1-2001), written as it goes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING, Any

from . import ahead
from .names import shown
from .of_one_file import OF_ONE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .content import FileContent, WorkerContent
    from .volume import Volume
    from .worker.wire import Entry

    Tell = Callable[[str], None]

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE,
}  # fmt: skip
_SECOND = 1_000_000_000


class OutputError(Exception):
    """The archive cannot be written; its cause is the `OSError`."""


class Archiver:
    """Writes files of a volume into a tar archive.

    Args:
        volume: where they are.
        out: where the archive goes, without a buffer; it is never sought in.
        tell: told what cannot be archived, or only with zeros in its place.

    Raises:
        OutputError: from each method, and then the archive is not whole.
    """

    def __init__(self, volume: Volume, out: io.RawIOBase, tell: Tell) -> None:
        self._volume = volume
        self._tell = tell
        self._links: dict[int, str] = {}
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `close`
            fileobj=_Output(out), mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8",
            errors="surrogateescape",
        )  # fmt: skip

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()

    def add(self, entry: Entry, name: bytes, above: frozenset[int] = frozenset()) -> None:
        """Add a file, or a directory with all that is in it.

        Args:
            entry: the file.
            name: what it is called in the archive, without a slash before it.
            above: the directories that it is in.
        """
        try:
            self._add(entry, name)
        except OF_ONE_FILE as error:
            self._tell(f"{shown(name)}: {error}")
            return
        if not stat.S_ISDIR(entry.mode):
            return
        if entry.inode in above:
            self._tell(f"{shown(name)}: it is inside of itself")
            return
        try:
            inside = self._volume.entries(
                entry.inode, lambda why: self._tell(f"{shown(name)}: {why}")
            )
        except OF_ONE_FILE as error:
            self._tell(f"{shown(name)}: {error}")
            return
        for each in ahead.in_order(self._volume, inside, self._is_read):
            self.add(each, name + b"/" + each.name, above | {entry.inode})

    def _is_read(self, entry: Entry) -> bool:
        return entry.links == 1 or entry.inode not in self._links

    def _add(self, entry: Entry, name: bytes) -> None:
        kind = _TYPES.get(stat.S_IFMT(entry.mode))
        if kind is None:
            self._tell(f"{shown(name)}: an archive has no sockets")
            return
        member = self._member(entry, name)
        member.type = kind
        if entry.inode in self._links and entry.links > 1 and kind != tarfile.DIRTYPE:
            member.type, member.linkname = tarfile.LNKTYPE, self._links[entry.inode]
            self._tar.addfile(member)
            return
        if kind == tarfile.SYMTYPE:
            member.linkname = os.fsdecode(entry.target)
        elif kind in {tarfile.CHRTYPE, tarfile.BLKTYPE}:
            member.devmajor, member.devminor = os.major(entry.device), os.minor(entry.device)
        if kind == tarfile.REGTYPE:
            content = self._volume.content(entry.inode)
            member.size = content.size
            self._tar.addfile(
                member, _File(content, lambda why: self._tell(f"{shown(name)}: {why}"))
            )
        else:
            self._tar.addfile(member)
        if entry.links > 1:
            self._links.setdefault(entry.inode, member.name)

    def _member(self, entry: Entry, name: bytes) -> tarfile.TarInfo:
        """Return what an archive says of a file of any type."""
        member = tarfile.TarInfo(os.fsdecode(name))
        headers: dict[str, str] = {}
        member.mode = stat.S_IMODE(entry.mode)
        member.uid, member.gid = entry.uid, entry.gid
        modified = entry.times.modified
        if modified is not None:
            member.mtime = modified // _SECOND
            if modified % _SECOND:
                whole, part = divmod(abs(modified), _SECOND)
                sign = "-" if modified < 0 else ""
                headers["mtime"] = f"{sign}{whole}.{part:09d}"
        if self._volume.has_owners:
            for key, value in self._volume.attributes(entry.inode, self._tell).items():
                header = "SCHILY.xattr." + os.fsdecode(key)
                headers[header] = value.decode("utf-8", "surrogateescape")
        member.pax_headers = headers
        return member


class _Output(io.RawIOBase):
    """Where the archive goes. What is wrong with it is wrong with all of it, and not with one file.

    Args:
        out: takes the bytes, or some of them at a time.
    """

    def __init__(self, out: io.RawIOBase) -> None:
        super().__init__()
        self._out = out
        self._has_failed = False

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Write all of it.

        Raises:
            OutputError: it cannot be written.
        """
        view = memoryview(data)
        if self._has_failed:
            # That was told; `tarfile` writes the end of an archive whatever has become of it.
            return len(data)
        try:
            while view:
                view = view[self._out.write(view) or 0 :]
        except OSError as error:
            self._has_failed = True
            raise OutputError(str(error)) from error
        return len(data)


class _File(io.RawIOBase):
    """What a file holds, from its beginning on. Zeros stand for what cannot be read."""

    def __init__(self, content: FileContent | WorkerContent, tell: Tell) -> None:
        super().__init__()
        self._content = content
        self._tell = tell
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        left = self._content.size - self._position
        data = bytearray(left if size < 0 else min(size, left))
        try:
            self._content.read_into(memoryview(data), self._position)
        except OF_ONE_FILE as error:
            # Its size is in the archive already.
            stop = self._position + len(data)
            self._tell(f"bytes [{self._position}, {stop}) are zeros in the archive: {error}")
            data = bytearray(len(data))
        self._position += len(data)
        return bytes(data)
