"""`TaskQueue` on conductor-python."""

from perago.adapters.conductor.queue import ConductorQueue

__all__ = ["ConductorQueue"]
