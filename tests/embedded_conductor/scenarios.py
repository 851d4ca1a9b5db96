"""Short stories told to a server, the model or a real one. Each returns what was seen, in an order that is fixed."""

from __future__ import annotations

from . import (  # noqa: F401
    scenarios_definitions,
    scenarios_forks,
    scenarios_lifecycle,
    scenarios_loops,
    scenarios_operators,
    scenarios_results,
    scenarios_subworkflows,
    scenarios_times,
)
from .stage import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario"]
