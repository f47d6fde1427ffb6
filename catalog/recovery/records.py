"""What is said of snapshots, of the files in them, and of what came of getting one back."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """How a file system was when its snapshot was taken.

    CLEAN: it was not mounted, and had been unmounted.
    REPLAYED: it had not been unmounted; its journal was replayed in memory.
    NOT_REPLAYED: the same, and it was read as it lay there.
    NOT_UNMOUNTED: it was marked so, and has no journal to tell what is missing.
    MOUNTED: it was mounted, and could be written meanwhile.
    READ_ONLY: it was mounted, and could not be written.
    """

    CLEAN = "clean"
    REPLAYED = "journal replayed"
    NOT_REPLAYED = "journal not replayed"
    NOT_UNMOUNTED = "not unmounted"
    MOUNTED = "mounted"
    READ_ONLY = "mounted read-only"


class Snapshot(NamedTuple):
    """A snapshot, as the catalog has it.

    Attributes:
        generation_id: its row.
        lineage_id: the row of its file system.
        number: its number among the generations of that.
        name: how it is called.
        taken_at: UTC, in ISO 8601.
        source: what it was taken of.
        source_kind: ``device``, or the format of the image.
        size: bytes of the volume.
        fs_type: the file system, of ext its family.
        fs_uuid: its UUID or serial number; None where it has none.
        state: how it was.
        has_hashes: whether what files held was hashed.
        files: names in it.
        problems: what could not be read.
        caveat: what may be missing; None where nothing is.
    """

    generation_id: int
    lineage_id: int
    number: int
    name: str
    taken_at: str
    source: str
    source_kind: str
    size: int
    fs_type: str
    fs_uuid: str | None
    state: str
    has_hashes: bool
    files: int
    problems: int
    caveat: str | None


class SavedName(NamedTuple):
    """A name in a snapshot.

    Attributes:
        path: from the root on, without the first ``/``.
        mode: type and permissions.
        size: bytes.
        mtime_ns: when it was written, in nanoseconds since 1970; None where that is not known.
        inode: the number of its file.
        directory_id: the row of it as a directory; None of what is none, or is empty.
    """

    path: bytes
    mode: int
    size: int
    mtime_ns: int | None
    inode: int
    directory_id: int | None = None


class SavedFile(NamedTuple):
    """Where a regular file lay.

    Attributes:
        size: its bytes.
        runs: see `runs`; None where `data` or `why` says more.
        data: what it held, where that lay nowhere as it is.
        hashes: of its pieces, one after the other; None where there are none.
        why: why it cannot be got back; None where it can.
    """

    size: int
    runs: list[tuple[int, int, int]] | None
    data: bytes | None
    hashes: bytes | None
    why: str | None


class Cause(enum.StrEnum):
    """What became of some bytes of a file.

    HOLDS: their hash holds.
    UNKNOWN: there is no hash of them, and nothing tells that they are others by now.
    OTHERS: they lie in blocks that belong to another file now.
    ZEROS: they read as zeros, and were not, or nobody knows whether they were.
    CHANGED: they are not what they were, and no other file has them.
    UNREADABLE: the source cannot give them.
    LOST: where they lay was not known when the snapshot was taken.
    """

    HOLDS = "holds"
    UNKNOWN = "unknown"
    OTHERS = "reallocated"
    ZEROS = "zeros"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    LOST = "lost"


class Range(NamedTuple):
    """Bytes ``[start, stop)`` of a file, and what became of them.

    Attributes:
        start: the first.
        stop: the one after the last.
        place: where the first lies in the volume; -2 where that is not known.
        cause: what became of them.
        inode: of `OTHERS`, the file that has them now; else 0.
        owner: its path, as bytes; empty where it has none that is known.
    """

    start: int
    stop: int
    place: int
    cause: Cause
    inode: int = 0
    owner: bytes = b""


class Verdict(enum.StrEnum):
    """What is to be said of a file that was got back. See `judging.verdict_of`."""

    VERIFIED = "verified"
    PARTIAL = "partial"
    REALLOCATED = "reallocated"
    ZEROED = "zeroed"
    ABSENT = "absent"
    UNVERIFIABLE = "unverifiable"


class Unwritten(NamedTuple):
    """A file that could not be written.

    Attributes:
        error: why; it names the path that it was to have.
        ends_all: whether it is an error of the target as a whole: no other file is tried.
    """

    error: Exception
    ends_all: bool


class Outcome(NamedTuple):
    """What came of getting a file back.

    Attributes:
        path: of the file in the snapshot.
        size: its bytes.
        verdict: how much of it is to be relied upon.
        output: what was written; None where nothing was.
        ranges: what did not come back as it was, or is not known to have.
        detail: more about it, for people; empty where there is no more.
    """

    path: bytes
    size: int
    verdict: Verdict
    output: str | None
    ranges: tuple[Range, ...] = ()
    detail: str = ""
