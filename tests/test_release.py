"""The name and the version of the package are said once, and the files for users' repositories are valid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from perago import DISTRIBUTION, __version__
from perago.cli.app import COMMANDS
from pytest_perago.kinds import KINDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_package_has_one_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    wheels = {wheel for page in PAGES for wheel in re.findall(r"[\w.-]+\.whl", page.read_text("utf-8"))}
    printed = subprocess.run(
        ["make", "--no-print-directory", "-n", "wheel"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()[-1]
    line = subprocess.run(
        ["sh", "-c", printed], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert {*wheels, *re.findall(r"[\w.-]+\.whl", line)} == {f"{DISTRIBUTION}-{__version__}-py3-none-any.whl"}


def test_the_changelog_is_about_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(r"^## \[(\d+\.\d+\.\d+)\]|^The first release will be (\d+\.\d+\.\d+)\.$", text, re.MULTILINE)
    assert found
    assert found.group(found.lastindex or 0) == __version__


def test_the_hooks_for_pre_commit_call_what_exists() -> None:
    check, snapshots = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert check["entry"] == "perago check"
    assert "check" in COMMANDS
    changed = {*check["types_or"]} & {*snapshots["types_or"]}
    assert changed >= {"python", "json", "toml"}, "a commit of snapshots or settings alone is checked, too"
    names = re.findall(r"\w+", snapshots["entry"].partition("-k")[2])
    assert {name for name in names if name != "or"} <= {*KINDS, "definition"}


def test_the_github_workflow_runs_in_a_new_project(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheels")]
    subprocess.run(build, cwd=ROOT, check=True, timeout=120)
    subprocess.run([sys.executable, "-m", "perago", "init", "project"], cwd=tmp_path, check=True, timeout=60)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_TARGET": str(tmp_path / "installed")}
    variables = {
        "CI": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PERAGO_WHEEL": f"../wheels/{DISTRIBUTION}-{__version__}-py3-none-any.whl",
        "PYTEST_ADDOPTS": "-p no:conductor-agents-testing --perago-kinds taskdef",
        "RUNNER_TEMP": str(tmp_path / "temporary"),
    }
    (job,) = yaml.safe_load((ROOT / "deploy/github-workflow.yaml").read_text("utf-8"))["jobs"].values()
    for line in (step["run"] for step in job["steps"] if "run" in step):
        done = subprocess.run(
            ["bash", "-e", "-c", line],
            cwd=tmp_path / "project",
            env={**os.environ, **offline, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "installed/perago/__init__.py").is_file()


@pytest.mark.parametrize("file", [".pre-commit-hooks.yaml", "deploy/github-workflow.yaml"])
def test_a_page_names_the_file(file: str) -> None:
    name = "pre-commit" if file.startswith(".") else file
    assert any(name in page.read_text("utf-8") for page in PAGES)
