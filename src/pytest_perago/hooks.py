"""Hooks that a conftest may implement. Mark an implementation with `@pytest.hookimpl(optionalhook=True)` if the suite
is also run with `-p no:perago`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perago.authoring import Example, Task


def pytest_perago_params(task: Task) -> Iterable[Mapping[str, Any] | Example] | None:
    """Parameters for a task whose model is too particular for generated ones, such as one with its own validators.

    Return a list: mappings are parameters as a workflow would send them; an `Example` also has a tree and an outcome,
    and is run when `perago_run` is `all`. None or nothing: none for this task. Implementations add up.
    """
