"""How soon and how fast are bytes of a mounted image that is compressed?"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cat
from compressed import KINDS
from images import used_offsets
from measure import faster, interleaved, limited, say, seconds, timed
from reading import Tour, latencies_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from compressed import CompressedImage
    from measure import Row

NAMES = tuple(f"{question}-{kind.name}" for question in ("first", "cold", "seq") for kind in KINDS)

_PIECE = 128 << 10
_PLACES = 70
_DAEMONS = 5
_APART = 40 << 20
_ROUNDS = 3
_SLOW_ROUNDS = 1
_FOREVER = 600.0
_FIRST_LIMIT = 0.5
_COLD_LIMIT = 0.050
_XZ_COLD_LIMIT = 0.150
_SEQUENTIAL_WANTED = 0.6


def measure(bench: Bench) -> Iterator[Row]:
    """Mount each in a catalog of its own; read it here and there, and from beginning to end."""
    rows = [list(_of_kind(bench, image)) for image in bench.compressed_images.values()]
    # One question after the other, not one kind after the other.
    for question in zip(*rows, strict=True):
        yield from question


def _of_kind(bench: Bench, image: CompressedImage) -> Iterator[Row]:
    shop, name = bench.shop, image.kind.name
    catalog, point = shop.directory / f"{name}.db", shop.make(f"{name}.ours")
    shop.run(*shop.imgcat(catalog, "add", image.path))
    cat(image.path)
    say(f"reading {image.path.name}, seconds")
    first: list[float] = []
    cold: list[float] = []
    for offset, *others in _tours(image.plain):
        began = time.perf_counter()
        shop.run_silently(*shop.imgcat(catalog, "mount-all", point))
        (path,) = point.iterdir()
        _read_byte(path, offset)
        first.append(time.perf_counter() - began)
        tour = Tour(_PIECE, [(path, other) for other in others])
        (taken,) = latencies_together([tour], _FOREVER, len(others))
        cold += taken
        shop.unmount(point, shop.daemon_of(catalog, point))
    say("  first byte: " + " ".join(f"{value:.3f}" for value in first))
    half, most = statistics.median(first), max(cold)
    yield limited(
        f"first-{name}",
        f"From the start of `imgcat mount-all` to one byte somewhere in the image ({name})",
        seconds(half), seconds(_FIRST_LIMIT), met=half < _FIRST_LIMIT,
    )  # fmt: skip
    half = statistics.median(cold)
    say(f"  {len(cold)} cold reads: median {_milliseconds(half)}, at most {_milliseconds(most)}")
    limit = _XZ_COLD_LIMIT if name == "xz" else _COLD_LIMIT
    yield limited(
        f"cold-{name}",
        f"128 KiB O_DIRECT where nothing was read before ({name}), median of {len(cold)}; "
        f"the slowest took {_milliseconds(most)}",
        _milliseconds(half), seconds(limit), met=half < limit,
    )  # fmt: skip
    pid = shop.mount_all(catalog, point)
    yield _sequential(bench, image, path)
    shop.unmount(point, pid)


def _tours(plain: Path) -> list[list[int]]:
    """Return used places all over an image, in a tour for each of a few daemons.

    Those of a tour lie far apart, so that no read leaves something behind that the next one needs.
    """
    generator = random.Random(1)
    used = used_offsets(plain, _PIECE)
    bounds = [len(used) * number // _PLACES for number in range(_PLACES + 1)]
    places = [generator.choice(used[start:stop]) for start, stop in itertools.pairwise(bounds)]
    count = max(_DAEMONS, -(-_APART * _PLACES // plain.stat().st_size))
    tours = [places[number::count] for number in range(count)]
    for tour in tours:
        generator.shuffle(tour)
    return tours


def _milliseconds(value: float) -> str:
    return f"{value * 1000:.1f} ms"


def _read_byte(path: Path, offset: int) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        file.read(1)


def _sequential(bench: Bench, image: CompressedImage, path: Path) -> Row:
    shop, kind = bench.shop, image.kind

    def copy() -> float:
        # Also the mounted file's pages; of the image, they are read back.
        Path("/proc/sys/vm/drop_caches").write_text("1\n", encoding="ascii")
        cat(image.path)
        return timed(lambda: shop.run("dd", f"if={path}", "of=/dev/null", "bs=1M"))

    ours, tool = interleaved(
        _SLOW_ROUNDS if kind.is_slow else _ROUNDS,
        {
            "ours": copy,
            kind.unpack_alone[0]: lambda: timed(
                lambda: shop.run_silently(*kind.unpack_alone, image.path)
            ),
        },
        warm_up=False,
    ).values()
    return faster(
        f"seq-{kind.name}",
        f"`dd bs=1M` of the whole mounted image; beside it `{' '.join(kind.unpack_alone)} "
        "> /dev/null`",
        seconds(ours), seconds(tool), tool / ours, _SEQUENTIAL_WANTED,
    )  # fmt: skip
