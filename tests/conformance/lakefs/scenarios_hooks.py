"""Pre-merge hooks: a publish fence, which lets a merge pass only on the head that it names."""

from __future__ import annotations

from perago.attempt.fence import FENCE_PATH, FENCE_TEXT
from perago.attempt.publication import EXPECTED_HEAD

from ...http_answer import Answer
from ..rest import Rest
from ..scenario import scenario
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


@scenario
def the_expected_head(rest: Rest) -> None:
    """A merge that names the head of the target passes."""
    repo = diverged(rest, BASE, side={"s": "1"})
    publish(repo, repo.head())
    repo.show("main")
    repo.tree("main", prefix="s")


@scenario
def another_head(rest: Rest) -> None:
    """A merge that names another commit is a 412 with the hook's words, and changes nothing."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    publish(repo, repo.head("side"))
    repo.get("/branches/main")
    repo.log("main")
    repo.tree("main", prefix="s")
    repo.staged("main")


@scenario
def an_empty_head(rest: Rest) -> None:
    """A merge that names the head with nothing is refused: it names none that could be."""
    repo = diverged(rest, BASE, side={"s": "1"})
    publish(repo, "")
    repo.log("main")


@scenario
def no_head_is_named(rest: Rest) -> None:
    """A merge that names none passes."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    repo.merge()
    repo.log("main", first_parent="true")


@scenario
def one_of_two_publishers_wins(rest: Rest) -> None:
    """Of two merges that name the same head the second is refused, and passes with the new head."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.add_branch("late")
    repo.commit_files({"l": "1"}, "late")
    head = repo.head()
    publish(repo, head, "side")
    publish(repo, head, "late")
    publish(repo, repo.head(), "late")
    repo.log("main", first_parent="true")


@scenario
def a_conflict_comes_before_the_hook(rest: Rest) -> None:
    """A conflict is a 409, whatever the hook would have said."""
    repo = diverged(rest, BASE, main={"a": "1"}, side={"a": "2"})
    publish(repo, "0" * 64)


@scenario
def nothing_to_merge_comes_before_the_hook(rest: Rest) -> None:
    """A source without changes is a 400, whatever the hook would have said."""
    repo = diverged(rest, BASE, main={"a": "1"})
    publish(repo, "0" * 64)


@scenario
def a_dirty_target_comes_before_the_hook(rest: Rest) -> None:
    """Staged changes on the target are a 400, whatever the hook would have said."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.stage_files({"m": "1"})
    publish(repo, "0" * 64)


@scenario
def no_option_skips_the_hook(rest: Rest) -> None:
    """Neither `force`, `allow_empty`, `squash_merge` nor a strategy skips the hook."""
    repo = diverged(rest, BASE, main={"a": "1"}, side={"a": "2"})
    publish(repo, "0" * 64, strategy="source-wins", force=True)
    publish(repo, "0" * 64, strategy="source-wins", allow_empty=True)
    publish(repo, "0" * 64, strategy="source-wins", squash_merge=True)
    repo.log("main")


@scenario
def a_squash_is_fenced(rest: Rest) -> None:
    """A squash merge has the target's head as its parent, too."""
    repo = diverged(rest, BASE, side={"s": "1"})
    publish(repo, repo.head(), squash_merge=True)
    repo.show("main")


@scenario
def an_empty_merge_is_fenced(rest: Rest) -> None:
    """The merge of a head into its own branch is fenced like any other."""
    repo = repository(rest, BASE)
    head = repo.head()
    publish(repo, "0" * 64, head, allow_empty=True)
    publish(repo, head, head, allow_empty=True)
    publish(repo, head, head, allow_empty=True)
    repo.log("main")


@scenario
def the_source_of_a_deleted_branch_is_fenced(rest: Rest) -> None:
    """A merge by commit id runs the hook, though the source's branch is gone."""
    repo = diverged(rest, BASE, side={"s": "1"})
    source = repo.head("side")
    with rest.unnoted():
        repo.call("DELETE", "/branches/side")
    publish(repo, "0" * 64, source)
    publish(repo, repo.head(), source)
    repo.show("main")


@scenario
def a_source_from_before_the_hook(rest: Rest) -> None:
    """A source without the action file is merged unfenced, though the target has one."""
    repo = repository(rest, {"a": "0"})
    repo.add_branch("side")
    repo.commit_files({"s": "1"}, "side")
    repo.commit_files({FENCE_PATH: FENCE_TEXT}, "main")
    publish(repo, "0" * 64)
    repo.show("main")


@scenario
def a_source_that_removed_the_hook(rest: Rest) -> None:
    """A source that deleted the action file is merged unfenced, and the deletion goes with it."""
    repo = diverged(rest, BASE, side={FENCE_PATH: None, "s": "1"})
    publish(repo, "0" * 64)
    repo.tree("main")


@scenario
def a_source_that_brings_the_hook(rest: Rest) -> None:
    """A source that adds the action file is fenced by it."""
    repo = diverged(rest, {"a": "0"}, side={FENCE_PATH: FENCE_TEXT, "s": "1"})
    publish(repo, "0" * 64)
    publish(repo, repo.head())
    repo.show("main")


@scenario
def a_hook_somewhere_else_is_none(rest: Rest) -> None:
    """Only files in `_lakefs_actions/` at the root are hooks."""
    repo = diverged(rest, {"a": "0"}, side={"x/" + FENCE_PATH: FENCE_TEXT, "_lakefs_actions.yaml": FENCE_TEXT})
    publish(repo, "0" * 64)
    repo.log("main", amount=1)


@scenario
def a_folder_among_the_actions(rest: Rest) -> None:
    """A file in a folder below `_lakefs_actions/` makes the commit a 404, for the folder is taken for an action."""
    repo = repository(rest)
    repo.stage_files({"_lakefs_actions/deep/f.yaml": FENCE_TEXT})
    repo.commit()
    repo.log()


@scenario
def other_ways_to_move_a_head_are_free(rest: Rest) -> None:
    """Commits, reverts, cherry-picks and hard resets run no pre-merge hook."""
    repo = diverged(rest, BASE, side={"s": "1"})
    picked = repo.head("side")
    repo.stage_files({"m": "1"})
    repo.commit()
    repo.revert("main")
    repo.pick(picked)
    repo.hard_reset("main~")
    repo.log("main")


@scenario
def a_reverted_publication(rest: Rest) -> None:
    """Reverting a fenced merge moves the head, so the next publisher has to name the revert."""
    repo = diverged(rest, BASE, side={"s": "1"})
    publish(repo, repo.head())
    merged = repo.head()
    repo.revert(merged, parent=1)
    repo.commit_files({"t": "1"}, "side")
    publish(repo, merged)
    publish(repo, repo.head())
    repo.tree("main")


@scenario
def the_refusal_of_somebody_else(rest: Rest) -> None:
    """Another pre-merge hook's refusal has the same shape as the fence's."""
    repo = repository(rest)
    repo.stage_files({"_lakefs_actions/other.yaml": OTHER, "a": "0"})
    repo.commit(message="base")
    repo.add_branch()
    repo.commit_files({"s": "1"}, "side")
    repo.merge()
    repo.log("main")


@scenario
def a_hook_for_other_branches(rest: Rest) -> None:
    """An action that names branches is about merges into those."""
    repo = repository(rest)
    repo.stage_files({"_lakefs_actions/other.yaml": OTHER, "a": "0"})
    repo.commit(message="base")
    repo.add_branch("release")
    repo.add_branch()
    repo.commit_files({"s": "1"}, "side")
    repo.merge("side", "release")
    repo.log("release", amount=1)


@scenario
def an_action_that_cannot_be_read(rest: Rest) -> None:
    """An action file that is no YAML makes the commit a 500, and the change stays staged."""
    repo = repository(rest)
    repo.stage_files({"_lakefs_actions/notes.txt": "Dear\tdiary: no: yaml", "a": "1"})
    repo.commit()
    repo.staged()
    repo.log()


@scenario
def two_actions_of_one_name(rest: Rest) -> None:
    """Two action files with the same name make the commit a 500."""
    repo = repository(rest)
    repo.stage_files({FENCE_PATH: FENCE_TEXT, "_lakefs_actions/second.yaml": FENCE_TEXT})
    repo.commit()
    repo.log()


@scenario
def an_action_without_its_parts(rest: Rest) -> None:
    """An action file without what it needs makes the commit a 500 that says what is missing."""
    repo = repository(rest)
    wrong = {"empty": "", "nameless": "on:\n  pre-merge:\n", "idle": "name: idle\n", "event": "name: ev\non:\n  tea:\n"}
    for number, (branch, text) in enumerate(wrong.items()):
        repo.add_branch(branch)
        repo.stage_files({f"_lakefs_actions/{number}.yaml": text}, branch)
        repo.commit(branch)


@scenario
def no_runs_of_hooks(rest: Rest) -> None:
    """Where no hook ran there are no runs."""
    repo = diverged(rest, {"a": "0"}, side={"s": "1"})
    with rest.unnoted():
        repo.merge()
    repo.get("/actions/runs")


@scenario
def the_runs_of_hooks(rest: Rest) -> None:
    """Every run of a hook is kept, with what it was about, how it ended and what it said."""
    repo = diverged(rest, BASE, side={"s": "1"})
    publish(repo, "0" * 64)
    publish(repo, repo.head())
    runs = repo.get("/actions/runs").json["results"]
    repo.get("/actions/runs", query={"amount": 1})
    for run in runs:
        repo.get("/actions/runs/{run}", run=run["run_id"])
        hooks = repo.get("/actions/runs/{run}/hooks", run=run["run_id"]).json["results"]
        where = {"run": run["run_id"], "hook": hooks[0]["hook_run_id"]}
        repo.get("/actions/runs/{run}/hooks/{hook}/output", **where)


@scenario
def a_run_that_is_not_there(rest: Rest) -> None:
    """An unknown run is a 404."""
    repo = repository(rest)
    repo.get("/actions/runs/nope")
    repo.get("/actions/runs/nope/hooks")
