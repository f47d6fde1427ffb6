"""The shell, by script and on a terminal: what it says is what the formats' own tools say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import pyvhdi
from support import samples
from support.virtual_disks import KIB, MIB, changes, guest_of, map_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program

SIZE = 6 * MIB


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    """A disk with every kind of cluster, over a raw one."""
    base = write_raw(tmp_path / "base.raw", SIZE, 3)
    base.write_bytes(base.read_bytes())
    packed = tmp_path / "packed.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", base, packed)
    path = tmp_path / "vm.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", "packed.qcow2", "-F", "qcow2", path)
    qemu_io(path, "qcow2", changes(SIZE, 4, 10))
    return path


def run(program: Program, image: str, script: str, code: int = 0) -> str:
    """Return what a script prints."""
    return program.run("shell", "-c", script, image, code=code).stdout


def test_the_map_of_a_qcow2_is_that_of_qemu_img(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    said = map_of(qcow2, "qcow2")
    guest = guest_of(qcow2, "qcow2")
    for each in said:
        if not each["data"] or each["depth"]:
            continue
        text = run(program, "vm.qcow2", f"where {each['start']}")
        assert text.splitlines()[-1].strip() == f"byte {each['offset']} of {qcow2}"
    table = run(program, "vm.qcow2", "map 1M-2M")
    assert table.splitlines()[1].split()[0] == str(MIB)
    dump = run(program, "vm.qcow2", "hexdump 1M 32")
    expected = subprocess.run(
        ["xxd", "-g1", "-s", str(MIB), "-l", "32"], input=guest, capture_output=True, check=True
    ).stdout.decode()
    assert dump == expected


def test_the_tables_of_a_qcow2(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    info = json.loads(qemu_img("info", "--output=json", qcow2))
    text = run(program, "vm.qcow2", "header")
    fields = dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())
    assert fields["size"] == str(info["virtual-size"])
    assert fields["cluster size"].split()[0] == str(info["cluster-size"])
    assert fields["backing file"] == info["backing-filename"]
    assert fields["compression type"] == info["format-specific"]["data"]["compression-type"]
    data = qcow2.read_bytes()
    (l1_offset,) = struct.unpack_from(">Q", data, 40)
    (l1,) = struct.unpack_from(">Q", data, l1_offset)
    offset = l1 & 0x00FFFFFFFFFFFE00
    assert run(program, "vm.qcow2", "l1").startswith(f"0: guest 0: L2 table at {offset}")
    entries = struct.unpack_from(f">{SIZE // (64 * KIB)}Q", data, offset)
    lines = run(program, "vm.qcow2", "l2 0").splitlines()
    assert len(lines) == len(entries)
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        host = entry & 0x00FFFFFFFFFFFE00
        what = "zeros" if entry & 1 else f"data at {host}" if host else "not stored"
        assert line.startswith(f"{number}: guest {number * 64 * KIB}: {what}")
        assert f"0x{entry:016x}" in line


def test_where_a_byte_of_a_chain_lies(qcow2: Path, program: Program, tmp_path: Path) -> None:
    program.run("add", qcow2)
    found = set()
    for each in map_of(qcow2, "qcow2"):
        lines = run(program, "vm.qcow2", f"where {each['start']}").splitlines()
        found.add(lines[-1].strip().split()[0])
        assert lines[0] == f"byte {each['start']} of vm.qcow2"
    packed = tmp_path / "packed.qcow2"
    text = run(program, "packed.qcow2", "where 0; map 0")
    assert "in the compressed piece of" in text or "zeros" in text
    assert str(packed) in text or "zeros" in text
    assert found >= {"byte"}


def test_extended_entries_and_snapshots(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "e.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64k", path, SIZE)
    qemu_io(path, "qcow2", ["write -P 1 0 2k", "write -z 4k 2k", "write -P 2 64k 64k"])
    qemu_img("snapshot", "-c", "now", path)
    program.run("add", path)
    lines = run(program, "e.qcow2", "l2 0").splitlines()
    assert re.search(
        r"parts at \d+: 0-0 data, 1-1 not stored, 2-2 zeros, 3-31 not stored", lines[0]
    )
    assert re.search(r": data at \d+  \(", lines[1])
    assert "snapshot 1 'now'" in run(program, "e.qcow2", "header")


def test_a_vhd_can_be_followed_by_hand(program: Program, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", SIZE, 5)
    path = tmp_path / "d.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, path)
    program.run("add", path)
    text = run(program, "d.vhd", "footer; header")
    fields = dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())
    file = pyvhdi.file()
    file.open(str(path))
    assert fields["current size"] == str(file.get_media_size())
    assert fields["UUID"] == file.get_identifier()
    assert fields["type"] == "3 (dynamic)"
    file.close()
    data = path.read_bytes()
    assert fields["offset"] == str(len(data) - 512)
    (header,) = struct.unpack_from(">Q", data, 16)
    (table,) = struct.unpack_from(">Q", data, header + 16)
    entries = struct.unpack_from(">3I", data, table)
    lines = run(program, "d.vhd", "bat").splitlines()
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        start = entry * 512
        assert line == (
            f"{number}: guest {number * 2 * MIB}: not stored"
            if entry == 0xFFFFFFFF
            else f"{number}: guest {number * 2 * MIB}: sector {entry}, "
            f"bitmap [{start}, {start + 512}), data [{start + 512}, {start + 512 + 2 * MIB})"
        )
    assert run(program, "d.vhd", "bat 1").splitlines() == lines[1:2]
    assert run(program, "d.vhd", "bat 1-").splitlines() == lines[1:]


def test_partitions_and_what_is_below_them(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(
        ["sfdisk", "-q", raw], input="label: gpt\nsize=2MiB, name=one\nsize=1MiB\n", text=True,
        check=True,
    )  # fmt: skip
    path = tmp_path / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    qemu_io(path, "qcow2", [f"write -P 7 {MIB} 64k"])
    program.run("add", path)
    text = run(program, "disk.qcow2", "partitions; use p1; info; where 0; use ..; where 1M; use p2")
    assert re.search(r"p1 +1048576 +3145728 +Linux filesystem +- +one +disk.qcow2.p1", text)
    assert "part of  " in text
    (place,) = {each for each in map(str.strip, text.splitlines()) if each.endswith(f"of {path}")}
    steps = [line.strip() for line in text.splitlines() if line.strip().startswith("byte")]
    assert steps == [
        "byte 0 of disk.qcow2.p1", f"byte {MIB} of disk.qcow2", place, f"byte {MIB} of disk.qcow2",
        place,
    ]  # fmt: skip
    run(program, "disk.qcow2", "use p9", code=3)
    run(program, "disk.qcow2.p1", "partitions", code=3)


def test_other_formats_verify_and_export(program: Program, tmp_path: Path) -> None:
    sample = samples.unpack_one(tmp_path, "ext4-0.3.23")
    program.run("add", sample.path, "--name", "root")
    text = run(program, "root", f"info; header; verify; export {tmp_path / 'out.raw'}")
    assert "partclone 0002" in text
    assert "right: every crc32" in text
    exported = (tmp_path / "out.raw").read_bytes()
    assert hashlib.sha256(exported).hexdigest() == sample.volume_sha256
    assert program.json("ls")[0]["verify_result"] == "ok"


@pytest.mark.parametrize(("script", "code", "said"), [
    ("dance", 2, "no such command"), ("l2", 2, "usage: l2 N"), ("footer", 2, "which has no footer"),
    ("where 1T", 2, "bytes"), ("hexdump x", 2, "no number"), ("l2 99", 2, "entries"),
    ("map 5M-1M", 2, "no range"), ("'open", 2, "quotation"), ("use nothing", 3, "no image"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(
    script: str, code: int, said: str, qcow2: Path, program: Program
) -> None:
    program.run("add", qcow2)
    found = program.run("shell", "-c", f"{script}; help where", "vm.qcow2", code=code)
    assert said in found.stderr
    # What comes behind it is done all the same.
    assert "where OFFSET" in found.stdout or script == "'open"


def test_commands_from_a_pipe(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    found = program.run("shell", "vm.qcow2", input="info\n# a remark\nquit\ndance\n")
    assert "format" in found.stdout
    assert found.stderr == ""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, program: Program, *arguments: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            env = program.environment | {"TERM": "xterm"}
            os.execve(sys.executable, [sys.executable, "-m", "imgcat", *arguments], env)
        self.text = ""

    def expect(self, wanted: str) -> None:
        """Wait until something is on the screen."""
        deadline = time.monotonic() + 30
        while wanted not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.fd], [], [], 0.2)[0]:
                data = os.read(self.fd, 65536).decode("utf-8", "replace")
                self.text += data
                if "\x1b[6n" in data:
                    # It asks where the cursor is.
                    os.write(self.fd, b"\x1b[1;1R")

    def type(self, keys: str) -> None:
        """Press keys."""
        self.text = ""
        os.write(self.fd, keys.encode())


@contextlib.contextmanager
def terminal(program: Program, *arguments: str) -> Iterator[Terminal]:
    """Start a program, and have it ended by then."""
    started = Terminal(program, *arguments)
    yield started
    deadline = time.monotonic() + 20
    while True:
        pid, status = os.waitpid(started.pid, os.WNOHANG)
        if pid:
            break
        assert time.monotonic() < deadline, "it does not end"
        with contextlib.suppress(OSError):
            if select.select([started.fd], [], [], 0.1)[0]:
                os.read(started.fd, 65536)
    os.close(started.fd)
    assert os.waitstatus_to_exitcode(status) == 0


def test_on_a_terminal(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        screen.type("he\t")
        screen.expect("hea")
        screen.type("\x03")
        screen.expect("vm.qcow2>")
        screen.type("l1\r")
        screen.expect("L2 table at")
        screen.type("use pack\t")
        screen.expect("packed.qcow2")
        screen.type("\r")
        screen.expect("packed.qcow2>")
        screen.type("\x04")
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        # The last command but one of the time before.
        screen.type("\x1b[A\x1b[A\r")
        screen.expect("L2 table at")
        screen.type("quit\r")
    (history,) = program.home.rglob("history")
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+l1" in history.read_text()
