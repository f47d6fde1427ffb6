"""The tests' own `Program`: what the server forks is as what Python starts, from outside."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attack_images import solid
from support.program import Program, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SEEN = ("State:", "PPid:", "Umask:", "Groups:", "NSsid:", "NSpgid:", "Sig", "Shd", "Cap", "Seccomp")
"""Lines of /proc/PID/status."""


@pytest.fixture(params=[False, True], ids=["forked", "started"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path / "home", fresh=request.param) as found:
        yield found


@pytest.fixture
def held(tmp_path: Path) -> Iterator[dict[bool, subprocess.Popen[bytes]]]:
    """The program in both ways, in the middle of writing to a pipe."""
    image = tmp_path / "one.img"
    image.write_bytes(solid(b"A"))
    processes = {}
    with Program(tmp_path / "home") as forked, Program(tmp_path / "home", fresh=True) as started:
        forked.run("add", image)
        for program in (forked, started):
            process = program.start("export", "one", "-", cwd=tmp_path, start_new_session=True)
            assert process.stdout is not None
            process.stdout.read(1)
            processes[program is started] = process
        yield processes


def test_what_the_system_has_of_it(held: dict[bool, subprocess.Popen[bytes]]) -> None:
    for process in held.values():
        # Asleep: there is no more room in the pipe.
        wait_until(lambda pid=process.pid: _seen(pid)["State:"] == "S", "it waits", 20)
    forked, started = (_seen(held[fresh].pid) for fresh in (False, True))
    for each, process in ((forked, held[False]), (started, held[True])):
        # It leads its session and group, and is no child of another test's process.
        assert {each.pop("NSsid:"), each.pop("NSpgid:")} == {str(process.pid)}
        assert each.pop("PPid:") != "1"
    assert forked == started


def _seen(pid: int) -> dict[str, str]:
    place = Path(f"/proc/{pid}")
    lines = [line.split(None, 1) for line in (place / "status").read_text().splitlines()]
    seen = {name: rest.split()[0] if name == "State:" else rest.strip()
            for name, rest in (line for line in lines if len(line) == 2)
            if name.startswith(SEEN)}  # fmt: skip
    links = sorted((int(link.name), os.readlink(link)) for link in (place / "fd").iterdir())
    seen["fd"] = str([(fd, to.partition(":")[0]) for fd, to in links])
    seen["cwd"] = os.readlink(place / "cwd")
    seen["limits"] = (place / "limits").read_text()
    return seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_ends_it(held: dict[bool, subprocess.Popen[bytes]], number: int) -> None:
    said = set()
    for process in held.values():
        process.send_signal(number)
        said.add((process.communicate(timeout=60)[1], process.returncode))
        # It has been waited for: there is nothing to signal.
        process.send_signal(number)
    assert len(said) == 1
    assert said.pop()[1] in {-number, 128 + number}


def test_an_interrupt_ends_it(held: dict[bool, subprocess.Popen[bytes]]) -> None:
    said = []
    for process in held.values():
        process.send_signal(signal.SIGINT)
        said.append((process.communicate(timeout=60)[1], process.returncode))
    assert said[0] == said[1]
    assert said[0][1] == 130


def test_codes_input_and_environment(both: Program, tmp_path: Path) -> None:
    assert both.run("--version").stdout.startswith("imgcat ")
    assert "No such command" in both.run("none-such", code=2).stderr
    both.run("show", "nothing", code=3)
    assert both.run("sql", "-", input="SELECT 1 AS one", code=3).stderr
    other = {**both.environment, "IMGCAT_DB": str(tmp_path / "other.db")}
    (tmp_path / "a.img").write_bytes(solid(b"A"))
    both.run("add", "a.img", env=other, cwd=tmp_path)
    assert both.run("sql", "-", input="SELECT 1 AS one", env=other).stdout.split() == ["one", "1"]
    both.run("ls", code=3)
    # Nothing of one command is left to the next.
    assert both.run("ls", env=other).stdout.count("a.img") == 1


@pytest.mark.parametrize("arguments", [["--version"], ["sql", "-h"], ["mounts", "--json"], []])
def test_output_that_cannot_be_written(tmp_path: Path, arguments: list[str]) -> None:
    said = set()
    for fresh in (False, True):
        with Program(tmp_path / "home", fresh=fresh) as program, open("/dev/full", "wb") as full:
            process = program.start(*arguments, stdout=full)
            last = process.communicate(timeout=60)[1].splitlines()[-1]
            said.add((last, process.returncode))
    assert len(said) == 1
    assert said.pop()[1] != 0


def test_a_daemon_has_no_more_open(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(solid(b"A"))
    found = []
    for fresh in (False, True):
        with Program(tmp_path / f"home{fresh}", fresh=fresh) as program:
            program.run("add", tmp_path / "a.img")
            pid = program.daemon_pid(program.mount_all(tmp_path / f"mount{fresh}"))
            # The endings of files, and kinds of all else, without their numbers.
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            found.append(sorted(os.path.splitext(each)[1] or each[:5] for each in links))
    assert found[0] == found[1]
