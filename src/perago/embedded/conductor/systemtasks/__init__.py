"""The task types that the server works on itself; importing this package registers them."""

from __future__ import annotations

from perago.embedded.conductor.context import SYSTEM_TASKS, SystemTask
from perago.embedded.conductor.systemtasks.branching import Dynamic, DynamicFork, Fork, Join, Switch
from perago.embedded.conductor.systemtasks.immediate import Inline, JsonJqTransform, Noop, SetVariable, Terminate
from perago.embedded.conductor.systemtasks.loop import Loop
from perago.embedded.conductor.systemtasks.subworkflow import StartWorkflow, SubWorkflow
from perago.embedded.conductor.systemtasks.waiting import Http, Human, Wait

_ALL: tuple[SystemTask, ...] = (
    Fork(),
    DynamicFork(),
    Join(),
    Loop(),
    Switch(),
    Dynamic(),
    SubWorkflow(),
    StartWorkflow(),
    SetVariable(),
    Inline(),
    JsonJqTransform(),
    Noop(),
    Terminate(),
    Wait(),
    Human(),
    Http(),
)

SYSTEM_TASKS.update((task.kind, task) for task in _ALL)
