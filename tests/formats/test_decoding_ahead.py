"""Threads that decode ahead of a reader give way to those that somebody waits for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from imgcat.formats.codecs.decoders import Decoding


def niceness() -> int:
    """Return that of this thread, as the system tells it."""
    text = Path(f"/proc/self/task/{threading.get_native_id()}/stat").read_text(encoding="ascii")
    return int(text.rpartition(")")[2].split()[16])


def test_decoding_ahead_is_less_urgent() -> None:
    found: list[int] = []
    done = threading.Event()

    def look() -> None:
        found.append(niceness())
        done.set()

    Decoding().plan_ahead(look)
    assert done.wait(60)
    mine = niceness()
    assert mine == os.getpriority(os.PRIO_PROCESS, 0)
    assert found == [min(19, mine + 5)]
