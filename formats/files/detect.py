"""Which files make the image that a path is of, and how they are compressed: by content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import registry
from ..codecs import registry as codecs
from ..codecs.head import plain_head
from ..errors import CorruptImageError, FormatError, MissingParentError, NotThisFormatError
from ..partimage import layout as partimage_layout
from ..partimage.volumes import first_volume, volume_paths
from ..qcow2 import layout as qcow2_layout
from ..registry import begun_by
from . import split_names as splits
from .image_files import StoredFiles
from .parents import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..sources.byte_source import ByteSource


def open_files(path: str, *, is_raw: bool = False, allowed: Sequence[str] = ()) -> StoredFiles:
    """Open the image in a file, and its other chunks or volumes where it has some.

    The beginning of each file that tells something is looked at once.

    Args:
        path: the file; of several, any.
        is_raw: take it for the partition's bytes as they are, whatever they begin like.
        allowed: directories into which the name of a data file may lead, beside its own.

    Raises:
        FormatError: a chunk or volume is missing, or belongs to another image.
        OSError: a file cannot be opened.
    """
    looks = _Looks()
    head, codec = looks.at(path)
    header_size = partimage_layout.VOLUME_HEADER_SIZE
    chunks = [path]
    if is_raw or not head.startswith(partimage_layout.MAGIC) or _is_split(path, looks):
        chunks = splits.chunk_paths(path, looks.begins_an_image)
        splits.check_sizes(chunks)
        if chunks != [path]:
            head, codec = _look_into(*chunks)
        if is_raw or not head.startswith(partimage_layout.MAGIC):
            is_qcow2 = not is_raw and codec is None and head.startswith(qcow2_layout.MAGIC)
            data_file = _data_file(chunks, allowed) if is_qcow2 else None
            if data_file is not None:
                return StoredFiles(
                    [*chunks, data_file], stream_volumes=[len(chunks), 1], data_streams=[1]
                )
            return StoredFiles(chunks, codec=codec)
        if len(chunks) > 1:
            return StoredFiles(chunks, header_size, stream_volumes=[len(chunks)], codec=codec)
    volumes = volume_paths(path, looks.head)
    return StoredFiles(volumes, header_size, codec=codec)


def first_file(path: str) -> str:
    """Return the first file of the image of which `path` is a later one, else `path`."""
    return first_volume(splits.first_chunk(path), _Looks().head)


def begins_an_image(path: str) -> bool:
    """Tell whether a file begins like an image, compressed or not. A few reads.

    Raises:
        OSError: it cannot be read.
    """
    head, _codec = _look_into(path)
    return begun_by(head) is not None


def why_no_image(path: str) -> str | None:
    """Return why a file is not taken for an image without being named, None if it is one.

    Besides what begins like an image of some format, raw ones are known by a partition table or a
    file system, compressed or not, and fixed VHDs by their footer.

    Raises:
        OSError: it cannot be read.
    """
    with StoredFiles([path]) as stored:
        codec = codecs.sniff(stored.source)
        try:
            if codec is not None:
                return _why_no_stream(stored.source, codec)
            registry.sniff(stored.source)
        except NotThisFormatError:
            return "not an image"
        except FormatError as error:
            return error.detail
    return None


def _why_no_stream(source: ByteSource, codec: str) -> str | None:
    head = plain_head(source, codec, registry.RAW_HEAD)
    if begun_by(head) is not None or registry.head_looks_raw(head):
        return None
    return registry.unread(head) or f"{codec}, and no image in it"


class _Looks:
    """The beginnings of files, each looked at once."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes, str | None]] = {}

    def at(self, path: str) -> tuple[bytes, str | None]:
        if path not in self._seen:
            self._seen[path] = _look_into(path)
        return self._seen[path]

    def head(self, path: str) -> bytes:
        return self.at(path)[0]

    def begins_an_image(self, path: str) -> bool:
        """Tell whether a file begins like an image or a compressed stream; False if unreadable."""
        try:
            head, codec = self.at(path)
        except OSError:
            return False
        return codec is not None or begun_by(head) is not None


def _is_split(path: str, looks: _Looks) -> bool:
    """Tell whether a volume was cut into chunks: no other one begins with a header of its own."""
    others = [each for each in splits.run_of(path) if each != path]
    return bool(others) and not any(map(looks.begins_an_image, others))


def _data_file(chunks: list[str], allowed: Sequence[str]) -> str | None:
    """Return the file that has the data of a QCOW2 image, None where that is the image itself."""
    # Loads numpy, which no other format needs here.
    from ..qcow2.reader import read_header

    with StoredFiles(chunks) as stored:
        header = read_header(stored.source)
    if not header.incompatible & qcow2_layout.EXTERNAL_DATA:
        return None
    if header.data_file is None:
        raise CorruptImageError("qcow2.header", 72, "its data are in a file that it does not name")
    path = resolve(chunks[0], header.data_file, allowed=allowed, what="data file")
    if not os.path.exists(path):
        raise MissingParentError(
            "qcow2.header", 72, f"its data file {header.data_file!r} is not there: {path}"
        )
    return path


def _look_into(*paths: str) -> tuple[bytes, str | None]:
    """Return the first plain bytes of an image's files, as far as can be had, and the codec."""
    with StoredFiles(paths) as stored:
        codec = codecs.sniff(stored.source)
        if codec is None:
            size = partimage_layout.VOLUME_HEADER_SIZE
            return stored.source.read_at(0, min(stored.source.size, size)), None
        try:
            return plain_head(stored.source, codec, partimage_layout.VOLUME_HEADER_SIZE), codec
        except FormatError:
            # What is wrong with it is said by the scan.
            return b"", codec
