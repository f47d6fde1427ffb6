"""A catalog, and a small disk to put into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.store import Catalog
from support.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def saved(tmp_path: Path) -> SmallDisk:
    return SmallDisk(tmp_path / "laptop")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(str(tmp_path / "c.db"), create=True) as opened:
        yield opened
