"""sql and db: the catalog as a database."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .exit_codes import DAMAGED
from .patience import within
from .settings import notify, open_catalog, settings
from .signals import ending_on_signals

_LOOK_SECONDS = 5.0
"""How long one looks at the images' files before a question is asked as things were recorded."""

app = typer.Typer(
    name="db", help="The catalog itself: where it is, check, upgrade, backup.", no_args_is_help=True
)


def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="One statement; - reads it from standard input.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON array.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV with a heading.")] = False,
) -> None:
    """Ask the catalog in SQL. It is opened read-only; the first example shows what there is.

    \b
    Examples:
      imgcat sql "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view')"
      imgcat sql 'SELECT * FROM shelf ORDER BY used_gib DESC LIMIT 10'
      imgcat sql --csv 'SELECT name, status FROM images' > images.csv
      imgcat sql --json 'SELECT * FROM totals'
    """
    from ..catalog.database.query import SqlError, ask
    from ..catalog.upkeep.observe import observe
    from ..formats.text import printable
    from .render import write_csv, write_json, write_table

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other", param_hint="--csv")
    try:
        if query == "-":
            query = sys.stdin.read()
        with open_catalog() as catalog:
            # So that it says of every image what `ls` does.
            if within(_LOOK_SECONDS, lambda: observe(catalog)) is None:
                notify("a disk does not answer: statuses are those of the last look")
            columns, rows = ask(catalog.database, query)
    except (SqlError, ValueError) as error:
        # ValueError: bytes that are no text, or a zero among them.
        raise typer.BadParameter(printable(str(error)), param_hint="QUERY") from None
    if as_json:
        write_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        write_csv(columns, rows)
    elif columns:
        numbers = {
            name
            for position, name in enumerate(columns)
            if rows and all(isinstance(row[position], int | float | None) for row in rows)
        }
        write_table(columns, rows, right=frozenset(numbers))


@app.command("path")
def db_path() -> None:
    """Print where the catalog is.

    \b
    Example:
      sqlite3 "$(imgcat db path)" .schema
    """
    from ..catalog.store import default_path

    sys.stdout.write(os.path.abspath(settings.db or default_path()) + "\n")


@app.command("create")
def db_create(
    portable: Annotated[
        bool,
        typer.Option("--portable", help="Keep paths below its directory relative to it."),
    ] = False,
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
    sys.stdout.write(f"{path}\n")


@app.command("check")
def db_check() -> None:
    """Check the database and that every image's index is whole.

    \b
    Example:
      imgcat db check
    """
    from ..catalog.database.check import check

    with open_catalog() as catalog:
        problems = check(catalog.database)
    for problem in problems:
        sys.stdout.write(problem + "\n")
    if problems:
        raise typer.Exit(DAMAGED)
    sys.stdout.write("ok\n")


@app.command("upgrade")
def db_upgrade() -> None:
    """Bring an older catalog to the newest schema; a copy of the old one is kept.

    \b
    Example:
      imgcat db upgrade
    """
    from ..catalog.database.schema import REVISIONS

    with open_catalog(write=True) as catalog:
        sys.stdout.write(f"{catalog.path}: schema {REVISIONS[-1]}\n")


@app.command("backup")
def db_backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The new file; it must not exist.")],
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
    sys.stdout.write(f"{file}\n")
