"""index, add --index, index --follow, and cp --from-find: what they do and say."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support.files_inside import loop_mounted
from support.program import Program, is_mounted, wait_until
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

UUID = "49bf333b-ee05-4add-b55b-68ed7bd9f5ab"
ODD = b"line\nfeed\x1b[31m\xff"


_HOURS = itertools.count(1_700_000_000, 3600)


def _volume(raw: Path, content: Path, *options: object) -> Path:
    raw.unlink(missing_ok=True)
    raw.touch()
    os.truncate(raw, 24 * MIB)
    # Each is made an hour after the one before: two of one second would have one lost+found.
    now = next(_HOURS)
    quiet(
        "env", f"E2FSPROGS_FAKE_TIME={now}",
        "mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-d", content, *options, raw,
    )  # fmt: skip
    return raw


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backups of one volume, as partclone makes them, and a disk with it as a partition."""
    place = tmp_path_factory.mktemp("shelf")
    content = place / "content"
    (content / "home" / "anna").mkdir(parents=True)
    (content / "home" / "anna" / "thesis.odt").write_text("words\n" * 900)
    (content / "home" / "same").write_text("same\n")
    with open(os.path.join(os.fsencode(content), ODD), "wb") as opened:
        opened.write(b"odd")
    raw = _volume(place / "may.raw", content)
    quiet("partclone.extfs", "-c", "-s", raw, "-o", place / "may.img", "-L", place / "log")
    (content / "home" / "anna" / "thesis.odt").write_text("words\n" * 1000)
    raw = _volume(place / "june.raw", content)
    quiet("partclone.extfs", "-c", "-s", raw, "-o", place / "june.img", "-L", place / "log")
    disk = place / "disk.raw"
    disk.touch()
    os.truncate(disk, 26 * MIB)
    subprocess.run(["sfdisk", "-q", disk], input=b"label: dos\nstart=2048, type=83\n", check=True)
    with open(disk, "r+b") as opened:
        opened.seek(2048 * 512)
        opened.write(raw.read_bytes())
    return place


def _json(program: Program, *words: object, code: int = 0) -> Any:
    return json.loads(program.run(*words, "--json", code=code).stdout)


def test_what_was_indexed_is_not_read_again(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "may.img", shelf / "june.img")
    said = program.run("index", "may", "june").stdout
    # mke2fs makes lost+found anew; home, anna, same and the odd one are as they were.
    assert (
        said
        == "indexed   may: 6 files, all new\nindexed   june: 6 files, 2 new, 2 gone or changed\n"
    )
    for image in ("may.img", "june.img"):
        # Not even looked at.
        shutil.move(shelf / image, shelf / f"{image}.away")
    try:
        assert program.run("index", "--all").stdout == "unchanged june\nunchanged may\n"
        found = _json(program, "find", "thesis")
        assert [each["image"] for each in found] == ["june", "may"]
        assert [each["size"] for each in found] == [6000, 5400]
    finally:
        for image in ("may.img", "june.img"):
            shutil.move(shelf / f"{image}.away", shelf / image)


def test_one_that_is_scanned_anew_is_indexed_anew(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    image = tmp_path / "a.img"
    shutil.copy(shelf / "may.img", image)
    program.run("add", "--index", image)
    assert [each["size"] for each in _json(program, "find", "thesis")] == [5400]
    shutil.copy(shelf / "june.img", image)
    program.run("rescan")
    # What was known of what it held is not told of what it holds.
    assert "index --all" in program.run("find", "thesis", code=3).stderr
    program.run("index", "--all")
    assert [each["size"] for each in _json(program, "find", "thesis")] == [6000]
    assert program.run("db", "check").stdout == "ok\n"


@pytest.mark.parametrize("size", ["same", "other"])
def test_one_that_was_replaced_is_not_unchanged(
    size: str, program: Program, shelf: Path, tmp_path: Path
) -> None:
    image, disk = tmp_path / "a.img", tmp_path / "d.raw"
    shutil.copy(shelf / "may.img", image)
    shutil.copy(shelf / "disk.raw", disk)
    program.run("add", "--index", image, disk)
    # The times alone are others: its header tells that it is what it was.
    os.utime(image)
    assert program.run("index", "a").stdout == "unchanged a\n"
    for path in (image, disk):
        data = bytearray(path.read_bytes())
        if size == "other":
            data += bytes(512)
        else:
            data[1 << 20 : (1 << 20) + 4096] = bytes(4096)
            data[:64] = bytes(reversed(data[:64]))
        path.write_bytes(data)
    for name, mends in (("a", "a"), ("d.p1", "d")):
        done = program.run("index", name, code=5)
        assert done.stdout == ""
        assert "is not the file that was scanned" in done.stderr
        assert f"`imgcat rescan {mends}`" in done.stderr
    (told,) = _json(program, "index", "a", code=5)
    assert told["outcome"] == "failed"
    # What is away is known all the same.
    image.unlink()
    assert program.run("index", "a").stdout == "unchanged a\n"


def test_add_indexes_what_is_in_a_disk(program: Program, shelf: Path) -> None:
    added = _json(program, "add", "--index", shelf / "disk.raw")
    (told,) = added["images"][0]["indexed"]
    assert (told["image"], told["files"]) == ("disk.p1", 6)
    (found,) = _json(program, "find", "thesis.odt")
    assert found["place"] == "disk.p1:/home/anna/thesis.odt"


def test_a_disk_leads_to_its_parts(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "disk.raw")
    said = program.run("index", "disk", code=3).stderr
    assert "disk.p1" in said


def test_machines_that_share_a_uuid_are_kept_apart(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "may.img", shelf / "june.img")
    program.run("index", "may")
    program.run("index", "june", "--lineage", "bench")
    rows = _json(program, "sql", "SELECT label, names FROM lineages ORDER BY label")
    assert rows == [
        {"label": "", "names": '["may"]'},
        {"label": "bench", "names": '["june"]'},
    ]
    past = _json(program, "history", "/home/anna/thesis.odt")
    assert len(past) == 2


def test_a_hash_is_of_the_backup_that_was_read(program: Program, tmp_path: Path) -> None:
    """A file that was written anew with its old size and time is one version, of two contents."""
    content = tmp_path / "content"
    content.mkdir()
    sums = {}
    for name, text in (("may", "one"), ("june", "two"), ("july", "two")):
        (content / "file").write_text(text)
        os.utime(content / "file", (1_700_000_000, 1_700_000_000))
        raw = _volume(tmp_path / f"{name}.raw", content)
        program.run("add", "--index", raw)
        sums[name] = quiet("sha256sum", content / "file").split()[0]
    program.run("index", "--all")
    (past,) = _json(program, "history", "/file", "--hash")
    (version,) = past["versions"]
    assert version["hashes"] == [{"sha256": sums["july"], "backups": ["july"]}]
    assert version["sha256"] == sums["july"]
    sql = "SELECT backup, sha256 FROM files WHERE path = '/file' ORDER BY backup"
    told = {row["backup"]: row["sha256"] for row in program.sql(sql)}
    assert told == {"july": sums["july"], "june": None, "may": None}
    done = program.run("history", "/file", "--hash", "--each")
    assert f"    sha256 {sums['may']}  # in may\n" in done.stdout
    assert f"    sha256 {sums['july']}  # in june, july\n" in done.stdout
    assert "/file: its size and time are the same in 3 backups" in done.stderr
    told = {row["backup"]: row["sha256"] for row in program.sql(sql)}
    assert told == sums
    (row,) = program.sql("SELECT sha256 FROM file_history WHERE path = '/file'")
    assert row["sha256"] is None
    program.run("rm", "may")
    (row,) = program.sql("SELECT sha256 FROM file_history WHERE path = '/file'")
    assert row["sha256"] == sums["july"]
    program.run("rm", "june", "july")
    assert program.sql("SELECT count(*) AS n FROM file_hashes") == [{"n": 0}]


def test_when_a_backup_was_taken(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "may.img", shelf / "june.img")
    program.run("index", "may", "--taken-at", "2024-05-01T10:00:00+00:00")
    program.run("index", "june")
    rows = _json(
        program, "sql", "SELECT taken_at, taken_from, written_at FROM file_generations"
        " JOIN file_systems USING (image_id) ORDER BY number",
    )  # fmt: skip
    assert rows[0]["taken_at"] == "2024-05-01T10:00:00Z"
    assert rows[0]["taken_from"] == "user"
    assert rows[1]["taken_from"] == "file system"
    assert rows[1]["taken_at"] == rows[1]["written_at"]
    # Of what is indexed, it can be said later.
    assert program.run("index", "june", "--taken-at", "2024-06-01T00:00:00Z").stdout == (
        "unchanged june\n"
    )
    shown = _json(program, "show", "june")["indexed"]
    assert (shown["taken_at"], shown["taken_from"], shown["files"]) == (
        "2024-06-01T00:00:00Z", "user", 6,
    )  # fmt: skip
    assert "2024-06-01T00:00:00Z" in program.run("show", "june").stdout
    # One that is told apart later is read again.
    assert "indexed" in program.run("index", "june", "--lineage", "other").stdout
    assert "no time" in program.run("index", "may", "--taken-at", "soon", code=2).stderr


def test_odd_names_are_shown_so_that_they_can_be_typed(program: Program, shelf: Path) -> None:
    program.run("add", "--index", shelf / "may.img")
    shown = r"/line\x0afeed\x1b[31m\xff"
    (found,) = _json(program, "find", "line")
    assert found["path"] == shown
    assert "\x1b" not in program.run("find", "line").stdout
    (past,) = _json(program, "history", shown)
    assert past["versions"][0]["size"] == 3
    (again,) = _json(program, "find", r"\x0afeed")
    assert again["path"] == shown


def test_the_names_of_what_is_found_go_on_to_cp(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    program.run("add", "--index", shelf / "may.img", shelf / "june.img")
    found = tmp_path / "found.json"
    found.write_text(program.run("find", "*", "--type", "f", "--json").stdout)
    out = tmp_path / "out"
    program.run("cp", "--from-find", found, out)
    with loop_mounted(shelf / "june.raw", tmp_path / "point", "ro") as top:
        for path in ("home/anna/thesis.odt", "home/same"):
            assert (out / "june" / path).read_bytes() == (top / path).read_bytes()
    assert (out / "may" / "home" / "anna" / "thesis.odt").stat().st_size == 5400
    odd = os.path.join(os.fsencode(out), b"june", ODD)
    with open(odd, "rb") as opened:
        assert opened.read() == b"odd"
    # From standard input, what a diff tells, and the last good one.
    for words in (["diff", "may", "june"], ["history", "/home/anna/thesis.odt", "--last-good"]):
        told = program.run(*words, "--json").stdout
        place = tmp_path / words[0]
        program.run("cp", "--from-find", "-", place, input=told)
        assert len([each for each in place.rglob("*") if each.is_file()]) == 1
    for wrong in ("{}", "nothing", '["x"]', '[{"place": null}]'):
        program.run("cp", "--from-find", "-", out, input=wrong, code=2)


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_who_stops_reading_is_told_by_the_exit_code(
    form: list[str], program: Program, shelf: Path
) -> None:
    program.run("add", "--index", shelf / "may.img", shelf / "june.img")
    for words in (
        ["files", "-R", "june"], ["find", "*"], ["diff", "may", "june"],
        ["history", "/home/anna/thesis.odt"], ["ls"], ["show", "june"], ["map", "june"],
        ["sql", "SELECT * FROM files"], ["index", "may"], ["doctor"],
    ):  # fmt: skip
        reading, writing = os.pipe()
        os.close(reading)
        process = program.start(*words, *form, stdout=writing)
        os.close(writing)
        assert process.communicate()[1] == b"", words
        assert process.returncode == 141, words


@pytest.fixture
def with_snapshot(program: Program, shelf: Path, tmp_path: Path) -> Program:
    """May, June, and a snapshot of June's volume, in which there is one file more."""
    for name in ("may.img", "june.img", "june.raw"):
        shutil.copy(shelf / name, tmp_path / name)
    (tmp_path / "only").write_text("only here\n")
    raw = tmp_path / "june.raw"
    quiet("debugfs", "-w", "-R", f"write {tmp_path / 'only'} /only", raw)
    program.run("add", "--index", tmp_path / "may.img", tmp_path / "june.img")
    program.run("snapshot", raw, "--name", "mon")
    return program


def test_an_image_that_is_ready_comes_before_a_snapshot(
    with_snapshot: Program, tmp_path: Path
) -> None:
    program, path = with_snapshot, "/home/anna/thesis.odt"
    june, may = _json(program, "find", "thesis.odt")
    assert [each["name"] for each in june["backups"]] == ["june", "mon"]
    assert (june["image"], june["place"]) == ("june", f"june:{path}")
    assert june["command"].endswith(f" cp june:{path} .")
    assert may["place"] == f"may:{path}"
    assert f"cp june:{path} .  # in 2 backups up to mon" in program.run("find", "thesis.odt").stdout
    assert f"cp june:{path} ." in program.run("history", path).stdout
    (past,) = _json(program, "history", path)
    assert [each["place"] for each in past["versions"]] == [f"june:{path}", f"may:{path}"]
    (changed,) = _json(program, "diff", "mon", "may", path)
    assert (changed["image"], changed["place"]) == ("june", f"june:{path}")
    (changed,) = _json(program, "diff", "may", "mon", path)
    assert changed["place"] == f"may:{path}"
    # What is away gives nothing: then it is where it lay in the snapshot, or an older image.
    (tmp_path / "june.img").unlink()
    june, may = _json(program, "find", "thesis.odt")
    assert (june["image"], june["place"]) == ("mon", None)
    assert "imgcat recover" in june["command"]
    (same,) = _json(program, "find", "same")
    assert [each["name"] for each in same["backups"]] == ["may", "june", "mon"]
    assert same["place"] == "may:/home/same"
    (changed,) = _json(program, "diff", "june", "may", path)
    assert changed["image"] == "mon"


def test_of_a_list_all_is_copied_that_can_be(
    with_snapshot: Program, shelf: Path, tmp_path: Path
) -> None:
    program = with_snapshot
    (tmp_path / "may.img").rename(tmp_path / "elsewhere")
    told = program.run("find", "*", "--json").stdout
    assert {each["type"] for each in json.loads(told)} == {"file", "directory"}
    out = tmp_path / "out"
    done = program.run("cp", "--from-find", "-", out, input=told, code=5)
    assert "mon:/only: is in no image that can be read" in done.stderr
    assert "may:/home/anna/thesis.odt: " in done.stderr
    assert len(done.stderr.splitlines()) == 2
    with loop_mounted(shelf / "june.raw", tmp_path / "point", "ro") as top:
        expected = {os.path.relpath(path, top): path.read_bytes()
                    for path in top.rglob("*") if path.is_file()}  # fmt: skip
        june = out / "june"
        got = {os.path.relpath(path, june): path.read_bytes()
               for path in june.rglob("*") if path.is_file()}  # fmt: skip
    assert got == expected
    # Directories without a file in them are not made.
    assert not (june / "lost+found").exists()
    assert sorted(each.name for each in out.iterdir()) == ["june"]
    only = program.run("find", "only", "--json").stdout
    document = program.run("cp", "--from-find", "-", out, "--json", input=only, code=3).stdout
    (source,) = json.loads(document)["sources"]
    assert (source["place"], source["files"]) == ("mon:/only", 0)
    assert "imgcat recover" in source["problems"][0]


def test_what_was_deleted_comes_back_in_its_directories(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    raw = _volume(tmp_path / "july.raw", content)
    program.run("add", "--index", shelf / "may.img", raw)
    told = program.run("find", "*", "--deleted", "--json").stdout
    assert "directory" in {each["type"] for each in json.loads(told)}
    out = tmp_path / "out"
    program.run("cp", "--from-find", "-", out, input=told)
    assert (out / "may" / "home" / "same").read_text() == "same\n"
    assert len([each for each in out.rglob("*") if each.is_file()]) == 3
    # A list of somebody's own need not tell what is a directory.
    program.run("cp", "--from-find", "-", out, input='[{"place": "may:/home"}]')


def test_no_link_in_the_target_is_followed(program: Program, shelf: Path, tmp_path: Path) -> None:
    program.run("add", "--index", shelf / "may.img")
    out = tmp_path / "out"
    (out / "may").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (out / "may" / "home").symlink_to(tmp_path / "elsewhere")
    told = program.run("find", "thesis.odt", "--json").stdout
    program.run("cp", "--from-find", "-", out, input=told, code=3)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_cannot_be_read_is_named_and_the_rest_is_indexed(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    image = tmp_path / "torn.raw"
    shutil.copy(shelf / "may.raw", image)
    # A directory whose inode is gone.
    subprocess.run(
        ["debugfs", "-w", "-R", "clri /home/anna", image], check=True, capture_output=True
    )
    program.run("add", image)
    result = program.run("index", "torn", code=5)
    assert "anna" in result.stderr
    assert {each["path"] for each in _json(program, "find", "same")} == {"/home/same"}
    (row,) = _json(program, "sql", "SELECT problem_count FROM file_generations")
    assert row["problem_count"] >= 1


def test_what_a_damaged_backup_lacks_is_not_taken_for_deleted(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.img"
    cut.write_bytes((shelf / "june.img").read_bytes()[:300_000])
    program.run("add", shelf / "may.img")
    program.run("add", cut, code=5)
    program.run("index", "may", "--taken-at", "2024-05-01")
    program.run("index", "cut", "--taken-at", "2024-06-01", code=5)
    program.run("find", "thesis", "--deleted", code=3)
    (past,) = _json(program, "history", "/home/anna/thesis.odt")
    assert not past["deleted"]
    result = program.run("diff", "may", "cut")
    assert "could not be read" in result.stderr


def test_an_index_that_fails_leaves_the_one_before(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    image = tmp_path / "a.img"
    shutil.copy(shelf / "may.img", image)
    program.run("add", "--index", image)
    before = program.sql("SELECT * FROM files")
    image.rename(tmp_path / "away")
    program.run("index", "--force", "a", code=5)
    program.run("index", "--lineage", "x", "a", code=5)
    assert program.sql("SELECT * FROM files") == before
    (tmp_path / "away").rename(image)
    assert "indexed" in program.run("index", "--force", "a").stdout
    assert program.sql("SELECT * FROM files") == before
    assert "indexed" in program.run("index", "--lineage", "x", "a").stdout
    assert [row["label"] for row in program.sql("SELECT label FROM lineages")] == ["x"]
    assert program.run("db", "check").stdout == "ok\n"


def test_what_is_not_read_is_refused_by_name(program: Program, tmp_path: Path) -> None:
    image = tmp_path / "b.raw"
    image.touch()
    os.truncate(image, 120 * MIB)
    quiet("mkfs.btrfs", "-q", image)
    program.run("add", image)
    said = "imgcat: b: btrfs: Btrfs is not read: `imgcat show` prints what can\n"
    assert program.run("index", "b", code=4).stderr == said
    # So says what is to index it in passing; of a walk, once.
    assert program.run("add", "--index", image, code=4).stderr == said
    program.run("rm", "b")
    assert program.run("add", "-r", "--index", tmp_path, code=4).stderr == said
    assert program.run("add", "-r", "--index", tmp_path).stderr == ""
    (added,) = _json(program, "add", "--index", image, code=4)["images"]
    assert [(each["image"], each["outcome"]) for each in added["indexed"]] == [("b", "failed")]
    # With --all, it is none of those that are meant.
    assert "no image" in program.run("index", "--all").stderr
    program.run("index", code=2)
    program.run("index", "b", "--all", code=2)


def test_following_indexes_what_comes(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "may.img")
    reading, writing = os.pipe()
    process = program.start("index", "--all", "--follow", stdin=reading)
    os.close(reading)

    def known() -> set[str]:
        rows = _json(program, "sql", "SELECT DISTINCT backup FROM files")
        return {row["backup"] for row in rows}

    wait_until(lambda: known() == {"may"}, "what was there is indexed", 60)
    program.run("add", shelf / "june.img")
    wait_until(lambda: known() == {"may", "june"}, "what came is indexed", 60)
    program.run("rm", "-y", "may")
    wait_until(lambda: known() == {"june"}, "what went is gone", 60)
    os.close(writing)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_mount_that_indexes(program: Program, shelf: Path, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    program.run("add", shelf / "may.img")
    program.mount_all(mount, "--index")
    assert is_mounted(mount)
    pid = program.daemon_pid(mount)
    (child,) = _children_that_index(pid)
    program.run("add", shelf / "june.img")

    def count() -> int:
        (row,) = _json(program, "sql", "SELECT count(*) AS n FROM file_generations")
        return int(row["n"])

    wait_until(lambda: count() == 2, "both are indexed", 60)
    program.run("unmount", mount)
    wait_until(lambda: not os.path.exists(f"/proc/{child}"), "it has ended with the daemon", 30)


def _children_that_index(pid: int | None) -> list[str]:
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "index --all --follow"], capture_output=True, check=True
    )
    return found.stdout.decode().split()


def test_pictures_over_time(program: Program, shelf: Path, tmp_path: Path) -> None:
    program.run("add", shelf / "may.img", shelf / "june.img")
    picture = tmp_path / "over-time.png"
    assert "index" in program.run("map", "--lineage", "--png", picture, "june", code=3).stderr
    program.run("index", "june", "--taken-at", "2024-06-01")
    program.run("index", "may", "--taken-at", "2024-05-01")
    program.run("map", "--lineage", "--png", picture, "june")
    both = tmp_path / "both.png"
    program.run("map", "--png", both, "may", "june")
    assert picture.read_bytes() == both.read_bytes()
