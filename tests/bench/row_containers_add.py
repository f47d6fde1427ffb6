"""What does a compressed image cost to be added: time, and bytes of the catalog?"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from bench import cat
from compressed import KINDS
from measure import KB, Row, faster, interleaved, megabytes, say, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench import Bench
    from compressed import Kind
    from workshop import Workshop

NAMES = (
    *(f"add-{kind.name}" for kind in KINDS),
    *(f"seek-{kind.name}" for kind in KINDS),
)

_ROUNDS = 3
_SLOW_ROUNDS = 2
_WANTED = {
    "gzip": 1.0, "zstd": 0.4, "zstd-single": 0.4, "xz": 0.77, "bzip2": 0.77, "lz4": 0.77,
}  # fmt: skip
_MOST_SHARE = {kind.name: 0.025 if kind.name == "gzip" else 0.02 for kind in KINDS}


def measure(bench: Bench) -> Iterator[Row]:
    """Add each to a fresh catalog, and let its tool unpack it to nowhere, in turn."""
    shop = bench.shop
    catalog = shop.directory / "containers.db"
    shares = []
    for kind, form in bench.compressed_images.items():
        image = form.path
        _add(shop, catalog, form.plain)
        without = _catalog_size(catalog)
        cat(image)
        say(f"adding {image.name}, seconds")
        ours, tool = interleaved(
            _SLOW_ROUNDS if kind.is_slow else _ROUNDS,
            {
                "ours": lambda image=image: _add(shop, catalog, image),  # type: ignore[misc]
                kind.unpack[0]: lambda kind=kind, image=image: _unpack(shop, kind, image),  # type: ignore[misc]
            },
            warm_up=not kind.is_slow,
        ).values()
        yield faster(
            f"add-{kind.name}",
            f"`imgcat add` of the image by `{' '.join(kind.compress)}`; beside it "
            f"`{' '.join(kind.unpack)} > /dev/null`",
            seconds(ours), seconds(tool), tool / ours, _WANTED[kind.name],
        )  # fmt: skip
        shares.append(_share_row(kind, _catalog_size(catalog) - without, image))
    yield from shares


def _add(shop: Workshop, catalog: Path, image: Path) -> float:
    """Add an image to a catalog that is not there yet; return the seconds."""
    for path in catalog.parent.glob(f"{catalog.name}*"):
        path.unlink()
    return timed(lambda: shop.run(*shop.imgcat(catalog, "add", image)))


def _unpack(shop: Workshop, kind: Kind, image: Path) -> float:
    return timed(lambda: shop.run_silently(*kind.unpack, image))


def _catalog_size(catalog: Path) -> int:
    with contextlib.closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return catalog.stat().st_size


def _share_row(kind: Kind, growth: int, image: Path) -> Row:
    size, most = image.stat().st_size, _MOST_SHARE[kind.name]
    return Row(
        f"seek-{kind.name}",
        "What the catalog is larger by than that of the plain image; beside it the compressed file",
        f"{growth / KB:,.0f} kB", megabytes(size), f"{growth / size:.2%}", f"≤ {most:.1%}",
        growth <= most * size,
    )  # fmt: skip
