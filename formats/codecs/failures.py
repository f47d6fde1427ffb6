"""Pages that could not be decoded just now: whoever asks again is told so, without another attempt.

An attempt decodes all that lies between a seek point and the page, and programs read again what
fails. It is remembered for seconds only, since a file that was changed meanwhile, or a device
that fails now and then, may give it later. Errors of the operating system are not remembered.
"""

from __future__ import annotations

import collections
import copy
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..errors import FormatError

SECONDS = 5.0
"""How long an attempt is not repeated."""

_MOST = 64
"""Places that are remembered of a stream."""


class _Failure(NamedTuple):
    """Pages ``[first, stop)`` that could not be decoded, and until when that is remembered."""

    first: int
    stop: int
    until: float
    error: FormatError


class Failures:
    """The pages of one stream that could not be decoded. For any number of threads."""

    def __init__(self) -> None:
        self._found: collections.deque[_Failure] = collections.deque(maxlen=_MOST)

    def note(self, first: int, stop: int, error: FormatError) -> None:
        """Remember that pages ``[first, stop)`` could not be decoded."""
        # A copy has no traceback, which would hold all that was being decoded.
        self._found.append(_Failure(first, stop, time.monotonic() + SECONDS, copy.copy(error)))

    def raise_again(self, page: int) -> None:
        """Do nothing, unless the page could not be decoded a few seconds ago.

        Raises:
            FormatError: what was wrong then.
        """
        for each in tuple(self._found):
            if each.first <= page < each.stop and time.monotonic() < each.until:
                raise copy.copy(each.error)
