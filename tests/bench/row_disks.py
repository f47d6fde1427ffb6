"""Are virtual disks read as fast as images of partitions, and how long does adding one take?"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import numpy as np
from bench import cat
from compressed import save_mixed
from images import BLOCK_SIZE, MIB, used_offsets
from measure import faster, gigabytes_a_second, interleaved, limited, reads_a_second, say, timed
from reading import Job, reads_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bench import Bench
    from measure import Row
    from workshop import Workshop

NAMES = (
    "disk-read-qcow2", "disk-read-vhd", "disk-random-qcow2", "disk-random-vhd", "disk-seq-zlib",
    "disk-seq-zstd", "disk-add-sparse", "disk-add-full",
)  # fmt: skip

_SIZE, _FILL = 704 << 20, 608 << 20
_ROUNDS = 9
_SECONDS = 0.6
_COUNT = 60_000
_WANTED = 0.9
_SEQ_WANTED = 0.8
_SPARSE_SECONDS = 0.3
_TABLE_RATE = 100e6
_FORMS = {
    "qcow2": ("qcow2", ()),
    "vhd": ("vpc", ("-o", "force_size=on")),
    "zlib": ("qcow2", ("-c",)),
    "zstd": ("qcow2", ("-c", "-o", "compression_type=zstd")),
}


def measure(bench: Bench) -> Iterator[Row]:
    """Read virtual disks and an image by partclone with the same content, in turn."""
    shop = bench.shop
    plain = save_mixed(shop, "virtual", _SIZE, _FILL)
    catalog, point = shop.directory / "virtual.db", shop.make("virtual.ours")
    paths = _convert(shop, plain, catalog)
    pid = shop.mount_all(catalog, point)
    files = {name: point / path.name for name, path in paths.items()}
    files["plain"] = next(each for each in point.iterdir() if each not in files.values())
    for path in (plain, *paths.values()):
        cat(path)
    yield from _reads(plain, files)
    yield from _in_order(shop, paths, files)
    shop.unmount(point, pid)
    for path in (plain, *paths.values()):
        path.unlink()
    yield from _adding(shop)


def _convert(shop: Workshop, plain: Path, catalog: Path) -> dict[str, Path]:
    """Make a disk of each form with what an image holds; add all of them."""
    shop.run(*shop.imgcat(catalog, "add", plain))
    raw = shop.directory / "virtual.raw"
    shop.run(*shop.imgcat(catalog, "export", plain, raw))
    paths = {}
    for name, (driver, how) in _FORMS.items():
        paths[name] = shop.directory / f"disk-{name}"
        shop.run("qemu-img", "convert", "-f", "raw", "-O", driver, *how, raw, paths[name])
    raw.unlink()
    shop.run(*shop.imgcat(catalog, "add", *paths.values()))
    return paths


def _reads(plain: Path, files: Mapping[str, Path]) -> Iterator[Row]:
    large = used_offsets(plain, MIB)
    small = random.Random(1).choices(used_offsets(plain, BLOCK_SIZE), k=_COUNT)

    def reading(size: int, offsets: list[int]) -> Mapping[str, float]:
        def of(path: Path) -> Callable[[], float]:
            return lambda: reads_together([Job(path, size, offsets)], _SECONDS)

        return interleaved(_ROUNDS, {name: of(files[name]) for name in ("plain", "qcow2", "vhd")})

    say("1 MiB direct reads in order, of virtual disks and of an image by partclone")
    rates = reading(MIB, large)
    for name in ("qcow2", "vhd"):
        yield faster(
            f"disk-read-{name}",
            f"1 MiB O_DIRECT over used clusters of a {name.upper()} disk; beside it the same of an "
            "image by partclone",
            gigabytes_a_second(MIB * rates[name]), gigabytes_a_second(MIB * rates["plain"]),
            rates[name] / rates["plain"], _WANTED,
        )  # fmt: skip
    say("random 4 KiB direct reads of the same")
    rates = reading(BLOCK_SIZE, small)
    for name in ("qcow2", "vhd"):
        yield faster(
            f"disk-random-{name}", "4 KiB O_DIRECT at random; beside it the image by partclone",
            reads_a_second(rates[name]), reads_a_second(rates["plain"]),
            rates[name] / rates["plain"], _WANTED,
        )  # fmt: skip


def _in_order(
    shop: Workshop, paths: Mapping[str, Path], files: Mapping[str, Path]
) -> Iterator[Row]:
    """Read compressed disks from one end to the other, beside QEMU."""
    for name in ("zlib", "zstd"):
        size = files[name].stat().st_size
        target = f"driver=null-co,size={size}"

        def by_qemu(name: str = name, target: str = target) -> float:
            return timed(
                lambda: shop.run_silently(
                    "qemu-img", "convert", "-n", "-f", "qcow2", "--target-image-opts", paths[name],
                    target,
                )
            )  # fmt: skip

        def by_us(name: str = name) -> float:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
                caches.write("1\n")
            cat(paths[name])
            return timed(lambda: cat(files[name]))

        say(f"a QCOW2 disk of {name} clusters from one end to the other, seconds")
        ours, theirs = interleaved(5, {"ours": by_us, "qemu": by_qemu}).values()
        yield faster(
            f"disk-seq-{name}",
            f"`cat` of a mounted QCOW2 disk of {name} clusters; beside it `qemu-img convert -O "
            "raw` to nowhere",
            gigabytes_a_second(size / ours), gigabytes_a_second(size / theirs), theirs / ours,
            _SEQ_WANTED,
        )  # fmt: skip


def _adding(shop: Workshop) -> Iterator[Row]:
    """Add a disk with few clusters, and one with all of them, in this process."""
    from imgcat.formats import registry
    from imgcat.formats.sources.file import FileSource

    def scan(path: Path) -> float:
        return min(timed(lambda: registry.scan(FileSource(path))) for _ in range(3))

    sparse = shop.directory / "sparse.qcow2"
    shop.run("qemu-img", "create", "-q", "-f", "qcow2", sparse, "2T")
    rng = random.Random(1)
    writes = [f"write -q {rng.randrange((2 << 40) >> 16) << 16} 4k" for _ in range(1000)]
    shop.run("qemu-io", *(part for each in writes for part in ("-c", each)), sparse)
    taken = scan(sparse)
    sparse.unlink()
    yield limited(
        "disk-add-sparse", "Scan of a QCOW2 disk of 2 TiB with 1,000 clusters",
        f"{taken * 1000:.0f} ms", f"{_SPARSE_SECONDS * 1000:.0f} ms", met=taken < _SPARSE_SECONDS,
    )  # fmt: skip
    full = shop.directory / "full.qcow2"
    table = _write_full(full, 1 << 40)
    rate = table / scan(full)
    full.unlink()
    yield faster(
        "disk-add-full",
        "Scan of a QCOW2 disk of 1 TiB with every cluster, in random order: bytes of its tables; "
        "beside it what is wanted",
        f"{rate / 1e6:.0f} MB/s", f"{_TABLE_RATE / 1e6:.0f} MB/s", rate / _TABLE_RATE, 1,
    )  # fmt: skip


def _write_full(path: Path, size: int) -> int:
    """Write the tables of a disk with every cluster, in random order; return their bytes."""
    cluster = 1 << 16
    clusters = size // cluster
    tables = clusters * 8 // cluster
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, size, 0, tables, cluster, 2 * cluster, 1,
        0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
    first = (4 + tables * 8 // cluster) * cluster
    used = np.uint64(1 << 63)
    l1 = np.arange(tables, dtype=np.uint64) * np.uint64(cluster) + np.uint64(first)
    places = np.random.default_rng(1).permutation(clusters).astype(np.uint64)
    places = places * np.uint64(cluster) + np.uint64(first + tables * cluster)
    with path.open("wb") as file:
        file.write(header)
        file.seek(cluster)
        file.write((l1 | used).astype(">u8").tobytes())
        file.seek(first)
        file.write((places | used).astype(">u8").tobytes())
        file.truncate(first + (tables + clusters) * cluster)
    return clusters * 8
