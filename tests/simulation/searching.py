"""Seeds that are tried, one after the other or in several processes; and failing schedules that are made smaller.

A schedule gets fewer events, then fewer steps and edits, as long as it still breaks a promise.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .checking import violations
from .schedules import Node, Schedule, draw
from .world import simulated

Part = TypeVar("Part")
Breaks = Callable[[Schedule], bool]


def shrunk(schedule: Schedule, breaks: Breaks, most: int = 2_000) -> Schedule:
    """The smallest schedule that is found in so many tries."""
    tries = iter(range(most))
    while True:
        smaller = next(
            (candidate for candidate in _smaller(schedule) if next(tries, None) is not None and breaks(candidate)), None
        )
        if smaller is None:
            return schedule
        schedule = smaller


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """The schedules that are smaller by one cut, the largest cuts first."""
    for events in _fewer(schedule.events):
        yield replace(schedule, events=events)
    for afterwards in _fewer(schedule.afterwards):
        yield replace(schedule, afterwards=afterwards)
    for nodes in _fewer(schedule.nodes):
        if nodes:
            yield replace(schedule, nodes=nodes)
    for number, node in enumerate(schedule.nodes):
        for less in _smaller_nodes(node):
            yield replace(schedule, nodes=(*schedule.nodes[:number], less, *schedule.nodes[number + 1 :]))
    for tree in _fewer(schedule.tree):
        if tree:
            yield replace(schedule, tree=tree)
    if schedule.workflows > 1:
        yield replace(schedule, workflows=schedule.workflows - 1)
    if schedule.cached:
        yield replace(schedule, cached=False)
    if schedule.shared_root:
        yield replace(schedule, shared_root=False)
    if schedule.workers > 1:
        yield replace(schedule, workers=schedule.workers - 1)
    if schedule.fence == "missing":
        yield replace(schedule, fence="there")
    if not schedule.tried:
        yield replace(schedule, tried=True)
    for number, event in enumerate(schedule.events):
        if event.number > 1:
            sooner = replace(event, number=event.number // 2)
            yield replace(schedule, events=(*schedule.events[:number], sooner, *schedule.events[number + 1 :]))


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
class Outcome:
    """What came of a schedule: the promises that were broken, and what happened."""

    schedule: Schedule
    broken: tuple[str, ...]
    lines: tuple[str, ...] = ()
    attempts: int = 0

    @property
    def kinds(self) -> set[str]:
        """The promises without the names of commits and attempts."""
        return {kind_of(violation) for violation in self.broken}


def kind_of(violation: str) -> str:
    """A violation without what differs from world to world."""
    return re.sub(r"\{.*?\}|'[^']*'|n\d+\w*|[0-9a-f]{8,}|#?\d+", "_", violation)[:60]


def simulate(schedule: Schedule) -> Outcome:
    """Play a schedule and judge it."""
    with simulated(schedule) as world:
        broken = tuple(violations(world))
        return Outcome(schedule, broken, tuple(world.lines), len(world.attempts))


def made_small(outcome: Outcome) -> Outcome:
    """The same violation in a smaller world."""
    kinds = outcome.kinds
    return simulate(shrunk(outcome.schedule, lambda schedule: bool(simulate(schedule).kinds & kinds)))


def broken_by(seed: int) -> tuple[int, int, tuple[str, ...]]:
    """The seed, how many attempts its world had, and what was broken."""
    outcome = simulate(draw(seed))
    return seed, outcome.attempts, outcome.broken


def try_all(seeds: Iterable[int], jobs: int) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """`broken_by` for each seed, in order."""
    if jobs == 1:
        yield from map(broken_by, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(broken_by, seeds, chunksize=25)
