"""A Conductor in memory that behaves like the real one, including its defects.

It models definitions, `${...}` expressions, polling, updates, retries, timeouts, leases, domains, pause, retry, restart
and rerun (`docs/dev/servers/conductor.md`), for SIMPLE tasks within forks, loops, switches, sub-workflows and the other
operators that `systemtasks` lists. Other features are refused by name, if possible at registration.
"""

from __future__ import annotations

from perago.embedded.conductor.model import InMemoryConductor
from perago.embedded.conductor.state import Status

__all__ = ["InMemoryConductor", "Status"]
