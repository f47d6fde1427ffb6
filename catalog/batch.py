"""Many files at once: found in directories, scanned in parallel, written one by one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import os
from typing import TYPE_CHECKING

from ..formats import probe
from ..formats.errors import FormatError
from ..formats.source import FileSource
from . import ingest
from .errors import ImageChangedError, NameTakenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..formats.reader import Progress
    from .store import Catalog


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of one path: `ingested`, or the `error` that stood in the way."""

    path: str
    ingested: ingest.Ingested | None = None
    error: Exception | None = None


def find_images(directory: str) -> Iterator[str]:
    """Yield the files below `directory` that begin like an image, in order of path.

    Links to directories are not followed; what cannot be read is passed over.
    """
    for parent, directories, files in os.walk(directory):
        directories.sort()
        for name in sorted(files):
            path = os.path.join(parent, name)
            if _is_image(path) and probe.first_file(path) == path:
                yield path


def add_files(
    catalog: Catalog,
    paths: Iterable[str],
    *,
    name: str | None = None,
    force: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Add files, and yield a result for each, in order. One bad image does not stop the others.

    Up to `jobs` files are scanned at the same time; each is written in a transaction of its own
    by the calling thread.

    Args:
        catalog: where they go.
        paths: the files; of an image in several volumes, any of them.
        name: the name that a single one shall have.
        force: scan even what has not changed.
        jobs: files that are scanned at the same time.
        progress: told the bytes of all files that are done.

    Raises:
        CatalogError: the catalog itself cannot be used any more.
    """
    pending: list[tuple[str, concurrent.futures.Future[ingest.ScannedFile] | Result]] = []
    iterator = _whole_images(paths)
    changed = False
    meter = _Meter(progress)
    executor = concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="scan")
    with executor:
        try:
            while True:
                for path in itertools.islice(iterator, 2 * jobs - len(pending)):
                    known = _known(catalog, path, name, force=force)
                    pending.append(
                        (path, known or executor.submit(ingest.scan_file, path, meter.of(path)))
                    )
                if not pending:
                    break
                path, outcome = pending.pop(0)
                result = outcome if isinstance(outcome, Result) else _put(
                    catalog, path, outcome, name
                )  # fmt: skip
                changed = changed or (
                    result.ingested is not None
                    and result.ingested.outcome is ingest.Outcome.UPDATED
                )
                meter.finish(path)
                yield result
        finally:
            executor.shutdown(cancel_futures=True)
    if changed:
        catalog.purge_unused_indexes()


class _Meter:
    """Adds up what several scans say of their progress."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}

    def of(self, path: str) -> Progress | None:
        """Return what the scan of a file is to tell."""
        if self._progress is None:
            return None
        return functools.partial(self._tell, path)

    def finish(self, path: str) -> None:
        """Count a file whole, of which a scan need not read all."""
        with contextlib.suppress(OSError):
            self._tell(path, os.path.getsize(path))

    def _tell(self, path: str, done: int) -> None:
        self._done[path] = done
        if self._progress is not None:
            self._progress(sum(self._done.values()))


def _whole_images(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths, but for an image in several volumes only the first of them, once."""
    seen = set()
    for path in paths:
        first = probe.first_file(path)
        if first != path and os.path.abspath(first) in seen:
            continue
        seen.add(os.path.abspath(first))
        yield first


def _known(catalog: Catalog, path: str, name: str | None, *, force: bool) -> Result | None:
    """Return the result for a file that needs no scan, None for one that does."""
    if force:
        return None
    record = catalog.find_path(os.path.abspath(path))
    if record is None or ingest.needs_scan(record):
        return None
    try:
        return Result(path, ingest.add_file(catalog, path, name=name))
    except NameTakenError as error:
        return Result(path, error=error)


def _put(
    catalog: Catalog,
    path: str,
    future: concurrent.futures.Future[ingest.ScannedFile],
    name: str | None,
) -> Result:
    try:
        return Result(path, ingest.put(catalog, future.result(), name=name))
    except (FormatError, OSError, ImageChangedError, NameTakenError) as error:
        return Result(path, error=error)


def _is_image(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        source = FileSource(path)
    except OSError:
        return False
    try:
        return probe.sniff(source) is not None
    except (OSError, FormatError):
        return False
    finally:
        source.close()
