"""What surrounds an attempt: services, limits, and how the author's code is called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from perago.driver.fencing import FenceProofs
from perago.driver.function import FunctionCaller, call_function
from perago.driver.interruption import Interruptible
from perago.driver.limits import Limits
from perago.driver.observer import SILENT, Observer
from perago.ports import Clock, DeliveryCheck, WorkspaceStore


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRuntime:
    """What a worker gives its attempts."""

    store: WorkspaceStore | None
    """lakeFS; None only for a task without a workspace."""
    delivery_check: DeliveryCheck
    """Answers whether the delivery is still current."""
    workspace_root: Path
    """Where attempt directories are made."""
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    call: FunctionCaller = call_function
    """How the task function is called; a worker captures its output there."""
    observer: Observer = SILENT
    store_notes: Callable[[], tuple[str, ...]] = tuple
    """What an operator should know of the store's transfers since the last call, such as a way that did not work."""
    worker_id: str = ""
    interruptible: Interruptible = nullcontext
    """Makes the blocks in which a loss that is noticed elsewhere ends the attempt at once."""
    around_guardrails: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered while guardrails look into files, as some are code of the author's."""
    proofs: FenceProofs | None = None
    """What this process knows of lakeFS servers that were tried; None: the attempt tries its server itself."""
