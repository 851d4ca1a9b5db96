"""The files that a workspace has: keys, their layout on a disk, globs, views and content types."""

from __future__ import annotations

import mimetypes
import os
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perago.ports import ObjectEntry, Placement
from perago.testing.oracle import glob_matches
from perago.workspace import layout
from perago.workspace.file_types import _BY_SUFFIX, UNKNOWN, content_type_of
from perago.workspace.keys import (
    EVERYTHING,
    Folding,
    NameLimits,
    View,
    check_keys,
    compile_glob,
    find_collisions,
    is_reserved,
)
from perago.workspace.layout import (
    RESERVE,
    Disk,
    FreeSpace,
    LayoutRefused,
    ListingBound,
    NoRoom,
    check_room,
    create_directories,
    directories_to_create,
    free_space,
    plan_layout,
    probe_disk,
)

from .building import entry

EXACT = NameLimits()
MEBIBYTE = 2**20
MAC = NameLimits(folding=Folding(case=True, unicode_form=True))


def problems(*keys: str | ObjectEntry, prefix: str = "", limits: NameLimits = EXACT) -> dict[str, str]:
    entries = [entry(key) if isinstance(key, str) else key for key in keys]
    return {problem.key: problem.problem for problem in check_keys(entries, prefix, limits)}


HOSTILE = [
    ("/etc/passwd", "empty path component"),
    ("a//b", "empty path component"),
    ("//", "empty path component"),
    ("../x", "'..'"),
    ("a/../b", "'..'"),
    ("a/..", "'..'"),
    ("./a", "'.'"),
    ("a/./", "'.'"),
    (".", "'.'"),
    ("..", "'..'"),
    ("a\0b", "NUL"),
    ("a\udcff", "not UTF-8"),
    ("é" * 128, "longer than the 255 bytes"),
    ("é" * 128 + "/x", "longer than the 255 bytes"),
]


@pytest.mark.parametrize(("key", "message"), HOSTILE, ids=[repr(key[:12]) for key, _ in HOSTILE])
@pytest.mark.parametrize("prefix", ["", "audio/"])
def test_a_hostile_key_is_refused(key: str, message: str, prefix: str) -> None:
    assert message in problems(prefix + key, prefix=prefix)[prefix + key]


@pytest.mark.parametrize(
    "key",
    ["a\\b", "a b", "line\nbreak", "..a", "...", "%41", "+", "-rf", "~", "é", "e\u0301", "C:x", ".hidden", "é" * 127],
    ids=repr,
)
def test_a_key_that_is_only_unusual_is_a_file(key: str) -> None:
    assert problems(key) == {}


def test_a_size_below_zero_is_refused() -> None:
    """It would make room for a size that nothing has, in the sum that is held against the free disk."""
    assert "below 0" in problems(entry("a", size=-(2**62)), entry("b", size=2**62))["a"]


def test_a_path_too_long_for_the_disk_is_refused() -> None:
    key = "/".join(["name"] * 10)
    assert problems(key, limits=NameLimits(path_max=49)) == {}
    assert "48 bytes" in problems(key, limits=NameLimits(path_max=48))[key]


def test_a_key_outside_the_prefix_is_refused() -> None:
    assert "outside the prefix" in problems("other/x", prefix="audio/")["other/x"]


def test_a_name_that_is_a_file_and_a_directory_is_refused() -> None:
    assert set(problems("a", "a/1", "b/c", "b/c/d/e")) == {"a", "b/c"}
    assert set(problems(entry("x", "content"), "x/")) == {"x"}


def test_an_empty_marker_is_a_directory_and_one_with_content_is_refused() -> None:
    assert problems("x/", "x/y", "z/deep/") == {}
    assert "has content" in problems(entry("x/", "content"))["x/"]


def test_a_marker_of_the_prefix_itself_is_the_workspace() -> None:
    assert problems("audio/", prefix="audio/") == {}
    assert "has content" in problems(entry("audio/", "content"), prefix="audio/")["audio/"]


FOLDED = [("a", "A"), ("é", "e\u0301"), ("raw/x", "Raw/y"), ("straße", "STRASSE"), ("É", "e\u0301"), ("d/x", "D")]


@pytest.mark.parametrize(("name", "other"), FOLDED, ids=[f"{name}-{other}" for name, other in FOLDED])
def test_names_that_only_some_disks_fold_together_are_refused_there(name: str, other: str) -> None:
    assert len(problems(name, other, limits=MAC)) >= 1
    assert problems(name, other) == {}


def test_each_way_of_folding_is_its_own() -> None:
    case, form = NameLimits(folding=Folding(case=True)), NameLimits(folding=Folding(unicode_form=True))
    assert problems("a", "A", limits=form) == {}
    assert problems("é", "e\u0301", limits=case) == {}


def test_overlap_of_two_publications_is_found_on_paths_alone() -> None:
    assert [problem.key for problem in find_collisions(["out", "out/part-0"], Folding())] == ["out"]
    assert [problem.key for problem in find_collisions(["a", "A"], Folding(case=True))] == ["A"]
    assert find_collisions(["a", "A", "b/c"], Folding()) == ()


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        ("_lakefs_actions", True),
        ("_lakefs_actions/", True),
        ("_lakefs_actions/a.yaml", True),
        ("_lakefs_actions2/a", False),
        ("audio/_lakefs_actions/a", False),
    ],
)
def test_only_the_hooks_of_the_repository_are_reserved(key: str, reserved: bool) -> None:
    assert is_reserved(key) is reserved


def test_every_entry_gets_a_placement_in_order(tree: Path) -> None:
    keys = ["audio/", "audio/a/b.wav", "audio/c/", "audio/d"]
    placements = plan_layout([entry(key) for key in keys], "audio/", tree)
    assert [(placement.entry.key, placement.path) for placement in placements] == [
        ("audio/", None),
        ("audio/a/b.wav", tree / "a/b.wav"),
        ("audio/c/", None),
        ("audio/d", tree / "d"),
    ]
    assert directories_to_create(placements, "audio/") == ("a", "c")


def test_all_bad_keys_are_refused_together_before_anything_is_written(tree: Path) -> None:
    entries = [entry("good"), entry("../evil"), entry("a//b"), *(entry(f"{number}/.") for number in range(12))]
    with pytest.raises(LayoutRefused) as error:
        plan_layout(entries, "", tree)
    assert not error.value.retryable
    text = str(error.value)
    assert text.startswith("14 keys")
    assert "'../evil' contains the path component '..'" in text
    assert "and 4 more" in text
    assert list(tree.iterdir()) == []


def test_the_own_path_of_the_workspace_counts_against_the_longest_path(tree: Path) -> None:
    room = len(os.fsencode(tree)) + 2
    disk = Disk(name_max=255, path_max=room + 3, folding=Folding(), stat_shows_changes=True)
    plan_layout([entry("abc")], "", tree, disk=disk)
    with pytest.raises(LayoutRefused, match="longer than the 3 bytes"):
        plan_layout([entry("abcd")], "", tree, disk=disk)


@pytest.mark.parametrize(
    ("pages", "directories"),
    [
        ([["a", "b"], ["c"]], 0),
        ([["a/b/c", "a/b/d"], ["a/b/e/f", "a/c"]], 3),
        ([["a-b/c", "a/b"], ["a/c/d", "ab/c"]], 4),
        ([["x/", "x/y/"], ["x/y/z"]], 2),
    ],
)
def test_directories_of_a_listing_are_counted_once(pages: list[list[str]], directories: int) -> None:
    bound, placed = ListingBound("", 100), list[Placement]()
    for page in pages:
        entries = [entry(key, size=0) for key in page]
        bound.check(entries)
        placed += [Placement(placed_entry, None) for placed_entry in entries]
    assert bound.directories == len(directories_to_create(placed, "")) == directories
    assert bound.objects == len(placed)


def test_a_listing_whose_directories_need_too_much_memory_is_refused() -> None:
    deep = [entry(f"{number:04}/{'d/' * 400}x", size=0) for number in range(10)]
    bound = ListingBound("", most=10, memory=MEBIBYTE)
    bound.check(deep[:3])
    with pytest.raises(
        LayoutRefused, match=r"first 6 objects .* in 2,406 directories, need more than 1.0 MiB"
    ) as error:
        bound.check(deep[3:6])
    assert error.value.retryable
    assert MEBIBYTE < layout.usable_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_more_bytes_than_allowed_are_refused_for_good(tree: Path) -> None:
    entries = [entry("a", size=600), entry("b", size=425)]
    placed = plan_layout(entries, "", tree)
    check_room(placed, "", tree, max_bytes=1025)
    with pytest.raises(LayoutRefused, match="PERAGO_MAX_WORKSPACE_BYTES") as error:
        check_room(placed, "", tree, max_bytes=1024)
    assert not error.value.retryable


def test_a_disk_that_is_too_full_differs_from_one_that_is_too_small(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_RELEASE_SECONDS", 0)
    block = free_space(tree).block
    root = tmp_path / "root"
    root.mkdir()
    (root / "other").write_bytes(bytes(2 * MEBIBYTE))
    placed = plan_layout([entry("d/a", size=MEBIBYTE), entry("b", size=block)], "", tree)
    needed = RESERVE + MEBIBYTE + 2 * block

    def refusal(free: int, inodes: int | None = None, total: int = 1 << 60) -> tuple[type, bool, str] | None:
        monkeypatch.setattr(layout, "free_space", lambda _: FreeSpace(free, block, inodes, total))
        try:
            check_room(placed, "", tree, root=root)
        except LayoutRefused as error:
            refused = pickle.loads(pickle.dumps(error))
            return type(refused), getattr(refused, "is_passing", False), str(refused)
        return None

    assert refusal(needed) is refusal(needed, 3) is None
    for free, inodes in ((needed - 1, None), (needed, 2), (RESERVE - 1, None), (0, None)):
        kind, is_passing, text = refusal(free, inodes) or pytest.fail("not refused")
        assert (kind, is_passing, "left" in text) == (NoRoom, True, True)
    (root / "other").unlink()
    for free, inodes in ((RESERVE, None), (needed, 2)):
        kind, is_passing, text = refusal(free, inodes) or pytest.fail("not refused")
        assert (kind, is_passing, "would have free without" in text) == (NoRoom, False, True)
    kind, _, text = refusal(RESERVE, total=needed - 1) or pytest.fail("not refused")
    assert (kind, "needs 65.0 MiB on disk" in text, "64.0 MiB" in text) == (LayoutRefused, True, True)
    assert (refusal(0, total=RESERVE) or ("",))[0] is LayoutRefused


def test_more_bytes_than_the_real_disk_has_are_refused(tree: Path) -> None:
    with pytest.raises(LayoutRefused, match="nothing was downloaded"):
        check_room(plan_layout([entry("a", size=1 << 60)], "", tree), "", tree)


def test_directories_are_made_once_and_existing_ones_are_fine(tree: Path) -> None:
    placements = [Placement(entry("a/b/c/x"), tree / "a/b/c/x"), Placement(entry("a/d/"), None)]
    directories = directories_to_create(placements, "")
    assert directories == ("a", "a/b", "a/b/c", "a/d")
    create_directories(tree, directories)
    create_directories(tree, directories)
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == list(directories)


def test_no_directory_is_made_through_a_symlink(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tree / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="a"):
        create_directories(tree, ["a", "a/b"])
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_disk_is_probed_without_a_trace(tree: Path) -> None:
    disk = probe_disk(tree)
    assert list(tree.iterdir()) == []
    assert disk.name_max > 0
    (tree / "é").touch()
    assert disk.folding.unicode_form is (tree / "e\u0301").exists()
    assert disk.folding.case is (tree / "É").exists()


# ------------------------------------------------------------------------------------------- globs


CASES = [
    ("raw/**/*.csv", "raw/a.csv", True),
    ("raw/**/*.csv", "raw/x/y/a.csv", True),
    ("raw/**/*.csv", "rawer/a.csv", False),
    ("raw/**/*.csv", "raw/a.csv/b", False),
    ("**/*.tmp", "a.tmp", True),
    ("**/*.tmp", ".cache/.a.tmp", True),
    ("raw/**", "raw/a", True),
    ("raw/**", "raw/x/y", True),
    ("raw/**", "raw", False),
    ("**", "a/b/c", True),
    ("**", "a", True),
    ("**/a/**/b", "a/a/c/b", True),
    ("*.csv", "x/a.csv", False),
    ("a?c", "a/c", False),
    ("a[!b]c", "a/c", False),
    ("a[.-0]c", "a/c", False),
    ("*", "line\nbreak", True),
    ("*.csv", "a.csv\n", False),
    ("*.csv", "A.CSV", False),
    ("*.csv", ".csv", True),
    ("[!b]", "a", True),
    ("[", "[", True),
    ("[z-a]", "z", False),
    ("[!z-a]", "q", True),
    ("[]]", "]", True),
    ("a\\b", "a\\b", True),
    ("\u00e9", "e\u0301", False),
    ("*", "\udcff", True),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), CASES, ids=[f"{p}-{x!r}" for p, x, _ in CASES])
def test_a_pattern_matches_as_its_documentation_says(pattern: str, path: str, expected: bool) -> None:
    assert bool(compile_glob(pattern).fullmatch(path)) is glob_matches(pattern, path) is expected


SEGMENT = st.text("ab.*?[]!-^z", min_size=1, max_size=6).filter(lambda text: "**" not in text)
PATTERN = st.lists(st.one_of(st.just("**"), SEGMENT), min_size=1, max_size=4).map("/".join)
PATH = st.lists(st.text("ab.-]!^z", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(PATTERN, PATH)
@example("a**/b", "ab/b")
def test_the_expression_agrees_with_the_slow_matcher_of_the_testkit(pattern: str, path: str) -> None:
    assert bool(compile_glob(pattern).fullmatch(path)) is glob_matches(pattern, path)


def test_many_stars_take_no_more_than_linear_time() -> None:
    started = time.process_time()
    assert not compile_glob("*a" * 40 + "b").fullmatch("a" * 250)
    assert not compile_glob("**/a/" * 20 + "b").fullmatch("a/" * 250 + "c")
    assert time.process_time() - started < 1


# ------------------------------------------------------------------------------------------- views


@pytest.mark.parametrize(
    ("view", "path", "is_part"),
    [
        (EVERYTHING, "raw/a.csv", True),
        (View(include=("raw/**",)), "raw/2024/a.csv", True),
        (View(include=("raw/**",)), "features/a.csv", False),
        (View(include=("raw/**", "features/*")), "features/a.csv", True),
        (View(exclude=("**/*.bak",)), "raw/a.bak", False),
        (View(include=("raw/**",), exclude=("raw/big/**",)), "raw/big/a", False),
        (View(include=("raw/**",)), "raw/", True),
        (View(include=("raw/*.csv",)), "raw/", False),
    ],
)
def test_a_path_is_seen_if_it_is_included_and_not_excluded(view: View, path: str, is_part: bool) -> None:
    assert view.sees(path) is is_part


def test_files_written_outside_of_the_view_are_reported_with_the_reason() -> None:
    view = View(include=("raw/**", "out", "x/**"))
    hidden = {"features/a.csv", "out/part-0", "x"}
    written = ["raw/new.csv", "features/a.csv", "features/b.csv", "out", "x/y"]
    assert dict(view.trespasses(written, hidden)) == {
        "features/a.csv": "already exists, but the task does not see it",
        "features/b.csv": "is not part of what the task sees",
        "out": "is a directory in the part that the task does not see",
        "x/y": "needs a directory at 'x', a file that the task does not see",
    }
    assert list(EVERYTHING.trespasses(written, ())) == []


# ----------------------------------------------------------------------------------- content types


TYPES = {
    "out/table.csv": "text/csv",
    "table.parquet": "application/vnd.apache.parquet",
    "plots/A.PNG": "image/png",
    "README.md": "text/markdown",
    "summary.json": "application/json",
    "rows.jsonl": "application/x-ndjson",
    "table.csv.gz": "application/gzip",
    "v1.csv/data": UNKNOWN,
    "Makefile": UNKNOWN,
    ".csv": UNKNOWN,
    "name.": UNKNOWN,
    "a.unheard-of": UNKNOWN,
    "größe.csv": "text/csv",
}


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
def test_the_suffix_gives_the_type(path: str, kind: str) -> None:
    assert content_type_of(path) == kind


def test_the_types_are_those_of_the_standard_library_where_it_has_them() -> None:
    """Some differ between its versions, and some are what lakeFS's pages expect."""
    of_python = mimetypes.MimeTypes().types_map[True]
    ours = {suffix: kind for suffix, kind in _BY_SUFFIX.items() if of_python.get(f".{suffix}", kind) != kind}
    different = {"js", "mjs", "cfg", "bz2", "gz", "h5", "opus", "wav", "yaml", "yml", "7z", "xz", "nc", "sql"}
    assert set(ours) <= different, ours
