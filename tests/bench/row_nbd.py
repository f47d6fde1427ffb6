"""Is an image that nbdkit serves from a catalog copied as fast as its exported bytes?"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import images
from bench import cat
from measure import faster, gigabytes_a_second, interleaved, say, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench import Bench
    from measure import Row
    from workshop import Workshop

NAMES = ("nbd-copy-null", "nbd-copy-file", "nbd-copy-small-groups")

_SIZE, _FILL = 704 << 20, 608 << 20
_ROUNDS = 9
_WANTED = 0.7
_WANTED_OF_SMALL = 0.5
"""Their bytes are copied once more, out of what lies between them."""

_PATIENCE_SECONDS = 30.0


def measure(bench: Bench) -> Iterator[Row]:
    """Copy with `nbdcopy` from `imgcat serve`, and from `nbdkit file` on the exported bytes."""
    shop = bench.shop
    image = images.save_filled(shop, "nbd", _SIZE, _FILL)
    catalog, raw = shop.directory / "nbd.db", shop.directory / "nbd.raw"
    shop.run(*shop.imgcat(catalog, "add", image))
    shop.run(*shop.imgcat(catalog, "export", "nbd", raw))
    small = shop.directory / "nbd-small.img"
    log = shop.directory / "partclone.log"
    # A checksum behind every block.
    shop.run("partclone.ext4", "-c", "-k", "1", "-s", raw, "-o", small, "-L", log)
    shop.run(*shop.imgcat(catalog, "add", small))
    for path in (image, raw, small):
        cat(path)
    stored = image.stat().st_size
    target = shop.directory / "nbd.copy"
    with _serving(shop, catalog) as ours, _serving_file(shop, raw) as theirs:

        def copying(uri: str, to: str | Path) -> Callable[[], float]:
            def copy() -> float:
                target.unlink(missing_ok=True)
                return timed(lambda: shop.run_silently("nbdcopy", uri, to))

            return copy

        def row(name: str, export: str, to: str | Path, what: str, wanted: float = _WANTED) -> Row:
            say(f"nbdcopy of {export} to {to}, seconds")
            taken = interleaved(
                _ROUNDS,
                {
                    "ours": copying(f"nbd+unix:///{export}?socket={ours}", to),
                    "file": copying(f"nbd+unix:///?socket={theirs}", to),
                },
            )
            return faster(
                name, what,
                gigabytes_a_second(stored / taken["ours"]),
                gigabytes_a_second(stored / taken["file"]),
                taken["file"] / taken["ours"], wanted,
            )  # fmt: skip

        beside = "beside it the same from `nbdkit file` on the exported bytes"
        yield row(
            "nbd-copy-null", "nbd", "null:",
            f"`nbdcopy` of an image by partclone from `imgcat serve` to nowhere; {beside}",
        )  # fmt: skip
        yield row("nbd-copy-file", "nbd", target, f"The same to a file; {beside}")
        yield row(
            "nbd-copy-small-groups", "nbd-small", "null:",
            f"To nowhere, of an image with a checksum behind every block; {beside}",
            _WANTED_OF_SMALL,
        )  # fmt: skip
    for path in (image, raw, small, target):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _serving(shop: Workshop, catalog: Path) -> Iterator[Path]:
    path = shop.directory / "ours.sock"
    command = shop.imgcat(catalog, "serve", "--socket", path)
    with _running(shop, command, path):
        yield path


@contextlib.contextmanager
def _serving_file(shop: Workshop, raw: Path) -> Iterator[Path]:
    path = shop.directory / "file.sock"
    with _running(shop, ["nbdkit", "-f", "-U", str(path), "file", str(raw)], path):
        yield path


@contextlib.contextmanager
def _running(shop: Workshop, command: list[str], path: Path) -> Iterator[None]:
    """Run a server for the time of the block, from when it listens on."""
    process = subprocess.Popen(
        command, env=shop.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _listens(path):
            if time.monotonic() > deadline:
                message = f"{command[0]} does not listen"
                raise TimeoutError(message)
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(os.fspath(path)) == 0
