"""Tasks that see a part of their tree (`include`, `exclude`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel

from perago import WorkspaceSpec, require_glob, task
from perago.ports import TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices

TREE: dict[str, str | bytes | None] = {
    "raw/2024/a.csv": "a",
    "raw/2024/old.bak": "b",
    "raw/2023/a.csv": "c",
    "other/x": "d",
    "../never a file": "e",
}
SPEC = WorkspaceSpec(
    include=["raw/2024/**", "out/**"], exclude=["**/*.bak"], pre=[require_glob("raw/**", min_count=1, max_count=1)]
)


class Params(BaseModel):
    write: dict[str, str] = {}


class Result(BaseModel):
    seen: list[str]


@task(name="view.rewrite", owner_email="a@example.com", workspace=SPEC)
def rewrite(workspace: Path, params: Params) -> Result:
    seen = sorted(path.relative_to(workspace).as_posix() for path in workspace.rglob("*") if path.is_file())
    for directory in workspace.iterdir():
        shutil.rmtree(directory)
    for path, text in params.write.items():
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(text)
    return Result(seen=seen)


def run(services: InMemoryServices, tree: dict[str, str | bytes | None], **written: str) -> Outcome:
    return services.run(rewrite, Params(write={path.replace("__", "/"): text for path, text in written.items()}), tree)


def test_files_outside_of_the_view_are_not_downloaded_judged_or_removed(services: InMemoryServices) -> None:
    outcome = run(services, TREE, out__new="n")
    assert outcome.status is TaskStatus.COMPLETED, outcome.reason
    assert outcome.result == {"seen": ["raw/2024/a.csv"]}
    assert services.tree() == {
        "../never a file": b"e",
        "other/x": b"d",
        "out/new": b"n",
        "raw/2023/a.csv": b"c",
        "raw/2024/old.bak": b"b",
    }


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("other__x", "'other/x' (already exists, but the task does not see it)"),
        ("raw__2024__old.bak", "'raw/2024/old.bak' (already exists, but the task does not see it)"),
        ("elsewhere", "'elsewhere' (is not part of what the task sees)"),
    ],
)
def test_writing_outside_publishes_nothing_and_names_the_file(
    services: InMemoryServices, path: str, problem: str
) -> None:
    outcome = run(services, TREE, **{path: "n"})
    assert outcome.status is TaskStatus.FAILED
    assert outcome.reason == (
        f"post guardrail: a task can write only files that its include and exclude select: found {problem}"
    )
    assert services.tree()["other/x"] == b"d"


def test_a_view_that_selects_no_file_is_reported(services: InMemoryServices) -> None:
    outcome = run(services, {"other/x": "d", "other/y": "e"})
    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR, "the pre guardrail judges what the task sees"
    assert "include and exclude leave none of the 2 files of the workspace ref" in outcome.notes


@task(name="view.marked", owner_email="a@example.com", workspace=WorkspaceSpec(include=["data*"]))
def write_data(workspace: Path, params: Params) -> Result:
    (workspace / "data").write_text("a file")
    return Result(seen=[])


def test_a_file_does_not_take_the_place_of_an_empty_directory_that_is_not_seen(services: InMemoryServices) -> None:
    """A file and a directory marker of one name: no task that sees both could ever be laid out again."""
    outcome = services.run(write_data, Params(), {"data/": "", "data.csv": "x"})
    assert outcome.status is TaskStatus.FAILED
    assert "'data' (is a directory in the part that the task does not see)" in str(outcome.reason)
