"""The only way in which this suite waits: for a condition, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT = 30.0
"""Seconds; generous, because a busy build machine is slow. What is wrong fails by its own words long before."""

T = TypeVar("T")


def wait_for(
    what: str, condition: Callable[[], T | None], *, limit: float = LIMIT, context: Callable[[], str] = str
) -> T:
    """What `condition` returns once that is true.

    Raises:
        AssertionError: it was not within `limit` seconds; `context` says what was there instead.
    """
    deadline = time.monotonic() + limit
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit:g} s in vain for {what}\n{context()}".rstrip())
        time.sleep(0.03)
