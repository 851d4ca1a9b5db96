"""`import perago`: complete, typed and cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import perago

HEAVY = {
    "conductor",
    "lakefs",
    "lakefs_sdk",
    "typer",
    "rich",
    "loguru",
    "pydantic_settings",
    "starlette",
    "hypothesis",
    "pytest",
    "urllib3",
    "httpx",
    "asyncio",
}


def modules_after(statement: str) -> set[str]:
    code = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_task_loads_pydantic_and_nothing_heavy() -> None:
    plain = modules_after("from pydantic import BaseModel\nclass Model(BaseModel): x: int")
    loaded = modules_after("from perago import task")
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    added = {name for name in loaded - plain if not name.startswith(("perago.authoring.", "pydantic."))}
    assert added <= {
        "perago",
        "perago.authoring",
        "perago.records",
        "perago.secret_names",
        "difflib",
        "heapq",
        "_heapq",
        "unicodedata",
    }


def test_the_version_is_the_one_of_the_distribution() -> None:
    assert perago.__version__ == version("perago")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tusk'"):
        _ = perago.tusk


TYPED = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, RetryPolicy, TaskControls, WorkspaceSpec, __version__, current, require_glob, task

class Params(BaseModel):
    n: int

class Result(BaseModel):
    n: int

BY_MODEL = Example(id="b", params=Params(n=1), result=Result(n=1))
@task(
    name="typed",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="/", pre=[require_glob(Path("raw") / "*.csv", min_count=1)]),
    controls=TaskControls(retry=RetryPolicy(count=1, logic="FIXED")),
    examples=[Example(id="a", params={"n": 1}, tree={"a": "", "b": None, "c": b""}), BY_MODEL],
)
def work(workspace: Path, params: Params) -> Result:
    current().log(__version__)
    return Result(n=params.n)

reveal_type(work)
WorkspaceSpec(readonly=True)
@task
def bare(params: Params) -> Result:
    return Result(n=1)
"""


def test_an_authors_module_type_checks_without_pydantics_plugin(tmp_path: Path) -> None:
    module = tmp_path / "typed.py"
    module.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path), str(module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    lines = [line.removeprefix(f"{module}:") for line in done.stdout.splitlines() if "typed.py" in line]
    assert 'Revealed type is "def (workspace: pathlib.Path, params: typed.Params) -> typed.Result"' in done.stdout
    errors = [line for line in lines if " error: " in line]
    assert [line.partition(":")[0] for line in errors] == ["25", "26", "26", "26"], done.stdout
    assert "readonly" in errors[0]
    assert "Too many positional arguments" in errors[1]
