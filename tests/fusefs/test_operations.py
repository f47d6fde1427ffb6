"""The handlers: only `FUSEError` leaves them, whatever happens inside."""

# ruff: noqa: ARG002 - stand-ins have the signatures of what they stand in for

from __future__ import annotations

import errno
import inspect
import os
from typing import TYPE_CHECKING, Any

import pyfuse3
import pytest
import trio
import trio.testing
from imgcat.catalog.errors import CatalogBusyError, ImageChangedError, ImageNotFoundError
from imgcat.catalog.opening.errnos import errno_of
from imgcat.catalog.records import MountEntry
from imgcat.formats.errors import ChecksumError, TruncatedImageError
from imgcat.formats.index.rank_chunk import ChunkMissingError
from imgcat.fusefs.operations import Operations
from imgcat.fusefs.receiving import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY = MountEntry(1, "x", 1 << 30, 1 << 20, 1, 0, 0o644, 0, 0)


class Reader:
    """A reader that does what the test says when it has to wait."""

    size = 1 << 30
    was_touched = False

    def __init__(self, wait: Callable[[], None], *, nowait: bool = False) -> None:
        self.wait = wait
        self.nowait = nowait
        self.closed = False

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        view[:] = b"n" * len(view)
        return self.nowait

    def read_into(self, view: memoryview, offset: int) -> None:
        self.wait()
        view[:] = b"w" * len(view)

    def close(self) -> None:
        self.closed = True


class Readers:
    """A factory that gives what the test says."""

    def __init__(self, opened: Reader | Exception) -> None:
        self.opened = opened

    def open(self, image_id: int, index_id: int | None = None) -> Reader:
        if isinstance(self.opened, Exception):
            raise self.opened
        return self.opened


def operations(opened: Reader | Exception) -> tuple[Operations, Any]:
    """Return the handlers over one image, and the inode of the image."""
    made = Operations(Readers(opened), Turns())  # type: ignore[arg-type]
    made.show([ENTRY])
    child = made._tree.child(pyfuse3.ROOT_INODE, b"x")
    assert child is not None
    return made, child.inode


def planted(error: BaseException) -> Callable[[], None]:
    def wait() -> None:
        raise error

    return wait


ERRORS = [
    (TruncatedImageError("source", 1, "ends"), errno.EIO),
    (ChecksumError("x", 0, group=0, expected=1, actual=2), errno.EIO),
    (ChunkMissingError("gone"), errno.ESTALE),
    (CatalogBusyError("busy"), errno.EIO),
    (OSError(errno.EREMOTEIO, "disk"), errno.EREMOTEIO),
    (OSError("without a number"), errno.EIO),
    (MemoryError(), errno.ENOMEM),
    (ZeroDivisionError(), errno.EIO),
    (KeyError("bug"), errno.EIO),
    (UnicodeEncodeError("ascii", "é", 0, 1, "bug"), errno.EIO),
]


@pytest.mark.parametrize(("error", "number"), ERRORS, ids=lambda value: type(value).__name__)
def test_whatever_a_read_raises_becomes_an_errno(error: Exception, number: int) -> None:
    async def main() -> None:
        made, inode = operations(Reader(planted(error)))
        info = await made.open(inode, os.O_RDONLY, None)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await made.read(info.fh, 0, 4096)
        assert caught.value.errno == number == errno_of(error)
        await made.release(info.fh)

    trio.run(main)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        *ERRORS,
        (ImageChangedError("replaced"), errno.ESTALE),
        (ImageNotFoundError("removed"), errno.ENOENT),
        (PermissionError(errno.EACCES, "no"), errno.EACCES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_opening_raises_becomes_an_errno(error: Exception, number: int) -> None:
    async def main() -> None:
        made, inode = operations(error)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await made.open(inode, os.O_RDONLY, None)
        assert caught.value.errno == number

    trio.run(main)


def test_unknown_handles_and_inodes_are_errors_and_not_the_end() -> None:
    async def main() -> None:
        made, _inode = operations(Reader(lambda: None))
        for call in (
            made.read(999, 0, 1), made.release(999), made.releasedir(999), made.getattr(999, None),
            made.opendir(999, None), made.open(999, os.O_RDONLY, None),
            made.lookup(999, b"x", None), made.lookup(pyfuse3.ROOT_INODE, b"nothing", None),
        ):  # fmt: skip
            with pytest.raises(pyfuse3.FUSEError):
                await call
        await made.forget([(999, 3)])

    trio.run(main)


def test_every_handler_is_guarded() -> None:
    handlers = {
        name: function
        for name, function in vars(Operations).items()
        if inspect.iscoroutinefunction(function) and hasattr(pyfuse3.Operations, name)
    }
    assert {"lookup", "getattr", "open", "read", "readdir", "release", "statfs"} <= set(handlers)
    # `read` catches by itself, as the tests above show.
    unguarded = {name for name, f in handlers.items() if not hasattr(f, "__wrapped__")}
    assert unguarded == {"read"}


def test_a_read_that_waits_does_not_share_its_buffer() -> None:
    async def main() -> None:
        reader = Reader(lambda: None)
        made, inode = operations(reader)
        info = await made.open(inode, os.O_RDONLY, None)
        waited = await made.read(info.fh, 0, 10)
        reader.nowait = True
        quick = await made.read(info.fh, 0, 10)
        assert (bytes(waited), bytes(quick)) == (b"w" * 10, b"n" * 10)

    trio.run(main)


def test_reads_end_where_the_image_does() -> None:
    async def main() -> None:
        made, inode = operations(Reader(lambda: None))
        info = await made.open(inode, os.O_RDONLY, None)
        assert len(await made.read(info.fh, Reader.size - 3, 10)) == 3
        assert await made.read(info.fh, Reader.size, 10) == b""
        assert await made.read(info.fh, Reader.size + 5, 10) == b""

    trio.run(main)


def test_a_slow_image_does_not_hold_up_another() -> None:
    async def main() -> None:
        release = trio.Event()

        def slow() -> None:
            trio.from_thread.run(release.wait)

        made, inode = operations(Reader(slow))
        slow_file = await made.open(inode, os.O_RDONLY, None)
        made._readers = Readers(Reader(lambda: None))  # type: ignore[assignment]
        other_file = await made.open(inode, os.O_RDONLY, None)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(made.read, slow_file.fh, 0, 10)
                await trio.testing.wait_all_tasks_blocked()
                assert bytes(await made.read(other_file.fh, 0, 4)) == b"wwww"
                release.set()

    trio.run(main)


def test_writing_is_refused() -> None:
    async def main() -> None:
        made, inode = operations(Reader(lambda: None))
        for flags in (os.O_WRONLY, os.O_RDWR):
            with pytest.raises(pyfuse3.FUSEError) as caught:
                await made.open(inode, flags, None)
            assert caught.value.errno == errno.EROFS

    trio.run(main)
