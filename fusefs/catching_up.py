"""Looking at the catalog at once, where a handler has found that it has changed.

Used in the event loop only.
"""

from __future__ import annotations

import trio


class CatchingUp:
    """How handlers have the catalog looked at, and how they learn that it was."""

    def __init__(self) -> None:
        self._is_wanted = trio.Event()
        self._ended = trio.Event()

    def ask(self) -> trio.Event:
        """Have the catalog looked at; what is returned is set when a look that begins now ends."""
        self._is_wanted.set()
        return self._ended

    def begin(self) -> trio.Event:
        """Tell that a look begins; the caller sets what is returned when it ends."""
        self._is_wanted = trio.Event()
        ended, self._ended = self._ended, trio.Event()
        return ended

    async def wait(self, seconds: float) -> None:
        """Wait until somebody asks, though not longer than that."""
        with trio.move_on_after(seconds):
            await self._is_wanted.wait()
