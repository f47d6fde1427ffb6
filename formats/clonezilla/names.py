"""Which files of an image directory are images, of which partition, and where each begins.

Looks at names only.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import TYPE_CHECKING

from .files import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_CODECS = frozenset(
    {"gz", "bz2", "lzo", "lzma", "xz", "lzip", "lz", "lrz", "lz4", "zst", "uncomp"}
)  # fmt: skip
_IMAGE = re.compile(r"(.+)\.([A-Za-z0-9_+-]+?)-(?:ptcl-)?img(?:\.([a-z0-9]+))?(?:\.([a-z0-9]+))?")
_CHUNK = re.compile(r"[a-z]{2,3}|[0-9]{3}")
_RAW = "dd"


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A file, or a set of chunks, that looks like the image of a partition.

    Attributes:
        partition: the partition, as Clonezilla names its files.
        fs_type: the file system that the name tells; None of partimage and of raw streams.
        is_raw: the payload is the partition's bytes as they are.
        files: the names, the first chunk first.
        missing: the name of the first chunk where it is not there, else None.
    """

    partition: str
    fs_type: str | None
    is_raw: bool
    files: tuple[str, ...]
    missing: str | None = None

    @property
    def first(self) -> str:
        """The name of the file that the image begins with, whether it is there or not."""
        return self.missing or self.files[0]


def is_image_name(name: str) -> bool:
    """Tell whether a file of that name is an image, or a chunk of one."""
    return _split(name) is not None


def find_candidates(
    names: Iterable[str], known: Collection[str]
) -> Mapping[str, tuple[Candidate, ...]]:
    """Return what looks like an image, by partition.

    Args:
        names: every name in the directory.
        known: partitions that the lists of the directory name. Only of these a file without a
            telling name is taken for an image, as partimage's are.
    """
    known = frozenset(known)
    found: dict[str, dict[str, set[str]]] = collections.defaultdict(
        lambda: collections.defaultdict(set)
    )
    for name in names:
        split = _split(name) or _split_partimage(name, known)
        if split is not None:
            partition, base, chunk = split
            found[partition][base].add(chunk)
    return {
        partition: tuple(
            candidate
            for base in sorted(bases)
            for candidate in _candidates(partition, base, bases[base])
        )
        for partition, bases in sorted(found.items())
    }


def _split(name: str) -> tuple[str, str, str] | None:
    """Return partition, name without the chunk, and chunk (empty where there is none)."""
    match = _IMAGE.fullmatch(name)
    if match is None:
        return None
    partition, _, first, second = match.groups()
    if first in _CODECS and "-ptcl-img." in name:
        chunk = second or ""
    elif second is not None:
        return None
    else:
        # An old image is compressed without its name telling it, so this is a chunk. Should
        # somebody have added a suffix after all, the set of chunks does not begin with `aa`.
        chunk = first or ""
    if chunk and not _CHUNK.fullmatch(chunk):
        return None
    if not is_plain_name(partition):
        return None
    return partition, name[: len(name) - len(chunk) - 1] if chunk else name, chunk


def _split_partimage(name: str, known: Collection[str]) -> tuple[str, str, str] | None:
    if name in known:
        return name, name, ""
    base, _, chunk = name.rpartition(".")
    if base in known and _CHUNK.fullmatch(chunk):
        return base, base, chunk
    return None


def _candidates(partition: str, base: str, chunks: Collection[str]) -> list[Candidate]:
    """Return the images that begin with `base`: at most one of each length of chunk names."""
    match = _IMAGE.fullmatch(base)
    kind = match[2] if match else None
    found: list[tuple[tuple[str, ...], str | None]] = []
    if "" in chunks:
        found.append(((base,), None))
    rest: list[tuple[tuple[str, ...], str | None]] = []
    for shape in ("aa", "aaa", "000"):
        alike = sorted(
            c for c in chunks if len(c) == len(shape) and c[:1].isdigit() == shape.isdigit()
        )
        if not alike:
            continue
        files = tuple(f"{base}.{chunk}" for chunk in alike)
        # One chunk that is named as a codec is a whole file, to which somebody gave a suffix.
        if shape in chunks or (len(alike) == 1 and alike[0] in _CODECS):
            found.append((files, None))
        else:
            rest.append((files, f"{base}.{shape}"))
    # Where there is a whole one, what only resembles a chunk is something else, as `.tmp`.
    return [
        Candidate(partition, None if kind == _RAW else kind, kind == _RAW, files, missing)
        for files, missing in found or rest
    ]
