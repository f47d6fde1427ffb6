"""Indexing beside a mount: a process of its own, which ends with the daemon however that ends."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("imgcat.indexer")

_NICENESS = 10
"""What is read through the mount comes first."""

_TO_END = 10.0
"""Seconds that it has to end: it may be in the middle of an image, and leaves nothing of that."""


@contextlib.contextmanager
def indexing(catalog_path: str, log_file: str | None) -> Iterator[None]:
    """Have all images of a catalog indexed, those that come too, for the time of the block.

    Args:
        catalog_path: the catalog's file.
        log_file: where it tells what it does; None for standard error.
    """
    with contextlib.ExitStack() as held:
        # Who waits for the end of what a daemon in the background prints must not wait for this.
        told = None if log_file is None else held.enter_context(open(log_file, "ab"))
        process = _start(catalog_path, told)
    if process is None:
        yield
        return
    try:
        yield
    finally:
        _end(process)


def _start(catalog_path: str, told: IO[bytes] | None) -> subprocess.Popen[bytes] | None:
    try:
        # It ends when the other end of its standard input is closed, as by a daemon that dies.
        process = subprocess.Popen(  # noqa: S603 - this Python, this package
            [
                sys.executable, "-P", "-m", "imgcat", "--db", catalog_path,
                "index", "--all", "--follow",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=told,
            start_new_session=True, cwd="/",
        )  # fmt: skip
    except OSError as error:
        log.warning("images are not indexed: %s", error)
        return None
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(_TO_END)
    except subprocess.TimeoutExpired:
        log.warning("what indexes does not end: it is killed")
        process.kill()
        process.wait()
