"""mount-all, mount, unmount, mounts: the daemon."""

from __future__ import annotations

import dataclasses
import enum
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..formats.text import printable
from .arguments import JsonOption, parse_memory
from .completion import complete_images
from .settings import notify, settings

if TYPE_CHECKING:
    from ..fusefs.request import MountRequest


class AllowOther(enum.StrEnum):
    """Whether other users, root among them, may look into the mount."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Check(enum.StrEnum):
    """Whether what is read of sealed images is compared with their hashes."""

    ON = "on"
    OFF = "off"


CheckOption = Annotated[
    Check,
    typer.Option("--check", help="Compare what is read of sealed images with their hashes."),
]
ForegroundOption = Annotated[
    bool, typer.Option("-f", "--foreground", help="Stay in the foreground, log to the terminal.")
]
AllowOtherOption = Annotated[
    AllowOther,
    typer.Option("--allow-other", help="Let other users in; auto: where the system allows it."),
]
TrustCatalogOption = Annotated[
    bool,
    typer.Option("--trust-catalog", help="Serve a catalog that others could have written."),
]
MemoryOption = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        parser=parse_memory,
        help="Most memory of the daemon, such as 256M. Default: what the system allows.",
    ),
]
LogFileOption = Annotated[
    str | None, typer.Option("--log-file", help="Where the daemon writes its log.")
]


def mount_all(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="An empty directory.")],
    foreground: ForegroundOption = False,
    allow_other: AllowOtherOption = AllowOther.AUTO,
    log_file: LogFileOption = None,
    check: CheckOption = Check.ON,
    trust_catalog: TrustCatalogOption = False,
    memory: MemoryOption = None,
) -> None:
    """Mount every catalogued image as a file; returns when the mount is usable.

    Images that are added or removed later appear and vanish by themselves.

    \b
    Examples:
      imgcat mount-all /mnt/images
      mount -o loop,ro /mnt/images/sda1 /mnt/sda1
      imgcat unmount /mnt/images
    """
    _start(
        directory, None, allow_other, log_file, check,
        foreground=foreground, trust_catalog=trust_catalog, memory=memory,
    )  # fmt: skip


def mount(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... DIR",
            help="Names, ids, paths or globs, and last an empty directory.",
            autocompletion=complete_images,
        ),
    ],
    foreground: ForegroundOption = False,
    allow_other: AllowOtherOption = AllowOther.AUTO,
    log_file: LogFileOption = None,
    check: CheckOption = Check.ON,
    trust_catalog: TrustCatalogOption = False,
    memory: MemoryOption = None,
) -> None:
    """Mount some of the catalogued images.

    \b
    Examples:
      imgcat mount sda1 sda2 /mnt/images
      imgcat mount 'laptop*' /mnt/images
    """
    if len(targets) < 2:  # noqa: PLR2004 - an image and a directory
        raise typer.BadParameter("an image and a directory are needed", param_hint="IMAGE... DIR")
    *images, directory = targets
    _start(
        directory, tuple(images), allow_other, log_file, check,
        foreground=foreground, trust_catalog=trust_catalog, memory=memory,
    )  # fmt: skip


def _start(
    directory: str,
    images: tuple[str, ...] | None,
    allow_other: AllowOther,
    log_file: str | None,
    check: Check,
    *,
    foreground: bool,
    trust_catalog: bool,
    memory: int | None,
) -> None:
    from ..fusefs import launch
    from ..fusefs.request import make_request

    request = make_request(
        directory,
        catalog_path=settings.db,
        images=images,
        allow_other=allow_other.value,
        log_file=log_file,
        foreground=foreground,
        trust_catalog=trust_catalog,
    )
    request = dataclasses.replace(request, compare=check is Check.ON, memory=memory)
    if foreground:
        launch.run_in_foreground(request, lambda count: _tell(request, count), notify)
    else:
        _tell(request, launch.start_in_background(request, notify))


def _tell(request: MountRequest, image_count: int) -> None:
    if settings.quiet:
        return
    images = "1 image" if image_count == 1 else f"{image_count} images"
    sys.stdout.write(f"{images} in {printable(request.mount_point)}\n")
    sys.stdout.flush()


def unmount(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The mount point.")],
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Detach even while files in it are open.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Detach, and end the daemon, whatever it waits for.")
    ] = False,
) -> None:
    """Unmount, and wait until the daemon has ended.

    \b
    Example:
      imgcat unmount /mnt/images
    """
    from ..fusefs.mounts import unmount as end_mount

    end_mount(directory, lazy=lazy, force=force)


def mounts(as_json: JsonOption = False) -> None:
    """List the running mounts.

    \b
    Example:
      imgcat mounts
    """
    from ..fusefs.mounts import mounts as running_mounts
    from .render import write_json, write_table

    found = running_mounts()
    if as_json:
        write_json(
            [{name: getattr(each, name) for name in each.__dataclass_fields__} for each in found]
        )
        return
    write_table(
        ("DIR", "STATE", "PID", "SINCE", "CATALOG", "LOG"),
        [
            (
                each.path, "serving" if each.alive else "dead", each.pid, each.started_at,
                each.catalog, each.log_file,
            )
            for each in found
        ],
    )  # fmt: skip
