"""What a saved disk is made of: the evidence that counts, and hazards that stop nothing."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.clonezilla.directory import read_directory
from imgcat.formats.clonezilla.disk import DiskLayout, disk_layout
from imgcat.formats.composed.segments import ChildBytes
from imgcat.formats.errors import CorruptImageError
from support.volumes import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WORDS = {b"M": "mbr", b"G": "gpt-1st", b"S": "gpt-2nd", b"H": "hidden-data-after-mbr"}
"""What the saved pieces of a disk are filled with."""

_LINK = "it is a symbolic link out of the directory: replace it by the file"
_HIDDEN = "sda-hidden-data-after-mbr"


def _write(where: Path, rows: Sequence[str], **files: bytes) -> str:
    """Write a directory of the disk sda with sectors of 512 bytes; 1000 of them."""
    where.mkdir(exist_ok=True)
    texts = {
        "disk": "sda", "parts": "sda1 sda2 sda5 sda6",
        "sda-pt.sf": "label: dos\ndevice: /dev/sda\n" + "".join(
            f"/dev/sda{row}\n" for row in rows
        ),
        "sda-pt.parted": "Disk /dev/sda: 1000s\n",
    }  # fmt: skip
    for name, text in texts.items():
        (where / name).write_text(text)
    for name, data in {"mbr": b"M" * 512, **files}.items():
        (where / f"sda-{name.replace('_', '-')}").write_bytes(data)
    for row in rows:
        (where / f"sda{row.split()[0]}.ext4-ptcl-img.zst").write_bytes(b"")
    return str(where)


def _shown(layout: DiskLayout) -> list[tuple[int, int, str]]:
    """Return the segments, in sectors, with a word for what they are: children, or byte values."""
    found = []
    for segment in layout.segments:
        content = segment.content
        offset = content.offset // 512
        if isinstance(content, ChildBytes):
            word = content.name
        else:
            word = _WORDS.get(content.data[:1], "made")
        word += f"+{offset}" if offset else ""
        found.append((segment.start // 512, segment.stop // 512, word))
    return found


def _layout(path: str, **sizes: int) -> DiskLayout:
    return disk_layout(read_directory(path), "sda", sizes)


def test_hidden_data_ends_at_the_first_partition(tmp_path: Path) -> None:
    rows = ["1 : start=10, size=20, type=83", "2 : start=40, size=20, type=83"]
    path = _write(tmp_path / "img", rows, hidden_data_after_mbr=b"H" * 512 * 100)
    layout = _layout(path)
    assert (layout.size, layout.label, layout.problems) == (512_000, "dos", ())
    assert _shown(layout) == [
        (0, 1, "mbr"), (1, 10, "hidden-data-after-mbr"), (10, 30, "sda1"), (40, 60, "sda2"),
    ]  # fmt: skip


def test_gpt_has_its_place(tmp_path: Path) -> None:
    files = {
        "gpt_1st": b"G" * 17408,
        "gpt_2nd": b"S" * 16896,
        "hidden_data_after_mbr": b"H" * 99999,
    }
    layout = _layout(_write(tmp_path / "img", ["1 : start=50, size=20, type=83"], **files))
    assert _shown(layout) == [
        (0, 1, "mbr"), (1, 34, "gpt-1st+1"), (34, 50, "hidden-data-after-mbr+33"),
        (50, 70, "sda1"), (967, 1000, "gpt-2nd"),
    ]  # fmt: skip
    # A partition that reaches into what was saved of the GPT is shown, the headers are not lost.
    rows = ["1 : start=6, size=990, type=83"]
    assert _shown(_layout(_write(tmp_path / "img", rows, **files))) == [
        (0, 1, "mbr"), (1, 6, "gpt-1st+1"), (6, 996, "sda1"), (996, 1000, "gpt-2nd+29"),
    ]  # fmt: skip


def test_overlaps_and_partitions_that_do_not_fit(tmp_path: Path) -> None:
    rows = ["1 : start=0, size=20, type=83", "2 : start=10, size=100, type=83",
            "3 : start=30, size=10, type=83", "4 : start=2000, size=10, type=83"]  # fmt: skip
    path = _write(tmp_path / "img", rows)
    os.unlink(os.path.join(path, "sda4.ext4-ptcl-img.zst"))
    layout = _layout(path, sda2=51201, sda3=5120)
    assert layout.size == 2010 * 512
    assert _shown(layout) == [(0, 1, "mbr"), (1, 20, "sda1+1"), (20, 110, "sda2+10")]
    assert layout.problems == (
        "a partition ends at byte 1029120, behind the end of sda, 512000",
        "/dev/sda2 begins at byte 5120, inside /dev/sda1, which is shown where they overlap",
        "/dev/sda3 begins at byte 15360, inside /dev/sda2, which is shown where they overlap",
        "/dev/sda1 begins at byte 0, in the MBR",
        "the image of sda2 is 51201 bytes long, its place only 51200: it is cut off",
        "sda4 is zeros: there is no image of it",
    )


def test_what_is_not_shown_and_why(tmp_path: Path) -> None:
    rows = [f"{n} : start={n}0, size=10, type=83" for n in range(1, 6)]
    path = _write(tmp_path / "img", rows, hidden_data_after_mbr=b"", gpt_2nd=b"")
    for number in (1, 2, 3, 4):
        os.unlink(os.path.join(path, f"sda{number}.ext4-ptcl-img.zst"))
    os.unlink(os.path.join(path, "sda-mbr"))
    os.symlink("/etc/passwd", os.path.join(path, "sda-mbr"))
    os.unlink(os.path.join(path, "sda-hidden-data-after-mbr"))
    os.mkfifo(os.path.join(path, "sda-hidden-data-after-mbr"))
    (tmp_path / "img" / "swappt-sda1.info").write_text("")
    (tmp_path / "img" / "lvm_vg_dev.list").write_text("vg /dev/sda2 x\n")
    (tmp_path / "img" / "luks-dev.list").write_text("/dev/sda3 x /dev/mapper/y\n")
    (tmp_path / "img" / "sda4.ext4-ptcl-img.zst.ab").write_text("")
    layout = _layout(path)
    # What was saved is no zeros, even where it cannot be read.
    assert _shown(layout) == [(40, 50, "sda4"), (50, 60, "sda5")]
    assert layout.problems == (
        f"sda-mbr is left out: clonezilla.sda-mbr @0x0: {_LINK}",
        "sda2 is zeros: it belongs to LVM, whose logical volumes are saved by themselves",
        "sda3 is zeros: it is encrypted, and what was in it is saved by itself",
        "sda4 cannot be read: the first chunk, sda4.ext4-ptcl-img.zst.aa, is missing",
        f"{_HIDDEN} is left out: clonezilla.{_HIDDEN} @0x0: it is no regular file",
    )  # fmt: skip


def test_a_long_literal_is_cut(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", ["1 : start=200000, size=10, type=83"])
    with open(os.path.join(path, "sda-hidden-data-after-mbr"), "wb") as file:
        file.truncate(100 * MIB)
    layout = _layout(path)
    assert layout.segments[1].stop == 512 + 64 * MIB
    assert layout.problems[1].startswith("sda-hidden-data-after-mbr is 104857600 bytes long, of")


def _gpt_first(sector: int, backup: int, *, spoil: bool = False) -> bytes:
    header = struct.pack("<8sIIIIQQQQ", b"EFI PART", 0x10000, 92, 0, 0, 1, backup, 34, 900)
    header = header.ljust(92, b"\1")
    sum_ = zlib.crc32(header) ^ spoil
    header = header[:16] + struct.pack("<I", sum_) + header[20:]
    return (bytes(sector) + header).ljust(17408, b"\0")


@pytest.mark.parametrize("length", [8, 55])
def test_a_gpt_header_that_is_cut_off(tmp_path: Path, length: int) -> None:
    cut = _gpt_first(512, 1999)[: 512 + length]
    path = _write(tmp_path / "img", ["1 : start=50, size=20, type=83"], gpt_1st=cut)
    os.unlink(os.path.join(path, "sda-pt.parted"))
    layout = _layout(path)
    assert layout.size == 70 * 512
    assert layout.problems[0] == "sda-gpt-1st holds no intact header of a GPT"


def test_a_long_table_beside_a_long_list_takes_little_time(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", [])
    rows = "".join(f"/dev/sda{n} : start={n}, size=1\n" for n in range(1, 1001))
    (tmp_path / "img" / "sda-pt.sf").write_text(rows)
    (tmp_path / "img" / "lvm_vg_dev.list").write_text("a /dev/b\n" * 100_000)
    directory = read_directory(path)
    began = time.process_time()
    layout = disk_layout(directory, "sda")
    assert time.process_time() - began < 1
    assert layout.problems[-1] == "sda1000 is zeros: there is no image of it"


def test_the_size_by_the_best_evidence(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "img", ["1 : start=50, size=20, type=83"], gpt_1st=_gpt_first(512, 1999)
    )
    table = tmp_path / "img" / "sda-pt.sf"
    parted = tmp_path / "img" / "sda-pt.parted"
    first = tmp_path / "img" / "sda-gpt-1st"
    assert _layout(path).size == 1000 * 512
    parted.write_text("Disk /dev/sda: 1.0GB\n")
    assert _layout(path).size == 2000 * 512
    first.write_bytes(_gpt_first(4096, 1999))
    assert _layout(path).size == 2000 * 4096
    table.write_text(table.read_text() + "last-lba: 2966\n")
    first.write_bytes(_gpt_first(512, 1999, spoil=True))
    assert _layout(path).size == 3000 * 512
    assert _layout(path).problems == ("sda-gpt-1st holds no intact header of a GPT",)
    first.unlink()
    parted.unlink()
    assert _layout(path).size == 3000 * 512
    table.write_text("label: gpt\nlast-lba: 2994\nsector-size: 4096\n/dev/sda1 : start=6, size=1")
    assert _layout(path).size == 3000 * 4096
    table.write_text("/dev/sda1 : start=6, size=1")
    assert _layout(path).size == 7 * 512


def test_sectors_of_parted_count_where_the_table_tells_none(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", ["1 : start=50, size=20, type=83"])
    (tmp_path / "img" / "sda-pt.parted").write_text(
        "Disk /dev/sda: 1000s\nSector size (logical/physical): 4096B/4096B\n"
    )
    layout = _layout(path)
    assert (layout.size, layout.sector_size) == (4096_000, 4096)
    assert layout.segments[-1].start == 50 * 4096
    assert read_directory(path).partitions[0].device_size == 20 * 4096


def test_a_disk_without_a_table(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", [])
    (tmp_path / "img" / "sda-pt.sf").write_text("")
    (tmp_path / "img" / "sda-mbr").unlink()
    (tmp_path / "img" / "sda.ext4-ptcl-img.zst").write_text("")
    assert _shown(_layout(path)) == [(0, 1000, "sda")]
    (tmp_path / "img" / "sda-pt.parted").unlink()
    assert _shown(_layout(path, sda=51200)) == [(0, 100, "sda")]
    with pytest.raises(CorruptImageError, match=r"nothing tells the size of sda: sda-pt\.sf and"):
        _layout(path)
    (tmp_path / "img" / "sda-pt.sf").write_text("nonsense")
    with pytest.raises(CorruptImageError, match=r"a heading nor a partition\. Its partitions"):
        _layout(path)
    with pytest.raises(ValueError, match="has no disk sdb"):
        disk_layout(read_directory(path), "sdb")


def test_a_table_that_was_written_under_another_name(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", ["1 : start=50, size=20, type=83"])
    table = tmp_path / "img" / "sda-pt.sf"
    table.write_text(table.read_text().replace("sda", "nvme0n1p").replace("n1p\n", "n1\n"))
    assert _shown(_layout(path)) == [(0, 1, "mbr"), (50, 70, "sda1")]


def test_any_bytes_in_the_tables_give_a_layout_or_an_error(tmp_path: Path) -> None:
    rows = ["4 : start=100, size=900, type=f", "1 : start=20, size=70, type=83"]
    path = _write(tmp_path / "img", [*rows, "5 : start=163, size=100, type=83"])
    table = tmp_path / "img" / "sda-pt.sf"
    text = table.read_bytes()
    generator = random.Random(3)
    shown = 0
    for _ in range(400):
        mutated = bytearray(text)
        for _ in range(generator.randrange(1, 5)):
            mutated[generator.randrange(len(mutated))] = generator.choice(b"0123459:,=/ \n\xffa")
        table.write_bytes(mutated)
        try:
            layout = _layout(path)
        except CorruptImageError:
            continue
        shown += 1
        stop = 0
        for segment in layout.segments:
            assert stop <= segment.start < segment.stop <= layout.size
            stop = segment.stop
    assert shown > 100
