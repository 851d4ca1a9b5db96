"""Wrong arguments of `@task`, WorkspaceSpec, TaskControls and Example are refused at import; a task has the others."""

# The declarations below are wrong on purpose, and type checkers see it.
# mypy: disable-error-code="arg-type, call-arg, dict-item, list-item"

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, cast

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
    task,
)
from perago.authoring.task import Task
from perago.testing.tasks import task_of

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


COVERED = "observed_merge_p99_seconds + safety_margin_seconds (20)"
REFUSED: dict[str, Callable[[], object]] = {
    "count: must be at most 10, not 11": lambda: RetryPolicy(count=11),
    "count: must be at least 0, not -1: Conductor refuses": lambda: RetryPolicy(count=-1),
    "count: must be an int, not bool": lambda: RetryPolicy(count=True),
    "logic: must be 'FIXED', 'LINEAR_BACKOFF' or": lambda: RetryPolicy(logic="fixed"),
    "delay_seconds: must be at least 0": lambda: RetryPolicy(delay_seconds=-1),
    "32-bit integer": lambda: RetryPolicy(delay_seconds=LARGE),
    "backoff_scale_factor: must be at least 1": lambda: RetryPolicy(backoff_scale_factor=0),
    "policy: must be 'RETRY', 'TIME_OUT_WF' or 'ALERT_ONLY'": lambda: TimeoutPolicy(policy="STOP"),
    "seconds: must be at least 0": lambda: TimeoutPolicy(seconds=-1),
    "response_seconds: must be at least 1": lambda: TimeoutPolicy(response_seconds=0),
    "response_seconds (61) is more than seconds (60): Conductor refuses": lambda: TimeoutPolicy(
        seconds=60, response_seconds=61
    ),
    "seconds (61) is more than total_seconds (60): Conductor refuses": lambda: TimeoutPolicy(
        seconds=61, total_seconds=60
    ),
    "TaskControls takes named arguments only": lambda: cast("Any", TaskControls)(RetryPolicy()),
    "must be at least 1, not 0: leave it out": lambda: ExecutionLimits(concurrent_exec_limit=0),
    "set both or neither": lambda: ExecutionLimits(rate_limit_per_frequency=5),
    f"lakefs_merge_timeout_seconds (19.9) does not cover {COVERED}": lambda: budget(lakefs_merge_timeout_seconds=19.9),
    "must be a finite number": lambda: budget(safety_margin_seconds=float("inf")),
    "max_changed_objects: must be at least 0": lambda: budget(max_changed_objects=-1),
    "field 'safety_margin_seconds' is missing": lambda: PublishBudget(),
    "timeout.response_seconds must not be set as well": lambda: TaskControls(
        publish_budget=budget(), timeout=TimeoutPolicy(response_seconds=60)
    ),
    "publish_budget needs a response timeout of 60 s, more than timeout.seconds (59)": lambda: TaskControls(
        publish_budget=budget(), timeout=TimeoutPolicy(seconds=59)
    ),
    "unknown field 'retyr'; did you mean 'retry'?": lambda: TaskControls(retyr=RetryPolicy()),
    "retry: must be RetryPolicy(...)": lambda: TaskControls(retry=TimeoutPolicy()),
    "unknown field 'readonly'": lambda: WorkspaceSpec(readonly=True),
    "read_only: must be True or False, not int": lambda: WorkspaceSpec(read_only=1),
    "on_moved_head: must be 'fail' or 'rebase', not 'merge'": lambda: WorkspaceSpec(on_moved_head="merge"),
    "reads is only for on_moved_head='rebase'": lambda: WorkspaceSpec(reads=["*.csv"]),
    "reads: must be a list of globs, not str; wrap it: ['*.csv']": lambda: WorkspaceSpec(
        reads="*.csv", on_moved_head="rebase"
    ),
    "reads: 'a**': '**' must be a whole path component": lambda: WorkspaceSpec(reads=["a**"], on_moved_head="rebase"),
    "pre: item 0 is a str, not a guardrail": lambda: WorkspaceSpec(pre=["raw"]),
    "item 0 is the function budget without @guardrail": lambda: WorkspaceSpec(pre=[budget]),
    "wrap it: [require_file('a')]": lambda: WorkspaceSpec(pre=require_file("a")),
    "id: 'a b' must be letters": lambda: Example(id="a b", params={}),
    "params: must be a valid": lambda: Example(id="a", params=[]),
    "field 'params' is missing": lambda: Example(id="a"),
    "params: must be JSON, as a workflow": lambda: Example(id="a", params={"n": object()}),
    "Login hides or changes a value": lambda: Example(id="a", params=Login(password="x")),
    "Picky refuses its own JSON (1": lambda: Example(id="a", params=Picky(day="x")),
    "result: must be JSON, as a workflow": lambda: Example(id="a", params={}, result={1j}),
    "tree: a directory is written relative": lambda: Example(id="a", params={}, tree="/etc"),
    "has no UTF-8 form; write it as": lambda: Example(id="a", params={}, tree={"a": "\udc80"}),
    "tree: '/a' is absolute": lambda: Example(id="a", params={}, tree={"/a": ""}),
    "must be str, bytes or None, not int; write it as text: '1'": lambda: Example(id="a", params={}, tree={"a": 1}),
    "tree: must be a mapping of path to content": lambda: Example(id="a", params={}, tree=["a"]),
    "the same path": lambda: Example(id="a", params={}, tree={"a": "", "./a": ""}),
    "'a' is a file": lambda: Example(id="a", params={}, tree={"a": "", "a/b": ""}),
    "expect: must be 'completed'": lambda: Example(id="a", params={}, expect="ok"),
    "has no result": lambda: Example(id="a", params={}, expect="failed", result={}),
}


@pytest.mark.parametrize(("message", "declare"), REFUSED.items(), ids=REFUSED)
def test_a_declaration_that_cannot_work_is_refused_at_the_authors_line(
    message: str, declare: Callable[[], object]
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


def test_a_definition_error_can_be_pickled_and_has_place_and_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TaskDefinitionError("it is wrong", file="/project/app.py", line=3, fix="write it right")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "/project/app.py:3: it is wrong\n  fix: write it right"
    monkeypatch.setattr(Path, "cwd", lambda: Path("/project"))
    assert str(copy).startswith("app.py:3: ")


# ------------------------------------------------------------------------------------------- @task


class Value(BaseModel):
    value: int = 0


def work(params: Value) -> Value:
    return params


any_task: Any = task
"""`task` without its types, for wrong calls."""

BUDGET = TaskControls(publish_budget=budget())
ONE = Example(id="one", params={})

GOOD: dict[str, Any] = {"name": "features.build", "owner_email": "data@example.com"}


def declared(**changes: Any) -> Callable[[], object]:
    return lambda: any_task(**(GOOD | changes))


WRONG_TASKS: list[tuple[str, Callable[[], object], str]] = [
    ("bare", lambda: any_task(work), "@task is used without arguments"),
    ("positional name", lambda: any_task("features.build"), "@task takes named arguments only"),
    ("without a name", lambda: any_task(owner_email="a@b.c"), "missing a required argument: 'name'"),
    ("without an owner", lambda: any_task(name="a"), "missing a required argument: 'owner_email'"),
    ("misspelt argument", declared(desription="x"), "unexpected keyword argument 'desription'"),
    ("empty name", declared(name=""), "name '' is not a task name"),
    ("name with a slash", declared(name="../../x"), "is not a task name"),
    ("name with a newline at the end", declared(name="a\n"), "is not a task name"),
    ("name of 129 characters", declared(name="a" * 129), "is not a task name"),
    ("owner without an at sign", declared(owner_email="data"), "owner_email 'data' is not an e-mail address"),
    ("owner with two at signs", declared(owner_email="a@b@c.d"), "is not an e-mail address"),
    ("owner None", declared(owner_email=None), "owner_email None is not an e-mail address"),
    ("description as number", declared(description=3), "description must be a str, not int"),
    ("description with half a surrogate pair", declared(description="\ud800"), "which has no UTF-8 form"),
    ("the workspace class", declared(workspace=WorkspaceSpec), "workspace must be WorkspaceSpec(...), not the class"),
    ("controls as mapping", declared(controls={"retry": 1}), "controls must be TaskControls(...)"),
    ("budget without a workspace", declared(controls=BUDGET), "a task without a workspace publishes nothing"),
    ("a single example", declared(examples=ONE), "examples must be a list of Example(...)"),
    ("example as mapping", declared(examples=[{"id": "a"}]), "examples[0] must be Example(...)"),
    ("examples with one id", declared(examples=[ONE, ONE]), "two examples have the id 'one'"),
    ("tree without a workspace", declared(examples=[Example(id="a", params={}, tree={})]), "needs a workspace"),
    ("pre without a workspace", declared(examples=[Example(id="a", params={}, expect="pre")]), "needs a workspace"),
]


@pytest.mark.parametrize(("declare", "message"), [pytest.param(*case[1:], id=case[0]) for case in WRONG_TASKS])
def test_a_wrong_declaration_is_refused_before_the_function_is_checked(
    declare: Callable[[], object], message: str
) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        declare()
    assert message in caught.value.message
    assert caught.value.message.startswith("@task")
    assert caught.value.file == __file__
    assert caught.value.line
    assert caught.value.fix


def task_with(**options: Any) -> Task:
    def function(params: Value) -> Value:
        return params

    return task_of(task(**(GOOD | options))(function))


@pytest.mark.parametrize("name", ["a", "9", "features.build", "A-b_c.d", "a" * 128])
def test_a_name_that_fits_into_paths_is_taken(name: str) -> None:
    assert task_with(name=name, owner_email="first.last+tag@mail.example.com").name == name


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"environment": "LAKECTL_*"}, "environment must be a list of patterns, not str"),
        (
            {"environment": ["PATH"]},
            "'PATH' matches no withheld variable: only CONDUCTOR_*, LAKECTL_*,",
        ),
        ({"environment": ["LAKECTL_* "]}, "'LAKECTL_* ' is not a pattern for names of variables"),
        ({"environment": [1]}, "1 is not a pattern for names of variables"),
        ({"scratch_files": "mlruns/**"}, "scratch_files must be a list of glob patterns, not str"),
        ({"scratch_files": ["/tmp/x"]}, "scratch_files: '/tmp/x' is absolute"),
        ({"scratch_files": ["a**/b"]}, "scratch_files: 'a**/b': '**' must be a whole path component"),
    ],
)
def test_wrong_patterns_are_refused(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        task_with(**options)
    assert rule in str(caught.value)
    assert str(caught.value.fix).startswith(f"write {next(iter(options))}=[")


@pytest.mark.parametrize("pattern", ["LAKECTL_*", "CONDUCTOR_AUTH_KEY", "*", "LAKE*", "[CL]*", "LAKECTL_?"])
def test_a_task_may_ask_for_variables(pattern: str) -> None:
    assert task_with(environment=[pattern]).environment == (pattern,)


def test_scratch_files_are_written_canonically() -> None:
    declared = task_with(scratch_files=iter(["./mlruns//**", "derby.log"]))
    assert declared.scratch_files == ("mlruns/**", "derby.log")
