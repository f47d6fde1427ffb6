"""Exit codes, and which exception becomes which: one table for the whole command line."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ..catalog import errors as catalog
from ..formats import errors as formats
from ..formats.index.rank_chunk import ChunkMissingError
from ..formats.sources.file import NotAFileError
from ..fusefs import errors as fusefs
from ..nbd import errors as nbd

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = 0
BUG = 1
USAGE = 2
NOT_FOUND = 3
NOT_SUPPORTED = 4
DAMAGED = 5
SCHEMA = 6
BUSY = 7
NOT_SERVED = 8
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As of a process that SIGPIPE has ended: what was asked for was written in part only."""

_CODES: dict[type[Exception], int] = {
    formats.NotThisFormatError: NOT_SUPPORTED,
    formats.UnsupportedFeatureError: NOT_SUPPORTED,
    formats.MissingParentError: NOT_FOUND,
    formats.FormatError: DAMAGED,
    catalog.CatalogMissingError: NOT_FOUND,
    catalog.ImageNotFoundError: NOT_FOUND,
    catalog.ImageChangedError: DAMAGED,
    catalog.NeedsRepackError: NOT_SUPPORTED,
    catalog.NameTakenError: USAGE,
    catalog.CatalogBusyError: BUSY,
    catalog.UntrustedCatalogError: NOT_SERVED,
    catalog.CatalogError: SCHEMA,
    ChunkMissingError: DAMAGED,
    fusefs.NotMountedError: NOT_FOUND,
    fusefs.MountError: NOT_SERVED,
    nbd.ServeError: NOT_SERVED,
    FileNotFoundError: NOT_FOUND,
    NotADirectoryError: NOT_FOUND,
    IsADirectoryError: NOT_SUPPORTED,
    NotAFileError: NOT_SUPPORTED,
    OSError: DAMAGED,
}


OF_ONE_IMAGE = (
    formats.FormatError,
    catalog.ImageNotFoundError,
    catalog.ImageChangedError,
    catalog.NameTakenError,
    catalog.NeedsRepackError,
    ChunkMissingError,
    OSError,
)
"""What can be wrong with one of several images, and must not end the work on the others."""


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Have what is wrong with an image's bytes, or its index, say which image it is."""
    try:
        yield
    except (formats.FormatError, ChunkMissingError) as error:
        error.add_note(name)
        raise


def message_of(error: Exception) -> str:
    """Return what an exception says to a user, behind its notes."""
    return ": ".join([*getattr(error, "__notes__", ()), _text_of(error)])


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
        return f"{where}{error.strerror}"
    return str(error)


def code_of(error: Exception) -> int:
    """Return the exit code for an exception, by its nearest class in the table; `BUG` if none."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return BUG
