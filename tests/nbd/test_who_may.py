"""Who may connect, and what is served to them."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attack_images import BLOCK, solid
from support.nbd import client, exports, serving
from support.program import COMMAND, Program
from support.shortcuts import catalogue
from support.strangers import NOBODY, open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

GUEST = b"A" * (8 * BLOCK)

BECOME_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach, made under the usual umask."""
    umask = os.umask(0o022)
    try:
        with open_directory() as directory:
            yield directory
    finally:
        os.umask(umask)


@pytest.fixture
def program(place: Path) -> Iterator[Program]:
    with Program(place / "home") as found:
        yield found


@pytest.fixture
def shelf(program: Program, place: Path) -> Path:
    """Two images, one of which is private."""
    for name, mode in (("open", 0o644), ("secret", 0o600)):
        path = place / f"{name}.img"
        path.write_bytes(solid(b"A", 8))
        path.chmod(mode)
        catalogue(program, path)
    return place


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
        return number


def listening(port: int) -> list[str]:
    """Return the addresses on which somebody listens at a port, as the kernel writes them."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text("ascii").splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and address.endswith(f":{port:04X}"):
                found.append(address.partition(":")[0])
    return found


@as_root
def test_on_a_port_only_what_everybody_may_read(program: Program, shelf: Path, port: int) -> None:
    with serving(program, "--port", port) as server:
        assert listening(port) == ["0100007F"]
        assert server.uri == f"nbd://127.0.0.1:{port}/open"
        assert list(exports(server.uri)) == ["open"]
        client("nbdcopy", server.uri, shelf / "copy")
        assert (shelf / "copy").read_bytes() == GUEST
        client("nbdinfo", f"nbd://127.0.0.1:{port}/secret", code=1)
        # It is looked up for every client.
        (shelf / "open.img").chmod(0o600)
        client("nbdinfo", server.uri, code=1)
        (shelf / "open.img").chmod(0o644)
        client("nbdinfo", server.uri)
        said = server.stop()
    assert "imgcat: secret: is not served: not everybody may read its files" in said
    assert "use --socket" in said
    said = program.run("serve", "--port", port, "secret", code=8).stderr
    assert "no image can be served to everybody" in said


@as_root
def test_a_private_directory_above_counts(program: Program, shelf: Path, port: int) -> None:
    closed = shelf / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inside.img").write_bytes(solid(b"A", 8))
    catalogue(program, closed / "inside.img")
    assert "inside: is not served" in program.run("serve", "--port", port, "inside", code=8).stderr


@as_root
def test_on_a_socket_all_that_this_user_may_read(program: Program, shelf: Path) -> None:
    with serving(program) as server:
        assert sorted(exports(server.uri)) == ["open", "secret"]


@as_root
def test_what_the_user_cannot_open_is_not_served(program: Program, shelf: Path) -> None:
    home = shelf / "other"
    home.mkdir()
    (home / "run").mkdir()
    (home / "catalog.db").write_bytes(program.catalog.read_bytes())
    for each in (home, home / "run", home / "catalog.db"):
        os.chown(each, NOBODY, NOBODY)
    environment = {
        **program.environment, "HOME": str(home), "IMGCAT_DB": str(home / "catalog.db"),
        "XDG_RUNTIME_DIR": str(home / "run"),
    }  # fmt: skip
    tried = subprocess.run(
        [*BECOME_NOBODY, *COMMAND, "ls"], env=environment, capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("another user cannot run this Python")
    process = subprocess.Popen(
        [*BECOME_NOBODY, *COMMAND, "serve"], env=environment, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        uri = process.stdout.readline().decode().strip()
        assert list(exports(uri)) == ["open"]
        client("nbdinfo", uri.replace("///?", "///secret?"), code=1)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@as_root
def test_with_keys_all_is_served(program: Program, shelf: Path, port: int) -> None:
    keys = shelf / "keys.psk"
    keys.write_text(f"me:{'ab' * 32}\n")
    keys.chmod(0o600)
    arguments = ("--", "--tls=require", f"--tls-psk={keys}")
    with serving(program, "--port", port, *arguments) as server:
        assert server.uri == f"nbds://127.0.0.1:{port}/"
        uri = f"nbds://me@127.0.0.1:{port}/secret?tls-psk-file={keys}"
        client("nbdcopy", uri, shelf / "copy")
        assert (shelf / "copy").read_bytes() == GUEST
        client("nbdinfo", f"nbd://127.0.0.1:{port}/secret", code=1)
        assert listening(port) == ["0100007F"]
    with serving(program, "--port", port, "--", "-i", "0.0.0.0", *arguments[1:]) as server:
        assert listening(port) == ["00000000"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", 10809, "--", "-i", "0.0.0.0"),
        ("--port", 10809, "--", "-i0.0.0.0"),
        ("--port", 10809, "--", "-fi0.0.0.0"),
        ("--port", 10809, "--", "--ipa=::"),
        ("--port", 10809, "--", "--ipaddr", "example.org"),
        ("--port", 10809, "--", "-i", "0.0.0.0", "--tls=on"),
        ("--port", 10809, "--", "-i", "0.0.0.0", "--tls=require", "--tls=off"),
        ("--", "-i", "127.0.0.1"),
        ("--", "-p", "10810"),
        ("--", "--por=10810"),
        ("--", "-U", "/tmp/other"),
        ("--", "--vsock"),
        ("--", "--run", "true"),
        ("--", "-s"),
        ("--", "--unheard-of"),
        ("--", "/etc/passwd"),
        ("--", "script=/etc/passwd"),
        ("--port", 0),
        ("--port", 1, "--socket", "s"),
    ],
)  # fmt: skip
def test_what_would_open_it_to_others_is_refused(
    program: Program, shelf: Path, arguments: tuple[object, ...]
) -> None:
    program.run("serve", "open", *arguments, code=2)


@as_root
def test_a_catalog_of_somebody_else(program: Program, shelf: Path) -> None:
    os.chown(program.catalog, NOBODY, NOBODY)
    assert "--trust-catalog" in program.run("serve", code=8).stderr
    with serving(program, "--trust-catalog") as server:
        assert sorted(exports(server.uri)) == ["open", "secret"]


def test_a_socket_that_is_passed(program: Program, shelf: Path) -> None:
    path = shelf / "passed"
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(str(path))
        path.chmod(0o600)
        waiting.listen()
        process = subprocess.Popen(
            ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 0</dev/null', "sh", *COMMAND,
             "serve", "open"],
            env=program.environment, stdin=waiting.fileno(), stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            client("nbdcopy", f"nbd+unix:///open?socket={path}", shelf / "copy")
            assert (shelf / "copy").read_bytes() == GUEST
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert path.exists()
