"""Tasks made on the spot from two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from perago import Example, TaskControls, WorkspaceSpec
from perago.authoring import Task


class Empty(BaseModel):
    pass


def make_task(
    params: type[BaseModel] = Empty,
    result: type[BaseModel] = Empty,
    *,
    workspace: WorkspaceSpec | bool = False,
    controls: TaskControls | None = None,
    examples: Sequence[Example] = (),
) -> Task:
    def function(*arguments: Any) -> Any:
        raise AssertionError("nothing here calls the function")

    return Task(
        name="sample",
        description=None,
        owner_email="data@example.com",
        workspace=WorkspaceSpec() if workspace is True else workspace or None,
        controls=controls or TaskControls(),
        examples=tuple(examples),
        function=function,
        params_model=params,
        result_model=result,
        module=__name__,
        file=__file__,
        line=1,
    )
