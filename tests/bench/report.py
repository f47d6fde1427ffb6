"""The table: for a terminal, and as the page that is kept."""

from __future__ import annotations

import datetime as dt
import textwrap
from typing import TYPE_CHECKING

from measure import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from measure import Row

_TITLES = ("row", "measured", "ours", "beside", "ratio", "wanted", "met")
_WHAT_WIDTH = 60

_INTRODUCTION = """\
# Benchmarks

Written by `make bench`, which takes every figure below anew, as root, in half an hour:
`python tests/bench/run.py --help` tells how to take some of them only. It makes its images with
the real tools, installs the peer, [imagebackup](https://pypi.org/project/imagebackup/), into a
virtual environment of its own, and removes everything at the end.

Figures of different machines say little; the *ratios* do. So whatever is compared is run in turn,
A B A B …, in one run and after a warm-up, and each figure is the median of its runs. The page
cache is warm: what is measured is the program, not the disk. Readers are processes of their own.
"""

_NOTES = """\
## What the rows measure

- **mount**: 200 catalogued images. Ours: from the start of `imgcat mount-all` until the first
  byte of each of the 200 was read. The peer: 200 times the start of `vpartclone -m`, the wait until
  the file is there, and its first byte, one after the other, all kept mounted; all 200 are run,
  40 at a time between runs of ours. **mount-memory** is taken then: RSS counts memory that
  processes share once for each, PSS divides it among them.
- **read**: 1 MiB reads with O_DIRECT, in ascending order over the pieces of an image that are used
  throughout. **read-two** is bound by the daemon's one thread, which copies each byte twice, from
  the page cache and to the kernel; since one reader alone has come up to the zero handler, two have
  less to gain. The *zero handler* is a pyfuse3 file system that answers each read with the same
  constant: what FUSE and Python cost when nothing is done.
- **random**: 4 KiB reads with O_DIRECT at random used blocks.
- **buffered**: `dd bs=1M` of a mounted image. Before each run the page cache is dropped and the
  image, not the mounted file, is read back into it.
- **add**: a sparse image with a real header and a real bitmap of 2^28 blocks of 4 KiB, used and
  unused in runs as file systems have them. The peer does what it does at every mount: open and
  index. **add-command** counts the start of both programs too: of ours, loading Python's
  packages is nine tenths. **add-memory** and **serve-memory** are of the same image.
- **verify**, **export**: an ext4 image of 2.3 GB with a CRC32 for every 256 blocks.
- **scan-ntfsclone**: in process, imports not counted; the peer builds its index at every mount.
  Ours takes as long as `cat`: both copy the image out of the page cache once.
- **fragments**: an ntfsclone image of which no two stored clusters are neighbours; a million rows
  are written and found again.
- **ls**, **version**: whole processes, output to nowhere.
- **add-**, **seek-** and the other rows of compressed images: one ext4 volume, a third of it text
  (the machine's own text files and a log), a third programs, a third random data, saved with
  partclone, and compressed by each tool with the options that the row names; of those that are
  slow, xz and bzip2, one with a third of it. Whole processes; the files are in the page cache.
  **seek-** is the size of the catalog after a checkpoint of its log. Loading Python's packages
  takes 0.6 s of **add-**, more than half of what lz4 needs for everything. zstd: of what is between
  two points inside of a frame, each byte is decoded twice, to prove that one can begin there.
- **cold-**: places all over the image, so far apart that no read leaves behind what another needs,
  of several fresh daemons; **first-** is the first read of each, and nine tenths of it are the
  start of Python and of its packages. bzip2 gives no byte before a block of 900 kB is whole.
- **seq-**: the tool unpacks with one thread, to nowhere; ours goes through FUSE, and `dd` reads
  what is not used too. Where the tool alone decodes a gigabyte in a second, the two processors have
  as much to do with hashing the pages and with two copies on their way through the kernel.
- **fleet-memory**: copies of six images; each reader goes from image to image.
- **beside**: both images are in one mount. When the daemon has more to do, it sleeps less, and a
  read of it alone can take longer than one beside another.
- **files-**: an ext4 of 1.4 GiB saved with partclone, one of 100,000 small files in 200
  directories, and one of 1 TiB. For **files-read** and **files-cat** the page cache has the image,
  and nothing of the mount. **files-find** is the first in a new mount, in both; **files-cp** writes
  into the same file system.
- **index**: an ext4 with 200,000 empty files in 5,000 directories; **index-next** a copy of it in
  which one file in fifty was written. **index-memory** is the largest that the command itself was;
  its worker is a process of its own. **index-ntfs**: files as empty, written by ntfs-3g. What the
  index takes, and how long questions to it take, is measured at another size: [scale.md](scale.md).
- **snapshot-hash**: before each run the page cache lets go of the volume. `cat` reads the inodes
  and directories too, as the snapshot does. Both are bound by the disk.
- **repack** decodes, compresses, reads back and compares; zstd compresses.
"""


def as_text(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Return the table for a terminal."""
    lines = [_TITLES]
    for row in rows:
        first, *rest = textwrap.wrap(row.what.replace("`", ""), _WHAT_WIDTH)
        lines.append((row.name, first, *_figures(row)))
        lines.extend(("", line, "", "", "", "", "") for line in rest)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    machine = "\n".join(f"{name}: {fact}" for name, fact in facts.items())
    return f"{table}\n\n{machine}\n"


def as_markdown(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Return the page."""
    head = "| " + " | ".join(title.capitalize() for title in _TITLES) + " |"
    rule = "|---|---|--:|--:|--:|--:|---|"
    lines = [f"| {' | '.join((row.name, row.what, *_figures(row)))} |" for row in rows]
    machine = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return "\n".join(
        [_INTRODUCTION, f"## One run, {today}\n", machine, "", head, rule, *lines, "", _NOTES]
    )


def _figures(row: Row) -> tuple[str, str, str, str, str]:
    met = "yes" if row.met else "no"
    return row.ours, row.other, row.ratio, row.wanted, met if row.wanted != NOTHING else NOTHING
