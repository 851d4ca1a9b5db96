"""What happens in a world, as data: the workflow, what each of its steps changes, and every trouble; drawn from a seed.

All of it is plain and frozen, so that it can be printed, played again, and made smaller.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from .editing import TASKS, Edit

Kind = Literal["step", "fork", "loop", "sub"]
PATHS = ("a", "b", "c", "d/x", "d/y", "d/z", "e", "_m", "A", "d")
TEXTS = ("", "", "1", "2", "33")
"""Twice the empty text: lakeFS's merge loses files that look like their neighbours."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step: how it meets a moved head, and what it changes. `quiet`: when it changes nothing."""

    mode: str
    edits: tuple[Edit, ...]
    quiet: Literal["never", "again", "first"] = "never"

    def __str__(self) -> str:
        quiet = "" if self.quiet == "never" else f", quiet {self.quiet}"
        return f"{self.mode}({', '.join(map(str, self.edits))}{quiet})"


@dataclass(frozen=True, slots=True)
class Node:
    """Steps one after the other, or the branches of a fork; in a loop they run `ROUNDS` times."""

    kind: Kind
    branches: tuple[tuple[Step, ...], ...]

    def __str__(self) -> str:
        inner = " | ".join(" -> ".join(map(str, branch)) for branch in self.branches)
        return inner if self.kind == "step" else f"{self.kind}[{inner}]"


ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Event:
    """One trouble: `deed` happens at the `nth` call of `operation` that attempt number `attempt` makes."""

    attempt: int
    operation: str
    nth: int
    moment: Literal["before", "after"]
    deed: str
    number: int = 0

    def __str__(self) -> str:
        return f"attempt {self.attempt}, {self.moment} {self.operation} {self.nth}: {self.deed} {self.number}"


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything that a world is made of."""

    seed: int
    tree: tuple[Edit, ...]
    nodes: tuple[Node, ...]
    events: tuple[Event, ...] = ()
    afterwards: tuple[tuple[str, int], ...] = ()
    """What an operator does whenever the workflow is over."""
    fence: Literal["there", "missing", "off"] = "there"
    workers: int = 2
    tried: bool = field(default=True)
    """Whether the server is known to obey the publish fence."""

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: fence {self.fence}, {self.workers} workers{'' if self.tried else ', server untried'}",
            f"  tree: {', '.join(map(str, self.tree))}",
            *(f"  {node}" for node in self.nodes),
            *(f"  {event}" for event in self.events),
            *(f"  afterwards: {deed} {number}" for deed, number in self.afterwards),
        ]
        return "\n".join(lines)


# ---------------------------------------------------------------------------------------- drawing

_STAGING = ("create_branch", "delete_objects", "upload", "commit", "diff", "revert", "checksum")
_WEIGHTS = {
    "merge": 14,
    "history": 6,
    "is_current": 8,
    "report": 4,
    "get_commit": 4,
    "read_attempt": 2,
    "download": 3,
    "list_branches": 2,
    "delete_branch": 2,
    "function": 3,
    "carry": 3,
    **dict.fromkeys(_STAGING, 2),
}
_OPERATIONS = list(_WEIGHTS)
_DEEDS = {
    "park": 10,
    "pause": 3,
    "kill": 4,
    "lost": 4,
    "unavailable": 2,
    "refused": 1,
    "held": 2,
    "outside": 6,
    "hang_up": 2,
    "empty": 1,
    "revert": 1,
    "redeliver": 2,
    "terminate": 1,
    "rerun": 3,
    "restart": 1,
    "retry": 1,
    "stray": 1,
    "fail": 1,
}
_WRITES = ("create_branch", "upload", "delete_objects", "commit", "revert", "merge", "report", "delete_branch")


def draw(seed: int) -> Plot:
    """The world of a seed."""
    dice = random.Random(seed)
    calm = dice.random()
    return Plot(
        seed,
        tree=tuple(_start(dice)),
        nodes=tuple(_nodes(dice)),
        events=(*(_event(dice) for _ in range(dice.choice((0, 1, 2, 3, 4, 5, 6, 8)))), *_silence(dice)),
        afterwards=tuple(_afterwards(dice)),
        fence="off" if calm < 0.12 else "missing" if calm < 0.25 else "there",
        workers=dice.choice((1, 2, 2, 3)),
        tried=dice.random() < 0.8,
    )


def _start(dice: random.Random) -> Iterator[Edit]:
    for path in sorted(dice.sample(["a", "b", "c", "d/x", "d/y", "e", "z"], dice.randint(2, 6))):
        yield Edit("put", path, dice.choice(TEXTS))


def _nodes(dice: random.Random) -> Iterator[Node]:
    nodes = tuple(_any_nodes(dice))
    has_part = any(step.mode == "part" for node in nodes for branch in node.branches for step in branch)
    for node in nodes:  # a task with a prefix sees nothing of a file that has the prefix's name
        yield _without_file(node, "d") if has_part else node


def _without_file(node: Node, path: str) -> Node:
    def kept(step: Step) -> Step:
        return replace(step, edits=tuple(edit for edit in step.edits if edit.path != path))

    return replace(node, branches=tuple(tuple(map(kept, branch)) for branch in node.branches))


def _any_nodes(dice: random.Random) -> Iterator[Node]:
    left = dice.choice((1, 1, 2, 2, 3, 4, 5))
    habit = dice.choice(("fail", "rebase", "rebase", "mixed"))
    while left > 0:
        kind: Kind = dice.choice(("step", "step", "fork", "fork", "loop", "sub"))
        if kind == "fork":
            width = dice.choice((2, 2, 3))
            branches = tuple(_steps(dice, habit, 1 if dice.random() < 0.8 else 2) for _ in range(width))
        else:
            branches = (_steps(dice, habit, 1 if kind == "step" or dice.random() < 0.6 else 2),)
        left -= sum(map(len, branches))
        yield Node(kind, branches)


def _steps(dice: random.Random, habit: str, count: int) -> tuple[Step, ...]:
    return tuple(_step(dice, habit) for _ in range(count))


def _step(dice: random.Random, habit: str) -> Step:
    mode = habit if habit == "fail" or dice.random() < 0.6 else dice.choice(list(TASKS))
    mode = "rebase" if mode == "mixed" else mode
    edits = tuple(_edit(dice, mode) for _ in range(dice.choice((0, 1, 1, 1, 2, 2, 3))))
    return Step(mode, edits, dice.choice(("never", "never", "never", "never", "again", "first")))


def _edit(dice: random.Random, mode: str) -> Edit:
    paths = ("x", "y", "z", "w") if mode == "part" else PATHS
    path = dice.choice(paths) if dice.random() < 0.7 else f"n{dice.randint(0, 9)}"
    return Edit(dice.choice(("put", "put", "stamp", "drop")), path, dice.choice(TEXTS))


def _event(dice: random.Random) -> Event:
    operation = dice.choices(_OPERATIONS, list(_WEIGHTS.values()))[0]
    deed = dice.choices(list(_DEEDS), list(_DEEDS.values()))[0]
    moment: Literal["before", "after"] = dice.choice(("before", "after"))
    if operation == "function":
        moment = "before"
    if deed == "held":
        operation, moment = "merge", "before"
    if deed == "fail":
        operation, moment = "function", "before"
    if deed == "refused":
        moment = "before"  # a service that says no has not done it
    if deed == "lost" and operation not in _WRITES:
        deed = "unavailable"
    return Event(
        dice.choice((0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5)),
        operation,
        dice.choice((1, 1, 1, 2, 2, 3, 4)),
        moment,
        deed,
        dice.choice((1, 2, 3, 5, 8, 13, 21, 34)),
    )


def _silence(dice: random.Random) -> Iterator[Event]:
    """Now and then no merge of an attempt gets an answer."""
    attempt = dice.choice((0, 1, 2))
    if dice.random() < 0.05:
        deed = dice.choice(("lost", "held"))
        yield from (Event(attempt, "merge", nth, "before", deed, dice.choice((5, 21))) for nth in (1, 2, 3))


def _afterwards(dice: random.Random) -> Iterator[tuple[str, int]]:
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        yield dice.choice(("rerun", "rerun", "restart", "retry", "outside", "revert")), dice.randint(0, 9)
