"""Real disks, saved as Clonezilla saves them: what is put together equals the disk."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.clonezilla.directory import is_image_directory, read_directory
from imgcat.formats.clonezilla.disk import DiskLayout, disk_layout
from imgcat.formats.composed.reader import ComposedReader
from imgcat.formats.composed.segments import LiteralBytes
from imgcat.formats.extent import Extent, ExtentKind, merged
from imgcat.formats.opening import open_image
from imgcat.formats.reader import read_bytes
from imgcat.formats.sources.file import FileSource
from support.clonezilla_writer import (
    DOS_PARTS,
    GPT_PARTS,
    SAVED_AT,
    SAVED_BY,
    SavedDisk,
    copy_directory,
    write_directory,
)
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imgcat.formats.reader import ImageReader

_DISKS = [("gpt", GPT_PARTS, "sda"), ("dos", DOS_PARTS, "nvme0n1")]


class RawReader:
    """A plain copy of a partition."""

    def __init__(self, path: Path) -> None:
        self._source = FileSource(path)

    @property
    def size(self) -> int:
        return self._source.size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        yield Extent(start, stop, ExtentKind.DATA, start)

    def read_into(self, view: memoryview, offset: int) -> None:
        self._source.readv((view,), offset)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        return self._source.readv_nowait((view,), offset)

    def close(self) -> None:
        self._source.close()


@pytest.fixture(scope="module", params=_DISKS, ids=lambda disk: disk[0])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedDisk:
    """One real disk after the other, with the directory that it was saved in."""
    label, parts, name = request.param
    return write_directory(tmp_path_factory.mktemp("disk"), parts, label=label, name=name)


def test_the_directory_of_a_real_disk(saved: SavedDisk) -> None:
    found = read_directory(str(saved.directory))
    assert is_image_directory(str(saved.directory))
    assert found.problems == ()
    assert found.disks == (saved.name,)
    with_image = {name: p for name, p in saved.partitions.items() if p.image is not None}
    assert {p.name: p.first_file for p in found.partitions} == {
        name: str(p.image) for name, p in with_image.items()
    }
    for partition in found.partitions:
        original = with_image[partition.name].part
        assert (partition.disk, partition.device_size) == (saved.name, original.size)
        assert partition.fs_type == original.kind
        assert partition.is_raw == (original.saver == "dd")
        assert partition.problem is None
    assert [swap.device for swap in found.swaps] == [
        name for name, p in saved.partitions.items() if p.part.kind == "swap"
    ]
    assert (found.clonezilla_version, found.saved_at) == (SAVED_BY, SAVED_AT)


def _compose(
    saved: SavedDisk, target: Path, open_partition: Callable[[str], ImageReader] | None = None
) -> DiskLayout:
    """Write the disk out as its pieces make it, its partitions being plain copies."""
    layout = disk_layout(read_directory(str(saved.directory)), saved.name)
    copies = {name: partition.raw for name, partition in saved.partitions.items()}
    reader = ComposedReader.of_segments(
        layout.size, layout.segments, open_partition or (lambda name: RawReader(copies[name]))
    )
    with target.open("wb") as file:
        file.truncate(reader.size)
        for extent in merged(reader.extents(0, reader.size)):
            for start in range(extent.start, extent.stop, MIB) if extent.is_stored else ():
                file.seek(start)
                file.write(read_bytes(reader, start, min(MIB, extent.stop - start)))
    reader.close()
    return layout


def _table(disk: Path) -> list[str]:
    """Return what fdisk and sfdisk tell of a disk, the widths of columns aside."""
    texts = [quiet(*c, disk) for c in (("fdisk", "-l"), ("fdisk", "-x"), ("sfdisk", "-d"))]
    return [" ".join(text.replace(str(disk), "disk").split()) for text in texts]


def test_a_real_disk(saved: SavedDisk, tmp_path: Path) -> None:
    composed, original = tmp_path / "composed.disk", tmp_path / "original.disk"
    layout = _compose(saved, composed)
    assert layout.problems == ()
    quiet("cp", "--sparse=always", saved.disk, original)
    assert _table(composed) == _table(original)
    literal = [each for each in layout.segments if isinstance(each.content, LiteralBytes)]
    # The MBR, what is behind it, and three boot records, of which only the first was saved; or the
    # MBR and both tables of the GPT.
    assert len(literal) == (5 if layout.label == "dos" else 3)
    # Swap is not saved; boot records but the first are not either, but come out the same.
    gaps = [(p.start, p.start + p.part.size) for p in saved.partitions.values() if not p.image]
    assert len(gaps) == 1
    with original.open("r+b") as one, composed.open("r+b") as two:
        for start, stop in gaps:
            for file in (one, two):
                file.seek(start)
                file.write(bytes(stop - start))
    quiet("cmp", original, composed)


def test_a_real_disk_without_what_is_not_needed(saved: SavedDisk, tmp_path: Path) -> None:
    copy = copy_directory(saved, tmp_path)
    for path in copy.directory.iterdir():
        if path.name.endswith(("-ebr", "-gpt-1st", "-hidden-data-after-mbr", "parted")):
            path.unlink()
    composed = tmp_path / "composed.disk"
    layout = _compose(copy, composed)
    if layout.label == "dos":
        # The table is all there, though the records are new; only the end cannot be known.
        assert layout.size == (67584 + 245760) * 512
        assert _table(composed)[2] == _table(saved.disk)[2]
        assert layout.problems == (
            "nothing tells the size of nvme0n1: it is shown up to its last partition",
        )
    else:
        # The GPT at the end of the disk is enough for sfdisk.
        assert layout.size == saved.disk.stat().st_size
        assert layout.problems == ("sda-gpt-1st is missing: zeros take its place",)
        assert _table(composed)[2] == _table(saved.disk)[2]


_PLAIN = {"zst": ["zstd", "-dc"], "gz": ["gzip", "-dc"], "xz": ["xz", "-dc"], "uncomp": ["cat"]}


def test_a_real_disk_of_its_images(saved: SavedDisk, tmp_path: Path) -> None:
    """The images themselves, decompressed by the tools: what was unused is zeros."""

    def open_partition(name: str) -> ImageReader:
        partition = saved.partitions[name]
        image, plain = partition.image, tmp_path / f"{name}.plain"
        assert image is not None
        is_split = image.suffix == ".aa"
        chunks = sorted(image.parent.glob(f"{image.stem}.*")) if is_split else [image]
        with plain.open("wb") as target:
            subprocess.run(
                _PLAIN[partition.part.compression], check=True, stdout=target,
                input=b"".join(chunk.read_bytes() for chunk in chunks),
            )  # fmt: skip
        if partition.part.saver == "dd":
            return RawReader(plain)
        return open_image(plain).reader

    composed = tmp_path / "composed.disk"
    _compose(saved, composed, open_partition)
    assert _table(composed)[2] == _table(saved.disk)[2]
    for name, partition in saved.partitions.items():
        if partition.image is None:
            continue
        part = tmp_path / name
        quiet("dd", f"if={composed}", f"of={part}", "bs=1M", "iflag=skip_bytes,count_bytes",
              f"skip={partition.start}", f"count={partition.part.size}")  # fmt: skip
        check = {
            "ext4": ("e2fsck", "-fn"), "vfat": ("fsck.fat", "-n"), "raw": ("cmp", partition.raw),
            "ntfs": ("ntfsresize", "--info", "--force"),
        }  # fmt: skip
        quiet(*check[partition.part.kind], part)
