"""Whether a catalog may be served to others: whoever can write it chooses which files are read.

A row of a catalog names a file, and the daemon opens it with its own rights. So a mount by root,
and one that lets other users in, is made only of a catalog that nobody else could have written; and
a network block device likewise.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

from ..errors import UntrustedCatalogError
from .permissions import has_acl

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = 0
_BESIDE = ("", "-wal", "-journal")
"""The files that a database is read from, by the ends of their names."""

_MOST_LINKS = 40
_OVERRIDE = "or, if you trust whoever could have written it, use --trust-catalog"


def check_catalog(path: str) -> None:
    """Check that nobody could have written a catalog but root, this user, and who called sudo.

    Args:
        path: the catalog's database. One that is not there is nobody's.

    Raises:
        UntrustedCatalogError: somebody could; the message says what to do.
    """
    try:
        directories, real = _passed(os.path.abspath(path))
        for directory in directories:
            _check(path, directory, os.stat(directory, follow_symlinks=False))
        for end in _BESIDE:
            # SQLite names the files beside a database after the file that a link leads to.
            if os.path.lexists(real + end):
                _check(path, real + end, os.stat(real + end, follow_symlinks=False))
    except OSError as error:
        raise UntrustedCatalogError(
            f"{path}: cannot be trusted: {error.filename}: {error.strerror}"
        ) from error


def _passed(path: str) -> tuple[list[str], str]:
    """Return every directory that a path leads through, links followed, and where it ends."""
    found: dict[str, None] = {}
    for _link in range(_MOST_LINKS):
        for each in _prefixes(path):
            if os.path.islink(each):
                # As the system goes: a `..` leads out of where a link leads, not of where it lies.
                target = os.path.join(os.path.dirname(each), os.readlink(each))
                path = _without_dots(target + path[len(each) :])
                break
            if each.endswith("/.."):
                path = os.path.dirname(os.path.dirname(each)) + path[len(each) :] or "/"
                break
            if os.path.isdir(each):
                found[each] = None
        else:
            return list(found), path
    raise UntrustedCatalogError(f"{path}: leads through too many links: name the file itself")


def _without_dots(path: str) -> str:
    """Return a path without what leads nowhere; each ``..`` stays."""
    return "/" + "/".join(part for part in path.split("/") if part not in {"", "."})


def _prefixes(path: str) -> Iterator[str]:
    """Yield a path's directories, from the root on, and itself."""
    yield "/"
    end = path.find("/", 1)
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)
    yield path


def _check(catalog: str, path: str, status: os.stat_result) -> None:
    trusted = {_ROOT, os.geteuid(), *_caller("UID")}
    what = "" if path == catalog else f"{path} "
    if status.st_uid not in trusted:
        raise UntrustedCatalogError(
            f"{catalog}: {what}belongs to {_name(status.st_uid)}, who could have it name any file: "
            f"take it over with chown, use another catalog with --db, {_OVERRIDE}"
        )
    is_sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if (
        status.st_mode & stat.S_IWGRP
        and not is_sticky
        and status.st_gid not in {_ROOT, os.getegid(), *_caller("GID")}
    ):
        raise UntrustedCatalogError(
            f"{catalog}: {what}can be written by the group {status.st_gid}, which could have it "
            f"name any file: `chmod g-w` it and look at what `imgcat ls` shows, {_OVERRIDE}"
        )
    if status.st_mode & stat.S_IWGRP and has_acl(path):
        raise UntrustedCatalogError(
            f"{catalog}: {what}can be written by those whom its ACL names, who could have it name "
            f"any file: `setfacl -b` it and look at what `imgcat ls` shows, {_OVERRIDE}"
        )
    if status.st_mode & stat.S_IWOTH and not is_sticky:
        raise UntrustedCatalogError(
            f"{catalog}: {what}can be written by everybody, who could have it name any file: "
            f"`chmod o-w` it and look at what `imgcat ls` shows, {_OVERRIDE}"
        )


def _caller(kind: str) -> Iterator[int]:
    """Yield the user who became root with sudo, or that user's group: ``UID`` or ``GID``."""
    said = os.environ.get(f"SUDO_{kind}", "")
    if os.geteuid() == _ROOT and said.isdecimal():
        yield int(said)


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
