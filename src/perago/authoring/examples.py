"""`Example`: one declared case of a task, from which the test toolkit makes tests (docs/design/contract.md 2)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import field_validator, model_validator

from perago.authoring.declaration import Declaration
from perago.authoring.paths import canonical_path

TreeMapping: TypeAlias = Mapping[str, str | bytes | None]
"""Path to content; None makes a directory."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Example(Declaration):
    """Parameters, a workspace tree and the outcome they should have.

    `params` are checked against the task's model by the tests made from the example, not here.
    """

    id: str
    """Names the case in test ids; letters, digits, `.`, `_` and `-`."""
    params: Mapping[str, Any]
    """As JSON, the way a workflow would send them."""
    tree: TreeMapping | str | os.PathLike[str] | None = None
    """The input tree, or the path of a directory relative to the task module. Mapping keys are canonical paths."""
    expect: Literal["completed", "pre", "post", "failed", "terminal"] = "completed"
    result: Any = None
    """The expected result as JSON; None: any."""

    @field_validator("id")
    @classmethod
    def _id_is_printable_everywhere(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError(
                f"{value!r} must be letters, digits, '.', '_' or '-', begin with a letter or digit, at most 128"
            )
        return value

    @field_validator("params", "result")
    @classmethod
    def _values_can_be_sent(cls, value: object) -> object:
        import json  # what declares no example need not load it

        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"must be JSON, as a workflow would send it: {error}") from None
        return value

    @field_validator("tree", mode="plain")
    @classmethod
    def _tree_is_a_mapping_or_a_directory(cls, tree: object) -> object:
        if isinstance(tree, Mapping):
            return _canonical_tree(tree)
        if tree is None:
            return tree
        if isinstance(tree, str | os.PathLike):
            if not os.fspath(tree) or Path(tree).is_absolute():
                raise ValueError("a directory is written relative to the task module, such as 'cases/a'")
            return tree
        raise ValueError(f"must be a mapping of path to content, or the path of a directory, not {type(tree).__name__}")

    @model_validator(mode="after")
    def _only_a_completed_example_has_a_result(self) -> Self:
        if self.result is not None and self.expect != "completed":
            raise ValueError(f"result is set, but expect={self.expect!r} has no result")
        return self


def _canonical_tree(tree: Mapping[object, object]) -> dict[str, object]:
    canonical = {canonical_path(path): content for path, content in tree.items()}
    if len(canonical) < len(tree):
        raise ValueError("two keys are the same path after normalising")
    for path, content in canonical.items():
        if content is not None and not isinstance(content, str | bytes):
            raise ValueError(f"the content of {path!r} must be str, bytes or None, not {type(content).__name__}")
        if isinstance(content, str) and any("\ud800" <= character <= "\udfff" for character in content):
            raise ValueError(f"the content of {path!r} has no UTF-8 form; write it as bytes")
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            parent = "/".join(parents[:depth])
            if canonical.get(parent) is not None:
                raise ValueError(f"{parent!r} is a file, so {path!r} cannot be below it")
    return canonical
