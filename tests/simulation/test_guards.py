"""Each guard of the protocol is missed by one of the first thousand worlds. `python -m tests.simulation.guards --keep`
looks for these worlds, and is to be run again when worlds are drawn or judged in another way."""

from __future__ import annotations

import pytest

from .guards import MUTATIONS, found, is_missed
from .plots import draw
from .trying import play

FOUND = found()


def test_every_guard_is_missed_within_a_thousand_worlds() -> None:
    assert FOUND.keys() == MUTATIONS.keys()
    assert all(seed < 1000 for seed in FOUND.values())


@pytest.mark.parametrize("name", FOUND, ids=lambda name: name.replace(" ", "-"))
def test_this_world_breaks_a_promise_only_without_the_guard(name: str) -> None:
    assert play(draw(FOUND[name])).broken == ()
    assert is_missed(FOUND[name], name)
