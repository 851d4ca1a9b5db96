"""Every order of calls in small workflows that are recovered.

A case is a workflow, a trouble for each step's first attempt, and one operation. It comes when the workflow has ended,
or the workflow is terminated and recovered while a merge or a report is late. `explore` plays every order of "poll,
read row, read branch, merge, report". Worlds that are equal are simulated once. Times are those of nodes whose clocks
differ, so their order says nothing.

Operations are not atomic: between two of their writes attempts poll, read, merge and report. An operation in progress
is played again up to its next write, unless it has read the same rows before.

Not in the model: tasks that do not rebase, a lakeFS that does not enforce the fence, lost answers, operators and loops.
First attempts of two steps fail or lose their worker, and only the calls that are open at a recovery come late. Reads
that follow each other without a call that others can notice are one move.

A world is judged by the files at its end: each attempt writes a file of its own name, so two publications of a step are
two files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from perago.attempt import publication
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.state import State, TaskRow
from perago.ports import VIRTUAL_START, Delivery, ServiceError, VirtualClock

from .small_attempt import COMMITS, TREES, Branch, Changes, SmallAttempt, make_commit

DEFINITION = {"retryCount": 1, "retryDelaySeconds": 0, "timeoutSeconds": 0, "ownerEmail": "d@example.com"}
_INPUT = "${workflow.input.workspace.ref}"


@dataclass(frozen=True)
class Case:
    """A small workflow with its troubles and its operation."""

    shape: str
    troubles: tuple[str, ...] = ("", "")
    """Of each step, in the order of `STEPS`, those of its deliveries, separated by commas: none, `fails`, `dies` after
    its merge, or `empty`, which changes nothing."""
    operation: str = "rerun"
    """`rerun`, `rerun-input` (with an earlier commit as input of the step), `restart` or `retry`; behind `child-`: of
    the newest sub-workflow alone. `claim`: a person merges a commit that claims to have undone the head. `none`."""
    reference: str = ""
    """The step of a rerun: each of its rows is tried."""
    is_late: bool = False
    """Whether the workflow is terminated first, while an attempt is about to merge or to report."""
    times: int = 1
    """The number of operations."""
    is_atomic: bool = False
    """Whether no call comes between two writes of an operation."""

    def __str__(self) -> str:
        late, times = "-late" if self.is_late else "", f"-{self.times}-times" if self.times > 1 else ""
        atomic = "-atomic" if self.is_atomic else ""
        return f"{self.shape}-{'-'.join(self.troubles)}-{self.operation}-{self.reference}{late}{times}{atomic}"


def _step(name: str, ref: str) -> dict[str, Any]:
    block = {"repository": "repo", "branch": "main", "ref_type": "commit", "ref": ref}
    return {"name": name, "taskReferenceName": name, "type": "SIMPLE", "inputParameters": {"workspace": block}}


def _workflow(name: str, *tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": list(tasks), **fields}


def _system(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": name, "type": kind, **fields}


def _variable() -> list[dict[str, Any]]:
    """A retry of `b` gets the commit of `a`."""
    first, second = (
        _system(name, "SET_VARIABLE", inputParameters={"ref": ref})
        for name, ref in (("first", _INPUT), ("second", "${a.output.workspace.ref}"))
    )
    branches = [[_step("a", _INPUT), second], [_step("b", "${workflow.variables.ref}")]]
    fork, join = _system("fork", "FORK_JOIN", forkTasks=branches), _system("join", "JOIN", joinOn=["second", "b"])
    return [_workflow("main", first, fork, join)]


def _fork(*later: dict[str, Any]) -> list[dict[str, Any]]:
    fork = _system("fork", "FORK_JOIN", forkTasks=[[_step("a", _INPUT)], [_step("b", _INPUT)]])
    return [_workflow("main", fork, _system("join", "JOIN", joinOn=["a", "b"]), *later)]


def _step_and_sub() -> list[dict[str, Any]]:
    child, main = _sub({})
    return [child, _workflow("main", _step("b", _INPUT), *main["tasks"])]


def _siblings() -> list[dict[str, Any]]:
    """A sub-workflow whose failure cancels a step next to it."""
    child, main = _sub({"a": 0})
    branches = [[main["tasks"][0]], [_step("b", _INPUT)]]
    fork, join = _system("fork", "FORK_JOIN", forkTasks=branches), _system("join", "JOIN", joinOn=["sub", "b"])
    return [child, _workflow("main", fork, join)]


def _sub(retries: dict[str, int]) -> list[dict[str, Any]]:
    """`retries`: of the sub-workflow and of its step, where they differ from the definitions."""
    step = {**_step("a", _INPUT), "retryCount": retries.get("a", 1)}
    child = _workflow("child", step, outputParameters={"workspace": "${a.output.workspace}"})
    fields = {"inputParameters": {"workspace": {"ref": _INPUT}}, "retryCount": retries.get("sub", 0)}
    sub = _system("sub", "SUB_WORKFLOW", subWorkflowParam={"name": "child", "version": 1}, **fields)
    return [child, _workflow("main", sub, _step("last", "${sub.output.workspace.ref}"))]


SHAPES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "line": lambda: [_workflow("main", _step("a", _INPUT), _step("last", "${a.output.workspace.ref}"))],
    "fork": lambda: _fork(_step("last", "${join.output}")),
    "fork at the end": _fork,
    "siblings": _siblings,
    "sub": lambda: _sub({}),
    "sub with a retry": lambda: _sub({"sub": 1, "a": 0}),
    "step and sub": _step_and_sub,
    "two": lambda: [_workflow("main", _step("a", _INPUT))],
    "shared": lambda: [_workflow("main", _step("a", _INPUT))],
    "variable": _variable,
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


class Interrupted(BaseException):
    """An operation stops between two writes, where other clients can act."""


@dataclass(frozen=True)
class Interruption:
    """An operation that has written a part of its rows. It cannot be copied, so it is played again from its begin."""

    begin: World
    workflow_id: str
    task_id: str | None
    script: tuple[tuple[World, int | str] | None, ...] = ()
    """The moves since then that have changed a row, each with the world before. None: the operation has written."""
    rows_read: int = 0
    """A hash of all rows at each write, which decide what the operation writes next."""


@dataclass
class World:
    """One point in time."""

    case: Case
    clock: VirtualClock
    conductor: InMemoryConductor
    branch: Branch
    workflow_ids: tuple[str, ...]
    attempts: tuple[SmallAttempt, ...] = ()
    operations: int = 0
    earlier: frozenset[str] = frozenset()
    """The stamps of attempts of the steps that the last operation runs again."""
    polls: dict[str, int] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    interruption: Interruption | None = None
    known: dict[int, World | None] = field(default_factory=dict)
    """The worlds after calls and writes that were simulated. None: nothing happened."""
    moved: SmallAttempt = field(init=False)
    """The attempt that has made the last call."""
    server: int | None = None
    """A hash of all that a call can read from Conductor, once it is needed."""

    @property
    def state(self) -> State:
        return self.conductor._state

    def copied(self) -> World:
        world = copy(self)
        world.clock = VirtualClock(self.clock.now())
        world.conductor = _copied(self.conductor, world.clock)
        world.branch, world.polls, world.server = copy(self.branch), dict(self.polls), None
        return world

    def key(self) -> int:
        """Return a hash of what decides what can happen from here on."""
        running = frozenset(attempt.key for attempt in self.attempts if attempt.command is not None)
        rows_read = self.interruption.rows_read if self.interruption else None
        branch = (self.branch.head, self.branch.staging)
        return hash((self.server_key, running, *branch, self.operations, rows_read, *self.polls.items()))

    @property
    def server_key(self) -> int:
        if self.server is None:
            rows = tuple(
                (
                    *(row.task_id, row.status.value, row.start_time, row.poll_count, row.retried, row.retry_count),
                    *(row.sub_workflow_id, repr(row.input), repr(row.output)),
                )
                for workflow in self.state.workflows.values()
                for row in workflow.tasks
            )
            statuses = tuple(workflow.status.value for workflow in self.state.workflows.values())
            queue = frozenset((message.task_id, message.due) for message in self.state.queue.messages.values())
            attention = tuple(self.state.attention.items())
            ids = self.state.random.getstate()
            self.server = hash((rows, statuses, queue, attention, ids, round(self.clock.now())))
        return self.server

    def _with_server_of(self, other: World) -> World:
        """Return this world with another server. Worlds share a server, because each call gets a copy."""
        world = copy(self)
        world.clock, world.conductor, world.server = other.clock, other.conductor, other.server_key
        return world

    # -------------------------------------------------------------------------------------- moves

    def moves(self) -> Iterator[World]:
        """Yield each world that can come next. Time passes only while nothing else can happen."""
        is_quiet, now = True, round(self.clock.now() * 1000)
        places = [place for place, attempt in enumerate(self.attempts) if attempt.command is not None]
        moves: list[int | str] = [*places, *(name for name in STEPS if self.state.queue.waiting(name, now))]
        for move in moves:
            if (world := self._after(move)) is not None:
                is_quiet = False
                yield world
        if self.interruption:
            yield from self._written(replace(self.interruption, script=(*self.interruption.script, None)))
            return
        for world in self._recovered(is_quiet):
            is_quiet = False
            yield world
        if is_quiet and (later := self._later()) is not None:
            yield later

    def _after(self, move: int | str) -> World | None:
        """Return the world after a move, or None if nothing happens."""
        caller = self.polls.get(move) if isinstance(move, str) else self.attempts[move].key
        call = (move if isinstance(move, str) else "", caller, self.branch.head, self.branch.staging)
        key = hash((self.server_key, self.operations, *call))
        if key not in self.known:
            after = self.copied()
            self.known[key] = after if after.make(move) else None
        if (known := self.known[key]) is None:
            return None
        world = self._with_server_of(known)
        world.branch, moved = known.branch, known.moved
        reference_name = moved.delivery.reference_name
        if isinstance(move, str):
            world.polls = {**self.polls, move: known.polls[move]}
            world.attempts += (moved,)
            world.lines += (f"{reference_name} poll {moved.delivery.identity}",)
        else:
            world.attempts = (*self.attempts[:move], moved, *self.attempts[move + 1 :])
            world.lines += (f"{reference_name} {type(self.attempts[move].command).__name__}",)
        if self.interruption and world.server_key != self.server_key:
            world.interruption = replace(self.interruption, script=(*self.interruption.script, (self, move)))
        return world

    def make(self, move: int | str) -> bool:
        """Let an attempt make its next call, or a worker poll for a step. Return whether anything happens."""
        if isinstance(move, int):
            self.moved = self.attempts[move].move(self.branch, self.conductor)
            return True
        delivery = self.poll(move)
        if delivery is not None:
            self.moved = self._delivered(delivery).move(self.branch, self.conductor)
        return delivery is not None

    def poll(self, name: str) -> Delivery | None:
        """Let a worker take a delivery. Each node that answers for `a` has a clock behind that of the one before; for
        other steps, ahead of it."""
        clock, now = self.clock, self.clock.now()
        self.polls[name] = self.polls.get(name, 0) + 1
        clock._now = now + (0.9 / self.polls[name] if name == "a" else 0.1 * self.polls[name])
        deliveries = self.conductor.poll(name, "w", count=1, wait_seconds=0)
        clock._now = now
        return deliveries[0] if deliveries else None

    def _delivered(self, delivery: Delivery) -> SmallAttempt:
        name = delivery.reference_name
        place, attempt_number = STEPS.index(name), self.polls[name] - 1
        troubles = self.case.troubles[place].split(",") if place < len(self.case.troubles) else []
        trouble = troubles[attempt_number] if attempt_number < len(troubles) else ""
        stamp = "/".join(map(str, delivery.identity))
        writes: Changes = {f"{self._root(delivery.workflow_id)} {name} {stamp}": stamp}
        if self.case.shape == "shared":
            writes = {"shared": "1", **writes} if self.operations < self.case.times else {}
        return SmallAttempt(delivery, {} if trouble == "empty" else writes, trouble)

    def _root(self, workflow_id: str) -> str:
        parent = self.state.workflows[workflow_id].parent_id
        return self._root(parent) if parent else workflow_id

    def _recovered(self, is_quiet: bool) -> Iterator[World]:
        if self.operations == self.case.times or self.case.operation == "none":
            return
        if self.case.operation == "claim":
            yield from self._claimed()
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
            world.operations += 1
            names = [self.case.reference] if row else STEPS
            world.earlier = frozenset(
                attempt.stamp
                for attempt in self.attempts
                if attempt.delivery.reference_name in names and attempt.delivery.workflow_id == target.workflow_id
            )
            world.lines += (f"{self.case.operation} {self.case.reference} {row}",)
            if self.case.is_late:
                world.conductor.terminate_workflow(main.workflow_id)
            yield from world._written(Interruption(world, target.workflow_id, row))

    def _written(self, interruption: Interruption) -> Iterator[World]:
        """Yield the world after the next write of an operation."""
        rows_read = hash((interruption.rows_read, interruption.task_id, self.server_key))
        if rows_read not in self.known:
            self.known[rows_read] = _after_write(interruption)
        if (after := self.known[rows_read]) is not None:
            world = self._with_server_of(after)
            world.interruption = after.interruption and replace(interruption, rows_read=rows_read)
            world.lines += ("it writes" if after.interruption else "it ends",)
            yield world

    def _claimed(self) -> Iterator[World]:
        head = COMMITS[self.branch.head]
        if len(head.parents) == 2:
            world, claim = self.copied(), {publication.SUPERSEDES: head.id}
            world.operations += 1
            world.branch.head = make_commit((head.id, head.parents[1]), TREES[head.id], claim).id
            world.lines += (f"a person claims to have undone {head.metadata[publication.REFERENCE_NAME]}",)
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
        if (due is None and not is_running) or self.clock.now() - VIRTUAL_START > 20_000:
            return None
        world = self.copied()
        world.clock.advance((due - now) / 1000 if due is not None else 700)
        world.conductor.sweep()
        return world

    # ---------------------------------------------------------------------------------- the judge

    def problems(self) -> list[str]:
        """Return what is wrong at the end, in each workflow that is completed, or that Conductor has left stuck after
        a rerun from a branch of a fork."""
        problems = list[str]()
        inputs = repr([row.input for row in self.state.tasks.values()])
        for workflow_id in self.workflow_ids:
            status = self.state.workflows[workflow_id].status.value
            if status not in ("COMPLETED", "RUNNING"):
                continue
            for row in self.state.workflows[workflow_id].tasks:
                files = self._files(workflow_id, row)
                if (
                    row.status.value == "COMPLETED_WITH_ERRORS"
                    and row.kind == "SIMPLE"
                    and not self._was_open_again(row)
                    and any(not stamp.endswith(f"/{row.start_time}") for stamp in files)
                ):
                    problems.append(f"{row.reference_name} has failed, and the branch has {sorted(files)}")
            for row in self._counting(workflow_id):
                name, stamp = row.reference_name, row.output["result"]["stamp"]
                files = self._files(workflow_id, row)
                # A late report can complete a row with a commit that its new run has replaced, if nothing follows that
                # reads the commit (docs/dev/protocol.md, the gap of the last step).
                ref = row.output["workspace"]["ref"]
                is_late = COMMITS[ref].metadata.get(publication.START_TIME) != str(row.start_time)
                is_last = ref not in inputs
                is_lost = row.start_time == 0 and self._was_open_again(row)
                is_gap = is_late and is_last and (len(files) == 1 or self.case.shape == "shared" or is_lost)
                input_ref = row.input["workspace"]["ref"]
                if not is_late and isinstance(input_ref, str) and row.output["result"]["input"] != input_ref:
                    problems.append(f"{name} is completed with the result of another input")
                is_repeated = not self.case.is_late and "retry" not in self.case.operation and stamp in self.earlier
                if is_repeated and not is_late:
                    problems.append(f"{name} is completed as {stamp}, which the operation has run again")
                # What the input ref contains is not judged.
                expected = {stamp} if row.output["result"]["has_changes"] else set[str]()
                files -= self._files(workflow_id, row, row.output["result"]["input"]) - expected
                if files != expected and not is_gap:
                    problems.append(f"{name} is completed as {stamp}, and the branch has {sorted(files)}")
                if self.case.shape == "shared" and expected and not is_gap and "shared" not in TREES[self.branch.head]:
                    problems.append("the branch lacks the shared file")
        return problems

    def _files(self, workflow_id: str, row: TaskRow, commit_id: str = "") -> set[str]:
        """Return the stamps of the files that a step has on the branch, or in a commit."""
        prefix = f"{workflow_id} {row.reference_name} "
        return {text for key, text in TREES[commit_id or self.branch.head].items() if key.startswith(prefix)}

    def _was_open_again(self, row: TaskRow) -> bool:
        """Whether a row had ended after the operation had begun, and the operation then stored it as it had read it:
        its last run was not polled, or a later step was polled first (docs/dev/protocol.md, Conductor's gap)."""
        runs = [place for place, attempt in enumerate(self.attempts) if attempt.delivery.task_id == row.task_id]
        runs = [place for place in runs if self.attempts[place].stamp not in self.earlier]
        later = {other.task_id for other in self.state.workflows[row.workflow_id].tasks if other.seq > row.seq}
        is_late = any(attempt.delivery.task_id in later for attempt in self.attempts[: max(runs, default=0)])
        return bool(runs) and (row.start_time == 0 or is_late)

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


def _after_write(interruption: Interruption) -> World | None:
    """Return the world after the next write of an operation. None: Conductor refuses the operation."""
    world, script = interruption.begin.copied(), iter(interruption.script)

    def act() -> None:
        for call in script:
            if call is None:
                return
            before, move = call
            caller = before.copied()
            caller.clock, caller.conductor = world.clock, world.conductor
            caller.make(move)
        world.interruption = interruption
        raise Interrupted

    world.conductor.between_writes = None if world.case.is_atomic else act
    try:
        world._operate(interruption.workflow_id, interruption.task_id)
    except Interrupted:
        pass
    except ServiceError:
        if not interruption.script:
            return None
    return world


def begin(case: Case) -> World:
    """Return the world in which a case begins."""
    clock = VirtualClock()
    conductor = InMemoryConductor(clock, seed=1)
    timeout = {"responseTimeoutSeconds": 600, "retryLogic": "FIXED"}
    conductor.register_task_definitions([{**DEFINITION, **timeout, "name": name} for name in STEPS])
    for definition in SHAPES[case.shape]():
        conductor.create_workflow_definition(definition)
    head = make_commit((make_commit((), {"z": "0"}, {}).id,), {"z": "1"}, {}).id
    count = 2 if case.shape in ("shared", "two") else 1
    workflow_ids = [conductor.start_workflow("main", {"workspace": {"ref": head}}) for _ in range(count)]
    return World(case, clock, conductor, Branch(head), tuple(workflow_ids))


@dataclass
class Exploration:
    """What `explore` has simulated."""

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
