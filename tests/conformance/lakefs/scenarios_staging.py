"""What is staged: its diff, and resetting it."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .repositories import Repository, repository


@scenario_with(repository, {"changed": "1", "kept": "1", "removed": "1"})
def what_is_staged(repo: Repository) -> None:
    """The diff of a branch tells what was added, changed and removed; what was removed has no size."""
    repo.stage_files({"added": "22", "changed": "333", "removed": None})
    repo.staged()


@scenario_with(repository)
def the_same_content_again(repo: Repository) -> None:
    """Uploading the same content again is no change, but shows a new address until the next commit."""
    repo.upload("a", "1")
    with repo.rest.unnoted():
        repo.commit()
    repo.upload("a", "1")
    repo.stat("a")
    repo.staged()
    repo.commit()
    repo.stat("a")
    repo.stat("a", "main@")


@scenario_with(repository)
def the_same_content_again_is_dropped_by_a_commit(repo: Repository) -> None:
    """A commit of something else drops the copy of an unchanged object: its old address is back."""
    repo.upload("a", "1")
    with repo.rest.unnoted():
        repo.commit()
    repo.upload("a", "1")
    repo.upload("b", "2")
    repo.staged()
    repo.commit()
    repo.stat("a")


@scenario_with(repository, {"a": "1"})
def the_same_content_again_does_not_hinder_a_merge(repo: Repository) -> None:
    """A copy of an unchanged object does not make a branch dirty, and the merge drops it."""
    repo.add_branch()
    repo.commit_files({"b": "2"}, "side")
    repo.stat("a")
    repo.upload("a", "1")
    repo.merge("side")
    repo.stat("a")
    repo.staged()


DETAILS = {
    "another_type_is_a_change": {"Content-Type": "text/csv"},
    "other_metadata_is_a_change": {"Content-Type": "text/plain", "x-lakefs-meta-k": "v"},
}


@scenario_for_each(DETAILS)
def details(rest: Rest, case: dict[str, str]) -> None:
    """Content type and user metadata belong to what an object is."""
    repo = repository(rest, {"a": "1"})
    repo.upload("a", "1", headers=case)
    repo.staged()
    repo.commit()
    repo.stat("a")


@scenario_with(repository)
def pages_of_what_is_staged(repo: Repository) -> None:
    """Staged changes come page by page, behind a path, below a prefix."""
    repo.stage_files(dict.fromkeys(("a/1", "a/2", "b/1", "b/2", "c"), ""))
    repo.staged(amount=2)
    repo.staged(amount=2, after="a/2")
    repo.staged(prefix="b/")
    repo.staged(prefix="b/", after="b/1")
    repo.staged(after="c")
    repo.staged(amount="1001")


@scenario_with(repository, {"a/1": "", "b/1": ""})
def folders_of_what_is_staged(repo: Repository) -> None:
    """With a delimiter, changes below a folder are one change of it."""
    repo.stage_files({"a/1": None, "b/2": "", "c": "", "d/1": "", "d/2": ""})
    repo.staged(delimiter="/")
    repo.staged(delimiter="/", prefix="d/")
    repo.staged(delimiter="/", amount=2)
    for after in ("a", "b", "d/", "d/1", "e"):
        repo.staged(delimiter="/", after=after)


@scenario_with(repository, {"a": "1", "b": "2"})
def resetting_everything(repo: Repository) -> None:
    """A reset drops all that is staged and moves no head."""
    repo.stage_files({"a": None, "b": "3", "c": "4"})
    repo.reset(type="reset")
    repo.tree()
    repo.staged()
    repo.show("main")


@scenario_with(repository, {"a": "1", "a/b": "2", "c": "3"})
def resetting_one_object(repo: Repository) -> None:
    """A reset of an object drops its change only."""
    repo.stage_files({"a": "9", "a/b": "9", "c": None})
    repo.reset(type="object", path="a")
    repo.staged()
    repo.reset(type="object", path="c")
    repo.staged()


@scenario_with(repository, {"dir/a": "1", "dir/b": "2", "dirt": "3"})
def resetting_a_folder(repo: Repository) -> None:
    """A reset of a prefix drops all changes below it, whatever the prefix ends in."""
    repo.stage_files({"dir/a": "9", "dir/b": None, "dir/c": "9", "dirt": "9"})
    repo.reset(type="common_prefix", path="dir/")
    repo.staged()
    repo.reset(type="common_prefix", path="dir")
    repo.staged()


@scenario_with(repository, {"a": "1"})
def resetting_what_is_not_staged(repo: Repository) -> None:
    """Resetting an unknown object or prefix, or a clean branch, is fine."""
    repo.reset(type="object", path="nope")
    repo.reset(type="common_prefix", path="nope/")
    repo.reset(type="reset")
    repo.tree()


@scenario_with(repository, {"a": "1"})
def a_reset_of_no_kind(repo: Repository) -> None:
    """A reset needs a known type, that of an object a path; that of a prefix without one drops everything."""
    repo.stage_files({"a": "2"})
    repo.reset()
    repo.reset(type="all")
    repo.reset(type="object")
    repo.reset(type="common_prefix")
    repo.staged()


@scenario_with(repository, {"a": "1"})
def staging_areas_are_apart(repo: Repository) -> None:
    """What is staged on one branch does not show on another."""
    repo.add_branch()
    repo.stage_files({"a": "2", "b": "3"}, "main")
    repo.stage_files({"a": None}, "side")
    repo.tree("main")
    repo.tree("side")
    repo.staged("main")
    repo.staged("side")
