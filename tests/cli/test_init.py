"""`perago init`: a project in which everything works at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from .conftest import Project


def test_pytest_mypy_and_the_commands_work_in_the_new_project(project: Project) -> None:
    ran = project.run("init", "new/project")
    assert (ran.code, ran.out) == (0, "")
    made = replace(project, directory=project.directory / "new" / "project")
    quiet = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:conductor-agents-testing",
        "--perago-kinds=contract,guardrail,taskdef,run",
    ]
    for tool in (["pytest", "-q", "-W", "error", *quiet], ["mypy", "."]):
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=made.directory, env=made.environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
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
    ran = here.run("init")
    assert (ran.code, ran.out) == (0, "")
    assert "now try: cd 'over there' && pytest\n" in project.run("init", "over there").err
    written = contents(here.directory)
    assert written == contents(project.directory / "over there")
    assert "pyproject.toml" in written


def contents(directory: Path) -> dict[str, bytes]:
    """All files that a command has written, without what Python keeps beside modules."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_nothing_is_overwritten(project: Project) -> None:
    (project.directory / "pyproject.toml").write_text("[project]\n")
    ran = project.run("init")
    assert ran.code == 1
    assert "already has pyproject.toml; nothing was written" in ran.err
    assert [path.name for path in project.directory.iterdir()] == ["pyproject.toml"]


def test_add_writes_a_task_its_test_and_the_settings_into_a_project(project: Project) -> None:
    here = replace(project, directory=project.directory / "shop")
    (here.directory / "src/shop").mkdir(parents=True)
    (here.directory / "src/shop/__init__.py").touch()
    settings = here.directory / "pyproject.toml"
    settings.write_text('[project]\nname = "shop"\n\n[tool.pytest.ini_options]\naddopts = "-q"\n\n[tool.mypy]\n')
    ran = here.run("add", "shop.sales")
    assert (ran.code, ran.out) == (0, "")
    assert settings.read_text() == (
        '[project]\nname = "shop"\n\n[tool.pytest.ini_options]\nperago_modules = ["shop.sales"]\npythonpath = ["src"]\n'
        'addopts = "-q"\n\n[tool.mypy]\n'
    )
    kinds = "--perago-kinds=contract,taskdef,run"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:conductor-agents-testing", kinds],
        cwd=here.directory, env=here.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    again = here.run("add", "shop.sales")
    assert again.code == 1
    assert "already there: src/shop/sales.py, tests/test_sales.py; nothing was written" in again.err
    other = here.run("add", "shop.costs")
    assert "add shop.costs to perago_modules in pyproject.toml" in other.err
    assert here.run("add", "no-module").code == 1
