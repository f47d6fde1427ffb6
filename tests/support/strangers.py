"""Other users of the machine: what they can read, tried by processes that have become them."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
SOMEBODY = 64001
"""A user who has no entry anywhere."""

TEAM = 64100
"""A group that has none either."""


def read_as(
    path: Path | str, uid: int = NOBODY, gid: int | None = None, groups: tuple[int, ...] = ()
) -> bytes | None:
    """Return what a user reads of a file from its beginning, None where that is denied.

    Any other failure than a denial fails the test.
    """
    others = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
    result = subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={uid if gid is None else gid}", *others,
         "head", "-c", "65536", str(path)],
        capture_output=True, check=False, timeout=60, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    if result.returncode:
        assert b"Permission denied" in result.stderr, result.stderr
        return None
    return result.stdout


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Give a directory that every user can reach, unlike those that pytest makes."""
    directory = Path(tempfile.mkdtemp(prefix="imgcat-open-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def put_acl(path: Path, uid: int, bits: int) -> None:
    """Give a file a POSIX ACL that names a user."""
    mode = path.stat().st_mode
    entries = [
        (0x01, mode >> 6 & 7, 0xFFFFFFFF), (0x02, bits, uid), (0x04, mode >> 3 & 7, 0xFFFFFFFF),
        (0x10, mode >> 3 & 7, 0xFFFFFFFF), (0x20, mode & 7, 0xFFFFFFFF),
    ]  # fmt: skip
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", value)
