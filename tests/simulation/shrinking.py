"""Making a plot that breaks a promise smaller, as long as it still does: fewer events, then fewer steps and edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from .plots import Node, Plot

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
