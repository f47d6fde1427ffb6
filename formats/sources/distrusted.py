"""What a source has and does not give: bytes of a damaged stream that no checksum vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

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
    if isinstance(source, _Distrusting):
        yield from source.distrusted(start, stop)


def every_byte(source: ByteSource) -> ByteSource:
    """Return the same source as one that gives all that it has, for a scan or a rescue.

    Closing it closes nothing: it goes with the source.
    """
    return source.every_byte() if isinstance(source, _Distrusting) else source
