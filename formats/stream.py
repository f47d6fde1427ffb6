"""Streaming: the header and the blocks of an image that comes through a pipe, in one pass.

Nothing is sought, and no more than a bitmap is kept. The blocks come in the order in which they
are stored: ascending, but for ntfsclone images of metadata.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from .blocks import StoredBlocksReader
from .errors import CorruptImageError, NotThisFormatError, TruncatedImageError
from .extent import ExtentKind
from .index.cache import IndexCache
from .index.rank import FullIndex, RankIndex
from .ntfsclone import layout as ntfsclone
from .partclone import layout as partclone
from .partclone import reader as partclone_reader
from .partimage import layout as partimage
from .partimage import reader as partimage_reader
from .reader import read_bytes
from .stored import JoinedSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .reader import ImageReader

_PIECE = 1 << 20
_ENDLESS = 1 << 62
"""What stands for the size of a stream, which nobody knows."""


class Readable(Protocol):
    """What can be read to its end, as `sys.stdin.buffer` or the output of a process."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes, none at the end."""


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


class ForwardSource:
    """A stream as a byte source that can only be read forwards. See `ByteSource`.

    Until `forget` is called, everything that was read is kept and can be read again.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._kept = bytearray()
        self._keeps = True
        self._position = 0

    @property
    def size(self) -> int:
        """More than any stream has: the size is not known."""
        return _ENDLESS

    def head(self, length: int) -> bytes:
        """Return the first `length` bytes, fewer where the stream is shorter."""
        self._keep(length)
        return bytes(self._kept[:length])

    def forget(self, offset: int) -> None:
        """Keep nothing from `offset` on that is not read yet, and nothing before it."""
        self._keeps = False
        del self._kept[: max(0, offset - (self._position - len(self._kept)))]

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``, which was not read before, or is kept."""
        if self._keeps:
            self._keep(offset + length)
            if len(self._kept) < offset + length:
                raise self._ends(offset + length - len(self._kept))
            return bytes(self._kept[offset : offset + length])
        self._skip_to(offset)
        return self._take(length)

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`."""
        for buffer in buffers:
            buffer[:] = self.read_at(offset, len(buffer))
            offset += len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:  # noqa: ARG002
        """Return False: nobody knows whether a stream has to be waited for."""
        return False

    def close(self) -> None:
        """Leave the stream as it is: it belongs to the caller."""

    def _keep(self, length: int) -> None:
        while len(self._kept) < length:
            data = self._file.read(min(length - len(self._kept), _PIECE))
            if not data:
                return
            self._kept += data
            self._position += len(data)

    def _skip_to(self, offset: int) -> None:
        here = self._position - len(self._kept)
        if offset < here:
            message = f"offset {offset} of the stream has gone by: it is at {here}"
            raise ValueError(message)
        while here < offset:
            here += len(self._take(min(_PIECE, offset - here)))

    def _take(self, length: int) -> bytes:
        data = bytes(self._kept[:length])
        del self._kept[:length]
        parts = [data]
        missing = length - len(data)
        while missing:
            # In pieces: the length may be a number in a damaged file.
            data = self._file.read(min(missing, _PIECE)) or b""
            if not data:
                raise self._ends(missing)
            self._position += len(data)
            missing -= len(data)
            parts.append(data)
        return b"".join(parts)

    def _ends(self, missing: int) -> TruncatedImageError:
        return TruncatedImageError(
            "stream", self._position, f"the stream ends here, {missing} bytes short"
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
