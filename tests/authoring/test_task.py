"""What stands between the brackets of `@task(...)`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import (
    Example,
    PublishBudget,
    TaskControls,
    TaskDefinitionError,
    WorkspaceSpec,
    task,
)
from perago.authoring.task import Task, get_task


class Value(BaseModel):
    value: int = 0


def work(params: Value) -> Value:
    return params


any_task: Any = task
"""`task` without its types, for wrong calls."""

BUDGET = TaskControls(
    publish_budget=PublishBudget(
        observed_merge_p99_seconds=1,
        safety_margin_seconds=1,
        lakefs_merge_timeout_seconds=2,
        conductor_completion_timeout_seconds=1,
        worker_shutdown_grace_seconds=1,
        heartbeat_interval_seconds=1,
    )
)

ONE = Example(id="one", params={})

GOOD: dict[str, Any] = {"name": "features.build", "owner_email": "data@example.com"}


def declared(**changes: Any) -> Callable[[], object]:
    return lambda: any_task(**(GOOD | changes))


REFUSED: list[tuple[str, Callable[[], object], str]] = [
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


@pytest.mark.parametrize(("declare", "message"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
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

    found = get_task(task(**(GOOD | options))(function))
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["a", "9", "features.build", "A-b_c.d", "a" * 128])
def test_a_name_that_fits_into_paths_is_taken(name: str) -> None:
    assert task_with(name=name, owner_email="first.last+tag@mail.example.com").name == name


def test_a_task_knows_its_declaration() -> None:
    spec = WorkspaceSpec(prefix="/audio")
    examples = [Example(id="a", params={}), Example(id="b", params={}, tree={"x": "y"}, expect="post")]

    def function(workspace: Path, params: Value) -> Value:
        return params

    task(**GOOD, description="Render.", workspace=spec, controls=BUDGET, examples=iter(examples))(function)
    found = get_task(function)
    assert found is not None
    assert (found.name, found.description, found.owner_email) == ("features.build", "Render.", "data@example.com")
    assert (found.workspace, found.controls, found.examples) == (spec, BUDGET, tuple(examples))


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
    found = task_with(scratch_files=iter(["./mlruns//**", "derby.log"]))
    assert found.scratch_files == ("mlruns/**", "derby.log")


def test_a_projects_own_decorator_may_wrap_task() -> None:
    def team_task(name: str) -> Callable[[Callable[[Value], Value]], Callable[[Value], Value]]:
        return task(name=name, owner_email="team@example.com")

    @team_task("team.work")
    def function(params: Value) -> Value:
        return params

    found = get_task(function)
    assert found is not None
    assert found.name == "team.work"
