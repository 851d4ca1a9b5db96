"""A workflow, and the flow that its function gets: each call adds a step or a structure to the definition."""

from __future__ import annotations

import contextlib
import dis
import inspect
import json
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, TypeVar, Union, cast

from pydantic import BaseModel, RootModel, ValidationError

from perago.authoring.declaration import (
    LARGEST_INT,
    InvalidDeclaration,
    Location,
    TaskDefinitionError,
    calling_line,
)
from perago.authoring.task import get_task
from perago.taskdef.definition import build_task_definition, schema_definition
from perago.taskdef.schema import GIVEN_REF, model_schema, result_schema, workspace_schema
from perago.text import listing
from perago.workflows.choices import _ChoosingFlow
from perago.workflows.schedule import Cron, schedule_of, workspace_problem
from perago.workflows.values import (
    UNCHECKED,
    Documents,
    FailedWorkflow,
    Item,
    Recorded,
    Scope,
    Step,
    Value,
    contains_value,
    element_of,
    expression,
    fits,
    inputs_of,
    recorded,
    refuse_step,
    sent_name,
    spelled,
)
from perago.workflows.waiting import _WaitingFlow
from perago.workflows.writer import Built, Frame, Json, Publisher, Writer, _Structure, without_items

K = ParamSpec("K")
I = TypeVar("I")  # noqa: E741 - an item
P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")
T = TypeVar("T")

_LONGEST_SUFFIX = 40
_CALL = re.compile(r"TypeError: _?\w*Flow\.(?P<method>\w+)\(\) (?P<problem>.*)")
"""The message for a call of a method of `Flow` with wrong arguments."""
_EXPRESSION = re.compile(r"\$\{([^.}]+)")

_DYNAMIC_TASKS = (
    "def put($at; $value): if ($at | length) == 0 then $value"
    ' elif type == "array" then'
    " [to_entries[] | .key as $key | .value | if $key == $at[0] then put($at[1:]; $value) else . end]"
    " else . + {($at[0]): (.[$at[0]] | put($at[1:]; $value))} end;"
    ' . as $in | [$in.items | to_entries[] | {item: .value, name: "\\($in.task.taskReferenceName)_\\(.key)"}] as $all'
    " | {tasks: [$all[] | $in.task + {taskReferenceName: .name}],"
    " inputs: ([$all[] | {key: .name, value: (.item as $item | reduce $in.places[] as $place"
    " ($in.inputs; put($place.at; reduce $place.from[] as $key ($item; .[$key]))))}] | from_entries)}"
    ' | if (.inputs | tojson | contains("$" + "{")) then'
    ' error("step \\($in.task.taskReferenceName) is refused: an item or another value has an expression") else . end'
)
"""The jq program of each `map`. It contains no text of the author, because items, input and places are data.

It refuses `${` in values, because Conductor would read it as an expression: it resolves the inputs of a dynamic fork.

The server's implementation of jq has neither `setpath` nor `getpath`."""


_RESULTS_IN_ORDER = (
    '(.outputs | with_entries(.key |= sub("__[0-9]+$"; ""))) as $outputs | .prefix as $prefix'
    " | [range(0; .items | length) | $outputs[$prefix + tostring].result]"
)
"""The jq program that lists the results of a `map`.

The output of a JOIN is in the order of completion, and in a loop its keys end with the number of the round."""


class WorkflowDefinitionError(TaskDefinitionError):
    """A workflow cannot be built. `problems` has every mistake, each with its file and line, and `warnings` what may
    be a mistake, too."""

    def __init__(
        self,
        name: str,
        problems: tuple[TaskDefinitionError, ...],
        file: str,
        line: int,
        warnings: tuple[TaskDefinitionError, ...] = (),
    ) -> None:
        if len(problems) == 1:
            (only,) = problems
            super().__init__(f"workflow {name!r}: {only.message}", file=only.file, line=only.line, fix=only.fix)
        else:
            listed = "\n".join(str(problem) for problem in problems)
            message = f"workflow {name!r} has {len(problems)} problems:\n{listed}"
            super().__init__(message, file=file, line=line)
        self.problems = problems
        self.warnings = warnings
        self._given = (name, problems, file, line, warnings)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._given)


@dataclass(frozen=True, eq=False)
class Workflow(Generic[P, R]):
    """A workflow that was declared with `@workflow`."""

    name: str
    version: int
    owner_email: str
    description: str | None
    timeout_seconds: int
    given: type[P]
    """The model of its parameters."""
    result: type[BaseModel] | None
    function: Callable[[Flow, P], R]
    module: str
    file: str
    line: int
    schedule: Cron | None = None
    on_failure: Workflow[Any, Any] | None = None
    """The workflow that runs after its failure."""

    def _scheduled(self) -> dict[str, Any] | None:
        """Return its schedule as Conductor's JSON; None for a workflow without one.

        Raises:
            WorkflowDefinitionError: the workflow has mistakes; all are listed.
        """
        if self.schedule is None:
            return None
        return schedule_of(self.schedule, self.definition(), self._build().head_task)

    def definition(self) -> dict[str, Any]:
        """Return Conductor's JSON. The same module always gives the same JSON, and the caller can change it.

        Raises:
            WorkflowDefinitionError: the workflow has mistakes; all are listed.
        """
        definition: dict[str, Any] = json.loads(self._build().definition)
        return definition

    def _build(self) -> Built:
        """Write the workflow, once.

        Raises:
            WorkflowDefinitionError: it has mistakes; all are listed.
        """
        built = self._built
        for name in _building.get():
            if name in built.names:
                raise _endless(*name)
        return built

    @cached_property
    def _built(self) -> Built:
        name = (self.name, self.version)
        if name in _building.get():
            raise _endless(*name)
        with _names(name):
            return self._write()

    def _write(self) -> Built:
        _, label = inspect.signature(self.function).parameters
        writer = Writer(self.given, label)
        output: dict[str, Any] = {}
        unused: list[str] = []
        try:
            if self.on_failure is not None:
                writer.has_handler = True
                writer.add_part(self.on_failure)
            returned = self.function(Flow(writer), cast("P", writer.params))
            writer.end = self._location if returned is None else self._return_location
            output = writer.output(returned, self.result)
            writer.end = self._location
            self._check_handler(writer)
            writer.check_runs()
            if self.schedule and (wrong := workspace_problem(self.schedule, has_workspace=writer.has_workspace)):
                writer.report(*wrong)
            if not writer.current.tasks:
                writer.report("the workflow has no step, which Conductor refuses", "add one")
        except WorkflowDefinitionError as error:  # of a sub-workflow
            writer.problems += error.problems
            writer.warnings += error.warnings
        except InvalidDeclaration as invalid:
            writer.problems.append(self._place_of(invalid).error(invalid.rule, invalid.fix))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the author's code may fail in any way
            problem, fix = f"{type(error).__name__}: {error}", "correct this line"
            if isinstance(error, ValidationError) and any(contains_value(detail["input"]) for detail in error.errors()):
                problem = f"{error.title} is called with a value that exists only when the workflow runs"
                fix = f"write flow.step(NAME, TASK, {error.title}, ...) for a step, or flow.value({error.title}, ...)"
            elif isinstance(error, AttributeError) and isinstance(error.obj, _Structure):
                problem = f"{error.name} is not an attribute of {error.obj.label}, but of what its `with` returns"
                fix = f"write `with flow... as NAME:`, and NAME.{error.name}"
            elif isinstance(error, AttributeError) and type(error.obj).__module__.startswith(f"{__package__}."):
                problem = f"{type(error.obj).__name__} has no attribute {error.name!r}"
                fix = f"it has {listing([name for name in dir(error.obj) if not name.startswith('_')])}"
            elif isinstance(error, TypeError) and (call := _CALL.fullmatch(problem)):
                problem = f"flow.{call['method']}() {call['problem']}"
                _, *parameters = inspect.signature(getattr(Flow, call["method"])).parameters.values()
                plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
                fix = f"write flow.{call['method']}{inspect.Signature(plain)}"
            writer.problems.append(self._place_of(error).error(problem, fix))
        else:
            own = FailedWorkflow.model_fields if issubclass(self.given, FailedWorkflow) else {}
            unused = [name for name in self.given.model_fields if name not in {*writer.used, *own}]
        writer.problems += writer.unopened
        inputs, schemas = inputs_of(self.given, partial(self._report, writer)), self._schemas(writer)
        notes = writer.warnings if writer.problems else writer.problems  # another mistake can be the reason
        for name in unused:
            rule = f"no step uses the parameter {self.given.__name__}.{name}"
            notes.append(self._location.error(rule, "use it, or remove it"))
        if writer.problems:
            different, warnings = _different(writer.problems), _different(writer.warnings)
            raise WorkflowDefinitionError(self.name, different, self.file, self.line, warnings)
        place = ["workspace"] if writer.has_workspace else []
        definition = {
            "name": self.name,
            "version": self.version,
            "schemaVersion": 2,
            "description": self.description,
            "ownerEmail": self.owner_email,
            "timeoutSeconds": self.timeout_seconds,
            "timeoutPolicy": "TIME_OUT_WF" if self.timeout_seconds else "ALERT_ONLY",
            "failureWorkflow": self.on_failure and self.on_failure.name,
            "failureWorkflowVersion": self.on_failure and self.on_failure.version,
            "inputParameters": [*place, *inputs],
            "inputTemplate": {key: template[0] for key, template in inputs.items() if template is not None},
            "tasks": writer.tasks(),
            "outputParameters": output,
            **schemas,
        }
        text = json.dumps({key: value for key, value in definition.items() if value is not None}, allow_nan=False)
        functions, worker_tasks = dict(writer.functions), dict(writer.worker_tasks)
        parts = tuple(writer.parts.values())
        names = frozenset({(self.name, self.version)}).union(*(part._build().names for part in parts))
        warnings = _different(writer.warnings)
        return Built(
            text,
            writer.has_workspace,
            writer.publishers,
            functions,
            worker_tasks,
            parts,
            names,
            warnings,
            writer.head_task,
        )

    def _check_handler(self, writer: Writer) -> None:
        """Report what the workflow that runs after a failure needs, and does not get."""
        if self.on_failure is None:
            return
        label = f"on_failure={self.on_failure.function.__name__}"
        if self.on_failure._build().has_workspace and not writer.has_workspace:
            rule = f"{label} has steps with a workspace, but the workflow has none"
            self._report(writer, rule, "give it steps without a workspace")
        for step, rebases in self.on_failure._build().publishers:
            if not rebases:
                rule = f"{label}: step {step!r} fails if the failed workflow still publishes"
                self._report(writer, rule, 'declare on_moved_head="rebase" in the WorkspaceSpec of its task')
        sent = {sent_name(name, field): field.annotation for name, field in self.given.model_fields.items()}
        for name, field in self.on_failure.given.model_fields.items():
            key = sent_name(name, field)
            if name in FailedWorkflow.model_fields or (key not in sent and not field.is_required()):
                continue
            if key not in sent or not fits(sent[key], field.annotation):
                rule = f"{label} takes {key!r} as {spelled(field.annotation)}"
                rule += f", but {self.given.__name__} has {spelled(sent[key]) if key in sent else 'no such field'}"
                self._report(writer, rule, "give both fields one name and type")

    def _schemas(self, writer: Writer) -> dict[str, Any]:
        """The JSON Schemas of the input and the output, which `perago register` compares with those on the server."""
        place = {"workspace": workspace_schema(GIVEN_REF)} if writer.has_workspace else {}
        output = {"workspace": workspace_schema({})} if writer.has_workspace else {}
        try:
            params = model_schema(self.given, "parameter", "validation")
            if self.result is not None:
                output["result"] = result_schema(self.result)
        except InvalidDeclaration as invalid:
            self._report(writer, invalid.rule, invalid.fix)
            return {}
        params["properties"] = {**place, **params.get("properties", {})}
        params["required"] = sorted([*place, *params.get("required", ())])
        returned = {"type": "object", "properties": output, "required": sorted(output)}
        return {
            "inputSchema": schema_definition(f"{self.name}.input", params),
            "outputSchema": schema_definition(f"{self.name}.output", returned),
        }

    def _report(self, writer: Writer, rule: str, fix: str) -> None:
        """Note a problem at the line of the declaration."""
        writer.problems.append(self._location.error(rule, fix))

    @property
    def _return_location(self) -> Location:
        """That of its only `return`; that of the function if it has several."""
        instructions = dis.get_instructions(inspect.unwrap(self.function))
        lines = {step.positions.lineno for step in instructions if step.opname.startswith("RETURN_") and step.positions}
        return Location(self.file, lines.pop() or self.line) if len(lines) == 1 else self._location

    @property
    def _location(self) -> Location:
        return Location(self.file, self.line)

    def _place_of(self, error: BaseException) -> Location:
        """Return the innermost line of the author's module in the traceback of the error."""
        place = self._location
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == self.file:
                place = Location(self.file, line)
        return place


def _different(problems: Sequence[TaskDefinitionError]) -> tuple[TaskDefinitionError, ...]:
    """The problems without duplicates: each branch of a fork has the same ones."""
    return tuple({str(problem): problem for problem in problems}.values())


_building: ContextVar[tuple[tuple[str, int], ...]] = ContextVar("building", default=())
"""The names and versions of the workflows that are being built, from the outside in."""


def _endless(name: str, version: int) -> InvalidDeclaration:
    return InvalidDeclaration(
        f"version {version} of workflow {name!r} would run itself, and never end",
        "write a loop, or give the inner workflow another name",
    )


@contextlib.contextmanager
def _names(name: tuple[str, int]) -> Iterator[None]:
    token = _building.set((*_building.get(), name))
    try:
        yield
    finally:
        _building.reset(token)


class Flow(_ChoosingFlow, _WaitingFlow):
    """Writes the steps of one workflow, in the order of the calls."""

    # ---------------------------------------------------------------------------- steps

    def step(
        self, name: str, task: Callable[[Path, P], R] | Callable[[P], R], model: Callable[K, P], /,
        *arguments: K.args, **params: K.kwargs,
    ) -> Step[R]:  # fmt: skip
        """Run a task. `params` are the fields of its params model.

        Args:
            name: The name of the step, which becomes its task reference name.
            task: A function with `@task`.
            model: The params model of the task.
            arguments: None; a model takes its fields by name.
            params: A value for each field: a constant, a field of the given parameters or of an earlier result.
        """
        declared = get_task(task)
        if declared is None:
            shown = getattr(task, "__name__", None) or getattr(task, "name", task)
            rule = f"step {name!r}: {shown!r} is not a task"
            from perago.workflows.sdk import is_worker_task

            fix = "give it to flow.worker_task" if is_worker_task(task) else "give a function that has @task"
            fix = "give it to flow.sub" if hasattr(task, "_build") else fix
            raise InvalidDeclaration(rule, fix)
        label = f"task {declared.name}"
        inputs: Json = {"params": self._arguments(name, label, declared.params_model, model, arguments, params)}
        self._writer.add_function(declared.name, declared.function)
        workspace = declared.workspace
        if workspace is not None:
            inputs = {"workspace": self._writer.workspace(), **inputs}
            self._writer.head_task = self._writer.head_task or declared.name
            if not workspace.read_only:
                rebases = workspace.on_moved_head == "rebase"
                publisher = Publisher(name, rebases, calling_line(), "optional" in self._options)
                self._writer.current.publishers.append(publisher)
        simple = {"name": declared.name, "type": "SIMPLE", "inputParameters": inputs}
        if self._timeout_seconds is not None:
            # It replaces the registered TaskDef as a whole.
            simple["taskDefinition"] = {**build_task_definition(declared), "timeoutSeconds": self._timeout_seconds}
            if declared.controls.timeout.policy == "ALERT_ONLY":
                rule = f"step {name!r}: task {declared.name} has the timeout policy ALERT_ONLY, so no timeout ends it"
                self._writer.report(rule, "declare another TimeoutPolicy for the task, or remove timeout_seconds")
        step: Step[R] = self._add(name, simple, declared.result_model)
        if workspace is not None:
            head = expression(step.name, ("workspace", "ref"))
            self._writer.continue_with(head, optional="optional" in self._options)
        return step

    def sub(
        self, name: str, workflow: Workflow[P, R], model: Callable[K, P], /, *arguments: K.args, **params: K.kwargs
    ) -> Step[R]:
        """Run another workflow as one step. Its result is that of the workflow."""
        if not hasattr(workflow, "_build"):
            shown = getattr(workflow, "__name__", workflow)
            raise InvalidDeclaration(f"step {name!r}: {shown!r} is not a workflow", "give a function with @workflow")
        if "optional" in self._options:
            self._writer.report(
                f"step {name!r} is a sub-workflow, which may publish files before it fails, so it cannot be optional",
                "make the steps in the sub-workflow optional",
            )
        self._refuse_timeout(name, "give the inner workflow @workflow(timeout_seconds=...)")
        built = workflow._build()
        arguments_json = self._arguments(name, f"workflow {workflow.name}", workflow.given, model, arguments, params)
        # Conductor fills in no default if the input is empty.
        inputs = {**workflow.definition()["inputTemplate"], **arguments_json}
        for key in sorted(inputs.keys() - arguments_json.keys()):
            if "${" in json.dumps(inputs[key]):
                rule = f"Conductor would read '${{' in the default of {workflow.given.__name__}.{key} as an expression"
                self._writer.report(f"step {name!r}: {rule}", f"give {key}= a value without '${{'")
        self._writer.add_part(workflow)
        if built.has_workspace:
            inputs = {"workspace": self._writer.workspace(), **inputs}
            self._writer.head_task = self._writer.head_task or built.head_task
            here, inner = calling_line(), built.publishers
            self._writer.current.publishers += [Publisher(f"{name} > {step}", rebases, here) for step, rebases in inner]
        called = {"name": workflow.name, "version": workflow.version}
        task = {"name": workflow.name, "type": "SUB_WORKFLOW", "inputParameters": inputs, "subWorkflowParam": called}
        step: Step[R] = self._add(name, task, workflow.result)
        if built.has_workspace:
            head = expression(step.name, ())  # its ref may be a list, which may not be in a list
            self._writer.continue_with(head, optional="optional" in self._options)
        return step

    def worker_task(self, name: str, function: Callable[K, R], /, *arguments: K.args, **inputs: K.kwargs) -> Step[R]:
        """Run a function with `@worker_task` of conductor-python, which its own worker runs, or the process of a test.

        It neither reads nor publishes files of the workspace. `perago check` lists what it cannot know about the task.
        """
        from perago.workflows.sdk import worker_task

        self._refuse_timeout(name, "limit it in the TaskDef of its worker")
        task, result, path = worker_task(self._writer, name, function, arguments, inputs)
        reference, scopes = self._add(name, task, result).name, (self._writer.current.scope,)
        record = Recorded(expression(reference, path), f"{name}.result", result, scopes, reference, path)
        return Step(reference, record)

    def _arguments(
        self,
        name: str,
        label: str,
        takes: type[BaseModel],
        model: object,
        arguments: Sequence[object],
        fields: Mapping[str, object],
    ) -> Json:
        """Return the JSON of the arguments, or report a model that is not the one of the task or workflow of a step."""
        if model is takes:
            return self._writer.document(f"step {name!r}", takes, arguments, fields)
        self._writer.report(
            f"step {name!r}: {label} takes {takes.__name__}, not {getattr(model, '__name__', model)}",
            f"write {takes.__name__} after the {label.partition(' ')[0]}",
        )
        filled: Json = self._filled(fields)
        return filled

    def raw(self, task: Mapping[str, Any], /) -> Step[Any]:
        """Add a task as Conductor's JSON, such as WAIT, HTTP or EVENT. Only its references are checked.

        The `result` of the step represents its complete output.
        """
        if not isinstance(task, Mapping):
            raise InvalidDeclaration(f"raw() takes a task as a dictionary, not {task!r}", "give Conductor's JSON")
        written: Json = self._filled(dict(task))
        name = str(written.pop("taskReferenceName", ""))
        self._refuse_timeout(name, 'give its JSON a complete "taskDefinition"')
        try:
            text = json.dumps(without_items(written)[0], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidDeclaration(f"step {name!r} is not JSON: {error}", "give Conductor's JSON") from None
        self._writer.used.update(
            name
            for name, field in self._writer.model.model_fields.items()
            if f"${{workflow.input.{sent_name(name, field)}" in text
        )
        for inner in re.findall(r'"taskReferenceName": "([^"]+)"', text):
            self._writer.references.setdefault(inner, calling_line())
        for unknown in sorted(set(_EXPRESSION.findall(text)) - {"workflow", *self._writer.references}):
            self._writer.report(
                f"step {name!r} reads ${{{unknown}...}}, but no earlier step has that name", "correct it"
            )
        reference, scopes = self._add(name, written, Any).name, (self._writer.current.scope,)
        return Step(reference, Recorded(expression(reference, ()), name, Any, scopes, reference, ()))

    def _filled(self, node: Any) -> Any:
        """Return the JSON with the expressions of the values in it."""
        match node:
            case Value():
                return self._writer.use(recorded(node), [])
            case Mapping():
                return {key: self._filled(value) for key, value in node.items()}
            case list() | tuple():
                return [self._filled(value) for value in node]
        return node

    def value(self, model: Callable[K, T], /, *arguments: K.args, **fields: K.kwargs) -> T:
        """Compose a model of values: a nested parameter, or the result of the workflow."""
        kind = cast("type[BaseModel]", model)
        scopes: list[Scope] = []
        document: Any = self._writer.document("value", kind, arguments, fields, scopes)
        if issubclass(kind, RootModel):
            document = document.get("root")
        return cast("T", Value(Recorded(document, f"{kind.__name__}(...)", kind, tuple(scopes))))

    def _refuse_timeout(self, name: str, fix: str) -> None:
        if self._timeout_seconds is not None:
            self._writer.report(f"step {name!r} is not a task of perago, so timeout_seconds does not limit it", fix)

    def options(
        self,
        *,
        optional: bool = False,
        retries: int | None = None,
        start_delay_seconds: int = 0,
        timeout_seconds: int | None = None,
    ) -> contextlib.AbstractContextManager[None]:
        """Write steps with options of their own.

        Args:
            optional: The workflow continues without a failed step. The results of optional steps cannot be read.
            retries: Used in place of the retries that the task declares.
            start_delay_seconds: The time that a step waits before its first attempt.
            timeout_seconds: The time limit of each attempt, in place of the one that the task declares.
        """
        options: Json = {"optional": True} if optional else {}
        for key, label, number in (
            ("retryCount", "retries", retries),
            ("startDelay", "start_delay_seconds", start_delay_seconds or None),
        ):
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST_INT:
                self._writer.report(f"{label}={number!r} is not a whole number from 0", f"write {label}=3")
            options[key] = number
        whole = isinstance(timeout_seconds, int) and not isinstance(timeout_seconds, bool) and timeout_seconds > 0
        if timeout_seconds is not None and not whole:
            rule = f"timeout_seconds={timeout_seconds!r} is not a whole number from 1"
            self._writer.report(rule, "write timeout_seconds=60")
        structure = self._with_options(options, timeout_seconds, optional=optional)
        return self._writer.to_open("flow.options()", structure)

    @contextlib.contextmanager
    def _with_options(self, options: Json, timeout_seconds: int | None, *, optional: bool) -> Iterator[None]:
        before, outer, limit = self._options, self._writer.current, self._timeout_seconds
        self._timeout_seconds = limit if timeout_seconds is None else timeout_seconds
        self._options = {**before, **options}
        with self._writer.frame("optional", "an optional step") if optional else nullcontext(outer) as frame:
            frame.is_closed = outer.is_closed
            yield
        self._options, self._timeout_seconds = before, limit
        if optional:
            outer.tasks += frame.tasks
            self._writer.leave([frame], frame.heads)

    def unchecked(self, value: object, /) -> Any:
        """Pass a value on whose type cannot be judged. The task checks it when it runs."""
        scopes: list[Scope] = []
        documents = Documents(lambda record: self._writer.use(record, scopes), self._writer.report)
        content = documents.convert(value, UNCHECKED, "unchecked")
        return Value(Recorded(content, "unchecked", UNCHECKED, tuple(scopes)))

    # ----------------------------------------------------------------------- structures

    def fork(self, name: str, items: Iterable[I], branch: Callable[[I], T], /) -> list[T]:
        """Write a branch for each item, and a JOIN after them. The branches run at the same time.

        The steps of a branch get its item as a suffix of their names, such as `measure_biscoe`, or its number.
        """
        reference = self._writer.claim(name)
        listed = list(items)
        results: list[T] = []
        frames: list[Frame] = []
        for item, suffix in zip(listed, _suffixes(listed), strict=True):
            label, full_suffix = f"{name}, branch {suffix}", f"{self._writer.current.suffix}_{suffix}"
            with self._writer.frame("branch", label, full_suffix) as frame:
                results.append(branch(item))
            frames.append(frame)
            self._writer.read_all(frame)
            if not frame.tasks:
                self._writer.report(f"fork {name!r}: branch {suffix!r} has no step", "add one, or leave the item out")
            elif frame.tasks[-1]["type"] == "SWITCH":
                self._writer.report(
                    f"fork {name!r}: branch {suffix!r} ends with a choice, which a JOIN cannot wait for",
                    "put the branch into a sub-workflow, or a step after the choice",
                )
            elif frame.tasks[-1]["type"] == "TERMINATE":
                self._writer.report(
                    f"fork {name!r}: branch {suffix!r} always ends the workflow", "put flow.fail into a case"
                )
            else:
                frame.tasks[-1]["permissive"] = True
        if not frames:
            self._writer.report(f"fork {name!r} has no items", "give at least one")
        self._writer.check_publishers(f"fork {name!r}", [frame.publishers for frame in frames], least=2)
        joined = [frame.tasks[-1]["taskReferenceName"] for frame in frames if frame.tasks]
        self._writer.append(name, reference, {"type": "FORK_JOIN", "forkTasks": [frame.tasks for frame in frames]})
        self._writer.append(f"{name}_join", self._writer.claim(name, "_join"), {"type": "JOIN", "joinOn": joined})
        self._writer.leave(frames, [head for frame in frames if frame.has_workspace for head in frame.heads])
        for frame in frames:
            self._writer.open.discard(frame.scope)
        return results

    def map(self, name: str, values: Iterable[I], step: Callable[[I], Step[R]], /) -> list[R]:
        """Run one step for each item of a list that exists when the workflow runs, all at the same time.

        Returns:
            Their results in the order of the items. Conductor keeps them twice in the workflow, if a step reads them,
            so they should be small.
        """
        refuse_step(values)
        reference = self._writer.claim(name)
        items: Any = values if isinstance(values, Value) else list(values)
        scopes: list[Scope] = []
        annotation: Any = recorded(items).annotation if isinstance(items, Value) else _list_of(items)
        origin = recorded(items).reference if isinstance(items, Value) else ""
        element = element_of(annotation, "list")
        if element is None:
            raise InvalidDeclaration(f"map {name!r}: {recorded(items).shown} is not a list", "give a list")
        documents = Documents(lambda record: self._writer.use(record, scopes), self._writer.report)
        content = documents.convert(items, annotation, name)
        with self._writer.frame("item", name, self._writer.current.suffix) as frame:
            item = Recorded(Item(), f"item of {name}", element, (frame.scope,), origin, ())
            mapped = step(cast("I", Value(item)))
        if len(frame.tasks) != 1 or frame.tasks[0]["type"] not in ("SIMPLE", "SUB_WORKFLOW"):
            raise InvalidDeclaration(
                f"map {name!r} writes {len(frame.tasks)} tasks, but runs one step or one sub-workflow for each item",
                "put what belongs to one item into a sub-workflow",
            )
        self._writer.check_publishers(f"map {name!r}", [frame.publishers], least=1)
        if any(part.kind == "loop" for scope in scopes for part in scope):  # the list can be empty in a later round
            frame.publishers = [replace(publisher, may_be_absent=True) for publisher in frame.publishers]
        task = {key: value for key, value in frame.tasks[0].items() if key != "inputParameters"}
        self._writer.runs[task["taskReferenceName"]] = name
        inputs, places = without_items(frame.tasks[0]["inputParameters"])
        listing = self._writer.claim(name, "_items")
        parameters = {
            "items": content,
            "task": {**task, "permissive": True},
            "inputs": inputs,
            "places": [{"at": at, "from": list(path)} for at, path in places],
            "queryExpression": _DYNAMIC_TASKS,
        }
        self._writer.append(f"{name}_items", listing, {"type": "JSON_JQ_TRANSFORM", "inputParameters": parameters})
        forked = {
            "type": "FORK_JOIN_DYNAMIC",
            "dynamicForkTasksParam": "tasks",
            "dynamicForkTasksInputParamName": "inputs",
            "inputParameters": {key: expression(listing, ("result", key)) for key in ("tasks", "inputs")},
        }
        self._writer.append(name, reference, forked)
        join = self._writer.claim(name, "_join")
        self._writer.append(f"{name}_join", join, {"type": "JOIN", "joinOn": []})
        self._writer.leave([frame], [*self._writer.current.heads, expression(join, ())])
        results = self._writer.claim(name, "_results")
        parameters = {
            "items": content,
            "outputs": expression(join, ()),
            "prefix": f"{task['taskReferenceName']}_",
            "queryExpression": _RESULTS_IN_ORDER,
        }
        listed = {"type": "JSON_JQ_TRANSFORM", "inputParameters": parameters}
        self._writer.append_if_read(f"{name}_results", results, listed)
        result: Any = mapped._result.annotation if isinstance(mapped, Step) else None
        annotation = list[result] if "optional" not in task else list[Union[result, None]]  # noqa: UP007
        place, here = ("result",), (self._writer.current.scope,)
        record = Recorded(expression(results, place), f"results of {name}", annotation, here, results, place)
        return cast("list[R]", Value(record))

    def _add(self, name: str, task: Json, result: Any) -> Step[Any]:
        """Add a step whose result has the type `result`."""
        reference = self._writer.claim(name)
        self._writer.append(name, reference, {**task, **self._options})
        path, scopes = ("result",), (self._writer.current.scope,)
        return Step(reference, Recorded(expression(reference, path), f"{name}.result", result, scopes, reference, path))


def _list_of(items: Sequence[object]) -> Any:
    """The type of a list whose items are constants, or values."""
    kinds = [
        recorded(item).annotation if isinstance(item, Value) else Literal[item] if type(item) is str else type(item)
        for item in items
    ]
    if not kinds or UNCHECKED in kinds:
        return UNCHECKED
    return list[Union[tuple(kinds)]]  # type: ignore[misc]  # noqa: UP007 - the members are known at run time only


def _suffixes(items: Sequence[object]) -> list[str]:
    """A suffix for the names in the branch of each item: its text, or its number where that is no short name."""
    texts = [
        getattr(item, "__name__", "") if callable(item) else str(item.value if isinstance(item, Enum) else item)
        for item in items
        if not isinstance(item, Value)
    ]
    slugs = [re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") for text in texts]
    usable = len(set(slugs)) == len(items) and all(0 < len(slug) <= _LONGEST_SUFFIX for slug in slugs)
    return slugs if usable and "lambda" not in slugs else [str(index) for index in range(len(items))]
