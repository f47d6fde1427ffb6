"""How fast are large direct reads of a partimage image?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import cat
from images import MIB, used_offsets
from measure import faster, gigabytes_a_second, interleaved, say
from peers import mount_with_peer
from reading import Job, reads_together
from tool_images import save_ext3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("read-partimage",)

_SIZE = 704 << 20
_FILL = 600 << 20
_ROUNDS = 7
_SECONDS = 0.6


def measure(bench: Bench) -> Iterator[Row]:
    """Mount one with each and read it in turn."""
    shop = bench.shop
    image = save_ext3(shop, "ext3", _SIZE, _FILL)
    catalog, point = shop.directory / "ext3.db", shop.make("ext3.ours")
    shop.run(*shop.imgcat(catalog, "add", image))
    pid = shop.mount_all(catalog, point)
    theirs = shop.make("ext3.peer")
    their_pid = mount_with_peer(shop, bench.peer, image, theirs, program="vpartimage")
    cat(image)
    offsets = used_offsets(image, MIB)
    (our_path,), (their_path,) = point.iterdir(), theirs.iterdir()
    say(f"1 MiB direct reads of a partimage image, {len(offsets)} MiB, bytes a second")
    ours, peer = interleaved(
        _ROUNDS,
        {
            name: lambda path=path: MIB * reads_together([Job(path, MIB, offsets)], _SECONDS)  # type: ignore[misc]
            for name, path in (("ours", our_path), ("peer", their_path))
        },
    ).values()
    shop.unmount(point, pid)
    shop.unmount(theirs, their_pid)
    image.unlink()
    yield faster(
        "read-partimage", "1 MiB O_DIRECT over a partimage image; beside it `imagebackup`",
        gigabytes_a_second(ours), gigabytes_a_second(peer), ours / peer, 10,
    )  # fmt: skip
