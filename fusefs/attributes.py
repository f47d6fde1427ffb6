"""What `stat` tells of what is in a mount."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pyfuse3

if TYPE_CHECKING:
    from ..catalog.opening.permissions import Permissions
    from ..catalog.records import MountEntry
    from ..filesystems.worker.wire import Entry
    from .access import Answer
    from .volumes import InsideFile

LONG, SHORT = 3600.0, 1.0
"""Seconds that the kernel may go by what it was told: of what does not change, and of what may."""

_BLOCK = 512
_GENERATION_MASK = (1 << 63) - 1
_READ, _GROUP, _OTHERS = 0o444, 0o040, 0o004


def of_image(inode: int, entry: MountEntry, access: Answer) -> pyfuse3.EntryAttributes:
    """Return those of an image's file."""
    attributes = _of(inode, entry, access)
    attributes.st_mode = pyfuse3.ModeT(stat.S_IFREG | access.permissions.mode)
    attributes.st_nlink = 1
    attributes.st_size = entry.size_bytes
    attributes.st_blocks = -(-entry.used_bytes // _BLOCK)
    attributes.st_blksize = 1 << 17
    return attributes


def of_volume(inode: int, entry: MountEntry, access: Answer) -> pyfuse3.EntryAttributes:
    """Return those of the directory of an image's files, as far as it is not known what it has."""
    attributes = _of(inode, entry, access)
    attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | searchable(access.permissions.mode))
    # One: nobody has counted how many directories there are.
    attributes.st_nlink = 1
    return attributes


def of_root(
    inode: int, image: MountEntry, access: Answer, root: Entry, *, is_real: bool
) -> pyfuse3.EntryAttributes:
    """Return those of the directory of an image's files, by the root of its file system.

    Here it is judged who may read the image: nobody else comes to its files, whatever modes those
    have. So of the root's own mode there is what is allowed to nobody who may not.

    Args:
        inode: its number in the mount.
        image: the image.
        access: who may read it.
        root: the directory in the file system.
        is_real: whether owner and mode are those that the file system has.
    """
    attributes = OfFiles(image, access, is_real=False).of(inode, root)
    mode = stat.S_IMODE(root.mode)
    allowed = access.permissions
    if not is_real or (allowed.uid != root.uid and not allowed.mode & _OTHERS):
        return attributes
    if not allowed.mode & _OTHERS:
        mode &= ~0o007
        if allowed.gid != root.gid or not allowed.mode & _GROUP:
            mode &= ~0o070
    attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | mode)
    attributes.st_uid, attributes.st_gid = root.uid, root.gid
    return attributes


def of_directory(
    inode: int, subdirectory_count: int, uid: int, gid: int, changed_ns: int
) -> pyfuse3.EntryAttributes:
    """Return those of a directory that names of images make."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = pyfuse3.InodeT(inode)
    # Short: the count of links and the time change when images come and go.
    attributes.attr_timeout = attributes.entry_timeout = SHORT
    attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o555)
    attributes.st_nlink = 2 + subdirectory_count
    attributes.st_uid, attributes.st_gid = uid, gid
    attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = changed_ns
    return attributes


def of_open_file(file: InsideFile, size: int, access: Answer) -> pyfuse3.EntryAttributes:
    """Return those of a file inside of an image that has no name any more, but is open."""
    attributes = _of(file.inode, file.image, access)
    attributes.st_mode = pyfuse3.ModeT(stat.S_IFREG | access.permissions.mode)
    attributes.st_nlink = 0
    attributes.st_size = size
    return attributes


class OfFiles:
    """Makes those of the files inside of one image, one after the other in the same object.

    Args:
        image: the image.
        access: who may read it.
        is_real: whether owners and modes are those that the file system has.
    """

    def __init__(self, image: MountEntry, access: Answer, *, is_real: bool) -> None:
        self._attributes = _of(0, image, access)
        self._permissions: Permissions = access.permissions
        self._is_real = is_real
        if is_real:
            # They do not change: who may read the image is judged at its directory.
            self._attributes.attr_timeout = LONG

    def of(self, inode: int, entry: Entry) -> pyfuse3.EntryAttributes:
        """Return those of a file, until the next one is asked for."""
        attributes = self._attributes
        attributes.st_ino = pyfuse3.InodeT(inode)
        kind = stat.S_IFMT(entry.mode)
        if self._is_real:
            attributes.st_mode = pyfuse3.ModeT(entry.mode)
            attributes.st_uid, attributes.st_gid = entry.uid, entry.gid
        else:
            bits = self._permissions.mode & _READ
            mode = searchable(bits) if kind == stat.S_IFDIR else bits
            attributes.st_mode = pyfuse3.ModeT(kind | mode)
        attributes.st_nlink = entry.links
        attributes.st_size = entry.size
        attributes.st_rdev = entry.device
        stored = entry.stored or (entry.size if kind == stat.S_IFREG else 0)
        attributes.st_blocks = -(-stored // _BLOCK)
        times = entry.times
        modified = times.modified or 0
        attributes.st_mtime_ns = modified
        attributes.st_atime_ns = modified if times.accessed is None else times.accessed
        attributes.st_ctime_ns = modified if times.changed is None else times.changed
        return attributes


def searchable(mode: int) -> int:
    """Return the bits of a directory that whoever may read it may also search."""
    return mode & _READ | (mode & _READ) >> 2


def _of(inode: int, entry: MountEntry, access: Answer) -> pyfuse3.EntryAttributes:
    """Return what all that comes from one image has in common."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = pyfuse3.InodeT(inode)
    # Should a number come again, the kernel still tells one content from another.
    attributes.generation = entry.content_key & _GENERATION_MASK
    # What the name leads to is told when it changes; what modes the files have is not.
    attributes.entry_timeout, attributes.attr_timeout = LONG, access.seconds
    # Who may read the image's files may read the image, and nobody else.
    permissions = access.permissions
    attributes.st_uid, attributes.st_gid = permissions.uid, permissions.gid
    changed_ns = entry.mtime_ns
    attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = changed_ns
    return attributes
