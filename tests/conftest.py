"""Fixtures for all tests: the program, catalogs, mounts, and what the machine must offer."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.program import Program
from support.samples import Sample, unpack
from support.started import end_servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

_IN_CI = os.environ.get("CI", "") not in {"", "false", "0"}

_LONGEST = (
    "test_storm", "test_story", "test_recover", "test_random_trees", "test_one_photo",
    "test_moved_shelf", "test_blocked_device", "test_files", "test_ext", "test_hostile",
    "test_stages", "test_carried", "test_usage", "test_xfs", "test_memory", "test_killed_writers",
    "test_permissions", "test_packaging", "test_export", "test_compressed", "test_bad_images",
    "test_bad_catalogs", "test_real_volumes", "test_repack", "test_meanwhile",
    "test_real_partimage", "test_real_ntfsclone", "test_faults", "test_bad_mounts",
    "test_replaced_catalog", "test_completion", "test_kill", "test_inspect", "test_commands",
    "test_fleet", "test_serving", "test_who_may", "test_fuzz_partclone", "test_fuzz_ntfsclone",
    "test_readme",
)  # fmt: skip
"""The files that take longest come first: begun last, one of them would run alone at the end."""

_MARKERS = {
    "fuse": "needs /dev/fuse and root",
    "loop": "needs loop devices and root",
    "fresh": "Python is started for each command: about its start, its imports or its memory",
    "soak": "long by nature: run by `make soak`, not by `make test`",
}


def pytest_configure(config: pytest.Config) -> None:
    # Whoever began the run in the background, or by nohup, has one of them ignored, and so would
    # what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name, text in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")


def pytest_unconfigure() -> None:
    end_servers()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their size: of compressed ones, some hold the time at which they were made."""
    return f"{argname}-{len(val)}" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the machine cannot run; in CI, such a test fails instead."""
    lacking = {
        "fuse": _lacking_fuse(),
        "loop": None if os.geteuid() == 0 and os.path.exists("/dev/loop-control") else "no loop",
    }
    place = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in items:
        for marker, reason in lacking.items():
            if reason and item.get_closest_marker(marker) and not _IN_CI:
                item.add_marker(pytest.mark.skip(reason=reason))


def _lacking_fuse() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    return None if shutil.which("fusermount3") else "no fusermount3"


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """The nine sample images, unpacked."""
    return unpack(tmp_path_factory.mktemp("samples"))


@pytest.fixture
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    """The program with a home, a catalog and a run-time directory of its own.

    Whatever it has mounted is unmounted at the end, and its daemons are gone.
    """
    fresh = request.node.get_closest_marker("fresh") is not None
    with Program(tmp_path / "home", fresh=fresh) as found:
        yield found
