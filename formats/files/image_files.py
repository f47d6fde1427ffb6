"""The files of an image, and the one stream of bytes that they make.

Most images are one file. Some are split into chunks, which are one stream when joined; some are
several volumes, each with a header of its own that does not belong to the stream. And each stream
may be compressed: what an image's format sees are the plain bytes.
"""

from __future__ import annotations

import itertools
import stat
from typing import TYPE_CHECKING, Self

from ..sources.device import DeviceSource
from ..sources.file import FileSource, has_changed
from ..sources.file_pool import ChunkSource
from ..sources.joined import JoinedSource, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..codecs.seek_points import StreamIndex
    from ..sources.byte_source import ByteSource

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
        data_streams: numbers of streams that are not the image, but have its data.

    Attributes:
        files: the files.
        streams: the streams as they are stored.
        stream_volumes: how many files make each stream.
        source: the image's bytes; of compressed streams only after `use_plain`.
        volume_header_size: as given.
        codec: as given.
        data_streams: as given.
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
        data_streams: Sequence[int] = (),
    ) -> None:
        self.data_streams = tuple(data_streams)
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
                opened.append(_open(path, kind))  # noqa: PERF401 - what is open is closed below
        except BaseException:
            for file in opened:
                file.close()
            raise
        self.files = tuple(opened)
        stops = tuple(itertools.accumulate(self.stream_volumes))
        self.streams = tuple(
            joined(opened[stop - count : stop])
            for stop, count in zip(stops, self.stream_volumes, strict=True)
        )
        self._plain: tuple[ByteSource, ...] = ()
        self.source = joined(self.streams, volume_header_size)

    @property
    def identities(self) -> frozenset[tuple[int, int]]:
        """Device and inode of each file, as they were when it was opened."""
        return frozenset((file.stat.st_dev, file.stat.st_ino) for file in self.files)

    def use_plain(self, plain: Sequence[ByteSource]) -> None:
        """Let `source` be made of these, which decode the streams; of none, let it be as it is."""
        if not plain:
            return
        self._plain = tuple(plain)
        self.source = joined(self._plain, self.volume_header_size)

    def whole_stream(self) -> ByteSource:
        """Return the plain stream as one file would hold it: with the first volume's header."""
        streams = self._plain or self.streams
        if not self.volume_header_size or len(streams) == 1:
            return joined(streams)
        return JoinedSource([streams[0], JoinedSource(streams[1:], self.volume_header_size)])

    def changed_file(self) -> str | None:
        """Return the first file whose time or size is another than when it was opened, or None.

        Raises:
            OSError: one cannot be looked at.
        """
        return next((file.path for file in self.files if has_changed(file)), None)

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


def _open(path: str, kind: type[FileSource | ChunkSource]) -> FileSource | ChunkSource:
    """Open a file; a block device in a way of its own."""
    file = kind(path)
    if not stat.S_ISBLK(file.stat.st_mode):
        return file
    file.close()
    return DeviceSource(path)
