"""Following the catalog: a mount shows what other processes add, and hides what they remove."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..catalog.errors import CatalogError, CatalogReplacedError
from .errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalog.store import Catalog
    from .operations import Operations
    from .tree import Changes, Planner

log = logging.getLogger("imgcat.daemon")

REFRESH_SECONDS = 0.5
"""How often one looks whether the catalog has changed."""


class Following:
    """Looks at the catalog again and again. What blocks is done in threads.

    Args:
        catalog: what is followed.
        operations: show it.
        planner: works out what is to be changed.
        check: raises where another catalog that has come is not to be trusted; None trusts any.
    """

    def __init__(
        self,
        catalog: Catalog,
        operations: Operations,
        planner: Planner,
        check: Callable[[], None] | None,
    ) -> None:
        self._catalog = catalog
        self._operations = operations
        self._planner = planner
        self._check = check
        self._follower = catalog.follow()
        self._seen: int | None = None
        self._is_replaced = False
        self._said = ""

    async def run(self) -> None:
        """Follow for ever. Whatever is in the catalog, what is shown goes on being served."""
        catching_up = self._operations.catching_up
        while True:
            ended = catching_up.begin()
            was_replaced = self._is_replaced
            try:
                await self._look()
                self._said = ""
            except CatalogReplacedError as error:
                self._tell(f"{error}: from now on, that one is shown")
                self._seen = None
                self._is_replaced = True
            except (CatalogError, MountError) as error:
                self._tell(f"the catalog cannot be read just now: {error}")
            except Exception:
                log.exception("the catalog cannot be followed")
            ended.set()
            is_new = self._is_replaced and not was_replaced
            await catching_up.wait(0.0 if is_new else REFRESH_SECONDS)

    async def _look(self) -> None:
        if self._is_replaced:
            await trio.to_thread.run_sync(self._take_over, abandon_on_cancel=True)
            self._is_replaced = False
        version = await trio.to_thread.run_sync(self._follower.version, abandon_on_cancel=True)
        if version != self._seen:
            # The first time too: something may have changed since the mount was made.
            changes = await trio.to_thread.run_sync(self._plan, abandon_on_cancel=True)
            applied = self._operations.show(changes)
            await self._operations.let_kernel_forget(applied)
            self._seen = version

    def _take_over(self) -> None:
        """Use the catalog that has come, if it is to be trusted."""
        self._follower.close()
        if self._check is not None:
            self._check()
        self._catalog.take_what_is_there()

    def _plan(self) -> Changes | None:
        self._catalog.check_schema()
        return self._planner.plan(self._catalog.mount_rows())

    def _tell(self, words: str) -> None:
        if words != self._said:
            log.warning("%s", words)
        self._said = words
