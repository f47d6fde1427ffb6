"""Verification of ntfsclone images: the structure to the last byte, and what a rescue left."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.passes import verify
from imgcat.formats.sources import prefetch as pieces
from support.memory_source import MemorySource
from support.ntfsclone_writer import Recipe, write

if TYPE_CHECKING:
    from imgcat.formats.finding import Finding
    from imgcat.formats.reader import Scan
    from support.ntfsclone_writer import Written

_SIZE = 1024
_RECIPE = Recipe(
    order=[*range(40), *range(60, 90), 120, 121], cluster_count=150, cluster_size=_SIZE
)
_MARK = b"BadSectoR\0"


@pytest.fixture(params=[700, pieces.PIECE_SIZE], ids=["small-pieces", "pieces"])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.setattr(pieces, "PIECE_SIZE", request.param)
    return write(_RECIPE)


def _findings(image: bytes, scan: Scan) -> list[Finding]:
    progress: list[int] = []
    found = list(
        verify.verify(
            "ntfsclone", MemorySource(image), scan.info.layout, scan.stored_index(),
            progress=progress.append,
        )
    )  # fmt: skip
    assert progress == sorted(progress)
    return found


def _scan(image: bytes) -> Scan:
    return registry.scan(MemorySource(image))


def _record(written: Written, cluster: int) -> int:
    return dict(written.records)[cluster]


def test_a_right_image_has_no_findings(written: Written) -> None:
    assert _findings(written.image, _scan(written.image)) == []


def test_each_command_that_is_none_puts_what_follows_in_doubt(written: Written) -> None:
    scan = _scan(written.image)
    for cluster, offset in written.records:
        image = bytearray(written.image)
        image[offset] = 0x11
        (found,) = _findings(bytes(image), scan)
        assert (found.start, found.stop) == (cluster * _SIZE, scan.info.size)
        assert f"ntfsclone.command @0x{offset:x}:" in found.detail


def test_a_gap_of_another_length_is_found(written: Written) -> None:
    scan = _scan(written.image)
    image = bytearray(written.image)
    # The gap before cluster 60 becomes one cluster shorter: every record after it moves.
    image[_record(written, 60) - 8] -= 1
    found = _findings(bytes(image), scan)
    assert found, "the stream leads elsewhere and nobody notices"
    assert all(each.start is None or each.start >= 60 * _SIZE for each in found)


def test_what_is_cut_off_after_the_scan_is_found(written: Written) -> None:
    scan = _scan(written.image)
    (found,) = _findings(written.image[: _record(written, 75) + 10], scan)
    assert (found.start, found.stop) == (75 * _SIZE, scan.info.size)
    assert "truncated" in found.detail


def test_a_header_of_another_kind_puts_all_in_doubt(written: Written) -> None:
    scan = _scan(written.image)
    image = bytearray(written.image)
    image[18] = 3  # the size of a cluster is no power of two any more
    (found,) = _findings(bytes(image), scan)
    assert (found.start, found.stop) == (0, scan.info.size)


def test_sectors_that_a_rescue_could_not_read_are_named(written: Written) -> None:
    scan = _scan(written.image)
    image = bytearray(written.image)
    # Two neighbours in different clusters, one alone, and one that only looks like one.
    for cluster, within in ((3, 512), (4, 0), (70, 512), (80, 100)):
        at = _record(written, cluster) + 1 + within
        image[at : at + len(_MARK)] = _MARK
    found = _findings(bytes(image), scan)
    assert [(each.start, each.stop) for each in found] == [
        (3 * _SIZE + 512, 4 * _SIZE + 512), (70 * _SIZE + 512, 71 * _SIZE),
    ]  # fmt: skip
    assert {each.detail for each in found} == {
        "could not be read when the image was made: ntfsclone filled it in"
    }


def test_a_mark_across_two_pieces_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written = write(_RECIPE)
    scan = _scan(written.image)
    image = bytearray(written.image)
    at = _record(written, 20) + 1
    image[at : at + len(_MARK)] = _MARK
    for size in range(at - 56 - len(_MARK), at - 56 + 2):
        monkeypatch.setattr(pieces, "PIECE_SIZE", size)
        (found,) = _findings(bytes(image), scan)
        assert (found.start, found.stop) == (20 * _SIZE, 20 * _SIZE + 512)


def test_an_index_of_another_image_is_noticed(written: Written) -> None:
    other = write(dataclasses.replace(_RECIPE, order=[*range(41), *range(60, 90), 120, 121]))
    (found,) = _findings(written.image, dataclasses.replace(
        _scan(written.image), ranges=_scan(other.image).ranges
    ))  # fmt: skip
    assert (found.start, found.stop) == (None, None)
    assert "add --force" in found.detail


def test_nothing_of_an_image_whose_header_is_gone_is_believed(written: Written) -> None:
    scan = _scan(written.image)
    (found,) = _findings(written.image[:20], scan)
    assert (found.start, found.stop) == (0, scan.info.size)
    with pytest.raises(TruncatedImageError):
        _scan(written.image[:20])
