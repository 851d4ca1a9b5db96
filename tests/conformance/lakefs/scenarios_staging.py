"""What is staged: its diff, and resetting it."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository


@scenario
def what_is_staged(rest: Rest) -> None:
    """The diff of a branch tells what was added, changed and removed; what was removed has no size."""
    repo = repository(rest, {"changed": "1", "kept": "1", "removed": "1"})
    repo.stage_files({"added": "22", "changed": "333", "removed": None})
    repo.staged()


@scenario
def a_clean_branch(rest: Rest) -> None:
    """Nothing is staged on a new branch."""
    repo = repository(rest, {"a": "1"})
    repo.staged()


@scenario
def the_same_content_again(rest: Rest) -> None:
    """Uploading the same content again is no change, but shows a new address until the next commit."""
    repo = repository(rest)
    repo.upload("a", "1")
    with rest.unnoted():
        repo.commit()
    repo.upload("a", "1")
    repo.stat("a")
    repo.staged()
    repo.commit()
    repo.stat("a")
    repo.stat("a", "main@")


@scenario
def the_same_content_again_is_dropped_by_a_commit(rest: Rest) -> None:
    """A commit of something else drops the copy of an unchanged object: its old address is back."""
    repo = repository(rest)
    repo.upload("a", "1")
    with rest.unnoted():
        repo.commit()
    repo.upload("a", "1")
    repo.upload("b", "2")
    repo.staged()
    repo.commit()
    repo.stat("a")


@scenario
def the_same_content_again_does_not_hinder_a_merge(rest: Rest) -> None:
    """A copy of an unchanged object does not make a branch dirty, and the merge drops it."""
    repo = repository(rest, {"a": "1"})
    repo.add_branch()
    repo.commit_files({"b": "2"}, "side")
    repo.stat("a")
    repo.upload("a", "1")
    repo.merge("side")
    repo.stat("a")
    repo.staged()


@scenario
def another_type_is_a_change(rest: Rest) -> None:
    """The content type belongs to what an object is."""
    repo = repository(rest, {"a": "1"})
    repo.upload("a", "1", headers={"Content-Type": "text/csv"})
    repo.staged()
    repo.commit()
    repo.stat("a")


@scenario
def other_metadata_is_a_change(rest: Rest) -> None:
    """User metadata belongs to what an object is."""
    repo = repository(rest, {"a": "1"})
    repo.upload("a", "1", headers={"Content-Type": "text/plain", "x-lakefs-meta-k": "v"})
    repo.staged()
    repo.commit()
    repo.stat("a")


@scenario
def a_change_taken_back(rest: Rest) -> None:
    """Changing an object and changing it back is no change."""
    repo = repository(rest, {"a": "1"})
    repo.stage_files({"a": "2"})
    repo.upload("a", "1")
    repo.staged()
    repo.commit()


@scenario
def pages_of_what_is_staged(rest: Rest) -> None:
    """Staged changes come page by page, behind a path, below a prefix."""
    repo = repository(rest)
    repo.stage_files(dict.fromkeys(("a/1", "a/2", "b/1", "b/2", "c"), ""))
    repo.staged(amount=2)
    repo.staged(amount=2, after="a/2")
    repo.staged(prefix="b/")
    repo.staged(prefix="b/", after="b/1")
    repo.staged(after="c")
    repo.staged(amount="1001")


@scenario
def folders_of_what_is_staged(rest: Rest) -> None:
    """With a delimiter, changes below a folder are one change of it."""
    repo = repository(rest, {"a/1": "", "b/1": ""})
    repo.stage_files({"a/1": None, "b/2": "", "c": "", "d/1": "", "d/2": ""})
    repo.staged(delimiter="/")
    repo.staged(delimiter="/", prefix="d/")
    repo.staged(delimiter="/", amount=2)
    for after in ("a", "b", "d/", "d/1", "e"):
        repo.staged(delimiter="/", after=after)


@scenario
def resetting_everything(rest: Rest) -> None:
    """A reset drops all that is staged and moves no head."""
    repo = repository(rest, {"a": "1", "b": "2"})
    repo.stage_files({"a": None, "b": "3", "c": "4"})
    repo.reset(type="reset")
    repo.tree()
    repo.staged()
    repo.show("main")


@scenario
def resetting_one_object(rest: Rest) -> None:
    """A reset of an object drops its change only."""
    repo = repository(rest, {"a": "1", "a/b": "2", "c": "3"})
    repo.stage_files({"a": "9", "a/b": "9", "c": None})
    repo.reset(type="object", path="a")
    repo.staged()
    repo.reset(type="object", path="c")
    repo.staged()


@scenario
def resetting_a_folder(rest: Rest) -> None:
    """A reset of a prefix drops all changes below it, whatever the prefix ends in."""
    repo = repository(rest, {"dir/a": "1", "dir/b": "2", "dirt": "3"})
    repo.stage_files({"dir/a": "9", "dir/b": None, "dir/c": "9", "dirt": "9"})
    repo.reset(type="common_prefix", path="dir/")
    repo.staged()
    repo.reset(type="common_prefix", path="dir")
    repo.staged()


@scenario
def resetting_what_is_not_staged(rest: Rest) -> None:
    """Resetting an unknown object or prefix, or a clean branch, is fine."""
    repo = repository(rest, {"a": "1"})
    repo.reset(type="object", path="nope")
    repo.reset(type="common_prefix", path="nope/")
    repo.reset(type="reset")
    repo.tree()


@scenario
def a_reset_of_no_kind(rest: Rest) -> None:
    """A reset needs a known type, that of an object a path; that of a prefix without one drops everything."""
    repo = repository(rest, {"a": "1"})
    repo.stage_files({"a": "2"})
    repo.reset()
    repo.reset(type="all")
    repo.reset(type="object")
    repo.reset(type="common_prefix")
    repo.staged()


@scenario
def staging_areas_are_apart(rest: Rest) -> None:
    """What is staged on one branch does not show on another."""
    repo = repository(rest, {"a": "1"})
    repo.add_branch()
    repo.stage_files({"a": "2", "b": "3"}, "main")
    repo.stage_files({"a": None}, "side")
    repo.tree("main")
    repo.tree("side")
    repo.staged("main")
    repo.staged("side")
