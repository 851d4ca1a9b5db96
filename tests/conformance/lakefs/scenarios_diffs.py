"""Differences of two refs."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import Files, diverged, repository

BASE: Files = {"both": "0", "changed": "0", "gone": "0", "kept": "0"}


@scenario
def three_dots_start_at_the_merge_base(rest: Rest) -> None:
    """By default a diff shows what the right side did since both parted."""
    repo = diverged(rest, BASE, main={"new-main": "1", "kept": "1"}, side={"new": "22", "changed": "333", "gone": None})
    repo.diff("main", "side")
    repo.diff("main", "side", type="three_dot")
    repo.diff("side", "main")


@scenario
def two_dots_compare_directly(rest: Rest) -> None:
    """With two dots a diff compares the two trees, so what the left side did shows as undone."""
    repo = diverged(rest, BASE, main={"new-main": "1", "kept": "1"}, side={"new": "22", "changed": "333", "gone": None})
    repo.diff("main", "side", type="two_dot")
    repo.diff("side", "main", type="two_dot")


@scenario
def both_sides_changed_a_path(rest: Rest) -> None:
    """With three dots a path that both sides changed is a conflict, with two dots it is changed."""
    repo = diverged(rest, BASE, main={"both": "1", "gone": "1"}, side={"both": "2", "gone": None})
    repo.diff("main", "side")
    repo.diff("main", "side", type="two_dot")


@scenario
def both_sides_added_a_path(rest: Rest) -> None:
    """Different additions are a conflict, the same addition is none."""
    repo = diverged(rest, BASE, main={"new": "1", "same": "1"}, side={"new": "2", "same": "1"})
    repo.diff("main", "side")
    repo.diff("main", "side", type="two_dot")


@scenario
def both_sides_did_the_same(rest: Rest) -> None:
    """What both sides did alike is no difference."""
    repo = diverged(rest, BASE, main={"both": "1", "gone": None}, side={"both": "1", "gone": None})
    repo.diff("main", "side")
    repo.diff("main", "side", type="two_dot")


@scenario
def the_other_side_deleted_what_this_one_changed(rest: Rest) -> None:
    """Changed here and deleted there is a conflict, whichever side it is."""
    repo = diverged(rest, BASE, main={"both": None, "changed": "1"}, side={"both": "2", "changed": None})
    repo.diff("main", "side")
    repo.diff("side", "main")


@scenario
def a_ref_does_not_differ_from_itself(rest: Rest) -> None:
    """A diff of a ref with itself is empty."""
    repo = repository(rest, {"a": "1"})
    repo.diff("main", "main")
    repo.diff("main", "main@", type="two_dot")


@scenario
def what_is_staged_is_no_part_of_a_diff(rest: Rest) -> None:
    """A diff compares committed states, unless a ref is written with `$`."""
    repo = repository(rest, {"a": "1"})
    repo.stage_files({"a": "2", "b": "3"})
    repo.diff("main~", "main", type="two_dot")
    repo.diff("main", "main$", type="two_dot")
    repo.diff("main", "main$")
    repo.diff("main$", "main", type="two_dot")


@scenario
def a_diff_of_two_commits(rest: Rest) -> None:
    """A diff along one line of history shows what lies between, and nothing backwards with three dots."""
    repo = repository(rest, {"a": "1"})
    repo.commit_files({"b": "2"})
    repo.commit_files({"a": None, "c": "3"})
    repo.diff("main~2", "main")
    repo.diff("main", "main~2")
    repo.diff("main", "main~2", type="two_dot")


@scenario
def a_type_of_diff_that_is_not_there(rest: Rest) -> None:
    """There are two types of diff."""
    repo = repository(rest, {"a": "1"})
    repo.diff("main~", "main", type="four_dot")
    repo.diff("main~", "main", type="")


@scenario
def pages_of_a_diff(rest: Rest) -> None:
    """Differences come page by page, behind a path, below a prefix."""
    repo = diverged(rest, {"a/1": "", "z": ""}, side={"a/1": "1", "a/2": "", "b/1": "", "b/2": "", "z": None})
    repo.diff("main", "side", amount=2)
    repo.diff("main", "side", amount=2, after="a/2")
    repo.diff("main", "side", amount=5)
    repo.diff("main", "side", prefix="b/")
    repo.diff("main", "side", prefix="b/", after="b/1", type="two_dot")
    repo.diff("main", "side", after="z")
    repo.diff("main", "side", amount="1001")


@scenario
def folders_of_a_diff(rest: Rest) -> None:
    """With a delimiter, differences below a folder are one change of it."""
    repo = diverged(
        rest, {"a/1": "", "z": ""}, side={"a/1": None, "b/1": "", "b/2": "", "c": "", "cc": "", "d/e/f": ""}
    )
    repo.diff("main", "side", delimiter="/")
    repo.diff("main", "side", delimiter="/", type="two_dot", amount=2)
    repo.diff("main", "side", delimiter="/", prefix="d/")
    for after in ("a", "b", "b/", "c", "d", "d/", "d/1", "d/3/4", "e"):
        repo.diff("main", "side", delimiter="/", after=after)
        repo.diff("main", "side", delimiter="/", prefix="d/", after=after)


@scenario
def the_type_of_an_object_is_a_difference(rest: Rest) -> None:
    """Another content type or other metadata is a difference, another time or address is none."""
    repo = diverged(rest, {"kind": "1", "meta": "1", "same": "1"})
    with rest.unnoted():
        repo.upload("kind", "1", "side", headers={"Content-Type": "text/csv"})
        repo.upload("meta", "1", "side", headers={"Content-Type": "text/plain", "x-lakefs-meta-k": "v"})
        repo.upload("same", "1", "side")
        repo.commit("side")
    repo.diff("main", "side")


@scenario
def a_diff_after_a_merge(rest: Rest) -> None:
    """A merge moves the merge base, so only what came later is a difference."""
    repo = diverged(rest, {"a": "1"}, side={"b": "2"})
    with rest.unnoted():
        repo.merge("side")
    repo.diff("main", "side")
    repo.diff("side", "main")
    repo.commit_files({"c": "3"}, "side")
    repo.diff("main", "side")


@scenario
def the_merge_base_is_found(rest: Rest) -> None:
    """The merge base of two refs can be asked for."""
    repo = diverged(rest, {"a": "1"}, main={"b": "2"}, side={"c": "3"})
    repo.get("/refs/side/merge/main")
    repo.get("/refs/nope/merge/main")
    repo.get("/refs/side/merge/nope")
    repo.show("main~")


@scenario
def unrelated_sizes(rest: Rest) -> None:
    """A difference carries the size of the right side, or of the left one where the right has none."""
    repo = diverged(rest, {"shrunk": "4444", "gone": "55555"}, side={"shrunk": "1", "gone": None, "new": "22"})
    repo.diff("main", "side")
    repo.diff("main", "side", type="two_dot")


@scenario
def a_diff_with_the_right_side(rest: Rest) -> None:
    """`include_right_stats` tells what lies on the right side."""
    repo = diverged(rest, BASE, main={"both": "1"}, side={"new": "22", "changed": "333", "gone": None, "both": "2"})
    repo.diff("main", "side", include_right_stats="true")
    repo.diff("main", "side", include_right_stats="true", type="two_dot")
    repo.diff("main", "side", include_right_stats="false", amount=1)
