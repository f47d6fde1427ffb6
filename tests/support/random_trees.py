"""Directory trees that lived: grown from a seed, then renamed, cut, appended to, deleted from."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import random
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE, _ZERO, _INSERT = 0x1, 0x3, 0x8, 0x10, 0x20

_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MARKS = " !#$%&'()+,-;=@[]^_`{}~."
_BEYOND_ASCII = "äöüßÄÖÜéèñçøå日本語文字カナ한글עברית"
_UNUSUAL = "ıİſк\u0301\u0308\ufffd\ue000"
_ASTRAL = "\U0001f600\U00020000\U0001f468"
_DEVICES_OF_DOS = frozenset(
    [b"CON", b"AUX", b"NUL", b"PRN", b"CLOCK$"]
    + [b"%s%d" % (name, number) for name in (b"COM", b"LPT") for number in range(10)]
)
"""mtools makes no file that is called so, whatever its extension, and does not say why."""

_FORBIDDEN_BY_DOS = '"*/:<>?\\|'


@dataclasses.dataclass(frozen=True, slots=True)
class Abilities:
    """What a file system, or what writes it, can keep.

    Attributes:
        names: "bytes" for any, "unicode" for any text, "dos" for what DOS allows, without regard to
            case; "dos-bmp" for the same of characters of 16 bits.
        times: the earliest and the latest second that it keeps.
        second: nanoseconds in what it counts.
        has_links: hard and symbolic ones.
        has_owners: owners, modes, devices and sockets.
        has_attributes: extended attributes, in the namespace ``user``.
        can_change: files can be changed in place; else they are only written whole.
        longest_path: bytes in the path of a file, from the system's root on.
        majors: major numbers of devices.
    """

    names: str
    times: tuple[int, int]
    second: int = 1
    has_links: bool = True
    has_owners: bool = True
    has_attributes: bool = True
    can_change: bool = True
    longest_path: int = 3000
    majors: tuple[int, ...] = (1, 255, 4000)


EXT = Abilities("bytes", (-(1 << 31), (1 << 34) - (1 << 31) - 1))
EXT_WITHOUT_MORE_TIME = Abilities("bytes", (-(1 << 31), (1 << 31) - 1))
"""Where inodes have 128 bytes."""

XFS = dataclasses.replace(EXT, majors=(1, 255, 511))
XFS_WITHOUT_MORE_TIME = dataclasses.replace(XFS, times=EXT_WITHOUT_MORE_TIME.times)

NTFS = Abilities("unicode", (-11_644_473_600 + 1, 1 << 36), 100, has_owners=False)
EXFAT = Abilities(
    "dos", (315_532_800 + 86_400, 4_107_542_400 - 86_400), 2 * 10**9,
    has_links=False, has_owners=False, has_attributes=False,
)  # fmt: skip
"""Up to February 2100: exfat-fuse takes that year for a leap year."""

FAT = dataclasses.replace(EXFAT, names="dos-bmp", can_change=False, longest_path=600)


class RandomTree:
    """A directory that is filled and changed at random, always the same way for a seed.

    Args:
        top: the directory; it is made.
        seed: of the random numbers.
        abilities: what may be tried there.
        size: how many files there are about.
        changed: told of each change after it has grown: "deleted" with a path and nothing,
            "renamed" with the old and the new one, "written" with a path and nothing.
    """

    def __init__(
        self,
        top: bytes,
        seed: int,
        abilities: Abilities,
        size: int = 22,
        changed: Callable[[str, bytes, bytes], None] = lambda _how, _path, _onto: None,
    ) -> None:
        self._changed = changed
        self._random = random.Random(seed)
        self._can = abilities
        self._directories = [top]
        self._files: list[bytes] = []
        self._taken: set[bytes] = set()
        self.top = top
        os.mkdir(top)
        for _number in range(self._random.randrange(1, 6)):
            self._directory()
        if not self._random.randrange(3):
            self._deep()
        makers = self._makers()
        for _number in range(size):
            self._random.choice(makers)()
        if not self._random.randrange(4):
            self._many()

    def age(self, steps: int = 12) -> None:
        """Rename, cut, append to, link to and delete some of it."""
        changes = [self._delete, self._rename, self._rename_directory, self._rewrite]
        if self._can.can_change:
            changes += [self._truncate, self._append, self._append, self._overwrite]
        if self._can.has_links:
            changes += [self._link]
        if self._can.has_owners:
            changes += [self._allocate, self._allocate]
        if self._can.has_attributes:
            changes += [self._without_attribute]
        for _number in range(steps):
            self._random.choice(changes)()

    def finish(self) -> None:
        """Give files, and directories last, the modes, owners and times that they keep."""
        for path in [*self._files, *reversed(self._directories[1:])]:
            if os.path.islink(path):
                continue
            if self._can.has_owners:
                os.chown(path, self._one_of(0, 1000, 65535, 65536, 70000, (1 << 32) - 2),
                         self._one_of(0, 100, 1 << 20))  # fmt: skip
                mode = self._one_of(0o600, 0o644, 0o4755, 0o2711, 0o777, 0)
                os.chmod(path, mode | (0o1700 if os.path.isdir(path) else 0))
            if self._random.randrange(2):
                first, last = self._can.times
                seconds = self._one_of(
                    first, last, -1, 0, 1, 951_782_400, (1 << 31) - 1, 1 << 31, 1 << 32,
                    self._random.randrange(first, last), self._random.randrange(10**9, 2 * 10**9),
                )  # fmt: skip
                part = self._one_of(0, self._random.randrange(10**9), 999_999_999)
                moment = max(first, min(last, seconds)) * 10**9 + part
                moment -= moment % self._can.second
                os.utime(path, ns=(moment, moment))

    # -- names ---------------------------------------------------------------

    def _one_of(self, *choices: int) -> int:
        return self._random.choice(choices)

    def _name(self) -> bytes:
        """Return a name; of DOS's, none that another differs from by case only."""
        while True:
            name = self._any_name()
            if name in {b".", b".."} or not name:
                continue
            if not self._can.names.startswith("dos"):
                return name
            folded = name.decode().upper().encode()
            if folded not in self._taken and not folded.endswith((b".", b" ")) and (
                # A name of mcopy's for standard input, too.
                not folded.startswith((b" ", b".", b"-"))
                and folded.partition(b".")[0] not in _DEVICES_OF_DOS
            ):  # fmt: skip
                self._taken.add(folded)
                return name

    def _any_name(self) -> bytes:
        generator = self._random
        length = generator.choice([1, 2, 3, 8, 8, 11, 12, 13, 14, 26, 27, 40])
        kind = generator.randrange(10)
        if kind < 4:
            return bytes(generator.choices(_PLAIN, k=length))
        if kind < 6:
            stem = bytes(generator.choices(_PLAIN, k=min(length, 8)))
            return generator.choice([stem.lower(), stem.upper()]) + b"." + bytes(
                generator.choices(_PLAIN, k=3)
            )  # fmt: skip
        if kind == 6 and self._can.names == "bytes":
            return bytes(each for each in generator.randbytes(length) if each not in b"/\0")
        if kind == 7 and not generator.randrange(3):
            longest = 120 if self._can.names == "dos-bmp" else 255
            return b"long" + bytes(generator.choices(_PLAIN, k=longest - 4))
        letters = _BEYOND_ASCII + _MARKS + _PLAIN.decode()
        if self._can.names == "dos-bmp":
            # What mtools takes for a pattern, or makes bad short names of.
            letters = letters.translate({ord(each): None for each in "[]~"})
        else:
            letters += _UNUSUAL + _ASTRAL
        if not self._can.names.startswith("dos"):
            letters += "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028" + _FORBIDDEN_BY_DOS
        name = "".join(generator.choices(letters, k=length)).replace("/", "")
        if self._can.names == "dos-bmp" and not name.isascii():
            # Which letters a short name has, mtools and 7-Zip do not agree.
            name += " and more"
        return name.encode()

    def _place(self) -> bytes:
        """Return a path at which nothing is."""
        while True:
            path = os.path.join(self._random.choice(self._directories), self._name())
            if len(path) < self._can.longest_path and not os.path.lexists(path):
                return path

    # -- growing -------------------------------------------------------------

    def _makers(self) -> list[Callable[[], None]]:
        makers = [self._small] * 6 + [self._middle] * 3 + [self._text, self._directory]
        if self._can.can_change:
            makers += [self._sparse, self._fragmented, self._in_turns, self._longer_than_written]
        if self._can.has_links:
            makers += [self._link, self._symbolic_link]
        if self._can.has_owners:
            makers += [self._node, self._allocated]
        if self._can.has_attributes:
            makers += [self._with_attributes] * 2
        return makers

    def _directory(self) -> None:
        path = self._place()
        os.mkdir(path)
        self._directories.append(path)

    def _deep(self) -> None:
        path = self._random.choice(self._directories)
        for _number in range(self._random.randrange(5, 40)):
            path = os.path.join(path, self._name())
            if len(path) > self._can.longest_path or os.path.lexists(path):
                return
            os.mkdir(path)
            self._directories.append(path)

    def _many(self) -> None:
        """Make so many that an index is kept of them, and delete some."""
        above = self._place()
        os.mkdir(above)
        self._directories.append(above)
        prefix = bytes(self._random.choices(_PLAIN, k=self._random.choice([1, 20, 60])))
        names = [b"%s %d" % (prefix, number) for number in range(self._random.randrange(40, 120))]
        for name in names:
            _write(os.path.join(above, name), [(0, name)])
        for name in names:
            if self._random.randrange(2):
                os.unlink(os.path.join(above, name))
            else:
                self._files.append(os.path.join(above, name))

    def _new(self, pieces: list[tuple[int, bytes]], size: int | None = None) -> bytes:
        path = self._place()
        _write(path, pieces, size)
        self._files.append(path)
        return path

    def _small(self) -> None:
        size = self._one_of(0, 1, 59, 60, 61, 100, 156, 160, 511, 512, 513, 700, 1024)
        self._new([(0, self._random.randbytes(size))])

    def _middle(self) -> None:
        self._new([(0, self._random.randbytes(self._random.randrange(1, 60_000)))])

    def _text(self) -> None:
        """Write what can be compressed, with what cannot in between."""
        pieces = []
        for _number in range(self._random.randrange(1, 5)):
            length = self._random.randrange(1, 40_000)
            pieces.append(self._random.choice([
                b"the same words again and again\n" * (length // 31), bytes(length),
                self._random.randbytes(length),
            ]))  # fmt: skip
        self._new([(0, b"".join(pieces))])

    def _sparse(self) -> None:
        reach = self._one_of(200_000, 2_000_000, 12_000_000)
        places = sorted(self._random.randrange(reach) for _ in range(self._random.randrange(1, 7)))
        pieces = [(place, self._random.randbytes(self._random.randrange(1, 9000)))
                  for place in places]  # fmt: skip
        self._new(pieces, places[-1] + self._one_of(9000, 123_457))

    def _fragmented(self) -> None:
        """Write every other block: more extents than one node of a tree has room for."""
        step = self._one_of(2048, 8192)
        data = self._random.randbytes(64)
        numbers = list(range(self._one_of(20, 90, 400)))
        if self._random.randrange(2):
            self._random.shuffle(numbers)
        self._new([(number * step, b"%d %s" % (number, data)) for number in numbers])

    def _in_turns(self) -> None:
        """Let two grow in turns: neither is in one piece."""
        paths = [self._new([]), self._new([])]
        for _round in range(self._random.randrange(2, 12)):
            for path in paths:
                _append(path, self._random.randbytes(self._random.randrange(1, 9000)))

    def _longer_than_written(self) -> None:
        size = self._random.randrange(30_000)
        self._new([(0, self._random.randbytes(size))], size + self._random.randrange(100_000))

    def _allocated(self) -> None:
        """Allocate more than is written."""
        path = self._new([])
        opened = os.open(path, os.O_WRONLY)
        _LIBC.fallocate(opened, self._one_of(0, _KEEP_SIZE), 0, self._random.randrange(1, 300_000))
        os.pwrite(opened, self._random.randbytes(5000), self._random.randrange(200_000))
        os.close(opened)

    def _link(self) -> None:
        if self._files:
            path = self._place()
            os.link(self._random.choice(self._files), path, follow_symlinks=False)
            self._files.append(path)

    def _symbolic_link(self) -> None:
        path = self._place()
        target = self._random.choice([b"x", "ümläut/日本".encode(), self._random.choice(
            self._directories
        )[-900:].strip(b"/") or b"."])  # fmt: skip
        target = target.decode(errors="ignore").encode()
        target = (target * 900)[: self._one_of(1, 59, 60, 61, 200, 900)]
        os.symlink(target.decode(errors="ignore").encode() or b"y", path)
        self._files.append(path)

    def _node(self) -> None:
        path = self._place()
        kind = self._one_of(0o010000, 0o020000, 0o060000, 0o140000)
        os.mknod(
            path,
            kind | 0o640,
            os.makedev(self._one_of(*self._can.majors), self._one_of(3, 70000)),
        )
        self._files.append(path)

    def _with_attributes(self) -> None:
        self._small()
        path = self._files[-1]
        for size in self._random.sample([0, 1, 40, 300, 900, 3000, 20_000], 3):
            # Where there is no room for them, there is none.
            with contextlib.suppress(OSError):
                os.setxattr(path, b"user.of%d" % size, self._random.randbytes(size))
        if self._can.has_owners and self._random.randrange(2):
            entries = [(1, 7, 0xFFFFFFFF), (2, 4, 1000), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF),
                       (32, 0, 0xFFFFFFFF)]  # fmt: skip
            acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
            with contextlib.suppress(OSError):
                os.setxattr(path, b"system.posix_acl_access", acl)

    # -- ageing --------------------------------------------------------------

    def _regular(self) -> bytes | None:
        found = [each for each in self._files if os.path.isfile(each) and not os.path.islink(each)]
        return self._random.choice(found) if found else None

    def _delete(self) -> None:
        if self._files:
            path = self._files.pop(self._random.randrange(len(self._files)))
            os.unlink(path)
            self._changed("deleted", path, b"")

    def _rename(self) -> None:
        if not self._files:
            return
        number = self._random.randrange(len(self._files))
        path = self._files[number]
        onto = self._random.choice(self._files)
        if self._random.randrange(3) or not self._can.can_change or os.path.samestat(
            os.lstat(path), os.lstat(onto)
        ):  # fmt: skip
            onto = self._place()
        else:
            self._files.remove(onto)
            number = self._files.index(path)
        try:
            os.rename(path, onto)
        except FileExistsError:
            # ntfs-3g has no room for the name that it takes in between.
            os.unlink(onto)
            os.rename(path, onto)
        self._files[number] = onto
        self._changed("renamed", path, onto)

    def _rename_directory(self) -> None:
        if len(self._directories) < 2:
            return
        path = self._random.choice(self._directories[1:])
        longest = max(map(len, self._directories + self._files)) - len(path)
        onto = self._place()
        # Not into itself, nor so far down that nothing below it has a path any more.
        if not onto.startswith(path + b"/") and len(onto) + longest < self._can.longest_path:
            os.rename(path, onto)
            self._changed("renamed", path, onto)
            for paths in (self._directories, self._files):
                for number, each in enumerate(paths):
                    if each == path or each.startswith(path + b"/"):
                        paths[number] = onto + each[len(path) :]

    def _rewrite(self) -> None:
        """Write another file of the same name."""
        path = self._regular()
        if path is not None:
            os.unlink(path)
            size = self._one_of(0, 10, 5000, 50_000)
            _write(path, [(0, self._random.randbytes(size))])
            self._changed("written", path, b"")

    def _truncate(self) -> None:
        path = self._regular()
        if path is not None:
            size = os.stat(path).st_size
            os.truncate(path, self._one_of(0, 1, size // 2, size + 1, size + 70_000))

    def _append(self) -> None:
        path = self._regular()
        if path is not None:
            _append(path, self._random.randbytes(self._one_of(1, 100, 5000, 40_000)))

    def _overwrite(self) -> None:
        path = self._regular()
        if path is not None:
            opened = os.open(path, os.O_WRONLY)
            place = self._random.randrange(os.fstat(opened).st_size + 1)
            os.pwrite(opened, self._random.randbytes(self._one_of(1, 700, 9000)), place)
            os.close(opened)

    def _allocate(self) -> None:
        """Punch a hole, take out or put in a part, or set it to zeros, where that is known."""
        path = self._regular()
        if path is not None:
            opened = os.open(path, os.O_WRONLY)
            mode = self._one_of(_PUNCH_HOLE, _COLLAPSE, _ZERO, _INSERT, _KEEP_SIZE)
            place = self._random.randrange(os.fstat(opened).st_size // 4096 + 1) * 4096
            _LIBC.fallocate(opened, mode, place, self._one_of(4096, 8192, 32768))
            os.close(opened)

    def _without_attribute(self) -> None:
        path = self._regular()
        if path is not None:
            names = [each for each in os.listxattr(path) if each.startswith("user.")]
            if names:
                os.removexattr(path, self._random.choice(sorted(names)))


def _write(path: bytes, pieces: list[tuple[int, bytes]], size: int | None = None) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    for offset, data in pieces:
        os.pwrite(opened, data, offset)
    if size is not None:
        os.ftruncate(opened, size)
    os.close(opened)


def _append(path: bytes, data: bytes) -> None:
    with open(path, "ab") as opened:
        opened.write(data)
