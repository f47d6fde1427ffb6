"""ISO 9660, and whether Joliet, Rock Ridge and UDF go with it.

Source: ECMA-119, the SUSP and RRIP drafts (IEEE P1281, P1282), Microsoft's Joliet specification,
ECMA-167 for the sequence that tells of UDF.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from .file_system import FileSystem, label_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .file_system import Read

SECTOR = 2048
_FIRST = 16
_MOST_DESCRIPTORS = 64
_PRIMARY, _SUPPLEMENTARY, _END = 1, 2, 255
_JOLIET = {b"%/@": 1, b"%/C": 2, b"%/E": 3}
_ROOT_RECORD = slice(156, 190)
RECORD = 33
"""Bytes of a directory record before its name."""

ROCK_RIDGE = (b"RRIP_1991A", b"IEEE_P1282", b"IEEE_1282")
_MOST_AREAS = 64


class Descriptor(NamedTuple):
    """What a volume descriptor tells of a tree.

    Attributes:
        offset: where it lies.
        block_size: bytes in a logical block.
        blocks: how many there are.
        sequence: the number of the volume in its set.
        root: the directory record of the root.
    """

    offset: int
    block_size: int
    blocks: int
    sequence: int
    root: bytes


class Descriptors(NamedTuple):
    """The volume descriptors that count: the first of each kind.

    Attributes:
        primary: of the tree that every reader knows; None where there is none.
        joliet: of the tree with names in Unicode.
        level: Joliet's, 1 to 3; 0 where there is none.
        has_udf: a UDF begins there too.
    """

    primary: Descriptor | None
    joliet: Descriptor | None
    level: int
    has_udf: bool


def descriptors(read: Read) -> Descriptors:
    """Return the volume descriptors of a volume. Raises what `read` raises."""
    primary = joliet = None
    level = 0
    is_inside = True
    for number in range(_FIRST, _FIRST + _MOST_DESCRIPTORS):
        data = read(number * SECTOR, SECTOR)
        name = data[1:6]
        if len(data) < SECTOR:
            break
        if name in {b"NSR02", b"NSR03"}:
            return Descriptors(primary, joliet, level, has_udf=True)
        if name in {b"BEA01", b"BOOT2", b"TEA01"}:
            continue
        if name != b"CD001":
            break
        if not is_inside:
            continue
        if data[0] == _PRIMARY and primary is None:
            primary = _descriptor(number, data)
        elif data[0] == _SUPPLEMENTARY and joliet is None and data[88:91] in _JOLIET:
            joliet, level = _descriptor(number, data), _JOLIET[data[88:91]]
        is_inside = data[0] != _END
    return Descriptors(primary, joliet, level, has_udf=False)


def _descriptor(number: int, data: bytes) -> Descriptor:
    (blocks,) = struct.unpack_from("<I", data, 80)
    sequence, block_size = struct.unpack_from("<H2xH", data, 124)
    return Descriptor(number * SECTOR, block_size, blocks, sequence, data[_ROOT_RECORD])


class Field(NamedTuple):
    """A field of the System Use Sharing Protocol.

    Attributes:
        name: its two letters.
        data: all of it; its own bytes begin at the fifth.
        offset: where it lies in the volume.
    """

    name: bytes
    data: bytes
    offset: int


def fields(
    area: bytes, offset: int, block_size: int, read: Read, *, problems: list[str] | None = None
) -> Iterator[Field]:
    """Yield the fields in the system use area of a record, and in where that goes on.

    Args:
        area: the bytes of the area.
        offset: where it lies in the volume.
        block_size: bytes in a logical block.
        read: reads the volume, by offset and length.
        problems: takes what is not as it must be; that ends the fields.
    """
    said = [] if problems is None else problems
    for _area in range(_MOST_AREAS):
        following: tuple[int, int] | None = None
        at = 0
        while at + 4 <= len(area):
            length = area[at + 2]
            if length < 4 or at + length > len(area):  # noqa: PLR2004
                if any(area[at : at + 2]):
                    said.append(f"what stands at {offset + at} is no field of system use")
                break
            name, data = area[at : at + 2], area[at : at + length]
            if name == b"ST":
                break
            if name == b"CE" and length >= 28:  # noqa: PLR2004
                block, start, size = struct.unpack_from("<I4xI4xI", data, 4)
                following = block * block_size + start, size
            else:
                yield Field(name, data, offset + at)
            at += length
        if following is None:
            return
        offset, size = following
        if size > 1 << 16:
            said.append(f"system use goes on at {offset} for {size} bytes")
            return
        area = read(offset, size)
        if len(area) < size:
            said.append(f"system use goes on at {offset}, outside of the volume")
            return
    said.append(f"system use goes on for more than {_MOST_AREAS} times")


def rock_ridge(read: Read, found: Descriptor) -> int | None:
    """Return how many bytes stand before the fields in each record of a Rock Ridge tree.

    The record that the root has of itself says so: by SP, and by an ER that names it.

    Returns:
        None where the tree is none. Raises what `read` raises.
    """
    offset = _root_offset(found)
    record = read(offset, SECTOR)
    if len(record) < SECTOR or record[0] < RECORD + 1 or record[32] != 1:
        return None
    area = record[RECORD + 1 : record[0]]
    if len(area) < 7 or area[:2] != b"SP" or area[4:6] != b"\xbe\xef":  # noqa: PLR2004
        return None
    for field in fields(area, offset + RECORD + 1, found.block_size, read):
        data = field.data
        is_whole = field.name == b"ER" and len(data) >= 8  # noqa: PLR2004
        if is_whole and data[8 : 8 + data[4]] in ROCK_RIDGE:
            return area[6]
    return None


class Tree(NamedTuple):
    """The tree of a volume that is read, as Linux chooses it.

    Attributes:
        at: its descriptor.
        skip: bytes before the fields of Rock Ridge in each record; None where it is without.
        is_joliet: its names are in Unicode.
    """

    at: Descriptor
    skip: int | None
    is_joliet: bool


def tree_of(read: Read, found: Descriptors) -> Tree | None:
    """Return the tree that is read: Rock Ridge first, then Joliet, then the plain one.

    Where the plain one is empty, its names are in Joliet's alone: so some programs write it.
    """
    if found.primary is None:
        return None
    skip = rock_ridge(read, found.primary)
    if found.joliet is not None and (skip is None or _is_empty(read, found.primary)):
        return Tree(found.joliet, None, is_joliet=True)
    return Tree(found.primary, skip, is_joliet=False)


def _is_empty(read: Read, found: Descriptor) -> bool:
    """Tell whether a root has nothing but itself and its parent."""
    data = read(_root_offset(found), SECTOR)
    at = 0
    for _record in range(2):
        at += data[at] if at < len(data) else 0
    return at >= len(data) or not data[at]


def _root_offset(found: Descriptor) -> int:
    (block,) = struct.unpack_from("<I", found.root, 2)
    return int(block + found.root[1]) * found.block_size


def parse(read: Read) -> FileSystem | None:
    """Return what the volume descriptors tell, None where there are none.

    A volume that is a UDF too is of that type, as blkid has it; its feature ``iso9660`` says that
    there are two trees.

    Its detail ``names`` says which are read: those of Rock Ridge, Joliet, or the plain ones.

    Args:
        read: reads the volume.
    """
    found = descriptors(read)
    if found.primary is None:
        return FileSystem("udf") if found.has_udf else None
    at = found.primary
    data = read(at.offset, SECTOR)
    has = {
        "iso9660": found.has_udf,
        "rock_ridge": rock_ridge(read, at) is not None,
        "joliet": found.joliet is not None,
    }
    tree = tree_of(read, found)
    names = "plain"
    if tree is not None and tree.is_joliet:
        names = "joliet"
    elif tree is not None and tree.skip is not None:
        names = "rock_ridge"
    return FileSystem(
        "udf" if found.has_udf else "iso9660",
        uuid=None if found.has_udf else _uuid(data),
        label=label_of(data[40:72]),
        block_size=at.block_size,
        size=at.blocks * at.block_size,
        features=tuple(name for name, is_there in has.items() if is_there),
        detail={"names": names},
    )


def _uuid(data: bytes) -> str | None:
    """Return when it was last written, or made, as blkid writes it."""
    for moment in (data[830:847], data[813:830]):
        text = moment[:16].decode("ascii", "replace")
        if re.fullmatch(r"[0-9]{16}", text) and text.strip("0"):
            return "-".join((text[:4], *(text[at : at + 2] for at in range(4, 16, 2))))
    return None
