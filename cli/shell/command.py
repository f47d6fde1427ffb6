"""The command `shell`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ..arguments import ImageArgument
from ..files import AsIsOption
from ..straight import catalog_for


def shell(
    image: ImageArgument,
    commands: Annotated[
        str | None,
        typer.Option("-c", metavar="COMMANDS", help="Run these, separated by ; or lines, and end."),
    ] = None,
    as_is: AsIsOption = False,
) -> None:
    """Look into an image's structures and files, by commands of its own; `help` lists them.

    With history and completion on a terminal; commands may come from a pipe too.

    \b
    Examples:
      imgcat shell vm.qcow2
      imgcat shell -c 'header; l1; l2 0' vm.qcow2
      imgcat shell -c 'partitions; use p1; hexdump 1K 64' disk
      imgcat shell -c 'where 1M' vm.qcow2
      imgcat shell -c 'cd /etc; ls -l; stat fstab; cat fstab' sda1
    """
    from .running import run_script
    from .session import Session

    with (
        catalog_for([image]) as catalog,
        Session(catalog, catalog.resolve(image), as_is=as_is) as session,
    ):
        if commands is None and sys.stdin.isatty():
            from .prompt import run_prompt

            run_prompt(session)
            # What went wrong was told when it did.
            return
        text = os.fsdecode(sys.stdin.buffer.read()) if commands is None else commands
        run_script(session, text)
        code = session.code
    raise typer.Exit(code)
