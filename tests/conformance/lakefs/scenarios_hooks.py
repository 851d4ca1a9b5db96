"""Pre-merge hooks: a publish fence, which lets a merge pass only on the head that it names."""

from __future__ import annotations

from perago.attempt.publication import EXPECTED_HEAD, FENCE_PATH, FENCE_TEXT

from ...http_answer import Answer
from ..scenario import scenario_with
from .repositories import Repository, diverged, repository

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
BASE = {FENCE_PATH: FENCE_TEXT, "a": "0", "b": "0"}


def publish(repo: Repository, expected: str, source: str = "side", **body: object) -> Answer:
    """Merge into `main` if that is where it was expected."""
    return repo.merge(source, "main", metadata={EXPECTED_HEAD: expected}, **body)


@scenario_with(diverged, BASE, side={"s": "1"})
def the_expected_head(repo: Repository) -> None:
    """A merge that names the head of the target passes."""
    publish(repo, repo.head())
    repo.show("main")
    repo.tree("main", prefix="s")


@scenario_with(diverged, BASE, main={"m": "1"}, side={"s": "1"})
def another_head(repo: Repository) -> None:
    """A merge that names another commit is a 412 with the hook's words, and changes nothing."""
    publish(repo, repo.head("side"))
    repo.get("/branches/main")
    repo.log("main")
    repo.tree("main", prefix="s")
    repo.staged("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def an_empty_head(repo: Repository) -> None:
    """A merge that names the head with nothing is refused: it names none that could be."""
    publish(repo, "")
    repo.log("main")


@scenario_with(diverged, BASE, main={"m": "1"}, side={"s": "1"})
def no_head_is_named(repo: Repository) -> None:
    """A merge that names none passes."""
    repo.merge()
    repo.log("main", first_parent="true")


@scenario_with(diverged, BASE, side={"s": "1"})
def one_of_two_publishers_wins(repo: Repository) -> None:
    """Of two merges that name the same head the second is refused, and passes with the new head."""
    repo.add_branch("late")
    repo.commit_files({"l": "1"}, "late")
    head = repo.head()
    publish(repo, head, "side")
    publish(repo, head, "late")
    publish(repo, repo.head(), "late")
    repo.log("main", first_parent="true")


@scenario_with(diverged, BASE, main={"a": "1"}, side={"a": "2"})
def a_conflict_comes_before_the_hook(repo: Repository) -> None:
    """A conflict is a 409, whatever the hook would have said."""
    publish(repo, "0" * 64)


@scenario_with(diverged, BASE, main={"a": "1"})
def nothing_to_merge_comes_before_the_hook(repo: Repository) -> None:
    """A source without changes is a 400, whatever the hook would have said."""
    publish(repo, "0" * 64)


@scenario_with(diverged, BASE, side={"s": "1"})
def a_dirty_target_comes_before_the_hook(repo: Repository) -> None:
    """Staged changes on the target are a 400, whatever the hook would have said."""
    repo.stage_files({"m": "1"})
    publish(repo, "0" * 64)


@scenario_with(diverged, BASE, main={"a": "1"}, side={"a": "2"})
def no_option_skips_the_hook(repo: Repository) -> None:
    """Neither `force`, `allow_empty`, `squash_merge` nor a strategy skips the hook."""
    publish(repo, "0" * 64, strategy="source-wins", force=True)
    publish(repo, "0" * 64, strategy="source-wins", allow_empty=True)
    publish(repo, "0" * 64, strategy="source-wins", squash_merge=True)
    repo.log("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def a_squash_is_fenced(repo: Repository) -> None:
    """A squash merge has the target's head as its parent, too."""
    publish(repo, repo.head(), squash_merge=True)
    repo.show("main")


@scenario_with(repository, BASE)
def an_empty_merge_is_fenced(repo: Repository) -> None:
    """The merge of a head into its own branch is fenced like any other."""
    head = repo.head()
    publish(repo, "0" * 64, head, allow_empty=True)
    publish(repo, head, head, allow_empty=True)
    publish(repo, head, head, allow_empty=True)
    repo.log("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def the_source_of_a_deleted_branch_is_fenced(repo: Repository) -> None:
    """A merge by commit id runs the hook, though the source's branch is gone."""
    source = repo.head("side")
    with repo.rest.unnoted():
        repo.call("DELETE", "/branches/side")
    publish(repo, "0" * 64, source)
    publish(repo, repo.head(), source)
    repo.show("main")


@scenario_with(repository, {"a": "0"})
def a_source_from_before_the_hook(repo: Repository) -> None:
    """A source without the action file is merged unfenced, though the target has one."""
    repo.add_branch("side")
    repo.commit_files({"s": "1"}, "side")
    repo.commit_files({FENCE_PATH: FENCE_TEXT}, "main")
    publish(repo, "0" * 64)
    repo.show("main")


@scenario_with(diverged, BASE, side={FENCE_PATH: None, "s": "1"})
def a_source_that_removed_the_hook(repo: Repository) -> None:
    """A source that deleted the action file is merged unfenced, and the deletion goes with it."""
    publish(repo, "0" * 64)
    repo.tree("main")


@scenario_with(diverged, {"a": "0"}, side={FENCE_PATH: FENCE_TEXT, "s": "1"})
def a_source_that_brings_the_hook(repo: Repository) -> None:
    """A source that adds the action file is fenced by it."""
    publish(repo, "0" * 64)
    publish(repo, repo.head())
    repo.show("main")


@scenario_with(diverged, {"a": "0"}, side={"x/" + FENCE_PATH: FENCE_TEXT, "_lakefs_actions.yaml": FENCE_TEXT})
def a_hook_somewhere_else_is_none(repo: Repository) -> None:
    """Only files in `_lakefs_actions/` at the root are hooks."""
    publish(repo, "0" * 64)
    repo.log("main", amount=1)


@scenario_with(repository)
def a_folder_among_the_actions(repo: Repository) -> None:
    """A file in a folder below `_lakefs_actions/` makes the commit a 404, for the folder is taken for an action."""
    repo.stage_files({"_lakefs_actions/deep/f.yaml": FENCE_TEXT})
    repo.commit()
    repo.log()


@scenario_with(diverged, BASE, side={"s": "1"})
def other_ways_to_move_a_head_are_free(repo: Repository) -> None:
    """Commits, reverts, cherry-picks and hard resets run no pre-merge hook."""
    picked = repo.head("side")
    repo.stage_files({"m": "1"})
    repo.commit()
    repo.revert("main")
    repo.pick(picked)
    repo.hard_reset("main~")
    repo.log("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def a_reverted_publication(repo: Repository) -> None:
    """Reverting a fenced merge moves the head, so the next publisher has to name the revert."""
    publish(repo, repo.head())
    merged = repo.head()
    repo.revert(merged, parent=1)
    repo.commit_files({"t": "1"}, "side")
    publish(repo, merged)
    publish(repo, repo.head())
    repo.tree("main")


@scenario_with(repository)
def the_refusal_of_somebody_else(repo: Repository) -> None:
    """Another pre-merge hook's refusal has the same shape as the fence's."""
    repo.stage_files({"_lakefs_actions/other.yaml": OTHER, "a": "0"})
    repo.commit(message="base")
    repo.add_branch()
    repo.commit_files({"s": "1"}, "side")
    repo.merge()
    repo.log("main")


@scenario_with(repository)
def a_hook_for_other_branches(repo: Repository) -> None:
    """An action that names branches is about merges into those."""
    repo.stage_files({"_lakefs_actions/other.yaml": OTHER, "a": "0"})
    repo.commit(message="base")
    repo.add_branch("release")
    repo.add_branch()
    repo.commit_files({"s": "1"}, "side")
    repo.merge("side", "release")
    repo.log("release", amount=1)


@scenario_with(repository)
def an_action_that_cannot_be_read(repo: Repository) -> None:
    """An action file that is no YAML makes the commit a 500, and the change stays staged."""
    repo.stage_files({"_lakefs_actions/notes.txt": "Dear\tdiary: no: yaml", "a": "1"})
    repo.commit()
    repo.staged()
    repo.log()


@scenario_with(repository)
def two_actions_of_one_name(repo: Repository) -> None:
    """Two action files with the same name make the commit a 500."""
    repo.stage_files({FENCE_PATH: FENCE_TEXT, "_lakefs_actions/second.yaml": FENCE_TEXT})
    repo.commit()
    repo.log()


@scenario_with(repository)
def an_action_without_its_parts(repo: Repository) -> None:
    """An action file without what it needs makes the commit a 500 that says what is missing."""
    wrong = {"empty": "", "nameless": "on:\n  pre-merge:\n", "idle": "name: idle\n", "event": "name: ev\non:\n  tea:\n"}
    for number, (branch, text) in enumerate(wrong.items()):
        repo.add_branch(branch)
        repo.stage_files({f"_lakefs_actions/{number}.yaml": text}, branch)
        repo.commit(branch)


@scenario_with(diverged, {"a": "0"}, side={"s": "1"})
def no_runs_of_hooks(repo: Repository) -> None:
    """Where no hook ran there are no runs."""
    with repo.rest.unnoted():
        repo.merge()
    repo.get("/actions/runs")


@scenario_with(diverged, BASE, side={"s": "1"})
def the_runs_of_hooks(repo: Repository) -> None:
    """Every run of a hook is kept, with what it was about, how it ended and what it said."""
    publish(repo, "0" * 64)
    publish(repo, repo.head())
    runs = repo.get("/actions/runs").json["results"]
    repo.get("/actions/runs", query={"amount": 1})
    for run in runs:
        repo.get("/actions/runs/{run}", run=run["run_id"])
        hooks = repo.get("/actions/runs/{run}/hooks", run=run["run_id"]).json["results"]
        where = {"run": run["run_id"], "hook": hooks[0]["hook_run_id"]}
        repo.get("/actions/runs/{run}/hooks/{hook}/output", **where)


@scenario_with(repository)
def a_run_that_is_not_there(repo: Repository) -> None:
    """An unknown run is a 404."""
    repo.get("/actions/runs/nope")
    repo.get("/actions/runs/nope/hooks")
