"""Who may read an image: whoever may read all of its files where they lie.

An owner, a group and all others each may, as the permission bits of a file in a mount say it. A
class of users keeps its bit only if every file of the image, and every directory above one, lets
all of them in. Where that cannot be told for certain, it does not. Everything that looks at files
may block; a `KnownPermissions` may be used from several threads at once.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ..records import ImageFiles

log = logging.getLogger("imgcat.catalog")

KEPT_SECONDS = 5.0
"""How long one goes by what was found."""

SUPERUSER = 0
"""The user that the kernel lets read everything."""

_ACL = "system.posix_acl_access"
_READ, _SEARCH = 0o4, 0o1
_MOST_LINKS = 40
_MANY = 256
_GROUP_AND_OTHERS = 0o044


class Permissions(NamedTuple):
    """Permission bits, of which only those to read are ever set, and whom they are for."""

    mode: int
    uid: int
    gid: int

    def allow(self, uid: int, groups: Collection[int] | None) -> bool:
        """Tell whether a user may read, as the kernel does.

        Args:
            uid: the user.
            groups: all groups that the user is in; None if they are not known.
        """
        if uid == SUPERUSER:
            return True
        if uid == self.uid:
            return bool(self.mode & 0o400)
        if groups is None:
            return self.mode & _GROUP_AND_OTHERS == _GROUP_AND_OTHERS
        return bool(self.mode & (0o040 if self.gid in groups else 0o004))


FileIdentity = tuple[int, int]
"""What tells a file from others that are there: the numbers of its device and its inode."""


class Judged(NamedTuple):
    """Who may read an image, and the files that this was told from; no others are meant."""

    permissions: Permissions
    files: frozenset[FileIdentity]


class _Object(NamedTuple):
    """A file or a directory that one must get through, and the bit that lets one."""

    bit: int
    mode: int
    uid: int
    gid: int
    has_acl: bool
    file: FileIdentity

    def lets_owner(self, uid: int) -> bool:
        """Tell whether it lets a user in for certain, whatever groups the user is in."""
        if uid == self.uid:
            return self._bit(6)
        if uid == SUPERUSER and self.bit == _SEARCH:
            return True
        return not self.has_acl and self._bit(3) and self._bit(0)

    def lets_group(self, uid: int, gid: int) -> bool:
        """Tell whether it lets in everybody of a group, except for a user."""
        return self._lets_its_owner(uid) and self._bit(3) and (gid == self.gid or self._bit(0))

    def lets_others(self, uid: int, gid: int) -> bool:
        """Tell whether it lets in everybody who is neither a user nor in a group."""
        return self._lets_its_owner(uid) and self._bit(0) and (gid == self.gid or self._bit(3))

    def _lets_its_owner(self, uid: int) -> bool:
        # Its owner may be among those who are asked for, and then only the owner's bit counts.
        return not self.has_acl and (self.uid in {uid, SUPERUSER} or self._bit(6))

    def _bit(self, shift: int) -> bool:
        return bool(self.mode & self.bit << shift)


def own_permissions() -> Permissions:
    """Return those of what nobody else may read: this program reads it as the user that it is."""
    return Permissions(0o400, os.geteuid(), os.getegid())


def permissions_of(
    files: ImageFiles,
    *,
    own_device: int | None = None,
    directories: dict[str, _Object] | None = None,
) -> Judged:
    """Return who may read an image, by what its files and the directories above them say now.

    Args:
        files: of the image.
        own_device: the device number of this program's own mount, into which one does not look.
        directories: what was found of directories a moment ago; more are put in.

    Raises:
        OSError: one of them cannot be looked at.
    """
    directories = {} if directories is None else directories
    passed: dict[str, _Object] = {}
    found = [_look_at(path, own_device, directories, passed) for path in files.paths]
    for path in files.copied:
        try:
            found.append(_look_at(path, own_device, directories, passed))
        except (FileNotFoundError, NotADirectoryError):
            continue
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no file of it is known")
    permissions = _common(found, list(passed.values()), files.paths)
    return Judged(permissions, frozenset(each.file for each in found))


def _common(
    files: Sequence[_Object], directories: Sequence[_Object], paths: Sequence[str]
) -> Permissions:
    """Return what all files and directories grant."""
    own = own_permissions()
    owners, groups = {file.uid for file in files}, {file.gid for file in files}
    uid = files[0].uid if len(owners) == 1 else own.uid
    gid = files[0].gid if len(groups) == 1 else own.gid
    everything = (*files, *directories)
    if uid == own.uid != SUPERUSER:
        # Of itself, a program need not guess.
        is_owners = all(os.access(path, os.R_OK, effective_ids=True) for path in paths)
    else:
        is_owners = len(owners) > 1 or all(each.lets_owner(uid) for each in everything)
    mode = 0o400 * is_owners
    mode |= 0o040 * all(each.lets_group(uid, gid) for each in everything)
    mode |= 0o004 * all(each.lets_others(uid, gid) for each in everything)
    return Permissions(mode, uid, gid)


def _look_at(
    path: str, own_device: int | None, known: dict[str, _Object], passed: dict[str, _Object]
) -> _Object:
    """Return what a file says; put into `passed` what the directories say that lead to it."""
    for _link in range(_MOST_LINKS):
        parent, name = os.path.split(path)
        # A `..` behind a link leads to where the link leads, and not to where it lies.
        is_plain = os.path.normpath(parent) == parent
        above = _directories_to(parent, own_device, known) if is_plain else None
        if above is None:
            parent = os.path.realpath(parent, strict=True)
            above = _directories_to(parent, own_device, known)
            if above is None:
                raise OSError(errno.EAGAIN, "is being changed", parent)
        real = os.path.join(parent, name)
        status = os.lstat(real)
        if not stat.S_ISLNK(status.st_mode):
            passed.update(above)
            return _object(real, status, _READ)
        # Who may read what a link leads to need not go through the link.
        path = os.path.join(parent, os.readlink(real))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _directories_to(
    parent: str, own_device: int | None, known: dict[str, _Object]
) -> dict[str, _Object] | None:
    """Return what a directory and those above it say; None where one of them is a link."""
    found = {}
    path = parent
    while True:
        if path not in known:
            status = os.lstat(path)
            if status.st_dev == own_device:
                # Looking at a file in there would be a request to oneself.
                raise OSError(errno.EDEADLK, "lies inside of this mount itself", path)
            if stat.S_ISLNK(status.st_mode):
                return None
            known[path] = _object(path, status, _SEARCH)
        found[path] = known[path]
        if path == os.path.dirname(path):
            return found
        path = os.path.dirname(path)


def _object(path: str, status: os.stat_result, bit: int) -> _Object:
    mode = stat.S_IMODE(status.st_mode)
    file = status.st_dev, status.st_ino
    return _Object(bit, mode, status.st_uid, status.st_gid, has_acl(path), file)


def has_acl(path: str) -> bool:
    """Tell whether a file or directory has an access control list. Links are not followed.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        return bool(os.getxattr(path, _ACL, follow_symlinks=False))
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return False
        raise


class KnownPermissions:
    """Who may read the images of a catalog, as far as that was looked up in the last seconds.

    Args:
        files_of: returns the files of an image, by its id; none if there is no such image.
    """

    def __init__(self, files_of: Callable[[int], ImageFiles]) -> None:
        self._files_of = files_of
        self._known: dict[int, tuple[Permissions, float]] = {}
        self._under_way: dict[int, float] = {}
        self._lock = threading.Lock()
        self.own_device: int | None = None

    def known(self, image_id: int) -> tuple[Permissions, float]:
        """Return who may read an image, and for how many seconds one may go by that. Looks nowhere.

        Nobody but this program's user where nothing is known, for 0 seconds.
        """
        permissions, until = self._known.get(image_id, (None, 0.0))
        left = until - time.monotonic()
        if permissions is None or left <= 0:
            return own_permissions(), 0.0
        return permissions, left

    def waits_since(self, image_id: int) -> float | None:
        """Return when a look began that has not come back, by the monotonic clock; else None."""
        return self._under_way.get(image_id)

    def look(self, image_id: int, directories: dict[str, _Object] | None = None) -> Judged:
        """Return who may read an image by what its files say now. It may block.

        Where they cannot be looked at, that is nobody but this program's user, and is logged.
        """
        began = self._begin(image_id)
        try:
            try:
                found = permissions_of(
                    self._files_of(image_id), own_device=self.own_device, directories=directories
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may read then
                found = Judged(own_permissions(), frozenset())
                self._tell(image_id, found.permissions, error)
            self._known[image_id] = (found.permissions, began + KEPT_SECONDS)
            return found
        finally:
            self._end(image_id, began)

    def look_at_all(self, image_ids: Sequence[int]) -> None:
        """Look at the files of many images of which nothing is known. It may block."""
        directories: dict[str, _Object] = {}
        for number, image_id in enumerate(image_ids):
            if number % _MANY == 0:
                # So that none of them is old, however many images there are.
                directories = {}
            if not self.known(image_id)[1] and self.waits_since(image_id) is None:
                self.look(image_id, directories)

    def _tell(self, image_id: int, found: Permissions, error: Exception) -> None:
        before = self._known.get(image_id)
        if before is None or before[0] != found:
            log.warning(
                "image %d: only the user %d may read it, for its files cannot be looked at: %s",
                image_id, found.uid, error,
            )  # fmt: skip

    def _begin(self, image_id: int) -> float:
        began = time.monotonic()
        with self._lock:
            self._under_way.setdefault(image_id, began)
        return began

    def _end(self, image_id: int, began: float) -> None:
        with self._lock:
            if self._under_way.get(image_id) == began:
                del self._under_way[image_id]
