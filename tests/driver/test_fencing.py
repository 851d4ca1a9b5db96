"""Installing, inspecting and removing the publish fence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perago.attempt.events import FenceState
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.driver import Limits
from perago.driver.fencing import PROOF_SECONDS, FenceStatus, fence_status, install_fence, remove_fence
from perago.embedded.faults import FaultScript, Moment
from perago.embedded.lakefs import InMemoryLakeFS, commits, objects
from perago.ports import Forbidden, MergeRefused, TaskStatus, Unclear, VirtualClock
from perago.settings import PublishFence
from perago.testing.services import InMemoryServices

from . import tasks
from .tasks import assert_ended
from .world import REPOSITORY, without_hooks

TREE = {"raw/a.csv": "1"}
TREE_OF_EDIT: dict[str, str | bytes | None] = {"raw/a.csv": "x\n1\n", "raw/b.csv": "x\n2\n", "readme": "hello"}


@pytest.fixture
def store() -> Iterator[InMemoryLakeFS]:
    with InMemoryLakeFS(VirtualClock(), FaultScript()) as store:
        store.seed("repo", "main", TREE)
        yield store


def branches(store: InMemoryLakeFS) -> list[str]:
    return list(store.list_branches("repo", ""))


def head(store: InMemoryLakeFS) -> str:
    return store.get_commit("repo", "main").id


def test_the_fence_is_installed_once_with_one_commit_tried_and_removed(store: InMemoryLakeFS) -> None:
    before = head(store)
    status = install_fence(store, "repo", "main")

    assert status == FenceStatus(head(store), FenceState.ENFORCED)
    assert status.holds
    (made,) = store.history("repo", "main", until=before, limit=10)
    assert made.parents[0] == before
    assert store.tree("repo", "main")[FENCE_PATH] == FENCE_TEXT.encode()
    assert branches(store) == ["main"]
    assert install_fence(store, "repo", "main") == status, "a second installation changes nothing"
    removed = remove_fence(store, "repo", "main")
    assert removed.state is FenceState.ABSENT
    assert store.tree("repo", "main") == {"raw/a.csv": b"1"}
    assert remove_fence(store, "repo", "main").head == removed.head, "there is nothing left to remove"


def test_a_fence_of_another_version_is_not_relied_on_and_replaced(store: InMemoryLakeFS) -> None:
    store.seed("repo", "main", {FENCE_PATH: FENCE_TEXT + "# edited\n"})
    assert fence_status(store, "repo", "main").state is FenceState.ALTERED
    assert not fence_status(store, "repo", "main").holds
    assert install_fence(store, "repo", "main").holds


def test_staged_work_of_others_prevents_the_commit_and_is_not_committed(store: InMemoryLakeFS) -> None:
    objects.put_object(store.server.repository("repo"), "main", "theirs", b"1")
    with pytest.raises(MergeRefused, match="uncommitted"):
        install_fence(store, "repo", "main")
    assert branches(store) == ["main"]


@pytest.mark.parametrize("change", [install_fence, remove_fence])
def test_a_concurrent_commit_is_not_overwritten(store: InMemoryLakeFS, change: object) -> None:
    if change is remove_fence:
        install_fence(store, "repo", "main")
    nth = store.faults.calls("commit") + 1
    store.faults.between("commit", lambda: store.seed("repo", "main", {"theirs": "1"}), nth=nth, moment=Moment.AFTER)
    with pytest.raises(MergeRefused):
        change(store, "repo", "main")  # type: ignore[operator]
    assert store.tree("repo", "main")["theirs"] == b"1"
    assert branches(store) == ["main"]


def test_a_server_that_runs_no_hooks_is_found_out(store: InMemoryLakeFS) -> None:
    with without_hooks(InMemoryLakeFS(VirtualClock())) as idle:
        idle.seed("repo", "main", TREE)
        status = install_fence(idle, "repo", "main")
        assert (status.state, status.holds) == (FenceState.NOT_ENFORCED, False)
        assert list(idle.list_branches("repo", "")) == ["main"]


# -------------------------------------------------------------- the fence in an attempt


@contextmanager
def world(policy: PublishFence = PublishFence.AUTO, *, deaf: bool = False) -> Iterator[InMemoryServices]:
    """Services whose server has not been tried yet."""
    with InMemoryServices(limits=Limits(publish_fence=policy)) as services:
        if deaf:
            services.lakefs = without_hooks(InMemoryLakeFS(services.clock, services.faults))
        services.clock.advance(PROOF_SECONDS)
        yield services


def challenges(services: InMemoryServices) -> int:
    """Refused merges that the server has a record of."""
    return sum(not run.passed for run in commits.list_runs(services.lakefs.server.repository(REPOSITORY)).results)


@pytest.mark.parametrize("policy", [PublishFence.AUTO, PublishFence.REQUIRED])
def test_the_first_publication_brings_the_fence_along_and_is_guarded_itself(policy: PublishFence) -> None:
    with world(policy) as services:
        services.faults.between("merge", lambda: services.seed({"theirs": "1"}), nth=2)
        lost = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert "has moved since the input ref" in str(lost.reason)
        assert services.tree()["theirs"] == b"1"

        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert outcome.status is TaskStatus.COMPLETED
        assert outcome._record.fence is FenceState.ENFORCED
        assert "installed the publish fence" in outcome._record.remarks
        assert not any("_lakefs_actions" in path for path in outcome.changed_files)
        assert services.lakefs.tree(REPOSITORY, str(outcome.commit))[FENCE_PATH] == FENCE_TEXT.encode()
        merge = services.lakefs.get_commit(REPOSITORY, str(outcome.commit))
        assert "and the publish fence" in merge.message


def test_the_next_publication_finds_the_fence_and_installs_none() -> None:
    with world() as services:
        first = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        again = services.run(tasks.edit, tasks.Params(do="write"), {"raw/c.csv": "3"})
        assert (first._record.brought_fence, again._record.brought_fence) == (True, False)
        assert "publish fence" not in services.lakefs.get_commit(REPOSITORY, str(again.commit)).message


def test_the_server_is_tried_once_in_five_minutes() -> None:
    with world() as services:
        for _ in range(3):
            assert services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT).changes
        assert challenges(services) == 1
        services.clock.advance(PROOF_SECONDS)
        services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert challenges(services) == 2


def test_a_server_without_hooks_is_published_through_and_recorded() -> None:
    with world(deaf=True) as services:
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert outcome.status is TaskStatus.COMPLETED
        assert outcome._record.fence is FenceState.NOT_ENFORCED
        assert "publish fence not enforced" in outcome._record.remarks
        assert list(services.lakefs.list_branches(REPOSITORY, "")) == ["main"]


def test_a_fence_that_is_switched_off_is_neither_brought_nor_tried() -> None:
    with world(PublishFence.OFF) as services:
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert outcome._record.fence is FenceState.ABSENT
        assert FENCE_PATH not in services.lakefs.tree(REPOSITORY, "main")
        services.lakefs.seed(REPOSITORY, "main", {FENCE_PATH: FENCE_TEXT})
        assert services.run(tasks.edit, tasks.Params(do="write"), {"b": "1"})._record.fence is FenceState.INSTALLED
        assert challenges(services) == 0


def test_a_file_that_only_has_the_name_of_the_fence_is_left_alone() -> None:
    with world() as services:
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), {**TREE_OF_EDIT, FENCE_PATH: "name: theirs"})
        assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
        assert FENCE_PATH in str(outcome.reason)
        assert "Fetch" not in [step.name for step in outcome._record.steps]
        assert services.lakefs.tree(REPOSITORY, "main")[FENCE_PATH] == b"name: theirs"


def test_a_challenge_without_an_answer_is_sent_again() -> None:
    with world() as services:
        services.faults.after("merge", nth=1, error=Unclear)
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert outcome._record.fence is FenceState.ENFORCED
        assert challenges(services) == 2


def test_a_challenge_that_never_gets_an_answer_does_not_cost_the_result() -> None:
    """As behind another team's hook that is slower than the time limit of a merge."""
    with world() as services:
        for nth in range(1, 8):
            services.faults.after("merge", nth=nth, error=Unclear)
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert outcome.status is TaskStatus.COMPLETED
        assert outcome._record.fence is FenceState.INSTALLED


def test_where_the_fence_is_required_a_server_without_hooks_is_refused_until_they_are_switched_on() -> None:
    with world(PublishFence.REQUIRED, deaf=True) as services:
        refused = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert_ended(refused, TaskStatus.FAILED_WITH_TERMINAL_ERROR, "actions.enabled")
        assert services.lakefs.get_commit(REPOSITORY, "main").id == refused.input_ref, "nothing is published"
        assert list(services.lakefs.list_branches(REPOSITORY, "")) == ["main"]
        services.lakefs = InMemoryLakeFS(services.clock, services.faults)
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert (outcome.status, outcome._record.fence) == (TaskStatus.COMPLETED, FenceState.ENFORCED)


def test_credentials_without_permission_for_the_fence_are_reported_with_the_needed_permission() -> None:
    with world() as services:
        services.faults.before("upload", nth=2, error=Forbidden)
        outcome = services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        assert outcome.status is TaskStatus.FAILED
        assert f"Allow these credentials to write {FENCE_PATH}" in str(outcome.reason)
        assert "PERAGO_PUBLISH_FENCE=off" in str(outcome.reason)


def test_a_proof_holds_only_for_the_fence_object_that_was_proved() -> None:
    """lakeFS lists the checksum that a client gave it, so another object with this checksum may be no fence."""
    with world() as services:
        services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT)
        server = services.lakefs.server
        fence = objects.stat_object(server.repository(REPOSITORY), "main", FENCE_PATH)
        objects.put_object(server.repository(REPOSITORY), "main", FENCE_PATH, fence.blob, content_type="text/plain")
        commits.commit(server.repository(REPOSITORY), "main", "another object with the checksum of the fence")
        for _ in range(2):
            services.run(tasks.edit, tasks.Params(do="edit"), TREE_OF_EDIT).assert_completed()
        assert challenges(services) == 2, "one for each object"
