"""The other task types that the server works on itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

from perago.embedded.conductor import scripts
from perago.embedded.conductor.context import DecisionContext, SystemTask, Termination, required
from perago.embedded.conductor.decider import create_workflow
from perago.embedded.conductor.expressions import cast_error, resolve
from perago.embedded.conductor.state import State, Status, Step, TaskRow, WorkflowRow, WorkflowStatus, without_iteration
from perago.embedded.conductor.wire import MAX_VARIABLES_BYTES, bad_request, not_modelled, size_of
from perago.ports import ServiceError


class _Immediate(SystemTask):
    """Its row is in progress until the same decision executes it."""

    begins = True

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        """Run the step. Inside a loop the server shares maps instead of copying them: an input that is the loop's full
        output has the present iteration, and the loop's output what this step has just done."""
        rows = context.tasks if row.iteration else []
        loops = [loop for loop in rows if loop.kind == "DO_WHILE" and not loop.status.terminal]
        parameters = row.workflow_task["inputParameters"].items()
        for loop in loops:
            whole = f"${{{loop.reference_name}.output}}"
            row.input = {**row.input, **{name: loop.output for name, value in parameters if value == whole}}
        ended = self.run(context, row)
        name, iteration = without_iteration(row.reference_name), str(row.iteration)
        for loop in loops:
            known = loop.output.get(iteration, {})
            if name in known and not self.ends_workflow:
                loop.output = {**loop.output, iteration: {**known, name: row.output}}
        return ended

    def run(self, context: DecisionContext, row: TaskRow) -> bool:
        """Do the work of the step; return whether that has changed its row."""
        raise NotImplementedError(self.kind)


class Inline(_Immediate):
    """Evaluates JavaScript, or with `value-param` takes the parameter that the expression names."""

    kind = "INLINE"
    fields: ClassVar[frozenset[str]] = frozenset(("evaluatorType", "expression"))
    by_name = True
    templated = True

    def check(self, step: Step, where: str) -> None:
        parameters = step["inputParameters"]
        evaluator, expression = parameters.get("evaluatorType", "javascript"), parameters.get("expression")
        if evaluator not in ("javascript", "graaljs", "value-param"):
            raise not_modelled(where, f"evaluatorType {evaluator}")
        if not isinstance(expression, str) or not expression.strip():
            raise not_modelled(where, f"expression {expression!r}")
        if evaluator != "value-param":
            scripts.require("quickjs")

    def run(self, _context: DecisionContext, row: TaskRow) -> bool:
        expression = row.input.get("expression")
        if not isinstance(expression, str) or not expression.strip():  # an expression in it, or the input of a rerun
            reason = "Empty 'expression' in Inline task's input parameters. A non-empty String value must be provided."
            return _fail(row, Status.FAILED_WITH_TERMINAL_ERROR, reason)
        try:
            by_name = row.input.get("evaluatorType") == "value-param"
            result = row.input.get(expression) if by_name else scripts.javascript(expression, row.input)
        except scripts.ScriptError as error:
            is_slow = str(error) == scripts.TOO_SLOW
            return _fail(row, Status.FAILED if is_slow else Status.FAILED_WITH_TERMINAL_ERROR, str(error))
        row.output = {"result": result}
        row.status = Status.COMPLETED
        return True


class Lambda(_Immediate):
    """The older form of INLINE: its script is the body of a function."""

    kind = "LAMBDA"
    by_name = True
    templated = True

    def check(self, step: Step, where: str) -> None:  # noqa: ARG002 - the interface
        scripts.require("quickjs")

    def run(self, _context: DecisionContext, row: TaskRow) -> bool:
        script = row.input.get("scriptExpression")
        row.status = Status.COMPLETED
        if not isinstance(script, str | None):
            return _fail(row, Status.FAILED, cast_error(script, "java.lang.String"))
        if script is None or not script.strip():
            problem = "Empty 'scriptExpression' in Lambda task's input parameters."
            row.status, row.reason = Status.FAILED, f"{problem} A non-empty String value must be provided."
            return True
        try:
            row.output = {"result": scripts.javascript(f"(function () {{ {script}\n}})()", row.input)}
        except scripts.ScriptError as error:
            return _fail(row, Status.FAILED, str(error))
        return True


class JsonJqTransform(_Immediate):
    """Its input, seen through a jq program: the first result and all of them."""

    kind = "JSON_JQ_TRANSFORM"
    by_name = True
    templated = True

    def check(self, step: Step, where: str) -> None:  # noqa: ARG002 - the interface
        scripts.require("jq")

    def problems(self, step: Step) -> Iterator[str]:
        if "queryExpression" not in step["inputParameters"]:
            yield required(step, "inputParameters.queryExpression")

    def run(self, _context: DecisionContext, row: TaskRow) -> bool:
        program = row.input.get("queryExpression")
        if program is None:
            row.status, row.reason = Status.FAILED, "Missing 'queryExpression' in input parameters"
            return True
        if not isinstance(program, str):
            raise Termination(f"Error scheduling tasks: [{row.task_id}], for workflow: {row.workflow_id}")
        try:
            results = scripts.jq(program, row.input)
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
    by_name = True
    knows_its_id = False

    def run(self, context: DecisionContext, row: TaskRow) -> bool:
        variables = {**context.workflow.variables, **row.input}
        size = size_of(variables)
        row.status = Status.COMPLETED
        if size > MAX_VARIABLES_BYTES:
            row.status = Status.FAILED_WITH_TERMINAL_ERROR
            limit = f"is greater than the permissible limit: {MAX_VARIABLES_BYTES // 1024} kilobytes"
            row.reason = f"The variables payload size: {size} of workflow: {row.workflow_id} {limit}"
            return True
        context.workflow.variables = variables
        context.state.store_workflow(context.workflow)
        return True


class Noop(SystemTask):
    """It does nothing. Its row shows no input."""

    kind = "NOOP"
    by_name = True
    begins = True

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        (row,) = super().rows(context, step, retry_count)
        row.input = {}
        return [row]

    def execute(self, _context: DecisionContext, row: TaskRow) -> bool:
        row.status = Status.COMPLETED
        return True


TERMINATION_STATUSES = ("COMPLETED", "FAILED", "TERMINATED")


class Terminate(_Immediate):
    """Ends the workflow with a status and an output of its own; the decider does that once its row is COMPLETED."""

    kind = "TERMINATE"
    by_name = True
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


SUB_WORKFLOW = "SUB_WORKFLOW"

_MODELLED = frozenset(("name", "version", "taskToDomain", "workflowDefinition"))

_ENDS = {
    WorkflowStatus.COMPLETED: Status.COMPLETED,
    WorkflowStatus.FAILED: Status.FAILED,
    WorkflowStatus.TERMINATED: Status.CANCELED,
    WorkflowStatus.TIMED_OUT: Status.TIMED_OUT,
}


class SubWorkflow(SystemTask):
    """The child is started in the background, a moment after the step was scheduled."""

    kind = SUB_WORKFLOW
    fields: ClassVar[frozenset[str]] = frozenset(("subWorkflowParam",))
    background = True
    ends_by_itself = False

    def check(self, step: Step, where: str) -> None:
        fields = {name for name, value in (step.get("subWorkflowParam") or {}).items() if value is not None}
        if fields - _MODELLED:
            raise not_modelled(where, f"subWorkflowParam.{min(fields - _MODELLED)}")
        if isinstance((step.get("subWorkflowParam") or {}).get("workflowDefinition"), str):
            raise not_modelled(where, "subWorkflowParam.workflowDefinition as an expression")

    def problems(self, step: Step) -> Iterator[str]:
        if step.get("subWorkflowParam") is None:
            yield required(step, "subWorkflowParam")

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        sub_workflow = step.get("subWorkflowParam")
        if sub_workflow is None:
            problem = "is defined as sub-workflow and is missing subWorkflowParams"
            raise Termination(f"Task {step['name']} {problem}. Please check the workflow definition")
        definition = sub_workflow.get("workflowDefinition")
        fields = {key: sub_workflow[key] for key in sub_workflow if key != "workflowDefinition"}
        param = resolve(fields, context.visible())
        known = context.state.workflow_definitions.get(param["name"], {})  # also one that a dynamic fork has named
        row = context.new_row(step, self.kind, step["name"])
        row.input = {
            "subWorkflowName": definition["name"] if definition else param["name"],
            "subWorkflowVersion": None if definition else param.get("version") or max(known, default=None),
            "subWorkflowTaskToDomain": param.get("taskToDomain"),
            "subWorkflowDefinition": definition,
            "priority": None,
            "idempotencyKey": None,
            "idempotencyStrategy": None,
            "workflowInput": context.resolved(step),
        }
        row.callback_after_seconds = step["startDelay"]
        return [row]

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        if row.status is not Status.SCHEDULED:
            return
        try:
            child = _child(context, row)
        except ServiceError as error:
            row.status, row.reason = Status.FAILED, error.detail
            return
        row.reason = None
        row.attached_workflow_id = child.workflow_id
        row.output = {**row.output, "subWorkflowId": child.workflow_id}
        row.status = Status.IN_PROGRESS
        _follow(row, child)

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        child = context.state.workflows.get(row.sub_workflow_id or "")
        if child is None or not child.status.terminal:
            return False
        _follow(row, child)
        return True

    def ends_with(self, state: State, row: TaskRow) -> str | None:
        return row.sub_workflow_id or state.sub_workflows.get((row.task_id, row.retry_count))


def _child(context: DecisionContext, row: TaskRow) -> WorkflowRow:
    """Return the child of this attempt: one that it has already started, unless that child has failed.

    A removed child is created again under its id, which the server derives from the ids of the attempt.
    """
    key = (row.task_id, row.retry_count)
    first_id = context.state.sub_workflows.get(key)
    known = context.state.workflows.get(first_id or "")
    if known is not None and known.status in (WorkflowStatus.COMPLETED, WorkflowStatus.RUNNING, WorkflowStatus.PAUSED):
        return known
    step_input = row.input
    definition = step_input["subWorkflowDefinition"]
    payload = step_input.get("workflowInput") or step_input
    child = create_workflow(
        context.state,
        step_input["subWorkflowName"],
        {**payload, "_systemMetadata": {"dynamic": True}} if definition else payload,
        version=step_input["subWorkflowVersion"] or None,
        definition=definition,
        correlation_id=context.workflow.correlation_id,
        task_to_domain=step_input["subWorkflowTaskToDomain"] or context.workflow.task_to_domain,
        parent=row,
        starter=context.workflow,
        workflow_id=first_id if known is None else None,
    )
    context.state.sub_workflows.setdefault(key, child.workflow_id)
    context.state.call_attention(child.workflow_id, decide=True)
    return child


def end_as(row: TaskRow, child: WorkflowRow) -> None:
    """Give the step the status and the output of its child, which has ended."""
    row.status = _ENDS[child.status]
    row.output = {**row.output, **child.output, "subWorkflowId": child.workflow_id}


def _follow(row: TaskRow, child: WorkflowRow) -> None:
    if not child.status.terminal:
        return
    end_as(row, child)
    if row.status is not Status.COMPLETED:
        reason = "null" if child.reason is None else child.reason
        row.reason = f"Sub workflow {child} failure reason: {reason}"


class StartWorkflow(SystemTask):
    """Starts a workflow in the background and completes with its id."""

    kind = "START_WORKFLOW"
    by_name = True
    background = True
    templated = True

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        request: Any = row.input.get("startWorkflow")
        if not isinstance(request, dict):
            row.status, row.reason = Status.FAILED, "Missing 'startWorkflow' in input data."
            return
        if request.get("input", {}) is None:
            row.status, row.reason = Status.FAILED, "NULL input passed when starting workflow"
            return
        if request.get("workflowDef"):
            raise not_modelled(f"task {row.reference_name}", "startWorkflow.workflowDef")
        try:
            started = create_workflow(
                context.state,
                str(request.get("name")),
                request.get("input"),
                version=request.get("version"),
                correlation_id=request.get("correlationId") or context.workflow.correlation_id,
                priority=request.get("priority") or 0,
                task_to_domain=request.get("taskToDomain"),
                starter=context.workflow,
            )
        except ServiceError as error:
            row.status, row.reason = Status.FAILED, error.detail
            return
        context.state.call_attention(started.workflow_id, decide=True)
        row.output = {"workflowId": started.workflow_id}
        row.status = Status.COMPLETED


_DURATION = re.compile(
    r"\s*(?:(\d+)\s*(?:days?|d))?\s*(?:(\d+)\s*(?:hours?|hrs?|h))?\s*(?:(\d+)\s*(?:minutes?|mins?|m))?"
    r"\s*(?:(\d+)\s*(?:seconds?|secs?|s))?\s*",
    re.IGNORECASE,
)

_DATES = ("%Y-%m-%d %H:%M GMT", "%Y-%m-%d %H:%M UTC", "%Y-%m-%d %H:%M", "%Y-%m-%d")

_FOREVER = 2**31 - 1

_RECHECK_SECONDS = 30
"""Seconds after which the server checks an updated step again that has not ended."""


class Wait(SystemTask):
    """For a duration, until a date (UTC), or until an update completes it. Completed in the background."""

    kind = "WAIT"
    by_name = True
    background = True
    begins = True

    def problems(self, step: Step) -> Iterator[str]:
        duration, until = (step["inputParameters"].get(name) for name in ("duration", "until"))
        if duration and until:
            yield "Both 'duration' and 'until' specified. Please provide only one input"
        elif duration and not _is_expression(duration) and _seconds(duration) is None:
            yield f"duration {duration!r} is not valid"
        elif until and not _is_expression(until) and _date(until) is None:
            yield f"until {until!r} is not a date such as 2030-12-31 18:00 GMT"

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        (row,) = super().rows(context, step, retry_count)
        now, duration, until = row.start_time, row.input.get("duration"), row.input.get("until")
        row.callback_after_seconds = _FOREVER
        if duration:
            seconds = _seconds(duration)
            if seconds is None:
                raise bad_request("decide workflow", f"Not valid duration: {duration}")
            row.callback_after_seconds, row.wait_until = seconds, now + seconds * 1000
        elif until:
            date = _date(until)
            if date is None:
                row.status, row.callback_after_seconds = Status.FAILED_WITH_TERMINAL_ERROR, 0
                row.reason = f"Invalid/Unsupported Wait Until format.  Provided: {until}"
                return [row]
            row.callback_after_seconds, row.wait_until = max(0, (date - now) // 1000), max(date, 1)
        return [row]

    def start(self, _context: DecisionContext, row: TaskRow) -> None:
        row.status, row.callback_after_seconds = Status.IN_PROGRESS, _RECHECK_SECONDS

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        if not row.wait_until:
            row.callback_after_seconds = _RECHECK_SECONDS
            return False
        if context.state.now() < row.wait_until:
            return False
        row.status = Status.COMPLETED
        return True


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _seconds(duration: Any) -> int | None:
    """Return a duration such as `2 hours 5 s` in seconds; None for none."""
    match = _DURATION.fullmatch(str(duration))
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _date(until: Any) -> int | None:
    """Return a date in milliseconds since the epoch; None for none."""
    for form in _DATES:
        with suppress(ValueError):
            return round(datetime.strptime(str(until).strip(), form).replace(tzinfo=UTC).timestamp() * 1000)
    return None


class Human(SystemTask):
    """Waits until an update completes it."""

    kind = "HUMAN"
    by_name = True
    ends_by_itself = False
    begins = True

    def start(self, _context: DecisionContext, row: TaskRow) -> None:
        row.status = Status.IN_PROGRESS


_NEEDED = {
    "uri": "Missing HTTP URI.  See documentation for HttpTask for required input parameters",
    "method": "No HTTP method specified",
}
"""The fields of a request, and the reason for the failure without one."""


class Http(SystemTask):
    """A request, answered by the handler that the model was given; there is no network."""

    kind = "HTTP"
    by_name = True
    background = True
    templated = True

    def problems(self, step: Step) -> Iterator[str]:
        if not step["inputParameters"].get("http_request") and not step["inputParameters"].get("uri"):
            yield required(step, "inputParameters.http_request or inputParameters.uri")

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        (row,) = super().rows(context, step, retry_count)
        row.input = {**row.input, "asyncComplete": step["asyncComplete"]}
        return [row]

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        request = row.input.get("http_request") or row.input
        missing = [text for field, text in _NEEDED.items() if isinstance(request, dict) and not request.get(field)]
        if missing:
            row.status, row.reason = Status.FAILED, missing[0]
            return
        handler = context.state.http_handler
        if handler is None:
            row.status = Status.FAILED_WITH_TERMINAL_ERROR
            row.reason = "HTTP tasks reach no network here; give the model a handler: InMemoryConductor(..., http=...)"
            return
        try:
            status, body = handler(dict(request) if isinstance(request, dict) else {"uri": request})
            problem = f"{status} on {request.get('method', 'GET')} request" if status >= 400 else None
        except Exception as error:  # noqa: BLE001 - the handler is the test's; any failure is that of the request
            problem = str(error) or type(error).__name__
        if problem is not None:
            row.status, row.reason = Status.FAILED, f"Failed to invoke HTTP task due to: {problem}"
            row.output = {"response": problem}
            return
        row.output = {"response": {"statusCode": status, "body": body, "headers": {}, "reasonPhrase": ""}}
        row.status = Status.IN_PROGRESS if row.workflow_task["asyncComplete"] else Status.COMPLETED
