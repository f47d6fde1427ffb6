"""What looks at the plain bytes of a compressed image while they are decoded for its seek points.

So that one pass gives all that there is to know, also where every byte has to be seen.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING

from .. import registry
from ..errors import FormatError
from ..format import Passed
from ..sources.live_stream import LiveStream

if TYPE_CHECKING:
    from ..format import Format


class Passing:
    """Hands a stream to the format that it begins like, in another thread. A `scan.Taker`.

    Args:
        digest: what tells the stored streams from others; see `fingerprint.digest_of`.
        verify: whether checksums are to be looked at.
    """

    def __init__(self, digest: bytes, *, verify: bool = False) -> None:
        self._digest = digest
        self._verify = verify
        self._head = b""
        self._is_decided = False
        self._live: LiveStream | None = None
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="passing")
        self._passed: concurrent.futures.Future[Passed] | None = None

    def take(self, piece: bytes) -> None:
        """Look at the next plain bytes."""
        if self._live is not None:
            self._live.take(piece)
        elif not self._is_decided:
            self._head += piece
            if len(self._head) >= registry.PROBE_SIZE:
                self._decide()

    def finish(self) -> Passed:
        """Tell that nothing more comes, and return what was found.

        Nothing is, where something is wrong: who looks again, and can look backwards, tells what.
        """
        with self._executor:
            if self._live is None or self._passed is None:
                return Passed()
            self._live.end()
            return self._passed.result()

    def _decide(self) -> None:
        self._is_decided = True
        found = registry.begun_by(self._head)
        if found is not None and found.look_in_passing is not None:
            self._live = LiveStream(self._digest)
            self._passed = self._executor.submit(_look, found, self._live, self._verify)
            self._live.take(self._head)
        self._head = b""


def _look(format_: Format, live: LiveStream, verify: bool) -> Passed:  # noqa: FBT001 - of `Format`
    assert format_.look_in_passing is not None
    try:
        return format_.look_in_passing(live, verify)
    except FormatError:
        return Passed()
    finally:
        live.leave()
