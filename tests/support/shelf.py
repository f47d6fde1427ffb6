"""A small shelf of images in folders, and what the catalog knows of it."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

from .ntfsclone_writer import Recipe as NtfsRecipe
from .ntfsclone_writer import write as write_ntfs
from .partclone_writer import Recipe, write
from .small_disk import SmallDisk
from .streams import compress

if TYPE_CHECKING:
    from pathlib import Path

    from .program import Program

BLOCK = 4096
BLOCKS = 800


def build_shelf(place: Path) -> Path:
    """Make directories of images: compressed, split, plain, sealed or not, and of Clonezilla."""
    for name in ("alpha", "beta"):
        (place / name).mkdir(parents=True)
    rng = random.Random(5)
    for number, tool in enumerate(("gzip", "zstd", "xz")):
        image = made(rng)
        data = compress(tool, image)
        ending = {"gzip": "gz", "zstd": "zst"}.get(tool, tool)
        path = place / "alpha" / f"packed{number}.img.{ending}"
        path.write_bytes(data)
    # The first chunk alone tells what it is: it has a block of zstd's.
    data = compress("zstd", made(rng, block_size=BLOCK))
    third = len(data) // 3 + 1
    for number in range(3):
        piece = data[number * third : (number + 1) * third]
        (place / "beta" / f"split.img.zst.a{'abc'[number]}").write_bytes(piece)
    (place / "beta" / "plain.img").write_bytes(made(rng))
    order = sorted(rng.sample(range(300), 200))
    clusters = write_ntfs(NtfsRecipe(order=order, cluster_count=300, cluster_size=BLOCK, tail=0))
    (place / "beta" / "ntfs.img").write_bytes(clusters.image)
    SmallDisk(place / "laptop")
    return place


def made(rng: random.Random, block_size: int = 64) -> bytes:
    present = [rng.random() < 0.7 for _ in range(BLOCKS)]
    guest = rng.randbytes(block_size * BLOCKS)
    return write(Recipe(present=present, block_size=block_size, guest=guest)).image


def entries(program: Program) -> dict[str, tuple[int, str, str]]:
    return {each["name"]: (each["id"], each["status"], each["path"]) for each in program.json("ls")}


def guests(program: Program) -> dict[str, str]:
    """Return the sha256 of what each image holds, by name."""
    return {
        each["name"]: hashlib.sha256(exported(program, each["name"])).hexdigest()
        for each in program.json("ls")
    }


def exported(program: Program, name: str) -> bytes:
    with program.start("export", name, "-") as process:
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0
    return out
