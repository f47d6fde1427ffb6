"""What is loaded of the indexes of all images, within one budget of bytes."""

from __future__ import annotations

import collections
import threading
from typing import Any, Protocol

INDEX_BUDGET = 64 << 20


class Weighed(Protocol):
    """A loaded piece of an index; `weight` is the bytes that it takes."""

    @property
    def weight(self) -> int:
        """Bytes that the piece takes."""


class IndexCache:
    """Loaded pieces of any number of indexes, least recently used out first.

    A piece is a chunk of a rank index or a window of a range index. It may be used from several
    threads at once.

    Args:
        budget: most bytes that the pieces may take together. A single one is kept even where it is
            larger.

    Attributes:
        budget: as given, or as `shrink` has made it.
        dropped: how many pieces were dropped so far. Who keeps a piece without asking again, as the
            hot path does, may do so while this stays the same.
    """

    def __init__(self, budget: int = INDEX_BUDGET) -> None:
        self.budget = budget
        self.dropped = 0
        self._weight = 0
        self._pieces: collections.OrderedDict[tuple[int, int], Weighed] = collections.OrderedDict()
        self._lock = threading.Lock()

    @property
    def weight(self) -> int:
        """Bytes that the cached pieces take."""
        return self._weight

    def get(self, key: tuple[int, int]) -> Any:  # noqa: ANN401 - what was put there
        """Return the piece and count it as just used, or None.

        Args:
            key: what tells the index from others, and the piece's number in it.
        """
        # Without the lock, for this is the hot path: each of the two calls is atomic.
        piece = self._pieces.get(key)
        if piece is not None:
            try:  # noqa: SIM105 - contextlib.suppress costs more than all the rest
                self._pieces.move_to_end(key)
            except KeyError:
                # Dropped meanwhile by another thread; the piece itself is as good as before.
                pass
        return piece

    def put(self, key: tuple[int, int], piece: Weighed) -> None:
        """Keep the piece, and drop others until the budget holds."""
        with self._lock:
            old = self._pieces.pop(key, None)
            if old is not None:
                self._weight -= old.weight
            self._pieces[key] = piece
            self._weight += piece.weight
            self._drop_surplus()

    def shrink(self, budget: int) -> None:
        """Have another budget from now on, and drop pieces until it holds."""
        with self._lock:
            self.budget = budget
            self._drop_surplus()

    def _drop_surplus(self) -> None:
        while self._weight > self.budget and len(self._pieces) > 1:
            self._weight -= self._pieces.popitem(last=False)[1].weight
            self.dropped += 1
