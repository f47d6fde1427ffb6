"""What lies on this machine, by real mounts."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.sources.locality import is_local

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample


@pytest.mark.fuse
def test_a_file_behind_a_process_is_not_on_this_machine(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    program.run("add", samples[0].path)
    (image,) = program.mount_all(tmp_path / "mnt").iterdir()
    link = tmp_path / "link"
    link.symlink_to(image)
    assert not is_local(str(image))
    assert not is_local(str(link))
    # As the system's own tool tells it.
    assert subprocess.check_output(["stat", "-f", "-c", "%T", image]) == b"fuseblk\n"


def test_the_kernels_own_file_systems_are(tmp_path: Path) -> None:
    file = tmp_path / "a name with a space"
    file.write_bytes(b"x")
    assert is_local(str(file))
    assert is_local("/proc/self/status")


def test_what_cannot_be_told_is_not(tmp_path: Path) -> None:
    assert not is_local(str(tmp_path / "missing"))
