"""The package: its name, its version, its dependencies, and the files for repositories of users."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
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
    heading = re.search(r"^## \[(\d+\.\d+\.\d+)\]|^The first release will be (\d+\.\d+\.\d+)\.$", text, re.MULTILINE)
    assert heading
    assert heading.group(heading.lastindex or 0) == __version__


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


@pytest.mark.parametrize(
    ("file", "place", "command"),
    [
        ("deploy/github-workflow.yaml", r"uses: \S+", "git ls-remote https://github.com/actions/checkout refs/tags/v4"),
        (".github/workflows/ci.yml", r"uses: \S+", "git ls-remote https://github.com/actions/checkout refs/tags/v4"),
        ("deploy/compose.yaml", r"image: (?!&|\*)\S+", "docker buildx imagetools inspect postgres:16.10-bookworm"),
    ],
)
def test_a_file_pins_what_it_uses_or_says_how_to(file: str, place: str, command: str) -> None:
    """Tags can be moved."""
    text = (ROOT / file).read_text("utf-8")
    pinned = re.compile(place + r"@(sha256:)?[0-9a-f]{40,64}\b")
    assert command in text or len(pinned.findall(text)) == len(re.findall(place, text))


def test_the_github_workflow_says_how_to_install_packages_by_their_hashes() -> None:
    text = (ROOT / "deploy/github-workflow.yaml").read_text("utf-8")
    assert "pip install --require-hashes" in text
    assert "#sha256=" in text


# ------------------------------------------------------------------------------------ dependencies


OWN = ("perago", "pytest_perago")

EXTRAS = {
    "embedded": {
        "anyio",
        "jinja2",
        "jq",
        "markupsafe",
        "python-jsonpath",
        "python-multipart",
        "quickjs-ng",
        "starlette",
        "uvicorn",
    },
    "fuzz": {"hypothesis"},
    "metrics": {"prometheus-client"},
    "openlineage": {"openlineage-python"},
    "otel": {
        "opentelemetry-api",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-sdk",
    },
    "sdk": {"conductor-python", "httpx", "lakefs"},
    "secrets": {"kingfisher-secret-scanner"},
    "tables": {"pyarrow"},
    "test": {"pytest"},
}
"""The extras of users, and what the package imports only with them."""


@cache
def project() -> dict[str, list[str]]:
    """The declared requirements: those of every installation under the empty name, and those of each extra."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": declared["dependencies"], **declared["optional-dependencies"]}


def names(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@cache
def imported() -> dict[str, set[str]]:
    """Distributions that `src` imports, each with the files that do."""
    provided = packages_distributions()
    importers: defaultdict[str, set[str]] = defaultdict(set)
    for file in (ROOT / "src").rglob("*.py"):
        for module in imports_of(file):
            name = module.partition(".")[0]
            if name not in sys.stdlib_module_names and name not in OWN:
                distributions = provided.get(name, [name])
                importers[normalised(_holder(module, distributions))].add(str(file.relative_to(ROOT)))
    return dict(importers)


def _holder(module: str, distributions: list[str]) -> str:
    """The distribution of a module: the first that has the name of its package, unless another one has the file."""
    path = module.replace(".", "/")
    return next(
        (
            name
            for name in distributions[1:]
            if any(str(file).startswith((f"{path}/", f"{path}.")) for file in distribution(name).files or ())
        ),
        distributions[0],
    )


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    """One test, so that one process reads all imports."""
    for extra, distributions in EXTRAS.items():
        assert distributions <= names(project()[extra]), extra
        assert distributions <= set(imported()), extra
    assert names(project()[""]) == set(imported()) - set().union(*EXTRAS.values())
