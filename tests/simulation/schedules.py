"""What happens in a world, as data: the workflow, what each of its steps changes, and every trouble; drawn from a seed.

All of it is plain and frozen, so that it can be printed, simulated again, and made smaller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from .editing import Edit

Fence = Literal["there", "missing", "off", "altered"]
Kind = Literal["step", "fork", "loop", "sub", "nest", "dynamic", "rounds", "subs", "subloop", "switch", "aside"]
MODES = ("fail", "rebase", "reads", "ruled", "part")
Quiet = Literal["never", "again", "first", "later"]
PATHS = ("a", "b", "c", "d/x", "d/y", "d/z", "e", "_m", "A", "d")
TEXTS = ("", "", "1", "2", "33")
"""Twice the empty text: lakeFS's merge loses files that look like their neighbours."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step: how it meets a moved head, and what it changes. `quiet`: when it changes nothing, `later` from its third
    run on."""

    mode: str
    edits: tuple[Edit, ...]
    quiet: Quiet = "never"

    def __str__(self) -> str:
        quiet = "" if self.quiet == "never" else f", quiet {self.quiet}"
        return f"{self.mode}({', '.join(map(str, self.edits))}{quiet})"


@dataclass(frozen=True, slots=True)
class Node:
    """Steps one after the other, or the branches of a fork; in a loop they run `ROUNDS` times. `nest`: the branches
    after the first one are an inner fork. `dynamic`: the fork is made while the workflow runs. `rounds`: a fork in a
    loop. `subs`: a fork of sub-workflows. `subloop`: a sub-workflow in a loop. `switch`: the workflow's mood chooses a
    branch, and with most moods none. `aside`: optional steps, whose commits the next node does not get."""

    kind: Kind
    branches: tuple[tuple[Step, ...], ...]

    def __str__(self) -> str:
        inner = " | ".join(" -> ".join(map(str, branch)) for branch in self.branches)
        return inner if self.kind == "step" else f"{self.kind}[{inner}]"


ROUNDS = 2
LOOPS: tuple[Kind, ...] = ("loop", "rounds", "subloop")
FORKS: tuple[Kind, ...] = ("fork", "nest", "dynamic", "rounds", "subs")


@dataclass(frozen=True, slots=True)
class Event:
    """One trouble: `action` happens at the `nth` call of `operation` that attempt number `attempt` makes."""

    attempt: int
    operation: str
    nth: int
    timing: Literal["before", "after"]
    action: str
    number: int = 0

    def __str__(self) -> str:
        return f"attempt {self.attempt}, {self.timing} {self.operation} {self.nth}: {self.action} {self.number}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that a world is made of."""

    seed: int
    tree: tuple[Edit, ...]
    nodes: tuple[Node, ...]
    events: tuple[Event, ...] = ()
    afterwards: tuple[tuple[str, int], ...] = ()
    """What an operator does whenever the workflow is over."""
    fence: Fence = "there"
    workers: int = 2
    workflows: int = 1
    """How many are started, all on one branch."""
    shared_root: bool = False
    """The attempts have one workspace root, as on one host."""
    forgetful: bool = False
    """The server loses a file where it has to take a tree as it is: a defect that lakeFS does not have."""
    cached: bool = False
    """The attempts share a cache of objects."""
    reruns_families: bool = False
    """An operator may run a workflow again from a task that starts a sub-workflow."""
    lazy: bool = False
    """Workers poll seldom and in any order, and attempts take turns at any call."""
    sends_ahead: bool = False
    """Attempts send requests ahead, as a slot does that has published before."""
    skew: float = 0.0
    """Seconds by which the node of Conductor that answers polls is ahead of the others."""
    tried: bool = field(default=True)
    """Whether the server is known to obey the publish fence."""

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: fence {self.fence}, {self.workers} workers, {self.workflows} workflows"
            + ", ".join(["", *(text for text, is_so in self._oddities if is_so)]),
            f"  tree: {', '.join(map(str, self.tree))}",
            *(f"  {node}" for node in self.nodes),
            *(f"  {event}" for event in self.events),
            *(f"  afterwards: {action} {number}" for action, number in self.afterwards),
        ]
        return "\n".join(lines)

    @property
    def _oddities(self) -> tuple[tuple[str, bool], ...]:
        return (
            ("server untried", not self.tried),
            ("one root", self.shared_root),
            ("one cache", self.cached),
            ("lazy", self.lazy),
            ("requests ahead", self.sends_ahead),
            (f"polls {self.skew:g} s ahead", bool(self.skew)),
            ("a forgetful server", self.forgetful),
        )


# ---------------------------------------------------------------------------------------- drawing

_STAGING = ("create_branch", "delete_objects", "upload", "commit", "diff", "revert", "stat_objects")
_WEIGHTS = {
    "merge": 14,
    "history": 6,
    "is_current": 8,
    "report": 4,
    "get_commit": 4,
    "read_workflow": 4,
    "download": 3,
    "list_branches": 2,
    "delete_branch": 2,
    "function": 3,
    "carry": 3,
    **dict.fromkeys(_STAGING, 2),
}
_OPERATIONS = list(_WEIGHTS)
_ACTIONS = {
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
    "stray": 2,
    "fail": 2,
    "sweep": 1,
    "alter": 1,
    "unfence": 1,
    "deploy": 1,
    "change": 1,
}
_WRITES = ("create_branch", "upload", "delete_objects", "commit", "revert", "merge", "report", "delete_branch")


def draw(seed: int) -> Schedule:
    """The world of a seed."""
    return replace(_drawn(seed), sends_ahead=random.Random(f"{seed} ahead").random() < 0.2)


def _drawn(seed: int) -> Schedule:
    dice = random.Random(f"{seed} theme")
    theme = dice.random()
    if theme < 0.015:
        return _crowded(_any(seed), dice)
    if theme < 0.03:
        return _begun_again(_any(seed), dice)
    if theme < 0.04:
        return _overtaken(_any(seed), dice)
    if theme > 0.88:
        return _recovered(_any(seed), dice)
    schedule = _written_again(_any(seed), dice) if theme < 0.045 else _any(seed)
    dice = random.Random(f"{seed} attack")
    return _attacked(schedule, dice) if dice.random() < 0.25 and not schedule.forgetful else schedule


Attack = Callable[[Schedule, random.Random], Schedule]


def _attacked(schedule: Schedule, dice: random.Random) -> Schedule:
    """Add what the second attack on the protocol tried to whatever else happens."""
    return dice.choices(list(_ATTACKS), list(_ATTACKS.values()))[0](schedule, dice)


def _attempt(dice: random.Random) -> int:
    return dice.choice((0, 0, 1, 1, 2, 3))


def _disturb_staging(schedule: Schedule, dice: random.Random) -> Schedule:
    """Another client resets a staging branch, or replaces what is staged."""
    action = dice.choice(("reset", "swap"))
    return _with(
        schedule, Event(_attempt(dice), "commit", dice.choice((1, 1, 2)), "before", action, dice.randint(1, 6))
    )


def _forge_metadata(schedule: Schedule, dice: random.Random) -> Schedule:
    """A person commits with metadata that look like perago's, and the attempt is tried again."""
    attempt, operation = _attempt(dice), dice.choice(("history", "merge", "report"))
    forged = Event(attempt, operation, 1, "before", "forge", dice.randint(0, 8))
    again = Event(attempt, "report", 1, "before", dice.choice(("kill", "rerun", "park")), 5)
    step = dice.choice((Step("rebase", (Edit("stamp", "n1"),)), Step("reads", (Edit("stamp", "n2"),))))
    return replace(_with(schedule, forged, again), nodes=(Node("step", ((step,),)), *schedule.nodes))


def _crowd_the_branch(schedule: Schedule, dice: random.Random) -> Schedule:
    """Up to fifty unrelated workflows publish to the branch of sub-workflows that are run again."""
    count, again = dice.choice((1, 5, 20, 50)), (dice.choice(("restart", "rerun")), dice.randint(0, 9))
    if dice.random() < 0.6:
        return _of_families(schedule, dice, (("traffic", count), again))
    crowded = _with(schedule, Event(_attempt(dice), "history", 1, "before", "traffic", count))
    return _of_families(crowded, dice, (again,))


def _hide_sub_workflows(schedule: Schedule, dice: random.Random) -> Schedule:
    """Sub-workflows are run again, and Conductor does not name them for a while."""
    hidden = Event(_attempt(dice), "read_workflow", 1, "before", "starting", dice.choice((5, 20, 100)))
    again = Event(dice.randint(0, 4), dice.choice(("history", "function", "report")), 1, "before", "retry", 1)
    after = (dice.choice(("restart", "rerun", "rerun", "retry")), dice.choice((1, 1, 2, 3)))
    events = (hidden, again) if dice.random() < 0.5 else (hidden,)
    return _of_families(_with(replace(schedule, events=schedule.events[:2]), *events), dice, (after,))


def _of_families(schedule: Schedule, dice: random.Random, after: tuple[tuple[str, int], ...]) -> Schedule:
    """Sub-workflows, sometimes next to a loop, and then whatever the schedule had first."""
    loop = (Node("loop", ((Step("rebase", (Edit("stamp", "n3"),)),),)),) if dice.random() < 0.3 else ()
    nodes = (_family(dice), *loop, *schedule.nodes[:1])
    return replace(schedule, nodes=nodes, afterwards=(*after, *schedule.afterwards), reruns_families=True)


def _family(dice: random.Random) -> Node:
    """Sub-workflows, seldom 200 of them."""
    kind: Kind = dice.choice(("sub", "subs", "subs", "subloop"))
    count = dice.choice((2, 3, 3, 4, 5, 25 if dice.random() < 0.3 else 3)) if kind == "subs" else 1
    count = 200 if kind == "subs" and dice.random() < 0.005 else count
    quiet: Literal["never", "again"] = dice.choice(("never", "again"))
    length = dice.choice((1, 2)) if count < 25 else 1

    def steps(number: int) -> tuple[Step, ...]:
        return tuple(Step("rebase", (Edit("stamp", f"s{number}_{nth}"),), quiet) for nth in range(length))

    return Node(kind, tuple(map(steps, range(count))))


def _wipe_the_workspace(schedule: Schedule, dice: random.Random) -> Schedule:
    return _with(schedule, Event(_attempt(dice), "function", 1, "before", "wipe"))


def _fill_the_disk(schedule: Schedule, dice: random.Random) -> Schedule:
    return _with(schedule, Event(_attempt(dice), "download", 1, dice.choice(("before", "after")), "full"))


def _damage_the_cache(schedule: Schedule, dice: random.Random) -> Schedule:
    damage = Event(dice.choice((1, 1, 2, 3)), "download", 1, "before", "damage")
    return replace(_with(schedule, damage), cached=True)


def _send_twice(schedule: Schedule, dice: random.Random) -> Schedule:
    return _with(schedule, Event(_attempt(dice), "create_branch", 1, "before", "doubled"))


def _remove_what_is_read(schedule: Schedule, dice: random.Random) -> Schedule:
    """Both branches of a fork remove a file that one of them reads, and the other one publishes first."""
    branches = tuple((Step(mode, (Edit("drop", "a"), Edit("stamp", f"n_{mode}"))),) for mode in ("reads", "rebase"))
    tree = (Edit("put", "a", "1"), Edit("put", "z", "2"))
    parked = (Event(0, "history", 1, "before", "park", 8), Event(1, "is_current", 1, "before", "park", 100))
    nodes = (Node("fork", branches), *schedule.nodes[:1])
    return replace(schedule, tree=tree, nodes=nodes, events=(*parked, *schedule.events[:1]), workers=2)


def _rerun_in_a_restarted_fork(schedule: Schedule, dice: random.Random) -> Schedule:
    """An operator restarts a workflow with a fork, and then runs a branch of it again."""
    steps = [(Step("rebase", (Edit("stamp", path),)),) for path in dice.sample(["a", "b", "c", "e", "n1"], 3)]
    fork = Node(dice.choice(("fork", "dynamic")), tuple(steps[: dice.choice((2, 2, 3))]))
    after = (("restart", 0), ("rerun", dice.randint(0, 5)), *schedule.afterwards)
    people = ((dice.choice(("revert", "outside")), 0),) if dice.random() < 0.2 else ()
    return replace(
        schedule, nodes=(fork, *schedule.nodes[1:2]), events=schedule.events[:1], afterwards=(*people, *after)
    )


_ATTACKS: dict[Attack, int] = {
    _disturb_staging: 2,
    _forge_metadata: 2,
    _crowd_the_branch: 1,
    _hide_sub_workflows: 3,
    _wipe_the_workspace: 1,
    _fill_the_disk: 1,
    _damage_the_cache: 1,
    _send_twice: 1,
    _remove_what_is_read: 1,
    _rerun_in_a_restarted_fork: 1,
}
"""With the weight of each."""


def _with(schedule: Schedule, *events: Event) -> Schedule:
    return replace(schedule, events=(*schedule.events, *events))


def _crowded(schedule: Schedule, dice: random.Random) -> Schedule:
    """The branches of a fork fill a directory together of which a guardrail allows each a part."""
    paths = dice.sample(["d/u", "d/v", "d/w", "d/x", "d/y", "d/z"], 5)
    branches = [(Step("ruled", (Edit("put", path, dice.choice(TEXTS)),)),) for path in paths[2:]]
    tree = [Edit("put", path, "1") for path in (*paths[:2], "z")]
    return replace(schedule, tree=tuple(tree), nodes=(Node("fork", tuple(branches[: dice.choice((2, 3))])),))


def _begun_again(schedule: Schedule, dice: random.Random) -> Schedule:
    """Both attempts of a fork die, the first one after it has published. Its retry takes that over. The other branch
    is run again, and Conductor begins the first attempt again as well."""
    branches = [(Step("rebase", (Edit("stamp", path),)),) for path in dice.sample(["a", "b", "c", "e", "d/x"], 2)]
    events = (Event(0, "report", 1, "before", "kill"), Event(1, "function", 1, "before", "kill"))
    again = dice.choice((2, 3, 3))
    return replace(
        schedule,
        nodes=(Node("fork", tuple(branches)),),
        events=(*events, *schedule.events[:1]),
        afterwards=(("rerun", again),),
    )


def _overtaken(schedule: Schedule, dice: random.Random) -> Schedule:
    """Without the publish fence, a merge lands on a foreign commit."""
    step = Step(dice.choice(("fail", "rebase")), (Edit("stamp", "b"),))
    overtakes = Event(0, "merge", 1, "before", "outside", dice.randint(0, 5))
    return replace(schedule, fence="off", nodes=(Node("step", ((step,),)), *schedule.nodes), events=(overtakes,))


def _written_again(schedule: Schedule, dice: random.Random) -> Schedule:
    """People revert a publication, and write its file again; then the step is run again."""
    step = Step("rebase", (Edit("put", "n1", "1"), Edit("stamp", dice.choice(("b", "e")))), quiet="again")
    people = (("revert", 0), ("outside", 4), ("rerun", 0))
    return replace(schedule, nodes=(Node("step", ((step,),)),), events=(), afterwards=people)


def _recovered(schedule: Schedule, dice: random.Random) -> Schedule:
    """An operator recovers a workflow, while attempts take turns at any call."""
    is_lazy, skew = dice.random() < 0.8, dice.choice((0.0, 0.0, 0.25, -0.25))
    few = replace(
        schedule, events=schedule.events[: dice.choice((0, 0, 0, 1))], tree=(Edit("put", "z", "1"),), fence="there"
    )
    calm = replace(few, workflows=1, workers=dice.choice((1, 2, 2, 3)), afterwards=(), lazy=is_lazy, skew=skew)
    return dice.choices(list(_RECOVERIES), list(_RECOVERIES.values()))[0](calm, dice)


def _stamped(path: str, mode: str = "rebase", quiet: Quiet = "never") -> Step:
    path = path.removeprefix("d/") if mode == "part" else path
    return Step(mode, (Edit("stamp", path),), quiet)


def _quietly(dice: random.Random) -> Quiet:
    return dice.choice(("never", "never", "again", "later"))


def _trouble(dice: random.Random, attempt: int) -> Event:
    """An attempt fails, or dies before or after it has published."""
    operation, action = dice.choice((("function", "fail"), ("function", "kill"), ("report", "kill"), ("merge", "kill")))
    return Event(attempt, operation, 1, "before", action)


def _operations(dice: random.Random, *more: str) -> tuple[tuple[str, int], ...]:
    actions = ("rerun", "rerun", "rerun-any", "restart", "retry", *more)
    return tuple((dice.choice(actions), dice.randint(0, 11)) for _ in range(dice.choice((1, 1, 2))))


def _after(dice: random.Random) -> tuple[Node, ...]:
    """Most workflows have a step behind."""
    last = Node("step", ((_stamped("last", dice.choice(("rebase", "reads")), _quietly(dice)),),))
    return (last,) if dice.random() < 0.7 else ()


def _recover_a_fork(schedule: Schedule, dice: random.Random) -> Schedule:
    """Branches fail once, or die. An operator runs a row of any of their attempts again, the retried ones too."""
    modes = dice.sample(("rebase", "reads", "part", "ruled"), dice.choice((2, 2, 3)))
    branches = tuple((_stamped(f"d/{mode}", mode, _quietly(dice)),) for mode in modes)
    first = (Node("step", ((_stamped("first", quiet=dice.choice(("never", "again"))),),)),)
    troubles = tuple(_trouble(dice, attempt) for attempt in range(4) if dice.random() < 0.5)
    nodes = (*(first if dice.random() < 0.4 else ()), Node("fork", branches), *_after(dice))
    return replace(schedule, nodes=nodes, events=(*troubles, *schedule.events), afterwards=_operations(dice))


def _recover_before_a_sub_workflow(schedule: Schedule, dice: random.Random) -> Schedule:
    """A step that may publish nothing comes before sub-workflows and later steps."""
    quiet: Quiet = dice.choice(("never", "again"))
    edits = dice.choice(((), (), (Edit("stamp", "first"),)))
    first = Node("step", ((Step("rebase", edits, quiet),),))
    family = _family(dice)
    nodes = (first, replace(family, branches=family.branches[:3]), *_after(dice))
    return replace(schedule, nodes=nodes, afterwards=(("rerun", 0), *_operations(dice, "child-rerun")))


def _recover_what_is_shared(schedule: Schedule, dice: random.Random) -> Schedule:
    """Two workflows write one key the same way, and one of them stops doing so when it is run again."""
    quiet: Quiet = dice.choice(("again", "later", "later"))
    step = Step("rebase", (Edit("put", "shared", "1"), Edit("stamp", "own")), quiet)
    again = (("restart", 0), ("restart", 0), ("rerun", 0))
    count = dice.choice((1, 2, 3))
    return replace(
        schedule,
        nodes=(Node("step", ((replace(step, edits=step.edits[:1]),),)),),
        workflows=2,
        afterwards=again[:count],
    )


def _report_late(schedule: Schedule, dice: random.Random) -> Schedule:
    """A report arrives after an operator has run the workflow again."""
    number, rows = dice.choice((0, 0, 1)), dice.randint(0, 5)
    late = Event(number, "report", 1, "before", dice.choice(("rerun", "rerun", "child-rerun", "retry")), rows)
    kind: Kind = dice.choice(("step", "fork", "sub", "subs"))
    modes = ("rebase", "reads")
    steps = [_stamped(f"s{number}", mode, _quietly(dice)) for number, mode in enumerate(modes)]
    nodes = (Node(kind, tuple((step,) for step in steps[: 2 if kind in FORKS else 1])), *_after(dice))
    troubles = (_trouble(dice, 1),) if dice.random() < 0.4 else ()
    return replace(
        schedule,
        nodes=nodes,
        events=(*troubles, late, *schedule.events),
        afterwards=_operations(dice)[: dice.choice((0, 1))],
    )


def _recover_children(schedule: Schedule, dice: random.Random) -> Schedule:
    """Sub-workflows fail and are recovered, by their parents and alone, also those that were replaced."""
    count = dice.choice((1, 2, 2, 3))
    more = (_stamped("more", "frail"),) if dice.random() < 0.3 else ()
    steps = [_stamped(f"s{number}", "frail", _quietly(dice)) for number in range(count)]
    branches = ((steps[0], *more), *((step,) for step in steps[1:]))
    first = (Node("step", ((_stamped("first"),),)),) if dice.random() < 0.3 else ()
    nodes = (*first, Node("subs" if count > 1 else "sub", branches), *_after(dice))
    troubles = tuple(_trouble(dice, attempt) for attempt in range(5) if dice.random() < 0.6)
    again = ("retry", dice.choice((0, 1, 1)))
    children = tuple(
        (dice.choice(("child-retry", "child-rerun", "child-restart")), dice.randint(0, 11))
        for _ in range(dice.choice((1, 2)))
    )
    return replace(
        schedule,
        nodes=nodes,
        events=(*troubles, *schedule.events),
        afterwards=(again, *children, *_operations(dice, "retry")[:1]),
    )


def _recover_a_switch(schedule: Schedule, dice: random.Random) -> Schedule:
    """A rerun takes another branch of a switch."""
    first = Node("step", ((Step("rebase", dice.choice(((), (Edit("stamp", "first"),)))),),))
    nodes = (first, Node("switch", ((_stamped("chosen", dice.choice(("rebase", "fail"))),),)), *_after(dice))
    return replace(schedule, nodes=nodes, afterwards=(("change", dice.choice((1, 2, 4))), *_operations(dice)[:1]))


def _recover_an_option(schedule: Schedule, dice: random.Random) -> Schedule:
    """An optional step fails, or dies after it has published. The workflow goes on."""
    option = Node("aside", ((_stamped("aside", dice.choice(("frail", "once", "rebase"))),),))
    last = Node("step", ((_stamped("last", dice.choice(("fail", "rebase"))),),))
    troubles = (_trouble(dice, 0),)
    return replace(
        schedule,
        nodes=(option, last),
        events=(*troubles, *schedule.events),
        afterwards=_operations(dice)[: dice.choice((0, 1))],
    )


_RECOVERIES: dict[Attack, int] = {
    _recover_a_fork: 5,
    _recover_before_a_sub_workflow: 2,
    _recover_what_is_shared: 1,
    _report_late: 3,
    _recover_children: 5,
    _recover_a_switch: 2,
    _recover_an_option: 1,
}
"""With the weight of each."""


def _any(seed: int) -> Schedule:
    dice = random.Random(seed)
    calm = dice.random()
    if calm > 0.99:
        return _with_a_forgetful_server(seed, dice)
    fence: Fence = "off" if calm < 0.12 else "missing" if calm < 0.25 else "altered" if calm < 0.26 else "there"
    return Schedule(
        seed,
        tree=tuple(_start(dice)),
        nodes=tuple(_nodes(dice)),
        events=(
            *(_event(dice) for _ in range(dice.choice((0, 1, 2, 3, 4, 5, 6, 8)))),
            *_silence(dice),
            *_story(dice, fence),
        ),
        afterwards=tuple(_afterwards(dice)),
        fence=fence,
        workers=dice.choice((1, 2, 2, 3)),
        tried=dice.random() < 0.8,
        workflows=dice.choice((1, 1, 1, 1, 1, 2)),
        shared_root=dice.random() < 0.2,
    )


def _with_a_forgetful_server(seed: int, dice: random.Random) -> Schedule:
    """Without other troubles: what is adopted is not compared with anything."""
    return Schedule(seed, tree=tuple(_start(dice)), nodes=tuple(_nodes(dice)), forgetful=True)


def _start(dice: random.Random) -> Iterator[Edit]:
    for path in sorted(dice.sample(["a", "b", "c", "d/x", "d/y", "e", "z"], dice.randint(2, 6))):
        yield Edit("put", path, dice.choice(TEXTS))


def _nodes(dice: random.Random) -> Iterator[Node]:
    nodes = tuple(_any_nodes(dice))
    has_part = any(step.mode == "part" for node in nodes for branch in node.branches for step in branch)
    for node in nodes:  # a task with a prefix sees nothing of a file that has the prefix's name
        yield _without_file(node, "d") if has_part else node


def _without_file(node: Node, path: str) -> Node:
    def without(step: Step) -> Step:
        return replace(step, edits=tuple(edit for edit in step.edits if edit.path != path))

    return replace(node, branches=tuple(tuple(map(without, branch)) for branch in node.branches))


def _any_nodes(dice: random.Random) -> Iterator[Node]:
    left = dice.choice((1, 1, 2, 2, 3, 4, 5))
    habit = dice.choice(("fail", "rebase", "rebase", "mixed"))
    while left > 0:
        kind: Kind = dice.choice(
            ("step", "step", "step", "step", "fork", "fork", "loop", "loop", "sub", "sub", "nest", "dynamic", "rounds")
        )
        if kind in FORKS:
            width = 3 if kind == "nest" else dice.choice((2, 2, 3))
            is_long = kind != "dynamic"
            branches = tuple(_steps(dice, habit, 2 if is_long and dice.random() < 0.2 else 1) for _ in range(width))
        else:
            branches = (_steps(dice, habit, 1 if kind == "step" or dice.random() < 0.6 else 2),)
        left -= sum(map(len, branches))
        yield Node(kind, branches)


def _steps(dice: random.Random, habit: str, count: int) -> tuple[Step, ...]:
    return tuple(_step(dice, habit) for _ in range(count))


def _step(dice: random.Random, habit: str) -> Step:
    mode = habit if habit == "fail" or dice.random() < 0.6 else dice.choice(MODES)
    mode = "rebase" if mode == "mixed" else mode
    edits = tuple(_edit(dice, mode) for _ in range(dice.choice((0, 1, 1, 1, 2, 2, 3))))
    return Step(mode, edits, dice.choice(("never", "never", "never", "never", "again", "first")))


def _edit(dice: random.Random, mode: str) -> Edit:
    paths = ("x", "y", "z", "w") if mode == "part" else PATHS
    path = dice.choice(paths) if dice.random() < 0.7 else f"n{dice.randint(0, 9)}"
    return Edit(dice.choice(("put", "put", "stamp", "drop")), path, dice.choice(TEXTS))


def _event(dice: random.Random) -> Event:
    operation = dice.choices(_OPERATIONS, list(_WEIGHTS.values()))[0]
    action = dice.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
    timing: Literal["before", "after"] = dice.choice(("before", "after"))
    if operation == "function":
        timing = "before"
    if action == "held":
        operation, timing = "merge", "before"
    if action == "fail":
        operation, timing = "function", "before"
    if action == "refused":
        timing = "before"  # a service that says no has not done it
    if action == "lost" and operation not in _WRITES:
        action = "unavailable"
    return Event(
        dice.choice((0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5)),
        operation,
        dice.choice((1, 1, 1, 2, 2, 3, 4)),
        timing,
        action,
        dice.choice((1, 2, 3, 5, 8, 13, 21, 34)),
    )


def _silence(dice: random.Random) -> Iterator[Event]:
    """Occasionally no merge of an attempt gets an answer."""
    attempt = dice.choice((0, 1, 2))
    if dice.random() < 0.05:
        action = dice.choice(("lost", "held"))
        yield from (Event(attempt, "merge", nth, "before", action, dice.choice((5, 21))) for nth in (1, 2, 3))


def _story(dice: random.Random, fence: Fence) -> Iterator[Event]:
    """Occasionally a few troubles that are rare together, and need one another."""
    chance = dice.random()
    late = dice.choice((8, 13, 21))
    if chance < 0.03:  # another attempt of the step comes after a change of its params, its input ref, or its task
        change = dice.choice(("params", "ref", "task"))
        if change == "params":
            yield Event(
                0, dice.choice(("is_current", "merge", "report")), 1, "before", "change", dice.choice((1, 2, 4))
            )
        elif change == "ref":
            yield Event(0, "report", 1, "before", "change", 3)
            yield Event(0, "report", 1, "before", "kill")
        else:
            yield Event(0, "report", 1, "before", "deploy")
        yield Event(0 if change == "task" else 1, "report", 1, "before", "kill")
    elif chance < 0.06:  # a failed attempt is handed out again after its retry, which has published
        yield Event(0, "function", 1, "before", "fail")
        yield Event(dice.choice((2, 3)), dice.choice(("is_current", "merge", "report")), 1, "before", "rerun", 2)
    elif chance < 0.09:  # a predecessor's publication is buried
        yield Event(0, "report", 1, "before", "outside", dice.randint(0, 5))
        yield Event(0, "report", 1, "before", "kill")
    elif chance < 0.3 and fence == "off":  # it lands on a foreign commit, and another attempt finds it
        yield Event(0, "merge", 1, "before", "outside", dice.randint(0, 5))
        yield Event(0, "merge", 1, "after", "kill")
    elif chance < 0.12:  # a merge comes late, and in between
        yield Event(0, "merge", 1, "before", "held", late)
        yield Event(0, "is_current", 3, "before", dice.choice(("terminate", "rerun", "redeliver")), dice.randint(1, 8))


def _afterwards(dice: random.Random) -> Iterator[tuple[str, int]]:
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        action = dice.choice(("rerun", "rerun", "rerun", "change", "restart", "restart", "retry", "outside", "revert"))
        yield action, dice.randint(0, 9)
