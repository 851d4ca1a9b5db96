"""Steps that are done within the decision that schedules them, INLINE and SET_VARIABLE among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from perago.embedded.conductor import scripts
from perago.embedded.conductor.context import DecisionContext, SystemTask, not_modelled
from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step, without_iteration


class _Immediate(SystemTask):
    """Its row is in progress until the same decision executes it."""

    templated: ClassVar[bool] = False
    """The `inputTemplate` of its task definition counts."""
    knows_its_id: ClassVar[bool] = True

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        now = context.state.now()
        row = context.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=now)
        row.input = context.resolved(step, row.task_id if self.knows_its_id else None, templated=self.templated)
        return [row]

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        """Do it. Inside of a loop the server shares maps instead of copying them: an input that is the loop's whole
        output has the present iteration, and the loop's output what this step has just done."""
        loops = [
            loop for loop in context.tasks if row.iteration and loop.kind == "DO_WHILE" and not loop.status.terminal
        ]
        given = row.workflow_task["inputParameters"].items()
        for loop in loops:
            whole = f"${{{loop.reference_name}.output}}"
            row.input = {**row.input, **{name: loop.output for name, value in given if value == whole}}
        ended = self.run(context, row)
        name, iteration = without_iteration(row.reference_name), str(row.iteration)
        for loop in loops:
            known = loop.output.get(iteration, {})
            if name in known:
                loop.output = {**loop.output, iteration: {**known, name: row.output}}
        return ended

    def run(self, context: DecisionContext, row: TaskRow) -> bool:
        """What the step does; whether that has changed its row."""
        raise NotImplementedError(self.kind)


class Inline(_Immediate):
    """Evaluates JavaScript, or with `value-param` takes the parameter that the expression names."""

    kind = "INLINE"
    templated = True

    def check(self, step: Step, where: str) -> None:
        given = step["inputParameters"]
        evaluator, expression = given.get("evaluatorType", "javascript"), given.get("expression")
        if evaluator not in ("javascript", "graaljs", "value-param"):
            raise not_modelled(where, f"evaluatorType {evaluator}")
        if not isinstance(expression, str) or not expression.strip():
            raise not_modelled(where, f"expression {expression!r}")
        if evaluator != "value-param":
            scripts.require("quickjs")

    def run(self, _context: DecisionContext, row: TaskRow) -> bool:
        expression = row.input.get("expression")
        if not isinstance(expression, str) or not expression.strip():  # an expression in it, or the input of a rerun
            return _fail(row, Status.FAILED_WITH_TERMINAL_ERROR, "Empty 'expression': an INLINE task needs a script")
        try:
            by_name = row.input.get("evaluatorType") == "value-param"
            result = row.input.get(expression) if by_name else scripts.javascript(expression, row.input)
        except scripts.ScriptError as error:
            return _fail(row, Status.FAILED_WITH_TERMINAL_ERROR, str(error))
        row.output = {"result": result}
        row.status = Status.COMPLETED
        return True


class JsonJqTransform(_Immediate):
    """Its input, seen through a jq program: the first result and all of them."""

    kind = "JSON_JQ_TRANSFORM"
    templated = True

    def check(self, step: Step, where: str) -> None:  # noqa: ARG002 - the interface
        scripts.require("jq")

    def problems(self, step: Step) -> Iterator[str]:
        if not step["inputParameters"].get("queryExpression"):
            yield (
                f"inputParameters.queryExpression field is required for taskType: {self.kind} taskName: {step['name']}"
            )

    def run(self, _context: DecisionContext, row: TaskRow) -> bool:
        try:
            results = scripts.jq(str(row.input.get("queryExpression")), row.input)
        except scripts.ScriptError as error:
            return _fail(row, Status.FAILED, str(error))
        row.output = {"result": results[0] if results else None, "resultList": results}
        row.status = Status.COMPLETED
        return True


def _fail(row: TaskRow, status: Status, reason: str) -> bool:
    row.status, row.reason = status, reason
    row.output = {**row.output, "error": reason}
    return True


class SetVariable(_Immediate):
    """Its input becomes variables of the workflow."""

    kind = "SET_VARIABLE"
    knows_its_id = False

    def run(self, context: DecisionContext, row: TaskRow) -> bool:
        context.workflow.variables = {**context.workflow.variables, **row.input}
        context.state.store_workflow(context.workflow)
        row.status = Status.COMPLETED
        return True


class Noop(SystemTask):
    """Nothing; its row shows no input."""

    kind = "NOOP"

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        now = context.state.now()
        return [context.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=now)]

    def execute(self, _context: DecisionContext, row: TaskRow) -> bool:
        row.status = Status.COMPLETED
        return True


TERMINATION_STATUSES = ("COMPLETED", "FAILED", "TERMINATED")


class Terminate(_Immediate):
    """Ends the workflow with a status and an output of its own; the decider does that once its row is COMPLETED."""

    kind = "TERMINATE"
    ends_workflow = True

    def check(self, step: Step, where: str) -> None:
        status = step["inputParameters"].get("terminationStatus")
        if isinstance(status, str) and "${" in status:
            raise not_modelled(where, f"terminationStatus {status}")

    def problems(self, step: Step) -> Iterator[str]:
        if step["optional"]:
            yield f"terminate task cannot be optional, taskName: {step['name']}"
        if step["inputParameters"].get("terminationStatus") not in TERMINATION_STATUSES:
            yield f"terminationStatus must be one of {', '.join(TERMINATION_STATUSES)}, taskName: {step['name']}"

    def run(self, _context: DecisionContext, row: TaskRow) -> bool:
        if row.input.get("terminationStatus") not in TERMINATION_STATUSES:  # the input of a rerun
            row.status, row.reason = Status.FAILED, "given termination status is not valid"
            return False
        output: Any = row.input.get("workflowOutput")
        row.output = output if isinstance(output, dict) else {} if output is None else {"output": output}
        row.status = Status.COMPLETED
        return True
