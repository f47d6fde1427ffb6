"""The commands, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import imgcat
import pytest
from imgcat.catalog.database import schema
from imgcat.cli.main import _COMMANDS, make_app
from imgcat.cli.render import human_size
from support.packers import pack
from support.volumes import MIB, quiet, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample

LS_FIELDS = {
    "id", "name", "path", "format", "format_version", "fs_type", "size_bytes", "block_size",
    "used_bytes", "stored_bytes", "compression", "volume_count", "status", "scanned_at",
    "verified_at", "verify_result",
}  # fmt: skip

PARTCLONE_INFO = {
    "image format:": "image_format",
    "with partclone:": "partclone_version",
    "bitmap mode:": "bitmap_mode",
    "checksum algo:": "checksum_algorithm",
    "checksum size:": "checksum_size",
    "blocks/checksum:": "blocks_per_checksum",
}


def test_version_without_any_heavy_import() -> None:
    code = (
        "import sys; sys.argv = ['imgcat', '--version']\n"
        "from imgcat.cli.main import run\nrun()\n"
        "heavy = {'typer', 'sqlalchemy', 'numpy', 'trio', 'pyfuse3', 'alembic', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == f"imgcat {imgcat.__version__}\n[]\n"


@pytest.mark.parametrize(
    "arguments", [["ls"], ["ls", "--json"], ["mounts"], ["sql", "SELECT name FROM images"]]
)
def test_asking_loads_nothing_heavy(
    arguments: list[str], program: Program, samples: list[Sample]
) -> None:
    program.run("add", samples[0].path)
    code = (
        f"import sys; sys.argv = ['imgcat', *{arguments}]\n"
        "from imgcat.cli.main import run\ncode = run()\n"
        "heavy = {'sqlalchemy', 'alembic', 'numpy', 'trio', 'pyfuse3', 'tqdm', 'pydantic'}\n"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    # Not as text: `mounts` lists every mount there is, and a mount point's name may be any bytes.
    said = subprocess.run(
        [sys.executable, "-c", code], env=program.environment, capture_output=True, check=True
    )
    *told, last = said.stderr.splitlines()
    assert last == b"0 []"
    # Where no other test has mounted anything just now, `mounts` says so.
    assert told in ([], [b"imgcat: nothing is mounted"])


@pytest.mark.fresh
@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_each_command_starts_by_itself(command: str, program: Program) -> None:
    """Its modules import what they need, whatever another command would have imported before."""
    assert program.run(command, "--help").stdout.startswith("Usage: imgcat ")


def test_add_says_a_line_for_each_and_skips_the_unchanged(
    program: Program, samples: list[Sample]
) -> None:
    paths = [samples[1].path, samples[2].path]
    assert program.run("add", *paths).stdout.splitlines() == [
        f"added     {samples[1].name}: partclone EXTFS, 9.0M, 1.9M used",
        f"added     {samples[2].name}: partclone EXTFS, 9.0M, 1.9M used",
    ]
    again = program.run("add", *paths)
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["unchanged"] * 2
    assert again.stderr == ""
    assert program.run("-q", "add", "--force", *paths).stdout == ""


def test_ls_lists(program: Program, samples: list[Sample]) -> None:
    program.run("add", *(sample.path for sample in samples))
    rows = program.json("ls")
    assert set(rows[0]) >= LS_FIELDS
    assert [row["name"] for row in rows] == sorted(sample.name for sample in samples)
    assert len(program.run("ls").stdout.splitlines()) == 10
    assert [row["name"] for row in program.json("ls", "*0.2.89*")] == ["ext4-0.2.89-v0001"]
    program.run("ls", "nothing*", code=3)


def test_show_tells_what_partclone_info_tells(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    sample = next(sample for sample in samples if sample.name == "ext4-0.3.47-a1-k1")
    program.run("add", sample.path)
    said = subprocess.run(
        ["partclone.info", "-s", sample.path, "-L", tmp_path / "log"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    header = program.json("show", sample.name)["header"]
    found = {
        ours: line.removeprefix(theirs).strip()
        for theirs, ours in PARTCLONE_INFO.items()
        for line in (said.stdout + said.stderr).splitlines()
        if line.startswith(theirs)
    }
    assert len(found) == len(PARTCLONE_INFO)
    found["partclone_version"] = found["partclone_version"].removeprefix("v")
    assert {key: str(header[key]) for key in found} == found

    text = program.run("show", sample.name).stdout
    assert "e2fsck -fn DIR/ext4-0.3.47-a1-k1" in text
    assert "mount -t ext4 -o loop,ro,noload DIR/ext4-0.3.47-a1-k1 /mnt" in text
    assert "blocks per checksum:    1\n" in text


def test_rename_and_rm(program: Program, samples: list[Sample]) -> None:
    program.run("add", samples[0].path)
    program.run("rename", samples[0].name, "here")
    assert [row["name"] for row in program.json("ls")] == ["here"]
    program.run("rm", "here")
    assert program.json("ls") == []
    program.run("rm", "here", code=3)


def test_rescan_reports_each(program: Program, samples: list[Sample], tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    shutil.copy(samples[0].path, image)
    program.run("add", image)
    assert program.run("rescan").stdout == "unchanged x\n"
    image.unlink()
    gone = program.run("rescan", code=3)
    assert gone.stdout == "missing   x\n"
    assert str(image) in gone.stderr
    assert [row["status"] for row in program.json("ls")] == ["missing"]


def _exported(program: Program, name: str, out: Path) -> str:
    program.run("export", "--force", name, out)
    return sha256(out)


@pytest.mark.parametrize("packer", [None, "zstd"])
def test_rescan_recognises_what_has_taken_the_place_of_a_raw_image(
    packer: str | None, program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    volume, image, out = tmp_path / "volume", tmp_path / "sw.img", tmp_path / "out"
    volume.touch()
    os.truncate(volume, 8 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", volume)

    def put(source: Path) -> None:
        image.unlink(missing_ok=True)
        if packer is None:
            shutil.copy(source, image)
        else:
            # The one is of gzip, the other of zstd: of the same name all the same.
            pack("gzip" if source == volume else packer, source, image)

    put(volume)
    program.run("add", image)
    assert program.json("show", "sw")["format"] == "raw"
    put(samples[0].path)
    assert program.run("rescan", "sw").stdout == "updated   sw\n"
    assert program.json("show", "sw")["format"] == "partclone"
    assert _exported(program, "sw", out) == samples[0].volume_sha256
    put(volume)
    program.run("rescan", "sw")
    assert program.json("show", "sw")["format"] == "raw"
    assert _exported(program, "sw", out) == sha256(volume)
    # Nothing that is known: it goes on being raw, and is recognised again when something is.
    zeros = tmp_path / "zeros"
    zeros.write_bytes(bytes(MIB))
    put(zeros)
    program.run("rescan", "sw")
    assert program.json("show", "sw")["format"] == "raw"
    assert _exported(program, "sw", out) == sha256(zeros)
    put(samples[1].path)
    program.run("rescan", "sw")
    assert _exported(program, "sw", out) == samples[1].volume_sha256


def test_what_was_said_to_be_raw_stays_raw(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    image, out = tmp_path / "x.img", tmp_path / "out"
    shutil.copy(samples[0].path, image)
    program.run("add", "--format", "raw", image)
    assert program.json("show", "x")["header"] == {"taken_as": "raw"}
    shutil.copy(samples[1].path, image)
    program.run("rescan", "x")
    assert _exported(program, "x", out) == samples[1].image_sha256
    program.run("repack", "--replace", "--remove-old", "x", tmp_path / "x.zst")
    assert program.json("show", "x")["header"] == {"taken_as": "raw"}
    assert _exported(program, "x", out) == samples[1].image_sha256
    pack("zstd", samples[2].path, tmp_path / "x.zst")
    program.run("rescan", "x")
    assert _exported(program, "x", out) == samples[2].image_sha256


def test_of_a_raw_image_that_is_not_read_any_more_it_is_said_what_to_do(
    program: Program, tmp_path: Path
) -> None:
    image = tmp_path / "x.img"
    image.touch()
    os.truncate(image, 8 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", image)
    program.run("add", image)
    quiet("qemu-img", "create", "-q", "-f", "vmdk", image, "8M")
    said = program.run("rescan", "x", code=5).stderr
    assert "VMDK is not read" in said
    assert "`imgcat add --format raw` takes it for raw all the same" in said
    program.run("add", "--format", "raw", image)
    assert program.json("show", "x")["status"] == "ready"


def test_sql_in_every_form(program: Program, samples: list[Sample]) -> None:
    program.run("add", samples[0].path)
    query = "SELECT name, size_bytes, NULL AS no_value, x'00ff' AS blob FROM images"
    name, size = samples[0].name, samples[0].volume_bytes
    assert program.run("sql", query).stdout.splitlines()[1].split() == [
        name, str(size), "-", "x'00ff'",
    ]  # fmt: skip
    assert program.sql(query) == [
        {"name": name, "size_bytes": size, "no_value": None, "blob": "00ff"}
    ]
    rows = list(csv.reader(io.StringIO(program.run("sql", "--csv", query).stdout)))
    assert rows == [["name", "size_bytes", "no_value", "blob"], [name, str(size), "", "00ff"]]
    assert program.run("sql", "-", input="SELECT 1 AS one").stdout == "one\n  1\n"
    for bad in ("DELETE FROM images", "SELEC", "SELECT 1; SELECT 2", "SELECT * FROM nothing"):
        assert "QUERY" in program.run("sql", bad, code=2).stderr
    assert len(program.json("ls")) == 1


def test_db(program: Program, samples: list[Sample], tmp_path: Path) -> None:
    assert program.run("db", "path").stdout == f"{program.catalog}\n"
    program.run("ls", code=3)
    program.run("add", samples[0].path)
    assert program.run("db", "check").stdout == "ok\n"
    copy = tmp_path / "copy.db"
    program.run("db", "backup", copy)
    assert len(json.loads(program.run("--db", copy, "ls", "--json").stdout)) == 1
    program.run("db", "backup", copy, code=2)
    assert (
        program.run("db", "upgrade").stdout == f"{program.catalog}: schema {schema.REVISIONS[-1]}\n"
    )
    assert {path.name for path in program.home.iterdir()} & {"catalog.db.before-0001"} == set()


def test_the_catalog_is_in_the_data_home_unless_named(
    program: Program, samples: list[Sample]
) -> None:
    environment = {
        key: value for key, value in program.environment.items() if key != "IMGCAT_DB"
    } | {"XDG_DATA_HOME": str(program.home / "data")}
    program.run("add", samples[0].path, env=environment)
    assert (program.home / "data" / "imgcat" / "catalog.db").is_file()
    del environment["XDG_DATA_HOME"]
    assert program.run("db", "path", env=environment).stdout == (
        f"{program.home}/.local/share/imgcat/catalog.db\n"
    )


def test_doctor(program: Program) -> None:
    findings = program.json("doctor")
    assert {finding["level"] for finding in findings} <= {"ok", "note"}
    lacking = program.run("doctor", env={**program.environment, "PATH": "/nonexistent"}, code=8)
    assert "fusermount3  ->  apt-get install fuse3" in lacking.stdout


def test_every_command_has_help_with_an_example(program: Program) -> None:
    app = make_app()
    names = [[command.name] for command in app.registered_commands]
    names += [
        ["db", command.name]
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands  # type: ignore[union-attr]
    ]
    assert len(names) >= 17
    for name in names:
        text = program.run(*name, "--help").stdout
        assert "Example" in text, name
        assert f"imgcat {' '.join(map(str, name))}" in text, name


def test_a_closed_pipe_makes_no_noise(program: Program, samples: list[Sample]) -> None:
    program.run("add", samples[0].path)
    many = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n LIMIT 50000) SELECT x FROM n"
    )
    said = subprocess.run(
        ["sh", "-c", f'{sys.executable} -m imgcat sql "{many}" | head -1; exit 0'],
        env=program.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "x"
    assert said.stderr == ""


def test_usage_errors(program: Program, samples: list[Sample]) -> None:
    program.run("add", code=2)
    program.run("nothing", code=2)
    program.run("add", "--name", "x", samples[0].path, samples[1].path, code=2)
    program.run("mount", "one", code=2)
    program.run("sql", "--json", "--csv", "SELECT 1", code=2)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"), (999, "999B"), (1000, "1.0K"), (1024, "1.0K"), (10_240, "10.0K"),
        (102_400, "100K"), (1 << 20, "1.0M"), ((1 << 20) - 1, "1.0M"), (931 << 30, "931G"),
        ((1 << 63) - 1, "8.0E"),
    ],
)  # fmt: skip
def test_human_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


def test_control_characters_do_not_reach_the_terminal(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    odd = tmp_path / "a\x1b[31mb\nc.img"
    shutil.copy(samples[0].path, odd)
    said = program.run("add", odd).stdout + program.run("ls").stdout
    assert "\x1b" not in said
    assert len(said.splitlines()) == 3
    assert program.json("ls")[0]["name"] == "a\x1b[31mb\nc"
    assert os.fspath(odd) == program.json("ls")[0]["path"]
