"""Whatever a text of Clonezilla holds, it is understood, or refused with its name.

Texts as the tools write them are mutated many times from fixed seeds.
"""

from __future__ import annotations

import collections
import os
import shutil
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats.clonezilla import metadata, sums
from imgcat.formats.clonezilla.files import MAX_TEXT_SIZE, is_plain_name
from imgcat.formats.errors import CorruptImageError, FormatError
from imgcat.formats.files import split_names
from imgcat.formats.partimage import volumes
from imgcat.formats.partitions.ebr import boot_records
from imgcat.formats.partitions.text_tables import parse_parted, parse_sfdisk
from support.clonezilla_texts import GPT, OLD, PARTED, SFDISK, TEXTS, Mutator, check_names
from support.partimage_writer import volume_header

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from imgcat.formats.partitions.text_tables import PartitionTable
_SECTOR_SIZES = {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
_TOO_LONG_TEXTS = 1 << 63
"""What SQLite cannot store any more."""

_LONG = MAX_TEXT_SIZE // 4
"""Bytes of a text that is long enough for what grows faster than it to take minutes."""

_SLOWEST = 2.0
"""Seconds of processor time that no long text may take; each takes a tenth."""

_PEAK = 200 * _LONG
"""Bytes of memory that a long text may take: so many for each of its own."""


def _decoded(text: bytes) -> str:
    """Return a text as the directory's files are decoded."""
    return text.decode("utf-8", "surrogateescape")


def _table_outcome(text: str, sector_size: int = 512) -> PartitionTable | None:
    """Parse a partition table; check what is understood, and how it is refused."""
    try:
        table = parse_sfdisk(text, sector_size=sector_size, structure="clonezilla.sda-pt.sf")
    except CorruptImageError as error:
        _check_error(error, "clonezilla.sda-pt.sf", text)
        return None
    assert table.sector_size in _SECTOR_SIZES
    for lba in (table.first_lba, table.last_lba):
        assert lba is None or 0 <= lba < _TOO_LONG_TEXTS
    assert len({row.number for row in table.rows}) == len(table.rows) <= 1024
    lines = iter(text.split("\n"))
    for row in table.rows:
        assert 0 <= row.start < row.stop < _TOO_LONG_TEXTS
        assert row.start % table.sector_size == row.stop % table.sector_size == 0
        assert 0 <= row.number < 10**9
        assert row.mbr_type is None or 0 <= row.mbr_type < 256
        # In the order of the text, and with the numbers that stand there.
        numbers = (row.start, row.stop - row.start)
        words = [str(row.number), *(str(number // table.sector_size) for number in numbers)]
        assert any(
            each.strip().startswith(row.device) and all(word in each for word in words)
            for each in lines
        )
    return table


def _parted_outcome(text: str) -> str:
    try:
        disk = parse_parted(text, structure="clonezilla.sda-pt.parted")
    except CorruptImageError as error:
        _check_error(error, "clonezilla.sda-pt.parted", text)
        return "refused"
    assert disk.sector_size is None or disk.sector_size in _SECTOR_SIZES
    assert disk.size is None or 0 <= disk.size < _TOO_LONG_TEXTS
    if disk.size is not None:
        assert str(disk.size) in text or str(disk.size // (disk.sector_size or 512)) in text
    return "understood"


def _check_error(error: CorruptImageError, structure: str, text: str) -> None:
    assert error.structure == structure
    assert error.detail.startswith("line ")
    assert 0 <= error.offset <= len(text.encode("utf-8", "surrogateescape"))
    assert len(error.detail) < 10_000


def _parse_lists(text: str) -> None:
    """Parse a text as each of the lists: none raises, and what is told can name files."""
    names, refused = metadata.parse_names(text)
    assert all(map(is_plain_name, names))
    assert len(names) <= 1024
    assert len(refused) <= 1024
    assert len(set(names)) == len(names)
    metadata.parse_fragment(text)
    assert metadata.parse_swap("sda5", text).device == "sda5"
    devices = [*metadata.parse_file_systems(text)]
    devices += [group.device for group in metadata.parse_volume_groups(text)]
    devices += [volume.name for volume in metadata.parse_logical_volumes(text)]
    for luks in metadata.parse_luks_devices(text):
        devices += [luks.device] if luks.mapped is None else [luks.device, luks.mapped]
    assert all(map(is_plain_name, devices))
    metadata.parse_log(text)
    lines = text.count("\n") + 1
    for algorithm in ("md5", "b2"):
        found = sums.parse_sums(text, algorithm)
        assert all(is_plain_name(line.name) for line in found.lines)
        assert all(0 < number <= lines for number, _ in found.problems)


def _check_boot_records(table: PartitionTable, rng: random.Random) -> None:
    """Make the chain of boot records from a table, and from saved ones that hold anything."""
    saved = {
        row.number: rng.randbytes(446) + bytes(4) + rng.choice((rng.randbytes(60), bytes(60)))
        + rng.choice((b"\x55\xaa", b"", b"\0\0"))
        for row in table.rows if rng.random() < 0.5
    }  # fmt: skip
    records, problems = boot_records(table, saved)
    assert len({record.offset for record in records}) == len(records)
    for record in records:
        assert len(record.data) == 512
        assert record.data[510:] == b"\x55\xaa"
        assert 0 <= record.offset < _TOO_LONG_TEXTS
        assert not record.is_saved or record.data == saved[record.number][:512]
    assert all(isinstance(problem, str) for problem in problems)


def _run_texts(seed: int, count: int) -> collections.Counter[str]:
    mutator = Mutator(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(count):
        text = _decoded(mutator.mutated((SFDISK, GPT, OLD)[number % 3]))
        table = _table_outcome(text, mutator.rng.choice((512, 4096)))
        outcomes["no table" if table is None else table.label] += 1
        if table is not None:
            _check_boot_records(table, mutator.rng)
        outcomes[_parted_outcome(_decoded(mutator.mutated(PARTED)))] += 1
        _parse_lists(_decoded(mutator.mutated(mutator.rng.choice(list(TEXTS.values())))))
    return outcomes


@pytest.mark.parametrize("seed", range(2))
def test_mutated_texts_are_understood_or_refused(seed: int) -> None:
    outcomes = _run_texts(seed, 1500)
    # Mutations that all end in the same place would prove nothing.
    for outcome in ("no table", "dos", "gpt", "understood", "refused"):
        assert outcomes[outcome] > 100, outcomes


@settings(max_examples=150, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_any_text(data: bytes) -> None:
    text = _decoded(data)
    _table_outcome(text)
    _table_outcome(f"unit: sectors\n/dev/sda1 : start=1, size=1, {text}")
    _parted_outcome(text)
    _parted_outcome(f"Disk /dev/sda: {text}")
    _parse_lists(text)


def _filled(piece: str, head: str = "") -> str:
    return (head + piece * (_LONG // len(piece)))[:_LONG]


_LONG_TEXTS = {
    "empty lines": _filled("\n"),
    "headings": _filled("a: b\n"),
    "other headings": "".join(f"a{n}: b\n" for n in range(_LONG // 10)),
    "a long heading": _filled("a -_", "a"),
    "a long device": _filled(" 1", "/"),
    "colons": _filled(": 1", "Disk /"),
    "digits": _filled("9", "Disk /dev/sda: "),
    "a row": _filled(' ,"', "/dev/sda1 : start=1, size=1"),
    "rows of nothing": _filled("/dev/sda1 : start=0, size=0\n"),
    "devices": _filled("/dev/a x\n"),
    "mapped": _filled("/dev/mapper/a ", "/dev/a "),
    "words": _filled("a "),
    "slashes": _filled("/"),
    "programs": _filled("Saved by ", "Saved by "),
    "sums": _filled(") = a", "MD5 (a"),
    "escapes": _filled("\\", "\\" + "0" * 32 + "  "),
    "surrogates": _filled("\udcff"),
}


@pytest.mark.parametrize("what", _LONG_TEXTS)
def test_long_texts_take_little_time(what: str) -> None:
    text = _LONG_TEXTS[what]
    began = time.process_time()
    _table_outcome(text)
    _parted_outcome(text)
    _parse_lists(text)
    assert time.process_time() - began < _SLOWEST


@pytest.mark.parametrize("what", ["other headings", "words"])
def test_long_texts_take_bounded_memory(what: str) -> None:
    tracemalloc.start()
    try:
        _table_outcome(_LONG_TEXTS[what])
        _parted_outcome(_LONG_TEXTS[what])
        metadata.parse_names(_LONG_TEXTS[what])
        assert tracemalloc.get_traced_memory()[1] < _PEAK
    finally:
        tracemalloc.stop()


_SUFFIXES = st.one_of(
    st.sampled_from(["aa", "ab", "ac", "zz", "aaa", "aab", "000", "001", "002", "01", "00", "gz",
                     "\u0660\u0661", "aa\n", "000\n", "", "aaaaaaaaa", "00000000", "zaaa"]),
    st.text("abz01", min_size=1, max_size=4),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(suffixes=st.sets(_SUFFIXES, min_size=1, max_size=8), alone=st.sets(_SUFFIXES, max_size=3))
def test_a_file_is_among_its_chunks(
    tmp_path_factory: pytest.TempPathFactory, suffixes: set[str], alone: set[str]
) -> None:
    where = tmp_path_factory.mktemp("chunks")
    for suffix in suffixes:
        (where / f"a.{suffix}").touch()
    heads = {str(where / f"a.{suffix}") for suffix in alone}
    for suffix in sorted(suffixes):
        path = str(where / f"a.{suffix}")
        run = split_names.run_of(path)
        assert not run or path in run
        assert split_names.first_chunk(path) in (run or [path])
        try:
            paths = split_names.chunk_paths(path, heads.__contains__)
        except FormatError as error:
            check_names(error, str(where))
            continue
        assert path in paths
        assert all(map(os.path.exists, paths))
    shutil.rmtree(where)


def test_a_name_that_goes_on_in_another_line_is_no_chunk(tmp_path: Path) -> None:
    for name in ("a.aa", "a.ab", "a.000", "a.001"):
        (tmp_path / name).write_bytes(b"")
    for name in ("a.aa\n", "a.001\n"):
        path = str(tmp_path / name)
        assert split_names.chunk_paths(path, lambda _: True) == [path]
        assert volumes.first_volume(path, lambda _: volume_header(1, 2)) == path
