"""Differences of two refs."""

from __future__ import annotations

from ..scenario import Declared, each, scenario_with, to
from .repositories import Files, Repository, diverged, one_file, repo

BASE: Files = {"both": "0", "changed": "0", "gone": "0", "kept": "0"}


BOTH_SIDES: dict[str, tuple[Files, Files]] = {
    # With three dots a path that both sides changed is a conflict, with two dots it is changed.
    "both_sides_changed_a_path": ({"both": "1", "gone": "1"}, {"both": "2", "gone": None}),
    # Different additions are a conflict, the same addition is none.
    "both_sides_added_a_path": ({"new": "1", "same": "1"}, {"new": "2", "same": "1"}),
    # What both sides did alike is no difference.
    "both_sides_did_the_same": ({"both": "1", "gone": None}, {"both": "1", "gone": None}),
}


@scenario_with(diverged, {"a/1": "", "z": ""}, side={"a/1": None, "b/1": "", "b/2": "", "c": "", "cc": "", "d/e/f": ""})
def folders_of_a_diff(repo: Repository) -> None:
    """With a delimiter, differences below a folder are one change of it."""
    repo.diff("main", "side", delimiter="/")
    repo.diff("main", "side", delimiter="/", type="two_dot", amount=2)
    repo.diff("main", "side", delimiter="/", prefix="d/")
    for after in ("a", "b", "b/", "c", "d", "d/", "d/1", "d/3/4", "e"):
        repo.diff("main", "side", delimiter="/", after=after)
        repo.diff("main", "side", delimiter="/", prefix="d/", after=after)


SCENARIOS: Declared = {
    # Another content type or other metadata is a difference, another time or address is none.
    "the_type_of_an_object_is_a_difference": to(diverged, {"kind": "1", "meta": "1", "same": "1"})(
        repo.silent.upload("kind", "1", "side", headers={"Content-Type": "text/csv"}),
        repo.silent.upload("meta", "1", "side", headers={"Content-Type": "text/plain", "x-lakefs-meta-k": "v"}),
        repo.silent.upload("same", "1", "side"),
        repo.silent.commit("side"),
        repo.diff("main", "side"),
    ),
    # What both sides did to a path, with three dots and with two.
    **each(
        BOTH_SIDES,
        lambda case: to(diverged, BASE, main=case[0], side=case[1])(
            repo.diff("main", "side"), repo.diff("main", "side", type="two_dot")
        ),
    ),
    # Differences come page by page, behind a path, below a prefix.
    "pages_of_a_diff": to(
        diverged, {"a/1": "", "z": ""}, side={"a/1": "1", "a/2": "", "b/1": "", "b/2": "", "z": None}
    )(
        repo.diff("main", "side", amount=2),
        repo.diff("main", "side", amount=2, after="a/2"),
        repo.diff("main", "side", amount=5),
        repo.diff("main", "side", prefix="b/"),
        repo.diff("main", "side", prefix="b/", after="b/1", type="two_dot"),
        repo.diff("main", "side", after="z"),
        repo.diff("main", "side", amount="1001"),
    ),
    # `include_right_stats` tells what lies on the right side.
    "a_diff_with_the_right_side": to(
        diverged, BASE, main={"both": "1"}, side={"new": "22", "changed": "333", "gone": None, "both": "2"}
    )(
        repo.diff("main", "side", include_right_stats="true"),
        repo.diff("main", "side", include_right_stats="true", type="two_dot"),
        repo.diff("main", "side", include_right_stats="false", amount=1),
    ),
    # By default a diff shows what the right side did since both parted.
    "three_dots_start_at_the_merge_base": to(
        diverged, BASE, main={"new-main": "1", "kept": "1"}, side={"new": "22", "changed": "333", "gone": None}
    )(repo.diff("main", "side"), repo.diff("main", "side", type="three_dot"), repo.diff("side", "main")),
    # With two dots a diff compares the two trees, so what the left side did shows as undone.
    "two_dots_compare_directly": to(
        diverged, BASE, main={"new-main": "1", "kept": "1"}, side={"new": "22", "changed": "333", "gone": None}
    )(repo.diff("main", "side", type="two_dot"), repo.diff("side", "main", type="two_dot")),
    # Changed here and deleted there is a conflict, whichever side it is.
    "the_other_side_deleted_what_this_one_changed": to(
        diverged, BASE, main={"both": None, "changed": "1"}, side={"both": "2", "changed": None}
    )(repo.diff("main", "side"), repo.diff("side", "main")),
    # A diff of a ref with itself is empty.
    "a_ref_does_not_differ_from_itself": one_file(
        repo.diff("main", "main"), repo.diff("main", "main@", type="two_dot")
    ),
    # A diff compares committed states, unless a ref is written with `$`.
    "what_is_staged_is_no_part_of_a_diff": one_file(
        repo.stage_files({"a": "2", "b": "3"}),
        repo.diff("main~", "main", type="two_dot"),
        repo.diff("main", "main$", type="two_dot"),
        repo.diff("main", "main$"),
        repo.diff("main$", "main", type="two_dot"),
    ),
    # A diff along one line of history shows what lies between, and nothing backwards with three dots.
    "a_diff_of_two_commits": one_file(
        repo.commit_files({"b": "2"}),
        repo.commit_files({"a": None, "c": "3"}),
        repo.diff("main~2", "main"),
        repo.diff("main", "main~2"),
        repo.diff("main", "main~2", type="two_dot"),
    ),
    # There are two types of diff.
    "a_type_of_diff_that_is_not_there": one_file(
        repo.diff("main~", "main", type="four_dot"), repo.diff("main~", "main", type="")
    ),
    # A merge moves the merge base, so only what came later is a difference.
    "a_diff_after_a_merge": to(diverged, {"a": "1"}, side={"b": "2"})(
        repo.silent.merge("side"),
        repo.diff("main", "side"),
        repo.diff("side", "main"),
        repo.commit_files({"c": "3"}, "side"),
        repo.diff("main", "side"),
    ),
    # The merge base of two refs can be asked for.
    "the_merge_base_is_found": to(diverged, {"a": "1"}, main={"b": "2"}, side={"c": "3"})(
        repo.get("/refs/side/merge/main"),
        repo.get("/refs/nope/merge/main"),
        repo.get("/refs/side/merge/nope"),
        repo.show("main~"),
    ),
    # A difference carries the size of the right side, or of the left one where the right has none.
    "unrelated_sizes": to(
        diverged, {"shrunk": "4444", "gone": "55555"}, side={"shrunk": "1", "gone": None, "new": "22"}
    )(repo.diff("main", "side"), repo.diff("main", "side", type="two_dot")),
}
