"""DO_WHILE: runs its steps again and again, each time as `ref__1`, `ref__2`, ... (`docs/servers/conductor.md` 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perago.embedded.conductor import scripts
from perago.embedded.conductor.context import DecisionContext, SystemTask, not_modelled, required
from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.scheduling import task_input
from perago.embedded.conductor.steps import Step, every_step, following, holds, with_iteration, without_iteration


class Loop(SystemTask):
    """Looked at in every decision. Its condition sees the outputs of the loop and of its steps by reference name.

    The condition is JavaScript, whatever `evaluatorType` says.
    """

    kind = "DO_WHILE"
    fields = frozenset(("loopOver", "loopCondition", "evaluatorType"))
    resumes = True
    iterates = True
    retriable = False

    def check(self, step: Step, where: str) -> None:
        inner = next((inner for inner in every_step(step["loopOver"]) if inner["type"] == self.kind), None)
        if inner is not None:
            raise not_modelled(where, f"a loop inside of a loop ({inner['taskReferenceName']})")
        for parameter in ("keepLastN", "_items"):
            if parameter in step["inputParameters"]:
                raise not_modelled(where, f"inputParameters.{parameter}")
        if step.get("loopCondition"):
            scripts.require("quickjs")

    def problems(self, step: Step) -> Iterator[str]:
        if step.get("loopCondition") is None:
            yield required(step, "loopCondition")
        if not step["loopOver"]:
            yield required(step, "loopOver")

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        if context.latest(step["taskReferenceName"]) is not None:
            return []
        definition = step["taskDefinition"]
        row = context.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=context.state.now())
        row.retry_count = retry_count
        row.rate_limit = (definition["rateLimitPerFrequency"], definition["rateLimitFrequencyInSeconds"])
        row.input = context.resolved(step, row.task_id, templated=True)
        return [row]

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        body = _latest_of_iteration(context, row)
        if not body:
            return _next_iteration(context, row, 1)
        outputs: dict[str, Any] = {}
        for inner in body.values():
            outputs[without_iteration(inner.reference_name)] = inner.output
            if inner.status.unsuccessful:
                row.output = {**row.output, str(row.iteration): outputs}
                row.status, row.reason = Status.FAILED, f"{inner.reason or 'null'} "
                return True
        row.output = {**row.output, str(row.iteration): outputs}
        return _is_complete(context, row, body) and self._go_on(context, row)

    def _go_on(self, context: DecisionContext, row: TaskRow) -> bool:
        condition = row.workflow_task["loopCondition"]
        try:
            again = _is_true(scripts.javascript(condition, _visible(context, row)))
        except scripts.ScriptError as error:
            row.status = Status.FAILED_WITH_TERMINAL_ERROR
            row.reason = f"Unable to evaluate condition {condition}, exception {error}"
            return True
        if again:
            return _next_iteration(context, row, row.iteration + 1)
        row.status = Status.COMPLETED
        return True


def _is_true(value: Any) -> bool:
    """Only true and numbers above zero are; texts, lists and objects are not, unlike in JavaScript."""
    return value is True or (isinstance(value, int | float) and value > 0)


def _belongs(loop: TaskRow, other: TaskRow) -> bool:
    return holds(loop.workflow_task, without_iteration(other.reference_name))


def _latest_of_iteration(context: DecisionContext, loop: TaskRow) -> dict[str, TaskRow]:
    latest: dict[str, TaskRow] = {}
    for row in context.tasks:
        if row.iteration == loop.iteration and _belongs(loop, row):
            known = latest.get(row.reference_name)
            if known is None or row.retry_count > known.retry_count:
                latest[row.reference_name] = row
    return latest


def _next_iteration(context: DecisionContext, loop: TaskRow, iteration: int) -> bool:
    loop.iteration = iteration
    loop.output = {**loop.output, "iteration": iteration}
    rows = context.rows_for(loop.workflow_task["loopOver"][0], loop.retry_count)
    context.choose_domains(rows)
    for row in rows:
        row.reference_name = with_iteration(row.reference_name, iteration)
        row.iteration = iteration
    context.schedule(rows)
    context.tasks += rows
    return True


def _is_complete(context: DecisionContext, loop: TaskRow, body: Mapping[str, TaskRow]) -> bool:
    """Every step of the body is there and done, and so is whatever comes after one that is done."""
    steps = [step["taskReferenceName"] for step in loop.workflow_task["loopOver"]]
    if any(with_iteration(name, loop.iteration) not in body for name in steps):
        return False
    if not all(row.status.terminal for row in body.values()):
        return False
    definition = context.workflow.definition["tasks"]
    after = [following(definition, without_iteration(row.reference_name)) for row in body.values()]
    names = [step["taskReferenceName"] for step in after if step is not None]
    return all(with_iteration(name, loop.iteration) in body for name in names)


def _visible(context: DecisionContext, loop: TaskRow) -> dict[str, Any]:
    step = loop.workflow_task
    visible = task_input(step, step["taskDefinition"], context.visible(), loop.task_id)
    visible[loop.reference_name] = loop.output
    for row in context.tasks:
        if row.iteration and _belongs(loop, row):
            visible[without_iteration(row.reference_name)] = row.output
    return visible
