"""Bars for long work: on a terminal only, and never on standard output."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Self

from ..formats.text import printable
from .settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..formats.progress import Progress


def is_watched() -> bool:
    """Tell whether somebody sees bars."""
    return not settings.quiet and sys.stderr.isatty()


@contextlib.contextmanager
def byte_bar(total: int, what: str) -> Iterator[Progress | None]:
    """Give what takes the number of bytes that are done, and shows them while somebody watches.

    Args:
        total: bytes in all.
        what: what stands before the bar.
    """
    if not is_watched():
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
def count_bar(what: str, unit: str) -> Iterator[Progress]:
    """Give what takes how many were met of what nobody has counted before.

    Args:
        what: what stands before the number.
        unit: what is counted.
    """
    if not is_watched():
        yield lambda _done: None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit=f" {unit}", unit_scale=True, leave=False, delay=0.5) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show


@contextlib.contextmanager
def above_bars() -> Iterator[None]:
    """Let what is written to standard output in the block stand above the bars, not in them."""
    if not is_watched():
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        yield


class ShelfBar:
    """One bar for work on many images, with the time that is left of all of it.

    Args:
        total: bytes of all images.
        what: what stands before the bar, and before an image's name.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total = total
        self._what = what
        self._before = 0
        self._weight = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Show it, while somebody watches."""
        if is_watched():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total, desc=self._what, unit="B", unit_scale=True, unit_divisor=1024,
                leave=False, delay=0.5,
            )  # fmt: skip
        return self

    def __exit__(self, *exc: object) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.close()

    def of(self, name: str, weight: int) -> Progress | None:
        """Return what takes the bytes that are done of the next image.

        Args:
            name: what it is called.
            weight: the bytes that it has of the total.
        """
        self._before += self._weight
        self._weight = weight
        if self._bar is None:
            return None
        self._bar.set_description(f"{self._what} {printable(name)}", refresh=False)
        before = self._before
        self._show(before)
        return lambda done: self._show(before + min(done, weight))

    def _show(self, done: int) -> None:
        self._bar.update(max(0, min(done, self._total) - self._bar.n))
