"""Streaming: the header and the blocks of an image that comes through a pipe, in one pass.

Nothing is sought, and no more than a bitmap is kept. The blocks come in the order in which they
are stored: ascending, but for ntfsclone images of metadata.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..errors import CorruptImageError, NotThisFormatError
from ..extent import ExtentKind
from ..index.cache import IndexCache
from ..index.rank import FullIndex, RankIndex
from ..ntfsclone import layout as ntfsclone
from ..partclone import layout as partclone
from ..partclone import reader as partclone_reader
from ..partimage import layout as partimage
from ..partimage import reader as partimage_reader
from ..reader import read_bytes
from ..sources.forward import ForwardSource
from ..sources.joined import JoinedSource
from ..stored.blocks import StoredBlocksReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..reader import ImageReader
    from ..sources.forward import Readable

_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class ImageStream:
    """An image that is being read. Iterate over it once.

    Attributes:
        format: the format's name.
        format_version: its version.
        fs_type: the file system.
        size: guest bytes.
        block_size: bytes in a block or cluster.
        header: the parsed header, as the format's `layout` has it; of partimage, its headers.
    """

    format: str
    format_version: str
    fs_type: str
    size: int
    block_size: int
    header: partclone.Header | ntfsclone.Header | partimage_reader.Headers
    _blocks: Iterator[tuple[int, bytes]]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (guest offset, bytes) of what is stored, up to 1 MiB at once.

        Raises:
            FormatError: the stream ends too early, or a structure cannot be.
            OSError: it cannot be read.
        """
        return self._blocks


def stream_image(file: Readable) -> ImageStream:
    """Read the header of an image from a file that cannot seek, and return the rest as a stream.

    Args:
        file: at the image's first byte; of partimage, an image in one volume.

    Raises:
        NotThisFormatError: the stream begins like no format that can be streamed.
        FormatError: header or bitmap cannot be read.
        OSError: it cannot be read.
    """
    source = ForwardSource(file)
    head = source.head(partclone.V1_SIZE)
    if head.startswith(partclone.MAGIC):
        return _stream_partclone(source, head)
    if head.startswith(ntfsclone.MAGIC):
        return _stream_ntfsclone(source, head)
    if head.startswith(partimage.MAGIC):
        return _stream_partimage(source, head)
    raise NotThisFormatError(
        "stream", 0, f"no image that can be streamed (it begins with {head[:16].hex(' ')})"
    )


def _stream_partclone(source: ForwardSource, head: bytes) -> ImageStream:
    header = partclone.parse_header(head)
    blocks, chunks = partclone_reader.read_index(source, header)
    source.forget(blocks.data_offset)
    index = FullIndex(blocks.total_blocks) if chunks is None else RankIndex(
        blocks.total_blocks, chunks.__getitem__, IndexCache(), 0
    )  # fmt: skip
    reader = StoredBlocksReader(source, blocks, index)
    return ImageStream(
        partclone_reader.NAME, header.version, header.fs_type, blocks.size, blocks.block_size,
        header, _pieces(reader),
    )  # fmt: skip


def _stream_partimage(source: ForwardSource, head: bytes) -> ImageStream:
    volume = partimage.parse_volume_header(head[: partimage.VOLUME_HEADER_SIZE])
    if volume.number:
        raise CorruptImageError("partimage.volume", 96, f"volume {volume.number}, not the first")
    stream = JoinedSource([source], partimage.VOLUME_HEADER_SIZE)
    headers = partimage_reader.read_headers(stream)
    blocks, chunks = partimage_reader.read_index(stream, headers)
    source.forget(blocks.data_offset + partimage.VOLUME_HEADER_SIZE)
    index = RankIndex(blocks.total_blocks, chunks.__getitem__, IndexCache(), 0)
    return ImageStream(
        partimage_reader.NAME, volume.version, headers.main.fs_type, blocks.size,
        blocks.block_size, headers, _pieces(StoredBlocksReader(stream, blocks, index)),
    )  # fmt: skip


def _pieces(reader: ImageReader) -> Iterator[tuple[int, bytes]]:
    for extent in reader.extents(0, reader.size):
        if extent.kind is ExtentKind.DATA:
            for offset in range(extent.start, extent.stop, _PIECE):
                yield offset, read_bytes(reader, offset, min(_PIECE, extent.stop - offset))


def _stream_ntfsclone(source: ForwardSource, head: bytes) -> ImageStream:
    header = ntfsclone.parse_header(head[: ntfsclone.HEADER_SIZE])
    source.forget(0)
    return ImageStream(
        "ntfsclone", header.version, "NTFS", header.device_size, header.cluster_size, header,
        _clusters(source, header),
    )  # fmt: skip


def _clusters(source: ForwardSource, header: ntfsclone.Header) -> Iterator[tuple[int, bytes]]:
    offset, position = header.data_offset, 0
    pending: list[bytes] = []
    start = size = 0
    while position <= header.cluster_count:
        if position == header.cluster_count and not header.has_backup_boot:
            break
        command = source.read_at(offset, 1)[0]
        offset += 1
        if command == ntfsclone.GAP:
            rest = source.read_at(offset, ntfsclone.GAP_SIZE - 1)
            position += ntfsclone.parse_gap(bytes([command]) + rest, offset - 1)
            offset += len(rest)
            if not 0 <= position <= header.cluster_count:
                raise CorruptImageError("ntfsclone.gap", offset - 9, "leads out of the device")
        elif command == ntfsclone.DATA:
            if pending and (size >= _PIECE or start + size != position * header.cluster_size):
                yield start, b"".join(pending)
                pending, size = [], 0
            if not pending:
                start = position * header.cluster_size
            data = source.read_at(offset, header.record_size(position))
            pending.append(data)
            size += len(data)
            offset += len(data)
            position += 1
        else:
            raise CorruptImageError("ntfsclone.command", offset - 1, f"0x{command:02x} is none")
    if size:
        yield start, b"".join(pending)
