"""A sealed image in a real mount: a page that changed is an error, which the catalog tells of."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.program import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

pytestmark = pytest.mark.fuse

PAGE = 128 << 10


@pytest.fixture
def image(program: Program, tmp_path: Path) -> Path:
    """An image without checksums that is sealed, one bit of which was changed without a trace."""
    guest = random.Random(1).randbytes(4 << 20)
    path = tmp_path / "one.img"
    path.write_bytes(
        write(Recipe(present=[True] * 1024, block_size=4096, checksum="NONE", guest=guest)).image
    )
    program.run("add", path)
    program.run("verify", "one")
    assert program.json("ls")[0]["sealed_at"]
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(2 << 20)
        byte = file.read(1)
        file.seek(2 << 20)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


def bad_blocks(path: Path) -> list[int]:
    bad = []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        for offset in range(0, path.stat().st_size, 4096):
            try:
                os.pread(fd, 4096, offset)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                bad.append(offset)
    finally:
        os.close(fd)
    return bad


def test_a_wrong_page_is_an_error_and_recorded(
    program: Program, image: Path, tmp_path: Path
) -> None:
    del image
    mount = program.mount_all(tmp_path / "mount")
    bad = bad_blocks(mount / "one")
    assert 2 << 20 in [offset + 4096 * near for offset in bad for near in range(-2, 3)]
    assert 32 <= len(bad) <= 34
    wait_until(lambda: program.json("ls")[0]["status"] == "damaged", "it is recorded", 30)
    assert program.json("ls")[0]["verify_result"] == "bad"
    (told,) = program.sql("SELECT what, detail FROM attention WHERE what = 'damaged'")
    assert "are not what they were when the image was sealed" in told["detail"]
    # The others of its pages are read as before.
    assert len(bad_blocks(mount / "one")) == len(bad)


@pytest.mark.parametrize("command", ["mount", "mount-all"])
def test_who_does_not_want_to_know_gets_what_is_there(
    program: Program, image: Path, tmp_path: Path, command: str
) -> None:
    del image
    if command == "mount":
        mount = program.mount("--check=off", "one", tmp_path / "mount")
    else:
        mount = program.mount_all(tmp_path / "mount", "--check=off")
    assert bad_blocks(mount / "one") == []
    assert program.json("ls")[0]["status"] == "ready"
