"""What directories inside of images have, kept as long as there is room for it."""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..filesystems.listing import Listing

    Key = tuple[int, int]
    """The key of what an image holds, and the number of a directory in it."""

BUDGET = 32 << 20
"""Bytes of memory for listings, where memory is not limited."""


class Listings:
    """Directories by their keys; the longest unused go. For any number of threads: none waits.

    Args:
        budget: bytes of memory that they may take.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._used = 0
        self._by_key: collections.OrderedDict[Key, tuple[Listing, int]] = collections.OrderedDict()

    @property
    def budget(self) -> int:
        """Bytes of memory that they may take; no listing may be larger."""
        return self._budget

    def get(self, key: Key) -> tuple[Listing, int] | None:
        """Return a directory, and the number of its file system's root."""
        with self._lock:
            found = self._by_key.get(key)
            if found is not None:
                self._by_key.move_to_end(key)
            return found

    def put(self, key: Key, listing: Listing, root: int) -> None:
        """Keep a directory."""
        with self._lock:
            before = self._by_key.pop(key, None)
            if before is not None:
                self._used -= before[0].size_bytes
            self._by_key[key] = (listing, root)
            self._used += listing.size_bytes
            self._drop()

    def shrink(self, budget: int) -> None:
        """Take less memory from now on."""
        with self._lock:
            self._budget = budget
            self._drop()

    def _drop(self) -> None:
        while self._used > self._budget and self._by_key:
            _key, (listing, _root) = self._by_key.popitem(last=False)
            self._used -= listing.size_bytes
