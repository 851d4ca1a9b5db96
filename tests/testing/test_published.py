"""Published trees: what they equal, what an outcome says of them, and how a difference is told."""

from __future__ import annotations

import pytest

from perago.testing import PublishedTree, TaskRunner
from perago.testing.published import explain, tree_differences

from .tasks_for_runner import Params, copy

TREE = PublishedTree({"a.txt": b"1\n", "b.bin": b"\x00\xff"})


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ({"a.txt": "1\n", "b.bin": b"\x00\xff"}, True),
        ({"b.bin": b"\x00\xff", "a.txt": b"1\n"}, True),
        ({"a.txt": "1\n"}, False),
        ({"a.txt": "1\n", "b.bin": b"\x00\xff", "c": ""}, False),
        ({"a.txt": "2\n", "b.bin": b"\x00\xff"}, False),
        ({"a.txt": None, "b.bin": b"\x00\xff"}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
def test_it_equals_a_mapping_of_the_same_where_text_is_utf_8(other: object, equal: bool) -> None:
    tree = PublishedTree(TREE)
    assert (tree == other) is (other == tree) is equal
    assert (tree != other) is (other != tree) is not equal


def test_an_outcome_has_the_tree_of_its_commit_and_not_a_later_one(run: TaskRunner) -> None:
    first = run(copy, Params(), tree={"raw/a.csv": "old", "raw/b.csv": "removed"})
    run.commit({"later.txt": ""})
    assert first.tree == {"raw/a.csv": "old", "copy.csv": "old"}
    assert first.tree.text("copy.csv") == "old"
    assert "later.txt" in run.tree()


def test_an_outcome_without_a_commit_says_why_it_has_no_tree(run: TaskRunner) -> None:
    outcome = run(copy, Params(), tree={})
    with pytest.raises(LookupError, match=r"nothing was published: .*FAILED_WITH_TERMINAL_ERROR: pre guardrail"):
        _ = outcome.tree


def test_a_difference_is_told_by_file_and_by_line() -> None:
    left = {"same": "x", "new.txt": "n", "lines.txt": "1\n2\n3\n", "data.bin": b"\0" * 100}
    right = {"same": b"x", "old\x1b.txt": "o", "lines.txt": "1\n2\n", "data.bin": b"\1" * 100}
    assert tree_differences(left, right) == [
        "+ new.txt  'n'",
        "- old⟨U+001B⟩.txt  'o'",
        "~ data.bin",
        "  + 100 B, sha256 cd00e292c597",
        "  - 100 B, sha256 80f93e8c7d0e",
        "~ lines.txt",
        "  @@ -2 +2,2 @@",
        "   2",
        "  +3",
    ]


def test_long_differences_are_cut() -> None:
    lines = tree_differences(
        {f"{number:03}": "" for number in range(50)} | {"x": "a\n" * 500 + "b" * 900}, {"x": "c\n" * 500}
    )
    assert lines[20:22] == ["~ x", "  @@ -1,500 +1,501 @@"]
    assert lines[-2:] == ["  and more lines", "and 30 more files"]
    assert len(lines) < 70


def test_only_comparisons_of_published_trees_are_explained() -> None:
    assert explain({"a": b""}, {}) is None
    assert explain(TREE, 3) is None
    for left, right in ((TREE, {}), ({}, TREE)):
        told = explain(left, right)
        assert told is not None
        assert told[0] == "published tree == expected: 2 files differ (+ published, - expected)"
        assert told[1] == "+ a.txt  '1\\n'"
