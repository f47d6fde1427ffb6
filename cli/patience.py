"""Looks that are worth a moment, and not more: what a disk that hangs must not hold up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(seconds: float, look: Callable[[], T]) -> T | None:
    """Return what a look gives, None if it takes longer.

    One that takes longer goes on in a thread that the end of the program ends.

    Raises:
        Exception: what the look has raised.
    """
    found: list[T] = []

    def run() -> None:
        try:
            found.append(look())
        except Exception as error:  # noqa: BLE001 - raised below, by who waits
            failed.append(error)

    failed: list[Exception] = []
    thread = threading.Thread(target=run, daemon=True, name="look")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    return found[0] if found else None
