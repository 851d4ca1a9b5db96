"""Published trees: what they equal, what an outcome says of them, and how a difference is told."""

from __future__ import annotations

import pytest

from perago.testing import PublishedTree, TaskRunner
from perago.testing.differences import explain

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


def explained(left: object, right: object) -> list[str]:
    found = explain(left, right)
    assert found is not None
    return found


def test_a_difference_is_reported_by_file_and_by_row_or_line() -> None:
    left = {"same": "x", "new.txt": "n", "lines.txt": "1\n2\n3\n", "t.csv": "x\n1\n", "odd": "1"}
    right = {"same": b"x", "old\x1b.txt": "o", "lines.txt": "1\n2\n", "t.csv": "x\n2\n", "odd": None}
    tree = PublishedTree({path: content.encode() for path, content in left.items()})
    assert explained(right, tree) == explained(tree, right)
    assert explained(tree, right) == [
        "published tree == expected: 5 files differ (+ published, - expected)",
        "~ lines.txt: 0 lines expected, 1 line published",
        "  @@ -2 +2,2 @@",
        "   2",
        "  +3",
        "+ new.txt: 'n'",
        "+ odd: '1'",
        "- odd: no content, but NoneType",
        "- old⟨U+001B⟩.txt: 'o'",
        "~ t.csv: 1 of 1 row differs, in column x",
        "  row 1, x: '2' → '1'",
    ]


def test_long_differences_are_cut() -> None:
    lines = explained(PublishedTree({f"{number:03}": b"" for number in range(50)}), {})
    assert lines[-1] == "and 30 more files"
    assert len(lines) == 22


def test_only_comparisons_of_published_trees_are_explained() -> None:
    assert explain({"a": b""}, {}) is None
    assert explain(TREE, 3) is None
