"""What is staged: its diff, deletions, and resetting it."""

from __future__ import annotations

from ..scenario import Declared, each, scenario_with, to
from .repositories import Repository, empty, one_file, repo, repository

DETAILS = {
    "another_type_is_a_change": {"Content-Type": "text/csv"},
    "other_metadata_is_a_change": {"Content-Type": "text/plain", "x-lakefs-meta-k": "v"},
}


BATCH = "/branches/main/objects/delete"


@scenario_with(repository, {"a": "1", "b": "2"})
def a_batch_of_more_than_a_thousand(repo: Repository) -> None:
    """A batch holds a thousand paths, not more, and too large a one deletes nothing."""
    full = repo.silent.post(BATCH, {"paths": ["a", *(f"{n}" for n in range(999))]})
    over = repo.silent.post(BATCH, {"paths": ["b", *(f"{n}" for n in range(1000))]})
    repo.rest.note("1,000 paths", {"status": full.status, "body": full.json})
    repo.rest.note("1,001 paths", {"status": over.status, "body": over.json})
    repo.tree()


SCENARIOS: Declared = {
    # Content type and user metadata belong to what an object is.
    **each(
        DETAILS,
        lambda case: one_file(repo.upload("a", "1", headers=case), repo.staged(), repo.commit(), repo.stat("a")),
    ),
    # The diff of a branch tells what was added, changed and removed; what was removed has no size.
    "what_is_staged": to(repository, {"changed": "1", "kept": "1", "removed": "1"})(
        repo.stage_files({"added": "22", "changed": "333", "removed": None}), repo.staged()
    ),
    # Uploading the same content again is no change, but shows a new address until the next commit.
    "the_same_content_again": empty(
        repo.upload("a", "1"),
        repo.silent.commit(),
        repo.upload("a", "1"),
        repo.stat("a"),
        repo.staged(),
        repo.commit(),
        repo.stat("a"),
        repo.stat("a", "main@"),
    ),
    # A commit of something else drops the copy of an unchanged object: its old address is back.
    "the_same_content_again_is_dropped_by_a_commit": empty(
        repo.upload("a", "1"),
        repo.silent.commit(),
        repo.upload("a", "1"),
        repo.upload("b", "2"),
        repo.staged(),
        repo.commit(),
        repo.stat("a"),
    ),
    # A copy of an unchanged object does not make a branch dirty, and the merge drops it.
    "the_same_content_again_does_not_hinder_a_merge": one_file(
        repo.add_branch(),
        repo.commit_files({"b": "2"}, "side"),
        repo.stat("a"),
        repo.upload("a", "1"),
        repo.merge("side"),
        repo.stat("a"),
        repo.staged(),
    ),
    # Staged changes come page by page, behind a path, below a prefix.
    "pages_of_what_is_staged": empty(
        repo.stage_files(dict.fromkeys(("a/1", "a/2", "b/1", "b/2", "c"), "")),
        repo.staged(amount=2),
        repo.staged(amount=2, after="a/2"),
        repo.staged(prefix="b/"),
        repo.staged(prefix="b/", after="b/1"),
        repo.staged(after="c"),
        repo.staged(amount="1001"),
    ),
    # With a delimiter, changes below a folder are one change of it.
    "folders_of_what_is_staged": to(repository, {"a/1": "", "b/1": ""})(
        repo.stage_files({"a/1": None, "b/2": "", "c": "", "d/1": "", "d/2": ""}),
        repo.staged(delimiter="/"),
        repo.staged(delimiter="/", prefix="d/"),
        repo.staged(delimiter="/", amount=2),
        *(repo.staged(delimiter="/", after=after) for after in ("a", "b", "d/", "d/1", "e")),
    ),
    # A reset drops all that is staged and moves no head.
    "resetting_everything": to(repository, {"a": "1", "b": "2"})(
        repo.stage_files({"a": None, "b": "3", "c": "4"}),
        repo.reset(type="reset"),
        repo.tree(),
        repo.staged(),
        repo.show(),
    ),
    # A reset of an object drops its change only.
    "resetting_one_object": to(repository, {"a": "1", "a/b": "2", "c": "3"})(
        repo.stage_files({"a": "9", "a/b": "9", "c": None}),
        repo.reset(type="object", path="a"),
        repo.staged(),
        repo.reset(type="object", path="c"),
        repo.staged(),
    ),
    # A reset of a prefix drops all changes below it, whatever the prefix ends in.
    "resetting_a_folder": to(repository, {"dir/a": "1", "dir/b": "2", "dirt": "3"})(
        repo.stage_files({"dir/a": "9", "dir/b": None, "dir/c": "9", "dirt": "9"}),
        repo.reset(type="common_prefix", path="dir/"),
        repo.staged(),
        repo.reset(type="common_prefix", path="dir"),
        repo.staged(),
    ),
    # Resetting an unknown object or prefix, or a clean branch, is fine.
    "resetting_what_is_not_staged": one_file(
        repo.reset(type="object", path="nope"),
        repo.reset(type="common_prefix", path="nope/"),
        repo.reset(type="reset"),
        repo.tree(),
    ),
    # A reset needs a known type, that of an object a path; that of a prefix without one drops everything.
    "a_reset_of_no_kind": one_file(
        repo.stage_files({"a": "2"}),
        repo.reset(),
        repo.reset(type="all"),
        repo.reset(type="object"),
        repo.reset(type="common_prefix"),
        repo.staged(),
    ),
    # What is staged on one branch does not show on another.
    "staging_areas_are_apart": one_file(
        repo.add_branch(),
        repo.stage_files({"a": "2", "b": "3"}),
        repo.stage_files({"a": None}, "side"),
        repo.tree(),
        repo.tree("side"),
        repo.staged(),
        repo.staged("side"),
    ),
    # A deletion is staged: the branch is without the object at once, its commit keeps it.
    "a_committed_object_is_deleted": to(repository, {"a": "1", "b": "2"})(
        repo.remove("a"), repo.tree(), repo.tree("main@"), repo.staged(), repo.stat("a")
    ),
    # A commit takes the deletion over, and the commit before keeps the object.
    "a_deletion_is_committed": to(repository, {"a": "1", "b": "2"})(
        repo.remove("a"), repo.commit(), repo.tree("main@"), repo.tree("main~")
    ),
    # Deleting what is not there is fine and stages nothing.
    "a_missing_object_is_deleted": one_file(repo.remove("nope"), repo.staged(), repo.commit()),
    # Adding and deleting is no change.
    "a_staged_object_is_deleted": one_file(
        repo.stage_files({"b": "2"}), repo.remove("b"), repo.tree(), repo.staged(), repo.commit()
    ),
    # Deleting and uploading the same content again is no change.
    "a_deleted_object_comes_back": one_file(
        repo.stage_files({"a": None}), repo.upload("a", "1"), repo.staged(), repo.tree(), repo.commit()
    ),
    # Deleting a prefix deletes none of its objects.
    "a_folder_is_not_deleted": to(repository, {"dir/a": "1", "dir/b": "2"})(
        repo.remove("dir"), repo.remove("dir/"), repo.tree()
    ),
    # A missing or empty path is a 400, an unknown branch a 404.
    "deleting_needs_a_path_and_a_branch": one_file(
        repo.delete("/branches/main/objects"), repo.remove(""), repo.remove("a", "nope"), repo.tree()
    ),
    # A batch deletes what is there and does not mind what is not.
    "many_objects_are_deleted": to(repository, {"a": "1", "b": "2", "dir/c": "3", "dir/d": "4"})(
        repo.post(BATCH, {"paths": ["a", "nope", "dir/c", "a"]}), repo.tree(), repo.staged()
    ),
    # An empty batch is fine; a missing or misspelt one is not.
    "a_batch_of_nothing": one_file(
        repo.post(BATCH, {"paths": []}),
        repo.post(BATCH, {}),
        repo.post(BATCH, {"path": ["a"]}),
        repo.post(BATCH, {"paths": [1]}),
        repo.post(BATCH, {"paths": "a"}),
        repo.tree(),
    ),
    # A batch on an unknown branch answers 200 without an error.
    "a_batch_on_a_branch_that_is_not_there": one_file(
        repo.post("/branches/nope/objects/delete", {"paths": ["a"]}),
        repo.post("/branches/no.pe/objects/delete", {"paths": ["a"]}),
        repo.tree(),
    ),
    # What a batch says about a path that is empty or too long.
    "a_batch_with_an_empty_path": one_file(
        repo.post(BATCH, {"paths": ["", "a"]}), repo.tree(), repo.post(BATCH, {"paths": ["é" * 600]})
    ),
    # A branch can be emptied, and its commit has a tree of nothing.
    "everything_is_deleted": one_file(repo.remove("a"), repo.commit(), repo.tree("main@"), repo.diff("main~", "main")),
}
