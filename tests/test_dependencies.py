"""What is imported is declared, and what is declared is imported: by the package itself, not by its tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file in (ROOT / "src").rglob("*.py"):
        for module in imports_of(file):
            name = module.partition(".")[0]
            if name not in sys.stdlib_module_names and name not in OWN:
                distributions = provided.get(name, [name])
                found[normalised(_holder(module, distributions))].add(str(file.relative_to(ROOT)))
    return dict(found)


def _holder(module: str, distributions: list[str]) -> str:
    """The distribution of a module: the first that has the name of its package, unless another one has the file."""
    path = module.replace(".", "/")
    return next(
        (
            each
            for each in distributions[1:]
            if any(str(file).startswith((f"{path}/", f"{path}.")) for file in distribution(each).files or ())
        ),
        distributions[0],
    )


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    """One test, so that one process reads all imports."""
    for extra, distributions in EXTRAS.items():
        assert distributions <= names(project()[extra]), extra
        assert distributions <= set(imported()), extra
    assert names(project()[""]) == set(imported()) - set().union(*EXTRAS.values())
