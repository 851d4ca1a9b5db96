"""Seeds, tried one after the other or in several processes."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .checking import violations
from .plots import Plot, draw
from .shrinking import shrunk
from .world import played


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a plot: the promises that were broken, and what happened."""

    plot: Plot
    broken: tuple[str, ...]
    lines: tuple[str, ...] = ()
    attempts: int = 0

    @property
    def kinds(self) -> set[str]:
        """The promises without the names of commits and attempts."""
        return {kind_of(words) for words in self.broken}


def kind_of(words: str) -> str:
    """A violation without what differs from world to world."""
    return re.sub(r"\{.*?\}|'[^']*'|n\d+\w*|[0-9a-f]{8,}|#?\d+", "_", words)[:60]


def play(plot: Plot) -> Found:
    """Play a plot and judge it."""
    with played(plot) as world:
        broken = tuple(violations(world))
        return Found(plot, broken, tuple(world.lines), len(world.attempts))


def made_small(found: Found) -> Found:
    """The same violation in a smaller world."""
    kinds = found.kinds
    return play(shrunk(found.plot, lambda plot: bool(play(plot).kinds & kinds)))


def broken_by(seed: int) -> tuple[int, int, tuple[str, ...]]:
    """The seed, how many attempts its world had, and what was broken."""
    found = play(draw(seed))
    return seed, found.attempts, found.broken


def try_all(seeds: Iterable[int], jobs: int) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """`broken_by` for each seed, in order."""
    if jobs == 1:
        yield from map(broken_by, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(broken_by, seeds, chunksize=25)
