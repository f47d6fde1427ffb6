"""Whether a file lies on this machine, so that looking at it when it is open waits for nobody."""

from __future__ import annotations

import os

_REMOTE = frozenset(
    {
        "9p", "afs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "sshfs", "virtiofs",
    }
)  # fmt: skip
"""File systems that ask another machine; those that ask a process have names of their own."""


def is_local(path: str) -> bool:
    """Tell whether a file lies in a file system of the kernel's own on this machine.

    One that cannot be told counts as one that does not. It may block.
    """
    kind = _type_of(os.path.realpath(path))
    return kind is not None and kind not in _REMOTE and not kind.startswith("fuse")


def _type_of(path: str) -> str | None:
    """Return the type of the file system that a path lies in."""
    wanted = os.fsencode(path)
    best, kind = b"", None
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            left, _, right = line.partition(b" - ")
            point = _unescaped(left.split(b" ")[4])
            inside = wanted == point or wanted.startswith(point.rstrip(b"/") + b"/")
            # Of several at one point, the last one lies above the others.
            if inside and len(point) >= len(best):
                best, kind = point, right.split(b" ")[0].decode("ascii", "replace")
    return kind


def _unescaped(field: bytes) -> bytes:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    parts = field.split(b"\\")
    return parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])
