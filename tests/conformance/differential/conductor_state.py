"""What a conversation with two Conductors knows, and how it looks at what it has done."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from perago.conductor_json import every_step

from ...http_answer import Answer
from ..conductor.rules import RULES
from ..targets import Target
from .pair import Both, Pair

Json = dict[str, Any]

OPEN = ("SCHEDULED", "IN_PROGRESS")
UNFORTUNATE = ("CANCELED", "FAILED")


def _lucky(row: Mapping[str, Any]) -> Collection[str]:
    """Also what becomes of a JOIN in a workflow that ends while it waits: it may see the end of a branch first, or see
    nothing yet and be put back in progress when it is cancelled already. What it has seen may be the output of the
    workflow, and with that of the step of a parent.

    And whether a completed step counts as executed: a result that is left to a JOIN causes no decision, but the server
    decides each workflow every 30 s.
    """
    luck = RULES.lucky(row)
    if row.get("status") == "COMPLETED" and "executed" in row:
        luck = (*luck, "executed")
    if _is_open_join(row):
        return (*luck, "status", "reasonForIncompletion", "endTime", "outputData", "workerId")
    if row.get("taskType") == "SUB_WORKFLOW" and row.get("status") in UNFORTUNATE:
        return (*luck, "outputData")
    if any(_is_open_join(task) for task in row.get("tasks") or () if isinstance(task, Mapping)):
        return (*luck, "output")
    return luck


def _is_open_join(row: Mapping[str, Any]) -> bool:
    return _is_unlucky_join(row) or (row.get("taskType") == "JOIN" and row.get("status") == "IN_PROGRESS")


def _is_unlucky_join(row: Mapping[str, Any]) -> bool:
    return row.get("taskType") == "JOIN" and row.get("status") in UNFORTUNATE


COMPARED_BY = dataclasses.replace(RULES, lucky=_lucky)


@dataclass(eq=False)
class Workflow:
    """A workflow on both servers."""

    id: Both
    name: str
    family: list[Workflow] = field(repr=False)
    """Those that one look concerns: parents and children, itself among them."""
    status: str = "RUNNING"
    rows: list[Json] = field(default_factory=list, repr=False)
    """As the embedded server shows them."""
    joined: frozenset[str] = frozenset()
    """The reference names that a JOIN of its definition waits for."""
    references: tuple[str, ...] = ()
    """The reference names of its definition that are not part of a loop."""
    has_children: bool = False
    revived: bool = False
    """Whether it was retried, rerun or restarted by hand."""

    @property
    def has_background(self) -> bool:
        """Whether there are steps that the server works on a moment after the decision that scheduled them."""
        return bool(self.joined) or self.has_children

    @property
    def has_skipped(self) -> bool:
        """Whether a step was skipped by hand."""
        return any(row["status"] == "SKIPPED" for row in self.rows)

    @property
    def is_revivable(self) -> bool:
        """Unless there is a JOIN of which nobody knows how it ended, or a skipped step; a family, once."""
        return not (self.has_unlucky_join or self.has_skipped or (self.revived and len(self.family) > 1))

    def open_rows(self, reference: str) -> int:
        """How many attempts of a step have not ended: several, where a retried one was revived by its child."""
        rows = [row for row in self.rows if row["referenceTaskName"] == reference]
        return sum(row["status"] in OPEN for row in rows)

    @property
    def has_unlucky_join(self) -> bool:
        return any(_is_unlucky_join(row) for row in self.rows)


@dataclass(eq=False)
class Task:
    """An attempt on both servers; `row` is how the embedded one showed it last."""

    id: Both
    workflow: Workflow
    row: Json = field(repr=False)

    @property
    def reference(self) -> str:
        name: str = self.row["referenceTaskName"]
        return name.partition("__")[0]

    @property
    def is_joined(self) -> bool:
        return self.reference in self.workflow.joined


class ServerState:
    """Everything known, by the ids of the embedded server."""

    def __init__(self, targets: tuple[Target, Target]) -> None:
        self.pair = Pair.of(*targets, compared_by=COMPARED_BY)
        self.workflows: dict[str, Workflow] = {}
        self.tasks: dict[str, Task] = {}

    def close(self) -> None:
        """End what still runs, so that the servers' background work does not grow."""
        for workflow in self.workflows.values():
            if workflow.status in ("RUNNING", "PAUSED"):
                self.pair.ask("DELETE", "/workflow/{workflow}", workflow=workflow.id)
        self.pair.close()

    def began(self, answers: tuple[Answer, Answer], name: str) -> None:
        """Take in a workflow that was started, if it was."""
        if answers[0].status == 200:
            self._add(Both(answers[0].text, answers[1].text), name, [])
            self.look(self.workflows[answers[0].text])

    def _add(self, both: Both, name: str, family: list[Workflow]) -> Workflow:
        made = Workflow(both, name, family)
        family.append(made)
        self.workflows[both.embedded] = made
        return made

    def look(self, *workflows: Workflow) -> None:
        """Read these workflows and their families on both servers until they agree."""
        left = list(dict.fromkeys(member for workflow in workflows for member in workflow.family))
        while left:
            workflow = left.pop(0)
            embedded, real = self.pair.settled("GET", "/workflow/{workflow}", workflow=workflow.id)
            if embedded.status == 200:
                left += self._learn(workflow, embedded.json, real.json)

    def look_by_ids(self, ids: Collection[str]) -> None:
        """The same, by the embedded server's ids; unknown ones are passed over."""
        self.look(*(self.workflows[workflow_id] for workflow_id in ids if workflow_id in self.workflows))

    def _learn(self, workflow: Workflow, embedded: Json, real: Json) -> Iterator[Workflow]:
        """Remember what was seen; gives the children that were not known."""
        workflow.status, workflow.rows = embedded["status"], embedded["tasks"]
        steps = list(every_step(embedded["workflowDefinition"]["tasks"]))
        workflow.joined = frozenset(name for step in steps for name in step.get("joinOn") or ())
        workflow.has_children = any(step["type"] == "SUB_WORKFLOW" for step in steps)
        looped = {id(inner) for step in steps for inner in every_step(step.get("loopOver") or [])}
        workflow.references = tuple(step["taskReferenceName"] for step in steps if id(step) not in looped)
        children = []
        for row, other in zip(embedded["tasks"], real["tasks"], strict=True):
            self.tasks[row["taskId"]] = Task(Both(row["taskId"], other["taskId"]), workflow, row)
            child = row.get("subWorkflowId")
            if child and child not in self.workflows:
                children.append(self._add(Both(child, other["subWorkflowId"]), "", workflow.family))
        return iter(children)

    def queues_agree(self, types: Collection[str]) -> dict[str, int]:
        """The sizes of these queues, once both servers show the same."""
        query = {"taskType": list(types)}
        sizes: dict[str, int] = self.pair.settled("GET", "/tasks/queue/sizes", query=query)[0].json
        return sizes
