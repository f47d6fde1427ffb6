"""What a thread of its own makes, taken one after the other by who wants it."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")

_AHEAD = 16
"""Things that are kept for whoever is slower than the thread."""

_LOOK_EVERY = 1.0
"""Seconds after which the thread looks whether anybody still wants what it makes."""


class _Ended(NamedTuple):
    """The last thing: what the thread has failed with, or None."""

    error: Exception | None


class _UnwantedError(Exception):
    """Nobody takes anything any more."""


def in_thread(make: Callable[[Callable[[_T], None]], None], name: str) -> Iterator[_T]:
    """Yield what is made in a thread, which works while what it has made is used.

    Who stops to take anything ends the thread: giving the next thing does not return there.

    Args:
        make: is given what takes each thing, in that thread.
        name: of the thread.

    Raises:
        Exception: whatever `make` raises, behind what it has given before.
    """
    made: queue.Queue[_T | _Ended] = queue.Queue(_AHEAD)
    is_unwanted = threading.Event()

    def give(thing: _T | _Ended) -> None:
        while not is_unwanted.is_set():
            with contextlib.suppress(queue.Full):
                made.put(thing, timeout=_LOOK_EVERY)
                return
        raise _UnwantedError

    def work() -> None:
        last = _Ended(None)
        try:
            make(give)
        except Exception as error:  # noqa: BLE001 - raised where the things are taken
            last = _Ended(error)
        with contextlib.suppress(_UnwantedError):
            give(last)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while True:
            thing = made.get()
            if not isinstance(thing, _Ended):
                yield thing
            elif thing.error is None:
                return
            else:
                raise thing.error
    finally:
        is_unwanted.set()
        with contextlib.suppress(queue.Empty):
            # It may wait for room.
            made.get_nowait()
        thread.join()
