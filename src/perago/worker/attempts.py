"""One delivery in the supervisor's care: from a slot to the report, with its heartbeat and its lease.

The slot is free as soon as it says `Finished`; the report, and the heartbeat until it is through, continue here.
Once an attempt is lost (not ours any more, over its time, cancelled) nothing is sent for it but the end of its log.

Conductor's lease extension never says that the task was lost, and a stale one keeps a dead successor's lease alive
(`docs/servers/conductor.md` 9). So a beat reads the task first and extends only what is still this delivery.

No answer is not a "no": beats continue, more often, and so does the attempt. Once Conductor must have given the
delivery up (its response time-out passed without a successful beat) the delivery is *in doubt*. That is said once and
changes nothing, since the attempt asks its own delivery question before every step that cannot be taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perago.attempt.events import FenceState
from perago.attempt.outcome import fitted
from perago.attempt.publication import is_mine
from perago.attempt.refusals import short
from perago.driver import deliver_report
from perago.ports import Clock, Delivery, Report, ServiceError, TaskQueue, TaskStatus, Unavailable
from perago.retry import BackOff
from perago.worker.channel import DeliveryAnswer, DeliveryQuestion, Finished, Publishing
from perago.worker.events import AttemptEnded, AttemptReceived, CleanUpFailed, Ending, Event, LeaseDoubtful
from perago.worker.maintenance import HostCheck
from perago.worker.plan import StoreFactory, WorkerPlan
from perago.worker.pools import Pools
from perago.worker.slots import Slot
from perago.workspace.directory import AttemptDirectory
from perago.workspace.scan import DirectoryRefused

REDELIVERY = BackOff(1.0, 60.0)
"""1, 2, 4 ... 60 seconds before an attempt that a slot handed back comes again, here or elsewhere."""
MOST_DELIVERIES = 100
"""The last one fails instead of being handed back: after about 95 minutes, if a slot handed all others back."""
LOG_INTERVAL = 3.0
"""Seconds at least between two entries of a running attempt in Conductor's task log."""
LOG_LIMIT = 5.0
"""Seconds for the last entries of a lost attempt."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every attempt of a worker shares."""

    plan: WorkerPlan
    queue: TaskQueue
    clock: Clock
    pools: Pools
    host: HostCheck
    emit: Callable[[Event], None]
    not_fenced: Callable[[Delivery], None]
    """Is told of each attempt whose server does not run the publish fence."""


class Attempt:
    """Belongs to the event loop's thread. `run` is its life; everything else is told to it by its slot and timers."""

    def __init__(self, delivery: Delivery, slot: Slot, services: Services, polled_at: float) -> None:
        """`polled_at`: when Conductor was asked for what it delivered, by the clock of `services`."""
        self.delivery = delivery
        self._slot = slot
        self._services = services
        self._worker_id = slot.worker_id
        self._started = time.monotonic()
        self._seconds = 0.0
        self._proven_at = polled_at
        self._lost: str | None = None
        self._over: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._lease: asyncio.Task[None] | None = None
        self._publishing: Publishing | None = None
        self._death: str | None = None
        self._redelivery_seconds = 0
        self._asking = asyncio.Lock()
        """Held for each question of the slot, which thereby occupies one thread of those that heartbeats need."""
        self._next_log = self._started + LOG_INTERVAL
        self._logging: asyncio.Task[None] | None = None
        self._beat_began: float | None = None
        self._one_at_a_time = threading.Lock()
        """Held by a beat and by a report: an extension of the lease undoes a report that Conductor takes at the same
        moment (docs/servers/conductor.md 3)."""

    # ------------------------------------------------------------- told by the slot

    def finished(self, message: Finished) -> None:
        """The slot is done and free again."""
        if message.hand_back:
            self._services.host.check_now()
            polls = self.delivery.poll_count
            self._redelivery_seconds = round(REDELIVERY.pause(polls - 1))
            message = replace(message, hand_back=polls < MOST_DELIVERIES)
        self._end(message)

    def process_died(self, how: str) -> None:
        """The slot's process is gone, and with it its process group."""
        self._death = how
        report = Report(TaskStatus.FAILED, reason=f"{how} while it ran the attempt")
        self._end(Finished(self.delivery.identity, report))

    def not_taken(self, how: str) -> None:
        """The slot's process ended before it had read the delivery, so that nothing of the attempt has run."""
        self._end(Finished(self.delivery.identity, Report(TaskStatus.FAILED, reason=how), hand_back=True))

    def publishing(self, message: Publishing) -> None:
        """Its merge is about to be sent, or was answered."""
        self._publishing = message if message.words else None

    def said(self, text: str) -> None:
        """An entry for Conductor's task log, after those before it. What stands in its way is no reason to do more."""
        self._logging = asyncio.create_task(self._log(text, self._logging))

    async def _log(self, text: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        with contextlib.suppress(Exception):
            await self._services.pools.reports.run(self._services.queue.add_log, self.delivery.task_id, text)

    def _end(self, message: Finished) -> None:
        if not self._over.done():
            self._seconds = time.monotonic() - self._started
            self._over.set_result(message)

    async def answer(self, question: DeliveryQuestion) -> None:
        """Ask Conductor for the slot. An error travels as that error; a lost attempt gets its "no" at once, to any
        question.

        An attempt that is over gets no answer: by then the slot may have another process with questions of its own.
        """
        answer = DeliveryAnswer(question.number)
        if self._lost is None and question.identity == self.delivery.identity:
            queue, pool = self._services.queue, self._services.pools.questions
            try:
                async with self._asking:
                    is_open = self._lost is None and not self._over.done()  # it may have ended in the meantime
                    if is_open and question.read is not None:
                        read = queue.read_workflow if question.is_workflow else queue.read_attempt
                        row = await pool.run(read, self.delivery, question.read)
                        answer = DeliveryAnswer(question.number, current=True, row=row)
                    elif is_open:
                        current = await pool.run(queue.is_current, self.delivery)
                        answer = DeliveryAnswer(question.number, current=current)
            except ServiceError as error:
                answer = DeliveryAnswer(question.number, error=error)
            except Exception as error:  # noqa: BLE001 - any error is no answer
                detail = f"{type(error).__name__}: {error}"
                answer = DeliveryAnswer(question.number, error=Unavailable("Conductor", "read the task", detail))
        if not self._over.done():
            self._slot.answer(answer if self._lost is None else DeliveryAnswer(question.number))

    # --------------------------------------------------------------------- its life

    def lose(self, reason: str) -> None:
        """The attempt must not continue: stop the slot's work, and send nothing from now on, not even a heartbeat.

        Once the slot is done there is nothing to stop, and the report asks its own delivery question.
        """
        if self._lease is not None:
            self._lease.cancel()
        if self._lost is None and not self._over.done():
            self._lost = reason
            self._slot.cancel(reason)

    @property
    def running(self) -> bool:
        """Whether it still occupies its slot."""
        return not self._over.done()

    @property
    def beating(self) -> float:
        """Seconds that its heartbeat has been on its way; 0: none is."""
        return 0.0 if self._beat_began is None else time.monotonic() - self._beat_began

    async def run(self) -> None:
        """Watch over the attempt until it is reported or lost."""
        emit = self._services.emit
        emit(AttemptReceived(self.delivery, self._worker_id))
        self._lease = asyncio.create_task(self._keep_lease())
        timer = self._start_timer()
        try:
            outcome = await self._over
            if timer is not None:
                timer.cancel()
            if outcome.fence is FenceState.NOT_ENFORCED:
                self._services.not_fenced(self.delivery)
            if self._lost is not None or outcome.report is None:
                await self._lost_words(outcome)
            elif outcome.hand_back:
                await self._hand_back(outcome, outcome.report)
            else:
                await self._make_known(outcome, outcome.report)
        finally:
            self._lease.cancel()
        if self._death is not None:
            await self._clean_up()

    async def _make_known(self, outcome: Finished, report: Report) -> None:
        """Report, or say that the worker ended before that was done."""
        try:
            words = await self._last_words() if self._death is not None else None
            await self._report(outcome, words or report)
        except asyncio.CancelledError:
            why = "the worker was told to stop before Conductor had answered"
            self._ended(Ending.UNREPORTED, why, outcome, status=report.status)
            raise

    async def _hand_back(self, outcome: Finished, report: Report) -> None:
        """Let another host have the delivery instead of sending the report, which would cost the attempt a retry."""
        services, why = self._services, report.reason
        if self._lease is not None:
            self._lease.cancel()
        seconds = self._redelivery_seconds
        error = await services.pools.reports.run(hand_back, services.queue, self.delivery, seconds, self._one_at_a_time)
        self._ended(Ending.HANDED_BACK if error is None else Ending.UNREPORTED, error or why, outcome)
        self.said(f"[{self._worker_id} handed this attempt back before its function was called: {why}]")
        await self._logged()

    async def _last_words(self) -> Report | None:
        """What a slot that died with a merge under way would have said of it."""
        merge, open_store = self._publishing, self._slot.task.store_factory
        if merge is None or open_store is None:
            return None
        look = self._services.pools.reports.run(find_publication, open_store, self.delivery, merge)
        try:
            commit_id = await asyncio.wait_for(look, LOOK_LIMIT)
        except TimeoutError:
            commit_id = None
        return report_death(self._death or "", merge, commit_id)

    async def _lost_words(self, outcome: Finished) -> None:
        """What a lost attempt has said is of use to those who look into the loss."""
        why = self._why_lost(outcome)
        self._ended(Ending.LOST, why, outcome)
        for text in (*outcome.log_chunks, f"[{self._worker_id} stopped this attempt: {why}]"):
            self.said(text)
        await self._logged()

    async def _logged(self) -> None:
        if self._logging is not None:
            await asyncio.wait([self._logging], timeout=LOG_LIMIT)

    def _why_lost(self, outcome: Finished) -> str:
        """What became of its merge is said in any case."""
        if self._lost is None:
            return outcome.lost_reason or "it lost its delivery"
        return f"{self._lost}. {self._publishing.words}" if self._publishing is not None else self._lost

    async def _clean_up(self) -> None:
        services = self._services
        error = await services.pools.reports.run(clean_up, services.plan.workspace_root, self.delivery)
        if error is not None:
            services.emit(CleanUpFailed(services.plan.workspace_root, error))

    async def _keep_lease(self) -> None:
        services = self._services

        async def ask() -> bool:
            asked, self._beat_began = services.clock.now(), time.monotonic()
            try:
                current = await services.pools.questions.run(self._beat)
            finally:
                self._beat_began = None
            if current:
                self._proven_at = asked
            if current and time.monotonic() >= self._next_log:
                self._next_log = time.monotonic() + LOG_INTERVAL
                self._slot.ask_log()
            return current

        def doubt(reason: str) -> None:
            services.emit(LeaseDoubtful(self.delivery, self._worker_id, reason))

        await keep_lease(self.delivery, ask, doubt)
        self.lose("Conductor is no longer waiting for this delivery")

    def _beat(self) -> bool:
        """One that meets a report is made later: waiting for it would keep a thread from the beats of others."""
        if not self._one_at_a_time.acquire(blocking=False):
            raise Unavailable("Conductor", "extend the lease", "the report is on its way")
        try:
            return beat(self._services.queue, self.delivery, lambda: self._lost is None)
        finally:
            self._one_at_a_time.release()

    def _ended(self, ending: Ending, reason: str | None, outcome: Finished, **more: Any) -> None:
        told = {"steps": outcome.steps, "usage": outcome.usage, **more}
        self._services.emit(AttemptEnded(self.delivery, self._worker_id, ending, self._seconds, reason, **told))

    def _start_timer(self) -> asyncio.TimerHandle | None:
        """Enforce the task's own time limit, which all deliveries of the attempt share. What follows is Conductor's
        decision. What earlier deliveries have spent is measured by Conductor's clock, the rest by ours: the two are
        never compared, since they may differ by more than the limit.
        """
        limit = self.delivery.timeout_seconds
        if limit <= 0:
            return None
        left = max(0.0, limit - self.delivery.spent_seconds)
        reason = f"it ran longer than its time limit of {limit:g} s"
        return asyncio.get_running_loop().call_later(left, self.lose, reason)

    async def _report(self, outcome: Finished, report: Report) -> None:
        services, has_workspace = self._services, "workspace" in self.delivery.input
        result = await services.pools.reports.run(
            send_report,
            services.queue,
            services.clock,
            self.delivery,
            report,
            self._worker_id,
            outcome.log_chunks,
            -math.inf if has_workspace else self._proven_at,
            self._one_at_a_time,
        )
        if result.lost is not None:
            self._ended(Ending.LOST, result.lost, outcome)
        elif result.error is not None:
            self._ended(Ending.UNREPORTED, result.error, outcome, status=report.status)
        else:
            self._ended(
                Ending.REPORTED,
                report.reason,
                outcome,
                status=report.status,
                published_commit=outcome.published_commit,
                remarks=outcome.remarks,
                fence=outcome.fence,
            )


HAND_BACK, HAND_BACK_TRIES = BackOff(0.5, 2.0), 3
CLEAN_UP, CLEAN_UP_TRIES = BackOff(0.1, 0.5), 6
LOOK, LOOKS = BackOff(0.5, 1.5, factor=3.0), 3
"""At the branch on which a slot may have published before it died."""
LOOK_LIMIT = 10.0
"""Seconds for all of them."""
LOOK_BACK = 1000
"""Commits that are looked through."""
WAKING_INTERVAL = 0.5
"""Seconds after which a sleeper notices that it may wake up."""


class GivenUpError(Exception):
    """The worker ends now, even if something has not been said to Conductor."""


class EndingClock:
    """A clock whose sleepers can be woken for good: a report may be tried for hours, and a worker must be able to
    end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended = threading.Event()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed.

        Raises:
            GivenUpError: `end` was called, before or meanwhile.
        """
        while not self._ended.is_set():
            if seconds <= 0:
                return
            self._clock.sleep(min(seconds, WAKING_INTERVAL))
            seconds -= WAKING_INTERVAL
        raise GivenUpError("the worker was told to stop before Conductor had answered")

    def end(self) -> None:
        """Let every sleep end, now and later. For any thread."""
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Sent:
    """How a report went: through, refused because the delivery was lost, or not deliverable."""

    lost: str | None = None
    error: str | None = None


def send_report(
    queue: TaskQueue,
    clock: Clock,
    delivery: Delivery,
    report: Report,
    worker_id: str,
    log_chunks: Sequence[str],
    proven_at: float,
    alone: AbstractContextManager[object],
) -> Sent:
    """Send the final status, then the log: the next step of the workflow must not wait for the log.

    Args:
        queue: the Conductor that waits for the report.
        clock: whose time passes between tries (`perago.driver.deliver_report`).
        delivery: whose report it is.
        report: what to send.
        worker_id: the slot's, which the result carries.
        log_chunks: entries for Conductor's task log, sent after the report got through.
        proven_at: when the delivery was last known to be current (`perago.driver.deliver_report`).
        alone: entered for each report (`perago.driver.deliver_report`).

    Returns:
        How it went. Nothing is raised.
    """
    try:
        delivered = deliver_report(queue, clock, delivery, report, worker_id, proven_at=proven_at, alone=alone)
    except Exception as error:  # noqa: BLE001 - reported as text
        return Sent(error=f"{type(error).__name__}: {error}")
    if delivered.lost_reason is not None:
        return Sent(lost=delivered.lost_reason)
    if delivered.error is not None:
        return Sent(error=delivered.error)
    with contextlib.suppress(ServiceError):  # a result without its log is still a result
        for chunk in log_chunks:
            queue.add_log(delivery.task_id, chunk)
    return Sent()


def clean_up(root: Path, delivery: Delivery) -> str | None:
    """Remove what a dead slot process left of `delivery` on disk; returns what could not be removed.

    Making the directory anew removes a dead owner's, and is refused as long as a dying one holds it.
    """
    problem = None
    for _ in CLEAN_UP.tries(CLEAN_UP_TRIES):
        try:
            return AttemptDirectory.create(root, delivery).remove()
        except (DirectoryRefused, OSError) as error:
            problem = str(error)
    return problem


def find_publication(open_store: StoreFactory, delivery: Delivery, merge: Publishing) -> str | None:
    """The commit that `delivery`, whose slot has died, put on the branch; None: none so far, or lakeFS does not say.

    A merge may be under way when its sender dies, so it gets a moment.
    """
    try:
        with contextlib.closing(open_store()) as store:
            for _ in LOOK.tries(LOOKS):
                since = store.history(merge.repository, merge.branch, until=merge.expected_head, limit=LOOK_BACK)
                found = next((commit.id for commit in since if is_mine(commit, delivery)), None)
                if found is not None:
                    return found
    except Exception:  # noqa: BLE001 - then it is not known, and the words for that are there
        return None
    return None


def report_death(how: str, merge: Publishing, commit_id: str | None) -> Report:
    """The report for an attempt whose slot died with `merge` under way, or done as `commit_id`."""
    words = merge.words
    if commit_id is not None:
        where = f"on branch {merge.branch} of {merge.repository}"
        words = f"Commit {short(commit_id)} is {where}; a retry takes it over, unless others have committed since."
    return Report(TaskStatus.FAILED, reason=fitted(f"{how} while it published.", f" {words}"))


def hand_back(
    queue: TaskQueue, delivery: Delivery, seconds: int = 0, alone: AbstractContextManager[object] | None = None
) -> str | None:
    """Hand a delivery back, for redelivery after `seconds`; returns what prevented it, after which its response timeout
    decides.

    Conductor takes a task away from any worker that has it, so each call reads first: the answer to the poll may be
    old, and a call without an answer may have been received. `alone` is entered for each call: an extension of the
    lease stays out of it.
    """
    problem: Exception | None = None
    for _ in HAND_BACK.tries(HAND_BACK_TRIES):
        try:
            with alone or nullcontext():
                if queue.is_current(delivery):
                    queue.hand_back(delivery, seconds)
        except Exception as error:  # noqa: BLE001 - reported as text
            problem = error
        else:
            return None
    return str(problem)


MAX_INTERVAL = 60.0
MIN_PAUSE = 0.1
DOUBT_MARGIN = 1.1
"""A delivery is in doubt when its last successful beat is this many response time-outs ago."""


def beat_interval(response_timeout: float) -> float:
    """Seconds between beats: a third of the response time-out, at most `MAX_INTERVAL` (docs/design/contract.md 7)."""
    return max(MIN_PAUSE, min(response_timeout / 3, MAX_INTERVAL))


def beat(queue: TaskQueue, delivery: Delivery, wanted: Callable[[], bool]) -> bool:
    """Extend the lease of `delivery` if it is still ours, and say whether it is.

    `wanted` is asked last: an attempt that was given up in the meantime sends nothing more.

    Raises:
        ServiceError: neither yes nor no. Also `NotFound`: that a task is gone is for `is_current` to say.
    """
    if not queue.is_current(delivery):
        return False
    if wanted():
        queue.extend_lease(delivery)
    return True


async def keep_lease(delivery: Delivery, beat: Callable[[], Awaitable[bool]], doubt: Callable[[str], None]) -> None:
    """Beat until a beat says that the delivery is lost. `doubt` is told once per silence why none got through."""
    interval = beat_interval(delivery.response_timeout_seconds)
    silence_limit = delivery.response_timeout_seconds * DOUBT_MARGIN
    last_success = time.monotonic()
    doubtful = False
    pause = interval
    while True:
        await asyncio.sleep(pause)
        try:
            still_ours = await beat()
        except Exception as error:  # noqa: BLE001 - any error is no answer
            pause = max(MIN_PAUSE, interval / 4)
            if not doubtful and time.monotonic() - last_success > silence_limit:
                doubtful = True
                doubt(str(error))
            continue
        if not still_ours:
            return
        last_success, doubtful, pause = time.monotonic(), False, interval
