"""Wait for a condition with a limit, as all tests of this suite do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT = 30.0
"""Seconds. The limit is generous, because a busy build machine is slow. Other errors fail long before."""

T = TypeVar("T")


def wait_for(
    what: str, condition: Callable[[], T | None], *, limit: float = LIMIT, context: Callable[[], str] = str
) -> T:
    """Return the first true value of `condition`.

    Raises:
        AssertionError: there was none within `limit` seconds. The message ends with `context`.
    """
    deadline = time.monotonic() + limit
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit:g} s in vain for {what}\n{context()}".rstrip())
        time.sleep(0.03)
