"""What looks at the plain bytes of a compressed image while they are decoded for its seek points.

So that one pass gives all that there is to know, also where every byte has to be seen.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, NamedTuple

from ..errors import FormatError
from ..ntfsclone import layout as ntfsclone_layout
from ..ntfsclone import reader as ntfsclone
from ..ntfsclone import verify as ntfsclone_verify
from ..partclone import layout as partclone_layout
from ..partclone import verify as partclone_verify
from ..partimage import layout as partimage_layout
from ..partimage import verify as partimage_verify
from ..sources.forward import ForwardSource
from ..sources.live_stream import Flow, FlowFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reader import Scan


class Passed(NamedTuple):
    """What was found in passing.

    Attributes:
        scan: the scan of a format of which every byte must be seen, else None.
        is_right: every checksum was looked at, and nothing is wrong.
    """

    scan: Scan | None = None
    is_right: bool = False


def _scan_ntfsclone(flow: Flow) -> Passed:
    return Passed(ntfsclone.scan(flow))


def _check_ntfsclone(flow: Flow) -> Passed:
    return Passed(*ntfsclone_verify.scan_flow(flow))


def _check_partclone(flow: Flow) -> Passed:
    return Passed(is_right=partclone_verify.is_right(ForwardSource(FlowFile(flow))))


def _check_partimage(flow: Flow) -> Passed:
    return Passed(is_right=partimage_verify.is_right(FlowFile(flow)))


_SCANS: dict[bytes, Callable[[Flow], Passed]] = {ntfsclone_layout.MAGIC: _scan_ntfsclone}

_CHECKS: dict[bytes, Callable[[Flow], Passed]] = {
    ntfsclone_layout.MAGIC: _check_ntfsclone,
    partclone_layout.MAGIC: _check_partclone,
    partimage_layout.MAGIC: _check_partimage,
}

_LONGEST_MAGIC = max(map(len, _CHECKS))


class Passing:
    """Hands a stream to whom its beginning calls for, in another thread. A `scanning.Taker`.

    Args:
        verify: whether checksums are to be looked at.
    """

    def __init__(self, *, verify: bool = False) -> None:
        self._looks = _CHECKS if verify else _SCANS
        self._head = b""
        self._is_decided = False
        self._flow: Flow | None = None
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="passing")
        self._passed: concurrent.futures.Future[Passed] | None = None

    def take(self, piece: bytes) -> None:
        """Look at the next plain bytes."""
        if self._flow is not None:
            self._flow.take(piece)
        elif not self._is_decided:
            self._head += piece
            if len(self._head) >= _LONGEST_MAGIC:
                self._decide()

    def finish(self) -> Passed:
        """Tell that nothing more comes, and return what was found.

        Nothing is, where something is wrong: who looks again, and can look backwards, tells what.
        """
        with self._executor:
            if self._flow is None or self._passed is None:
                return Passed()
            self._flow.end()
            return self._passed.result()

    def _decide(self) -> None:
        self._is_decided = True
        for magic, look in self._looks.items():
            if self._head.startswith(magic):
                self._flow = Flow()
                self._passed = self._executor.submit(_look, look, self._flow)
                self._flow.take(self._head)
        self._head = b""


def _look(look: Callable[[Flow], Passed], flow: Flow) -> Passed:
    try:
        return look(flow)
    except FormatError:
        return Passed()
    finally:
        flow.leave()
