"""sql: the catalog asked in SQL."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .patience import look_at_images
from .settings import open_catalog


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
    from ..formats.text import printable
    from .render import write_csv, write_json, write_table

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other", param_hint="--csv")
    try:
        if query == "-":
            query = sys.stdin.read()
        with open_catalog() as catalog:
            # So that it says of every image what `ls` does.
            look_at_images(catalog)
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
