"""`TaskQueue` on conductor-python, and what starts workflows."""

from perago.adapters.conductor.queue import ConductorQueue
from perago.adapters.conductor.workflows import ConductorWorkflows

__all__ = ["ConductorQueue", "ConductorWorkflows"]
