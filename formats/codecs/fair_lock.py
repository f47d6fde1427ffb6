"""A lock that goes to whoever has waited longest.

Of Python's own, a thread that lets it go and takes it again is the next one nearly always, and who
waits in between waits until that has no more to do.
"""

from __future__ import annotations

import collections
import threading
from typing import Self


class TurnLock:
    """A lock for a ``with`` block, handed on in the order of asking. Not reentrant."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: collections.deque[threading.Lock] = collections.deque()
        self._is_held = False

    def __enter__(self) -> Self:
        """Wait for one's turn."""
        with self._mutex:
            if not self._is_held:
                self._is_held = True
                return self
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        """Hand it to the next one."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_held = False
