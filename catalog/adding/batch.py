"""Many files at once: found in directories, scanned in parallel, written one by one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import os
import threading
from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.files import detect
from ..errors import ImageChangedError, ImageNotFoundError, NameTakenError
from .add import add_file, with_parent
from .moved import MovedImages
from .outcome import Ingested, Outcome
from .put import needs_scan, put
from .recognise import put_recognised
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
    """

    path: str
    wish: str | None = None
    is_raw: bool = False


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
    its own by the calling thread.

    Args:
        catalog: where they go.
        items: the files; of an image in several files, any of them.
        name: the name that a single one shall have.
        options: how they are scanned.
        progress: told the bytes of all files that are done.

    Raises:
        CatalogError: the catalog itself cannot be used any more.
    """
    pending: list[tuple[Item, concurrent.futures.Future[ScannedFile] | Result]] = []
    iterator = _whole_images(items)
    changed = False
    meter = _Meter(progress)
    moved = MovedImages()
    executor = concurrent.futures.ThreadPoolExecutor(options.jobs, thread_name_prefix="scan")
    with executor:
        try:
            while True:
                for item in itertools.islice(iterator, 2 * options.jobs - len(pending)):
                    outcome = _known(catalog, item, options, name, moved) or executor.submit(
                        scan_file,
                        item.path,
                        meter.of(item.path),
                        _how(catalog, item, options),
                    )
                    pending.append((item, outcome))
                if not pending:
                    break
                _load_writing()
                item, outcome = pending.pop(0)
                result = outcome if isinstance(outcome, Result) else _put(
                    catalog, item, outcome, options, name, moved
                )  # fmt: skip
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
        catalog.purge_unused_indexes()


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
    )


def _known(
    catalog: Catalog, item: Item, options: Options, name: str | None, moved: MovedImages
) -> Result | None:
    """Return the result for a file that needs no scan, None for one that does."""
    if options.force:
        return None
    path = item.path
    try:
        record = catalog.find_path(os.path.abspath(path))
        if record is not None and not needs_scan(catalog, record):
            return Result(path, add_file(catalog, path, name=name))
        how = _how(catalog, item, options)
        recognised = put_recognised(catalog, path, record, name=name, how=how, moved=moved)
        return None if recognised is None else Result(path, recognised)
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
        ingested = put(
            catalog, scanned, name=name, wish=item.wish, renew=options.force, moved=moved
        )
        return Result(item.path, ingested)
    except _OF_ONE_FILE as error:
        return Result(item.path, error=error)
