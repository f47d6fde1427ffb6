"""Which format a source is, and what is said of one that is not read."""

from __future__ import annotations

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import NotThisFormatError, UnsupportedFeatureError
from support.memory_source import Call, CountingSource, MemorySource
from support.partclone_writer import Recipe, write


def test_sniff_knows_partclone_by_sixty_four_bytes() -> None:
    source = CountingSource(MemorySource(write(Recipe(present=[True] * 9)).image))
    assert registry.sniff(source) is registry.PARTCLONE
    assert source.calls == [Call("read_at", 0, 64)]


@pytest.mark.parametrize("data", [b"", b"partclone-imag", b"x" * 100, b"\0" * 5])
def test_sniff_of_something_else(data: bytes) -> None:
    assert registry.begun_by(data) is None
    with pytest.raises(NotThisFormatError):
        registry.sniff(MemorySource(data))


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("4c5a4950", "lzip: unpack it with lzip -d"),
        ("4c525a49", "lrzip: unpack it with lrunzip"),
        ("894c5a4f000d0a1a0a", "lzop: unpack it with lzop -d"),
    ],
)
@pytest.mark.parametrize("rest", [0, 100])
def test_what_is_known_but_not_read_is_named(head: str, what: str, rest: int) -> None:
    data = bytes.fromhex(head) + bytes(rest)
    with pytest.raises(UnsupportedFeatureError) as caught:
        registry.scan(MemorySource(data))
    assert str(caught.value) == f"image @0x0: {what}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "image @0x0: the file is empty"),
        (b"\0", "image @0x0: no disk image of a known format (it begins with 00)"),
        (
            b"hello, this is a text",
            (
                "image @0x0: no disk image of a known format "
                "(it begins with 68 65 6c 6c 6f 2c 20 74 68 69 73 20 69 73 20 61)"
            ),
        ),
    ],
)
def test_what_is_not_an_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(NotThisFormatError) as caught:
        registry.scan(MemorySource(data))
    assert str(caught.value) == message


def test_formats_by_name() -> None:
    assert registry.named("partclone") is registry.PARTCLONE
    for each in registry.FORMATS:
        assert registry.named(each.name) is each
    with pytest.raises(UnsupportedFeatureError) as caught:
        registry.named("vmdk")
    assert str(caught.value) == "image @0x0: format 'vmdk' is not known"
