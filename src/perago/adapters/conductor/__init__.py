"""`TaskQueue` on conductor-python, what starts workflows, and what operators ask."""

from perago.adapters.conductor.overview import ConductorOverview, ConductorWorkflows, LastPoll, OpenAttempt
from perago.adapters.conductor.queue import ConductorQueue

__all__ = ["ConductorOverview", "ConductorQueue", "ConductorWorkflows", "LastPoll", "OpenAttempt"]
