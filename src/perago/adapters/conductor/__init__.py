"""`TaskQueue` on Conductor, and the calls that start workflows and answer operators."""

from perago.adapters.conductor.overview import (
    OPEN,
    STATUSES,
    ConductorOverview,
    ConductorWorkflows,
    LastPoll,
    OpenAttempt,
    WorkflowQuery,
    WorkflowSummary,
)
from perago.adapters.conductor.queue import ConductorQueue

__all__ = [
    "OPEN",
    "STATUSES",
    "ConductorOverview",
    "ConductorQueue",
    "ConductorWorkflows",
    "LastPoll",
    "OpenAttempt",
    "WorkflowQuery",
    "WorkflowSummary",
]
