"""`Example`: one declared case of a task, from which the test toolkit makes tests (docs/design/contract.md 2)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, field_validator, model_validator

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
    """As JSON, the way a workflow would send them; a model that is given here is turned into that."""
    tree: TreeMapping | str | os.PathLike[str] | None = None
    """The input tree, or the path of a directory relative to the task module. Mapping keys are canonical paths."""
    expect: Literal["completed", "pre", "post", "failed", "terminal"] = "completed"
    result: Any = None
    """The expected result as JSON, or as a model; None: any."""

    if TYPE_CHECKING:  # what may be given is more than what is kept

        def __init__(
            self,
            *,
            id: str,  # noqa: A002 - the name of the field
            params: Mapping[str, Any] | BaseModel,
            tree: TreeMapping | str | os.PathLike[str] | None = None,
            expect: Literal["completed", "pre", "post", "failed", "terminal"] = "completed",
            result: Any = None,
        ) -> None: ...

    @field_validator("id")
    @classmethod
    def _id_is_printable_everywhere(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError(
                f"{value!r} must be letters, digits, '.', '_' or '-', begin with a letter or digit, at most 128"
            )
        return value

    @field_validator("params", mode="before")
    @classmethod
    def _params_are_sent_as_json(cls, value: object) -> object:
        return _sent(value) if isinstance(value, BaseModel) else value

    @field_validator("result", mode="before")
    @classmethod
    def _a_result_is_reported_as_json(cls, value: object) -> object:
        return _as_json(value, round_trip=False) if isinstance(value, BaseModel) else value

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


def _sent(params: BaseModel) -> object:
    """A model as a workflow sends it.

    Raises:
        ValueError: its JSON means something else, such as that of a secret, which is masked.
    """
    import json

    document = _as_json(params, round_trip=True)
    name = type(params).__name__
    try:
        same = type(params).model_validate_json(json.dumps(document)) == params
    except Exception as error:
        raise ValueError(f"{name} refuses its own JSON ({_first_line(error)}); give the JSON as a mapping") from error
    if not same:
        raise ValueError(f"{name} hides or changes a value when it is written as JSON; give the JSON as a mapping")
    return document


def _as_json(model: BaseModel, *, round_trip: bool) -> object:
    import json

    try:
        return json.loads(model.model_dump_json(by_alias=True, round_trip=round_trip, warnings=False))
    except Exception as error:  # a serializer or a computed field of the author may fail in any way
        raise ValueError(f"{type(model).__name__} cannot be written as JSON: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


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
