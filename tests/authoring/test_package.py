"""`import perago`: complete and cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import perago

HEAVY = {"conductor", "lakefs", "lakefs_sdk", "typer", "rich", "loguru", "pydantic_settings"}
HEAVY |= {"starlette", "hypothesis", "pytest", "urllib3", "httpx", "asyncio"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_task_loads_pydantic_and_nothing_heavy() -> None:
    plain = modules_after("from pydantic import BaseModel\nclass Model(BaseModel): x: int")
    loaded = modules_after("from perago import task")
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    added = {name for name in loaded - plain if not name.startswith(("perago.authoring.", "pydantic."))}
    own = {"perago", "perago.authoring", "perago.secret_names"}
    assert added <= {*own, "difflib", "heapq", "_heapq", "unicodedata"}


def test_the_version_is_the_one_of_the_distribution() -> None:
    assert perago.__version__ == version("perago")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tusk'"):
        _ = perago.tusk  # type: ignore[attr-defined]
