"""The authoring API: the names that a task module imports.

It only declares. Nothing touches files, the network or a clock. Every mistake is a `TaskDefinitionError` that names the
author's file and line.
"""

from perago.authoring.context import Current, Metric, current
from perago.authoring.controls import ExecutionLimits, PublishBudget, RetryPolicy, TaskControls, TimeoutPolicy
from perago.authoring.declaration import TaskDefinitionError, TaskFailed, TaskTerminalError
from perago.authoring.task import Example, Task, task
from perago.authoring.workspace import Guardrail, GuardrailFunction, WorkspaceSpec

__all__ = [
    "Current",
    "Example",
    "ExecutionLimits",
    "Guardrail",
    "GuardrailFunction",
    "Metric",
    "PublishBudget",
    "RetryPolicy",
    "Task",
    "TaskControls",
    "TaskDefinitionError",
    "TaskFailed",
    "TaskTerminalError",
    "TimeoutPolicy",
    "WorkspaceSpec",
    "current",
    "task",
]
