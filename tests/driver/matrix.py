"""The table of the kill and fault matrix: every call of an attempt, everything that can happen to it, before and after.

`CELLS` are single troubles; `PAIRS` adds each of them to a merge whose answer was lost, where the protocol has to look.

On one core of a small virtual machine about 340 attempts run in a second, and 210 with what is asserted of them: every
one makes, fills, scans and removes a directory on disk, and speaks to models that go through JSON as servers do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from perago.attempt.publication import FENCE_TEXT
from perago.driver.fencing import PROOF_SECONDS
from perago.embedded.faults import Moment
from perago.ports import AccessDenied, CorruptTransfer, Refused, ServiceError, Unavailable, Unclear
from perago.testing import InMemoryServices

from .sharing import ForkedWorld, JoinedWorld, SharedWorld
from .world import World


@dataclass(frozen=True, slots=True)
class Opening:
    """What has happened before the delivery that meets the trouble is run, and the calls that it makes without one: the
    port's operation, and how often it was called until then."""

    name: str
    begin: Callable[[World], object]
    sites: tuple[tuple[str, int], ...]
    quiet: str = "never"
    fence: str | None = FENCE_TEXT
    """What lies where the publish fence belongs; None: nothing."""
    make: Callable[..., World] = World
    """The workflow."""
    tried_from: int = 0
    """Troubles meet the calls from this one on: those before it are another opening's, too."""

    def __str__(self) -> str:
        return self.name


def _numbered(*operations: str) -> tuple[tuple[str, int], ...]:
    counted: Counter[str] = Counter()
    found = []
    for operation in operations:
        counted[operation] += 1
        found.append((operation, counted[operation]))
    return tuple(found)


_START = ("list_branches", "history", "stat_objects", "list_objects", "download")
_LINEAGE = ("list_branches", "history", "read_attempt")
_BRANCH = ("is_current", "create_branch")
_UNDOING = (*_BRANCH, "get_commit", "revert", "get_commit", "diff", "get_commit")
_BRINGING = ("delete_objects", "upload", "upload", "commit", "diff", "stat_objects")
_STAGING = ("delete_objects", "upload", "commit", "diff", "stat_objects")
_FENCING = (*_BRANCH, "commit", "diff")
"""An empty staging commit."""
_MERGE = ("is_current", "history", "merge", "get_commit")
_TRIED_MERGE = ("merge", "is_current", "history", "merge", "get_commit")
"""The first of the two merges is the challenge."""
_END = ("delete_branch", "is_current", "report")


def _complete(world: World) -> None:
    """The first delivery publishes and reports; then the workflow is run again from it."""
    world.run(world.take())
    world.services.clock.advance(1)
    world.services.conductor.rerun_workflow(world.workflow, world.tried[0].delivery.task_id)


def _complete_and_restart(world: World) -> None:
    world.run(world.take())
    world.services.conductor.restart_workflow(world.workflow)


def _publish_and_die(world: World) -> None:
    """The first delivery publishes, and its process ends before the report."""
    world.run(world.take(), report=False)
    _time_out(world)


def _forget_the_proof(world: World) -> None:
    """The server was tried too long ago."""
    world.services.clock.advance(PROOF_SECONDS)


def _stage_and_die(world: World) -> None:
    """The first delivery's process ends before its staging commit, and leaves its staging branch."""
    world.services.faults.between("commit", world.kill)
    world.run(world.take())
    _time_out(world)


def _time_out(world: World) -> None:
    world.services.clock.advance(601)
    world.services.conductor.sweep()
    world.services.clock.advance(2)


def _others_before(world: World) -> None:
    """Others have published since the workflow began."""
    world.commit_foreign()


def _others_at_the_merge(world: World) -> None:
    """Others publish between the look before the merge and its arrival."""
    world.services.faults.between("merge", world.commit_foreign)


def _complete_below_others(world: World) -> None:
    world.run(world.take())
    world.commit_foreign()
    world.services.clock.advance(1)
    world.services.conductor.rerun_workflow(world.workflow, world.tried[0].delivery.task_id)


def _die_below_others(world: World) -> None:
    world.run(world.take(), report=False)
    world.commit_foreign()
    _time_out(world)


def _complete_fork(world: World, *, again: int) -> None:
    """Both branches publish, the second one first; then the workflow is run again from one of them."""
    for delivery in (world.take(), world.take())[::-1]:
        world.run(delivery)
    world.services.clock.advance(1)
    world.services.conductor.rerun_workflow(world.workflow, world.tried[again].delivery.task_id)


def _complete_fork_and_restart(world: World) -> None:
    """Both branches publish and are begun again; the first one of them has undone the run before by then."""
    world.run(world.take())
    world.run(world.take())
    world.services.clock.advance(1)
    world.services.conductor.restart_workflow(world.workflow)
    world.run(world.take())


_SHARED_START = (*_START, *_BRANCH)
_REVERTING_AMONG_OTHERS = ("revert", "get_commit", "get_commit", "diff", "diff")
_UNDOING_AMONG_OTHERS = ("get_commit", *_REVERTING_AMONG_OTHERS)
_COMPARING = ("diff", "stat_objects")
_BUILDING_ANEW = (
    *("is_current", "history", "delete_branch", *_BRANCH, "diff", "merge", "get_commit", "diff"),
    "stat_objects",
)
"""The merge is the one that carries the changes to the other staging branch."""
_TAKEN_FROM_A_FORK = (*_LINEAGE, "stat_objects", "list_objects", "download", *_BRANCH)
SHARED = (
    Opening(
        "moved-before",
        _others_before,
        _numbered(*_SHARED_START, *_COMPARING, *_STAGING, *_MERGE, *_END),
        make=SharedWorld,
    ),
    Opening(
        "moved-at-the-merge",
        _others_at_the_merge,
        _numbered(*_SHARED_START, *_STAGING, *_MERGE[:-1], *_BUILDING_ANEW, *_MERGE, *_END),
        make=SharedWorld,
        tried_from=11,
    ),
    Opening(
        "moved-at-the-merge-and-no-fence",
        _others_at_the_merge,
        _numbered(
            *(*_SHARED_START, *_BRINGING, *_MERGE[:-1]),
            *(*_BUILDING_ANEW, *_MERGE, *_END),
        ),
        make=SharedWorld,
        fence=None,
        tried_from=13,
    ),
    Opening(
        "run-again-below-others",
        _complete_below_others,
        _numbered(
            *(*_SHARED_START, *_UNDOING_AMONG_OTHERS, "diff", "diff", "get_commit", *_COMPARING[:1]),
            *(*_STAGING, *_MERGE, *_END),
        ),
        make=SharedWorld,
    ),
    Opening(
        "published-and-died-below-others",
        _die_below_others,
        _numbered(*_LINEAGE, "get_commit", "diff", "diff", "stat_objects", *_FENCING, *_TRIED_MERGE, *_END),
        make=SharedWorld,
    ),
    Opening(
        "first-branch-run-again",
        lambda world: _complete_fork(world, again=1),
        _numbered(
            *(*_TAKEN_FROM_A_FORK, "get_commit", "get_commit", *_REVERTING_AMONG_OTHERS, *_REVERTING_AMONG_OTHERS),
            *("diff", "get_commit", "diff"),
            *(*_STAGING, *_MERGE, *_END),
        ),
        make=ForkedWorld,
        tried_from=7,
    ),
    Opening(
        "second-branch-run-again",
        lambda world: _complete_fork(world, again=0),
        _numbered(
            *(*_TAKEN_FROM_A_FORK, *_UNDOING_AMONG_OTHERS, "diff", "diff", "get_commit", "diff"),
            *(*_STAGING, *_MERGE, *_END),
        ),
        make=ForkedWorld,
        tried_from=2,
    ),
    Opening(
        "fork-restarted",
        _complete_fork_and_restart,
        _numbered(
            *(
                "list_branches",
                "history",
                "read_attempt",
                "read_attempt",
                "read_attempt",
                "stat_objects",
                "list_objects",
                "download",
            ),
            *(*_BRANCH, *_COMPARING, *_STAGING, *_MERGE, *_END),
        ),
        make=ForkedWorld,
    ),
    Opening("joined", lambda world: None, _numbered("ancestry", *_SHARED_START), make=JoinedWorld),
)
"""Steps that publish beside others."""
FRESH = Opening(
    "fresh",
    lambda world: None,
    _numbered(*_START, *_BRANCH, *_STAGING, *_MERGE, *_END),
)
OPENINGS = (
    FRESH,
    replace(FRESH, name="unchanged-later", quiet="later"),
    Opening(
        "untried-server",
        _forget_the_proof,
        _numbered(*_START, *_BRANCH, *_STAGING, *_TRIED_MERGE, *_END),
    ),
    Opening(
        "no-fence-yet",
        _forget_the_proof,
        _numbered(*_START, *_BRANCH, *_BRINGING, *_TRIED_MERGE, *_END),
        fence=None,
    ),
    Opening(
        "published-and-died",
        _publish_and_die,
        _numbered(*_LINEAGE, "get_commit", "stat_objects", *_FENCING, *_TRIED_MERGE, *_END),
    ),
    Opening(
        "staged-and-died",
        _stage_and_die,
        _numbered(*_START, *_BRANCH, *_STAGING, *_TRIED_MERGE, "delete_branch", *_END),
    ),
    Opening("run-again", _complete, _numbered(*_START, *_UNDOING, *_STAGING, *_MERGE, *_END)),
    Opening("run-again-and-no-fence", _complete, _numbered(*_START, *_UNDOING, *_BRINGING, *_MERGE, *_END), fence=None),
    Opening(
        "restarted",
        _complete_and_restart,
        _numbered(*_LINEAGE, "stat_objects", "list_objects", "download", *_BRANCH, "get_commit", "revert"),
    ),
    Opening(
        "unchanged-after-a-hand-back",
        World.hand_back,
        _numbered(*_START, *_FENCING, *_MERGE, *_END),
        quiet="always",
    ),
    *SHARED,
)
UNFENCED = replace(FRESH, name="unfenced", fence=None)
SITES = FRESH.sites
"""Every call of a successful attempt, in order."""

SITES_AFTER_A_LOST_MERGE = (("is_current", 3), ("history", 3), ("merge", 2), ("get_commit", 1), ("is_current", 4))
BEFORE_THE_MERGE = SITES[: SITES.index(("merge", 1))]

HAPPENINGS: dict[str, Callable[[World], object]] = {
    "foreign commit": World.commit_foreign,
    "empty commit": World.commit_nothing,
    "terminated": World.terminate,
    "redelivered": World.redeliver,
    "redelivered and held": World.redeliver_and_hold,
    "rerun": World.rerun,
    "stopped, run again and held": World.rerun_and_hold,
    "restarted": World.restart,
    "timed out": World.time_out,
    "stray upload": World.stray,
    "killed": lambda world: world.kill(),
}
REFUSALS: tuple[type[ServiceError] | Exception, ...] = (
    Unavailable,
    Unclear,
    AccessDenied,
    Refused,
    CorruptTransfer,
    OSError(28, "No space left on device"),
    MemoryError(),
)
LOST_ANSWERS: tuple[type[ServiceError] | Exception, ...] = (Unclear, Unavailable, MemoryError())


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that happens to one call."""

    operation: str
    nth: int
    moment: Moment
    what: str
    error: type[ServiceError] | Exception | None = None

    def __str__(self) -> str:
        when = "before" if self.moment is Moment.BEFORE else "after"
        return f"{self.operation}-{self.nth}-{when}-{self.what}".replace(" ", "-")

    def arrange(self, world: World) -> None:
        """Write it into the script of the world's models."""
        faults = world.services.faults
        nth = faults.calls(self.operation) + self.nth
        if self.error is None:
            happen = HAPPENINGS[self.what]
            faults.between(self.operation, lambda: happen(world), nth=nth, moment=self.moment)
        elif self.moment is Moment.BEFORE:
            faults.before(self.operation, nth=nth, error=self.error)
        else:
            faults.after(self.operation, nth=nth, error=self.error)


def troubles_of(operation: str, nth: int) -> Iterator[Trouble]:
    """Everything that can happen to one call."""
    for moment, errors in ((Moment.BEFORE, REFUSALS), (Moment.AFTER, LOST_ANSWERS)):
        for what in HAPPENINGS:
            yield Trouble(operation, nth, moment, what)
        for error in errors:
            name = error.__name__ if isinstance(error, type) else type(error).__name__
            yield Trouble(operation, nth, moment, name, error)


LOST_MERGES = (
    Trouble("merge", 1, Moment.BEFORE, "Unclear", Unclear),
    Trouble("merge", 1, Moment.AFTER, "Unclear", Unclear),
)
STUBBORN = tuple(Trouble("merge", nth, Moment.BEFORE, "Unclear", Unclear) for nth in (1, 2, 3))
"""No merge gets an answer for longer than one attempt tries."""
CELLS = tuple((trouble,) for site in SITES for trouble in troubles_of(*site))
PAIRS = tuple(
    (lost, trouble)
    for lost in LOST_MERGES
    for site in (*BEFORE_THE_MERGE, *SITES_AFTER_A_LOST_MERGE)
    for trouble in troubles_of(*site)
)


def named(troubles: tuple[Trouble, ...]) -> str:
    """The id of a case."""
    return "+".join(map(str, troubles))


RECOVERIES = tuple(
    (opening, (trouble,))
    for opening in OPENINGS[1:]
    for site in opening.sites[opening.tried_from :]
    for trouble in troubles_of(*site)
)
"""The same for deliveries that come upon what others have left."""


def play(
    services: InMemoryServices,
    troubles: tuple[Trouble, ...],
    *,
    opening: Opening = FRESH,
) -> World:
    """A workflow with `troubles`, played to its end."""
    world = opening.make(services, fence=opening.fence, quiet=opening.quiet)
    opening.begin(world)
    for trouble in troubles:
        trouble.arrange(world)
    world.run(world.take())
    world.settle()
    return world


def is_too_late_for_the_fence(opening: Opening, troubles: tuple[Trouble, ...]) -> bool:
    """Whether the task is run again between the last answer of the delivery check and the arrival of the report, which
    Conductor then takes for one of the new run: it knows a task by its id alone (`docs/servers/conductor.md` 2)."""
    *_, last = (nth for operation, nth in opening.sites if operation == "is_current")
    sent = [trouble for trouble in troubles if (trouble.operation, trouble.moment) == ("report", Moment.BEFORE)]
    asked = [
        trouble
        for trouble in troubles
        if (trouble.operation, trouble.nth, trouble.moment) == ("is_current", last, Moment.AFTER)
    ]
    again = {"rerun", "stopped, run again and held"}
    return any(trouble.what in again for trouble in sent) or any(trouble.what == "rerun" for trouble in asked)
