"""SWITCH: schedules the first step of the case that its expression names, else of the default case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from perago.embedded.conductor.javascript import Script, ScriptError
from perago.embedded.conductor.javatext import java_text
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowStatus
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks.task import SystemTask, not_modelled, required
from perago.embedded.conductor.timers import Termination

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn

_SCRIPTS = ("javascript", "graaljs")


class Switch(SystemTask):
    """Its row shows the type SWITCH also as its name. The case is chosen when it is scheduled."""

    kind = "SWITCH"
    fields = frozenset(("decisionCases", "defaultCase", "evaluatorType", "expression"))
    retriable = False

    def check(self, step: Step, where: str) -> None:
        evaluator = step.get("evaluatorType")
        if evaluator == "python":
            raise not_modelled(where, "evaluatorType python")
        if evaluator in _SCRIPTS and step.get("expression"):
            Script(step["expression"])

    def problems(self, step: Step) -> Iterator[str]:
        if step.get("evaluatorType") is None:
            yield required(step, "evaluatorType")
        elif step.get("expression") is None:
            yield required(step, "expression")
        if not step["decisionCases"]:
            yield f"decisionCases should have atleast one task for taskType: {self.kind} taskName: {step['name']}"

    def rows(self, turn: Turn, step: Step, retry_count: int) -> list[TaskRow]:
        visible = turn.resolved(step)
        row = turn.new_row(step, "SWITCH", "SWITCH", start_time=turn.state.now())
        row.input = visible
        try:
            case = _case(step, visible)
        except ScriptError as error:
            row.status, row.reason = Status.FAILED, str(error)
            return [row]
        row.status = Status.IN_PROGRESS
        row.input = {**visible, "case": case}
        row.output = {"evaluationResult": [case], "selectedCase": case}
        chosen = step["decisionCases"].get(case, step["defaultCase"])
        if not chosen:
            return [row]
        inner = turn.rows_for(chosen[0], retry_count)
        row.input = {**row.input, "hasChildren": "true"}
        return [row, *inner]

    def leads_on(self, row: TaskRow) -> bool:
        return "hasChildren" not in row.input

    def execute(self, _turn: Turn, row: TaskRow) -> bool:
        row.status = Status.COMPLETED
        return True


def _case(step: Step, visible: Mapping[str, Any]) -> str:
    evaluator, expression = step["evaluatorType"], step["expression"]
    if evaluator == "value-param":
        return java_text(visible.get(expression))
    if evaluator in _SCRIPTS:
        return java_text(Script(expression).evaluate(visible))
    raise Termination(f"No evaluator registered for type: {evaluator}", WorkflowStatus.FAILED)
