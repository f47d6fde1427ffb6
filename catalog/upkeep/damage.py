"""Recording damage that was met while images were read, and what readers of their files died of."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from ...filesystems.process import WorkerFailure
from ..database import failures
from ..database.moment import utc, utc_now
from ..errors import CatalogError
from ..records import DAMAGED, WorkerFailureRow
from ..store import Catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...formats.errors import FormatError
    from ..records import MountEntry, OpenSpec

    Opened = OpenSpec | MountEntry
    """An image as it was when it was opened."""

log = logging.getLogger("imgcat.catalog")


_TOLD_SECONDS = 5.0
"""For which damage of the same content is not told again."""


def record_damage(catalog: Catalog, image_id: int, content_key: int, detail: str) -> None:
    """Let an image be damaged, unless it was scanned anew meanwhile, or is another's by now.

    Raises:
        CatalogError: the catalog could not be written.
    """
    # Imported when there is something to write: loading SQLAlchemy takes a while.
    from ..database import composing, reading, writing
    from ..database.transaction import driver_connection

    with catalog.database.writing() as connection:
        if reading.content_key_of(driver_connection(connection), image_id) != content_key:
            return
        writing.update_image(
            connection,
            image_id,
            status=DAMAGED,
            status_detail=detail,
            verified_at=utc_now(),
            verify_result="bad",
            verify_detail=detail,
        )
        composing.refresh_above(connection, [image_id])


_BUSY_SECONDS = 2.0
"""How long others may write before what is only told of is told to the log."""


def record_worker_failures(path: str, image: Opened, met: Sequence[WorkerFailure]) -> None:
    """Record what readers of the files in an image failed over; if that cannot be, it is logged.

    Args:
        path: the catalog's file.
        image: as it was when it was opened.
        met: the failures, in order.
    """
    if not met:
        return
    from ..database.transaction import driver_connection

    try:
        with (
            Catalog.open(path, busy_seconds=_BUSY_SECONDS) as catalog,
            catalog.database.writing() as connection,
        ):
            for each in met[-failures.MOST_KEPT :]:
                row = WorkerFailureRow(utc(each.when), each.fs_type, each.question, each.ending)
                failures.insert(
                    driver_connection(connection), image.image_id, image.content_key, row
                )
    except CatalogError as error:
        log.warning("%s: not recorded that %s: %s", image.name, met[-1], error)


def worker_failures(catalog: Catalog, image_id: int) -> list[WorkerFailureRow]:
    """Return what readers of the files in an image failed over, the newest first.

    Raises:
        CatalogError: the catalog could not be read.
    """
    with catalog.database.asking() as connection:
        return failures.rows(connection, image_id)


class DamageRecorder:
    """Records what readers meet, in a thread of its own, so that none of them waits.

    Args:
        path: the catalog's file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._told: dict[tuple[int, int], float] = {}
        self._queue: queue.SimpleQueue[tuple[Opened, FormatError | WorkerFailure]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def tell(self, spec: OpenSpec, error: FormatError) -> None:
        """Have an image recorded as damaged; of the same content, not again and again."""
        key = spec.image_id, spec.content_key
        now = time.monotonic()
        with self._lock:
            if now - self._told.get(key, -_TOLD_SECONDS) < _TOLD_SECONDS:
                return
            self._told[key] = now
        self._put(spec, error)

    def tell_of_worker(self, image: Opened, failure: WorkerFailure) -> None:
        """Have it recorded that a reader of the files in an image has failed."""
        self._put(image, failure)

    def _put(self, spec: Opened, error: FormatError | WorkerFailure) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="damage", daemon=True)
                self._thread.start()
        self._queue.put((spec, error))

    def _run(self) -> None:
        while True:
            spec, error = self._queue.get()
            try:
                if isinstance(error, WorkerFailure):
                    record_worker_failures(self._path, spec, [error])
                    continue
                with Catalog.open(self._path) as catalog:
                    record_damage(catalog, spec.image_id, spec.content_key, str(error))
            except CatalogError as failure:
                log.warning("%s: its damage is not recorded: %s", spec.name, failure)
            except Exception:
                log.exception("%s: its damage is not recorded", spec.name)
