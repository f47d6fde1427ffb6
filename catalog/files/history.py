"""The versions of one file, over all backups; and which of them was the last good one."""

from __future__ import annotations

import math
import stat
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .asking import Backups, Paths, Version, rows_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

NOISE_BYTES = 64 << 10
"""Bytes at the beginning of a file that are looked at for noise."""

NOISE = 7.9
"""Bits a byte from which on they are taken for noise: what is encrypted has them, and what is
compressed."""

_IFMT = 0o170000


class Past(NamedTuple):
    """The versions of a path in one file system.

    Attributes:
        lineage_id: the row of the file system.
        versions: newest first.
        is_deleted: whether the newest backup has none; see `Backups.newest`.
    """

    lineage_id: int
    versions: list[Version]
    is_deleted: bool


class Verdict(NamedTuple):
    """The last good version of a file.

    Attributes:
        good: the version.
        bad: the one that came behind it and is none; None where the newest is good.
        why: what is wrong with that.
    """

    good: Version
    bad: Version | None
    why: str | None


def history(
    connection: sqlite3.Connection, path: bytes, lineages: frozenset[int] | None = None
) -> list[Past]:
    """Return the versions of a path in each file system that has, or had, it.

    Args:
        connection: reads the catalog, in one transaction.
        path: from the root of a file system on.
        lineages: the file systems that are looked at; None for all.
    """
    backups = Backups(connection)
    paths = Paths(connection)
    place = paths.place(path)
    found: list[Past] = []
    if place is None:
        return found
    for lineage_id in backups.by_lineage:
        if lineages is not None and lineage_id not in lineages:
            continue
        rows = list(
            rows_of(
                connection, "lineage_id = ? AND directory_id = ? AND name_id = ?",
                (lineage_id, *place),
            )
        )  # fmt: skip
        if not rows:
            continue
        versions = backups.versions(paths.of_row(rows[0]), rows)
        newest = backups.newest(lineage_id)
        is_deleted = all(newest not in each.backups for each in versions) and (
            versions[0].newest.when < newest.when
        )
        found.append(Past(lineage_id, versions, is_deleted))
    return found


def last_good(past: Past, beginning: Callable[[Version], bytes]) -> Verdict:
    """Return the last version before the file changed its type, shrank, or turned to noise.

    Each version is held against the last good one before it, in the order in which the backups
    were taken.

    Args:
        past: its versions.
        beginning: reads the first `NOISE_BYTES` of a version that is a file.

    Raises:
        Exception: what `beginning` raises.
    """
    in_order = sorted(past.versions, key=lambda each: each.backups[0].when)
    good = in_order[0]
    bad: Version | None = None
    why = None
    for version in in_order[1:]:
        found = _what_is_wrong(good, version, beginning)
        if found is None:
            good, bad, why = version, None, None
        elif bad is None:
            bad, why = version, found
    return Verdict(good, bad, why)


def _what_is_wrong(
    good: Version, version: Version, beginning: Callable[[Version], bytes]
) -> str | None:
    before, now = good.row, version.row
    if before.mode & _IFMT != now.mode & _IFMT:
        return "its type changed"
    if not stat.S_ISREG(now.mode):
        return None
    if now.size * 2 < before.size:
        return f"it shrank from {before.size} to {now.size} bytes"
    if now.what == before.what:
        return None
    bits = bits_a_byte(beginning(version))
    if bits >= NOISE and bits_a_byte(beginning(good)) < NOISE:
        return f"it turned to noise: {bits:.2f} bits a byte at its beginning"
    return None


def bits_a_byte(data: bytes) -> float:
    """Return the entropy of bytes, by how often each value is among them; 0 of none."""
    if not data:
        return 0.0
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values())
