"""When Conductor is asked for work, and who gets it: the rules, without processes."""

from __future__ import annotations

import itertools

import pytest

from perago.ports import AccessDenied, Unavailable
from perago.worker.events import ConductorBack, ConductorUnreachable, Event
from perago.worker.host import LONG_POLLS
from perago.worker.poller import (
    DELAYED_PAUSES,
    LONG_POLL_SECONDS,
    LOOK_INTERVAL,
    QUICK_PAUSES,
    Cadence,
    DelayedQueues,
    Demand,
    PollFailures,
    shares,
)

DENIED, AWAY = AccessDenied("Conductor", "poll", "no"), Unavailable("Conductor", "poll", "gone")


def looks_until(cadence: Cadence, seconds: float) -> list[float]:
    """The times of the looks that find nothing, from 0 on."""
    times: list[float] = []
    while (now := max(0.0, cadence.due())) < seconds:
        times.append(now)
        cadence.looked(now, found=False)
    return times


def test_a_worker_that_has_nothing_to_do_makes_fewer_than_sixty_requests_a_minute() -> None:
    cadence = Cadence()
    looks_until(cadence, 60)
    assert not cadence.alert
    assert len([time for time in looks_until(cadence, 120) if time >= 60]) < 60
    assert LONG_POLLS * 60 / LONG_POLL_SECONDS < 60


def test_after_work_looks_come_quickly_and_then_ever_more_slowly() -> None:
    cadence = Cadence()
    cadence.worked()
    assert cadence.alert
    times = looks_until(cadence, 10)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[: len(QUICK_PAUSES)] == pytest.approx(QUICK_PAUSES)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(pauses))
    assert max(pauses) == pytest.approx(LOOK_INTERVAL)


def test_a_slot_that_is_free_is_worth_one_look_and_no_quick_ones() -> None:
    cadence = Cadence()
    looks_until(cadence, 60)
    cadence.look_now()
    assert not cadence.alert
    assert cadence.due() <= 60
    cadence.looked(60, found=False)
    assert cadence.due() == pytest.approx(60 + LOOK_INTERVAL)


def test_a_worker_is_alert_until_the_quick_looks_are_over() -> None:
    cadence = Cadence()
    assert not cadence.alert
    cadence.worked()
    for _ in QUICK_PAUSES:
        cadence.looked(cadence.due(), found=False)
        assert cadence.alert
    cadence.looked(cadence.due(), found=False)
    assert not cadence.alert
    cadence.looked(cadence.due(), found=True)
    assert cadence.alert


# ---------------------------------------------------------------------- delayed attempts


def test_a_queue_that_delivers_nothing_is_left_alone_for_a_while_and_ever_longer() -> None:
    delayed, now, pauses = DelayedQueues(), 0.0, []
    for _ in range(4):
        assert delayed.due({"a": 2, "b": 1, "c": 0}, now) == {"a": 2, "b": 1}
        delayed.polled("a", now, depth=2, asked=2, got=0)
        begun = now
        while "a" not in delayed.due({"a": 2, "b": 1, "c": 0}, now):
            now += 0.01
        pauses.append(now - begun)
    assert pauses == pytest.approx([DELAYED_PAUSES.pause(number) for number in range(4)], abs=0.02)
    assert pauses[-1] == pytest.approx(LONG_POLL_SECONDS, abs=0.02)


def test_what_joins_a_delayed_queue_is_polled_for_at_once() -> None:
    delayed = DelayedQueues()
    delayed.polled("a", 0.0, depth=3, asked=3, got=1)
    assert delayed.due({"a": 2}, 0.1) == {}
    assert delayed.due({"a": 3}, 0.1) == {"a": 3}


@pytest.mark.parametrize(("depth", "asked", "got"), [(5, 2, 2), (2, 2, 2), (1, 4, 1), (1, 4, 3)])
def test_a_queue_that_gives_all_that_it_was_asked_for_is_not_delayed(depth: int, asked: int, got: int) -> None:
    delayed = DelayedQueues()
    delayed.polled("a", 0.0, depth=depth, asked=asked, got=got)
    assert delayed.due({"a": 1}, 0.0) == {"a": 1}


def test_an_emptied_queue_begins_anew() -> None:
    delayed = DelayedQueues()
    delayed.polled("a", 0.0, depth=1, asked=1, got=0)
    delayed.due({"a": 0}, 0.1)
    assert delayed.due({"a": 1}, 0.2) == {"a": 1}


# ------------------------------------------------------------------------------ sharing


def demand(waiting: int, running: int = 0, limit: int = 8, served: float = 0.0) -> Demand:
    return Demand(waiting, running, limit, served)


def test_free_places_go_to_the_tasks_that_have_the_fewest() -> None:
    assert shares({"busy": demand(100, running=6), "new": demand(3)}, 2) == {"new": 2}
    assert shares({"a": demand(100), "b": demand(100)}, 8) == {"a": 4, "b": 4}
    assert shares({"a": demand(100), "b": demand(1), "c": demand(100, running=1)}, 4) == {"a": 2, "b": 1, "c": 1}


def test_a_task_alone_gets_all_places_that_it_can_use() -> None:
    assert shares({"a": demand(100)}, 8) == {"a": 8}
    assert shares({"a": demand(3)}, 8) == {"a": 3}
    assert shares({"a": demand(0)}, 8) == {}


def test_a_limit_is_kept_and_leaves_the_rest_to_others() -> None:
    assert shares({"a": demand(100, limit=2), "b": demand(100)}, 8) == {"a": 2, "b": 6}
    assert shares({"a": demand(100, running=2, limit=2)}, 8) == {}


def test_a_single_place_goes_to_the_task_that_waits_for_longest() -> None:
    assert shares({"a": demand(9, served=2.0), "b": demand(9, served=1.0)}, 1) == {"b": 1}


# ----------------------------------------------------------------------------- failures


def failing(*tasks: str) -> tuple[PollFailures, list[Event]]:
    said: list[Event] = []
    return PollFailures(tasks, said.append), said


def test_trouble_is_said_once_and_its_end_when_nothing_fails_any_more() -> None:
    failures, said = failing("a", "b", "c")
    failures.failed("a", AWAY, 0.0)
    failures.failed("b", AWAY, 0.1)
    failures.failed("a", AWAY, 100.0)
    failures.succeeded("c", 100.0)
    failures.succeeded("b", 100.0)
    assert said == [ConductorUnreachable(str(AWAY), denied=False)]
    failures.succeeded("a", 107.0)
    assert said[1:] == [ConductorBack(107.0)]


def test_rejected_credentials_are_said_once_beside_an_unreachable_server_however_often_they_alternate() -> None:
    failures, said = failing("a")
    for time, error in enumerate((AWAY, DENIED, AWAY, DENIED)):
        failures.failed("a", error, 100.0 * time)
    assert [event.denied for event in said if isinstance(event, ConductorUnreachable)] == [False, True]
    failures.succeeded("a", 500.0)
    assert said[2:] == [ConductorBack(500.0)]


def test_polls_that_are_refused_for_one_task_are_said_of_that_one() -> None:
    failures, said = failing("a", "b")
    failures.failed("a", DENIED, 0.0)
    failures.idle("a", 1.0)  # no work for it, which another worker may have taken
    failures.failed("a", DENIED, 100.0)
    assert said == [ConductorUnreachable(str(DENIED), denied=True, task_name="a")]
    failures.failed("b", AWAY, 110.0)
    failures.idle("b", 111.0)
    assert said[1:] == [ConductorUnreachable(str(AWAY), denied=False), ConductorBack(1.0)]
    failures.succeeded("a", 120.0)
    assert said[3:] == [ConductorBack(120.0, "a")]


def test_polls_that_are_refused_for_every_task_are_said_of_conductor() -> None:
    failures, said = failing("a", "b")
    failures.failed("a", DENIED, 0.0)
    failures.failed("b", DENIED, 1.0)
    assert said[1:] == [ConductorUnreachable(str(DENIED), denied=True)]
    failures.succeeded("b", 3.0)
    assert said[2:] == [ConductorBack(2.0)]


def test_polls_that_fail_together_count_once_and_one_kind_does_not_hold_back_another() -> None:
    failures, _ = failing("a", "b")
    for _ in range(4):
        failures.failed("a", AWAY, 0.0)
    assert 0.5 <= failures.left("a", 0.0) <= 1.0
    assert failures.left("b", 0.0) == 0.0
    failures.failed("a", AWAY, 50.0)
    assert 1.0 <= failures.left("a", 50.0) <= 2.0
    assert "a" in failures
    assert "b" not in failures
