"""Which errno a failure becomes: one table for the whole mount."""

from __future__ import annotations

import errno

from ...filesystems.errors import RefusedError
from ...formats.errors import FormatError
from ...formats.index.rank_chunk import ChunkMissingError
from ..errors import CatalogError, ImageChangedError, ImageNotFoundError, NeedsRepackError

_ERRNOS: dict[type[BaseException], int] = {
    ImageNotFoundError: errno.ENOENT,
    ImageChangedError: errno.ESTALE,
    ChunkMissingError: errno.ESTALE,
    NeedsRepackError: errno.EOPNOTSUPP,
    RefusedError: errno.EOPNOTSUPP,
    CatalogError: errno.EIO,
    FormatError: errno.EIO,
    MemoryError: errno.ENOMEM,
}


def errno_of(error: BaseException) -> int:
    """Return the errno for an exception: of its nearest class in the table, EIO for any other.

    An `OSError` keeps its own, where it has one.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    for kind in type(error).__mro__:
        if kind in _ERRNOS:
            return _ERRNOS[kind]
    return errno.EIO


def is_expected(error: BaseException) -> bool:
    """Tell whether the error is one that images, files and catalogs cause, and not a bug."""
    return isinstance(error, OSError | MemoryError | CatalogError | FormatError | ChunkMissingError)
