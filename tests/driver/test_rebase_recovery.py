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
from perago.testing import InMemoryServices

from .forking import BOTH, TERMINAL, TREE, A, B, Edit, Fork, ruled
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


def rerun(services: InMemoryServices, fork: Fork, delivery: Delivery, params: dict[str, Any]) -> Delivery:
    """Rerun one branch of the fork with other params, and take its delivery."""
    end(services, fork)
    changed = {**delivery.input, "params": params}
    services.conductor.rerun_workflow(fork.workflow, delivery.task_id, task_input=changed)
    return next(again for again in fork.take(2) if again.task_id == delivery.task_id)


def end(services: InMemoryServices, fork: Fork) -> None:
    services.clock.advance(1)
    if services.conductor.workflow(fork.workflow)["status"] == "RUNNING":
        services.conductor.terminate_workflow(fork.workflow)


def revert_by_hand(services: InMemoryServices, commit: str) -> None:
    model_commits.revert(services.lakefs.server.repository("workspace"), "main", commit, parent_number=1)


def test_a_publication_that_undid_what_the_input_ref_holds_is_undone_in_full(services: InMemoryServices) -> None:
    """An operator gives a workflow that is run again the head of the branch."""
    fork = Fork(services, A)
    published = fork.run(fork.deliveries[0]).assert_completed().record.published_commit
    (second,) = restarted(services, fork)
    fork.run(second).assert_completed()
    end(services, fork)
    changed = {"workspace": {**second.input["workspace"], "ref": published}, "params": {"put": {"own": "x"}}}
    services.conductor.rerun_workflow(fork.workflow, second.task_id, task_input=changed)
    fork.run(fork.take(1)[0]).assert_completed()

    assert fork.tree() == {"raw/a.csv": "A", "raw/b.csv": "2", "raw/c.csv": "3", "own": "x"}


def test_what_is_brought_back_because_an_input_ref_holds_it_is_undone_by_a_run_from_the_first_ref(
    services: InMemoryServices,
) -> None:
    """The second publication undoes the first. The third gets the first as its input ref, and undoes the second."""
    fork = Fork(services, A)
    published = fork.run(fork.deliveries[0]).assert_completed().record.published_commit
    (second,) = restarted(services, fork)
    fork.run(second).assert_completed()
    end(services, fork)
    changed = {"workspace": {**second.input["workspace"], "ref": published}, "params": {"put": {"own": "x"}}}
    services.conductor.rerun_workflow(fork.workflow, second.task_id, task_input=changed)
    fork.run(fork.take(1)[0]).assert_completed()
    fork.run(rerun(services, fork, second, B)).assert_completed()

    assert fork.tree() == {"raw/a.csv": "1", "raw/c.csv": "3", "out/b": "B"}
    assert fork.linear()


def test_a_commit_by_hand_with_the_metadata_of_a_publication_that_undid_others_is_refused(
    services: InMemoryServices,
) -> None:
    fork = Fork(services, A, B)
    for delivery in fork.deliveries:
        fork.run(delivery).assert_completed()
    _, first = restarted(services, fork)
    fork.run(first).assert_completed()
    server, copied = services.lakefs.server, fork.commits()[-1].metadata
    objects.put_object(server.repository("workspace"), "main", "by-hand", b"x")
    made = model_commits.commit(server.repository("workspace"), "main", "by hand", copied).commit.id
    outcome = fork.run(restarted(services, fork)[1])

    assert outcome.status is TERMINAL
    assert f"Commit {made[:12]}" in str(outcome.reason)
    assert "carries the metadata of this step" in str(outcome.reason)


def test_a_file_that_people_reverted_and_wrote_again_stays_in_a_restart(services: InMemoryServices) -> None:
    fork = Fork(services, A, B)
    published = [fork.run(delivery).assert_completed().record.published_commit for delivery in fork.deliveries]
    revert_by_hand(services, str(published[1]))
    services.seed({"out/b": "B"})
    first = restarted(services, fork)[0]
    outcome = fork.run(first).assert_completed()

    assert len(outcome.record.superseded_commits) == 2
    assert fork.tree() == {"raw/a.csv": "A", "raw/b.csv": "2", "raw/c.csv": "3", "out/b": "B"}


def test_what_people_brought_back_among_others_is_not_mixed_with_the_present_run(services: InMemoryServices) -> None:
    fork = Fork(services, A, B)
    for delivery in fork.deliveries:
        fork.run(delivery).assert_completed()
    _, first = restarted(services, fork)
    undid = fork.run(first).assert_completed().record.published_commit
    services.seed({"theirs": "x"})
    revert_by_hand(services, str(undid))
    outcome = fork.run(restarted(services, fork)[1])

    assert outcome.status is TERMINAL
    assert "cannot be undone: others have changed 'raw/a.csv' since" in str(outcome.reason)


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


def test_a_restart_undoes_a_publication_that_came_on_another_head_and_changed_its_own_files_only(
    services: InMemoryServices,
) -> None:
    fork = unguarded(services, A, B)
    race(services, fork)
    third, fourth = restarted(services, fork)
    undone = fork.run(third).assert_completed().record.superseded_commits
    assert len(undone) == 2
    assert fork.tree() == {"raw/a.csv": "A", "raw/b.csv": "2", "raw/c.csv": "3"}
    fork.run(fourth).assert_completed()
    assert fork.tree() == BOTH


def test_a_rerun_undoes_the_own_changes_of_a_publication_that_undid_others_and_came_on_another_head(
    services: InMemoryServices,
) -> None:
    fork = unguarded(services, {"put": {"once": "x"}}, B)
    for delivery in fork.deliveries:
        fork.run(delivery).assert_completed()
    again = restarted(services, fork)[0]
    services.faults.between("merge", lambda: services.seed({"theirs": "x"}), nth=3)
    assert "another commit came between" in str(fork.run(again).reason)
    fork.run(rerun(services, fork, again, A)).assert_completed()

    assert fork.tree() == {"raw/a.csv": "A", "raw/b.csv": "2", "raw/c.csv": "3", "theirs": "x"}


def test_a_publication_that_came_on_another_head_and_lost_a_file_of_others_there_is_not_undone(
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


def test_what_is_stale_and_has_been_built_on_is_not_undone(services: InMemoryServices) -> None:
    fork = Fork(services, A)
    fork.run(fork.deliveries[0]).assert_completed()
    services.seed({"raw/a.csv": "theirs"})
    services.clock.advance(1)
    services.conductor.restart_workflow(fork.workflow)
    outcome = fork.run(fork.take(1)[0])

    assert outcome.status is TERMINAL
    assert "cannot be undone: others have changed 'raw/a.csv' since" in str(outcome.reason)
    assert fork.tree()["raw/a.csv"] == "theirs"


def test_what_a_living_publication_holds_is_not_undone_with_the_same_bytes_of_a_run_before(
    services: InMemoryServices,
) -> None:
    fork = Fork(services, A, B)
    a, b = fork.deliveries
    fork.run(b).assert_completed()
    fork.run(a, report=False)
    services.conductor.terminate_workflow(fork.workflow)
    services.clock.advance(1)
    services.conductor.rerun_workflow(fork.workflow, b.task_id)
    (again,) = fork.take(1)
    # Others have put the same bytes there since, by a commit of their own.
    services.seed({"out/b": "other"})
    services.seed({"out/b": "B"})
    outcome = fork.run(again)

    assert outcome.status is TERMINAL
    assert "cannot be undone: others have changed 'out/b' since" in str(outcome.reason)
    assert fork.tree()["out/b"] == "B"


@pytest.mark.parametrize(
    ("one", "other", "again"),
    [
        ({"put": {"same": "S", "raw/a.csv": "A"}}, {"put": {"same": "S", "b": "B"}}, {"put": {"same": "T"}}),
        ({"put": {"same": "S"}}, {"put": {"same": "S"}}, {}),
        ({"drop": ["raw/b.csv"]}, {"drop": ["raw/b.csv"], "put": {"b": "B"}}, {"put": {"raw/a.csv": "A"}}),
    ],
    ids=["written", "written, and nothing else", "removed"],
)
def test_what_a_living_publication_found_as_it_wanted_it_is_not_undone(
    services: InMemoryServices, one: dict[str, Any], other: dict[str, Any], again: dict[str, Any]
) -> None:
    """The second branch stages nothing where the first has done the same, but what is there is its result, too."""
    fork = Fork(services, other, one)
    second, first = fork.deliveries
    fork.run(first).assert_completed()
    fork.run(second).assert_completed()
    held = fork.tree()
    services.clock.advance(1)
    changed = {**first.input, "params": again}
    services.conductor.rerun_workflow(fork.workflow, first.task_id, task_input=changed)
    (rerun,) = fork.take(1)
    outcome = fork.run(rerun)

    assert outcome.status is TERMINAL
    assert "cannot be undone: others have published the same at '" in str(outcome.reason)
    assert fork.tree() == held


def test_a_long_result_is_taken_over_below_the_commits_of_others(services: InMemoryServices) -> None:
    """A history has commits below its head without long texts."""
    fork = Fork(services, {"put": {"a": "A"}}, function=wordy)
    (delivery,) = fork.deliveries
    fork.run(delivery, report=False)
    services.seed({"theirs": "x"})
    services.conductor.hand_back(delivery)
    outcome = fork.run(fork.take(1)[0]).assert_completed()

    assert outcome.record.adopted_commit == fork.commits()[0].id
    assert len(outcome.result["text"]) == LONG
    assert outcome.record.changed_since_adopted == {}


def test_what_others_have_made_of_an_adopted_publication_is_remarked(services: InMemoryServices) -> None:
    fork = Fork(services, A)
    (delivery,) = fork.deliveries
    fork.run(delivery, report=False)
    services.seed({"theirs": "x"})
    reverted = services.seed({"raw/a.csv": "1"})
    services.seed({"theirs": "y"})
    services.conductor.hand_back(delivery)
    outcome = fork.run(fork.take(1)[0]).assert_completed()

    adopted = fork.commits()[0].id
    assert outcome.record.adopted_commit == adopted
    assert outcome.record.changed_since_adopted == {"raw/a.csv": reverted}
    remark = f"adopted {adopted[:12]} of an earlier attempt, though 'raw/a.csv' was changed since by {reverted[:12]}"
    assert remark in outcome.record.remarks
    assert fork.tree()["raw/a.csv"] == "1"


def test_what_is_read_is_compared_once_more_where_a_commit_without_changes_is_published(
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
    assert list(world.violations()) == []
