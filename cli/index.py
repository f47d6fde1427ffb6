"""index: every file of images into the catalog."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import DAMAGED, OF_ONE_IMAGE, code_of, message_of
from .files import AsIsOption
from .progress import above_bars, count_bar
from .settings import complain, notify, open_catalog, settings
from .signals import ending_on_signals

if TYPE_CHECKING:
    from collections.abc import Container

    from ..catalog.files.indexing import How
    from ..catalog.files.records import StoredGeneration
    from ..catalog.store import Catalog

_MOST_TOLD = 20
"""Problems of an image that are told one by one."""


def index(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...", help="Names, ids, paths or globs.", autocompletion=complete_images
        ),
    ] = None,
    all_images: Annotated[
        bool, typer.Option("--all", help="Every image with a file system that is read.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Index even what is indexed already.")
    ] = False,
    lineage: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Keep these apart from others that share the UUID of their file system.",
        ),
    ] = "",
    taken_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the backup was taken, e.g. 2026-11-29T10:00."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="With --all: go on with what comes into the catalog, until it is ended.",
        ),
    ] = False,
    as_is: AsIsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write every file of images into the catalog: find, history and diff answer from there.

    Backups of the same file system (by its UUID, or serial number) are generations of it: a file
    that has not changed since the last takes no room. What is indexed is not read again. A backup
    was taken when its file system was last written, else when Clonezilla says, else at the time of
    its file; --taken-at tells it otherwise, also of what is indexed.

    Exit code 5: something could not be read, and is named; the rest is indexed.

    \b
    Examples:
      imgcat index --all
      imgcat index 'laptop-*'
      imgcat index --lineage bench-2 clone-of-bench-1
      imgcat index --taken-at 2024-05-01 old.sda1
      imgcat index --all --follow
    """
    if bool(images) == all_images:
        raise typer.BadParameter("name images, or give --all", param_hint="IMAGE...")
    if follow and (not all_images or force or as_json):
        raise typer.BadParameter(
            "goes with --all, without --force and --json", param_hint="--follow"
        )
    from ..catalog.files.indexing import How, indexable

    how = How(force=force, as_is=as_is, label=lineage, taken_at=_moment(taken_at))
    told: list[dict[str, Any]] = []
    code = 0
    with open_catalog(write=True) as catalog, ending_on_signals():
        if follow:
            from .follow import follow_catalog

            follow_catalog(catalog, how)
            return
        if images:
            chosen = catalog.resolve_many(images)
        else:
            chosen = [each.image_id for each in indexable(catalog)]
        for image_id in chosen:
            code = max(code, _one(catalog, image_id, how, told, as_json=as_json))
        catalog.purge()
        if all_images and not chosen:
            notify("no image has a file system that is read: `imgcat ls` lists them")
    if as_json:
        from .render import write_json

        write_json(told)
    if code:
        raise typer.Exit(code)


def index_below(
    catalog: Catalog, image_ids: list[int], *, as_json: bool, known: Container[int] = ()
) -> tuple[int, list[dict[str, Any]]]:
    """Index images, and what is in them; return the exit code, and what is told of each.

    In what is told, `of` is the id of the image that it is, or is in.

    Args:
        catalog: where they are.
        image_ids: the images.
        as_json: write nothing to standard output.
        known: images of which it was told before that what is in them cannot be indexed.
    """
    from ..catalog.files.indexing import How, indexable, not_indexable, with_what_is_inside

    left = {each.image_id for each in indexable(catalog)}
    refused = set(not_indexable(catalog))
    told: list[dict[str, Any]] = []
    code = 0
    for of in image_ids:
        meant = left if of in known else left | refused
        for image_id in with_what_is_inside(catalog, of):
            if image_id in meant:
                code = max(code, _one(catalog, image_id, How(), told, as_json=as_json))
                told[-1]["of"] = of
                left.discard(image_id)
                refused.discard(image_id)
    return code, told


def _moment(text: str | None) -> str | None:
    from ..catalog.files.taken import parse_moment

    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time: 2026-11-29, or 2026-11-29T10:00", param_hint="--taken-at"
        ) from error


def _one(
    catalog: Catalog, image_id: int, how: How, told: list[dict[str, Any]], *, as_json: bool
) -> int:
    """Index an image, tell of it, and return the exit code that it calls for."""
    name = catalog.name_of(image_id) or str(image_id)
    try:
        stored, problems = index_one(catalog, image_id, name, how)
    except OF_ONE_IMAGE as error:
        complain(message_of(error))
        told.append(_fields(name, None, [message_of(error)], is_known=False))
        return code_of(error)
    told.append(_fields(name, stored, problems))
    if not as_json and not settings.quiet:
        with above_bars():
            sys.stdout.write(line_of(name, stored) + "\n")
    return DAMAGED if stored is not None and stored.problems else 0


def index_one(
    catalog: Catalog, image_id: int, name: str, how: How
) -> tuple[StoredGeneration | None, list[str]]:
    """Index an image; return what was written, None where it was before, and what is wrong.

    Raises as `indexing.index_image`, with the image's name.
    """
    from ..catalog.files.indexing import index_image
    from ..catalog.upkeep.damage import record_worker_failures
    from ..filesystems.process import WorkerFailure

    problems: list[str] = []
    failures: list[WorkerFailure] = []

    def tell(why: str) -> None:
        if len(problems) < _MOST_TOLD:
            problems.append(why)
            complain(f"{name}: {why}")

    with count_bar(name, "files") as progress:
        try:
            stored = index_image(
                catalog, image_id, how, tell=tell, progress=progress, on_failure=failures.append
            )
        except OF_ONE_IMAGE as error:
            if not isinstance(error, OSError) and name not in getattr(error, "__notes__", ()):
                error.add_note(name)
            raise
        finally:
            if failures:
                spec = catalog.open_spec(image_id)
                record_worker_failures(catalog.path, spec, failures)
    if stored is not None and stored.problems > _MOST_TOLD:
        complain(f"{name}: {stored.problems - _MOST_TOLD} other things could not be read")
    return stored, problems


def line_of(name: str, stored: StoredGeneration | None) -> str:
    """Return how it is told that an image was indexed."""
    from .render import counted

    if stored is None:
        return f"unchanged {name}"
    added = f"{stored.added} new" if stored.number > 1 else "all new"
    gone = f", {stored.ended} gone or changed" if stored.ended else ""
    return f"indexed   {name}: {counted(stored.files, 'file')}, {added}{gone}"


def _fields(
    name: str, stored: StoredGeneration | None, problems: list[str], *, is_known: bool = True
) -> dict[str, Any]:
    """Return what came of an image, as JSON has it."""
    done = "indexed" if stored is not None else "unchanged"
    return {
        "image": name,
        "outcome": done if is_known else "failed",
        "lineage": stored.lineage_id if stored else None,
        "generation": stored.number if stored else None,
        "files": stored.files if stored else None,
        "added": stored.added if stored else None,
        "ended": stored.ended if stored else None,
        "problems": problems,
    }
