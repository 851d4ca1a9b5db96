"""Publications: the fence, the order of calls, and requests at the same time.

The fence is a pre-merge hook that lets a merge pass only on the head that it names. Requests at the same time show what
is certain although their order is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT

from ..scenario import Declared, Request, scenario_with, to
from .repositories import Repository, diverged, empty, repo, repository

OTHER = """\
name: other
on:
  pre-merge:
    branches:
      - main
hooks:
  - id: refuses
    type: lua
    properties:
      script: |
        require("hook").fail("not on my watch")
"""
ONLY_NEW = {"If-None-Match": "*", "Content-Type": "text/plain"}
BASE = {FENCE_PATH: FENCE_TEXT, "a": "0", "b": "0"}


def race(about: str, requests: Sequence[Request]) -> Callable[[Repository], object]:
    """Return a request that sends these at the same time."""
    return lambda repo: repo.rest.race(about, [partial(request, repo) for request in requests])


@scenario_with(repository)
def an_action_without_its_parts(repo: Repository) -> None:
    """An action file without what it needs makes the commit a 500 that says what is missing."""
    wrong = {"empty": "", "nameless": "on:\n  pre-merge:\n", "idle": "name: idle\n", "event": "name: ev\non:\n  tea:\n"}
    for number, (branch, text) in enumerate(wrong.items()):
        repo.add_branch(branch)
        repo.stage_files({f"_lakefs_actions/{number}.yaml": text}, branch)
        repo.commit(branch)


@scenario_with(diverged, BASE, side={"s": "1"})
def the_runs_of_hooks(repo: Repository) -> None:
    """Every run of a hook is kept, with what it was about, how it ended and what it said."""
    repo.publish("0" * 64)
    repo.publish(repo.head())
    runs = repo.get("/actions/runs").json["results"]
    repo.get("/actions/runs", query={"amount": 1})
    for run in runs:
        repo.get("/actions/runs/{run}", run=run["run_id"])
        hooks = repo.get("/actions/runs/{run}/hooks", run=run["run_id"]).json["results"]
        where = {"run": run["run_id"], "hook": hooks[0]["hook_run_id"]}
        repo.get("/actions/runs/{run}/hooks/{hook}/output", **where)


@scenario_with(repository, BASE)
def an_attempt_is_published(repo: Repository) -> None:
    """An attempt stages its changes on a hidden branch, checks them, and merges the commit by its id."""
    head = repo.head()
    repo.branch("perago-1", head, hidden=True)
    repo.upload("out/part", "1", "perago-1")
    repo.post("/branches/perago-1/objects/delete", {"paths": ["b"]})
    repo.staged("perago-1")
    repo.commit("perago-1", "staged", metadata={"perago.attempt": "1"})
    staged = repo.head("perago-1")
    repo.diff(head, staged, type="two_dot")
    repo.publish(head, staged)
    repo.delete("/branches/perago-1")
    repo.show()
    repo.tree()


@scenario_with(repository, BASE)
def a_publication_on_a_moved_head(repo: Repository) -> None:
    """A refused publisher picks its commit onto the new head, compares, and publishes that."""
    head = repo.head()
    repo.add_branch("perago-1", head, hidden=True)
    staged = repo.commit_files({"out": "1"}, "perago-1", "staged")
    repo.commit_files({"other": "1"}, "main", "somebody else")
    moved = repo.head()
    repo.publish(head, staged)
    repo.branch("perago-2", moved, hidden=True)
    repo.pick(staged, "perago-2")
    rebased = repo.head("perago-2")
    repo.diff(moved, rebased, type="two_dot")
    repo.publish(moved, rebased)
    repo.tree()
    repo.log(first_parent="true")


@scenario_with(repository, BASE)
def one_publisher_of_many(repo: Repository) -> None:
    """Of many fenced merges that name the same head at the same time one passes."""
    for number in range(4):
        repo.add_branch(f"side-{number}")
        repo.commit_files({"s": f"{number}"} | {f"{number}": "1"}, f"side-{number}")
    head = repo.head()
    merges = [partial(repo.publish, head, f"side-{number}", strategy="source-wins") for number in range(4)]
    repo.rest.race("other sources on the same head", merges)
    with repo.rest.unnoted():
        parents = [commit["parents"][0] for commit in repo.log(first_parent="true").json["results"][:1]]
    repo.rest.note("the head is built on the head that was named", parents == [head])


@scenario_with(repository, {"a": "0"})
def many_merges_without_a_fence(repo: Repository) -> None:
    """Without a fence merges at the same time all pass, one on top of the other."""
    for number in range(4):
        repo.add_branch(f"side-{number}")
        repo.commit_files({f"{number}": f"content {number}"}, f"side-{number}")
    repo.rest.race("other sources", [partial(repo.merge, f"side-{number}") for number in range(4)])
    repo.tree()
    merged = repo.silent.log(first_parent="true").json["results"]
    repo.rest.note("commits along first parents", len(merged))


SCENARIOS: Declared = {
    # Of many tags of one name at the same time one is made.
    "one_tag_of_many": empty(race("the same tag", [repo.tag("v1")] * 8), repo.tags()),
    # Of many branches of one name at the same time one is made.
    "one_branch_of_many": empty(race("the same branch", [repo.branch("side")] * 8), repo.branches()),
    # Of many conditional uploads to one path at the same time one is stored.
    "one_upload_of_many": empty(
        race("the same path if there is nothing", [repo.upload("lock", "1", headers=ONLY_NEW)] * 8), repo.tree()
    ),
    # Uploads at the same time are all stored.
    "uploads_to_many_paths": empty(
        race("other paths", [repo.upload(f"{number}", "1") for number in range(8)]),
        repo.tree(),
        repo.commit(),
        repo.tree("main@"),
    ),
    # Of two merges that name the same head the second is refused, and passes with the new head.
    "one_of_two_publishers_wins": to(diverged, BASE, side={"s": "1"})(
        repo.add_branch("late"),
        repo.commit_files({"l": "1"}, "late"),
        repo.publish(repo.head(), "side"),
        repo.publish(repo.commit_id(4), "late"),
        repo.publish(repo.head(), "late"),
        repo.log(first_parent="true"),
    ),
    # The merge of a head into its own branch is fenced like any other.
    "an_empty_merge_is_fenced": to(repository, BASE)(
        repo.publish("0" * 64, repo.head(), allow_empty=True),
        *[repo.publish(repo.commit_id(2), repo.commit_id(2), allow_empty=True)] * 2,
        repo.log(),
    ),
    # Mode `x` asks for the head of an object and then uploads it if there is none.
    "writing_only_what_is_new": empty(*[repo.head_object("a"), repo.upload("a", "1", headers=ONLY_NEW)] * 2),
    # A reader asks for one range after the other until there is no more.
    "reading_in_pieces": to(repository, {"a": "0123456789"})(
        repo.stat("a"),
        *(
            repo.read("a", headers={"Range": f"bytes={start}-{start + 3}"}, query={"presign": "false"})
            for start in (0, 4, 8, 12)
        ),
    ),
    # Commits, reverts, cherry-picks and hard resets run no pre-merge hook.
    "other_ways_to_move_a_head_are_free": to(diverged, BASE, side={"s": "1"})(
        repo.stage_files({"m": "1"}),
        repo.commit(),
        repo.revert("main"),
        repo.pick(repo.head("side")),
        repo.hard_reset("main~"),
        repo.log(),
    ),
    # A merge by commit id runs the hook, though the source's branch is gone.
    "the_source_of_a_deleted_branch_is_fenced": to(diverged, BASE, side={"s": "1"})(
        repo.silent.delete("/branches/side"),
        repo.publish("0" * 64, repo.commit_id(2)),
        repo.publish(repo.head(), repo.commit_id(2)),
        repo.show(),
    ),
    # A publisher that did not get its answer finds its commit among the parents of the head, and no changes left.
    "an_answer_that_was_lost": to(repository, BASE)(
        repo.add_branch("perago-1", repo.commit_id(1), hidden=True),
        repo.commit_files({"out": "1"}, "perago-1", "staged"),
        repo.silent.publish(repo.commit_id(1), repo.commit_id(2)),
        repo.publish(repo.commit_id(1), repo.commit_id(2)),
        repo.log(stop_at=repo.commit_id(1), first_parent="true"),
    ),
    # Reverting a fenced merge moves the head, so the next publisher has to name the revert.
    "a_reverted_publication": to(diverged, BASE, side={"s": "1"})(
        repo.publish(repo.head()),
        repo.revert(repo.head(), parent=1),
        repo.commit_files({"t": "1"}, "side"),
        repo.publish(repo.commit_id(4)),
        repo.publish(repo.head()),
        repo.tree(),
    ),
    # A merge that names the head of the target passes.
    "the_expected_head": to(diverged, BASE, side={"s": "1"})(
        repo.publish(repo.head()), repo.show(), repo.tree(prefix="s")
    ),
    # A merge that names another commit is a 412 with the hook's words, and changes nothing.
    "another_head": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.publish(repo.head("side")), repo.get("/branches/main"), repo.log(), repo.tree(prefix="s"), repo.staged()
    ),
    # A merge that names the head with nothing is refused: it names none that could be.
    "an_empty_head": to(diverged, BASE, side={"s": "1"})(repo.publish(""), repo.log()),
    # A merge that names none passes.
    "no_head_is_named": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.merge(), repo.log(first_parent="true")
    ),
    # A conflict is a 409, whatever the hook would have said.
    "a_conflict_comes_before_the_hook": to(diverged, BASE, main={"a": "1"}, side={"a": "2"})(repo.publish("0" * 64)),
    # A source without changes is a 400, whatever the hook would have said.
    "nothing_to_merge_comes_before_the_hook": to(diverged, BASE, main={"a": "1"})(repo.publish("0" * 64)),
    # Staged changes on the target are a 400, whatever the hook would have said.
    "a_dirty_target_comes_before_the_hook": to(diverged, BASE, side={"s": "1"})(
        repo.stage_files({"m": "1"}), repo.publish("0" * 64)
    ),
    # Neither `force`, `allow_empty`, `squash_merge` nor a strategy skips the hook.
    "no_option_skips_the_hook": to(diverged, BASE, main={"a": "1"}, side={"a": "2"})(
        repo.publish("0" * 64, strategy="source-wins", force=True),
        repo.publish("0" * 64, strategy="source-wins", allow_empty=True),
        repo.publish("0" * 64, strategy="source-wins", squash_merge=True),
        repo.log(),
    ),
    # A squash merge has the target's head as its parent, too.
    "a_squash_is_fenced": to(diverged, BASE, side={"s": "1"})(
        repo.publish(repo.head(), squash_merge=True), repo.show()
    ),
    # A source without the action file is merged unfenced, though the target has one.
    "a_source_from_before_the_hook": to(repository, {"a": "0"})(
        repo.add_branch("side"),
        repo.commit_files({"s": "1"}, "side"),
        repo.commit_files({FENCE_PATH: FENCE_TEXT}),
        repo.publish("0" * 64),
        repo.show(),
    ),
    # A source that deleted the action file is merged unfenced, and the deletion goes with it.
    "a_source_that_removed_the_hook": to(diverged, BASE, side={FENCE_PATH: None, "s": "1"})(
        repo.publish("0" * 64), repo.tree()
    ),
    # A source that adds the action file is fenced by it.
    "a_source_that_brings_the_hook": to(diverged, {"a": "0"}, side={FENCE_PATH: FENCE_TEXT, "s": "1"})(
        repo.publish("0" * 64), repo.publish(repo.head()), repo.show()
    ),
    # Only files in `_lakefs_actions/` at the root are hooks.
    "a_hook_somewhere_else_is_none": to(
        diverged, {"a": "0"}, side={"x/" + FENCE_PATH: FENCE_TEXT, "_lakefs_actions.yaml": FENCE_TEXT}
    )(repo.publish("0" * 64), repo.log(amount=1)),
    # A file in a folder below `_lakefs_actions/` makes the commit a 404, for the folder is taken for an action.
    "a_folder_among_the_actions": empty(
        repo.stage_files({"_lakefs_actions/deep/f.yaml": FENCE_TEXT}), repo.commit(), repo.log()
    ),
    # Another pre-merge hook's refusal has the same shape as the fence's.
    "the_refusal_of_somebody_else": empty(
        repo.stage_files({"_lakefs_actions/other.yaml": OTHER, "a": "0"}),
        repo.commit(message="base"),
        repo.add_branch(),
        repo.commit_files({"s": "1"}, "side"),
        repo.merge(),
        repo.log(),
    ),
    # An action that names branches is about merges into those.
    "a_hook_for_other_branches": empty(
        repo.stage_files({"_lakefs_actions/other.yaml": OTHER, "a": "0"}),
        repo.commit(message="base"),
        repo.add_branch("release"),
        repo.add_branch(),
        repo.commit_files({"s": "1"}, "side"),
        repo.merge("side", "release"),
        repo.log("release", amount=1),
    ),
    # An action file that is no YAML makes the commit a 500, and the change stays staged.
    "an_action_that_cannot_be_read": empty(
        repo.stage_files({"_lakefs_actions/notes.txt": "Dear\tdiary: no: yaml", "a": "1"}),
        repo.commit(),
        repo.staged(),
        repo.log(),
    ),
    # Two action files with the same name make the commit a 500.
    "two_actions_of_one_name": empty(
        repo.stage_files({FENCE_PATH: FENCE_TEXT, "_lakefs_actions/second.yaml": FENCE_TEXT}), repo.commit(), repo.log()
    ),
    # Where no hook ran there are no runs.
    "no_runs_of_hooks": to(diverged, {"a": "0"}, side={"s": "1"})(repo.silent.merge(), repo.get("/actions/runs")),
    # An unknown run is a 404.
    "a_run_that_is_not_there": empty(repo.get("/actions/runs/nope"), repo.get("/actions/runs/nope/hooks")),
    # A transaction is a branch, its uploads, a commit, a merge and a deletion.
    "a_transaction": to(repository, {"a": "0"})(
        repo.branch("tx-1", hidden=True),
        repo.upload("b", "1", "tx-1"),
        repo.commit("tx-1", "transaction", metadata={}),
        repo.merge("tx-1", "main", force=False, allow_empty=False, squash_merge=False),
        repo.delete("/branches/tx-1"),
        repo.tree(),
        repo.log(first_parent="true"),
    ),
    # A transaction that is given up leaves nothing but its branch.
    "an_abandoned_transaction": to(repository, {"a": "0"})(
        repo.branch("tx-1"),
        repo.upload("b", "1", "tx-1"),
        repo.delete("/branches/tx-1"),
        repo.tree(),
        repo.branches(show_hidden="true"),
    ),
}
