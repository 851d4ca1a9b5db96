"""Three-way merges in which lakeFS loses a change, and their harmless neighbours (`docs/dev/servers/lakefs.md`,
"lakeFS's three-way merge").

The server compares a new path with the *next* entry of the base by content alone.
"""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .repositories import Files, Repository, diverged

LOSSES: dict[str, tuple[Files, Files, Files]] = {
    # Both added `q`; the target's has the content of the next base entry and is overwritten without a conflict.
    "the_addition_of_the_target_is_overwritten": ({"a": "", "t": "same"}, {"q": "same"}, {"q": "other"}),
    # Both added `q`; the source's has the content of the next base entry and is dropped without a conflict.
    "the_addition_of_the_source_is_dropped": ({"a": "", "t": "same"}, {"q": "other"}, {"q": "same"}),
    # The source's new `m` has the content of `z`, which the target deleted: it is missing.
    "an_added_file_is_lost": ({"a": "1", "z": ""}, {"z": None}, {"m": ""}),
    # The target's new `m` has the content of `z`, which the source deleted: it is gone.
    "a_published_file_is_lost": ({"a": "1", "z": ""}, {"m": ""}, {"z": None}),
    # The source's new `m` has the content of `z`, which the target deleted next to another change: it is missing.
    "a_renamed_file_is_lost": ({"a": "1", "z": "data"}, {"a": "2", "z": None}, {"m": "data"}),
    # Both added `q` with contents that the base has nowhere: a conflict.
    "other_content_is_a_conflict": ({"a": "", "t": "same"}, {"q": "1"}, {"q": "2"}),
    # A new file beside a deletion stays if its content is another.
    "other_content_is_kept": ({"a": "1", "z": ""}, {"z": None}, {"m": "new"}),
    # A path that the base holds is compared with itself, whatever the next one contains.
    "a_path_of_the_base_is_safe": ({"m": "1", "z": ""}, {"z": None}, {"m": ""}),
}


@scenario_for_each(LOSSES)
def losses(rest: Rest, case: tuple[Files, Files, Files]) -> None:
    """What the diff says, what the merge answers, and what is left."""
    base, main, side = case
    repo = diverged(rest, base, main=main, side=side)
    repo.diff("main", "side")
    repo.merge()
    repo.tree("main")


@scenario_with(diverged, {"a": "1", "z": ""}, side={"m": "", "z": None})
def an_unmoved_target_is_safe(repo: Repository) -> None:
    """With an unmoved target the source's tree is taken as it is, renames included."""
    repo.merge()
    repo.tree("main")
