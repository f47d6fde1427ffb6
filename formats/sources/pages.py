"""Pages: what is hashed, cached and compared as one, of plain streams and of stored bytes alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from ..errors import CorruptImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE_SIZE = 128 << 10
"""Bytes in a page. The last may be shorter."""

HASH_SIZE = 8
"""Bytes in a page's hash: XXH3 of 64 bits, little-endian."""

HASHES_IN_GROUP = 4096
"""Page hashes that are stored together: those of 512 MiB."""


def page_hash(data: bytes | memoryview) -> bytes:
    """Return the hash of a page as it is stored."""
    return xxhash.xxh3_64_intdigest(data).to_bytes(HASH_SIZE, "little")


def page_hash_of(pieces: Iterable[memoryview]) -> bytes:
    """Return the hash of a page that lies in several pieces."""
    hasher = xxhash.xxh3_64()
    for piece in pieces:
        hasher.update(piece)
    return hasher.intdigest().to_bytes(HASH_SIZE, "little")


def hash_groups(hashes: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield hashes as they are stored: number of the group, and a zstd frame of it."""
    # Imported where needed: who only asks the catalog has no use for it.
    import zstandard

    size = HASHES_IN_GROUP * HASH_SIZE
    compressor = zstandard.ZstdCompressor(level=1)
    for group, start in enumerate(range(0, len(hashes), size)):
        yield group, compressor.compress(hashes[start : start + size])


def unpack_hashes(stored: bytes) -> bytes:
    """Return a group of hashes from its stored form.

    Raises:
        CorruptImageError: it is damaged.
    """
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(
            stored, max_output_size=HASHES_IN_GROUP * HASH_SIZE
        )
    except zstandard.ZstdError as error:
        raise CorruptImageError(
            "index.hashes", 0, f"{error}: add the image again with --force"
        ) from error


def digest_of_pages(size: int, hashes: bytes) -> bytes:
    """Return 16 bytes that tell bytes from all others, from their number and their page hashes."""
    hasher = xxhash.xxh3_128(size.to_bytes(8, "little"))
    hasher.update(hashes)
    return hasher.digest()
