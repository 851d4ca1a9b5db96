"""Tasks of a fork that publish to one branch: each publishes exactly its own
changes, on whatever head the others have made, or says why it cannot."""

from __future__ import annotations

import errno
import fcntl
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH
from perago.driver import Limits
from perago.driver.publisher import TURN_SECONDS
from perago.embedded.lakefs import commits as model_commits
from perago.embedded.lakefs import objects, references, values
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.trees import Tree, merge_trees
from perago.ports import Commit
from perago.settings import PublishFence
from perago.testing.services import InMemoryServices

from .forking import FAILED, TERMINAL, TREE, A, Edit, Fork, checked, ruled
from .tasks import assert_ended


def test_a_content_guardrail_sees_its_own_tree_and_the_record_names_the_rest(
    services: InMemoryServices,
) -> None:
    fork = Fork(services, A, {"put": {"out/b": "B"}}, function=checked)
    first, second = (fork.run(delivery).assert_completed() for delivery in fork.deliveries)

    assert first.notes == ()
    (note,) = second.notes
    assert note.startswith("Post guardrail no_secrets has checked the files of this attempt, but not the ")
    assert "'raw/a.csv'. With reads=[...] such a change is a conflict." in note


def test_a_lost_race_only_reads_new_commits_and_runs_nothing_again(services: InMemoryServices) -> None:
    same = {f"same/{number}": "S" for number in range(5)}
    fork = Fork(services, *({"put": {f"own/{number}": "x", **same}} for number in range(5)))
    (a, *others), faults = fork.deliveries, services.faults
    for number, other in enumerate(others):  # of the merges between two of a, one is of the other, one carries
        faults.between("merge", partial(fork.run, other), nth=1 + 3 * number)
    outcome = fork.run(a).assert_completed()

    steps = [step.name for step in outcome._record.steps]
    assert (steps.count("RunFunction"), steps.count("StageChanges"), steps.count("Fetch")) == (1, 1, 1)
    assert outcome._record.lost_races == steps.count("CarryChanges") == len(others)
    assert outcome.rebased_onto == fork.commits()[-2].id
    assert f"lost {len(others)} races to others" in outcome._record.remarks
    assert fork.linear()
    checks, on_arrival = len(fork.deliveries), len(others) - 1
    assert faults.calls("read_workflow") == checks + on_arrival + outcome._record.lost_races
    a_fence, own_keys, looks = 1, len(same), len(others) - 1
    assert faults.calls("stat_objects") <= (a_fence + own_keys) * len(fork.deliveries) + looks


def test_the_history_is_read_once_and_then_only_new_commits(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = Fork(services, A)
    services.seed({"theirs/before": "x"})
    read, asked = services.lakefs.history, list[tuple[str, int]]()

    def history(repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        found = read(repository, branch, until=until, limit=limit)
        asked.append((until, len(found)))
        return found

    monkeypatch.setattr(services.lakefs, "history", history)
    for nth in range(1, 4):
        services.faults.between("merge", partial(services.seed, {f"theirs/{nth}": "x"}), nth=2 * nth - 1)
    outcome = fork.run(fork.deliveries[0]).assert_completed()

    assert outcome._record.lost_races == 3
    assert [until for until, _ in asked].count(fork.ref) == 1
    assert sum(count for _, count in asked) == 1 + 3
    assert len(fork.commits()) == 1 + 3 + 1


def test_a_branch_that_is_moved_back_in_the_meantime_is_read_again(services: InMemoryServices) -> None:
    fork, server = Fork(services, A), services.lakefs.server
    services.seed({"theirs": "x"})
    services.faults.between(
        "create_branch", lambda: references.hard_reset_branch(server.repository("workspace"), "main", fork.ref)
    )
    outcome = fork.run(fork.deliveries[0]).assert_completed()

    assert [commit.id for commit in fork.commits()] == [outcome.commit]
    assert "theirs" not in fork.tree()


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"put": {"raw/a.csv": "A"}}, {"put": {"raw/a.csv": "BB"}}, "'raw/a.csv' was changed on both sides"),
        ({"put": {"raw/a.csv": "A"}}, {"put": {"raw/a.csv": "B"}}, "'raw/a.csv' was changed on both sides"),
        ({"drop": ["raw/a.csv"]}, {"put": {"raw/a.csv": "B"}}, "'raw/a.csv' was removed there, and written by this"),
        ({"put": {"raw/a.csv": "A"}}, {"drop": ["raw/a.csv"]}, "'raw/a.csv' was changed there, and removed by this"),
        ({"put": {"out": "A"}}, {"put": {"out/b": "B"}}, "'out' is a file there, and a directory of this attempt"),
        ({"put": {"out/b": "A"}}, {"put": {"out": "B"}}, "where this attempt has the file 'out'"),
        ({"put": {"Out": "A"}}, {"put": {"out": "B"}}, "'Out' differs from 'out' of this attempt only in case"),
        ({"put": {"Out/a": "A"}}, {"put": {"out/b": "B"}}, "lies in 'Out', which differs from 'out' of this attempt"),
    ],
)
def test_changes_that_meet_are_a_conflict_that_names_path_commit_and_committer(
    services: InMemoryServices, one: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    fork = Fork(services, one, other)
    first = fork.run(fork.deliveries[0]).assert_completed()
    before = fork.tree()
    second = fork.run(fork.deliveries[1])

    assert_ended(second, TERMINAL, words)
    assert first.commit[:12] in str(second.reason)
    assert "by admin: 'fork.plain: " in str(second.reason)
    assert fork.tree() == before


def test_a_change_of_a_file_that_the_task_reads_is_a_conflict_before_any_download(
    services: InMemoryServices,
) -> None:
    fork = Fork(services, {"put": {"c.csv": "C"}}, {"put": {"d.csv": "2"}}, function=ruled)
    fork.run(fork.deliveries[0]).assert_completed()
    downloads = services.faults.calls("download")
    second = fork.run(fork.deliveries[1])
    assert_ended(second, TERMINAL, "'raw/c.csv' was read by this task (`reads`), and changed there")
    assert services.faults.calls("download") == downloads


def test_a_head_that_always_moves_ends_in_a_failure_with_the_number_of_tries(services: InMemoryServices) -> None:
    services.limits = type(services.limits)(rebase_tries=4)
    fork = Fork(services, A)
    moves = iter(range(100))
    for nth in range(1, 7):
        services.faults.between("merge", lambda: services.seed({f"theirs/{next(moves)}": "x"}), nth=2 * nth - 1)
    outcome = fork.run(fork.deliveries[0])
    services.faults._faults.clear()
    assert_ended(outcome, FAILED, "changed 5 times while this attempt tried to publish")


def test_a_file_system_without_locks_costs_no_time(services: InMemoryServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fork = Fork(services, A)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    before = services.clock.now()
    fork.run(fork.deliveries[0]).assert_completed()
    assert services.clock.now() - before < TURN_SECONDS


# ----------------------------------------------------------------------------------------------------
# Recovery among others: publications of a fork's branches are recognised, taken over and undone below the commits of
# others.


LONG = 5000


class Words(BaseModel):
    text: str


@task(name="fork.wordy", owner_email="d@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def wordy(workspace: Path, params: Edit) -> Words:
    for path, text in params.put.items():
        (workspace / path).write_text(text)
    return Words(text="x" * LONG)


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
    services.clock.advance(1)
    services.conductor.restart_workflow(fork.workflow)
    outcome = fork.run(fork.take(1)[0])

    assert_ended(outcome, TERMINAL, "cannot be undone: reverting them did not restore 'raw/c.csv'")
    assert "others" not in str(outcome.reason)


@pytest.mark.parametrize("is_lost_again", [False, True])
def test_a_revert_without_effect_is_refused_only_if_a_second_one_has_none(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch, is_lost_again: bool
) -> None:
    """A lagging replica loses a revert once. lakeFS's merge of files with equal content always finds nothing to do."""
    fork = Fork(services, A)
    fork.run(fork.deliveries[0]).assert_completed()
    services.seed({"theirs": "x"})
    revert, times = model_commits.revert, itertools.count()

    def lose(*arguments: Any, **options: Any) -> Any:
        if is_lost_again or next(times) == 0:
            raise values.NoChanges("no changes")
        return revert(*arguments, **options)

    monkeypatch.setattr(model_commits, "revert", lose)
    services.clock.advance(1)
    services.conductor.restart_workflow(fork.workflow)
    outcome = fork.run(fork.take(1)[0])

    if is_lost_again:
        assert_ended(outcome, TERMINAL, "cannot be undone: reverting them did not restore 'raw/a.csv'")
    else:
        outcome.assert_completed()


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


@pytest.mark.parametrize("both", [{}, {"same": "S"}], ids=["own files", "a file of both"])
def test_a_publication_on_another_head_that_changed_only_its_own_files_is_undone(
    services: InMemoryServices, both: dict[str, str]
) -> None:
    fork = unguarded(services, {"put": {"raw/a.csv": "A", **both}}, {"put": {"out/b": "B", **both}})
    race(services, fork)
    services.clock.advance(1)
    services.conductor.terminate_workflow(fork.workflow)
    services.conductor.restart_workflow(fork.workflow)
    fork.run(fork.take(2)[0]).assert_completed()

    assert fork.tree().keys() == {*TREE, *both} - {FENCE_PATH}


@pytest.mark.parametrize("lost", ["raw/c.csv", "out/b"], ids=["of the input", "of the other head"])
def test_a_publication_on_another_head_that_lost_a_foreign_file_is_not_undone(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """lakeFS's merge of three trees can lose files."""

    def lose(base: Tree, source: Tree, target: Tree, **options: Any) -> Tree:
        merged = merge_trees(base, source, target, **options)
        return merged if target.id == base.id else merged.with_changes({lost: None})

    fork = unguarded(services, A, {"put": {"out/b": "B", "out/c": "C"}})
    with monkeypatch.context() as patch:
        patch.setattr(model_commits, "merge_trees", lose)
        race(services, fork)
    assert lost not in fork.tree()
    head = fork.commits()[-1]
    services.clock.advance(1)
    services.conductor.terminate_workflow(fork.workflow)
    services.conductor.restart_workflow(fork.workflow)
    outcome = fork.run(fork.take(2)[0])

    assert_ended(outcome, TERMINAL, "cannot be undone")
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

    assert_ended(outcome, TERMINAL, "'raw/c.csv' was read by this task (`reads`), and changed there")
