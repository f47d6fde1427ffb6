"""For the contract of readers: raw images, decoded ones, and images made of others."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING

from imgcat.formats.composed.reader import ComposedReader
from imgcat.formats.composed.segments import ChildBytes, LiteralBytes, Segment, Stripes
from imgcat.formats.extent import ExtentKind
from imgcat.formats.files import detect
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.raw import reader as raw
from imgcat.formats.reader import ImageInfo

from . import ntfsclone_writer, partclone_writer, partimage_writer
from .memory_source import MemorySource
from .opening import open_scanned, scan_and_open
from .reader_case import ReaderCase, Subject
from .streams import compress, mixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from imgcat.formats.reader import ImageReader

_SIZE = 700_001
_PRESENT = [number % 7 not in {2, 3} for number in range(170)]


def _raw_from_memory(size: int, _directory: Path) -> Subject:
    guest = mixed(size, 5)
    source = MemorySource(guest)
    scan = raw.scan(source)
    return Subject(open_scanned(source, scan), scan.info, source, guest, None, never_waits=True)


def _from_files(image: bytes, guest: bytes, is_raw: bool, tool: str, directory: Path) -> Subject:
    path = directory / "image"
    path.write_bytes(compress(tool, image) if tool else image)
    stored = detect.open_files(str(path), is_raw=is_raw)
    scan = scan_files(stored, is_raw=is_raw)
    reader = open_scanned(stored.source, scan)
    return Subject(reader, scan.info, stored.source, guest, None, never_waits=False)


@functools.cache
def _images() -> dict[str, tuple[bytes, bytes]]:
    """Return image and guest of one of each format; not too large, for each codec reads them."""
    guest = mixed(170 * 4096, 6)
    blocks = partclone_writer.write(
        partclone_writer.Recipe(
            present=_PRESENT, block_size=4096, blocks_per_checksum=7, guest=guest
        )
    )
    clusters = ntfsclone_writer.write(
        ntfsclone_writer.Recipe(order=[*range(60), *range(90, 150)], cluster_count=160)
    )
    volume = partimage_writer.write(partimage_writer.Recipe(present=_PRESENT, block_size=4096))
    return {
        "partclone": (blocks.image, blocks.guest),
        "ntfsclone": (clusters.image, clusters.guest),
        "partimage": (volume.volumes[0], volume.guest),
        "raw": (mixed(_SIZE, 7), mixed(_SIZE, 7)),
    }


def _open_child(name: str) -> ImageReader:
    image, guest = _images()[name]
    if name == "raw":
        source = MemorySource(guest)
        return open_scanned(source, raw.scan(source))
    _scan, reader = scan_and_open(MemorySource(image))
    return reader


def _composed(
    segments: Sequence[Segment], size: int, children: Mapping[str, bytes], waits: bool
) -> Subject:
    """Return a reader over segments, and what they are by hand."""
    guest = bytearray(size)
    for segment in segments:
        content, length = segment.content, segment.stop - segment.start
        whole = content.data if isinstance(content, LiteralBytes) else children[content.name]
        if isinstance(content, ChildBytes) and content.stripes is not None:
            # As RAID 0 is put together: a row of stripes, one from each column, then the next.
            size_each, offsets = content.stripes
            rows = range(-(-(content.offset + length) // (size_each * len(offsets))))
            whole = b"".join(
                whole[at + row * size_each :][:size_each].ljust(size_each, b"\0")
                for row in rows
                for at in offsets
            )
        data = whole[content.offset : content.offset + length]
        guest[segment.start : segment.start + len(data)] = data
    reader = ComposedReader.of_segments(size, segments, _opener(waits))
    used = sum(
        extent.length for extent in reader.extents(0, size) if extent.kind is ExtentKind.DATA
    )
    info = ImageInfo(
        format="composed", format_version="", creator=None, fs_type="", size=size, block_size=512,
        total_blocks=size // 512, used_blocks=used // 512, used_bytes=used, checksum="none",
        header={}, layout={}, fingerprint=size.to_bytes(16, "little"),
    )  # fmt: skip
    source = MemorySource(b"")
    return Subject(reader, info, source, bytes(guest), None, never_waits=not waits)


def _opener(nested: bool):  # type: ignore[no-untyped-def] # noqa: ANN202
    if not nested:
        return _open_child
    inner = _disk_segments()
    return lambda name: (
        ComposedReader.of_segments(_DISK_SIZE, inner, _open_child)
        if name == "disk"
        else _open_child(name)
    )


_DISK_SIZE = 2_000_000


def _disk_segments() -> list[Segment]:
    """Return what a disk is like: literal bytes, then children with gaps between them."""
    rng = random.Random(9)
    image_size = len(_images()["partclone"][1])
    return [
        Segment(0, 512, LiteralBytes(rng.randbytes(512))),
        Segment(512, 5000, LiteralBytes(rng.randbytes(6000), 100)),
        Segment(8192, 8192 + image_size, ChildBytes("partclone")),
        # From its middle on, and further than it reaches.
        Segment(720_000, 820_000, ChildBytes("ntfsclone", 4097)),
        Segment(820_000, 820_001, LiteralBytes(b"x")),
        Segment(900_000, 900_000 + _SIZE, ChildBytes("raw")),
        # The same child again.
        Segment(1_700_000, 1_750_000, ChildBytes("partclone", 12_345)),
    ]


def _disk(_directory: Path) -> Subject:
    children = {name: guest for name, (_image, guest) in _images().items()}
    return _composed(_disk_segments(), _DISK_SIZE, children, waits=False)


def _striped(_directory: Path) -> Subject:
    children = {name: guest for name, (_image, guest) in _images().items()}
    segments = [
        Segment(0, 300_000, ChildBytes("partclone", 0, Stripes(4096, (10_000, 200_000)))),
        # Places in no order, a stripe of an odd size, begun in its middle; behind the child's end.
        Segment(300_000, 450_001, ChildBytes("raw", 777, Stripes(5000, (300_000, 7, 180_001)))),
        Segment(460_000, 600_000, ChildBytes("ntfsclone", 0, Stripes(512, (0, 900_000, 4096)))),
    ]
    return _composed(segments, 700_000, children, waits=False)


def _disk_in_disk(directory: Path) -> Subject:
    children = {"disk": _disk(directory).guest or b"", "raw": _images()["raw"][1]}
    segments = [
        Segment(10, 1_500_010, ChildBytes("disk")),
        Segment(1_500_010, 1_600_000, ChildBytes("raw", 5)),
        Segment(1_600_001, 2_000_001, ChildBytes("disk", 1_600_000)),
    ]
    return _composed(segments, 2_000_100, children, waits=True)


def cases() -> Iterator[ReaderCase]:
    """Yield the cases."""
    for size in (1, 511, 512, 700_001):
        yield ReaderCase(f"raw-{size}", functools.partial(_raw_from_memory, size))
    for name in ("partclone", "ntfsclone", "partimage", "raw"):
        for tool in ("", "gzip", "pbzip2", "xz-blocks", "zstd", "lz4-linked", "lzma"):
            if not tool and name != "raw":
                continue

            def opener(directory: Path, name: str = name, tool: str = tool) -> Subject:
                image, guest = _images()[name]
                return _from_files(image, guest, name == "raw", tool, directory)

            yield ReaderCase(f"{name}-{tool or 'plain'}-file", opener)
    yield ReaderCase("composed", _disk)
    yield ReaderCase("composed-striped", _striped)
    yield ReaderCase("composed-of-composed", _disk_in_disk)
