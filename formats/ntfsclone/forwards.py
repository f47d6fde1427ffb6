"""ntfsclone images that can only be read forwards: while they are decoded, or from a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from ..format import Passed
from ..reader import ImageStream
from ..sources.live_stream import LivePieces
from . import layout, reader
from .verify import Marks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..sources.forward import ForwardSource
    from ..sources.live_stream import LiveStream

_PIECE = 1 << 20


def look_in_passing(live: LiveStream, verify: bool) -> Passed:  # noqa: FBT001 - of `Format`
    """Scan an image while it is decoded, every byte of which must be seen. See `Format`."""
    marks = Marks()
    scan = reader.walk_through(
        live, lambda _source, start: LivePieces(live, start), None, marks.look
    )
    return Passed(scan, verify and not marks.found)


def stream(source: ForwardSource) -> ImageStream:
    """Read the header, and return the rest as a stream. See `Format`."""
    header = layout.parse_header(source.head(layout.HEADER_SIZE))
    source.forget(0)
    return ImageStream(
        reader.NAME,
        header.version,
        "NTFS",
        header.device_size,
        header.cluster_size,
        header,
        _clusters(source, header),
    )


def _clusters(source: ForwardSource, header: layout.Header) -> Iterator[tuple[int, bytes]]:
    offset, position = header.data_offset, 0
    pending: list[bytes] = []
    start = size = 0
    while position <= header.cluster_count:
        if position == header.cluster_count and not header.has_backup_boot:
            break
        command = source.read_at(offset, 1)[0]
        offset += 1
        if command == layout.GAP:
            rest = source.read_at(offset, layout.GAP_SIZE - 1)
            position += layout.parse_gap(bytes([command]) + rest, offset - 1)
            offset += len(rest)
            if not 0 <= position <= header.cluster_count:
                raise CorruptImageError("ntfsclone.gap", offset - 9, "leads out of the device")
        elif command == layout.DATA:
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
