"""Running the program with less than it is used to: rights, disk space, devices, descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.program import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.program import Program

_RIGHTS = "-dac_override,-dac_read_search"

MODES_HOLD = ("setpriv", f"--inh-caps={_RIGHTS}", f"--bounding-set={_RIGHTS}")
"""Root as before, but permission bits hold for it as for everybody.

Another user would do as well, if it could be relied upon that another user may read the
interpreter and the libraries that the tests run with.
"""

WITHOUT_DEV_FUSE = (
    "unshare", "--mount", "sh", "-c",
    'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"',
    "sh",
)  # fmt: skip
"""A ``/dev`` of its own with next to nothing in it."""

UNUSABLE_DEV_FUSE = (
    "unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh",
)  # fmt: skip
"""A ``/dev/fuse`` that is something else."""


def run_confined(
    program: Program, prefix: Sequence[str], *arguments: object, code: int = 0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the program behind a command that confines it, and assert its exit code."""
    result = subprocess.run(
        [*prefix, *COMMAND, *map(str, arguments)],
        env=program.environment, capture_output=True, encoding="utf-8",
        errors="surrogateescape", check=False, timeout=options.pop("timeout", 60), **options,
    )  # fmt: skip
    assert result.returncode == code, (
        f"{arguments} ended with {result.returncode}, not {code}:\n{result.stdout}\n{result.stderr}"
    )
    return result


@contextlib.contextmanager
def small_disk(directory: Path, kind: str, size: int = 2 << 20) -> Iterator[Path]:
    """Mount a file system of `size` bytes, ``tmpfs`` or ``ext4``, for the time of the block."""
    point = directory / f"small-{kind}"
    point.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(point)]
    else:
        backing = directory / "small.ext4"
        with backing.open("wb") as file:
            file.truncate(size)
        subprocess.run(
            ["mkfs.ext4", "-q", "-b", "1024", "-m", "0", "-O", "^has_journal", backing], check=True
        )
        command = ["mount", "-o", "loop", str(backing), str(point)]
    subprocess.run(command, check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


def fill_up(directory: Path) -> Path:
    """Fill the file system of `directory` to its last byte, and return the file that fills it."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            with contextlib.suppress(OSError):
                while True:
                    written = file.write(bytes(size))
                    assert written
    return ballast


def mount_table() -> list[bytes]:
    """Return every mount point of this machine, as bytes, the last mounted last."""
    points = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        field = line.split(b" ")[4]
        points.append(field.decode("unicode_escape").encode("latin-1"))
    return points


def mounts_at(path: Path | bytes) -> int:
    """Return how many mounts lie at `path`, one above the other."""
    return mount_table().count(os.fsencode(path))


def end_by_force(path: Path) -> None:
    """End every mount at `path`, and the requests that its daemon will never answer."""
    while mounts_at(path):
        # Forced, the kernel fails what waits; a daemon that waits for itself ends by nothing else.
        subprocess.run(["umount", "-f", path], capture_output=True, check=False)
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)


def errno_of_reading(path: Path | int, offset: int = 0, size: int = 4096) -> int | bytes:
    """Return what is read at `offset`, or the errno of the failure to open or read it."""
    try:
        if isinstance(path, int):
            return os.pread(path, size, offset)
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno or 0


REFUSED = frozenset({errno.EIO, errno.ESTALE})
"""What a file whose image has changed may answer, beside its right bytes."""
