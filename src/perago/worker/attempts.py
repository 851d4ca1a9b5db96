"""One delivery in the supervisor: from its slot until Conductor has the result.

`Attempt.run` reads the messages of the slot, asks Conductor on its behalf, extends the lease, and reports. The slot is
free as soon as it sends `Finished`. The report, and heartbeats until it arrives, continue here. Once an attempt is lost
(given to another worker, timed out, canceled), only the end of its log is sent.

Conductor's lease extension never says that the task was lost, and a stale one extends a dead successor's lease
(`docs/dev/servers/conductor.md`, "Measured later"). So a heartbeat reads the task first, and extends only the lease of
this delivery. A missing answer is not a "no": heartbeats continue, more often, and so does the attempt. After the time
at which Conductor must have given up the delivery, the delivery is *in doubt*. That is reported once and changes
nothing else, because the attempt makes a delivery check before every step that cannot be undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perago.attempt.events import FenceState
from perago.attempt.outcome import fitted
from perago.attempt.publication import is_mine
from perago.driver import Delivered, deliver_report
from perago.driver.delivery import FRESH
from perago.ports import Clock, Delivery, Report, ServiceError, TaskQueue, TaskStatus, Unavailable
from perago.retry import BackOff
from perago.text import short
from perago.worker import events
from perago.worker.channel import AskLog, DeliveryAnswer, DeliveryQuestion, Finished, LogSoFar, Publishing
from perago.worker.host import HostCheck, Pools
from perago.worker.plan import StoreFactory, WorkerPlan
from perago.worker.slots import Assignment, ProcessEnded, Slot
from perago.workspace.directory import AttemptDirectory, DirectoryRefused
from perago.workspace.layout import says_full

MAX_INTERVAL = 60.0
MIN_PAUSE = 0.1
DOUBT_MARGIN = 1.1
"""A delivery is in doubt when its last successful heartbeat is this many response timeouts ago."""

REDELIVERY = BackOff(1.0, 60.0)
"""Delays of 1, 2, 4 ... 60 seconds before an attempt that a slot handed back is delivered again, here or elsewhere."""
MOST_DELIVERIES = 100
"""The number of deliveries after which the attempt fails instead of being handed back: about 95 minutes, if all are
handed back."""
LOG_INTERVAL = 3.0
"""Minimum seconds between two entries of a running attempt in Conductor's task log."""
LOG_LIMIT = 5.0
"""Seconds for the last entries of a lost attempt."""

HAND_BACK_DELAYS, HAND_BACK_CALLS = BackOff(0.5, 2.0), 3
LATE_REPORT = 5.0
"""Seconds after which an attempt that is being reported waits for Conductor."""
CLEAN_UP_DELAYS, CLEAN_UP_CALLS = BackOff(0.1, 0.5), 6
PUBLICATION_DELAYS, PUBLICATION_READS = BackOff(0.5, 1.5, factor=3.0), 3
"""Number of reads of the branch on which a slot may have published before it died."""
PUBLICATION_LIMIT = 10.0
"""Seconds for all these reads."""
MOST_COMMITS = 1000
"""Number of commits that are read."""
MOST_REPOSITORIES = 1000
"""The repositories that a worker remembers; those that were used last."""


@dataclass(frozen=True, slots=True)
class Services:
    """The shared objects of the poller and all attempts of a worker."""

    plan: WorkerPlan
    queue: TaskQueue
    clock: Clock
    pools: Pools
    host: HostCheck
    emit: Callable[[events.Event], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    """Runs a coroutine in the background to its end."""
    repositories: dict[str, None] = field(default_factory=dict)
    """Repositories that attempts have read, and whose staging branches are swept."""
    not_fenced: set[str] = field(default_factory=set)
    """Repositories whose missing publish fence was reported."""


def remember(repositories: dict[str, None], name: str) -> None:
    """Record that lakeFS has answered for a repository, and that an attempt is about to publish there."""
    repositories.pop(name, None)
    repositories[name] = None
    if len(repositories) > MOST_REPOSITORIES:
        del repositories[next(iter(repositories))]


class Attempt:
    """The supervisor's side of one delivery. It belongs to the event loop's thread."""

    def __init__(self, slot: Slot, assignment: Assignment, services: Services, polled_at: float) -> None:
        """`polled_at`: the time of the poll that returned the delivery, by the clock of `services`."""
        self._slot = slot
        self._assignment = assignment
        self._delivery = assignment.delivery
        self._services = services
        self._proven_at = polled_at
        self._lost: str | None = None
        self._lease: asyncio.Task[None] | None = None
        self._publishing: Publishing | None = None
        self._checking: asyncio.Task[float] | None = None
        """The delivery check of the report, which is sent ahead as soon as the merge was answered."""
        self._death: str | None = None
        """The end of the slot's process during the attempt, in words."""
        self._redelivery_seconds = 0
        self._disk = services.host.disks.get("workspaces")
        """The disk of workspaces at its begin."""
        self._asking = asyncio.Lock()
        """Held during a question of the slot, so that the slot occupies only one of the threads that heartbeats
        need."""
        self._next_log = time.monotonic() + LOG_INTERVAL
        self._logging: asyncio.Task[None] | None = None
        self._beat_began: float | None = None
        self._beat_problem = ""
        """The reason why the last heartbeat failed; empty if it was confirmed, or has no answer yet."""
        self._doubt: asyncio.TimerHandle | None = None
        self._is_timed_out = False
        """Whether its own time limit ended it and Conductor would retry it."""
        self._one_at_a_time = threading.Lock()
        """Held by a heartbeat and by a report, because an extension of the lease undoes a report that Conductor accepts
        at the same moment (docs/dev/servers/conductor.md, "Lease extension")."""

    @property
    def running(self) -> bool:
        """Whether it still occupies its slot."""
        return not self._assignment.is_over

    @property
    def seconds(self) -> float:
        """Seconds since it got its slot."""
        return time.monotonic() - self._assignment.begun

    @property
    def task_name(self) -> str:
        """The task of its delivery."""
        return self._delivery.task_name

    @property
    def waits_for(self) -> frozenset[str]:
        """The services that do not answer its slot, or the supervisor that sends its report."""
        if self.running:
            return frozenset(self._assignment.waiting)
        late = self.seconds - self._assignment.seconds > LATE_REPORT
        return frozenset({"Conductor"} if late else ())

    @property
    def beating(self) -> float:
        """Seconds since its unanswered heartbeat was sent; 0: there is no such heartbeat."""
        return 0.0 if self._beat_began is None else time.monotonic() - self._beat_began

    def lose(self, reason: str) -> None:
        """Lose the attempt: stop the slot's work, and send nothing from now on, not even a heartbeat.

        Once the slot has finished, there is nothing to stop, and the report makes its own delivery check.
        """
        self._end_lease()
        if self._lost is None and self.running:
            self._lost = reason
            self._send_to_slot(AskLog())
            self._slot.cancel(reason)

    def _send_to_slot(self, message: DeliveryAnswer | AskLog) -> None:
        if self._assignment.may_send(message):
            self._slot.send(message)

    async def run(self) -> None:
        """Watch over the attempt until it is reported or lost."""
        self._services.emit(events.AttemptReceived(self._delivery, self._assignment.worker_id))
        self._lease = asyncio.create_task(self._keep_lease())
        timer = self._start_timer()
        try:
            outcome = await self._serve()
            if timer is not None:
                timer.cancel()
            if outcome.fence is FenceState.NOT_ENFORCED:
                self._warn_not_fenced()
            if self._is_timed_out:
                await self._report(outcome, Report(TaskStatus.FAILED, reason=f"Timed out: {self._lost}"))
            elif self._lost is not None or outcome.report is None:
                await self._give_up(outcome)
            elif outcome.hand_back:
                await self._hand_back(outcome, outcome.report)
            else:
                if outcome.report.status is TaskStatus.FAILED and says_full(outcome.report.reason or ""):
                    self._services.host.ran_out(self._delivery, self._disk)
                await self._report(outcome, outcome.report)
        finally:
            self._end_lease()
            self._cancel_check()
        if self._death is not None:
            root = self._services.plan.workspace_root
            error = await self._services.pools.reports.run(clean_up, root, self._delivery)
            if error is not None:
                self._services.emit(events.CleanUpFailed(root, error))

    # ------------------------------------------------------------- while the slot works

    async def _serve(self) -> Finished:
        """Carry out the requests of the slot until it has finished. Return its outcome."""
        identity = self._delivery.identity
        while True:
            match await self._assignment.messages.get():
                case DeliveryQuestion() as question:
                    self._services.spawn(self._answer(question))
                case Publishing() as merge:
                    self._cancel_check()
                    if self._publishing is not None and merge.reason_if_killed:
                        self._checking = asyncio.create_task(self._check_ahead())
                    self._publishing = merge if merge.reason_if_killed else None
                case LogSoFar(_, text):
                    self._log(text)
                case Finished(hand_back=True) as outcome:
                    self._services.host.check_now()
                    polls = self._delivery.poll_count
                    self._redelivery_seconds = round(REDELIVERY.pause(polls - 1))
                    return replace(outcome, hand_back=polls < MOST_DELIVERIES)
                case Finished() as outcome:
                    return outcome
                case ProcessEnded(how, had_delivery=False):
                    return Finished(identity, Report(TaskStatus.FAILED, reason=how), hand_back=True)
                case ProcessEnded(how):
                    self._death = how
                    return Finished(identity, Report(TaskStatus.FAILED, reason=f"{how} while it ran the attempt"))

    async def _answer(self, question: DeliveryQuestion) -> None:
        """Ask Conductor for the slot. An error is passed on as that error. A lost attempt gets "no" immediately, to any
        question.

        An attempt that has ended gets no answer, because the slot may already have a new process with its own
        questions. The first question comes after lakeFS has answered for the repository, and when the attempt creates a
        branch there.
        """
        services, delivery = self._services, self._delivery
        if (repository := services.plan.repository_of(delivery)) is not None:
            remember(services.repositories, repository)
        answer = DeliveryAnswer(question.number)
        try:
            async with self._asking:
                if self._lost is None and self.running:  # it may have ended in the meantime
                    answer = await services.pools.questions.run(_ask, services.queue, delivery, question)
        except ServiceError as error:
            answer = DeliveryAnswer(question.number, error=error)
        except Exception as error:  # noqa: BLE001 - any error is no answer
            detail = f"{type(error).__name__}: {error}"
            answer = DeliveryAnswer(question.number, error=Unavailable("Conductor", "read the task", detail))
        self._send_to_slot(answer if self._lost is None else DeliveryAnswer(question.number))

    async def _check_ahead(self) -> float:
        """Check the delivery while the slot reads its publication back. Return the time of the question if Conductor
        waits for the delivery, else -inf, so that the report asks again."""
        asked = self._services.clock.now()
        try:
            is_current = await self._services.pools.questions.run(self._services.queue.is_current, self._delivery)
        except Exception:  # noqa: BLE001 - any error is no answer
            return -math.inf
        return asked if is_current else -math.inf

    def _cancel_check(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    async def _keep_lease(self) -> None:
        """Send heartbeats until one finds the delivery lost. Between them, only check the delivery, once in each
        `lease_check_interval` of the plan."""
        interval = beat_interval(self._delivery.response_timeout_seconds)
        pause = check_interval = min(interval, self._services.plan.lease_check_interval)
        due = time.monotonic() + interval
        self._expect_heartbeat()
        current = True
        while current:
            await asyncio.sleep(pause)
            asked, self._beat_began = self._services.clock.now(), time.monotonic()
            extend = self._beat_began + check_interval > due  # the next one would be too late
            try:
                current = await self._services.pools.questions.run(self._beat, extend)
            except Exception as error:  # noqa: BLE001 - any error is no answer
                pause, self._beat_problem = max(MIN_PAUSE, check_interval / 4), str(error)
                continue
            finally:
                self._beat_began = None
            self._expect_heartbeat()
            pause = check_interval
            if current:
                self._proven_at = asked
            if current and extend:
                due = time.monotonic() + interval
                if time.monotonic() >= self._next_log:
                    self._next_log = time.monotonic() + LOG_INTERVAL
                    self._send_to_slot(AskLog())
        self.lose("Conductor is no longer waiting for this delivery")

    def _expect_heartbeat(self) -> None:
        """Report the delivery as in doubt if no heartbeat is confirmed until Conductor must have given it up. A call
        that hangs counts like one that fails."""
        self._beat_problem = ""
        if self._doubt is not None:
            self._doubt.cancel()
        limit = self._delivery.response_timeout_seconds * DOUBT_MARGIN
        self._doubt = asyncio.get_running_loop().call_later(limit, self._report_doubt)

    def _report_doubt(self) -> None:
        reason = self._beat_problem or f"a heartbeat has had no answer for {self.beating:.0f} s"
        self._services.emit(events.LeaseDoubtful(self._delivery, self._assignment.worker_id, reason))

    def _end_lease(self) -> None:
        for heartbeats in (self._lease, self._doubt):
            if heartbeats is not None:
                heartbeats.cancel()

    def _beat(self, extend: bool) -> bool:
        """Return whether the delivery is still current. If so and if asked to, extend its lease. Runs on a thread.

        If a report is being sent, the heartbeat fails and is sent later, because waiting would keep the thread from
        other heartbeats. An attempt that was given up in the meantime extends nothing.

        Raises:
            ServiceError: there is no answer. That includes `NotFound`: only `is_current` decides that a task no longer
                exists.
        """
        if not self._one_at_a_time.acquire(blocking=False):
            raise Unavailable("Conductor", "extend the lease", "the report is on its way")
        try:
            if not self._services.queue.is_current(self._delivery):
                return False
            if extend and self._lost is None:
                self._services.queue.extend_lease(self._delivery)
            return True
        finally:
            self._one_at_a_time.release()

    def _start_timer(self) -> asyncio.TimerHandle | None:
        """Enforce the task's own time limit, which all deliveries of the attempt share.

        With the policy RETRY, the attempt is reported as failed, because Conductor itself ends it only at its response
        timeout. With the others, Conductor decides what follows. The time of earlier deliveries is measured by
        Conductor's clock, the rest by the clock of this machine. The clocks are never compared, because they can differ
        by more than the limit.
        """
        limit = self._delivery.timeout_seconds
        if limit <= 0:
            return None
        left = max(0.0, limit - self._delivery.spent_seconds)
        reason = f"it ran longer than its time limit of {limit:g} s"
        return asyncio.get_running_loop().call_later(left, self._time_out, reason)

    def _time_out(self, reason: str) -> None:
        self._is_timed_out = self._delivery.timeout_policy == "RETRY" and self._lost is None and self.running
        self.lose(reason)

    # ------------------------------------------------------------- after the slot has finished

    def _warn_not_fenced(self) -> None:
        services = self._services
        repository = services.plan.repository_of(self._delivery)
        if repository is not None and repository not in services.not_fenced:
            services.not_fenced.add(repository)
            services.emit(events.FenceNotEnforced(repository))

    async def _give_up(self, outcome: Finished) -> None:
        """Send only the rest of the log, which helps to explain the loss."""
        why = self._lost or outcome.lost_reason or "it lost its delivery"
        if self._lost is not None and self._publishing is not None:
            why = f"{why}. {self._publishing.reason_if_killed}"
        self._end(events.Ending.LOST, why, outcome)
        worker = self._assignment.worker
        await self._log_last(*outcome.log_chunks, f"[{worker} stopped this attempt: {why}]")

    async def _hand_back(self, outcome: Finished, report: Report) -> None:
        """Give the delivery to another host instead of sending a report, which would cost the attempt a retry."""
        services, why = self._services, report.reason
        self._end_lease()
        error = await services.pools.reports.run(
            hand_back, services.queue, self._delivery, self._redelivery_seconds, self._one_at_a_time
        )
        self._end(events.Ending.HANDED_BACK if error is None else events.Ending.UNREPORTED, error or why, outcome)
        worker = self._assignment.worker
        await self._log_last(f"[{worker} handed this attempt back before its function was called: {why}]")

    async def _report(self, outcome: Finished, report: Report) -> None:
        """Report, or log that the worker ended before that was done."""
        try:
            if how := report.reason if self._is_timed_out else self._death:
                report = await self._report_of_death(how) or report
            sent = await self._services.pools.reports.run(self._send, report, await self._last_proof())
            if sent == Delivered():  # after the status, so that the next step of the workflow need not wait for the log
                await self._log_last(*outcome.log_chunks, limit=None)
        except asyncio.CancelledError:
            why = "the worker was stopped before Conductor answered"
            self._end(events.Ending.UNREPORTED, why, outcome, status=report.status)
            raise
        if sent.lost_reason is not None:
            self._end(events.Ending.LOST, sent.lost_reason, outcome)
        elif sent.error is not None:
            self._end(events.Ending.UNREPORTED, sent.error, outcome, status=report.status)
        else:
            self._end(
                events.Ending.REPORTED,
                report.reason,
                outcome,
                status=report.status,
                published_commit=outcome.published_commit,
                remarks=outcome.remarks,
                fence=outcome.fence,
            )

    async def _last_proof(self) -> float:
        """Return the time of a question to Conductor that showed that it waits for the delivery. An attempt with a
        workspace may have published, so only a question after its merge counts."""
        if "workspace" not in self._delivery.input:
            return self._proven_at
        if self._checking is None:
            return -math.inf
        answered, _ = await asyncio.wait({self._checking}, timeout=FRESH)
        return self._checking.result() if answered else -math.inf

    def _send(self, report: Report, proven_at: float) -> Delivered:
        """Send the final status. Runs on a thread. `proven_at` as in `deliver_report`."""
        queue, delivery, worker = self._services.queue, self._delivery, self._assignment.worker
        try:
            clock, alone = self._services.clock, self._one_at_a_time
            return deliver_report(queue, clock, delivery, report, worker, proven_at=proven_at, alone=alone)
        except Exception as error:  # noqa: BLE001 - reported as text
            return Delivered(error=f"{type(error).__name__}: {error}")

    async def _report_of_death(self, how: str) -> Report | None:
        """Build the report for a slot that died or was ended during a merge; None: there was no merge."""
        merge, open_store = self._publishing, self._assignment.task.store_factory
        if merge is None or open_store is None:
            return None
        look = self._services.pools.reports.run(find_publication, open_store, self._delivery, merge)
        try:
            commit_id = await asyncio.wait_for(look, PUBLICATION_LIMIT)
        except TimeoutError:
            commit_id = None
        outcome = merge.reason_if_killed
        if commit_id is not None:
            where = f"on branch {merge.branch} of {merge.repository}"
            adopts = "a retry adopts it, unless another client has committed since"
            outcome = f"Commit {short(commit_id)} is {where}; {adopts}."
        return Report(TaskStatus.FAILED, reason=fitted(f"{how} while it published.", f" {outcome}"))

    def _end(self, ending: events.Ending, reason: str | None, outcome: Finished, **more: Any) -> None:
        about: dict[str, Any] = {"steps": outcome.steps, "usage": outcome.usage, **more}
        assignment = self._assignment
        ended = events.AttemptEnded(self._delivery, assignment.worker_id, ending, assignment.seconds, reason, **about)
        self._services.emit(ended)

    # ------------------------------------------------------------- Conductor's task log

    def _log(self, text: str) -> None:
        """Send an entry after the earlier ones. An error is ignored."""

        async def add(before: asyncio.Task[None] | None) -> None:
            if before is not None:
                await asyncio.wait([before])
            with contextlib.suppress(Exception):
                await self._services.pools.reports.run(self._services.queue.add_log, self._delivery.task_id, text)

        self._logging = asyncio.create_task(add(self._logging))

    async def _log_last(self, *texts: str, limit: float | None = LOG_LIMIT) -> None:
        """Send the last entries, and wait for all entries, for `limit` seconds."""
        for text in texts:
            self._log(text)
        if self._logging is not None:
            await asyncio.wait([self._logging], timeout=limit)


def beat_interval(response_timeout: float) -> float:
    """Seconds between heartbeats: a third of the response timeout, at most `MAX_INTERVAL`."""
    return max(MIN_PAUSE, min(response_timeout / 3, MAX_INTERVAL))


# ------------------------------------------------------------- on threads: nothing but `_ask` raises


def _ask(queue: TaskQueue, delivery: Delivery, question: DeliveryQuestion) -> DeliveryAnswer:
    """Return Conductor's answer to a question of the slot.

    Raises:
        ServiceError: there is no answer.
    """
    if question.read is None:
        return DeliveryAnswer(question.number, current=queue.is_current(delivery))
    return DeliveryAnswer(question.number, current=True, row=queue.read_workflow(delivery, question.read))


def hand_back(
    queue: TaskQueue, delivery: Delivery, seconds: int = 0, alone: AbstractContextManager[object] | None = None
) -> str | None:
    """Hand back a delivery, for redelivery after `seconds`. Return the problem that prevented it. Then the response
    timeout frees the delivery.

    Conductor takes a task away from any worker that has it, so each call reads first: the answer to the poll may be
    old, and a call without an answer may have been received. `alone` is entered for each call, and keeps out lease
    extensions.
    """
    problem: Exception | None = None
    for _ in HAND_BACK_DELAYS.tries(HAND_BACK_CALLS):
        try:
            with alone or nullcontext():
                if queue.is_current(delivery):
                    queue.hand_back(delivery, seconds)
        except Exception as error:  # noqa: BLE001 - reported as text
            problem = error
        else:
            return None
    return str(problem)


def clean_up(root: Path, delivery: Delivery) -> str | None:
    """Remove the leftovers of `delivery` that a dead slot process left on disk. Return what could not be removed.

    Creating the directory again removes that of a dead owner, and is refused while a dying one holds it.
    """
    problem = None
    for _ in CLEAN_UP_DELAYS.tries(CLEAN_UP_CALLS):
        try:
            return AttemptDirectory.create(root, delivery).remove()
        except (DirectoryRefused, OSError) as error:
            problem = str(error)
    return problem


def find_publication(open_store: StoreFactory, delivery: Delivery, merge: Publishing) -> str | None:
    """Return the commit that `delivery`, whose slot has died, put on the branch; None: none so far, or lakeFS does not
    answer.

    A merge can still arrive after its sender has died, so the branch is read several times.
    """
    try:
        with contextlib.closing(open_store()) as store:
            for _ in PUBLICATION_DELAYS.tries(PUBLICATION_READS):
                since = store.history(merge.repository, merge.branch, until=merge.expected_head, limit=MOST_COMMITS)
                commit_id = next((commit.id for commit in since if is_mine(commit, delivery)), None)
                if commit_id is not None:
                    return commit_id
    except Exception:  # noqa: BLE001 - then it is not known, and the words for that are there
        return None
    return None
