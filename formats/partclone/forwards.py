"""partclone images that can only be read forwards: while they are decoded, or from a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..format import Passed
from ..index.cache import IndexCache
from ..index.rank import FullIndex, RankIndex
from ..reader import ImageStream
from ..sources.fingerprint import hash_samples
from ..sources.forward import ForwardSource
from ..sources.live_stream import LiveFile
from ..stored.blocks import StoredBlocksReader
from ..stored.used_windows import stored_pieces
from . import layout, reader
from .verify import are_right

if TYPE_CHECKING:
    from ..sources.live_stream import LiveStream


def look_in_passing(live: LiveStream, verify: bool) -> Passed:  # noqa: FBT001 - of `Format`
    """Scan an image while it is decoded, of which header and bitmap come first. See `Format`.

    One of format 0001 is not scanned in passing: its size may be needed to understand it.
    """
    source = ForwardSource(LiveFile(live))
    head = reader.read_head(source)
    is_right = verify and are_right(source, head.blocks)
    size = live.drain()
    if head.header.version == "0001":
        return Passed(None, is_right)
    hash_samples(live, head.blocks.data_offset, head.hasher)
    return Passed(reader.scan_of(head, size), is_right)


def stream(source: ForwardSource) -> ImageStream:
    """Read header and bitmap, and return the blocks as a stream. See `Format`."""
    header = layout.parse_header(source.head(layout.V1_SIZE))
    blocks, chunks = reader.read_index(source, header)
    source.forget(blocks.data_offset)
    index = FullIndex(blocks.total_blocks) if chunks is None else RankIndex(
        blocks.total_blocks, chunks.__getitem__, IndexCache(), 0
    )  # fmt: skip
    return ImageStream(
        reader.NAME, header.version, header.fs_type, blocks.size, blocks.block_size, header,
        stored_pieces(StoredBlocksReader(source, blocks, index)),
    )  # fmt: skip
