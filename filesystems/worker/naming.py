"""Names that a file system stores in one form and shows in another."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .driver import Tell


def distinct(
    names: Iterable[tuple[bytes, bytes, int]], directory: int, tell: Tell
) -> Iterator[tuple[bytes, int]]:
    """Yield the names of a directory, none of them twice.

    Where two would be shown alike, each is shown as it is stored.

    Args:
        names: as each is to be shown, as it is stored, and a number that goes with it.
        directory: for what is told.
        tell: told what is no name, or is there twice in either form.
    """
    kept = list(names)
    count = collections.Counter(shown for shown, _stored, _number in kept)
    seen: set[bytes] = set()
    for shown, stored, number in kept:
        name = shown if count[shown] == 1 else stored
        if not name or b"/" in name or b"\0" in name or name in {b".", b".."}:
            tell(f"directory {directory}: {name!r} is no name")
        elif name in seen:
            tell(f"directory {directory}: {name!r} is there twice")
        else:
            seen.add(name)
            yield name, number
