"""Every order of calls in a small workflow that is recovered once.

A case is a workflow, a trouble for each step's first attempt, and one operation. It comes when the workflow has ended,
or the workflow is terminated and recovered while a merge or a report is late. `explore` plays every order of "poll,
read row, read branch, merge, report". Worlds that are equal are played once. Times are those of nodes whose clocks
differ, so their order says nothing.

Not in the model: tasks that do not rebase, a lakeFS that does not enforce the fence, lost answers, resets that are not
atomic, operators and loops. First attempts of two steps fail or lose their worker, and only the calls that are open at
a recovery come late. Reads that follow each other without a call that others can notice are one move.

A world is judged by the files at its end: each attempt writes a file of its own name, so two publications of a step are
two files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from perago.attempt import publication
from perago.embedded.clock import START, VirtualClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.state import State, TaskRow
from perago.ports import ServiceError

from .small_attempt import COMMITS, TREES, Branch, Changes, SmallAttempt, make_commit

DEFINITION = {"retryCount": 1, "retryDelaySeconds": 0, "timeoutSeconds": 0, "ownerEmail": "d@example.com"}
_INPUT = "${workflow.input.workspace.ref}"


@dataclass(frozen=True)
class Case:
    """A small workflow with its troubles and its operation."""

    shape: str
    troubles: tuple[str, ...] = ("", "")
    """Of the first attempts of the first two steps: none, `fails`, or `dies` after its merge. `fails-later`: the second
    attempt fails."""
    operation: str = "rerun"
    """`rerun`, `rerun-input` (with an earlier commit as input of the step), `restart` or `retry`; behind `child-`: of
    the sub-workflow alone."""
    reference: str = ""
    """The step of a rerun: each of its rows is tried."""
    is_late: bool = False
    """Whether the workflow is terminated first, while an attempt is about to merge or to report."""

    def __str__(self) -> str:
        late = "-late" if self.is_late else ""
        return f"{self.shape}-{'-'.join(self.troubles)}-{self.operation}-{self.reference}{late}"


def _step(name: str, ref: str) -> dict[str, Any]:
    block = {"repository": "repo", "branch": "main", "ref_type": "commit", "ref": ref}
    return {"name": name, "taskReferenceName": name, "type": "SIMPLE", "inputParameters": {"workspace": block}}


def _workflow(name: str, *tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": list(tasks), **fields}


def _system(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": name, "type": kind, **fields}


def _fork() -> list[dict[str, Any]]:
    fork = _system("fork", "FORK_JOIN", forkTasks=[[_step("a", _INPUT)], [_step("b", _INPUT)]])
    return [_workflow("main", fork, _system("join", "JOIN", joinOn=["a", "b"]), _step("last", "${join.output}"))]


def _sub() -> list[dict[str, Any]]:
    child = _workflow("child", _step("a", _INPUT), outputParameters={"workspace": "${a.output.workspace}"})
    inputs = {"workspace": {"ref": _INPUT}}
    sub = _system("sub", "SUB_WORKFLOW", subWorkflowParam={"name": "child", "version": 1}, inputParameters=inputs)
    return [child, _workflow("main", sub, _step("last", "${sub.output.workspace.ref}"))]


SHAPES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "line": lambda: [_workflow("main", _step("a", _INPUT), _step("last", "${a.output.workspace.ref}"))],
    "fork": _fork,
    "sub": _sub,
    "shared": lambda: [_workflow("main", _step("a", _INPUT))],
    "optional": lambda: [
        _workflow("main", {**_step("a", _INPUT), "optional": True, "retryCount": 0}, _step("last", _INPUT))
    ],
}
STEPS = ("a", "b", "last")


def _copied(conductor: InMemoryConductor, clock: VirtualClock) -> InMemoryConductor:
    """Return an independent copy of a server, without its history. The rows of attempts are shared, because the server
    replaces them and never changes them in place."""
    copied = InMemoryConductor(clock)
    old, new = conductor._state, copied._state
    for name in ("task_definitions", "workflow_definitions", "tasks", "timers", "sub_workflows"):
        dict.update(getattr(new, name), getattr(old, name))
    for workflow_id, workflow in old.workflows.items():
        row = copy(workflow)
        row.tasks = [*workflow.tasks]
        dict.__setitem__(new.workflows, workflow_id, row)
    dict.update(new.queue.messages, old.queue.messages)
    new.queue.restore()
    new.queue.pushes = old.queue.pushes
    new.random, new.last_polls = copy(old.random), dict(old.last_polls)
    new.problems, new.attention = dict(old.problems), dict(old.attention)
    return copied


@dataclass
class World:
    """One moment."""

    case: Case
    clock: VirtualClock
    conductor: InMemoryConductor
    branch: Branch
    workflow_ids: tuple[str, ...]
    attempts: tuple[SmallAttempt, ...] = ()
    is_recovered: bool = False
    polls: dict[str, int] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        return self.conductor._state

    def copied(self) -> World:
        world = copy(self)
        world.clock = VirtualClock(self.clock.now())
        world.conductor = _copied(self.conductor, world.clock)
        world.branch, world.polls = copy(self.branch), dict(self.polls)
        return world

    def key(self) -> int:
        """Return a hash of what decides what can happen from here on."""
        rows = tuple(
            (row.task_id, row.status.value, row.start_time, row.poll_count, row.retried, repr(row.output))
            for workflow in self.state.workflows.values()
            for row in workflow.tasks
        )
        statuses = tuple(workflow.status.value for workflow in self.state.workflows.values())
        queue = frozenset((message.task_id, message.due) for message in self.state.queue.messages.values())
        running = frozenset(
            (attempt.delivery.identity, attempt.trace) for attempt in self.attempts if attempt.command is not None
        )
        world = (rows, statuses, queue, running, self.branch.head, self.branch.staging, self.is_recovered)
        return hash((*world, round(self.clock.now()), tuple(self.polls.items())))

    # -------------------------------------------------------------------------------------- moves

    def moves(self) -> Iterator[World]:
        """Yield each world that can come next. Time passes only while nothing else can happen."""
        is_quiet = True
        for place, attempt in enumerate(self.attempts):
            if attempt.command is None:
                continue
            is_quiet, world = False, self.copied()
            moved = attempt.move(world.branch, world.conductor)
            world.attempts = (*self.attempts[:place], moved, *self.attempts[place + 1 :])
            world.lines += (f"{attempt.delivery.reference_name} {type(attempt.command).__name__}",)
            yield world
        now = round(self.clock.now() * 1000)
        for name in STEPS:
            if self.state.queue.waiting(name, now):
                world = self.copied()
                if world.poll(name):
                    is_quiet = False
                    yield world
        for world in self._recovered(is_quiet):
            is_quiet = is_quiet and self.is_recovered
            yield world
        if is_quiet and (later := self._later()) is not None:
            yield later

    def poll(self, name: str) -> bool:
        """Let a worker take a delivery. The node that answers has a clock of its own."""
        clock, now = self.clock, self.clock.now()
        self.polls[name] = self.polls.get(name, 0) + 1
        skew = int(hashlib.sha256(f"{name} {self.polls[name]}".encode()).hexdigest()[:4], 16) % 900
        clock._now = now + skew / 1000
        deliveries = self.conductor.poll(name, "w", count=1, wait_seconds=0)
        clock._now = now
        for delivery in deliveries:
            first = self.polls[name] <= (2 if self.case.shape == "shared" else 1)
            place = STEPS.index(name)
            trouble = self.case.troubles[place] if place < len(self.case.troubles) else ""
            if trouble == "fails-later":
                trouble = "fails" if self.polls[name] == 2 else ""
            elif not first:
                trouble = ""
            stamp = "/".join(map(str, delivery.identity))
            writes: Changes = {f"{name} {stamp}": stamp}
            if self.case.shape == "shared":
                is_first = not self.is_recovered
                writes = {"shared": "1", **writes} if is_first else {}
            attempt = SmallAttempt(delivery, writes, trouble)
            self.attempts += (attempt.move(self.branch, self.conductor),)
            self.lines += (f"{name} poll {delivery.identity}",)
        return bool(deliveries)

    def _recovered(self, is_quiet: bool) -> Iterator[World]:
        if self.is_recovered:
            return
        main = self.state.workflows[self.workflow_ids[0]]
        late = any(type(attempt.command).__name__ in ("Merge", "SendReport") for attempt in self.attempts)
        if self.case.is_late != (not main.status.terminal) or (self.case.is_late and not late):
            return
        if not (self.case.is_late or is_quiet):
            return
        in_child = self.case.operation.startswith("child-")
        below = [workflow for workflow in self.state.workflows.values() if workflow.parent_id]
        target = below[-1] if in_child and below else main
        rows: Sequence[str | None] = [None]
        if "rerun" in self.case.operation:
            rows = [row.task_id for row in target.tasks if row.reference_name == self.case.reference]
        for row in rows:
            world = self.copied()
            world.is_recovered = True
            world.lines += (f"{self.case.operation} {self.case.reference} {row}",)
            try:
                if self.case.is_late:
                    world.conductor.terminate_workflow(main.workflow_id)
                world._operate(target.workflow_id, row)
            except ServiceError:
                continue
            yield world

    def _operate(self, workflow_id: str, task_id: str | None) -> None:
        match self.case.operation.removeprefix("child-"):
            case "rerun":
                self.conductor.rerun_workflow(workflow_id, task_id)
            case "rerun-input":
                step_input = self.state.tasks[str(task_id)].input
                earlier = COMMITS[step_input["workspace"]["ref"]].parents[0]
                block = {**step_input["workspace"], "ref": earlier}
                self.conductor.rerun_workflow(workflow_id, task_id, task_input={**step_input, "workspace": block})
            case "restart":
                self.conductor.restart_workflow(workflow_id)
            case "retry":
                self.conductor.retry_workflow(workflow_id)

    def _later(self) -> World | None:
        """Return the world after the next delay or timeout, or None at the end."""
        now = round(self.clock.now() * 1000)
        due = self.state.queue.next_due(now)
        is_running = any(
            row.kind == "SIMPLE" and row.status.value == "IN_PROGRESS" for row in self.state.tasks.values()
        )
        if (due is None and not is_running) or self.clock.now() - START > 20_000:
            return None
        world = self.copied()
        world.clock.advance((due - now) / 1000 if due is not None else 700)
        world.conductor.sweep()
        return world

    # ---------------------------------------------------------------------------------- the judge

    def problems(self) -> list[str]:
        """Return what is wrong at the end, in each workflow that is completed, or that Conductor has left stuck after
        a rerun from a branch of a fork."""
        tree, problems, completed = TREES[self.branch.head], list[str](), list[str]()
        inputs = repr([row.input for row in self.state.tasks.values()])
        for workflow_id in self.workflow_ids:
            status = self.state.workflows[workflow_id].status.value
            if status not in ("COMPLETED", "RUNNING"):
                continue
            completed.append(workflow_id)
            for row in self.state.workflows[workflow_id].tasks:
                files = {text for key, text in tree.items() if key.startswith(f"{row.reference_name} ")}
                if (
                    row.status.value == "COMPLETED_WITH_ERRORS"
                    and row.kind == "SIMPLE"
                    and any(not stamp.endswith(f"/{row.start_time}") for stamp in files)
                ):
                    problems.append(f"{row.reference_name} has failed, and the branch has {sorted(files)}")
            for row in self._counting(workflow_id):
                name, stamp = row.reference_name, row.output["result"]["stamp"]
                files = {text for key, text in tree.items() if key.startswith(f"{name} ")}
                # A late report can complete a row with a commit that its new run has replaced, if nothing follows that
                # reads the commit (docs/dev/protocol.md, the gap of the last step).
                ref = row.output["workspace"]["ref"]
                is_late = COMMITS[ref].metadata.get(publication.START_TIME) != str(row.start_time)
                is_last = ref not in inputs
                is_gap = is_late and is_last and len(files) == 1
                input_ref = row.input["workspace"]["ref"]
                is_of_input = COMMITS[ref].metadata.get(publication.INPUT_REF) == input_ref
                if not is_late and isinstance(input_ref, str) and not is_of_input:
                    problems.append(f"{name} is completed with the result of another input")
                if self.case.shape != "shared" and files != {stamp} and not is_gap:
                    problems.append(f"{name} is completed as {stamp}, and the branch has {sorted(files)}")
        if self.workflow_ids[-1] in completed and self.case.shape == "shared":
            row = next(self._counting(self.workflow_ids[-1]))
            if missing := {"shared", f"{row.reference_name} {row.output['result']['stamp']}"} - tree.keys():
                problems.append(f"the branch lacks {sorted(missing)} of the other workflow")
        return problems

    def _counting(self, workflow_id: str) -> Iterator[TaskRow]:
        """Yield each attempt that counts."""
        rows = self.state.workflows[workflow_id].tasks
        retried = {row.retried_task_id for row in rows}
        for row in rows:
            if row.task_id in retried or row.status.value != "COMPLETED":
                continue
            if row.kind == "SIMPLE":
                yield row
            elif row.kind == "SUB_WORKFLOW":
                yield from self._counting(str(row.sub_workflow_id))


def begin(case: Case) -> World:
    """Return the world in which a case begins."""
    clock = VirtualClock()
    conductor = InMemoryConductor(clock, seed=1)
    timeout = {"responseTimeoutSeconds": 600, "retryLogic": "FIXED"}
    conductor.register_task_definitions([{**DEFINITION, **timeout, "name": name} for name in STEPS])
    for definition in SHAPES[case.shape]():
        conductor.create_workflow_definition(definition)
    head = make_commit((make_commit((), {"z": "0"}, {}).id,), {"z": "1"}, {}).id
    count = 2 if case.shape == "shared" else 1
    workflow_ids = [conductor.start_workflow("main", {"workspace": {"ref": head}}) for _ in range(count)]
    return World(case, clock, conductor, Branch(head), tuple(workflow_ids))


@dataclass
class Exploration:
    """What `explore` has played."""

    worlds: int = 0
    ends: int = 0
    completed: int = 0
    """Ends at which the recovered workflow is completed."""
    broken: tuple[str, ...] = ()
    """The first order that breaks the promise, and what is wrong."""


def explore(case: Case, most: int = 10**9) -> Exploration:
    """Play all orders, up to the first that is wrong, or up to `most` worlds."""
    done, known, waiting = Exploration(), set[int](), [begin(case)]
    while waiting and done.worlds < most:
        world = waiting.pop()
        if (key := world.key()) in known:
            continue
        known.add(key)
        done.worlds += 1
        following = list(world.moves())
        waiting += following
        if not following:
            done.ends += 1
            done.completed += world.state.workflows[world.workflow_ids[0]].status.value == "COMPLETED"
            if problems := world.problems():
                done.broken = (*world.lines, *problems)
                break
    return done
