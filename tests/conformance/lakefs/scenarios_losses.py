"""Three-way merges in which lakeFS loses a change, and their harmless neighbours (`docs/servers/lakefs.md` 1.7).

The server compares a new path with the *next* entry of the base by content alone.
"""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import Files, diverged


def _lose(rest: Rest, base: Files, main: Files, side: Files) -> None:
    """What the diff says, what the merge answers, and what is left."""
    repo = diverged(rest, base, main=main, side=side)
    repo.diff("main", "side")
    repo.merge()
    repo.tree("main")


@scenario
def the_addition_of_the_target_is_overwritten(rest: Rest) -> None:
    """Both added `q`; the target's has the content of the next base entry and is overwritten without a conflict."""
    _lose(rest, {"a": "", "t": "same"}, {"q": "same"}, {"q": "other"})


@scenario
def the_addition_of_the_source_is_dropped(rest: Rest) -> None:
    """Both added `q`; the source's has the content of the next base entry and is dropped without a conflict."""
    _lose(rest, {"a": "", "t": "same"}, {"q": "other"}, {"q": "same"})


@scenario
def an_added_file_is_lost(rest: Rest) -> None:
    """The source's new `m` has the content of `z`, which the target deleted: it is missing."""
    _lose(rest, {"a": "1", "z": ""}, {"z": None}, {"m": ""})


@scenario
def a_published_file_is_lost(rest: Rest) -> None:
    """The target's new `m` has the content of `z`, which the source deleted: it is gone."""
    _lose(rest, {"a": "1", "z": ""}, {"m": ""}, {"z": None})


@scenario
def a_renamed_file_is_lost(rest: Rest) -> None:
    """The source's new `m` has the content of `z`, which the target deleted next to another change: it is missing."""
    _lose(rest, {"a": "1", "z": "data"}, {"a": "2", "z": None}, {"m": "data"})


@scenario
def other_content_is_a_conflict(rest: Rest) -> None:
    """Both added `q` with contents that the base has nowhere: a conflict."""
    _lose(rest, {"a": "", "t": "same"}, {"q": "1"}, {"q": "2"})


@scenario
def other_content_is_kept(rest: Rest) -> None:
    """A new file beside a deletion stays if its content is another."""
    _lose(rest, {"a": "1", "z": ""}, {"z": None}, {"m": "new"})


@scenario
def a_path_of_the_base_is_safe(rest: Rest) -> None:
    """A path that the base holds is compared with itself, whatever the next one contains."""
    _lose(rest, {"m": "1", "z": ""}, {"z": None}, {"m": ""})


@scenario
def an_unmoved_target_is_safe(rest: Rest) -> None:
    """With an unmoved target the source's tree is taken as it is, renames included."""
    repo = diverged(rest, {"a": "1", "z": ""}, side={"m": "", "z": None})
    repo.merge()
    repo.tree("main")
