"""Verification of an image of any format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import registry
from ..finding import Finding
from ..progress import WHOLE
from ..sources.distrusted import every_byte
from ..stored.used_windows import distrusted_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource


def verify(  # noqa: PLR0913 - as each format has it, and which
    name: str,
    source: ByteSource,
    layout: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    stage: Stage = WHOLE,
) -> Iterator[Finding]:
    """Check every checksum that an image has, else its structure; yield what is wrong.

    Goes on past errors. What no checksum of a damaged stream vouches for is a finding.

    Args:
        name: the format.
        source: the stored bytes.
        layout: `ImageInfo.layout` of the scan.
        index: the index of the scan.
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.
        stage: what was done before, and what is told how far it is done now.

    Raises:
        UnsupportedFeatureError: no format has this name.
        FormatError: the image is of that format no more.
        OSError: the operating system could not read.
    """
    whole = every_byte(source)
    if whole is not source and not stage.begin:
        # The format's own checksums may still tell something of it.
        yield from _distrusted(name, source, whole, layout, index)
    check = registry.named(name).verify
    yield from check(whole, layout, index, progress=progress, jobs=jobs, stage=stage)


def _distrusted(
    name: str,
    source: ByteSource,
    whole: ByteSource,
    layout: Mapping[str, int],
    index: StoredIndex,
) -> Iterator[Finding]:
    """Yield, as one, all that no checksum of a damaged stream vouches for."""
    readers = (registry.open_reader(name, each, layout, index) for each in (source, whole))
    found = list(distrusted_ranges(*readers))
    if found:
        start, stop = min(each.start for each in found), max(each.stop for each in found)
        yield Finding(start, stop, found[0].reason)
