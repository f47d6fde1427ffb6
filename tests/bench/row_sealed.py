"""What does comparing each page of a sealed image with its hash cost: at first, and after that?"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cat
from images import BLOCK_SIZE, MIB, save_filled, used_offsets
from measure import faster, gigabytes_a_second, interleaved, reads_a_second, say
from peers import mounted_file
from reading import Job, reads_once, reads_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench import Bench
    from measure import Row

NAMES = ("sealed-first", "sealed-again", "sealed-random", "sealed-fresh")

_SIZE = 704 << 20
_FILL = 640 << 20
_PAGE = 128 << 10
_ROUNDS = 9
_SECONDS = 0.6
_COUNT = 60_000
_FIRST, _AGAIN, _FRESH = 1 / 1.15, 0.97, 1 / 3


def measure(bench: Bench) -> Iterator[Row]:
    """Read a sealed image and the same one without a seal, in turn."""
    shop = bench.shop
    sealed = save_filled(shop, "sealed", _SIZE, _FILL)
    loose = Path(shutil.copy(sealed, shop.directory / "loose.img"))
    catalog, point = shop.directory / "sealed.db", shop.make("sealed.ours")
    shop.run(*shop.imgcat(catalog, "add", "--verify", sealed))
    shop.run(*shop.imgcat(catalog, "add", loose))
    pid = shop.mount_all(catalog, point)
    files = {"sealed": mounted_file(sealed, point), "not": mounted_file(loose, point)}
    for image in (sealed, loose):
        cat(image)
    large = used_offsets(sealed, MIB)
    small = used_offsets(sealed, BLOCK_SIZE)
    generator = random.Random(1)
    anywhere = generator.choices(small, k=_COUNT)
    # One block of each page, so that each read is the first of its page.
    pages = list(
        {offset // _PAGE: offset for offset in generator.sample(small, len(small))}.values()
    )

    def first(size: int, offsets: list[int]) -> dict[str, Callable[[], float]]:
        # Nobody else has the file open: it is opened anew, and no page of it was looked at.
        return {
            name: lambda path=path: reads_once(Job(path, size, offsets))  # type: ignore[misc]
            for name, path in files.items()
        }

    def again(size: int, offsets: list[int]) -> dict[str, Callable[[], float]]:
        return {
            name: lambda path=path: reads_together([Job(path, size, offsets)], _SECONDS)  # type: ignore[misc]
            for name, path in files.items()
        }

    say("1 MiB direct reads in order, each page for the first time, reads a second")
    rates = interleaved(_ROUNDS, first(MIB, large))
    yield faster(
        "sealed-first",
        "1 MiB O_DIRECT over used blocks of a sealed image that was just opened; beside it the "
        "same image without a seal",
        gigabytes_a_second(MIB * rates["sealed"]), gigabytes_a_second(MIB * rates["not"]),
        rates["sealed"] / rates["not"], _FIRST,
    )  # fmt: skip
    say("random 4 KiB direct reads, each page for the first time")
    fresh = interleaved(_ROUNDS, first(BLOCK_SIZE, pages))
    held = [os.open(path, os.O_RDONLY) for path in files.values()]
    for path in files.values():
        reads_once(Job(path, MIB, large))
    say("1 MiB direct reads in order over pages that were looked at")
    rates = interleaved(_ROUNDS, again(MIB, large))
    yield faster(
        "sealed-again", "The same over pages that were looked at since it was opened",
        gigabytes_a_second(MIB * rates["sealed"]), gigabytes_a_second(MIB * rates["not"]),
        rates["sealed"] / rates["not"], _AGAIN,
    )  # fmt: skip
    say("random 4 KiB direct reads over pages that were looked at")
    rates = interleaved(_ROUNDS, again(BLOCK_SIZE, anywhere))
    yield faster(
        "sealed-random", "4 KiB O_DIRECT at random over such pages",
        reads_a_second(rates["sealed"]), reads_a_second(rates["not"]),
        rates["sealed"] / rates["not"], _AGAIN,
    )  # fmt: skip
    yield faster(
        "sealed-fresh", "The same where each read is the first of its page: 128 KiB are hashed",
        reads_a_second(fresh["sealed"]), reads_a_second(fresh["not"]),
        fresh["sealed"] / fresh["not"], _FRESH,
    )  # fmt: skip
    for fd in held:
        os.close(fd)
    shop.unmount(point, pid)
    for image in (sealed, loose):
        image.unlink()
