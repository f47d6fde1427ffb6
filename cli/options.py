"""The options before the command."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from .settings import settings


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        sys.stdout.write(f"imgcat {__version__}\n")
        raise typer.Exit


def options(
    db: Annotated[
        str | None,
        typer.Option(
            envvar="IMGCAT_DB",
            metavar="FILE",
            help="The catalog; else $XDG_DATA_HOME/imgcat/catalog.db.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only results and errors.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback has acted on it
        bool,
        typer.Option(
            "--version", help="Print the version and end.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """One catalog for all of your disk-image backups, every image a file in one mount."""
    settings.db = None if db is None else os.path.abspath(db)
    settings.quiet = quiet
    settings.verbose = verbose
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
