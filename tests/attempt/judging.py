"""The table of ranges and of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history
from perago.attempt.history import Adopt, Build, Judgement, Refuse
from perago.attempt.state import Base, State
from perago.ports import ANY_WORKFLOW, AttemptRow, Commit, WorkflowRow

from .builders import DELIVERY, MERGED, NEWER, OTHER, PLAN, REF, STAGED, WORKSPACE, commit, publication_of, workflow_row

RETRY = replace(DELIVERY, task_id="task-3", retry_count=2, retried_task_id="task-2", start_time=3000)
FIRST = replace(DELIVERY, task_id="task-1", start_time=1000)
CHAIN = ("task-3", "task-2", "task-1")
ROWS: dict[str, AttemptRow | None] = {
    "task-1": AttemptRow("task-1", 1000, None),
    "task-2": AttemptRow("task-2", 2000, "task-1"),
}
ELSEWHERE = replace(DELIVERY, task_id="task-9", reference_name="later", start_time=9000)
"""An attempt of another step of the workflow."""
STATE = State(replace(PLAN, delivery=RETRY), workspace=WORKSPACE, params_sha256="00")


def read(*since: Commit) -> on.BranchRead:
    return on.BranchRead(since, reaches_ref=True)


FAMILY: dict[str, Any] = {
    "root": workflow_row("root", 100, name="parent", children=("wf-1", "wf-beside")),
    "wf-1": workflow_row("wf-1", 100, "root", "child"),
    "wf-beside": workflow_row("wf-beside", 100, "root", "child"),
    "wf-old": workflow_row("wf-old", 100, "root", "child"),
}
"""A workflow with two sub-workflows, one of them this attempt's, and one that it has run before."""


@dataclass(frozen=True)
class Case:
    name: str
    since: tuple[Commit, ...]
    expected: Judgement
    rows: dict[str, AttemptRow | None] | None = None
    state: State = STATE
    workflows: Mapping[str, WorkflowRow | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def judged(self) -> Judgement:
        """What is made of the range."""
        state = self.state.evolve(read=read(*self.since), workflows=self.workflows)
        if isinstance(asked := history.ask_first(state), tuple) and isinstance(asked[1], do.ReadLineage):
            rows = ROWS if self.rows is None else self.rows
            state = state.evolve(lineage=on.LineageRead(CHAIN, rows))
        return history.judge(state)

    def holds(self) -> bool:
        """Whether that is what should be made of it; a refusal names the head."""
        found = self.judged()
        if isinstance(self.expected, Refuse):
            named = (self.since[0].id[:12], self.expected.reason)
            return isinstance(found, Refuse) and all(text in found.reason for text in named)
        return found == self.expected


PREDECESSOR = publication_of(FIRST)
FOREIGN = commit(OTHER, REF)
ABOVE = commit(OTHER, MERGED)
MINE_BEFORE_A_RERUN = publication_of(replace(RETRY, start_time=2500))
REFUSED = Refuse("")
MOVED = Refuse("has moved since the input ref")
BURIED = Refuse(f"has published commit {MERGED[:12]}")
UNDONE = Build(Base(MERGED, (MERGED,), "tree-1"))
BOTH_UNDONE = Build(Base(NEWER, (NEWER, MERGED), "tree-1"))
REBASE = replace(STATE, plan=replace(STATE.plan, rebase=True))
ADOPTED = commit(
    NEWER,
    MERGED,
    STAGED,
    by={**publication_of(replace(ELSEWHERE, task_id="task-10", start_time=9500)).metadata, "perago.adopts": MERGED},
)

COPY = replace(PREDECESSOR, id=NEWER, parents=(MERGED,))
"""Somebody's commit with the metadata of the predecessor's publication, as after a cherry-pick."""


def in_format(text: str, commit: Commit) -> Commit:
    return replace(commit, metadata={**commit.metadata, "perago.format": text, "perago.version": "9.9.9"})


ANOTHER_WORKFLOW = publication_of(replace(DELIVERY, workflow_id="wf-9", task_id="task-9", start_time=9000))
NEWER_FORMAT = Refuse("has format 2: perago 9.9.9 wrote it")


def of_workflow(workflow_id: str) -> Commit:
    """What the first attempt of this step has published in another workflow."""
    return publication_of(replace(FIRST, workflow_id=workflow_id))


def of_task(task_id: str, *place: str) -> Commit:
    """What another attempt of this step has published."""
    return publication_of(replace(DELIVERY, task_id=task_id), *place)


def family(**root: Any) -> dict[str, Any]:
    """The workflows, with a changed root."""
    return {**FAMILY, "root": replace(FAMILY["root"], **root)}


FORGOTTEN = {**ROWS, "task-9": None}
LIVING = {**ROWS, "task-9": AttemptRow("task-9", 9000, None)}
TO_RUN_AGAIN = {**ROWS, "task-9": AttemptRow("task-9", 0, None)}
LATER_STEP = publication_of(ELSEWHERE, NEWER, MERGED)
ROUND_BEFORE = publication_of(replace(ELSEWHERE, reference_name="later__2", iteration=2))
OVER_FOREIGN = replace(publication_of(FIRST), parents=(OTHER, STAGED))
CASES = (
    Case("nothing happened", (), Build(Base(REF))),
    Case("a predecessor has published", (PREDECESSOR,), Adopt(PREDECESSOR, PREDECESSOR)),
    Case("a predecessor wrote a newer format", (in_format("2", PREDECESSOR),), NEWER_FORMAT),
    Case("rebase: a predecessor wrote a newer format", (in_format("2", PREDECESSOR),), NEWER_FORMAT, state=REBASE),
    Case(
        "rebase: another workflow wrote a newer format",
        (in_format("2", ANOTHER_WORKFLOW),),
        Build(Base(MERGED, (), "tree-1")),
        state=REBASE,
        workflows={name: workflow_row(name) for name in ("wf-1", "wf-9")},
    ),
    Case("a predecessor wrote an unreadable format", (in_format("x", PREDECESSOR),), Refuse("format x")),
    Case("rebase: somebody has copied a publication of this step", (COPY, PREDECESSOR), REFUSED, state=REBASE),
    Case(
        "somebody has copied a publication of another step that Conductor has forgotten",
        (commit(NEWER, REF, by=publication_of(ELSEWHERE).metadata),),
        REFUSED,
        rows=FORGOTTEN,
    ),
    Case("this attempt was run again", (MINE_BEFORE_A_RERUN,), UNDONE),
    Case("the workflow was restarted", (of_task("task-old"),), UNDONE, rows={**ROWS, "task-old": None}),
    Case("a later step that is to run again", (LATER_STEP, MINE_BEFORE_A_RERUN), BOTH_UNDONE, rows=TO_RUN_AGAIN),
    Case("a living attempt of another step", (publication_of(ELSEWHERE),), MOVED, rows=LIVING),
    Case("somebody else on the predecessor's publication", (ABOVE, PREDECESSOR), BURIED),
    Case("a predecessor's publication that came over somebody else's commit", (OVER_FOREIGN, FOREIGN), REFUSED),
    Case("rebase: others only", (FOREIGN,), Build(Base(OTHER, (), "tree-1")), state=REBASE),
    Case(
        "rebase: others on the predecessor's publication", (ABOVE, PREDECESSOR), Adopt(PREDECESSOR, ABOVE), state=REBASE
    ),
    Case(
        "rebase: a predecessor's publication that came over a commit of others",
        (OVER_FOREIGN, FOREIGN),
        REFUSED,
        state=REBASE,
    ),
    Case(
        "rebase: a stale publication that another branch of the fork has undone",
        (commit(NEWER, MERGED, STAGED, by={**LATER_STEP.metadata, "perago.supersedes": MERGED}), MINE_BEFORE_A_RERUN),
        Build(Base(NEWER, (), "tree-1")),
        rows=LIVING,
        state=REBASE,
    ),
    Case(
        "rebase: a stale publication on the predecessor's",
        (of_task("task-old", NEWER, MERGED), PREDECESSOR),
        BOTH_UNDONE,
        rows={**ROWS, "task-old": None},
        state=REBASE,
    ),
    Case(
        "rebase: a forgotten round of a loop before this step", (ROUND_BEFORE,), REFUSED, rows=FORGOTTEN, state=REBASE
    ),
    Case(
        "a restart of a workflow whose loop has published",
        (ROUND_BEFORE,),
        UNDONE,
        rows=FORGOTTEN,
        workflows={"wf-1": workflow_row("wf-1", 9500)},
    ),
    Case("a sub-workflow that its parent has run anew", (of_workflow("wf-old"),), UNDONE, workflows=FAMILY),
    Case("a living sub-workflow beside this one", (of_workflow("wf-beside"),), REFUSED, workflows=FAMILY),
    Case(
        "a living sub-workflow whose root was restarted since",
        (of_workflow("wf-beside"),),
        UNDONE,
        workflows=family(start_time=1500),
    ),
    *[
        Case(
            f"{who}a sub-workflow of a parent with loops that does not name it{which}",
            (of_workflow("wf-old"),),
            expected,
            workflows=family(looped=frozenset(looped)),
            state=state,
        )
        for who, state in (("", STATE), ("rebase: ", REBASE))
        for which, looped, expected in (
            ("", {"child"}, REFUSED),
            (" and may run any", {ANY_WORKFLOW}, REFUSED),
            (" and cannot run it", {"other"}, UNDONE),
        )
    ],
    Case(
        "rebase: a sub-workflow of a parent with loops that has retried it",
        (of_workflow("wf-old"),),
        UNDONE,
        workflows=family(looped=frozenset({"child"}), replaced=frozenset({"wf-old"})),
        state=REBASE,
    ),
    Case(
        "rebase: a workflow whose parents form a cycle",
        (of_workflow("wf-2"),),
        REFUSED,
        workflows={**FAMILY, "wf-2": workflow_row("wf-2", 100, "wf-3"), "wf-3": workflow_row("wf-3", 100, "wf-2")},
        state=REBASE,
    ),
    Case(
        "rebase: this attempt's own parents form a cycle",
        (of_workflow("wf-beside"),),
        REFUSED,
        workflows=family(parent_id="wf-1"),
        state=REBASE,
    ),
    Case("rebase: a workflow that was not read", (of_workflow("wf-2"),), REFUSED, workflows=FAMILY, state=REBASE),
    Case(
        "rebase: a living sub-workflow that was not read itself, although its parent names it",
        (of_workflow("wf-named"),),
        REFUSED,
        workflows=family(children=("wf-1", "wf-named")),
        state=REBASE,
    ),
    Case(
        "rebase: a sub-workflow that was restarted itself, so that its parent names it still",
        (of_workflow("wf-beside"),),
        UNDONE,
        workflows={**FAMILY, "wf-beside": replace(FAMILY["wf-beside"], start_time=1500)},
        state=REBASE,
    ),
    Case(
        "a sub-workflow of a parent that may be about to name it",
        (of_workflow("wf-old"),),
        REFUSED,
        workflows=family(is_starting=True),
    ),
    Case(
        "a living sub-workflow that began with its root, by the clock of another node",
        (of_workflow("wf-beside"),),
        REFUSED,
        workflows=family(start_time=1100),
    ),
    Case(
        "rebase: a failed attempt that was begun again, and that its retry has adopted",
        (replace(ADOPTED, parents=(MERGED, MERGED)), publication_of(ELSEWHERE)),
        Build(Base(NEWER, (), "tree-1")),
        rows={**ROWS, "task-9": AttemptRow("task-9", 9900, None), "task-10": AttemptRow("task-10", 9500, "task-9")},
        state=REBASE,
    ),
    Case(
        "a sub-workflow of another family that was run anew",
        (of_workflow("wf-strange"),),
        REFUSED,
        workflows={
            **FAMILY,
            "other": workflow_row("other", 100),
            "wf-strange": workflow_row("wf-strange", 100, "other"),
        },
    ),
    Case(
        "a sub-workflow that was restarted itself, and whose parent Conductor has forgotten",
        (of_workflow("wf-old"),),
        REFUSED,
        workflows={**FAMILY, "root": None, "wf-old": replace(FAMILY["wf-old"], start_time=1500)},
    ),
)
