"""imgcat: one catalog for all of your disk-image backups, every image a file in one mount.

As a library: `open_image` opens any supported file, `stream_image` reads one from a pipe, and
`Catalog` is the catalog. See docs/api.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalog.opening.open import open_by_name
    from .catalog.store import Catalog
    from .formats.errors import FormatError
    from .formats.image import Image
    from .formats.opening import SavedDirectory, open_directory, open_image
    from .formats.passes.from_pipe import stream_image
    from .formats.reader import ImageStream

__version__ = "0.1.0"

__all__ = [
    "Catalog",
    "FormatError",
    "Image",
    "ImageStream",
    "SavedDirectory",
    "__version__",
    "open_by_name",
    "open_directory",
    "open_image",
    "stream_image",
]

_HOMES = {
    "Catalog": ".catalog.store",
    "FormatError": ".formats.errors",
    "Image": ".formats.image",
    "ImageStream": ".formats.reader",
    "SavedDirectory": ".formats.opening",
    "open_by_name": ".catalog.opening.open",
    "open_directory": ".formats.opening",
    "open_image": ".formats.opening",
    "stream_image": ".formats.passes.from_pipe",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is asked for
    """Import what is asked for when it is: a program that needs one thing pays for one."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    """Return the names that are there to be used."""
    return sorted(__all__)
