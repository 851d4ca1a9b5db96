"""The calls about attempts and their queues: what workers do, and what one sees of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from perago.embedded.conductor import polling, updates
from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.errors import bad_request, not_found, server_error
from perago.embedded.conductor.rows import Status, TaskRow, queue_name
from perago.embedded.conductor.searching import search_tasks
from perago.embedded.conductor.state import HistoryEntry, LastPoll, State
from perago.embedded.conductor.views import task_json

T = TypeVar("T")

MAX_WAIT_SECONDS = 5.0
"""Longest long poll that the server allows."""

SHORT_WAIT_SECONDS = 0.1
"""How long a single poll waits, and the poll inside of update v2."""


class TaskCalls(ModelCore):
    """Polls, updates, logs and queues."""

    def poll_tasks(
        self,
        task_name: str,
        worker_id: str | None = None,
        *,
        count: int = 1,
        wait_seconds: float = SHORT_WAIT_SECONDS,
        domain: str | None = None,
    ) -> list[dict[str, Any]]:
        """Batch poll: waits until `count` tasks are there or `wait_seconds` have passed on the model's clock.

        A negative `count` takes all that are due, at once. A poll for a `domain` sees that domain only, one without
        sees what is meant for none.
        """
        with self._around("poll"):
            return self._poll(task_name, worker_id, task_json, count=count, wait_seconds=wait_seconds, domain=domain)

    def get_task(self, task_id: str) -> dict[str, Any]:
        """One attempt as JSON."""
        with self._operation("get_task") as state:
            return task_json(self._row(state, task_id), state.now())

    def search_tasks(self, query: str = "", *, start: int = 0, size: int = 100, sort: str = "") -> dict[str, Any]:
        """Summaries of attempts that have ended: `totalHits` and a page of `results`."""
        with self._operation("search_tasks") as state:
            return search_tasks(state.tasks.values(), query, start=start, size=size, sort=sort, now=state.now())

    def pending_tasks(self, task_name: str, *, start: int = 0, count: int = 100) -> list[dict[str, Any]]:
        """The attempts of a type that have not ended, in all domains. A real server has no order in them."""
        with self._operation("pending_tasks") as state:
            rows = polling.listed(state, task_name)[start : start + count]
            return [task_json(row, state.now()) for row in rows]

    def update_task(self, result: Mapping[str, Any]) -> str:
        """`POST /tasks`: success does not mean that the result was accepted. Returns the task id that was sent."""
        with self._operation("update_task") as state:
            return updates.update_task(state, result)

    def update_task_v2(self, result: Mapping[str, Any]) -> dict[str, Any] | None:
        """`POST /tasks/update-v2`: the same, and then a poll for the same task type on behalf of the same worker.

        It hands out a further attempt even when the result itself was ignored, none while the attempt is not finished
        (`docs/servers/conductor.md` 7.6).
        """
        with self._around("update_task_v2"):
            with self._locked() as state:
                row = updates.finished_by(state, result)
            if row is None:
                return None
            worker_id = result.get("workerId")
            further = self._poll(
                row.task_type, worker_id, task_json, count=1, wait_seconds=SHORT_WAIT_SECONDS, domain=row.domain
            )
            return further[0] if further else None

    def update_task_by_reference(
        self,
        workflow_id: str,
        reference_name: str,
        status: str,
        output: Mapping[str, Any],
        worker_id: str | None = None,
    ) -> str | None:
        """Update the open attempt of a step; its id, or None where there is none, however unknown the names are."""
        with self._operation("update_task_by_reference") as state:
            row = updates.open_attempt(state, workflow_id, reference_name)
            return None if row is None else updates.update_row(state, row, status, output, worker_id or row.worker_id)

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry to a task's log; an unknown task id is fine, an empty text is a 500."""
        with self._operation("add_log") as state:
            if not text:
                raise server_error("add log", "Required request body is missing")
            updates.add_log(state, task_id, text, state.now())

    def task_logs(self, task_id: str) -> tuple[dict[str, Any], ...]:
        """Log entries `{log, taskId, createdTime}` in the order of their times."""
        with self._operation("task_logs") as state:
            entries = [dict(entry) for entry in state.logs.get(task_id, ())]
            return tuple(sorted(entries, key=itemgetter("createdTime")))

    def queue_size(self, task_name: str, *, domain: str | None = None) -> int:
        """Attempts that wait to be polled, delayed ones included."""
        with self._operation("queue_size") as state:
            return state.queue.size(queue_name(task_name, domain))

    def queue_sizes(self) -> dict[str, int]:
        """The sizes of all queues that are not empty."""
        with self._operation("queue_sizes") as state:
            return state.queue.sizes()

    def requeue_pending(self, task_name: str) -> int:
        """Put open attempts of a type that have lost their message back into the queue; how many there are."""
        with self._operation("requeue_pending") as state:
            return polling.requeue(state, task_name)

    def last_polls(self, task_name: str | None = None) -> tuple[LastPoll, ...]:
        """Who polled last for this type, or for all, one entry a domain."""
        with self._operation("last_polls") as state:
            polls = [poll for poll in state.last_polls.values() if task_name in (None, poll.task_name)]
            return tuple(sorted(polls, key=lambda poll: (poll.task_name, poll.domain or "")))

    def pending(self, task_name: str, *, start: int = 0, limit: int | None = None) -> tuple[dict[str, Any], ...]:
        """The attempts that wait to be polled, delayed ones included, in the order of single polls; on request only
        `limit` of them, from the one at place `start` (from 0)."""
        with self._operation("pending") as state:
            waiting = state.queue.waiting(task_name)[start : None if limit is None else start + limit]
            return tuple(task_json(state.tasks[message.task_id], state.now()) for message in waiting)

    def history(self, workflow_id: str | None = None) -> tuple[HistoryEntry, ...]:
        """What happened to the attempts of one workflow, or of all; ignored updates included."""
        with self._operation("history") as state:
            return tuple(entry for entry in state.history if workflow_id in (None, entry.workflow_id))

    def _poll(
        self,
        task_name: str,
        worker_id: str | None,
        view: Callable[[TaskRow, int], T],
        *,
        count: int,
        wait_seconds: float,
        domain: str | None = None,
    ) -> list[T]:
        if wait_seconds > MAX_WAIT_SECONDS:
            raise bad_request("poll tasks", "Long Poll Timeout value cannot be more than 5 seconds")
        end = self._clock.now() + wait_seconds
        popped: list[str] = []
        queue = queue_name(task_name, domain)

        def look(state: State) -> list[T] | None:
            wanted = count - len(popped) if count >= 0 else state.queue.size(queue)
            popped.extend(state.queue.take(queue, wanted, state.now()))
            if len(popped) < count and not self._is_over(end):
                return None
            rows = polling.hand_out(state, popped, worker_id)
            state.last_polls[task_name, domain] = LastPoll(task_name, worker_id, state.now(), domain)
            return [view(row, state.now()) for row in rows]

        try:
            return self._look_until(end, look)
        except BaseException:
            self._put_back(popped)
            raise

    def _put_back(self, task_ids: Sequence[str]) -> None:
        """No worker got them: a wait that was broken off must not swallow attempts."""
        with self._locked() as state:
            for task_id in task_ids:
                row = state.tasks.get(task_id)
                if row is not None and row.status is Status.SCHEDULED:
                    state.queue.push(row, state.now())

    @staticmethod
    def _row(state: State, task_id: str) -> TaskRow:
        row = state.tasks.get(task_id)
        if row is None:
            raise not_found("read task", f"Task not found for taskId: {task_id}")
        return row
