"""The model of a Conductor server: its calls, and the task queue of workers and the driver on it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import itemgetter
from typing import Any, TypeVar

from perago.conductor_json import delivery_from, known_by_its_retry, workflow_from
from perago.driver import SystemClock
from perago.embedded.conductor import lifecycle, schedules, updates, views, wire
from perago.embedded.conductor.decider import OPERATION, create_workflow, decide, workflow_definition
from perago.embedded.conductor.definitions import (
    parse_changed_task_definition,
    parse_task_definitions,
    parse_workflow_definition,
)
from perago.embedded.conductor.lifecycle import rerun, restart, retry, settle, sweep
from perago.embedded.conductor.state import HistoryEntry, HttpHandler, LastPoll, State, Status, TaskRow, queue_name
from perago.embedded.faults import FaultScript, faults_around
from perago.ports import Clock, Delivery, Report, Unavailable, WorkflowRow
from perago.retry import UNTIL_ITS_RETRY_ENDS

_UPDATE = "updateWorkflowDef"

T = TypeVar("T")

CHECK_SECONDS = 0.1
"""Seconds between two checks of the queue by a long poll, if time does not pass on its own."""

LOCK_SECONDS = 30.0
"""Seconds of real time that a call waits for others to finish theirs."""


class ModelCore:
    """The state of one server and the access to it. The calls are in derived classes."""

    def __init__(
        self,
        clock: Clock,
        faults: FaultScript | None = None,
        *,
        seed: int | None = None,
        http: HttpHandler | None = None,
    ) -> None:
        """
        Args:
            clock: The clock of the server.
            faults: The script of faults of calls.
            seed: Makes ids and jitter repeatable.
            http: Answers HTTP tasks: gets the request (`uri`, `method`, `headers`, `body`), and returns status and
                body. It is called under the model's lock.
        """
        self._clock = clock
        self._faults = faults or FaultScript()
        self._state = State(clock, seed, http)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.on_change: Callable[[], None] = lambda: None
        """Called, under the lock, after a call that changed an attempt or a queue; must not call back."""
        self.between_writes: Callable[[], None] | None = None
        """Called, without the lock, where a real server lets other clients act: between two changes of a retry or a
        rerun, and before a poll, a report or a lease extension stores the row that it has read. It can make other
        calls; it is not called by these."""
        self._state.between_writes = self._let_others_act
        self.longest_poll: float = MAX_WAIT_SECONDS
        """Seconds after which a poll ends in any case. The end of a worker need not wait for a longer one."""
        self._reported_changes = 0
        self._waits_ended = False

    def end_waits(self) -> None:
        """Make waiting calls return immediately, and later ones not wait, for a server that is about to stop."""
        with self._lock:
            self._waits_ended = True
            self._changed.notify_all()

    @contextmanager
    def _operation(self, name: str) -> Iterator[State]:
        """Run one call: faults outside of the lock, the rest inside."""
        with self._around(name), self._locked() as state:
            yield state

    def _around(self, name: str) -> AbstractContextManager[None]:
        return faults_around(self._faults, name, service=wire.SERVICE, clock=self._clock)

    @contextmanager
    def _locked(self) -> Iterator[State]:
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            raise Unavailable(wire.SERVICE, "any call", f"the model was busy for {LOCK_SECONDS:g} s")
        try:
            settle(self._state)
            yield self._state
            settle(self._state)
        finally:
            changes = self._state.queue.pushes + len(self._state.history)
            if changes != self._reported_changes:
                self._reported_changes = changes
                self._changed.notify_all()
                self.on_change()
            self._lock.release()

    def _let_others_act(self) -> None:
        """Release the lock for `between_writes`."""
        act, self.between_writes = self.between_writes, None
        if act is None:
            return
        self._lock.release()
        try:
            act()
        finally:
            self._lock.acquire()
            self.between_writes = act

    def _wait_for_answer(self, end: float, ask: Callable[[State], T | None]) -> T:
        """Call `ask` under the lock until it does not return None, for the last time at `end` or later.

        On the system's clock it is called again as soon as anything changes or is due. Any other clock sleeps between
        two calls, without the lock.
        """
        while True:
            with self._locked() as state:
                answer = ask(state)
                if answer is not None:
                    return answer
                left = end - self._clock.now()
                if isinstance(self._clock, SystemClock):
                    self._changed.wait(max(0.0, min(left, self._seconds_to_next_event(state))))
                    continue
            self._clock.sleep(min(CHECK_SECONDS, left))

    def _is_over(self, end: float) -> bool:
        """Whether a wait until `end` has ended."""
        return self._waits_ended or self._clock.now() >= end

    def _seconds_to_next_event(self, state: State) -> float:
        """Until a delayed message or an attempt of the server's own falls due; infinite without any."""
        now = self._clock.now()
        message = state.queue.next_due(state.now())
        due = [time / 1000 - now for time in (*state.timers.values(), *([] if message is None else [message]))]
        return min(due, default=math.inf)


MAX_WAIT_SECONDS = 5.0
"""Longest long poll that the server allows."""

SHORT_WAIT_SECONDS = 0.1
"""The wait of a single poll, and of the poll inside of update v2."""

MAX_PRIORITY = 99


class ConductorModel(ModelCore):
    """Definitions, workflows, attempts and queues of one server, in memory. It is safe to use from several threads.

    Timeouts fire only when a workflow is decided: by `decide`, by `sweep`, or by an update of one of its attempts.
    Until then an overdue attempt is in progress and its late result is accepted (`docs/dev/servers/conductor.md`,
    "Attempt state machine"). `seed` makes ids and jitter repeatable.
    """

    # ---------------------------------------------------------------------- definitions
    # Running attempts keep the definitions that they were scheduled with.

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace task definitions. One invalid definition rejects the complete list."""
        with self._operation("register_task_definitions") as state:
            for definition in parse_task_definitions(definitions, state.now()):
                state.task_definitions[definition["name"]] = definition

    def update_task_definition(self, definition: Mapping[str, Any]) -> None:
        """Replace an existing definition, which keeps its `createTime`. An unknown one is a 404."""
        with self._operation("update_task_definition") as state:
            changed = parse_changed_task_definition(definition, state.now())
            existing = state.task_definitions.get(changed["name"])
            if existing is None:
                raise wire.not_found("update task definition", f"No such task by name {changed['name']}")
            creation = {field: existing[field] for field in ("createTime", "createdBy")}
            state.task_definitions[changed["name"]] = changed | creation

    def get_task_definition(self, name: str) -> dict[str, Any] | None:
        """Return the stored definition with its defaults, or None."""
        with self._operation("get_task_definition") as state:
            return wire.copied(state.task_definitions.get(name))

    def task_definitions(self) -> list[dict[str, Any]]:
        """Return all stored definitions."""
        with self._operation("task_definitions") as state:
            return wire.copied(list(state.task_definitions.values()))

    def delete_task_definition(self, name: str) -> None:
        """Forget a definition; an unknown one is a 500 (`docs/dev/servers/conductor.md`, "Fifteen behaviors", point
        11)."""
        with self._operation("delete_task_definition") as state:
            if state.task_definitions.pop(name, None) is None:
                raise wire.server_error("delete task definition", "No such task definition")

    def create_workflow_definition(self, definition: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Register a workflow; a second one of the same name and version is a 409 unless `overwrite`."""
        with self._operation("create_workflow_definition") as state:
            parsed = parse_workflow_definition(definition, state.now())
            name, version = parsed["name"], parsed["version"]
            if overwrite:
                parsed = _changed(parsed, definition, state.now())
            elif version in state.workflow_definitions.get(name, {}):
                raise wire.conflict("register workflow definition", f"Workflow with {name}.{version} already exists!")
            _store(state, parsed)

    def update_workflow_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Create or replace workflow definitions, all or none; the names of those stored, as the server lists them."""
        with self._operation("update_workflow_definitions") as state:
            if not definitions:
                problem = {"path": f"{_UPDATE}.arg0", "message": "WorkflowDefList is empty"}
                raise wire.validation_failed("update workflow definitions", [problem])
            parsed = _parse_all(definitions, state.now())
            for changed in parsed:
                _store(state, changed)
            return {"bulkErrorResults": {}, "bulkSuccessfulResults": [changed["name"] for changed in parsed]}

    def get_workflow_definition(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Return the stored definition, by default the highest version."""
        with self._operation("get_workflow_definition") as state:
            shown = "null" if version is None else version
            detail = f"No such workflow found by name: {name}, version: {shown}"
            return wire.copied(workflow_definition(state, "read workflow definition", name, version, detail))

    def workflow_definitions(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return all stored definitions, or all versions of one name, the lowest first."""
        with self._operation("workflow_definitions") as state:
            names = sorted(state.workflow_definitions) if name is None else [name]
            known = [state.workflow_definitions.get(name, {}) for name in names]
            return wire.copied([versions[version] for versions in known for version in sorted(versions)])

    def delete_workflow_definition(self, name: str, version: int) -> None:
        """Forget one version; an unknown one is a 500 (`docs/dev/servers/conductor.md`, "Fifteen behaviors", point
        11)."""
        with self._operation("delete_workflow_definition") as state:
            versions = state.workflow_definitions.get(name, {})
            if version in versions:
                state.workflow_definitions[name] = {other: versions[other] for other in versions if other != version}
            else:
                detail = f"No such workflow definition: {name} version: {version}"
                raise wire.server_error("delete workflow definition", detail)

    # ------------------------------------------------------------------------- schedules

    def save_schedule(self, schedule: Mapping[str, Any]) -> dict[str, Any]:
        """Create or replace a schedule, which is then returned as the server stores it."""
        with self._operation("save_schedule") as state:
            return wire.copied(schedules.save(state, schedule))

    def schedules(self, workflow_name: str | None = None) -> list[dict[str, Any]]:
        """Return the schedules of a workflow, or all, sorted by name."""
        with self._operation("schedules") as state:
            rows = [state.schedules[name] for name in sorted(state.schedules)]
            return wire.copied(
                [row for row in rows if workflow_name in (None, "", row["startWorkflowRequest"]["name"])]
            )

    def schedule(self, name: str) -> dict[str, Any]:
        """Return a schedule; an unknown one is a 404."""
        with self._operation("schedule") as state:
            return wire.copied(schedules.find(state, name))

    def delete_schedule(self, name: str) -> None:
        """Forget a schedule, if it exists."""
        with self._operation("delete_schedule") as state:
            schedules.remove(state, name)

    def pause_schedule(self, name: str, reason: str | None = None) -> None:
        """Start no further runs of a schedule; an unknown one is a 404."""
        with self._operation("pause_schedule") as state:
            schedules.pause(state, name, reason)

    def next_schedule_times(self, cron: str, number: int) -> Sequence[int]:
        """Return the next times (ms) of a cron in UTC; one that is not valid is a 500."""
        with self._operation("next_schedule_times") as state:
            times = schedules.next_times(cron, "UTC", state.now(), number)
            if not times:
                raise wire.server_error("next times", "Invalid cron expression")
            return times

    def resume_schedule(self, name: str) -> None:
        """Start the runs of a schedule again; one that is not paused is a 404."""
        with self._operation("resume_schedule") as state:
            schedules.resume(state, name)

    # -------------------------------------------------------------------------- attempts

    def poll_tasks(
        self,
        task_name: str,
        worker_id: str | None = None,
        *,
        count: int = 1,
        wait_seconds: float = SHORT_WAIT_SECONDS,
        domain: str | None = None,
    ) -> list[dict[str, Any]]:
        """Batch poll: wait until `count` tasks are due or `wait_seconds` have passed on the model's clock.

        A negative `count` takes all due tasks immediately. A poll for a `domain` gets only that domain, a poll without
        one gets the tasks without a domain.
        """
        with self._around("poll"):
            rows = self._poll(task_name, worker_id, count=count, wait_seconds=wait_seconds, domain=domain)
            return [views.task_json(row, self._state.now()) for row in rows]

    def get_task(self, task_id: str) -> dict[str, Any]:
        """Return one attempt as JSON."""
        with self._operation("get_task") as state:
            row = state.tasks.get(task_id)
            if row is None:
                raise wire.not_found("read task", f"Task not found for taskId: {task_id}")
            return views.task_json(row, state.now())

    def search_tasks(self, query: str = "", *, start: int = 0, size: int = 100, sort: str = "") -> dict[str, Any]:
        """Return summaries of attempts that have ended: `totalHits` and a page of `results`."""
        with self._operation("search_tasks") as state:
            return views.search_tasks(state.tasks.values(), query, start=start, size=size, sort=sort, now=state.now())

    def pending_tasks(self, task_name: str, *, start: int = 0, count: int = 100) -> list[dict[str, Any]]:
        """Return the attempts of a type that have not ended, in all domains. A real server has no order in them."""
        with self._operation("pending_tasks") as state:
            rows = updates.listed(state, task_name)[start : start + count]
            return [views.task_json(row, state.now()) for row in rows]

    def update_task(self, result: Mapping[str, Any]) -> str:
        """`POST /tasks`: success does not mean that the result was accepted. Returns the task id that was sent."""
        with self._operation("update_task") as state:
            return updates.update_task(state, result)

    def update_task_v2(self, result: Mapping[str, Any]) -> dict[str, Any] | None:
        """`POST /tasks/update-v2`: the same, and then a poll for the same task type on behalf of the same worker.

        It hands out a further attempt even if the result was ignored, but none while the attempt is not finished
        (`docs/dev/servers/conductor.md`, "Fifteen behaviors", point 6).
        """
        with self._around("update_task_v2"):
            with self._locked() as state:
                row = updates.finished_by(state, result)
            if row is None:
                return None
            worker_id = result.get("workerId")
            further = self._poll(row.task_type, worker_id, count=1, wait_seconds=SHORT_WAIT_SECONDS, domain=row.domain)
            return views.task_json(further[0], self._state.now()) if further else None

    def update_task_by_reference(
        self,
        workflow_id: str,
        reference_name: str,
        status: str,
        output: Mapping[str, Any],
        worker_id: str | None = None,
    ) -> str | None:
        """Update the open attempt of a step, and return its id. Return None without one, even for unknown names."""
        with self._operation("update_task_by_reference") as state:
            row = updates.open_attempt(state, workflow_id, reference_name)
            return None if row is None else updates.update_row(state, row, status, output, worker_id or row.worker_id)

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry to a task's log; an unknown task id is fine, an empty text is a 500."""
        with self._operation("add_log") as state:
            if not text:
                raise wire.server_error("add log", "Required request body is missing")
            state.add_log(task_id, text, state.now())

    def task_logs(self, task_id: str) -> tuple[dict[str, Any], ...]:
        """Return log entries `{log, taskId, createdTime}` in the order of their times."""
        with self._operation("task_logs") as state:
            entries = [dict(entry) for entry in state.logs.get(task_id, {}).values()]
            return tuple(sorted(entries, key=itemgetter("createdTime")))

    def queue_size(self, task_name: str, *, domain: str | None = None) -> int:
        """Return attempts that wait to be polled, delayed ones included."""
        with self._operation("queue_size") as state:
            return state.queue.size(queue_name(task_name, domain))

    def queue_sizes(self) -> dict[str, int]:
        """Return the sizes of all queues that are not empty."""
        with self._operation("queue_sizes") as state:
            return state.queue.sizes()

    def requeue_pending(self, task_name: str) -> int:
        """Put open attempts of a type that have lost their message back into the queue. Return their number."""
        with self._operation("requeue_pending") as state:
            return updates.requeue(state, task_name)

    def last_polls(self, task_name: str | None = None) -> tuple[LastPoll, ...]:
        """Return the last pollers of this type, or of all, one entry a domain."""
        with self._operation("last_polls") as state:
            polls = [poll for poll in state.last_polls.values() if task_name in (None, poll.task_name)]
            return tuple(sorted(polls, key=lambda poll: (poll.task_name, poll.domain or "")))

    def history(self, workflow_id: str | None = None) -> tuple[HistoryEntry, ...]:
        """Return the history of the attempts of one workflow, or of all; ignored updates included."""
        with self._operation("history") as state:
            return tuple(entry for entry in state.history.values() if workflow_id in (None, entry.workflow_id))

    def _poll(
        self, task_name: str, worker_id: str | None, *, count: int, wait_seconds: float, domain: str | None = None
    ) -> list[TaskRow]:
        """Return copies of the rows, which share their values with the state."""
        if wait_seconds > MAX_WAIT_SECONDS:
            raise wire.bad_request("poll tasks", "Long Poll Timeout value cannot be more than 5 seconds")
        end = self._clock.now() + min(wait_seconds, self.longest_poll)
        popped: list[str] = []
        queue = queue_name(task_name, domain)

        def ask(state: State) -> list[TaskRow] | None:
            missing = count - len(popped) if count >= 0 else state.queue.size(queue)
            popped.extend(state.queue.take(queue, missing, state.now()))
            if len(popped) < count and not self._is_over(end):
                return None
            rows = updates.hand_out(state, popped, worker_id)
            state.last_polls[task_name, domain] = LastPoll(task_name, worker_id, state.now(), domain)
            return rows

        try:
            return self._wait_for_answer(end, ask)
        except BaseException:  # an interrupted wait must not lose the attempts that no worker got
            with self._locked() as state:
                for row in filter(None, map(state.tasks.get, popped)):
                    if row.status is Status.SCHEDULED:
                        state.queue.push(row, state.now())
            raise

    # ------------------------------------------------------------------------- workflows

    def start_workflow(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        correlation_id: str | None = None,
        priority: int = 0,
        definition: Mapping[str, Any] | None = None,
        task_to_domain: Mapping[str, str] | None = None,
    ) -> str:
        """Start a workflow with `payload` as its input; returns the workflow id.

        A `definition` (`workflowDef` in the request) is run without being registered, whatever `name` says.
        `task_to_domain` names the domains, separated by commas, that attempts of a task type, or of all (`*`), are for.
        """
        with self._operation("start_workflow") as state:
            check_priority(priority)
            if not name and definition is None:
                raise wire.bad_request(OPERATION, "Workflow name must be specified when searching for a definition")
            parsed = None
            if definition is not None:
                parsed = parse_workflow_definition(definition, 0, path="startWorkflow.arg0.workflowDef")
                parsed["createTime"] = definition.get("createTime") or 0
            workflow = create_workflow(
                state,
                name,
                payload,
                version=version,
                definition=parsed,
                correlation_id=correlation_id,
                priority=priority,
                task_to_domain=task_to_domain,
            )
            try:
                decide(state, workflow)
            except Exception:
                lifecycle.remove(state, workflow, archive=False)
                raise
            return workflow.workflow_id

    def workflow(self, workflow_id: str, *, include_tasks: bool = True) -> dict[str, Any]:
        """Return the workflow and its attempts as JSON."""
        with self._operation("workflow") as state:
            row = state.workflow("read workflow", workflow_id)
            return views.workflow_json(row, state.now(), include_tasks=include_tasks)

    def workflow_ids(self) -> tuple[str, ...]:
        """Return all workflows, in the order of their start."""
        with self._operation("workflow_ids") as state:
            return tuple(state.workflows)

    def search_workflows(self, query: str = "", *, start: int = 0, size: int = 100, sort: str = "") -> dict[str, Any]:
        """Return summaries of workflows: `totalHits` and a page of `results`."""
        with self._operation("search_workflows") as state:
            return views.search_workflows(state.workflows.values(), query, start=start, size=size, sort=sort)

    def now(self) -> int:
        """Return the time of the model, in milliseconds since the epoch."""
        return round(self._clock.now() * 1000)

    def decide(self, workflow_id: str) -> None:
        """Evaluate one workflow now, timeouts included."""
        with self._operation("decide") as state:
            decide(state, state.workflow("decide workflow", workflow_id))

    def sweep(self) -> None:
        """Evaluate every running workflow now, timeouts included."""
        with self._operation("sweep") as state:
            sweep(state)

    def terminate_workflow(self, workflow_id: str, reason: str | None = None) -> None:
        """End it; open attempts become CANCELED, their later results are ignored."""
        with self._operation("terminate_workflow") as state:
            lifecycle.terminate(state, state.workflow("terminate workflow", workflow_id), reason)

    def pause_workflow(self, workflow_id: str) -> None:
        """Stop scheduling steps and retries."""
        with self._operation("pause_workflow") as state:
            lifecycle.pause(state, state.workflow("pause workflow", workflow_id))

    def resume_workflow(self, workflow_id: str) -> None:
        """Undo `pause_workflow`."""
        with self._operation("resume_workflow") as state:
            lifecycle.resume(state, state.workflow("resume workflow", workflow_id))

    def retry_workflow(self, workflow_id: str, *, resume_sub_workflows: bool = False) -> None:
        """Give the failed steps of a finished workflow one more attempt each.

        A failed sub-workflow is started again, or, with `resume_sub_workflows`, its failed steps are retried.
        """
        with self._operation("retry_workflow") as state:
            workflow = state.workflow("retry workflow", workflow_id)
            retry(state, workflow, resume_sub_workflows=resume_sub_workflows)

    def restart_workflow(self, workflow_id: str, *, use_latest_definitions: bool = False) -> None:
        """Begin a finished workflow again, with new task ids."""
        with self._operation("restart_workflow") as state:
            workflow = state.workflow("restart workflow", workflow_id)
            restart(state, workflow, use_latest_definitions=use_latest_definitions)

    def rerun_workflow(
        self,
        workflow_id: str,
        from_task_id: str | None = None,
        *,
        task_input: Mapping[str, Any] | None = None,
        workflow_input: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a finished workflow again from one of its attempts, which keeps its id."""
        with self._operation("rerun_workflow") as state:
            workflow = state.workflow("rerun workflow", workflow_id)
            rerun(state, workflow, from_task_id, task_input, workflow_input)

    def skip_task(self, workflow_id: str, reference_name: str) -> None:
        """Leave out a step that has not begun."""
        with self._operation("skip_task") as state:
            lifecycle.skip(state, state.workflow("skip task", workflow_id), reference_name)

    def await_workflow(self, workflow_id: str, references: Sequence[str] = (), *, wait_seconds: float) -> bool:
        """Wait until a workflow, or an attempt of one of these steps, has finished. Return False if it takes longer.

        Only steps of the workflow itself count, not those of its sub-workflows.
        """
        end = self._clock.now() + wait_seconds

        def ask(state: State) -> bool | None:
            workflow = state.workflow("await workflow", workflow_id)
            ended = [row.reference_name for row in workflow.tasks if row.status.terminal]
            if workflow.status.terminal or any(reference in ended for reference in references):
                return True
            return False if self._is_over(end) else None

        with self._around("await_workflow"):
            return self._wait_for_answer(end, ask)

    def reset_callbacks(self, workflow_id: str) -> None:
        """Make the delayed attempts of a workflow pollable now."""
        with self._operation("reset_callbacks") as state:
            lifecycle.reset_callbacks(state, state.workflow("reset callbacks", workflow_id))

    def remove_workflow(self, workflow_id: str, *, archive: bool = True) -> None:
        """Forget a finished workflow; with `archive=False` one that still runs, too."""
        with self._operation("remove_workflow") as state:
            lifecycle.remove(state, state.workflow("remove workflow", workflow_id), archive=archive)

    def running_workflow_ids(self, name: str) -> list[str]:
        """Return the unfinished workflows of a name, whatever their version, sorted."""
        with self._operation("running_workflow_ids") as state:
            running = [row for row in state.workflows.values() if not row.status.terminal]
            return sorted(row.workflow_id for row in running if row.name == name)

    def correlated_workflows(
        self, name: str, correlation_id: str, *, include_closed: bool = False, include_tasks: bool = False
    ) -> list[dict[str, Any]]:
        """Return the workflows of a name that were started with this correlation id, sorted by id."""
        with self._operation("correlated_workflows") as state:
            rows = [row for row in state.workflows.values() if (row.name, row.correlation_id) == (name, correlation_id)]
            listed = [row for row in rows if include_closed or not row.status.terminal]
            listed.sort(key=lambda row: row.workflow_id)
            return [views.workflow_json(row, state.now(), include_tasks=include_tasks) for row in listed]


def _parse_all(definitions: Sequence[Mapping[str, Any]], now: int) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    for index, definition in enumerate(definitions):
        try:
            read = parse_workflow_definition(definition, now, path=f"{_UPDATE}.arg0[{index}]")
            parsed.append(_changed(read, definition, now))
        except wire.InvalidRequest as error:
            problems.extend(error.problems)
    if problems:
        raise wire.validation_failed("update workflow definitions", problems)
    return parsed


def _store(state: State, definition: dict[str, Any]) -> None:
    name = definition["name"]
    known = state.workflow_definitions.get(name, {})
    state.workflow_definitions[name] = {**known, definition["version"]: definition}


def _changed(parsed: dict[str, Any], definition: Mapping[str, Any], now: int) -> dict[str, Any]:
    """An update sets `updateTime` and leaves `createTime` as it was sent, 0 if it was not."""
    return parsed | {"createTime": definition.get("createTime") or 0, "updateTime": now}


def check_priority(priority: int) -> None:
    """The server checks the priority before it looks for the definition.

    Raises:
        InvalidRequest: it is out of range (400).
    """
    if not 0 <= priority <= MAX_PRIORITY:
        limit = "minimum 0" if priority < 0 else f"maximum {MAX_PRIORITY}"
        message = f"priority: {priority} should be {limit}"
        problem = {"path": "startWorkflow.arg0.priority", "message": message, "invalidValue": str(priority)}
        raise wire.validation_failed(OPERATION, [problem])


class InMemoryConductor(ConductorModel):
    """A `perago.ports.TaskQueue` in memory, and everything else of `ConductorModel`.

    Faults are scripted by the names of the methods (`"poll"`, `"report"`, `"is_current"`, ...). A long poll releases
    the lock while it waits. On a `VirtualClock` it moves time.
    """

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries; a wait of more than 5 s is cut to 5 s."""
        wait = min(max(wait_seconds, 0.0), MAX_WAIT_SECONDS)
        with self._around("poll"):
            rows = self._poll(task_name, worker_id, count=count, wait_seconds=wait)
            polled = [views.task_fields(row, self._state.now()) for row in rows]
            owned = ({**fields, "inputData": wire.copied(fields["inputData"])} for fields in polled)
            known = map(self._known_by_its_retry, map(delivery_from, owned))
            return tuple(delivery for delivery in known if delivery is not None)

    def _known_by_its_retry(self, delivery: Delivery) -> Delivery | None:
        """Return the delivery with the state of its retry. None: it was handed back, because the retry has not
        ended."""
        if not (delivery.retried or delivery.retry_count):
            return delivery
        with self._locked() as state:
            tasks = state.workflows[delivery.workflow_id].tasks
            rows = [views.task_json(row, state.now()) for row in tasks if row.reference_name == delivery.reference_name]
            known = known_by_its_retry({"tasks": rows}, delivery)
            if known is None:
                seconds = round(UNTIL_ITS_RETRY_ENDS.pause(delivery.poll_count - 1))
                later = _result(delivery, status="IN_PROGRESS", callbackAfterSeconds=seconds)
                updates.update_task(state, later)
            return known

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """Count the attempts in each queue, delayed ones included."""
        with self._operation("queue_depths") as state:
            return {name: state.queue.size(name) for name in task_names}

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the task is in progress with the identity of this delivery. A removed task is not."""
        with self._operation("is_current") as state:
            row = state.tasks.get(delivery.task_id)
            if row is None or row.status is not Status.IN_PROGRESS:
                return False
            return (row.task_id, row.poll_count, row.start_time) == delivery.identity

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:  # noqa: ARG002 - the port's
        """Return the state of any workflow, or None if it no longer exists."""
        with self._operation("read_workflow") as state:
            workflow = state.workflows.get(workflow_id)
            if workflow is None:
                return None
            tasks = [views.task_fields(row, state.now()) for row in workflow.tasks]
            return workflow_from({**views.workflow_fields(workflow), "tasks": tasks})

    def extend_lease(self, delivery: Delivery) -> None:
        """Extend the response timeout of the delivery that currently has the attempt."""
        with self._operation("extend_lease") as state:
            updates.update_task(state, _result(delivery, extendLease=True))

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give the attempt back for redelivery after `seconds` (`docs/dev/servers/conductor.md`, "Measured later")."""
        with self._operation("hand_back") as state:
            updates.update_task(state, _result(delivery, status="IN_PROGRESS", callbackAfterSeconds=seconds))

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        """Send the final status with update v1. An outdated one is ignored silently."""
        with self._operation("report") as state:
            outcome = {"status": report.status.value, "outputData": report.output, "workerId": worker_id}
            updates.update_task(state, _result(delivery, **outcome, reasonForIncompletion=report.reason))

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry. Drop an empty one, because Conductor refuses it."""
        if text:
            super().add_log(task_id, text)

    def close(self) -> None:
        """There are no resources to release."""


def _result(delivery: Delivery, **fields: Any) -> dict[str, Any]:
    return {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, **fields}
