"""The steps of a workflow while its author writes them: each becomes a task of the definition.

The refs of the workspace are threaded by rule. A flow keeps *heads*: expressions for the commits that the next step
continues. perago chooses the one that has all the others in its history when the step runs.

- A step continues the heads, and is the only head afterwards.
- Each branch of a fork begins with the heads before it. After the JOIN the heads are those at the end of each branch.
- After a `map` the heads are those before it and the output of its JOIN, because a list may be empty.
- After a switch the heads are those before it and the end of each case. A case that was not taken gives null.
- A loop begins with the heads before it and those at the end of its last round, which are null in the first round.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from pydantic import BaseModel

from perago.authoring.declaration import InvalidDeclaration, Location, TaskDefinitionError, calling_line
from perago.authoring.task import get_task
from perago.workflows.values import (
    UNCHECKED,
    Documents,
    Item,
    Recorded,
    Scope,
    Value,
    element_of,
    expression,
    fits,
    is_value_of,
    recorded,
    sent_name,
    spelled,
)

if TYPE_CHECKING:
    from perago.workflows.definition import Workflow

K = ParamSpec("K")
I = TypeVar("I")  # noqa: E741 - an item
P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")
T = TypeVar("T")
Json = dict[str, Any]

_REFERENCE = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*_?")
_LONGEST_SUFFIX = 40
_PLACE = {key: expression("workflow", ("workspace", key)) for key in ("repository", "branch")}
_FIRST_HEAD = expression("workflow", ("workspace", "ref"))
_EXPRESSION = re.compile(r"\$\{([^.}]+)")

_DYNAMIC_TASKS = (
    '. as $in | [$in.items | to_entries[] | {item: .value, name: "\\($in.task.taskReferenceName)_\\(.key)"}] as $all'
    " | {tasks: [$all[] | $in.task + {taskReferenceName: .name}],"
    " inputs: ([$all[] | {key: .name, value: (.item as $item | reduce $in.places[] as $place"
    " ($in.inputs; setpath($place.at; $item | getpath($place.from))))}] | from_entries)}"
)
"""The jq program of each `map`. It contains nothing of the author's: items, input and places are data."""


class Step(Generic[R]):
    """A step of a workflow. `result` stands for what its task returns when the workflow runs."""

    def __init__(self, name: str, result: Recorded) -> None:
        self.name = name
        self._result = result

    @property
    def result(self) -> R:
        """The result of the step, as a value that later steps can be given."""
        return cast("R", Value(self._result))


@dataclass(frozen=True, slots=True)
class _Publisher:
    """A step that may publish, and what it does if another one has published since its input ref."""

    name: str
    rebases: bool
    location: Location


@dataclass(slots=True, eq=False)
class _Ends:
    """The heads at the end of a loop's body, which the body itself begins with."""

    heads: tuple[str | _Ends, ...] = ()


@dataclass(slots=True)
class _Frame:
    """The part of a workflow that is being written."""

    scope: Scope
    heads: tuple[str | _Ends, ...]
    suffix: str = ""
    """Is added to the names of its steps, because the same lines write each branch of a fork."""
    tasks: list[Json] = field(default_factory=list)
    publishers: list[_Publisher] = field(default_factory=list)
    has_workspace: bool = False


class Loop:
    """The loop that is being written."""

    def __init__(self) -> None:
        self.condition: Recorded | None = None

    def until(self, condition: bool) -> None:
        """End the loop after the round in which this result of a step in it is true."""
        given: object = condition
        if not isinstance(given, Value):
            raise InvalidDeclaration("until() takes a bool result of a step in this loop", "give step.result.FIELD")
        self.condition = recorded(given)


class Switch:
    """The switch that is being written."""

    def __init__(self, flow: Flow, name: str, value: Recorded) -> None:
        self._flow = flow
        self._name = name
        self._value = value
        self.cases: dict[str | None, _Frame] = {}

    def case(self, value: object) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if the value is this one."""
        value = value.value if isinstance(value, Enum) else value
        kind = self._value.annotation
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InvalidDeclaration(f"case {value!r} is not a text or an integer", "compare a field of such a type")
        if not is_value_of(value, kind):
            raise InvalidDeclaration(
                f"case {value!r} never comes: {self._value.shown} is {spelled(kind)}", "write one of its values"
            )
        return self._write(str(value))

    def default(self) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if no case has the value."""
        return self._write(None)

    @contextlib.contextmanager
    def _write(self, key: str | None) -> Iterator[None]:
        if key in self.cases:
            self._flow.report(f"switch {self._name!r} has the case {key or 'default'} twice", "join the two")
        with self._flow.frame("case", f"{self._name}, case {key or 'default'}") as frame:
            self.cases[key] = frame
            yield


class Flow:
    """Writes the steps of one workflow, in the order of the calls."""

    def __init__(self, given: type[BaseModel], used: set[str]) -> None:
        """A flow without steps, for parameters of the model `given`; what is read of them is added to `used`."""
        root = Scope("flow", "")
        self._frame = _Frame(root, (_FIRST_HEAD,))
        self._references: dict[str, Location] = {}
        self._used = used
        self._open: set[Scope] = {root}
        self.problems: list[TaskDefinitionError] = []
        self.given = Value(Recorded(expression("workflow", ()), "given", given, (root,), "workflow", (), used.add))

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
            raise InvalidDeclaration(
                f"step {name!r}: {getattr(task, '__name__', task)!r} is not a task", "give a function that has @task"
            )
        if model is not declared.params_model:
            self.report(
                f"step {name!r}: task {declared.name} takes {declared.params_model.__name__}, "
                f"not {getattr(model, '__name__', model)}",
                f"write {declared.params_model.__name__} after the task",
            )
        inputs: Json = {"params": self._document(f"step {name!r}", declared.params_model, arguments, params)}
        workspace = declared.workspace
        if workspace is not None:
            inputs = {"workspace": self._workspace(), **inputs}
            if not workspace.read_only:
                rebases = workspace.on_moved_head == "rebase"
                self._frame.publishers.append(_Publisher(name, rebases, calling_line()))
        step: Step[R] = self._add(
            name, {"name": declared.name, "type": "SIMPLE", "inputParameters": inputs}, declared.result_model
        )
        if workspace is not None:
            self._continue_with(expression(step.name, ("workspace", "ref")))
        return step

    def sub(
        self, name: str, workflow: Workflow[P, R], model: Callable[K, P], /, *arguments: K.args, **params: K.kwargs
    ) -> Step[R]:
        """Run another workflow as one step. Its result is that of the workflow."""
        if model is not workflow.given:
            self.report(
                f"step {name!r}: workflow {workflow.name} takes {workflow.given.__name__}, "
                f"not {getattr(model, '__name__', model)}",
                f"write {workflow.given.__name__} after the workflow",
            )
        inputs = self._document(f"step {name!r}", workflow.given, arguments, params)
        built = workflow.build()
        if built.has_workspace:
            inputs = {"workspace": self._workspace(), **inputs}
            here = calling_line()
            self._frame.publishers += [
                _Publisher(f"{name} > {publisher}", rebases, here) for publisher, rebases in built.publishers
            ]
        step: Step[R] = self._add(
            name,
            {
                "name": workflow.name,
                "type": "SUB_WORKFLOW",
                "inputParameters": inputs,
                "subWorkflowParam": {"name": workflow.name, "version": workflow.version},
            },
            workflow.result,
        )
        if built.has_workspace:
            self._continue_with(expression(step.name, ()))  # its ref may be a list, which may not be in a list
        return step

    def raw(self, task: Mapping[str, Any], /) -> Step[Any]:
        """Add a task as Conductor's JSON, such as WAIT, HTTP or EVENT. Only its references are checked.

        The `result` of the step stands for its whole output.
        """
        written, text = dict(task), str(task)
        name = str(written.pop("taskReferenceName", ""))
        self._used.update(
            name
            for name, field in recorded(self.given).annotation.model_fields.items()
            if f"${{workflow.input.{sent_name(name, field)}" in text
        )
        for found in sorted(set(_EXPRESSION.findall(text)) - {"workflow", *self._references}):
            self.report(f"step {name!r} reads ${{{found}...}}, but no earlier step has that name", "correct it")
        added: Step[Any] = self._add(name, written, Any)
        return Step(added.name, Recorded(expression(added.name, ()), name, Any, (self._frame.scope,), added.name, ()))

    def value(self, model: Callable[K, T], /, *arguments: K.args, **fields: K.kwargs) -> T:
        """Put a model together of values: a nested parameter, or the result of the workflow."""
        kind = cast("type[BaseModel]", model)
        scopes: list[Scope] = []
        document = self._document("value", kind, arguments, fields, scopes)
        return cast("T", Value(Recorded(document, f"{kind.__name__}(...)", kind, tuple(scopes))))

    def unchecked(self, value: object, /) -> Any:
        """Pass a value on whose type cannot be judged. The task checks it when it runs."""
        scopes: list[Scope] = []
        content = Documents(lambda found: self._use(found, scopes), self.report).convert(value, UNCHECKED, "unchecked")
        return Value(Recorded(content, "unchecked", UNCHECKED, tuple(scopes)))

    # ----------------------------------------------------------------------- structures

    def fork(self, name: str, items: Iterable[I], branch: Callable[[I], T], /) -> list[T]:
        """Write a branch for each item, and a JOIN after them. The branches run at the same time.

        The steps of a branch get its item as a suffix of their names, such as `measure_biscoe`, or its number.
        """
        reference = self._claim(name)
        listed = list(items)
        results: list[T] = []
        frames: list[_Frame] = []
        for item, suffix in zip(listed, _suffixes(listed), strict=True):
            with self.frame("branch", f"{name}, branch {suffix}", f"{self._frame.suffix}_{suffix}") as frame:
                results.append(branch(item))
            frames.append(frame)
            if not frame.tasks:
                self.report(f"fork {name!r}: the branch of {item!r} has no step", "add one, or leave the item out")
            elif frame.tasks[-1]["type"] == "SWITCH":
                self.report(
                    f"fork {name!r}: the branch of {item!r} ends with a switch, which a JOIN does not wait for",
                    "put the switch into a sub-workflow, or a step after it",
                )
            else:
                frame.tasks[-1]["permissive"] = True
        if not frames:
            self.report(f"fork {name!r} has no items", "give at least one")
        self._check_publishers(f"fork {name!r}", [frame.publishers for frame in frames], least=2)
        joined = [frame.tasks[-1]["taskReferenceName"] for frame in frames if frame.tasks]
        self._append(name, reference, {"type": "FORK_JOIN", "forkTasks": [frame.tasks for frame in frames]})
        self._append(f"{name}_join", self._claim(f"{name}_join"), {"type": "JOIN", "joinOn": joined})
        self._leave(frames, [head for frame in frames if frame.has_workspace for head in frame.heads])
        for frame in frames:
            self._open.discard(frame.scope)
        return results

    def map(self, name: str, values: Iterable[I], step: Callable[[I], Step[Any]], /) -> None:
        """Run one step for each item of a list that exists when the workflow runs, all at the same time.

        Their results cannot be read, because they have no order; their files can.
        """
        reference = self._claim(name)
        items: Any = values if isinstance(values, Value) else list(values)
        scopes: list[Scope] = []
        annotation: Any = recorded(items).annotation if isinstance(items, Value) else list[Any]
        element = element_of(annotation, "list")
        if element is None:
            raise InvalidDeclaration(f"map {name!r}: {recorded(items).shown} is not a list", "give a list")
        content = Documents(lambda found: self._use(found, scopes), self.report).convert(items, annotation, name)
        with self.frame("item", name, self._frame.suffix) as frame:
            item = Recorded(Item(), f"item of {name}", element, (frame.scope,), path=())
            step(cast("I", Value(item)))
        if len(frame.tasks) != 1 or frame.tasks[0]["type"] not in ("SIMPLE", "SUB_WORKFLOW"):
            raise InvalidDeclaration(
                f"map {name!r} writes {len(frame.tasks)} tasks, but runs one step or one sub-workflow for each item",
                "put what belongs to one item into a sub-workflow",
            )
        self._check_publishers(f"map {name!r}", [frame.publishers], least=1)
        task = {key: value for key, value in frame.tasks[0].items() if key != "inputParameters"}
        inputs, places = _without_items(frame.tasks[0]["inputParameters"])
        listing = self._claim(f"{name}_items")
        parameters = {
            "items": content,
            "task": {**task, "permissive": True},
            "inputs": inputs,
            "places": [{"at": at, "from": list(path)} for at, path in places],
            "queryExpression": _DYNAMIC_TASKS,
        }
        self._append(f"{name}_items", listing, {"type": "JSON_JQ_TRANSFORM", "inputParameters": parameters})
        self._append(
            name,
            reference,
            {
                "type": "FORK_JOIN_DYNAMIC",
                "dynamicForkTasksParam": "tasks",
                "dynamicForkTasksInputParamName": "inputs",
                "inputParameters": {key: expression(listing, ("result", key)) for key in ("tasks", "inputs")},
            },
        )
        join = self._claim(f"{name}_join")
        self._append(f"{name}_join", join, {"type": "JOIN", "joinOn": []})
        self._leave([frame], [*self._frame.heads, expression(join, ())])

    @contextlib.contextmanager
    def switch(self, name: str, value: object, /) -> Iterator[Switch]:
        """Write cases of which one runs: the one that has the value, or the default."""
        reference = self._claim(name)
        if not isinstance(value, Value):
            raise InvalidDeclaration(f"switch {name!r}: {value!r} is known while the workflow is written", "use if")
        switch = Switch(self, name, recorded(value))
        content = self._use(recorded(value), [])
        yield switch
        cases = {key: frame.tasks for key, frame in switch.cases.items() if key is not None}
        if not any(frame.tasks for frame in switch.cases.values()):
            self.report(f"switch {name!r} has no case with a step", "add one")
        default = switch.cases.get(None)
        self._append(
            name,
            reference,
            {
                "type": "SWITCH",
                "evaluatorType": "value-param",
                "expression": "value",
                "inputParameters": {"value": content},
                "decisionCases": cases,
                "defaultCase": default.tasks if default is not None else [],
            },
        )
        frames = list(switch.cases.values())
        ends = [head for frame in frames if frame.has_workspace for head in frame.heads]
        self._leave(frames, [*self._frame.heads, *ends])

    @contextlib.contextmanager
    def loop(self, name: str, /, *, at_most: int) -> Iterator[Loop]:
        """Write steps that run again until `until()` holds, and at most so many rounds."""
        if any(scope.kind == "loop" for scope in self._frame.scope):
            self.report(f"loop {name!r} is inside of a loop", "put the inner loop into a sub-workflow")
        if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1:
            self.report(f"loop {name!r}: at_most={at_most!r} is not a number of rounds", "write at_most=10")
        reference = self._claim(name)
        loop, ends, before = Loop(), _Ends(), self._frame.heads
        with self.frame("loop", name, self._frame.suffix) as frame:
            frame.heads = (*before, ends)
            yield loop
        self._open.discard(frame.scope)
        if not frame.tasks:
            self.report(f"loop {name!r} has no step", "add one")
        ends.heads = frame.heads if frame.has_workspace else ()
        condition = f"$.{reference}['iteration'] < {at_most}"
        if loop.condition is not None:
            condition += f" && !({self._condition(name, loop.condition, frame.scope)})"
        self._append(
            name,
            reference,
            {"type": "DO_WHILE", "inputParameters": {}, "loopCondition": condition, "loopOver": frame.tasks},
        )
        self._leave([frame], [*before, ends])

    def _condition(self, name: str, condition: Recorded, scope: Scope) -> str:
        self._use(condition, [])
        is_inside = any(scope in tuple(inner) for inner in condition.scopes)
        if condition.path is None or not is_inside or condition.reference in ("", "workflow"):
            self.report(
                f"loop {name!r}: {condition.shown} is not a result of a step in this loop",
                "give until() a field of such a result",
            )
        if not fits(condition.annotation, bool):
            self.report(
                f"loop {name!r}: until() takes bool, but {condition.shown} is {spelled(condition.annotation)}",
                "let a step return a bool",
            )
        return f"$.{condition.reference}" + "".join(f"['{key}']" for key in condition.path or ())

    # ------------------------------------------------------------------------ the parts

    @contextlib.contextmanager
    def frame(self, kind: Any, name: str, suffix: str | None = None) -> Iterator[_Frame]:
        """Write into a part of the workflow."""
        outer = self._frame
        scope = Scope(kind, name, outer.scope)
        self._frame = _Frame(scope, outer.heads, outer.suffix if suffix is None else suffix)
        self._open.add(scope)
        try:
            yield self._frame
        finally:
            self._frame = outer

    @property
    def has_workspace(self) -> bool:
        """Whether a step has a workspace."""
        return self._frame.has_workspace

    @property
    def publishers(self) -> tuple[tuple[str, bool], ...]:
        """The steps that may publish, and whether each rebases."""
        return tuple((publisher.name, publisher.rebases) for publisher in self._frame.publishers)

    def tasks(self) -> list[Json]:
        """All tasks as Conductor's JSON."""
        rendered: list[Json] = _rendered(self._frame.tasks)
        return rendered

    def output(self, result: object, model: type[BaseModel] | None) -> Json:
        """The output parameters of the workflow; `result` is what the author's function returned."""
        found: Json = {}
        if self.has_workspace:
            found["workspace"] = _rendered(self._workspace())
        if model is not None:
            documents = Documents(lambda value: self._use(value, []), self.report)
            found["result"] = documents.convert(result, model, "the result of the workflow")
        return found

    def report(self, rule: str, fix: str) -> None:
        """Note a problem at the author's line; all are raised together when the workflow has been written."""
        self.problems.append(calling_line().error(rule, fix))

    # -------------------------------------------------------------------------- helpers

    def _claim(self, name: str) -> str:
        reference = f"{name}{self._frame.suffix}"
        if not isinstance(name, str) or not _REFERENCE.fullmatch(name) or name == "workflow":
            self.report(
                f"{name!r} is not a name for a step: letters, digits and single underscores, beginning with a letter",
                "write it like clean_rows",
            )
        known = self._references.get(reference)
        if known is not None:
            self.report(f"the name {reference!r} is taken by {known.readable}", "give this step another name")
        self._references[reference] = calling_line()
        return reference

    def _document(
        self,
        place: str,
        model: type[BaseModel],
        arguments: Sequence[object],
        fields: Mapping[str, Any],
        scopes: list[Scope] | None = None,
    ) -> Json:
        if arguments:
            self.report(f"{place}: {model.__name__} takes its fields by name", f"write {model.__name__}, FIELD=...")
        used: list[Scope] = [] if scopes is None else scopes
        documents = Documents(lambda value: self._use(value, used), self.report)
        return documents.of_model(model, fields, f"{place}: {model.__name__}")

    def _use(self, value: Recorded, scopes: list[Scope]) -> Any:
        """The JSON of a value, which must exist wherever this line runs. Its scopes are added to `scopes`."""
        around = set(self._frame.scope)
        for origin in value.scopes:
            passed = [scope for scope in origin if scope not in around]
            if len(passed) == len(tuple(origin)):
                self.report(f"{value.shown} belongs to another workflow", "give it as a parameter of this one")
            for scope in passed:
                if scope in self._open or scope.kind in ("case", "item"):
                    why = {
                        "branch": "may not be done yet: use it after the fork",
                        "case": "may not have run: let every case write a file, and read that",
                        "item": "is one of many: let it write a file, and read that",
                    }.get(scope.kind, "is not done yet")
                    self.report(f"{value.shown} is a value of {scope.name}, which {why}", "use it there")
                    break
        scopes.extend(value.scopes)
        return value.content

    def _workspace(self) -> Json:
        return {**_PLACE, "ref_type": "commit", "ref": _Ends(self._frame.heads)}

    def _add(self, name: str, task: Json, result: Any) -> Step[Any]:
        """Add a step whose result has the type `result`."""
        reference = self._claim(name)
        self._append(name, reference, task)
        path = ("result",)
        content = expression(reference, path)
        return Step(reference, Recorded(content, f"{name}.result", result, (self._frame.scope,), reference, path))

    def _append(self, name: str, reference: str, task: Json) -> None:
        self._frame.tasks.append({"name": name, "taskReferenceName": reference, **task})

    def _continue_with(self, head: str) -> None:
        self._frame.heads = (head,)
        self._frame.has_workspace = True

    def _leave(self, frames: Sequence[_Frame], heads: Sequence[str | _Ends]) -> None:
        """Continue after the frames of a structure: with these heads, if a step in it has a workspace."""
        for frame in frames:
            self._frame.publishers += frame.publishers
        if any(frame.has_workspace for frame in frames):
            self._frame.heads = tuple(dict.fromkeys(heads))
            self._frame.has_workspace = True

    def _check_publishers(self, label: str, branches: Sequence[Sequence[_Publisher]], least: int) -> None:
        """Refuse steps that publish next to others and would fail for good on the moved head."""
        if sum(bool(branch) for branch in branches) < least:
            return
        for publisher in dict.fromkeys(publisher for branch in branches for publisher in branch):
            if not publisher.rebases:
                self.problems.append(
                    publisher.location.error(
                        f"{label}: step {publisher.name!r} publishes next to others, and fails if the branch has moved",
                        'declare on_moved_head="rebase" in the WorkspaceSpec of its task',
                    )
                )


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


def _rendered(node: Any) -> Any:
    """The same with the heads of each workspace as one expression, or as a list of them."""
    match node:
        case _Ends():
            heads = list(dict.fromkeys(_flat(node)))
            return heads[0] if len(heads) == 1 else heads
        case dict():
            return {key: _rendered(value) for key, value in node.items()}
        case list():
            return [_rendered(value) for value in node]
    return node


def _flat(ends: _Ends, above: tuple[int, ...] = ()) -> Iterator[str]:
    for head in ends.heads:
        if isinstance(head, str):
            yield head
        elif id(head) not in above:  # a body begins with its own end
            yield from _flat(head, (*above, id(head)))


def _without_items(
    node: Any, at: tuple[str | int, ...] = ()
) -> tuple[Any, list[tuple[list[str | int], tuple[str, ...]]]]:
    """The input of a step without the places of its item, and these places with the paths into the item."""
    if isinstance(node, Item):
        return None, [(list(at), node.path)]
    if not isinstance(node, dict | list):
        return node, []
    pairs = list(node.items() if isinstance(node, dict) else enumerate(node))
    found = [(key, *_without_items(value, (*at, key))) for key, value in pairs]
    places = [place for _, _, inner in found for place in inner]
    if isinstance(node, dict):
        return {key: value for key, value, _ in found}, places
    return [value for _, value, _ in found], places
