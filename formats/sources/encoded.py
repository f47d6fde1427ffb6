"""Which stored bytes a plain byte comes out of, of sources that decode a compressed stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .byte_source import ByteSource


class Encoded(NamedTuple):
    """A piece of a compressed stream, from one place where decoding can begin up to the next.

    Attributes:
        codec: the codec's name.
        offset: the plain byte that was asked for, in the plain stream.
        start: the first plain byte that comes out.
        stop: the plain byte behind the last.
        stored: the compressed stream.
        stored_start: the first byte of that which goes in.
        stored_stop: the byte behind the last; where pieces end within a byte, both have it.
    """

    codec: str
    offset: int
    start: int
    stop: int
    stored: ByteSource
    stored_start: int
    stored_stop: int


@runtime_checkable
class _Decoding(Protocol):
    def encoded(self, offset: int) -> Encoded | None: ...


def encoded(source: ByteSource, offset: int) -> Encoded | None:
    """Return the piece that the byte at `offset` comes out of; None where it is stored as it is."""
    return source.encoded(offset) if isinstance(source, _Decoding) else None
