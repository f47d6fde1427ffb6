"""Which files are chunks of one image: held against what `split` names them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from pathlib import Path

import pytest
from imgcat.formats.errors import CorruptImageError, TruncatedImageError
from imgcat.formats.files import detect
from imgcat.formats.files import split_names as splits
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.reader import read_bytes
from support import partclone_writer, partimage_writer
from support.opening import open_scanned

FIRST = b"I"
"""How a file begins that is an image by itself, in these tests."""


def _is_alone(path: str) -> bool:
    return Path(path).read_bytes()[:1] == FIRST


def _split(directory: Path, count: int, *options: str) -> list[Path]:
    """Cut a file of so many bytes into as many chunks, by `split` itself."""
    data = FIRST + b"x" * (count - 1)
    subprocess.run(
        ["split", "-b", "1", *options, "-", str(directory / "image.")], input=data, check=True
    )
    # Short suffixes first: that is the order in which `split` has written them.
    return sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name))


def _chunks(path: Path) -> list[Path]:
    return [Path(each) for each in splits.chunk_paths(str(path), _is_alone)]


def _files(directory: Path, names: str, *, first: str = "") -> None:
    for name in names.split():
        (directory / name).write_bytes(FIRST if name == first else b"x")


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, ("-a", "2")),
        (2, ("-a", "2")),
        (649, ("-a", "2")),
        (676, ("-a", "2")),
        (700, ("-a", "3")),
        (3, ("-a", "5")),
        (650, ()),
        (651, ()),
        (1400, ()),
        (10, ("-d", "-a", "3")),
        (100, ("-d", "-a", "2")),
        (12, ("--numeric-suffixes=1", "-a", "3")),
        (99, ("--numeric-suffixes=1", "-a", "2")),
    ],
)
def test_any_chunk_stands_for_all(tmp_path: Path, count: int, options: tuple[str, ...]) -> None:
    paths = _split(tmp_path, count, *options)
    assert len(paths) == count
    for path in {paths[0], paths[-1], paths[count // 2], paths[count // 3]}:
        assert _chunks(path) == paths
        assert splits.first_chunk(str(path)) == str(paths[0])
    assert splits.run_of(str(paths[-1])) == [str(each) for each in paths]
    if count > 1:
        assert splits.run_of(str(paths[0]))[1] == str(paths[1])
    splits.check_sizes(list(map(str, paths)))


def test_the_border_where_split_widens(tmp_path: Path) -> None:
    paths = _split(tmp_path, 655)
    names = [path.name for path in paths]
    assert names[649:652] == ["image.yz", "image.zaaa", "image.zaab"]
    assert splits.run_of(str(paths[649]))[650] == str(paths[650])
    for path in paths[645:]:
        assert splits.first_chunk(str(path)) == str(paths[0])


@pytest.mark.parametrize(
    ("options", "count", "hole"),
    [
        (("-a", "2"), 40, 7),
        (("-a", "2"), 700 - 24, 30),
        (("-a", "3"), 40, 1),
        ((), 655, 650),
        ((), 655, 3),
        (("-d", "-a", "3"), 30, 29 - 4),
        (("--numeric-suffixes=1", "-a", "3"), 30, 2),
    ],
)
def test_a_hole_is_named(tmp_path: Path, options: tuple[str, ...], count: int, hole: int) -> None:
    paths = _split(tmp_path, count, *options)
    paths[hole].unlink()
    for path in (paths[0], paths[hole - 1]):
        with pytest.raises(TruncatedImageError, match=f"{paths[hole]} is missing"):
            _chunks(path)


@pytest.mark.parametrize("options", [("-a", "2"), ("-a", "3"), ("-a", "5")])
def test_a_first_chunk_that_is_missing_is_named(tmp_path: Path, options: tuple[str, ...]) -> None:
    paths = _split(tmp_path, 5, *options)
    paths[0].unlink()
    for path in paths[2:]:
        with pytest.raises(TruncatedImageError, match=f"{paths[0]} is missing, {path} is there"):
            _chunks(path)


def test_chunks_behind_a_hole_name_it_too(tmp_path: Path) -> None:
    paths = _split(tmp_path, 9, "-a", "2")
    paths[4].unlink()
    for path in paths[5:]:
        with pytest.raises(TruncatedImageError, match=f"{paths[4]} is missing, {path} is there"):
            _chunks(path)


@pytest.mark.parametrize(
    ("names", "first", "named"),
    [
        ("disk.gz disk.xz disk.img", "disk.gz", "disk.gz"),
        ("disk.gz disk.xz", "", "disk.gz"),
        ("disk.aa", "disk.aa", "disk.aa"),
        ("disk.gz disk.hb", "", "disk.gz"),
        ("disk.img", "", "disk.img"),
        ("disk.001", "disk.001", "disk.001"),
        ("disk disk.1 disk.2", "", "disk.1"),
        ("disk.AA disk.AB", "", "disk.AA"),
        ("2026.11 2026.12", "2026.12", "2026.12"),
        ("aa.img ab.img", "", "aa.img"),
        (".aa .ab", "", ".ab"),
    ],
)
def test_what_is_no_chunk(tmp_path: Path, names: str, first: str, named: str) -> None:
    _files(tmp_path, names, first=first)
    assert _chunks(tmp_path / named) == [tmp_path / named]
    assert splits.first_chunk(str(tmp_path / named)) == str(tmp_path / named)


def test_other_files_beside_the_chunks_do_not_count(tmp_path: Path) -> None:
    paths = _split(tmp_path, 3, "-a", "2")
    _files(
        tmp_path, "image image.md5 image.txt.aa other.ad imagexaa image.aa.x image.000", first=""
    )
    _files(tmp_path, "image.xz image.img", first="image.xz")
    (tmp_path / "image.img").write_bytes(FIRST)
    (tmp_path / "image.md5").rename(tmp_path / "image.sha256sum")
    assert _chunks(paths[1]) == paths


def test_strays_that_are_no_images_are_named(tmp_path: Path) -> None:
    paths = _split(tmp_path, 3, "-a", "2")
    stray = tmp_path / "image.af"
    stray.write_bytes(b"x")
    with pytest.raises(TruncatedImageError) as caught:
        _chunks(paths[0])
    assert caught.value.detail == f"{tmp_path}/image.ad is missing, {stray} is there"


def test_a_path_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _split(tmp_path, 3, "-a", "2")
    monkeypatch.chdir(tmp_path)
    assert splits.chunk_paths("image.ab", _is_alone) == ["image.aa", "image.ab", "image.ac"]
    assert splits.first_chunk("image.ac") == "image.aa"


def test_names_with_newlines_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    base = f"{tmp_path}/a\nb\udcff.img"
    for suffix in ("aa", "ab", "ac"):
        Path(f"{base}.{suffix}").write_bytes(FIRST if suffix == "aa" else b"x")
    expected = [f"{base}.{suffix}" for suffix in ("aa", "ab", "ac")]
    assert splits.chunk_paths(f"{base}.ac", _is_alone) == expected


def test_a_directory_is_listed_only_where_there_can_be_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files(tmp_path, "disk.img other.aa other.ab", first="disk.img")

    def listdir(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(splits.os, "listdir", listdir)
    assert _chunks(tmp_path / "disk.img") == [tmp_path / "disk.img"]
    assert splits.run_of(str(tmp_path / "disk.img")) == []
    with pytest.raises(PermissionError):
        _chunks(tmp_path / "other.ab")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((5, 5, 5), None),
        ((5, 5, 1), None),
        ((5,), None),
        ((5, 4, 5), r"1 has 4 bytes, the chunks before it have 5"),
        ((5, 6, 5), r"1 has 6 bytes, the chunks before it have 5"),
        ((5, 5, 6), r"2 has 6 bytes, more than the 5 of the others"),
    ],
)
def test_sizes(tmp_path: Path, sizes: tuple[int, ...], message: str | None) -> None:
    paths = [str(tmp_path / str(number)) for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Path(path).write_bytes(bytes(size))
    if message is None:
        splits.check_sizes(paths)
    else:
        with pytest.raises(CorruptImageError, match=message):
            splits.check_sizes(paths)


# -- images ----------------------------------------------------------------


def _write_chunks(directory: Path, data: bytes, size: int, *options: str) -> list[Path]:
    base = directory / "sda1.img."
    subprocess.run(
        ["split", "-b", str(size), *(options or ("-a", "3")), "-", base], input=data, check=True
    )
    return sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name))


def test_more_than_six_hundred_chunks(tmp_path: Path) -> None:
    written = partclone_writer.write(partclone_writer.Recipe(present=[True] * 4000, block_size=64))
    paths = _write_chunks(tmp_path, written.image, 300, "-a", "3")
    assert len(paths) > 664
    with detect.open_files(str(paths[400])) as stored:
        assert len(stored.files) == len(paths)
        reader = open_scanned(stored.source, scan_files(stored))
        assert read_bytes(reader, 0, reader.size) == written.guest


def test_a_compressed_first_chunk_says_what_is_in_it(tmp_path: Path) -> None:
    """Also of xz, whose index is in the last chunk."""
    image = partclone_writer.write(
        partclone_writer.Recipe(present=[True] * 64, block_size=4096)
    ).image
    for codec, data in (
        ("gzip", gzip.compress(image)),
        ("xz", lzma.compress(image)),
        ("bzip2", bz2.compress(image[:80_000]) + bz2.compress(image[80_000:])),
    ):
        directory = tmp_path / codec
        directory.mkdir()
        paths = _write_chunks(directory, data, len(data) * 2 // 3, "-a", "2")
        assert len(paths) == 2
        assert detect.begins_an_image(str(paths[0])), codec
        assert not detect.begins_an_image(str(paths[1])), codec
        assert detect.first_file(str(paths[1])) == str(paths[0])


RECIPE = partimage_writer.Recipe(
    present=[True, False, True, True] * 40, volume_sizes=(40_000, 30_000, 20_000)
)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, bytes])
def test_native_volumes_that_are_compressed_one_by_one(tmp_path: Path, pack: object) -> None:
    written = partimage_writer.write(RECIPE)
    paths = [tmp_path / f"sda1.{number:03}" for number in range(4)]
    for path, volume in zip(paths, written.volumes, strict=True):
        path.write_bytes(pack(volume))  # type: ignore[operator]
    for path in paths:
        assert detect.first_file(str(path)) == str(paths[0])
        with detect.open_files(str(path)) as stored:
            assert [file.path for file in stored.files] == list(map(str, paths))
            assert stored.stream_volumes == (1, 1, 1, 1)
            scan = scan_files(stored)
            reader = open_scanned(stored.source, scan)
            assert stored.source.read_at(0, stored.source.size) == written.stream
            assert read_bytes(reader, 0, reader.size) == written.guest


@pytest.mark.parametrize("options", [("-a", "2"), ("-d", "-a", "3"), ("-a", "3")])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_one_volume_cut_into_chunks(tmp_path: Path, pack: object, options: tuple[str, ...]) -> None:
    written = partimage_writer.write(partimage_writer.Recipe(present=RECIPE.present))
    data = pack(written.volumes[0])  # type: ignore[operator]
    paths = _write_chunks(tmp_path, data, len(data) // 4 + 1, *options)
    assert len(paths) == 4
    for path in paths:
        with detect.open_files(str(path)) as stored:
            assert [file.path for file in stored.files] == list(map(str, paths))
            assert stored.stream_volumes == (4,)
            scan = scan_files(stored)
            reader = open_scanned(stored.source, scan)
            assert stored.source.read_at(0, stored.source.size) == written.stream
            assert read_bytes(reader, 0, reader.size) == written.guest


def test_a_volume_of_something_else_between_others_is_no_chunk(tmp_path: Path) -> None:
    """All volumes but the last are of one size, as the user asks for: that tells nothing."""
    volumes = partimage_writer.write(
        partimage_writer.Recipe(present=[True] * 400, volume_sizes=(95_000, 95_000))
    ).volumes
    for number, volume in enumerate(volumes):
        (tmp_path / f"sda1.{number:03}").write_bytes(volume)
    (tmp_path / "sda1.001").write_bytes(b"something else".ljust(len(volumes[1])))
    with pytest.raises(CorruptImageError, match=r"sda1\.001: not a partimage volume"):
        detect.open_files(str(tmp_path / "sda1.000"))
