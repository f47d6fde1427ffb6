"""How fast is every checksum checked, and everything written out?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import cat
from images import save_filled
from measure import faster, interleaved, megabytes, say, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("verify-peer", "verify-tool", "export")

_SIZE = 2560 << 20
_FILL = 2304 << 20
_ROUNDS = 5


def measure(bench: Bench) -> Iterator[Row]:
    """Verify and restore one large image with each, whole processes, in turn."""
    shop = bench.shop
    image = save_filled(shop, "large", _SIZE, _FILL)
    catalog, log = shop.directory / "large.db", shop.directory / "partclone.log"
    shop.run(*shop.imgcat(catalog, "add", image))
    cat(image)
    out = shop.directory / "out.raw"

    def verify() -> float:
        command = shop.imgcat(catalog, "verify", image)
        return timed(lambda: shop.run(*command))

    def export() -> float:
        out.unlink(missing_ok=True)
        command = shop.imgcat(catalog, "export", image, out)
        return timed(lambda: shop.run(*command))

    def restore() -> float:
        out.unlink(missing_ok=True)
        return timed(
            lambda: shop.run("partclone.restore", "-s", image, "-O", out, "-C", "-W", "-L", log)
        )

    say(f"verifying and restoring {megabytes(image.stat().st_size)}, seconds")
    ours, peer, tool = interleaved(
        _ROUNDS,
        {
            "ours": verify,
            "peer": lambda: timed(lambda: shop.run(bench.peer.vpartclone, "-q", "-c", image)),
            "partclone.chkimg": lambda: timed(
                lambda: shop.run("partclone.chkimg", "-s", image, "-L", log)
            ),
        },
    ).values()
    ours_out, tool_out = interleaved(
        _ROUNDS, {"ours": export, "partclone.restore": restore}
    ).values()
    out.unlink()
    image.unlink()
    yield faster(
        "verify-peer", "`imgcat verify` of a partclone image with CRC32; beside it `vpartclone -c`",
        seconds(ours), seconds(peer), peer / ours, 5,
    )  # fmt: skip
    yield faster(
        "verify-tool", "The same; beside it `partclone.chkimg`",
        seconds(ours), seconds(tool), tool / ours, 1,
    )  # fmt: skip
    yield faster(
        "export", "`imgcat export` of it to a file; beside it `partclone.restore`",
        seconds(ours_out), seconds(tool_out), tool_out / ours_out, 1,
    )  # fmt: skip
