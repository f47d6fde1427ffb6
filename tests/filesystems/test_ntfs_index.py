"""The index of a directory of NTFS, where it is not what it should be: what is right is given."""

from __future__ import annotations

import struct

import pytest
from imgcat.filesystems.errors import DamagedError
from imgcat.filesystems.worker.ntfs_index import Index, Name

BLOCK = 4096
LEADS_DOWN, IS_LAST = 1, 2


def entry(name: str, number: int, below: int | None = None, *, space: int = 1) -> bytes:
    """Return a name as layout.h of ntfs-3g has it: a reference, and a FILE_NAME."""
    raw = name.encode("utf-16-le")
    key = bytes(64) + bytes([len(raw) // 2, space]) + raw
    return _entry(number | 3 << 48, key, 0, below)


def last(below: int | None = None) -> bytes:
    return _entry(0, b"", IS_LAST, below)


def _entry(reference: int, key: bytes, flags: int, below: int | None) -> bytes:
    length = (16 + len(key) + 7) // 8 * 8 + (8 if below is not None else 0)
    flags |= LEADS_DOWN if below is not None else 0
    data = struct.pack("<QHHH2x", reference, length, len(key), flags) + key
    tail = b"" if below is None else struct.pack("<Q", below)
    return data.ljust(length - len(tail), b"\0") + tail


def root(*entries: bytes) -> bytes:
    body = b"".join(entries)
    header = struct.pack("<IIIB3x", 0x30, 1, BLOCK, 1)
    return header + struct.pack("<IIII", 16, 16 + len(body), 16 + len(body), 1) + body


def block(number: int, *entries: bytes) -> bytes:
    body = b"".join(entries)
    data = bytearray(BLOCK)
    struct.pack_into("<4sHHQQ", data, 0, b"INDX", 40, 9, 0, number)
    struct.pack_into("<IIII", data, 24, 40, 40 + len(body), BLOCK - 24, 0)
    data[64 : 64 + len(body)] = body
    struct.pack_into("<H", data, 40, 5)
    for each in range(8):
        end = each * 512 + 510
        data[42 + 2 * each : 44 + 2 * each] = data[end : end + 2]
        struct.pack_into("<H", data, end, 5)
    return bytes(data)


def names_of(start: bytes, blocks: bytes, cluster: int = BLOCK) -> tuple[list[bytes], list[str]]:
    told: list[str] = []

    def read(offset: int, length: int) -> bytes:
        if offset + length > len(blocks):
            raise DamagedError("directory", 0, "its index ends before")
        return blocks[offset : offset + length]

    found = [each.name for each in Index("directory", start, read, cluster).names(told.append)]
    return sorted(found), told


def test_names_of_all_nodes_but_those_for_dos() -> None:
    start = root(entry("m", 20, 0), last(1))
    blocks = block(0, entry("a", 21), entry("B~1", 22, space=2), last())
    blocks += block(1, entry("z", 23), last())
    assert names_of(start, blocks) == ([b"a", b"m", b"z"], [])
    (first, *_rest) = Index("d", start, lambda at, size: blocks[at : at + size], BLOCK).names(print)
    assert first == Name(b"m", 20, 3)


def test_blocks_are_counted_in_sectors_where_a_cluster_holds_several() -> None:
    blocks = block(0, entry("a", 21), last()) + block(8, entry("b", 22), last())
    assert names_of(root(last(8)), blocks, cluster=65536) == ([b"b"], [])
    assert names_of(root(last(8)), blocks, cluster=512) == ([b"b"], [])


def test_a_block_that_nothing_leads_to_is_not_read() -> None:
    blocks = block(0, entry("there", 21), last()) + block(1, entry("gone", 22), last())
    assert names_of(root(last(0)), blocks) == ([b"there"], [])


def _torn(blocks: bytes) -> bytes:
    return blocks[:1022] + b"\0\0" + blocks[1024:]


def _cut_off() -> bytes:
    """Return a name that says it has six characters, of which there is one and a half."""
    return _entry(21, bytes(64) + bytes([6, 1]) + b"a\0b", 0, None)


@pytest.mark.parametrize(
    ("start", "blocks", "names", "message"),
    [
        (root(entry("m", 20, 0), last(0)), block(0, entry("a", 21), last()), [b"a", b"m"],
         "is no tree"),
        (root(entry("m", 20, 0), last()), block(0, last(0)), [b"m"], "is no tree"),
        (root(entry("m", 20, 0), last()), block(7, last()), [b"m"], "says that it is block 7"),
        (root(entry("m", 20, 9), last()), b"", [b"m"], "block 9 of its index are lost"),
        (root(entry("m", 20, 1 << 63), last()), b"", [b"m"], "are lost"),
        (root(entry("m", 20, 0), last()), _torn(block(0, last())), [b"m"], "sector 2 was not"),
        (root(entry("m", 20, 0), last()), bytes(BLOCK), [b"m"], "does not begin with INDX"),
        (root(entry("m", 20), entry("a/b", 21), last()), b"", [b"m"], "'a/b' is no name"),
        (root(entry("m", 20), entry("", 21), last()), b"", [b"m"], "'' is no name"),
        (root(entry("m", 20)), b"", [b"m"], "is no name"),
        (root(entry("m", 20), bytes(90)), b"", [b"m"], "is no name"),
        (root(entry("m", 20), _cut_off(), last()), b"", [b"m"], "is no name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_the_rest_given(
    start: bytes, blocks: bytes, names: list[bytes], message: str
) -> None:
    found, told = names_of(start, blocks)
    assert found == names
    assert len(told) == 1
    assert message in told[0]


@pytest.mark.parametrize("length", range(32))
def test_a_root_that_is_cut_off(length: int) -> None:
    with pytest.raises(DamagedError, match="cut off"):
        names_of(root(last())[:length], b"")


@pytest.mark.parametrize("size", [0, 256, 5000, 1 << 17])
def test_blocks_of_no_possible_size(size: int) -> None:
    start = bytearray(root(last()))
    struct.pack_into("<I", start, 8, size)
    with pytest.raises(DamagedError, match=f"has {size} bytes"):
        names_of(bytes(start), b"")
