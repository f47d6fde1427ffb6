"""One image of realistic data, compressed by every tool that backups are compressed with."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from images import MIB, save_content
from measure import megabytes, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from workshop import Workshop

_SIZE = 1216 * MIB
_FILL = 1104 * MIB
_SMALLER_SIZE = 464 * MIB
_SMALLER_FILL = 384 * MIB
_PIECE = 8 * MIB
_LARGEST_FILE = 16 * MIB
_HEAD = 4096
_TEXTS = ("/usr/include", "/usr/share", sysconfig.get_path("stdlib"), "/usr/lib/python3")
_PROGRAMS = ("/usr/bin", "/usr/lib", "/usr/local/lib")


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A way of compressing.

    Attributes:
        name: how the rows call it.
        suffix: of the file.
        compress: the command that writes the compressed form of its last argument to its output.
        unpack: the command that unpacks, with as many threads as it has a use for.
        unpack_alone: the same with one thread.
        is_slow: whether it takes minutes where the others take seconds.
    """

    name: str
    suffix: str
    compress: tuple[str, ...]
    unpack: tuple[str, ...]
    unpack_alone: tuple[str, ...]
    is_slow: bool = False


ZSTD = Kind("zstd", "zst", ("zstdmt", "-3", "-qc"), ("zstd", "-qdc"), ("zstd", "-qdc"))
KINDS = (
    Kind("gzip", "gz", ("gzip", "-c"), ("gzip", "-dc"), ("gzip", "-dc")),
    ZSTD,
    Kind(
        "zstd-single", "single.zst", ("zstd", "-3", "--single-thread", "-qc"),
        ("zstd", "-qdc"), ("zstd", "-qdc"),
    ),
    Kind(
        "xz", "xz", ("xz", "-T2", "-1", "--block-size=24MiB", "-c"),
        ("xz", "-T2", "-dc"), ("xz", "-T1", "-dc"), is_slow=True,
    ),
    Kind(
        "bzip2", "bz2", ("pbzip2", "-p2", "-c"), ("pbzip2", "-p2", "-dc"), ("bzip2", "-dc"),
        is_slow=True,
    ),
    Kind("lz4", "lz4", ("lz4", "-qc"), ("lz4", "-qdc"), ("lz4", "-qdc")),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class CompressedImage:
    """An image in two forms.

    Attributes:
        kind: how it is compressed.
        plain: as partclone saved it.
        path: the compressed file.
    """

    kind: Kind
    plain: Path
    path: Path


def save_compressed(shop: Workshop) -> tuple[CompressedImage, ...]:
    """Save a volume with a GiB in files, and one of a third for the slow kinds; compress them."""
    say(f"images of text, programs and random data, compressed {len(KINDS)} times")
    large = save_mixed(shop, "mixed", _SIZE, _FILL)
    smaller = save_mixed(shop, "smaller", _SMALLER_SIZE, _SMALLER_FILL)
    return compress(shop, [(smaller if kind.is_slow else large, kind) for kind in KINDS])


def save_mixed(shop: Workshop, name: str, size: int, fill: int) -> Path:
    """Save a volume of `size` bytes with `fill` bytes in files, a third of each sort."""
    content = shop.make(f"{name}.content")
    _fill(content, fill)
    return save_content(shop, name, size, content)


def compress(shop: Workshop, forms: Sequence[tuple[Path, Kind]]) -> tuple[CompressedImage, ...]:
    """Compress images, all of them at the same time."""
    images = tuple(
        CompressedImage(kind, plain, plain.with_name(f"{plain.name}.{kind.suffix}"))
        for plain, kind in forms
    )
    running = []
    for image in images:
        with image.path.open("wb") as out:
            running.append(
                subprocess.Popen(
                    [*image.kind.compress, image.plain], stdin=subprocess.DEVNULL, stdout=out,
                    env=shop.environment,
                )
            )  # fmt: skip
    for process in running:
        if process.wait() != 0:
            message = f"{process.args!r} ended with {process.returncode}"
            raise RuntimeError(message)
    for image in images:
        plain, size = image.plain.stat().st_size, image.path.stat().st_size
        say(f"  {image.kind.name}: {megabytes(plain)} in {megabytes(size)}")
    return images


def _fill(directory: Path, size: int) -> None:
    """Write files of three kinds in turn: text, programs, random data."""
    sources = (_mixed_texts(), _files(_PROGRAMS, _is_program), _random_data())
    streams = [_in_pieces(source, _PIECE) for source in sources]
    for number, stream in zip(range(-(-size // _PIECE)), itertools.cycle(streams), strict=False):
        piece = next(stream)[: size - number * _PIECE]
        (directory / f"file{number:04d}").write_bytes(piece)


def _in_pieces(source: Iterator[bytes], size: int) -> Iterator[bytes]:
    rest = bytearray()
    for data in source:
        rest += data
        while len(rest) >= size:
            yield bytes(rest[:size])
            del rest[:size]


def _mixed_texts() -> Iterator[bytes]:
    """Yield what the machine has in text files, and of each four MiB one of a log."""
    texts = _in_pieces(_files(_TEXTS, _is_text), 3 * MIB)
    logs = _in_pieces(_log(), MIB)
    for text, log in zip(texts, logs, strict=False):
        yield text
        yield log


def _files(roots: Sequence[str], is_wanted: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yield the content of files below `roots`, from the first again where there are no more."""
    while True:
        found = False
        for path in _paths_below(roots):
            with contextlib.suppress(OSError), path.open("rb") as file:
                head = file.read(_HEAD)
                if is_wanted(head):
                    found = True
                    yield head + file.read(_LARGEST_FILE - _HEAD)
        if not found:
            message = f"nothing to fill an image with in {', '.join(roots)}"
            raise FileNotFoundError(message)


def _paths_below(roots: Sequence[str]) -> Iterator[Path]:
    for root in roots:
        for directory, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(directory, name)
                if path.is_file() and not path.is_symlink():
                    yield path


def _is_text(head: bytes) -> bool:
    return bool(head) and b"\0" not in head


def _is_program(head: bytes) -> bool:
    return head.startswith(b"\x7fELF")


def _log() -> Iterator[bytes]:
    """Yield the lines of a server's log."""
    generator = random.Random(20261121)
    units = ("sshd", "kernel", "systemd", "nginx", "cron", "postgres", "dhclient", "smbd")
    verbs = ("accepted", "closed", "refused", "restarted", "timed out on", "opened", "flushed")
    for number in itertools.count():
        bits = generator.getrandbits(96)
        clock = f"{number // 36_000 % 24:02d}:{number // 600 % 60:02d}:{number // 10 % 60:02d}"
        who = f"host{bits & 7} {units[bits >> 3 & 7]}[{bits >> 6 & 32767}]"
        what = f"{verbs[(bits >> 21 & 255) % 7]} session {bits >> 40:014x}"
        yield f"2026-11-21T{clock} {who}: {what} after {bits >> 27 & 8191} ms\n".encode()


def _random_data() -> Iterator[bytes]:
    while True:
        yield os.urandom(_PIECE)
