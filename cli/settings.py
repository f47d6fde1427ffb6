"""What the options before the command say, and opening the catalog by them."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from ..formats.text import printable

if TYPE_CHECKING:
    from ..catalog.store import Catalog


COMPLETION_VARIABLE = "_IMGCAT_COMPLETE"
"""The environment variable that says which shell asks what completes a command line."""


@dataclasses.dataclass(slots=True)
class Settings:
    """The global options of this run."""

    db: str | None = None
    quiet: bool = False
    verbose: bool = False
    is_temporary: bool = False
    """Whether the catalog is one that goes with this command."""
    lasting_db: str | None = None
    """The one that the options name, where it is not."""


settings = Settings()


def notify(message: str) -> None:
    """Tell the user something that is not a result, on standard error."""
    if not settings.quiet:
        complain(message)


def complain(message: str) -> None:
    """Tell the user that something went wrong, in one line on standard error."""
    sys.stderr.write(f"imgcat: {printable(message)}\n")


def open_catalog(*, write: bool = False, create: bool = False) -> Catalog:
    """Open the catalog that the options name, upgrading an older one.

    Raises:
        As `Catalog.open`.
    """
    from ..catalog.store import Catalog

    if write or create:
        return Catalog.open(settings.db, create=create, notify=notify)
    return Catalog.open_to_ask(settings.db, notify)
