"""Workflows of conductor-python in a module: they are found, located in its source, and checked like perago's own.

Nothing here imports the SDK. A module that has such a workflow has imported it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType, ModuleType, UnionType
from typing import Any

from pydantic import BaseModel, TypeAdapter

from perago.authoring.declaration import InvalidDeclaration, Location, TaskDefinitionError
from perago.authoring.task import Task, get_task
from perago.conductor_json import every_step, inner_steps
from perago.taskdef.loading import CONDUCTOR_WORKFLOW
from perago.text import listing
from perago.workflows.definition import workflows_of
from perago.workflows.flow import Workflow, WorkflowDefinitionError
from perago.workflows.picture import walk
from perago.workflows.values import (
    UNCHECKED,
    Documents,
    Recorded,
    Value,
    called_name,
    nearest,
    reported_name,
    sent_name,
)
from perago.workflows.writer import Built, Json, Writer

_RANDOM = re.compile(r"_([2-9A-HJ-NP-Za-km-z]{22})$")
"""The end of the names that the SDK gives to forks and inner workflows. It is different in each process."""
_OUTPUT = re.compile(r"\$\{([^.}\[]+)\.(?:output|input)\b([^}]*)\}")
"""An expression for a part of a step, or of the workflow."""
_INPUT = re.compile(r"\$\{workflow\.input\.([A-Za-z_][\w-]*)")
_NEW_TASK = (
    "import the function that is this task; for a task of another program, declare TaskDef(name={!r}) in this module"
)


def all_workflows_of(module: ModuleType) -> tuple[Workflow[Any, Any] | SdkWorkflow, ...]:
    """Return the workflows that a module declares, and the objects of the SDK that it makes."""
    return (*workflows_of(module), *sdk_workflows_of(module))


def sdk_workflows_of(module: ModuleType) -> tuple[SdkWorkflow, ...]:
    """Return the objects of the SDK that a module itself makes, in the order of their lines."""
    sdk = sys.modules.get(CONDUCTOR_WORKFLOW)
    members = {
        name: member
        for name, member in vars(module).items()
        if sdk is not None and isinstance(member, sdk.ConductorWorkflow) and type(member).__module__ != "perago.clients"
    }
    source = _Source.of(module) if members else _Source("")
    made = {id(member): (source.names[name], member) for name, member in members.items() if name in source.names}
    workflows: list[SdkWorkflow] = []
    for line, member in sorted(made.values(), key=lambda pair: pair[0]):
        workflows.append(SdkWorkflow(member, module, source, line, tuple(workflows)))
    return tuple(workflows)


def sdk_workflow_of(workflow: object) -> SdkWorkflow | None:
    """Return an object of the SDK as its module declares it, or None if no loaded module does."""
    modules = [module for module in sys.modules.values() if isinstance(module, ModuleType)]
    declared = (sdk_workflow for module in modules for sdk_workflow in sdk_workflows_of(module))
    return next((sdk_workflow for sdk_workflow in declared if sdk_workflow.workflow is workflow), None)


@dataclass(frozen=True)
class _Source:
    """The lines of a module on which names are assigned, and on which calls have a text as an argument."""

    file: str
    names: dict[str, int] = field(default_factory=dict)
    calls: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, module: ModuleType) -> _Source:
        source = cls(inspect.getsourcefile(module) or "")
        calls: list[tuple[bool, int, str]] = []
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Name(id=name, ctx=ast.Store()):
                    source.names.setdefault(name, node.lineno)
                case ast.Call(func=function, args=arguments, keywords=keywords):
                    for argument in (*arguments, *(keyword.value for keyword in keywords)):
                        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                            is_method = isinstance(function, ast.Attribute)  # such as step.output("rows")
                            calls.append((is_method, argument.lineno, argument.value))
        for _, line, text in sorted(calls):
            source.calls.setdefault(text, []).append(line)
        return source


@dataclass(frozen=True, eq=False)
class SdkWorkflow:
    """A `ConductorWorkflow` in a module."""

    workflow: Any
    _module: ModuleType
    _source: _Source
    line: int
    _before: tuple[SdkWorkflow, ...]
    """Those on earlier lines of the module."""

    @property
    def name(self) -> str:
        return str(self.workflow.name)

    @property
    def version(self) -> int:
        return int(self.workflow.version or 1)

    @property
    def module(self) -> str:
        return self._module.__name__

    @property
    def file(self) -> str:
        return self._source.file

    def _build(self) -> Built:
        definition, check = self.definition(), self._check
        names = {str(step.get("name")) for step in walk(definition["tasks"])}
        functions = {name: check.known[name].function for name in names & check.known.keys()}
        identity = frozenset({(self.name, self.version)})
        return Built(json.dumps(definition), False, (), functions, {}, (), identity, tuple(check.warnings))

    def definition(self) -> Json:
        """Return Conductor's JSON. The random names of the SDK are replaced by numbered ones.

        Raises:
            WorkflowDefinitionError: the workflow has mistakes; all are listed.
        """
        if self._check.problems:
            different = {str(problem): problem for problem in self._check.problems}
            problems = tuple(sorted(different.values(), key=lambda problem: problem.line or 0))
            raise WorkflowDefinitionError(self.name, problems, self.file, self.line)
        definition: Json = json.loads(json.dumps(self._document))
        return definition

    @cached_property
    def _document(self) -> Json:
        """Conductor's JSON, not checked yet."""
        sdk: Any = sys.modules["conductor.client.http.api_client"]
        client = sdk.ApiClient.__new__(sdk.ApiClient)  # its constructor can ask the server for a token
        text = json.dumps(client.sanitize_for_serialization(self.workflow.to_workflow_def()), allow_nan=False)
        references = (str(task.get("taskReferenceName")) for task in walk(json.loads(text)["tasks"]))
        suffixes = [match.group(1) for match in map(_RANDOM.search, references) if match]
        for number, suffix in enumerate(dict.fromkeys(suffixes), 1):
            text = text.replace(suffix, str(number))
        document: Json = {"version": 1, **json.loads(text)}
        inputs = [*document.get("inputParameters", ()), *_INPUT.findall(text)]
        return {**document, "inputParameters": list(dict.fromkeys(inputs))}

    @cached_property
    def _check(self) -> _Check:
        known = {
            task.name: task
            for loaded in (*sys.modules.values(), self._module)  # whose own names count, if two tasks share a name
            for member in tuple(getattr(loaded, "__dict__", {}).values())
            if isinstance(member, FunctionType) and (task := get_task(member)) is not None
        }
        check = _Check(known, _names_of_others(self._module), self._place_of)
        try:
            document = self._document
        except Exception as error:  # noqa: BLE001 - the SDK converts the objects of the author
            rule = f"the SDK cannot write the workflow: {type(error).__name__}: {error}"
            check.report("", rule, "correct its steps")
        else:
            if not document.get("ownerEmail"):
                check.report("", "the workflow has no owner, which Conductor refuses", 'write .owner_email("you@...")')
            check.workflow(document)
            check.warnings += self._timeout_warnings(document)
        return check

    def _timeout_warnings(self, document: Json) -> Iterator[TaskDefinitionError]:
        """Yield what the author may not expect: the SDK sends 60 seconds by default, and Conductor's default policy
        is ALERT_ONLY."""
        seconds, policy = document.get("timeoutSeconds", 0), document.get("timeoutPolicy")
        place = Location(self.file, self.line)
        if policy == "TIME_OUT_WF" and seconds == 60 and "timeout_seconds(60)" not in inspect.getsource(self._module):
            rule = f"the workflow {self.name!r} times out after 60 seconds, the default of conductor-python"
            yield place.error(rule, "write its limit: .timeout_seconds(3600), or 60")
        elif policy is None and seconds not in (0, 60):
            rule = f"the workflow {self.name!r} does not end after {seconds} seconds, because it has no timeout policy"
            yield place.error(rule, "write .timeout_policy(TimeoutPolicy.TIME_OUT_WORKFLOW)")

    def _place_of(self, reference: str) -> Location:
        """Return the line of the call that names a step, or of the workflow. If several workflows of the module have
        such a step, their order is that of the calls."""
        lines = self._source.calls.get(reference, [])
        same = sum(reference in flow._references for flow in self._before)
        return Location(self.file, lines[min(same, len(lines) - 1)] if lines else self.line)

    @cached_property
    def _references(self) -> frozenset[str]:
        try:
            return frozenset(str(task.get("taskReferenceName")) for task in walk(self._document["tasks"]))
        except Exception:  # noqa: BLE001 - it is a problem of that workflow
            return frozenset()


def _names_of_others(module: ModuleType) -> set[str]:
    """Return the tasks that are not perago's: those of `@worker_task`, and of the `TaskDef` objects of the module."""
    handler: Any = sys.modules.get("conductor.client.automator.task_handler")
    names = set() if handler is None else set(handler.get_registered_worker_names())
    definitions: Any = sys.modules.get("conductor.client.http.models.task_def")
    if definitions is not None:
        names |= {str(member.name) for member in vars(module).values() if isinstance(member, definitions.TaskDef)}
    return names


@dataclass
class _Check:
    """Finds the mistakes in the definition of a workflow, and gives each the line of its step."""

    known: Mapping[str, Task]
    others: Collection[str]
    place_of: Callable[[str], Location]
    problems: list[TaskDefinitionError] = field(default_factory=list)
    warnings: list[TaskDefinitionError] = field(default_factory=list)
    _tasks: dict[str, Task] = field(default_factory=dict)
    """The tasks of the steps, by reference."""
    _continued: dict[str, set[str]] = field(default_factory=dict)
    """The steps whose commits each step continues, with itself."""
    _branches: dict[str, Any] = field(default_factory=dict)
    """The repository and branch of each step that publishes and does not rebase."""

    def report(self, reference: str, rule: str, fix: str) -> None:
        """Note a problem at the line of a step."""
        label = f"step {reference!r}: " if reference else ""
        self.problems.append(self.place_of(reference).error(f"{label}{rule}", fix))

    def workflow(self, definition: Mapping[str, Any]) -> None:
        """Check all steps, and what each reads."""
        steps = definition.get("tasks") or []
        if not steps:
            self.report("", "the workflow has no step, which Conductor refuses", "add one")
        all_steps = list(every_step(steps))
        listed = [str(step["taskReferenceName"]) for step in all_steps]
        self._tasks = {
            str(step["taskReferenceName"]): self.known[step["name"]]
            for step in all_steps
            if step.get("type") == "SIMPLE" and step["name"] in self.known
        }
        duplicates = [reference for reference in dict.fromkeys(listed) if listed.count(reference) > 1]
        for reference in duplicates:
            self.report(reference, "two steps have this name", "give one of the two another name")
        if duplicates:
            return
        is_dynamic = any(step.get("type") == "FORK_JOIN_DYNAMIC" for step in all_steps)
        for step in all_steps:
            for read, path in _OUTPUT.findall(json.dumps(step.get("inputParameters", {}))):
                if read not in listed and read != "workflow" and not is_dynamic:
                    self.report(step["taskReferenceName"], f"no step has the name {read!r}", "correct the expression")
                self._type_of(step["taskReferenceName"], read, path)
        for read, path in _OUTPUT.findall(json.dumps(definition.get("outputParameters", {}))):
            self._type_of("", read, path)
        self._sequence(steps, frozenset())

    def _type_of(self, reader: str, reference: str, path: str) -> Any:
        """Return the type that an expression has; report a field that a task of perago does not put out."""
        task, (_, key, *fields) = self._tasks.get(reference), [*path.split("."), ""]
        if task is None or not path.startswith(".") or key == "workspace" or not re.fullmatch(r"[.\w]+", path):
            return UNCHECKED
        if key != "result":
            rule = f"{task.name} puts out result and workspace, not {key}"
            self.report(reader, rule, f"write ${{{reference}.output.result.{key}}}")
            return UNCHECKED
        annotation: Any = task.result_model
        for name in filter(None, fields):
            if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
                return UNCHECKED
            described: dict[str, Any] = {**annotation.model_fields, **annotation.model_computed_fields}
            names = {reported_name(known, info): info for known, info in described.items()}
            if name not in names:
                listed = ", ".join(names) or "no field"
                rule = f"{annotation.__name__} has no field {name!r}; it has {listed}"
                self.report(reader, rule, nearest(name, names))
                return UNCHECKED
            annotation = getattr(names[name], "annotation", None) or getattr(names[name], "return_type", UNCHECKED)
        return annotation

    def _sequence(self, steps: Sequence[Mapping[str, Any]], published: frozenset[str]) -> frozenset[str]:
        """Check steps that run one after the other. Return the steps that have published, with those before."""
        for number, step in enumerate(steps, 1):
            reference = str(step["taskReferenceName"])
            match step.get("type"):
                case "SIMPLE":
                    published |= self._simple(step, reference, published)
                case "FORK_JOIN":
                    branches = [self._sequence(branch, published) - published for branch in step["forkTasks"]]
                    for publisher in sorted(frozenset().union(*branches)) if sum(map(bool, branches)) > 1 else ():
                        if publisher in self._branches:
                            rule = "it publishes next to others, and fails if the branch has moved"
                            fix = 'declare on_moved_head="rebase" in the WorkspaceSpec of its task'
                            self.report(publisher, f"fork: {rule}", fix)
                    published = published.union(*branches)
                    if number == len(steps) or steps[number].get("type") != "JOIN":
                        rule = "no JOIN follows the fork, and the SDK adds none to the last step"
                        self.report(reference, rule, "add a step after the fork, or a JoinTask")
                case "DO_WHILE" | "SWITCH" | "DECISION":
                    inner = [self._sequence(part, published) for part in inner_steps(step)]
                    self._continued[reference] = {reference}.union(*inner)
                    published = published.union(*inner)
                case "SUB_WORKFLOW" if definition := step["subWorkflowParam"].get("workflowDefinition"):
                    check = _Check(self.known, self.others, self.place_of, self.problems, self.warnings)
                    check.workflow(definition)
                    self._follow(reference, step)
                case "JOIN":
                    self._follow(reference, step, step.get("joinOn") or ())
                case _:
                    self._follow(reference, step)
        return published

    def _follow(self, reference: str, step: Mapping[str, Any], joined: Collection[str] = ()) -> None:
        """Note whose commits a step continues: those of the steps that its input names."""
        read = {*joined, *(name for name, _ in _OUTPUT.findall(json.dumps(step.get("inputParameters", {}))))}
        self._continued[reference] = {reference}.union(*(self._continued.get(name, {name}) for name in read))

    def _simple(self, step: Mapping[str, Any], reference: str, published: frozenset[str]) -> frozenset[str]:
        task, inputs = self._tasks.get(reference), step.get("inputParameters") or {}
        self._follow(reference, step)
        if task is None:
            if step["name"] not in self.others:
                near = difflib.get_close_matches(step["name"], [*self.known, *self.others], n=1)
                fix = f"did you mean {near[0]}?" if near else _NEW_TASK.format(step["name"])
                self.report(reference, f"{step['name']!r} is not a known task", fix)
            rule, fix = _unknown(reference, step["name"], "its arguments and its result")
            self.warnings.append(self.place_of(reference).error(rule, fix))
            return frozenset()
        self._params(reference, task, inputs.get("params", {}))
        workspace = task.workspace
        if workspace is None:
            return frozenset()
        block = inputs.get("workspace", {})
        absent = [key for key in ("repository", "branch", "ref") if isinstance(block, dict) and key not in block]
        if absent:
            rule = f"task {task.name} has a workspace, but its input has no workspace.{absent[-1]}"
            self.report(reference, rule, "make the step with perago.clients.simple_task")
            return frozenset()
        if workspace.read_only:
            return frozenset()
        if workspace.on_moved_head != "rebase":
            own = [block.get(key) for key in ("repository", "branch")] if isinstance(block, dict) else block
            self._branches[reference] = own
            missing = published - self._continued[reference]
            newest = missing.difference(*(self._continued[name] - {name} for name in missing))
            for earlier in sorted(name for name in newest if self._branches.get(name, own) == own):
                rule = f"it does not continue the commit of step {earlier!r}, so it fails on the moved branch"
                self.report(reference, rule, "give that step as after= of simple_task")
        return frozenset([reference])

    def _params(self, reference: str, task: Task, params: Any) -> None:
        model = task.params_model
        if isinstance(params, str) and "${" in params:
            return
        if not isinstance(params, Mapping):
            self.report(reference, f"params is {params!r}, not an object", f"give the fields of {model.__name__}")
            return
        names = {sent_name(name, info): called_name(name, info) for name, info in model.model_fields.items()}
        documents = Documents(
            lambda value: value.content, lambda rule, fix: self.report(reference, rule, fix.partition("; flow.")[0])
        )
        fields = {names.get(key) or key: self._value(reference, param) for key, param in params.items()}
        documents.of_model(model, fields, model.__name__)

    def _value(self, reference: str, param: Any) -> Any:
        """A parameter as it is, or its type if it contains an expression."""
        text = json.dumps(param)
        if "${" not in text:
            return param
        match = _OUTPUT.fullmatch(param) if isinstance(param, str) else None
        annotation = self._type_of(reference, *match.groups()) if match else UNCHECKED
        return Value(Recorded(param, str(param), annotation, ()))


# ------------------------------------------------------------------------- functions with @worker_task

_PLAIN = (str, int, float, bool, list, tuple, set, type(None))
"""Results of these types are put out as `result`. Others are the output itself."""


def is_worker_task(function: object) -> bool:
    """Whether a function has `@worker_task`, whose wrapper is in a module of the SDK."""
    module = getattr(function, "__globals__", {}).get("__name__")
    return bool(module == "conductor.client.worker.worker_task")


def worker_task_name(function: Callable[..., Any]) -> str:
    """Return the name of the task of a function with `@worker_task`."""
    return str(function(task_ref_name="step").name)


def worker_task(
    writer: Writer, name: str, function: Callable[..., Any], arguments: Sequence[object], inputs: Mapping[str, Any]
) -> tuple[Json, Any, tuple[str, ...]]:
    """Return the task of a step for a function with `@worker_task`, and the type and the path of its result.

    Raises:
        InvalidDeclaration: it is not such a function.
    """
    place = f"step {name!r}"
    if not is_worker_task(function):
        rule = f"{place}: {getattr(function, '__name__', function)!r} has no @worker_task of conductor-python"
        raise InvalidDeclaration(rule, "give flow.step a function with @task")
    task = worker_task_name(function)
    writer.add_worker_task(task, function)
    plain = inspect.unwrap(function)
    label, signature = f"{place}: {plain.__name__}()", inspect.signature(plain)
    if arguments:
        writer.report(f"{label} takes its arguments by name", "write them as ARGUMENT=...")
    if any(isinstance(annotation, str) for annotation in plain.__annotations__.values()):
        rule = f"{label} has annotations that are text, with which the worker of conductor-python fails"
        writer.report(rule, "remove `from __future__ import annotations` from its module")
        return {"name": task, "type": "SIMPLE", "inputParameters": {}}, Any, ()
    types = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    takes_task = any(getattr(kind, "__module__", "") == "conductor.client.http.models.task" for kind in types.values())
    unknown = ["its arguments"] if takes_task else []
    documents = Documents(lambda value: writer.use(value, []), writer.report)
    fields: Json = {}
    for key, argument in inputs.items():
        if key not in types and not takes_task:
            writer.report(f"{label} has no argument {key!r}; it has {', '.join(types) or 'none'}", "correct the name")
        kind = types.get(key, UNCHECKED)
        if not _is_known(kind):
            kind = UNCHECKED
            if not takes_task:
                unknown.append(f"the type of {key}")
        fields[key] = documents.convert(argument, kind, f"{label}: {key}")
    for parameter in () if takes_task else signature.parameters.values():
        if parameter.default is inspect.Parameter.empty and parameter.name not in inputs:
            writer.report(f"{label} needs the argument {parameter.name!r}", f"add {parameter.name}=...")
    result = signature.return_annotation
    members = typing.get_args(result) if typing.get_origin(result) in (UnionType, typing.Union) else (result,)
    is_plain = all((typing.get_origin(member) or member) in (*_PLAIN, None) for member in members)
    if not is_plain:
        unknown.append("the fields of its result")
    writer.warn(*_unknown(name, task, listing(unknown)))
    json_task = {"name": task, "type": "SIMPLE", "inputParameters": fields}
    return json_task, (result if is_plain else Any), ("result",) if is_plain else ()


def _is_known(annotation: Any) -> bool:
    """Whether a constant can be checked against this type."""
    if annotation in (inspect.Parameter.empty, UNCHECKED):
        return False
    try:
        TypeAdapter(annotation)
    except Exception:  # noqa: BLE001 - any class can be an annotation
        return False
    return True


def _unknown(step: str, task: str, more: str) -> tuple[str, str]:
    """Return the rule and the fix of the warning about a task of another program."""
    facts = f"the registration, workers, retries and timeouts of {task}"
    rule = f"step {step!r}: perago cannot know {facts}{f', nor {more}' if more else ''}"
    return rule, "check them where its worker is written"
