"""perago: a typed runtime for Conductor workers on versioned lakeFS workspaces.

Task modules import these names (docs/authoring.md). Tests import `perago.testing`, and the command imports
`perago.cli`.
"""

# ruff: noqa: F403, F405 - the names of two rooms, listed in `__all__`

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.authoring import *
    from perago.guardrails import *

__version__ = "0.1.0"
DISTRIBUTION = "perago"
"""The name of the package to install. The package index has another project of this name, see `namesake`."""

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
    "__version__",
    "current",
    "forbid_glob",
    "guardrail",
    "require_dir",
    "require_file",
    "require_glob",
    "require_table",
    "task",
]

NOT_ON_WINDOWS = (
    "perago needs Linux or macOS: its workers need POSIX processes, signals and files. "
    "On Windows, use it in WSL 2 or in a container."
)
"""The message of the command and the pytest plugin on Windows, which perago does not support."""


if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Load a name on access, because `perago --help` and shell completion need none of them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from perago import authoring

        if name in authoring.__all__:
            value: object = getattr(authoring, name)
        else:
            from perago import guardrails

            value = getattr(guardrails, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
