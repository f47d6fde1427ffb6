"""Where what was got back goes to: never onto what it is got back from, nor over what matters."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ...filesystems.errors import RefusedError
from ...filesystems.mounts import below
from ...filesystems.names import shown
from ...formats.files.new_file import (
    DESCRIPTORS,
    NAME_MAX,
    NO_UNNAMED_FILES,
    SPECIAL,
    TargetError,
    naming,
    new_file,
)
from .hashing import hash_of
from .records import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...filesystems.target import Guard
    from .records import Outcome, Range
    from .source import Source

PARTIAL, MAP = ".partial", ".partial.map"
"""What the names end with of what did not come back whole, and of what tells which bytes did."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UNNAMED = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC

_KINDS = SPECIAL | {stat.S_IFDIR: "a directory"}
"""What files are not written over, whoever wants it: `--force` is about files."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class Output(NamedTuple):
    """A file that is being written.

    Attributes:
        fd: its descriptor.
        path: the one that it is to have.
    """

    fd: int
    path: str

    def write(self, offset: int, data: memoryview) -> None:
        """Write all bytes at an offset.

        Raises:
            OSError: they cannot be written.
        """
        with naming(self.path):
            while data:
                count = os.pwrite(self.fd, data, offset)
                data, offset = data[count:], offset + count


def beside(path: str) -> tuple[str, str]:
    """Return what is written of a file that does not come back whole: its path, and its map's.

    Of a name that is too long to have more behind it, these begin with what there is room for, and
    a hash of it: they differ where names do.
    """
    directory, name = os.path.split(path)
    raw = os.fsencode(name)
    if len(raw) + len(MAP) > NAME_MAX:
        mark = b"~" + hash_of(raw)[:8].hex().encode()
        end = NAME_MAX - len(MAP) - len(mark)
        while end and raw[end] & 0xC0 == 0x80:  # noqa: PLR2004 - within a character of UTF-8
            end -= 1
        raw = raw[:end] + mark
    stem = os.path.join(directory, os.fsdecode(raw))
    return stem + PARTIAL, stem + MAP


class Target:
    """Takes files. For one thread.

    Args:
        source: what is got back from.
        guard: see `filesystems.target.Guard`.
        force: replace files that are there.
    """

    def __init__(self, source: Source, guard: Guard, *, force: bool) -> None:
        self._source = source
        self._guard = guard
        self._force = force
        self._allowed: dict[int, str] = {}

    def check(self, path: str) -> None:
        """Check that a file may be written to a path, and does not come to lie on the source.

        Raises:
            RefusedError: it does; or there is what is no file.
            TargetError: there is a file of an image, or of the catalog; or one that must stay.
            OSError: its directory is not there.
        """
        self._check_itself(path)
        self._guard(path)
        self._check_place(path)
        if not self._force and os.path.lexists(path):
            raise TargetError(f"{path}: is there already: --force replaces it")

    def _check_place(self, path: str) -> None:
        # Of a link, also where it leads to.
        for each in {os.path.abspath(path), os.path.realpath(path)}:
            directory = os.path.dirname(each)
            device = os.stat(directory).st_dev
            if device in self._allowed:
                continue
            found = below(directory)
            if self._source.device in found.devices or self._source.files & found.files:
                raise self._refused(path)
            self._allowed[device] = directory

    def make_directory(self, path: str) -> None:
        """Make a directory, or take one that is there.

        Raises:
            RefusedError: it would lie on the source.
            TargetError: a file of the catalog is called so.
            OSError: it cannot be made; or a link is called so, which may lead anywhere.
        """
        self._guard(path)
        self._check_place(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(20, "is there, and is no directory", path)
        self._check_place(os.path.join(path, "any"))

    @contextlib.contextmanager
    def writing(self, path: str, size: int, mode: int, mtime_ns: int | None) -> Iterator[Output]:
        """Give a file to write, which gets its name once it is whole.

        Args:
            path: the file.
            size: its bytes.
            mode: its permissions.
            mtime_ns: when it was written; None where that is not known.

        Raises:
            As `check`.
            OSError: it cannot be written; the error names the path.
        """
        self.check(path)
        with self._opened(path, mode) as output:
            with naming(path):
                os.ftruncate(output.fd, size)
            yield output
            if mtime_ns is not None:
                with naming(path):
                    os.utime(output.fd, ns=(mtime_ns, mtime_ns))

    def sync(self) -> None:
        """Have all that was written come to the disk.

        Raises:
            OSError: it does not.
        """
        for directory in self._allowed.values():
            fd = os.open(directory, _DIRECTORY)
            try:
                if _LIBC.syncfs(fd):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _opened(self, path: str, mode: int) -> Iterator[Output]:
        """Give a file without a name, where there can be one, which gets its name at the end."""
        with naming(path):
            directory = os.open(os.path.dirname(os.path.abspath(path)), _DIRECTORY)
        try:
            fd = self._unnamed(directory, mode, path)
            if fd is None:
                with new_file(path, force=self._force, mode=mode) as fd:
                    yield Output(fd, path)
                return
            try:
                yield Output(fd, path)
                with naming(path):
                    self._name(fd, directory, path)
            finally:
                os.close(fd)
        finally:
            os.close(directory)

    def _unnamed(self, directory: int, mode: int, path: str) -> int | None:
        try:
            with naming(path):
                return os.open(".", _UNNAMED, mode, dir_fd=directory)
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES:
                raise
            return None

    def _name(self, fd: int, directory: int, path: str) -> None:
        itself, name = f"{DESCRIPTORS}/{fd}", os.path.basename(path)
        try:
            # With a directory to go from, Python has the link followed.
            os.link(itself, name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError:
            # Since it was opened, another may have come to be there.
            self.check(path)
            # What is there can be replaced by what has a name only.
            fresh = f".imgcat-{secrets.token_hex(8)}"
            os.link(itself, fresh, dst_dir_fd=directory, follow_symlinks=True)
            try:
                os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(fresh, dir_fd=directory)
                raise

    def write_map(self, path: str, outcome: Outcome, snapshot: str) -> None:
        """Write which bytes of a file did not come back. Raises as `writing`."""
        found = {
            "snapshot": snapshot,
            "path": "/" + shown(outcome.path),
            "source": self._source.name,
            "size": outcome.size,
            "verdict": outcome.verdict.value,
            "ranges": [range_fields(each) for each in outcome.ranges],
        }
        self.check(path)
        with self._opened(path, 0o666) as output:
            output.write(0, memoryview(json.dumps(found, indent=2).encode() + b"\n"))

    def _check_itself(self, path: str) -> None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return
        what = _KINDS.get(stat.S_IFMT(status.st_mode))
        if what is not None:
            raise RefusedError(
                "output", 0, f"{shown(os.fsencode(path))}: is {what}: files are not written over it"
            )
        if (status.st_dev, status.st_ino) in self._source.files:
            raise self._refused(path)

    def _refused(self, path: str) -> RefusedError:
        return RefusedError(
            "output", 0,
            f"{path}: lies on {self._source.name}, out of which files are got back: what is written"
            " there may take the place of their blocks: write to another disk",
        )  # fmt: skip


def range_fields(each: Range) -> dict[str, Any]:
    """Return a range as JSON has it."""
    is_others = each.cause is Cause.OTHERS
    return {
        "start": each.start,
        "stop": each.stop,
        "place": each.place if each.place >= 0 else None,
        "cause": each.cause.value,
        "owner": "/" + shown(each.owner) if is_others and each.owner else None,
        "owner_inode": each.inode if is_others else None,
    }
