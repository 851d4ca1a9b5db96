"""The testing toolkit: run a task exactly as the runtime does, on services in memory. Needs no pytest.

Only `task_tests` is for pytest, and is understood by its plugin. `perago.testing.strategies` has what hypothesis tests
need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.authoring.context import Measured
    from perago.embedded.faults import FaultScript, Moment
    from perago.guardrails.evaluation import Finding, Phase
    from perago.ports import AccessDenied, Commit, Delivery, ServiceError, TaskStatus, Unavailable, Unclear
    from perago.testing.constraints import Undecided
    from perago.testing.interfaces import (
        Conductor,
        EmbeddedServices,
        InMemoryConductor,
        InMemoryLakeFS,
        Snapshots,
        VirtualClock,
    )
    from perago.testing.outcome import Outcome, Race
    from perago.testing.runner import TaskRunner
    from perago.testing.services import BRANCH, serve
    from perago.testing.tasks import TaskTests, provide_params, task_tests
    from perago.testing.trees import Contradiction, TreeBuilder, build_tree, smallest_tree, tree_of, violating_tree
    from perago.testing.workflow_run import Branch, WorkflowRun
    from perago.trees import BadTree, Symlink
    from perago.trees.cases import CaseFailed, Cause
    from perago.trees.differences import PublishedTree
    from perago.workspace.changes import ChangedFile, Changes

_HOMES = {
    "perago.authoring.context": "Measured",
    "perago.embedded.faults": "FaultScript Moment",
    "perago.guardrails.evaluation": "Finding Phase",
    "perago.ports": "AccessDenied Commit Delivery ServiceError TaskStatus Unavailable Unclear",
    "perago.testing.constraints": "Undecided",
    "perago.testing.interfaces": "Conductor EmbeddedServices InMemoryConductor InMemoryLakeFS Snapshots VirtualClock",
    "perago.testing.outcome": "Outcome Race",
    "perago.testing.runner": "TaskRunner",
    "perago.testing.services": "BRANCH serve",
    "perago.testing.tasks": "TaskTests provide_params task_tests",
    "perago.testing.trees": "Contradiction TreeBuilder build_tree smallest_tree tree_of violating_tree",
    "perago.testing.workflow_run": "Branch WorkflowRun",
    "perago.trees": "BadTree Symlink",
    "perago.trees.cases": "CaseFailed Cause",
    "perago.trees.differences": "PublishedTree",
    "perago.workspace.changes": "ChangedFile Changes",
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = [
    "BRANCH",
    "AccessDenied",
    "BadTree",
    "Branch",
    "CaseFailed",
    "Cause",
    "ChangedFile",
    "Changes",
    "Commit",
    "Conductor",
    "Contradiction",
    "Delivery",
    "EmbeddedServices",
    "FaultScript",
    "Finding",
    "InMemoryConductor",
    "InMemoryLakeFS",
    "Measured",
    "Moment",
    "Outcome",
    "Phase",
    "PublishedTree",
    "Race",
    "ServiceError",
    "Snapshots",
    "Symlink",
    "TaskRunner",
    "TaskStatus",
    "TaskTests",
    "TreeBuilder",
    "Unavailable",
    "Unclear",
    "Undecided",
    "VirtualClock",
    "WorkflowRun",
    "build_tree",
    "provide_params",
    "serve",
    "smallest_tree",
    "task_tests",
    "tree_of",
    "violating_tree",
]


if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Load a name on access, so that a test file that only selects task modules does not load the services."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
