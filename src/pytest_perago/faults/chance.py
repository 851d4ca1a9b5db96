"""Random numbers that are the same each time: of `random`, `secrets`, `uuid`, `os.urandom` and NumPy."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytest_perago.faults.patching import patched


@contextmanager
def seeded(seed: int, note: Callable[[], object]) -> Iterator[None]:
    """Code that asks for chance gets what follows from `seed`, and that is noted. What asks in C by itself is not
    reached."""
    source = random.Random(seed)  # noqa: S311 - tests want what can be foretold

    def bytes_of(number: int) -> bytes:
        note()
        return source.randbytes(number)

    state = random.getstate()
    arrays = getattr(sys.modules.get("numpy"), "random", None) if "numpy.random" in sys.modules else None
    array_state = arrays.get_state() if arrays is not None else None
    generator = _generator(random.Random, bytes_of)
    random.seed(seed)
    untouched = random.getstate()
    if arrays is not None:
        arrays.seed(seed)
        note()  # its state is long, so it is not compared
    try:
        with patched(os, urandom=bytes_of), patched(random, _urandom=bytes_of, Random=generator):
            yield
    finally:
        if random.getstate() != untouched:
            note()
        random.setstate(state)
        if arrays is not None:
            arrays.set_state(array_state)


def _generator(real: Any, bytes_of: Callable[[int], bytes]) -> type:
    """`random.Random`, with a seed also where none is given."""

    def seed(self: Any, a: Any = None, *rest: Any) -> None:
        real.seed(self, bytes_of(8) if a is None else a, *rest)

    return type(real.__name__, (real,), {"seed": seed})
