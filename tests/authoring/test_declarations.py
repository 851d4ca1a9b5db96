"""WorkspaceSpec, TaskControls and Example refuse at import what could not work."""

# The declarations below are wrong on purpose, and type checkers see it.
# mypy: disable-error-code="arg-type, call-arg, dict-item, list-item"

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from perago import (
    Example,
    ExecutionLimits,
    PublishBudget,
    RetryPolicy,
    TaskControls,
    TaskDefinitionError,
    TimeoutPolicy,
    WorkspaceSpec,
    require_file,
)

LARGE = 2**31


def budget(**changes: Any) -> PublishBudget:
    """A valid budget: 30 + 10 + 15 + 5 = 60 seconds of response timeout."""
    fields: dict[str, Any] = {
        "observed_merge_p99_seconds": 12.5,
        "safety_margin_seconds": 7.5,
        "lakefs_merge_timeout_seconds": 30,
        "conductor_completion_timeout_seconds": 10,
        "worker_shutdown_grace_seconds": 15,
        "heartbeat_interval_seconds": 5,
    }
    return PublishBudget(**(fields | changes))


class Limits(BaseModel):
    most: date = Field(validation_alias="MOST", serialization_alias="MOST")
    least: date | None = None

    model_config = {"validate_by_name": True}


class Login(BaseModel):
    password: SecretStr


class Picky(BaseModel):
    day: str

    @field_validator("day")
    @classmethod
    def _only_once(cls, value: str) -> str:
        if value.endswith("!"):
            raise ValueError("no shouting")
        return f"{value}!"


REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("retry count 11", lambda: RetryPolicy(count=11), "count: must be at most 10, not 11"),
    ("retry count -1", lambda: RetryPolicy(count=-1), "count: must be at least 0, not -1: Conductor refuses"),
    ("retry count as bool", lambda: RetryPolicy(count=True), "count: must be an int, not bool"),
    ("lower-case logic", lambda: RetryPolicy(logic="fixed"), "logic: must be 'FIXED', 'LINEAR_BACKOFF' or"),
    ("negative delay", lambda: RetryPolicy(delay_seconds=-1), "delay_seconds: must be at least 0"),
    ("delay too large", lambda: RetryPolicy(delay_seconds=LARGE), "32-bit integer"),
    ("scale 0", lambda: RetryPolicy(backoff_scale_factor=0), "backoff_scale_factor: must be at least 1"),
    ("unknown policy", lambda: TimeoutPolicy(policy="STOP"), "policy: must be 'RETRY', 'TIME_OUT_WF' or 'ALERT_ONLY'"),
    ("negative timeout", lambda: TimeoutPolicy(seconds=-1), "seconds: must be at least 0"),
    ("response 0", lambda: TimeoutPolicy(response_seconds=0), "response_seconds: must be at least 1"),
    (
        "response above timeout",
        lambda: TimeoutPolicy(seconds=60, response_seconds=61),
        "response_seconds (61) is more than seconds (60): Conductor refuses",
    ),
    (
        "timeout above total",
        lambda: TimeoutPolicy(seconds=61, total_seconds=60),
        "seconds (61) is more than total_seconds (60): Conductor refuses",
    ),
    ("a policy by position", lambda: TaskControls(RetryPolicy()), "TaskControls takes named arguments only"),
    ("limit 0", lambda: ExecutionLimits(concurrent_exec_limit=0), "must be at least 1, not 0: leave it out"),
    ("rate without period", lambda: ExecutionLimits(rate_limit_per_frequency=5), "set both or neither"),
    (
        "merge timeout too short",
        lambda: budget(lakefs_merge_timeout_seconds=19.9),
        "lakefs_merge_timeout_seconds (19.9) does not cover observed_merge_p99_seconds + safety_margin_seconds (20)",
    ),
    ("infinite margin", lambda: budget(safety_margin_seconds=float("inf")), "must be a finite number"),
    ("negative objects", lambda: budget(max_changed_objects=-1), "max_changed_objects: must be at least 0"),
    ("budget without fields", lambda: PublishBudget(), "field 'safety_margin_seconds' is missing"),
    (
        "budget and response time",
        lambda: TaskControls(publish_budget=budget(), timeout=TimeoutPolicy(response_seconds=60)),
        "timeout.response_seconds must not be set as well",
    ),
    (
        "budget above timeout",
        lambda: TaskControls(publish_budget=budget(), timeout=TimeoutPolicy(seconds=59)),
        "publish_budget needs a response timeout of 60 s, more than timeout.seconds (59)",
    ),
    ("misspelt control", lambda: TaskControls(retyr=RetryPolicy()), "unknown field 'retyr'; did you mean 'retry'?"),
    ("wrong kind of control", lambda: TaskControls(retry=TimeoutPolicy()), "retry: must be RetryPolicy(...)"),
    ("misspelt workspace field", lambda: WorkspaceSpec(readonly=True), "unknown field 'readonly'"),
    ("read_only as number", lambda: WorkspaceSpec(read_only=1), "read_only: must be True or False, not int"),
    (
        "unknown on_moved_head",
        lambda: WorkspaceSpec(on_moved_head="merge"),
        "on_moved_head: must be 'fail' or 'rebase', not 'merge'",
    ),
    ("reads without a rebase", lambda: WorkspaceSpec(reads=["*.csv"]), "reads is only for on_moved_head='rebase'"),
    (
        "reads as text",
        lambda: WorkspaceSpec(reads="*.csv", on_moved_head="rebase"),
        "reads: must be a list of globs, not str; wrap it: ['*.csv']",
    ),
    (
        "a glob that is none",
        lambda: WorkspaceSpec(reads=["a**"], on_moved_head="rebase"),
        "reads: 'a**': '**' must be a whole path component",
    ),
    ("rule as text", lambda: WorkspaceSpec(pre=["raw"]), "pre: item 0 is a str, not a guardrail"),
    (
        "rule without @guardrail",
        lambda: WorkspaceSpec(pre=[budget]),
        "item 0 is the function budget without @guardrail",
    ),
    ("a single rule", lambda: WorkspaceSpec(pre=require_file("a")), "wrap it: [require_file('a')]"),
    ("example id with a blank", lambda: Example(id="a b", params={}), "id: 'a b' must be letters"),
    ("example params as list", lambda: Example(id="a", params=[]), "params: must be a valid"),
    ("example without params", lambda: Example(id="a"), "field 'params' is missing"),
    ("example params not JSON", lambda: Example(id="a", params={"n": object()}), "params: must be JSON, as a workflow"),
    (
        "example params with a secret",
        lambda: Example(id="a", params=Login(password="x")),
        "Login hides or changes a value",
    ),
    (
        "example params that are not read again",
        lambda: Example(id="a", params=Picky(day="x")),
        "Picky refuses its own JSON (1",
    ),
    ("example result not JSON", lambda: Example(id="a", params={}, result={1j}), "result: must be JSON, as a workflow"),
    (
        "example directory absolute",
        lambda: Example(id="a", params={}, tree="/etc"),
        "tree: a directory is written relative",
    ),
    (
        "example text not UTF-8",
        lambda: Example(id="a", params={}, tree={"a": "\udc80"}),
        "has no UTF-8 form; write it as",
    ),
    ("example tree absolute", lambda: Example(id="a", params={}, tree={"/a": ""}), "tree: '/a' is absolute"),
    (
        "example tree content",
        lambda: Example(id="a", params={}, tree={"a": 1}),
        "must be str, bytes or None, not int; write it as text: '1'",
    ),
    ("example tree list", lambda: Example(id="a", params={}, tree=["a"]), "tree: must be a mapping of path to content"),
    ("example tree twice", lambda: Example(id="a", params={}, tree={"a": "", "./a": ""}), "the same path"),
    ("example file as directory", lambda: Example(id="a", params={}, tree={"a": "", "a/b": ""}), "'a' is a file"),
    ("example expects anything", lambda: Example(id="a", params={}, expect="ok"), "expect: must be 'completed'"),
    ("example fails with a result", lambda: Example(id="a", params={}, expect="failed", result={}), "has no result"),
]


@pytest.mark.parametrize(("declare", "message"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_a_declaration_that_cannot_work_is_refused_at_the_authors_line(
    declare: Callable[[], object], message: str
) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        declare()
    assert message in caught.value.message
    assert caught.value.file == __file__
    assert "pydantic" not in str(caught.value)


def test_the_line_is_the_one_of_the_declaration() -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        TaskControls(
            retry=RetryPolicy(),
            retyr=RetryPolicy(),
        )
    first_line = inspect.currentframe().f_lineno - 4  # type: ignore[union-attr]
    assert caught.value.line == first_line


def test_all_problems_of_one_declaration_are_reported_together() -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        RetryPolicy(count=11, delay_seconds=-1)
    assert "count: must be at most 10" in caught.value.message
    assert "delay_seconds: must be at least 0" in caught.value.message


@pytest.mark.parametrize(
    ("controls", "seconds"),
    [
        (TaskControls(), 600),
        (TaskControls(timeout=TimeoutPolicy(seconds=60)), 60),
        (TaskControls(timeout=TimeoutPolicy(seconds=6000)), 600),
        (TaskControls(timeout=TimeoutPolicy(seconds=6000, response_seconds=30)), 30),
        (TaskControls(timeout=TimeoutPolicy(seconds=30, response_seconds=30)), 30),
        (TaskControls(publish_budget=budget()), 60),
        (TaskControls(publish_budget=budget(heartbeat_interval_seconds=5.1)), 61),
        (TaskControls(publish_budget=budget(), timeout=TimeoutPolicy(seconds=60)), 60),
    ],
)
def test_the_response_timeout_always_fits_into_the_timeout(controls: TaskControls, seconds: int) -> None:
    assert controls.response_timeout_seconds == seconds


def test_an_example_tree_has_canonical_paths() -> None:
    example = Example(id="a", params={}, tree={"./raw//a.csv": "x", "raw/": None, "b": b"\x00"})
    assert example.tree == {"raw/a.csv": "x", "raw": None, "b": b"\x00"}


def test_an_example_accepts_models_and_keeps_their_json() -> None:
    example = Example(id="a", params=Limits(most=date(2026, 1, 2)), result=Limits(most=date(2026, 1, 3)))
    assert example.params == {"MOST": "2026-01-02", "least": None}
    assert example.result == {"MOST": "2026-01-03", "least": None}
    assert example == Example(id="a", params=example.params, result=example.result)


def test_declarations_cannot_be_changed() -> None:
    spec = WorkspaceSpec(pre=[require_file("a")])
    assert spec.pre == (require_file("a"),)
    with pytest.raises(ValueError, match="frozen"):
        spec.read_only = True  # type: ignore[misc]


def test_declarations_survive_pickling() -> None:
    spec = WorkspaceSpec(prefix="a", pre=[require_file("a")])
    controls = TaskControls(publish_budget=budget())
    assert pickle.loads(pickle.dumps((spec, controls))) == (spec, controls)


def test_a_definition_error_survives_pickling_and_shows_place_problem_and_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TaskDefinitionError("it is wrong", file="/project/app.py", line=3, fix="write it right")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "/project/app.py:3: it is wrong\n  fix: write it right"
    monkeypatch.setattr(Path, "cwd", lambda: Path("/project"))
    assert str(copy).startswith("app.py:3: ")
