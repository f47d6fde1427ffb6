"""Raw: the partition's bytes as they are. There is nothing to find, and every byte is stored."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import xxhash

from ..index.rank import FullIndex
from ..reader import ImageInfo, Scan
from ..sources.fingerprint import hash_samples
from ..stored.blocks import StoredBlocks, StoredBlocksReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader
    from ..sources.byte_source import ByteSource

NAME = "raw"

TAKEN_AS = "taken_as"
"""The field of the header of what is raw because that was said, whatever it begins like."""

_BLOCK_SIZE = 512


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:  # noqa: ARG001
    """Return what is to say of a raw image: nothing is read but samples.

    Args:
        source: the partition's bytes.
        progress: as the other formats have it.

    Raises:
        OSError: the operating system could not read.
    """
    size = source.size
    total = -(-size // _BLOCK_SIZE)
    blocks = StoredBlocks(
        size=size,
        block_size=_BLOCK_SIZE,
        total_blocks=total,
        used_blocks=total,
        data_offset=0,
        group_size=0,
        checksum_size=0,
        partial_checksum=0,
    )
    return Scan(
        ImageInfo(
            format=NAME,
            format_version="",
            creator=None,
            fs_type="raw",
            size=size,
            block_size=_BLOCK_SIZE,
            total_blocks=total,
            used_blocks=total,
            used_bytes=size,
            checksum="none",
            header={},
            layout=blocks.to_json(),
            fingerprint=fingerprint(source),
        ),
        chunks=None,
    )


def scan_as_told(source: ByteSource) -> Scan:
    """Do as `scan`, for what was said to be raw: the header tells that it was.

    Raises:
        OSError: the operating system could not read.
    """
    found = scan(source)
    info = dataclasses.replace(found.info, header={TAKEN_AS: NAME})
    return dataclasses.replace(found, info=info)


def fingerprint(source: ByteSource) -> bytes:
    """Return the fingerprint that `scan` would give.

    Raises:
        OSError: the operating system could not read.
    """
    hasher = xxhash.xxh3_128()
    hash_samples(source, 0, hasher)
    return hasher.digest()


def open_reader(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,  # noqa: ARG001
) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the partition's bytes.
        fields: `ImageInfo.layout` of the scan.
        index: as the other formats have it; every block is stored.
    """
    blocks = StoredBlocks.from_json(fields)
    return StoredBlocksReader(source, blocks, FullIndex(blocks.total_blocks))
