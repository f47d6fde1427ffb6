"""How pyfuse3's tasks take turns at receiving requests, made cheaper.

pyfuse3 asks `trio` for a lock and for "wait until readable" around every request. With trio's own,
that is one trip through the scheduler for the lock and one more, with two system calls, for the
wait, even where the next request has already arrived. pyfuse3 looks its `trio` up in a module
variable (that is how its asyncio support works), so `install` puts there a stand-in that has the
same names, and in which

- the lock is handed on only when its holder is about to wait for something else, or ends
  (`Turns.pass_on`);
- waiting looks first whether a request is there, for a moment after the last answer, and then
  returns at once: who reads one small piece after the other asks for the next one within less
  time than it takes the kernel to put this thread to sleep and to wake it again.

Everything runs in trio's own thread.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any, Self

import pyfuse3
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

_YIELD_NS = 1_000_000
"""After this long without a turn through the scheduler, other tasks are given one."""

_IDLE_YIELD_NS = 10_000_000
"""The same while no handler waits for a thread: then only clocks and signals do."""


_SPIN_NS = 50_000
"""How long to look for the next request before going to sleep: about as long as that takes."""


class Turns:
    """A lock whose release wakes nobody; `pass_on` does.

    A task that receives a request, answers it and comes back for the next one needs no other
    task to be woken. A task that is going to wait for a thread calls `pass_on` first, so that
    another receives meanwhile.

    Attributes:
        away: handlers that wait for a thread just now.
    """

    def __init__(self) -> None:
        self.away = 0
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        """Wait for one's turn; at once if nobody holds it."""
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the turn back, waking nobody."""
        self._held = False

    def pass_on(self) -> None:
        """Let a waiting task try for the turn."""
        self._waiting.unpark()


class _Lowlevel:
    """`trio.lowlevel`, but for `wait_readable`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._poll = select.poll()
        self._fd = -1
        self._yielded_ns = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever trio has
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, fd: int) -> None:
        """Return when `fd` is readable; at once, without a checkpoint, if it is so already."""
        if fd != self._fd:
            self._poll.register(fd, select.POLLIN)
            self._fd = fd
        now = time.monotonic_ns()
        if now - self._yielded_ns < (_YIELD_NS if self._turns.away else _IDLE_YIELD_NS):
            deadline = now + _SPIN_NS
            while now < deadline:
                if self._poll.poll(0):
                    return
                now = time.monotonic_ns()
        await trio.lowlevel.wait_readable(fd)
        self._yielded_ns = time.monotonic_ns()


class _Nursery:
    """A nursery whose tasks pass their turn on when they end."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Self:
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)

    def start_soon(
        self,
        function: Callable[..., Awaitable[None]],
        *args: Any,  # noqa: ANN401 - pyfuse3's
        name: str | None = None,
    ) -> None:
        async def run() -> None:
            try:
                await function(*args)
            finally:
                self._turns.pass_on()

        assert self._nursery is not None
        self._nursery.start_soon(run, name=name)


class _Trio:
    """`trio`, but for `Lock`, `open_nursery` and `lowlevel.wait_readable`."""

    def __init__(self, turns: Turns) -> None:
        self.lowlevel = _Lowlevel(turns)
        self._turns = turns

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever trio has
        return getattr(trio, name)

    def open_nursery(self) -> _Nursery:
        """Return a nursery whose tasks pass their turn on when they end."""
        return _Nursery(self._turns)

    def Lock(self) -> Turns:  # noqa: N802 - trio's name
        """Return the one lock that pyfuse3 makes."""
        return self._turns


def install() -> Turns:
    """Make pyfuse3 receive this way from its next `main` on, and return its lock."""
    turns = Turns()
    pyfuse3.trio = _Trio(turns)  # type: ignore[attr-defined]
    return turns
