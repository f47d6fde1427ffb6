"""Does the memory that adding a compressed image takes grow with the image?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compressed import KINDS, compress, save_mixed
from images import MIB
from measure import MB, Row, megabytes, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench

NAMES = ("memory-gzip", "memory-zstd")

_SMALL, _FILL = 304 * MIB, 240 * MIB
_LIMIT = 300 * MB
_GROWTH = 64 * MB
_HERE = Path(__file__).parent


def measure(bench: Bench) -> Iterator[Row]:
    """Take the peak of `imgcat add` of an image, and of one of a quarter of its size."""
    shop = bench.shop
    kinds = [kind for kind in KINDS if f"memory-{kind.name}" in NAMES]
    small = save_mixed(shop, "quarter", _SMALL, _FILL)
    quarters = {form.kind: form.path for form in compress(shop, [(small, each) for each in kinds])}
    for kind in kinds:
        large = bench.compressed_images[kind].path
        say(f"peak memory of adding {large.name}")
        peaks = []
        for image in (large, quarters[kind]):
            catalog = shop.directory / "memory.db"
            for path in shop.directory.glob("memory.db*"):
                path.unlink()
            command = shop.imgcat(catalog, "add", image)
            peaks.append(int(shop.run(sys.executable, "-I", "-S", _HERE / "peak.py", *command)))
        most, less = peaks
        yield Row(
            f"memory-{kind.name}",
            f"Peak resident memory of `imgcat add` of the image by `{' '.join(kind.compress)}`; "
            "beside it one of a quarter of its size",
            megabytes(most), megabytes(less), f"{most / less:.2f}", f"< {megabytes(_LIMIT)}",
            most < _LIMIT and most - less < _GROWTH,
        )  # fmt: skip
    for path in (small, *quarters.values()):
        path.unlink()
