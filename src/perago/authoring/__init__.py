"""The authoring API: what a task module imports (docs/design/contract.md 2).

Everything here is declaration. Nothing touches files, the network or a clock, and every mistake is a
`TaskDefinitionError` that names the author's file and line.
"""

from perago.authoring.context import current
from perago.authoring.controls import ExecutionLimits, PublishBudget, RetryPolicy, TaskControls, TimeoutPolicy
from perago.authoring.errors import TaskDefinitionError, TaskFailed, TaskTerminalError
from perago.authoring.examples import Example
from perago.authoring.guardrails import (
    ForbidGlob,
    Guardrail,
    RequireDir,
    RequireFile,
    RequireGlob,
    forbid_glob,
    require_dir,
    require_file,
    require_glob,
)
from perago.authoring.task import Task, get_task, task
from perago.authoring.workspace import WorkspaceSpec

__all__ = [
    "Example",
    "ExecutionLimits",
    "ForbidGlob",
    "Guardrail",
    "PublishBudget",
    "RequireDir",
    "RequireFile",
    "RequireGlob",
    "RetryPolicy",
    "Task",
    "TaskControls",
    "TaskDefinitionError",
    "TaskFailed",
    "TaskTerminalError",
    "TimeoutPolicy",
    "WorkspaceSpec",
    "current",
    "forbid_glob",
    "get_task",
    "require_dir",
    "require_file",
    "require_glob",
    "task",
]
