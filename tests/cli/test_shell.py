"""The shell by script: what it says is what the formats' own tools say."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import random
import re
import shlex
import struct
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest
import pyvhdi
import zstandard
from imgcat.cli.shell.commands import COMMANDS
from imgcat.cli.shell.running import commands_of
from support import samples
from support.packers import CODECS, pack, split
from support.vhd_writer import Difference, write_difference
from support.virtual_disks import KIB, MIB, guest_of, map_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

SIZE = 6 * MIB


def run(program: Program, image: str, script: str, code: int = 0) -> str:
    """Return what a script prints."""
    return program.run("shell", "-c", script, image, code=code).stdout


def test_the_map_of_a_qcow2_is_that_of_qemu_img(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    said = map_of(qcow2, "qcow2")
    guest = guest_of(qcow2, "qcow2")
    for each in said:
        if not each["data"] or each["depth"]:
            continue
        text = run(program, "vm.qcow2", f"where {each['start']}")
        assert text.splitlines()[-1].strip() == f"byte {each['offset']} of {qcow2}"
    table = run(program, "vm.qcow2", "map 1M-2M")
    assert table.splitlines()[1].split()[0] == str(MIB)
    dump = run(program, "vm.qcow2", "hexdump 1M 32")
    expected = subprocess.run(
        ["xxd", "-g1", "-s", str(MIB), "-l", "32"], input=guest, capture_output=True, check=True
    ).stdout.decode()
    assert dump == expected


def test_the_tables_of_a_qcow2(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    info = json.loads(qemu_img("info", "--output=json", qcow2))
    text = run(program, "vm.qcow2", "header")
    fields = fields_of(text)
    assert fields["size"] == str(info["virtual-size"])
    assert fields["cluster size"].split()[0] == str(info["cluster-size"])
    assert fields["backing file"] == info["backing-filename"]
    assert fields["compression type"] == info["format-specific"]["data"]["compression-type"]
    data = qcow2.read_bytes()
    (l1_offset,) = struct.unpack_from(">Q", data, 40)
    (l1,) = struct.unpack_from(">Q", data, l1_offset)
    offset = l1 & 0x00FFFFFFFFFFFE00
    assert run(program, "vm.qcow2", "l1").startswith(f"0: guest 0: L2 table at {offset}")
    entries = struct.unpack_from(f">{SIZE // (64 * KIB)}Q", data, offset)
    lines = run(program, "vm.qcow2", "l2 0").splitlines()
    assert len(lines) == len(entries)
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        host = entry & 0x00FFFFFFFFFFFE00
        what = "zeros" if entry & 1 else f"data at {host}" if host else "not stored"
        assert line.startswith(f"{number}: guest {number * 64 * KIB}: {what}")
        assert f"0x{entry:016x}" in line


def test_where_a_byte_of_a_chain_lies(qcow2: Path, program: Program, tmp_path: Path) -> None:
    program.run("add", qcow2)
    starts = [each["start"] for each in map_of(qcow2, "qcow2")]
    lines = run(program, "vm.qcow2", "; ".join(f"where {each}" for each in starts)).splitlines()
    # Each way begins where it was asked for.
    begun = [line for line in lines if not line.startswith(" ")]
    assert begun == [f"byte {each} of vm.qcow2" for each in starts]
    packed = tmp_path / "packed.qcow2"
    # Where each way ends: zeros, or in the file that qemu-img counts that many images below.
    last = {}
    for line in lines:
        if not line.startswith(" "):
            start = int(line.split()[1])
        last[start] = line.strip()
    files = {0: str(qcow2), 1: str(packed)}
    for each in map_of(qcow2, "qcow2"):
        if each["data"]:
            assert files[each["depth"]] in last[each["start"]], last[each["start"]]
        elif each["depth"] == 0 and each["zero"]:
            assert last[each["start"]] == "zeros: nothing is stored"
    assert {files[0] in line for line in last.values()} == {True, False}
    assert any(files[1] in line for line in last.values())


def test_extended_entries_and_snapshots(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "e.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64k", path, SIZE)
    qemu_io(path, "qcow2", ["write -P 1 0 2k", "write -z 4k 2k", "write -P 2 64k 64k"])
    qemu_img("snapshot", "-c", "now", path)
    program.run("add", path)
    lines = run(program, "e.qcow2", "l2 0").splitlines()
    assert re.search(
        r"parts at \d+: 0-0 data, 1-1 not stored, 2-2 zeros, 3-31 not stored", lines[0]
    )
    assert re.search(r": data at \d+  \(", lines[1])
    assert "snapshot 1 'now'" in run(program, "e.qcow2", "header")


def test_a_snapshot_has_tables_of_its_own(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "s.qcow2"
    qemu_img("create", "-f", "qcow2", path, "2M")
    qemu_io(path, "qcow2", ["write -P 1 0 64k"])
    qemu_img("snapshot", "-c", "old", path)
    qemu_io(path, "qcow2", ["write -P 2 0 64k"])
    program.run("add", path)
    places = set()
    for name, byte in (("s.qcow2", b"\2"), ("s.qcow2@old", b"\1")):
        text = run(program, name, "l1; l2 0; where 0")
        (place,) = re.findall(r"^0: guest 0: data at (\d+)", text, re.MULTILINE)
        assert f"byte {place} of {path}" in text
        assert path.read_bytes()[int(place) :][:1] == byte
        places.add(place)
    assert len(places) == 2


def test_the_extensions_of_a_header(program: Program, tmp_path: Path) -> None:
    base, path = tmp_path / "base.qcow2", tmp_path / "vm.qcow2"
    qemu_img("create", "-f", "qcow2", base, "4M")
    options = "compression_type=zstd,lazy_refcounts=on"
    qemu_img("create", "-f", "qcow2", "-b", base.name, "-F", "qcow2", "-o", options, path)
    qemu_img("bitmap", "--add", path, "marks")
    program.run("add", path)
    text = run(program, "vm.qcow2", "header")
    data = path.read_bytes()
    (length,) = struct.unpack_from(">I", data, 100)
    at, expected = length, []
    while True:
        kind, size = struct.unpack_from(">II", data, at)
        if not kind:
            break
        expected.append((f"{kind:08x}", str(size), str(at + 8)))
        at += 8 + -(-size // 8) * 8
    assert len(expected) >= 3
    found = re.findall(r"^extension 0x(\w+) \([^)]*\): (\d+) bytes at (\d+)", text, re.MULTILINE)
    assert found == expected
    assert re.search(r"\(backing format\): 5 bytes at \d+: qcow2$", text, re.MULTILINE)
    assert "  incompatible bit 3: compression type" in text
    said = fields_of(text)
    assert said["magic"] == "51 46 49 fb"
    assert said["incompatible features"] == "0x8 (compression type)"
    assert said["compatible features"] == "0x1 (lazy refcounts)"
    assert said["autoclear features"] == "0x1 (bitmaps)"
    offset, size = struct.unpack_from(">QI", data, 8)
    assert said["backing file name"] == f"{size} bytes at {offset}"


def test_compressed_clusters(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "c.qcow2"
    qemu_img("create", "-f", "qcow2", path, "4M")
    qemu_io(path, "qcow2", ["write -c -P 7 192k 64k"])
    program.run("add", path)
    text = run(program, "c.qcow2", f"l2 0; where {192 * KIB + 5}")
    (word,) = re.findall(r"^3: guest 196608: .*\(0x(\w+)\)", text, re.MULTILINE)
    # The bits of an entry by the specification: with clusters of 64 KiB, 54 of offset.
    host, sectors = int(word, 16) & (1 << 54) - 1, (int(word, 16) >> 54 & 0xFF) + 1
    length = sectors * 512 - host % 512
    assert f"3: guest 196608: compressed at {host}, {length} bytes at the most" in text
    where = text.splitlines()[-2].strip()
    assert where.startswith("in the compressed piece of ")
    assert where.endswith(f" at {host}, which decodes to guest bytes [{192 * KIB}, {256 * KIB})")
    assert text.splitlines()[-1].strip() == f"byte {host} of {path}"


@pytest.mark.parametrize("packer", ["gzip", "bgzf", "bzip2", "zstd", "pzstd", "xz-blocks", "lz4"])
def test_where_in_compressed_and_split_files(packer: str, program: Program, tmp_path: Path) -> None:
    rng = random.Random(packer)
    raw = tmp_path / "raw"
    raw.write_bytes(rng.randbytes(12 * MIB))
    packed = pack(packer, raw, tmp_path / "disk.raw.packed")
    whole = packed.read_bytes()
    chunks = split(packed, 2, len(whole) // 3 + 1)
    program.run("add", "--format", "raw", chunks[0], "--name", "disk")
    for offset in (0, 7 * MIB + 3, 12 * MIB - 1):
        lines = [line.strip() for line in run(program, "disk", f"where {offset}").splitlines()]
        assert lines[:2] == [f"byte {offset} of disk", f"byte {offset} of the plain stream"]
        found = re.fullmatch(
            r"in its bytes \[(\d+), (\d+)\), which are decoded from bytes \[(\d+), (\d+)\) of "
            rf"the {CODECS[packer]} stream",
            lines[2],
        )
        assert found is not None, lines
        start, stop, first, last = map(int, found.groups())
        assert start <= offset < stop
        assert 0 <= first < last <= len(whole)
        if packer == "bgzf":
            # Members stand by themselves.
            assert gzip.decompress(whole[first:last]) == raw.read_bytes()[start:stop]
        if packer == "pzstd":
            pieces = zstandard.ZstdDecompressor().stream_reader(
                whole[first:last], read_across_frames=True
            )
            assert pieces.read() == raw.read_bytes()[start:stop]
        at = 0
        ends = []
        for chunk in chunks:
            size = chunk.stat().st_size
            ends += [(chunk, first - at)] if at <= first < at + size else []
            ends += [(chunk, last - at)] if at < last <= at + size else []
            at += size
        (one, low), (other, high) = ends
        assert lines[3] == (
            f"bytes [{low}, {high}) of {one}"
            if one == other
            else f"from byte {low} of {one} up to byte {high} of {other}"
        )


def test_a_vhd_can_be_followed_by_hand(program: Program, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", SIZE, 5)
    path = tmp_path / "d.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, path)
    program.run("add", path)
    text = run(program, "d.vhd", "footer; header")
    fields = fields_of(text)
    file = pyvhdi.file()
    file.open(str(path))
    assert fields["current size"] == str(file.get_media_size())
    assert fields["UUID"] == file.get_identifier()
    assert fields["type"] == "3 (dynamic)"
    file.close()
    data = path.read_bytes()
    assert fields["offset"] == str(len(data) - 512)
    (header,) = struct.unpack_from(">Q", data, 16)
    (table,) = struct.unpack_from(">Q", data, header + 16)
    entries = struct.unpack_from(">3I", data, table)
    lines = run(program, "d.vhd", "bat").splitlines()
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        start = entry * 512
        assert line == (
            f"{number}: guest {number * 2 * MIB}: not stored"
            if entry == 0xFFFFFFFF
            else f"{number}: guest {number * 2 * MIB}: sector {entry}, "
            f"bitmap [{start}, {start + 512}), data [{start + 512}, {start + 512 + 2 * MIB})"
        )
    assert run(program, "d.vhd", "bat 1").splitlines() == lines[1:2]
    assert run(program, "d.vhd", "bat 1-").splitlines() == lines[1:]
    # The last one is among them.
    assert run(program, "d.vhd", "bat 0-1").splitlines() == lines[:2]
    assert run(program, "d.vhd", "bat 1-999").splitlines() == lines[1:]
    run(program, "d.vhd", "bat 2-1", code=2)
    run(program, "d.vhd", "bat 3", code=2)


def fields_of(text: str) -> dict[str, str]:
    """Return the names and values of what a command prints as such."""
    lines = [re.split(r"  +", line, maxsplit=1) for line in text.splitlines()]
    return {pair[0]: pair[1] for pair in lines if len(pair) == 2}


@pytest.mark.parametrize("subformat", ["fixed", "dynamic"])
def test_every_field_of_a_footer(program: Program, tmp_path: Path, subformat: str) -> None:
    raw = write_raw(tmp_path / "raw", SIZE, 5)
    path = tmp_path / "d.vhd"
    options = f"subformat={subformat},force_size=on"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", options, raw, path)
    program.run("add", path)
    # By the specification, independently of what the program has read it with.
    footer = path.read_bytes()[-512:]
    said = fields_of(run(program, "d.vhd", "footer"))
    (features, version, header, seconds) = struct.unpack_from(">IIQI", footer, 8)
    (original, current, cylinders, heads, sectors, kind, checksum) = struct.unpack_from(
        ">QQHBBII", footer, 40
    )
    expected = {
        "cookie": footer[:8].decode(),
        "features": f"0x{features:08x} (reserved, always set)",
        "version": f"0x{version:08x} (1.0)",
        "header offset": "-" if subformat == "fixed" else str(header),
        "creator": footer[28:32].decode(),
        "creator system": footer[36:40].decode(),
        "original size": str(original),
        "current size": str(current),
        "geometry": f"{cylinders} cylinders, {heads} heads, {sectors} sectors = "
        f"{cylinders * heads * sectors * 512} bytes",
        "type": f"{kind} ({subformat})",
        "checksum": f"0x{checksum:08x}, right",
        "UUID": str(uuid.UUID(bytes=footer[68:84])),
        "saved state": "no",
    }
    assert expected.items() <= said.items()
    created = dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    assert said["created"] == created.isoformat().replace("+00:00", "Z")
    if subformat == "fixed":
        assert "block size" not in said
        run(program, "d.vhd", "bat", code=2)
        lines = run(program, "d.vhd", "where 0x1000").splitlines()
        assert lines[-1].strip() == f"byte 4096 of {path}"
    else:
        dynamic = path.read_bytes()[header : header + 1024]
        (table, _version, entries, block_size) = struct.unpack_from(">QIII", dynamic, 16)
        assert said["header cookie"] == "cxsparse"
        assert said["table offset"] == str(table)
        assert said["blocks"] == str(entries)
        assert said["block size"] == str(block_size)
        assert said["header checksum"].endswith(", right")


def test_a_wrong_checksum_and_hostile_text_of_a_vhd(program: Program, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", SIZE, 5)
    path = tmp_path / "d.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, path)
    data = bytearray(path.read_bytes())
    for at in (0, len(data) - 512):
        data[at + 28 : at + 32] = b"\x1b[2J"
    path.write_bytes(data)
    program.run("add", path)
    text = run(program, "d.vhd", "footer")
    assert "\x1b" not in text
    assert "\\x1b[2J" in text
    (stored,) = struct.unpack_from(">I", data, len(data) - 512 + 64)
    footer = data[-512:]
    computed = ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF
    assert fields_of(text)["checksum"] == f"0x{stored:08x}, but 0x{computed:08x} is right"


def test_a_difference_of_a_vhd(program: Program, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", SIZE, 5)
    parent = tmp_path / "parent.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, parent)
    parent_id = uuid.UUID(bytes=parent.read_bytes()[-512:][68:84])
    path = tmp_path / "child.vhd"
    path.write_bytes(
        write_difference(Difference(SIZE, uuid.uuid4(), parent_id, "parent.vhd", {9: b"9" * 512}))
    )
    program.run("add", path)
    text = run(program, "child.vhd", "footer; where 4608")
    said = fields_of(text)
    assert said["type"] == "4 (differencing)"
    assert said["parent UUID"] == str(parent_id)
    assert said["parent name"] == "parent.vhd"
    assert re.search(r"^locator 0 W2ru: 20 bytes at \d+: parent.vhd$", text, re.MULTILINE)
    place = int(text.splitlines()[-1].split()[1])
    assert path.read_bytes()[place : place + 4] == b"9999"
    guest = raw.read_bytes()
    at = next(at for at in range(0, SIZE, 512) if guest[at] and at // 512 != 9)
    steps = [line.strip() for line in run(program, "child.vhd", f"where {at}").splitlines()]
    assert steps[:2] == [f"byte {at} of child.vhd", f"byte {at} of parent.vhd"]
    place = int(steps[-1].split()[1])
    assert parent.read_bytes()[place] == guest[at]


def test_partitions_and_what_is_below_them(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(
        ["sfdisk", "-q", raw], input="label: gpt\nsize=2MiB, name=one\nsize=1MiB\n", text=True,
        check=True,
    )  # fmt: skip
    path = tmp_path / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    qemu_io(path, "qcow2", [f"write -P 7 {MIB} 64k"])
    program.run("add", path)
    text = run(program, "disk.qcow2", "partitions; use p1; info; where 0; use ..; where 1M; use p2")
    assert re.search(r"p1 +1048576 +3145728 +Linux filesystem +- +one +disk.qcow2.p1", text)
    assert "part of  " in text
    (place,) = {each for each in map(str.strip, text.splitlines()) if each.endswith(f"of {path}")}
    steps = [line.strip() for line in text.splitlines() if line.strip().startswith("byte")]
    assert steps == [
        "byte 0 of disk.qcow2.p1", f"byte {MIB} of disk.qcow2", place, f"byte {MIB} of disk.qcow2",
        place,
    ]  # fmt: skip
    run(program, "disk.qcow2", "use p9", code=3)
    run(program, "disk.qcow2.p1", "partitions", code=3)


def test_other_formats_verify_and_export(program: Program, tmp_path: Path) -> None:
    sample = samples.unpack_one(tmp_path, "ext4-0.3.23")
    program.run("add", sample.path, "--name", "root")
    text = run(program, "root", f"info; header; verify; export {tmp_path / 'out.raw'}")
    assert "partclone 0002" in text
    assert "right: every crc32" in text
    exported = (tmp_path / "out.raw").read_bytes()
    assert hashlib.sha256(exported).hexdigest() == sample.volume_sha256
    assert program.json("ls")[0]["verify_result"] == "ok"


def test_where_the_bytes_of_a_partclone_image_lie(program: Program, tmp_path: Path) -> None:
    sample = samples.unpack_one(tmp_path, "ext4-0.3.23")
    program.run("add", sample.path, "--name", "root")
    shown = program.json("show", "root")["header"]
    said = fields_of(run(program, "root", "header"))
    assert said.keys() == shown.keys()
    program.run("export", "root", tmp_path / "root.raw")
    guest, stored = (tmp_path / "root.raw").read_bytes(), sample.path.read_bytes()
    used = [each for each in program.json("map", "root") if each["data"]]
    starts = [each["start"] for each in used[:: max(1, len(used) // 6)]]
    text = run(program, "root", "; ".join(f"where {start + 7}" for start in starts))
    places = re.findall(rf"^ +byte (\d+) of {re.escape(str(sample.path))}$", text, re.MULTILINE)
    assert len(places) == len(starts)
    for start, place in zip(starts, map(int, places), strict=True):
        assert stored[place : place + 64] == guest[start + 7 :][:64]
    (gap,) = [each["start"] for each in program.json("map", "root") if not each["data"]][:1]
    assert run(program, "root", f"where {gap}").splitlines()[1].strip().startswith("zeros")


@pytest.mark.parametrize(("script", "code", "said"), [
    ("dance", 2, "no such command"), ("l2", 2, "usage: l2 N"), ("footer", 2, "which has no footer"),
    ("where 1T", 2, "bytes"), ("hexdump x", 2, "no number"), ("l2 99", 2, "entries"),
    ("map 5M-1M", 2, "no range"), ("help dance", 2, "no such command"), ("'open", 2, "quotation"),
    ("use nothing", 3, "no image"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(
    script: str, code: int, said: str, qcow2: Path, program: Program
) -> None:
    program.run("add", qcow2)
    found = program.run("shell", "-c", f"{script}; help where", "vm.qcow2", code=code)
    assert said in found.stderr
    # What comes behind it is done all the same.
    assert "where OFFSET" in found.stdout or script == "'open"


def test_commands_from_a_pipe(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    found = program.run("shell", "vm.qcow2", input="info\n# a remark\nquit\ndance\n")
    assert "format" in found.stdout
    assert found.stderr == ""


def test_each_command_has_help_and_examples(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    lines = run(program, "vm.qcow2", "help").splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    said = run(program, "vm.qcow2", "; ".join(f"help {name}" for name in COMMANDS)).splitlines()
    for name, command in COMMANDS.items():
        assert command.examples
        assert all(shlex.split(example)[0] == name for example in command.examples)
        assert said.pop(0).startswith(name)
        examples, said = said[: len(command.examples)], said[len(command.examples) :]
        assert examples == [f"  {example}" for example in command.examples]
    assert said == []


def test_numbers_as_people_write_them(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    wanted = run(program, "vm.qcow2", "hexdump 1048576 16")
    numbers = ("0x100000", "0x10_0000", "1M", "1m", "1024k", "1_048_576", "1MiB")
    script = "; ".join(f"hexdump {number} 0x10" for number in numbers)
    assert run(program, "vm.qcow2", script) == wanted * len(numbers)
    numbers = ("1__0", "_1", "1_", "-1", "0x", "1.5K")
    script = "; ".join(f"hexdump {number}" for number in numbers)
    refused = program.run("shell", "-c", script, "vm.qcow2", code=2)
    assert refused.stdout == ""
    assert refused.stderr.count("imgcat: ") == len(numbers)


def test_what_separates_commands() -> None:
    assert commands_of("a; b;;\n c 'd;e' \"f;g\" h\\;i # j; k\nl#m; n") == [
        "a", "b", "c 'd;e' \"f;g\" h\\;i", "l#m", "n",
    ]  # fmt: skip
    assert commands_of("# it's; a remark\nb") == ["b"]
    assert commands_of("'a;b") == ["'a;b"]


def test_a_reader_that_goes_away_is_no_damage(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    script = ";".join(["hexdump 0 1M"] * 4)
    with program.start("shell", "-c", script, "vm.qcow2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_a_verified_image_is_known_to_be(program: Program, tmp_path: Path) -> None:
    sample = samples.unpack_one(tmp_path, "ext4-0.3.23")
    program.run("add", sample.path, "--name", "root")
    out = tmp_path / "out.raw"
    out.write_bytes(b"here before")
    run(program, "root", f"export {out}", code=2)
    assert out.read_bytes() == b"here before"
    run(program, "root", f"export --force {out}")
    assert hashlib.sha256(out.read_bytes()).hexdigest() == sample.volume_sha256
