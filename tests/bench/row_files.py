"""The files inside: how fast are they listed, read and copied, beside drivers of file systems?"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench import cat
from measure import faster, gigabytes_a_second, interleaved, limited, say, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench import Bench
    from measure import Row
    from workshop import Workshop

NAMES = (
    "files-read", "files-cat", "files-find", "files-find-again", "files-cp", "files-list",
    "files-name",
)  # fmt: skip

_LARGE = 1 << 30
_MANY, _DIRECTORIES = 100_000, 200
_LIST_SECONDS, _NAME_SECONDS = 0.5, 2.0
_PIECE = 1 << 20


def measure(bench: Bench) -> Iterator[Row]:
    """Make one volume with a large file, one with many small ones, and one of a terabyte."""
    shop = bench.shop
    yield from _large(shop)
    yield from _many(shop)
    yield from _terabyte(shop)


def _volume(shop: Workshop, name: str, size: int, *options: str) -> Path:
    raw = shop.directory / f"{name}.raw"
    raw.touch()
    os.truncate(raw, size)
    shop.run("mke2fs", "-q", "-F", "-t", "ext4", *options, raw)
    return raw


def _large(shop: Workshop) -> Iterator[Row]:
    say("a volume with a file of 1 GiB")
    raw = _volume(shop, "large", 1400 << 20)
    point = shop.make("large.kernel")
    shop.run("mount", "-o", "loop", raw, point)
    with (point / "file").open("wb") as file:
        for _ in range(_LARGE // _PIECE):
            file.write(os.urandom(_PIECE))
    (point / "note").write_bytes(b"a note\n")
    shop.run("umount", point)
    image = shop.directory / "large.img"
    shop.run("partclone.ext4", "-c", "-s", raw, "-o", image, "-L", shop.directory / "log")
    catalog, ours = shop.directory / "large.db", shop.make("large.ours")
    shop.run(*shop.imgcat(catalog, "add", image))
    told = shop.run(*shop.imgcat(catalog, "shell", "-c", "stat /file", "large")).splitlines()
    runs = [line.split() for line in told if line.split()[0].isdecimal()]
    start = int(runs[0][2])
    pid = _mount(shop, catalog, ours)

    def of_image() -> None:
        _read(ours / "large", start, _LARGE)

    cat(image)
    taken = interleaved(
        5,
        {
            "image": lambda: timed(of_image),
            "file": lambda: timed(lambda: _read(ours / "files" / "large" / "file", 0, _LARGE)),
            "cat": lambda: timed(
                lambda: shop.run_silently(*shop.imgcat(catalog, "cat", "large:/file"))
            ),
        },
    )
    beside = gigabytes_a_second(_LARGE / taken["image"])
    yield faster(
        "files-read",
        "A file of 1 GiB in `DIR/files/NAME`; beside it as many bytes of the mounted image",
        gigabytes_a_second(_LARGE / taken["file"]), beside, taken["image"] / taken["file"], 0.8,
    )  # fmt: skip
    yield faster(
        "files-cat", "`imgcat cat` of it, start of the program and all; beside it the same",
        gigabytes_a_second(_LARGE / taken["cat"]), beside, taken["image"] / taken["cat"], 0.8,
    )  # fmt: skip
    shop.unmount(ours, pid)
    yield from _by_name(shop, raw)
    raw.unlink()
    image.unlink()


def _by_name(shop: Workshop, raw: Path) -> Iterator[Row]:
    """One file of an image directory of Clonezilla, as its tools write it."""
    say("one file of an image directory of Clonezilla, with zstd")
    saved = shop.make("laptop")
    for name, text in {
        "disk": "sda\n", "parts": "sda1\n", "sda-pt.parted": "Disk /dev/sda: 3000000s\n",
        "sda-pt.sf": "label: dos\n/dev/sda1 : start=2048, size=2867200, type=83\n",
    }.items():  # fmt: skip
        (saved / name).write_text(text)
    (saved / "sda-mbr").write_bytes(bytes(512))
    packed = saved / "sda1.ext4-ptcl-img.zst.aa"
    pipe = f"partclone.ext4 -c -s {raw} -o - -L {shop.directory}/log | zstdmt -3 -qc > {packed}"
    subprocess.run(["sh", "-c", pipe], check=True, capture_output=True)
    taken = []
    for number in range(3):
        catalog = shop.directory / f"laptop{number}.db"
        shop.run(*shop.imgcat(catalog, "add", saved))
        out = shop.directory / "note"
        out.unlink(missing_ok=True)
        command = shop.imgcat(catalog, "cp", "laptop/sda1:/note", out)
        taken.append(timed(lambda command=command: shop.run(*command)))
        assert out.read_bytes() == b"a note\n"
    shutil.rmtree(saved)
    value = sorted(taken)[1]
    yield limited(
        "files-name",
        "One small file, by its name, of an image directory of Clonezilla (1 GiB, zstd) that was "
        "never opened",
        seconds(value), seconds(_NAME_SECONDS), met=value < _NAME_SECONDS,
    )  # fmt: skip


def _many(shop: Workshop) -> Iterator[Row]:
    say(f"a volume with {_MANY:,} small files")
    raw = _volume(shop, "many", 2 << 30, "-N", str(_MANY + 5000))
    kernel = shop.make("many.kernel")
    shop.run("mount", "-o", "loop", raw, kernel)
    for number in range(_DIRECTORIES):
        here = kernel / f"directory {number}"
        here.mkdir()
        for each in range(_MANY // _DIRECTORIES):
            (here / f"a small file {each}").write_bytes(b"x" * (each * 7 % 3000))
    shop.run("umount", kernel)
    catalog = shop.directory / "many.db"
    shop.run(*shop.imgcat(catalog, "add", raw))
    ours, beside = shop.make("many.ours"), shop.make("many.fuse2fs")
    again: dict[str, list[float]] = {"ours": [], "fuse2fs": []}

    def find(top: Path) -> float:
        def run() -> None:
            found = shop.run("find", top, "-type", "f").count("\n")
            assert found == _MANY, found

        return timed(run)

    def by_us() -> float:
        pid = _mount(shop, catalog, ours)
        first = find(ours / "files" / "many")
        again["ours"].append(find(ours / "files" / "many"))
        shop.unmount(ours, pid)
        return first

    def by_fuse2fs() -> float:
        shop.run("fuse2fs", "-o", "ro,fakeroot", raw, beside)
        first = find(beside)
        again["fuse2fs"].append(find(beside))
        shop.run("umount", beside)
        return first

    taken = interleaved(3, {"ours": by_us, "fuse2fs": by_fuse2fs})
    yield faster(
        "files-find",
        f"The first `find -type f` over {_MANY:,} files in `DIR/files/NAME`; beside it a mount by "
        "`fuse2fs`",
        seconds(taken["ours"]), seconds(taken["fuse2fs"]), taken["fuse2fs"] / taken["ours"], 0.5,
    )  # fmt: skip
    ours_again, theirs_again = sorted(again["ours"])[2], sorted(again["fuse2fs"])[2]
    yield faster(
        "files-find-again", "The second one",
        seconds(ours_again), seconds(theirs_again), theirs_again / ours_again, 1,
    )  # fmt: skip
    yield from _copying(shop, raw, catalog, kernel)
    raw.unlink()


def _copying(shop: Workshop, raw: Path, catalog: Path, kernel: Path) -> Iterator[Row]:
    say("copies of all of them")
    shop.run("mount", "-o", "loop,ro", raw, kernel)
    out = shop.directory / "copied"

    def copying(*command: object) -> float:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        os.sync()
        return timed(lambda: shop.run(*command, out))

    taken = interleaved(
        2,
        {
            "ours": lambda: copying(*shop.imgcat(catalog, "cp", "-r", "many:/")),
            "cp": lambda: copying("cp", "-a", kernel),
        },
        warm_up=False,
    )
    shop.run("umount", kernel)
    shutil.rmtree(out)
    yield faster(
        "files-cp", "`imgcat cp -r` of them; beside it `cp -a` from a mount by the kernel",
        seconds(taken["ours"]), seconds(taken["cp"]), taken["cp"] / taken["ours"], 0.5,
    )  # fmt: skip


def _terabyte(shop: Workshop) -> Iterator[Row]:
    say("a volume of 1 TiB")
    content = shop.make("content")
    (content / "home").mkdir()
    for number in range(100):
        (content / "home" / f"file {number}").touch()
    raw = _volume(shop, "sparse", 1 << 40, "-d", str(content))
    catalog = shop.directory / "sparse.db"
    shop.run(*shop.imgcat(catalog, "add", raw))
    command = shop.imgcat(catalog, "files", "sparse:/home")
    taken = interleaved(5, {"files": lambda: timed(lambda: shop.run(*command))})["files"]
    raw.unlink()
    yield limited(
        "files-list", "`imgcat files` of a directory in a volume of 1 TiB, from a cold start",
        seconds(taken), seconds(_LIST_SECONDS), met=taken < _LIST_SECONDS,
    )  # fmt: skip


def _mount(shop: Workshop, catalog: Path, point: Path) -> int:
    shop.run_silently(*shop.imgcat(catalog, "mount-all", point, "--files"))
    return shop.daemon_of(catalog, point)


def _read(path: Path, start: int, length: int) -> None:
    """Read some bytes of a file in a mount, of which the page cache is to have none."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(start)
        left = length
        buffer = memoryview(bytearray(_PIECE))
        while left:
            count = file.readinto(buffer[: min(left, _PIECE)])
            assert count, f"{path} ends early"
            left -= count
