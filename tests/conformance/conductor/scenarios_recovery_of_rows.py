"""What a rerun, a retry and a restart do to every row of a workflow and of its sub-workflows.

Each scenario plays a workflow to an end, notes its rows, operates on one of them, notes the rows again, lets workers do
what is handed out, and notes the end. The tables below say what is played, and from which rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..rest import Rest
from ..scenario import Declared
from .operators import dynamic_fork, fork, join, loop, sub_workflow, switch
from .workflows import QUIET_LOOKS, QUIET_SECONDS, Json, StartedWorkflow, start_types, step

ENDED = ("COMPLETED", "FAILED", "TERMINATED", "TIMED_OUT")
SWEEP_SECONDS = 35
"""The server looks at a JOIN that a rerun has revived after up to 30 seconds."""


@dataclass(frozen=True)
class Shape:
    """The definition of a workflow. Each step has a task type of its own."""

    tasks: tuple[Json, ...]
    steps: str
    """The names of the steps, which are also the labels of their task types."""
    retries: Mapping[str, int] = field(default_factory=dict)
    """The automatic retries of the steps that have some."""
    children: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Played:
    """A workflow that has ended, and the operations on it."""

    shape: Shape
    reports: str
    """What workers and operators do: `a` completes step a, `a!` fails it, `a?` takes it, and `a~` hands it back with an
    output. `end` terminates the workflow, and `retry` retries it."""
    operations: str
    """`a` reruns from the latest row of that name, `a.1` from the one of that retry count, and `a=2` also gives the
    workflow the input 2. `retry`, `restart` and `rerun` concern the complete workflow, `retry@sub.0`, `restart@sub.0`
    and `rerun@sub.0/a` a sub-workflow alone."""


class Family:
    """A workflow and all its sub-workflows, including those that were replaced.

    No step that a JOIN names fails, unless it is permissive: whether the JOIN sees the failure first is a race.
    """

    def __init__(self, on: StartedWorkflow) -> None:
        self.on = on
        self._known: dict[str, StartedWorkflow] = {on.id: on}
        self._places: dict[str, tuple[tuple[int, int], ...]] = {on.id: ()}
        """The numbers of the rows that lead to each workflow, with that of the workflow among those of its row."""
        self._noted: dict[str, dict[str, Json]] = {}
        """The rows of each workflow at the last note."""
        self._held: dict[str, Json] = {}
        """Tasks that a worker has taken and not reported, by their reference names."""

    def play(self, reports: str) -> None:
        """Let workers and operators do this."""
        for report in reports.split():
            if report.endswith(("!", "end", "retry")):  # until a JOIN has seen what has ended, a failure is a race
                self._at_rest()
            if report == "end":
                self.on.silent.terminate("enough")
            elif report == "retry":
                self.on.silent.retry()
            else:
                self._work(report)
        self._at_rest()

    def operate(self, operation: str) -> None:
        """Rerun, retry or restart."""
        action, _, where = operation.partition("@")
        reference, _, row = where.partition("/")
        on = self._child(reference) if reference else self.on
        if action in ("retry", "restart"):
            getattr(on, action)()
        else:
            target, _, x = (row or ("" if action == "rerun" else action)).partition("=")
            changed = {"workflowInput": {"x": int(x)}} if x else {}
            on.rerun(self._row(on, target) if target else None, **changed)

    def report_late(self, call: str, reference: str, status: str) -> None:
        """Report a task that a worker took before the operation."""
        getattr(self.on, call)(self._held[reference], status, outputData={"late": reference})

    def note(self, about: str) -> None:
        """Note each workflow with the rows that have changed since the last note or were removed."""
        lines = []
        for workflow in sorted(self._at_rest(), key=lambda workflow: self._places[workflow["workflowId"]]):
            noted = self._noted.get(workflow["workflowId"], {})
            rows = {row["taskId"]: row for row in workflow["tasks"]}
            lines += [f"{workflow['status']} {workflow['workflowId']}"]
            lines += [f"  removed {' '.join(_named(row))} {name}" for name, row in noted.items() if name not in rows]
            lines += [
                f"  {self._shown(row, noted.get(name))}"
                for name, row in rows.items()
                if name not in noted or self._facts(row) != self._facts(noted[name])
            ]
            self._noted[workflow["workflowId"]] = rows
        self.on.rest.note(about, lines)

    def drain(self) -> None:
        """Let workers complete what they are handed, and note that, until the queues are empty."""
        while True:
            workflows = self._at_rest()
            tasks = self._polled([row for workflow in workflows for row in workflow["tasks"]])
            if not tasks and not self._is_moved_by_the_sweeper(workflows):
                return
            if tasks:
                self.on.rest.note("what is handed out", [self._handed(task) for task in tasks])
            for task in tasks:
                self.on.finish(task, outputData={"of": task["referenceTaskName"], "polls": task["pollCount"]})

    def _is_moved_by_the_sweeper(self, workflows: list[Json]) -> bool:
        """Whether a JOIN goes on that is open although no step of a worker is."""
        before = _statuses(workflows)
        if not any(kind == "JOIN" and status in ("SCHEDULED", "IN_PROGRESS") for _, kind, status in before):
            return False
        for _ in range(SWEEP_SECONDS):
            self.on.rest.sleep(1)
            if _statuses(list(self._workflows())) != before:
                return True
        self.on.decide()  # as the sweeper has, some time or other
        return False

    def _work(self, report: str) -> None:
        reference = report.rstrip("!?~")
        task = self.on.take(task=reference)
        if report.endswith("!"):
            self.on.finish(task, "FAILED", reasonForIncompletion="boo", outputData={"failed": task["pollCount"]})
        elif report.endswith("~"):
            self.on.finish(task, "IN_PROGRESS", outputData={"partial": task["pollCount"]})
        elif report.endswith("?"):
            self._held[reference] = task
        else:
            self.on.finish(task, outputData={"of": task["referenceTaskName"], "polls": task["pollCount"]})

    def _polled(self, rows: list[Json]) -> list[Json]:
        types = {row["taskType"] for row in rows if row["status"] == "SCHEDULED"} & set(self.on.types.values())
        query = {"workerid": "w2", "count": len(rows), "timeout": 300}
        batches = [self.on.silent.rest.get("/tasks/poll/batch/{type}", query=query, type=name) for name in types]
        tasks = [task for batch in batches for task in batch.json]
        return sorted(tasks, key=lambda task: (self._places[task["workflowInstanceId"]], *_named(task)))

    def _at_rest(self) -> list[Json]:
        """All workflows, once the server does nothing more with them on its own."""
        before: list[Any] = []
        quiet = 0
        looks = 1 if self.on.rest.works_at_once else QUIET_LOOKS // 2
        while quiet < looks:
            if before:
                self.on.rest.sleep(2 * QUIET_SECONDS)
            workflows = list(self._workflows())
            rows = _without_changes_of_joins(workflows)
            quiet = quiet + 1 if rows == before and not _starts_sub_workflow(workflows) else 0
            before = rows
        return workflows

    def _workflows(self) -> Iterator[Json]:
        """Read all workflows of the family, with those that have been started since the last look."""
        for on in (unread := list(self._known.values())):
            workflow = on.silent.read()
            yield workflow
            for row in workflow["tasks"]:
                child = row.get("subWorkflowId")
                if child and child not in self._known:
                    self._known[child] = StartedWorkflow(on.rest, on.task, "", child, on.types)
                    self._places[child] = self._place(on, row)
                    unread.append(self._known[child])

    def _place(self, on: StartedWorkflow, row: Json) -> tuple[tuple[int, int], ...]:
        """The place of the next workflow of a row."""
        start, number = self._places[on.id], 0
        while (place := (*start, (row["seq"], number))) in self._places.values():
            number += 1
        return place

    def _child(self, reference: str) -> StartedWorkflow:
        return self._known[self._row(self.on, reference)["subWorkflowId"]]

    @staticmethod
    def _row(on: StartedWorkflow, reference: str) -> Json:
        name, _, attempt = reference.partition(".")
        rows = [row for row in on.rows() if row["referenceTaskName"] == name]
        return next((row for row in rows if str(row["retryCount"]) == attempt), rows[-1])

    def _shown(self, row: Json, before: Json | None) -> str:
        """One line about a row. Its start is that of the last note (`same`) or another one (`new`)."""
        facts = self._facts(row)
        if started := facts.get("start"):
            facts["start"] = "same" if before is not None and started == before["startTime"] else "new"
        flags = [name for name in ("retried", "executed") if facts.pop(name, False)]
        shown = [f"{name}={fact}" for name, fact in facts.items() if name != "status" and fact is not None]
        return " ".join((str(row["seq"]), *_named(row), facts["status"], row["taskId"], *flags, *shown))

    def _facts(self, row: Json) -> Json:
        """What decides whether an attempt counts. How a JOIN ends whose workflow ends before it is a race."""
        if row["taskType"] == "JOIN" and row["status"] != "COMPLETED":
            return {"status": "not COMPLETED"}
        facts = {
            "status": row["status"],
            "retried": row["retried"],
            "executed": row["executed"],
            "of": row.get("retriedTaskId"),
            "start": row["startTime"],
            "end": 1 if row["endTime"] else 0,
            "child": row.get("subWorkflowId"),
            "output": json.dumps(row["outputData"], sort_keys=True) if row["outputData"] else None,
        }
        if row["taskType"] not in self.on.types.values():
            return facts
        return {**facts, "polls": row["pollCount"], "reason": row.get("reasonForIncompletion")}

    @staticmethod
    def _handed(task: Json) -> str:
        return " ".join((*_named(task), task["taskId"], f"polls={task['pollCount']}"))


def _named(row: Json) -> tuple[str, str]:
    return row["referenceTaskName"], f"#{row['retryCount']}"


def _without_changes_of_joins(workflows: list[Json]) -> list[Any]:
    """What shows that the server works. A JOIN that waits is looked at all the time."""
    rows = [row for workflow in workflows for row in workflow["tasks"]]
    return [
        [workflow["status"] for workflow in workflows],
        [(row["taskId"], row["status"], row["taskType"] != "JOIN" and row) for row in rows],
    ]


def _starts_sub_workflow(workflows: list[Json]) -> bool:
    rows = [row for workflow in workflows if workflow["status"] == "RUNNING" for row in workflow["tasks"]]
    return any(row["taskType"] == "SUB_WORKFLOW" and row["status"] == "SCHEDULED" for row in rows)


def _statuses(workflows: list[Json]) -> list[Any]:
    rows = [row for workflow in workflows for row in workflow["tasks"]]
    return [(row["taskId"], row["taskType"], row["status"]) for row in rows]


def _scenario(played: Played, operation: str, late: tuple[str, str, str] | None = None) -> Any:
    def body(rest: Rest) -> None:
        shape = played.shape
        types = {name: {"retryCount": shape.retries.get(name, 0)} for name in shape.steps.split()}
        family = Family(start_types(rest, *shape.tasks, types=types, children=shape.children))
        family.play(played.reports)
        family.note("before")
        rest.sleep(0.02)
        family.operate(operation)
        family.note("after")
        if late is not None:
            family.report_late(*late)
            family.note("after the late report")
        family.drain()
        family.note("at the end")

    return body


def _steps(*names: str, **fields: Any) -> list[Json]:
    return [step(name, name, **fields) for name in names]


LINE = Shape(tuple(_steps("a", "b", "c")), "a b c")
RETRIED_LINE = Shape(LINE.tasks, LINE.steps, {"a": 1, "b": 1})
FORK = Shape(
    (fork(_steps("a"), _steps("b")), join("a", "b"), *_steps("last")),
    "a b last",
)
RETRIED_FORK = Shape(
    (fork(_steps("a", permissive=True), _steps("b", permissive=True)), join("a", "b"), *_steps("last")),
    "a b last",
    {"a": 1, "b": 1},
)
LONG_FORK = Shape(
    (fork(_steps("a", "a2"), _steps("b", "b2"), _steps("c", "c2")), join("a2", "b2", "c2"), *_steps("last")),
    "a a2 b b2 c c2 last",
)
DYNAMIC = Shape(
    (*_steps("first"), dynamic_fork(*_steps("a", "b", permissive=True)), join("a", "b"), *_steps("last")),
    "first a b last",
    {"a": 1, "b": 1},
)
LOOP = Shape((*_steps("first"), loop("$.loop.iteration < 3", *_steps("a", "b")), *_steps("last")), "first a b last")
RETRIED_LOOP = Shape(LOOP.tasks, LOOP.steps, {"a": 1})
SHORT_LOOP = Shape(
    (
        *_steps("first"),
        loop("$.loop.iteration < 3", *_steps("a", "b"), inputParameters={"keepLastN": 1}),
        *_steps("last"),
    ),
    "first a b last",
)
SWITCH = Shape((*_steps("first"), switch({"1": _steps("a", "b")}, _steps("c")), *_steps("last")), "first a b c last")
CHILD = {"child": {"tasks": _steps("a", "b")}}
NESTED = Shape((*_steps("first"), sub_workflow("child"), *_steps("last")), "first a b last", children=CHILD)
BOTH = Shape(
    (
        fork([sub_workflow("left", "one"), *_steps("e")], [sub_workflow("right", "two"), *_steps("f")]),
        join("e", "f"),
        *_steps("last"),
    ),
    "a b c d e f last",
    children={
        "left": {"label": "left", "tasks": _steps("a", "b")},
        "right": {"label": "right", "tasks": _steps("c", "d")},
    },
)
"""Two sub-workflows in a fork."""
BESIDE = Shape(
    (fork([sub_workflow("child", "one"), *_steps("e")], _steps("c", "d")), join("e", "d"), *_steps("last")),
    "a b c d e last",
    children=CHILD,
)
"""A sub-workflow and a line of steps in a fork."""
TWO = Shape(
    (sub_workflow("left", "one"), sub_workflow("right", "two"), *_steps("last")),
    "a c last",
    children={
        "left": {"label": "left", "tasks": _steps("a")},
        "right": {"label": "right", "tasks": _steps("c")},
    },
)
"""Two sub-workflows one after the other."""
OPTIONAL = Shape((*_steps("first"), *_steps("a", optional=True), *_steps("last")), "first a last", {"a": 1})
OPTIONAL_CHILD = Shape(
    (*_steps("first"), sub_workflow("child", optional=True), *_steps("last")), "first a b last", children=CHILD
)

PLAYED = {
    "line_completed": Played(LINE, "a b c", "a b c rerun restart"),
    "line_failed": Played(LINE, "a b!", "a b retry restart"),
    "line_terminated": Played(LINE, "a b? end", "a b retry restart"),
    "line_handed_back_terminated": Played(LINE, "a b~ end", "b retry"),
    "line_terminated_before_a_poll": Played(LINE, "a end", "a b retry"),
    "retried_line_completed": Played(RETRIED_LINE, "a! a b! b c", "a.0 a.1 b.0 b.1 c restart"),
    "retried_line_failed": Played(RETRIED_LINE, "a! a b! b!", "a.0 a.1 b.0 b.1 retry"),
    "retried_line_terminated": Played(RETRIED_LINE, "a! a b! b? end", "a.0 a.1 b.0 b.1 retry"),
    "fork_completed": Played(FORK, "a b last", "fork a b join last restart"),
    "fork_last_failed": Played(FORK, "a b last!", "a last retry"),
    "fork_terminated": Played(FORK, "a b? end", "a b retry"),
    "retried_fork_completed": Played(RETRIED_FORK, "a! b! a b last", "a.0 b.0 join a.1 b.1 last restart"),
    "retried_fork_last_failed": Played(RETRIED_FORK, "a! b! a b last!", "b.0 a.1 retry"),
    "retried_fork_terminated": Played(RETRIED_FORK, "a! b! a b? end", "a.0 b.0 a.1 b.1 retry"),
    "long_fork_failed": Played(LONG_FORK, "a a2? b? c!", "fork a b c join a2 retry restart"),
    "long_fork_terminated": Played(LONG_FORK, "a a2 b end", "a b c join a2 b2 retry"),
    "dynamic_completed": Played(DYNAMIC, "first a! b! a b last", "first fork a.0 b.0 join a.1 b.1 last"),
    "dynamic_last_failed": Played(DYNAMIC, "first a! b! a b last!", "fork a.1 retry restart"),
    "dynamic_terminated": Played(DYNAMIC, "first a b? end", "first fork a b join retry"),
    "loop_completed": Played(LOOP, "first a b a b a b last", "first loop a__1 b__2 b__3 last restart"),
    "loop_failed": Played(LOOP, "first a b a b!", "first loop a__1 b__1 a__2 b__2 retry restart"),
    "loop_terminated": Played(LOOP, "first a b a b? end", "loop a__1 a__2 b__2 retry"),
    "retried_loop_failed": Played(RETRIED_LOOP, "first a! a b a! a b!", "a__1.0 a__1.1 a__2.0 a__2.1 b__2 retry"),
    "short_loop_completed": Played(SHORT_LOOP, "first a b a b a b last", "first loop a__3 b__3 last restart"),
    "short_loop_failed": Played(SHORT_LOOP, "first a b a b a b!", "loop a__3 b__3 retry"),
    "switch_completed": Played(SWITCH, "first a b last", "first switch a b last restart first=2 a=2"),
    "switch_failed": Played(SWITCH, "first a b!", "first switch a b retry"),
    "switch_terminated": Played(SWITCH, "first a b? end", "a b retry"),
    "nested_completed": Played(
        NESTED, "first a b last", "first sub last rerun@sub/a rerun@sub/b restart@sub rerun@sub"
    ),
    "nested_failed": Played(
        NESTED, "first a b!", "first sub retry restart rerun@sub/a rerun@sub/b retry@sub restart@sub"
    ),
    "nested_terminated": Played(
        NESTED, "first a b? end", "first sub retry rerun@sub/a rerun@sub/b retry@sub restart@sub"
    ),
    "nested_last_failed": Played(NESTED, "first a b last!", "first sub last retry rerun@sub/a restart@sub"),
    "replaced_completed": Played(
        NESTED,
        "first a b! retry a b last",
        "first sub.0 sub.1 last rerun@sub.1/b rerun@sub.0/b retry@sub.0 restart@sub.0",
    ),
    "replaced_last_failed": Played(NESTED, "first a b! retry a b last!", "sub.0 sub.1 last retry rerun@sub.1/b"),
    "both_completed": Played(BOTH, "a b c d e f last", "fork one two join last rerun@one/a rerun@two/d restart@one"),
    "both_failed": Played(
        BOTH, "a c b!", "one two retry rerun@one/a rerun@one/b retry@one retry@two rerun@two/c restart@one"
    ),
    "both_replaced_failed": Played(
        BOTH, "a c b! retry a b c d!", "one.1 two.1 retry retry@two.1 retry@one.0 rerun@two.1/d"
    ),
    "beside_failed": Played(BESIDE, "c d? a b!", "one c d retry rerun@one/a rerun@one/b retry@one restart@one"),
    "beside_terminated": Played(BESIDE, "c d? a end", "one c d retry rerun@one/a rerun@one/b retry@one"),
    "beside_handed_back_failed": Played(BESIDE, "c d~ a b!", "retry@one"),
    "fork_handed_back_terminated": Played(FORK, "a~ b end", "b"),
    "two_failed": Played(TWO, "a! retry a c!", "one.0 one.1 two retry retry@two rerun@two/c restart@two"),
    "two_last_failed": Played(TWO, "a! retry a c last!", "one.1 two last retry rerun@two/c"),
    "optional_completed": Played(OPTIONAL, "first a! a! last", "first a.0 a.1 last restart"),
    "optional_last_failed": Played(OPTIONAL, "first a! a! last!", "last retry"),
    "optional_terminated": Played(OPTIONAL, "first a! a? end", "first a.0 a.1 retry"),
    "optional_child_completed": Played(OPTIONAL_CHILD, "first a b! last", "sub last rerun@sub/b retry@sub restart@sub"),
    "optional_child_last_failed": Played(OPTIONAL_CHILD, "first a b! last!", "sub last retry rerun@sub/b retry@sub"),
}

LATE = {
    "a_late_report_before_the_poll": (Played(LINE, "a b? end", "b"), ("update", "b", "COMPLETED")),
    "a_late_update_v2_before_the_poll": (Played(LINE, "a b? end", "b"), ("update_v2", "b", "COMPLETED")),
    "a_late_failure_before_the_poll": (Played(RETRIED_LINE, "a b? end", "b"), ("update", "b", "FAILED")),
    "a_late_hand_back_before_the_poll": (Played(LINE, "a b? end", "b"), ("update", "b", "IN_PROGRESS")),
    "a_late_report_of_an_earlier_branch": (Played(LONG_FORK, "a? b end", "b"), ("update", "a", "COMPLETED")),
    "a_late_report_of_a_branch_in_a_fork": (
        Played(RETRIED_FORK, "a! b! b a? end", "b.1"),
        ("update", "a", "COMPLETED"),
    ),
    "a_late_report_of_a_canceled_sibling": (Played(BESIDE, "c d? a b!", "retry@one"), ("update", "d", "COMPLETED")),
    "a_late_report_in_a_sub_workflow": (Played(NESTED, "first a b? end", "rerun@sub/b"), ("update", "b", "COMPLETED")),
    "a_late_report_in_a_replaced_sub_workflow": (Played(NESTED, "first a b? end", "sub"), ("update", "b", "COMPLETED")),
    "a_late_report_of_a_retried_row": (Played(LINE, "a b? end", "retry"), ("update", "b", "COMPLETED")),
    "a_late_report_after_a_restart": (Played(LINE, "a b? end", "restart"), ("update", "b", "COMPLETED")),
    "a_late_report_of_a_removed_row": (Played(LINE, "a b? end", "a"), ("update", "b", "COMPLETED")),
}
"""An operation, and a report for a task that was taken before it."""

SCENARIOS: Declared = {
    f"{name}_{operation.replace('.', '_').replace('@', '_of_').replace('/', '_').replace('=', '_with_')}": _scenario(
        played, operation
    )
    for name, played in PLAYED.items()
    for operation in played.operations.split()
} | {name: _scenario(played, played.operations, late) for name, (played, late) in LATE.items()}
