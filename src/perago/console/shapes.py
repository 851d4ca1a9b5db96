"""What the pages take for granted in Conductor's JSON. An answer of a server is checked before a page sees it."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.alias_generators import to_camel

Checked = TypeVar("Checked")

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A number, or a time in milliseconds. Larger ones cannot be reckoned with."""


class _Open(BaseModel, extra="allow", strict=True, alias_generator=to_camel):
    """JSON that may hold more. Fields that are null are left out on the wire."""


class Step(_Open):
    """A step of a definition."""

    task_reference_name: str
    name: str | None = None
    type: str | None = None
    decision_cases: dict[str, list[Step]] | None = None
    default_case: list[Step] | None = None
    loop_over: list[Step] | None = None
    fork_tasks: list[list[Step]] | None = None


class _OfFork(_Open):
    forked_task_defs: list[Step] | None = None


class Attempt(_Open):
    """An attempt, or the row of a system task."""

    task_id: str
    workflow_instance_id: str
    task_def_name: str
    task_type: str
    reference_task_name: str
    status: str
    iteration: Count
    poll_count: Count
    retry_count: Count
    scheduled_time: Count
    start_time: Count
    end_time: Count
    worker_id: str | None = None
    reason_for_incompletion: str | None = None
    retried_task_id: str | None = None
    sub_workflow_id: str | None = None
    input_data: dict[str, Any] = Field(default_factory=dict)
    workflow_task: Step | None = None

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002 - pydantic's signature
        """The branches of a dynamic fork are in its input; that of a task is anything."""
        if self.task_type == "FORK":
            _OfFork.model_validate(self.input_data)


class Workflow(_Open):
    """A workflow with its attempts."""

    workflow_id: str
    workflow_name: str
    workflow_version: Count
    status: str
    start_time: Count
    end_time: Count | None = None
    reason_for_incompletion: str | None = None
    correlation_id: str | None = None
    tasks: list[Attempt]


class WorkflowDefinition(_Open):
    """A version of a workflow definition."""

    name: str
    version: Count
    tasks: list[Any] = Field(default_factory=list)


class LogEntry(_Open):
    """An entry of an attempt's log."""

    created_time: Count
    log: str


def checked(shape: Any, answer: Checked) -> Checked:
    """`answer` as it is.

    Raises:
        ValueError: it has not the shape.
    """
    _adapter(shape).validate_python(answer)
    return answer


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
