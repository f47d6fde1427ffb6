"""What does one daemon need that serves a hundred compressed images to many readers?"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from compressed import KINDS, compress, save_mixed
from images import MIB, used_offsets
from measure import MB, limited, megabytes, memory_of, peak_memory_of, say, seconds, timed
from reading import Tour, latencies_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("fleet-memory",)

_SIZE = 64 * MIB
_FILL = 44 * MIB
_COUNT = 100
_READERS = 16
_SECONDS = 10.0
_READS = 2_000
_PIECE = 128 << 10
_LIMIT = 500 * MB


def measure(bench: Bench) -> Iterator[Row]:
    """Copy a few images a hundred times, mount them all, and read them at random."""
    shop = bench.shop
    plain = save_mixed(shop, "compressed-fleet", _SIZE, _FILL)
    images = compress(shop, [(plain, kind) for kind in KINDS])
    directory = shop.make("compressed-fleet.images")
    for number in range(_COUNT):
        image = images[number % len(images)]
        # Not links: those to one file are one image.
        shop.run("cp", image.path, directory / f"image{number:03d}.img.{image.kind.suffix}")
    catalog, point = shop.directory / "compressed-fleet.db", shop.make("compressed-fleet.ours")
    command = shop.imgcat(catalog, "add", *sorted(directory.iterdir()))
    say(f"{_COUNT} compressed images, added in {seconds(timed(lambda: shop.run(*command)))}")
    pid = shop.mount_all(catalog, point)
    before = memory_of(pid)
    paths = sorted(point.iterdir())
    assert len(paths) == _COUNT
    offsets = used_offsets(plain, _PIECE)
    generator = random.Random(1)
    taken = latencies_together(
        [
            Tour(
                _PIECE,
                [(generator.choice(paths), generator.choice(offsets)) for _ in range(_READS)],
            )
            for _ in range(_READERS)
        ],
        _SECONDS,
    )
    memory, peak = memory_of(pid), peak_memory_of(pid)
    shop.unmount(point, pid)
    say(f"  {sum(map(len, taken)):,} reads; the daemon: {before}, then {memory}")
    shop.run("rm", "-r", directory, plain, *(image.path for image in images))
    yield limited(
        "fleet-memory",
        f"Peak resident memory of the daemon, {_COUNT} compressed images of {len(KINDS)} kinds, "
        f"{_READERS} readers at random for {_SECONDS:.0f} s",
        megabytes(peak), megabytes(_LIMIT), met=peak < _LIMIT,
    )  # fmt: skip
