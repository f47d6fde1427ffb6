"""doctor: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING

import typer

from .arguments import JsonOption
from .exit_codes import NOT_SERVED
from .filesystems import FILE_SYSTEMS
from .settings import open_catalog

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

    findings = [*_mounting(), *_serving(), *_packages(), *_catalog()]
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
            "root and other users cannot look into your mounts, so loop mounts need --allow-other",
            "echo user_allow_other | sudo tee -a /etc/fuse.conf",
        )
    if os.geteuid() == 0:
        yield Finding("ok", "read-ahead can be set")
    else:
        yield Finding("note", "only root can set the read-ahead, which makes buffered reads faster")


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
    "numpy", "sqlalchemy", "alembic", "pyfuse3", "trio", "tqdm", "zstandard", "lz4",
    "isal", "xxhash",
)  # fmt: skip


def _packages() -> Iterator[Finding]:
    for package in _PACKAGES:
        if importlib.util.find_spec(package):
            yield Finding("ok", f"Python package {package} is there")
        else:
            yield Finding("missing", f"Python package {package}", f"pip install {package}")


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
