"""One schedule, simulated on the models: workers take turns, and every trouble comes where the schedule says."""

from __future__ import annotations

import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import xxhash

from perago.adapters.lakefs.download import object_id
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.cache import ObjectCache, Shelf
from perago.driver import AttemptRuntime, Limits, deliver_report, run_attempt
from perago.driver.fencing import FenceProofs
from perago.driver.runtime import KnownRoots
from perago.embedded.lakefs import commits, references
from perago.embedded.lakefs.repository import CommitRecord
from perago.ports import Clock, Delivery, DeliveryCheck, ServiceError, TaskRow, Unclear, WorkflowRow, WorkspaceStore
from perago.settings import PublishFence
from perago.taskdef import build_task_definition
from perago.testing.services import InMemoryServices
from perago.workspace.directory import AttemptDirectory

from ..cache.shelves import PLENTY
from .actions import ACTIONS, ALTERATION, Actors
from .attempts import Attempt, Call, Killed, Line, chain_of, is_confirmation
from .defining import MAIN, define, run_function
from .editing import BY_NAME, TASKS, applied
from .lossy import forgetful_merge, lossy_merge
from .schedules import Event, Schedule

REPOSITORY, BRANCH = "workspace", "main"
OVER = ("COMPLETED", "FAILED", "TERMINATED", "TIMED_OUT")
DEFINITIONS = [build_task_definition(declared) for declared in TASKS.values()]
UNRELATED: dict[str, Any] = {
    "name": "unrelated",
    "version": 1,
    "schemaVersion": 2,
    "tasks": [
        {"name": "wait", "taskReferenceName": "wait", "type": "WAIT", "inputParameters": {"duration": "1000 days"}}
    ],
}
_MOST_ATTEMPTS = 120
"""Two workflows, each begun again, whose forks have two branches that fail eleven times, need 92."""
_MOST_CALLS = 20_000
_HAND_BACK_SECONDS = 5
"""The delay of an attempt that waits for another one of its family."""


class Skewed:
    """The clock of a node of Conductor that is ahead of the others."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def now(self) -> float:
        """Return the time of this node."""
        return self._clock.now() + self._seconds

    def sleep(self, seconds: float) -> None:
        """Sleep on the common clock."""
        self._clock.sleep(seconds)


class Immediately(Executor):
    """Carries out calls when they are sent, because only one thread of a world runs at a time."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Return the answer or the error of the call. The end of the process ends the sender."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Endless(Exception):
    """The workflow does not end."""


class World:
    """A started workflow and everything that was tried for it. `play` plays it to its end."""

    def __init__(self, services: InMemoryServices, schedule: Schedule) -> None:
        self.services, self.schedule = services, schedule
        self.count = 0
        """Calls of attempts so far."""
        self.attempts: list[Attempt] = []
        self.active: list[Attempt] = []
        self.lines: list[str] = []
        """What happened, in order."""
        self.problems: list[str] = []
        """What was seen to be wrong on the way."""
        self.outside: set[str] = set()
        """Commits of people."""
        self.forged: set[str] = set()
        """Those of them with metadata that look like perago's."""
        self.unnamed_until = 0.0
        """Until then, Conductor does not name the sub-workflows that run."""
        self.reverted: dict[str, str] = {}
        """Commits of people that revert a publication, with that."""
        self.late: dict[str, int] = {}
        """Commits of merges that arrived late, each with the number of attempts that had been taken by then."""
        self.doubtful: set[str] = set()
        """Tasks whose report arrived when the task had been begun again meanwhile: Conductor's own gap."""
        self.disturbed = False
        """Something has put objects on a staging branch."""
        self._is_rescued = False
        """An operator has ended a workflow in which nothing happened any more."""
        self.operations = 0
        """Reruns, restarts and retries by an operator."""
        self.recovered: dict[str, int] = {}
        """The workflows that were started and then recovered by an operator, each with the number of attempts that had
        been taken when this happened last."""
        self.recovered_children: dict[str, int] = {}
        """The same for workflows of which a sub-workflow was recovered alone, with the number when this first
        happened."""
        self.given_heads: set[str] = set()
        """Heads of the branch with which an operator has run a workflow again, as its input."""
        self._roots = KnownRoots()
        self._dice = random.Random(f"{schedule.seed} turns")
        self._has_unrelated = False
        self.cache = ObjectCache(services.workspace_root / "cache", PLENTY)
        self.tasks = TASKS
        """What the workers run, by mode."""
        self._actors = Actors(self)
        self._most_attempts = max(_MOST_ATTEMPTS, 12 * sum(len(node.branches) for node in schedule.nodes))
        self._events: dict[tuple[int, str, int, str], list[Event]] = defaultdict(list)
        for event in schedule.events:
            self._events[event.attempt, event.operation, event.nth, event.timing].append(event)
        self._held: list[tuple[int, Attempt, Callable[[], str]]] = []
        self.runs: Counter[tuple[str, str]] = Counter()
        """How often the function of a step has run, by the workflow that was started and reference name."""
        self._trees: dict[str, dict[str, str]] = {}
        made = define(schedule)
        self.steps = made.steps
        files = applied(schedule.tree, {}, "")
        fence = {"there": FENCE_TEXT, "altered": FENCE_TEXT + ALTERATION}.get(schedule.fence)
        self.ref = services.seed(files if fence is None else {**files, FENCE_PATH: fence})
        conductor = services.conductor
        conductor.register_task_definitions(DEFINITIONS)
        for definition in made.workflows:
            conductor.create_workflow_definition(definition)
        self.workflows = [conductor.start_workflow(MAIN, self.input_of(self.ref)) for _ in range(schedule.workflows)]

    def start_unrelated(self) -> str:
        """Start a workflow that has nothing to do with the others, and return its id."""
        conductor = self.services.conductor
        if not self._has_unrelated:
            conductor.create_workflow_definition(UNRELATED)
            self._has_unrelated = True
        workflow: str = conductor.start_workflow(UNRELATED["name"], {})
        return workflow

    def input_of(self, ref: str, mood: str = "0") -> dict[str, Any]:
        """The input of a workflow."""
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
        return {"workspace": block, "mood": mood}

    # ------------------------------------------------------------------------------- the play

    def run(self) -> None:
        """Until all is over and no operator wants more of it."""
        afterwards, idle = list(self.schedule.afterwards), 0
        while True:
            if self._take() or self._move():
                idle = 0
            elif self.is_over:
                if not afterwards:
                    break
                action, number = afterwards.pop(0)
                self._actors.operate(action, number, self.workflows[number % len(self.workflows)])
            elif idle > 5:
                if self._waits() and (self._is_rescued or not self.schedule.afterwards):
                    raise Endless("a workflow is not over, and nothing happens any more")
                if self._waits():  # Conductor does not time out attempts that a rerun has started again
                    self._is_rescued, idle = True, 0
                    self._actors.terminate()
                    continue
                if not afterwards:
                    break
                self._actors.terminate()
            else:
                self.pass_time(6 if idle % 2 == 0 else 700)
                idle += 1
        self.arrive(everything=True)

    def _waits(self) -> bool:
        """Whether an attempt waits for a worker. A rerun in a fork takes the JOIN away, and Conductor begins none."""
        rows = [row for workflow in self.workflows for row in self.services.conductor.workflow(workflow)["tasks"]]
        return any(row["status"] in ("SCHEDULED", "IN_PROGRESS") and row["taskType"] in BY_NAME for row in rows)

    def end(self) -> None:
        """End attempts that are still parked."""
        for attempt in self.active:
            while not attempt.is_over:
                attempt.killed = True
                attempt.resume()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and Conductor notice."""
        self.services.clock.advance(seconds)
        self.services.conductor.sweep()

    def status(self, workflow: str) -> str:
        """Of a workflow."""
        return str(self.services.conductor.workflow(workflow, include_tasks=False)["status"])

    @property
    def is_over(self) -> bool:
        """Whether no workflow runs."""
        return all(self.status(workflow) in OVER for workflow in self.workflows)

    def root_workflow(self, attempt: Attempt) -> str:
        """The workflow that was started, of an attempt in it or in a sub-workflow of it."""
        return self.root_of_workflow(attempt.delivery.workflow_id)

    def root_of_workflow(self, workflow: str) -> str:
        """The workflow that was started, of a sub-workflow, also of one that is no longer in it."""
        conductor, root = self.services.conductor, workflow
        while parent := conductor.workflow(root, include_tasks=False).get("parentWorkflowId"):
            root = parent
        return root

    def row(self, workflow: str, task_id: str) -> TaskRow | None:
        """Return Conductor's row of an attempt, or None."""
        (anybody, *_) = self.attempts
        known = self.services.conductor.read_workflow(anybody.delivery, workflow)
        return known.row(task_id) if known is not None else None

    def place_of(self, workflow: str) -> tuple[str, ...]:
        """Return the workflow that was started, and the reference names of the steps down to a sub-workflow."""
        row = self.services.conductor.workflow(workflow, include_tasks=False)
        if not (parent := row.get("parentWorkflowId")):
            return (workflow,)
        tasks = self.services.conductor.workflow(parent)["tasks"]
        names = [task["referenceTaskName"] for task in tasks if task["taskId"] == row.get("parentWorkflowTaskId")]
        return (*self.place_of(parent), *names)

    def log(self, text: str) -> None:
        """Add a line to what happened."""
        self.lines.append(f"{self.services.clock.now() % 100_000:9.1f} {self.count:4} {text}")

    def _take(self) -> bool:
        """Let free workers take deliveries; those that are parked are no longer counted."""
        taken = False
        for task in self._polled_tasks():
            busy = sum(attempt.resume_at <= self.count for attempt in self.active)
            free = self.schedule.workers - busy
            if free <= 0 or (self.schedule.lazy and taken):
                break
            for delivery in self._poll(task.name, 1 if self.schedule.lazy else free):
                waits = sum(attempt.record is not None and attempt.record.waits for attempt in self.attempts)
                if len(self.attempts) - waits >= self._most_attempts:
                    raise Endless(f"{self._most_attempts} attempts, and still one waits")
                workflow = self.services.conductor.read_workflow(delivery, delivery.workflow_id)
                if workflow is None:
                    raise LookupError(f"Conductor has no workflow {delivery.workflow_id}")
                chain = chain_of(delivery, workflow)
                attempt = Attempt(len(self.attempts), delivery, BY_NAME[delivery.task_name], self.count, chain)
                attempt.parent_id = workflow.parent_id
                attempt.place = (*self.place_of(delivery.workflow_id), delivery.reference_name)
                self.attempts.append(attempt)
                self.active.append(attempt)
                where = f"{delivery.reference_name} retry {delivery.retry_count} poll {delivery.poll_count}"
                self.log(f"#{attempt.index} takes {where} ({attempt.mode}), task {delivery.task_id[:8]}")
                taken = True
        return taken

    def _polled_tasks(self) -> list[Task]:
        """Return the tasks that workers poll for now. Those of a lazy world poll seldom, and in any order."""
        tasks = list(TASKS.values())
        if self.schedule.lazy:
            self._dice.shuffle(tasks)
        return [] if self.schedule.lazy and self.active and self._dice.random() < 0.5 else tasks

    def _poll(self, task_name: str, count: int) -> Sequence[Delivery]:
        """Poll, answered by a node of Conductor whose clock differs."""
        with self.services.conductor._locked() as state:
            clock = state._clock
        state._clock = Skewed(clock, self.schedule.skew)
        try:
            return self.services.conductor.poll(task_name, "w0001", count=count, wait_seconds=0)
        finally:
            state._clock = clock

    def _move(self) -> bool:
        """Let the attempt whose turn it is move, until it is parked or over."""
        if not self.active:
            return False
        ready = [attempt for attempt in self.active if attempt.resume_at <= self.count]
        if self.schedule.lazy:
            self._dice.shuffle(ready)
        attempt = ready[0] if ready else min(self.active, key=lambda candidate: (candidate.resume_at, candidate.index))
        attempt.resume_at = 0
        if attempt.calls or attempt.journal:
            attempt.resume()
        else:
            attempt.start(lambda: self._run(attempt))
        if attempt.is_over:
            attempt.ended = self.count
            self.active.remove(attempt)
            how = "killed" if attempt.killed else "with success" if attempt.completed else ""
            self.log(f"#{attempt.index} ends {how} {attempt.words}")
        return True

    def root_of(self, attempt: Attempt) -> Path:
        """Where its directory is made: that of a host of its own, or of one that all share."""
        return self.services.workspace_root / ("shared" if self.schedule.shared_root else str(attempt.index))

    def _has_others(self, attempt: Attempt) -> bool:
        """Whether people, other workflows or living attempts of other steps have committed since its input ref."""
        delivery = attempt.delivery
        for record in self.history()[::-1]:
            if record.commit.id == attempt.ref:
                return False
            metadata = record.commit.metadata
            if record.commit.id in self.outside or metadata.get("perago.workflow_id") != delivery.workflow_id:
                return True
            workflow = self.services.conductor.read_workflow(delivery, metadata["perago.workflow_id"])
            row = workflow.row(metadata["perago.task_id"]) if workflow is not None else None
            if row is None or metadata["perago.step_key"] == attempt.step_key:
                continue
            is_reported = row.status == "COMPLETED" and row.published_commit == record.commit.id
            if is_reported or str(row.start_time) == metadata["perago.start_time"]:
                return True
        return False

    def _has_open_others(self, attempt: Attempt) -> bool:
        """Whether Conductor waits for another attempt of the same family."""
        root = self.root_workflow(attempt)
        with self.services.conductor._locked() as state:
            rows = [row for row in state.tasks.values() if row.task_id != attempt.delivery.task_id]
        open_rows = [row for row in rows if row.task_type in BY_NAME and row.status in ("SCHEDULED", "IN_PROGRESS")]
        return any(self.root_of_workflow(row.workflow_id) == root for row in open_rows)

    def _run(self, attempt: Attempt) -> None:
        services = self.services
        queue = Line(attempt, services.conductor, self._call)
        runtime = AttemptRuntime(
            store=cast("WorkspaceStore", Line(attempt, services.lakefs, self._call)),
            delivery_check=cast("DeliveryCheck", queue),
            workspace_root=self.root_of(attempt),
            clock=services.clock,
            limits=services.limits,
            call=lambda task, workspace, params, current: run_function(self, attempt, task, workspace, params),
            interruptible=attempt.interruptible_block,
            threads=Immediately() if self.schedule.sends_ahead else None,
            is_likely_to_publish=self.schedule.sends_ahead,
            proofs=services.proofs,
            roots=self._roots if self.schedule.shared_root else None,
        )
        attempt.calls["begin"] += 1
        task = self.tasks[attempt.mode]
        attempt.prefix = task.workspace.key_prefix if task.workspace else ""
        attempt.record = run_attempt(task, attempt.delivery, runtime)
        if attempt.record.hand_back:
            if services.conductor.is_current(attempt.delivery):
                delay = _HAND_BACK_SECONDS if attempt.record.waits else 0
                services.conductor.hand_back(attempt.delivery, delay)
        elif attempt.record.report is not None:
            deliver_report(
                cast("Any", queue), services.clock, attempt.delivery, attempt.record.report, "w", services.limits
            )

    # ------------------------------------------------------------------------------- each call

    def _call(self, attempt: Attempt, name: str, method: Callable[..., Any], arguments: Any, options: Any) -> Any:
        if name == "download" and self.schedule.cached:
            method = partial(self._download_with_cache, method)
        argument = arguments[1] if name in ("create_branch", "delete_branch", "merge", "read_workflow") else ""
        if name == "merge" and arguments[2] != BRANCH:
            name = "carry" if arguments[4].get("perago.phase") == "staging" else "challenge"
        if name == "history":
            attempt.ref = attempt.ref or options["until"]  # later looks may begin elsewhere
        answer: Any = None
        sent, outcome = self.services.clock.now(), "no answer"
        try:
            self._count(attempt, name)
            self.happen(attempt, name, "before", lambda: method(*arguments, **options))
            if name == "report":
                self._watch_report(attempt)
            try:
                answer = method(*arguments, **options)
                outcome = ("yes" if answer else "no") if name == "is_current" else "done"
                if isinstance(answer, WorkflowRow) and is_confirmation(answer, attempt.delivery):
                    outcome = "current"
                if name == "history":
                    attempt.heads.append(answer[0].id if answer else options["until"])
                if isinstance(answer, WorkflowRow):
                    answer = self._without_running_children(answer)
                    attempt.met_open = attempt.met_open or (self.operations > 0 and self._has_open_others(attempt))
                if name in ("history", "read_workflow"):
                    attempt.met_others = attempt.met_others or self._has_others(attempt)
            except ServiceError as error:
                outcome = f"{type(error).__name__}"
                raise
            finally:
                self.happen(attempt, name, "after", None)
            return answer
        except (Killed, ServiceError, GeneratorExit) as error:
            outcome = f"{outcome}, {type(error).__name__} for the caller"
            raise
        finally:
            row = answer if isinstance(answer, WorkflowRow) else None
            attempt.journal.append(Call(name, sent, self.services.clock.now(), outcome, argument, row))
            self.log(f"#{attempt.index} {name} {attempt.calls[name]} {argument}: {outcome}")

    def _download_with_cache(self, method: Callable[..., int], *arguments: Any) -> int:
        """Download, and then use the cache for each file that it has, as workers do."""
        placed, (workspace, placements) = method(*arguments), arguments[2:4]
        self.cache.root.mkdir(exist_ok=True)
        for placement in placements:
            if placement.path is None:
                continue
            file, source = workspace / placement.path, object_id(placement.entry)
            with Shelf(self.cache) as shelf, tempfile.TemporaryFile() as copy, file.open("rb") as downloaded:
                if shelf.copy_to(source, copy.fileno()):
                    copy.seek(0)
                    file.write_bytes(copy.read())
                else:
                    shelf.add(source, downloaded.fileno(), xxhash.xxh3_128_digest(file.read_bytes()))
        return placed

    def _without_running_children(self, row: WorkflowRow) -> WorkflowRow:
        if self.services.clock.now() >= self.unnamed_until:
            return row
        return replace(row, rows=tuple(map(self._without_running_child, row.rows)))

    def _without_running_child(self, row: TaskRow) -> TaskRow:
        is_running = row.sub_workflow_id is not None and self.status(row.sub_workflow_id) not in OVER
        return replace(row, sub_workflow_id=None) if is_running else row

    def _count(self, attempt: Attempt, name: str) -> None:
        if self.count >= _MOST_CALLS * self._most_attempts // _MOST_ATTEMPTS:
            endless = f"endless: {self.count} calls"  # an attempt makes a failure of its own of the error
            self.problems += [endless] if endless not in self.problems else []
            raise Endless(endless)
        if attempt.killed:
            raise Killed
        self.count += 1
        attempt.calls[name] += 1
        self.arrive()
        if self.schedule.lazy and self._dice.random() < 0.15:
            self.park(attempt, self._dice.choice((1, 3, 8, 20)))
        due = [parked for parked in self.active if parked is not attempt and 0 < parked.resume_at <= self.count]
        if due:
            self.park(attempt, 500)

    def happen(self, attempt: Attempt, name: str, timing: str, send: Callable[[], str] | None) -> None:
        """Whatever the schedule has for this timing of this call."""
        for event in self._events.pop((attempt.index, name, attempt.calls[name], timing), ()):
            self.log(f"#{attempt.index} {event}")
            ACTIONS[event.action](self._actors, attempt, event, send)

    def park(self, attempt: Attempt, calls: int) -> None:
        """Let others make so many calls, unless they are all over before."""
        attempt.park(self.count + calls)
        if attempt.killed:
            raise Killed

    def hold(self, attempt: Attempt, send: Callable[[], str], calls: int) -> None:
        """Keep a merge on its way for so many calls. Its sender gets no answer."""
        self._held.append((self.count + calls, attempt, send))
        raise Unclear("lakeFS", "merge", "the connection was cut")

    def arrive(self, *, everything: bool = False) -> None:
        """Let merges arrive that were held long enough. Their senders do not hear the answers."""
        due = [held for held in self._held if everything or held[0] <= self.count]
        self._held = [held for held in self._held if held not in due]
        for _, attempt, send in due:
            try:
                self.late[send()] = len(self.attempts)
                self.log(f"the held merge of #{attempt.index} arrives")
            except ServiceError as error:
                self.log(f"the held merge of #{attempt.index} is refused: {type(error).__name__}")

    def _watch_report(self, attempt: Attempt) -> None:
        """Conductor takes a report by the task's id alone."""
        if attempt.journal[-1:] and attempt.journal[-1].outcome == "yes" and not self.is_current(attempt):
            self.doubtful.add(attempt.delivery.task_id)

    def is_current(self, attempt: Attempt) -> bool:
        """Whether Conductor waits for it; no event meets this question."""
        return self.services.conductor.is_current(attempt.delivery)

    # ---------------------------------------------------------------------------------- the branch

    def history(self) -> list[CommitRecord]:
        """First-parent commits from the input ref on, oldest first, by the server itself: no event meets this."""
        return list(commits.first_parents(self.services.lakefs.server.repository(REPOSITORY), BRANCH))[::-1]

    def tree(self, commit_id: str) -> dict[str, str]:
        """The files of a commit, without hooks."""
        if commit_id not in self._trees:
            record = commits.get_commit(self.services.lakefs.server.repository(REPOSITORY), commit_id)
            self._trees[commit_id] = {
                path: entry.blob.read().decode()
                for path, entry in record.tree.entries.items()
                if not path.startswith("_lakefs_actions/")
            }
        return self._trees[commit_id]

    def staging_branches(self) -> list[str]:
        """All that are left."""
        branches = references.list_branches(
            self.services.lakefs.server.repository(REPOSITORY), show_hidden=True
        ).results
        return [branch.name for branch in branches if branch.name != BRANCH]


@contextmanager
def simulated(schedule: Schedule) -> Iterator[World]:
    """The world of a schedule at its end. Nothing in it depends on anything but the schedule."""
    dice = random.Random(schedule.seed)
    made: list[AttemptDirectory] = []
    create = AttemptDirectory.create

    def remembered(root: Path, delivery: Delivery) -> AttemptDirectory:
        made.append(create(root, delivery))
        return made[-1]

    policy = PublishFence.OFF if schedule.fence == "off" else PublishFence.AUTO
    with pytest.MonkeyPatch.context() as patch, InMemoryServices(limits=Limits(publish_fence=policy)) as services:
        patch.setattr("secrets.token_hex", lambda size=8: f"{dice.getrandbits(8 * size):0{2 * size}x}")
        patch.setattr("perago.retry.random", dice)
        merge = forgetful_merge if schedule.forgetful else lossy_merge
        patch.setattr("perago.embedded.lakefs.commits.merge_trees", merge)
        patch.setattr(AttemptDirectory, "create", remembered)
        with services.conductor._locked() as state:
            state.random = random.Random(schedule.seed)
        if not schedule.tried:
            services.proofs = FenceProofs(services.clock)
        world = World(services, schedule)
        try:
            try:
                world.run()
            except Endless as error:
                world.problems.append(f"endless: {error}")
            yield world
        finally:
            world.end()
            for directory in made:
                directory.close()
