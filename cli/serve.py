"""serve: images as network block devices."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from .completion import complete_images
from .settings import notify, settings

_FOR_NBDKIT = "imgcat.nbdkit"
"""Where the words behind ``--`` are kept in a context."""


class ServeCommand(typer.core.TyperCommand):
    """A command whose words behind ``--`` are another program's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click
        """Set aside what is behind ``--``."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[_FOR_NBDKIT] = tuple(args[place + 1 :])
            args = args[:place]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click
        """Tell that there may be some."""
        return [*super().collect_usage_pieces(ctx), "[-- NBDKIT ARGS]"]


def serve(
    ctx: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE]...",
            help="Names, ids, paths or globs; every image where none is given.",
            autocompletion=complete_images,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=1, max=65535, help="A port of TCP, on 127.0.0.1."),
    ] = None,
    socket: Annotated[
        str | None,
        typer.Option("--socket", metavar="PATH", help="Where the socket is made, instead."),
    ] = None,
    cow: Annotated[
        bool,
        typer.Option("--cow", help="Let clients write, into a temporary overlay of one image."),
    ] = False,
    trust_catalog: Annotated[
        bool,
        typer.Option("--trust-catalog", help="Serve a catalog that others could have written."),
    ] = False,
) -> None:
    """Serve images as network block devices, with nbdkit, until interrupted.

    Prints the URI of each image that is named, or of the server, once it accepts connections. What
    is behind `--` goes to nbdkit.

    \b
    Examples:
      imgcat serve sda1                               # a socket that only you can use
      imgcat serve --port 10809                       # every image that everybody may read
      imgcat serve --cow sda.disk --socket /tmp/s     # for a virtual machine to write into
      imgcat serve --port 10809 -- -i 0.0.0.0 --tls=require --tls-certificates=/etc/pki/nbd
    """
    from ..nbd.errors import ArgumentsError
    from ..nbd.request import ServeRequest
    from ..nbd.server import serve as run_server

    if port is not None and socket is not None:
        raise typer.BadParameter("either a port or a socket", param_hint="--port, --socket")
    extra: Any = ctx.meta.get(_FOR_NBDKIT, ())
    request = ServeRequest(
        catalog_path=settings.db and os.path.abspath(settings.db),
        images=tuple(images) if images else None,
        socket=socket,
        port=port,
        cow=cow,
        trust_catalog=trust_catalog,
        arguments=extra,
    )
    try:
        run_server(request, _tell, notify)
    except ArgumentsError as error:
        raise typer.BadParameter(str(error)) from error


def _tell(uris: list[str]) -> None:
    for uri in uris:
        sys.stdout.write(f"{uri}\n")
    sys.stdout.flush()
