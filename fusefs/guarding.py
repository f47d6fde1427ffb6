"""What leaves a handler: only `pyfuse3.FUSEError`, for any other exception would end the mount."""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pyfuse3
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logging.getLogger("imgcat.mount")

_P = ParamSpec("_P")
_R = TypeVar("_R")


def guarded(
    handler: Callable[_P, Coroutine[Any, Any, _R]],
) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Turn whatever else leaves a handler into EIO, and log it as the bug that it is."""

    @functools.wraps(handler)
    async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await handler(*args, **kwargs)
        except (pyfuse3.FUSEError, trio.Cancelled):
            raise
        except MemoryError as error:
            log.warning("%s: %s", handler.__name__, error)
            raise pyfuse3.FUSEError(errno.ENOMEM) from None
        except Exception:
            log.exception("%s failed", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return wrapper
