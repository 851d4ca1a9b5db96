"""What an attempt has moved and met, in numbers: counted in the slot, told to the supervisor when it is over."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from perago.authoring.metrics import Measured
from perago.driver.observer import Direction


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes and counts of one attempt."""

    objects: int = 0
    """Files of the workspace before the function."""
    from_cache: int = 0
    """How many of them were on this machine before."""
    downloaded: int = 0
    """Bytes that were put into the workspace, from lakeFS or the cache."""
    uploaded: int = 0
    """Bytes that were staged."""
    fence_refusals: int = 0
    """Merges that were refused because the head had moved."""
    repeats: Mapping[str, int] = field(default_factory=dict)
    """Calls of the slot that were repeated, by service."""
    metrics: tuple[Measured, ...] = ()
    """What the function has reported."""


NO_USAGE = Usage()


class TransferMeter:
    """Adds up the bytes of transfers, which tell how far each one is. One that begins anew tells a smaller number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[Direction, int] = {"download": 0, "upload": 0}
        self._total: dict[Direction, int] = {"download": 0, "upload": 0}

    def transferred(self, direction: Direction, size: int) -> None:
        """So many bytes of the present transfer are done."""
        with self._lock:
            before = self._last[direction]
            self._total[direction] += size - before if size >= before else size
            self._last[direction] = size

    def total(self, direction: Direction) -> int:
        """Bytes of all transfers."""
        with self._lock:
            return self._total[direction]
