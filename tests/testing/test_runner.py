"""`TaskRunner`, which `perago_run` is: attempts, what comes after them, and the trees around them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perago.testing import BadTree, Symlink, TaskRunner, TaskStatus, Unavailable

from .tasks_for_runner import Params, copy, count

TREE = {"raw/a.csv": "1\n"}


def test_an_outcome_has_the_reported_metrics(run: TaskRunner) -> None:
    outcome = run(count, Params())
    assert outcome.metrics["calls"].value == 1
    refused = run(count, Params(suffix="wrong"))
    assert refused.status is TaskStatus.FAILED
    assert "current().count('call'): task runner.count declares no such metric; did you mean 'calls'?" in str(refused)
    assert refused.metrics == {}


def test_an_outcome_describes_the_attempt(run: TaskRunner) -> None:
    outcome = run(copy, Params(), tree={**TREE, "raw/b.csv": "2\n"})
    assert outcome.status is TaskStatus.COMPLETED
    assert outcome.result == {"calls": 1}
    assert outcome.output["workspace"]["ref"] == outcome.commit
    assert (outcome.changed_files, outcome.removed_files) == (("copy.csv",), ("raw/b.csv",))
    assert [finding.satisfied for finding in outcome.findings] == [True, True]
    assert outcome.log == ("call 1",)
    assert run.tree() == {"copy.csv": b"1\n", "raw/a.csv": b"1\n"}


def test_an_outcome_is_short_when_printed_and_complete_as_text(run: TaskRunner) -> None:
    good = run(copy, tree=TREE)
    assert repr(good) == "<Outcome runner.copy COMPLETED>"
    assert good.assert_completed() is good
    assert "  files   + copy.csv\n  log     call 1" in str(good)
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


def test_a_failed_outcome_has_the_traceback_of_the_function(run: TaskRunner) -> None:
    text = str(run(count, {"failures": 1}))
    assert text.splitlines()[0] == "runner.count FAILED: not yet"
    assert 'raise TaskFailed("not yet")' in text


def test_paths_are_relative_to_the_prefix_and_keys_are_not(run: TaskRunner) -> None:
    run(copy, tree=TREE)
    keys = sorted(run.lakefs.tree(run.repository, "main"))
    assert keys == ["_lakefs_actions/perago-publish-fence.yaml", "data/copy.csv", "data/raw/a.csv"]


def test_each_tree_has_a_repository_of_its_own(run: TaskRunner) -> None:
    run(copy, tree={**TREE, "only/first.txt": ""})
    run(copy, tree=TREE)
    assert sorted(run.tree()) == ["copy.csv", "raw/a.csv"]


def test_without_a_tree_the_next_run_goes_on_from_the_head(run: TaskRunner) -> None:
    first = run(copy, tree=TREE)
    second = run(copy, Params(suffix="txt"))
    assert second.input_ref == first.commit
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


def test_a_ref_comes_without_a_tree_and_to_a_task_with_a_workspace(run: TaskRunner) -> None:
    with pytest.raises(TypeError, match="not both"):
        run(copy, tree=TREE, ref="0" * 64)
    with pytest.raises(TypeError, match=r"runner\.count has no workspace, so it takes no ref"):
        run(count, ref="0" * 64)


def test_a_delivery_is_the_only_result_of_its_poll(run: TaskRunner) -> None:
    delivery = run.deliver(count)
    with pytest.raises(TypeError, match="a delivery has its params"):
        run(count, Params(), delivery=delivery)


def test_a_fault_with_a_misspelt_name_is_refused_where_it_is_written(run: TaskRunner) -> None:
    with pytest.raises(ValueError, match="fault for 'marge': there is no such call; did you mean 'merge'"):
        run.faults.before("marge", error=Unavailable)


def test_a_fault_that_never_happened_is_an_error_at_the_end() -> None:
    run = TaskRunner()
    run.faults.before("merge", nth=2, error=Unavailable)
    run(copy, tree=TREE)
    with pytest.raises(
        AssertionError, match="faults that no call triggered: merge #2, before it takes effect: Unavailable"
    ):
        run.__exit__(None, None, None)


def test_an_error_of_the_test_is_not_hidden_by_unused_faults() -> None:
    run = TaskRunner()
    run.faults.before("merge", error=Unavailable)
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError


@pytest.mark.parametrize("name", ["again", "redeliver", "rerun", "restart", "tree"])
def test_nothing_comes_before_the_first_run(run: TaskRunner, name: str) -> None:
    with pytest.raises(LookupError, match="nothing ran yet"):
        getattr(run, name)()


def test_a_non_task_function_is_refused(run: TaskRunner) -> None:
    with pytest.raises(TypeError, match="'len' is not a task function"):
        run(len)


def test_a_task_without_a_workspace_has_no_tree(run: TaskRunner) -> None:
    with pytest.raises(TypeError, match=r"runner\.count has no workspace, so it takes no tree"):
        run(count, tree=TREE)
    run(count)
    with pytest.raises(LookupError, match=r"runner\.count has no workspace"):
        run.tree()
    with pytest.raises(LookupError, match=r"runner\.count has no workspace"):
        run.commit(TREE)


def test_a_symlink_cannot_be_committed(run: TaskRunner) -> None:
    with pytest.raises(BadTree, match=r"'raw/a\.csv' is a symlink"):
        run(copy, tree={"raw/a.csv": Symlink("b.csv")})


def test_nothing_stays_on_disk() -> None:
    with TaskRunner() as run:
        place = Path(run._services.workspace_root)
        run(copy, tree=TREE)
        assert place.is_dir()
    assert not place.exists()


def test_a_failure_shows_the_end_of_a_long_log(run: TaskRunner) -> None:
    outcome = run(count, {"failures": 1})
    told = str(replace(outcome, log=tuple(f"line {number}" for number in range(1_000)))).splitlines()
    assert told[1:3] == ["  log  ... 980 earlier lines", "       line 980"]
    assert told[21] == "       line 999"
