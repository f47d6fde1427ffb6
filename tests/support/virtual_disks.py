"""Virtual disks as QEMU's own tools write them, and what those say is in them."""

from __future__ import annotations

import json
import random
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20


class Disk(NamedTuple):
    """A virtual disk.

    Attributes:
        path: the image.
        driver: how QEMU calls its format.
        guest: what `qemu-img convert` says is in it.
    """

    path: Path
    driver: str
    guest: bytes


def qemu_img(*arguments: object) -> str:
    """Run `qemu-img`, which must succeed, and return what it prints."""
    return _run("qemu-img", *arguments)


def qemu_io(path: Path, driver: str, commands: Sequence[str]) -> None:
    """Run commands of `qemu-io` over an image; all must succeed."""
    if commands:
        _run("qemu-io", "-f", driver, *(part for each in commands for part in ("-c", each)), path)


def write_raw(path: Path, size: int, seed: int, writes: int = 24) -> Path:
    """Write a sparse file with random and with repeated bytes here and there."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(writes):
            offset = rng.randrange(size)
            data = rng.choice([rng.randbytes(3000), b"imgcat " * 9000, rng.randbytes(70_000)])
            file.seek(offset)
            file.write(data[: size - offset])
    return path


def changes(size: int, seed: int, count: int) -> list[str]:
    """Return random writes, writes of zeros and discards, as commands of `qemu-io`."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        length = rng.choice([512, 4 * KIB, 9 * 512, 64 * KIB, 128 * KIB, 300 * KIB])
        length = min(length, size // 512 * 512)
        offset = rng.randrange((size - length) // 512 + 1) * 512
        what = rng.choice([f"write -P {rng.randrange(256)}", "write -z", "write -z -u", "discard"])
        found.append(f"{what} {offset} {length}")
    return found


def guest_of(path: Path, driver: str) -> bytes:
    """Return the guest bytes by `qemu-img convert`."""
    raw = path.with_name(f"{path.name}.raw-{driver}")
    qemu_img("convert", "-f", driver, "-O", "raw", path, raw)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def map_of(path: Path, driver: str) -> list[dict[str, Any]]:
    """Return what `qemu-img map` says of an image."""
    found: list[dict[str, Any]] = json.loads(qemu_img("map", "-f", driver, "--output=json", path))
    return found


def _run(*command: object) -> str:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout
