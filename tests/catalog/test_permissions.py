"""Who may read an image, compared with what the kernel lets users read."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.opening.permissions import KnownPermissions, permissions_of
from imgcat.catalog.records import ImageFiles
from support.strangers import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

_IDS = (0, 64001, 64002)
_USERS = [
    (uid, gid, groups)
    for uid in (64001, 64002, 64003)
    for gid in (64001, 64002, 64003)
    for groups in ((), (64001,), (64002,), (64001, 64002))
]

_READ = """
import json, os, sys
uid, gid, groups, images = json.load(sys.stdin)
os.setgroups(groups)
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
def may_read(path):
    try:
        with open(path, "rb"):
            return True
    except PermissionError:
        return False
print(json.dumps([all(map(may_read, paths)) for paths in images]))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach."""
    with open_directory() as directory:
        yield directory


def make_images(place: Path) -> list[list[str]]:
    """Make images of one or two files, of any owners and modes, in directories of any."""
    rng = random.Random(5)
    images = []
    for number in range(400):
        paths = []
        for part in range(1 + number % 2):
            directory = place / f"{number}-{part}"
            directory.mkdir()
            file = directory / "file"
            file.touch()
            # Most of them open, so that some images can be read.
            file.chmod(rng.choice([0o644, 0o640, 0o444, 0o604, 0o060, rng.randrange(0o1000)]))
            os.chown(file, rng.choice(_IDS), rng.choice(_IDS))
            directory.chmod(rng.choice([0o755, 0o711, 0o750, 0o701, rng.randrange(0o1000)]))
            os.chown(directory, rng.choice(_IDS), rng.choice(_IDS))
            paths.append(str(file))
        images.append(paths)
    return images


def test_nobody_may_who_could_not_read_the_files(place: Path) -> None:
    images = make_images(place)
    found = [permissions_of(ImageFiles(tuple(paths))).permissions for paths in images]
    granted = exact = 0
    for uid, gid, groups in _USERS:
        asked = json.dumps([uid, gid, groups, images])
        said = subprocess.run(
            [sys.executable, "-c", _READ], input=asked, capture_output=True, text=True, check=True
        ).stdout
        for paths, permissions, may in zip(images, found, json.loads(said), strict=True):
            allowed = permissions.allow(uid, {gid, *groups})
            assert may or not allowed, (paths, permissions, uid, gid, groups)
            assert may or not permissions.allow(uid, None)
            granted += allowed
            exact += allowed == may
    # Even with modes and owners as odd as these, most answers are the kernel's own.
    assert granted > 1000
    assert exact > 0.75 * len(images) * len(_USERS)


def test_a_look_is_kept_and_no_longer_than_it_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a").touch()
    asked = itertools.count()

    def files_of(_image_id: int) -> ImageFiles:
        next(asked)
        return ImageFiles((str(place / "a"),))

    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    known = KnownPermissions(files_of)
    assert known.known(1) == ((0o400, 0, 0), 0.0)
    (place / "a").chmod(0o644)
    assert known.look(1).permissions == (0o444, 0, 0)
    now[0] = 103.0
    assert known.known(1) == ((0o444, 0, 0), 2.0)
    now[0] = 105.0
    assert known.known(1) == ((0o400, 0, 0), 0.0)
    assert next(asked) == 1


def test_an_image_without_files_is_for_nobody_else(place: Path) -> None:
    known = KnownPermissions(lambda _image_id: ImageFiles(()))
    assert known.look(7).permissions == (0o400, 0, 0)
    (place / "copied").touch(0o644)
    gone = ImageFiles((str(place / "copied"),), (str(place / "gone"),))
    assert permissions_of(gone).permissions.mode == 0o444
