"""Installing, inspecting and removing the publish fence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perago.attempt.events import FenceState
from perago.attempt.fence import FENCE_CHECKSUM, FENCE_PATH, FENCE_TEXT, fence_state
from perago.driver.fencing import FenceStatus, fence_status, install_fence, remove_fence
from perago.embedded.clock import VirtualClock
from perago.embedded.faults import FaultScript, Moment
from perago.embedded.lakefs import InMemoryLakeFS
from perago.ports import FENCE_MARKER, MergeRefused, NotFound, Unavailable

TREE = {"raw/a.csv": "1"}


@pytest.fixture
def store() -> Iterator[InMemoryLakeFS]:
    with InMemoryLakeFS(VirtualClock(), FaultScript()) as store:
        store.seed("repo", "main", TREE)
        yield store


def branches(store: InMemoryLakeFS) -> list[str]:
    return list(store.list_branches("repo", ""))


def head(store: InMemoryLakeFS) -> str:
    return store.get_commit("repo", "main").id


def test_the_fence_is_put_on_the_branch_with_one_commit_and_tried(store: InMemoryLakeFS) -> None:
    before = head(store)
    status = install_fence(store, "repo", "main")

    assert status == FenceStatus(head(store), FenceState.INSTALLED, enforced=True)
    assert status.holds
    (made,) = store.history("repo", "main", until=before, limit=10)
    assert made.parents[0] == before
    assert store.tree("repo", "main")[FENCE_PATH] == FENCE_TEXT.encode()
    assert branches(store) == ["main"]


def test_a_second_installation_changes_nothing(store: InMemoryLakeFS) -> None:
    first = install_fence(store, "repo", "main")
    assert install_fence(store, "repo", "main") == first


def test_a_fence_of_another_version_is_not_relied_on_and_replaced(store: InMemoryLakeFS) -> None:
    store.seed("repo", "main", {FENCE_PATH: FENCE_TEXT + "# edited\n"})
    assert fence_status(store, "repo", "main").state is FenceState.ALTERED
    assert not fence_status(store, "repo", "main").holds
    assert install_fence(store, "repo", "main").holds


def test_the_fence_is_removed_and_nothing_else(store: InMemoryLakeFS) -> None:
    install_fence(store, "repo", "main")
    status = remove_fence(store, "repo", "main")
    assert (status.state, status.enforced) == (FenceState.ABSENT, None)
    assert store.tree("repo", "main") == {"raw/a.csv": b"1"}
    assert remove_fence(store, "repo", "main").head == status.head, "there is nothing left to remove"


def test_staged_work_of_others_stands_in_the_way_and_is_not_committed_along(store: InMemoryLakeFS) -> None:
    store.server.put_object("repo", "main", "theirs", b"1")
    with pytest.raises(MergeRefused, match="uncommitted"):
        install_fence(store, "repo", "main")
    assert branches(store) == ["main"]


@pytest.mark.parametrize("change", [install_fence, remove_fence])
def test_a_commit_that_comes_meanwhile_is_not_overwritten(store: InMemoryLakeFS, change: object) -> None:
    if change is remove_fence:
        install_fence(store, "repo", "main")
    nth = store.faults.calls("commit") + 1
    store.faults.between("commit", lambda: store.seed("repo", "main", {"theirs": "1"}), nth=nth, moment=Moment.AFTER)
    with pytest.raises(MergeRefused):
        change(store, "repo", "main")  # type: ignore[operator]
    assert store.tree("repo", "main")["theirs"] == b"1"
    assert branches(store) == ["main"]


def test_a_server_that_runs_no_hooks_is_found_out(store: InMemoryLakeFS) -> None:
    class Idle:
        name, hook = "switched off", "off"

        def refuse(self, event: object) -> str | None:
            return None

    with InMemoryLakeFS(VirtualClock(), hooks={FENCE_PATH: Idle()}) as idle:
        idle.seed("repo", "main", TREE)
        status = install_fence(idle, "repo", "main")
        assert (status.state, status.enforced, status.holds) == (FenceState.INSTALLED, False, False)
        assert list(idle.list_branches("repo", "")) == ["main"]


def test_a_branch_that_is_not_there_is_said_to_be_missing(store: InMemoryLakeFS) -> None:
    with pytest.raises(NotFound):
        fence_status(store, "repo", "nope")


def test_what_cannot_be_removed_afterwards_does_not_hide_what_was_done(store: InMemoryLakeFS) -> None:
    store.faults.before("delete_branch", nth=1, error=Unavailable)
    assert install_fence(store, "repo", "main").holds


def test_the_text_carries_the_marker_and_its_checksum_is_known() -> None:
    assert FENCE_MARKER in FENCE_TEXT
    assert fence_state(FENCE_CHECKSUM) is FenceState.INSTALLED
    assert fence_state(None) is FenceState.ABSENT
    assert fence_state("0" * 32) is FenceState.ALTERED
