"""The testing toolkit: run a task exactly as the runtime does, on services in memory. Needs no pytest.

Only `task_tests` is for pytest, and is understood by its plugin. `perago.testing.strategies` has what hypothesis tests
need.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.authoring.context import Measured as Measured
    from perago.embedded.faults import FaultScript as FaultScript
    from perago.embedded.faults import Moment as Moment
    from perago.guardrails.evaluation import Finding as Finding
    from perago.guardrails.evaluation import Phase as Phase
    from perago.ports import AccessDenied as AccessDenied
    from perago.ports import Commit as Commit
    from perago.ports import Delivery as Delivery
    from perago.ports import ServiceError as ServiceError
    from perago.ports import TaskStatus as TaskStatus
    from perago.ports import Unavailable as Unavailable
    from perago.ports import Unclear as Unclear
    from perago.testing.constraints import Undecided as Undecided
    from perago.testing.differences import PublishedTree as PublishedTree
    from perago.testing.differences import Snapshots as Snapshots
    from perago.testing.interfaces import Conductor as Conductor
    from perago.testing.interfaces import EmbeddedServices as EmbeddedServices
    from perago.testing.interfaces import InMemoryConductor as InMemoryConductor
    from perago.testing.interfaces import InMemoryLakeFS as InMemoryLakeFS
    from perago.testing.interfaces import VirtualClock as VirtualClock
    from perago.testing.outcome import Outcome as Outcome
    from perago.testing.runner import Branch as Branch
    from perago.testing.runner import Race as Race
    from perago.testing.runner import TaskRunner as TaskRunner
    from perago.testing.services import BRANCH as BRANCH
    from perago.testing.services import serve as serve
    from perago.testing.tasks import TaskTests as TaskTests
    from perago.testing.tasks import provide_params as provide_params
    from perago.testing.tasks import task_tests as task_tests
    from perago.testing.tree_files import BadTree as BadTree
    from perago.testing.tree_files import Symlink as Symlink
    from perago.testing.tree_files import TreeBuilder as TreeBuilder
    from perago.testing.tree_files import build_tree as build_tree
    from perago.testing.tree_files import tree_of as tree_of
    from perago.testing.trees import Contradiction as Contradiction
    from perago.testing.trees import smallest_tree as smallest_tree
    from perago.testing.trees import violating_tree as violating_tree
    from perago.testing.workflow_run import WorkflowRun as WorkflowRun
    from perago.workspace.changes import ChangedFile as ChangedFile
    from perago.workspace.changes import Changes as Changes

_HOMES = {
    "perago.authoring.context": ("Measured",),
    "perago.embedded.faults": (
        "FaultScript",
        "Moment",
    ),
    "perago.guardrails.evaluation": (
        "Finding",
        "Phase",
    ),
    "perago.ports": (
        "AccessDenied",
        "Commit",
        "Delivery",
        "ServiceError",
        "TaskStatus",
        "Unavailable",
        "Unclear",
    ),
    "perago.testing.constraints": ("Undecided",),
    "perago.testing.differences": (
        "PublishedTree",
        "Snapshots",
    ),
    "perago.testing.interfaces": (
        "Conductor",
        "EmbeddedServices",
        "InMemoryConductor",
        "InMemoryLakeFS",
        "VirtualClock",
    ),
    "perago.testing.outcome": ("Outcome",),
    "perago.testing.runner": (
        "Branch",
        "Race",
        "TaskRunner",
    ),
    "perago.testing.services": (
        "BRANCH",
        "serve",
    ),
    "perago.testing.tasks": (
        "TaskTests",
        "provide_params",
        "task_tests",
    ),
    "perago.testing.tree_files": (
        "BadTree",
        "Symlink",
        "TreeBuilder",
        "build_tree",
        "tree_of",
    ),
    "perago.testing.trees": (
        "Contradiction",
        "smallest_tree",
        "violating_tree",
    ),
    "perago.testing.workflow_run": ("WorkflowRun",),
    "perago.workspace.changes": (
        "ChangedFile",
        "Changes",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
_DEPRECATED = {"InMemoryServices": ("perago.testing.services", "TaskRunner")}
"""Names that still work, each with its module and its replacement."""
__all__ = [
    "BRANCH",
    "AccessDenied",
    "BadTree",
    "Branch",
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


def __getattr__(name: str) -> object:
    """Load a name on access, so that a test file that only selects task modules does not load the services."""
    if name in _DEPRECATED:
        module, replacement = _DEPRECATED[name]
        warnings.warn(f"{__name__}.{name} is deprecated; use {replacement}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(module), name)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
