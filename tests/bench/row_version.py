"""How soon does the program answer that has nothing to do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from measure import interleaved, limited, say, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("version",)

_ROUNDS = 15
_LIMIT = 0.15


def measure(bench: Bench) -> Iterator[Row]:
    """Time the command."""
    shop = bench.shop
    say("imgcat --version, seconds")
    command = shop.version_command()
    times = interleaved(_ROUNDS, {"version": lambda: timed(lambda: shop.run_silently(*command))})
    taken = times["version"]
    yield limited(
        "version", "`imgcat --version`", seconds(taken), seconds(_LIMIT), met=taken < _LIMIT
    )
