"""nbdkit's Python plugin: every image of a catalog is an export, by its name.

`server` writes a script that imports the names of this module into `__main__`, where nbdkit looks
for them, and sets `request`. nbdkit calls them from threads of its own, several at a time; whatever
is raised becomes an error of that one request, with the errno that a mount would give.

`nbdkit` is a module that only nbdkit's own interpreter has.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

import nbdkit

from ..catalog.errors import CatalogError
from ..catalog.opening.errnos import errno_of, is_expected
from ..formats.text import printable
from .blocks import blocks_of
from .exports import Export, Exports

if TYPE_CHECKING:
    from .blocks import Block
    from .request import PluginRequest

API_VERSION = 2

log = logging.getLogger("imgcat.nbd")


_ERRNOS = frozenset({
    errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW,
    errno.EOPNOTSUPP, errno.ESHUTDOWN, errno.ENOENT,
})  # fmt: skip
"""What the protocol has; nbdkit makes "invalid argument" of others. Source: its proto.md, "Error
values"; ENOENT is what a client is told of an export that is not there."""

_INSTEAD = {errno.EACCES: errno.EPERM}


class _Serving:
    """What is served, from `after_fork` on."""

    request: PluginRequest
    exports: Exports


class _RefusedError(Exception):
    """What nbdkit writes to its log of a request that failed."""


def set_up(request: PluginRequest) -> None:
    """Take what is to be served; nothing is opened before `after_fork`."""
    _Serving.request = request
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(message)s"))
    logging.getLogger().addHandler(handler)
    # Of an exception, nbdkit writes all that Python tells: a line is enough for what images cause.
    sys.tracebacklimit = 0


class _OneLine(logging.Formatter):
    """A formatter with which no name can forge a line or drive the terminal that shows it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"imgcat: {printable(record.getMessage())}"


def thread_model() -> int:
    """Requests are served side by side."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def after_fork() -> None:
    """Open the catalog, and tell whoever started this how that went."""
    request = _Serving.request
    # Each image that is open takes a file, and each connection another.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        _Serving.exports = Exports(request)
    except (CatalogError, OSError) as error:
        os.write(request.ready_fd, os.fsencode(printable(str(error))))
        raise
    else:
        os.write(request.ready_fd, b"\n")
    finally:
        os.close(request.ready_fd)


def cleanup() -> None:
    """Close everything: nbdkit ends."""
    exports = getattr(_Serving, "exports", None)
    if exports is not None:
        exports.close()


def list_exports(_readonly: bool, _is_tls: bool) -> list[tuple[str, str]]:
    """Return the name and the description of each image that can be opened."""
    try:
        return [(each.name, each.description) for each in _Serving.exports.listed()]
    except Exception as error:
        _refuse("the catalog", error)


def default_export(_readonly: bool, _is_tls: bool) -> str:
    """Return the name of the one image that is served, or no name."""
    try:
        return _Serving.exports.default()
    except Exception as error:
        _refuse("the catalog", error)


def open(_readonly: bool) -> Export:  # noqa: A001 - nbdkit's name
    """Open the image that the client has named."""
    name = "?"
    try:
        name = nbdkit.export_name()
        return _Serving.exports.open(name)
    except Exception as error:
        _refuse(name, error)


def close(export: Export) -> None:
    """Close it."""
    try:
        _Serving.exports.release(export)
    except Exception:
        log.exception("%s: cannot be closed", export.name)


def get_size(export: Export) -> int:
    """Return its guest bytes."""
    return export.size


def can_write(_export: Export) -> bool:
    """Nothing is ever written to an image."""
    return False


def can_multi_conn(_export: Export) -> bool:
    """All connections see the same bytes."""
    return True


def can_extents(_export: Export) -> bool:
    """It is known what is stored."""
    return True


def pread(export: Export, buffer: memoryview, offset: int, _flags: int) -> None:
    """Fill the buffer with guest bytes."""
    try:
        if not export.read_into_nowait(buffer, offset):
            export.read_into(buffer, offset)
    except Exception as error:
        _refuse(export.name, error)


def extents(export: Export, count: int, offset: int, flags: int) -> list[Block]:
    """Return what guest bytes are, from `offset` on; maybe of fewer bytes than `count`."""
    try:
        stop = min(offset + count, export.size)
        stored = export.stored_ranges(offset, stop)
        return blocks_of(stored, offset, stop, only_one=bool(flags & nbdkit.FLAG_REQ_ONE))
    except Exception as error:
        _refuse(export.name, error)


def _refuse(name: str, error: Exception) -> NoReturn:
    """Let a request fail, and the log say why."""
    number = errno_of(error)
    nbdkit.set_error(number if number in _ERRNOS else _INSTEAD.get(number, errno.EIO))
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if not is_expected(error):
        lines = traceback.format_exception(error, limit=-16)
        text = f"a bug: {' | '.join(line.strip() for line in lines)}"
    if not text.startswith(name):
        text = f"{name}: {text}"
    raise _RefusedError(printable(text)) from None
