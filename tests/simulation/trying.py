"""Seeds that are tried, one after the other or in several processes; and failing plots that are made smaller.

A plot gets fewer events, then fewer steps and edits, as long as it still breaks a promise.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .checking import violations
from .plots import Node, Plot, draw
from .world import played

Part = TypeVar("Part")
Breaks = Callable[[Plot], bool]


def shrunk(plot: Plot, breaks: Breaks, most: int = 2_000) -> Plot:
    """The smallest plot that is found in so many tries."""
    tries = iter(range(most))
    while True:
        smaller = next((each for each in _smaller(plot) if next(tries, None) is not None and breaks(each)), None)
        if smaller is None:
            return plot
        plot = smaller


def _smaller(plot: Plot) -> Iterator[Plot]:
    """The plots that are smaller by one cut, the largest cuts first."""
    for events in _fewer(plot.events):
        yield replace(plot, events=events)
    for afterwards in _fewer(plot.afterwards):
        yield replace(plot, afterwards=afterwards)
    for nodes in _fewer(plot.nodes):
        if nodes:
            yield replace(plot, nodes=nodes)
    for number, node in enumerate(plot.nodes):
        for less in _smaller_nodes(node):
            yield replace(plot, nodes=(*plot.nodes[:number], less, *plot.nodes[number + 1 :]))
    for tree in _fewer(plot.tree):
        if tree:
            yield replace(plot, tree=tree)
    if plot.workflows > 1:
        yield replace(plot, workflows=plot.workflows - 1)
    if plot.cached:
        yield replace(plot, cached=False)
    if plot.shared_root:
        yield replace(plot, shared_root=False)
    if plot.workers > 1:
        yield replace(plot, workers=plot.workers - 1)
    if plot.fence == "missing":
        yield replace(plot, fence="there")
    if not plot.tried:
        yield replace(plot, tried=True)
    for number, event in enumerate(plot.events):
        if event.number > 1:
            sooner = replace(event, number=event.number // 2)
            yield replace(plot, events=(*plot.events[:number], sooner, *plot.events[number + 1 :]))


def _smaller_nodes(node: Node) -> Iterator[Node]:
    if node.kind != "step" and len(node.branches) == 1:
        yield replace(node, kind="step")
    if node.kind in ("nest", "dynamic", "rounds", "subs"):
        yield replace(node, kind="fork")
    if node.kind == "subloop":
        yield replace(node, kind="sub")
    for branches in _fewer(node.branches):
        if branches:
            yield replace(node, branches=branches)
    for number, branch in enumerate(node.branches):
        around = (node.branches[:number], node.branches[number + 1 :])
        for steps in _fewer(branch):
            if steps:
                yield replace(node, branches=(*around[0], steps, *around[1]))
        for index, step in enumerate(branch):
            quieter = [replace(step, edits=edits) for edits in _fewer(step.edits)]
            quieter += [replace(step, quiet="never")] if step.quiet != "never" else []
            for less in quieter:
                yield replace(node, branches=(*around[0], (*branch[:index], less, *branch[index + 1 :]), *around[1]))


def _fewer(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """Without a half of them, a quarter, ... and each one."""
    size = len(parts)
    while size:
        for start in range(0, len(parts), size):
            yield (*parts[:start], *parts[start + size :])
        size //= 2


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
