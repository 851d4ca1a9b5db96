"""Deleting objects."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository

BATCH = "/branches/main/objects/delete"


@scenario_with(repository, {"a": "1", "b": "2"})
def a_committed_object_is_deleted(repo: Repository) -> None:
    """A deletion is staged: the branch is without the object at once, its commit keeps it."""
    repo.remove("a")
    repo.tree("main")
    repo.tree("main@")
    repo.staged()
    repo.stat("a")


@scenario_with(repository, {"a": "1", "b": "2"})
def a_deletion_is_committed(repo: Repository) -> None:
    """A commit takes the deletion over, and the commit before keeps the object."""
    repo.remove("a")
    repo.commit()
    repo.tree("main@")
    repo.tree("main~")


@scenario_with(repository, {"a": "1"})
def a_missing_object_is_deleted(repo: Repository) -> None:
    """Deleting what is not there is fine and stages nothing."""
    repo.remove("nope")
    repo.staged()
    repo.commit()


@scenario_with(repository, {"a": "1"})
def a_staged_object_is_deleted(repo: Repository) -> None:
    """Adding and deleting is no change."""
    repo.stage_files({"b": "2"})
    repo.remove("b")
    repo.tree()
    repo.staged()
    repo.commit()


@scenario_with(repository, {"a": "1"})
def a_deleted_object_comes_back(repo: Repository) -> None:
    """Deleting and uploading the same content again is no change."""
    repo.stage_files({"a": None})
    repo.upload("a", "1")
    repo.staged()
    repo.tree()
    repo.commit()


@scenario_with(repository, {"dir/a": "1", "dir/b": "2"})
def a_folder_is_not_deleted(repo: Repository) -> None:
    """Deleting a prefix deletes none of its objects."""
    repo.remove("dir")
    repo.remove("dir/")
    repo.tree()


@scenario_with(repository, {"a": "1"})
def deleting_needs_a_path_and_a_branch(repo: Repository) -> None:
    """A missing or empty path is a 400, an unknown branch a 404."""
    repo.call("DELETE", "/branches/main/objects")
    repo.remove("")
    repo.remove("a", "nope")
    repo.tree()


@scenario_with(repository, {"a": "1", "b": "2", "dir/c": "3", "dir/d": "4"})
def many_objects_are_deleted(repo: Repository) -> None:
    """A batch deletes what is there and does not mind what is not."""
    repo.post(BATCH, {"paths": ["a", "nope", "dir/c", "a"]})
    repo.tree()
    repo.staged()


@scenario_with(repository, {"a": "1"})
def a_batch_of_nothing(repo: Repository) -> None:
    """An empty batch is fine; a missing or misspelt one is not."""
    repo.post(BATCH, {"paths": []})
    repo.post(BATCH, {})
    repo.post(BATCH, {"path": ["a"]})
    repo.post(BATCH, {"paths": [1]})
    repo.post(BATCH, {"paths": "a"})
    repo.tree()


@scenario_with(repository, {"a": "1", "b": "2"})
def a_batch_of_more_than_a_thousand(repo: Repository) -> None:
    """A batch holds a thousand paths, not more, and too large a one deletes nothing."""
    with repo.rest.unnoted():
        full = repo.post(BATCH, {"paths": ["a", *(f"{n}" for n in range(999))]})
        over = repo.post(BATCH, {"paths": ["b", *(f"{n}" for n in range(1000))]})
    repo.rest.note("1,000 paths", {"status": full.status, "body": full.json})
    repo.rest.note("1,001 paths", {"status": over.status, "body": over.json})
    repo.tree()


@scenario_with(repository, {"a": "1"})
def a_batch_on_a_branch_that_is_not_there(repo: Repository) -> None:
    """A batch on an unknown branch answers 200 without an error."""
    repo.post("/branches/nope/objects/delete", {"paths": ["a"]})
    repo.post("/branches/no.pe/objects/delete", {"paths": ["a"]})
    repo.tree()


@scenario_with(repository, {"a": "1"})
def a_batch_with_an_empty_path(repo: Repository) -> None:
    """What a batch says about a path that is empty or too long."""
    repo.post(BATCH, {"paths": ["", "a"]})
    repo.tree()
    repo.post(BATCH, {"paths": ["é" * 600]})


@scenario_with(repository, {"a": "1"})
def everything_is_deleted(repo: Repository) -> None:
    """A branch can be emptied, and its commit has a tree of nothing."""
    repo.remove("a")
    repo.commit()
    repo.tree("main@")
    repo.diff("main~", "main")
