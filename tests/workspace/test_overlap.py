"""Where the changes of a task and those of others meet, against a slow oracle that builds both trees."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perago.workspace.changes import combined, find_overlap

KEYS = ("a", "A", "a/b", "a/B", "a/b/c", "d/x", "D/y", "d", "e")
SIZES = st.sampled_from([1, 2])


@st.composite
def changed(draw: st.DrawFn, tree: Mapping[str, int]) -> dict[str, int | None]:
    """Changes after which the tree can still be laid out on any disk."""
    changes: dict[str, int | None] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=4)):
        changes[key] = draw(st.none() | SIZES) if key in tree else draw(SIZES)
        if not is_a_tree(applied(tree, changes)):
            del changes[key]
    return changes


def applied(tree: Mapping[str, int], changes: Mapping[str, int | None]) -> dict[str, int]:
    sizes = {**tree, **changes}
    return {key: size for key, size in sizes.items() if size is not None}


def is_a_tree(files: Mapping[str, int]) -> bool:
    """Whether each name stands for one thing on a disk that folds names."""
    spelt: dict[str, tuple[str, bool]] = {}
    for key in files:
        parts = key.split("/")
        for length in range(1, len(parts) + 1):
            path, is_file = "/".join(parts[:length]), length == len(parts)
            folded = unicodedata.normalize("NFD", path).casefold()
            if spelt.setdefault(folded, (path, is_file)) != (path, is_file):
                return False
    return True


@given(st.data())
def test_both_changes_fit_into_one_tree_exactly_if_nothing_is_in_the_way(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(KEYS), unique=True))
    base: dict[str, int] = {}
    for key in keys:
        if is_a_tree({**base, key: 1}):
            base[key] = 1
    mine, theirs = data.draw(changed(base)), data.draw(changed(base))
    put = {key: size for key, size in mine.items() if size is not None}
    removed = {key for key, size in mine.items() if size is None}
    own = applied(base, mine)
    names = {"/".join(key.split("/")[:length]) for key in own for length in range(1, key.count("/") + 2)}

    overlap = find_overlap(put, removed, theirs, names=names)

    both = mine.keys() & theirs.keys()
    meets = {key for key in both if mine[key] != theirs[key]}
    fits = is_a_tree(applied(applied(base, theirs), mine))
    assert bool(overlap.conflicts) == bool(meets or not fits)
    assert meets <= set(overlap.conflicts)
    assert overlap.shared == {key for key in both if mine[key] is None is theirs[key]}
    assert overlap.undecided == {key for key in both if mine[key] is not None and mine[key] == theirs[key]}
    if not overlap.conflicts:
        assert combined(own, theirs, mine, "") == applied(applied(base, theirs), mine)


@pytest.mark.parametrize("is_conflict", [True, False])
@pytest.mark.parametrize("reads", [["*.json"], ["sub/**"], []])
def test_the_read_globs_are_relative_to_the_prefix(reads: list[str], is_conflict: bool) -> None:
    others: dict[str, int | None] = {"p/config.json": 1, "config.json": None, "p/sub/x": None}
    if not is_conflict:
        others = {"config.json": 1, "sub/x": None, "p/other": 1}
    conflicts = find_overlap({"p/mine": 1}, (), others, reads=reads, key_prefix="p/").conflicts
    expected = {"*.json": "p/config.json", "sub/**": "p/sub/x"}
    assert set(conflicts) == ({expected[reads[0]]} if reads and is_conflict else set())


def test_a_read_file_is_a_conflict_even_if_both_made_the_same_change() -> None:
    others: dict[str, int | None] = {"removed": None, "written": 1}
    conflicts = find_overlap({"written": 1}, {"removed"}, others, reads=["*"]).conflicts
    assert conflicts == {
        "removed": "was read by this task (`reads`), and removed there",
        "written": "was read by this task (`reads`), and changed there",
    }


def test_names_that_the_input_has_in_two_spellings_are_no_conflict() -> None:
    names = {"Data", "data", "Data/a", "data/b"}
    assert find_overlap({"Data/a": 1}, (), {"data/b": 2}, names=names).conflicts == {}
    assert set(find_overlap({"Data/a": 1}, (), {"data/b": 2}, names={"Data", "Data/a"}).conflicts) == {"data/b"}


def test_only_the_workspace_part_of_foreign_changes_is_visible() -> None:
    others: dict[str, int | None] = {"p/new": 1, "p/gone": None, "p/mine": 9, "other": 1, "p/marker/": 0}
    assert combined({"mine": 2, "gone": 1}, others, {"p/mine"}, "p/") == {"mine": 2, "new": 1}
