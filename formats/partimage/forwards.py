"""partimage images that can only be read forwards: while they are decoded, or from a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from ..format import Passed
from ..index.cache import IndexCache
from ..index.rank import RankIndex
from ..reader import ImageStream
from ..sources.fingerprint import hash_samples
from ..sources.forward import ForwardSource
from ..sources.joined import JoinedSource
from ..sources.live_stream import LiveFile
from ..stored.blocks import StoredBlocksReader
from ..stored.used_windows import stored_pieces
from . import layout, reader
from .verify import Summed, are_right

if TYPE_CHECKING:
    from ..sources.live_stream import LiveStream


def look_in_passing(live: LiveStream, verify: bool) -> Passed:  # noqa: FBT001 - of `Format`
    """Scan an image while it is decoded, of which headers and bitmap come first. See `Format`."""
    summed = Summed(LiveFile(live))
    forward = ForwardSource(summed)
    layout.parse_volume_header(forward.head(layout.VOLUME_HEADER_SIZE))
    before = summed.sum
    source = JoinedSource([forward], layout.VOLUME_HEADER_SIZE)
    head = reader.read_head(source)
    forward.forget(head.blocks.data_offset + layout.VOLUME_HEADER_SIZE)
    is_right = verify and are_right(source, head.blocks, lambda: summed.sum - before)
    size = live.drain() - layout.VOLUME_HEADER_SIZE
    hash_samples(live, head.blocks.data_offset, head.hasher)
    return Passed(reader.scan_of(head, size), is_right)


def stream(source: ForwardSource) -> ImageStream:
    """Read headers and bitmap, and return the blocks as a stream. See `Format`."""
    volume = layout.parse_volume_header(source.head(layout.VOLUME_HEADER_SIZE))
    if volume.number:
        raise CorruptImageError("partimage.volume", 96, f"volume {volume.number}, not the first")
    plain = JoinedSource([source], layout.VOLUME_HEADER_SIZE)
    headers = reader.read_headers(plain)
    blocks, chunks = reader.read_index(plain, headers)
    source.forget(blocks.data_offset + layout.VOLUME_HEADER_SIZE)
    index = RankIndex(blocks.total_blocks, chunks.__getitem__, IndexCache(), 0)
    return ImageStream(
        reader.NAME, volume.version, headers.main.fs_type, blocks.size, blocks.block_size, headers,
        stored_pieces(StoredBlocksReader(plain, blocks, index)),
    )  # fmt: skip
