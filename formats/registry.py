"""Every format that is read, each once; and which one a source begins like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CorruptImageError, NotThisFormatError, UnsupportedFeatureError
from .ntfsclone.format import FORMAT as NTFSCLONE
from .partclone.format import FORMAT as PARTCLONE
from .partimage.format import FORMAT as PARTIMAGE
from .partitions.on_disk import read_table
from .qcow2.format import FORMAT as QCOW2
from .raw.format import FORMAT as RAW
from .superblocks.find import find_file_system
from .vhd.format import FORMAT as VHD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .format import Format
    from .index.stored import StoredIndex
    from .progress import Progress
    from .reader import ImageReader, Scan
    from .sources.byte_source import ByteSource

FORMATS = (PARTCLONE, NTFSCLONE, PARTIMAGE, QCOW2, VHD, RAW)

_BY_NAME = {each.name: each for each in FORMATS}

_KNOWN_BUT_UNREAD = {
    b"LZIP": "lzip: unpack it with lzip -d",
    b"LRZI": "lrzip: unpack it with lrunzip",
    b"\x89LZO\x00\r\n\x1a\n": "lzop: unpack it with lzop -d",
}

_UNREAD_IMAGES = {
    b"vhdxfile": "VHDX is not read: `qemu-img convert -O qcow2` makes what is",
    b"KDMV": "VMDK is not read: `qemu-img convert -O qcow2` makes what is",
    b"COWD": "VMDK is not read: `qemu-img convert -O qcow2` makes what is",
    b"# Disk DescriptorFile": "VMDK is not read: `qemu-img convert -O qcow2` makes what is",
    b"<<< ": "VDI is not read: `qemu-img convert -O qcow2` makes what is",
    b"QED\0": "QED is not read: `qemu-img convert -O qcow2` makes what is",
    b"EVF\x09\x0d\x0a\xff\0": "EWF is not read: `ewfexport` makes a raw image",
    b"MSWIM\0\0\0": "WIM is not read: it is an archive of files, for `wimapply`",
    b"FsArCh_0": "fsarchiver's archives of files are not read",
    b"LUKS\xba\xbe": "LUKS is encrypted: `cryptsetup` opens it",
}
"""What disks and backups are kept in besides, and what to do about it."""

_LOOKED_AT = 68 << 10

_ANY_SIZE = 1 << 62
"""Where it is not known how large something is."""

RAW_HEAD = _LOOKED_AT
"""Bytes at the beginning of a raw image that tell what it is."""

PROBE_SIZE = 64
"""Bytes at the beginning of an image that tell its format."""


def named(name: str) -> Format:
    """Return the format of this name.

    Raises:
        UnsupportedFeatureError: there is none.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnsupportedFeatureError("image", 0, f"format {name!r} is not known") from None


def begun_by(head: bytes) -> Format | None:
    """Return the format whose images begin like `head`, of `PROBE_SIZE` bytes or more, or None."""
    return next((each for each in FORMATS if each.magic and head.startswith(each.magic)), None)


def unread(head: bytes) -> str | None:
    """Return what a file is that begins like a format which is known, and not read; else None."""
    for magic, what in (*_KNOWN_BUT_UNREAD.items(), *_UNREAD_IMAGES.items()):
        if head.startswith(magic):
            return what
    return None


def head_looks_raw(head: bytes) -> bool:
    """Tell whether the first plain bytes of a compressed stream are those of a disk or volume."""

    def read(offset: int, length: int) -> bytes:
        return head[offset : offset + length]

    try:
        table = read_table(read, _ANY_SIZE)
    except CorruptImageError:
        # The copy of a GPT lies at the end, which is not known.
        return True
    return table is not None or find_file_system(read, _ANY_SIZE) is not None


def looks_raw(source: ByteSource) -> bool:
    """Tell whether a source begins with a partition table, or with a file system.

    One read, and a few where a table leads further.

    Raises:
        CorruptImageError: it begins with a partition table that contradicts itself.
        OSError: the operating system could not read.
    """
    head = source.read_at(0, min(source.size, _LOOKED_AT))

    def read(offset: int, length: int) -> bytes:
        return head[offset : offset + length]

    def read_anywhere(offset: int, length: int) -> bytes:
        if offset + length <= len(head):
            return read(offset, length)
        return source.read_at(offset, min(length, source.size - offset))

    try:
        # The copy of a GPT lies at the end.
        if read_table(read_anywhere, source.size) is not None:
            return True
    except CorruptImageError as error:
        raise CorruptImageError(
            error.structure,
            error.offset,
            f"{error.detail}: `add --format raw` takes it for a disk all the same",
        ) from error
    return find_file_system(read, source.size) is not None


def sniff(source: ByteSource) -> Format:
    """Return the format that `source` begins like, or ends like. Reads a few bytes of both.

    Args:
        source: the stored bytes, with the header of the first volume.

    What begins with a partition table or a file system is raw.

    Raises:
        NotThisFormatError: it begins like no format that is known.
        UnsupportedFeatureError: it begins like one that is known, and is not read.
        CorruptImageError: it begins with a partition table that contradicts itself.
        OSError: the operating system could not read.
    """
    head = source.read_at(0, min(source.size, PROBE_SIZE))
    found = begun_by(head)
    if found is not None:
        return found
    for each in FORMATS:
        if each.ends_like is not None and each.ends_like(source):
            return each
    if not head:
        raise NotThisFormatError("image", 0, "the file is empty")
    if looks_raw(source):
        return RAW
    what = unread(head)
    if what is not None:
        raise UnsupportedFeatureError("image", 0, what)
    raise NotThisFormatError(
        "image", 0, f"no disk image of a known format (it begins with {head[:16].hex(' ')})"
    )


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Scan an image without volumes by the format that it begins like.

    Args:
        source: the stored bytes.
        progress: told the stored bytes that are done.

    Raises:
        NotThisFormatError: it begins like no format that is known.
        FormatError: as the format's own scan.
        OSError: the operating system could not read.
    """
    found = sniff(source)
    if found.volume_header_size:
        raise UnsupportedFeatureError("image", 0, "a volume with its header: see `open_files`")
    return found.scan(source, progress)


def fingerprint(name: str, source: ByteSource) -> bytes:
    """Return the fingerprint of an image of the format `name`.

    Raises:
        UnsupportedFeatureError: no format has this name.
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    return named(name).fingerprint(source)


def open_reader(
    name: str,
    source: ByteSource,
    layout: Mapping[str, int],
    index: StoredIndex,
    parent: ImageReader | None = None,
) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        name: the format.
        source: the stored bytes.
        layout: `ImageInfo.layout` of the scan.
        index: the index of the scan, wherever it is.
        parent: of what is a difference, what it is one to; closed with the reader.

    Raises:
        UnsupportedFeatureError: no format has this name.
        CorruptImageError: layout or index are not those of such an image.
    """
    found = named(name)
    if index.kind not in found.index_kinds:
        raise CorruptImageError("index", 0, f"of kind {index.kind} for {name}: add it again")
    if parent is None:
        return found.open_reader(source, layout, index)
    if found.open_difference is None:
        raise CorruptImageError("index", 0, f"a parent of {name}: add it again")
    return found.open_difference(source, layout, index, parent)
