"""Writing out the guest bytes of an image: to a file, a block device or a stream.

A file appears under its name only when it is whole and on the disk. Only one thread may use a
target; the image is read by another, see `readahead`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import fcntl
import os
import select
import stat
import struct
from typing import TYPE_CHECKING, Protocol

from ..files.new_file import TargetError, naming, new_file
from ..stored.used_windows import WINDOW_SIZE, ReadAhead, unreadable_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..progress import Progress
    from ..reader import ImageReader
    from ..stored.used_windows import Lost, Window

    Rescue = Callable[[Lost], None]

STDOUT_NAME = "standard output"

_BLKZEROOUT = 0x127F
_ZEROOUT_MOST = 1 << 30
"""Bytes that the kernel is asked to zero at a time: it cannot be interrupted meanwhile."""

_PIPE_SIZE = 1 << 20


class TargetBusyError(TargetError):
    """The block device is mounted, or in use otherwise."""


class TargetKind(enum.Enum):
    """What an image is written to."""

    FILE = "file"
    DEVICE = "device"
    STREAM = "stream"


@dataclasses.dataclass(frozen=True, slots=True)
class Filling:
    """What becomes of the unused areas.

    Attributes:
        sparse: leave holes where the target can have them.
        byte: what they are filled with otherwise; they read as zeros by default.
    """

    sparse: bool = True
    byte: int = 0

    @property
    def leaves_holes(self) -> bool:
        """Whether unused areas of a file are not written at all."""
        return self.sparse and self.byte == 0


SPARSE = Filling()


def target_kind(path: str) -> TargetKind:
    """Return what `path` is, following links; what does not exist will be a file.

    Raises:
        TargetError: it is a directory.
        OSError: it cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return TargetKind.FILE
    if stat.S_ISDIR(mode):
        raise TargetError(f"{path}: is a directory: name a file in it")
    if stat.S_ISBLK(mode):
        return TargetKind.DEVICE
    return TargetKind.FILE if stat.S_ISREG(mode) else TargetKind.STREAM


def check_apart(target: str | int, own: Iterable[os.stat_result]) -> None:
    """Refuse a path or an open file that is one of the image's `own` files.

    Raises:
        TargetError: it is.
        OSError: the target cannot be looked at.
    """
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return
    if any(os.path.samestat(status, each) for each in own):
        name = target if isinstance(target, str) else STDOUT_NAME
        raise TargetError(f"{name}: is a file of the image itself")


def export(
    reader: ImageReader,
    path: str,
    filling: Filling = SPARSE,
    *,
    force: bool = False,
    rescue: Rescue | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the guest bytes of an image to whatever `path` is.

    Args:
        reader: the image.
        path: a new file, or an existing one, a block device, a fifo, a character device.
        filling: what becomes of unused areas.
        force: replace an existing file; write over a block device.
        rescue: is told what cannot be read, which is then filled; None to end there instead.
        progress: told the guest bytes that are done.

    Raises:
        TargetError: the target is there and `force` is not given, or it does not fit.
        UnreadableRangeError: the image cannot give some bytes; it names which.
        OSError: the image cannot be read or the target cannot be written; it names which.
    """
    kind = target_kind(path)
    if kind is TargetKind.FILE:
        export_file(reader, path, filling, force=force, rescue=rescue, progress=progress)
    elif kind is TargetKind.DEVICE:
        if not force:
            raise TargetError(f"{path}: is a block device: --force writes over all that it holds")
        export_device(reader, path, filling, rescue=rescue, progress=progress)
    else:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            export_stream(reader, fd, filling, name=path, rescue=rescue, progress=progress)
        finally:
            os.close(fd)


def export_file(
    reader: ImageReader,
    path: str,
    filling: Filling = SPARSE,
    *,
    force: bool = False,
    rescue: Rescue | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the guest bytes to a regular file that appears under its name when it is whole.

    However this ends before, there is no new file; see `new_file`.

    Raises:
        As `export`.
    """
    with new_file(path, force=force) as fd:
        with naming(path):
            os.ftruncate(fd, reader.size)
        _pump(reader, _File(fd, path, filling), rescue, progress)


def export_device(
    reader: ImageReader,
    path: str,
    filling: Filling = SPARSE,
    *,
    rescue: Rescue | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the guest bytes over the beginning of a block device that nobody uses.

    If this is interrupted the device is left partly written.

    Raises:
        TargetBusyError: it is mounted or in use.
        TargetError: it is smaller than the image.
        UnreadableRangeError, OSError: as `export`.
    """
    try:
        with naming(path):
            fd = os.open(path, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise TargetBusyError(f"{path}: is mounted or in use") from error
        raise
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        if size < reader.size:
            raise TargetError(f"{path}: has {size} bytes, but the image has {reader.size}")
        _pump(reader, _Device(fd, path, filling), rescue, progress)
        with naming(path):
            os.fsync(fd)
    finally:
        os.close(fd)


def export_stream(
    reader: ImageReader,
    fd: int,
    filling: Filling = SPARSE,
    *,
    name: str = STDOUT_NAME,
    rescue: Rescue | None = None,
    progress: Progress | None = None,
) -> None:
    """Write every guest byte to `fd`, one after the other.

    Raises:
        BrokenPipeError: nobody reads any more.
        UnreadableRangeError, OSError: as `export`.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    _pump(reader, _Stream(fd, name, filling), rescue, progress)


def write_all(fd: int, data: memoryview, name: str) -> None:
    """Write all of `data` to a stream, which may be one that does not wait.

    Raises:
        OSError: it cannot be written; the error has `name`.
    """
    with naming(name):
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                select.select([], [fd], [])


class _Target(Protocol):
    """Takes the guest bytes in ascending order, without a gap and once."""

    @property
    def filler(self) -> int:
        """The byte that unused areas are filled with."""

    def used(self, window: Window) -> None:
        """Take a window that begins where the last call ended."""

    def unused(self, start: int, stop: int) -> None:
        """Take guest bytes ``[start, stop)`` that are not stored; at most `_ZEROOUT_MOST`."""


def _pump(
    reader: ImageReader, target: _Target, rescue: Rescue | None, progress: Progress | None
) -> None:
    position = 0
    if rescue is not None:
        for lost in unreadable_ranges(reader):
            rescue(lost)
    with ReadAhead(reader, rescue=None if rescue is None else target.filler) as windows:
        for window in windows:
            _skip(target, position, window.offset, progress)
            target.used(window)
            for lost in window.lost:
                assert rescue is not None
                rescue(lost)
            position = window.offset + len(window.view)
            if progress is not None:
                progress(position)
    _skip(target, position, reader.size, progress)


def _skip(target: _Target, start: int, stop: int, progress: Progress | None) -> None:
    for position in range(start, stop, _ZEROOUT_MOST):
        end = min(stop, position + _ZEROOUT_MOST)
        target.unused(position, end)
        if progress is not None:
            progress(end)


class _Writer:
    """Fills the unused parts of windows and of what lies between them."""

    def __init__(self, fd: int, name: str, filling: Filling) -> None:
        self._fd = fd
        self._name = name
        self._filling = filling
        self.filler = filling.byte
        self._filler = memoryview(bytes([filling.byte]) * WINDOW_SIZE)

    def used(self, window: Window) -> None:
        """Write a window, its unused parts filled."""
        if self._filling.byte:
            for (_, start), (stop, _) in zip(window.used, window.used[1:], strict=False):
                first, last = start - window.offset, stop - window.offset
                window.view[first:last] = self._filler[: last - first]
        self._write(window.view, window.offset)

    def unused(self, start: int, stop: int) -> None:
        """Write the filler."""
        for position in range(start, stop, WINDOW_SIZE):
            self._write(self._filler[: min(WINDOW_SIZE, stop - position)], position)

    def _write(self, data: memoryview, offset: int) -> None:
        with naming(self._name):
            while data:
                count = os.pwrite(self._fd, data, offset)
                data = data[count:]
                offset += count


class _File(_Writer):
    """A new regular file of the right size, all of which is a hole."""

    def used(self, window: Window) -> None:
        """Write a window, or only its used parts."""
        if not self._filling.leaves_holes:
            super().used(window)
            return
        for start, stop in window.used:
            self._write(window.view[start - window.offset : stop - window.offset], start)

    def unused(self, start: int, stop: int) -> None:
        """Leave the hole, or fill it."""
        if not self._filling.leaves_holes:
            super().unused(start, stop)


class _Device(_Writer):
    """A block device, where what is not written stays as it was."""

    def __init__(self, fd: int, name: str, filling: Filling) -> None:
        super().__init__(fd, name, filling)
        self._can_zero = filling.leaves_holes

    def unused(self, start: int, stop: int) -> None:
        """Have the kernel zero whole windows, if it can, and write the rest."""
        first = -(-start // WINDOW_SIZE) * WINDOW_SIZE
        last = stop // WINDOW_SIZE * WINDOW_SIZE
        if self._can_zero and first < last and self._zero_out(first, last - first):
            super().unused(start, first)
            super().unused(last, stop)
        else:
            super().unused(start, stop)

    def _zero_out(self, start: int, length: int) -> bool:
        try:
            fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("=QQ", start, length))
        except OSError:
            # Writing will do, or say what is wrong.
            self._can_zero = False
        return self._can_zero


class _Stream(_Writer):
    """A pipe, or anything else that takes bytes in order only."""

    def _write(self, data: memoryview, offset: int) -> None:  # noqa: ARG002 - it is the next one
        write_all(self._fd, data, self._name)
