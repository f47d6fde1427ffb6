"""Arguments and options that several commands have."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from .completion import complete_images

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...", help="Names, ids, paths or globs.", autocompletion=complete_images
    ),
]
ImageArgument = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="A name, id or path.", autocompletion=complete_images),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else.")]


_SIZE = re.compile(
    r"(0x_?[0-9a-f](?:_?[0-9a-f]){0,29}|\d(?:_?\d){0,29})\s*(?:([KMGT])(?:iB|i)?)?", re.IGNORECASE
)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(text: str) -> int:
    """Return the bytes that a user means by ``4096``, ``4_096``, ``0x1000``, ``4K`` or ``4KiB``.

    Raises:
        typer.BadParameter: it means none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no number of bytes such as 4096, 0x1000, 4K or 1GiB")
    return (
        int(found[1], 0 if found[1][:2].lower() == "0x" else 10)
        << _SHIFTS[(found[2] or "").upper()]
    )


def parse_positive_size(text: str) -> int:
    """Do as `parse_size`, and refuse nothing at all.

    Raises:
        typer.BadParameter: it means no number of bytes, or none of them.
    """
    size = parse_size(text)
    if not size:
        raise typer.BadParameter("at least one byte")
    return size


_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_duration(text: str) -> int:
    """Return the seconds that a user means by ``90s``, ``30m``, ``2h``, ``30d`` or ``4w``.

    Raises:
        typer.BadParameter: it means none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no time such as 90s, 30m, 2h, 30d or 4w")
    return int(found[1]) * _SECONDS[found[2].lower()]


def parse_memory(text: str) -> int:
    """Do as `parse_size`, and refuse what no daemon can do with.

    Raises:
        typer.BadParameter: it means no number of bytes, or too few.
    """
    from ..fusefs.request import LEAST_MEMORY

    size = parse_size(text)
    if size < LEAST_MEMORY:
        raise typer.BadParameter(f"a mount needs {LEAST_MEMORY >> 20} MiB at the least")
    return size


def check_folder(prefix: str) -> None:
    """Refuse what cannot be the beginning of names.

    Raises:
        typer.BadParameter: it cannot.
    """
    from ..catalog.errors import NameTakenError
    from ..catalog.names import check_name

    try:
        check_name(prefix)
    except NameTakenError as error:
        raise typer.BadParameter(str(error), param_hint="--prefix") from None
