"""Published trees, and how the differences of trees are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.testing import PublishedTree, TaskRunner
from perago.trees.differences import Digest, digest_of, explain, file_difference, tree_differences

from .tasks_for_runner import Params, copy


def summary_of(path: str, before: bytes, after: bytes) -> tuple[str, tuple[str, ...]]:
    difference = file_difference(path, before, after)
    assert difference is not None
    return difference.summary, difference.lines


def test_a_text_by_its_lines() -> None:
    assert summary_of("a.txt", b"one\ntwo\n", b"one\n2\n") == (
        "1 line before, 1 line now",
        ("@@ -1,2 +1,2 @@", " one", "-two", "+2"),
    )
    assert summary_of("a.txt", b"one\n", b"one\r\n")[0] == "only the line ends differ"


def test_a_table_by_row_and_column() -> None:
    assert summary_of("a.csv", b"x,y\n1,2\n3,4\n", b"x,y\n1,2\n3,5\n") == (
        "1 of 2 rows differs, in column y",
        ("row 2, y: '4' → '5'",),
    )
    assert summary_of("a.csv", b"x\n1\n", b"x\n1\n2\n") == ("1 row before, 2 now; 0 removed, 1 added", ("+ ('2',)",))
    assert summary_of("a.csv", b"x\n1\n2\n", b"x\n2\n1\n")[0] == "the same rows in a different order"
    assert summary_of("a.csv", b"x\n1\n", b"y\n1\n")[0] == "without column x and with new column y"


def test_json_lines_and_broken_tables() -> None:
    assert summary_of("a.jsonl", b'{"a": 1}\n', b'{"a": 1.5}\n')[0] == "1 of 1 row differs, in column a"
    assert summary_of("a.csv", b"x,y\n1\n", b"x,y\n2\n")[0] == "1 line before, 1 line now"
    assert summary_of("a.jsonl", b"{", b"}")[0] == "1 line before, 1 line now"


def test_parquet_by_row_and_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, value in (("before", 2), ("after", 3)):
        parquet.write_table(pyarrow.table({"x": [1, value], "s": ["a", "b"]}), tmp_path / name)

    difference = file_difference("t.parquet", tmp_path / "before", tmp_path / "after")
    assert difference is not None
    assert (difference.summary, difference.columns) == ("1 of 2 rows differs, in column x", ("x",))
    monkeypatch.setattr("perago.trees.differences.MOST_CELLS", 3)
    difference = file_difference("t.parquet", tmp_path / "before", tmp_path / "after")
    assert difference is not None
    assert "md5" in difference.summary


def test_other_bytes_by_size_and_digest() -> None:
    summary, lines = summary_of("a.bin", b"\0\1", b"\0\1\2")
    assert summary.startswith("2 bytes before, 3 bytes now; md5 ")
    assert lines == ()
    known = Digest(1, "0" * 32)
    difference = file_difference("a.txt", known, b"x")
    assert difference is not None
    assert "md5 000000000000… before" in difference.summary
    assert file_difference("a.txt", digest_of(b"x"), b"x") is None


def test_files_that_come_and_go(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"same")

    differences = tree_differences({"a": b"1", "b": file, "bad\nname": b"1"}, {"b": b"same", "c": b"12"})
    assert [str(difference) for difference in differences] == [
        "a: no longer exists",
        "bad\nname: no longer exists",
        "c: is new, 2 bytes",
    ]


def test_hidden_characters_are_spelled_out_and_long_differences_cut() -> None:
    _, lines = summary_of("a.txt", b"\x1b[31mred\n", b"")
    assert lines[-1] == "-⟨U+001B⟩[31mred"
    _, many = summary_of("a.txt", b"".join(b"%d\n" % number for number in range(100)), b"")
    assert many[-1] == "… and 61 more lines"


# --------------------------------------------------------------------------------- published trees


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
    explanation = explain(left, right)
    assert explanation is not None
    return explanation


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
