"""`TaskRunner`, which `perago_run` is: attempts, their ends, and the trees and the time around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from perago.testing import BadTree, Symlink, TaskRunner, TaskStatus, Unavailable

from . import tasks_for_runner
from .tasks_for_runner import CALLS, Params, copy, count, poll

TREE = {"raw/a.csv": "1\n"}


def test_an_outcome_has_the_reported_metrics(run: TaskRunner) -> None:
    outcome = run(count, Params())
    assert outcome.metrics["calls"].value == 1
    refused = run(count, Params(suffix="wrong"))
    assert refused.status is TaskStatus.FAILED
    assert "current().count('call'): task runner.count declares no such metric; did you mean 'calls'?" in str(refused)
    assert refused.metrics == {}


def test_an_outcome_is_short_when_printed_and_complete_as_text(run: TaskRunner) -> None:
    good = run(copy, tree={**TREE, "raw/b.csv": "2\n"})
    assert repr(good) == "<Outcome runner.copy COMPLETED>"
    assert good.assert_completed() is good
    assert "  files   + copy.csv\n          - raw/b.csv\n  log     call 1" in str(good)
    bad = run(copy, {"suffix": "tmp", "sufix": "csv"}, tree={**TREE, "raw/b.csv": "2\n"})
    assert repr(bad).startswith("<Outcome runner.copy FAILED: post guardrail forbid_glob('**/*.tmp')")
    with pytest.raises(AssertionError) as raised:
        bad.assert_completed()
    lines = str(raised.value).splitlines()
    assert lines == [
        f"runner.copy FAILED: {bad.reason}",
        f"  violated   {bad.reason}",
        "  satisfied  pre guardrail require_glob('raw/*.csv', min_count=1): matched 2 files",
        "  notes      Params ignores these params: /sufix (did you mean suffix?)",
        "  log        call 2",
    ]


def test_paths_are_relative_to_the_prefix_and_keys_are_not(run: TaskRunner) -> None:
    run(copy, tree=TREE)
    keys = sorted(run.lakefs.tree(run.repository, "main"))
    assert keys == ["_lakefs_actions/perago-publish-fence.yaml", "data/copy.csv", "data/raw/a.csv"]


def test_a_tree_is_a_new_repository_and_without_one_the_run_goes_on(run: TaskRunner) -> None:
    run(copy, tree={**TREE, "only/first.txt": ""})
    first = run(copy, tree=TREE)
    run(copy, Params(suffix="txt"))
    assert sorted(run.tree()) == ["copy.csv", "copy.txt", "raw/a.csv"]
    assert sorted(run.tree(str(first.commit))) == ["copy.csv", "raw/a.csv"]


def test_without_a_retry_the_state_of_the_workflow_is_reported(run: TaskRunner) -> None:
    run(count, Params(failures=1), controls={"retryCount": 0})
    with pytest.raises(LookupError, match=r"no attempt of runner\.count came within 86400 s: workflow .* is FAILED"):
        run.again()


def test_a_report_that_comes_late_but_in_time_counts(run: TaskRunner) -> None:
    outcome = run(count, report=False)
    run.conductor.advance(599)
    assert run.report(outcome).status is TaskStatus.COMPLETED


def test_a_ref_names_the_commit_to_continue_instead_of_the_head(run: TaskRunner) -> None:
    first = run(copy, tree=TREE)
    theirs = run.commit({"raw/c.csv": ""})
    joined = {"left": first.output, "right": {"workspace": {**first.output["workspace"], "ref": theirs}, "result": {}}}
    assert run(copy, ref=joined).input_ref == theirs
    outcome = run(copy, ref=[first.commit, None])
    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert f"has moved since the input ref {str(first.commit)[:12]}" in str(outcome.reason)


def test_an_error_of_the_test_is_not_hidden_by_unused_faults() -> None:
    run = TaskRunner()
    run.faults.before("merge", error=Unavailable)
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError


REF = "0" * 64
REFUSED: dict[str, tuple[Callable[[TaskRunner], object], type[Exception], str]] = {
    "a tree and a ref": (lambda run: run(copy, tree=TREE, ref=REF), TypeError, "not both"),
    "a ref of nothing": (lambda run: run(count, ref=REF), TypeError, "count has no workspace, so it takes no ref"),
    "a tree for nothing": (lambda run: run(count, tree=TREE), TypeError, "count has no workspace, so it takes no tree"),
    "a link": (lambda run: run(copy, tree={"raw/a.csv": Symlink("b")}), BadTree, r"'raw/a\.csv' is a symlink"),
    "a delivery and params": (
        lambda run: run(count, Params(), delivery=run.deliver(count)),
        TypeError,
        "a delivery has its params",
    ),
    "not a task": (lambda run: run(len), TypeError, "'len' is not a task function"),
    "a misspelt fault": (
        lambda run: run.faults.before("marge", error=Unavailable),
        ValueError,
        "fault for 'marge': there is no such call; did you mean 'merge'",
    ),
    "a cancellation without a function": (lambda run: run.cancel(), RuntimeError, "no function runs: name"),
    "a misspelt place": (lambda run: run.lose(at="logs"), ValueError, "at='logs'"),  # type: ignore[arg-type]
    "a call before the first": (lambda run: run.lose(at="log", n=0), ValueError, "n counts from 1"),
    "a step back in time": (lambda run: run.conductor.advance(-1), ValueError, "time moves forward"),
    "a delivery of nothing": (lambda run: run.conductor.next_delivery("a"), LookupError, "no workflow was started"),
    **{
        f"{name} before the first run": (methodcaller(name), LookupError, "nothing ran yet")
        for name in ("again", "redeliver", "rerun", "restart", "tree")
    },
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_an_impossible_call_is_refused_where_it_is_written(
    run: TaskRunner, call: Callable[[TaskRunner], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(run)


def test_a_task_without_a_workspace_has_no_tree_and_no_commits(run: TaskRunner) -> None:
    run(count)
    with pytest.raises(LookupError, match=r"runner\.count has no workspace"):
        run.tree()
    with pytest.raises(LookupError, match=r"runner\.count has no workspace"):
        run.commit(TREE)
    assert run.conductor.drain() == ()


def test_a_task_without_a_time_limit_never_exceeds_it(run: TaskRunner) -> None:
    run.time_out(at="log")
    with pytest.raises(ValueError, match=r"runner\.copy has no time limit"):
        run(copy, tree=TREE)


def test_nothing_stays_on_disk() -> None:
    with TaskRunner() as run:
        place = Path(run._services.workspace_root)
        run(copy, tree=TREE)
        assert place.is_dir()
    assert not place.exists()


def test_a_failure_shows_the_end_of_a_long_log_and_the_traceback(run: TaskRunner) -> None:
    outcome = run(count, {"failures": 1})
    assert 'raise TaskFailed("not yet")' in str(outcome)
    lines = str(replace(outcome, log=tuple(f"line {number}" for number in range(1_000)))).splitlines()
    assert lines[0] == "runner.count FAILED: not yet"
    assert lines[1:3] == ["  log  ... 980 earlier lines", "       line 980"]
    assert lines[21] == "       line 999"


# ----------------------------------------------------------------------------------- interruptions


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


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in a thread"])
def test_a_test_double_interrupts_the_function(
    run: TaskRunner, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """The interpreter ends the function where it runs; another thread gets no exception that is not its own."""

    def cancel() -> None:
        thread = threading.Thread(target=run.cancel)
        thread.start()
        thread.join()

    monkeypatch.setattr(tasks_for_runner, "lookup", cancel if elsewhere else run.cancel)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert run(poll, tree={}).lost_reason == "Conductor is no longer waiting for this delivery"
    assert ENDED == CALLS


def test_a_function_that_continues_too_long_is_reported(run: TaskRunner) -> None:
    run.cancel(at="progress", n=2)
    outcome = run(poll, {"suffix": "lingers"}, tree={})
    assert outcome.notes == ("The function continued for 45 s after that. A worker ends its process after 30 s.",)


@pytest.mark.parametrize(("at", "n", "reason"), [("log", 1, "cancel at log 1"), (500, 1, "cancel after 500 s")])
def test_an_interruption_that_never_comes_fails_the_test(run: TaskRunner, at: str, n: int, reason: str) -> None:
    run.cancel(at=at, n=n)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=f"the test could {reason}. Until then .* called .*progress 10"):
        run(poll, tree={})


def test_an_interruption_of_an_attempt_that_never_ran_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"no attempt ran after .* lose at log 2"), TaskRunner() as it:
        it.lose(at="log", n=2)


# ----------------------------------------------------------------------------- time and deliveries


def test_draining_leaves_attempts_that_are_not_due_in_time(run: TaskRunner) -> None:
    run(count, Params(failures=1), controls={"retryDelaySeconds": 100})
    assert run.conductor.drain(within=99) == ()
    assert len(run.conductor.drain(within=100)) == 1


def test_draining_ends_even_if_retries_never_end(run: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.testing.conductor._MOST_ATTEMPTS", 3)
    run(count, Params(failures=100), controls={"retryCount": 10})
    with pytest.raises(RuntimeError, match=r"drain: 3 attempts, and runner\.count still waits"):
        run.conductor.drain()


@pytest.mark.parametrize(
    ("controls", "seconds", "is_polled"),
    [
        pytest.param({"responseTimeoutSeconds": 7}, 7, True, id="response"),
        pytest.param({"timeoutSeconds": 9, "responseTimeoutSeconds": 9}, 9, True, id="whole task"),
        pytest.param({"totalTimeoutSeconds": 11, "timeoutPolicy": "RETRY"}, 11, True, id="all attempts"),
        pytest.param({"pollTimeoutSeconds": 13, "timeoutPolicy": "RETRY", "retryCount": 0}, 13, False, id="poll"),
    ],
)
def test_a_timeout_happens_at_its_time_however_far_time_is_moved(
    run: TaskRunner, controls: dict[str, Any], seconds: int, is_polled: bool
) -> None:
    delivery = run.deliver(count, controls=controls)
    if not is_polled:
        run.conductor.hand_back(delivery)
    run.conductor.advance(100_000)
    row = run.conductor.get_task(delivery.task_id)
    assert row["status"] == "TIMED_OUT"
    assert row["endTime"] - row["startTime" if is_polled else "scheduledTime"] == seconds * 1000


def test_a_task_that_timed_out_waits_for_its_next_attempt(run: TaskRunner) -> None:
    run(count, report=False)
    run.conductor.advance(100_000)
    assert run.conductor.queue_size("runner.count") == 1
    start = run.clock.now()
    run.again()
    assert run.clock.now() == start
