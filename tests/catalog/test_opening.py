"""What opening a catalogued image costs, and that it reads what was scanned, however it lies."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.adding import batch
from imgcat.catalog.adding.add import add_file
from imgcat.catalog.adding.clonezilla import add_directory
from imgcat.catalog.opening.open import open_by_name, open_image
from imgcat.catalog.store import Catalog
from imgcat.formats import registry
from imgcat.formats.reader import read_bytes
from support import partclone_writer, partimage_writer
from support.packers import split
from support.small_disk import SmallDisk
from support.statements import statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRESENT = [n % 3 != 1 for n in range(200)]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(str(tmp_path / "catalog.db"), create=True) as opened:
        yield opened


@pytest.fixture
def shelf(catalog: Catalog, tmp_path: Path) -> dict[str, int]:
    """A plain image, a compressed one, and a disk that is made of two, by their names."""
    written = partclone_writer.write(partclone_writer.Recipe(present=PRESENT, block_size=512))
    (tmp_path / "plain.img").write_bytes(written.image)
    (tmp_path / "packed.img.gz").write_bytes(gzip.compress(written.image))
    for name in ("plain.img", "packed.img.gz"):
        add_file(catalog, str(tmp_path / name))
    list(add_directory(catalog, str(SmallDisk(tmp_path / "laptop").directory)))
    return {row.name: row.id for row, _volumes in catalog.list_images()}


@pytest.mark.parametrize(
    ("name", "count", "all_else"),
    [("plain", 1, 5), ("packed", 2, 5), ("laptop/sda1", 1, 5), ("laptop/sda.disk", 3, 6)],
)
def test_what_opening_asks_of_the_catalog(
    catalog: Catalog, shelf: dict[str, int], name: str, count: int, all_else: int
) -> None:
    with statements(catalog) as seen:
        open_image(catalog, shelf[name]).close()
        assert len(seen) == count
        seen.clear()
        open_by_name(catalog, name).close()
        assert len(seen) == count + all_else


def test_who_only_mounts_loads_no_sqlalchemy(catalog: Catalog, shelf: dict[str, int]) -> None:
    """What `imgcat mount` runs: listing, opening and reading, and the handlers of the mount."""
    code = (
        "import sys\n"
        "import imgcat.fusefs.daemon\n"
        "from imgcat.catalog.opening.open import open_watched\n"
        "from imgcat.catalog.store import Catalog\n"
        "from imgcat.formats.reader import read_bytes\n"
        f"with Catalog.open({catalog.path!r}, write=False) as catalog:\n"
        "    for row in catalog.mount_rows():\n"
        "        reader = open_watched(catalog, row[0])\n"
        "        read_bytes(reader, 0, reader.size)\n"
        "        reader.close()\n"
        "heavy = {'sqlalchemy', 'alembic', 'typer', 'tqdm', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
    assert len(shelf) == 5


@pytest.mark.parametrize("letters", [2, 3])
def test_a_volume_that_was_cut_into_pieces(catalog: Catalog, tmp_path: Path, letters: int) -> None:
    """All pieces together are one volume: only the first of them has a header."""
    written = partimage_writer.write(partimage_writer.Recipe(present=PRESENT, tail=100))
    path = tmp_path / "sda1.000"
    path.write_bytes(written.volumes[0])
    pieces = split(path, letters, 30_000)
    assert len(pieces) > 3
    record = add_file(catalog, str(pieces[0])).record
    assert len(record.volumes) == len(pieces)
    with contextlib.closing(open_image(catalog, record.row.id)) as opened:
        assert read_bytes(opened.reader, 0, opened.reader.size) == written.guest
        assert opened.has_fingerprint()


def test_raw_bytes_that_begin_as_a_volume_does(catalog: Catalog, tmp_path: Path) -> None:
    """Taken for a partition's bytes as they are, no header is left out of them."""
    data = partimage_writer.write(partimage_writer.Recipe(present=PRESENT)).volumes[0]
    path = tmp_path / "partition"
    path.write_bytes(data)
    (result,) = batch.add_files(catalog, [batch.Item(str(path), is_raw=True)])
    assert result.ingested
    with contextlib.closing(open_by_name(catalog, "partition")) as image:
        assert image.read(0, image.size) == data


def test_a_file_that_cannot_be_looked_at_leaves_nothing_open(
    catalog: Catalog, shelf: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> bytes:
        raise OSError(errno.EIO, "planted")

    os.utime(tmp_path / "plain.img")
    monkeypatch.setattr(registry, "fingerprint", fail)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(OSError, match="planted"):
            open_image(catalog, shelf["plain"])
    assert os.listdir("/proc/self/fd") == before
