"""Which module declares a task: found in the source text, so that nothing is imported to find it."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_MOST_FILES = 20_000
_NO_SOURCES = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


def modules_that_declare(task_name: str, directory: Path) -> tuple[str, ...]:
    """The import paths of the modules below a directory in which `@task(name=...)` has this name, sorted."""
    return tuple(sorted(_found(task_name, directory)))


def _found(task_name: str, directory: Path) -> Iterator[str]:
    needle = task_name.encode()
    for number, file in enumerate(_sources(directory)):
        if number >= _MOST_FILES:
            return
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError):
            content = file.read_bytes()
            if needle in content and _declares(ast.parse(content), task_name):
                yield ".".join(file.relative_to(directory).with_suffix("").parts).removesuffix(".__init__")


def _sources(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name.isidentifier() and name not in _NO_SOURCES)
        for name in sorted(names):
            file = Path(place, name)
            if file.suffix == ".py" and file.stem.isidentifier():
                yield file


def _declares(tree: ast.Module, task_name: str) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _name(decorator) == task_name:
                    return True
    return False


def _name(call: ast.Call) -> str | None:
    last = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    values = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    if last != "task" or not values or not isinstance(values[0], ast.Constant):
        return None
    return str(values[0].value)
