"""The task types that the server works on itself, one small module each; this is the list of them."""

from __future__ import annotations

from perago.embedded.conductor.rows import TaskRow
from perago.embedded.conductor.systemtasks.fork import Fork
from perago.embedded.conductor.systemtasks.inline import Inline
from perago.embedded.conductor.systemtasks.join import Join
from perago.embedded.conductor.systemtasks.loop import Loop
from perago.embedded.conductor.systemtasks.set_variable import SetVariable
from perago.embedded.conductor.systemtasks.subworkflow import SubWorkflow
from perago.embedded.conductor.systemtasks.switch import Switch
from perago.embedded.conductor.systemtasks.task import SystemTask
from perago.embedded.conductor.systemtasks.terminate import Terminate
from perago.embedded.conductor.systemtasks.wait import Wait

__all__ = ["SYSTEM_TASKS", "SystemTask", "system_task"]

_ALL: tuple[SystemTask, ...] = (
    Fork(),
    Join(),
    Loop(),
    Switch(),
    SubWorkflow(),
    SetVariable(),
    Inline(),
    Terminate(),
    Wait(),
)

SYSTEM_TASKS: dict[str, SystemTask] = {task.kind: task for task in _ALL}
"""By the `type` in a workflow definition."""


def system_task(row: TaskRow) -> SystemTask | None:
    """What works on this row; None if a worker does."""
    return SYSTEM_TASKS.get(row.kind)
