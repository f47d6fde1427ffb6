"""What files lie on: a device, or an image that has every byte of one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ...filesystems.errors import RefusedError
from ...filesystems.mounted import READ
from ...filesystems.mounts import Mount, backing_file, loops_of, mounts, mounts_of, parts_of
from ...filesystems.names import shown
from ...formats.errors import NotThisFormatError
from ...formats.opening import open_image as open_file
from ...formats.raw import reader as raw
from ...formats.sources.device import DeviceSource
from ..errors import ImageNotFoundError
from ..opening.open import open_image
from ..opening.watched import WatchedReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...filesystems.mounts import FileIdentity
    from ...formats.image import Image
    from ...formats.reader import ImageReader
    from ..records import ImageRecord
    from ..store import Catalog

DEVICE = "device"

_WHOLE = frozenset({"raw", "vhd", "qcow2"})
"""Formats of images that have what no file uses, too."""


class Source(NamedTuple):
    """A volume, open to be read.

    Attributes:
        name: as it was named; of a device, or a file, its path.
        kind: ``device``, or the format of the image.
        reader: reads it. Of a device past what is kept of it in memory.
        mount: where its file system is mounted; None where it is not, or is read as if it were not.
        device: of a device, its number.
        files: of an image, its files; of a loop device, the one that it shows.
        has_unused: whether it has bytes that no file uses, as of deleted files.
    """

    name: str
    kind: str
    reader: ImageReader
    mount: Mount | None = None
    device: int | None = None
    files: frozenset[FileIdentity] = frozenset()
    has_unused: bool = True


@contextlib.contextmanager
def open_source(catalog: Catalog | None, name: str, *, alone: bool = False) -> Iterator[Source]:
    """Open what a user names: a block device, a file, or an image in the catalog.

    A file that a loop device shows whole, which is mounted, is read as that device. It keeps its
    name: the number of a loop device is another file's tomorrow.

    Args:
        catalog: where images are; None where there is none.
        name: path, or name or id of an image.
        alone: have nobody else use the device meanwhile: it cannot be mounted.

    Raises:
        RefusedError: it is mounted, and of a type that does not tell where its files lie; or what
            is in it is mounted in part; or, if `alone` is wanted, somebody else uses it.
        ImageNotFoundError: there is no such file, device or image.
        CatalogError: the catalog, or the image, cannot be used.
        FormatError: the image cannot be read.
        OSError: the same.
    """
    try:
        status = os.stat(name)
    except OSError:
        status = None
    if status is not None and stat.S_ISBLK(status.st_mode):
        with _device(name, alone=alone) as source:
            yield source
        return
    image_id = None if catalog is None else _find(catalog, name)
    is_file = status is not None and stat.S_ISREG(status.st_mode)
    if image_id is not None and is_file and _is_at(catalog, image_id, name):
        # It has changed since it was scanned, as disks do: what is told of it then is not asked.
        image_id = None
    if image_id is not None:
        assert catalog is not None
        with _image(catalog, image_id, alone=alone) as source:
            yield source
    elif is_file:
        with _file(name, alone=alone) as source:
            yield source
    else:
        raise ImageNotFoundError(
            f"{name}: is no device, no file, and no image of the catalog; a partition of a disk in"
            " a file is one once `imgcat add` has read the file"
        )


def _find(catalog: Catalog, name: str) -> int | None:
    try:
        return catalog.resolve(name)
    except ImageNotFoundError:
        return None


def _is_at(catalog: Catalog | None, image_id: int, path: str) -> bool:
    """Tell whether a path leads to the file of an image, and not only its name is the same."""
    assert catalog is not None
    known = catalog.get(image_id).row.path
    return known is not None and os.path.exists(known) and os.path.samefile(known, path)


@contextlib.contextmanager
def _device(path: str, *, alone: bool) -> Iterator[Source]:
    source = DeviceSource(path)
    try:
        number = source.stat.st_rdev
        mount = _mount_of(number)
        with _claimed(path, wanted=alone and mount is None and not _is_shown(number)):
            info = raw.scan(source).info
            reader = raw.open_reader(source, info.layout, None)  # type: ignore[arg-type]
            files = frozenset(backing_file(number))
            yield Source(os.path.abspath(path), DEVICE, reader, mount, number, files)
    finally:
        source.close()


def _mount_of(device: int) -> Mount | None:
    """Return where a device is mounted, if its files are to be read by that.

    Raises:
        RefusedError: it is mounted, and may be written, but the kernel tells nothing of it.
    """
    found = mounts_of(device)
    if not found:
        return None
    last = found[-1]
    if last.fs_type in READ:
        return last
    if any(each.is_writable for each in found):
        raise RefusedError(
            last.fs_type, 0,
            f"it is mounted at {shown(last.point)}: only of ext and XFS does the kernel tell where"
            " the files of a mounted one lie: unmount it, or mount it read-only",
        )  # fmt: skip
    return None


def _is_shown(device: int) -> bool:
    """Tell whether a device is mounted anywhere, be it in part."""
    return any(each.device == device for each in mounts())


@contextlib.contextmanager
def _claimed(path: str, *, wanted: bool) -> Iterator[None]:
    """Keep others from mounting a device."""
    if not wanted:
        yield
        return
    try:
        # Nobody else can claim it, nor mount it, while this is open.
        fd = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise RefusedError(
            "device", 0,
            "something else uses it: it is mounted where this program does not see it, or a part"
            " of something",
        ) from None  # fmt: skip
    try:
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _file(path: str, *, alone: bool) -> Iterator[Source]:
    loop = _loop_of([path])
    name = os.path.abspath(path)
    with _opened(path) as image:
        kind = image.info.format
        if loop is None:
            yield Source(name, kind, image.reader, files=image.files, has_unused=kind in _WHOLE)
            return
    with _device(loop, alone=alone) as source:
        yield source._replace(name=name, kind=kind)


def _opened(path: str) -> Image:
    """Open a file; what begins like no image is taken for a volume, whose beginning is lost."""
    try:
        return open_file(path)
    except NotThisFormatError:
        return open_file(path, is_raw=True)


@contextlib.contextmanager
def _image(catalog: Catalog, image_id: int, *, alone: bool) -> Iterator[Source]:
    record = catalog.get(image_id)
    row = record.row
    volumes = catalog.volumes_below(image_id) if record.is_composed else record.volumes
    paths = [volume.path for volume in volumes]
    if row.format == "raw" and len(paths) == 1 and stat.S_ISBLK(os.stat(paths[0]).st_mode):
        with _device(paths[0], alone=alone) as source:
            yield source
        return
    loop = _loop_of(paths, is_whole=row.format == "raw" and not record.streams[1:])
    if loop is not None:
        with _device(loop, alone=alone) as source:
            yield source._replace(name=row.name, kind=row.format)
        return
    opened = open_image(catalog, image_id)
    try:
        has_unused = _has_unused(catalog, record)
        yield Source(
            row.name, row.format, WatchedReader(opened), files=opened.identities,
            has_unused=has_unused,
        )  # fmt: skip
    finally:
        opened.close()


def _has_unused(catalog: Catalog, record: ImageRecord) -> bool:
    if record.row.format in _WHOLE:
        return True
    children = {each.child_id for each in record.segments if each.child_id is not None}
    return record.is_composed and all(_has_unused(catalog, catalog.get(each)) for each in children)


def _loop_of(paths: list[str], *, is_whole: bool = True) -> str | None:
    """Return the loop device that shows a file whole, and is mounted.

    Raises:
        RefusedError: another part of a file is mounted.
    """
    for path in paths:
        try:
            loops = loops_of(path)
        except OSError:
            continue
        for loop in loops:
            if is_whole and not loop.offset and _is_shown(loop.device):
                return f"/dev/{loop.name}"
            parts = [(loop.name, loop.device), *parts_of(loop)]
            mounted = next((name for name, number in parts if _is_shown(number)), None)
            if mounted is not None:
                raise RefusedError(
                    "image", 0,
                    f"{path}: a part of it is mounted, as /dev/{mounted}: name that device",
                )  # fmt: skip
    return None
