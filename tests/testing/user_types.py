"""A test file of a user, for mypy alone: an editor knows what fixtures give. `make test` checks all code so.

Lines that must be refused have a `type: ignore`, which mypy refuses where it is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from pydantic import BaseModel

import perago.testing
from perago import WorkspaceSpec, task
from perago.testing import (
    Changes,
    Commit,
    Conductor,
    Delivery,
    EmbeddedServices,
    Finding,
    InMemoryLakeFS,
    Outcome,
    PublishedTree,
    Snapshots,
    TaskRunner,
    TaskStatus,
    TreeBuilder,
    VirtualClock,
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
    assert_type(outcome, Outcome)
    assert_type(outcome.assert_completed(), Outcome)
    assert_type(outcome.status, TaskStatus | None)
    assert_type(outcome.tree, PublishedTree)
    assert_type(outcome.tree["a.txt"], bytes)
    assert_type(outcome.tree.text("a.txt"), str)
    assert_type(outcome.changed_files, tuple[str, ...])
    assert_type(outcome.violations, tuple[str, ...])
    assert_type(outcome.findings, tuple[Finding, ...])
    assert_type(outcome.changes, Changes)
    assert_type(outcome.delivery, Delivery)
    assert_type(perago_run.again(), Outcome)
    assert outcome.tree == {"a.txt": "x"}
    race = perago_run.race((work, Params()), work, tree={})
    assert_type(race.tree, PublishedTree)
    perago_run(work, ["no params"])  # type: ignore[arg-type]
    perago_run(work).changed  # type: ignore[attr-defined]  # noqa: B018


def services(perago_conductor: Conductor, perago_lakefs: InMemoryLakeFS, perago_clock: VirtualClock) -> None:
    assert_type(perago_conductor.drain(), tuple[Outcome, ...])
    assert_type(perago_conductor.next_delivery("typed"), Delivery)
    perago_conductor.poll("typed", "w", count=1, wait_seconds=0)  # type: ignore[attr-defined]
    assert_type(perago_lakefs.seed("data", "main", {"a": "x"}), Commit)
    perago_lakefs.merge("data", "a", "main", "", {})  # type: ignore[attr-defined]
    assert_type(perago_clock.now(), float)


def trees(perago_tree: TreeBuilder, perago_server: EmbeddedServices) -> None:
    assert_type(perago_tree({"a": "x"}, work, "cases/a.zip"), Path)
    assert_type(perago_server.lakefs.tree("data", "main"), dict[str, bytes])
    assert_type(perago_server.environment()["LAKECTL_SERVER_ENDPOINT_URL"], str)


def snapshots(perago_run: TaskRunner, perago_snapshot: Snapshots) -> None:
    perago_snapshot(work)
    perago_snapshot.tree(perago_run(work, tree={"a": "x"}), exclude=["**/*.log"])
    perago_snapshot.tree(perago_run.race(work, work, tree={}), "race")
    perago_snapshot.tree({"a": "x", "b": b"", "c": None}, "mapping")
