"""Snapshots of published trees: written, compared, found unused; and how files are normalised in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.trees.differences import rendered

from .projects import copy_module, run, run_process

WRITES = """
import sys
from pathlib import Path
from work import Params, copy

TREE = {"a.txt": "x,y\\n1,0.5\\n", "old.txt": ""}

def test_one(perago_run, perago_snapshot):
    perago_snapshot.tree(perago_run(copy, Params(target="out/b.csv"), tree=TREE))
    perago_snapshot.tree(perago_run.tree(), "whole", exclude=["old.*"])
"""
DIRECTORY = "tests/__trees__/test_writes"
ONE = """\
# perago: tree of test_writes.py::test_one
out/b.csv: table, 1 row
    x,y
    1,0.5
"""
WHOLE = """\
# perago: tree of test_writes.py::test_one
a.txt: text, 2 lines
    x,y
    1,0.5
out/b.csv: table, 1 row
    x,y
    1,0.5
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A task, and a test that asks for two snapshots."""
    copy_module(pytester, "work", "copy")
    pytester.makepyfile(test_writes=WRITES)
    return pytester


def file(pytester: pytest.Pytester, name: str) -> Path:
    return pytester.path / DIRECTORY / name


def test_a_missing_one_fails_and_says_how_to_create_it(project: pytest.Pytester) -> None:
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*broken contract: there is no snapshot of the tree",
            "E*test*test_writes.py::test_one",
            f"E*snapshot*{DIRECTORY}/test_one.tree",
            "E*create it: pytest --perago-update=new 'test_writes.py::test_one'",
        ]
    )


def test_they_are_written_then_equal_and_differ_by_line(project: pytest.Pytester) -> None:
    result = run(project, "--perago-update=new")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"created {DIRECTORY}/test_one.tree", f"created {DIRECTORY}/test_one.whole.tree"])
    assert file(project, "test_one.tree").read_text() == ONE
    assert file(project, "test_one.whole.tree").read_text() == WHOLE
    run(project).assert_outcomes(passed=1)
    file(project, "test_one.tree").write_text(ONE.replace("0.5", "0.7"))
    result = run(project, "--perago-update=new")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*--- {DIRECTORY}/test_one.tree (snapshot)", "E*+++ the tree now"])
    run(project, "--perago-update").assert_outcomes(passed=1)
    assert file(project, "test_one.tree").read_text() == ONE


def test_numbers_and_quotes_may_be_spelled_differently(project: pytest.Pytester) -> None:
    run(project, "--perago-update=new").assert_outcomes(passed=1)
    test = project.path / "test_writes.py"
    test.write_text(test.read_text().replace(r"x,y\n1,0.5", r"\"x\",y\r\n1,0.50000000000000001"))
    result = run(project)
    result.stdout.fnmatch_lines([">*perago_snapshot.tree(perago_run.tree(), *", "E*-    1,0.5"])
    assert "test_one.tree (snapshot)" not in result.stdout.str()  # the table is the same, the text is not


def test_line_ends_of_git_and_conflicts_are_named(project: pytest.Pytester) -> None:
    run(project, "--perago-update=new")
    file(project, "test_one.tree").write_bytes(ONE.replace("\n", "\r\n").encode())
    run(project).stdout.fnmatch_lines(["E*actual*CRLF*", "E*tests/__trees__/[*][*] text eol=lf*"])
    file(project, "test_one.tree").write_text(f"<<<<<<< a\n{ONE}=======\n>>>>>>> b\n")
    run(project).stdout.fnmatch_lines(["E*the snapshot has conflict markers of a merge"])


def test_a_later_version_is_named(project: pytest.Pytester) -> None:
    run(project, "--perago-update=new")
    file(project, "test_one.tree").write_text(f"# perago.format 2 of perago 0.9.0\n{ONE}")
    run(project).stdout.fnmatch_lines(["E*the snapshot of the tree has format 2, written by perago 0.9.0"])


def test_snapshots_of_deleted_tests_are_named(project: pytest.Pytester) -> None:
    run(project, "--perago-update=new").assert_outcomes(passed=1)
    other = project.makepyfile(test_other="def test_it(): pass")
    test = project.path / "test_writes.py"
    test.write_text(test.read_text().replace("def test_one", "def test_two"))
    assert "unused" not in run(project, str(other)).stdout.str()
    result = run_process(project, "-n2", "--perago-update=new")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for name in ("test_one.tree", "test_one.whole.tree"):
        reason = "there is no test test_writes.py::test_one"
        result.stdout.fnmatch_lines([f"unused: {DIRECTORY}/{name}: {reason}"])
    test.unlink()
    result = run(project, "--perago-unused=warn")
    result.stdout.fnmatch_lines([f"unused: {DIRECTORY}/test_two.tree: there is no file test_writes.py", "remove: rm *"])
    assert result.ret == pytest.ExitCode.OK


def test_odd_test_names_become_files_of_their_own(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_writes="""
        import pytest

        class TestOdd:
            @pytest.mark.parametrize("name", ["a/b", "a:b", "../x", "ä", "x" * 300])
            def test_it(self, perago_snapshot, name):
                perago_snapshot.tree({name: name})
        """
    )
    run(project, "--perago-update=new").assert_outcomes(passed=5)
    run(project).assert_outcomes(passed=5)
    names = sorted(path.name for path in (project.path / DIRECTORY).iterdir())
    assert len(names) == 5
    assert names[0].startswith("TestOdd.test_it[.._x]-")
    assert all(len(name) < 150 for name in names)


def test_invalid_requests_are_refused(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_writes="""
        import pytest
        from work import copy

        def test_it(perago_run, perago_snapshot):
            perago_snapshot.tree({}, "first")
            with pytest.raises(ValueError, match="already"):
                perago_snapshot.tree({}, "first")
            with pytest.raises(ValueError, match="must be letters"):
                perago_snapshot.tree({}, "a/b")
            with pytest.raises(TypeError, match="an outcome or a tree, not list"):
                perago_snapshot.tree([])
            with pytest.raises(AssertionError, match="FAILED_WITH_TERMINAL_ERROR"):
                perago_snapshot.tree(perago_run(copy, tree={}), "failed")
        """
    )
    run(project, "--perago-update=new").assert_outcomes(passed=1)
    assert file(project, "test_it.first.tree").read_text() == "# perago: tree of test_writes.py::test_it\nno files\n"


@pytest.mark.parametrize(
    ("path", "content", "lines"),
    [
        ("a.csv", "x,y\r\n1.50,a\r\n", ["a.csv: table, 1 row", "    x,y", "    1.5,a"]),
        ("a.csv", "x\n0.30000000000000004\n1e3\n", ["a.csv: table, 2 rows", "    x", "    0.3", "    1000.0"]),
        ("a.csv", "x\n007\n-0.0\n", ["a.csv: table, 2 rows", "    x", "    007", "    -0.0"]),
        ("a.csv", '"a"b,c\n', ["a.csv: text, 1 line", '    "a"b,c']),
        ("a.csv", "", ["a.csv: text, 0 lines"]),
        ("a.tsv", 'x\ty\n"1,2"\t3\n', ["a.tsv: table, 1 row", "    x\ty", "    1,2\t3"]),
        ("a.jsonl", '{"b": 1.0, "a": 0}\n', ["a.jsonl: table, 1 row", "    JSON Lines", '    {"a": 0, "b": 1.0}']),
        ("a.jsonl", "{", ["a.jsonl: text, 1 line", "    { (no line end)"]),
        ("a.txt", "1\r\n\x1b[2J\n", ["a.txt: text, 2 lines", "    1⟨U+000D⟩", "    ⟨U+001B⟩[2J"]),
        ("a.bin", b"\xff\0", ["a.bin: 2 B, sha256 ea5dbf9596d187e9500f23e9a680109475341cf4e81f7e043f7d97152c10772f"]),
        ("a.parquet", b"PAR1", ["a.parquet: text, 1 line", "    PAR1 (no line end)"]),
        ("a", None, ["a: directory"]),
        ("a\n\x1b", "", ["a", "⟨U+001B⟩: text, 0 lines"]),
    ],
)  # fmt: skip
def test_files_are_normalised(path: str, content: str | bytes | None, lines: list[str]) -> None:
    shown = rendered({path: content}).splitlines()
    assert shown == lines


def test_of_long_files_the_beginning_and_a_digest_are_kept() -> None:
    long = rendered({"a.txt": "".join(f"{number}\n" for number in range(10_000)), "b.csv": "x\n" + "1\n" * 500})
    assert len(long) < 1000
    other = rendered({"a.txt": "".join(f"{number}\n" for number in range(9_999)) + "x\n", "b.csv": "x\n" + "1\n" * 500})
    assert [a == b for a, b in zip(long.splitlines(), other.splitlines(), strict=True)].count(False) == 1


def test_a_parquet_file_is_a_table_with_types() -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table({"x": [1, None], "y": [0.1 + 0.2, 1.0]}), sink)
    shown = rendered({"a.parquet": sink.getvalue().to_pybytes()}).splitlines()
    assert shown == ["a.parquet: table, 2 rows", "    x: int64, y: double", "    [1, 0.3]", "    [null, 1.0]"]
