"""Running a property with hypothesis inside a generated test. Imports hypothesis, so only fuzz tests import this."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

from perago.testing.failures import CaseFailed
from pytest_perago.settings import FuzzSettings


def fuzz(name: str, strategy: SearchStrategy[Any], check: Callable[[Any], None], how: FuzzSettings) -> None:
    """Check examples of the strategy; what fails is made as small as hypothesis can.

    `name` tells this property from all others.

    Raises:
        CaseFailed: as raised by `check`; its rerun line has the seed.
    """

    def prop(example: Any) -> None:
        check(example)

    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    prop.__name__ = prop.__qualname__ = f"fuzz_{digest}"  # hypothesis's database knows properties by name and source
    configured: Any = settings(
        max_examples=how.examples,
        deadline=None,
        suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
    )
    test: Any = configured(given(strategy)(prop))
    number = how.forced_seed
    if number is None and not configured.derandomize:
        number = str(random.SystemRandom().getrandbits(32))
    if number is not None:
        test = seed(int(number) if number.isdecimal() else number)(test)
    try:
        test()
    except CaseFailed as failure:
        if number is not None and how.takes_seed:
            failure.rerun_options = (f"--hypothesis-seed={number}",)
        raise
