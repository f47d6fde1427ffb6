"""Virtual disks with bytes changed, cut off, put in: refused by name, or read as they say."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats import registry
from imgcat.formats.errors import FormatError
from imgcat.formats.extent import check_cover
from imgcat.formats.reader import read_bytes
from support.memory_source import MemorySource
from support.opening import open_scanned
from support.vhd_writer import Difference, write_difference
from support.virtual_disks import KIB, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 600 * KIB
HOWS = (
    ("qcow2", ("-o", "cluster_size=512")),
    ("qcow2", ("-c", "-o", "cluster_size=4k")),
    ("qcow2", ("-c", "-o", "cluster_size=4k,compression_type=zstd")),
    ("qcow2", ("-o", "cluster_size=16k,extended_l2=on")),
    ("vpc", ("-o", "subformat=dynamic,force_size=on")),
    ("vpc", ("-o", "subformat=fixed,force_size=on")),
    ("qcow2", ("-o", "cluster_size=4k")),
    ("vpc", ("-o", "force_size=on")),
)
_WITH_SNAPSHOTS, _DIFFERENCE = 6, 7


@cache
def image(number: int) -> bytes:
    driver, how = HOWS[number]
    with tempfile.TemporaryDirectory() as directory:
        raw = write_raw(Path(directory) / "raw", SIZE, number, writes=5)
        path = Path(directory) / "image"
        qemu_img("convert", "-f", "raw", "-O", driver, *how, raw, path)
        if number == _WITH_SNAPSHOTS:
            for name in ("one", "two"):
                qemu_img("snapshot", "-c", name, path)
                qemu_io(path, driver, ["write -P 1 0 64k"])
        if number == _DIFFERENCE:
            parent = uuid.UUID(bytes=path.read_bytes()[-512:][68:84])
            sectors = {at: bytes([at]) * 512 for at in range(0, 200, 7)}
            disk = Difference(SIZE, uuid.UUID(int=5), parent, "image", sectors, 128 * KIB)
            return write_difference(disk)
        return path.read_bytes()


edits = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 4096), st.integers(0, 1 << 22), st.integers(-2048, -1)),
        st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))),
    ),
    min_size=1,
    max_size=4,
)


@given(
    number=st.integers(0, len(HOWS) - 1),
    edits=edits,
    cut=st.one_of(st.none(), st.integers(0, 1 << 22)),
)
def test_only_format_errors_come_of_damage(
    number: int, edits: Sequence[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(image(number))
    for place, value in edits:
        start = place % len(data)
        data[start : start + len(value)] = value[: len(data) - start]
    if cut is not None:
        del data[cut % len(data) :]
    source = MemorySource(bytes(data))
    with contextlib.suppress(FormatError):
        scan = registry.scan(source)
        reader = open_scanned(source, scan)
        stop = min(reader.size, 2 * SIZE)
        check_cover(reader.extents(0, stop), 0, stop)
        for start in range(0, stop, 50_000):
            with contextlib.suppress(FormatError):
                read_bytes(reader, start, min(70_000, stop - start))
        for _name, snapshot in scan.snapshots:
            with contextlib.suppress(FormatError):
                earlier = open_scanned(source, snapshot)
                read_bytes(earlier, 0, min(earlier.size, SIZE))
