"""`perago demo`: the bundled workflow in real worker processes."""

from __future__ import annotations

import os
import re

from .conftest import Project

ISLANDS = ("biscoe", "dream", "torgersen")
COMMIT = re.compile(
    r"  o (?P<name>\w+) +(?P<id>[0-9a-f]{12})  (?P<words>.*?)(, read (?P<read>[0-9a-f]{12}))?",
)


def computed() -> float:
    """Seconds that our children have computed; unlike the time that passes, these are no more on a busy machine."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_demo_shows_commits_changes_and_results_within_15_seconds_of_computing(project: Project) -> None:
    """The islands publish one after the other, to one line of commits."""
    before = computed()
    ran = project.run("demo", "--output", "penguins")

    assert (ran.code, ran.err) == (0, "note: wrote the published tree to penguins\n")
    assert computed() - before < 15
    assert ran.out.count("completed in ") == 5
    assert len(ran.out.splitlines()) <= 48, "more than one screen"
    assert '  clean: {"read": 344, "kept": 342, "rejected": 2, "agreeing_with_reference": 344}' in ran.out
    assert "  + islands/dream.json" in ran.out
    assert (
        '  summary: {"islands": ["biscoe", "dream", "torgersen"], "penguins": 342, "mean_body_mass_g": 4202.0}'
        in ran.out
    )
    made = {path.relative_to(project.directory / "penguins").as_posix() for path in project.directory.rglob("*.*")}
    assert {f"islands/{name}.json" for name in ISLANDS} | {"summary.csv"} <= made

    _, _, shown = ran.out.partition("commits of branch main, oldest first\n")
    line = [COMMIT.fullmatch(each) for each in shown.partition("\n\n")[0].splitlines()]
    assert all(line), shown
    start, clean, *islands, summary = [each.groupdict() for each in line if each]
    assert (start["words"], clean["name"], summary["name"]) == ("The penguins as recorded", "clean", "summary")
    assert clean["read"] == start["id"]
    assert {island["name"] for island in islands} == {f"measure_{name}" for name in ISLANDS}
    assert {island["read"] for island in islands} == {clean["id"]}, "all three began with what clean published"
    assert summary["read"] == islands[-1]["id"], "the summary continues the commit that has all three"
