"""New files that appear under their name only when they are whole and on the disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTIAL_SUFFIX = ".imgcat-partial"
"""What the name of an unfinished file ends with."""

_PARTIAL_PATTERN = r"\.[0-9a-f]{8}" + re.escape(PARTIAL_SUFFIX)

NAME_MAX = 255
"""Bytes that the kernel allows in a name."""

DESCRIPTORS = "/proc/self/fd"

NO_UNNAMED_FILES = frozenset(
    {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.EPERM}
)

_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)

SPECIAL = {
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
"""What is not replaced by another file: who names it means what is behind it."""


class TargetError(Exception):
    """The target cannot take the image as it is; nothing was written to it."""


@contextlib.contextmanager
def new_file(path: str, *, force: bool, mode: int = 0o666) -> Iterator[int]:
    """Give a descriptor to write a file with, which gets its name at the end of the block.

    Until then it has none, where the file system can do that, so that nothing stays of it however
    the process ends. Where it cannot, it is as in `new_named_file`. An existing file keeps its
    permissions.

    Args:
        path: the file; of a link, where it leads to.
        force: replace an existing file, but nothing that is no regular file.
        mode: its permissions, but for the process's mask.

    Raises:
        TargetError: it is there and `force` is not given, or it is no regular file.
        OSError: it cannot be written; the error names `path`.
    """
    final, before = _final_of(path, force=force)
    with naming(path):
        _remove_abandoned(final)
        fd = _open_unnamed(os.path.dirname(final), mode)
    if fd is None:
        with new_named_file(path, force=force, mode=mode) as (fd, _partial):
            yield fd
        return
    try:
        _keep_mode(fd, before, path)
        yield fd
        with naming(path):
            os.fsync(fd)
            _link_unnamed(fd, final, path, force=force)
    finally:
        os.close(fd)
    _sync_directory(os.path.dirname(final))


@contextlib.contextmanager
def new_named_file(path: str, *, force: bool, mode: int = 0o666) -> Iterator[tuple[int, str]]:
    """Do as `new_file` for a file that must have a name, which is given too, while it is written.

    If anything interrupts this there is no new file under any name. If the process is killed
    outright, one that ends with `PARTIAL_SUFFIX` stays, until the next time that `path` is written.

    Raises:
        As `new_file`.
    """
    final, before = _final_of(path, force=force)
    with naming(path):
        _remove_abandoned(final)
        fd, partial = _open_partial(final, mode)
    try:
        try:
            _keep_mode(fd, before, path)
            yield fd, partial
            with naming(path):
                os.fsync(fd)
                _publish(partial, final, path, force=force)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    _sync_directory(os.path.dirname(final))


def _final_of(path: str, *, force: bool) -> tuple[str, os.stat_result | None]:
    """Return where a path leads to, and what is there."""
    # A link keeps on leading there.
    final = os.path.realpath(path)
    before = _existing(path)
    if before is not None:
        _check_is_file(path, before.st_mode)
        if not force:
            raise TargetError(f"{path}: is there already: --force replaces it")
    return final, before


def _check_is_file(path: str, mode: int) -> None:
    """Refuse what a file must not take the place of, whatever is forced."""
    if stat.S_ISDIR(mode):
        raise TargetError(f"{path}: is a directory: name a file in it")
    if stat.S_IFMT(mode) in SPECIAL:
        what = SPECIAL[stat.S_IFMT(mode)]
        raise TargetError(f"{path}: is {what}, which is not replaced: name a file")


def _keep_mode(fd: int, before: os.stat_result | None, path: str) -> None:
    if before is not None:
        with naming(path):
            os.fchmod(fd, stat.S_IMODE(before.st_mode) & 0o777)


def _open_unnamed(directory: str, mode: int) -> int | None:
    """Return a file without a name in a directory, None where there cannot be one."""
    if not os.path.isdir(DESCRIPTORS):
        # It could not be given a name.
        return None
    try:
        return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in NO_UNNAMED_FILES:
            return None
        raise


def _link_unnamed(fd: int, final: str, path: str, *, force: bool) -> None:
    """Give a file its first name."""
    descriptors = os.open(DESCRIPTORS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By the number in a directory: Python follows the link there only if it is asked that way.
        if not force:
            try:
                os.link(str(fd), final, src_dir_fd=descriptors, follow_symlinks=True)
            except FileExistsError:
                raise TargetError(f"{path}: somebody else has made it meanwhile") from None
            return
        # What is there can be replaced by what has a name only.
        partial = _partial_name(final)
        os.link(str(fd), partial, src_dir_fd=descriptors, follow_symlinks=True)
    finally:
        os.close(descriptors)
    try:
        os.rename(partial, final)
    except BaseException:
        os.unlink(partial)
        raise


def _open_partial(final: str, mode: int) -> tuple[int, str]:
    """Return a new file and its name, locked for as long as the process lives."""
    while True:
        partial = _partial_name(final)
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd, partial
        except OSError:
            # A file system without locks: nobody removes what cannot be locked.
            return fd, partial
        # Somebody took it for abandoned before it was locked.
        os.close(fd)


def _remove_abandoned(final: str) -> None:
    """Remove what killed processes have left that wrote the same file."""
    directory, name = os.path.split(final)
    pattern = re.compile(re.escape(_stem(name)) + _PARTIAL_PATTERN)
    try:
        names = os.listdir(directory)
    except OSError:
        # One may be allowed to write there and not to look.
        return
    for found in filter(pattern.fullmatch, names):
        path = os.path.join(directory, found)
        # Who is not allowed to, or finds it locked, leaves it.
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(fd)


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
    return os.path.join(directory, f"{_stem(name)}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}")


def _stem(name: str) -> str:
    """Return what the name of an unfinished file begins with."""
    return os.fsdecode(os.fsencode(name)[: NAME_MAX - len(f".01234567{PARTIAL_SUFFIX}")])


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
