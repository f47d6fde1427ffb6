"""index --follow: what comes into the catalog is indexed, as long as somebody wants it."""

from __future__ import annotations

import os
import select
import stat
import sys
from typing import TYPE_CHECKING

from .exit_codes import OF_ONE_IMAGE, message_of
from .settings import complain, notify

if TYPE_CHECKING:
    from ..catalog.files.indexing import How
    from ..catalog.store import Catalog

_MOST_READ = 1024
_LOOK_SECONDS = 1.0
"""How often one looks whether anybody has written to the catalog."""


def follow_catalog(catalog: Catalog, how: How) -> None:
    """Index what is there, and what comes, until a signal ends it.

    Where standard input is a pipe, its end ends it too: who has started it is gone then.

    Raises:
        CatalogError: the catalog cannot be used any more.
    """
    from ..catalog.files.indexing import indexable

    follower = catalog.follow()
    failed: set[tuple[int, int]] = set()
    is_piped = _is_pipe()
    seen: int | None = None
    try:
        while True:
            version = follower.version()
            if version != seen:
                seen = version
                for each in indexable(catalog):
                    key = (each.image_id, each.index_id)
                    if each.is_done or key in failed:
                        continue
                    if not _index(catalog, each.image_id, how):
                        # Until it is scanned anew, it is what it is.
                        failed.add(key)
                catalog.purge()
            if _is_left(is_piped=is_piped):
                return
    finally:
        follower.close()


def _index(catalog: Catalog, image_id: int, how: How) -> bool:
    """Index an image; return whether that could be done."""
    from .index import index_one, line_of

    name = catalog.name_of(image_id)
    if name is None:
        return True
    try:
        stored, _problems = index_one(catalog, image_id, name, how)
    except OF_ONE_IMAGE as error:
        complain(message_of(error))
        return False
    notify(line_of(name, stored))
    return True


def _is_pipe() -> bool:
    return sys.stdin is not None and stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)


def _is_left(*, is_piped: bool) -> bool:
    """Wait for a while, and tell whether the other end of standard input was closed."""
    inputs = [sys.stdin] if is_piped else []
    ready, _, _ = select.select(inputs, [], [], _LOOK_SECONDS)
    return bool(ready) and not os.read(sys.stdin.fileno(), _MOST_READ)
