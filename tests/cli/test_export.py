"""`imgcat export`: against the real tools, and what is left when it is interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attack_images import overwrite, scattered, solid
from support.holes import data_ranges, whole_blocks
from support.partclone_writer import Recipe, write
from support.program import COMMAND, wait_until
from support.shortcuts import catalogue
from support.streams import compress, packed, plain_image
from support.volumes import KINDS, Kind, Volume, make_volume, quiet, sha256

if TYPE_CHECKING:
    from support.program import Program
    from support.samples import Sample

MIB = 1 << 20
BLOCK = 4096
CHOSEN = [kind for kind in KINDS if kind.name in {"ext4", "ext2-1k", "ntfs", "fat32", "btrfs"}]


@pytest.fixture(scope="module", params=CHOSEN, ids=lambda kind: kind.name)
def volume(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    kind: Kind = request.param
    return make_volume(kind, tmp_path_factory.mktemp(kind.name))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory / "disk.raw"


@pytest.fixture
def one(program: Program, tmp_path: Path) -> Path:
    """A small image called ``one`` that is in the catalog."""
    path = tmp_path / "one.img"
    path.write_bytes(solid(b"A"))
    catalogue(program, path)
    return path


def test_every_sample_comes_out_whole(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    catalogue(program, *(sample.path for sample in samples))
    for sample in samples:
        out = tmp_path / "disk.raw"
        said = program.run("export", sample.name, out, "--force", "--verify")
        assert said.stdout == f"exported  {sample.name}: {out}\n"
        assert said.stderr == ""
        assert sha256(out) == sample.volume_sha256
        assert out.stat().st_size == sample.volume_bytes
        with program.start("export", sample.name, "-") as process:
            assert process.stdout is not None
            digest = hashlib.file_digest(process.stdout, "sha256").hexdigest()
        assert process.returncode == 0
        assert digest == sample.volume_sha256


@pytest.mark.fuse
@pytest.mark.loop
def test_what_the_real_tools_make_of_it(
    program: Program, volume: Volume, tmp_path: Path, out: Path
) -> None:
    """As `partclone.restore` writes it, as the mount shows it, with holes where the map says so."""
    catalogue(program, volume.image)
    name = volume.kind.name
    program.run("export", name, out)
    quiet("cmp", out, volume.restored)

    used = [(each["start"], each["start"] + each["length"])
            for each in program.json("map", name) if each["data"]]  # fmt: skip
    block = os.statvfs(out).f_bsize
    assert data_ranges(out) == whole_blocks(used, block, volume.kind.size)

    mount = program.mount_all(tmp_path / "mount")
    compared = quiet("qemu-img", "compare", "-f", "raw", "-F", "raw", out, mount / name)
    assert "Images are identical" in compared


@pytest.mark.loop
def test_to_a_loop_device(program: Program, samples: list[Sample], tmp_path: Path) -> None:
    sample = samples[0]
    catalogue(program, sample.path)
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xee" * (sample.volume_bytes + MIB))
    device = quiet("losetup", "--find", "--show", disk).strip()
    try:
        refused = program.run("export", sample.name, device, code=2)
        assert "--force writes over all that it holds" in refused.stderr
        program.run("export", sample.name, device, "--force")
        quiet("blockdev", "--flushbufs", device)
        data = disk.read_bytes()
        assert hashlib.sha256(data[: sample.volume_bytes]).hexdigest() == sample.volume_sha256
        assert set(data[sample.volume_bytes :]) == {0xEE}
        point = tmp_path / "point"
        point.mkdir()
        quiet("mount", "-o", "ro,noload", device, point)
        try:
            busy = program.run("export", sample.name, device, "--force", code=7)
        finally:
            quiet("umount", point)
        assert busy.stderr == f"imgcat: {device}: is mounted or in use\n"
    finally:
        quiet("losetup", "-d", device)
    small = tmp_path / "small"
    small.write_bytes(bytes(MIB))
    device = quiet("losetup", "--find", "--show", small).strip()
    try:
        said = program.run("export", sample.name, device, "--force", code=2).stderr
    finally:
        quiet("losetup", "-d", device)
    assert f"has {MIB} bytes, but the image has {sample.volume_bytes}" in said


def test_unused_areas_as_they_are_wanted(program: Program, tmp_path: Path, out: Path) -> None:
    present = [True] * 5 + [False] * 600 + [True] * 5
    written = write(Recipe(present=present, block_size=BLOCK))
    image = tmp_path / "one.img"
    image.write_bytes(written.image)
    catalogue(program, image)
    size = len(written.guest)
    program.run("export", "one", out)
    assert data_ranges(out) == [(0, 5 * BLOCK), (605 * BLOCK, size)]
    assert out.read_bytes() == written.guest
    program.run("export", "one", out, "--force", "--no-sparse")
    assert data_ranges(out) == [(0, size)]
    assert out.read_bytes() == written.guest
    for fill in ("0xff", "255"):
        program.run("export", "one", out, "--force", "--fill", fill)
        filled = written.guest[: 5 * BLOCK] + b"\xff" * (600 * BLOCK) + written.guest[-5 * BLOCK :]
        assert out.read_bytes() == filled
    for bad in ("256", "-1", "x", "0xg", ""):
        assert "is no byte" in program.run("export", "one", out, "--fill", bad, code=2).stderr


@pytest.mark.usefixtures("one")
def test_an_existing_file(program: Program, out: Path) -> None:
    out.write_bytes(b"mine")
    refused = program.run("export", "one", out, code=2)
    assert f"{out}: is there already: --force replaces it" in refused.stderr
    assert out.read_bytes() == b"mine"
    assert program.run("-q", "export", "one", out, "--force").stdout == ""
    assert set(out.read_bytes()) == {ord("A")}


def test_never_over_the_image_itself(program: Program, one: Path, tmp_path: Path) -> None:
    before = one.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(one)
    for target in (one, link):
        said = program.run("export", "one", target, "--force", code=2)
        assert "is a file of the image itself" in said.stderr
    with one.open("r+b") as file:
        process = program.start("export", "one", "-", stdout=file)
        assert process.wait() == 2
        process.communicate()
    assert one.read_bytes() == before


@pytest.mark.usefixtures("one")
def test_targets_that_do_not_do(program: Program, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "disk.raw"
    said = program.run("export", "one", missing, code=3)
    assert said.stderr == f"imgcat: {missing}: No such file or directory\n"
    assert "is a directory" in program.run("export", "one", tmp_path, code=2).stderr
    full = program.run("export", "one", "/dev/full", code=5)
    assert full.stderr == "imgcat: /dev/full: No space left on device\n"
    program.run("export", "one", code=2)
    program.run("export", "nothing", tmp_path / "disk.raw", code=3)
    with open("/dev/full", "wb") as file:
        process = program.start("export", "one", "-", stdout=file)
        assert process.communicate()[1] == b"imgcat: standard output: No space left on device\n"
    assert process.returncode == 5


@pytest.mark.usefixtures("one")
def test_a_reader_that_has_had_enough(program: Program) -> None:
    said = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m imgcat export one - | head -c 10; echo $PIPESTATUS"],
        env=program.environment, capture_output=True, check=True,
    )  # fmt: skip
    # Its exit code is that of a process that SIGPIPE has ended: not all was written.
    assert said.stdout == b"A" * 10 + b"141\n"
    assert said.stderr == b""


@pytest.mark.usefixtures("one")
def test_a_listing_that_nobody_reads_to_its_end_says_so(program: Program) -> None:
    said = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m imgcat ls | true; echo $PIPESTATUS"],
        env=program.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert (said.stdout, said.stderr) == (b"141\n", b"")


@pytest.mark.parametrize("command", ["export", "repack"])
def test_never_over_a_file_of_any_image(
    program: Program, one: Path, tmp_path: Path, command: str
) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(one.read_bytes())
    catalogue(program, other)
    before = other.read_bytes()
    hard, soft = tmp_path / "hard", tmp_path / "soft"
    hard.hardlink_to(other)
    soft.symlink_to(other)
    for target in (other, hard, soft):
        said = program.run(command, "one", target, "--force", code=2)
        assert "is a file of the image other" in said.stderr
    # A file that has replaced it there is one that it may still be looked for in.
    replaced = tmp_path / "new"
    replaced.write_bytes(before)
    replaced.rename(other)
    assert "the image other" in program.run(command, "one", other, "--force", code=2).stderr
    assert other.read_bytes() == before
    with other.open("r+b") as file:
        process = program.start("export", "one", "-", stdout=file)
        assert b"the image other" in process.communicate()[1]
        assert process.returncode == 2
    assert other.read_bytes() == before


def test_a_truncated_image_leaves_nothing(program: Program, tmp_path: Path, out: Path) -> None:
    written = write(Recipe(present=[True] * 600, block_size=BLOCK))
    image = tmp_path / "one.img"
    image.write_bytes(written.image[: written.block_offsets[500] + 100])
    catalogue(program, image)
    for target in (out, "-"):
        said = program.run("export", "one", target, code=5)
        start, stop = 500 * BLOCK + 100, 600 * BLOCK
        assert f"guest bytes [{start}, {stop}) cannot be read: the image is cut" in said.stderr
        assert f"{stop - start} bytes in 1 place cannot be read" in said.stderr
        assert "nothing was exported: --rescue" in said.stderr
        assert said.stdout == ""
    assert os.listdir(out.parent) == []


def test_a_truncated_image_is_rescued(program: Program, tmp_path: Path, out: Path) -> None:
    written = write(Recipe(present=[n % 3 != 1 for n in range(600)], block_size=BLOCK))
    image = tmp_path / "one.img"
    image.write_bytes(written.image[: written.block_offsets[500] + 100])
    catalogue(program, image)
    expected = bytearray(written.guest)
    for number in range(500, 600):
        if number % 3 != 1:
            start = number * BLOCK + (100 if number == 500 else 0)
            expected[start : (number + 1) * BLOCK] = bytes((number + 1) * BLOCK - start)
    said = program.run("export", "--rescue", "one", out, code=5)
    assert out.read_bytes() == expected
    assert f"guest bytes [{500 * BLOCK + 100}, {502 * BLOCK}) cannot be read" in said.stderr
    # What could not be read is filled with what unused areas are.
    program.run("export", "--rescue", "--fill", "0xEE", "--force", "one", out, code=5)
    filled = out.read_bytes()
    assert filled[500 * BLOCK : 500 * BLOCK + 100] == written.guest[500 * BLOCK :][:100]
    assert filled[500 * BLOCK + 100 : 502 * BLOCK] == b"\xee" * (2 * BLOCK - 100)
    assert filled[: 500 * BLOCK].replace(b"\xee", b"") != b""
    piped = subprocess.run(
        [*COMMAND, "export", "--rescue", "one", "-"], env=program.environment,
        capture_output=True, check=False,
    )  # fmt: skip
    assert (piped.returncode, piped.stdout) == (5, bytes(expected))


def test_a_read_error_in_the_middle_is_rescued(program: Program, tmp_path: Path, out: Path) -> None:
    """A damaged page of a compressed image: the pages beside it are exported."""
    plain = plain_image("partclone")
    packed = bytearray(compress("pzstd", plain.image))
    image = tmp_path / "one.img.zst"
    image.write_bytes(packed)
    catalogue(program, image)
    times = image.stat()
    packed[len(packed) // 2] ^= 0xFF
    image.write_bytes(packed)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    said = program.run("export", "one", out, code=5)
    assert "cannot be read" in said.stderr
    assert not out.exists()
    said = program.run("export", "--rescue", "one", out, code=5)
    rescued = out.read_bytes()
    pattern = r"guest bytes \[(\d+), (\d+)\) cannot be read"
    lost = [(int(start), int(stop)) for start, stop in re.findall(pattern, said.stderr)]
    assert lost
    kept = bytearray(plain.guest)
    for start, stop in lost:
        assert rescued[start:stop] == bytes(stop - start)
        kept[start:stop] = bytes(stop - start)
    assert rescued == kept
    assert sum(stop - start for start, stop in lost) < len(kept) // 2


def test_damage_that_is_met_on_the_way_names_image_and_cure(
    program: Program, tmp_path: Path, out: Path
) -> None:
    path = tmp_path / "packed.img.lz4"
    path.write_bytes(compress("lz4", plain_image("partclone").image))
    catalogue(program, path)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        file.write(b"spoilt")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    said = program.run("export", "packed", out, code=5).stderr
    assert re.search(r"imgcat: packed: guest bytes \[\d+, \d+\) cannot be read: ", said)
    assert "imgcat: packed: nothing was exported: --rescue exports all else" in said
    assert not out.exists()
    size = program.json("show", "packed")["size_bytes"]
    said = program.run("read", "packed", "--offset", 0, "--length", size, code=5).stderr
    assert said.startswith("imgcat: packed: ")
    said = program.run("repack", "packed", tmp_path / "new.img.zst", code=5).stderr
    assert said.startswith("imgcat: packed: ")
    program.run("export", "--rescue", "packed", out, code=5)


def test_a_damaged_image_is_refused_if_asked_for(
    program: Program, samples: list[Sample], tmp_path: Path, out: Path
) -> None:
    image = tmp_path / "one.img"
    sample = next(sample for sample in samples if sample.name == "ext4-0.3.47-a1-k1")
    shutil.copy(sample.path, image)
    data = bytearray(image.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    image.write_bytes(data)
    catalogue(program, image)
    refused = program.run("export", "one", out, "--verify", code=5)
    assert "nothing was exported" in refused.stderr
    assert refused.stdout == ""
    assert os.listdir(out.parent) == []
    taken = program.run("export", "one", out)
    assert "the last verification found damage" in taken.stderr
    assert out.stat().st_size == sample.volume_bytes


def test_a_changed_image_is_not_exported(program: Program, one: Path, out: Path) -> None:
    overwrite(one, solid(b"B", 300))
    assert "is not the file that was scanned" in program.run("export", "one", out, code=5).stderr
    assert os.listdir(out.parent) == []


@pytest.fixture
def huge(program: Program, tmp_path: Path) -> None:
    """An image called ``huge`` whose export takes long: 400 GiB, nearly all of it unused."""
    block_count = (400 << 30) // BLOCK
    blocks = dict.fromkeys((0, 1, block_count - 1), b"x" * BLOCK)
    image = tmp_path / "huge.img"
    image.write_bytes(scattered(blocks, block_count))
    catalogue(program, image)


def _written(pid: int, out: Path) -> int:
    """Return how many bytes of the file that will be `out`, and has no name yet, are stored."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(each).startswith(f"{out.parent}/#"):
                return os.stat(each).st_blocks * 512
    return 0


def _is_under_way(process: subprocess.Popen[bytes], out: Path) -> bool:
    return _written(process.pid, out) > MIB


@pytest.mark.usefixtures("huge")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("there", [False, True])
def test_interrupted(program: Program, out: Path, number: signal.Signals, there: bool) -> None:
    if there:
        out.write_bytes(b"mine")
    process = program.start("export", "huge", out, "--no-sparse", "--force")
    wait_until(lambda: _is_under_way(process, out), "the export is under way", 20)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == b""
    assert errors in {b"", b"Aborted!\n"}
    assert os.listdir(out.parent) == ([out.name] if there else [])
    assert not there or out.read_bytes() == b"mine"


@pytest.mark.usefixtures("huge")
def test_killed(program: Program, out: Path) -> None:
    process = program.start("export", "huge", out, "--no-sparse")
    wait_until(lambda: _is_under_way(process, out), "the export is under way", 20)
    process.kill()
    process.communicate()
    assert os.listdir(out.parent) == []


@pytest.mark.usefixtures("huge")
def test_an_ignored_interrupt_stays_ignored(program: Program, out: Path) -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "imgcat", "export", "huge", str(out), "--no-sparse"],
        env=program.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: _is_under_way(process, out), "the export is under way", 20)
    process.send_signal(signal.SIGHUP)
    before = _written(process.pid, out)
    wait_until(lambda: _written(process.pid, out) > before, "it goes on", 20)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert os.listdir(out.parent) == []


@pytest.mark.loop
@pytest.mark.usefixtures("huge")
def test_a_full_disk(program: Program, tmp_path: Path) -> None:
    point = tmp_path / "full"
    point.mkdir()
    quiet("mount", "-t", "tmpfs", "-o", "size=8M", "none", point)
    try:
        out = point / "disk.raw"
        said = program.run("export", "huge", out, "--no-sparse", code=5)
        assert said.stderr == f"imgcat: {out}: No space left on device\n"
        assert os.listdir(point) == []
        # With holes it fits.
        program.run("export", "huge", out)
        assert out.stat().st_size == 400 << 30
    finally:
        quiet("umount", point)


def test_completion_completes_image_names(program: Program, samples: list[Sample]) -> None:
    catalogue(program, *(sample.path for sample in samples[:3]))
    for command in ("export", "map", "read"):
        environment = program.environment | {
            "_IMGCAT_COMPLETE": "bash",
        }
        line = f"imgcat {command} ext4-0.3.4"
        assert program.run(line, "ext4-0.3.4", env=environment).stdout == "ext4-0.3.47-a0\0"


def test_what_nothing_vouches_for_is_refused_and_rescued_and_told(
    program: Program, tmp_path: Path
) -> None:
    """A compressed image without its end: what is there a rescue gets, and nobody else."""
    image = plain_image("partclone")
    data = packed("gzip", "partclone")
    path = tmp_path / "one.img.gz"
    path.write_bytes(data[: len(data) * 3 // 4])
    program.run("add", path, code=5)
    (row,) = program.json("ls", "--json")
    assert row["status"] == "damaged"
    said = program.run("map", "--json", "one", code=5)
    assert '"unreadable": "distrusted: no checksum of the damaged gzip stream' in said.stdout
    out = tmp_path / "out"
    said = program.run("export", "one", out, code=5)
    assert "distrusted" in said.stderr
    assert not out.exists()
    said = program.run("export", "--rescue", "one", out, code=5)
    assert "may be wrong: distrusted: no checksum of the damaged gzip stream" in said.stderr
    rescued = out.read_bytes()
    same = sum(
        rescued[at : at + 4096] == image.guest[at : at + 4096]
        for at in range(0, len(rescued), 4096)
    )
    assert len(rescued) == len(image.guest)
    assert len(image.guest) // 4096 * 2 // 3 < same < len(image.guest) // 4096
