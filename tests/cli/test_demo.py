"""`perago demo`: the bundled workflow in real worker processes."""

from __future__ import annotations

import os

from .conftest import Project


def computed() -> float:
    """Seconds that our children have computed; unlike the time that passes, these are no more on a busy machine."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_demo_shows_commits_changes_and_results_within_15_seconds_of_computing(project: Project) -> None:
    before = computed()
    ran = project.run("demo", "--output", "penguins")

    assert (ran.code, ran.err) == (0, "note: wrote the published tree to penguins\n")
    assert computed() - before < 15
    assert ran.out.count("completed in ") == 2
    assert '  penguins.clean: {"read": 344, "kept": 342, "rejected": 2, "agreeing_with_reference": 344}' in ran.out
    assert "  + features/dream.csv" in ran.out
    assert "penguins.features: 4 added, 0 changed, 0 removed" in ran.out
    assert "The penguins as recorded" in ran.out
    assert (project.directory / "penguins" / "features" / "summary.json").is_file()
