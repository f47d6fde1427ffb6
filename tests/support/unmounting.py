"""Unmounting for good: another test's table of mounts may hold a copy of a mount for a while.

A table of mounts that was copied while something was mounted has that mounted too, and until it is
gone, the file system is not written out and its file stays in use.
"""

from __future__ import annotations

import contextlib
import glob
import os
import subprocess
from typing import TYPE_CHECKING

from support.program import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_MOST_SECONDS = 120


def unmount(point: Path, file: Path) -> None:
    """Unmount what is in a file, and wait until nothing has that file any more."""
    subprocess.run(["umount", point], check=True)
    wait_until_free(file)


def unmount_fuse(point: Path, *command: str) -> None:
    """Unmount an imgcat mount with another's command, as soon as nobody looks at it.

    Whoever lists mounts, as another test may, asks each daemon that it has no record of.
    """

    def is_unmounted() -> bool:
        said = subprocess.run(
            [*command, point], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert said.returncode == 0 or "busy" in said.stderr, said.stderr
        return said.returncode == 0

    wait_until(is_unmounted, "it is unmounted", 30)


def wait_until_free(file: Path) -> None:
    """Wait until no process and no loop device has a file."""
    wait_until(lambda: not _is_used(file), f"{file} is used by nobody", _MOST_SECONDS)


def _is_used(file: Path) -> bool:
    looped = subprocess.run(
        ["losetup", "--noheadings", "--list", "-j", file], capture_output=True, check=True
    )
    if looped.stdout.strip():
        return True
    name = os.path.realpath(file)
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        if f"/{os.getpid()}/" not in link:
            with contextlib.suppress(OSError):
                if os.readlink(link) == name:
                    return True
    return False
