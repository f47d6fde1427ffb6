"""Fingerprints: telling one image from another without reading all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xxhash

    from .source import ByteSource

_SAMPLE_COUNT = 16
_SAMPLE_SIZE = 4096


def hash_samples(source: ByteSource, data_offset: int, hasher: xxhash.xxh3_128) -> None:
    """Hash the stored length and samples from `data_offset` on, the last bytes among them."""
    hasher.update(source.size.to_bytes(8, "little"))
    last = max(data_offset, source.size - _SAMPLE_SIZE)
    for number in range(_SAMPLE_COUNT):
        offset = data_offset + (last - data_offset) * number // (_SAMPLE_COUNT - 1)
        hasher.update(source.read_at(offset, max(0, min(_SAMPLE_SIZE, source.size - offset))))
