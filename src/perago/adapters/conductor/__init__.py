"""`TaskQueue` on Conductor. The calls that start workflows and answer operators are in `overview`."""

from perago.adapters.conductor.queue import ConductorQueue

__all__ = ["ConductorQueue"]
