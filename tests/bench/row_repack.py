"""How fast is an image packed anew?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import cat
from compressed import ZSTD
from measure import faster, interleaved, say, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("repack",)

_ROUNDS = 3
_WANTED = 0.5


def measure(bench: Bench) -> Iterator[Row]:
    """Repack a compressed image, and let zstd compress the plain one, in turn."""
    shop, form = bench.shop, bench.compressed_images[ZSTD]
    image, plain = form.path, form.plain
    catalog = shop.directory / "repack.db"
    shop.run(*shop.imgcat(catalog, "add", image))
    out = shop.directory / "repacked.img.zst"
    cat(image)
    cat(plain)

    def repack() -> float:
        out.unlink(missing_ok=True)
        command = shop.imgcat(catalog, "repack", image, out)
        return timed(lambda: shop.run(*command))

    def compress() -> float:
        out.unlink(missing_ok=True)
        return timed(lambda: shop.run("zstd", "-3", "-T0", "-q", plain, "-o", out))

    say("packing an image anew, seconds")
    ours, tool = interleaved(_ROUNDS, {"ours": repack, "zstd": compress}).values()
    out.unlink()
    yield faster(
        "repack",
        "`imgcat repack` of the image by `zstdmt`; beside it `zstd -3 -T0` of the plain one",
        seconds(ours), seconds(tool), tool / ours, _WANTED,
    )  # fmt: skip
