"""Bars for long work: on a terminal only, and never on standard output."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from .settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..formats.progress import Progress


@contextlib.contextmanager
def byte_bar(total: int, what: str) -> Iterator[Progress | None]:
    """Give what takes the number of bytes that are done, and shows them while somebody watches.

    Args:
        total: bytes in all.
        what: what stands before the bar.
    """
    if settings.quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(
        total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1024, leave=False, delay=0.5
    ) as bar:

        def show(done: int) -> None:
            bar.update(max(0, min(done, total) - bar.n))

        yield show


@contextlib.contextmanager
def above_bars() -> Iterator[None]:
    """Let what is written to standard output in the block stand above the bars, not in them."""
    if settings.quiet or not sys.stderr.isatty():
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        yield
