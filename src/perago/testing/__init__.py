"""The testing toolkit: run a task exactly as the runtime does, on services in memory. Needs no pytest.

Only `task_tests` is for pytest, and is understood by its plugin. `perago.testing.strategies` has what hypothesis tests
need, `perago.testing.trees` builds trees from guardrails.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.embedded.clock import VirtualClock
    from perago.embedded.faults import FaultScript, Moment
    from perago.embedded.lakefs import InMemoryLakeFS
    from perago.embedded.services import EmbeddedServices
    from perago.ports import AccessDenied, ServiceError, TaskStatus, Unavailable, Unclear
    from perago.testing.conductor import Conductor
    from perago.testing.differences import PublishedTree, Snapshots
    from perago.testing.outcome import Outcome
    from perago.testing.runner import Branch, Race, TaskRunner
    from perago.testing.services import BRANCH, InMemoryServices, serve
    from perago.testing.tasks import TaskTests, provide_params, task_tests
    from perago.testing.tree_files import BadTree, Symlink, TreeBuilder, build_tree, tree_of
    from perago.testing.trees import Contradiction, smallest_tree, violating_tree

__all__ = [
    "BRANCH",
    "AccessDenied",
    "BadTree",
    "Branch",
    "Conductor",
    "Contradiction",
    "EmbeddedServices",
    "FaultScript",
    "InMemoryLakeFS",
    "InMemoryServices",
    "Moment",
    "Outcome",
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
    "VirtualClock",
    "build_tree",
    "provide_params",
    "serve",
    "smallest_tree",
    "task_tests",
    "tree_of",
    "violating_tree",
]

_HOMES = (
    ("perago.embedded.clock", ("VirtualClock",)),
    ("perago.embedded.faults", ("FaultScript", "Moment")),
    ("perago.embedded.services", ("EmbeddedServices",)),
    ("perago.embedded.lakefs", ("InMemoryLakeFS",)),
    ("perago.ports", ("AccessDenied", "ServiceError", "TaskStatus", "Unavailable", "Unclear")),
    ("perago.testing.tree_files", ("Symlink",)),
    ("perago.testing.conductor", ("Conductor",)),
    ("perago.testing.outcome", ("Outcome",)),
    ("perago.testing.differences", ("PublishedTree",)),
    ("perago.testing.runner", ("Branch", "Race")),
    ("perago.testing.runner", ("TaskRunner",)),
    ("perago.testing.services", ("BRANCH", "InMemoryServices", "serve")),
    ("perago.testing.differences", ("Snapshots",)),
    ("perago.testing.tasks", ("TaskTests", "provide_params", "task_tests")),
    ("perago.testing.tree_files", ("BadTree", "Symlink", "TreeBuilder", "build_tree", "tree_of")),
    ("perago.testing.trees", ("Contradiction", "smallest_tree", "violating_tree")),
)
_MODULES = {name: module for module, names in _HOMES for name in names}


def __getattr__(name: str) -> object:
    """Load a name when it is asked for: a test file that only selects task modules does not load the services."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
