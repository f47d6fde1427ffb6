"""From compressed streams to plain sources: scanning them once, and opening them afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..codecs import registry as codecs
from ..codecs.decoded_source import DecodedSource
from ..codecs.decoders import Decoding
from ..codecs.scan import scan_stream
from ..codecs.seek_tables import MemoryTable

if TYPE_CHECKING:
    from ..codecs.scan import Taker
    from ..files.image_files import StoredFiles
    from ..progress import Progress


def scan_plain(
    stored: StoredFiles,
    *,
    taker: Taker | None = None,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Scan the compressed streams of an image, and let its `source` be the plain bytes.

    Args:
        stored: the files.
        taker: is shown the plain bytes of every stream, in order, with the header of the first
            volume only.
        spacing: plain bytes between two seek points at the least.
        progress: told the stored bytes that are done.

    Raises:
        FormatError: not even the beginning of a stream can be decoded.
        OSError: the operating system could not read.
    """
    assert stored.codec is not None
    codec = codecs.named(stored.codec)
    indexes = []
    before = 0
    for number, stream in enumerate(stored.streams):
        tell = None if progress is None else _shifted(progress, before)
        shown = taker
        if taker is not None and number:
            shown = _WithoutHead(taker, stored.volume_header_size)
        indexes.append(scan_stream(stream, codec, spacing=spacing, progress=tell, taker=shown))
        before += stream.size
    stored.indexes = tuple(indexes)
    decoding = Decoding()
    stored.use_plain(
        [
            DecodedSource(stream, codec, MemoryTable(index), key, decoding)
            for key, (stream, index) in enumerate(zip(stored.streams, indexes, strict=True))
        ]
    )


class _WithoutHead:
    """Shows a stream to a taker without its first bytes."""

    def __init__(self, taker: Taker, size: int) -> None:
        self._taker = taker
        self._left = size

    def take(self, piece: bytes) -> None:
        skipped = min(self._left, len(piece))
        self._left -= skipped
        self._taker.take(piece[skipped:])


def _shifted(progress: Progress, before: int) -> Progress:
    return lambda done: progress(before + done)
