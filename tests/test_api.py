"""The library: every example of docs/api.md runs, and what it promises holds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import imgcat
import pytest
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.errors import ImageNotFoundError
from support import ntfsclone_writer, partimage_writer
from support.partclone_writer import Recipe, write
from support.small_disk import FIRST, SECOND, SECTOR, SmallDisk

if TYPE_CHECKING:
    from support.samples import Sample

API = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", API, re.DOTALL)

RECIPES = {
    "crc32": Recipe(present=[True, False, True, True] * 20, block_size=512, tail=100),
    "no-bitmap": Recipe(present=[True] * 20, bitmap="NONE"),
    "xxh128": Recipe(present=[False, True] * 999, checksum="XXH128", blocks_per_checksum=1),
    "none": Recipe(present=[True, False] * 20, checksum="NONE"),
    "0001": Recipe(present=[True, False, True] * 20, version="0001"),
    "0001-wide": Recipe(present=[True, False, True] * 20, version="0001", wide=True),
}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str, tmp_path: Path, samples: list[Sample]) -> None:
    sample = next(sample for sample in samples if sample.path.name == "ext4-0.3.47-a3.img")
    (tmp_path / "sda1.img").symlink_to(sample.path)
    SmallDisk(tmp_path / "laptop")
    subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", example], cwd=tmp_path, check=True
    )
    restored = tmp_path / "restored.raw"
    if restored.exists():
        assert hashlib.sha256(restored.read_bytes()).hexdigest() == sample.volume_sha256


def test_the_examples_are_typed(tmp_path: Path) -> None:
    """As `mypy --strict` sees them, with the package as who has installed it sees it."""
    (tmp_path / "imgcat").symlink_to(Path(imgcat.__file__).parent)
    for number, example in enumerate(EXAMPLES):
        (tmp_path / f"example{number}.py").write_text(example)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent",
         *(f"example{number}.py" for number in range(len(EXAMPLES)))],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_a_directory_of_clonezilla(tmp_path: Path) -> None:
    saved = SmallDisk(tmp_path / "laptop")
    with imgcat.open_image(saved.directory) as disk:
        assert disk.read(0, disk.size) == saved.disk()
        assert disk.verify() == []
        assert disk.info.header["partition_table"] == "dos"
        assert json.loads(json.dumps(disk.info.to_dict()))["format"] == "disk"
    opened = imgcat.open_directory(os.fsencode(saved.directory))
    assert opened.names == ("sda1", "sda2", "sda.disk")
    for name in ("sda1", "sda2"):
        with opened.open(name) as image:
            assert image.read(0, image.size) == saved.guests[name]
    with pytest.raises(KeyError):
        opened.open("sda3")
    # One that is damaged spoils its own bytes of the disk, and is named.
    saved.first_image.write_bytes(b"nothing")
    with imgcat.open_image(saved.directory) as disk:
        assert disk.read(SECOND * SECTOR, 512) == saved.disk()[SECOND * SECTOR :][:512]
        with pytest.raises(imgcat.FormatError, match="sda1"):
            disk.read(FIRST * SECTOR, 512)
        (finding,) = disk.verify()
        assert (finding.start, finding.detail.split(":")[0]) == (FIRST * SECTOR, "sda1")
    # Of several disks, one has to say which.
    (saved.directory / "disk").write_text("sda sdb\n")
    (saved.directory / "sdb1.ext4-ptcl-img.uncomp").write_bytes(saved.second_image.read_bytes())
    (saved.directory / "parts").write_text("sda1 sda2 sdb1\n")
    for name in ("sda-pt.sf", "sda-pt.parted"):
        text = (saved.directory / name).read_text().replace("sda", "sdb")
        (saved.directory / name.replace("sda", "sdb")).write_text(text)
    with pytest.raises(imgcat.FormatError, match=r"several images: .*sdb\.disk"):
        imgcat.open_image(saved.directory)
    with pytest.raises(imgcat.FormatError):
        imgcat.open_image(tmp_path)


def test_importing_costs_nothing() -> None:
    code = "import sys, imgcat; sys.exit(any(m in sys.modules for m in ('numpy', 'sqlalchemy')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_bytes_and_numbers(tmp_path: Path, samples: list[Sample]) -> None:
    assert dir(imgcat) == sorted(imgcat.__all__)
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.img")
    shutil.copy(samples[0].path, path)
    with imgcat.open_image(path) as image:
        info = json.loads(json.dumps(image.info.to_dict()))
        head = image.read(0, 4096)
    assert (info["format"], info["size"]) == ("partclone", samples[0].volume_bytes)
    assert info["header"] == image.info.header
    assert bytes.fromhex(info["fingerprint"]) == image.info.fingerprint
    with imgcat.Catalog.open(str(tmp_path / "c.db"), create=True) as catalog:
        image_id = add_file(catalog, os.fsdecode(path)).record.row.id
        with imgcat.open_by_name(catalog, image_id) as image:
            assert image.read(0, 4096) == head
        with pytest.raises(ImageNotFoundError):
            imgcat.open_by_name(catalog, image_id + 1)


def test_every_public_name_is_there() -> None:
    for name in imgcat.__all__:
        assert getattr(imgcat, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        imgcat.nothing  # noqa: B018 - the look-up is what is tested


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_stream_gives_what_the_file_gives(tmp_path: Path, recipe: Recipe) -> None:
    written = write(recipe)
    path = tmp_path / "a.img"
    path.write_bytes(written.image)
    with imgcat.open_image(path) as image:
        assert image.read(0, image.size) == written.guest
        by_blocks = bytearray(image.size)
        for offset, data in image.used_blocks(piece=1):
            by_blocks[offset : offset + len(data)] = data
        assert by_blocks == written.guest
    stream = imgcat.stream_image(_Pipe(written.image))
    assert stream.size == len(written.guest)
    streamed = bytearray(stream.size)
    reached = 0
    for offset, data in stream:
        assert offset >= reached
        reached = offset + len(data)
        streamed[offset:reached] = data
    assert streamed == written.guest


def test_streams_of_the_other_formats() -> None:
    saved = partimage_writer.write(partimage_writer.Recipe(present=[True, False, True] * 99))
    (volume,) = saved.volumes
    order = [0, 1, 2, 7, 8, 90]
    cloned = ntfsclone_writer.write(ntfsclone_writer.Recipe(order=order, cluster_count=91))
    for image, guest in ((volume, saved.guest), (cloned.image, cloned.guest)):
        stream = imgcat.stream_image(_Pipe(image))
        streamed = bytearray(stream.size)
        for offset, data in stream:
            streamed[offset : offset + len(data)] = data
        assert streamed == guest
        with pytest.raises(imgcat.FormatError):
            list(imgcat.stream_image(_Pipe(image[: len(image) // 2])))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_stream_that_ends_early_says_so(recipe: Recipe) -> None:
    image = write(recipe).image
    for length in range(0, len(image) - 200, max(1, len(image) // 60)):
        with pytest.raises(imgcat.FormatError):
            list(imgcat.stream_image(_Pipe(image[:length])))


def test_a_file_of_guest_bytes(tmp_path: Path) -> None:
    written = write(RECIPES["crc32"])
    (tmp_path / "a.img").write_bytes(written.image)
    with imgcat.open_image(tmp_path / "a.img") as image, image.open() as file:
        assert file.read() == written.guest
        assert file.seek(-10, io.SEEK_END) == len(written.guest) - 10
        assert file.read(20) == written.guest[-10:]
        assert file.read(1) == b""
        assert file.seek(5000) == 5000
        assert file.read(600) == written.guest[5000:5600]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)


class _Pipe:
    """The reading end of a pipe: gives less than is asked for, and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 1000))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(imgcat.FormatError):
        imgcat.open_image(tmp_path / "a.txt")
    with pytest.raises(imgcat.FormatError, match="no image that can be streamed"):
        imgcat.stream_image(io.BytesIO(b"hello"))
    with pytest.raises(FileNotFoundError):
        imgcat.open_image(os.fspath(tmp_path / "nothing"))
