"""Recovery among others: publications of a fork's branches are recognised, taken over and undone below the commits of
others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH
from perago.driver import Limits
from perago.embedded.lakefs import commits, objects, references
from perago.embedded.lakefs import commits as model_commits
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.trees import Tree, merge_trees
from perago.ports import Delivery
from perago.settings import PublishFence
from perago.testing.services import InMemoryServices

from .forking import TERMINAL, TREE, A, B, Edit, Fork, ruled
from .world import SharedWorld

LONG = 5000


class Words(BaseModel):
    text: str


@task(name="fork.wordy", owner_email="d@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def wordy(workspace: Path, params: Edit) -> Words:
    for path, text in params.put.items():
        (workspace / path).write_text(text)
    return Words(text="x" * LONG)


def restarted(services: InMemoryServices, fork: Fork) -> list[Delivery]:
    """Restart the fork, and take its deliveries."""
    end(services, fork)
    services.conductor.restart_workflow(fork.workflow)
    return fork.take(len(fork.deliveries))


def end(services: InMemoryServices, fork: Fork) -> None:
    services.clock.advance(1)
    if services.conductor.workflow(fork.workflow)["status"] == "RUNNING":
        services.conductor.terminate_workflow(fork.workflow)


def test_a_refusal_names_others_only_if_others_are_involved(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lakeFS's merge can lose a file whose content is that of its neighbor, and a revert is such a merge."""
    fork = Fork(services, A)
    fork.run(fork.deliveries[0]).assert_completed()
    services.seed({"theirs": "x"})
    revert = model_commits.revert

    def lose(repo: Repository, branch: str, ref: str, **options: Any) -> Any:
        head = model_commits.get_commit(repo, branch)
        wanted = revert(repo, branch, ref, **options).tree
        references.hard_reset_branch(repo, branch, head.commit.id)
        for path in {*head.tree.paths, *wanted.paths}:
            if (entry := wanted.get(path)) is None or path == "raw/c.csv":
                objects.delete_object(repo, branch, path)
            else:
                objects.put_object(repo, branch, path, entry.blob)
        return model_commits.commit(repo, branch, "lost")

    monkeypatch.setattr(model_commits, "revert", lose)
    outcome = fork.run(restarted(services, fork)[0])

    assert outcome.status is TERMINAL
    assert "cannot be undone: reverting them did not restore 'raw/c.csv'" in str(outcome.reason)
    assert "others" not in str(outcome.reason)


def unguarded(services: InMemoryServices, *edits: dict[str, Any]) -> Fork:
    """Start a fork on a branch without the publish fence."""
    services.limits = Limits(publish_fence=PublishFence.OFF)
    return Fork(services, *edits, tree={path: text for path, text in TREE.items() if path != FENCE_PATH})


def race(services: InMemoryServices, fork: Fork) -> None:
    """Let the second branch publish between the last look of the first one and its merge."""
    first, second = fork.deliveries
    services.faults.between("merge", lambda: fork.run(second, report=False))
    outcome = fork.run(first)
    assert "another commit came between" in str(outcome.reason)
    assert not fork.linear()


def test_a_publication_on_another_head_that_lost_a_foreign_file_is_not_undone(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lakeFS's merge of three trees can lose files."""

    def lose(base: Tree, source: Tree, target: Tree, **options: Any) -> Tree:
        merged = merge_trees(base, source, target, **options)
        return merged if target.id == base.id else merged.with_changes({"raw/c.csv": None})

    fork = unguarded(services, A, B)
    with monkeypatch.context() as patch:
        patch.setattr(commits, "merge_trees", lose)
        race(services, fork)
    assert "raw/c.csv" not in fork.tree()
    head = fork.commits()[-1]
    outcome = fork.run(restarted(services, fork)[0])

    assert outcome.status is TERMINAL
    assert "cannot be undone" in str(outcome.reason)
    assert head.id[:12] in str(outcome.reason)
    assert fork.commits()[-1] == head, "nothing is published"


def test_a_long_result_is_adopted_below_the_commits_of_others(services: InMemoryServices) -> None:
    """A history has commits below its head without long texts."""
    fork = Fork(services, {"put": {"a": "A"}}, function=wordy)
    (delivery,) = fork.deliveries
    fork.run(delivery, report=False)
    services.seed({"theirs": "x"})
    services.conductor.hand_back(delivery)
    outcome = fork.run(fork.take(1)[0]).assert_completed()

    assert outcome.adopted_commit == fork.commits()[0].id
    assert len(outcome.result["text"]) == LONG
    assert outcome._record.changed_since_adopted == {}


def test_later_changes_to_an_adopted_publication_are_noted(services: InMemoryServices) -> None:
    fork = Fork(services, A)
    (delivery,) = fork.deliveries
    fork.run(delivery, report=False)
    services.seed({"theirs": "x"})
    reverted = services.seed({"raw/a.csv": "1"})
    services.seed({"theirs": "y"})
    services.conductor.hand_back(delivery)
    outcome = fork.run(fork.take(1)[0]).assert_completed()

    adopted = fork.commits()[0].id
    assert outcome.adopted_commit == adopted
    assert outcome._record.changed_since_adopted == {"raw/a.csv": reverted}
    remark = f"adopted {adopted[:12]} of an earlier attempt, though 'raw/a.csv' was changed since by {reverted[:12]}"
    assert remark in outcome._record.remarks
    assert fork.tree()["raw/a.csv"] == "1"


def test_read_files_are_compared_again_before_an_empty_commit(
    services: InMemoryServices,
) -> None:
    """The result is of the input ref, and what is reported would be the head: together they would be wrong."""
    fork = Fork(services, {}, function=ruled)
    services.conductor.hand_back(fork.deliveries[0])
    (later,) = fork.take(1)
    services.faults.between("create_branch", lambda: services.seed({"raw/c.csv": "C"}))
    outcome = fork.run(later)

    assert outcome.status is TERMINAL
    assert "'raw/c.csv' was read by this task (`reads`), and changed there" in str(outcome.reason)


class LongNamed(SharedWorld):
    """A workflow whose step has a name of the greatest length."""

    def definition(self) -> dict[str, Any]:
        found = super().definition()
        found["tasks"][0]["taskReferenceName"] = "step" * 500
        return found


def test_a_step_with_a_long_name_is_recognized_below_the_commits_of_others(services: InMemoryServices) -> None:
    world = LongNamed(services)
    world.run(world.take(), report=False)
    world.commit_foreign()
    world.time_out()
    world.run(world.take())

    assert world.status == "COMPLETED"
    assert [commit.metadata["perago.phase"] for commit in world.publications()] == ["fence", "merge"]
    world.assert_sound()
