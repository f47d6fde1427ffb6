"""What is told of a file system. Pure: no I/O of its own."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Read = Callable[[int, int], bytes]
"""Returns bytes of the volume, by offset and length: fewer at its end, none behind it."""


class Journal(enum.StrEnum):
    """What there is to be done before a file system is as it was meant to be.

    NONE: it has no journal.
    CLEAN: the journal is empty.
    REPLAY: it was not unmounted: what the journal holds is missing in the rest.
    UNKNOWN: it cannot be told.
    """

    NONE = "none"
    CLEAN = "clean"
    REPLAY = "replay"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system, or what else a volume holds.

    Attributes:
        type: its name, as blkid has it.
        uuid: UUID or serial number, as blkid writes it.
        label: its name by its user.
        block_size: bytes in a block or cluster.
        size: bytes that it says it has.
        features: names of what it uses, as its own tools call them; what is not known by its bit.
        journal: the state of the journal.
        is_dirty: it is marked as not unmounted, or as having errors.
        written_at: when it was last written, in seconds since 1970; None where it does not say.
        detail: what else there is, such as feature words.
    """

    type: str
    uuid: str | None = None
    label: str | None = None
    block_size: int | None = None
    size: int | None = None
    features: tuple[str, ...] = ()
    journal: Journal = Journal.NONE
    is_dirty: bool = False
    written_at: int | None = None
    detail: Mapping[str, int | str] = dataclasses.field(default_factory=dict)


def uuid_of(data: bytes) -> str | None:
    """Return 16 bytes as a UUID, None if all are 0."""
    return str(uuid.UUID(bytes=data)) if any(data) else None


def label_of(data: bytes, encoding: str = "utf-8") -> str | None:
    """Return a name that ends at its first NUL, None where it is empty."""
    text = data.decode(encoding, "backslashreplace").partition("\0")[0].strip(" ")
    return text or None


def feature_names(kind: str, word: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of the bits that are set in a word of features.

    Args:
        kind: what an unknown bit is called by, with its number.
        word: the bits.
        names: by number of bit.
    """
    bits = (bit for bit in range(word.bit_length()) if word >> bit & 1)
    return tuple(names.get(bit, f"{kind}{bit}") for bit in bits)


def numbered(names: Sequence[str]) -> dict[int, str]:
    """Return names by number of bit; an empty one has none."""
    return {bit: name for bit, name in enumerate(names) if name}
