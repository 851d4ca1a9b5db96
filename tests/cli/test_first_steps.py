"""The first commands of a new user: `perago init`, `perago add` and `perago demo`."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import Project

QUIET = ["-p", "no:cacheprovider", "-p", "no:conductor-agents-testing"]


def test_pytest_mypy_and_the_commands_work_in_the_new_project(project: Project) -> None:
    project.run("init", "new/project").ends(0, out="")
    made = replace(project, directory=project.directory / "new" / "project")
    kinds = "--perago-kinds=contract,guardrail,taskdef,run"
    for tool in (["pytest", "-q", "-W", "error", *QUIET, kinds], ["mypy"]):
        made.execute(sys.executable, "-m", *tool).ends(0)
    assert 'addopts = "-p no:conductor-agents-testing"' in (made.directory / "pyproject.toml").read_text()
    checked = made.run("check", "my_tasks")
    assert (checked.code, checked.err) == (0, "")
    example = made.run("run", "my_tasks.features", "--example", "minimal")
    assert (example.code, example.out) == (0, '{\n  "files": 1\n}\n')
    shown = made.run("workflow", "show", "my_tasks").out.splitlines()
    assert shown == ["features.nightly, version 1", "  build  features.build", "  report  features.report"]
    assert made.run("check", "my_tasks", CONDUCTOR_SERVER_URL="").code == 0


def test_without_a_directory_the_same_is_written_here(project: Project) -> None:
    here = replace(project, directory=project.directory / "here")
    here.directory.mkdir()
    here.run("init").ends(0, out="")
    assert "now try: cd 'over there' && pytest\n" in project.run("init", "over there").err
    written = contents(here.directory)
    assert written == contents(project.directory / "over there")
    assert "pyproject.toml" in written
    for name in written.keys() - {"pyproject.toml"}:
        (here.directory / name).unlink()
    here.run("init").ends(1, "already has pyproject.toml; nothing was written")
    assert contents(here.directory) == {"pyproject.toml": written["pyproject.toml"]}


def contents(directory: Path) -> dict[str, bytes]:
    """All files that a command has written, without what Python keeps beside modules."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_add_writes_a_task_its_test_and_the_settings_into_a_project(project: Project) -> None:
    here = replace(project, directory=project.directory / "shop")
    (here.directory / "src/shop").mkdir(parents=True)
    (here.directory / "src/shop/__init__.py").touch()
    settings = here.directory / "pyproject.toml"
    settings.write_text('[project]\nname = "shop"\n\n[tool.pytest.ini_options]\naddopts = "-q"\n\n[tool.mypy]\n')
    added = here.run("add", "shop.sales").ends(0, out="")
    assert "add -p no:conductor-agents-testing to addopts in pyproject.toml" in added.err
    assert settings.read_text() == (
        '[project]\nname = "shop"\n\n[tool.pytest.ini_options]\nperago_modules = ["shop.sales"]\npythonpath = ["src"]\n'
        'addopts = "-q"\n\n[tool.mypy]\n'
    )
    here.execute(sys.executable, "-m", "pytest", *QUIET, "--perago-kinds=contract,taskdef,run").ends(0)
    here.run("add", "shop.sales").ends(1, "already there: src/shop/sales.py, tests/test_sales.py; nothing was written")
    other = here.run("add", "shop.costs")
    assert "add shop.costs to perago_modules in pyproject.toml" in other.err
    settings.write_text(settings.read_text().replace("shop.sales", "shop"))
    assert "add shop" not in here.run("add", "shop.taxes").err
    for name in ("no-module", "shop.class"):
        here.run("add", name).ends(1, "is not the import path of a module")
    assert not (here.directory / "src/shop/class.py").exists()


@pytest.mark.parametrize(("file", "section"), [("pytest.toml", "[pytest]"), ("pyproject.toml", "[tool.pytest]")])
def test_add_writes_settings_with_types_where_pytest_reads_them(project: Project, file: str, section: str) -> None:
    settings = project.directory / file
    settings.write_text(f"{section}\n")
    project.run("add", "shop.sales").ends(0, out="")
    options = 'addopts = ["-p", "no:conductor-agents-testing"]\n'
    assert settings.read_text() == f'{section}\nperago_modules = ["shop.sales"]\npythonpath = ["."]\n{options}'


# ---------------------------------------- `perago demo`: the bundled workflow in real worker processes


ISLANDS = ("biscoe", "dream", "torgersen")
COMMIT = re.compile(r"  o (?P<name>\w+) +(?P<id>[0-9a-f]{12})  (?P<words>.*?)(, read (?P<read>[0-9a-f]{12}))?")


def computed() -> float:
    """Seconds that our children have computed; unlike the time that passes, these are no more on a busy machine."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_demo_shows_commits_changes_and_results_within_15_cpu_seconds(project: Project) -> None:
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
    line = [COMMIT.fullmatch(text) for text in shown.partition("\n\n")[0].splitlines()]
    assert all(line), shown
    start, clean, *islands, summary = [match.groupdict() for match in line if match]
    assert (start["words"], clean["name"], summary["name"]) == ("The penguins as recorded", "clean", "summary")
    assert clean["read"] == start["id"]
    assert {island["name"] for island in islands} == {f"measure_{name}" for name in ISLANDS}
    assert {island["read"] for island in islands} == {clean["id"]}, "all three began with what clean published"
    assert summary["read"] == islands[-1]["id"], "the summary continues the commit that has all three"
