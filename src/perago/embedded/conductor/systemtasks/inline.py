"""INLINE: a script, evaluated within the decision that schedules it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perago.embedded.conductor.javascript import Script, ScriptError
from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks.task import SystemTask, not_modelled

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn


_NO_EXPRESSION = "Empty 'expression' in Inline task's input parameters. A non-empty String value must be provided."


class Inline(SystemTask):
    """Evaluates an expression of the small language that `javascript` knows."""

    kind = "INLINE"

    def check(self, step: Step, where: str) -> None:
        given = step["inputParameters"]
        evaluator, expression = given.get("evaluatorType", "javascript"), given.get("expression")
        if evaluator not in ("javascript", "graaljs"):
            raise not_modelled(where, f"evaluatorType {evaluator}")
        if not isinstance(expression, str) or not expression.strip() or "${" in expression:
            raise not_modelled(where, f"expression {expression!r}")
        Script(expression)

    def rows(self, turn: Turn, step: Step, _retry_count: int) -> list[TaskRow]:
        row = turn.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=turn.state.now())
        row.input = turn.resolved(step, row.task_id, templated=True)
        return [row]

    def execute(self, _turn: Turn, row: TaskRow) -> bool:
        expression = row.input.get("expression")
        if not isinstance(expression, str) or not expression.strip():  # the input of a rerun
            return _fail(row, _NO_EXPRESSION)
        try:
            row.output = {"result": Script(expression).evaluate(row.input)}
        except ScriptError as error:
            return _fail(row, str(error))
        row.status = Status.COMPLETED
        return True


def _fail(row: TaskRow, reason: str) -> bool:
    row.status, row.reason = Status.FAILED_WITH_TERMINAL_ERROR, reason
    row.output = {**row.output, "error": reason}
    return True
