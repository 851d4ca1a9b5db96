"""Loaded last by the fork server, and by nothing else, for its effects on that process.

It brings in what every slot needs. Slots share the server's memory until they write to it; freezing keeps the garbage
collector from writing to what was preloaded. The server also is the reaper of what slots leave that are killed. When
no supervisor is left, it ends after the last slot, together with all that slots have left.
"""

from __future__ import annotations

import atexit
import gc
import os
import warnings

import loguru  # noqa: F401

import perago.worker.slot_process  # noqa: F401
from perago.driver.processes import adopt_orphans
from perago.worker.stray_processes import end_descendants

adopt_orphans()
_server = os.getpid()
_last_slot, _slot_lives = os.pipe()
os.set_blocking(_slot_lives, False)  # a function may write to any descriptor
_held = open(_slot_lives, "wb", buffering=0)  # noqa: PTH123, SIM115 - for a `close` that may be repeated


def _hold_in_slots_only() -> None:
    if os.getppid() != _server:
        _held.close()


@atexit.register
def _end_what_slots_left() -> None:
    """Wait for the end of the last slot: slots hold the pipe, and what they start does not."""
    _held.close()
    while os.read(_last_slot, 4096):
        pass
    end_descendants()


os.register_at_fork(after_in_child=_hold_in_slots_only)
warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")  # of an orphan

gc.collect()
gc.freeze()
