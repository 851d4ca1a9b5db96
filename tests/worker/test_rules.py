"""The worker's small rules, without processes: when Conductor is asked, who gets work, restarts, words."""

from __future__ import annotations

import itertools
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest

from perago.ports import AccessDenied, TaskStatus, Unavailable
from perago.retry import HEALTHY_SECONDS, BackOff, RestartDelay
from perago.worker import events
from perago.worker.host import LONG_POLLS
from perago.worker.logs import PlainLines, journalled
from perago.worker.plan import worker_id
from perago.worker.poller import (
    BACK_OFF,
    DELAYED_QUEUE_DELAYS,
    DEPTHS_INTERVAL,
    FIRST_QUICK_DELAYS,
    LONG_POLL_SECONDS,
    QUEUE_DEPTHS,
    Cadence,
    DelayedQueues,
    Demand,
    PollFailures,
    shares,
)
from perago.worker.processes import describe_exit
from tests.deliveries import make_delivery

from .bench import make_plan

DELIVERY = make_delivery(
    task_id="t1", workflow_id="w1", reference_name="step", retry_count=2, input={"params": {"secret": 1}}
)


DENIED, AWAY = AccessDenied("Conductor", "poll", "no"), Unavailable("Conductor", "poll", "gone")


def looks_until(cadence: Cadence, seconds: float) -> list[float]:
    """The times of the looks that find nothing, from 0 on."""
    times: list[float] = []
    while (now := max(0.0, cadence.due())) < seconds:
        times.append(now)
        cadence.polled(now, has_work=False)
    return times


def test_an_idle_worker_makes_fewer_than_sixty_requests_a_minute() -> None:
    cadence = Cadence()
    looks_until(cadence, 60)
    assert not cadence.expects_work
    assert len([time for time in looks_until(cadence, 120) if time >= 60]) < 60
    assert LONG_POLLS * 60 / LONG_POLL_SECONDS < 60


def test_polls_are_quick_after_work_and_then_slow_down() -> None:
    cadence = Cadence()
    cadence.worked()
    assert cadence.expects_work
    times = looks_until(cadence, 10)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[: len(FIRST_QUICK_DELAYS)] == pytest.approx(FIRST_QUICK_DELAYS)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(pauses))
    assert max(pauses) == pytest.approx(DEPTHS_INTERVAL)


def test_a_free_slot_causes_one_poll_and_no_quick_polls() -> None:
    cadence = Cadence()
    looks_until(cadence, 60)
    cadence.poll_now()
    assert not cadence.expects_work
    assert cadence.due() <= 60
    cadence.polled(60, has_work=False)
    assert cadence.due() == pytest.approx(60 + DEPTHS_INTERVAL)


def test_a_worker_is_alert_until_the_quick_polls_have_ended() -> None:
    cadence = Cadence()
    assert not cadence.expects_work
    cadence.worked()
    for _ in FIRST_QUICK_DELAYS:
        cadence.polled(cadence.due(), has_work=False)
        assert cadence.expects_work
    cadence.polled(cadence.due(), has_work=False)
    assert not cadence.expects_work
    cadence.polled(cadence.due(), has_work=True)
    assert cadence.expects_work


# ---------------------------------------------------------------------- delayed attempts


def test_a_queue_that_delivers_nothing_is_polled_after_growing_delays() -> None:
    delayed, now, pauses = DelayedQueues(), 0.0, []
    for _ in range(4):
        assert delayed.due({"a": 2, "b": 1, "c": 0}, now) == {"a": 2, "b": 1}
        delayed.polled("a", now, depth=2, asked=2, got=0)
        begun = now
        while "a" not in delayed.due({"a": 2, "b": 1, "c": 0}, now):
            now += 0.01
        pauses.append(now - begun)
    assert pauses == pytest.approx([DELAYED_QUEUE_DELAYS.pause(number) for number in range(4)], abs=0.02)
    assert pauses[-1] == pytest.approx(LONG_POLL_SECONDS, abs=0.02)


def test_attempts_that_join_a_delayed_or_empty_queue_are_polled_now() -> None:
    delayed = DelayedQueues()
    delayed.polled("a", 0.0, depth=3, asked=3, got=1)
    assert delayed.due({"a": 2}, 0.1) == {}
    assert delayed.due({"a": 3}, 0.1) == {"a": 3}
    delayed.polled("a", 0.1, depth=1, asked=1, got=0)
    assert delayed.due({"a": 1}, 0.1) == {}
    delayed.due({"a": 0}, 0.15)
    assert delayed.due({"a": 1}, 0.2) == {"a": 1}


@pytest.mark.parametrize(("depth", "asked", "got"), [(5, 2, 2), (2, 2, 2), (1, 4, 1), (1, 4, 3)])
def test_a_queue_that_gives_all_that_it_was_asked_for_is_not_delayed(depth: int, asked: int, got: int) -> None:
    delayed = DelayedQueues()
    delayed.polled("a", 0.0, depth=depth, asked=asked, got=got)
    assert delayed.due({"a": 1}, 0.0) == {"a": 1}


# ------------------------------------------------------------------------------ sharing


def demand(waiting: int, running: int = 0, limit: int = 8, served: float = 0.0) -> Demand:
    return Demand(waiting, running, limit, served)


def test_free_places_go_to_the_tasks_with_the_fewest_up_to_their_limits() -> None:
    assert shares({"busy": demand(100, running=6), "new": demand(3)}, 2) == {"new": 2}
    assert shares({"a": demand(100), "b": demand(100)}, 8) == {"a": 4, "b": 4}
    assert shares({"a": demand(100), "b": demand(1), "c": demand(100, running=1)}, 4) == {"a": 2, "b": 1, "c": 1}
    assert shares({"a": demand(100)}, 8) == {"a": 8}, "a task alone gets all places that it can use"
    assert shares({"a": demand(3)}, 8) == {"a": 3}
    assert shares({"a": demand(0)}, 8) == {}
    assert shares({"a": demand(100, limit=2), "b": demand(100)}, 8) == {"a": 2, "b": 6}
    assert shares({"a": demand(100, running=2, limit=2)}, 8) == {}
    assert shares({"a": demand(9, served=2.0), "b": demand(9, served=1.0)}, 1) == {"b": 1}, "that waits for longest"


# ----------------------------------------------------------------------------- failures


def failing(*tasks: str) -> tuple[PollFailures, list[events.Event]]:
    said: list[events.Event] = []
    return PollFailures(tasks, said.append), said


def test_a_problem_is_reported_once_and_its_end_when_no_request_fails() -> None:
    failures, said = failing("a", "b", "c")
    failures.failed("a", AWAY, 0.0)
    failures.failed("b", AWAY, 0.1)
    failures.failed("a", AWAY, 100.0)
    failures.succeeded("c", 100.0)
    failures.succeeded("b", 100.0)
    assert said == [events.ConductorUnreachable(str(AWAY), denied=False)]
    failures.succeeded("a", 107.0)
    assert said[1:] == [events.ConductorBack(107.0)]


def test_a_poll_that_hangs_is_an_outage_until_a_poll_is_answered() -> None:
    failures, said = failing("a")
    failures.hangs("a", 100.0, 5.0)
    failures.hangs(QUEUE_DEPTHS, 101.0, 0.0)
    failures.failed("a", Unavailable("Conductor", "poll for a", "no answer within the time limit"), 135.0)
    failures.succeeded("a", 140.0)
    failures.succeeded(QUEUE_DEPTHS, 140.0)
    reason = "the poll for a has had no answer for 10 s; it ends after 35 s"
    assert said == [events.ConductorUnreachable(reason, denied=False), events.ConductorBack(40.0)]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.AttemptEnded(DELIVERY, "p0001", events.Ending.REPORTED, 1.5, "x", TaskStatus.FAILED), "WARNING"),
        (
            events.AttemptEnded(
                DELIVERY, "p0001", events.Ending.REPORTED, 1.5, "x", TaskStatus.FAILED_WITH_TERMINAL_ERROR
            ),
            "ERROR",
        ),
        (events.SlotDied("p0001", 17, "killed", 4.0, DELIVERY), "WARNING"),
        (events.WaitingForLakeFS("p0001", "lakeFS does not answer", DELIVERY), "WARNING"),
        (events.LakeFSBack("p0001", "lakeFS answers again, after 9 s", DELIVERY), "INFO"),
    ],
)
def test_a_line_about_an_attempt_has_its_level_and_ids(event: events.Event, level: str) -> None:
    line_level, _, fields = journalled(event)
    assert (line_level, fields["event"]) == (level, type(event).__name__)
    assert fields["task_id"] == DELIVERY.task_id


def test_rejected_credentials_and_an_unreachable_server_are_reported_once() -> None:
    failures, said = failing("a")
    for time, error in enumerate((AWAY, DENIED, AWAY, DENIED)):
        failures.failed("a", error, 100.0 * time)
    assert [event.denied for event in said if isinstance(event, events.ConductorUnreachable)] == [False, True]
    failures.succeeded("a", 500.0)
    assert said[2:] == [events.ConductorBack(500.0)]


def test_polls_that_are_refused_for_one_task_are_a_problem_of_that_task() -> None:
    failures, said = failing("a", "b")
    failures.failed("a", DENIED, 0.0)
    failures.idle("a", 1.0)  # no work for it, which another worker may have taken
    failures.failed("a", DENIED, 100.0)
    assert said == [events.ConductorUnreachable(str(DENIED), denied=True, task_name="a")]
    failures.failed("b", AWAY, 110.0)
    failures.idle("b", 111.0)
    assert said[1:] == [events.ConductorUnreachable(str(AWAY), denied=False), events.ConductorBack(1.0)]
    failures.succeeded("a", 120.0)
    assert said[3:] == [events.ConductorBack(120.0, "a")]


def test_polls_that_are_refused_for_every_task_are_a_problem_of_conductor() -> None:
    failures, said = failing("a", "b")
    failures.failed("a", DENIED, 0.0)
    failures.failed("b", DENIED, 1.0)
    assert said[1:] == [events.ConductorUnreachable(str(DENIED), denied=True)]
    failures.succeeded("b", 3.0)
    assert said[2:] == [events.ConductorBack(2.0)]


def test_polls_that_fail_together_count_once_and_kinds_back_off_alone() -> None:
    failures, _ = failing("a", "b")
    for _ in range(4):
        failures.failed("a", AWAY, 0.0)
    assert 0.5 <= failures.left("a", 0.0) <= 1.0
    assert failures.left("b", 0.0) == 0.0
    failures.failed("a", AWAY, 50.0)
    assert 1.0 <= failures.left("a", 50.0) <= 2.0
    assert "a" in failures
    assert "b" not in failures


def test_failed_polls_back_off_with_jitter_up_to_a_bound() -> None:
    random.seed(1)
    delays = [BACK_OFF.pause(failures) for failures in range(12)]
    for delay, full in zip(delays, [1, 2, 4, 8, 16, *[30] * 7], strict=True):
        assert full / 2 <= delay <= full
    assert len({delay / 30 for delay in delays[5:]}) == 7


def test_repetitions_have_growing_delays_except_the_first_call() -> None:
    pauses: list[float] = []
    tried = [pauses.copy() for _ in BackOff(0.5, 1.5).tries(4, sleep=pauses.append)]
    assert tried == [[], [0.5], [0.5, 1.0], [0.5, 1.0, 1.5]]


# --------------------------------------------------------------------------- restarts


def test_restart_delays_grow_with_crashes_until_a_healthy_period() -> None:
    delay = RestartDelay()
    assert [delay.after_crash(lived=1) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert delay.after_crash(lived=HEALTHY_SECONDS) == 1
    assert delay.after_crash(lived=1) == 2


@pytest.mark.parametrize(
    ("exit_code", "ending"),
    [
        (3, "ended with exit status 3"),
        (0, "ended with exit status 0"),
        (-9, "was killed by SIGKILL (out of memory, or killed from outside)"),
        (-11, "was killed by SIGSEGV"),
        (-63, "was killed by signal 63"),
    ],
)
def test_the_end_of_a_process_is_put_into_words(exit_code: int, ending: str) -> None:
    assert describe_exit(exit_code) == f"the slot's process {ending}"


# ------------------------------------------------------------------------ plan and words


def test_a_plan_travels_by_pickle_and_numbers_its_supervisor_and_its_slots() -> None:
    assert worker_id("abc", 12) == "abc0012"
    plan = make_plan(Path("/nowhere"), slots=2)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert (plan.supervisor_id, plan.slot_ids) == ("test0000", ("test0001", "test0002"))


def test_a_terminal_gets_one_line_per_attempt_with_ids_and_without_values() -> None:
    printed: list[str] = []
    lines = PlainLines(printed.append)
    lines(events.WorkerReady("tasks.build", "features.build", "p0000", 2, 0.5))
    lines(events.AttemptReceived(DELIVERY, "p0001"))
    lines(events.AttemptEnded(DELIVERY, "p0001", events.Ending.REPORTED, 1.5, None, TaskStatus.COMPLETED, "a" * 64))
    lines(events.AttemptEnded(DELIVERY, "p0001", events.Ending.REPORTED, 1.5, "KeyError: 'x'", TaskStatus.FAILED))
    lines(events.AttemptEnded(DELIVERY, "p0001", events.Ending.LOST, 2.0, "it ran too long"))
    lines(events.Cancelling("SIGINT", 1))
    lines(events.SlotDied("p0002", 17, "the slot's process ended with exit status 3", 4.0))
    assert printed == [
        "ready: features.build (tasks.build), 2 slots, polling as p0000, after 500 ms",
        "p0001: completed features.build t1 (retry 2) in 1.5 s, workspace at aaaaaaaaaaaa",
        "p0001: failed features.build t1 (retry 2) in 1.5 s: KeyError: 'x'",
        "p0001: lost features.build t1 (retry 2) after 2.0 s, nothing was sent: it ran too long",
        "SIGINT again: canceling 1 running; a third signal kills",
        "p0002: the slot's process ended with exit status 3 (process 17); restart in 4 s",
    ]


def test_output_of_a_watched_function_names_its_attempt_in_each_line() -> None:
    printed: list[str] = []
    lines = PlainLines(printed.append)
    lines(events.AttemptReceived(replace(DELIVERY, task_id="0123456789", retry_count=0), "p0001"))
    lines(events.AttemptReceived(DELIVERY, "p0002"))
    lines(events.FunctionSaid("p0001", "Traceback (most recent call last):\n  \x1b[2J\nKeyError: 'x'\n"))
    lines(events.FunctionProgress("p0002", 1000, 2000))
    assert printed == [
        "features.build 01234567 attempt 1 | Traceback (most recent call last):",
        "features.build 01234567 attempt 1 |   ⟨U+001B⟩[2J",
        "features.build 01234567 attempt 1 | KeyError: 'x'",
        "features.build t1 attempt 3 | progress 1,000 of 2,000",
    ]
