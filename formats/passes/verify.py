"""Verification of an image of any format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import UnsupportedFeatureError
from ..ntfsclone import reader as ntfsclone
from ..ntfsclone import verify as ntfsclone_verify
from ..partclone import reader as partclone
from ..partclone import verify as partclone_verify
from ..partimage import reader as partimage
from ..partimage import verify as partimage_verify
from ..raw import reader as raw
from ..raw import verify as raw_verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..finding import Finding
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..sources.byte_source import ByteSource


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
    ) -> Iterator[Finding]:
        """Yield what is wrong; see `verify`."""


_FORMATS: dict[str, Verify] = {
    partclone.NAME: partclone_verify.verify,
    ntfsclone.NAME: ntfsclone_verify.verify,
    partimage.NAME: partimage_verify.verify,
    raw.NAME: raw_verify.verify,
}


def verify(
    name: str,
    source: ByteSource,
    layout: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
) -> Iterator[Finding]:
    """Check every checksum that an image has, else its structure; yield what is wrong.

    Goes on past errors.

    Args:
        name: the format.
        source: the stored bytes.
        layout: `ImageInfo.layout` of the scan.
        index: the index of the scan.
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.

    Raises:
        UnsupportedFeatureError: no format has this name.
        FormatError: the image is of that format no more.
        OSError: the operating system could not read.
    """
    try:
        check = _FORMATS[name]
    except KeyError:
        raise UnsupportedFeatureError("image", 0, f"format {name!r} is not known") from None
    return check(source, layout, index, progress=progress, jobs=jobs)
