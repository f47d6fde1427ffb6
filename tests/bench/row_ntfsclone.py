"""What does an ntfsclone image cost: to scan, to mount again, to read, and in fragments?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cat
from images import MIB, used_offsets
from measure import (
    MB,
    faster,
    gigabytes_a_second,
    interleaved,
    limited,
    megabytes,
    memory_of,
    say,
    seconds,
    timed,
)
from peers import mount_with_peer, mounted_file, read_first_byte
from reading import Job, read_all, reads_together
from tool_images import save_ntfs, write_fragments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = (
    "scan-ntfsclone", "scan-cat", "read-ntfsclone", "fragments-scan", "fragments-first",
    "fragments-memory",
)  # fmt: skip

_SIZE = 704 << 20
_FILL = 640 << 20
_ROUNDS = 7
_SECONDS = 0.6
_FRAGMENTS = 1_000_000
_FIRST_LIMIT = 0.020
_GROWTH_LIMIT = 100 * MB
_HERE = Path(__file__).parent


def measure(bench: Bench) -> Iterator[Row]:
    """Scan and read a volume of random data, then one of a million fragments."""
    image = save_ntfs(bench.shop, "ntfs", _SIZE, _FILL)
    yield from _scan(bench, image)
    yield _read(bench, image)
    image.unlink()
    yield from _fragments(bench)


def _scan(bench: Bench, image: Path) -> Iterator[Row]:
    shop = bench.shop
    say(f"an ntfsclone image of {megabytes(image.stat().st_size)}, seconds")
    ours, peer, plain = interleaved(
        _ROUNDS,
        {
            "ours": lambda: float(shop.run(sys.executable, _HERE / "scan_once.py", image)),
            "peer": lambda: float(shop.run(bench.peer.python, _HERE / "peer_index.py", image)),
            "cat": lambda: timed(lambda: shop.run_silently("cat", image)),
        },
    ).values()
    yield faster(
        "scan-ntfsclone",
        "Scanning an ntfsclone image of 4 KiB clusters; beside it the index of `imagebackup`",
        seconds(ours), seconds(peer), peer / ours, 8,
    )  # fmt: skip
    yield faster(
        "scan-cat", "The same; beside it `cat image > /dev/null`",
        seconds(ours), seconds(plain), plain / ours, 0.5,
    )  # fmt: skip


def _read(bench: Bench, image: Path) -> Row:
    shop = bench.shop
    catalog, point = shop.directory / "ntfs.db", shop.make("ntfs.ours")
    shop.run(*shop.imgcat(catalog, "add", image))
    pid = shop.mount_all(catalog, point)
    theirs = shop.make("ntfs.peer")
    their_pid = mount_with_peer(shop, bench.peer, image, theirs)
    cat(image)
    offsets = used_offsets(image, MIB)
    say(f"1 MiB direct reads of it, {len(offsets)} MiB, bytes a second")
    ours, peer = interleaved(
        _ROUNDS,
        {
            name: lambda path=path: MIB * reads_together([Job(path, MIB, offsets)], _SECONDS)  # type: ignore[misc]
            for name, path in (
                ("ours", mounted_file(image, point)), ("peer", mounted_file(image, theirs)),
            )
        },
    ).values()  # fmt: skip
    shop.unmount(point, pid)
    shop.unmount(theirs, their_pid)
    return faster(
        "read-ntfsclone", "1 MiB O_DIRECT over an ntfsclone image; beside it `imagebackup`",
        gigabytes_a_second(ours), gigabytes_a_second(peer), ours / peer, 10,
    )  # fmt: skip


def _fragments(bench: Bench) -> Iterator[Row]:
    shop = bench.shop
    image = shop.directory / "fragments.img"
    say(f"an ntfsclone image of {_FRAGMENTS:,} ranges")
    write_fragments(image, _FRAGMENTS)
    catalog, point = shop.directory / "fragments.db", shop.make("fragments.ours")
    taken = timed(lambda: shop.run(*shop.imgcat(catalog, "add", image)))
    yield limited(
        "fragments-scan", f"`imgcat add` of an ntfsclone image of {_FRAGMENTS:,} ranges",
        seconds(taken), "60 s", met=taken < 60,
    )  # fmt: skip
    pid = shop.mount_all(catalog, point)
    path = mounted_file(image, point)
    before = memory_of(pid).rss
    first = timed(lambda: read_first_byte(path))
    size = path.stat().st_size
    read_all(Job(path, 4096, [size // 20_000 * n // 4096 * 4096 for n in range(20_000)]))
    growth = memory_of(pid).rss - before
    shop.unmount(point, pid)
    image.unlink()
    yield limited(
        "fragments-first", "The first byte of it, when it is mounted",
        seconds(first), seconds(_FIRST_LIMIT), met=first < _FIRST_LIMIT,
    )  # fmt: skip
    yield limited(
        "fragments-memory", "What the daemon grows by while it is read all over",
        megabytes(growth), megabytes(_GROWTH_LIMIT), met=growth < _GROWTH_LIMIT,
    )  # fmt: skip
