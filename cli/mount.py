"""mount-all, mount, unmount, mounts: the daemon."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..formats.text import printable
from ..fusefs.errors import MountError
from .arguments import JsonOption, parse_memory
from .completion import complete_images
from .exit_codes import code_of, message_of
from .patience import within
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..fusefs.mounts import Mount
    from ..fusefs.request import MountRequest

_LOOK_SECONDS = 2.0
"""How long one looks which files are missing, once the mount is usable."""


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
FilesOption = Annotated[
    bool,
    typer.Option("--files", help="The files in each image too, in DIR/files/NAME."),
]
RealModesOption = Annotated[
    bool,
    typer.Option(
        "--real-modes",
        help="With --files: owners and modes that the files have, not those of the image.",
    ),
]
IndexOption = Annotated[
    bool,
    typer.Option(
        "--index", help="Write the files of all images into the catalog meanwhile; see index."
    ),
]
LogFileOption = Annotated[
    str | None, typer.Option("--log-file", help="Where the daemon writes its log.")
]


def mount_all(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="An empty directory; made if need be.")
    ],
    foreground: ForegroundOption = False,
    allow_other: AllowOtherOption = AllowOther.AUTO,
    log_file: LogFileOption = None,
    check: CheckOption = Check.ON,
    trust_catalog: TrustCatalogOption = False,
    memory: MemoryOption = None,
    files: FilesOption = False,
    real_modes: RealModesOption = False,
    index: IndexOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mount every catalogued image as a file; returns when the mount is usable.

    Images that are added or removed later appear and vanish by themselves. Where they are mounted
    already, there is nothing to do.

    \b
    Examples:
      imgcat mount-all /mnt/images
      mount -o loop,ro /mnt/images/sda1 /mnt/sda1
      imgcat mount-all /mnt/images --files
      imgcat unmount /mnt/images
    """
    _start(
        directory, None, allow_other, log_file, check,
        foreground=foreground, trust_catalog=trust_catalog, memory=memory, as_json=as_json,
        files=files, real_modes=real_modes, index=index,
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
    files: FilesOption = False,
    real_modes: RealModesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mount some of the catalogued images; or files, without a catalog.

    \b
    Examples:
      imgcat mount sda1 sda2 /mnt/images
      imgcat mount sda1.img.zst /mnt/images
      imgcat mount 'laptop*' /mnt/images
    """
    if len(targets) < 2:  # noqa: PLR2004 - an image and a directory
        raise typer.BadParameter("an image and a directory are needed", param_hint="IMAGE... DIR")
    *images, directory = targets
    with _catalog_of(images) as is_temporary:
        _start(
            directory, tuple(images), allow_other, log_file, check,
            foreground=foreground, trust_catalog=trust_catalog, memory=memory, as_json=as_json,
            is_temporary=is_temporary, files=files, real_modes=real_modes,
        )  # fmt: skip


@contextlib.contextmanager
def _catalog_of(images: list[str]) -> Iterator[bool]:
    """Have a catalog that knows the images; tell whether it is one that goes with the mount."""
    from .straight import are_only_files, fill_catalog

    if not are_only_files(images):
        yield False
        return
    from ..catalog.database.runtime import new_directory, runtime_directory

    directory = new_directory(runtime_directory(), "mount-of-files-")
    try:
        settings.db = os.path.join(directory, "catalog.db")
        with fill_catalog(settings.db, images):
            pass
        yield True
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


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
    as_json: bool,
    files: bool,
    real_modes: bool,
    index: bool = False,
    is_temporary: bool = False,
) -> None:
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
    request = dataclasses.replace(
        request, compare=check is Check.ON, memory=memory, is_temporary=is_temporary,
        files=files or real_modes, real_modes=real_modes, index=index,
    )  # fmt: skip
    if _is_done(request, as_json=as_json):
        return
    was_made = _make_mount_point(directory, request.mount_point)
    try:
        _launch(request, foreground=foreground, as_json=as_json)
    except MountError:
        # Somebody else may have mounted it meanwhile.
        if not _is_done(request, as_json=as_json):
            raise
    except BaseException:
        if was_made:
            with contextlib.suppress(OSError):
                os.rmdir(request.mount_point)
        raise


def _is_done(request: MountRequest, *, as_json: bool) -> bool:
    """Tell whether there is nothing to do, for it is mounted already; the user is told that too.

    Raises:
        MountError: it is, but does not show what is asked for.
    """
    running = _mounted_already(request) if request.images is None else None
    if running is None:
        return False
    _check_shows_files(request, running)
    if as_json:
        _tell_json(request, already=True, images=None, missing=None)
    else:
        notify(f"{request.mount_point}: is mounted already, with this catalog")
    return True


def _mounted_already(request: MountRequest) -> Mount | None:
    """Return the mount of all images of the same catalog there, if its daemon lives."""
    from ..fusefs.mounts import mounts as running_mounts

    try:
        running = running_mounts()
    except OSError:
        # Mounting says what is wrong with the place of the records.
        return None
    there = [
        each
        for each in running
        if each.alive and each.images is None and each.path == request.mount_point
    ]
    if not there:
        # Before a daemon is started, nothing is loaded that might start a thread.
        return None
    from ..catalog.store import default_path

    return there[-1] if there[-1].catalog == (request.catalog_path or default_path()) else None


def _check_shows_files(request: MountRequest, running: Mount) -> None:
    """Refuse to leave a mount as it is that does not show what is asked for.

    Raises:
        MountError: it is without the files in the images, or without their modes.
    """
    lacking = [
        option
        for option, is_wanted, is_there in (
            ("--files", request.files, running.files),
            ("--real-modes", request.real_modes, running.real_modes),
        )
        if is_wanted and not is_there
    ]
    if lacking:
        path = shlex.quote(request.mount_point)
        raise MountError(
            f"{request.mount_point}: is mounted already, without {' and '.join(lacking)}:"
            f" `imgcat unmount {path}`, and mount it again"
        )


def _make_mount_point(directory: str, path: str) -> bool:
    """Make the directory to mount on if there is none but its parent; tell whether it was made.

    Args:
        directory: as the user has named it.
        path: where it leads.
    """
    from ..fusefs.mounts import is_imgcat_mount

    # What is mounted there may not answer.
    if is_imgcat_mount(path) or os.path.lexists(directory):
        return False
    if not os.path.isdir(os.path.dirname(path)):
        return False
    try:
        os.mkdir(path)
    except OSError:
        # Mounting says what is wrong with it.
        return False
    return True


def _launch(request: MountRequest, *, foreground: bool, as_json: bool) -> None:
    from ..fusefs import launch

    def tell(image_count: int) -> None:
        if as_json:
            _tell_json(request, already=False, images=image_count, missing=None)
        else:
            _tell(request, image_count)

    if foreground:
        launch.run_in_foreground(request, tell, notify)
        return
    image_count = launch.start_in_background(request, notify)
    if not as_json:
        # The mount is usable already, whatever disk does not answer.
        _tell(request, image_count)
    paths = _image_paths(request)
    gone = within(_LOOK_SECONDS, lambda: sum(not os.path.exists(path) for path in paths))
    if as_json:
        _tell_json(request, already=False, images=image_count, missing=gone)
    elif gone:
        what = "all images" if gone == len(paths) else f"{gone} of {len(paths)} images"
        notify(f"the files of {what} are missing: `imgcat ls --status missing` lists them")


def _image_paths(request: MountRequest) -> list[str]:
    """Return the first file of each image that is mounted and has any."""
    with open_catalog() as catalog:
        ids = None
        if request.images is not None:
            ids = set(catalog.resolve_many(request.images, directory=request.directory))
        return [path for each, path in catalog.paths() if ids is None or each in ids]


def _tell(request: MountRequest, image_count: int) -> None:
    if settings.quiet:
        return
    images = "1 image" if image_count == 1 else f"{image_count} images"
    sys.stdout.write(f"{images} in {printable(request.mount_point)}\n")
    sys.stdout.flush()


def _tell_json(
    request: MountRequest, *, already: bool, images: int | None, missing: int | None
) -> None:
    from .render import write_json

    write_json(
        {
            "path": request.mount_point,
            "outcome": "was mounted" if already else "mounted",
            "images": images,
            "missing": missing,
        }
    )
    sys.stdout.flush()


def unmount(
    directories: Annotated[
        list[str] | None, typer.Argument(metavar="DIR...", help="The mount points.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every running mount.")] = False,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Detach even while files in it are open.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Detach, and end the daemon, whatever it waits for.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Unmount, and wait until the daemon has ended. `umount` does the same.

    \b
    Examples:
      imgcat unmount /mnt/images
      imgcat unmount --all
    """
    from ..fusefs.mounts import mounts as running_mounts
    from ..fusefs.mounts import unmount as end_mount
    from .render import write_json

    if bool(directories) == every:
        raise typer.BadParameter("name mount points, or give --all", param_hint="DIR...")
    worst = 0
    chosen = directories or [each.path for each in running_mounts()]
    told: list[dict[str, str | None]] = []
    for directory in chosen:
        try:
            end_mount(directory, lazy=lazy, force=force)
        except MountError as error:
            if not as_json:
                complain(message_of(error))
            told.append({"path": directory, "outcome": "failed", "detail": message_of(error)})
            worst = max(worst, code_of(error))
        else:
            told.append({"path": directory, "outcome": "unmounted", "detail": None})
    if as_json:
        write_json(told)
    elif not chosen:
        notify("nothing is mounted")
    raise typer.Exit(worst)


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
    if not found:
        notify("nothing is mounted")
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
