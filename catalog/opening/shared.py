"""What images share that one program has open: caches, limits, and what it is told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ...formats.codecs.decoders import Decoding
from ...formats.index.cache import IndexCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...formats.sources.sealed import BrokenSealError
    from ..records import OpenSpec


@dataclasses.dataclass(slots=True)
class Shared:
    """What the images share that one program has open.

    Attributes:
        own_device: the device number of the program's own mount; a file in there is not opened, for
            that would be a request to oneself.
        compare: whether what is read of sealed images is compared with their hashes.
        on_broken: told of each page of a sealed image that is not what it was.
        indexes: loaded pieces of indexes.
        decoding: of compressed images, decoded pages and decoders that wait.
    """

    indexes: IndexCache = dataclasses.field(default_factory=IndexCache)
    decoding: Decoding = dataclasses.field(default_factory=Decoding)
    own_device: int | None = None
    compare: bool = True
    on_broken: Callable[[OpenSpec, BrokenSealError], None] | None = None
