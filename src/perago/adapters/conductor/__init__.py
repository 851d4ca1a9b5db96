"""`TaskQueue` on conductor-python, what starts workflows, and what operators ask."""

from perago.adapters.conductor.overview import ConductorOverview, LastPoll, OpenAttempt
from perago.adapters.conductor.queue import ConductorQueue
from perago.adapters.conductor.workflows import ConductorWorkflows

__all__ = ["ConductorOverview", "ConductorQueue", "ConductorWorkflows", "LastPoll", "OpenAttempt"]
