"""Arguments and options that several commands have."""

from __future__ import annotations

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
