"""Real nbdkit, real clients."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from support.attack_images import BLOCK, overwrite, replace, solid
from support.nbd import client, exports, joined, serving, zeros_and_data
from support.program import wait_until
from support.shortcuts import catalogue
from support.small_disk import SmallDisk
from support.strangers import open_directory
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.nbd import Server
    from support.program import Program
    from support.samples import Sample

GUEST = b"A" * (8 * BLOCK)
NO_SUCH = "No such file or directory"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.img"
    path.write_bytes(solid(b"A", 8))
    return path


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path: that of a socket has room for 107 bytes."""
    with open_directory() as directory:
        yield directory


def copied(uri: str, target: Path) -> bytes:
    client("nbdcopy", uri, target)
    data = target.read_bytes()
    target.unlink()
    return data


def refused(uri: str) -> str:
    return client("nbdinfo", uri, code=1).stderr


def nbdkit_pid(server: Server) -> int:
    (child,) = (
        Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        .read_text("ascii")
        .split()
    )
    return int(child)


def test_every_image_is_listed_and_none_can_be_written(
    program: Program, samples: list[Sample]
) -> None:
    catalogue(program, *(sample.path for sample in samples))
    with serving(program) as server:
        found = exports(server.uri)
        assert sorted(found) == sorted(sample.name for sample in samples)
        for sample in samples:
            each = found[sample.name]
            assert each["export-size"] == sample.volume_bytes
            assert each["description"] == "partclone EXTFS"
            assert each["is_read_only"] is True
            assert each["can_multi_conn"] is True
        assert server.stop() == ""


def test_bytes_and_map_are_those_of_export_and_map(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    catalogue(program, *(sample.path for sample in samples))
    with serving(program) as server:
        for sample in samples:
            uri = server.of(sample.name)
            data = copied(uri, tmp_path / "copy")
            assert hashlib.sha256(data).hexdigest() == sample.volume_sha256
            program.run("export", sample.name, tmp_path / "export")
            assert data == (tmp_path / "export").read_bytes()
            (tmp_path / "export").unlink()
            ours = program.json("map", sample.name)
            assert zeros_and_data(uri) == joined(
                (each["start"], each["length"], each["data"]) for each in ours
            )


def test_a_disk_and_a_compressed_image(
    program: Program, tmp_path: Path, samples: list[Sample]
) -> None:
    saved = SmallDisk(tmp_path / "saved")
    packed = tmp_path / "packed.img.gz"
    packed.write_bytes(
        subprocess.run(["gzip", "-c", samples[0].path], capture_output=True, check=True).stdout
    )
    program.run("add", saved.directory, packed)
    with serving(program) as server:
        for name in ("saved/sda.disk", "saved/sda1", "saved/sda2", "packed"):
            program.run("export", name, tmp_path / "export")
            expected = (tmp_path / "export").read_bytes()
            (tmp_path / "export").unlink()
            assert copied(server.of(name), tmp_path / "copy") == expected, name
            ours = program.json("map", name)
            assert zeros_and_data(server.of(name)) == joined(
                (each["start"], each["length"], each["data"]) for each in ours
            )


def test_one_image_that_is_named_is_the_default(program: Program, image: Path) -> None:
    other = image.with_name("b.img")
    other.write_bytes(solid(b"B", 8))
    catalogue(program, image, other)
    with serving(program, "b") as server:
        head, _, tail = server.uri.partition("?")
        assert head == "nbd+unix:///b"
        assert list(exports(server.uri)) == ["b"]
        assert copied(f"nbd+unix:///?{tail}", image.with_name("copy")) == b"B" * (8 * BLOCK)
        assert NO_SUCH in refused(f"nbd+unix:///a?{tail}")
    with serving(program, "b", "a") as server:
        assert [uri.partition("?")[0][-1] for uri in server.uris] == ["b", "a"]
        assert NO_SUCH in refused(f"nbd+unix:///?{server.uris[0].partition('?')[2]}")


def test_qemu_reads_it(program: Program, image: Path) -> None:
    catalogue(program, image)
    with serving(program, "a") as server:
        assert "virtual size: 32 KiB" in client("qemu-img", "info", server.uri).stdout
        raw = image.with_name("raw")
        client("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, raw)
        assert raw.read_bytes() == GUEST


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "./a", "1", "a.img", "a/", "\n", "*"])
def test_a_name_is_never_a_path_nor_anything_else(program: Program, image: Path, name: str) -> None:
    catalogue(program, image)
    with serving(program) as server:
        uri = server.of("a")
        for each in (name, str(image)):
            assert NO_SUCH in refused(uri.replace("/a?", f"/{quote(each, safe='')}?"))
        assert copied(uri, image.with_name("copy")) == GUEST
        assert "no image that is served has this name" in server.stop()


@pytest.mark.parametrize("name", ["with space", "dir/å∂ƒ", "100%&?#"])
def test_odd_names(program: Program, image: Path, name: str) -> None:
    catalogue(program, image)
    program.run("rename", "a", name)
    with serving(program, name) as server:
        assert list(exports(server.uri)) == [name]
        assert copied(server.uri, image.with_name("copy")) == GUEST


def test_a_name_that_is_not_utf8(program: Program, image: Path) -> None:
    odd = image.with_name(os.fsdecode(b"odd\xff.img"))
    odd.write_bytes(solid(b"A", 8))
    catalogue(program, odd, image)
    with serving(program) as server:
        assert sorted(exports(server.uri)) == ["a", "odd\\xff"]
        assert copied(server.of("odd%5Cxff"), image.with_name("copy")) == GUEST


def test_images_come_and_go_while_they_are_served(program: Program, image: Path) -> None:
    catalogue(program, image)
    later = image.with_name("later.img")
    later.write_bytes(solid(b"B", 8))
    with serving(program) as server:
        tail = server.uri.partition("?")[2]
        catalogue(program, later)
        assert copied(f"nbd+unix:///later?{tail}", image.with_name("copy")) == b"B" * (8 * BLOCK)
        program.run("rm", "a")
        assert NO_SUCH in refused(f"nbd+unix:///a?{tail}")
        assert list(exports(f"nbd+unix:///?{tail}")) == ["later"]


def test_a_catalog_that_takes_the_place_of_another(program: Program, image: Path) -> None:
    catalogue(program, image)
    other = image.with_name("other") / "a.img"
    other.parent.mkdir()
    other.write_bytes(solid(b"B", 8))
    with serving(program) as server:
        assert copied(server.of("a"), image.with_name("copy")) == GUEST
        for path in program.home.glob("catalog.db*"):
            path.rename(path.with_name(f"before-{path.name}"))
        catalogue(program, other)
        assert copied(server.of("a"), image.with_name("copy")) == b"B" * (8 * BLOCK)
        assert "from now on, that one is served" in server.stop()


def test_a_stale_and_a_missing_image_harm_no_other(program: Program, image: Path) -> None:
    stale, missing = image.with_name("stale.img"), image.with_name("missing.img")
    stale.write_bytes(solid(b"S", 8))
    missing.write_bytes(solid(b"M", 8))
    catalogue(program, image, stale, missing)
    replace(stale, solid(b"T", 9))
    missing.unlink()
    with serving(program) as server:
        assert list(exports(server.uri)) == ["a"]
        for name in ("stale", "missing"):
            client("nbdinfo", server.of(name), code=1)
        assert copied(server.of("a"), image.with_name("copy")) == GUEST
        said = server.stop()
    assert "stale: " in said
    assert "missing: " in said
    assert "Traceback" not in said


def test_an_unreadable_part_is_an_error_of_its_own(program: Program, tmp_path: Path) -> None:
    whole = solid(b"A", 512)
    cut = tmp_path / "cut.img"
    cut.write_bytes(whole[: len(whole) - 100 * BLOCK])
    program.run("add", cut, code=5)
    with serving(program, "cut") as server:
        assert zeros_and_data(server.uri)[-1][2] is True
        client("nbdcopy", server.uri, tmp_path / "copy", code=1)
        client("qemu-io", "-r", "-f", "raw", "-c", "read -P 0x41 0 64k", server.uri)
        said = server.stop()
    assert "cut: " in said
    assert "Traceback" not in said


def test_the_socket_is_private_and_goes_with_the_server(
    program: Program, image: Path, short: Path
) -> None:
    catalogue(program, image)
    run = short / "run"
    run.mkdir()
    environment = {**program.environment, "XDG_RUNTIME_DIR": str(run)}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with serving(program, "a", env=environment) as server:
            path = Path(server.uri.partition("socket=")[2])
            assert path.parent.parent == run / "imgcat"
            assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert server.stop(number) == ""
            assert not path.parent.exists()


def test_a_socket_that_is_named(program: Program, image: Path) -> None:
    catalogue(program, image)
    path = image.with_name("s")
    with serving(program, "--socket", path) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert copied(server.uri, image.with_name("copy")) == GUEST
        said = program.run("serve", "--socket", path, code=8).stderr
        assert "somebody serves there" in said
        assert "Traceback" not in server.stop()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(program, "--socket", path) as server:
        assert copied(server.uri, image.with_name("copy")) == GUEST
    said = program.run("serve", "--socket", image, code=8).stderr
    assert "is no socket" in said
    assert image.read_bytes() == solid(b"A", 8)
    assert "longer than" in program.run("serve", "--socket", "x" * 200, code=8).stderr


def test_a_client_that_stays_does_not_hold_up_the_end(program: Program, image: Path) -> None:
    catalogue(program, image)
    with serving(program, "a") as server, socket.socket(socket.AF_UNIX) as staying:
        path = server.uri.partition("socket=")[2]
        staying.connect(path)
        assert staying.recv(8) == b"NBDMAGIC"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert not os.path.exists(path)


def test_when_nbdkit_dies_that_is_an_error(program: Program, image: Path) -> None:
    catalogue(program, image)
    with serving(program, "a") as server:
        path = server.uri.partition("socket=")[2]
        os.kill(nbdkit_pid(server), signal.SIGKILL)
        assert server.process.wait(30) == 8
        assert "nbdkit has ended" in server.stop(code=8)
        assert not os.path.exists(path)


def test_nbdkit_ends_with_who_started_it(program: Program, image: Path, short: Path) -> None:
    catalogue(program, image)
    # What a killed one leaves goes with the next one in the same place, which here is none.
    environment = {**program.environment, "XDG_RUNTIME_DIR": str(short)}
    with serving(program, "a", env=environment) as server:
        pid = nbdkit_pid(server)
        server.process.kill()
        server.process.wait(30)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "nbdkit has ended", 30)


def test_what_a_killed_server_has_left_goes_with_the_next(
    program: Program, image: Path, short: Path
) -> None:
    catalogue(program, image)
    run = short / "run"
    run.mkdir()
    environment = {**program.environment, "XDG_RUNTIME_DIR": str(run)}
    with serving(program, "a", env=environment) as killed:
        left = Path(killed.uri.partition("socket=")[2]).parent
        killed.process.kill()
        killed.process.wait(30)
    with serving(program, "a", env=environment) as first:
        serves = Path(first.uri.partition("socket=")[2]).parent
        # It may be one that is being made.
        assert left.exists()
        for each in (left, serves):
            os.utime(each, (1, 1))
        with serving(program, "a", env=environment) as second:
            assert not left.exists()
            assert copied(first.uri, image.with_name("one")) == GUEST
            assert copied(second.uri, image.with_name("two")) == GUEST


def test_what_nbdkit_says_of_its_arguments_is_told(program: Program, image: Path) -> None:
    catalogue(program, image)
    said = program.run("serve", "a", "--", "--filter=nonsense", code=8).stderr
    assert "nonsense" in said
    assert "Traceback" not in said


def test_images_that_are_not_there(program: Program, image: Path) -> None:
    assert "no catalog" in program.run("serve", code=3).stderr
    catalogue(program, image)
    assert "zzz" in program.run("serve", "zzz", code=3).stderr


@pytest.mark.fuse
def test_nbdfuse_and_a_file_that_is_written_meanwhile(program: Program, image: Path) -> None:
    other = image.with_name("other.img")
    other.write_bytes(solid(b"B", 8))
    catalogue(program, image, other)
    point = image.with_name("point")
    point.write_bytes(b"")
    with serving(program) as server:
        fuse = subprocess.Popen(["nbdfuse", point, server.of("a")])
        try:
            wait_until(lambda: point.stat().st_size == len(GUEST), "it is mounted", 30)
            assert point.read_bytes() == GUEST
            overwrite(image, solid(b"Z", 8))
            fd = os.open(point, os.O_RDONLY | os.O_DIRECT)
            try:
                with pytest.raises(OSError, match="Input/output error"):
                    os.preadv(fd, [mmap.mmap(-1, 4096)], 4096)
            finally:
                os.close(fd)
        finally:
            subprocess.run(["fusermount3", "-uz", point], check=False)
            fuse.terminate()
            fuse.wait(30)
        assert copied(server.of("other"), image.with_name("copy")) == b"B" * (8 * BLOCK)


@pytest.mark.fuse
def test_a_journal_is_replayed_in_the_overlay_and_never_in_the_backup(
    program: Program, tmp_path: Path
) -> None:
    raw, backup = tmp_path / "raw", tmp_path / "b.img"
    with raw.open("wb") as file:
        file.truncate(24 * MIB)
    quiet("mkfs.ext4", "-q", "-F", raw)
    quiet("debugfs", "-w", "-R", "set_inode_field <2> links_count 9", raw)
    quiet("partclone.ext4", "-F", "-c", "-s", raw, "-o", backup, "-L", tmp_path / "log")
    before = hashlib.sha256(backup.read_bytes()).hexdigest()
    program.run("add", backup)
    point = tmp_path / "point"
    point.write_bytes(b"")
    with serving(program, "b", "--cow") as server:
        fuse = subprocess.Popen(["nbdfuse", point, server.uri])
        try:
            wait_until(lambda: point.stat().st_size == 24 * MIB, "it is mounted", 30)
            client("e2fsck", "-fn", point, code=4)
            client("e2fsck", "-fy", point, code=1)
            client("e2fsck", "-fn", point)
        finally:
            subprocess.run(["fusermount3", "-u", point], check=False)
            fuse.wait(30)
        # Whoever connects later sees what was written.
        client("nbdcopy", server.uri, tmp_path / "mended")
        client("e2fsck", "-fn", tmp_path / "mended")
    assert hashlib.sha256(backup.read_bytes()).hexdigest() == before


def test_an_overlay_is_of_one_image_and_one_content(program: Program, image: Path) -> None:
    other = image.with_name("b.img")
    other.write_bytes(solid(b"B", 8))
    catalogue(program, image, other)
    said = program.run("serve", "--cow", code=2).stderr
    assert "name the one image" in " ".join(said.split())
    program.run("serve", "a", "b", "--", "--filter=cache", code=2)
    with serving(program, "a", "--cow") as server:
        client("qemu-io", "-f", "raw", "-c", "write -P 0x42 0 4k", server.uri)
        assert copied(server.uri, image.with_name("copy"))[:BLOCK] == b"B" * BLOCK
        replace(image, solid(b"C", 8))
        program.run("rescan", "a")
        client("nbdinfo", server.uri, code=1)
        assert "start the server again" in server.stop()
    assert image.read_bytes() == solid(b"C", 8)


def test_without_nbdkit_it_says_what_to_install(
    program: Program, image: Path, tmp_path: Path
) -> None:
    catalogue(program, image)
    tools = tmp_path / "tools"
    tools.mkdir()
    environment = {**program.environment, "PATH": str(tools)}
    said = program.run("serve", code=8, env=environment).stderr
    assert "nbdkit-plugin-python" in said
    assert "nbdkit-python-plugin" in said
    fake = tools / "nbdkit"
    fake.write_text('#!/bin/sh\necho "nbdkit: error: cannot open plugin python" >&2; exit 1\n')
    fake.chmod(0o755)
    said = program.run("serve", code=8, env=environment).stderr
    assert "cannot open plugin python" in said
    assert "nbdkit-plugin-python" in said
    fake.write_text("#!/bin/sh\necho python_version=3.99.1\n")
    said = program.run("serve", code=8, env=environment).stderr
    assert "python3.99 -m venv" in said
    found = {each["what"]: each for each in program_doctor(program, environment)}
    assert any(what.startswith("nbdkit's Python is 3.99") for what in found)
    assert shutil.which("nbdkit") is not None


def program_doctor(program: Program, environment: dict[str, str]) -> list[dict[str, str]]:
    import json

    result = program.start("doctor", "--json", env=environment)
    found: list[dict[str, str]] = json.loads(result.communicate(timeout=60)[0])
    return found
