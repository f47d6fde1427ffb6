"""Disks out of image directories: shown as a whole, made of the images of their partitions."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import xxhash

from ...formats.clonezilla.directory import read_directory
from ...formats.clonezilla.disk import disk_layout
from ...formats.composed.reader import DiskReader
from ...formats.composed.segments import FileBytes, MadeBytes
from ...formats.reader import ImageInfo, Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...formats.clonezilla.disk import DiskLayout
    from ...formats.clonezilla.records import ImageDirectory
    from ...formats.reader import ImageReader
    from ..store import Catalog

FORMAT = "disk"
SUFFIX = ".disk"

_METADATA = ("-pt.sf", "-pt.parted", "-mbr", "-gpt-1st", "-gpt-2nd", "-hidden-data-after-mbr")
_LISTS = ("disk", "parts")


def disk_path(directory: str, disk: str) -> str:
    """Return what stands for the path of a disk, which has no file of its own."""
    return os.path.join(directory, disk + SUFFIX)


def metadata_files(directory: ImageDirectory, disk: str) -> list[str]:
    """Return the files that tell what the disk is made of."""
    names = [name for name in _LISTS if os.path.exists(os.path.join(directory.path, name))]
    names += [name for suffix in _METADATA if (name := disk + suffix) in directory.files]
    names += [name for name in directory.files if name.endswith("-ebr")]
    return [os.path.join(directory.path, name) for name in names]


def scan_disk(directory: ImageDirectory, disk: str, sizes: Mapping[str, int]) -> Scan:
    """Return what is to say of a disk.

    Args:
        directory: where it was saved.
        disk: its name.
        sizes: guest bytes of the partitions' images, by name.

    Raises:
        CorruptImageError: nothing tells how large it is.
        OSError: a file cannot be read.
    """
    layout = disk_layout(directory, disk, sizes)
    used = sum(segment.stop - segment.start for segment in layout.segments)
    sector = layout.sector_size
    return Scan(
        ImageInfo(
            format=FORMAT,
            format_version="",
            creator=directory.clonezilla_version,
            fs_type=layout.label or "none",
            size=layout.size,
            block_size=sector,
            total_blocks=layout.size // sector,
            used_blocks=-(-used // sector),
            used_bytes=used,
            checksum="none",
            header={
                "disk": disk,
                "partition_table": layout.label,
                "sector_size": sector,
                "saved_at": directory.saved_at,
            },
            layout={},
            fingerprint=_fingerprint(layout),
            warnings=layout.problems,
        ),
        chunks=None,
    )


def fingerprint(path: str) -> bytes:
    """Return the fingerprint of a disk by what stands for its path. Raises as `scan_disk`."""
    directory, disk = _parts_of(path)
    return _fingerprint(disk_layout(read_directory(directory), disk))


def open_disk(catalog: Catalog, path: str, open_image: Callable[[int], ImageReader]) -> ImageReader:
    """Return a reader over a disk. Its partitions are opened when they are read.

    Args:
        catalog: where the partitions are.
        path: what stands for the disk's path.
        open_image: opens an image by its id.

    Raises:
        FormatError: the directory is no image directory any more.
        OSError: a file cannot be read.
    """
    directory, disk = _parts_of(path)

    def open_partition(device: str) -> ImageReader:
        image_id = catalog.partition_image(directory, device)
        if image_id is None:
            # Not that the disk is missing: a piece of it cannot be read.
            raise OSError(errno.EIO, f"{device} is not in the catalog: add it again", directory)
        return open_image(image_id)

    layout = disk_layout(read_directory(directory), disk)
    return DiskReader(layout.size, layout.segments, open_partition)


def _parts_of(path: str) -> tuple[str, str]:
    directory, name = os.path.split(path)
    return directory, name.removesuffix(SUFFIX)


def _fingerprint(layout: DiskLayout) -> bytes:
    """Return a hash of where everything lies, and of the saved sectors."""
    hasher = xxhash.xxh3_128()
    hasher.update(repr((layout.name, layout.size, layout.sector_size)).encode())
    for segment in layout.segments:
        content = segment.content
        hasher.update(repr((segment.start, segment.stop)).encode())
        if isinstance(content, FileBytes):
            with open(content.path, "rb") as file:
                file.seek(content.offset)
                hasher.update(file.read(segment.stop - segment.start))
        elif isinstance(content, MadeBytes):
            hasher.update(content.data)
        else:
            hasher.update(os.fsencode(content.name))
    return hasher.digest()
