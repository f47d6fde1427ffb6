"""Verification of an image of any format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..finding import Finding
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..sources.byte_source import ByteSource


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
    check = registry.named(name).verify
    return check(source, layout, index, progress=progress, jobs=jobs)
