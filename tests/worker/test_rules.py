"""The worker's small rules, without processes: cadence, back-off, beats, restarts, words."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest

from perago.ports import TaskStatus
from perago.retry import HEALTHY_SECONDS, BackOff, RestartDelay
from perago.worker.events import (
    AttemptEnded,
    AttemptReceived,
    Cancelling,
    Ending,
    FunctionProgress,
    FunctionSaid,
    SlotDied,
    WorkerReady,
)
from perago.worker.logs import PlainLines
from perago.worker.plan import worker_id
from perago.worker.poller import BACK_OFF
from perago.worker.processes import describe_exit
from tests.deliveries import make_delivery

from .bench import make_plan

DELIVERY = make_delivery(
    task_id="t1", workflow_id="w1", reference_name="step", retry_count=2, input={"params": {"secret": 1}}
)


# ----------------------------------------------------------------------------- polling


def test_failed_polls_back_off_with_jitter_up_to_a_bound() -> None:
    random.seed(1)
    delays = [BACK_OFF.pause(failures) for failures in range(12)]
    for delay, full in zip(delays, [1, 2, 4, 8, 16, *[30] * 7], strict=True):
        assert full / 2 <= delay <= full
    assert len({delay / 30 for delay in delays[5:]}) == 7


def test_tries_pause_before_each_but_the_first_and_longer_each_time() -> None:
    told: list[float] = []
    tried = [told.copy() for _ in BackOff(0.5, 1.5).tries(4, sleep=told.append)]
    assert tried == [[], [0.5], [0.5, 1.0], [0.5, 1.0, 1.5]]


# --------------------------------------------------------------------------- restarts


def test_restarts_wait_longer_with_each_crash_in_a_row() -> None:
    delay = RestartDelay()
    assert [delay.after_crash(lived=1) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_healthy_period_ends_the_row() -> None:
    delay = RestartDelay()
    for _ in range(3):
        delay.after_crash(lived=1)
    assert delay.after_crash(lived=HEALTHY_SECONDS) == 1
    assert delay.after_crash(lived=1) == 2


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (3, "ended with exit status 3"),
        (0, "ended with exit status 0"),
        (-9, "was killed by SIGKILL (out of memory, or killed from outside)"),
        (-11, "was killed by SIGSEGV"),
        (-63, "was killed by signal 63"),
    ],
)
def test_the_end_of_a_process_is_put_into_words(exit_code: int, words: str) -> None:
    assert describe_exit(exit_code) == f"the slot's process {words}"


# ------------------------------------------------------------------------ plan and words


def test_the_supervisor_is_number_zero_and_slots_count_from_one() -> None:
    assert worker_id("abc", 12) == "abc0012"


def test_a_plan_travels_by_pickle() -> None:
    plan = make_plan(Path("/nowhere"), slots=2)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert (plan.supervisor_id, plan.slot_ids) == ("test0000", ("test0001", "test0002"))


def test_a_terminal_gets_one_line_per_attempt_with_ids_and_without_values() -> None:
    printed: list[str] = []
    lines = PlainLines(printed.append)
    lines(WorkerReady("tasks.build", "features.build", "p0000", 2, 0.5))
    lines(AttemptReceived(DELIVERY, "p0001"))
    lines(AttemptEnded(DELIVERY, "p0001", Ending.REPORTED, 1.5, None, TaskStatus.COMPLETED, "a" * 64))
    lines(AttemptEnded(DELIVERY, "p0001", Ending.REPORTED, 1.5, "KeyError: 'x'", TaskStatus.FAILED))
    lines(AttemptEnded(DELIVERY, "p0001", Ending.LOST, 2.0, "it ran too long"))
    lines(Cancelling("SIGINT", 1))
    lines(SlotDied("p0002", 17, "the slot's process ended with exit status 3", 4.0))
    assert printed == [
        "ready: features.build (tasks.build), 2 slots, polling as p0000, after 0.50 s",
        "p0001: completed features.build t1 (retry 2) in 1.50 s, workspace at aaaaaaaaaaaa",
        "p0001: failed features.build t1 (retry 2) in 1.50 s: KeyError: 'x'",
        "p0001: lost features.build t1 (retry 2) after 2.00 s, nothing was sent: it ran too long",
        "SIGINT again: cancelling 1 running; a third signal kills",
        "p0002: the slot's process ended with exit status 3 (process 17); restart in 4 s",
    ]


def test_what_a_watched_function_says_names_its_attempt_line_by_line() -> None:
    printed: list[str] = []
    lines = PlainLines(printed.append)
    lines(AttemptReceived(replace(DELIVERY, task_id="0123456789", retry_count=0), "p0001"))
    lines(AttemptReceived(DELIVERY, "p0002"))
    lines(FunctionSaid("p0001", "Traceback (most recent call last):\n  \x1b[2J\nKeyError: 'x'\n"))
    lines(FunctionProgress("p0002", 1000, 2000))
    assert printed == [
        "features.build 01234567 attempt 1 | Traceback (most recent call last):",
        "features.build 01234567 attempt 1 |   ⟨U+001B⟩[2J",
        "features.build 01234567 attempt 1 | KeyError: 'x'",
        "features.build t1 attempt 3 | progress 1,000 of 2,000",
    ]
