"""Which files a task sees."""

from __future__ import annotations

import pytest

from perago.workspace.keys import EVERYTHING, View


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
