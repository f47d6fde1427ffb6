"""Mount points: what is mounted where, whether it lives, and ending it. No FUSE needed.

The kernel's mount table says what is mounted. A daemon also keeps a small file in a run-time
directory, with its process id, and holds a lock on it: who cannot get the lock knows that the
daemon lives, even if the id was used again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from ..catalog.database import runtime
from .errors import MountError, NotMountedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FS_TYPE = "fuse.imgcat"
_POLL_SECONDS = 0.02

_IN_USE = "busy"
"""What who unmounts says of a mount that is in use, among other words."""

_IN_USE_SECONDS = 2.0
"""How long one waits for who uses a mount: `df`, a desktop, or an indexer does for a moment."""


@dataclasses.dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of the kernel's mount table.

    `id` is the mount's, `parent_id` that of the one which it is mounted in, `options` those of the
    file system.
    """

    path: str
    fs_type: str
    device: str
    id: int
    parent_id: int
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """An imgcat mount. `alive` is False for one whose daemon died without unmounting.

    `images` are those that were asked for, None where it is all of the catalog. `files` tells
    whether the files in them are shown too, `real_modes` whether with the modes that they have.
    """

    path: str
    alive: bool
    pid: int | None
    catalog: str | None
    log_file: str | None
    started_at: str | None
    images: list[str] | None = None
    files: bool = False
    real_modes: bool = False


def mount_points() -> list[MountPoint]:
    """Return the mount table of this process. Touches no mount."""
    found = []
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            left, _, right = line.partition(b" - ")
            fields = left.split(b" ")
            found.append(
                MountPoint(
                    os.fsdecode(_unescape(fields[4])), right.split(b" ")[0].decode(),
                    fields[2].decode(), int(fields[0]), int(fields[1]),
                    tuple(os.fsdecode(right.split(b" ")[-1].strip()).split(",")),
                )
            )  # fmt: skip
    return found


def mounts() -> list[Mount]:
    """Return every imgcat mount. Those without a record of ours are asked whether they live."""
    found = []
    for point in mount_points():
        if point.fs_type != FS_TYPE:
            continue
        record = _read_record(point.path)
        facts = record or {}
        found.append(
            Mount(
                path=point.path,
                alive=record is not None or _answers(point.path),
                pid=facts.get("pid"),
                catalog=facts.get("catalog"),
                log_file=facts.get("log_file"),
                started_at=facts.get("started_at"),
                images=facts.get("images"),
                files=bool(facts.get("files")),
                real_modes=bool(facts.get("real_modes")),
            )
        )
    return found


def is_imgcat_mount(path: str) -> bool:
    """Tell whether an imgcat mount is the topmost one at `path`."""
    return any(point.path == path and point.fs_type == FS_TYPE for point in mount_points())


def real_path(path: str) -> str:
    """Return `path` without links, not touching what is mounted there: its daemon may hang."""
    head, tail = os.path.split(os.path.abspath(path))
    point = os.path.join(os.path.realpath(head), tail)
    return point if is_imgcat_mount(point) else os.path.realpath(point)


def prepare_mount_point(path: str) -> str | None:
    """Check that one can mount at `path`; a dead imgcat mount there is cleared away.

    Whether the directory is empty, its `mount_target.MountTarget` tells.

    Returns:
        What was cleared, in words, or None.

    Raises:
        MountError: one cannot; the message says what to do.
    """
    notice = None
    if is_imgcat_mount(path) and not _lives(path):
        _unmount(path, lazy=True)
        notice = f"{path}: cleared a dead mount that a killed daemon had left"
    if is_imgcat_mount(path):
        raise MountError(
            f"{path}: is an imgcat mount already: `imgcat unmount {shlex.quote(path)}` ends it"
        )
    try:
        os.statvfs(path)
    except FileNotFoundError:
        raise MountError(f"{path}: there is no such directory: make it with mkdir") from None
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    if not os.path.isdir(path):
        raise MountError(f"{path}: is not a directory")
    return notice


def check_fuse_device() -> None:
    """Check that FUSE can be used on this machine.

    Raises:
        MountError: it cannot; the message says what to do.
    """
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MountError("/dev/fuse is not there: load the module with `modprobe fuse`") from None
    except PermissionError:
        raise MountError("/dev/fuse cannot be opened: ask for access to it") from None
    except OSError as error:
        raise MountError(
            f"/dev/fuse cannot be used ({error.strerror}): load the module with `modprobe fuse`"
        ) from error
    os.close(fd)
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is not there: install the package fuse3")


def user_allow_other() -> bool:
    """Tell whether /etc/fuse.conf lets users make mounts that others can see."""
    try:
        with open("/etc/fuse.conf", encoding="utf-8", errors="replace") as file:
            return any(line.strip() == "user_allow_other" for line in file)
    except OSError:
        return False


def decide_allow_other(wish: str) -> bool:
    """Return whether to mount with allow_other.

    Args:
        wish: ``on``, ``off``, or ``auto``: on where that is allowed.

    Raises:
        MountError: it is wished for and forbidden.
    """
    allowed = os.geteuid() == 0 or user_allow_other()
    if wish == "on" and not allowed:
        raise MountError(
            "--allow-other=on is forbidden here: add the line `user_allow_other` to "
            "/etc/fuse.conf, or leave the option away"
        )
    return allowed and wish != "off"


def unmount(path: str, *, lazy: bool = False, force: bool = False, seconds: float = 10.0) -> None:
    """End the mount at `path`, and wait until its daemon has gone, unless `lazy`.

    Args:
        path: the mount point.
        lazy: detach it even while files in it are open.
        force: detach it and end its daemon, whatever is open or waits; who reads is told an error.
        seconds: how long to wait for the daemon.

    Raises:
        NotMountedError: there is no imgcat mount.
        MountError: it is in use, or the daemon does not end.
    """
    path = real_path(path)
    if not is_imgcat_mount(path):
        raise NotMountedError(f"{path}: is not an imgcat mount; `imgcat mounts` lists them")
    _unmount(path, lazy=lazy or force or not _lives(path))
    if force:
        _end_daemon(path, seconds / 2)
        return
    if lazy:
        # It serves those who have files open, as long as they do.
        return
    deadline = time.monotonic() + seconds
    while _read_record(path) is not None:
        if time.monotonic() > deadline:
            raise MountError(f"{path}: unmounted, but its daemon still finishes a read")
        time.sleep(_POLL_SECONDS)


def _end_daemon(path: str, seconds: float) -> None:
    """End the daemon of a mount, if it is ours; it is told first, and killed if it does not listen.

    It holds its record locked as long as it lives, so that no other process is meant.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        record = _read_record(path)
        if record is None or "pid" not in record:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(record["pid"]), number)
        deadline = time.monotonic() + seconds
        while _read_record(path) is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _lives(path: str) -> bool:
    """Tell whether a daemon serves the mount at `path`; one that has a record is not asked."""
    return _read_record(path) is not None or _answers(path)


def _answers(path: str, seconds: float = 1.0) -> bool:
    """Ask a mount without a record of ours whether a daemon, maybe another user's, serves it.

    Not stat: the kernel may still answer that from its cache for a dead mount. A daemon that says
    nothing lives: a dead mount says so at once. Asked in a thread that one may leave behind, for
    nothing can take back a question to a daemon that is stopped.
    """
    answers: list[int] = []

    def ask() -> None:
        try:
            os.statvfs(path)
        except OSError as error:
            answers.append(error.errno or 0)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return errno.ENOTCONN not in answers


def _unmount(path: str, *, lazy: bool) -> None:
    fusermount = shutil.which("fusermount3")
    command = [fusermount, "-u"] if fusermount else ["umount"]
    if lazy:
        command.append("-z" if fusermount else "-l")
    said = _run_until_free([*command, "--", path])
    if said is None:
        return
    if _IN_USE in said:
        raise MountError(
            f"{path}: is in use: close the files (`fuser -vm {path}`), detach loop devices "
            "(`losetup -a`), or use --lazy"
        )
    raise MountError(f"{path}: {said or 'could not be unmounted'}")


def _run_until_free(command: Sequence[str]) -> str | None:
    """Run what unmounts, again while the mount is in use; return what it says if it fails."""
    deadline = time.monotonic() + _IN_USE_SECONDS
    while True:
        result = subprocess.run(  # noqa: S603 - a fixed program
            command, capture_output=True, text=True, errors="replace", check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        if result.returncode == 0:
            return None
        if _IN_USE not in result.stderr or time.monotonic() > deadline:
            return result.stderr.strip()
        time.sleep(_POLL_SECONDS)


# -- the record of a running daemon ----------------------------------------


def runtime_directory() -> str:
    """Return the directory for the records of running daemons, made if need be.

    Raises:
        MountError: it belongs to somebody else.
    """
    try:
        return runtime.runtime_directory()
    except runtime.NotOursError as error:
        raise MountError(str(error)) from error


def state_directory() -> str:
    """Return the directory for logs, made if need be."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = os.path.join(base, "imgcat")
    os.makedirs(path, exist_ok=True)
    return path


def digest_of(path: str) -> str:
    """Return a short name for a mount point, good for file names."""
    return hashlib.blake2b(os.fsencode(path), digest_size=6).hexdigest()


@contextlib.contextmanager
def daemon_record(path: str, facts: dict[str, Any]) -> Iterator[None]:
    """Keep the record of the daemon of the mount at `path` for the time of the block."""
    record = _record_path(path)
    fd = os.open(record, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock_record(fd, path)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(facts).encode(), 0)
        # The file stays when the lock goes: unlinking it would let two daemons lock two files.
        yield
    finally:
        os.close(fd)


def _lock_record(fd: int, path: str, seconds: float = 5.0) -> None:
    """Lock the record; the daemon of a mount that has just ended may need a moment to let go."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                pid = json.loads(os.pread(fd, 1 << 16, 0) or b"{}").get("pid")
                raise MountError(
                    f"{path}: the daemon of the mount before (process {pid}) still runs: "
                    "wait for it, or end it"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _record_path(path: str) -> str:
    return os.path.join(runtime_directory(), f"{digest_of(path)}.json")


def _read_record(path: str) -> dict[str, Any] | None:
    """Return the facts of the daemon that serves `path`, None if none lives."""
    try:
        fd = os.open(_record_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            facts: dict[str, Any] = json.loads(os.pread(fd, 1 << 16, 0) or b"{}")
            return facts
        return None
    finally:
        os.close(fd)


def _unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    parts = field.split(b"\\")
    return parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])
