"""Many files at once: found in directories, scanned in parallel, written one by one."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import threading
from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.files import detect
from ..errors import ImageChangedError, ImageNotFoundError, NameTakenError
from ..names import USUAL_NAMES, NameSource
from .add import add_file, with_parent
from .moved import MovedImages
from .outcome import Ingested, Outcome
from .put import needs_scan, put
from .recognise import Recognised, named, put_all, recognise
from .scan import How, ScannedFile, scan_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...formats.progress import Progress
    from ..store import Catalog


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """An image that is to be added.

    Attributes:
        path: its file; of several, any.
        wish: the name that it shall have if it is new and that is free; else one like it.
        is_raw: take it for the partition's bytes as they are.
        names: how it gets its name where there is no wish, and what it is a difference to does.
    """

    path: str
    wish: str | None = None
    is_raw: bool = False
    names: NameSource = USUAL_NAMES


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How images are scanned.

    Attributes:
        force: scan even what has not changed.
        jobs: images that are scanned at the same time.
        verify: look at the checksums too, where that needs no pass of its own.
        spacing: plain bytes between two seek points of compressed images; the codec's own if None.
        strict: refuse what would only be warned about.
        by_geometry: take the size of a VHD from cylinders, heads and sectors.
        allowed: directories into which the names of backing and data files may lead, beside the
            image's own.
    """

    force: bool = False
    jobs: int = 1
    verify: bool = False
    spacing: int | None = None
    strict: bool = False
    by_geometry: bool = False
    allowed: tuple[str, ...] = ()


_USUAL = Options()

_OF_ONE_FILE = (FormatError, OSError, ImageChangedError, ImageNotFoundError, NameTakenError)
"""What can be wrong with one of several files, and must not stop the others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of one path: `ingested`, or the `error` that stood in the way."""

    path: str
    ingested: Ingested | None = None
    error: Exception | None = None


_TOGETHER = 64
"""Most files that are under way at the same time, those among them that need no scan."""

_Begun = concurrent.futures.Future[ScannedFile] | Result | Recognised
"""What there is of a file before it is written: a scan, all of it, or what it was found to be."""


def add_files(
    catalog: Catalog,
    items: Iterable[str | Item],
    *,
    name: str | None = None,
    options: Options = _USUAL,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Add files, and yield a result for each, in order. One bad image does not stop the others.

    Up to `options.jobs` files are scanned at the same time; each is written in a transaction of
    its own by the calling thread. What is recognised needs no scan, and is written many at a time.

    Args:
        catalog: where they go.
        items: the files; of an image in several files, any of them.
        name: the name that a single one shall have.
        options: how they are scanned.
        progress: told the bytes of all files that are done.

    Raises:
        CatalogError: the catalog itself cannot be used any more.
    """
    pending: collections.deque[tuple[Item, _Begun]] = collections.deque()
    iterator = _whole_images(items)
    changed = False
    meter = _Meter(progress)
    moved = MovedImages()
    executor = concurrent.futures.ThreadPoolExecutor(options.jobs, thread_name_prefix="scan")
    with executor:
        try:
            while True:
                scans = sum(
                    isinstance(begun, concurrent.futures.Future) for _item, begun in pending
                )
                while scans < 2 * options.jobs and len(pending) < _TOGETHER:
                    item = next(iterator, None)
                    if item is None:
                        break
                    known = _known(catalog, item, options, name, moved)
                    if known is not None:
                        pending.append((item, known))
                        continue
                    scans += 1
                    how = _how(catalog, item, options)
                    scan = executor.submit(scan_file, item.path, meter.of(item.path), how)
                    pending.append((item, scan))
                if not pending:
                    break
                for item, result in _finished(catalog, pending, options, name, moved):
                    changed = changed or (
                        result.ingested is not None and result.ingested.outcome is Outcome.UPDATED
                    )
                    meter.finish(item.path)
                    yield result
        finally:
            # Whoever interrupts this does not wait until whole images are scanned.
            meter.stop()
            executor.shutdown(cancel_futures=True)
    if changed:
        catalog.purge()


def _finished(
    catalog: Catalog,
    pending: collections.deque[tuple[Item, _Begun]],
    options: Options,
    name: str | None,
    moved: MovedImages,
) -> list[tuple[Item, Result]]:
    """Take what comes first, wait for its scan if it has one, and write it.

    What is recognised is written together with all that follows it and is recognised too.
    """
    item, begun = pending.popleft()
    if isinstance(begun, Result):
        return [(item, begun)]
    if isinstance(begun, concurrent.futures.Future):
        _load_writing()
        return [(item, _put(catalog, item, begun, options, name, moved))]
    items, found = [item], [begun]
    while pending and isinstance(pending[0][1], Recognised):
        item, begun = pending.popleft()
        assert isinstance(begun, Recognised)
        items.append(item)
        found.append(begun)
    written = put_all(catalog, found)
    return [
        (item, _named(catalog, item, result, name))
        for item, result in zip(items, written, strict=True)
    ]


def _named(catalog: Catalog, item: Item, result: Ingested | Exception, name: str | None) -> Result:
    if isinstance(result, Exception):
        return Result(item.path, error=result)
    try:
        return Result(item.path, named(catalog, result, name))
    except _OF_ONE_FILE as error:
        return Result(item.path, error=error)


def _load_writing() -> None:
    """Load SQLAlchemy, which takes a while: in that time the first scans are under way."""
    from ..database import writing  # noqa: F401


class _StoppedError(Exception):
    """A scan that nobody waits for any more."""


class _Meter:
    """Adds up what several scans say of their progress, and ends them where they say it."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}
        self._is_stopped = False
        self._total = 0
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End all scans that are under way: each at its next word."""
        self._is_stopped = True

    def of(self, path: str) -> Progress:
        """Return what the scan of a file is to tell."""
        return functools.partial(self._tell, path)

    def finish(self, path: str) -> None:
        """Count a file whole, of which a scan need not read all."""
        with contextlib.suppress(OSError):
            self._tell(path, os.path.getsize(path))

    def _tell(self, path: str, done: int) -> None:
        if self._is_stopped:
            raise _StoppedError(path)
        with self._lock:
            self._total += done - self._done.get(path, 0)
            self._done[path] = done
            total = self._total
        if self._progress is not None:
            self._progress(total)


def _whole_images(items: Iterable[str | Item]) -> Iterator[Item]:
    """Yield the items, but for an image in several files only the first of them, once."""
    seen = set()
    for each in items:
        item = each if isinstance(each, Item) else Item(each)
        first = detect.first_file(item.path)
        if first != item.path and os.path.abspath(first) in seen:
            continue
        seen.add(os.path.abspath(first))
        yield dataclasses.replace(item, path=first)


def _how(catalog: Catalog, item: Item, options: Options) -> How:
    return How(
        spacing=options.spacing,
        is_raw=item.is_raw,
        verify=options.verify,
        strict=options.strict,
        by_geometry=options.by_geometry,
        allowed=options.allowed,
        by_id=catalog.path_of_uuid,
        names=item.names,
    )


def _known(
    catalog: Catalog, item: Item, options: Options, name: str | None, moved: MovedImages
) -> Result | Recognised | None:
    """Return the result for a file that needs no scan, or what it is; None for one that does."""
    if options.force:
        return None
    path = item.path
    try:
        record = catalog.find_path(os.path.abspath(path))
        if record is not None and not needs_scan(catalog, record):
            return Result(path, add_file(catalog, path, name=name))
        how = _how(catalog, item, options)
        return recognise(catalog, path, record, how, moved)
    except _OF_ONE_FILE as error:
        return Result(path, error=error)


def _put(
    catalog: Catalog,
    item: Item,
    future: concurrent.futures.Future[ScannedFile],
    options: Options,
    name: str | None,
    moved: MovedImages,
) -> Result:
    try:
        scanned = with_parent(catalog, future.result(), _how(catalog, item, options))
        wish = item.wish or item.names.of_file(scanned.path)
        ingested = put(catalog, scanned, name=name, wish=wish, renew=options.force, moved=moved)
        return Result(item.path, ingested)
    except _OF_ONE_FILE as error:
        return Result(item.path, error=error)
