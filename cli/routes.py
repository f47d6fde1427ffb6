"""How one gets to the files in an image: the commands, for root and without, that work just now."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
from typing import TYPE_CHECKING, NamedTuple

from ..filesystems.gate import is_read
from .filesystems import DIRECTORY, FILE_SYSTEMS, IMAGE, check_command, mount_command
from .patience import within
from .settings import settings

if TYPE_CHECKING:
    from ..catalog.records import ImageRecord, InsideRows
    from ..catalog.store import Catalog
    from ..fusefs.mounts import Mount

_LOOK_SECONDS = 2.0
"""How long one waits for a mount to say whether an image is in it."""

_SHOWN = ("ready", "damaged", "live")


class Route(NamedTuple):
    """A command on the way to the files in an image.

    Attributes:
        purpose: what it does.
        command: for a shell. DIR, PATH, OUT and TO in it are the user's.
        root: whether it needs root.
        missing: the command that installs its program, None where that is there.
    """

    purpose: str
    command: str
    root: bool
    missing: str | None = None


def routes(
    catalog: Catalog, record: ImageRecord, inside: InsideRows, status: str, mounted: str | None
) -> list[Route]:
    """Return the commands that lead to the files in an image, in the order that they are for.

    Args:
        catalog: where it is.
        record: the image.
        inside: what is in it.
        status: what it is now.
        mounted: its path in a mount, None where no mount shows it.
    """
    name = record.row.name
    if status == "needs-repack":
        out = os.path.basename(name) + ".img.zst"
        words = ["imgcat", "repack", "--replace", name, out]
        return [Route("make it readable", shlex.join(words), root=False)]
    if status in {"stale", "failed"}:
        return [Route("look again", shlex.join(["imgcat", "rescan", name]), root=False)]
    if status not in _SHOWN:
        return []
    found = _own(catalog, record, inside)
    path = mounted or os.path.join("DIR", name)
    if mounted is None:
        found.append(Route("mount the image", _mount_words(catalog, record), root=False))
    ways = _ways(record, inside, path)
    found += (way for way in ways if not way.root)
    as_root = [way for way in ways if way.root]
    if as_root and os.geteuid() and (mounted is None or not lets_others_in(mounted)):
        # Root is somebody else: what a user has mounted for himself, root cannot look into.
        command = _mount_words(catalog, record, "--trust-catalog")
        found.append(Route("mount the image", command, root=True))
        other = os.path.join("DIR", name)
        ways = _ways(record, inside, other)
        as_root = [way for way in ways if way.root]
    return found + as_root


def _own(catalog: Catalog, record: ImageRecord, inside: InsideRows) -> list[Route]:
    """Return the ways that need no other program, and no mount."""
    if inside.file_system is None or not is_read(inside.file_system.type):
        return []
    options = ["--db", catalog.path] if is_unusual(catalog) and not settings.is_temporary else []
    image = record.row.path if settings.is_temporary and record.row.path else record.row.name
    found = [
        Route("list", shlex.join(["imgcat", *options, "files", f"{image}:/"]), root=False),
    ]
    if record.row.content == "full":
        words = ["imgcat", *options, "cp", f"{image}:/PATH", "OUT"]
        found.append(Route("copy one", shlex.join(words), root=False))
    return found


def _ways(record: ImageRecord, inside: InsideRows, path: str) -> list[Route]:
    found = _of_disk(path, inside) if inside.table else _of_file_system(record.row.fs_type, path)
    for each in inside.logical_volumes:
        words = ["imgcat", "show", each.image]
        found.append(Route(f"into volume {each.group}/{each.name}", shlex.join(words), root=False))
    return found


def _mount_words(catalog: Catalog, record: ImageRecord, *options: str) -> str:
    """Return the command that mounts an image, with the catalog that root would not find."""
    if settings.is_temporary:
        assert record.row.path is not None
        return shlex.join(["imgcat", "mount", record.row.path, "DIR"])
    words = ["imgcat", "mount", *options, record.row.name, "DIR"]
    if options or is_unusual(catalog):
        words[1:1] = ["--db", catalog.path]
    return shlex.join(words)


def lets_others_in(path: str) -> bool:
    """Tell whether the mount that a path is in lets in others than who has mounted it."""
    from ..fusefs.mounts import mount_points

    real = os.path.realpath(path)
    above = [point for point in mount_points() if real.startswith(point.path.rstrip("/") + "/")]
    return bool(above) and "allow_other" in max(above, key=lambda point: len(point.path)).options


def mounted_path(catalog: Catalog, image_id: int, name: str) -> str | None:
    """Return the path of an image in a running mount, None where no mount shows it."""
    from ..fusefs.mounts import mounts

    for mount in mounts():
        if not mount.alive or mount.catalog != catalog.path or not _has(catalog, mount, image_id):
            continue
        path = os.path.join(mount.path, name)
        if within(_LOOK_SECONDS, functools.partial(os.path.exists, path)):
            return path
    return None


def _has(catalog: Catalog, mount: Mount, image_id: int) -> bool:
    from ..catalog.errors import ImageNotFoundError

    if mount.images is None:
        return True
    try:
        return image_id in catalog.resolve_many(mount.images)
    except ImageNotFoundError:
        # One of them was removed since; then only the mount itself knows.
        return True


def is_unusual(catalog: Catalog) -> bool:
    """Tell whether `imgcat` without options would use another catalog."""
    from ..catalog.store import default_path

    usual = os.environ.get("IMGCAT_DB") or default_path()
    return os.path.abspath(usual) != catalog.path


def _of_disk(path: str, inside: InsideRows) -> list[Route]:
    """Return the ways into a disk: all of its partitions, or each by its bytes."""
    found = [
        Route(
            "its table", shlex.join(["fdisk", "-l", path]), root=False, missing=_missing("fdisk")
        ),
        Route(
            "partitions as devices",
            shlex.join(["losetup", "-rP", "--find", "--show", path]),
            root=True,
        ),
    ]
    for each in inside.partitions:
        if each.is_container:
            continue
        options = f"loop,ro,offset={each.start},sizelimit={each.stop - each.start}"
        known = FILE_SYSTEMS.get((each.fs_type or "").upper())
        if known is None or known.mount_type is None:
            continue
        if known.mount_options:
            options += f",{known.mount_options}"
        words = ["mount", "-t", known.mount_type, "-o", options, path, "/mnt"]
        found.append(Route(f"mount partition {each.number}", shlex.join(words), root=True))
        if each.image is not None:
            words = ["imgcat", "show", each.image]
            found.append(Route(f"into partition {each.number}", shlex.join(words), root=False))
    return found


def _of_file_system(fs_type: str, path: str) -> list[Route]:
    found = []
    known = FILE_SYSTEMS.get(fs_type.upper())
    check = check_command(fs_type, path)
    if check is not None:
        missing = _missing(check.split()[0], known.package if known else "")
        found.append(Route("check", check, root=False, missing=missing))
    for look in known.looks if known else ():
        program = look.words[0]
        if program == "7z" and shutil.which("7z") is None and shutil.which("7zz"):
            # As another package of the same name calls it.
            program = "7zz"
        words = [
            word.replace(IMAGE, path).replace(DIRECTORY, "TO")
            for word in (program, *look.words[1:])
        ]
        command = f"{shlex.join(words)} {look.tail}".strip()
        found.append(
            Route(look.purpose, command, root=False, missing=_missing(program, look.package))
        )
    mount = mount_command(fs_type, path)
    if mount is not None:
        found.append(Route("mount", mount, root=True))
    return found


def _missing(program: str, package: str | None = None) -> str | None:
    """Return what installs a program, None where it is there."""
    # Where a user's PATH has no directory for administrators, root's has.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    if shutil.which(program, path=path):
        return None
    return f"apt-get install {package or program}"
