"""Fingerprints: telling one image from another without reading all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import xxhash

    from .byte_source import ByteSource


@runtime_checkable
class _Digested(Protocol):
    def stored_digest(self) -> bytes | None: ...


_SAMPLE_COUNT = 16
_SAMPLE_SIZE = 4096


def hash_samples(source: ByteSource, data_offset: int, hasher: xxhash.xxh3_128) -> None:
    """Hash the stored length and samples from `data_offset` on, the last bytes among them.

    Of a compressed stream the samples are of the compressed bytes: each plain one would cost
    decoding a span.
    """
    digest = digest_of(source)
    if digest is not None:
        hasher.update(digest)
        return
    hasher.update(source.size.to_bytes(8, "little"))
    last = max(data_offset, source.size - _SAMPLE_SIZE)
    for number in range(_SAMPLE_COUNT):
        offset = data_offset + (last - data_offset) * number // (_SAMPLE_COUNT - 1)
        hasher.update(source.read_at(offset, max(0, min(_SAMPLE_SIZE, source.size - offset))))


def digest_of(source: ByteSource) -> bytes | None:
    """Return what a compressed source says of itself, None of one that is plain."""
    return source.stored_digest() if isinstance(source, _Digested) else None
