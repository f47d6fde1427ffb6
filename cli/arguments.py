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


_SIZE = re.compile(r"(\d{1,15})\s*([KMG]?)(iB|i|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return a number of bytes: 4M, 512K, 1GiB or 65536."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no size: 4M, 512K, 1G or a number of bytes")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]
