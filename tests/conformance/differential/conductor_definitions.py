"""Draws definitions of workflows (steps in a row, forks, loops, switches, sub-workflows) and results of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

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
        step: Json = {
            "name": self.draw(st.sampled_from(self.types)),
            "taskReferenceName": self._reference(label),
            "type": "SIMPLE",
            "inputParameters": given,
        }
        if self.draw(st.integers(0, 3)) == 0 if optional is None else optional:
            step["optional"] = True
        if (retries := self.draw(st.sampled_from((None, None, 0, 1)))) is not None:
            step["retryCount"] = retries
        return step

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
        fork = {"name": "fork", "taskReferenceName": self._reference("fork"), "type": "FORK_JOIN"}
        join = {"name": "join", "taskReferenceName": self._reference("join"), "type": "JOIN"}
        joined = named if self.draw(st.booleans()) else named[:1]
        return [{**fork, "forkTasks": branches}, {**join, "joinOn": joined}]

    def loop(self) -> list[Json]:
        """One or two rounds of one or two steps."""
        reference, rounds = self._reference("loop"), self.draw(st.integers(1, 2))
        condition = f"if ($.{reference}['iteration'] < {rounds}) {{ true; }} else {{ false; }}"
        body = self._one("l")
        more = self.draw(st.sampled_from(("none", "simple", "switch")))
        rest = {"none": list, "simple": lambda: [self._one("l")], "switch": self.switch}[more]()
        loop = {"name": "loop", "taskReferenceName": reference, "type": "DO_WHILE", "loopCondition": condition}
        return [{**loop, "loopOver": [body, *rest]}]

    def switch(self) -> list[Json]:
        """Chosen by the input of the workflow; the default case may be empty."""
        reference = self._reference("switch")
        cases = {"1": [self._one("c")], "2": [self._one("c"), self._one("c")]}
        default = [self._one("d")] if self.draw(st.booleans()) else []
        step = {"name": "switch", "taskReferenceName": reference, "type": "SWITCH", "evaluatorType": "value-param"}
        given = {"expression": "on", "inputParameters": {"on": "${workflow.input.x}"}}
        return [{**step, **given, "decisionCases": cases, "defaultCase": default}]

    def sub(self) -> list[Json]:
        step: Json = {"name": "sub", "taskReferenceName": self._reference("sub"), "type": "SUB_WORKFLOW"}
        parameters: Json = {"name": self.draw(st.sampled_from(self.inner))}
        if self.draw(st.booleans()):
            parameters["version"] = 1
        if self.draw(st.integers(0, 3)) == 0:
            step["optional"] = True
        return [{**step, "inputParameters": {"x": "${workflow.input.x}"}, "subWorkflowParam": parameters}]

    def inline(self) -> list[Json]:
        given = {"evaluatorType": "javascript", "expression": "$.x", "x": "${workflow.input.x}"}
        reference = self._reference("inline")
        return [{"name": "inline", "taskReferenceName": reference, "type": "INLINE", "inputParameters": given}]

    def variable(self) -> list[Json]:
        given = {"v": "${workflow.input.x}"}
        reference = self._reference("variable")
        return [{"name": "variable", "taskReferenceName": reference, "type": "SET_VARIABLE", "inputParameters": given}]

    def terminate(self) -> list[Json]:
        status = self.draw(st.sampled_from(("COMPLETED", "FAILED", "TERMINATED")))
        given = {"terminationStatus": status, "workflowOutput": {"x": "${workflow.input.x}"}}
        reference = self._reference("end")
        return [{"name": "end", "taskReferenceName": reference, "type": "TERMINATE", "inputParameters": given}]
