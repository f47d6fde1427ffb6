"""What a source has and does not give: bytes of a damaged stream that no checksum vouches for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .byte_source import ByteSource


class Distrusted(NamedTuple):
    """Bytes ``[start, stop)`` of a source that reading it refuses, and why."""

    start: int
    stop: int
    reason: str


@runtime_checkable
class _Distrusting(Protocol):
    def distrusted(self, start: int, stop: int) -> Iterator[Distrusted]: ...

    def every_byte(self) -> ByteSource: ...


def distrusted(source: ByteSource, start: int, stop: int) -> Iterator[Distrusted]:
    """Yield what of bytes ``[start, stop)`` is there and not given, ascending; often nothing."""
    refusing = _as_distrusting(source)
    if refusing is not None:
        yield from refusing.distrusted(start, stop)


def every_byte(source: ByteSource) -> ByteSource:
    """Return the same source as one that gives all that it has, for a scan or a rescue.

    Closing it closes nothing: it goes with the source.
    """
    refusing = _as_distrusting(source)
    return source if refusing is None else refusing.every_byte()


def _as_distrusting(source: ByteSource) -> _Distrusting | None:
    return cast("_Distrusting", source) if _is_distrusting(type(source)) else None


@functools.cache
def _is_distrusting(kind: type) -> bool:
    """Tell whether sources of a type refuse some of what they have.

    Asked once of each type: looking at all methods takes longer than an extent does else.
    """
    return issubclass(kind, _Distrusting)
