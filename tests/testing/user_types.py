"""A test file of a user, for mypy alone: an editor knows what fixtures give. `make test` checks all code so.

Lines that must be refused have a `type: ignore`, which mypy refuses where it is not needed. The types of public
signatures are in `tests/surface/public_surface.txt`.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from pydantic import BaseModel

import perago.testing
from perago import WorkspaceSpec, task
from perago.testing import (
    Changes,
    Conductor,
    Delivery,
    EmbeddedServices,
    Finding,
    InMemoryLakeFS,
    PublishedTree,
    TaskRunner,
    TaskStatus,
)


class Params(BaseModel):
    n: int = 1


class Result(BaseModel):
    n: int


@task(name="typed", owner_email="data@example.com", workspace=WorkspaceSpec())
def work(workspace: Path, params: Params) -> Result:
    return Result(n=params.n)


def misspelled() -> None:
    print(perago.tsak)  # type: ignore[attr-defined]
    print(perago.testing.TaskRuner)  # type: ignore[attr-defined]


def run(perago_run: TaskRunner) -> None:
    outcome = perago_run(work, Params(n=2), tree={"a.txt": "x", "b.bin": b"", "c": None})
    assert_type(outcome.status, TaskStatus | None)
    assert_type(outcome.tree, PublishedTree)
    assert_type(outcome.tree["a.txt"], bytes)
    assert_type(outcome.changed_files, tuple[str, ...])
    assert_type(outcome.violations, tuple[str, ...])
    assert_type(outcome.findings, tuple[Finding, ...])
    assert_type(outcome.changes, Changes)
    assert_type(outcome.delivery, Delivery)
    assert outcome.tree == {"a.txt": "x"}
    perago_run(work, ["no params"])  # type: ignore[arg-type]
    perago_run(work).changed  # type: ignore[attr-defined]  # noqa: B018


def services(perago_conductor: Conductor, perago_lakefs: InMemoryLakeFS, perago_server: EmbeddedServices) -> None:
    perago_conductor.poll("typed", "w", count=1, wait_seconds=0)  # type: ignore[attr-defined]
    perago_lakefs.merge("data", "a", "main", "", {})  # type: ignore[attr-defined]
    assert_type(perago_server.lakefs.tree("data", "main"), dict[str, bytes])
