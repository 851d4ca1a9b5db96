"""Parameters that a project provides for tests of tasks whose model is too particular for generated ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perago.authoring import Example

_provided: dict[str, dict[str, Mapping[str, Any] | Example]] = {}


def provide_params(task_name: str, *params: Mapping[str, Any] | Example) -> None:
    """Provide parameters for a task, in a `conftest.py` for example; once more adds to them.

    Mappings are parameters as a workflow would send them. An `Example` also has a tree and an outcome, and is run when
    `perago_run` is `all`.
    """
    known = _provided.setdefault(task_name, {})
    for item in params:  # a conftest that is imported twice provides nothing twice
        known.setdefault(repr(item), item)


def provided_params(task_name: str) -> tuple[Mapping[str, Any] | Example, ...]:
    """What was provided, in that order."""
    return tuple(_provided.get(task_name, {}).values())
