"""Smallest and violating trees, contradictions, and the sources of trees."""

from __future__ import annotations

import itertools
import random
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from perago import forbid_glob, require_dir, require_file, require_glob, require_table
from perago import trees as tree_files
from perago.authoring.workspace import Guardrail
from perago.testing import BadTree, Symlink, TreeBuilder, tree_of
from perago.testing.constraints import Undecided, violations_of
from perago.testing.oracle import Verdict, judge_tree
from perago.testing.oracle import judge as judge_sizes
from perago.testing.trees import Contradiction, smallest_tree, violating_tree
from perago.trees import build
from perago.workspace.keys import View

from .tasks_for_runner import copy, count


def judge(rule: Guardrail, files: Collection[str]) -> Verdict:
    return judge_sizes(rule, dict.fromkeys(files, 0))


def holds(rules: Sequence[Guardrail], tree: dict[str, str | bytes | None]) -> bool:
    return all(judge(rule, tree).satisfied for rule in rules)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], {}),
        ([require_file("raw/a.csv")], {"raw/a.csv": ""}),
        ([require_dir("raw"), require_glob("raw/**/*.csv")], {"raw/a.csv": ""}),
        ([require_glob("*.csv", min_count=2), forbid_glob("a*")], {"b.csv": "", "c.csv": ""}),
        ([require_glob("**/*.csv"), require_dir("a/b"), require_file("a/b/x.csv")], {"a/b/x.csv": ""}),
        ([require_glob("[xy]?"), forbid_glob("x*")], {"yy": ""}),
        ([require_file("A"), require_file("a")], {"A": "", "a": ""}),
        ([require_glob("**/*", min_count=0, max_count=0)], {}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_the_smallest_tree_is_small_and_readable(rules: list[Guardrail], expected: dict[str, str | None]) -> None:
    assert smallest_tree(rules) == expected


def test_many_files_have_readable_names() -> None:
    tree = smallest_tree([require_glob("**", min_count=300), forbid_glob("a*")])
    assert len(tree) == 300
    assert all(character.isalnum() or character in "_-" for path in tree for character in path)


CONTRADICTIONS: dict[str, tuple[list[Guardrail], str]] = {
    "file against forbid": ([require_file("raw/a.csv"), forbid_glob("raw/**")], "forbids every file"),
    "directory against forbid": ([require_dir("raw"), forbid_glob("raw/**")], "forbids every file"),
    "glob within forbid": ([require_glob("raw/*.csv"), forbid_glob("**/*.c*")], "forbids every file"),
    "count above another": (
        [require_glob("raw/*.csv", min_count=5), require_glob("raw/**", min_count=0, max_count=4)],
        "more files must match",
    ),
    "file where a directory is": ([require_file("raw"), require_dir("raw")], "a file and a directory at once"),
    "file above a glob": ([require_file("raw"), require_glob("raw/**/*.csv")], "a file and a directory at once"),
    "file above a file": ([require_file("a"), require_file("a/b/c")], "a file and a directory at once"),
    "too few names": ([require_glob("[ab].csv", min_count=3)], "too few such paths"),
    "no name at all": ([require_glob("[.]")], "too few such paths"),
    "hooks": ([require_dir("_lakefs_actions")], "too few such paths"),
}


@pytest.mark.parametrize(("rules", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_names_its_rules_and_no_others(rules: list[Guardrail], reason: str) -> None:
    bystanders: list[Guardrail] = [require_file("README.md"), forbid_glob("**/*.tmp"), require_glob("docs/**")]
    with pytest.raises(Contradiction, match=reason) as caught:
        smallest_tree([bystanders[0], *rules, *bystanders[1:]])
    assert list(caught.value.rules) == rules
    assert all(str(rule) in str(caught.value) for rule in rules)


def test_below_a_prefix_the_directory_of_hooks_is_a_name_like_others() -> None:
    assert smallest_tree([require_file("_lakefs_actions/x")], key_prefix="data/") == {"_lakefs_actions/x": ""}


def test_a_constraint_on_very_many_files_is_left_undecided() -> None:
    with pytest.raises(Undecided, match="more than 500 files"):
        smallest_tree([require_glob("**", min_count=501)])


@pytest.mark.parametrize(
    ("rule", "violation", "matched"),
    [
        (require_file("raw/a.csv"), "missing", 0),
        (require_dir("raw/deep"), "missing", 0),
        (require_glob("raw/**/*.csv", min_count=3, max_count=5), "missing", 2),
        (require_glob("raw/**/*.csv", min_count=3, max_count=5), "too-many", 6),
        (forbid_glob("**/*.tmp"), "present", 1),
    ],
    ids=str,
)
def test_a_violating_tree_breaks_one_rule_by_one_file(rule: Guardrail, violation: str, matched: int) -> None:
    others: list[Guardrail] = [require_file("README.md"), require_glob("raw/**", max_count=9), forbid_glob("**/x*")]
    tree = violating_tree(rule, [*others, rule], violation)
    assert judge(rule, tree).matched == matched
    assert not judge(rule, tree).satisfied
    assert holds(others, tree)


def test_a_rule_that_another_implies_cannot_be_broken_alone() -> None:
    directory, file = require_dir("raw"), require_file("raw/a.csv")
    with pytest.raises(Contradiction) as caught:
        violating_tree(directory, [directory, file, require_file("README.md")])
    assert caught.value.rules == (directory, file)


def test_many_rules_are_handled_quickly() -> None:
    rules: list[Guardrail] = [rule for name in "abcd" for rule in (require_dir(name), require_file(f"{name}/x.csv"))]
    started = time.process_time()
    assert len(smallest_tree(rules)) == 4
    for directory, file in zip(rules[::2], rules[1::2], strict=True):
        with pytest.raises(Contradiction) as caught:
            violating_tree(directory, rules)
        assert caught.value.rules == (directory, file)
    assert time.process_time() - started < 5


def test_a_rule_that_any_tree_satisfies_has_no_violations() -> None:
    rule = require_glob("**", min_count=0)
    assert violations_of(rule) == {}
    with pytest.raises(ValueError, match="cannot be violated"):
        violating_tree(rule, [rule])


NAMES = ["a", "b", "ab"]
PATHS = [*NAMES, *(f"{above}/{name}" for above in NAMES[:2] for name in NAMES), "a/b/a"]
PATTERNS = [
    *("a", "b", "?", "??", "*", "**", "a*", "*b", "a/*", "a/**"),
    *("**/a", "**/b", "*/a", "[ab]", "[!a]", "a/?", "**/a/**"),
]


def small_trees() -> Iterator[frozenset[str]]:
    for size in range(4):
        for files in itertools.combinations(PATHS, size):
            if not any(other.startswith(f"{path}/") for path in files for other in files):
                yield frozenset(files)


SMALL_TREES = list(small_trees())


def some_rule(choice: random.Random) -> Guardrail:
    match choice.randrange(5):
        case 0:
            return require_file(choice.choice(PATHS))
        case 1:
            return require_dir(choice.choice(["a", "b", "a/b"]))
        case 2:
            return forbid_glob(choice.choice(PATTERNS))
        case _:
            least = choice.randrange(3)
            most = choice.choice([None, least, least + 1])
            return require_glob(choice.choice(PATTERNS), least, most)


@pytest.mark.parametrize("seed", range(8))
def test_no_alarm_is_false_and_no_tree_is_larger_than_need_be(seed: int) -> None:
    choice = random.Random(seed)
    contradictions = 0
    for _ in range(40):
        rules = [some_rule(choice) for _ in range(choice.randint(1, 4))]
        smallest = next((files for files in SMALL_TREES if all(judge(rule, files).satisfied for rule in rules)), None)
        try:
            tree = smallest_tree(rules)
        except Undecided:
            continue
        except Contradiction as error:
            culprits = error.rules
        else:
            assert holds(rules, tree)
            assert smallest is None or len(tree) <= len(smallest)
            continue
        contradictions += 1
        assert smallest is None, f"{culprits} are accused, but {smallest} satisfies all"
        for part in itertools.combinations(culprits, len(culprits) - 1):
            assert holds(part, smallest_tree(part)), "a rule is accused that could be left out"
    assert contradictions > 3


def breaks(rule: Guardrail, violation: str, others: Sequence[Guardrail], files: Collection[str]) -> bool:
    verdict = judge(rule, files)
    too_few = verdict.matched < getattr(rule, "min_count", 1) and violation == "missing"
    too_many = violation != "missing" and verdict.matched > (getattr(rule, "max_count", None) or 0)
    alone = all(judge(other, files).satisfied for other in others if other != rule)
    return not verdict.satisfied and (too_few or too_many) and alone


@pytest.mark.parametrize("seed", range(4))
def test_a_rule_is_called_unbreakable_only_if_no_tree_breaks_it_alone(seed: int) -> None:
    choice = random.Random(seed)
    unbreakable = 0
    for _ in range(25):
        rule, others = some_rule(choice), [some_rule(choice) for _ in range(choice.randint(0, 2))]
        for violation in violations_of(rule):
            try:
                tree = violating_tree(rule, [rule, *others], violation)
            except Undecided:
                continue
            except Contradiction:
                unbreakable += 1
                assert not any(breaks(rule, violation, others, files) for files in SMALL_TREES)
            else:
                assert breaks(rule, violation, others, tree)
    assert unbreakable > 0


def test_a_tree_on_disk_no_longer_exists_after_the_block() -> None:
    tree = {"raw/a.csv": "x\n", "bytes": b"\xff", "empty/deep": None, "raw/out": Symlink("../../outside.bin")}
    with build(tree) as root:
        assert (root / "raw" / "a.csv").read_text() == "x\n"
        assert (root / "bytes").read_bytes() == b"\xff"
        assert (root / "empty" / "deep").is_dir()
        assert (root / "raw" / "out").readlink().as_posix() == "../../outside.bin"
        assert (root.parent / "outside.bin").is_file()
    assert not root.parent.exists()


def test_a_link_to_an_outside_directory_finds_its_declared_contents() -> None:
    with build({"raw/linked": Symlink("../../away", ("x/a.csv",))}) as root:
        assert (root / "raw" / "linked" / "x" / "a.csv").is_file()
        assert sorted(path.name for path in root.iterdir()) == ["raw"]


SEEN = View(include=("raw/**/*.csv", "out/**", "raw/**"), exclude=("**/old/**",))


@pytest.mark.parametrize(
    "rule",
    [
        require_glob("out/*.csv"),
        require_glob("raw/**/*.csv", min_count=3),
        require_glob("**/*.csv", min_count=1, max_count=2),
        forbid_glob("**/*.tmp"),
    ],
    ids=str,
)
def test_trees_are_in_the_view_of_the_task(rule: Guardrail) -> None:
    for tree in (smallest_tree([rule], _view=SEEN), violating_tree(rule, [rule], _view=SEEN)):
        assert all(SEEN.sees(path) for path in tree), tree


def test_a_rule_about_files_outside_of_the_view_is_a_contradiction() -> None:
    for pattern in ("features/*", "raw/old/*"):
        with pytest.raises(Contradiction):
            smallest_tree([require_glob(pattern)], _view=SEEN)


def test_two_rules_about_one_table_are_broken_one_at_a_time() -> None:
    every, narrow = (
        require_table("sales/*.csv", columns={"id": int}),
        require_table("sales/2024.csv", columns={"n": str}),
    )
    assert smallest_tree([every, narrow]) == {"sales/2024.csv": "id,n,filled\n1,text 0,1\n"}
    tree = violating_tree(every, [every, narrow], "no-column")
    assert [judge_tree(rule, tree).satisfied for rule in (every, narrow)] == [False, True]
    with pytest.raises(Undecided, match="no content was found"):
        violating_tree(narrow, [every, narrow], "broken")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"max_rows": 1}, {"min_rows": 2}, "a table would have at least 2 rows and at most 1"),
        ({"columns": {"n": int}}, {"columns": {"n": "date"}, "min_rows": 1, "not_null": "n"}, "'n' would be int and"),
        ({"columns": {"n": int}}, {"columns": {"n": "date"}}, ""),
        ({"columns": {"n": int}, "unique": "n"}, {"columns": {"n": float}, "min_rows": 2}, ""),
    ],
    ids=str,
)
def test_rules_about_one_table_contradict_each_other_or_have_a_tree(
    first: dict[str, Any], second: dict[str, Any], reason: str
) -> None:
    rules = [require_table("*.csv", **first), require_table("a.csv", **second)]
    if reason:
        with pytest.raises(Contradiction, match=reason):
            smallest_tree(rules)
        assert len(smallest_tree([rules[0], require_table("a/b.csv", **second)])) == 2
    else:
        tree = smallest_tree(rules)
        assert all(judge_tree(rule, tree).satisfied for rule in rules)


# -------------------------------------------------------------------------------- sources of trees


def zip_with(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_a_mapping_is_taken_as_it_is() -> None:
    tree = {"a/b.txt": "text", "c.bin": b"\0", "empty": None, "link": Symlink("c.bin")}
    assert tree_of(tree) == tree


def test_a_directory_is_read_with_its_empty_directories(tmp_path: Path) -> None:
    (tmp_path / "raw" / "deep").mkdir(parents=True)
    (tmp_path / "raw" / "a.csv").write_bytes(b"1")
    assert tree_of(tmp_path) == tree_of(str(tmp_path)) == {"raw/a.csv": b"1", "raw/deep": None}


def test_a_zip_is_read_without_touching_the_disk(tmp_path: Path) -> None:
    path = zip_with(tmp_path / "tree.zip", ("raw/", b""), ("raw/a.csv", b"1"), ("empty/", b""))
    assert tree_of(path) == {"raw": None, "raw/a.csv": b"1", "empty": None}
    assert list(tmp_path.iterdir()) == [path]


def test_a_task_gives_the_smallest_tree_that_it_accepts() -> None:
    assert tree_of(copy) == {"raw/a.csv": ""}
    assert tree_of(count) == {}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../x", "a//b", "", ".", "./a", "a/", "nul\0", "\udc80", "a" * 1025]
)
def test_a_path_that_leaves_the_tree_or_is_not_a_name_is_refused(path: str) -> None:
    with pytest.raises(BadTree):
        tree_of({path: "x"})


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "a/../../x", "a//b", "..\\x", "C:/x", "C:x", "a/./b", "bell\a", "new\nline", "//server/x"],
)
def test_a_hostile_name_invalidates_the_complete_zip(tmp_path: Path, name: str) -> None:
    path = zip_with(tmp_path / "tree.zip", ("fine.txt", b""), (name, b"x"))
    with pytest.raises(BadTree, match=r"tree\.zip"):
        tree_of(path)


def linked(path: Path) -> Path:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zip_with(path, (link, b"/etc/passwd"))


def changed(path: Path, before: bytes, after: bytes, name: str = "a") -> Path:
    zip_with(path, (name, b"original"))
    path.write_bytes(path.read_bytes().replace(before, after))
    return path


def encrypted(path: Path) -> Path:
    content = bytearray(zip_with(path, ("a", b"1")).read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 8, 0x1)
    path.write_bytes(content)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


REFUSED_ZIPS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a name that zipfile cuts": (
        lambda path: changed(path, b"fineX", b"fine\0", "fineXhidden"),
        "no file can have this",
    ),
    "a symlink": (linked, "it is a link"),
    "a name twice": (lambda path: zip_with(path, ("a", b"1"), ("a", b"2")), "it occurs twice"),
    "encrypted": (encrypted, "it is encrypted"),
    "empty": (lambda path: written(path, b""), "cannot be read as a zip"),
    "not a zip": (lambda path: written(path, b"no zip"), "cannot be read as a zip"),
    "a broken zip": (lambda path: written(path, b"PK\x03\x04 broken"), "cannot be read as a zip"),
    "damaged bytes": (lambda path: changed(path, b"original", b"0riginal"), "cannot be read as a zip"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("make", "message"), REFUSED_ZIPS.values(), ids=REFUSED_ZIPS)
def test_a_zip_with_anything_wrong_is_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(BadTree, match=message):
        tree_of(make(tmp_path / "tree.zip"))


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_files, "MAX_ZIP_BYTES", 10)
    with pytest.raises(BadTree, match="holds 11 bytes, but at most 10 are unpacked"):
        tree_of(zip_with(tmp_path / "tree.zip", ("a", b"123456"), ("b", b"12345")))


def test_a_source_that_gives_no_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    sources: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        (({"a": "1"}, {"a/b": "2"}), BadTree, "is a file, but also the directory of"),
        ((tmp_path,), BadTree, "'link' is a link"),
        ((tmp_path / "missing",), BadTree, "is neither a directory nor a zip"),
        (({"a": 5},), BadTree, "'a': the content must be text, bytes, a Symlink or None, not int"),
        ((3,), TypeError, "not int"),
    ]
    for arguments, error, message in sources:
        with pytest.raises(error, match=message):
            tree_of(*arguments)


def test_a_builder_builds_several_trees_and_removes_all() -> None:
    with TreeBuilder() as build:
        first, second = build({"a": "1"}), build({"a": "2"})
        assert [(path / "a").read_text() for path in (first, second)] == ["1", "2"]
        assert build.mapping(copy) == {"raw/a.csv": ""}
    assert not first.exists()
    assert not second.exists()
