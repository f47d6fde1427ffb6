"""Texts as Clonezilla and the partition tools write them, and what changes them at random."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgcat.formats.errors import FormatError

UUID = b"6f9619ff-8b86-d011-b42d-00c04fc964ff"

SFDISK = b"""\
label: dos
label-id: 0x5c7b1ea1
device: /dev/sda
unit: sectors
sector-size: 512

/dev/sda1 : start=          40, size=         200, type=83, bootable
/dev/sda2 : start=         300, size=         110, type=7
/dev/sda3 : start=         420, size=          70, type=5
/dev/sda5 : start=         422, size=          20, type=82
/dev/sda6 : start=         450, size=          30, type=83
"""

GPT = b"""\
label: gpt
label-id: B4C86195-0DB7-624E-B72D-D2D52E2243BA
device: /dev/sda
unit: sectors
first-lba: 34
last-lba: 466
sector-size: 512

/dev/sda1 : start=          40, size=         200, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
uuid=1387FD30-0BD9-9D48-9544-C1AE7818CF32, name="EFI, \\x22system\\x22", attrs="RequiredPartition"
/dev/sda2 : start=         300, size=         110, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
"""

OLD = b"""\
# partition table of /dev/sda
unit: sectors

/dev/sda1 : start=       40, size=      200, Id=83, bootable
/dev/sda2 : start=      300, size=      110, Id= 7
/dev/sda3 : start=        0, size=        0, Id= 0
"""

PARTED = b"""\
Model: ATA VBOX HARDDISK (scsi)
Disk /dev/sda: 500s
Sector size (logical/physical): 512B/4096B
Partition Table: msdos
Disk Flags:

Number  Start  End   Size  Type     File system  Flags
 1      40s    239s  200s  primary  ext4         boot
"""

TEXTS = {
    "disk": b"sda\n",
    "parts": b"sda1 sda2 cciss/c0d0p1\n",
    "sda-pt.sf": SFDISK,
    "sda-pt.parted": PARTED,
    "sda-chs.sf": b"cylinders=25\nheads=255\nsectors=63\n",
    "dev-fs.list": b"# <Device name>   <File system>   <Size>\n/dev/sda1 ext4 100K\n"
    b"/dev/sda2 ntfs 55K\n/dev/sda5 swap 10K\n",
    "lvm_vg_dev.list": b"vg0 /dev/sda6 hSHbcK-3O5g-Jd4l\nvg1 /dev/mapper/x\n",
    "lvm_logv.list": b"/dev/vg0/root  Linux rev 1.0 ext4 filesystem data\n/dev/vg0/swap  swap\n",
    "luks-dev.list": b"/dev/sda7 " + UUID + b" /dev/mapper/ocs_luks_x\n",
    "swappt-sda5.info": b'UUID="' + UUID + b'"\nLABEL="a b"\n',
    "clonezilla-img": b"This image was saved by Clonezilla at 2026-02-03 04:05:06 UTC.\n"
    b"Saved by clonezilla-live-3.2.0-5-amd64.\nThe log during saving:\n",
    "MD5SUMS": b"d41d8cd98f00b204e9800998ecf8427e  disk\n"
    b"MD5 (parts) = d41d8cd98f00b204e9800998ecf8427e\n\\" + b"0" * 32 + b" *a\\nb\n",
}  # fmt: skip
"""Texts as the tools write them, by the names of their files."""

NUMBERS = tuple(
    str(number).encode()
    for number in (
        0, -1, 1, 63, 511, 513, 4096, 65536, 1 << 31, 1 << 32, (1 << 54) - 1, 1 << 54, 1 << 62,
        (1 << 63) - 1, 1 << 63, 1 << 64, 10**19, 10**20 - 1, 10**400,
    )
) + tuple("".join(chr(0x660 + int(digit)) for digit in str(n)).encode() for n in (7, 40, 512)) + (
    "\u00b2".encode(), "\uff11\uff12".encode(), b"+5", b"0x10", b"1_0", b"4e1", b"",
)  # fmt: skip
"""Numbers at the borders, and what `int` takes for one, or `isdigit` for a digit."""

PIECES = (
    b"\0", b"\r", b"\n", b"\xff", b"\xed\xa0\x80", "\u0130".encode(), "\u2028".encode(), b"\x85",
    b"\x1c", b'"', b"=", b":", b" : ", b",", b"/", b"/..", b"../", b"#", b"\\", b" ", b"\t",
    b"/dev/", b"/dev/mapper/", b"x" * 5000, b"1" * 5000,
)  # fmt: skip


class Mutator:
    """Changes texts, at random but always alike."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._ways = (
            self._remove, self._double, self._swap, self._number, self._number, self._number,
            self._number, self._insert, self._overwrite, self._cut, self._carriage_returns,
            self._foreign_line,
        )  # fmt: skip

    def mutated(self, text: bytes) -> bytes:
        """Return the text with one to a few changes."""
        lines = text.split(b"\n")
        for _ in range(self.rng.choice((1, 1, 1, 2, 3, 6))):
            self.rng.choice(self._ways)(lines)
            lines = lines or [b""]
        return b"\n".join(lines)

    def _at(self, lines: list[bytes]) -> int:
        return self.rng.randrange(len(lines))

    def _remove(self, lines: list[bytes]) -> None:
        del lines[self._at(lines)]

    def _double(self, lines: list[bytes]) -> None:
        lines.insert(self._at(lines), lines[self._at(lines)])

    def _swap(self, lines: list[bytes]) -> None:
        one, other = self._at(lines), self._at(lines)
        lines[one], lines[other] = lines[other], lines[one]

    def _number(self, lines: list[bytes]) -> None:
        """Put another number in place of one."""
        places = []
        for index, line in enumerate(lines):
            start = 0
            for word in line.replace(b",", b" ").replace(b"=", b" ").split(b" "):
                if word[:1].isdigit():
                    digits = len(word) - len(word.lstrip(b"0123456789"))
                    places.append((index, start, start + digits))
                start += len(word) + 1
        if places:
            index, start, stop = self.rng.choice(places)
            number = self.rng.choice((*NUMBERS, b"%d" % self.rng.randrange(600)))
            lines[index] = lines[index][:start] + number + lines[index][stop:]

    def _insert(self, lines: list[bytes]) -> None:
        index = self._at(lines)
        place = self.rng.randrange(len(lines[index]) + 1)
        lines[index] = lines[index][:place] + self.rng.choice(PIECES) + lines[index][place:]

    def _overwrite(self, lines: list[bytes]) -> None:
        index = self._at(lines)
        place = self.rng.randrange(len(lines[index]) + 1)
        piece = self.rng.choice((*PIECES, self.rng.randbytes(2)))
        lines[index] = lines[index][:place] + piece + lines[index][place + len(piece) :]

    def _cut(self, lines: list[bytes]) -> None:
        index = self._at(lines)
        lines[index] = lines[index][: self.rng.randrange(len(lines[index]) + 1)]

    def _carriage_returns(self, lines: list[bytes]) -> None:
        lines[:] = [line + b"\r" for line in lines]

    def _foreign_line(self, lines: list[bytes]) -> None:
        others = self.rng.choice((GPT, OLD, *TEXTS.values())).split(b"\n")
        lines.insert(self._at(lines), self.rng.choice(others))


def check_names(error: FormatError, path: str) -> None:
    """Check that what was refused is named."""
    assert path in error.detail
