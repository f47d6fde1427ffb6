"""The tables of a QCOW2 image, turned into a map.

Each entry of the first table (L1) leads to a second one (L2), which fills a cluster; each entry of
that tells where a cluster of the guest lies. Both are read a chunk of the map at a time.

Source: docs/interop/qcow2.txt of QEMU, "Cluster mapping" and "Extended L2 entries".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import CorruptImageError, TruncatedImageError
from ..index.map import MapKind, pack_chunk
from ..index.map_chunk import CHUNK_UNITS
from . import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ..index.map_chunk import MapChunk
    from ..sources.byte_source import ByteSource

_SECTOR = 512


class MappedChunk(NamedTuple):
    """A chunk of the map, and how many of its units are stored."""

    chunk: MapChunk
    stored_units: int
    last_is_stored: bool


class Tables:
    """The tables of an image, or of one of its snapshots.

    Args:
        source: the stored bytes.
        header: the image's header.
        l1_offset: where the first table lies.
        l1_size: entries in it.
        size: guest bytes.
        data_size: bytes of the file that has the data, where that is another one: its bytes are
            mapped behind those of the image.

    Raises:
        TruncatedImageError: the first table lies behind the end.
        CorruptImageError: an entry of it cannot be.
        OSError: the operating system could not read.
    """

    def __init__(
        self,
        source: ByteSource,
        header: layout.Header,
        l1_offset: int,
        l1_size: int,
        size: int,
        data_size: int | None = None,
    ) -> None:
        self._source = source
        self._header = header
        self._clusters = -(-size // header.cluster_size)
        self._has_data_file = data_size is not None
        self._data_size = source.size if data_size is None else data_size
        needed = min(l1_size, -(-self._clusters // header.entries))
        if l1_offset + needed * 8 > source.size:
            raise TruncatedImageError(
                "qcow2.l1", source.size, f"the L1 table at {l1_offset} lies behind the end"
            )
        self._l1 = np.frombuffer(source.read_at(l1_offset, needed * 8), ">u8").astype(np.uint64)
        self._l1_offset = l1_offset
        self._check_l1()

    def chunks(self) -> Iterator[MappedChunk]:
        """Yield the chunks of the map that have anything, ascending.

        Raises:
            TruncatedImageError: a cluster lies behind the end of the file.
            CorruptImageError: an entry cannot be.
            OSError: the operating system could not read.
        """
        for number in self._touched():
            first = number * self._clusters_in_chunk
            count = min(self._clusters_in_chunk, self._clusters - first)
            words = self._words(first, count)
            kinds, offsets, lengths = (
                self._extended(words, first)
                if self._header.is_extended
                else self._standard(words, first)
            )
            if self._has_data_file:
                self._check_in_place(kinds, offsets, first)
                behind = np.uint64(self._source.size)
                offsets = np.where(kinds == MapKind.DATA, offsets + behind, offsets)
            units = (kinds, offsets, lengths)
            chunk = pack_chunk(number, *units, self._header.unit_size)
            if chunk is not None:
                is_stored = units[0] >= MapKind.DATA
                is_last = first + count == self._clusters
                yield MappedChunk(
                    chunk, int(np.count_nonzero(is_stored)), is_last and bool(is_stored[-1])
                )

    @property
    def _clusters_in_chunk(self) -> int:
        return CHUNK_UNITS * self._header.unit_size // self._header.cluster_size

    def _touched(self) -> list[int]:
        """Return the numbers of the chunks that a second table is about."""
        tables = np.flatnonzero(self._l1)
        entries, clusters = self._header.entries, self._clusters_in_chunk
        if entries <= clusters:
            numbers = np.unique(tables * entries // clusters)
        else:
            each = entries // clusters
            numbers = (tables[:, None] * each + np.arange(each)).ravel()
        found: list[int] = numbers[numbers * clusters < self._clusters].tolist()
        return found

    def _check_l1(self) -> None:
        cluster_size = self._header.cluster_size
        offsets = self._l1 & np.uint64(layout.OFFSET_MASK)
        self._refuse(
            (self._l1 & np.uint64(layout.L1_RESERVED)) != 0, "qcow2.l1", "has reserved bits"
        )
        self._refuse(offsets % np.uint64(cluster_size) != 0, "qcow2.l1", "is not aligned")
        behind = offsets + np.uint64(cluster_size) > np.uint64(self._source.size)
        self._refuse(
            (offsets != 0) & behind, "qcow2.l1", "leads behind the end of the file",
            TruncatedImageError,
        )  # fmt: skip
        self._l1 = offsets

    def _refuse(
        self,
        wrong: npt.NDArray[np.bool_],
        structure: str,
        what: str,
        error: type[CorruptImageError | TruncatedImageError] = CorruptImageError,
        first: int = 0,
    ) -> None:
        if wrong.any():
            number = first + int(wrong.argmax())
            if structure == "qcow2.l1":
                raise error(structure, self._l1_offset + number * 8, f"entry {number} {what}")
            guest = number * self._header.cluster_size
            raise error(
                structure, self._entry_offset(number), f"the entry of guest byte {guest} {what}"
            )

    def _entry_offset(self, cluster: int) -> int:
        table, entry = divmod(cluster, self._header.entries)
        return int(self._l1[table]) + entry * self._header.entry_size

    def _words(self, first: int, count: int) -> npt.NDArray[np.uint64]:
        """Return the entries of clusters, one or two words each; 0 where there is no table."""
        header = self._header
        words_each = header.entry_size // 8
        words = np.zeros(count * words_each, np.uint64)
        position = first
        while position < first + count:
            table, entry = divmod(position, header.entries)
            part = min(first + count - position, header.entries - entry)
            offset = int(self._l1[table])
            if offset:
                data = self._source.read_at(
                    offset + entry * header.entry_size, part * header.entry_size
                )
                start = (position - first) * words_each
                words[start : start + part * words_each] = np.frombuffer(data, ">u8")
            position += part
        return words

    def _standard(
        self, words: npt.NDArray[np.uint64], first: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return kind, offset and length of each unit from entries of one word."""
        is_compressed = (words & np.uint64(layout.IS_COMPRESSED)) != 0
        is_zero = ((words & np.uint64(layout.IS_ZERO)) != 0) & ~is_compressed
        if self._header.version == layout.VERSION_2:
            self._refuse(is_zero, "qcow2.l2", "has a bit that version 2 lacks", first=first)
        # Zeros, even if room is reserved for what may be written there.
        places = np.where(is_zero, np.uint64(0), words)
        kinds, offsets, lengths = self._places(places, is_compressed, first)
        kinds[is_zero] = MapKind.ZERO
        return kinds, offsets, lengths

    def _check_in_place(
        self, kinds: npt.NDArray[np.uint8], offsets: npt.NDArray[np.uint64], first: int
    ) -> None:
        """Check that a data file has every cluster where the guest has it, as QEMU demands."""
        unit = np.uint64(self._header.unit_size)
        start = np.uint64(first * self._header.cluster_size)
        expected = start + np.arange(len(kinds), dtype=np.uint64) * unit
        wrong = (kinds == MapKind.DATA) & (offsets != expected)
        each = self._header.cluster_size // self._header.unit_size
        self._refuse(
            wrong.reshape(-1, each).any(axis=1), "qcow2.l2",
            "leads to another place of the data file than the guest's", first=first,
        )  # fmt: skip

    def _places(
        self, words: npt.NDArray[np.uint64], is_compressed: npt.NDArray[np.bool_], first: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return kind, offset and length of each cluster by its first word, but for zeros."""
        cluster_size = np.uint64(self._header.cluster_size)
        reserved = (words & np.uint64(layout.STANDARD_RESERVED)) != 0
        self._refuse(reserved & ~is_compressed, "qcow2.l2", "has reserved bits", first=first)
        host = words & np.uint64(layout.OFFSET_MASK)
        is_data = ~is_compressed & (host != 0)
        if self._has_data_file:
            # There, the first byte is a place like any other.
            is_data |= ~is_compressed & ((words >> np.uint64(63)) != 0)
        self._refuse(
            is_data & (host % cluster_size != 0), "qcow2.l2", "is not aligned", first=first
        )
        self._refuse(
            is_data & (host >= np.uint64(self._data_size)), "qcow2.l2",
            "leads behind the end of the file", TruncatedImageError, first,
        )  # fmt: skip
        kinds = np.zeros(len(words), np.uint8)
        kinds[is_data] = MapKind.DATA
        offsets = np.where(is_data, host, np.uint64(0))
        lengths = np.zeros(len(words), np.uint32)
        if is_compressed.any():
            self._place_compressed(words, is_compressed, first, (kinds, offsets, lengths))
        return kinds, offsets, lengths

    def _place_compressed(
        self,
        words: npt.NDArray[np.uint64],
        is_compressed: npt.NDArray[np.bool_],
        first: int,
        units: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint32]],
    ) -> None:
        kinds, offsets, lengths = units
        if self._has_data_file:
            self._refuse(
                is_compressed, "qcow2.l2", "is compressed, beside a data file", first=first
            )
        sector_bits = self._header.cluster_bits - 8
        offset_bits = np.uint64(62 - sector_bits)
        host = words & ((np.uint64(1) << offset_bits) - np.uint64(1))
        behind = is_compressed & (host >= np.uint64(self._data_size))
        self._refuse(
            behind, "qcow2.l2", "leads behind the end of the file", TruncatedImageError, first
        )
        sectors = (words >> offset_bits) & np.uint64((1 << sector_bits) - 1)
        size = (sectors + np.uint64(1)) * np.uint64(_SECTOR) - (host & np.uint64(_SECTOR - 1))
        # The last piece of a file may say more than there is.
        size = np.minimum(size, np.uint64(self._data_size) - np.where(behind, np.uint64(0), host))
        kinds[is_compressed] = MapKind.COMPRESSED
        offsets[is_compressed] = host[is_compressed]
        lengths[is_compressed] = size[is_compressed].astype(np.uint32)

    def _extended(
        self, words: npt.NDArray[np.uint64], first: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return kind, offset and length of each unit from entries of two words."""
        places, bitmaps = words[::2], words[1::2]
        is_compressed = (places & np.uint64(layout.IS_COMPRESSED)) != 0
        kinds, offsets, lengths = self._places(places, is_compressed, first)
        shifts = np.arange(layout.SUBCLUSTERS, dtype=np.uint64)
        stored = ((bitmaps[:, None] >> shifts) & np.uint64(1)).astype(np.bool_)
        zeros = ((bitmaps[:, None] >> (shifts + np.uint64(32))) & np.uint64(1)).astype(np.bool_)
        self._refuse(
            np.any(stored & zeros, axis=1), "qcow2.l2", "has a part that is stored and zeros",
            first=first,
        )  # fmt: skip
        self._refuse(
            is_compressed & (bitmaps != 0), "qcow2.l2", "is compressed, and in parts", first=first
        )
        self._refuse(
            stored.any(axis=1) & (kinds != MapKind.DATA), "qcow2.l2",
            "has stored parts that lie nowhere", first=first,
        )  # fmt: skip
        unit_kinds = np.where(
            is_compressed[:, None],
            np.uint8(MapKind.COMPRESSED),
            np.where(
                stored, np.uint8(MapKind.DATA),
                np.where(zeros, np.uint8(MapKind.ZERO), np.uint8(MapKind.ABSENT)),
            ),
        )  # fmt: skip
        unit_size = np.uint64(self._header.unit_size)
        unit_offsets = np.where(
            is_compressed[:, None], offsets[:, None], offsets[:, None] + shifts * unit_size
        )
        unit_offsets = np.where(unit_kinds >= MapKind.DATA, unit_offsets, np.uint64(0))
        unit_lengths = np.repeat(lengths, layout.SUBCLUSTERS)
        return unit_kinds.ravel(), unit_offsets.ravel(), unit_lengths
