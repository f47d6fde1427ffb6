"""Small disks in a catalog: adding, reading and looking at them, without FUSE."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.opening.freshness import Observed
from imgcat.catalog.opening.open import open_image
from imgcat.formats.reader import read_bytes

from support.small_disk import FIRST, SECOND, SECTOR, SECTORS, SmallDisk

if TYPE_CHECKING:
    from imgcat.catalog.records import ImageRecord
    from imgcat.catalog.store import Catalog

SIZE = SECTORS * SECTOR
SDA1 = (FIRST * SECTOR, (FIRST + 200) * SECTOR)
SDA2 = (SECOND * SECTOR, (SECOND + 110) * SECTOR)


def add(catalog: Catalog, saved: SmallDisk) -> list[Any]:
    return list(add_directory(catalog, str(saved.directory)))


def record(catalog: Catalog, name: str) -> ImageRecord:
    return catalog.get(catalog.resolve(name))


def read(catalog: Catalog, name: str, start: int = 0, stop: int | None = None) -> bytes:
    with contextlib.closing(open_image(catalog, catalog.resolve(name))) as opened:
        end = opened.reader.size if stop is None else stop
        return read_bytes(opened.reader, start, end - start)


def observed(catalog: Catalog, name: str) -> str:
    return Observed(catalog.list_images(), catalog.parts()).status(catalog.resolve(name))


def attention(catalog: Catalog) -> dict[str, tuple[str, str]]:
    with catalog.database.raw() as connection:
        rows = connection.execute("SELECT name, what, detail FROM attention")
        return {name: (what, detail) for name, what, detail in rows}


def offset_and_length(span: tuple[int, int]) -> tuple[int, int]:
    return span[0], span[1] - span[0]
