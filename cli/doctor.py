"""doctor: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import importlib.util
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import typer

from .arguments import JsonOption
from .exit_codes import NOT_SERVED
from .filesystems import FILE_SYSTEMS
from .settings import open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `level` is ``ok``, ``note`` or ``missing``."""

    level: str
    what: str
    mend: str | None = None


def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine lacks, and the commands that mend it.

    \b
    Example:
      imgcat doctor
    """
    from .render import write_json

    findings = [
        *_mounting(),
        *_loops(),
        *_serving(),
        *_packages(),
        *_sqlite(),
        *_catalog(),
        *_root(),
    ]
    if as_json:
        write_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mend = f"  ->  {finding.mend}" if finding.mend else ""
            sys.stdout.write(f"{finding.level:<8} {finding.what}{mend}\n")
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(NOT_SERVED)


def _mounting() -> Iterator[Finding]:
    from ..fusefs.errors import MountError
    from ..fusefs.mounts import check_fuse_device, user_allow_other

    try:
        check_fuse_device()
    except MountError as error:
        yield Finding("missing", str(error))
    else:
        yield Finding("ok", "/dev/fuse can be used")
    if shutil.which("fusermount3"):
        yield Finding("ok", "fusermount3 is there")
    else:
        yield Finding("missing", "fusermount3", "apt-get install fuse3")
    if os.geteuid() == 0 or user_allow_other():
        yield Finding("ok", "other users can be let into a mount")
    else:
        yield Finding(
            "note",
            "root and other users cannot look into your mounts, nor can `sudo mount` or a setuid "
            "ntfs-3g",
            "echo user_allow_other | sudo tee -a /etc/fuse.conf",
        )
    if os.geteuid() == 0:
        yield Finding("ok", "read-ahead can be set")
    else:
        yield Finding("note", "only root can set the read-ahead, which makes buffered reads faster")


def _loops() -> Iterator[Finding]:
    """Tell whether the partitions of a loop device get nodes of their own."""
    from ..fusefs.mounts import mount_points

    if not os.path.exists("/dev/loop-control"):
        yield Finding("note", "the kernel has no loop devices: nothing can be mounted with -o loop",
                      "modprobe loop")  # fmt: skip
        return
    # Where the kernel makes none, udev would have to: as in a container, it is not there.
    kinds = {point.fs_type for point in mount_points() if point.path == "/dev"}
    unread = _unread_tables()
    if "devtmpfs" not in kinds:
        yield Finding(
            "note",
            "`losetup -P` makes no nodes for partitions here, for /dev is no devtmpfs: `imgcat "
            "show DISK` has a mount by offset for each",
            "imgcat show DISK",
        )
    elif unread:
        yield Finding(
            "note",
            f"`losetup -P` makes no nodes for partitions: this kernel reads no {unread} tables",
            "partx -a /dev/loopN",
        )
    else:
        yield Finding("ok", "`losetup -P` makes nodes for partitions")


def _unread_tables() -> str:
    """Return the partition tables that the kernel was built without, as far as it tells."""
    try:
        with gzip.open("/proc/config.gz", "rt", encoding="utf-8") as file:
            config = file.read()
    except OSError:
        try:
            with open(f"/boot/config-{os.uname().release}", encoding="utf-8") as file:
                config = file.read()
        except OSError:
            return ""
    kinds = {"MBR": "CONFIG_MSDOS_PARTITION=y", "GPT": "CONFIG_EFI_PARTITION=y"}
    return " and ".join(kind for kind, line in kinds.items() if line not in config)


def _root() -> Iterator[Finding]:
    """Tell which catalog root uses, where that is another one than the user's."""
    from ..catalog.store import default_path

    sudo_user = os.environ.get("SUDO_USER")
    mine = os.path.abspath(settings.db or default_path())
    if os.geteuid():
        yield Finding(
            "note",
            "`sudo imgcat` has the catalog of root; with yours:",
            f"sudo imgcat --db {shlex.quote(mine)} mount-all --trust-catalog DIR",
        )
    elif sudo_user and settings.db is None:
        yield Finding(
            "note", f"as root, this is the catalog of root: {mine}", "imgcat --db FILE ..."
        )


def _kernel(name: str) -> Finding | None:
    """Return whether the kernel can mount a file system; None where a program does."""
    wanted = FILE_SYSTEMS[name].mount_type
    if wanted is None or shutil.which(f"mount.{wanted}"):
        return None
    with open("/proc/filesystems", encoding="ascii") as file:
        if wanted in file.read().split():
            return Finding("ok", f"the kernel mounts {wanted}")
    modprobe = shutil.which("modprobe", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if modprobe is not None:
        words = [modprobe, "-n", "-q", wanted]
        found = subprocess.run(words, check=False, capture_output=True)  # noqa: S603 - our own words
        if found.returncode == 0:
            return Finding("ok", f"the kernel mounts {wanted}, as a module")
    other = {"exfat": "apt-get install exfat-fuse"}.get(wanted)
    return Finding("note", f"the kernel does not mount {wanted}", other or "another kernel")


def _serving() -> Iterator[Finding]:
    from ..nbd.errors import ServeError
    from ..nbd.program import find_nbdkit

    try:
        find_nbdkit()
    except ServeError as error:
        yield Finding("note", str(error), "apt-get install nbdkit nbdkit-plugin-python libnbd-bin")
    else:
        yield Finding("ok", "nbdkit and its Python plugin can be used")


_PACKAGES = (
    "numpy", "sqlalchemy", "alembic", "pyfuse3", "trio", "tqdm", "zstandard", "lz4", "pytsk3",
    "isal", "xxhash",
)  # fmt: skip


def _packages() -> Iterator[Finding]:
    for package in _PACKAGES:
        if importlib.util.find_spec(package):
            yield Finding("ok", f"Python package {package} is there")
        else:
            yield Finding("missing", f"Python package {package}", f"pip install {package}")


def _sqlite() -> Iterator[Finding]:
    """Tell whether names of files can be looked for by parts of them."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE t USING fts5(name, tokenize='trigram')")
        except sqlite3.Error as error:
            yield Finding(
                "missing",
                f"SQLite {sqlite3.sqlite_version} of this Python has no FTS5 with trigrams"
                f" ({error}): no catalog can be made",
                "use a Python with SQLite 3.34 or newer, and FTS5",
            )
        else:
            yield Finding("ok", f"SQLite {sqlite3.sqlite_version} can be used")


def _catalog() -> Iterator[Finding]:
    from ..catalog.errors import CatalogError, CatalogMissingError

    try:
        with open_catalog() as catalog:
            fs_types = {row.fs_type.upper() for row, _volumes in catalog.list_images()}
            yield Finding("ok", f"catalog {catalog.path} can be read")
    except CatalogMissingError as error:
        yield Finding("note", str(error))
        return
    except CatalogError as error:
        yield Finding("missing", str(error))
        return
    for name in sorted(fs_types & set(FILE_SYSTEMS)):
        tools = FILE_SYSTEMS[name]
        program = tools.check[0] if tools.check else f"mount.{tools.mount_type}"
        if shutil.which(program):
            yield Finding("ok", f"{program} for {name} is there")
        else:
            yield Finding(
                "note", f"{program} for {name} is not there", f"apt-get install {tools.package}"
            )
        kernel = _kernel(name)
        if kernel is not None:
            yield kernel
