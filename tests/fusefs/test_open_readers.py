"""What is open in a daemon: when it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from imgcat.catalog.records import MountEntry
from imgcat.fusefs.open_readers import OpenReaders

if TYPE_CHECKING:
    from collections.abc import Callable


class Reader:
    """A reader that tells whether it was closed."""

    size = 1 << 20
    closed = False

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        raise AssertionError((view, offset))

    def close(self) -> None:
        self.closed = True


def test_what_was_just_released_is_closed_when_the_mount_ends() -> None:
    """What is open keeps indexes that nobody uses: the last daemon deletes them at its end."""
    readers = [Reader(), Reader()]
    entries = [MountEntry(n, "x" * n, 1 << 30, 1 << 20, n, 77 * n, False, 0) for n in (1, 2)]

    async def in_thread(
        _limiter: trio.CapacityLimiter, function: Callable[..., Any], *given: object
    ) -> object:
        return function(*given)

    async def main() -> None:
        opened = OpenReaders(lambda entry: readers[entry.image_id - 1], in_thread)  # type: ignore[arg-type,return-value,union-attr]
        for entry in entries:
            await opened.open(entry.image_id, entry)
            opened.release(entry.image_id)
        opened.close()

    trio.run(main)
    assert [reader.closed for reader in readers] == [True, True]
