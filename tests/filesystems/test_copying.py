"""Copying out: what is kept, what is said, and that nothing leads out."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.filesystems.copying import Copier
from imgcat.filesystems.process import Worker
from support.files_inside import loop_mounted, of_mount, volume_in
from support.program import wait_until_stopped
from support.somebody import run_as_somebody
from support.strangers import NOBODY, open_directory
from support.trees import grow
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


def made(raw: Path, content: Path, options: str = "", size: int = 32 * MIB) -> Path:
    raw.touch()
    os.truncate(raw, size)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", *options.split(), "-d", content, raw)
    return raw


def without_sockets(facts: dict[bytes, dict[str, object]]) -> dict[bytes, dict[str, object]]:
    return {
        path: {key: value for key, value in each.items() if key != "inode"}
        for path, each in facts.items()
        if not stat.S_ISSOCK(int(str(each["mode"])))
    }


@pytest.mark.loop
def test_a_copy_is_as_the_kernel_copies_it(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.touch()
    os.truncate(raw, 192 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", raw)
    # Into a file system of the same kind, for attributes, and times that others cannot keep.
    target = tmp_path / "target.raw"
    target.touch()
    os.truncate(target, 192 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", target)
    with loop_mounted(raw, tmp_path / "mount") as mount:
        grow(mount, 11)
    with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
        expected = without_sockets(of_mount(mount))
    with loop_mounted(target, tmp_path / "into") as into:
        (into / "copied").mkdir()
        result = program.run("cp", "-r", f"{raw}:/", into / "copied")
        copied = into / "copied" / "volume.raw"
        assert "not kept of 1 file: sockets" in result.stderr
        assert without_sockets(of_mount(copied)) == expected
        used = sum(os.lstat(os.path.join(above, name)).st_blocks
                   for above, _directories, files in os.walk(into) for name in files)  # fmt: skip
        sizes = sum(os.lstat(os.path.join(above, name)).st_size
                    for above, _directories, files in os.walk(into) for name in files)  # fmt: skip
        assert used * 512 < sizes // 4, "holes are holes"
        again = program.json("cp", "-r", f"{raw}:/", into / "copied")
        assert again["sources"][0]["unchanged"] > 40
        assert again["sources"][0]["size"] == 0
        assert without_sockets(of_mount(copied)) == expected
    program.run("add", raw)
    archive = tmp_path / "all.tar"
    with archive.open("wb") as out:
        process = program.start("tar", "volume:/", stdout=out)
        assert b"an archive has no sockets" in process.communicate()[1]
        assert process.returncode == 5
    with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
        unpacked = tmp_path / "unpacked"
        unpacked.mkdir()
        quiet("tar", "--xattrs", "--xattrs-include=user.*", "-xpf", archive, "-C", unpacked)
        for path, facts in without_sockets(of_mount(unpacked, attributes=False)).items():
            assert expected[path] | facts == expected[path], path
        with tarfile.open(archive) as opened:
            attributed = [
                each for each in opened if any("xattr" in key for key in each.pax_headers)
            ]
        assert len(attributed) > 3


HOSTILE = (b"..", b"/etc/x", b"a/b", b"../../x")


def test_nothing_leads_out_of_the_target(program: Program, tmp_path: Path) -> None:
    """A directory that has a link, and another entry of the same name, that is a directory."""
    content = tmp_path / "content"
    outside = tmp_path / "outside"
    outside.mkdir()
    (content / "real").mkdir(parents=True)
    (content / "real" / "planted").write_text("planted")
    os.symlink(outside, content / "link")
    for number in range(len(HOSTILE)):
        (content / f"name{number:04d}").write_text("hostile")
    raw = made(tmp_path / "volume.raw", content, "-O ^metadata_csum")
    image = bytearray(raw.read_bytes())

    def rename(old: bytes, new: bytes) -> None:
        # In the entry: what is before the name is its length and type.
        start = (
            image.index(bytes([len(old)]) + b"\1" + old)
            if old[:4] == b"name"
            else image.index(bytes([len(old)]) + b"\2" + old)
        )
        image[start] = len(new)
        image[start + 2 : start + 2 + len(new)] = new

    for number, name in enumerate(HOSTILE):
        rename(b"name%04d" % number, name)
    # The directory is called as the link is, and comes after it.
    rename(b"real", b"link")
    raw.write_bytes(image)
    into = tmp_path / "into"
    into.mkdir()
    result = program.run("cp", "-r", f"{raw}:/", into / "copied", code=5)
    assert list(outside.iterdir()) == []
    found = {os.path.join(above, name) for above, _directories, files in os.walk(into)
             for name in files}  # fmt: skip
    assert all(each.startswith(str(into / "copied")) for each in found)
    assert "is no name" in result.stderr
    listed = program.run("files", "-R", f"{raw}:/", code=5)
    assert "/../" not in listed.stdout
    assert not os.path.exists("/etc/x")
    assert not (tmp_path / "x").exists()


def test_a_link_at_the_target_is_not_followed(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "directory").mkdir(parents=True)
    (content / "directory" / "file").write_text("file")
    raw = made(tmp_path / "volume.raw", content)
    outside = tmp_path / "outside"
    outside.mkdir()
    into = tmp_path / "into"
    into.mkdir()
    os.symlink(outside, into / "directory")
    program.run("cp", "-r", f"{raw}:/directory", into, code=5)
    assert list(outside.iterdir()) == []
    os.unlink(into / "directory")
    (into / "directory").mkdir()
    (outside / "kept").write_text("kept")
    os.symlink(outside / "kept", into / "directory" / "file")
    program.run("cp", "-r", f"{raw}:/directory", into)
    assert (outside / "kept").read_text() == "kept"
    assert (into / "directory" / "file").read_text() == "file"
    assert not (into / "directory" / "file").is_symlink()


def test_a_copy_that_is_killed_leaves_whole_files_and_goes_on(
    program: Program, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    for number in range(400):
        (content / f"file{number}").write_bytes(struct.pack("<I", number) * 20_000)
    raw = made(tmp_path / "volume.raw", content, size=96 * MIB)
    program.run("add", raw)
    into = tmp_path / "into"
    into.mkdir()
    # When twenty files have their names, it stops itself before it writes anything more.
    stopping = """
import os, signal, sys
link, pwrite, names = os.link, os.pwrite, []
def counted(*given, **where):
    link(*given, **where)
    names.append(given)
def stopping(*given):
    if len(names) == 20:
        os.kill(os.getpid(), signal.SIGSTOP)
    return pwrite(*given)
os.link, os.pwrite = counted, stopping
from imgcat.cli.main import run
sys.exit(run())
"""
    process = program.start("cp", "-r", "volume:/", into, program=["-c", stopping])
    copied = into / "volume"
    wait_until_stopped(process)
    process.kill()
    process.communicate()
    assert sum(path.is_file() for path in copied.iterdir()) == 20
    for path in copied.iterdir():
        # Nothing half, and nothing under a name of its own.
        if path.is_file():
            assert path.read_bytes() == (content / path.name).read_bytes()
    told = program.json("cp", "-r", "volume:/", into)
    assert told["exit_code"] == 0
    assert told["sources"][0]["unchanged"] >= 20
    for path in content.iterdir():
        assert (copied / path.name).read_bytes() == path.read_bytes()


def test_a_full_target_ends_the_copy(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    for number in range(60):
        (content / f"file{number:02d}").write_bytes(bytes([number + 1]) * 200_000)
    raw = made(tmp_path / "volume.raw", content)
    into = tmp_path / "into"
    into.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", into], check=True)
    try:
        result = program.run("cp", "-r", f"{raw}:/", into, code=5)
        assert result.stderr.count("No space left on device") == 1
        copied = list((into / "volume.raw").iterdir())
        assert 3 < len(copied) < 12
        for path in copied:
            if path.is_file():
                assert path.read_bytes() == (content / path.name).read_bytes()
    finally:
        subprocess.run(["umount", into], check=True)


def test_many_small_files_cost_few_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each 256 files, and not one for what each holds and one for what it is."""
    content = tmp_path / "content"
    content.mkdir()
    for number in range(700):
        (content / f"file{number}").write_bytes(b"%d" % number)
    raw = made(tmp_path / "volume.raw", content)
    into = tmp_path / "into"
    into.mkdir()
    asked: list[str] = []
    ask = Worker.ask

    def counting(worker: Worker, what: str, take: Any, **arguments: Any) -> Any:
        asked.append(what)
        return ask(worker, what, take, **arguments)

    monkeypatch.setattr(Worker, "ask", counting)
    with volume_in(raw) as volume:
        copier = Copier(volume, str(into), tell=pytest.fail)
        copier.copy(volume.stat(), b"copied", b"/", recursive=True)
        copier.close()
    for path in content.iterdir():
        assert (into / "copied" / path.name).read_bytes() == path.read_bytes()
    # The root, and lost+found, are asked for what is in them, and for attributes.
    assert sorted(asked) == ["attributes"] * 2 + ["files"] * 3 + ["list"] * 2 + ["stat"]


def test_a_user_copies_and_is_told_what_is_not_kept(tmp_path: Path) -> None:
    with open_directory() as place:
        content = place / "content"
        content.mkdir()
        (content / "file").write_text("of somebody")
        os.chown(content / "file", 1234, 1234)
        os.chmod(content / "file", 0o4755)
        raw = made(place / "volume.raw", content)
        into = place / "into"
        done = run_as_somebody(into, 'imgcat cp "$1:/file" .', raw)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "copied    1 file, 11 bytes\n"
        assert "not kept of 1 file: owners (only root may give files away)" in done.stderr
        status = os.stat(into / "file")
        # What lets others act as its owner is not kept where the owner is another.
        assert (status.st_uid, status.st_mode & 0o7777) == (NOBODY, 0o755)
