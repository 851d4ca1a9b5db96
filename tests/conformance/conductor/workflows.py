"""Definitions, a started workflow, and what clients and workers do with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...http_answer import Answer
from ..rest import Rest
from ..scenario import Request, Requests, to

Json = dict[str, Any]
Name = str | Request | Requests
"""A name, or the request that will find it."""

on = Requests()
"""Requests of a scenario that prepares a `StartedWorkflow`."""

NO_RETRIES: dict[str, Json] = {"a": {"retryCount": 0}, "b": {"retryCount": 0}}
ONE_RETRY_OF_B: dict[str, Json] = {"a": {"retryCount": 0}, "b": {"retryCount": 1}}
"""Two task types."""

PATIENCE_SECONDS = 15
LOOK_SECONDS = 0.05

QUIET_LOOKS = 6
QUIET_SECONDS = 0.15
"""A workflow that looks the same so often, at such intervals, is at rest: no background work is left to be seen."""

BRIEF_WORKFLOW = (
    "status",
    "reasonForIncompletion",
    "output",
    "variables",
    "failedReferenceTaskNames",
    "failedTaskNames",
    "parentWorkflowId",
    "parentWorkflowTaskId",
    "taskToDomain",
    "input",
    "correlationId",
    "priority",
    "endTime",
    "lastRetriedTime",
)
"""What brief notes show of a workflow."""
NOT_BRIEF = frozenset(
    (
        "workflowInstanceId",
        "workflowType",
        "workflowPriority",
        "callbackFromWorker",
        "rateLimitFrequencyInSeconds",
        "scheduledTime",
        "queueWaitTime",
        "workerId",
        "workflowTask",
        "taskDefinition",
        "executionMetadata",
    )
)
"""What brief notes leave out of a task: it is always the same, or the definition once more."""


def task_type(rest: Rest, label: str = "task", **fields: Any) -> str:
    """Register a task type with one retry and no delay; `fields` change its definition."""
    name = rest.name(label)
    with rest.unnoted():
        answer = rest.call(
            "POST", "/metadata/taskdefs", json=[{"name": name, "retryCount": 1, "retryDelaySeconds": 0, **fields}]
        )
    assert answer.status == 200, answer.text
    return name


def step(task: Name, reference: str = "r0", **fields: Any) -> Json:
    """A simple task of a workflow definition that passes the workflow's `x` on."""
    parameters = {"inputParameters": {"x": "${workflow.input.x}"}, **fields}
    return {"name": task, "taskReferenceName": reference, "type": "SIMPLE", **parameters}


def definition(name: Name, *tasks: Json, **fields: Any) -> Json:
    """A workflow definition."""
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": list(tasks), **fields}


def register_workflow(rest: Rest, *tasks: Json, label: str = "workflow", **fields: Any) -> str:
    """Register a workflow of these tasks; returns its name."""
    name = rest.name(label)
    with rest.unnoted():
        answer = rest.call("POST", "/metadata/workflow", json=definition(name, *tasks, **fields))
    assert answer.status == 200, answer.text
    return name


@dataclass(frozen=True)
class StartedWorkflow:
    """A workflow that was started. What is called here is noted, except for `take`, `finish` and `wait`."""

    rest: Rest
    task: str
    workflow: str
    id: str
    types: Mapping[str, str] = field(default_factory=dict)
    """Task types by their labels."""
    first: Any = None
    """The first sub-workflow, where the stage has waited for it."""
    _taken: list[Json] = field(default_factory=list)

    @property
    def silent(self) -> StartedWorkflow:
        """The same workflow, of which nothing is noted."""
        return replace(self, rest=self.rest.silent)

    @property
    def noted(self) -> Any:
        """The same workflow, which is noted with all its tasks after each call: `on.noted.retry()`."""
        return _Noted(self)

    def take(self, worker: str = "w1", task: str | None = None, **query: Any) -> Json:
        """Poll until there is a task, unnoted. `task` is a type or its label."""
        name = self.types.get(task or "", task or self.task)
        with self.rest.unnoted():
            answer = _until(
                self.rest,
                lambda: self.rest.call("GET", "/tasks/poll/{type}", query={"workerid": worker, **query}, type=name),
                lambda answer: answer.status == 200,
            )
        self._taken.append(answer.json)
        return self._taken[-1]

    def taken(self, number: int) -> Json:
        """Return the task that was taken first (1), second (2), and so on."""
        return self._taken[number - 1]

    def finish(self, task: Json, status: str | None = "COMPLETED", **fields: Any) -> None:
        """Report a result, unnoted."""
        with self.rest.unnoted():
            answer = self.update(task, status, **fields)
        assert answer.status == 200, answer.text

    def run(self, status: str = "COMPLETED", task: str | None = None, **fields: Any) -> Json:
        """Take a task and report its result, both unnoted."""
        taken = self.take(task=task)
        self.finish(taken, status, **fields)
        return taken

    def fail(self, task: str | None = None) -> Json:
        """Take a task and report that it failed for the reason "boo", both unnoted."""
        return self.run("FAILED", task, reasonForIncompletion="boo")

    def wait(self, seconds: float) -> None:
        """Let time pass and have the workflow looked at, unnoted."""
        self.rest.sleep(seconds)
        self.decide()

    def decide(self) -> None:
        """Have the workflow looked at, unnoted."""
        with self.rest.unnoted():
            self.evaluate()

    def evaluate(self) -> None:
        """Have the workflow looked at."""
        self.act("PUT", "/workflow/decide/{workflow}")

    def reset_callbacks(self) -> None:
        """Make tasks that wait for their delay pollable."""
        self.act("POST", "/workflow/{workflow}/resetcallbacks")

    def queue_size(self) -> Answer:
        """Ask how many tasks of the type wait."""
        return self.rest.call("GET", "/tasks/queue/size", query={"taskType": self.task})

    def poll(self, worker: str = "w1", show: Collection[str] = (), **query: Any) -> Answer:
        """Poll for one task."""
        options = {"workerid": worker, **query}
        return self.rest.call("GET", "/tasks/poll/{type}", query=options, show=show, type=self.task)

    def batch(self, **query: Any) -> Answer:
        """Poll for several tasks."""
        options = {"workerid": "w1", "timeout": 100, **query}
        return self.rest.call("GET", "/tasks/poll/batch/{type}", query=options, type=self.task)

    def update(self, task: Json, status: str | None, **fields: Any) -> Answer:
        """Report a result."""
        return self.rest.call("POST", "/tasks", json=result(task, status, **fields))

    def update_v2(self, task: Json, status: str | None, **fields: Any) -> Answer:
        """Report a result and ask for the next task."""
        return self.rest.call("POST", "/tasks/update-v2", json=result(task, status, **fields))

    def report(self, reference: str, status: str, output: Any, path: str = "", **query: Any) -> Answer:
        """Report a result by the reference name of the task."""
        template = "/tasks/{workflow}/{reference}/{status}" + path
        return self.act("POST", template, reference=reference, status=status, json=output, query=query)

    def act(self, method: str, template: str, **options: Any) -> Answer:
        """Something with the workflow, whose id is `{workflow}` in the path."""
        return self.rest.call(method, template, workflow=self.id, **options)

    def read_task(self, task: Json, **options: Any) -> Json:
        """Read an attempt."""
        return self.rest.get("/tasks/{task}", task=task["taskId"], **options).json  # type: ignore[no-any-return]

    def log(self, task: Json, text: str, kind: str = "application/json") -> None:
        """Add a line to the log of an attempt."""
        headers = {"Content-Type": kind}
        self.rest.call("POST", "/tasks/{task}/log", task=task["taskId"], body=text.encode(), headers=headers)

    def logs(self, task: Json) -> Answer:
        """Read the log of an attempt."""
        return self.rest.get("/tasks/{task}/log", task=task["taskId"])

    def read(self, **options: Any) -> Json:
        """Read the workflow with its tasks."""
        return self.act("GET", "/workflow/{workflow}", **options).json  # type: ignore[no-any-return]

    def note_number(self, about: str, answer: Answer) -> None:
        """Note how many entries the list in an answer has."""
        self.rest.note(about, len(answer.json))

    def note(self, *references: str) -> None:
        """Note the workflow's status and the tasks of these reference names; others may be a matter of luck."""
        with self.rest.unnoted():
            workflow = self.read()
        self.rest.note("the status", workflow["status"])
        for row in workflow["tasks"]:
            if row["referenceTaskName"] in references:
                self.rest.note(row["referenceTaskName"], row)

    def note_all(self, *, without: Collection[str] = ()) -> None:
        """Note the workflow and all its tasks in brief, without what is unset, once the server is at rest.

        `without`: reference names of tasks that are a matter of luck, such as a join while its workflow ends.
        """
        workflow = self.at_rest()
        shown = {key: workflow[key] for key in BRIEF_WORKFLOW if workflow.get(key)}
        self.rest.note(
            "the workflow",
            {**shown, "tasks": [_brief(row) for row in workflow["tasks"] if row["referenceTaskName"] not in without]},
        )

    def at_rest(self) -> Json:
        """The workflow, unnoted, once the server does nothing more with it on its own."""
        before, quiet = None, 0
        with self.rest.unnoted():
            looks = 1 if self.rest.works_at_once else QUIET_LOOKS
            while quiet < looks:
                workflow = self.read()
                current = {**workflow, "tasks": [_without_polls_of_joins(row) for row in workflow["tasks"]]}
                quiet = quiet + 1 if current == before else 0
                before = current
                self.rest.sleep(QUIET_SECONDS * QUIET_LOOKS / looks)
        return workflow

    def start_another(self) -> StartedWorkflow:
        """Start the same workflow once more, unnoted."""
        return start_registered(self.rest, self.task, self.workflow)

    def retry(self, **query: Any) -> None:
        """Retry the workflow."""
        self.act("POST", "/workflow/{workflow}/retry", query=query)

    def restart(self) -> None:
        """Begin again."""
        self.act("POST", "/workflow/{workflow}/restart")

    def rerun(self, task: Json | None = None, **body: Any) -> None:
        """Run again from a task on, or from the beginning."""
        request = {"reRunFromTaskId": task["taskId"], **body} if task else body
        self.act("POST", "/workflow/{workflow}/rerun", json=request)

    def skip(self, reference: str, **body: Any) -> None:
        """Skip the step of this reference name; `body` is its input and output."""
        self.act("PUT", "/workflow/{workflow}/skiptask/{reference}", reference=reference, json=body)

    def pause(self) -> None:
        """Pause the workflow."""
        self.act("PUT", "/workflow/{workflow}/pause")

    def resume(self) -> None:
        """Continue after a pause."""
        self.act("PUT", "/workflow/{workflow}/resume")

    def remove(self, **query: Any) -> None:
        """Remove the workflow from the server."""
        self.act("DELETE", "/workflow/{workflow}/remove", query=query)

    def terminate(self, reason: str | None = None) -> None:
        """End the workflow."""
        self.act("DELETE", "/workflow/{workflow}", query={"reason": reason} if reason else None)

    def rows(self) -> list[Json]:
        """The workflow's tasks, unnoted."""
        with self.rest.unnoted():
            return self.read()["tasks"]  # type: ignore[no-any-return]

    def row(self, reference: str) -> Json:
        """The latest task of this reference name, unnoted."""
        return [row for row in self.rows() if row["referenceTaskName"] == reference][-1]

    def settle(self, *statuses: str, decide: bool = True) -> None:
        """Wait, unnoted, until the workflow has one of these statuses: servers run system tasks in the background."""
        self.until(lambda workflow: workflow["status"] in statuses, decide=decide)

    def await_end(self, status: str = "FAILED") -> None:
        """Wait until a JOIN has ended the workflow. A decision from outside marks what ended last as executed."""
        self.settle(status, decide=False)

    def await_row(self, reference: str, *statuses: str) -> Json:
        """Wait, unnoted, until there is a task of this reference name, with one of the statuses if any are given."""

        def found(workflow: Json) -> bool:
            return any(
                row["referenceTaskName"] == reference and (not statuses or row["status"] in statuses)
                for row in workflow["tasks"]
            )

        self.until(found)
        return self.row(reference)

    def child(self, reference: str) -> StartedWorkflow:
        """The workflow that a sub-workflow task has started; waits until it has tasks."""
        row = self.await_row(reference, "IN_PROGRESS")
        child = StartedWorkflow(self.rest, self.task, "", row["subWorkflowId"], self.types)
        child.until(lambda workflow: bool(workflow["tasks"]))
        return child

    def started_by(self, reference: str) -> StartedWorkflow:
        """The workflow that the latest task of this reference name has started, once the server is at rest."""
        rows = [row for row in self.at_rest()["tasks"] if row["referenceTaskName"] == reference]
        return StartedWorkflow(self.rest, self.task, "", rows[-1]["subWorkflowId"], self.types)

    def until(self, reached: Callable[[Json], bool], *, decide: bool = True) -> None:
        """Read the workflow, unnoted, until it is as wanted. With `decide`, have the server evaluate it each time."""

        def look() -> Answer:
            if decide:
                self.decide()
            return self.act("GET", "/workflow/{workflow}")

        with self.rest.unnoted():
            _until(self.rest, look, lambda answer: reached(answer.json))


@dataclass(frozen=True)
class _Noted:
    _workflow: StartedWorkflow

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call_and_note(*arguments: Any, **options: Any) -> Any:
            answer = getattr(self._workflow, name)(*arguments, **options)
            self._workflow.note_all()
            return answer

        return call_and_note


def _brief(row: Json) -> Json:
    left_out = NOT_BRIEF | ({"reasonForIncompletion"} if _ended_elsewhere(row) else set())
    return {key: value for key, value in row.items() if key not in left_out and value not in (0, "", None, {}, [])}


def _ended_elsewhere(row: Json) -> bool:
    """Whether a join was looked at while its workflow ended, which it then gives as its reason."""
    return str(row.get("reasonForIncompletion")).startswith("Workflow is in ")


def _without_polls_of_joins(row: Json) -> Json:
    """A join that waits is looked at all the time, which shows in its row and nowhere else."""
    moving = ("pollCount", "updateTime", "queueWaitTime", "callbackAfterSeconds")
    return {key: value for key, value in row.items() if row["taskType"] != "JOIN" or key not in moving}


def result(task: Json, status: str | None, **fields: Any) -> Json:
    """The result of a task as a worker sends it."""
    report = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "workerId": "w1", **fields}
    return report if status is None else {**report, "status": status}


def start(
    rest: Rest, task: str, *tasks: Json, given: Json | None = None, label: str = "workflow", **fields: Any
) -> StartedWorkflow:
    """Register a workflow of these tasks and start it; `fields` change its definition."""
    return start_registered(rest, task, register_workflow(rest, *tasks, label=label, **fields), given)


@dataclass(frozen=True)
class Definition:
    """The definition of a workflow by its name, be it registered or not."""

    rest: Rest
    name: str
    types: Mapping[str, str] = field(default_factory=dict)
    """Task types by their labels."""

    @property
    def task(self) -> str:
        """The first task type."""
        return next(iter(self.types.values()), "none")

    @property
    def silent(self) -> Definition:
        """The same definition, of which nothing is noted."""
        return replace(self, rest=self.rest.silent)

    def post(self, *tasks: Json, query: Json | None = None, **fields: Any) -> Answer:
        """Create it with these tasks and fields."""
        return self.rest.post("/metadata/workflow", self._body(tasks, fields), query=query)

    def put(self, *tasks: Json, **fields: Any) -> Answer:
        """Create or replace it."""
        return self.rest.put("/metadata/workflow", [self._body(tasks, fields)])

    def read(self, **query: Any) -> Answer:
        """Read it."""
        return self.rest.get("/metadata/workflow/{name}", query=query, name=self.name)

    def start(self, *, show: Collection[str] = (), **members: Any) -> StartedWorkflow:
        """Start it by a request with these members, and read the workflow."""
        answer = self.rest.post("/workflow", {"name": self.name, **members})
        started = StartedWorkflow(self.rest, self.task, self.name, answer.text, self.types)
        started.read(show=show)
        return started

    def _body(self, tasks: Sequence[Json], fields: Json) -> Json:
        return {**definition(self.name, *(_with_names(task, self.types) for task in tasks)), **fields}


at = Requests()
"""Requests of a scenario that prepares a `Definition`."""


def unregistered(rest: Rest, *types: str) -> Definition:
    """The definition of a workflow that is not registered, and registered task types with these labels."""
    names = {label: task_type(rest, label) for label in types}
    return Definition(rest, rest.name("workflow"), names)


def registered(
    rest: Rest,
    *tasks: Json,
    types: Mapping[str, Json] | None = None,
    children: Mapping[str, Json] | None = None,
    label: str = "workflow",
    **fields: Any,
) -> Definition:
    """Register task types by their labels, and a workflow of tasks that have a label in place of their name.

    By default there is one type, `task`. `children`: workflows for sub-workflows by their labels.
    """
    chosen = {"task": {}} if types is None else types
    names = {key: task_type(rest, key, **changes) for key, changes in chosen.items()}
    for key, child in (children or {}).items():
        steps = [_with_names(task, names) for task in child["tasks"]]
        names[key] = register_workflow(rest, **{"label": key, **child, "tasks": steps})
    name = register_workflow(rest, *(_with_names(task, names) for task in tasks), label=label, **fields)
    return Definition(rest, name, names)


def start_types(
    rest: Rest, *tasks: Json, given: Json | None = None, options: Json | None = None, **registration: Any
) -> StartedWorkflow:
    """Start a workflow that is `registered` like this. Workers poll for the first task type.

    `options` are members of the request.
    """
    made = registered(rest, *tasks, **registration)
    return replace(start_registered(rest, made.task, made.name, given, **(options or {})), types=made.types)


def _with_names(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_with_names(member, names) for member in value]
    if not isinstance(value, dict):
        return value
    named = {key: _with_names(member, names) for key, member in value.items()}
    return {**named, "name": names.get(value["name"], value["name"])} if isinstance(value.get("name"), str) else named


def start_registered(
    rest: Rest, task: str, workflow: str, given: Json | None = None, **options: Any
) -> StartedWorkflow:
    """Start a registered workflow, by default with the input `{"x": 1}`; `options` are members of the request."""
    with rest.unnoted():
        body = {"name": workflow, "input": {"x": 1} if given is None else given, **options}
        answer = rest.call("POST", "/workflow", json=body)
    assert answer.status == 200, answer.text
    return StartedWorkflow(rest, task, workflow, answer.text)


def start_steps(
    rest: Rest,
    task: Mapping[str, Any] | None = None,
    *,
    steps: int = 1,
    step_fields: Mapping[str, Any] | None = None,
    given: Json | None = None,
    options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> StartedWorkflow:
    """A started workflow that runs one task type `steps` times, as `r0`, `r1` and so on.

    `task` changes the task definition, `step_fields` each step, `options` the start request, `fields` the workflow.
    """
    name = task_type(rest, **(task or {}))
    steps_made = [step(name, f"r{number}", **(step_fields or {})) for number in range(steps)]
    return start_registered(rest, name, register_workflow(rest, *steps_made, **fields), given, **(options or {}))


one_step = to(start_steps)
"""Return the body of a scenario that sends requests to a workflow of one step."""
two_steps = to(start_steps, steps=2)
"""Return the body of a scenario that sends requests to a workflow of two steps."""


def _until(rest: Rest, look: Callable[[], Answer], reached: Callable[[Answer], bool]) -> Answer:
    for _ in range(int(PATIENCE_SECONDS / LOOK_SECONDS)):
        if reached(answer := look()):
            return answer
        rest.sleep(LOOK_SECONDS)
    raise AssertionError(f"not reached within {PATIENCE_SECONDS} s: {answer.status} {answer.text[:2000]}")
