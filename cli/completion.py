"""Shell completion: the script for a shell, and names of images from the catalog."""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

from .settings import open_catalog, settings

_SHOWN_MOST = 500


class Shell(enum.StrEnum):
    """The shells that can be completed for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def complete_images(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of images that begin with `incomplete`."""
    from ..catalog.errors import CatalogError

    settings.db = (ctx.parent.params.get("db") if ctx.parent else None) or settings.db
    try:
        with open_catalog() as catalog:
            names = [row.name for row, _volumes in catalog.list_images()]
    except (CatalogError, OSError):
        # Without a catalog there is nothing to offer, and a shell's prompt takes no message.
        return []
    return [name for name in names if name.startswith(incomplete)][:_SHOWN_MOST]


def set_up() -> None:
    """Make the shell's questions be answered: typer does so only where it adds its own options."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()


def completion(
    shell: Annotated[
        Shell, typer.Argument(metavar="[bash|zsh|fish]", help="The shell to complete for.")
    ] = Shell.BASH,
) -> None:
    """Print the script that makes a shell complete commands, options and image names.

    \b
    Examples:
      imgcat completion bash > ~/.local/share/bash-completion/completions/imgcat
      imgcat completion zsh > ~/.zfunc/_imgcat
      imgcat completion fish > ~/.config/fish/completions/imgcat.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(
        prog_name="imgcat", complete_var="_IMGCAT_COMPLETE", shell=shell.value
    )
    sys.stdout.write(script + "\n")
