"""Loaded last by the fork server, and by nothing else, for its effects on that process.

It brings in what every slot needs. Slots share the server's memory until they write to it; freezing keeps the garbage
collector from writing to what was preloaded. And a service manager that sends TERM to every process of a unit must not
take the server down before the slots have drained: their exit statuses come through it. Slots set their own handlers.
"""

from __future__ import annotations

import gc
import signal

import loguru  # noqa: F401

import perago.worker.slot_process  # noqa: F401

gc.collect()
gc.freeze()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
