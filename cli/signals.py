"""Signals that end the program, for commands that must leave nothing behind."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let signals that end the program unwind it first, once, so that nothing is left behind."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        for each in _ENDING_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    # What is ignored stays so, as `nohup` wants it.
    changed = [each for each in _ENDING_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in changed}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
