"""What a daemon may take of memory: its caches have budgets, and shrink where there is too little.

A cache that is too large costs the whole mount: in a cgroup, the kernel kills what goes over the
limit; under ``ulimit -v``, any allocation may fail. A cache that is too small costs time only.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import threading
from typing import TYPE_CHECKING

from ..catalog.opening.shared import Shared
from ..formats.codecs.decoders import DECODER_BUDGET, PAGE_BUDGET, RUNNING_BUDGET, Decoding
from ..formats.index.cache import INDEX_BUDGET, IndexCache
from . import listings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..catalog.records import OpenSpec
    from ..formats.sources.sealed import BrokenSealError

log = logging.getLogger("imgcat.daemon")

WITHOUT_CACHES = 96 << 20
"""Bytes that a daemon has resident with empty caches: interpreter, libraries, buffers of reads."""

_CACHES = PAGE_BUDGET + DECODER_BUDGET + INDEX_BUDGET + listings.BUDGET
_LEAST_CACHES = 8 << 20
_LEAST_RUNNING = 16 << 20
_TIGHT = 0.9
"""Of the limit; from there on, caches shrink."""

_MOST_WORKERS, _PER_WORKER = 6, 128 << 20

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Of glibc's ``mallopt``."""

_GIVEN_BACK = 4 << 20
"""What is as large as that goes back to the system when it is freed, where memory is limited."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The caches of a daemon, and how large they may be. For any number of threads.

    Args:
        limit: bytes that the daemon may have resident; None for what the system allows, and the
            usual caches where it says nothing.
        compare: as in `Shared`.
        on_broken: as in `Shared`.

    Attributes:
        shared: what open images share: the caches.
        listings: what is kept of directories inside of images.
        limit: as given, or what the system allows; None where there is none.
    """

    def __init__(
        self,
        limit: int | None,
        *,
        compare: bool = True,
        on_broken: Callable[[OpenSpec, BrokenSealError], None] | None = None,
    ) -> None:
        of_system = _limit_of_system()
        self.limit = min((each for each in (limit, of_system) if each is not None), default=None)
        self._lock = threading.Lock()
        self._caches, self._running = _CACHES, RUNNING_BUDGET
        _allocate(_M_ARENA_MAX, 2)
        if self.limit is not None:
            _allocate(_M_MMAP_THRESHOLD, _GIVEN_BACK)
            # One part for the caches, two for what is being decoded, one for what is on its way.
            room = max(0, self.limit - WITHOUT_CACHES) * 3 // 4
            self._caches = max(_LEAST_CACHES, min(_CACHES, room // 3))
            self._running = min(RUNNING_BUDGET, room - room // 3)
        index, pages, decoders, of_listings = self._budgets()
        self.listings = listings.Listings(of_listings)
        self.shared = Shared(
            IndexCache(index),
            Decoding(pages, decoders, self._running),
            compare=compare,
            on_broken=on_broken,
        )

    @property
    def most_workers(self) -> int:
        """How many readers of file systems may run: each is a process beside this one."""
        if self.limit is None:
            return _MOST_WORKERS
        return max(1, min(_MOST_WORKERS, self.limit // _PER_WORKER))

    def shrink(self, why: str) -> None:
        """Halve the caches: there is too little memory. Returns at once; it allocates next to none.

        Args:
            why: for the log, after a colon.
        """
        with self._lock:
            before = self._caches
            self._caches = max(_LEAST_CACHES, before // 2)
            self._running = max(_LEAST_RUNNING, self._running // 2)
            index, pages, decoders, of_listings = self._budgets()
        self.listings.shrink(of_listings)
        self.shared.indexes.shrink(index)
        self.shared.decoding.shrink(pages, decoders, self._running)
        if self._caches < before:
            log.warning("caches shrink to %d MiB: %s", self._caches >> 20, why)

    def look(self) -> None:
        """Shrink the caches where the daemon is close to its limit. It may block."""
        if self.limit is None:
            return
        resident = _resident()
        if resident > self.limit * _TIGHT:
            self.shrink(f"{resident >> 20} MiB of {self.limit >> 20} MiB are in use")

    def _budgets(self) -> tuple[int, int, int, int]:
        """Return bytes for pieces of indexes, decoded pages, decoders that wait, and listings."""
        share = self._caches / _CACHES
        return (
            int(INDEX_BUDGET * share),
            int(PAGE_BUDGET * share),
            int(DECODER_BUDGET * share),
            int(listings.BUDGET * share),
        )


def _allocate(option: int, value: int) -> None:
    """Tell the C library how to allocate, where it is one that can be told."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(option, value)


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE


def _limit_of_system() -> int | None:
    """Return the bytes that this process, or the group that it is in, may have; None for any."""
    limits = list(_cgroup_limits())
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    return min(limits, default=None)


def _cgroup_limits() -> Iterator[int]:
    """Yield the limits of the process's memory groups and of those above them.

    Source: the kernel's cgroup-v1/memory.rst (memory.limit_in_bytes) and cgroup-v2.rst (memory.max,
    memory.high).
    """
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _number, controllers, group = line.rstrip("\n").split(":", 2)
            if controllers in {"", "memory"}:
                root = "/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup"
                names = ("memory.limit_in_bytes",) if controllers else ("memory.max", "memory.high")
                yield from _limits_up(root, group, names)


def _limits_up(root: str, group: str, names: tuple[str, ...]) -> Iterator[int]:
    parts = [part for part in group.split("/") if part not in {"", ".."}]
    for count in range(len(parts), -1, -1):
        for name in names:
            path = os.path.join(root, *parts[:count], name)
            with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
                limit = int(file.read())
                if limit < _NO_LIMIT:
                    yield limit


_NO_LIMIT = 1 << 60
"""A version 1 group without a limit has one near 2^63."""
