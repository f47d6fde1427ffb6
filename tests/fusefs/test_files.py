"""The files inside of images, in a mount: as a mount of the original shows them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.exfat import exfat_fuse
from support.files_inside import loop_mounted, of_mount
from support.program import Program, wait_until
from support.shortcuts import catalogue, daemon_pid
from support.strangers import open_directory, read_as
from support.trees import grow
from support.volumes import MIB, mounted, quiet
from support.xfs import shown

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

EXT = {
    "ext4": "-t ext4",
    "ext2": "-t ext2 -b 1024",
    "inline": "-t ext4 -O inline_data",
    "bigalloc": "-t ext4 -O bigalloc -C 65536",
}


def make(raw: Path, *words: str, size: int = 192 * MIB) -> Path:
    raw.touch()
    os.truncate(raw, size)
    quiet(*words, raw)
    return raw


def made_from(content: Path, raw: Path, size: int = 24 * MIB) -> Path:
    return make(raw, "mke2fs", "-q", "-F", "-t", "ext4", "-d", str(content), size=size)


def comparable(facts: dict[bytes, dict[str, Any]], *, modes: bool) -> dict[bytes, Any]:
    """Return what a mount of an image shows as that of the original does."""
    found = {}
    for path, each in facts.items():
        other = {key: value for key, value in each.items() if key != "inode"}
        if not modes:
            other["mode"] = stat.S_IFMT(each["mode"])
            del other["uid"], other["gid"]
        found[path] = other
    return found


def check_numbers(found: dict[bytes, dict[str, Any]], expected: dict[bytes, Any]) -> None:
    """Check that names of one file there are names of one file here, and no others."""
    numbers: dict[int, int] = {}
    for path, facts in expected.items():
        assert numbers.setdefault(facts["inode"], found[path]["inode"]) == found[path]["inode"]
    assert len(set(numbers.values())) == len(numbers)


@pytest.mark.parametrize("real", [False, True], ids=["as the image", "real modes"])
@pytest.mark.parametrize("kind", EXT)
def test_every_file_of_ext(kind: str, real: bool, program: Program, tmp_path: Path) -> None:
    raw = make(tmp_path / "volume.raw", "mke2fs", "-q", "-F", *EXT[kind].split())
    with loop_mounted(raw, tmp_path / "mount") as original:
        grow(original, 5)
    with loop_mounted(raw, tmp_path / "mount", "ro") as original:
        expected = of_mount(original)
        told = os.stat(original)
        of_root = (told.st_mtime_ns, told.st_ctime_ns, told.st_nlink)
    catalogue(program, raw)
    mount = program.mount_all(tmp_path / "all", "--files", *(["--real-modes"] if real else []))
    top = mount / "files" / "volume"
    found = of_mount(top)
    assert comparable(found, modes=real) == comparable(expected, modes=real)
    check_numbers(found, expected)
    root = os.stat(top)
    assert (root.st_mtime_ns, root.st_ctime_ns, root.st_nlink) == of_root
    for path, facts in expected.items():
        where = os.path.join(os.fsencode(top), path)
        mode = os.getxattr(where, "imgcat.mode", follow_symlinks=False)
        owner = os.getxattr(where, "imgcat.owner", follow_symlinks=False)
        assert int(mode, 8) == facts["mode"]
        assert owner == b"%d:%d" % (facts["uid"], facts["gid"])
        if not real:
            # Who may read the image may read, and search what is a directory.
            read = stat.S_IMODE(os.stat(mount / "volume").st_mode)
            search = read >> 2 if stat.S_ISDIR(facts["mode"]) else 0
            assert stat.S_IMODE(found[path]["mode"]) == read | search
        assert "imgcat.mode" not in os.listxattr(where, follow_symlinks=False)
    assert program.sql("SELECT count(*) AS n FROM images") == [{"n": 1}]


def test_every_file_of_ntfs_fat_and_exfat(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "some directory" / "deep").mkdir(parents=True)
    for number in range(300):
        (content / "some directory" / f"a longer name {number}").write_bytes(b"%d" % number * 50)
    (content / "some directory" / "deep" / "large").write_bytes(os.urandom(700_000))
    (content / "empty").write_bytes(b"")
    originals = {}
    ntfs = make(tmp_path / "ntfs.raw", "mkntfs", "-q", "-F", "-Q", size=48 * MIB)
    with mounted(["ntfs-3g", str(ntfs), str(tmp_path / "mount")], tmp_path / "mount") as mount:
        quiet("cp", "-r", f"{content}/.", mount)
        originals["ntfs"] = of_mount(mount, attributes=False)
    fat = make(tmp_path / "fat.raw", "mkfs.vfat", size=48 * MIB)
    quiet("mcopy", "-s", "-m", "-i", fat, *sorted(map(str, content.iterdir())), "::/")
    originals["fat"] = of_mount(content, attributes=False)
    exfat = make(tmp_path / "exfat.raw", "mkfs.exfat", size=48 * MIB)
    with exfat_fuse(exfat, tmp_path / "mount") as mount:
        quiet("cp", "-r", f"{content}/.", mount)
        originals["exfat"] = of_mount(mount, attributes=False)
    catalogue(program, ntfs, fat, exfat)
    all_of_them = program.mount_all(tmp_path / "all", "--files", "--real-modes")
    for name, expected in originals.items():
        found = of_mount(all_of_them / "files" / name, attributes=False)
        assert found.keys() == expected.keys()
        assert any("hash" in facts for facts in expected.values())
        for path, facts in expected.items():
            for key in ("size", "hash"):
                assert found[path].get(key) == facts.get(key), (name, path, key)
            # FAT has two seconds; mtools and the drivers round them each in their way.
            assert abs(found[path]["mtime"] - facts["mtime"]) <= 2 * 10**9 or name == "fat"


def test_every_file_of_xfs(program: Program, tmp_path: Path) -> None:
    raw = make(tmp_path / "volume.raw", "mkfs.xfs", "-q", size=304 * MIB)
    with loop_mounted(raw, tmp_path / "mount") as original:
        grow(original, 6)
    with loop_mounted(raw, tmp_path / "mount", "ro") as original:
        expected = shown(original)
    catalogue(program, raw)
    mount = program.mount_all(tmp_path / "all", "--files", "--real-modes")
    found = of_mount(mount / "files" / "volume")
    assert comparable(found, modes=True) == comparable(expected, modes=True)
    check_numbers(found, expected)


def test_every_file_of_a_disc(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "one" / "two").mkdir(parents=True)
    for number in range(200):
        (content / "one" / f"A Longer Name {number}").write_bytes(b"%d" % number * 100)
    (content / "one" / "two" / "large").write_bytes(os.urandom(700_000))
    os.symlink("two/large", content / "one" / "link")
    disc = tmp_path / "disc.iso"
    quiet("genisoimage", "-quiet", "-R", "-o", disc, content)
    catalogue(program, disc)
    mount = program.mount_all(tmp_path / "all", "--files", "--real-modes")
    (name,) = os.listdir(mount / "files")
    found, expected = of_mount(mount / "files" / name), of_mount(content)
    assert found.keys() == expected.keys()
    assert all("hash" in expected[path] for path in expected if path.endswith((b"0", b"large")))
    for path, facts in expected.items():
        for key in ("mode", "size", "uid", "gid", "hash", "target"):
            assert found[path].get(key) == facts.get(key), (path, key)
        assert found[path]["mtime"] // 10**9 == facts["mtime"] // 10**9


@pytest.fixture
def links(program: Program, tmp_path: Path) -> Path:
    """A mount of an image with links that lead everywhere."""
    content = tmp_path / "content"
    (content / "etc").mkdir(parents=True)
    (content / "etc" / "passwd").write_text("of the image")
    (content / "a" / "b" / "c").mkdir(parents=True)
    (content / "a" / "b" / "file").write_text("in b")
    os.symlink("/etc/passwd", content / "a" / "absolute")
    os.symlink("../../../../../../../../etc/passwd", content / "a" / "b" / "out")
    os.symlink("../b/file", content / "a" / "b" / "plain")
    os.symlink("/", content / "a" / "b" / "root")
    os.symlink("../../..", content / "top")
    os.symlink("a/b/c", content / "deep")
    # By words it stays inside, and by directories it leads above the root.
    os.symlink("a/b/root/../../../../../etc/passwd", content / "tricky")
    # By words it leads out, and by directories it stays inside.
    os.symlink("deep/../../../etc/passwd", content / "fine")
    os.symlink("deep/../missing/../nothing", content / "dangling")
    os.symlink("loop", content / "loop")
    catalogue(program, made_from(content, tmp_path / "volume.raw"))
    return program.mount_all(tmp_path / "all", "--files") / "files" / "volume"


def test_no_link_leads_out(links: Path) -> None:
    assert os.readlink(links / "a" / "b" / "plain") == "../b/file"
    for name in ("a/absolute", "a/b/out", "tricky", "fine"):
        assert (links / name).read_text() == "of the image", name
        assert not os.readlink(links / name).startswith("/")
    assert os.getxattr(links / "a" / "absolute", "imgcat.target", follow_symlinks=False) == (
        b"/etc/passwd"
    )
    assert sorted(os.listdir(links / "a" / "b" / "root")) == sorted(os.listdir(links))
    assert sorted(os.listdir(links / "top")) == sorted(os.listdir(links))
    assert os.path.realpath(links / "top" / "top" / "top") == str(links)
    assert not (links / "dangling").exists()
    assert os.path.realpath(links / "dangling").startswith(str(links))
    with pytest.raises(OSError, match="Too many levels"):
        (links / "loop").read_bytes()


FORGETFUL = """
import sys
from imgcat.fusefs import places
places._MOST = 9
sys.argv = ["imgcat", "mount-all", sys.argv[1], "--files"]
from imgcat.cli.main import run
run()
"""


def test_where_too_many_links_lead_is_refused(program: Program, tmp_path: Path) -> None:
    """And never told for another place than theirs."""
    content = tmp_path / "content"
    for number in range(12):
        (content / f"directory{number}" / "below").mkdir(parents=True)
        os.symlink("/target", content / f"directory{number}" / "below" / "link")
        os.symlink("link", content / f"directory{number}" / "below" / "plain")
    (content / "target").write_text("found")
    catalogue(program, made_from(content, tmp_path / "volume.raw"))
    mount = tmp_path / "all"
    mount.mkdir()
    subprocess.run(
        [sys.executable, "-c", FORGETFUL, mount], env=program.environment, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told, refused = [], []
        for number in range(12):
            link = mount / "files" / "volume" / f"directory{number}" / "below" / "link"
            try:
                told.append(os.readlink(link))
            except OSError as error:
                refused.append(error.errno)
            assert os.readlink(link.with_name("plain")) == "link"
        assert set(told) == {"../../target"}
        assert set(refused) == {errno.ESTALE}
        assert len(told) + len(refused) == 12
    finally:
        program.run("unmount", mount)
    assert "more directories and links than 9" in log_of(program)


def test_a_link_with_names_at_several_depths_leads_nowhere(
    program: Program, tmp_path: Path
) -> None:
    """From one of them its target would lead out of the image."""
    raw = make(tmp_path / "volume.raw", "mke2fs", "-q", "-F", "-t", "ext4", size=24 * MIB)
    deep = "/".join(f"d{number}" for number in range(30))
    with loop_mounted(raw, tmp_path / "mount") as original:
        (original / deep).mkdir(parents=True)
        (original / "a").mkdir()
        (original / "b").mkdir()
        (original / "c").mkdir()
        (original / "c" / "real").mkdir()
        for name, target in (("absolute", "/etc/passwd"), ("up", "../" * 25 + "etc/passwd")):
            os.symlink(target, original / deep / name)
            os.link(original / deep / name, original / "a" / name, follow_symlinks=False)
        os.symlink("/etc/passwd", original / "a" / "alike")
        os.link(original / "a" / "alike", original / "b" / "alike", follow_symlinks=False)
        os.symlink("/etc/passwd", original / "c" / "real" / "link")
    # A directory with two names, which no sound file system has.
    quiet("debugfs", "-w", "-R", f"link /c/real /{deep}/again", raw)
    catalogue(program, raw)
    for order in (1, -1):
        top = program.mount_all(tmp_path / f"all{order}", "--files") / "files" / "volume"
        places = [top / deep, top / "a"][::order]
        for name in ("absolute", "up"):
            for place in places:
                os.lstat(place / name)
            for place in places:
                with pytest.raises(OSError, match="Input/output error"):
                    os.readlink(place / name)
        for place in (top / "a", top / "b"):
            assert os.readlink(place / "alike") == "../etc/passwd"
        for place in [top / deep / "again", top / "c" / "real"][::order]:
            with contextlib.suppress(OSError):
                os.lstat(place / "link")
        for place in (top / deep / "again", top / "c" / "real"):
            with pytest.raises(OSError, match=r"Input/output error|Too many levels|Stale"):
                (place / "link").read_bytes()
    assert "has names at several depths" in log_of(program)


def _of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid


def test_who_may_read_the_image_may_read_its_files_and_nobody_else(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    with contextlib.ExitStack() as stack:
        stack.callback(os.umask, umask)
        place = stack.enter_context(open_directory())
        program = stack.enter_context(Program(place / "home"))
        content = place / "content"
        (content / "private").mkdir(parents=True)
        (content / "private" / "shadow").write_text("secret")
        (content / "public").write_text("hello")
        os.chmod(content / "private" / "shadow", 0o600)
        os.chmod(content / "private", 0o700)
        (place / "images").mkdir()
        raw = made_from(content, place / "images" / "a.raw")
        for field in ("mode 041775", "gid 2345"):
            quiet("debugfs", "-w", "-R", f"set_inode_field / {field}", raw)
        catalogue(program, raw)
        mount = program.mount_all(place / "mount", "--files", "--allow-other=on")
        real = program.mount_all(place / "real", "--files", "--real-modes", "--allow-other=on")
        secret = mount / "files" / "a" / "private" / "shadow"
        # The image can be read by everybody, and so all that is in it.
        assert read_as(raw) == raw.read_bytes()[:65536]
        assert _of(real / "files" / "a") == (0o041775, 0, 2345)
        assert _of(mount / "files" / "a")[0] == 0o040555
        assert read_as(secret) == b"secret"
        assert read_as(real / "files" / "a" / "public") == b"hello"
        assert read_as(real / "files" / "a" / "private" / "shadow") is None
        os.chmod(raw, 0o600)
        # Nobody else comes to it, whatever its root is.
        wait_until(
            lambda: _of(real / "files" / "a") == (0o041700, 0, 2345),
            "the root opens to nobody who may not read the image", 30,
        )  # fmt: skip
        wait_until(
            lambda: read_as(mount / "files" / "a" / "public") is None,
            "what nobody may read any more is not read", 30,
        )  # fmt: skip
        wait_until(
            lambda: read_as(real / "files" / "a" / "public") is None,
            "what nobody may read any more is not read", 30,
        )  # fmt: skip
        assert read_as(secret) is None
        assert secret.read_bytes() == b"secret"


def test_an_image_that_is_called_files(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_text("x")
    catalogue(program, *(made_from(content, tmp_path / f"{each}.raw") for each in "ab"))
    program.run("rename", "a", "files/a")
    program.run("rename", "b", "files (2)")
    plain = program.mount_all(tmp_path / "plain")
    assert sorted(os.listdir(plain)) == ["files", "files (2)"]
    assert os.listdir(plain / "files") == ["a"]
    mount = program.mount_all(tmp_path / "all", "--files")
    assert sorted(os.listdir(mount)) == ["files", "files (2)", "files (3)"]
    assert (mount / "files (3)" / "a").stat().st_size == 24 * MIB
    assert (mount / "files" / "files (3)" / "a" / "file").read_text() == "x"
    assert (mount / "files" / "files (2)" / "file").read_text() == "x"


def test_what_is_not_read_is_not_shown_or_refused(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_text("x")
    raw = made_from(content, tmp_path / "journal.raw")
    quiet("debugfs", "-w", "-R", "feature dirdata", raw)
    squashed = tmp_path / "btrfs.raw"
    make(squashed, "mkfs.btrfs", "-q", size=120 * MIB)
    catalogue(program, raw, squashed)
    mount = program.mount_all(tmp_path / "all", "--files")
    assert os.listdir(mount / "files") == ["journal"]
    with pytest.raises(OSError, match="not supported"):
        os.listdir(mount / "files" / "journal")
    with pytest.raises(OSError, match="not supported"):
        (mount / "files" / "journal" / "file").read_bytes()
    log = log_of(program)
    assert "its incompat feature dirdata is not read" in log


def log_of(program: Program) -> str:
    return "".join(path.read_text() for path in program.home.rglob("mount-*.log"))


def worker_pids(daemon: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(daemon), "-f", "filesystems.worker"], capture_output=True, check=False
    )
    return [int(each) for each in found.stdout.split()]


def test_a_worker_that_hangs_or_dies_is_one_images_trouble(
    program: Program, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    for number in range(50):
        (content / f"file{number}").write_text(f"{number}")
    catalogue(program, *(made_from(content, tmp_path / f"{each}.raw") for each in "ab"))
    mount = program.mount_all(tmp_path / "all", "--files")
    daemon = daemon_pid(program, mount)
    assert (mount / "files" / "a" / "file1").read_text() == "1"
    (worker,) = worker_pids(daemon)
    os.kill(worker, signal.SIGSTOP)
    outcome: list[object] = []

    def look() -> None:
        try:
            outcome.append(os.stat(mount / "files" / "a" / "file2").st_size)
        except OSError as error:
            outcome.append(error.errno)

    waiting = threading.Thread(target=look)
    waiting.start()
    # Meanwhile all others are served, the image itself too.
    for number in range(50):
        assert (mount / "files" / "b" / f"file{number}").read_text() == f"{number}"
    assert (mount / "a").stat().st_size == 24 * MIB
    with (mount / "a").open("rb") as opened:
        assert len(opened.read(1 << 20)) == 1 << 20
    assert outcome == []
    os.kill(worker, signal.SIGKILL)
    waiting.join(30)
    assert outcome == [errno.EIO]
    # The next question is answered by a new one.
    assert (mount / "files" / "a" / "file3").read_text() == "3"
    log = log_of(program)
    assert "it died when asked for" in log


def test_what_is_open_goes_on_when_the_image_is_forgotten(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    data = os.urandom(3 * MIB)
    (content / "large").write_bytes(data)
    catalogue(program, made_from(content, tmp_path / "a.raw"))
    mount = program.mount_all(tmp_path / "all", "--files")
    path = mount / "files" / "a" / "large"
    with path.open("rb", buffering=0) as opened:
        inode = os.fstat(opened.fileno()).st_ino
        assert opened.read(1000) == data[:1000]
        program.run("rm", "a")
        wait_until(lambda: not path.exists(), "it is gone", 30)
        assert os.listdir(mount) == []
        assert os.pread(opened.fileno(), len(data), 0) == data
        assert os.fstat(opened.fileno()).st_size == len(data)
    program.run("add", tmp_path / "a.raw")
    wait_until(path.exists, "it is back", 30)
    assert path.read_bytes() == data
    assert path.stat().st_ino != inode


def test_what_was_scanned_anew_is_shown_at_once(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    raw = tmp_path / "a.raw"
    (content / "file").write_text("number 0")
    catalogue(program, made_from(content, raw))
    path = program.mount_all(tmp_path / "all", "--files") / "files" / "a" / "file"
    assert path.read_text() == "number 0"
    for number in range(1, 4):
        (content / "file").write_text(f"number {number}")
        os.replace(made_from(content, tmp_path / "new.raw"), raw)
        # Until it is scanned, nothing of the new one is given for the old one.
        time.sleep(1.1)
        with pytest.raises(OSError, match="Stale"):
            path.read_text()
        program.run("rescan", "a")
        assert path.read_text() == f"number {number}"
        assert (tmp_path / "all" / "files").stat().st_nlink == 3


def test_a_file_with_damage_is_an_error_at_those_bytes(program: Program, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    data = os.urandom(MIB)
    (content / "large").write_bytes(data)
    raw = made_from(content, tmp_path / "a.raw")
    image = tmp_path / "packed.img"
    quiet("partclone.extfs", "-c", "-s", raw, "-o", image, "-L", tmp_path / "log", "-a1", "-k1")
    program.run("add", image, "--verify")
    program.run("verify", "packed")
    stored = bytearray(image.read_bytes())
    place = stored.index(data[512 * 1024 : 512 * 1024 + 512])
    status = image.stat()
    stored[place] ^= 1
    image.write_bytes(stored)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    mount = program.mount_all(tmp_path / "all", "--files")
    with (mount / "files" / "packed" / "large").open("rb", buffering=0) as opened:
        found = bytearray()
        bad = []
        for start in range(0, MIB, 4096):
            try:
                found += os.pread(opened.fileno(), 4096, start)
            except OSError as error:
                assert error.errno == errno.EIO  # noqa: PT017 - read piece by piece
                bad.append(start)
                found += data[start : start + 4096]
    assert bytes(found) == data
    assert bad
    assert bad[0] <= 512 * 1024 <= bad[-1] + 4096
    assert bad[-1] - bad[0] < 256 * 1024, "a sealed page, and not the file"


def test_a_large_directory_is_kept_within_the_budget(program: Program, tmp_path: Path) -> None:
    raw = make(
        tmp_path / "volume.raw", "mke2fs", "-q", "-F", "-t", "ext4", "-N", "60000", size=128 * MIB
    )
    with loop_mounted(raw, tmp_path / "mount") as original:
        for number in range(20_000):
            (original / f"one of many files {number}").touch()
        (original / "small").mkdir()
        (original / "small" / "file").write_text("small")
    catalogue(program, raw)
    mount = program.mount_all(tmp_path / "all", "--files", "--memory=128M")
    top = mount / "files" / "volume"
    # It has room for less than that: who looks is told, and all else is served.
    with pytest.raises(OSError, match="not supported"):
        os.listdir(top)
    assert (top / "small" / "file").read_text() == "small"
    assert os.listdir(top / "small") == ["file"]
    program.run("unmount", mount)
    mount = program.mount_all(tmp_path / "all", "--files")
    assert len(os.listdir(mount / "files" / "volume")) == 20_002


@pytest.fixture
def shelf(program: Program, tmp_path: Path) -> Path:
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_text("x")
    catalogue(program, made_from(content, tmp_path / "a.raw"))
    return program.mount_all(tmp_path / "all", "--files")


def test_nothing_in_it_can_be_written(shelf: Path) -> None:
    for path in (shelf / "files" / "a" / "file", shelf / "files" / "a" / "new"):
        with pytest.raises(OSError, match=r"Read-only|Permission|No such"):
            path.open("wb")
    with pytest.raises(OSError, match="Read-only"):
        (shelf / "files" / "a" / "directory").mkdir()
