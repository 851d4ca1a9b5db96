"""Whole workflows with forks, loops and sub-workflows, several workers, deaths, lost answers, other people, operators:
no seed breaks a promise of docs/protocol.md. `python -m tests.simulation --seed N` shows what happens in a world."""

from __future__ import annotations

import pytest

from .plots import draw
from .trying import made_small, play

WORLDS = 10_000
BLOCK = 50


@pytest.mark.sampled(every=100)
@pytest.mark.parametrize("first", range(0, WORLDS, BLOCK))
def test_no_world_breaks_a_promise(first: int) -> None:
    for seed in range(first, first + BLOCK):
        found = play(draw(seed))
        if found.broken:
            small = made_small(found)
            told = "\n".join((str(small.plot), *small.lines, *small.broken))
            pytest.fail(f"seed {seed}: {found.broken}\nmade smaller:\n{told}")


def test_a_seed_plays_the_same_world_each_time() -> None:
    for seed in (3, 102, 1038):
        assert play(draw(seed)).lines == play(draw(seed)).lines
