"""Looks that are worth a moment, and not more: what a disk that hangs must not hold up.

A system call that waits for a disk cannot be ended, nor can a process in which a thread does so. So
one looks in a process of its own, which is left behind where it takes too long.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from .settings import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..catalog.records import ImageRow
    from ..catalog.store import Catalog

LOOK_SECONDS = 5.0
"""How long one looks at the images' files before they are taken for what they were."""

_PIECE = 1 << 16


def within(seconds: float, look: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return what a look gives, None if it takes longer.

    Args:
        seconds: how long it may take.
        look: asks the file system, and nothing else: no catalog, for SQLite's connections are of
            the process that has opened them. What it gives goes through JSON.

    Raises:
        RuntimeError: it has raised something, which is a fault of ours.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _look_and_end(look, writing)
    os.close(writing)
    told = _read_all(reading, time.monotonic() + seconds)
    os.close(reading)
    if told is None:
        # It ends when the disk answers; nobody waits for it.
        os.kill(child, signal.SIGKILL)
        return None
    os.waitpid(child, 0)
    result, fault = json.loads(told)
    if fault is not None:
        raise RuntimeError(fault)
    return result


def _look_and_end(look: Callable[[], Any], writing: int) -> None:
    """Be the process that looks: keep no file of the other open, and end without its clean-up."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.closerange(3, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        with open(writing, "w", encoding="ascii") as file:
            json.dump(_result_of(look), file)
    finally:
        os._exit(0)


def _result_of(look: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return what a look gives, or as text what it has raised."""
    try:
        return look(), None
    except Exception:  # noqa: BLE001 - raised by the process that waits
        return None, traceback.format_exc()


def _read_all(fd: int, deadline: float) -> bytes | None:
    """Return all that comes through a pipe, None if its end does not come in time."""
    pieces: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        piece = os.read(fd, _PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


class Look(NamedTuple):
    """What images are.

    Attributes:
        rows: every image, by name.
        statuses: what each is, by id.
        is_now: whether their files were looked at; else it is as was recorded.
    """

    rows: list[ImageRow]
    statuses: Mapping[int, str]
    is_now: bool

    def status(self, image_id: int) -> str:
        """Return what an image is."""
        return self.statuses[image_id]


def look_at_images(catalog: Catalog, seconds: float = LOOK_SECONDS) -> Look:
    """Return what all images are, by a look at their files, which is recorded.

    Where a disk does not answer in time, that is said, and statuses are those of the last look.

    Raises:
        CatalogError: the catalog could not be read.
    """
    from ..catalog.opening.freshness import Observed
    from ..catalog.upkeep.observe import look_at, record_look

    listed, parts = catalog.list_images(), catalog.parts()
    told = within(seconds, lambda: look_at(listed))
    rows = [row for row, _volumes in listed]
    if told is None:
        notify("a disk does not answer: statuses are those of the last look")
        return Look(rows, {row.id: row.status for row in rows}, is_now=False)
    found = {int(image_id): (status, detail) for image_id, (status, detail) in told.items()}
    if record_look(catalog.path, listed, found):
        listed, parts = catalog.list_images(), catalog.parts()
        rows = [row for row, _volumes in listed]
    own = {image_id: status for image_id, (status, _detail) in found.items()}
    observed = Observed(listed, parts, own)
    return Look(rows, {row.id: observed.status(row.id) for row in rows}, is_now=True)
