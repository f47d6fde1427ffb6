"""db: the catalog itself as a file."""

from __future__ import annotations

import collections
import contextlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from ..catalog.errors import CatalogError, SchemaOutdatedError
from .arguments import ImagesArgument, JsonOption, check_folder
from .exit_codes import DAMAGED, code_of, message_of
from .settings import complain, notify, open_catalog, settings
from .signals import ending_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.store import Catalog
    from ..catalog.upkeep.transfer import Transferred

app = typer.Typer(
    name="db", help="The catalog itself: where it is, check, upgrade, backup.", no_args_is_help=True
)


@app.command("path")
def db_path(as_json: JsonOption = False) -> None:
    """Print where the catalog is.

    \b
    Example:
      sqlite3 "$(imgcat db path)" .schema
    """
    from ..catalog.store import default_path

    _tell({"path": os.path.abspath(settings.db or default_path())}, as_json=as_json)


@app.command("create")
def db_create(
    portable: Annotated[
        bool,
        typer.Option("--portable", help="Keep paths below its directory relative to it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an empty catalog; with --portable, one that moves with the images beside it.

    \b
    Example:
      imgcat --db /media/usb/catalog.db db create --portable
    """
    from ..catalog.store import default_path

    path = os.path.abspath(settings.db or default_path())
    if os.path.lexists(path):
        raise typer.BadParameter(f"{path} is there already", param_hint="--db")
    with open_catalog(write=True, create=True) as catalog:
        if portable:
            catalog.make_portable()
    _tell({"path": path}, as_json=as_json)


@app.command("check")
def db_check(as_json: JsonOption = False) -> None:
    """Check the database and that every image's index is whole.

    \b
    Example:
      imgcat db check
    """
    from ..catalog.database.check import check

    with open_catalog() as catalog:
        problems = check(catalog.database)
    if as_json:
        from .render import write_json

        write_json({"path": catalog.path, "problems": problems})
    else:
        sys.stdout.writelines(f"{line}\n" for line in problems or ["ok"])
    if problems:
        raise typer.Exit(DAMAGED)


@app.command("upgrade")
def db_upgrade(as_json: JsonOption = False) -> None:
    """Bring an older catalog to the newest schema; a copy of the old one is kept.

    \b
    Example:
      imgcat db upgrade
    """
    from ..catalog.database.schema import REVISIONS

    with open_catalog(write=True) as catalog:
        path = catalog.path
    if as_json:
        from .render import write_json

        write_json({"path": path, "schema": REVISIONS[-1]})
    else:
        sys.stdout.write(f"{path}: schema {REVISIONS[-1]}\n")


@app.command("backup")
def db_backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The new file; it must not exist.")],
    as_json: JsonOption = False,
) -> None:
    """Write a consistent copy of the catalog, also while it is used.

    \b
    Example:
      imgcat db backup catalog-copy.db
    """
    from ..catalog.database.schema import backup
    from ..formats.files.new_file import TargetError
    from ..formats.text import printable

    with open_catalog() as catalog:
        try:
            with ending_on_signals():
                backup(catalog.database, file)
        except TargetError:
            raise typer.BadParameter(
                f"{printable(file)} is there already: name a new file", param_hint="FILE"
            ) from None
    _tell({"path": file}, as_json=as_json)


@app.command("export")
def db_export(
    images: ImagesArgument,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="The new catalog; it must not exist."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Write a small catalog of some images, which another machine can merge.

    What they are made of, and the disks they are on, go with them.

    \b
    Example:
      imgcat db export 'laptop/*' -o laptop.db
    """
    from ..catalog.database.runtime import temporary_directory
    from ..catalog.database.schema import backup
    from ..catalog.store import Catalog
    from ..catalog.upkeep.transfer import transfer
    from ..formats.files.new_file import TargetError
    from ..formats.text import printable

    with (
        open_catalog() as catalog,
        temporary_directory() as directory,
        Catalog.open(os.path.join(directory, "catalog.db"), create=True) as small,
        ending_on_signals(),
    ):
        done = transfer(catalog, small, catalog.resolve_many(images))
        try:
            backup(small.database, output)
        except TargetError:
            raise typer.BadParameter(
                f"{printable(output)} is there already: name a new file", param_hint="-o"
            ) from None
    if as_json:
        from .render import write_json

        write_json({"path": output, "images": _fields(done)})
    else:
        sys.stdout.write(f"{printable(output)}: {_number_of_images(len(done))}\n")


@app.command("merge")
def db_merge(
    others: Annotated[list[str], typer.Argument(metavar="OTHER...", help="Other catalogs.")],
    prefix: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Let the names of new images begin with FOLDER/."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Take over what other catalogs know of images; those are not changed, and no image is read.

    An image that is known stays as it is, and gets a verdict that is newer. Paths are those of the
    other catalog: where the images lie elsewhere on this machine, `relocate` says so.

    \b
    Examples:
      imgcat db merge laptop.db
      imgcat db merge --prefix office /media/usb/catalog.db
    """
    from ..catalog.adding.outcome import Outcome
    from ..catalog.upkeep.transfer import transfer
    from .images import say

    if prefix:
        check_folder(prefix)
    worst = 0
    told: list[dict[str, Any]] = []
    with open_catalog(write=True, create=True) as catalog:
        for other in others:
            try:
                with _opened_other(catalog, other) as source:
                    done = transfer(source, catalog, prefix=prefix, is_there=os.path.exists)
            except CatalogError as error:
                complain(message_of(error))
                worst = max(worst, code_of(error))
                told.append({"path": other, "error": message_of(error), "images": []})
                continue
            told.append({"path": other, "error": None, "images": _fields(done)})
            if as_json:
                continue
            for each in done:
                if each.outcome is not Outcome.UNCHANGED:
                    say(each.outcome.value, each.name)
            counts = collections.Counter(each.outcome.value for each in done)
            parts = (f"{count} {outcome}" for outcome, count in counts.items())
            notify(f"{other}: {_number_of_images(len(done))}: {', '.join(parts) or 'empty'}")
    if as_json:
        from .render import write_json

        write_json(told)
    raise typer.Exit(worst)


@contextlib.contextmanager
def _opened_other(catalog: Catalog, path: str) -> Iterator[Catalog]:
    """Open another catalog without changing it; of an older schema, a copy is upgraded.

    Raises:
        CatalogError: it is none, is this one, or not whole.
    """
    from ..catalog.database.check import check
    from ..catalog.database.runtime import temporary_directory
    from ..catalog.store import Catalog

    if os.path.exists(path) and os.path.samefile(path, catalog.path):
        raise CatalogError(f"{path}: is this catalog itself")
    with contextlib.ExitStack() as stack:
        try:
            other = stack.enter_context(Catalog.open(path, write=False))
        except SchemaOutdatedError:
            directory = stack.enter_context(temporary_directory())
            copy = os.path.join(directory, "catalog.db")
            with contextlib.closing(
                sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
            ) as old:
                old.execute("VACUUM INTO ?", (copy,))
            other = stack.enter_context(Catalog.open(copy))
        problems = check(other.database)
        if problems:
            raise CatalogError(f"{path}: is not whole: {problems[0]}: `imgcat db check` lists all")
        yield other


def _fields(done: list[Transferred]) -> list[dict[str, Any]]:
    return [
        {
            "id": each.image_id,
            "name": each.name,
            "before": each.before,
            "outcome": each.outcome.value,
        }
        for each in done
    ]


def _number_of_images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _tell(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print a path, or what there is as JSON."""
    if as_json:
        from .render import write_json

        write_json(fields)
    else:
        sys.stdout.write(f"{fields['path']}\n")
