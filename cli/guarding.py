"""What files may be copied to: nothing that any image lies in, nor the catalog."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

import typer

from .settings import notify, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.store import Catalog
    from ..filesystems.target import Guard

_STREAMS = ("-", "/dev/stdout", "/dev/stderr", "/dev/stdin")
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")


@contextlib.contextmanager
def guarding(catalog: Catalog) -> Iterator[Guard]:
    """Give what refuses a path that files of a catalog's images have, or the catalog itself.

    Args:
        catalog: that of the image which is read; where it goes with this command, that which the
            options name is looked into as well.
    """
    from ..catalog.errors import CatalogMissingError
    from ..catalog.store import Catalog as Lasting
    from ..catalog.upkeep.targets import check_no_image

    with contextlib.ExitStack() as stack:
        catalogs = [catalog]
        if settings.is_temporary:
            with contextlib.suppress(CatalogMissingError):
                lasting = Lasting.open_to_ask(settings.lasting_db, notify)
                catalogs.append(stack.enter_context(lasting))

        def guard(path: str) -> None:
            for each in catalogs:
                check_no_image(each, path)

        yield guard


def refuse_stream(target: str, mode: int) -> None:
    """Refuse DEST where it is no file that could be replaced.

    Args:
        target: as the user has named it.
        mode: type and permissions of what is to be copied.

    Raises:
        typer.BadParameter: it is standard output, a device, a fifo or a socket.
    """
    from ..formats.files.new_file import SPECIAL

    instead = "`imgcat cat` writes what a file holds to standard output"
    if target in _STREAMS or target.startswith(_DESCRIPTORS):
        raise typer.BadParameter(f"{target}: is no file: {instead}", param_hint="DEST")
    with contextlib.suppress(OSError):
        kind = stat.S_IFMT(os.stat(target).st_mode)
        if kind in SPECIAL and kind != stat.S_IFMT(mode):
            what = f"{target}: is {SPECIAL[kind]}, which is not replaced: {instead}"
            raise typer.BadParameter(what, param_hint="DEST")
