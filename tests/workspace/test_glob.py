from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perago.workspace.keys import compile_glob

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
    ("*.csv", "x/a.csv", False),
    ("a?c", "a/c", False),
    ("a[!b]c", "a/c", False),
    ("a[.-0]c", "a/c", False),
    ("*", "line\nbreak", True),
    ("*.csv", "a.csv\n", False),
    ("*.csv", "A.CSV", False),
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
    assert bool(compile_glob(pattern).fullmatch(path)) is expected


SEGMENT = st.text("ab.*?[]!-^z", min_size=1, max_size=6).filter(lambda text: "**" not in text)
PATTERN = st.lists(st.one_of(st.just("**"), SEGMENT), min_size=1, max_size=4).map("/".join)
PATH = st.lists(st.text("ab.-]!^z", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(PATTERN, PATH)
@example("**/a/**/b", "a/a/c/b")
@example("a**/b", "ab/b")
def test_the_expression_agrees_with_a_plain_recursive_matcher(pattern: str, path: str) -> None:
    assert bool(compile_glob(pattern).fullmatch(path)) is slow_match(pattern.split("/"), path.split("/"))


def slow_match(pattern: Sequence[str], path: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(slow_match(pattern[1:], path[skipped:]) for skipped in range(len(path)))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and slow_match(pattern[1:], path[1:])


@settings(deadline=None)
@given(st.data())
def test_every_path_matches_a_pattern_made_from_it(data: st.DataObject) -> None:
    path = data.draw(PATH)
    segments = path.split("/")
    blurred = [data.draw(st.sampled_from(["*", "?" * len(name), f"{name[0]}*"])) for name in segments]
    start = data.draw(st.integers(0, len(segments) - 1))
    pattern = "/".join([*blurred[:start], "**", *blurred[start:]])
    assert compile_glob(pattern).fullmatch(path)


def test_many_stars_take_no_more_than_linear_time() -> None:
    started = time.process_time()
    assert not compile_glob("*a" * 40 + "b").fullmatch("a" * 250)
    assert not compile_glob("**/a/" * 20 + "b").fullmatch("a/" * 250 + "c")
    assert time.process_time() - started < 1
