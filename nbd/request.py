"""What a server is asked to serve. Imports nothing heavy: the command that starts it uses it.

The program that starts nbdkit writes a `PluginRequest` down, and the plugin reads it.
"""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass(frozen=True, slots=True)
class ServeRequest:
    """What is to be served, and how.

    Attributes:
        catalog_path: the catalog's database, absolute, or None for the default one.
        images: what `Catalog.resolve_many` takes, or None for every image.
        socket: where the socket is made; None for a private place, unless there is a port.
        port: a port of TCP, None for a socket.
        cow: whether clients may write, into a temporary overlay that no image ever sees.
        trust_catalog: whether to serve a catalog that somebody else could have written.
        arguments: more arguments for nbdkit.
    """

    catalog_path: str | None
    images: tuple[str, ...] | None
    socket: str | None = None
    port: int | None = None
    cow: bool = False
    trust_catalog: bool = False
    arguments: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class PluginRequest:
    """What the plugin serves.

    Attributes:
        catalog_path: the catalog's database, absolute.
        only: the ids of the images, or None for every image.
        public_only: whether only images are served that everybody may read.
        one_content: whether nothing is served any more once the image was scanned anew: there is
            something above that keeps bytes of it.
        check_trust: whether a catalog that takes the place of this one must be trusted.
        ready_fd: an open descriptor, told when the plugin is ready, or why it is not.
    """

    catalog_path: str
    only: tuple[int, ...] | None = None
    public_only: bool = False
    one_content: bool = False
    check_trust: bool = False
    ready_fd: int = -1

    def dumps(self) -> str:
        """Return it as ASCII, whatever the catalog is called."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> PluginRequest:
        """Return what `dumps` has written."""
        fields = json.loads(text)
        only = fields["only"]
        return cls(**{**fields, "only": None if only is None else tuple(only)})
