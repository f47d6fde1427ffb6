"""How soon is a large catalog listed?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from images import save_copies
from measure import interleaved, limited, say, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("ls",)

_COUNT = 10_000
_VOLUME_SIZE = 256 << 10
_ROUNDS = 9
_LIMIT = 1.0
_HERE = Path(__file__).parent


def measure(bench: Bench) -> Iterator[Row]:
    """Fill a catalog, and time the command."""
    shop = bench.shop
    say(f"a catalog of {_COUNT:,} images")
    images = save_copies(shop, "shelf", _COUNT, _VOLUME_SIZE)
    catalog = shop.directory / "shelf.db"
    taken = timed(
        lambda: shop.run(sys.executable, _HERE / "ingest_many.py", catalog, images[0].parent)
    )
    say(f"  filled in {seconds(taken)}")
    listed = len(shop.run(*shop.imgcat(catalog, "ls")).splitlines())
    assert listed >= _COUNT, f"{listed} lines"
    command = shop.imgcat(catalog, "ls")
    taken = interleaved(_ROUNDS, {"ls": lambda: timed(lambda: shop.run_silently(*command))})["ls"]
    yield limited(
        "ls", f"`imgcat ls` with {_COUNT:,} images in the catalog",
        seconds(taken), seconds(_LIMIT), met=taken < _LIMIT,
    )  # fmt: skip
