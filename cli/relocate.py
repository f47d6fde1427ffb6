"""relocate: a directory of images that is elsewhere now."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .arguments import JsonOption
from .exit_codes import NOT_FOUND
from .settings import complain, open_catalog, settings


def relocate(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The directory or file that was.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Where it is now.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be changed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell the catalog that images are elsewhere now, without reading any of them.

    All that is known of them stays: names, ids, indexes. `imgcat add -r NEW` finds by itself what
    was moved; this is for a shelf that is not there just now, or is too large to be walked through.

    \b
    Examples:
      imgcat relocate /mnt/backups /media/usb/backups
      imgcat relocate --dry-run /home/partimag /srv/partimag
    """
    from ..catalog.upkeep.relocate import relocate as tell
    from ..formats.text import printable

    with open_catalog(write=not dry_run) as catalog:
        found = tell(catalog, os.path.abspath(old), os.path.abspath(new), dry_run=dry_run)
    there = sum(each.is_there for each in found)
    if as_json:
        from .render import write_json

        write_json(
            {
                "old": os.path.abspath(old),
                "new": os.path.abspath(new),
                "dry_run": dry_run,
                "files": [each._asdict() for each in found],
            }
        )
    elif not settings.quiet:
        for each in found:
            if dry_run or settings.verbose:
                what = "" if each.is_there else "  (is not there)"
                sys.stdout.write(f"{printable(each.old)} -> {printable(each.new)}{what}\n")
        would = "would be " if dry_run else ""
        files = "1 file" if len(found) == 1 else f"{len(found)} files"
        sys.stdout.write(f"{files} {would}relocated, {there} of them there\n")
    if not found:
        complain(f"{old}: no image in the catalog lies there: `imgcat ls` lists them")
        raise typer.Exit(NOT_FOUND)
