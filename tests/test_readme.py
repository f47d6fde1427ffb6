"""The session of the README, run as it is written, on images of the real tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.program import COMMAND
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

README = (Path(__file__).parent.parent / "README.md").read_text()
SESSION = re.search(r"```console\n(.*?)```", README, re.DOTALL)

_MAKE = {
    "root": (24 * MIB, ("mkfs.ext4", "-q", "-F"), "partclone.ext4"),
    "home": (320 * MIB, ("mkfs.xfs", "-q", "-f"), "partclone.xfs"),
    "windows": (24 * MIB, ("mkntfs", "-q", "-F", "-Q"), "partclone.ntfs"),
}


def _images(directory: Path) -> None:
    backups, content = directory / "backups", directory / "content"
    backups.mkdir()
    content.mkdir()
    (content / "hello.txt").write_text("hello from root\n")
    for name, (size, mkfs, save) in _MAKE.items():
        raw = directory / f"{name}.raw"
        with raw.open("wb") as file:
            file.truncate(size)
        quiet(*mkfs, *(("-d", content) if name == "root" else ()), raw)
        quiet(save, "-c", "-s", raw, "-o", backups / f"{name}.img", "-L", directory / "log")


def test_the_session_runs(program: Program, tmp_path: Path) -> None:
    _images(tmp_path)
    wrapper = tmp_path / "bin" / "imgcat"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(map(str, COMMAND))} "$@"\n')
    wrapper.chmod(0o755)
    (tmp_path / "mnt").mkdir()
    environment = {
        **program.environment, "PATH": f"{wrapper.parent}:{program.environment['PATH']}",
    }  # fmt: skip
    assert SESSION is not None
    commands = re.findall(r"^\$ (.*)$", SESSION[1], re.MULTILINE)
    assert len(commands) >= 6
    said = {}
    try:
        for command in commands:
            local = command.replace("/mnt/", f"{tmp_path}/mnt/")
            result = subprocess.run(
                ["bash", "-ec", local], cwd=tmp_path, env=environment, capture_output=True,
                text=True, check=False, timeout=60,
            )  # fmt: skip
            assert result.returncode == 0, f"{command}: {result.stderr}"
            said[command] = result.stdout
    finally:
        for name in ("root", "images"):
            subprocess.run(["umount", "-q", tmp_path / "mnt" / name], check=False)
    assert said["cat /mnt/root/hello.txt"] == "hello from root\n"
    assert said["imgcat add backups/*.img"].count("added ") == 3
    assert said["imgcat mount-all /mnt/images"].startswith("3 images in ")
