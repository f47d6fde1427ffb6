"""A compressed stream as a byte source: decoded from the nearest seek point, page by page."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from ..errors import CorruptImageError, FormatError, TruncatedImageError
from ..sources.distrusted import Distrusted
from ..sources.encoded import Encoded
from ..sources.fingerprint import hash_samples
from ..sources.pages import HASH_SIZE, HASHES_IN_GROUP, PAGE_SIZE, page_hash
from ..sources.place import Place
from .decoders import LiveDecoder
from .failures import Failures
from .fair_lock import TurnLock
from .look_ahead import LOCKED_TOGETHER, LookAhead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..sources.byte_source import ByteSource
    from .decoders import Decoding
    from .registry import Codec
    from .seek_tables import SeekTable

_LOCKS = 16
"""Places of one stream that are decoded at the same time, at the most."""

_RECENT_SPANS = 8

_BY_BITS = frozenset({"gzip", "bzip2"})


class Page(NamedTuple):
    """Plain bytes whose hash was checked, or a group of hashes."""

    data: bytes

    @property
    def weight(self) -> int:
        """Bytes that it takes."""
        return len(self.data)


class DecodedSource:
    """The plain bytes of a compressed stream. See `ByteSource`.

    Every page is compared with the hash that was taken when the stream was scanned, so that bytes
    are the ones that came out then, or none. And of a damaged stream, those are refused that came
    out after the last of its checksums that was right: nothing says that they are the right ones.

    Args:
        stored: the compressed stream.
        codec: its codec.
        table: its seek points and page hashes.
        key: what its pages are kept under; the same for whoever opens the same stream.
        decoding: what decoded sources share.
    """

    def __init__(
        self, stored: ByteSource, codec: Codec, table: SeekTable, key: int, decoding: Decoding
    ) -> None:
        self._stored = stored
        self._codec = codec
        self._table = table
        self._key = key
        self._decoding = decoding
        self._size = table.plain_size
        self._trusted_size = table.trusted_size
        self._locks = tuple(TurnLock() for _ in range(_LOCKS))
        self._failures = Failures()
        self._recent: tuple[tuple[int, int], ...] = ()
        self._is_closed = False
        self._ahead = LookAhead(key, self._size, self._span_at, self._page, decoding)

    @property
    def size(self) -> int:
        """Number of plain bytes."""
        return self._size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`.

        Raises:
            CorruptImageError: nothing vouches for the bytes, or they are not what they were.
        """
        stop = offset + sum(map(len, buffers))
        self._check_trusted(offset, stop)
        self.readv_distrusted(buffers, offset)

    def readv_distrusted(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Do as `readv`, also with bytes that nothing vouches for."""
        length = sum(map(len, buffers))
        self._check_range(offset, length)
        stop = offset + length
        filler = _Filler(buffers)
        position = offset
        while position < stop:
            page = self._page(position // PAGE_SIZE, stop)
            within = position % PAGE_SIZE
            piece = memoryview(page)[within : within + stop - position]
            filler.put(piece)
            position += len(piece)
        self._ahead.note(offset, stop)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if every page is decoded already; see `ByteSource.readv_nowait`.

        Touches nothing but memory: neither the catalog nor a lock that is held while one waits.
        """
        length = sum(map(len, buffers))
        stop = offset + length
        if stop > self._trusted_size:
            return False
        pages = []
        for number in range(offset // PAGE_SIZE, -(-stop // PAGE_SIZE)):
            page = self._decoding.pages.get((self._key, number))
            if page is None:
                return False
            pages.append(page.data)
        filler = _Filler(buffers)
        within = offset % PAGE_SIZE
        for page in pages:
            piece = memoryview(page)[within : within + length]
            filler.put(piece)
            length -= len(piece)
            within = 0
        self._ahead.note(offset, stop)
        return True

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        self._check_range(offset, length)
        self._check_trusted(offset, offset + length)
        data = bytearray(length)
        self.readv((memoryview(data),), offset)
        return bytes(data)

    def stored_digest(self) -> bytes:
        """Return what tells this stream from others, from a few reads of the compressed one."""
        return digest_of_stored(self._stored)

    def place(self, offset: int) -> Place:  # noqa: ARG002
        """Return the file that the stream begins in: a plain byte has no place of its own."""
        return Place(self._stored.place(0).path, None, is_compressed=True)

    def encoded(self, offset: int) -> Encoded:
        """Return the piece of the compressed stream that a plain byte comes out of."""
        span = self._table.span_at(offset)
        stored_stop = self._stored.size
        if span.stop < self._size:
            following = self._table.span_at(span.stop).point
            # The state of a codec that goes by bits says where in its first byte a piece begins.
            is_within = self._codec.NAME in _BY_BITS and following.state & 7 > 0
            stored_stop = min(stored_stop, following.stored_offset + is_within)
        return Encoded(
            self._codec.NAME, offset, span.point.plain_offset, span.stop, self._stored,
            span.point.stored_offset, stored_stop,
        )  # fmt: skip

    def distrusted(self, start: int, stop: int) -> Iterator[Distrusted]:
        """Yield what of plain bytes ``[start, stop)`` is refused, since nothing vouches for it."""
        start, stop = max(start, self._trusted_size), min(stop, self._size)
        if start < stop:
            yield Distrusted(start, stop, self._why_distrusted())

    def every_byte(self) -> ByteSource:
        """Return the same stream as a source that refuses nothing."""
        return _EveryByte(self) if self._trusted_size < self._size else self

    def close(self) -> None:
        """Close the compressed stream, and let go of decoders that wait."""
        self._is_closed = True
        self._ahead.close()
        for lock in self._locks:
            # Whoever decodes ahead ends before the stored bytes are gone.
            with lock:
                pass
        self._decoding.forget(self)
        self._stored.close()

    def _check_trusted(self, start: int, stop: int) -> None:
        if stop > self._trusted_size and stop <= self._size and start < stop:
            raise CorruptImageError(
                f"{self._codec.NAME}.stream",
                max(start, self._trusted_size),
                f"{self._why_distrusted()}: take the image from another copy; "
                "`imgcat export --rescue` gives these bytes as they are",
            )

    def _why_distrusted(self) -> str:
        return (
            f"distrusted: no checksum of the damaged {self._codec.NAME} stream vouches for its "
            f"plain bytes from {self._trusted_size} on"
        )

    def _check_range(self, offset: int, length: int) -> None:
        missing = offset + length - self._size
        if missing > 0:
            raise TruncatedImageError(
                "source", self._size, f"the plain stream ends here, {missing} bytes short"
            )

    def _page(self, number: int, stop: int) -> bytes:
        """Return a page, and decode with it those after it, up to plain byte `stop`."""
        page = self._decoding.pages.get((self._key, number))
        if page is None:
            start, end = self._span_at(number * PAGE_SIZE)
            # Who else wants something of this span waits, and finds it decoded.
            with self._locks[start // LOCKED_TOGETHER % len(self._locks)]:
                page = self._page_alone(number, stop, start, end)
        data: bytes = page.data
        return data

    def _page_alone(self, number: int, stop: int, start: int, end: int) -> Page:
        """Return a page of the span ``[start, end)``, whose lock is held; see `_page`."""
        if self._is_closed:
            raise OSError(errno.EBADF, "the image was closed while it was read")
        page: Page | None = self._decoding.pages.get((self._key, number))
        if page is None:
            self._failures.raise_again(number)
            waiting = self._decoding.take(self, start, number * PAGE_SIZE)
            decoder = waiting or self._new_decoder(start)
            with self._decoding.turn(decoder.weight):
                if waiting is not None:
                    # It may have come through damage that a new one does not meet.
                    with contextlib.suppress(FormatError):
                        page = self._decode_pages(waiting, number, min(stop, end))
                    if page is None:
                        decoder = self._new_decoder(start)
                if page is None:
                    page = self._decode(decoder, number, min(stop, end), end)
            if decoder.position < self._size:
                self._decoding.put_back(decoder)
        return page

    def _span_at(self, plain_offset: int) -> tuple[int, int]:
        """Return the span ``[start, stop)`` that a plain offset lies in."""
        for start, stop in self._recent:
            if start <= plain_offset < stop:
                return start, stop
        span = self._table.span_at(plain_offset)
        found = span.point.plain_offset, span.stop
        self._recent = (found, *self._recent[: _RECENT_SPANS - 1])
        return found

    def _new_decoder(self, plain_offset: int) -> LiveDecoder:
        point = self._table.span_at(plain_offset).point
        pieces = self._codec.decode(self._stored, point)
        return LiveDecoder(self, point, pieces, self._codec.weight(self._stored, point))

    def _decode(self, decoder: LiveDecoder, number: int, stop: int, end: int) -> Page:
        """Decode up to the page `number`, and the pages after it that begin before `stop`.

        What cannot be had is remembered: where a decoder fails, all up to the span's `end`.

        Raises:
            CorruptImageError: the page is not what it was.
            FormatError: the stream is damaged.
        """
        try:
            page = self._decode_pages(decoder, number, stop)
        except FormatError as error:
            self._failures.note(number, max(number + 1, end // PAGE_SIZE), error)
            raise
        if page is not None:
            return page
        wrong = CorruptImageError(
            "container",
            number * PAGE_SIZE,
            f"the {self._codec.NAME} stream does not give the bytes that it gave when it was "
            "catalogued: the file is damaged or was changed",
        )
        self._failures.note(number, number + 1, wrong)
        raise wrong

    def _decode_pages(self, decoder: LiveDecoder, number: int, stop: int) -> Page | None:
        """Decode, and return the page `number`; None where it is not what it was."""
        first = -(-decoder.position // PAGE_SIZE)
        decoder.skip(first * PAGE_SIZE - decoder.position)
        wanted = None
        for current in range(first, max(number + 1, -(-stop // PAGE_SIZE))):
            size = min(PAGE_SIZE, self._size - current * PAGE_SIZE)
            page = Page(decoder.read(size))
            if self._is_right(current, page.data, size):
                self._decoding.pages.put((self._key, current), page)
                if current == number:
                    wanted = page
            elif current >= number:
                # A wrong page before the wanted one spoils nothing: that has a hash of its own.
                break
        return wanted

    def _is_right(self, number: int, data: bytes, size: int) -> bool:
        group, within = divmod(number, HASHES_IN_GROUP)
        key = (self._key, -1 - group)
        hashes = self._decoding.pages.get(key)
        if hashes is None:
            hashes = Page(self._table.hashes(group))
            self._decoding.pages.put(key, hashes)
        expected = hashes.data[within * HASH_SIZE : (within + 1) * HASH_SIZE]
        return len(data) == size and page_hash(data) == expected


class _EveryByte:
    """A decoded source that gives also what nothing vouches for. See `ByteSource`."""

    def __init__(self, source: DecodedSource) -> None:
        self._source = source

    @property
    def size(self) -> int:
        return self._source.size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        self._source.readv_distrusted(buffers, offset)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        return self._source.readv_nowait(buffers, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            # It says what is missing, and allocates nothing.
            return self._source.read_at(offset, length)
        data = bytearray(length)
        self._source.readv_distrusted((memoryview(data),), offset)
        return bytes(data)

    def stored_digest(self) -> bytes:
        return self._source.stored_digest()

    def place(self, offset: int) -> Place:
        return self._source.place(offset)

    def encoded(self, offset: int) -> Encoded:
        return self._source.encoded(offset)

    def close(self) -> None:
        """Close nothing: the source is closed by whoever opened it."""


def digest_of_stored(stored: ByteSource) -> bytes:
    """Return what tells a compressed stream from others, from a few reads of it."""
    hasher = xxhash.xxh3_128()
    hash_samples(stored, 0, hasher)
    return hasher.digest()


class _Filler:
    """Fills buffers, one after the other."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = iter(buffers)
        self._buffer = memoryview(b"")

    def put(self, piece: memoryview) -> None:
        """Copy a piece to where the one before has ended."""
        while piece:
            if not self._buffer:
                self._buffer = next(self._buffers)
                continue
            size = min(len(piece), len(self._buffer))
            self._buffer[:size] = piece[:size]
            self._buffer, piece = self._buffer[size:], piece[size:]
