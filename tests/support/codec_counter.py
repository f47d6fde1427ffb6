"""Counting what a scan asks of the codecs: how often a stream is decoded, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgcat.formats.codecs import registry as codecs

if TYPE_CHECKING:
    import pytest


class CodecCounter:
    """Counts what is asked of the codecs from now on.

    Attributes:
        scans: streams that were decoded from their beginning to their end.
        decodes: decoders that were begun besides.
        decoded: plain bytes that came out of those.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scans = 0
        self.decodes = 0
        self.decoded = 0
        original = codecs.named

        def named(name: str) -> Any:
            inner, outer = original(name), self

            class Codec:
                NAME, LIBRARY = inner.NAME, inner.LIBRARY
                weight = staticmethod(inner.weight)

                def scan(self, *arguments: Any, **options: Any) -> Any:
                    outer.scans += 1
                    return inner.scan(*arguments, **options)

                def decode(self, *arguments: Any) -> Any:
                    outer.decodes += 1
                    for piece in inner.decode(*arguments):
                        outer.decoded += len(piece)
                        yield piece

            return Codec()

        monkeypatch.setattr(codecs, "named", named)
