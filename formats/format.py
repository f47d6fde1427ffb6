"""What a format is to all others: one record, which its room fills and `registry` lists."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .progress import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .finding import Finding
    from .index.kind import IndexKind
    from .index.stored import StoredIndex
    from .progress import Progress, Stage
    from .reader import ImageReader, ImageStream, Scan
    from .sources.byte_source import ByteSource
    from .sources.forward import ForwardSource
    from .sources.live_stream import LiveStream


class Passed(NamedTuple):
    """What was found of an image while it was decoded.

    Attributes:
        scan: its scan; None where that could not be made in passing.
        is_right: every checksum was looked at, and nothing is wrong.
    """

    scan: Scan | None = None
    is_right: bool = False


class ScanSource(Protocol):
    """How each format scans."""

    def __call__(self, source: ByteSource, progress: Progress | None = None) -> Scan:
        """Read what must be read once.

        Args:
            source: the stored bytes, without headers of volumes.
            progress: told the stored bytes that are done.

        Raises:
            FormatError: the image cannot be read; one that is cut off can, and says so.
            OSError: the operating system could not read.
        """


class Verify(Protocol):
    """How each format verifies."""

    def __call__(
        self,
        source: ByteSource,
        fields: Mapping[str, int],
        index: StoredIndex,
        *,
        progress: Progress | None = None,
        jobs: int | None = None,
        stage: Stage = WHOLE,
    ) -> Iterator[Finding]:
        """Check every checksum, else the structure; yield what is wrong, and go on past errors.

        Args:
            source: the stored bytes.
            fields: `ImageInfo.layout` of the scan.
            index: the index of the scan.
            progress: told the stored bytes that are done.
            jobs: threads; as many as there are processors if None.
            stage: what was done before, and what is told how far it is done now.

        Raises:
            FormatError: the image is of that format no more.
            OSError: the operating system could not read.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Attributes:
        name: as the catalog has it, e.g. ``partclone``.
        magic: how its images begin; nothing where that tells nothing.
        index_kinds: the kinds of index that its scan may give.
        scan: reads what must be read once.
        fingerprint: returns, from a few reads, what `ImageInfo.fingerprint` of the scan would be.
        open_reader: returns a reader from the source, `ImageInfo.layout` of the scan and its index;
            it does not touch the source until data is read.
        scan_by_geometry: scans, and takes a disk's size from cylinders, heads and sectors; None
            where that is not known.
        open_difference: does the same of what is a difference, with the reader of its parent too;
            None where no image is one.
        verify: checks every checksum.
        look_in_passing: scans an image while it is decoded, and with True looks at its checksums
            too; None where there is nothing to look at.
        stream: reads an image that comes through a pipe; None where that has no use.
        volume_header_size: bytes at the beginning of each volume that are not the image's.
        ends_like: tells by its end whether a source is one that begins otherwise; None where no
            image does.
    """

    name: str
    magic: bytes
    index_kinds: frozenset[IndexKind]
    scan: ScanSource
    fingerprint: Callable[[ByteSource], bytes]
    open_reader: Callable[[ByteSource, Mapping[str, int], StoredIndex], ImageReader]
    verify: Verify
    look_in_passing: Callable[[LiveStream, bool], Passed] | None = None
    stream: Callable[[ForwardSource], ImageStream] | None = None
    volume_header_size: int = 0
    ends_like: Callable[[ByteSource], bool] | None = None
    scan_by_geometry: ScanSource | None = None
    open_difference: (
        Callable[[ByteSource, Mapping[str, int], StoredIndex, ImageReader], ImageReader] | None
    ) = None
