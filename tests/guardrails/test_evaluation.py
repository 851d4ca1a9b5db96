from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from perago import forbid_glob, require_dir, require_file, require_glob
from perago.authoring.workspace import Guardrail, Listing, Rule
from perago.guardrails.evaluation import Phase, check_tree, evaluate
from perago.workspace.scan import scan_tree

from ..workspace.building import write

FILES = ("config.json", "raw/2024/a.csv", "raw/b.CSV", "raw/note.txt", "out/part-0.parquet", "x.tmp")


def message(rule: Guardrail, *files: str) -> str:
    (finding,) = evaluate([rule], Listing(dict.fromkeys(files, 0)), phase=Phase.PRE)
    assert not finding.satisfied
    return finding.message


def test_all_violations_of_a_phase_are_reported_in_the_order_of_the_rules() -> None:
    rules: list[Guardrail] = [
        require_file("missing"),
        require_dir("raw"),
        forbid_glob("*.tmp"),
        require_glob("*.parquet"),
    ]
    findings = evaluate(rules, Listing(dict.fromkeys(FILES, 0)), phase=Phase.POST)
    assert [finding.satisfied for finding in findings] == [False, True, False, False]
    assert findings[2].message == "post guardrail forbid_glob('*.tmp'): matched 1 file: 'x.tmp'"


def test_too_many_and_too_few_matches_are_named() -> None:
    files = [f"{number:02}.csv" for number in range(15)]
    most = message(require_glob("*.csv", max_count=3), *files)
    assert most.endswith("matched 15 files: " + ", ".join(f"'{number:02}.csv'" for number in range(10)) + " and 5 more")
    assert message(require_glob("*.csv", min_count=2), "a.csv").endswith("min_count=2): matched 1 file: 'a.csv'")


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (require_file("a.csv", min_bytes=1), "too small: 'a.csv' (0 bytes)"),
        (require_file("b.csv", min_bytes=3), None),
        (require_file("b.csv", min_bytes=4), "too small: 'b.csv' (3 bytes)"),
        (require_file("c.csv", min_bytes=1), "no such file"),
        (require_glob("*.csv", min_bytes=4), "too small: 'a.csv' (0 bytes), 'b.csv' (3 bytes)"),
        (require_glob("b*", min_bytes=3), None),
        (require_glob("*.txt", min_count=0, min_bytes=9), None),
    ],
    ids=str,
)
def test_a_file_can_be_too_small(rule: Rule, complaint: str | None) -> None:
    assert rule.evaluate(Listing({"a.csv": 0, "b.csv": 3})).complaint == complaint


def test_a_directory_without_files_does_not_satisfy_require_dir(tree: Path) -> None:
    (tree / "raw/empty").mkdir(parents=True)
    scanned = scan_tree(tree)
    (finding,) = evaluate([require_dir("raw")], scanned.listing, phase=Phase.PRE)
    assert not finding.satisfied
    assert finding.message.endswith("no file below it; 'raw' is an empty directory, and only files can be published")


HINTS: list[tuple[Guardrail, tuple[str, ...], str]] = [
    (require_file("raw/a.csv"), ("raw/A.csv",), "'raw/A.csv' differs only in case"),
    (require_file("raw/sales.csv"), ("raw/sale.csv", "b"), "did you mean 'raw/sale.csv'?"),
    (require_file("config.json"), ("etc/config.json",), "did you mean 'etc/config.json'?"),
    (require_file("raw"), ("raw/a.csv",), "'raw' is a directory"),
    (require_file("raw/a.csv"), ("raw",), "'raw' is a file"),
    (require_dir("raw"), ("raw",), "'raw' is a file"),
    (require_dir("raw"), ("Raw/a.csv",), "'Raw' differs only in case"),
    (require_dir("features"), ("feature/a.csv",), "did you mean 'feature'?"),
    (require_glob("raw/*.csv"), ("raw/a.CSV",), "'raw/a.CSV' differs only in case"),
    (require_glob("raw/*"), ("raw/x/a.csv",), "'raw/x' is a directory, and a glob counts files"),
    (require_glob("input/*.csv"), ("inputs/a.csv",), "did you mean 'inputs'?"),
    (require_glob("input/*.csv"), ("input",), "'input' is a file"),
    (require_glob("raw/*.csv"), ("raw/x.txt", "data/a.csv"), "there is 'data/a.csv'"),
    (require_glob("raw/*.csv"), ("raw/a.csv.tmp", "data/a.csv"), "there is 'raw/a.csv.tmp'"),
]


@pytest.mark.parametrize(("rule", "files", "hint"), HINTS, ids=[f"{rule}" for rule, _, _ in HINTS])
def test_a_violation_hints_at_the_nearest_thing_that_exists(rule: Guardrail, files: tuple[str, ...], hint: str) -> None:
    assert message(rule, *files).endswith(f"; {hint}")


def test_no_hint_is_made_up_where_nothing_is_near() -> None:
    assert message(require_file("config.json"), "zzz/unrelated.bin").endswith("no such file")


def test_a_hint_in_a_large_tree_compares_few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def get_close_matches(_: str, names: list[str], **__: float) -> list[str]:
        compared.extend(names)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", get_close_matches)
    files = [f"directory-{number % 97}/some-rather-long-name-{number}.csv" for number in range(2_000)]
    message(require_file("directory-5/some-rather-lung-name-x.csv"), *files, f"{'a' * 201}.csv")
    assert 0 < len(compared) <= 500
    assert max(map(len, compared)) <= 200


def test_names_in_messages_are_safe_in_every_log() -> None:
    text = message(forbid_glob("**"), "bad\udcff\n\x1b[2J")
    text.encode()
    assert "\n" not in text
    assert "\x1b" not in text


def test_irregular_entries_are_listed_as_one_bounded_violation(tree: Path) -> None:
    for number in range(14):
        (tree / f"link-{number:02}").symlink_to("anywhere")
    os.mkfifo(tree / "a-pipe")
    (finding,) = check_tree(scan_tree(tree), "")
    assert (finding.rule, finding.satisfied, finding.matched) == (None, False, 15)
    assert "'a-pipe' (FIFO), 'link-00' (symlink)" in finding.message
    assert finding.message.endswith("'link-08' (symlink) and 5 more")


@pytest.mark.parametrize("path", ["_lakefs_actions/fence.yaml", "_lakefs_actions"])
def test_hooks_may_be_written_neither_as_directory_nor_as_file(tree: Path, path: str) -> None:
    write(tree, {path: "x"})
    (finding,) = check_tree(scan_tree(tree), "")
    assert finding.message.endswith(f"a task must not write hooks in _lakefs_actions/: found '{path}'")
    assert check_tree(scan_tree(tree), "audio/") == ()


def test_a_key_that_is_too_long_with_its_prefix_is_found(tree: Path) -> None:
    path = "/".join(["é" * 100] * 5)
    write(tree, {path: "x"})
    scanned = scan_tree(tree)
    assert check_tree(scanned, "p" * 18 + "/") == ()
    (finding,) = check_tree(scanned, "p" * 19 + "/" + "q")
    assert "at most 1,024 bytes" in finding.message


def test_a_tree_that_could_be_published_has_no_findings(tree: Path) -> None:
    write(tree, dict.fromkeys(("raw/a.csv", "_lakefs_actions_not/x"), "x"))
    assert check_tree(scan_tree(tree), "") == ()
