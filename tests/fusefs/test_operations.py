"""The handlers: only `FUSEError` leaves them, whatever happens inside."""

# ruff: noqa: ARG002 - stand-ins have the signatures of what they stand in for

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import threading
import types
from typing import TYPE_CHECKING, Any

import pyfuse3
import pytest
import trio
import trio.testing
from imgcat.catalog.errors import CatalogBusyError, ImageChangedError, ImageNotFoundError
from imgcat.catalog.opening.errnos import errno_of
from imgcat.catalog.opening.permissions import KnownPermissions
from imgcat.catalog.records import ImageFiles, MountEntry
from imgcat.formats.errors import ChecksumError, TruncatedImageError
from imgcat.formats.index.rank_chunk import ChunkMissingError
from imgcat.fusefs.operations import Operations
from imgcat.fusefs.receiving import Turns
from imgcat.fusefs.tree import Planner, handle_of, inode_of

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY = MountEntry(1, "x", 1 << 30, 1 << 20, 1, 77, False, 0)
ROOT: Any = types.SimpleNamespace(uid=0, gid=0, pid=os.getpid())


class Reader:
    """A reader that does what the test says when it has to wait."""

    size = 1 << 30
    was_touched = False

    def __init__(self, wait: Callable[[], None], *, nowait: bool = False) -> None:
        self.wait = wait
        self.nowait = nowait
        self.closed = False
        self.current = True

    def is_current(self) -> bool:
        return self.current

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        view[:] = b"n" * len(view)
        return self.nowait

    def read_into(self, view: memoryview, offset: int) -> None:
        self.wait()
        view[:] = b"w" * len(view)

    def close(self) -> None:
        self.closed = True


def permissions() -> KnownPermissions:
    """Return those of images that are all made of this file."""
    return KnownPermissions(lambda _image_id: ImageFiles((__file__,)))


def operations(
    opened: Reader | Exception,
    *others: Reader,
    opener: Callable[[MountEntry], Reader] | None = None,
) -> tuple[Operations, Any]:
    """Return the handlers over an image, and its inode; others are the next numbers."""
    images = [opened, *others]
    entries = [
        dataclasses.replace(ENTRY, image_id=n, name="x" * n, index_id=n, content_key=77 * n)
        for n in range(1, len(images) + 1)
    ]

    def open_entry(entry: MountEntry) -> Reader:
        found = images[entries.index(entry)]
        if isinstance(found, Exception):
            raise found
        return found

    made = Operations(opener or open_entry, permissions(), Turns())  # type: ignore[arg-type]
    # At once: in a thread of its own, nobody knows when.
    made._readers._close = lambda reader: reader.close()
    made.show(Planner().plan([dataclasses.astuple(entry) for entry in entries]))
    return made, inode_of(entries[0])


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
        info = await made.open(inode, os.O_RDONLY, ROOT)
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
            await made.open(inode, os.O_RDONLY, ROOT)
        assert caught.value.errno == number

    trio.run(main)


def test_unknown_handles_and_inodes_are_errors_and_not_the_end() -> None:
    async def main() -> None:
        made, _inode = operations(Reader(lambda: None))
        for call in (
            made.read(999, 0, 1), made.getattr(999, None),
            made.opendir(999, None), made.open(999, os.O_RDONLY, ROOT),
            made.lookup(999, b"x", None), made.lookup(pyfuse3.ROOT_INODE, b"nothing", None),
        ):  # fmt: skip
            with pytest.raises(pyfuse3.FUSEError):
                await call
        # What another process of the same mount may have opened.
        await made.forget([(999, 3)])
        await made.release(999)
        await made.releasedir(999)

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
        info = await made.open(inode, os.O_RDONLY, ROOT)
        waited = await made.read(info.fh, 0, 10)
        reader.nowait = True
        quick = await made.read(info.fh, 0, 10)
        assert (bytes(waited), bytes(quick)) == (b"w" * 10, b"n" * 10)

    trio.run(main)


def test_reads_end_where_the_image_does() -> None:
    async def main() -> None:
        made, inode = operations(Reader(lambda: None))
        info = await made.open(inode, os.O_RDONLY, ROOT)
        assert len(await made.read(info.fh, Reader.size - 3, 10)) == 3
        assert await made.read(info.fh, Reader.size, 10) == b""
        assert await made.read(info.fh, Reader.size + 5, 10) == b""

    trio.run(main)


def test_a_slow_image_does_not_hold_up_another() -> None:
    async def main() -> None:
        release = trio.Event()

        def slow() -> None:
            trio.from_thread.run(release.wait)

        made, inode = operations(Reader(slow), Reader(lambda: None))
        slow_file = await made.open(inode, os.O_RDONLY, ROOT)
        other_file = await made.open(2 << 40, os.O_RDONLY, ROOT)
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
                await made.open(inode, flags, ROOT)
            assert caught.value.errno == errno.EROFS

    trio.run(main)


def test_an_image_is_open_as_long_as_a_handle_of_it_is() -> None:
    async def main() -> None:
        reader = Reader(lambda: None)
        made, inode = operations(reader)
        infos = [await made.open(inode, os.O_RDONLY, ROOT) for _ in range(3)]
        assert {info.fh for info in infos} == {handle_of(ENTRY)}
        for _ in range(2):
            await made.release(handle_of(ENTRY))
            assert not reader.closed
            assert bytes(await made.read(handle_of(ENTRY), 0, 2)) == b"ww"
        await made.release(handle_of(ENTRY))
        assert reader.closed

    trio.run(main)


def test_a_handle_that_another_process_has_opened_is_read() -> None:
    async def main() -> None:
        reader = Reader(lambda: None)
        made, _inode = operations(reader)
        assert bytes(await made.read(handle_of(ENTRY), 0, 2)) == b"ww"
        # Nobody here has it open: a release that comes here closes it.
        assert not reader.closed
        await made.release(handle_of(ENTRY))
        assert reader.closed

    trio.run(main)


def test_other_processes_handles_do_not_fill_this_one() -> None:
    async def main() -> None:
        readers = [Reader(lambda: None) for _ in range(80)]
        made, _inode = operations(*readers)
        for number in range(1, 81):
            assert bytes(await made.read(77 * number, 0, 1)) == b"w"
        assert sum(not reader.closed for reader in readers) == 64
        assert not readers[-1].closed
        made.close_files()
        assert all(reader.closed for reader in readers)

    trio.run(main)


def test_a_file_that_changed_between_two_opens_is_opened_anew() -> None:
    async def main() -> None:
        first, second = Reader(lambda: None), Reader(lambda: None)
        pending = [first, second]
        made, inode = operations(first, opener=lambda _entry: pending.pop(0))
        await made.open(inode, os.O_RDONLY, ROOT)
        first.current = False
        await made.open(inode, os.O_RDONLY, ROOT)
        # Both handles read the new one, and the old one goes.
        assert first.closed
        assert bytes(await made.read(handle_of(ENTRY), 0, 2)) == b"ww"
        await made.release(handle_of(ENTRY))
        assert not second.closed
        await made.release(handle_of(ENTRY))
        assert second.closed

    trio.run(main)


def test_one_that_cannot_be_opened_anew_leaves_those_that_have_it_open() -> None:
    async def main() -> None:
        reader = Reader(lambda: None)
        answers: list[Any] = [reader, ImageChangedError("replaced")]

        def opener(entry: MountEntry) -> Reader:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

        made, inode = operations(reader, opener=opener)
        await made.open(inode, os.O_RDONLY, ROOT)
        reader.current = False
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await made.open(inode, os.O_RDONLY, ROOT)
        assert caught.value.errno == errno.ESTALE
        assert bytes(await made.read(handle_of(ENTRY), 0, 2)) == b"ww"
        await made.release(handle_of(ENTRY))
        assert reader.closed

    trio.run(main)


def test_an_image_is_not_closed_while_it_is_read() -> None:
    async def main() -> None:
        go_on = trio.Event()
        reader = Reader(lambda: trio.from_thread.run(go_on.wait))
        made, inode = operations(reader)
        await made.open(inode, os.O_RDONLY, ROOT)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.read, handle_of(ENTRY), 0, 10)
                await trio.testing.wait_all_tasks_blocked()
                await made.release(handle_of(ENTRY))
                assert not reader.closed
                go_on.set()
        assert reader.closed

    trio.run(main)


def test_what_a_number_stood_for_before_is_not_kept_by_the_kernel() -> None:
    async def main() -> None:
        made = Operations(lambda _entry: Reader(lambda: None), permissions(), Turns())  # type: ignore[arg-type,return-value]
        planner = Planner()
        told = made.show(planner.plan([dataclasses.astuple(ENTRY)]))
        assert told is not None
        assert (told.reused, told.touched) == ([], [])
        inode = inode_of(ENTRY)
        first = await made.open(inode, os.O_RDONLY, ROOT)
        assert first.keep_cache
        generation = (await made.getattr(inode, None)).generation
        other = dataclasses.replace(ENTRY, content_key=-78)
        told = made.show(planner.plan([dataclasses.astuple(other)]))
        assert told is not None
        assert told.reused == [inode]
        assert (await made.getattr(inode, None)).generation not in {generation, 0}
        await made.release(handle_of(ENTRY))
        # The kernel looks it up again, and finds by the generation that it is another one.
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await made.open(inode, os.O_RDONLY, ROOT)
        assert raised.value.errno == errno.ESTALE
        again = await made.open(inode, os.O_RDONLY, ROOT)
        assert again.keep_cache
        assert again.fh == handle_of(other) != first.fh

    trio.run(main)


def test_an_open_file_without_a_name_has_attributes_still() -> None:
    async def main() -> None:
        made = Operations(lambda _entry: Reader(lambda: None), permissions(), Turns())  # type: ignore[arg-type,return-value]
        planner = Planner()
        made.show(planner.plan([dataclasses.astuple(ENTRY)]))
        inode = inode_of(ENTRY)
        await made.open(inode, os.O_RDONLY, ROOT)
        made.show(planner.plan([]))
        assert (await made.getattr(inode, None)).st_size == ENTRY.size_bytes
        assert bytes(await made.read(handle_of(ENTRY), 0, 2)) == b"ww"
        await made.release(handle_of(ENTRY))
        with pytest.raises(pyfuse3.FUSEError):
            await made.getattr(inode, None)

    trio.run(main)


def test_what_is_open_of_another_content_serves_nobody() -> None:
    """A catalog that was put back from a copy may use a number for another image."""
    other = dataclasses.replace(ENTRY, content_key=-78, size_bytes=5)
    readers = {77: Reader(lambda: None), -78: Reader(lambda: None)}
    readers[-78].size = 5

    async def main() -> None:
        made = Operations(lambda entry: readers[entry.content_key], permissions(), Turns())  # type: ignore[arg-type,return-value]
        made._readers._close = lambda reader: reader.close()
        planner = Planner()
        made.show(planner.plan([dataclasses.astuple(ENTRY)]))
        inode = inode_of(ENTRY)
        await made.open(inode, os.O_RDONLY, ROOT)
        made.show(planner.plan([dataclasses.astuple(other)]))
        with pytest.raises(pyfuse3.FUSEError):
            await made.open(inode, os.O_RDONLY, ROOT)
        opened = await made.open(inode, os.O_RDONLY, ROOT)
        assert len(await made.read(opened.fh, 0, 100)) == 5
        # Who had the other one open goes on with that.
        assert len(await made.read(handle_of(ENTRY), 0, 100)) == 100
        await made.release(handle_of(ENTRY))
        assert readers[77].closed

    trio.run(main)


def test_two_that_find_a_file_changed_at_once_leave_nothing_open() -> None:
    readers: list[Reader] = []

    def open_entry(_entry: MountEntry) -> Reader:
        readers.append(Reader(lambda: None))
        return readers[-1]

    async def main() -> None:
        made = Operations(open_entry, permissions(), Turns())  # type: ignore[arg-type]
        made._readers._close = lambda reader: reader.close()
        made.show(Planner().plan([dataclasses.astuple(ENTRY)]))
        inode = inode_of(ENTRY)
        await made.open(inode, os.O_RDONLY, ROOT)
        readers[0].current = False
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(made.open, inode, os.O_RDONLY, ROOT)
        for _ in range(3):
            assert not all(reader.closed for reader in readers)
            await made.release(handle_of(ENTRY))
        assert all(reader.closed for reader in readers)
        assert not made._readers._by_handle
        assert not made._readers._handles

    trio.run(main)


def test_an_open_that_fails_while_the_last_handle_is_released_leaves_nothing_open() -> None:
    first = Reader(lambda: None)
    go_on = threading.Event()

    def is_current() -> bool:
        go_on.wait(60)
        return False

    first.is_current = is_current  # type: ignore[method-assign]
    opened = iter([first])

    def open_entry(_entry: MountEntry) -> Reader:
        reader = next(opened, None)
        if reader is None:
            raise ImageChangedError("replaced")
        return reader

    async def main() -> None:
        made = Operations(open_entry, permissions(), Turns())  # type: ignore[arg-type]
        made._readers._close = lambda reader: reader.close()
        made.show(Planner().plan([dataclasses.astuple(ENTRY)]))
        inode = inode_of(ENTRY)
        await made.open(inode, os.O_RDONLY, ROOT)

        async def open_again() -> None:
            with pytest.raises(pyfuse3.FUSEError):
                await made.open(inode, os.O_RDONLY, ROOT)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_again)
            await trio.testing.wait_all_tasks_blocked()
            await made.release(handle_of(ENTRY))
            go_on.set()
        assert first.closed
        assert not made._readers._by_handle

    trio.run(main)


def test_times_are_told_anew_when_they_change() -> None:
    async def main() -> None:
        made = Operations(lambda _entry: Reader(lambda: None), permissions(), Turns())  # type: ignore[arg-type,return-value]
        planner = Planner()
        made.show(planner.plan([dataclasses.astuple(ENTRY)]))
        told = made.show(
            planner.plan([dataclasses.astuple(dataclasses.replace(ENTRY, mtime_ns=7))])
        )
        assert told is not None
        assert told.touched == [inode_of(ENTRY)]

    trio.run(main)
