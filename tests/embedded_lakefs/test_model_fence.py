"""The publish fence of the model (`docs/servers/lakefs.md` 1)."""

from __future__ import annotations

import threading

import pytest

from perago.embedded.lakefs import ActionNotRun, LakeFSServer
from perago.embedded.lakefs.errors import Conflict, HookAborted, Missing, NoChanges
from perago.embedded.lakefs.fence import EXPECTED_HEAD, FENCE_PATH
from perago.ports import FENCE_MARKER

from .history import commit, commit_on_new_branch, contents


def fence(server: LakeFSServer) -> str:
    """Install the fence; returns the head."""
    return commit(server, "main", {FENCE_PATH: "the action file"})


def test_the_fence_passes_on_the_expected_head_and_refuses_on_any_other(server: LakeFSServer) -> None:
    head = fence(server)
    mine, other = commit_on_new_branch(server, "b1", {"x": "1"}), commit_on_new_branch(server, "b2", {"y": "1"})
    server.merge("repo", other, "main", metadata={EXPECTED_HEAD: head})
    moved = server.get_branch("repo", "main").commit_id
    with pytest.raises(HookAborted) as caught:
        server.merge("repo", mine, "main", metadata={EXPECTED_HEAD: head})
    assert caught.value.message.startswith("update branch main: pre-merge hook aborted, run id '")
    assert FENCE_MARKER in caught.value.message
    assert server.get_branch("repo", "main").commit_id == moved


def test_the_fence_lets_people_merge_by_hand(server: LakeFSServer) -> None:
    fence(server)
    server.merge("repo", commit_on_new_branch(server, "b1", {"x": "1"}), "main")


def test_a_refused_merge_leaves_its_commit_readable_on_no_branch(server: LakeFSServer) -> None:
    fence(server)
    staged = commit_on_new_branch(server, "b1", {"x": "1"})
    with pytest.raises(HookAborted):
        server.merge("repo", staged, "main", "refused", {EXPECTED_HEAD: "0" * 64})
    assert "refused" not in [record.commit.message for record in server.log("repo", "main")]


def test_the_fence_is_read_from_the_source_commit(server: LakeFSServer) -> None:
    fence(server)
    staged = commit_on_new_branch(server, "b1", {"x": "1", FENCE_PATH: None})
    server.merge("repo", staged, "main", metadata={EXPECTED_HEAD: "0" * 64})
    assert contents(server, "main") == {"x": "1"}


def test_a_fence_on_the_source_only_is_enough(server: LakeFSServer) -> None:
    staged = commit_on_new_branch(server, "b1", {FENCE_PATH: "the action file"})
    with pytest.raises(HookAborted):
        server.merge("repo", staged, "main", metadata={EXPECTED_HEAD: "0" * 64})


@pytest.mark.parametrize("option", ["allow_empty", "squash"])
def test_no_option_skips_the_fence(server: LakeFSServer, option: str) -> None:
    fence(server)
    staged = commit_on_new_branch(server, "b1", {"x": "1"})
    with pytest.raises(HookAborted):
        server.merge("repo", staged, "main", metadata={EXPECTED_HEAD: "0" * 64}, **{option: True})  # type: ignore[arg-type]


def test_conflict_and_no_changes_are_decided_before_the_fence(server: LakeFSServer) -> None:
    head = fence(server)
    mine, other = commit_on_new_branch(server, "b1", {"x": "1"}), commit_on_new_branch(server, "b2", {"x": "2"})
    server.merge("repo", other, "main", metadata={EXPECTED_HEAD: head})
    with pytest.raises(Conflict):
        server.merge("repo", mine, "main", metadata={EXPECTED_HEAD: head})
    with pytest.raises(NoChanges):
        server.merge("repo", other, "main", metadata={EXPECTED_HEAD: head})


def test_of_many_publishers_with_one_expected_head_exactly_one_wins(server: LakeFSServer) -> None:
    head = fence(server)
    staged = [commit_on_new_branch(server, f"b{number}", {f"x{number}": "1"}) for number in range(8)]
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def publish(commit_id: str) -> None:
        barrier.wait(10)
        try:
            server.merge("repo", commit_id, "main", metadata={EXPECTED_HEAD: head})
            outcomes.append("won")
        except HookAborted:
            outcomes.append("fenced")

    threads = [threading.Thread(target=publish, args=(commit_id,)) for commit_id in staged]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ["fenced"] * 7 + ["won"]


def test_an_action_file_that_the_model_does_not_know_passes_with_a_warning(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    commit(server, "side", {"_lakefs_actions/x.yaml": "name: x"})
    with pytest.warns(ActionNotRun, match=r"does not run the action file '_lakefs_actions/x\.yaml'"):
        server.merge("repo", "side", "main")
    (run,) = server.list_runs("repo").results
    assert [(hook.passed, hook.skipped) for hook in run.hooks] == [(True, True)]


def test_actions_are_read_from_the_directory_at_the_root_only(server: LakeFSServer) -> None:
    commit(server, "main", {"sub/_lakefs_actions/y.yaml": "name: y"})


def test_a_folder_among_the_actions_is_taken_for_an_action_that_is_not_there(server: LakeFSServer) -> None:
    server.put_object("repo", "main", "_lakefs_actions/sub/x.yaml", b"name: x")
    with pytest.raises(Missing, match="loading file _lakefs_actions/sub/: get action file metadata"):
        server.commit("repo", "main", "m")
