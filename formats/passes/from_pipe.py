"""Streaming: the header and the blocks of an image that comes through a pipe, in one pass.

Nothing is sought, and no more than a bitmap is kept. The blocks come in the order in which they
are stored: ascending, but for ntfsclone images of metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import registry
from ..errors import NotThisFormatError
from ..sources.forward import ForwardSource

if TYPE_CHECKING:
    from ..reader import ImageStream
    from ..sources.forward import Readable


def stream_image(file: Readable) -> ImageStream:
    """Read the header of an image from a file that cannot seek, and return the rest as a stream.

    Args:
        file: at the image's first byte; of partimage, an image in one volume.

    Raises:
        NotThisFormatError: the stream begins like no format that can be streamed.
        FormatError: header or bitmap cannot be read.
        OSError: it cannot be read.
    """
    source = ForwardSource(file)
    head = source.head(registry.PROBE_SIZE)
    found = registry.begun_by(head)
    if found is None or found.stream is None:
        raise NotThisFormatError(
            "stream", 0, f"no image that can be streamed (it begins with {head[:16].hex(' ')})"
        )
    return found.stream(source)
