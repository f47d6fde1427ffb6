"""Files of checksums: what coreutils writes is understood, what leads elsewhere is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.clonezilla.sums import (
    SumLine,
    SumOutcome,
    SumResult,
    algorithm_of,
    check_sums,
    parse_sums,
)
from imgcat.formats.errors import CorruptImageError, NotThisFormatError
from support.clonezilla_writer import write_sums

if TYPE_CHECKING:
    from pathlib import Path

_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_PROGRAMS = ["md5sum", "sha1sum", "sha256sum", "sha512sum", "b2sum"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"{_MD5}  disk", "disk"),
        (f"{_MD5} *disk", "disk"),
        (f"{_MD5.upper()}  disk\r", "disk"),
        (f"{_MD5}  ./disk", "disk"),
        (f"{_MD5}   two  blanks ", " two  blanks "),
        (f"\\{_MD5}  a\\nb\\\\c\\rd", "a\nb\\c\rd"),
        (f"{_MD5}  a\\nb", "a\\nb"),
        (f"MD5 (disk (1)) = {_MD5}", "disk (1)"),
        (f"\\MD5 (a\\nb) = {_MD5}", "a\nb"),
    ],
)
def test_lines(line: str, name: str) -> None:
    sums = parse_sums(f"# made by hand\n\n{line}\n", "md5")
    assert sums.lines == (SumLine(name, _MD5, 3),)
    assert not sums.problems


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("what", "no checksum and name"),
        (f"{_MD5} disk", "no checksum and name"),
        (f"{_MD5}  ", "no checksum and name"),
        ("d41d8cd9  disk", "a md5 checksum does not have 8 digits"),
        (f"\\{_MD5}  a\\tb", "an escape in the name that coreutils does not write"),
        (f"\\{_MD5}  a\\", "an escape in the name that coreutils does not write"),
        (f"{_MD5}  ../disk", "'../disk' is no file of this directory: not looked at"),
        (f"{_MD5}  /etc/passwd", "'/etc/passwd' is no file of this directory: not looked at"),
        (f"{_MD5}  a/b", "'a/b' is no file of this directory: not looked at"),
        (f"{_MD5}  ..", "'..' is no file of this directory: not looked at"),
    ],
)
def test_problems(line: str, problem: str) -> None:
    sums = parse_sums(f"{_MD5}  good\n{line}\n", "md5")
    assert [found.name for found in sums.lines] == ["good"]
    assert sums.problems == ((2, problem),)


def test_blake2_of_any_length() -> None:
    for size in (1, 32, 64):
        digest = hashlib.blake2b(b"", digest_size=size).hexdigest()
        assert parse_sums(f"{digest}  disk", "b2").lines[0].digest == digest
    assert parse_sums(f"{'ab' * 65}  disk\nabc  disk", "b2").problems


def test_names_of_the_files() -> None:
    assert [algorithm_of(name) for name in ("MD5SUMS", "B2SUMS", "sha256sums")] == [
        "md5", "b2", "sha256",
    ]  # fmt: skip
    for name in ("SUMS", "CRCSUMS", "MD5", "MD5SUMS.txt"):
        with pytest.raises(NotThisFormatError, match="is none of MD5SUMS, SHA1SUMS"):
            algorithm_of(name)


@pytest.mark.parametrize("program", _PROGRAMS)
def test_what_coreutils_writes(tmp_path: Path, program: str) -> None:
    names = ["disk", "sda1.ext4-ptcl-img.zst.aa", "odd\nname", "back\\slash", " blank", "(x) = y"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number]) * (number * 2_000_000))
    (tmp_path / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"x")
    result = subprocess.run(
        [program.encode(), *sorted(os.listdir(os.fsencode(tmp_path)))],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    sums = tmp_path / f"{program.removesuffix('sum').upper()}SUMS"
    sums.write_bytes(result.stdout)
    seen: list[int] = []
    results = list(check_sums(str(tmp_path), sums.name, seen.append))
    assert {found.outcome for found in results} == {SumOutcome.OK}
    assert len(results) == len(names) + 1
    assert seen == sorted(seen)
    assert seen[-1] == sum(2_000_000 * number for number in range(len(names))) + 1


def test_outcomes(tmp_path: Path) -> None:
    for name in ("same", "changed", "gone", "linked", "inside"):
        (tmp_path / name).write_bytes(b"data")
    write_sums(tmp_path)
    with (tmp_path / "MD5SUMS").open("a") as file:
        file.write("nonsense\n")
        file.write(f"{_MD5}  ../secret\n{_MD5}  folder\n{_MD5}  pipe\n")
    (tmp_path / "changed").write_bytes(b"date")
    (tmp_path / "gone").unlink()
    (tmp_path / "linked").unlink()
    (tmp_path / "linked").symlink_to("/etc/passwd")
    (tmp_path / "inside").unlink()
    (tmp_path / "inside").symlink_to("same")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    results = list(check_sums(str(tmp_path), "MD5SUMS"))
    assert {(found.name, found.outcome.value) for found in results if found.name} == {
        ("same", "ok"), ("changed", "different"), ("gone", "missing"), ("linked", "refused"),
        ("inside", "ok"), ("folder", "refused"), ("pipe", "refused"),
    }  # fmt: skip
    assert [found.detail for found in results if not found.name] == [
        "MD5SUMS, line 6: no checksum and name",
        "MD5SUMS, line 7: '../secret' is no file of this directory: not looked at",
    ]
    different = next(found for found in results if found.outcome is SumOutcome.DIFFERENT)
    assert different == SumResult(
        "changed",
        SumOutcome.DIFFERENT,
        "the md5 checksum is 5fc732311905cb27e82d67f4f6511f7f, "
        "but 8d777f385d3dfec8815d20f7496026dc is stored",
        "MD5SUMS",
    )


def test_a_file_of_sums_that_is_a_link_or_too_long(tmp_path: Path) -> None:
    (tmp_path / "MD5SUMS").symlink_to("/etc/passwd")
    with pytest.raises(CorruptImageError, match="symbolic link out of the directory"):
        check_sums(str(tmp_path), "MD5SUMS")
    (tmp_path / "SHA1SUMS").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(CorruptImageError, match="the text goes on"):
        check_sums(str(tmp_path), "SHA1SUMS")
    with pytest.raises(FileNotFoundError):
        check_sums(str(tmp_path), "B2SUMS")


@given(
    text=st.one_of(
        st.text(),
        st.lists(
            st.builds("{}{}{}{}".format, st.sampled_from(["", "\\"]), st.sampled_from([_MD5, "ab"]),
                      st.sampled_from(["  ", " *", " "]), st.text(max_size=20)),
        ).map("\n".join),
    ),
    algorithm=st.sampled_from(["md5", "sha1", "b2"]),
)  # fmt: skip
def test_any_text_is_understood_or_a_problem(text: str, algorithm: str) -> None:
    sums = parse_sums(text, algorithm)
    for line in sums.lines:
        assert "/" not in line.name
        assert line.name not in {"", ".", ".."}
        assert bytes.fromhex(line.digest)
