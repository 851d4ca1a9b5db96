"""`TaskRunner.race`: the branches of a fork in every order, and what is said of the order that fails."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import ExecutionLimits, TaskControls, TaskTerminalError, WorkspaceSpec, require_glob, task
from perago.testing import Branch, TaskRunner
from perago.testing.outcome import attempt_log
from perago.testing.services import InMemoryServices

from .tasks_for_runner import CALLS, count

TREE = {"raw/a.csv": "1", "raw/b.csv": "2"}
NUMBERS = itertools.count()


class Edit(BaseModel):
    put: dict[str, str] = {}
    drop: list[str] = []


class Seen(BaseModel):
    files: list[str]


def _edit(workspace: Path, params: Edit) -> Seen:
    for path in params.drop:
        (workspace / path).unlink()
    for path, text in params.put.items():
        (workspace / path).parent.mkdir(exist_ok=True)
        (workspace / path).write_text(text.replace("{number}", str(next(NUMBERS))))
    return Seen(files=sorted(path.name for path in workspace.rglob("*") if path.is_file()))


def editing(name: str, limit: int | None = None, **spec: Any) -> Any:
    """A task that edits files."""

    @task(
        name=f"race.{name}",
        owner_email="d@example.com",
        workspace=WorkspaceSpec(**spec),
        controls=TaskControls(limits=ExecutionLimits(concurrent_exec_limit=limit)),
    )
    def edit(workspace: Path, params: Edit) -> Seen:
        return _edit(workspace, params)

    return edit


clean = editing("clean", limit=1, on_moved_head="rebase")
measure = editing(
    "measure", on_moved_head="rebase", prefix="raw", reads=["b.csv"], post=[require_glob("*.csv", max_count=3)]
)
plain = editing("plain")
look = editing("look", read_only=True)
REBASE = WorkspaceSpec(on_moved_head="rebase")


class Number(BaseModel):
    fails: int


@task(name="race.calls", owner_email="d@example.com", workspace=REBASE)
def count_calls(workspace: Path, params: Number) -> Seen:
    CALLS.append("call")
    if len(CALLS) == params.fails:
        raise TaskTerminalError(f"call {len(CALLS)}")
    (workspace / "out").write_text("x")
    return Seen(files=[])


@task(name="race.draw", owner_email="d@example.com", workspace=REBASE)
def draw(workspace: Path, params: Edit) -> Seen:
    (workspace / "out").write_text("always the same")
    return Seen(files=[str(next(NUMBERS))])


def put(**files: str) -> dict[str, Any]:
    return {"put": {name.replace("_", "."): text for name, text in files.items()}}


def failure(run: TaskRunner, *branches: Branch, **options: Any) -> list[str]:
    """The lines of the message."""
    with pytest.raises(AssertionError) as raised:
        run.race(*branches, **{"tree": TREE, **options})
    return str(raised.value).splitlines()


def test_results_are_in_the_order_of_the_branches(run: TaskRunner) -> None:
    outcome = run.race((clean, Edit(drop=["raw/a.csv"])), (measure, Edit(put={"c.csv": "3"})), clean, tree=TREE)
    assert outcome.results == (
        {"files": ["b.csv"]},
        {"files": ["a.csv", "b.csv", "c.csv"]},
        {"files": ["a.csv", "b.csv"]},
    )
    assert outcome.tree == {"raw/b.csv": b"2", "raw/c.csv": b"3"}


def test_each_order_is_played_one_after_the_other_and_overtaken(
    run: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is overtaken has downloaded, run and uploaded before the other merges."""
    merges: list[tuple[str, int]] = []
    attempt = InMemoryServices.attempt

    def noted(services: InMemoryServices, *arguments: Any, **options: Any) -> Any:
        outcome = attempt(services, *arguments, **options)
        names = [step.name for step in outcome._record.steps]
        merges.append((outcome.delivery.reference_name, names.count("Merge")))
        return outcome

    monkeypatch.setattr(InMemoryServices, "attempt", noted)
    run.race((clean, put(a="1")), (clean, put(b="2")), tree=TREE)
    assert merges == [
        *(("branch1", 1), ("branch2", 1)),
        *(("branch2", 1), ("branch1", 1)),
        *(("branch1", 1), ("branch2", 2)),
        *(("branch2", 1), ("branch1", 2)),
    ]


def test_a_conflict_is_reported_with_all_orders(run: TaskRunner) -> None:
    lines = failure(run, (clean, {"put": {"raw/a.csv": "A"}}), (measure, {"put": {"a.csv": "B"}}))
    assert lines[-4:] == [
        "These also failed:",
        "  race.measure published first, then race.clean failed",
        "  race.clean published first, then race.measure failed (all were staged before the first merge)",
        "  race.measure published first, then race.clean failed (all were staged before the first merge)",
    ]


def test_a_failure_in_only_one_order_is_found(run: TaskRunner) -> None:
    """`measure` reads what `clean` writes: it is too late only if it comes second."""
    lines = failure(run, (measure, {"put": {"c.csv": "3"}}), (clean, {"put": {"raw/b.csv": "B"}}))
    assert lines[:2] == [
        "race of race.measure and race.clean: 2 of 4 runs failed",
        "race.clean published first, then race.measure failed:",
    ]
    assert "'raw/b.csv' was read by this task" in lines[2]


def test_a_rule_that_only_both_violate_is_found(run: TaskRunner) -> None:
    branches = [(measure, {"put": {name: "x"}}) for name in ("c.csv", "d.csv")]
    lines = failure(run, *branches, tree={"a.csv": "1", "b.csv": "2"})
    assert lines[1] == "race.measure (branch 1) published first, then race.measure (branch 2) failed:"
    assert lines[2].startswith("race.measure FAILED: post guardrail require_glob('*.csv'")
    assert any("This concerns the combination with commits of others" in line for line in lines)


def test_a_task_without_rebase_gets_the_advice_to_declare_it(run: TaskRunner) -> None:
    lines = failure(run, (plain, put(a="1")), (clean, put(b="2")))
    assert lines[:2] == [
        "race of race.plain and race.clean: 2 of 4 runs failed",
        "race.clean published first, then race.plain failed:",
    ]
    assert lines[-3:] == [
        "race.plain is declared to fail if others have published since its input. To have it publish on top of "
        'them, declare WorkspaceSpec(on_moved_head="rebase").',
        "These also failed:",
        "  race.clean published first, then race.plain failed (all were staged before the first merge)",
    ]


def test_a_branch_that_fails_alone_is_not_blamed_on_an_order(run: TaskRunner) -> None:
    lines = failure(run, (plain, {"drop": ["missing"]}), (clean, put(b="2")))
    assert lines[1] == "race.plain failed before any other task had published:"
    assert lines[2].startswith("race.plain FAILED: FileNotFoundError")
    assert not any("is declared to fail" in line for line in lines)
    assert any(line.endswith("in edit") for line in lines), "the traceback is missing"
    assert "These also failed:" not in lines


def test_a_branch_that_fails_while_it_overtakes_another_is_shown(run: TaskRunner) -> None:
    """The sixth call overtakes the fifth, whose attempt is lost then, for the workflow has failed."""
    lines = failure(run, (count_calls, Number(fails=6)), (count_calls, Number(fails=6)))
    assert lines[:3] == [
        "race of race.calls (branch 1) and race.calls (branch 2): 1 of 4 runs failed",
        "race.calls (branch 1) failed before any other task had published:",
        "race.calls FAILED_WITH_TERMINAL_ERROR: call 6",
    ]


def test_many_orders_that_fail_are_counted(run: TaskRunner) -> None:
    lines = failure(run, *((clean, {"put": {"out": str(number)}}) for number in range(3)))
    assert lines[0].endswith(": 12 of 12 runs failed")
    assert lines[-1] == "  and 6 more"


def test_files_that_differ_between_orders_are_named(run: TaskRunner) -> None:
    lines = failure(run, (clean, {"put": {"same": "1", "number": "{number}", "n{number}": ""}}), (clean, put(b="2")))
    assert lines[0].endswith("the published trees differ: 'number'")
    assert lines[1] == "  race.clean (branch 1) published first, then race.clean (branch 2):"
    assert lines[2].startswith("    'number' '")
    assert lines[3] == "  race.clean (branch 2) published first, then race.clean (branch 1):"
    assert lines[-1].startswith("Each function got the same input in each run")


def test_results_that_differ_between_orders_are_shown(run: TaskRunner) -> None:
    lines = failure(run, draw, clean)
    assert lines[0] == "race of race.draw and race.clean: the result of race.draw differs"
    assert lines[1].startswith("  race.draw published first, then race.clean: {'files': ['")
    assert run.race(draw, clean, tree=TREE, compare=False).tree["out"] == b"always the same"


@pytest.mark.parametrize(
    ("branches", "error", "message"),
    [
        ([clean], ValueError, "run by 2 to 4 branches, not by 1"),
        ([clean] * 5, ValueError, "a race of 5 branches has 240 runs: 120 orders, each in two ways. Race at most 4"),
        ([clean, count], ValueError, "runner.count has no workspace: it publishes nothing"),
        ([clean, look], ValueError, "race.look has a read-only workspace: it publishes nothing"),
        ([clean, _edit], TypeError, "'_edit' is not a task function"),
        ([clean, [clean, clean]], TypeError, r"branch 2 is not a branch: .* a list of branches needs a `\*` before it"),
        ([clean, (clean, {}, TREE)], TypeError, "branch 2 is not a branch"),
        ([clean, (clean, TREE.keys())], TypeError, "branch 2 is not a branch"),
    ],
)
def test_an_invalid_race_is_refused(run: TaskRunner, branches: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run.race(*branches, tree=TREE)
    assert CALLS == []


def test_paths_are_relative_to_the_prefix_that_all_share(run: TaskRunner) -> None:
    branches = [(measure, {"put": {"c.csv": "3"}}), (measure, {"put": {"out/d": "4"}})]
    assert sorted(run.race(*branches, tree={"a.csv": "1"}).tree) == ["a.csv", "c.csv", "out/d"]


def test_without_a_tree_it_continues_from_the_last_run(run: TaskRunner) -> None:
    assert run.race(clean, clean).tree == {}
    run(measure, {"put": {"c.csv": "3"}}, tree={"a.csv": "1"})
    assert run.race((clean, put(x="1")), clean).tree == {"raw/a.csv": b"1", "raw/c.csv": b"3", "x": b"1"}
    assert run.tree() == {"a.csv": b"1", "c.csv": b"3"}  # a copy


def test_a_race_leaves_the_runner_as_it_was(run: TaskRunner) -> None:
    before = run(plain, put(a="1"), tree=TREE)
    recent = list(attempt_log().outcomes)
    failure(run, (clean, put(a="1")), (clean, put(a="2")))
    assert run.last is before
    assert list(attempt_log().outcomes) == recent
    assert run.conductor.workflow_ids() == (before.delivery.workflow_id,)


def test_text_that_looks_like_an_expression_of_conductor_arrives_as_it_is(run: TaskRunner) -> None:
    assert run.race((clean, put(a="${workflow.input.x}")), clean, tree={}).tree == {"a": b"${workflow.input.x}"}
