"""rm, rescan: the images of the catalog."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import DAMAGED, NOT_FOUND, NOT_SUPPORTED, OF_ONE_IMAGE, code_of, message_of
from .patience import look_at_images
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from ..catalog.adding.outcome import Ingested
    from ..catalog.records import ImageRecord, ImageRow
    from ..catalog.store import Catalog


_ASKED_OF = 5
"""Names that a question shows."""


def damage_of(ingested: Ingested, *, silent: bool = False) -> int:
    """Tell what is wrong with an image, and return the exit code that it calls for."""
    row = ingested.record.row
    if row.status_detail is None:
        return 0
    if not silent:
        complain(f"{row.path or row.name}: {row.status}: {row.status_detail}")
    return {"missing": NOT_FOUND, "needs-repack": NOT_SUPPORTED}.get(row.status, DAMAGED)


def error_line(path: str, error: Exception) -> str:
    """Return what is wrong, behind the path that it is about."""
    text = message_of(error)
    return text if text.startswith((f"{path}:", f"{os.path.abspath(path)}:")) else f"{path}: {text}"


def fs_of(row: ImageRow) -> str:
    """Return the file system, and where only some of it was saved on purpose, which part."""
    return row.fs_type if row.content == "full" else f"{row.fs_type} ({row.content})"


def listed_fields(row: ImageRow, status: str) -> dict[str, Any]:
    """Return the columns of an image, with its status as it is now."""
    names = row.__dataclass_fields__.keys() - {"status_before", "detail_before"}
    fields = {name: getattr(row, name) for name in row.__dataclass_fields__ if name in names}
    is_as_kept = status == row.status
    return fields | {"status": status, "status_detail": row.status_detail if is_as_kept else None}


def rm(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE...]",
            help="Names, ids, paths or globs.",
            autocompletion=complete_images,
        ),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Those whose files are not there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be forgotten.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Do not ask before several are forgotten.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget images. Their files are not touched.

    On a terminal, it asks before more than one is forgotten.

    \b
    Examples:
      imgcat rm sda1
      imgcat rm 'old-*'
      imgcat rm --missing --dry-run
    """
    if not images and not missing:
        raise typer.BadParameter("name images, or give --missing", param_hint="IMAGE...")
    with open_catalog(write=True) as catalog:
        ids = _to_forget(catalog, images, only_missing=missing)
        if dry_run:
            names = [catalog.name_of(image_id) for image_id in ids]
            _tell_forgotten(ids, names, "would go", as_json=as_json)
            return
        if not _is_sure(catalog, ids, yes=yes or as_json):
            notify("nothing was forgotten")
            return
        # Not all of the record: one that is damaged can be removed too.
        names = [catalog.name_of(image_id) for image_id in ids]
        catalog.remove(ids)
    _tell_forgotten(ids, names, "removed", as_json=as_json)


def _to_forget(catalog: Catalog, images: list[str] | None, *, only_missing: bool) -> list[int]:
    """Return the ids of the images that are named, or of those of them that are missing."""
    from ..catalog.records import MISSING

    named = catalog.resolve_many(images) if images else None
    if not only_missing:
        return named or []
    look = look_at_images(catalog)
    if not look.is_now:
        # What may only be away for a moment is not forgotten.
        raise typer.Exit(DAMAGED)
    return [
        row.id
        for row in look.rows
        if (named is None or row.id in named) and look.status(row.id) == MISSING
    ]


def _is_sure(catalog: Catalog, ids: list[int], *, yes: bool) -> bool:
    """Ask before several are forgotten, where there is somebody to ask."""
    if yes or len(ids) < 2 or not (sys.stdin.isatty() and sys.stderr.isatty()):  # noqa: PLR2004
        return True
    names = [catalog.name_of(image_id) or f"image {image_id}" for image_id in ids[:_ASKED_OF]]
    more = f" and {len(ids) - _ASKED_OF} more" if len(ids) > _ASKED_OF else ""
    sys.stderr.write(f"Forget {len(ids)} images ({', '.join(names)}{more})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _tell_forgotten(ids: list[int], names: list[str | None], what: str, *, as_json: bool) -> None:
    # One without a name was removed by somebody else just now.
    found = [each for each in zip(ids, names, strict=True) if each[1] is not None]
    if as_json:
        from .render import write_json

        write_json([{"id": image_id, "name": name, "outcome": what} for image_id, name in found])
        return
    for _image_id, name in found:
        say(what, name or "")
    if not found:
        notify("nothing to forget")


def rescan(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE...]", help="All, if none is named.", autocompletion=complete_images
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at the files of images again, and mend what is stale.

    \b
    Examples:
      imgcat rescan
      imgcat rescan sda1
    """
    from ..catalog.adding.rescan import rescan as rescan_image

    worst = 0
    told: list[dict[str, Any]] = []
    with open_catalog(write=True) as catalog:
        paths = {row.id: row.path for row, _volumes in catalog.list_images()}
        ids = catalog.resolve_many(images) if images else list(paths)
        # What is made of others comes after them.
        ids.sort(key=lambda image_id: paths.get(image_id) is None)
        for image_id in ids:
            name = catalog.name_of(image_id) or f"image {image_id}"
            if not images and catalog.name_of(image_id) is None:
                # A snapshot or a partition that is not there any more, as was found just before.
                continue
            try:
                ingested = rescan_image(catalog, image_id)
            except OF_ONE_IMAGE as error:
                if not as_json:
                    complain(error_line(name, error))
                told.append({"id": image_id, "name": name, "outcome": "failed"})
                told[-1] |= {"status": None, "status_detail": message_of(error)}
                worst = max(worst, code_of(error))
                continue
            row = ingested.record.row
            told.append({"id": image_id, "name": row.name, "outcome": ingested.outcome.value})
            told[-1] |= {"status": row.status, "status_detail": row.status_detail}
            if not as_json:
                say(ingested.outcome.value, row.name)
            worst = max(worst, damage_of(ingested, silent=as_json))
    if as_json:
        from .render import write_json

        write_json(told)
    elif not told:
        notify("there are no images to look at")
    raise typer.Exit(worst)


def all_warnings(catalog: Catalog, record: ImageRecord) -> list[str]:
    """Return what is odd about an image, and about its partitions and volumes, by their names."""
    within = catalog.warnings_within(record.row.id)
    return [*record.warnings, *(f"{name}: {warning}" for name, warning in within)]


def say(what: str, name: str) -> None:
    """Tell what was done to an image, unless nothing is to be told."""
    from ..formats.text import printable

    if not settings.quiet:
        sys.stdout.write(f"{what:<9} {printable(name)}\n")
