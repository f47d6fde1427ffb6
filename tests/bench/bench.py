"""What the rows share: the scratch directory, the peer, and the images that several rows read."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import compressed
import images
from measure import megabytes, say
from peers import find_peer, install_peer, mount_with_peer, mounted_file
from workshop import mount_points_below

if TYPE_CHECKING:
    from peers import Peer
    from workshop import Workshop

_VOLUME_SIZE = 704 << 20
_FILL_SIZE = 640 << 20
_ZEROFS = Path(__file__).with_name("zerofs.py")
_PATIENCE_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class ReadStage:
    """Two large images, mounted by each of those that are measured. The files of each, in order.

    Attributes:
        images: the images themselves.
        ours: what our one mount shows.
        peer: what the peer's two mounts show.
        zeros: what the zero handler's one mount shows.
    """

    images: tuple[Path, ...]
    ours: tuple[Path, ...]
    peer: tuple[Path, ...]
    zeros: tuple[Path, ...]

    def warm(self) -> None:
        """Read the images, so that the page cache holds them."""
        for path in self.images:
            cat(path)


class Bench:
    """What is made once in a run, when the first row asks for it.

    Args:
        shop: the scratch directory.
        peer_environment: a virtual environment that has the peer; None to make one.
    """

    def __init__(self, shop: Workshop, peer_environment: Path | None) -> None:
        self.shop = shop
        self._peer_environment = peer_environment

    @property
    def has_peer(self) -> bool:
        """Tell whether a row has needed the peer."""
        return "peer" in self.__dict__

    @functools.cached_property
    def peer(self) -> Peer:
        """The peer's programs."""
        if self._peer_environment is None:
            return install_peer(self.shop)
        return find_peer(self._peer_environment)

    @functools.cached_property
    def read_stage(self) -> ReadStage:
        """Two large images in three kinds of mount."""
        shop = self.shop
        say("two images with random data, mounted by each")
        first = images.save_filled(shop, "first", _VOLUME_SIZE, _FILL_SIZE)
        second = Path(shutil.copy(first, shop.directory / "second.img"))
        both = (first, second)
        say(f"  {megabytes(first.stat().st_size)} each")

        catalog, point = shop.directory / "read.db", shop.make("read.ours")
        shop.run(*shop.imgcat(catalog, "add", *both))
        shop.mount_all(catalog, point)
        ours = tuple(mounted_file(image, point) for image in both)

        theirs = []
        for image in both:
            point = shop.make(f"read.peer.{image.stem}")
            mount_with_peer(shop, self.peer, image, point)
            theirs.append(mounted_file(image, point))

        size = ours[0].stat().st_size
        stage = ReadStage(both, ours, tuple(theirs), self._mount_zeros(size))
        stage.warm()
        return stage

    @functools.cached_property
    def compressed_images(self) -> dict[compressed.Kind, compressed.CompressedImage]:
        """Images of realistic data, compressed by each tool."""
        return {image.kind: image for image in compressed.save_compressed(self.shop)}

    def _mount_zeros(self, size: int) -> tuple[Path, ...]:
        point = self.shop.make("read.zeros")
        names = ("first", "second")
        subprocess.Popen(
            [sys.executable, _ZEROFS, point, str(size), *names],
            env=self.shop.environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while point not in mount_points_below(self.shop.directory):
            if time.monotonic() > deadline:
                message = "the zero handler does not mount"
                raise TimeoutError(message)
            time.sleep(0.01)
        return tuple(point / name for name in names)


def cat(path: Path) -> None:
    """Read a file and forget it."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        while file.readinto(buffer):
            pass
