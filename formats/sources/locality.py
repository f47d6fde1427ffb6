"""Whether a file lies on this machine, so that looking at it when it is open waits for nobody."""

from __future__ import annotations

import ctypes
import functools
import os

_REMOTE = frozenset(
    {
        0x0000564C,  # ncpfs
        0x00006969,  # nfs
        0x0000517B,  # smbfs
        0xFF534D42,  # cifs
        0xFE534D42,  # smb2
        0x01021997,  # 9p
        0x01161970,  # gfs2
        0x0BD00BD0,  # lustre
        0x00C36400,  # ceph
        0x20030528,  # orangefs
        0x47504653,  # gpfs
        0x5346414F,  # afs
        0x65735546,  # fuse, virtiofs too: answered by a process
        0x6B414653,  # afs, the kernel's own
        0x73757245,  # coda
        0x7461636F,  # ocfs2
        0x19830326,  # beegfs
        0x786F4256,  # vboxsf
        0xBACBACBC,  # vmhgfs
    }
)
"""Types of file systems that ask another machine or a process, as `statfs` tells them; most are
in <linux/magic.h>, the others in the sources of their drivers."""

_TYPE_MASK = (1 << 32) - 1
_LONGS = 32
"""More than `struct statfs` has; its first field is the type."""


def is_local(path: str) -> bool:
    """Tell whether a file lies in a file system of the kernel's own on this machine.

    One that cannot be told counts as one that does not. It may block.
    """
    answer = (ctypes.c_long * _LONGS)()
    if _library().statfs(os.fsencode(path), answer) != 0:
        return False
    return answer[0] & _TYPE_MASK not in _REMOTE


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
