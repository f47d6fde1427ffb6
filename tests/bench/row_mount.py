"""How soon are 200 images there, and what do they cost in memory?"""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING

from images import save_copies
from measure import Memory, Row, faster, memory_of, say, seconds, timed
from peers import mounted_file, read_first_byte, start_and_read
from workshop import children, end_processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench import Bench

NAMES = ("mount", "mount-memory")

_COUNT = 200
_BATCH = 40
_VOLUME_SIZE = 8 << 20
_TIMES = 50
_SHARE = 20


def measure(bench: Bench) -> Iterator[Row]:
    """Mount all with us, and a fifth of them with the peer, in turn, five times."""
    fleet = _Fleet(bench)
    say(f"{_COUNT} mounts")
    fleet.warm_up()
    ours, peer = [], []
    for start in range(0, _COUNT, _BATCH):
        ours.append(timed(fleet.mount_ours))
        our_memory = fleet.unmount_ours()
        peer.append(timed(functools.partial(fleet.mount_with_peer, start, start + _BATCH)))
    peer_memory = fleet.unmount_peer()
    say(f"  ours: {_listed(ours)}\n  peer, {_BATCH} at a time: {_listed(peer)}")

    us, them = statistics.median(ours), sum(peer)
    yield faster(
        "mount",
        f"{_COUNT} images, from the start of `mount-all` to the first byte of each; beside it "
        f"{_COUNT} times `vpartclone -m`, one after the other",
        seconds(us), seconds(them), them / us, _TIMES,
    )  # fmt: skip
    share = peer_memory.rss / our_memory.rss
    yield Row(
        "mount-memory",
        f"Resident memory while all {_COUNT} are mounted: one daemon, and {_COUNT}",
        str(our_memory), str(peer_memory), f"1/{share:.0f}", f"< 1/{_SHARE}", share > _SHARE,
    )  # fmt: skip


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


class _Fleet:
    """The images, catalogued, and their mounts."""

    def __init__(self, bench: Bench) -> None:
        self._shop = bench.shop
        self._peer = bench.peer
        self._images = save_copies(self._shop, "fleet", _COUNT, _VOLUME_SIZE)
        self._catalog = self._shop.directory / "fleet.db"
        self._shop.run(*self._shop.imgcat(self._catalog, "add", *self._images))
        self._point = self._shop.make("fleet.ours")
        self._peer_points = self._shop.make("fleet.peer")
        self._others = children()

    def warm_up(self) -> None:
        """Mount once with each, so that programs and catalog are in the page cache."""
        self.mount_ours()
        self.unmount_ours()
        others = children()
        self.mount_with_peer(0, 1)
        (pid,) = children() - others
        point = self._peer_point(self._images[0])
        self._shop.unmount(point, pid)
        point.rmdir()

    def mount_ours(self) -> None:
        """Mount all, and read the first byte of each."""
        self._shop.run_silently(*self._shop.imgcat(self._catalog, "mount-all", self._point))
        for image in self._images:
            read_first_byte(mounted_file(image, self._point))

    def unmount_ours(self) -> Memory:
        """Unmount, and return the memory that the daemon had."""
        pid = self._shop.daemon_of(self._catalog, self._point)
        memory = memory_of(pid)
        self._shop.unmount(self._point, pid)
        return memory

    def mount_with_peer(self, start: int, stop: int) -> None:
        """Mount some, each with a daemon of its own, and leave them mounted."""
        for image in self._images[start:stop]:
            point = self._peer_point(image)
            point.mkdir()
            start_and_read(self._shop, self._peer, image, point)

    def unmount_peer(self) -> Memory:
        """Unmount them, and return the memory that the daemons had together."""
        daemons = children() - self._others
        assert len(daemons) == _COUNT, f"{len(daemons)} daemons of the peer, not {_COUNT}"
        memory = sum((memory_of(pid) for pid in daemons), Memory(0, 0))
        self._shop.unmount_below(self._peer_points)
        end_processes(daemons)
        return memory

    def _peer_point(self, image: Path) -> Path:
        return self._peer_points / image.stem
