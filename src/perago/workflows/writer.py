"""Writes the tasks of a workflow: names, scopes, and the workspace refs, which follow fixed rules.

A writer keeps *heads*: expressions for the commits that the next step continues. perago chooses the one that has all
the others in its history when the step runs.

- A step continues the heads, and is the only head afterwards. An optional step is added to the heads.
- Each branch of a fork begins with the heads before it. After the JOIN the heads are those at the end of each branch.
- After a `map` the heads are those before it and the output of its JOIN, because a list may be empty.
- After a switch the heads are those before it and the end of each case. A case that was not taken gives null.
- A loop begins with the heads before it and those at the end of its last round, which are null in the first round.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from perago.authoring.declaration import InvalidDeclaration, Location, TaskDefinitionError, calling_line
from perago.workflows.values import Documents, FailedWorkflow, Item, Recorded, Scope, Value, expression, sent_name

Json = dict[str, Any]
T = TypeVar("T")

_REFERENCE = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")
_LONGEST_REFERENCE = 200
"""The databases have 250 or 255 characters for it and the number of a round and of a retry."""
_PLACE = {key: expression("workflow", ("workspace", key)) for key in ("repository", "branch")}
_FIRST_HEAD = expression("workflow", ("workspace", "ref"))
_LAST_OF_FAILED = expression("workflow", ("failedWorkflow", "output", "published"))
_IN_LIST = {
    _FIRST_HEAD: {"workspace": expression("workflow", ("workspace",))},
    _LAST_OF_FAILED: {"workspace": _LAST_OF_FAILED},
}
"""The same heads in a list: their refs may be lists, which must not be in a list."""


_FILE = "write a file that later steps read"
_OUTSIDE = {
    "case": ("may not have run", f"use it in this case, or let each case {_FILE}"),
    "item": ("is one of many", f"use it in the step of the item, or let that step {_FILE}"),
    "optional": ("may have failed", f"use it next to that step, or let that step {_FILE}"),
}
"""The reasons why a value cannot be read outside of such a part, with the fixes."""
_STILL_OPEN = {"branch": ("may not be done yet", "use it after the fork"), "loop": ("is not done yet", "use it there")}


@dataclass(frozen=True, slots=True)
class Publisher:
    """A step that may publish, and what it does if another one has published since its input ref."""

    name: str
    rebases: bool
    location: Location
    may_be_absent: bool = False
    """Whether a round of a loop can go on without its commit."""


@dataclass(slots=True, eq=False)
class Ends:
    """The heads at the end of a loop's body, which the body itself begins with."""

    heads: tuple[str | Ends, ...] = ()


@dataclass(slots=True)
class Frame:
    """The part of a workflow that is being written."""

    scope: Scope
    heads: tuple[str | Ends, ...]
    suffix: str = ""
    """Appended to the names of its steps, because the same lines write each branch of a fork."""
    tasks: list[Json] = field(default_factory=list)
    publishers: list[Publisher] = field(default_factory=list)
    has_workspace: bool = False
    is_closed: bool = False
    """Whether it is a switch, whose steps are in its cases."""


@dataclass(slots=True)
class _Structure(contextlib.AbstractContextManager[T]):
    """A structure that can be opened once. Its problem is in `unopened` until then."""

    label: str
    structure: contextlib.AbstractContextManager[T]
    unopened: list[TaskDefinitionError]
    problem: TaskDefinitionError

    def __enter__(self) -> T:
        if self.problem not in self.unopened:
            raise InvalidDeclaration(f"{self.label} is in a second `with`", "call the method again for each `with`")
        self.unopened.remove(self.problem)
        return self.structure.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self.structure.__exit__(*error)


class Part(Protocol):
    """A workflow that runs as a step of another one."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    def definition(self) -> Json: ...

    def _build(self) -> Built: ...


@dataclass(frozen=True, slots=True)
class Built:
    """A workflow that was written without a mistake."""

    definition: str
    """Conductor's JSON as text."""
    has_workspace: bool
    publishers: tuple[tuple[str, bool], ...]
    """The steps that may publish, and whether each rebases."""
    functions: Mapping[str, Callable[..., Any]]
    """The task functions of its steps by the name of the task, without those of sub-workflows."""
    worker_tasks: Mapping[str, Callable[..., Any]]
    """The functions with `@worker_task` of its steps in the same way."""
    parts: tuple[Part, ...]
    """Its sub-workflows and the workflow that runs after its failure, without theirs."""
    names: frozenset[tuple[str, int]]
    """Names and versions of the workflow and of all below it."""
    warnings: tuple[TaskDefinitionError, ...] = ()
    """Possible mistakes."""
    head_task: str = ""
    """The task of its first step with a workspace, also in a sub-workflow."""


class Writer:
    """The tasks of one workflow, and the part of it that is being written."""

    def __init__(self, model: type[BaseModel], label: str) -> None:
        """A workflow without tasks, with parameters of this model; `label` is their name in the author's function."""
        root = Scope("flow", "")
        after_failure = issubclass(model, FailedWorkflow)
        self._first_heads = (_LAST_OF_FAILED, _FIRST_HEAD) if after_failure else (_FIRST_HEAD,)
        self._all_heads: list[str] = []
        self.head_task = ""
        """The task of the first step with a workspace."""
        self.has_handler = False
        """Whether another workflow runs after a failure of this one."""
        self.current: Frame = Frame(root, self._first_heads)
        self.open: set[Scope] = {root}
        self.references: dict[str, Location] = {}
        self.problems: list[TaskDefinitionError] = []
        self.warnings: list[TaskDefinitionError] = []
        self.functions: dict[str, Callable[..., Any]] = {}
        self.worker_tasks: dict[str, Callable[..., Any]] = {}
        self.parts: dict[tuple[str, int], Part] = {}
        self._known: dict[str, object] = {}
        """The workflows and functions of all parts, by their unique key."""
        self.runs: dict[str, str] = {}
        """The references that a `map` writes when the workflow runs begin with these, and its name."""
        self.end: Location | None = None
        """The line of problems after the author's function has returned."""
        self.unopened: list[TaskDefinitionError] = []
        """A problem for each structure that is not in a `with`."""
        self.used: set[str] = set()
        """The parameters that were read."""
        self._unread: dict[str, tuple[list[Json], Json, Json]] = {}
        """The tasks that are written only if a step reads them, with the list and the task that they follow."""
        self._failures: list[tuple[Json, Json]] = []
        """The output of each TERMINATE, and its workspace."""
        self.model = model
        path: tuple[str, ...] = ()
        self.params: Value = Value(
            Recorded(expression("workflow", path), label, model, (root,), "workflow", path, self.used.add)
        )

    @contextlib.contextmanager
    def frame(self, kind: Any, name: str, suffix: str | None = None) -> Iterator[Frame]:
        """Write into a part of the workflow."""
        outer = self.current
        scope = Scope(kind, name, outer.scope)
        self.current = Frame(scope, outer.heads, outer.suffix if suffix is None else suffix)
        self.open.add(scope)
        try:
            yield self.current
        finally:
            self.current = outer

    def to_open(
        self, label: str, structure: contextlib.AbstractContextManager[T]
    ) -> contextlib.AbstractContextManager[T]:
        """Return the structure, with a problem until it is used in a `with`."""
        problem = calling_line().error(f"{label} is not in a `with`, so it has no steps", "write `with` before it")
        self.unopened.append(problem)
        return _Structure(label, structure, self.unopened, problem)

    @property
    def has_workspace(self) -> bool:
        """Whether a step has a workspace."""
        return self.current.has_workspace

    @property
    def publishers(self) -> tuple[tuple[str, bool], ...]:
        """The steps that may publish, and whether each rebases."""
        return tuple((publisher.name, publisher.rebases) for publisher in self.current.publishers)

    def tasks(self) -> list[Json]:
        """All tasks as Conductor's JSON."""
        for output, workspace in self._failures if self.has_workspace else ():
            output |= {"workspace": workspace, **self._published()}
        return list(map(_rendered, self.current.tasks))

    def output(self, result: object, model: type[BaseModel] | None) -> Json:
        """The output parameters of the workflow; `result` is what the author's function returned."""
        output: Json = {}
        if self.has_workspace:
            output |= {"workspace": _rendered(self.workspace()), **self._published()}
        if model is None and result is not None:
            self.report("the workflow returns a value, but its function has no return type", "write `-> MODEL`")
        elif model is not None and result is None:
            rule = f"the workflow returns nothing, but its return type is {model.__name__}"
            self.report(rule, "return the result of a step, or write `-> None`")
        elif model is not None:
            documents = Documents(lambda value: self.use(value, []), self.report)
            output["result"] = documents.convert(result, model, "the result of the workflow")
        return output

    def report(self, rule: str, fix: str) -> None:
        """Note a problem at the author's line; all are raised together when the workflow has been written."""
        self.problems.append((self.end or calling_line()).error(rule, fix))

    def warn(self, rule: str, fix: str) -> None:
        """Note what may be a mistake at the author's line."""
        self.warnings.append(calling_line().error(rule, fix))

    def claim(self, name: str, part: str = "") -> str:
        """The task reference name of a step, or of a `part` of it, which no other step may have."""
        reference = f"{name}{part}{self.current.suffix}"
        is_name = isinstance(name, str) and _REFERENCE.fullmatch(name) and name != "workflow"
        if not part and not is_name:  # that of a part has been judged
            self.report(
                f"{name!r} is not a name for a step: letters, digits, single underscores between them, first a letter",
                "write it like clean_rows",
            )
        if len(reference) > _LONGEST_REFERENCE:
            rule = f"the name {f'{reference[:40]}…'!r} has {len(reference)} characters"
            self.report(rule, f"shorten it to {_LONGEST_REFERENCE}, because databases of Conductor refuse longer ones")
        known = self.references.get(reference)
        if known is not None:
            self.report(f"the name {reference!r} is taken by {known.readable}", "give this step another name")
        self.references[reference] = calling_line()
        return reference

    def check_runs(self) -> None:
        """Refuse a step with a name that a `map` gives to the step of an item."""
        for reference, location in self.references.items():
            base, _, number = reference.rpartition("_")
            if number.isdecimal() and base in self.runs and reference not in self.runs:
                rule = f"map {self.runs[base]!r} gives the name {reference!r} to the step of an item"
                self.problems.append(location.error(rule, "give this step another name"))

    def add_function(self, name: str, function: Callable[..., Any]) -> None:
        """Note the function of a task."""
        self.functions[name] = function
        self._know(f"functions are the task {name!r}", function)

    def add_worker_task(self, name: str, function: Callable[..., Any]) -> None:
        """Note the function of a task that a worker of the official SDK runs."""
        self.worker_tasks[name] = function
        self._know(f"functions are the task {name!r}", function)

    def add_part(self, part: Part) -> None:
        """Note a sub-workflow."""
        self.parts[part.name, part.version] = part
        self._know_part(part)

    def _know_part(self, part: Part) -> None:
        label = f"workflows are version {part.version} of {part.name!r}"
        if self._known.get(label) is part:
            return
        self._know(label, part)
        built = part._build()
        for name, function in {**built.functions, **built.worker_tasks}.items():
            self._know(f"functions are the task {name!r}", function)
        for inner in built.parts:
            self._know_part(inner)

    def _know(self, label: str, declared: object) -> None:
        if self._known.setdefault(label, declared) is not declared:
            self.report(f"two different {label}", "give one of the two another name")

    def document(
        self,
        place: str,
        model: type[BaseModel],
        arguments: Sequence[object],
        fields: Mapping[str, Any],
        scopes: list[Scope] | None = None,
    ) -> Json:
        """The JSON of a model that is called with these arguments; the scopes of its values are added to `scopes`."""
        if arguments:
            self.report(f"{place}: {model.__name__} takes its fields by name", f"write {model.__name__}, FIELD=...")
        used: list[Scope] = [] if scopes is None else scopes
        documents = Documents(lambda value: self.use(value, used), self.report, is_sent=scopes is None)
        return documents.of_model(model, fields, f"{place}: {model.__name__}")

    def use(self, value: Recorded, scopes: list[Scope]) -> Any:
        """The JSON of a value, which must exist wherever this line runs. Its scopes are added to `scopes`."""
        self._note_read(value.reference)
        if value.comparison is not None:
            self.report(f"{value.shown} is a condition, and no value", "give it to flow.when or until()")
        around = set(self.current.scope)
        for origin in value.scopes:
            passed = [scope for scope in origin if scope not in around]
            if len(passed) == len(tuple(origin)):
                self.report(f"{value.shown} belongs to another workflow", "give it as a parameter of this one")
            for scope in passed:
                if scope in self.open or scope.kind in _OUTSIDE:
                    why, fix = _OUTSIDE.get(scope.kind) or _STILL_OPEN[scope.kind]
                    self.report(f"{value.shown} is a value of {scope.name}, which {why}", fix)
                    break
        scopes.extend(value.scopes)
        if value.read is not None:  # all parameters; the input of the workflow has the workspace, too
            self.used.update(self.model.model_fields)
            keys = [sent_name(name, field) or name for name, field in self.model.model_fields.items()]
            return {key: expression("workflow", (key,)) for key in keys}
        return value.content

    def workspace(self) -> Json:
        """The workspace block of a step that continues the heads."""
        return {**_PLACE, "ref_type": "commit", "ref": Ends(self.current.heads)}

    def _published(self) -> Json:
        """A workspace block of all heads for the workflow that runs after a failure: that of a failed step is null."""
        heads = [_IN_LIST.get(head, head) for head in dict.fromkeys((*self._all_heads, *self._first_heads))]
        return {"published": {**_PLACE, "ref_type": "commit", "ref": heads}} if self.has_handler else {}

    def append(self, name: str, reference: str, task: Json) -> None:
        """Add a task to the part that is being written."""
        if self.current.is_closed:
            self.report(f"step {name!r} is in a switch, but in none of its cases", "write it into a case")
        if self.current.tasks and self.current.tasks[-1]["type"] == "TERMINATE":
            self.report(f"step {name!r} comes after the end of the workflow", "write it before flow.fail, or remove it")
        self.current.tasks.append({"name": name, "taskReferenceName": reference, **task})

    def append_if_read(self, name: str, reference: str, task: Json) -> None:
        """Add a task after the current one if a later step reads its output."""
        after, written = self.current.tasks[-1], {"name": name, "taskReferenceName": reference, **task}
        self._unread[reference] = (self.current.tasks, after, written)

    def _note_read(self, reference: str) -> None:
        if reference in self._unread:
            tasks, after, written = self._unread.pop(reference)
            tasks.insert(1 + next(index for index, task in enumerate(tasks) if task is after), written)

    def read_all(self, frame: Frame) -> None:
        """Add all tasks of a branch now, because its JOIN waits for the last one."""
        for reference in [reference for reference, (tasks, *_) in self._unread.items() if tasks is frame.tasks]:
            self._note_read(reference)

    def fail(self, name: str, reference: str, reason: str) -> None:
        """End the workflow as FAILED here. Its output keeps the heads, so that others find what was published."""
        output: Json = {}
        self._failures.append((output, self.workspace()))
        inputs = {"terminationStatus": "FAILED", "terminationReason": reason, "workflowOutput": output}
        self.append(name, reference, {"type": "TERMINATE", "inputParameters": inputs})

    def continue_with(self, head: str, *, optional: bool) -> None:
        """Make the commit of a step the only head. The commit of an optional step is null if the step failed, so the
        heads before it stay."""
        self._all_heads.append(head)
        self.current.heads = (*self.current.heads, head) if optional else (head,)
        self.current.has_workspace = True

    def leave(self, frames: Sequence[Frame], heads: Sequence[str | Ends]) -> None:
        """Continue after the frames of a structure: with these heads, if a step in it has a workspace."""
        for frame in frames:
            self.current.publishers += frame.publishers
        if any(frame.has_workspace for frame in frames):
            self._all_heads += [head for head in heads if isinstance(head, str)]
            self.current.heads = tuple(dict.fromkeys(heads))
            self.current.has_workspace = True

    def check_publishers(self, label: str, branches: Sequence[Sequence[Publisher]], least: int) -> None:
        """Refuse steps that publish next to others and would fail for good on the moved head."""
        if sum(bool(branch) for branch in branches) < least:
            return
        for publisher in dict.fromkeys(publisher for branch in branches for publisher in branch):
            if not publisher.rebases:
                rule = f"{label}: step {publisher.name!r} publishes next to others, and fails if the branch has moved"
                fix = 'declare on_moved_head="rebase" in the WorkspaceSpec of its task'
                self.problems.append(publisher.location.error(rule, fix))

    def check_rounds(self, label: str, frame: Frame, ends: Ends) -> None:
        """Refuse a loop in which a later round can hide the only commit that has the files of an earlier one."""
        for publisher in frame.publishers if ends in frame.heads else ():
            if publisher.may_be_absent:
                rule = (
                    f"{label}: if step {publisher.name!r} gives no commit in a later round, no step reads the "
                    "files of its earlier rounds, because no other step of the loop runs in each round"
                )
                fix = "add a step with a workspace to the loop, such as a read-only one"
                self.problems.append(publisher.location.error(rule, fix))


def _rendered(node: Any) -> Any:
    """The same with the heads of each workspace as one expression, or as a list of them."""
    match node:
        case Ends():
            heads = list(dict.fromkeys(_flat(node)))
            return heads[0] if len(heads) == 1 else [_IN_LIST.get(head, head) for head in heads]
        case dict():
            return {key: _rendered(value) for key, value in node.items()}
        case list():
            return [_rendered(value) for value in node]
    return node


def _flat(ends: Ends, visited: set[int] | None = None) -> Iterator[str]:
    visited = set() if visited is None else visited
    for head in ends.heads:
        if isinstance(head, str):
            yield head
        elif id(head) not in visited:  # a body begins with its own end
            visited.add(id(head))
            yield from _flat(head, visited)


def without_items(
    node: Any, at: tuple[str | int, ...] = ()
) -> tuple[Any, list[tuple[list[str | int], tuple[str, ...]]]]:
    """The input of a step without the places of its item, and these places with the paths into the item."""
    if isinstance(node, Item):
        return None, [(list(at), node.path)]
    if not isinstance(node, dict | list):
        return node, []
    pairs = list(node.items() if isinstance(node, dict) else enumerate(node))
    children = [(key, *without_items(value, (*at, key))) for key, value in pairs]
    places = [place for _, _, inner in children for place in inner]
    if isinstance(node, dict):
        return {key: value for key, value, _ in children}, places
    return [value for _, value, _ in children], places
