"""Following a catalog: what fails does not end the mount, and is tried again."""

from __future__ import annotations

import types
from typing import Any

import pytest
import trio
from imgcat.catalog.errors import CatalogBusyError, CatalogReplacedError
from imgcat.fusefs import following
from imgcat.fusefs.catching_up import CatchingUp
from imgcat.fusefs.errors import MountError
from support.program import wait_until


class Catalog:
    """One that is replaced at the second look, and cannot be taken over the first times."""

    def __init__(self) -> None:
        self.looks = 0
        self.taken = 0

    def follow(self) -> Any:
        return types.SimpleNamespace(version=self.version, close=lambda: None)

    def version(self) -> int:
        self.looks += 1
        if self.looks == 2:
            raise CatalogReplacedError("c.db: is another catalog now")
        return self.looks

    def take_what_is_there(self) -> None:
        self.taken += 1
        if self.taken == 1:
            raise CatalogBusyError("c.db.lock: kept locked")
        if self.taken == 2:
            raise RuntimeError("can't start new thread")

    def check_schema(self) -> None:
        pass

    def mount_rows(self) -> list[Any]:
        return []


async def _nothing(_applied: object) -> None:
    pass


@pytest.mark.parametrize("is_refused", [False, True])
def test_taking_over_is_tried_until_it_works(
    is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "REFRESH_SECONDS", 0.01)
    catalog: Any = Catalog()
    operations: Any = types.SimpleNamespace(
        catching_up=CatchingUp(), show=lambda changes: changes, let_kernel_forget=_nothing
    )
    planner: Any = types.SimpleNamespace(plan=lambda rows: rows)
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        if is_refused and len(checks) < 3:
            raise MountError("c.db: belongs to somebody else")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(following.Following(catalog, operations, planner, check).run)
            await trio.to_thread.run_sync(
                wait_until, lambda: catalog.looks >= 5, "it is followed", 20
            )
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert catalog.taken == 3
    assert len(checks) == (5 if is_refused else 3)
