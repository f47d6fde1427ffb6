"""Opening images without a catalog: any supported file, and image directories of Clonezilla."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from .clonezilla.directory import read_directory
from .clonezilla.disk import DISK_SUFFIX, disk_header, disk_layout
from .composed.reader import ComposedReader
from .composed.segments import LiteralBytes
from .errors import CorruptImageError, FormatError, NotThisFormatError, UnreadablePartError
from .files import detect
from .finding import Finding
from .image import Image, image_of_files
from .passes.chain import Chain
from .passes.scan import scan_files
from .reader import ImageInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .clonezilla.disk import DiskLayout
    from .clonezilla.records import ImageDirectory
    from .progress import Progress
    from .reader import ImageReader


def open_image(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    *,
    progress: Progress | None = None,
    allowed: Sequence[str] = (),
    is_raw: bool = False,
) -> Image:
    """Open the image in a file, of any supported format, without a catalog.

    Of an image directory of Clonezilla with one disk in it, that disk; `open_directory` opens each
    image of any directory.

    It is scanned now: of partclone and partimage the header and the bitmap are read, of ntfsclone
    all of it once. What is kept in memory is the compressed bitmap, or the ranges.

    Args:
        path: the file; of several volumes, any.
        progress: told the stored bytes that are scanned.
        allowed: directories into which the names of backing and data files may lead, beside its
            own.
        is_raw: take it for the partition's bytes as they are, whatever it begins like.

    Raises:
        MissingParentError: what it is a difference to is not there.
        NotThisFormatError: it is no image of a known format.
        FormatError: it cannot be read.
        OSError: the operating system could not read it.
    """
    name = os.fsdecode(path)
    if os.path.isdir(name):
        return _only_disk(name, progress)
    stored = detect.open_files(name, allowed=allowed)
    try:
        scan = scan_files(stored, progress, is_raw=is_raw)
        chain = Chain(allowed)
        parent = chain.parent_of(name, scan)
        reader = chain.open_reader(name, stored, scan, parent)
    except BaseException:
        stored.close()
        raise
    return image_of_files(scan.info, reader, scan.stored_index(), stored, reader.close, chain.files)


class SavedDirectory:
    """An image directory of Clonezilla, its images opened one by one. For one thread.

    Use `open_directory`.

    Args:
        directory: what lies in it.

    Attributes:
        directory: as given.
        names: of its images: ``sda1`` and so on, and ``sda.disk`` for each whole disk.
    """

    def __init__(self, directory: ImageDirectory) -> None:
        self.directory = directory
        self._partitions = {each.name: each for each in directory.partitions}
        self._disks = {f"{disk}{DISK_SUFFIX}": disk for disk in directory.disks}
        self.names = (*self._partitions, *self._disks)

    def open(self, name: str, *, progress: Progress | None = None) -> Image:
        """Open one of the images; it is scanned now, of a disk all of its partitions are.

        Args:
            name: one of `names`.
            progress: told the stored bytes that are scanned, of one file after the other.

        Raises:
            KeyError: there is none of this name.
            As `open_image`.
        """
        if name in self._disks:
            return self._open_disk(self._disks[name], progress)
        partition = self._partitions[name]
        if partition.problem is not None:
            raise CorruptImageError("clonezilla.partition", 0, partition.problem)
        return open_image(partition.first_file, progress=progress, is_raw=partition.is_raw)

    def _open_disk(self, disk: str, progress: Progress | None) -> Image:
        parts, reasons = self._open_parts(disk, progress)

        def close() -> None:
            for image in parts.values():
                image.close()

        try:
            sizes = {name: image.size for name, image in parts.items()}
            layout = disk_layout(self.directory, disk, sizes)
        except BaseException:
            close()
            raise

        def open_part(name: str) -> ImageReader:
            if name not in parts:
                reason = reasons.get(name, "there is no image of it")
                raise UnreadablePartError(name, 0, reason)
            return parts[name].reader

        reader = ComposedReader.of_segments(layout.size, layout.segments, open_part)

        def check(progress: Progress | None, jobs: int | None) -> list[Finding]:
            return list(_findings_of_parts(layout, parts, reasons, progress, jobs))

        return Image(_info_of(self.directory, layout, parts), reader, check, close)

    def _open_parts(
        self, disk: str, progress: Progress | None
    ) -> tuple[dict[str, Image], dict[str, str]]:
        """Open the partitions that a disk may have; return them, and why others cannot be."""
        parts: dict[str, Image] = {}
        reasons: dict[str, str] = {}
        for name, partition in self._partitions.items():
            if partition.disk not in {disk, None}:
                continue
            try:
                parts[name] = self.open(name, progress=progress)
            except (FormatError, OSError) as error:
                # It spoils only its own bytes.
                reasons[name] = str(error)
        return parts, reasons


def open_directory(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
) -> SavedDirectory:
    """Return what lies in an image directory of Clonezilla. No image is opened yet.

    Raises:
        NotThisFormatError: it is none.
        UnsupportedFeatureError: it is encrypted, or holds no images on purpose.
        OSError: it cannot be listed.
    """
    return SavedDirectory(read_directory(os.fsdecode(path)))


def _only_disk(path: str, progress: Progress | None) -> Image:
    saved = open_directory(path)
    disks = [name for name in saved.names if name.endswith(DISK_SUFFIX)]
    wanted = disks if len(disks) == 1 else saved.names
    if len(wanted) != 1:
        names = ", ".join(saved.names)
        raise NotThisFormatError(
            "clonezilla.directory", 0, f"{path} has several images: {names}: `open_directory` it"
        )
    return saved.open(wanted[0], progress=progress)


def _findings_of_parts(
    layout: DiskLayout,
    parts: Mapping[str, Image],
    reasons: Mapping[str, str],
    progress: Progress | None,
    jobs: int | None,
) -> Iterator[Finding]:
    """Yield what is wrong with the parts of a disk, as ranges of the disk."""
    for segment in layout.segments:
        if isinstance(segment.content, LiteralBytes):
            continue
        name = segment.content.name
        if name not in parts:
            reason = reasons.get(name, "there is no image of it")
            yield Finding(segment.start, segment.stop, f"{name}: {reason}")
            continue
        shift = segment.start - segment.content.offset
        for found in parts[name].verify(progress=progress, jobs=jobs):
            start, stop = segment.start, segment.stop
            if found.start is not None and found.stop is not None:
                start, stop = max(start, found.start + shift), min(stop, found.stop + shift)
            if start < stop:
                yield Finding(start, stop, f"{name}: {found.detail}")


def _info_of(
    directory: ImageDirectory, layout: DiskLayout, parts: Mapping[str, Image]
) -> ImageInfo:
    size = layout.sector_size
    used = sum(segment.stop - segment.start for segment in layout.segments)
    hasher = hashlib.blake2b(repr(layout.size).encode(), digest_size=16)
    for segment in layout.segments:
        literal = isinstance(segment.content, LiteralBytes)
        name = "" if isinstance(segment.content, LiteralBytes) else segment.content.name
        hasher.update(repr((segment.start, segment.stop, name, literal)).encode())
        hasher.update(parts[name].info.fingerprint if name in parts else b"")
    return ImageInfo(
        format="disk",
        format_version="",
        creator=directory.clonezilla_version,
        fs_type=layout.label or "none",
        size=layout.size,
        block_size=size,
        total_blocks=layout.size // size,
        used_blocks=-(-used // size),
        used_bytes=used,
        checksum="none",
        header=disk_header(directory, layout),
        layout={},
        fingerprint=hasher.digest(),
        warnings=layout.problems,
    )
