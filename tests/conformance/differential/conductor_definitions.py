"""Draws definitions of workflows (steps in a row, forks, loops, switches, sub-workflows) and results of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from ..conductor.operators import inline, operator, sub_workflow, switch, system_task
from ..conductor.workflows import step

Json = dict[str, Any]

STATUSES = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "FAILED", "IN_PROGRESS", "FAILED_WITH_TERMINAL_ERROR")
RARE_STATUSES = ("CANCELED", "TIMED_OUT", "completed")
NOWHERE = "00000000-0000-4000-8000-000000000000"
"""The id of nothing."""

outputs = st.sampled_from(({}, {"n": 1}, {"n": 2, "x": None}, {"n": {"deep": [1.0, "ü"]}}))

UNUSUAL: tuple[Json, ...] = (
    {"status": None},
    {"taskId": None},
    {"workflowInstanceId": None},
    {"workerId": None},
    {"outputData": None},
    {"taskId": NOWHERE},
    {"extendLease": True},
    {"callbackAfterSeconds": -1},
    {"logs": [{"log": "from the result", "createdTime": 5}]},
)
"""Members of a result that replace the usual ones; None leaves one out."""


def few(of: int) -> st.SearchStrategy[bool]:
    """True once in `of` times."""
    return st.integers(1, of).map(lambda number: number == of)


@st.composite
def results(draw: st.DrawFn, joined: bool) -> Json:
    """A result without its ids. A step that a JOIN waits for (`joined`) ends well, or not at all, and has no output yet
    while it runs."""
    status: str | None = draw(st.sampled_from((*STATUSES, *RARE_STATUSES)))
    if joined and status not in ("IN_PROGRESS", "TIMED_OUT", "completed"):
        status = "COMPLETED"
    output = draw(outputs)
    fields: Json = {"status": status, "outputData": {} if joined and status == "IN_PROGRESS" else output}
    if draw(few(2)):
        fields["reasonForIncompletion"] = draw(st.sampled_from(("boo", "", "x" * 600)))
    if draw(few(3)):
        fields["callbackAfterSeconds"] = 0
    if draw(few(4)):
        fields |= draw(st.sampled_from(UNUSUAL))
    return fields


KINDS = ("simple", "simple", "simple", "fork", "loop", "switch", "sub", "inline", "variable", "terminate")


@st.composite
def workflows(draw: st.DrawFn, name: str, types: Sequence[str], inner: Sequence[str]) -> Json:
    """A definition whose steps are of these task types, and whose sub-workflows run one of the `inner` workflows."""
    builder = _Builder(draw, types, inner)
    kinds = draw(st.lists(st.sampled_from(KINDS if inner else ("simple", "simple", "switch")), min_size=1, max_size=3))
    tasks = [step for kind in kinds for step in getattr(builder, kind)()]
    made: Json = {"name": name, "version": 1, "schemaVersion": 2, "tasks": tasks}
    if draw(st.booleans()):
        made["outputParameters"] = {"last": f"${{{builder.references[-1]}.output.n}}", "x": "${workflow.input.x}"}
    return made


@dataclass
class _Builder:
    draw: st.DrawFn
    types: Sequence[str]
    inner: Sequence[str]
    references: list[str] = field(default_factory=list)

    def _reference(self, label: str) -> str:
        made = f"{label}{len(self.references)}"
        self.references.append(made)
        return made

    def _one(self, label: str, *, optional: bool | None = None) -> Json:
        """A step for a worker; it passes on what an earlier step put out."""
        given = {"x": "${workflow.input.x}"}
        if self.references:
            given["n"] = f"${{{self.draw(st.sampled_from(self.references))}.output.n}}"
        name = self.draw(st.sampled_from(self.types))
        made = step(name, self._reference(label), inputParameters=given)
        if self.draw(st.integers(0, 3)) == 0 if optional is None else optional:
            made["optional"] = True
        if (retries := self.draw(st.sampled_from((None, None, 0, 1)))) is not None:
            made["retryCount"] = retries
        return made

    def simple(self) -> list[Json]:
        return [self._one("s")]

    def fork(self) -> list[Json]:
        """Two branches, of which the JOIN waits for both or for the first one only. At most one has a sub-workflow."""
        branches = []
        for more in ((), ("sub",)):
            first = self.draw(st.sampled_from(("none", "none", "simple", *more)))
            before = {"none": list, "simple": lambda: [self._one("a")], "sub": self.sub}[first]()
            branches.append([*before, self._one("f", optional=False)])
        named = [branch[-1]["taskReferenceName"] for branch in branches]
        joined = named if self.draw(st.booleans()) else named[:1]
        return [
            operator("FORK_JOIN", self._reference("fork"), forkTasks=branches),
            operator("JOIN", self._reference("join"), joinOn=joined),
        ]

    def loop(self) -> list[Json]:
        """One or two rounds of one or two steps."""
        reference, rounds = self._reference("loop"), self.draw(st.integers(1, 2))
        condition = f"if ($.{reference}['iteration'] < {rounds}) {{ true; }} else {{ false; }}"
        body = self._one("l")
        more = self.draw(st.sampled_from(("none", "simple", "switch")))
        rest = {"none": list, "simple": lambda: [self._one("l")], "switch": self.switch}[more]()
        return [operator("DO_WHILE", reference, loopCondition=condition, loopOver=[body, *rest])]

    def switch(self) -> list[Json]:
        """Chosen by the input of the workflow; the default case may be empty."""
        reference = self._reference("switch")
        cases = {"1": [self._one("c")], "2": [self._one("c"), self._one("c")]}
        return [switch(cases, [self._one("d")] if self.draw(st.booleans()) else [], reference=reference)]

    def sub(self) -> list[Json]:
        reference, name = self._reference("sub"), self.draw(st.sampled_from(self.inner))
        parameters = {"name": name} | ({"version": 1} if self.draw(st.booleans()) else {})
        optional = {"optional": True} if self.draw(st.integers(0, 3)) == 0 else {}
        return [sub_workflow(name, reference, subWorkflowParam=parameters, **optional)]

    def inline(self) -> list[Json]:
        return [inline(self._reference("inline"), "$.x", x="${workflow.input.x}")]

    def variable(self) -> list[Json]:
        return [system_task("SET_VARIABLE", self._reference("variable"), v="${workflow.input.x}")]

    def terminate(self) -> list[Json]:
        status = self.draw(st.sampled_from(("COMPLETED", "FAILED", "TERMINATED")))
        given = {"terminationStatus": status, "workflowOutput": {"x": "${workflow.input.x}"}}
        return [system_task("TERMINATE", self._reference("end"), **given)]
