"""What is said to Conductor about a delivery, on a thread of the report pool. Nothing here raises."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from perago.attempt.outcome import fitted, short
from perago.attempt.publication import is_mine
from perago.back_off import BackOff
from perago.driver import deliver_report
from perago.ports import Clock, Delivery, Report, ServiceError, TaskQueue, TaskStatus
from perago.worker.messages import Publishing
from perago.worker.plan import StoreFactory
from perago.workspace.directory import AttemptDirectory
from perago.workspace.errors import DirectoryRefused

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
