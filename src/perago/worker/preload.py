"""Loaded last by the fork server, and by nothing else, for its effects on that process.

It brings in what every slot needs. Slots share the server's memory until they write to it; freezing keeps the garbage
collector from writing to what was preloaded.
"""

from __future__ import annotations

import gc

import loguru  # noqa: F401

import perago.worker.slot_process  # noqa: F401

gc.collect()
gc.freeze()
