"""An attempt that ends in the middle of its function: cancelled, timed out, lost."""

from __future__ import annotations

import threading
import time

import pytest

from perago.testing import TaskRunner

from . import tasks_for_runner
from .tasks_for_runner import CALLS, copy, poll

ENDED = ["begun", "cleaned up, cancelled=True"]
"""The function's `finally` ran, and no `except Exception` took the end for an error of its own."""


def test_a_cancelled_attempt_ends_in_its_function_and_publishes_nothing(run: TaskRunner) -> None:
    run.cancel(at="progress", n=3)
    outcome = run(poll, tree={})
    assert ENDED == CALLS
    assert (outcome.status, outcome.commit) == (None, None)
    assert outcome.lost_reason == "Conductor is no longer waiting for this delivery"
    assert outcome.task["status"] == "CANCELED"
    assert run.tree() == {}
    assert run._services.lakefs.list_branches(run.repository, "perago-") == ()
    with pytest.raises(LookupError, match="TERMINATED"):
        run.again()


def test_a_lost_attempt_publishes_nothing_and_its_retry_does(run: TaskRunner) -> None:
    run.lose(at="cancelled")
    before = run.clock.now()
    outcome = run(poll, tree={}, controls={"responseTimeoutSeconds": 60})
    assert "taken for an error" not in CALLS
    assert outcome.task["status"] == "TIMED_OUT"
    assert 260 < run.clock.now() - before < 265, "ten times 20 s with heartbeats, and 60 s without one"
    assert run.again().assert_completed().adopted_commit is None


def test_a_test_double_interrupts_immediately(run: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_for_runner, "lookup", run.cancel)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert run(poll, tree={}).lost_reason is not None
    assert ENDED == CALLS


def test_a_thread_of_the_function_only_announces_it(run: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter ends the function where it runs; another thread gets no exception that is not its own."""

    def elsewhere() -> None:
        thread = threading.Thread(target=run.cancel)
        thread.start()
        thread.join()

    monkeypatch.setattr(tasks_for_runner, "lookup", elsewhere)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    outcome = run(poll, tree={})
    assert CALLS[-1] == "cleaned up, cancelled=True"
    assert (outcome.lost_reason, outcome.commit) == ("Conductor is no longer waiting for this delivery", None)


def test_a_function_that_continues_too_long_is_reported_with_the_reaction_of_a_worker(run: TaskRunner) -> None:
    run.cancel(at="progress", n=2)
    outcome = run(poll, {"suffix": "lingers"}, tree={})
    assert outcome.notes == ("The function continued for 45 s after that. A worker ends its process after 30 s.",)


@pytest.mark.parametrize(("at", "n", "words"), [("log", 1, "cancel at log 1"), (500, 1, "cancel after 500 s")])
def test_an_interruption_that_never_comes_fails_the_test(run: TaskRunner, at: str, n: int, words: str) -> None:
    run.cancel(at=at, n=n)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=f"the test could {words}. Until then .* called .*progress 10"):
        run(poll, tree={})


def test_an_interruption_of_an_attempt_that_never_ran_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"no attempt ran after .* lose at log 2"), TaskRunner() as it:
        it.lose(at="log", n=2)


def test_impossible_declarations_are_refused_where_they_are_written(run: TaskRunner) -> None:
    with pytest.raises(RuntimeError, match="no function runs: name"):
        run.cancel()
    with pytest.raises(ValueError, match="at='logs'"):
        run.lose(at="logs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n counts from 1"):
        run.lose(at="log", n=0)
    run.time_out(at="log")
    with pytest.raises(ValueError, match=r"runner\.copy has no time limit"):
        run(copy, tree={"raw/a.csv": "1"})
