"""The files of an image, and the one stream of bytes that they make.

Most images are one file. Some are split into chunks, which are one stream when joined; some are
several volumes, each with a header of its own that does not belong to the stream. And each stream
may be compressed: what an image's format sees are the plain bytes.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Self

from .chunks import ChunkSource
from .errors import TruncatedImageError
from .fingerprint import digest_of
from .source import FileSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .containers.points import StreamIndex
    from .source import ByteSource

_FEW = 4
"""Files of an image that stay open; of an image in more, only what is read."""


class StoredFiles:
    """The open files of an image.

    Args:
        paths: the files, in order.
        volume_header_size: bytes at the beginning of each stream that are not the image's.
        stream_volumes: how many files make each stream; if None, all of them make one, or
            each volume with a header its own.
        codec: the codec of the streams, None where they are plain.

    Attributes:
        files: the files.
        streams: the streams as they are stored.
        stream_volumes: how many files make each stream.
        source: the image's bytes; of compressed streams only after `use_plain`.
        volume_header_size: as given.
        codec: as given.
        indexes: what a scan found of compressed streams, for whoever keeps it.

    Raises:
        OSError: one cannot be opened; the others are closed.
    """

    def __init__(
        self,
        paths: Sequence[str],
        volume_header_size: int = 0,
        *,
        stream_volumes: Sequence[int] | None = None,
        codec: str | None = None,
    ) -> None:
        self.volume_header_size = volume_header_size
        counts = stream_volumes
        if counts is None:
            # Each volume with a header is a stream of its own, chunks together make one.
            counts = [1] * len(paths) if volume_header_size else [len(paths)]
        self.stream_volumes = tuple(counts)
        self.codec = codec
        self.indexes: tuple[StreamIndex, ...] = ()
        opened: list[FileSource | ChunkSource] = []
        kind = FileSource if len(paths) <= _FEW else ChunkSource
        try:
            for path in paths:
                opened.append(kind(path))  # noqa: PERF401 - what is open is closed below
        except BaseException:
            for file in opened:
                file.close()
            raise
        self.files = tuple(opened)
        stops = tuple(itertools.accumulate(self.stream_volumes))
        self.streams = tuple(
            _joined(opened[stop - count : stop])
            for stop, count in zip(stops, self.stream_volumes, strict=True)
        )
        self._plain: tuple[ByteSource, ...] = ()
        self.source = _joined(self.streams, volume_header_size)

    def use_plain(self, plain: Sequence[ByteSource]) -> None:
        """Let `source` be made of these, which decode the streams; of none, let it be as it is."""
        if not plain:
            return
        self._plain = tuple(plain)
        self.source = _joined(self._plain, self.volume_header_size)

    def whole_stream(self) -> ByteSource:
        """Return the plain stream as one file would hold it: with the first volume's header."""
        streams = self._plain or self.streams
        if not self.volume_header_size or len(streams) == 1:
            return _joined(streams)
        return JoinedSource([streams[0], JoinedSource(streams[1:], self.volume_header_size)])

    def close(self) -> None:
        """Close every file. Closing twice is harmless."""
        for source in (*self._plain, *self.files):
            source.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close every file."""
        self.close()


def _joined(parts: Sequence[ByteSource], skip: int = 0) -> ByteSource:
    return parts[0] if len(parts) == 1 and not skip else JoinedSource(parts, skip)


class JoinedSource:
    """Several sources one after the other, each without its first bytes. See `ByteSource`.

    Args:
        parts: the sources, in order.
        skip: bytes at the beginning of each that are left out.
    """

    def __init__(self, parts: Sequence[ByteSource], skip: int = 0) -> None:
        self._parts = tuple(parts)
        self._skip = skip
        self._stops = list(itertools.accumulate(max(0, part.size - skip) for part in parts))

    @property
    def size(self) -> int:
        """Number of bytes in the stream."""
        return self._stops[-1]

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`."""
        for part, pieces, at in self._split(buffers, offset):
            part.readv(pieces, at)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if that needs no waiting; see `ByteSource.readv_nowait`."""
        return all(
            part.readv_nowait(pieces, at) for part, pieces, at in self._split(buffers, offset)
        )

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        if offset + length > self.size:
            raise self._ends(offset + length - self.size)
        data = bytearray(length)
        self.readv((memoryview(data),), offset)
        return bytes(data)

    def stored_digest(self) -> bytes | None:
        """Return what tells the parts from others, where they say that of themselves."""
        digests = [digest_of(part) for part in self._parts]
        known = [digest for digest in digests if digest is not None]
        return b"".join(known) if len(known) == len(digests) else None

    def close(self) -> None:
        """Close every part."""
        for part in self._parts:
            part.close()

    def _split(
        self, buffers: Sequence[memoryview], offset: int
    ) -> list[tuple[ByteSource, Sequence[memoryview], int]]:
        """Return which part fills which buffers, from which of its bytes on."""
        number = bisect.bisect_right(self._stops, offset)
        length = sum(map(len, buffers))
        if offset + length > self.size:
            raise self._ends(offset + length - self.size)
        if not length:
            return []
        start = self._stops[number - 1] if number else 0
        if offset + length <= self._stops[number]:
            return [(self._parts[number], buffers, offset - start + self._skip)]
        found: list[tuple[ByteSource, Sequence[memoryview], int]] = []
        pending = list(buffers)
        while pending:
            at = offset - start + self._skip
            taken, pending = _cut(pending, self._stops[number] - offset)
            if taken:
                found.append((self._parts[number], taken, at))
            start = offset = self._stops[number]
            number += 1
        return found

    def _ends(self, missing: int) -> TruncatedImageError:
        return TruncatedImageError(
            "source", self.size, f"the last volume ends here, {missing} bytes short"
        )


def _cut(buffers: list[memoryview], length: int) -> tuple[list[memoryview], list[memoryview]]:
    """Return the first `length` bytes of the buffers, and the rest."""
    taken: list[memoryview] = []
    for position, buffer in enumerate(buffers):
        if length < len(buffer):
            if length:
                taken.append(buffer[:length])
            return taken, [buffer[length:], *buffers[position + 1 :]]
        taken.append(buffer)
        length -= len(buffer)
    return taken, []
