"""Case files: declared cases for people who do not write Python (docs/testing/run.md).

`tests/perago_cases/<task>/<case>.toml`, and beside it the tree as a directory `<case>/`:

    expect = "completed"              # or pre, post, failed, terminal; this is the default
    published = ["features/a.csv"]    # the files that the attempt adds or changes; optional
    removed = []                      # the files that it removes; optional

    [params]
    feature_set = "a"

    [result]                          # the expected result; optional
    files = 1

    [tree]                            # a small tree, in place of the directory
    "raw/a.csv" = "x\\n1\\n"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.authoring import Example, Task, TaskDefinitionError

TreeSource = Mapping[str, str | bytes | None] | Path

_KEYS = {"params", "expect", "result", "tree", "published", "removed"}


class BrokenCase(Exception):
    """A case cannot be read; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class RunCase:
    """Something to run, and how it should end. Paths are relative to the workspace."""

    label: str
    params: Mapping[str, Any]
    tree: TreeSource
    expect: str
    result: Any = None
    published: tuple[str, ...] | None = None
    removed: tuple[str, ...] | None = None
    file: Path | None = None
    """The case file; None for a declared `Example`."""


def case_of_example(task: Task, example: Example) -> RunCase:
    """A declared example as a case."""
    tree = example.tree
    if tree is None or isinstance(tree, Mapping):
        source: TreeSource = tree or {}
    else:
        source = Path(task.file).parent / Path(str(tree).replace("\\", "/"))
    return RunCase(example.id, example.params, source, example.expect, example.result)


def case_files(directory: Path, task: Task) -> tuple[Path, ...]:
    """The case files of a task, sorted."""
    return tuple(sorted((directory / task.name).glob("*.toml")))


def read_case_file(file: Path) -> RunCase:
    """One case file.

    Raises:
        BrokenCase: it is no TOML, or not in the format above.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BrokenCase(f"{file} is not TOML: {error}") from None
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        raise BrokenCase(f"{file}: unknown key {unknown[0]!r}; a case has {', '.join(sorted(_KEYS))}")
    fields = {key: document[key] for key in ("params", "expect", "result") if key in document}
    inline, beside = document.get("tree"), file.with_suffix("")
    if inline is not None and beside.is_dir():
        raise BrokenCase(f"{file}: there is a [tree], and the directory {beside.name}/ beside it; keep one of them")
    try:
        checked = Example(id="case", **{"params": {}, **fields}, tree=inline)
    except TaskDefinitionError as error:
        raise BrokenCase(f"{file}: {error.message}") from None
    return RunCase(
        label=file.stem,
        params=checked.params,
        tree=beside if beside.is_dir() else (inline or {}),
        expect=checked.expect,
        result=checked.result,
        published=_paths(file, document, "published"),
        removed=_paths(file, document, "removed"),
        file=file,
    )


def read_tree(source: TreeSource) -> dict[str, str | bytes | None]:
    """The tree as a mapping.

    Raises:
        BrokenCase: there is no such directory.
    """
    if isinstance(source, Mapping):
        return dict(source)
    if not source.is_dir():
        raise BrokenCase(f"the tree {source} is not a directory")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in files}


def _paths(file: Path, document: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BrokenCase(f"{file}: {key} must be a list of paths")
    return tuple(sorted(value))
