"""Working at pieces of a stream on several cores, and handing out what comes of them in order."""

from __future__ import annotations

import collections
import concurrent.futures
import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_order(
    function: Callable[[_T], _R], items: Iterable[_T], *, jobs: int | None = None
) -> Iterator[_R]:
    """Yield ``function(item)`` for each item, in order, up to `jobs` of them at the same time.

    Args:
        function: called in threads.
        items: taken one by one, no further ahead than needed.
        jobs: threads; as many as there are processors if None.
    """
    threads = jobs or len(os.sched_getaffinity(0))
    pending: collections.deque[concurrent.futures.Future[_R]] = collections.deque()
    iterator = iter(items)
    with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="piece") as executor:
        try:
            for item in iterator:
                pending.append(executor.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)
