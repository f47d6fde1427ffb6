"""Finding out who may read: in threads, with bounds, and never in a listing."""

# ruff: noqa: ARG005 - stand-ins have the signatures of what they stand in for

from __future__ import annotations

import errno
import os
import threading
import types
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing
from imgcat.catalog.opening.permissions import KnownPermissions
from imgcat.catalog.records import ImageFiles, MountEntry
from imgcat.fusefs import access
from imgcat.fusefs.operations import Operations
from imgcat.fusefs.receiving import Turns
from imgcat.fusefs.tree import Planner, inode_of
from support.program import wait_until

COUNT = 10_000
NOBODY: Any = types.SimpleNamespace(uid=65534, gid=65534, pid=1)


class Files:
    """Where images' files are asked for; those of the first image do not answer until told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: list[int] = []

    def __call__(self, image_id: int) -> ImageFiles:
        self.asked.append(image_id)
        if image_id == 1:
            assert self.go_on.wait(30)
        return ImageFiles(("/etc/passwd",))


def entries(count: int) -> list[MountEntry]:
    return [MountEntry(n, f"i{n:05d}", 1000, 1000, n, n, False, 0) for n in range(1, count + 1)]


def operations(files: Files, count: int) -> Operations:
    made = Operations(
        lambda entry: pytest.fail("opened"), KnownPermissions(files), Turns()
    )  # fmt: skip
    made.show(Planner().plan([tuple_of(each) for each in entries(count)]))
    return made


def tuple_of(entry: MountEntry) -> tuple[Any, ...]:
    return tuple(getattr(entry, name) for name in MountEntry.__dataclass_fields__)


def test_a_listing_of_ten_thousand_unknown_images_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = Files()
    told: list[tuple[int, int, float]] = []

    def reply(token: object, name: bytes, attributes: Any, place: int) -> bool:
        told.append((attributes.st_mode & 0o777, attributes.st_uid, attributes.attr_timeout))
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)

    async def main() -> None:
        made = operations(files, COUNT)
        monkeypatch.setattr(made, "_in_thread", None)
        await made.readdir(pyfuse3.FileHandleT(pyfuse3.ROOT_INODE), 0, None)  # type: ignore[arg-type]
        # The daemon's user alone, and to be asked for again before one goes by it.
        assert told == [(0o400, 0, 0.0)] * COUNT
        assert files.asked in ([], [1])

    try:
        trio.run(main)
    finally:
        files.go_on.set()


def test_files_that_do_not_answer_hold_up_one_thread_and_no_other_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access, "MOST_WAIT", 0.2)
    files = Files()
    first, second = (inode_of(entry) for entry in entries(2))

    async def main() -> None:
        made = operations(files, 2)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(made.getattr, first, None)
            # They wait that long, and the other one, on a busy machine, as long as it has to.
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(access, "MOST_WAIT", 20)
            assert (await made.getattr(second, None)).st_mode & 0o777 == 0o444
        for _ in range(3):
            answer = await made.getattr(first, None)
            assert answer.st_mode & 0o777 == 0o400
            with pytest.raises(pyfuse3.FUSEError) as caught:
                await made.open(first, 0, NOBODY)
            assert caught.value.errno == errno.EACCES
        assert files.asked.count(1) == 1
        files.go_on.set()
        # The look that was given up comes back, and counts.
        await trio.to_thread.run_sync(
            wait_until, lambda: made._access.known(entries(1)[0]).seconds > 0, "it is known", 20
        )
        assert (await made.getattr(first, None)).st_mode & 0o777 == 0o444

    try:
        trio.run(main)
    finally:
        files.go_on.set()


async def waited_for(made: Operations, order: list[int], monkeypatch: pytest.MonkeyPatch) -> int:
    """Look names up in an order, each when the one before is answered; return how many waited."""
    waits = 0
    in_thread = made._in_thread

    async def counted(*arguments: Any) -> Any:
        nonlocal waits
        waits += 1
        return await in_thread(*arguments)

    monkeypatch.setattr(made._access, "_in_thread", counted)
    wanted: list[list[int]] = []
    looked_at: list[list[int]] = []
    refresher = made._access._refresher
    look_at, look_at_all = refresher.look_at, refresher._known.look_at_all

    def want(image_ids: list[int]) -> None:
        wanted.append(image_ids)
        look_at(image_ids)

    def look(image_ids: list[int]) -> None:
        look_at_all(image_ids)
        looked_at.append(image_ids)

    monkeypatch.setattr(refresher, "look_at", want)
    monkeypatch.setattr(refresher._known, "look_at_all", look)
    for number in order:
        answer = await made.lookup(pyfuse3.ROOT_INODE, b"i%05d" % number, NOBODY)
        assert answer.st_mode & 0o777 == 0o444
        # Time for what is looked at meanwhile.
        await trio.to_thread.run_sync(
            wait_until, lambda: looked_at == wanted, "all are looked at", 30
        )
    return waits


@pytest.mark.parametrize("step", [1, 40])
def test_names_that_are_asked_for_in_order_are_looked_at_beforehand(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files()
    files.go_on.set()
    count = 400

    async def main() -> int:
        return await waited_for(
            operations(files, count), list(range(1, count + 1, step)), monkeypatch
        )

    waits = trio.run(main)
    if step == 1:
        assert waits < count / 4
    else:
        # Not in their order: each waits for itself, and nothing is looked at in vain.
        assert waits == len(files.asked) == count // step


def test_the_superuser_waits_for_no_look() -> None:
    files = Files()
    root: Any = types.SimpleNamespace(uid=0, gid=0, pid=1)

    async def main() -> None:
        # The files of this one do not answer.
        assert await operations(files, 1)._access.may_open(entries(1)[0], root) is None

    trio.run(main)
    assert files.asked == []


def test_many_images_that_do_not_answer_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_WAIT", 0.05)
    go_on = threading.Event()
    healthy = 100

    def files_of(image_id: int) -> ImageFiles:
        if image_id != healthy:
            assert go_on.wait(30)
        return ImageFiles(("/etc/passwd",))

    async def main() -> None:
        made = operations(files_of, healthy)  # type: ignore[arg-type]
        every = entries(healthy)
        async with trio.open_nursery() as nursery:
            for entry in every[:-1]:
                nursery.start_soon(made.getattr, inode_of(entry), None)
        monkeypatch.setattr(access, "MOST_WAIT", 20)
        answer = await made.getattr(inode_of(every[-1]), None)
        assert answer.st_mode & 0o777 == 0o444
        assert await made._access.may_open(every[-1], NOBODY)
        go_on.set()

    try:
        trio.run(main)
    finally:
        go_on.set()


@pytest.mark.parametrize("is_same", [True, False])
def test_only_the_files_that_were_judged_are_opened(
    is_same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path may lead elsewhere when it is followed for the second time."""
    files = Files()
    files.go_on.set()
    status = os.stat("/etc/passwd" if is_same else "/etc/shadow")
    reader = types.SimpleNamespace(
        size=1000, read_into_nowait=lambda view, offset: True, was_touched=False,
        files=frozenset({(status.st_dev, status.st_ino)}), close=lambda: None,
        is_current=lambda: True,
    )  # fmt: skip
    monkeypatch.setattr(access, "_groups", lambda gid, pid: {gid})
    made: Any = operations(files, 1)
    made._readers._opener = lambda entry: reader

    async def main() -> None:
        for _ in range(2):
            # The second time, what is open already is handed out.
            if is_same:
                await made.open(inode_of(entries(1)[0]), 0, NOBODY)
                continue
            with pytest.raises(pyfuse3.FUSEError) as caught:
                await made.open(inode_of(entries(1)[0]), 0, NOBODY)
            assert caught.value.errno == errno.EACCES

    trio.run(main)
