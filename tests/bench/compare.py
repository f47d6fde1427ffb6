"""Measure two checkouts in one run, in turn: ``python tests/bench/compare.py PROGRAM``.

PROGRAM is the `imgcat` of the other checkout's virtual environment, the state before. Each row is
taken in pairs, one with each, and the ratio of each pair is counted: a machine that is faster or
slower for a while is so for both. Prints, for each row, the median, the least and the greatest
ratio; above 1 the present state is faster.
"""

from __future__ import annotations

import argparse
import copy
import functools
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import compressed
import images
from bench import cat
from measure import timed
from peers import mounted_file, read_first_byte
from reading import Job, Tour, latencies_together, reads_together
from workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_SECONDS = 1.0
_VOLUME_SIZE = 704 << 20
_FILL_SIZE = 640 << 20
_PIECE = 128 << 10
_COLD_PLACES = 14
_HERE = Path(__file__).parent


class Side(NamedTuple):
    """One of the two: what it is called, and a workshop that runs its program."""

    name: str
    shop: Workshop


def main() -> int:
    """Run the program and return its exit code."""
    options = _options()
    wanted = set(options.only or ())
    with Workshop(options.work) as shop:
        other = copy.copy(shop)
        other.use_program(options.program)
        sides = (Side("before", other), Side("now", shop))
        for rows in (_reads, _mount, _ls, _compressed):
            for name, action in rows(shop, sides, wanted):
                _take(name, action, sides, options.pairs)
    return 0


def _take(name: str, action: Callable[[Side], float], sides: Sequence[Side], pairs: int) -> None:
    """Take a row in pairs, after one of each that does not count, and print its ratios."""
    for side in sides:
        action(side)
    ratios = []
    figures: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(pairs):
        # Who is first takes turns too.
        order = sides if number % 2 else sides[::-1]
        taken = {side.name: action(side) for side in order}
        ratios.append(taken["now"] / taken["before"])
        for side_name, value in taken.items():
            figures[side_name].append(value)
    medians = {side: statistics.median(values) for side, values in figures.items()}
    sys.stdout.write(
        f"{name:<18} {statistics.median(ratios):6.3f}  ({min(ratios):.3f} to {max(ratios):.3f})  "
        f"before {medians['before']:.5g}, now {medians['now']:.5g}\n"
    )
    sys.stdout.flush()


def _wants(wanted: set[str], *names: str) -> bool:
    return not wanted or not wanted.isdisjoint(names)


def _reads(
    shop: Workshop, sides: Sequence[Side], wanted: set[str]
) -> Iterator[tuple[str, Callable[[Side], float]]]:
    """Reads a second: 1 MiB and 4 KiB at random, by one reader and by two."""
    names = ("read-one", "read-two", "random-one", "random-two")
    if not _wants(wanted, *names):
        return
    first = images.save_filled(shop, "first", _VOLUME_SIZE, _FILL_SIZE)
    second = shop.directory / "second.img"
    second.write_bytes(first.read_bytes())
    both = (first, second)
    mounted: dict[str, list[Path]] = {}
    for side in sides:
        point, _pid = _mounted(side, "read", both)
        mounted[side.name] = [mounted_file(image, point) for image in both]
    for image in both:
        cat(image)
    large = images.used_offsets(first, 1 << 20)
    small = images.used_offsets(first, 4096)
    orders = [random.Random(seed).choices(small, k=60_000) for seed in range(2)]

    def reading(size: int, offsets: Sequence[Sequence[int]]) -> Callable[[Side], float]:
        return lambda side: reads_together(
            [
                Job(path, size, each)
                for path, each in zip(mounted[side.name], offsets, strict=False)
            ],
            _SECONDS,
        )

    rows = {
        "read-one": reading(1 << 20, [large]),
        "read-two": reading(1 << 20, [large, large]),
        "random-one": reading(4096, orders[:1]),
        "random-two": reading(4096, orders),
    }
    yield from ((name, action) for name, action in rows.items() if _wants(wanted, name))


def _mount(
    shop: Workshop, sides: Sequence[Side], wanted: set[str]
) -> Iterator[tuple[str, Callable[[Side], float]]]:
    """How often a second 200 images are mounted and the first byte of each is read."""
    if not _wants(wanted, "mount"):
        return
    fleet = images.save_copies(shop, "fleet", 200, 8 << 20)
    points = {}
    for side in sides:
        catalog = shop.directory / f"fleet.{side.name}.db"
        side.shop.run(*side.shop.imgcat(catalog, "add", *fleet))
        points[side.name] = (catalog, shop.make(f"fleet.{side.name}"))

    def mount(side: Side) -> float:
        catalog, point = points[side.name]

        def start() -> None:
            side.shop.run_silently(*side.shop.imgcat(catalog, "mount-all", point))
            for image in fleet:
                read_first_byte(mounted_file(image, point))

        taken = timed(start)
        side.shop.unmount(point, side.shop.daemon_of(catalog, point))
        return 1 / taken

    yield "mount", mount


def _ls(
    shop: Workshop, sides: Sequence[Side], wanted: set[str]
) -> Iterator[tuple[str, Callable[[Side], float]]]:
    """How often a second 10,000 images are listed."""
    if not _wants(wanted, "ls"):
        return
    shelf = images.save_copies(shop, "shelf", 10_000, 256 << 10)
    commands = {}
    for side in sides:
        catalog = shop.directory / f"shelf.{side.name}.db"
        side.shop.run(*side.shop.imgcat(catalog, "-q", "add", "-r", shelf[0].parent))
        commands[side.name] = side.shop.imgcat(catalog, "ls")
    yield "ls", lambda side: 1 / timed(lambda: side.shop.run_silently(*commands[side.name]))


def _compressed(
    shop: Workshop, sides: Sequence[Side], wanted: set[str]
) -> Iterator[tuple[str, Callable[[Side], float]]]:
    """Cold reads a second, and whole images a second, of each kind of compression."""
    names = [f"{row}-{kind.name}" for kind in compressed.KINDS for row in ("cold", "seq")]
    if not _wants(wanted, *names):
        return
    for image in compressed.save_compressed(shop):
        used = images.used_offsets(image.plain, _PIECE)
        places = {
            side.name: random.Random(image.kind.name).sample(used, _COLD_PLACES) for side in sides
        }
        catalogs = {
            side.name: shop.directory / f"{image.kind.name}.{side.name}.db" for side in sides
        }
        for side in sides:
            side.shop.run(*side.shop.imgcat(catalogs[side.name], "add", image.path))
        points = {side.name: shop.make(f"{image.kind.name}.{side.name}") for side in sides}
        for row, action in (("cold", _cold), ("seq", _sequential)):
            if _wants(wanted, f"{row}-{image.kind.name}"):
                yield (
                    f"{row}-{image.kind.name}",
                    functools.partial(action, image.path, catalogs, points, places),
                )


def _cold(
    stored: Path,
    catalogs: Mapping[str, Path],
    points: Mapping[str, Path],
    places: Mapping[str, Sequence[int]],
    side: Side,
) -> float:
    """Return how many reads a second a fresh daemon gives where nothing was read before."""
    cat(stored)
    point, pid = _serve(side, catalogs, points)
    (path,) = point.iterdir()
    tour = Tour(_PIECE, [(path, offset) for offset in places[side.name]])
    (taken,) = latencies_together([tour], 600.0, len(places[side.name]))
    side.shop.unmount(point, pid)
    return 1 / statistics.median(taken)


def _sequential(
    stored: Path,
    catalogs: Mapping[str, Path],
    points: Mapping[str, Path],
    _places: Mapping[str, Sequence[int]],
    side: Side,
) -> float:
    point, pid = _serve(side, catalogs, points)
    (path,) = point.iterdir()
    Path("/proc/sys/vm/drop_caches").write_text("1\n", encoding="ascii")
    cat(stored)
    taken = timed(lambda: cat(path))
    side.shop.unmount(point, pid)
    return 1 / taken


def _serve(
    side: Side, catalogs: Mapping[str, Path], points: Mapping[str, Path]
) -> tuple[Path, int]:
    point = points[side.name]
    return point, side.shop.mount_all(catalogs[side.name], point)


def _mounted(side: Side, name: str, paths: Sequence[Path]) -> tuple[Path, int]:
    """Add images to a catalog of one side's own, and mount it."""
    catalog = side.shop.directory / f"{name}.{side.name}.db"
    point = side.shop.make(f"{name}.{side.name}")
    side.shop.run(*side.shop.imgcat(catalog, "add", *paths))
    return point, side.shop.mount_all(catalog, point)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure two checkouts in one run.")
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="the other `imgcat`")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each row")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="read-one, random-one, mount, ...")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR",
        help="where the scratch directory is made (8 GB)",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
