"""New files that appear under their name only when they are whole and on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTIAL_SUFFIX = ".imgcat-partial"
"""What the name of an unfinished file ends with."""

_NAME_MAX = 255

_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)


class TargetError(Exception):
    """The target cannot take the image as it is; nothing was written to it."""


@contextlib.contextmanager
def new_file(path: str, *, force: bool) -> Iterator[int]:
    """Give a descriptor to write a file with, which gets its name at the end of the block.

    If anything interrupts this there is no new file under any name. If the process is killed
    outright, one that ends with `PARTIAL_SUFFIX` may stay. An existing file keeps its permissions.

    Args:
        path: the file; of a link, where it leads to.
        force: replace an existing file.

    Raises:
        TargetError: it is there and `force` is not given.
        OSError: it cannot be written; the error names `path`.
    """
    # A link keeps on leading there.
    final = os.path.realpath(path)
    before = _existing(final)
    if before is not None and not force:
        raise TargetError(f"{path}: is there already: --force replaces it")
    partial = _partial_name(final)
    try:
        with naming(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(partial, flags, 0o666)
        try:
            if before is not None:
                with naming(path):
                    os.fchmod(fd, stat.S_IMODE(before.st_mode) & 0o777)
            yield fd
            with naming(path):
                os.fsync(fd)
        finally:
            os.close(fd)
        with naming(path):
            _publish(partial, final, path, force=force)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    _sync_directory(os.path.dirname(final))


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Let errors of the operating system name the target, not its temporary name or nothing."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from error


def _existing(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _partial_name(final: str) -> str:
    """Return a name that nobody uses, beside the final one and not too long."""
    directory, name = os.path.split(final)
    ending = f".{secrets.token_hex(4)}{PARTIAL_SUFFIX}"
    stem = os.fsencode(name)[: _NAME_MAX - len(ending)]
    return os.path.join(directory, os.fsdecode(stem) + ending)


def _publish(partial: str, final: str, path: str, *, force: bool) -> None:
    """Give the file its name; without `force` only if nobody else has taken it meanwhile."""
    if force:
        os.rename(partial, final)
        return
    try:
        os.link(partial, final, follow_symlinks=False)
    except FileExistsError:
        raise TargetError(f"{path}: somebody else has made it meanwhile") from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            raise TargetError(f"{path}: somebody else has made it meanwhile") from None
        os.rename(partial, final)
    else:
        os.unlink(partial)


def _sync_directory(path: str) -> None:
    """Let the new name last, where the file system can do that for directories."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
