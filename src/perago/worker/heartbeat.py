"""Keeping a delivery alive while its attempt runs, without keeping another one alive.

Conductor's lease extension never says that the task was lost, and a stale one keeps a dead successor's lease alive
(`docs/servers/conductor.md` 9). So a beat reads the task first and extends only what is still this delivery.

No answer is not a "no": beats continue, more often, and so does the attempt. Once Conductor must have given the
delivery up (its response time-out passed without a successful beat) the delivery is *in doubt*. That is said once and
changes nothing, since the attempt asks its own delivery question before every step that cannot be taken back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from perago.ports import Delivery, TaskQueue

MAX_INTERVAL = 60.0
MIN_PAUSE = 0.1
DOUBT_MARGIN = 1.1
"""A delivery is in doubt when its last successful beat is this many response time-outs ago."""


def beat_interval(response_timeout: float) -> float:
    """Seconds between beats: a third of the response time-out, at most `MAX_INTERVAL` (docs/design/contract.md 7)."""
    return max(MIN_PAUSE, min(response_timeout / 3, MAX_INTERVAL))


def beat(queue: TaskQueue, delivery: Delivery, wanted: Callable[[], bool]) -> bool:
    """Extend the lease of `delivery` if it is still ours, and say whether it is.

    `wanted` is asked last: an attempt that was given up in the meantime sends nothing more.

    Raises:
        ServiceError: neither yes nor no. Also `NotFound`: that a task is gone is for `is_current` to say.
    """
    if not queue.is_current(delivery):
        return False
    if wanted():
        queue.extend_lease(delivery)
    return True


async def keep_lease(delivery: Delivery, beat: Callable[[], Awaitable[bool]], doubt: Callable[[str], None]) -> None:
    """Beat until a beat says that the delivery is lost. `doubt` is told once per silence why none got through."""
    interval = beat_interval(delivery.response_timeout_seconds)
    silence_limit = delivery.response_timeout_seconds * DOUBT_MARGIN
    last_success = time.monotonic()
    doubtful = False
    pause = interval
    while True:
        await asyncio.sleep(pause)
        try:
            still_ours = await beat()
        except Exception as error:  # noqa: BLE001 - any error is no answer
            pause = max(MIN_PAUSE, interval / 4)
            if not doubtful and time.monotonic() - last_success > silence_limit:
                doubtful = True
                doubt(str(error))
            continue
        if not still_ours:
            return
        last_success, doubtful, pause = time.monotonic(), False, interval
