"""Steps that lead to several others: SWITCH, forks, JOIN, DYNAMIC and DO_WHILE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, ClassVar

from perago.conductor_json import every_step
from perago.embedded.conductor import scripts
from perago.embedded.conductor.context import (
    SYSTEM_TASKS,
    DecisionContext,
    SystemTask,
    Termination,
    required,
    task_input,
)
from perago.embedded.conductor.decider import task_definition
from perago.embedded.conductor.definitions import UNMODELLED, parse_dynamic_steps, refuse_unmodelled_fields
from perago.embedded.conductor.expressions import cast_error, java_text
from perago.embedded.conductor.state import (
    OPERATORS,
    State,
    Status,
    Step,
    TaskRow,
    following,
    holds,
    with_iteration,
    without_iteration,
)
from perago.embedded.conductor.wire import bad_request, copied, not_modelled, server_error
from perago.ports import ServiceError

_SCRIPTS = ("javascript", "graaljs")


class Switch(SystemTask):
    """Its row shows the type SWITCH also as its name. The case is chosen when it is scheduled."""

    kind = "SWITCH"
    fields: ClassVar[frozenset[str]] = frozenset(("decisionCases", "defaultCase", "evaluatorType", "expression"))
    retriable = False

    def check(self, step: Step, where: str) -> None:
        if step.get("evaluatorType") == "python":
            raise not_modelled(where, "evaluatorType python")
        if step.get("evaluatorType") in _SCRIPTS:
            scripts.require("quickjs")

    def problems(self, step: Step) -> Iterator[str]:
        if step.get("evaluatorType") is None:
            yield required(step, "evaluatorType")
        elif step.get("expression") is None:
            yield required(step, "expression")
        elif step["evaluatorType"] in _SCRIPTS:
            yield from _syntax_problems(step, step["expression"])
        if not step["decisionCases"]:
            yield f"decisionCases should have atleast one task for taskType: {self.kind} taskName: {step['name']}"

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        visible = context.resolved(step)
        row = context.new_row(step, "SWITCH", "SWITCH", start_time=context.state.now())
        row.input = visible
        try:
            case = _case(step, visible)
        except scripts.ScriptError as error:
            row.status, row.reason = Status.FAILED, str(error)
            return [row]
        row.status = Status.IN_PROGRESS
        row.input = {**visible, "case": case}
        row.output = {"evaluationResult": [case], "selectedCase": case}
        return _with_case(context, row, step["decisionCases"].get(case, step["defaultCase"]), retry_count)

    def has_successor(self, row: TaskRow) -> bool:
        return "hasChildren" not in row.input

    def execute(self, _context: DecisionContext, row: TaskRow) -> bool:
        row.status = Status.COMPLETED
        return True


def _case(step: Step, visible: Mapping[str, Any]) -> str:
    evaluator, expression = step.get("evaluatorType"), step.get("expression", "")
    if evaluator == "value-param":
        return java_text(visible.get(expression))
    if evaluator in _SCRIPTS:
        return java_text(scripts.javascript(expression, visible))
    raise Termination(f"No evaluator registered for type: {java_text(evaluator)}")


class Decision(Switch):
    """The older form of SWITCH. A script that fails ends the workflow."""

    kind = "DECISION"
    fields: ClassVar[frozenset[str]] = frozenset(("decisionCases", "defaultCase", "caseValueParam", "caseExpression"))

    def check(self, step: Step, where: str) -> None:  # noqa: ARG002 - the interface
        if step.get("caseExpression"):
            scripts.require("quickjs")

    def problems(self, step: Step) -> Iterator[str]:
        if not step["decisionCases"]:
            yield f"decisionCases should have atleast one task for taskType: {self.kind} taskName: {step['name']}"
        if step.get("caseValueParam") is None and step.get("caseExpression") is None:
            yield required(step, "caseValueParam or caseExpression")
        yield from _syntax_problems(step, step.get("caseExpression") or "")

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        visible, expression = context.resolved(step), step.get("caseExpression")
        row = context.new_row(step, self.kind, self.kind, Status.IN_PROGRESS, context.state.now())
        case_value = visible.get(step.get("caseValueParam") or "")
        try:
            case = java_text(scripts.javascript(expression, visible) if expression else case_value)
        except scripts.ScriptError:
            raise Termination(f"Error while evaluating script: {expression}") from None
        row.input, row.output = {"case": case}, {"caseOutput": [case]}
        return _with_case(context, row, step["decisionCases"].get(case) or step["defaultCase"], retry_count)


def _syntax_problems(step: Step, script: str) -> Iterator[str]:
    try:
        scripts.javascript(f"if (false) {{ {script}\n}}", {}) if script else None
    except scripts.ScriptError as error:
        yield f"Expression is not well formatted: {error}, taskType: {step['type']} taskName {step['name']}"


def _with_case(context: DecisionContext, row: TaskRow, chosen: list[Step], retry_count: int) -> list[TaskRow]:
    """Return the row of a choice, and those of the first step of the chosen branch."""
    if not chosen:
        return [row]
    inner = context.rows_for(chosen[0], retry_count)
    row.input = {**row.input, "hasChildren": "true"}
    return [row, *inner]


class Fork(SystemTask):
    """Done as soon as it is scheduled, together with the first step of each branch. Its row shows the type FORK."""

    kind = "FORK_JOIN"
    fields: ClassVar[frozenset[str]] = frozenset(("forkTasks", "joinOn"))
    retriable = False

    def problems(self, step: Step) -> Iterator[str]:
        if not step["forkTasks"]:
            yield f"forkTasks should have atleast one task for taskType: {self.kind} taskName: {step['name']}"

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        if not all(step["forkTasks"]):
            raise server_error("decide workflow", f"a branch of {step['taskReferenceName']} is empty")
        fork = _fork_row(context, step, context.resolved(step))
        rows = [row for branch in step["forkTasks"] for row in context.rows_for(branch[0], retry_count)]
        join = _join_after(context, step, "Fork task definition is not followed by a join task.  Check the blueprint")
        return [fork, *rows, *context.rows_for(join, retry_count)]


_SEPARATE = ("dynamicForkTasksParam", "dynamicForkTasksInputParamName")


class DynamicFork(SystemTask):
    """FORK_JOIN_DYNAMIC: each branch is one step. The input names the steps while the workflow runs.

    The JOIN after it waits for all of them, whatever its `joinOn` says. A JOIN that is scheduled again without its fork
    waits for nothing, as on the server.
    """

    kind = "FORK_JOIN_DYNAMIC"
    fields: ClassVar[frozenset[str]] = frozenset((*_SEPARATE, "dynamicForkJoinTasksParam", "joinOn"))
    retriable = False

    def check(self, step: Step, where: str) -> None:
        """Refuse invalid steps that an input names without an expression. Others are refused while the workflow
        runs."""
        parameters = step["inputParameters"]
        listed = parameters.get(step.get("dynamicForkTasksParam") or "")
        tasks = [task for task in listed if isinstance(task, Mapping)] if isinstance(listed, list) else []
        for task in [*tasks, {"name": parameters.get("forkTaskName"), "type": parameters.get("forkTaskType")}]:
            named = {field: task[field] for field in ("name", "type") if isinstance(task.get(field), str)}
            if {*named.values()} & {*UNMODELLED, *SYSTEM_TASKS}:
                refuse_unmodelled_fields([named], f"dynamic tasks of {where}")

    def problems(self, step: Step) -> Iterator[str]:
        in_one = step.get("dynamicForkJoinTasksParam")
        if in_one and any(map(step.get, _SEPARATE)):
            yield f"dynamicForkJoinTasksParam and {_SEPARATE[0]} exclude each other, taskName: {step['name']}"
        if not in_one and "forkTaskInputs" not in step["inputParameters"]:
            yield from (required(step, field) for field in _SEPARATE if not step.get(field))

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        resolved_input = context.resolved(step)
        steps = _forked(context, step, resolved_input)
        reason = "Dynamic join definition is not followed by a join task.  Check the workflow definition."
        join = _join_after(context, step, reason)
        shown = []
        for inner in steps:
            if inner["type"] == Dynamic.kind:
                inner["name"] = inner["inputParameters"].get(inner.get("dynamicTaskNameParam")) or inner["name"]
            definition = context.state.task_definitions.get(inner["name"])
            shown.append(copied({**inner, **({"taskDefinition": definition} if definition else {})}))
        names = [inner["taskReferenceName"] for inner in steps]
        fork = _fork_row(context, step, {**resolved_input, "forkedTaskDefs": shown, "forkedTasks": names})
        if context.latest(step["taskReferenceName"]) is not None:
            steps = []
        for inner in every_step(steps):
            definition = task_definition(context.state, inner)
            if inner["name"] in OPERATORS:  # a step without a type that names an operator is not repeated
                definition["retryCount"] = context.state.task_definitions.get(inner["name"], {}).get("retryCount", 0)
            inner.setdefault("taskDefinition", definition)
        branches = [context.rows_for(inner, retry_count) for inner in steps]
        joins = context.rows_for(join, retry_count)
        for row in joins:
            row.input = {**row.input, "joinOn": [rows[-1].reference_name for rows in branches if rows]}
        return [fork, *(row for rows in branches for row in rows), *joins]


def _forked(context: DecisionContext, step: Step, resolved_input: Mapping[str, Any]) -> list[Step]:
    """Return the steps of a dynamic fork in the three forms in which an input may have them."""
    inputs: Any = {}
    where, state = step["taskReferenceName"], context.state
    if step.get("dynamicForkTasksParam"):
        parameter = step["dynamicForkTasksParam"]
        inputs = resolved_input.get(step.get("dynamicForkTasksInputParamName", ""))
        tasks = resolved_input.get(parameter)
    elif step.get("dynamicForkJoinTasksParam"):
        parameter = step["dynamicForkJoinTasksParam"]
        fork_and_join = resolved_input.get(parameter)
        tasks = fork_and_join.get("dynamicTasks") if isinstance(fork_and_join, Mapping) else None
        if not isinstance(tasks, list | None):
            raise bad_request("fork dynamically", f"dynamicTasks of {where} is not a list")
        tasks = None if tasks is None else [_named(task, where) for task in tasks]
    else:
        parameter, tasks = "forkTaskInputs", _numbered(state, step, resolved_input)
    reason = f"Input '{parameter}' is invalid. Cannot deserialize a list of Workflow Tasks from '{java_text(tasks)}'"
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
        raise Termination(reason)
    for task in tasks:
        if task.get("name") is None:
            raise server_error("fork dynamically", f"a task of {where} has no name")
        known = (None, "SIMPLE", *SYSTEM_TASKS, *UNMODELLED)
        if task.get("type") not in known and task["name"] not in state.task_definitions:
            problem = f"Cannot find task by name {task['name']} in the task definitions"
            raise Termination(f"Invalid task specified. {problem}")
    if step.get("dynamicForkTasksParam") and any(task.get("taskReferenceName") is None for task in tasks):
        raise Termination(reason)
    if not isinstance(inputs, Mapping):
        expectation = "Input to the dynamically forked tasks is not a map -> expecting a map of K,V"
        raise Termination(f"{expectation}  but found {java_text(inputs)}")
    try:
        steps = parse_dynamic_steps(tasks, where)
    except ServiceError as error:
        raise Termination(reason) from error
    for inner in steps:
        own = inputs.get(inner["taskReferenceName"])
        if not isinstance(own, Mapping | None):
            problem = f"Tasks could not be dynamically forked due to invalid input: {cast_error(own, 'java.util.Map')}"
            raise Termination(problem)
        inner["inputParameters"] = {**inner["inputParameters"], **(own or {})}
    return steps


def _named(task: Any, where: str) -> dict[str, Any]:
    """Return one of `dynamicTasks`. The server reads `workflowName`, and does not use it."""
    if not isinstance(task, Mapping):
        raise server_error("fork dynamically", f"a task of {where} is null")
    named = {"name": task.get("taskName"), "taskReferenceName": task.get("referenceName")}
    return {**named, "type": task.get("type") or "SIMPLE", "inputParameters": task.get("input") or {}}


_TEXTS = ("forkTaskName", "forkTaskType", "forkTaskWorkflow", "forkTaskWorkflowVersion")


def _numbered(state: State, step: Step, resolved_input: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the same worker's task, operator or workflow once for each input."""
    inputs = resolved_input.get("forkTaskInputs")
    workflow, kind = resolved_input.get("forkTaskWorkflow"), resolved_input.get("forkTaskType")
    for text in _TEXTS:
        if not isinstance(resolved_input.get(text), str | None):
            raise server_error("fork dynamically", f"{text} of {step['taskReferenceName']} is not a text")
    if not isinstance(inputs, list):
        value = f"The value of null from task's input {java_text(resolved_input)}"
        raise Termination(f"Dynamic tasks could not be created. {value} has no dynamic tasks to be scheduled")
    if None in inputs:
        raise server_error("fork dynamically", f"an input of {step['taskReferenceName']} is null")
    if "" in (resolved_input.get("forkTaskName"), kind):
        raise not_modelled(f"task {step['taskReferenceName']}", "an empty forkTaskName or forkTaskType")
    name = resolved_input.get("forkTaskName") or (kind if kind in SYSTEM_TASKS else step["taskReferenceName"])
    task: dict[str, Any] = {"name": name, "type": kind}
    if workflow is not None and workflow not in state.workflow_definitions:
        raise Termination(f"The Task {workflow} defined as a sub-workflow has no workflow definition available ")
    if workflow is not None:
        version = str(resolved_input.get("forkTaskWorkflowVersion"))
        param = {"name": workflow, **({"version": int(version)} if version.isdecimal() else {})}
        task = {"name": workflow, "type": "SUB_WORKFLOW", "subWorkflowParam": param}
    tasks = []
    for index, fork_input in enumerate(inputs):
        own = fork_input if isinstance(fork_input, Mapping) else {"input": fork_input}
        script = {field: own.get(field) for field in ("evaluatorType", "expression")} if kind == "INLINE" else {}
        parameters = {"__index": index, **own} | {"__index": index}
        tasks.append({**task, **script, "taskReferenceName": f"_{name}_{index}", "inputParameters": parameters})
    return tasks


def _fork_row(context: DecisionContext, step: Step, row_input: dict[str, Any]) -> TaskRow:
    row = context.new_row(step, "FORK", "FORK", status=Status.COMPLETED, start_time=context.state.now())
    row.input = row_input
    return row


def _join_after(context: DecisionContext, step: Step, complaint: str) -> Step:
    join = following(context.workflow.definition["tasks"], step["taskReferenceName"])
    if join is None or join["type"] != "JOIN":
        raise Termination(complaint)
    return join


class Dynamic(SystemTask):
    """DYNAMIC: a step of the task type that its input names. Its row is that of the named type.

    As on the server, its task definition is not that of the named type: without a definition of its own name it has no
    retries and no response timeout.
    """

    kind = "DYNAMIC"
    fields: ClassVar[frozenset[str]] = frozenset(("dynamicTaskNameParam",))

    def problems(self, step: Step) -> Iterator[str]:
        if not step.get("dynamicTaskNameParam"):
            yield required(step, "dynamicTaskNameParam")

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        resolved_input = context.resolved(step)
        name = resolved_input.get(step.get("dynamicTaskNameParam") or "")
        if not isinstance(name, str) or not name:
            shown = f"Parameter= {java_text(step.get('dynamicTaskNameParam'))}, input= {java_text(resolved_input)}"
            raise Termination(f"Cannot map a dynamic task based on the parameter and input. {shown}")
        refuse_unmodelled_fields([{"name": name}], f"what {step['taskReferenceName']} names")
        named = {key: value for key, value in step.items() if key not in self.fields}
        return context.rows_for({**named, "name": name, "type": "SIMPLE"}, retry_count)


class Join(SystemTask):
    """Waits until its named steps are done, and fails with the first of them that fails. With a permissive step, it
    fails only after all of them have ended.

    It is checked in the background, so it ends a moment after its last step.
    """

    kind = "JOIN"
    fields: ClassVar[frozenset[str]] = frozenset(("joinOn",))
    background = True
    resumes = True
    joins = True
    retriable = False

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        row = context.new_row(step, "JOIN", "JOIN", status=Status.IN_PROGRESS, start_time=context.state.now())
        row.input = {"joinOn": list(step["joinOn"])}
        return [row]

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        names = [with_iteration(name, row.iteration) if row.iteration else name for name in row.input["joinOn"]]
        latest = {name: context.latest(name) for name in names}
        present = [other for other in latest.values() if other is not None]
        all_ended = len(present) == len(latest) and all(other.status.terminal for other in present)
        if _is_stuck(present, all_ended):
            return False
        for other in present:
            if other.output:
                row.output = {**row.output, other.reference_name: other.output}
            if _fails(other, all_ended):
                return _fail(row, present)
        if not all_ended:
            return False
        errors = [other for other in present if other.status is Status.COMPLETED_WITH_ERRORS]
        row.status = Status.COMPLETED_WITH_ERRORS if errors else Status.COMPLETED
        if errors:
            failed = " ".join(f"{other.task_name}/{other.task_id}" for other in errors)
            row.reason = f"{failed} completed with errors"
        return True


def _fails(other: TaskRow, all_ended: bool) -> bool:
    mandatory = not other.workflow_task["optional"] and (all_ended or not other.is_permissive)
    return other.status.unsuccessful and mandatory


def _is_stuck(present: Sequence[TaskRow], all_ended: bool) -> bool:
    """A manually skipped step has no output, not even an empty one. The server fails at it each time, so such a JOIN
    never ends, unless an earlier step has failed."""
    until_failure = takewhile(lambda other: not _fails(other, all_ended), present)
    return any(other.status is Status.SKIPPED for other in until_failure)


def _fail(row: TaskRow, present: Sequence[TaskRow]) -> bool:
    failed = [other for other in present if other.status.unsuccessful]
    row.reason = " ".join(other.reason for other in failed if other.reason is not None)
    mandatory = [other for other in failed if not other.workflow_task["optional"]]
    cancelled = all(other.status is Status.CANCELED for other in mandatory)
    row.status = Status.CANCELED if cancelled else Status.FAILED
    return True


class Loop(SystemTask):
    """Checked in every decision. Its condition reads the outputs of the loop and of its steps by reference name.

    The condition is JavaScript, whatever `evaluatorType` says.
    """

    kind = "DO_WHILE"
    begins = True
    templated = True
    fields: ClassVar[frozenset[str]] = frozenset(("loopOver", "loopCondition", "evaluatorType"))
    resumes = True
    iterates = True
    retriable = False

    def check(self, step: Step, where: str) -> None:
        inner = next((inner for inner in every_step(step["loopOver"]) if inner["type"] == self.kind), None)
        if inner is not None:
            raise not_modelled(where, f"a loop inside of a loop ({inner['taskReferenceName']})")
        if "_items" in step["inputParameters"]:
            raise not_modelled(where, "inputParameters._items")
        if not isinstance(step["inputParameters"].get("keepLastN", 1), int):
            raise not_modelled(where, "an inputParameters.keepLastN that is not a number")
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
        (row,) = super().rows(context, step, retry_count)
        definition = step["taskDefinition"]
        row.retry_count = retry_count
        row.rate_limit = (definition["rateLimitPerFrequency"], definition["rateLimitFrequencyInSeconds"])
        return [row]

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        body = _latest_of_iteration(context, row)
        if not body:
            return _next_iteration(context, row, 1)
        outputs: dict[str, Any] = {}
        failed = None
        for inner in body.values():
            outputs[without_iteration(inner.reference_name)] = inner.output
            if inner.status.unsuccessful:
                failed = inner
                break
        row.output = {**row.output, str(row.iteration): outputs}
        _forget_iterations(context, row)
        if failed is not None:
            row.status, row.reason = Status.FAILED, f"{failed.reason or 'null'} "
            return True
        return _is_complete(context, row, body) and self._check_condition(context, row)

    def _check_condition(self, context: DecisionContext, row: TaskRow) -> bool:
        condition = row.workflow_task["loopCondition"]
        try:
            value = scripts.javascript(condition, _visible(context, row))
        except scripts.ScriptError as error:
            row.status = Status.FAILED_WITH_TERMINAL_ERROR
            row.reason = f"Unable to evaluate condition {condition}, exception {error}"
            return True
        # Texts, lists and objects are not true, unlike in JavaScript.
        if value is True or (isinstance(value, int | float) and value > 0):
            return _next_iteration(context, row, row.iteration + 1)
        row.status = Status.COMPLETED
        return True


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


def _forget_iterations(context: DecisionContext, loop: TaskRow) -> None:
    """Remove rows and outputs of all iterations but the newest, as many as `keepLastN` says."""
    if (newest := loop.workflow_task["inputParameters"].get("keepLastN")) is None:
        return
    last = loop.iteration - newest
    loop.output = {name: output for name, output in loop.output.items() if not name.isdigit() or int(name) > last}
    for row in [row for row in context.tasks if row.iteration <= last and _belongs(loop, row)]:
        context.tasks.remove(row)
        context.state.remove_task(row)


def _is_complete(context: DecisionContext, loop: TaskRow, body: Mapping[str, TaskRow]) -> bool:
    """Whether every step of the body and every step after a completed one exists and is done."""
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
