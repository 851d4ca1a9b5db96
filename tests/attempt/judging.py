"""The table of ranges and of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perago.attempt import events as on
from perago.attempt import history
from perago.attempt.history import Adopt, Build, Judgement, Refuse, Wait
from perago.attempt.state import Base, State
from perago.ports import Commit, Delivery, TaskRow, WorkflowRow

from .builders import (
    DELIVERY,
    MERGED,
    NEWER,
    OTHER,
    PLAN,
    REF,
    STAGED,
    WORKSPACE,
    child_row,
    commit,
    publication_of,
    task_row,
    workflow_row,
)

RETRY = replace(DELIVERY, task_id="task-3", retry_count=2, retried_task_id="task-2", start_time=3000)
FIRST = replace(DELIVERY, task_id="task-1", start_time=1000)
CHAIN = (
    task_row("task-1", 1000, status="FAILED"),
    task_row("task-2", 2000, status="FAILED", retried_task_id="task-1"),
    task_row("task-3", 3000, retried_task_id="task-2"),
)
ELSEWHERE = replace(DELIVERY, task_id="task-9", reference_name="later", start_time=9000)
"""An attempt of another step of the workflow."""
STATE = State(replace(PLAN, delivery=RETRY), workspace=WORKSPACE, params_sha256="00")


def own(*rows: TaskRow, parent: str | None = None, forgets_rounds: bool = False) -> dict[str, WorkflowRow | None]:
    """This attempt's workflow, with rows of other steps after its own."""
    return {"wf-1": workflow_row("wf-1", parent, (*CHAIN, *rows), forgets_rounds=forgets_rounds)}


def family(
    *rows: TaskRow, forgets_rounds: bool = False, more: Mapping[str, WorkflowRow | None] | None = None
) -> dict[str, WorkflowRow | None]:
    """A parent with these rows, and sub-workflows: this attempt's own, one next to it, and one that is not named."""
    return {
        "root": workflow_row("root", None, rows, forgets_rounds=forgets_rounds),
        **own(parent="root"),
        "wf-beside": workflow_row("wf-beside", "root", [task_row("task-1", 1000)]),
        "wf-old": workflow_row("wf-old", "root", [task_row("task-1", 1000)]),
        **(more or {}),
    }


MINE = child_row("wf-1")


@dataclass(frozen=True)
class Case:
    name: str
    since: tuple[Commit, ...]
    expected: Judgement
    workflows: Mapping[str, WorkflowRow | None] = field(default_factory=own)
    state: State = STATE

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def judged(self) -> Judgement:
        """The judgment of the range."""
        read = on.BranchRead(self.since, reaches_ref=True)
        return history.judge(self.state.evolve(read=read, workflows=self.workflows))

    def holds(self) -> bool:
        """Whether the judgment is the expected one. A refusal has the expected words."""
        judgement = self.judged()
        if isinstance(self.expected, Refuse | Wait):
            return type(judgement) is type(self.expected) and self.expected.reason in judgement.reason
        return judgement == self.expected


PREDECESSOR = publication_of(FIRST)
FOREIGN = commit(OTHER, REF)
ABOVE = commit(OTHER, MERGED)
MINE_BEFORE_A_RERUN = publication_of(replace(RETRY, start_time=2500))
MOVED = Refuse("has moved since the input ref")
BURIED = Refuse(f"has published commit {MERGED[:12]}")
UNPROVEN = Wait("Conductor has no evidence that it still counts commit")


def built(head: str, *stale: str, among_others: bool = False) -> Build:
    return Build(Base(head, stale, "tree-1", among_others))


REBASE = replace(STATE, plan=replace(STATE.plan, rebase=True))
COPY = replace(PREDECESSOR, id=NEWER, parents=(MERGED,))
"""A commit with the metadata of the predecessor's publication, as after a cherry-pick."""


def in_format(text: str, commit: Commit) -> Commit:
    return replace(commit, metadata={**commit.metadata, "perago.format": text, "perago.version": "9.9.9"})


def of_workflow(workflow_id: str) -> Commit:
    """A publication of another step in another workflow."""
    return publication_of(replace(FIRST, workflow_id=workflow_id))


def of_task(task_id: str, *place: str) -> Commit:
    """A publication of another attempt of this step."""
    return publication_of(replace(DELIVERY, task_id=task_id), *place)


def adopting(adopted: Commit, delivery: Delivery) -> Commit:
    """A fence commit on the publication `adopted`."""
    fence = publication_of(delivery, NEWER, adopted.id)
    return replace(fence, metadata={**fence.metadata, "perago.adopts": adopted.id})


def undone(*commits: Commit) -> Commit:
    """A commit of `perago undo`."""
    operation = publication_of(replace(DELIVERY, task_id="undo-1", reference_name="perago undo"), NEWER, commits[0].id)
    claims = {"perago.operation": "undo", "perago.supersedes": ",".join(commit.id for commit in commits)}
    return replace(operation, metadata={**operation.metadata, **claims})


ANOTHER_WORKFLOW = publication_of(replace(DELIVERY, workflow_id="wf-9", task_id="task-9", start_time=9000))
NEWER_FORMAT = Refuse("has format 3: perago 9.9.9 wrote it")
LATER = publication_of(ELSEWHERE)
LATER_ABOVE = publication_of(ELSEWHERE, NEWER, MERGED)
RETRY_OF_LATER = replace(ELSEWHERE, task_id="task-10", start_time=9500, retried_task_id="task-9")
ROUND_BEFORE = publication_of(replace(ELSEWHERE, reference_name="later__2", iteration=2))
OVER_FOREIGN = replace(publication_of(FIRST), parents=(OTHER, STAGED))
LIVING = task_row("task-9", 9000, reference_name="later")
RESET = replace(LIVING, start_time=0, status="SCHEDULED")
UNDONE_INPUT = undone(commit(REF))
OPEN = task_row("task-8", 8000, reference_name="other")
"""An attempt of a third step, which is running."""


def both(name: str, since: tuple[Commit, ...], expected: Judgement, **more: Any) -> tuple[Case, Case]:
    """A case that is judged the same way with and without a rebase."""
    among = (
        replace(expected, base=replace(expected.base, among_others=True)) if isinstance(expected, Build) else expected
    )
    return Case(name, since, expected, **more), Case(f"rebase: {name}", since, among, state=REBASE, **more)


CASES = (
    Case("nothing happened", (), Build(Base(REF))),
    *both("a predecessor has published", (PREDECESSOR,), Adopt(PREDECESSOR, PREDECESSOR)),
    *both("a predecessor wrote a newer format", (in_format("3", PREDECESSOR),), NEWER_FORMAT),
    Case(
        "rebase: another family wrote a newer format",
        (in_format("3", ANOTHER_WORKFLOW),),
        built(MERGED, among_others=True),
        workflows={**own(), "wf-9": workflow_row("wf-9")},
        state=REBASE,
    ),
    Case("a predecessor wrote an unreadable format", (in_format("x", PREDECESSOR),), Refuse("format x")),
    *both("a person has copied a publication of this step", (COPY, PREDECESSOR), Refuse("did not publish it")),
    Case("a person has copied a publication of another step", (commit(NEWER, REF, by=LATER.metadata),), MOVED),
    # A step replaces its own publications, whatever else runs.
    *both("this attempt was run again", (MINE_BEFORE_A_RERUN,), built(MERGED, MERGED), workflows=own(OPEN)),
    *both("an attempt of this step that Conductor has forgotten", (of_task("task-old"),), built(MERGED, MERGED)),
    Case(
        "rebase: a forgotten attempt above the predecessor",
        (of_task("task-old", NEWER, MERGED), PREDECESSOR),
        built(NEWER, NEWER, MERGED, among_others=True),
        state=REBASE,
    ),
    # The newest adoption decides, both ways.
    *both(
        "the adoption of a predecessor before a rerun of this attempt",
        (adopting(PREDECESSOR, replace(RETRY, start_time=2500)), PREDECESSOR),
        built(NEWER, NEWER, MERGED),
    ),
    Case(
        "rebase: an attempt that was started again, and that its retry has adopted",
        (adopting(LATER, RETRY_OF_LATER), LATER),
        built(NEWER, among_others=True),
        workflows=own(
            replace(RESET, start_time=9900),
            task_row("task-10", 9500, reference_name="later", retried_task_id="task-9", status="COMPLETED"),
        ),
        state=REBASE,
    ),
    Case(
        "rebase: an attempt with its start time, whose adoption was reset",
        (adopting(LATER, RETRY_OF_LATER), LATER),
        UNPROVEN,
        workflows=own(
            replace(LIVING, status="FAILED"),
            task_row("task-10", 0, reference_name="later", retried_task_id="task-9", status="SCHEDULED"),
        ),
        state=REBASE,
    ),
    # Another step counts with evidence only, and is undone by the only open attempt only.
    Case("another step with its start time", (LATER,), MOVED, workflows=own(LIVING)),
    Case(
        "rebase: another step with its start time",
        (LATER,),
        built(MERGED, among_others=True),
        workflows=own(LIVING),
        state=REBASE,
    ),
    Case(
        "rebase: a step that a late report has completed after it was reset",
        (LATER,),
        built(MERGED, among_others=True),
        workflows=own(replace(RESET, status="COMPLETED", published_commit=MERGED)),
        state=REBASE,
    ),
    *both(
        "a step that was completed again with another commit",
        (LATER,),
        built(MERGED, MERGED),
        workflows=own(replace(RESET, status="COMPLETED", published_commit=OTHER)),
    ),
    *both("a step that is to run again", (LATER,), UNPROVEN, workflows=own(RESET)),
    *both("a removed row next to an open attempt", (LATER,), built(MERGED, MERGED), workflows=own(OPEN)),
    *both("a removed row", (LATER,), built(MERGED, MERGED)),
    *both(
        "a row that was completed again with another commit, next to an open attempt",
        (LATER,),
        UNPROVEN,
        workflows=own(replace(RESET, status="COMPLETED", published_commit=OTHER), OPEN),
    ),
    *both(
        "a row that was completed again, next to an operator and an attempt that has a retry",
        (LATER,),
        built(MERGED, MERGED),
        workflows=own(
            replace(RESET, status="COMPLETED", published_commit=OTHER),
            replace(OPEN, is_operator=True),
            task_row("task-5", 500, reference_name="x"),
            task_row("task-6", 600, reference_name="x", retried_task_id="task-5", status="COMPLETED"),
        ),
    ),
    *both(
        "later steps of the run before",
        (LATER_ABOVE, MINE_BEFORE_A_RERUN),
        built(NEWER, NEWER, MERGED),
    ),
    Case(
        "rebase: a publication that another step has undone",
        (replace(LATER_ABOVE, metadata={**LATER_ABOVE.metadata, "perago.supersedes": MERGED}), MINE_BEFORE_A_RERUN),
        built(NEWER, among_others=True),
        workflows=own(LIVING),
        state=REBASE,
    ),
    Case(
        "rebase: a person has reverted the undoing of a stale publication",
        (
            commit("9" * 64, NEWER),
            replace(LATER_ABOVE, metadata={**LATER_ABOVE.metadata, "perago.supersedes": MERGED}),
            MINE_BEFORE_A_RERUN,
        ),
        built("9" * 64, NEWER, MERGED, among_others=True),
        state=REBASE,
    ),
    # Operations, and steps that do not count for Conductor.
    *both("publications that an operator has undone", (undone(LATER), LATER), built(NEWER), workflows=own(OPEN)),
    *both(
        "an operator has undone nothing",
        (undone(commit("0" * 64)), PREDECESSOR),
        Adopt(PREDECESSOR, undone(commit("0" * 64))),
    ),
    *both(
        "an operation has undone the input, which a row names",
        (UNDONE_INPUT,),
        Refuse("Conductor still counts that step"),
        workflows=own(replace(LIVING, status="COMPLETED", published_commit=REF)),
    ),
    *both(
        "an operation has undone the input, which a parent's row names",
        (UNDONE_INPUT,),
        Refuse("Conductor still counts that step"),
        workflows=family(MINE, replace(LIVING, status="COMPLETED", published_commit=REF)),
    ),
    *both(
        "an operation has undone the input, whose row was removed",
        (UNDONE_INPUT,),
        Refuse("again from that step or an earlier one, or all of it: perago rerun wf-1."),
    ),
    Case(
        "an optional step that has ended after it published",
        (LATER,),
        built(MERGED, among_others=True),
        workflows=own(replace(LIVING, status="COMPLETED_WITH_ERRORS", is_optional=True)),
    ),
    # Others.
    Case("a person on the predecessor's publication", (ABOVE, PREDECESSOR), BURIED),
    Case("a predecessor's publication that came over a commit of others", (OVER_FOREIGN, FOREIGN), BURIED),
    Case("rebase: others only", (FOREIGN,), built(OTHER, among_others=True), state=REBASE),
    Case(
        "rebase: others on the predecessor's publication", (ABOVE, PREDECESSOR), Adopt(PREDECESSOR, ABOVE), state=REBASE
    ),
    Case(
        "rebase: a predecessor's publication that came over a commit of others",
        (OVER_FOREIGN, FOREIGN),
        BURIED,
        state=REBASE,
    ),
    # Sub-workflows.
    *both(
        "a sub-workflow that this one retries",
        (of_workflow("wf-old"),),
        built(MERGED, MERGED),
        workflows=family(
            child_row("wf-old", "row-1", "FAILED"), child_row("wf-1", retried_task_id="row-1"), child_row("wf-beside")
        ),
    ),
    *both(
        "a sub-workflow that no row names, and none is open",
        (of_workflow("wf-old"),),
        built(MERGED, MERGED),
        workflows=family(MINE),
    ),
    *both(
        "a sub-workflow that no row names, next to another one",
        (of_workflow("wf-old"),),
        built(MERGED, MERGED),
        workflows=family(MINE, child_row("wf-beside")),
    ),
    *both(
        "a sub-workflow that may be about to be named",
        (of_workflow("wf-old"),),
        UNPROVEN,
        workflows=family(MINE, child_row(None, "new", "SCHEDULED")),
    ),
    Case(
        "a sub-workflow next to this one",
        (of_workflow("wf-beside"),),
        MOVED,
        workflows=family(MINE, child_row("wf-beside")),
    ),
    Case(
        "rebase: a sub-workflow next to this one",
        (of_workflow("wf-beside"),),
        built(MERGED, among_others=True),
        workflows=family(MINE, child_row("wf-beside")),
        state=REBASE,
    ),
    *both(
        "an attempt that was run again in a sub-workflow next to this one",
        (of_workflow("wf-beside"),),
        UNPROVEN,
        workflows=family(
            MINE,
            child_row("wf-beside"),
            more={"wf-beside": workflow_row("wf-beside", "root", [task_row("task-1", 1500)])},
        ),
    ),
    Case(
        "rebase: a sub-workflow next to this one whose retry is open",
        (of_workflow("wf-old"),),
        built(MERGED, MERGED, among_others=True),
        workflows=family(MINE, child_row("wf-old", "row-1", "FAILED"), child_row("wf-new", retried_task_id="row-1")),
        state=REBASE,
    ),
    *both(
        "this sub-workflow was retried in the parent",
        (of_workflow("wf-old"),),
        Refuse("Sub-workflow wf-1 of this attempt no longer counts"),
        workflows=family(child_row("wf-1", "row-1"), child_row("wf-old", retried_task_id="row-1", status="COMPLETED")),
    ),
    *both(
        "this sub-workflow is not named yet",
        (of_workflow("wf-old"),),
        Refuse("The parent of workflow wf-1 has not named it"),
        workflows=family(child_row(None, "new", "SCHEDULED")),
    ),
    *both(
        "a workflow whose parents form a cycle",
        (of_workflow("wf-2"),),
        Refuse("It is unknown whether workflow wf-2 still counts"),
        workflows=family(MINE, more={"wf-2": workflow_row("wf-2", "wf-3"), "wf-3": workflow_row("wf-3", "wf-2")}),
    ),
    *both(
        "this attempt's own parents form a cycle",
        (of_workflow("wf-beside"),),
        Refuse("It is unknown whether workflow wf-1 still counts"),
        workflows={**family(), "root": workflow_row("root", "wf-1")},
    ),
    *both(
        "a workflow that was not read",
        (of_workflow("wf-2"),),
        Refuse("It is unknown whether workflow wf-2"),
        workflows=family(MINE),
    ),
    Case(
        "a sub-workflow of another family",
        (of_workflow("wf-2"),),
        MOVED,
        workflows=family(MINE, more={"wf-2": workflow_row("wf-2", "other"), "other": workflow_row("other")}),
    ),
    Case(
        "a sub-workflow whose parent Conductor has forgotten",
        (of_workflow("wf-2"),),
        MOVED,
        workflows=family(MINE, more={"wf-2": workflow_row("wf-2", "gone"), "gone": None}),
    ),
    # Loops that keep their last rounds.
    *both(
        "a round that a loop has dropped",
        (ROUND_BEFORE,),
        Refuse("Conductor has forgotten the row"),
        workflows=own(forgets_rounds=True),
    ),
    *both("a round of a loop that keeps all rounds", (ROUND_BEFORE,), built(MERGED, MERGED)),
    Case(
        "rebase: a dropped round that a later round continues",
        (ROUND_BEFORE,),
        built(MERGED, among_others=True),
        workflows=own(replace(LIVING, task_id="task-11", input_commits=frozenset({MERGED})), forgets_rounds=True),
        state=REBASE,
    ),
    *both(
        "a sub-workflow of a round that a loop has dropped",
        (of_workflow("wf-old"),),
        Refuse("Conductor has forgotten the row"),
        workflows=family(MINE, forgets_rounds=True),
    ),
    *both(
        "a sub-workflow that no parent names, whose own rows continue it",
        (of_workflow("wf-old"),),
        Refuse("Conductor has forgotten the row"),
        workflows=family(
            MINE,
            forgets_rounds=True,
            more={
                "wf-old": workflow_row(
                    "wf-old",
                    "root",
                    [task_row("task-1", 1000), replace(LIVING, task_id="task-11", input_commits=frozenset({MERGED}))],
                )
            },
        ),
    ),
)
