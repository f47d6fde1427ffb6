"""The hashes of all that is stored of an image: what a verification keeps, and compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...formats.extent import ExtentKind
from ...formats.finding import Finding
from ...formats.sources.pages import HASH_SIZE, HASHES_IN_GROUP, PAGE_SIZE, unpack_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..opening.open import OpenImage
    from ..store import Catalog


class Seal(NamedTuple):
    """The hashes of all pages of `size` stored bytes."""

    size: int
    hashes: bytes


def broken_pages(catalog: Catalog, image: OpenImage, hashes: bytes) -> Iterator[Finding]:
    """Yield the guest bytes of pages that are not what they were when the image was sealed.

    Args:
        catalog: where its seal is.
        image: the image.
        hashes: those of its pages as they are now.

    Raises:
        ChunkMissingError: it was scanned anew or removed meanwhile.
    """
    spec = image.spec
    wrong: list[int] = []
    for group in range(-(-len(hashes) // (HASHES_IN_GROUP * HASH_SIZE))):
        stored = unpack_hashes(
            catalog.load_seal(spec.index_id, group, content_key=spec.content_key)
        )
        start = group * HASHES_IN_GROUP
        now = hashes[start * HASH_SIZE :][: len(stored)]
        if now != stored:
            wrong += (
                start + number
                for number in range(len(stored) // HASH_SIZE)
                if now[number * HASH_SIZE :][:HASH_SIZE] != stored[number * HASH_SIZE :][:HASH_SIZE]
            )
    if wrong:
        yield from _guest_ranges(image, wrong)


def _guest_ranges(image: OpenImage, pages: Sequence[int]) -> Iterator[Finding]:
    """Yield, for each page, the guest bytes from the first to the last that lie in it."""
    found: dict[int, tuple[int, int]] = {}
    wanted = frozenset(pages)
    for extent in image.reader.extents(0, image.reader.size):
        if extent.kind is not ExtentKind.DATA:
            continue
        first, last = extent.offset, extent.offset + extent.length
        for page in range(first // PAGE_SIZE, -(-last // PAGE_SIZE)):
            if page in wanted:
                start = extent.start + max(0, page * PAGE_SIZE - first)
                stop = extent.start + min(extent.length, (page + 1) * PAGE_SIZE - first)
                found[page] = found.get(page, (start, stop))[0], stop
    for page in pages:
        start = page * PAGE_SIZE
        guest: tuple[int | None, int | None] = found.get(page, (None, None))
        yield Finding(
            guest[0],
            guest[1],
            f"stored bytes [{start}, {min(start + PAGE_SIZE, image.stored.source.size)}) are not "
            "what they were when the image was sealed",
        )
