"""An image as an object: ask what it is, read what it holds, verify it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Self

from .passes import verify
from .reader import read_bytes
from .stored.used_windows import used_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .extent import Extent
    from .files.image_files import StoredFiles
    from .finding import Finding
    from .index.stored import StoredIndex
    from .progress import Progress
    from .reader import ImageInfo, ImageReader

_PIECE = 1 << 20


class Image:
    """An open image: the bytes of the partition that it was made of. For any number of threads.

    Use `open_image`, or `imgcat.catalog.opening.open.open_by_name` for one in a catalog.

    Args:
        info: what the image is.
        reader: reads its guest bytes.
        check: returns what is wrong with it; takes what `verify` takes.
        on_close: called when it is closed, to close what belongs to it; twice is harmless.
        files: device and inode of each file that it is read from, of what it is a difference to
            too; none of an image directory.
    """

    def __init__(
        self,
        info: ImageInfo,
        reader: ImageReader,
        check: Callable[[Progress | None, int | None], list[Finding]],
        on_close: Callable[[], None] = lambda: None,
        files: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        self.info = info
        self.reader = reader
        self.files = files
        self._check = check
        self._on_close = on_close

    @property
    def size(self) -> int:
        """Number of guest bytes: the size of the partition."""
        return self.reader.size

    def read(self, offset: int, length: int) -> bytes:
        """Return guest bytes ``[offset, offset + length)``; unused areas are zeros.

        Raises:
            ValueError: the range is not inside ``[0, size)``.
            FormatError: the stored bytes cannot give them.
            OSError: the operating system could not read.
        """
        return read_bytes(self.reader, offset, length)

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill a writable buffer with the guest bytes from `offset` on. Raises as `read`."""
        self.reader.read_into(memoryview(buffer).cast("B"), offset)

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[Extent]:
        """Yield adjacent extents that cover guest bytes ``[start, stop)`` exactly."""
        return self.reader.extents(start, self.size if stop is None else stop)

    def used_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the maximal ranges ``[start, stop)`` of guest bytes that are stored, ascending."""
        return used_ranges(self.reader)

    def used_blocks(self, piece: int = _PIECE) -> Iterator[tuple[int, bytes]]:
        """Yield (guest offset, bytes) of everything that is stored, ascending.

        Args:
            piece: most bytes that are yielded at once; whole blocks of at least one.
        """
        size = self.info.block_size
        step = max(1, piece // size) * size
        for start, stop in self.used_ranges():
            for offset in range(start, stop, step):
                yield offset, self.read(offset, min(step, stop - offset))

    def open(self) -> io.BufferedReader:
        """Return the partition as a seekable binary file; closing it leaves the image open."""
        return io.BufferedReader(_GuestFile(self.reader), _PIECE)

    def verify(self, *, progress: Progress | None = None, jobs: int | None = None) -> list[Finding]:
        """Check every checksum that the image has, else its structure; return what is wrong.

        Args:
            progress: told the stored bytes that are done.
            jobs: threads; as many as there are processors if None.

        Raises:
            OSError: the operating system could not read.
        """
        return self._check(progress, jobs)

    def close(self) -> None:
        """Close the files. Closing twice is harmless."""
        self._on_close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the files."""
        self.close()


def image_of_files(
    info: ImageInfo,
    reader: ImageReader,
    index: StoredIndex,
    stored: StoredFiles,
    on_close: Callable[[], None] = lambda: None,
    below: frozenset[tuple[int, int]] = frozenset(),
) -> Image:
    """Return an image that has files of its own.

    Args:
        info: what it is.
        reader: reads its guest bytes.
        index: its index.
        stored: its files, which are closed with it.
        on_close: called when it is closed, to close what else belongs to it.
        below: device and inode of the files of what it is a difference to.
    """

    def check(progress: Progress | None, jobs: int | None) -> list[Finding]:
        found = verify.verify(
            info.format, stored.source, info.layout, index, progress=progress, jobs=jobs
        )
        return list(found)

    def close() -> None:
        stored.close()
        on_close()

    return Image(info, reader, check, close, stored.identities | below)


class _GuestFile(io.RawIOBase):
    """A cursor over guest bytes."""

    def __init__(self, reader: ImageReader) -> None:
        super().__init__()
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}
        position = base[whence] + offset
        if position < 0:
            message = f"negative position {position}"
            raise ValueError(message)
        self._position = position
        return position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._reader.size - self._position))
        self._reader.read_into(view[:length], min(self._position, self._reader.size))
        self._position += length
        return length
