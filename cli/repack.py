"""repack: an image written anew so that any of it can be read at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import ImageArgument, JsonOption
from .exit_codes import naming
from .progress import byte_bar
from .settings import complain, open_catalog, settings
from .signals import ending_on_signals

if TYPE_CHECKING:
    from ..catalog.upkeep.repack import Repacked

_LEVEL = 3
_HIGHEST = 19


def repack(
    image: ImageArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The new file, e.g. sda1.img.zst.")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Let the catalog's entry be of the new file from now on."),
    ] = False,
    remove_old: Annotated[
        bool,
        typer.Option("--remove-old", help="With --replace: then delete the files it was before."),
    ] = False,
    level: Annotated[
        int, typer.Option(min=1, max=_HIGHEST, help="How hard to compress, as zstd has it.")
    ] = _LEVEL,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, help="Threads; as many as processors by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an image as independent zstd frames, so that any of it is read at once.

    For images that are compressed without seek points, and for faster reads of all others. The
    result is in the zstd seekable format: `zstd -d` unpacks it to the image as it was. It is read
    back and compared before it gets its name.

    \b
    Examples:
      imgcat repack sda1 sda1.img.zst
      imgcat repack --replace sda1 /backups/sda1.img.zst
    """
    from ..catalog.upkeep import repack as repacking
    from ..formats.codecs.zstd.seekable import Packing
    from ..formats.files.new_file import TargetError
    from ..formats.text import printable
    from .render import human_size

    if remove_old and not replace:
        raise typer.BadParameter("goes with --replace", param_hint="--remove-old")
    with open_catalog(write=replace) as catalog:
        image_id = catalog.resolve(image)
        record = catalog.get(image_id)
        plain = sum(stream.plain_bytes for stream in record.streams) or record.row.stored_bytes
        try:
            with (
                naming(record.row.name),
                ending_on_signals(),
                byte_bar(2 * plain, record.row.name) as progress,
            ):
                done = repacking.repack(
                    catalog, image_id, out,
                    force=force, packing=Packing(level, jobs), progress=progress,
                )  # fmt: skip
                if replace:
                    repacking.adopt(catalog, done)
        except TargetError as error:
            raise typer.BadParameter(printable(str(error)), param_hint="OUT") from None
    removed = _remove(done) if remove_old else []
    if as_json:
        from .render import write_json

        write_json(
            {
                "id": image_id,
                "name": done.before.row.name,
                "out": done.path,
                "stored_before": done.before.row.stored_bytes,
                "stored_now": done.stored_now,
                "replaced": replace,
                "removed": removed,
            }
        )
    elif not settings.quiet:
        before, now = human_size(done.before.row.stored_bytes), human_size(done.stored_now)
        sys.stdout.write(
            f"repacked  {printable(done.before.row.name)}: {printable(out)}, "
            f"{before} before, {now} now\n"
        )


def _remove(done: Repacked) -> list[str]:
    """Delete the old files: the new one is on the disk, and the catalog knows it."""
    removed = []
    for path in (volume.path for volume in done.before.volumes):
        if os.path.exists(path) and os.path.samefile(path, done.path):
            continue
        try:
            os.unlink(path)
        except OSError as error:
            complain(f"{path}: stays: {error.strerror}")
        else:
            removed.append(path)
    return removed
